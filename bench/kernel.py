"""What the kernel itself counts of processes, by perf's tracepoints."""

import collections
import re
import shutil
import signal
import subprocess
import tempfile
import time

# A tracepoint and its filter. Only ext4 tells one kind of sync from the other.
FDATASYNC = ("ext4:ext4_sync_file_enter", "datasync==1")
FSYNC = ("ext4:ext4_sync_file_enter", "datasync==0")


class KernelCounts:
    """Counts `events`, pairs of a tracepoint and its filter by name, of processes and those they start."""

    def __init__(self, pids, events):
        self.events, self.process = events, None
        command = ["perf", "stat", "-x", ",", "-p", ",".join(map(str, pids))]
        for event, condition in events.values():
            command += ["-e", event, "--filter", condition]
        if shutil.which("perf"):
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            time.sleep(0.5)

    def stop(self):
        """The counts by name; none without perf, or not on ext4."""
        if self.process is None:
            return {}
        self.process.send_signal(signal.SIGINT)
        lines = [line.split(",") for line in self.process.communicate()[1].splitlines()]
        counts = [int(line[0]) for line in lines if len(line) > 2 and line[0].isdigit()]
        return dict(zip(self.events, counts)) if len(counts) == len(self.events) else {}


class SyncCounts:
    """Records every sync on ext4 of the whole machine, so that none is missed of processes that start
    meanwhile, and counts those of given ones afterwards."""

    def __init__(self):
        self.file, self.process = tempfile.NamedTemporaryFile(suffix=".perf"), None
        if shutil.which("perf"):
            self.process = subprocess.Popen(
                ["perf", "record", "-q", "-a", "-c", "1", "-e", FSYNC[0], "-o", self.file.name],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.5)

    def stop(self, pids):
        """Numbers of `fdatasyncs` and `fsyncs` of the processes; none without perf, or not on ext4."""
        if self.process is None:
            return {}
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        told = subprocess.run(["perf", "script", "-i", self.file.name, "-F", "pid,trace"],
                              capture_output=True, text=True, check=False).stdout
        lines = re.findall(r"^\s*(\d+) .*datasync (\d)", told, re.M)
        counts = collections.Counter("fdatasyncs" if data == "1" else "fsyncs" for pid, data in lines
                                     if int(pid) in pids)
        return {kind: counts[kind] for kind in ("fdatasyncs", "fsyncs")} if lines else {}
