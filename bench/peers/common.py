"""What the peers have in common: a family of processes in a folder of its own, on loopback ports.

Every script beside this one describes one server as a `Peer` and hands it to `main`. A peer is
started in the background, pinned if asked, and is found again by its master's process id in the
folder. It ends by that id: no other server of the machine is touched, and no service is installed.
"""

import argparse
import contextlib
import ctypes
import hashlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

# Of the services together, to be ready or to be gone.
START_SECONDS = 60
STOP_SECONDS = 10
# Of `serve`, with users made.
READY_SECONDS = 300
READY = "ready"
PR_SET_CHILD_SUBREAPER = 36


def fail(text):
    """Ends the program; the message begins with the script's name."""
    sys.exit(f"{Path(sys.argv[0]).name}: {text}")


def processors(text):
    """CPU numbers of a list such as 0-3,6."""
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def answers(port):
    """Whether something listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def family(pid):
    """The process and all its descendants."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(text.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_seconds(pid):
    """User and system time of the whole family, ended threads and children of each included.

    A process's own is that of its clock, which is exact (clock_getcpuclockid(3)); /proc counts in
    hundredths of a second, and is asked for the children only."""
    ticks = exact = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            exact += time.clock_gettime((~member << 3) | 2)
            ticks += sum(map(int, fields[13:15]))
    return exact + ticks / os.sysconf("SC_CLK_TCK")


def heap_kib(pid):
    """Memory of the whole family that no file is behind; what processes share counts once."""
    kib = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            kib += int(rollup.split("Pss_Anon:")[1].split()[0])
    return kib


