"""What the kernel itself counts of processes, by perf's tracepoints."""

import shutil
import signal
import subprocess
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
