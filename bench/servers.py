"""Servers under test, each in a scratch folder of its own, pinned, on free loopback ports.

A server has a `name`, the ports that it serves (`smtp`, `lmtp`, `pop3`, `imap`), `cpu()` in seconds of its
whole family of processes, and `stop()`. Starting ends the program if the server does not come up.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from memory import anonymous_kib
from peers import common

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
PEERS = ROOT / "bench" / "peers"
DOMAIN = "bench.test"
USERS = 1000

GIVEN = set()


def free_port():
    """A port that nothing listens on, never the same twice."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in GIVEN:
            GIVEN.add(port)
            return port


def wait_port(port, process=None, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            sys.exit(f"a server ended while it started: {process.args}")
        if common.answers(port):
            return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


def memory_kib(pid, what="VmRSS"):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(rf"{what}:\s+(\d+)", status.read()).group(1))


class Server:
    """A process under test with a `port`; `cpu()` and `memory()` are its own."""

    def __init__(self, name, command, port, cpus=(0,), folder=None, ready=None, env=None):
        self.name, self.port, self.folder = name, port, folder
        log = open(pathlib.Path(folder) / "log", "ab")
        command = ["taskset", "-c", ",".join(map(str, cpus))] + list(map(str, command))
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT,
                                        env=os.environ | (env or {}))
        wait_port(ready or port, self.process)
        self.pid = self.process.pid

    def cpu(self):
        return common.cpu_seconds(self.pid)

    def memory(self, what="VmRSS"):
        return memory_kib(self.pid, what)

    def heap_kib(self):
        """Heap and stacks."""
        return anonymous_kib(self.pid)

    def pids(self):
        return common.family(self.pid)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(60)


class Ringpost(Server):
    """Our server on a fresh (or given) store with USERS accounts."""

    def __init__(self, work, cpus=(0,), flags=(), users=USERS, name="ringpost", fresh=True, env=None):
        folder = pathlib.Path(work) / name.replace(" ", "-")
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.smtp, self.lmtp, self.pop3, self.imap, self.http = (free_port() for _ in range(5))
        self.data = folder / "data"
        super().__init__(
            name,
            [BIN / "ringpost", "serve", "--data", self.data]
            + ["--smtp", f"127.0.0.1:{self.smtp}", "--lmtp", f"127.0.0.1:{self.lmtp}"]
            + ["--pop3", f"127.0.0.1:{self.pop3}", "--imap", f"127.0.0.1:{self.imap}", "--http", f"127.0.0.1:{self.http}"]
            + ["--processors", ",".join(map(str, cpus)), "--smtp-sessions-max", "100000"]
            + ["--pop3-sessions-max", "100000", "--imap-sessions-max", "100000", "--lmtp-sessions-max", "100000",
               "--messages-max", "1000000", *flags],
            self.smtp,
            cpus,
            folder,
            env=env,
        )
        self.wait_http()
        if fresh and users:
            self.command("account", "generate", "--users", users, "--prefix", "u",
                         "--domain", DOMAIN, "--password", "pw")

    def wait_http(self):
        """Listens and answers: recovery is over."""
        end = time.monotonic() + 300
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/health", timeout=5):
                    return
            time.sleep(0.01)
        sys.exit("the server does not become healthy")

    def command(self, *words):
        done = subprocess.run([BIN / "ringpost", *map(str, words), "--data", self.data],
                              capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"ringpost {words}: {done.stderr}")
        return done.stdout

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics") as page:
            text = page.read().decode()
        found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.M)
        return sum(map(float, found))


class Floor(Server):
    """The floor server, see bench/src/bin/floor."""

    def __init__(self, work, dialect="smtp", files=1, level=1, name=None):
        folder = pathlib.Path(work) / "floor"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        port = free_port()
        command = [BIN / "floor", "--listen", f"127.0.0.1:{port}", "--cpu", "0",
                   "--dir", folder / "data", "--files", files, "--sync-level", level]
        command += ["--" + dialect] if dialect != "smtp" else []
        if dialect != "pop3":
            command += ["--file-mib", max(64, 1024 // files)]
        super().__init__(name or f"floor, {files} file{'s' * (files > 1)}", command, port, (0,), folder)
        self.smtp = self.lmtp = self.pop3 = port


def missing(kind):
    """Why a peer of bench/peers/ cannot be started, if so."""
    asked = subprocess.run([PEERS / kind, "version"], capture_output=True, text=True, check=False)
    return asked.stderr.strip().splitlines()[-1] if asked.returncode else None


class Peer:
    """Dovecot, Postfix or Cyrus, started by bench/peers/."""

    def __init__(self, work, kind, cpus=(0,), **flags):
        self.name, self.kind = kind, kind
        self.folder = pathlib.Path(work) / kind
        shutil.rmtree(self.folder, ignore_errors=True)
        command = [PEERS / kind, "start", self.folder, "--processors", ",".join(map(str, cpus))]
        for name, value in flags.items():
            command += ["--" + name.replace("_", "-"), str(value)]
            setattr(self, name, value)
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def ask(self, what):
        return subprocess.run([PEERS / self.kind, what, self.folder], check=True, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL).stdout

    def cpu(self):
        return float(self.ask("cpu"))

    def heap_kib(self):
        """Heap and stacks of all its processes."""
        return int(self.ask("memory"))

    def pids(self):
        return common.family(int(self.ask("master")))

    def stop(self):
        self.ask("stop")