def adopt():
    """Makes orphans among our descendants our children, as init does (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        fail(f"prctl: {os.strerror(ctypes.get_errno())}")


def reap():
    """Takes note of children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def kill(pids):
    """Ends processes at once, those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end(pid):
    """Asks the master to end, waits for the family, and kills who is left."""
    members = family(pid)
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while any(Path(f"/proc/{member}").exists() for member in members) and time.monotonic() < until:
        # Below `serve` they are our children in the end.
        reap()
        time.sleep(0.05)
    kill(members)


def give(path, user):
    """Makes a folder that belongs to the user."""
    path.mkdir(parents=True, exist_ok=True)
    try:
        owner = pwd.getpwnam(user)
    except KeyError:
        fail(f"no such user: {user}")
    for folder in path.parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            fail(f"{folder}: others may not enter it, {user} has to; choose another place")
    os.chown(path, owner.pw_uid, owner.pw_gid)


def volatile(base):
    """A folder in memory for what need not survive. Its path is short, as those of sockets have to be,
    wherever `base` is (unix(7): 107 bytes)."""
    number = hashlib.sha256(str(base).encode()).hexdigest()[:12]
    return Path("/dev/shm") / f"{Path(sys.argv[0]).name}-{number}"


class Peer:
    """One kind of server. What it does not override is the same for all."""

    packages = ()        # of Debian
    program = ""         # has to be there
    master_name = ""     # of the master process, so that a reused id is not taken for it
    pid_file = ""        # where the master writes its id, in the folder
    log = ""             # of the server, in the folder

    def flags(self, parser):
        """Flags of `start` that only this one has."""

    def ports(self, options):
        """Ports that it will listen on, by service."""
        raise NotImplementedError

    def files(self, base, options):
        """Texts of the configuration, by path in the folder."""
        raise NotImplementedError

    def command(self, base, options):
        """Makes the folders; the command that starts the master and comes back, and what it needs in
        its environment."""
        raise NotImplementedError

    def started(self, base, options):
        """What is left to do when all ports answer. If it fails, the server is stopped."""

    def stopped(self, base):
        """What is left to do when no process is left."""
        shutil.rmtree(volatile(base), ignore_errors=True)

    def missing(self):
        """Why it cannot be started, if so."""
        if shutil.which(self.program) is None:
            return f"not installed: bench/peers/{Path(sys.argv[0]).name} install ({' '.join(self.packages)})"
        return None

    def install(self, _options):
        """Debian's packages; the service that they bring is not started (policy-rc.d)."""
        policy = Path("/usr/sbin/policy-rc.d")
        ours = not policy.exists()
        if ours:
            # 101: forbidden, in Debian's words.
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", "update", "-q"], check=True, env=quiet)
            subprocess.run(["apt-get", "install", "-q", "-y", "--no-upgrade", "--no-install-recommends",
                            *self.packages],
                           check=True, env=quiet)
        finally:
            if ours:
                policy.unlink()

    def version(self, _options):
        """Prints how Debian calls it, or says what is missing."""
        why = self.missing()
        if why:
            fail(why)
        print(self.installed())

    def installed(self):
        """Debian's version."""
        asked = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", self.packages[0]],
                               capture_output=True, text=True, check=False)
        return asked.stdout.strip() or "unknown"

    def master(self, base):
        """The master's process id, if it runs."""
        try:
            pid = int((base / self.pid_file).read_text())
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError):
            return None
        return pid if name == self.master_name else None

    def running(self, options):
        """The master's process id; ends the program if it does not run."""
        pid = self.master(Path(options.dir).resolve())
        if pid is None:
            fail(f"{options.dir}: does not run")
        return pid

    def start(self, options):
        base = Path(options.dir).resolve()
        why = self.missing()
        if why:
            fail(why)
        files = self.files(base, options)
        if options.print_only:
            for path, text in files.items():
                print(f"# {path}\n{text}")
            return
        if os.geteuid() != 0:
            fail("has to be started by root, as the server drops its rights by itself")
        if self.master(base) is not None:
            fail(f"{base}: runs already")
        ports = self.ports(options)
        for port in ports.values():
            if answers(port):
                fail(f"port {port} of 127.0.0.1 is taken")
        base.mkdir(parents=True, exist_ok=True)
        os.chmod(base, 0o755)
        # What a killed master leaves behind would keep the next one from starting.
        (base / self.pid_file).unlink(missing_ok=True)
        (base / READY).unlink(missing_ok=True)
        for path, text in files.items():
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_text(text)
        try:
            self.launch(base, options)
            self.wait(base, ports.values())
            self.started(base, options)
        except BaseException:
            if self.master(base) is not None:
                self.stop(options)
            else:
                self.stopped(base)
            raise
        print("  ".join(f"{service} 127.0.0.1:{port}" for service, port in ports.items()),
              f" log {base / self.log}")

    def launch(self, base, options):
        """Runs the command that starts the master."""
        command, environment = self.command(base, options)
        if options.processors:
            command = ["taskset", "-c", ",".join(map(str, options.processors)), *command]
        # A daemon keeps what it inherits: not our output, that somebody may be waiting to end.
        with open(base / "start.log", "ab") as log:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                  env=os.environ | environment, check=False)
        if done.returncode:
            fail(f"does not start ({done.returncode}): see {base}/start.log and {base / self.log}")

    def wait(self, base, ports):
        """Until the master has written its id and every port answers."""
        until = time.monotonic() + START_SECONDS
        while self.master(base) is None or not all(map(answers, ports)):
            if time.monotonic() > until:
                fail(f"does not answer: see {base}/start.log and {base / self.log}")
            time.sleep(0.05)

    def stop(self, options):
        base = Path(options.dir).resolve()
        end(self.running(options))
        (base / self.pid_file).unlink(missing_ok=True)
        self.stopped(base)

    def serve(self, options):
        """Starts, waits to be told to end (SIGTERM, SIGINT), and stops.

        The server's processes are this one's descendants, even where they daemonize, so that who
        looks at the process that it has started sees them all."""
        adopt()
        told = []
        # Told while it starts: the start is finished first, so that there is a master to end.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told.append(True))
        base = Path(options.dir).resolve()
        self.start(options)
        (base / READY).touch()
        while not told and self.master(base) is not None:
            # What daemonizes leaves children behind that have ended.
            reap()
            time.sleep(0.1)
        if not told:
            kill(family(os.getpid())[1:])
            self.stopped(base)
            fail(f"the server ended by itself: see {base / self.log}")
        self.stop(options)

    def ready(self, options):
        """Waits until `serve` has everything up."""
        until = time.monotonic() + READY_SECONDS
        while not (Path(options.dir) / READY).exists():
            if time.monotonic() > until:
                fail(f"{options.dir}: not ready within {READY_SECONDS} s")
            time.sleep(0.05)

    def cpu(self, options):
        print(f"{cpu_seconds(self.running(options)):.6f}")

    def memory(self, options):
        print(heap_kib(self.running(options)))

    def master_of(self, options):
        print(self.running(options))

    def commands(self, commands):
        """Adds commands that only this one has."""


def main(peer, doc):
    """The command line of one peer."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, told in (("start", peer.start, "write the configuration and start"),
                            ("serve", peer.serve, "the same, and stay until told to end")):
        starter = commands.add_parser(name, help=told)
        starter.add_argument("dir", metavar="DIR")
        starter.add_argument("--processors", type=processors, metavar="LIST", help="pin with taskset")
        starter.add_argument("--domain", default="bench.test", help="whose mail it is")
        if name == "start":
            starter.add_argument("--print-only", action="store_true",
                                 help="show the configuration, do not start")
        peer.flags(starter)
        starter.set_defaults(run=run, print_only=False)
    for name, run, told in (("stop", peer.stop, "end it"),
                            ("cpu", peer.cpu, "CPU seconds used so far by all its processes"),
                            ("master", peer.master_of, "its process id"),
                            ("memory", peer.memory, "KiB of heap and stacks of all its processes"),
                            ("ready", peer.ready, "wait until serve has everything up")):
        command = commands.add_parser(name, help=told)
        command.add_argument("dir", metavar="DIR")
        command.set_defaults(run=run)
    command = commands.add_parser("version", help="of Debian's package, or what is missing")
    command.set_defaults(run=peer.version)
    command = commands.add_parser("install", help="from Debian, without starting a service")
    command.set_defaults(run=peer.install)
    peer.commands(commands)
    options = parser.parse_args()
    options.run(options)
