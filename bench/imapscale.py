"""How IMAP's cost grows: with the mailbox, with idle sessions, with the messages of one APPEND."""

import re
import resource
import selectors
import signal
import socket
import statistics
import sys
import threading
import time

from driver import generate
from memory import anonymous_kib
from servers import DOMAIN, Ringpost
from tables import Table, median, say, verdict
from talk import Talk

SIZES = (100, 10_000, 1_000_000)
SESSIONS = 15_000
FEW_SESSIONS = 5_000
MESSAGES_EACH = 100


def fill(server, count, users=1):
    generate("lmtp", server, server.lmtp, 0, "--count", count, "--users", users, "--connections", 50, "--size", 512,
             warmup=0)


def cost(server, talk, command, count):
    """Server CPU of one such command, µs."""
    talk.many(command, count // 10)
    before = server.cpu()
    talk.many(command, count)
    return (server.cpu() - before) / count * 1e6


def reselect(server, talk, count):
    """Server CPU of SELECT with QRESYNC by a client that has missed the flags of ten messages, µs."""
    talk.ask(b"ENABLE QRESYNC")
    selected = talk.ask(b"SELECT INBOX")
    validity, modseq = (re.search(what, selected).group(1) for what in (rb"UIDVALIDITY (\d+)", rb"HIGHESTMODSEQ (\d+)"))
    last = int(re.search(rb"\* (\d+) EXISTS", selected).group(1))
    for number in range(10):
        talk.ask(b"STORE %d +FLAGS (\\Flagged)" % (last - 7 * number))
        talk.ask(b"STORE %d -FLAGS (\\Flagged)" % (last - 7 * number))
    talk.ask(b"UNSELECT")
    command = b"SELECT INBOX (QRESYNC (%s %s))" % (validity, modseq)
    answer = talk.ask(command)
    if answer.count(b" FETCH ") != 10:
        sys.exit(f"QRESYNC told of {answer.count(b' FETCH ')} messages, not 10")
    return cost(server, talk, lambda _: command, count)


def look_at(server, size):
    """All figures of a mailbox of `size` messages."""
    talk = Talk(server.imap, f"u0@{DOMAIN}")
    found = {}
    waited = []
    for _ in range(9):
        start = time.perf_counter()
        talk.ask(b"SELECT INBOX")
        waited.append((time.perf_counter() - start) * 1000)
        talk.ask(b"UNSELECT")
    found["SELECT, closed before, ms"] = statistics.median(waited)
    found["STATUS"] = cost(server, talk, lambda _: b"STATUS INBOX (MESSAGES UNSEEN UIDNEXT SIZE)", 40_000)
    talk.ask(b"SELECT INBOX")
    found["FETCH FLAGS, last 50"] = cost(server, talk, lambda _: b"FETCH %d:%d (FLAGS)" % (size - 49, size), 10_000)
    found["STORE of one"] = cost(
        server, talk, lambda n: b"STORE %d %sFLAGS (\\Flagged)" % (1 + n * 37 % size, b"+-"[n // size % 2:][:1]), 4_000)
    if size == max(SIZES):
        rates = []
        for _ in range(5):
            start = time.perf_counter()
            talk.socket.sendall(b"a UID FETCH 1:* (FLAGS)\r\n")
            talk.swallow()
            rates.append(size / (time.perf_counter() - start))
        found["UID FETCH 1:* (FLAGS), messages/s"] = statistics.median(rates)
    talk.ask(b"UNSELECT")
    found["QRESYNC, 10 changes"] = reselect(server, talk, 2_000)
    talk.close()
    return found


def imap_growth(args):
    """IMAP in mailboxes of 100, 10 000 and 1 000 000 messages: CPU of a command"""
    found = {size: [] for size in SIZES}
    for size in SIZES:
        server = Ringpost(args.work, users=1)
        fill(server, size)
        for run in range(args.runs):
            found[size].append(look_at(server, size))
            say(f"  {size:,} messages, run {run + 1}: "
                + ", ".join(f"{what} {value:,.1f}" for what, value in found[size][-1].items()))
        # The first SELECT after a start: nothing of the index has been touched.
        server.stop(signal.SIGTERM)
        server = Ringpost(args.work, fresh=False)
        talk = Talk(server.imap, f"u0@{DOMAIN}")
        start = time.perf_counter()
        talk.ask(b"SELECT INBOX")
        first = (time.perf_counter() - start) * 1000
        for run in found[size]:
            run["first SELECT after a start, ms"] = first
        talk.close()
        server.stop()
    best = {size: median(runs) for size, runs in found.items()}
    few, many = best[min(SIZES)], best[max(SIZES)]
    table = Table("IMAP in mailboxes that grow: server CPU of a command, µs", "command",
                  *(f"{size:,} messages" for size in SIZES), "the last of the first")
    for what in many:
        cells = [best[size].get(what, "") for size in SIZES]
        if what.endswith(", ms"):
            told = verdict(many[what], 5.0, False)
        elif what.endswith("messages/s"):
            told = verdict(many[what] / 1e6, 2.0) + " million"
        else:
            told = verdict(many[what] / few[what], 2.0, False)
        table.row(what, *cells, told)
    table.note("STORE is durable before it is acknowledged. QRESYNC: SELECT by a client that has missed flags of ten "
               "messages. Server on one processor, client on the other.")
    return table, found


def sessions(server, count, user, held):
    """Opens sessions until there are `count`: logged in, INBOX selected, idle."""
    while len(held) < count:
        talk = Talk(server.imap, user(len(held)))
        talk.ask(b"SELECT INBOX")
        talk.socket.sendall(b"a IDLE\r\n")
        if not talk.socket.recv(4096).startswith(b"+"):
            sys.exit("IDLE was refused")
        held.append(talk)


def imap_idle(args):
    """IMAP sessions in IDLE: memory of each, 15 000 at once, and what a delivery costs them"""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    table = Table(f"IMAP sessions in IDLE, {SESSIONS:,} at once", "sessions", "heap of the first MiB", "of all MiB",
                  "KiB a session", "of it counted by --memory-max, KiB")
    found = {}
    kinds = {
        "on one mailbox": (1, lambda _: f"u0@{DOMAIN}", 2.5),
        f"on mailboxes of {MESSAGES_EACH} messages, one each": (SESSIONS, lambda n: f"u{n}@{DOMAIN}", 6.0),
    }
    for kind, (users, user, bound) in kinds.items():
        server = Ringpost(args.work, users=users)
        fill(server, users * MESSAGES_EACH, users)
        server.stop()
        # Started twice: the first start hashes passwords and delivers, whose memory would count as theirs.
        server = Ringpost(args.work, fresh=False, env={"MIMALLOC_PURGE_DELAY": "0"})
        held, seen = [], []
        for count in (FEW_SESSIONS, SESSIONS):
            sessions(server, count, user, held)
            time.sleep(3)
            seen.append((anonymous_kib(server.pid), server.metric("ringpost_memory_held_bytes") / 1024))
        each, counted = ((after - before) / (SESSIONS - FEW_SESSIONS) for before, after in zip(*seen))
        table.row(kind, seen[0][0] / 1024, seen[1][0] / 1024, verdict(each, bound, False), counted)
        found[kind] = {"each_kib": each, "counted_kib": counted, "anonymous_kib": [kib for kib, _ in seen]}
        for talk in held:
            talk.close()
        server.stop()
    found["deliveries"] = deliveries(args)
    best = {state: median(runs) for state, runs in found["deliveries"].items()}
    more = best["idle"]["server_us"] - best["closed"]["server_us"]
    table.note(f"Slope between {FEW_SESSIONS:,} and {SESSIONS:,} sessions; anonymous memory of the process, without the "
               "kernel's socket buffers.")
    table.note(f"A delivery to a mailbox with an idling session costs {verdict(more, 15.0, False)} µs of server CPU more "
               f"than to a closed one ({best['idle']['server_us']:.1f} against {best['closed']['server_us']:.1f}; LMTP, "
               "1,000 mailboxes, 4,000 deliveries/s).")
    return table, found


class Listener(threading.Thread):
    """Reads what idling sessions are told, and counts the lines."""

    def __init__(self, held):
        super().__init__(daemon=True)
        self.chosen, self.lines, self.ends = selectors.DefaultSelector(), 0, False
        for talk in held:
            self.chosen.register(talk.socket, selectors.EVENT_READ)

    def run(self):
        while not self.ends:
            for key, _ in self.chosen.select(0.2):
                self.lines += key.fileobj.recv(1 << 16).count(b" EXISTS")


def deliveries(args):
    """Server CPU of a delivery to mailboxes that are closed, and to those that somebody idles on."""
    users, found = 1000, {"closed": [], "idle": []}
    for _ in range(args.runs):
        for state, runs in found.items():
            server, held = Ringpost(args.work, users=users), []
            if state == "idle":
                sessions(server, users, lambda n: f"u{n}@{DOMAIN}", held)
            listener = Listener(held)
            listener.start()
            runs.append(generate("lmtp", server, server.lmtp, args.seconds, "--connections", 20, "--users", users,
                                 "--rate", 4000, "--size", 1024))
            time.sleep(0.5)
            listener.ends = True
            listener.join()
            if state == "idle" and not listener.lines:
                sys.exit("no idling session was told of a delivery")
            runs[-1]["notices"] = listener.lines
            for talk in held:
                talk.close()
            server.stop()
            say(f"  {state}: {runs[-1]['server_us']:.1f} µs a delivery, {listener.lines} notices")
    return found


def imap_append(args):
    """MULTIAPPEND of 10 000 messages beside SMTP's deliveries"""
    count, size = 10_000, 4096
    message = (b"From: a@bench.test\r\nTo: b@bench.test\r\nSubject: one of many\r\n\r\n"
               + b"The same words again and again, seventy-eight bytes of them in every line.\r\n" * 60)[:size - 2] + b"\r\n"
    found = {"smtp": [], "append": []}
    for run in range(args.runs):
        server = Ringpost(args.work)
        found["smtp"].append(generate("smtp", server, server.smtp, args.seconds, "--connections", 50))
        server.stop()
        server = Ringpost(args.work, users=1)
        talk = Talk(server.imap, f"u0@{DOMAIN}")
        rates, used = [], server.cpu()
        for _ in range(3):
            whole = b"a APPEND INBOX" + b" {%d+}\r\n%s" % (len(message), message) * count + b"\r\n"
            start = time.perf_counter()
            sender = threading.Thread(target=talk.socket.sendall, args=(whole,))
            sender.start()
            answer = talk.piece()
            while b"\r\n" not in answer[-2:]:
                answer += talk.piece()
            sender.join()
            if not re.search(rb"a OK \[APPENDUID \d+ \d+:\d+\]", answer):
                sys.exit(f"MULTIAPPEND: {answer[:300]!r}")
            rates.append(count / (time.perf_counter() - start))
        found["append"].append({"rate": statistics.median(rates), "server_us": (server.cpu() - used) / (3 * count) * 1e6})
        talk.close()
        server.stop()
        say(f"  run {run + 1}: smtp {found['smtp'][-1]['rate']:,.0f}/s, append {found['append'][-1]['rate']:,.0f}/s")
    smtp, append = median(found["smtp"]), median(found["append"])
    table = Table(f"MULTIAPPEND of {count:,} messages of 4 KiB beside SMTP, 50 connections", "way in", "messages/s",
                  "of SMTP's", "server CPU µs")
    table.row("smtp", smtp["rate"], "1", smtp["server_us"])
    table.row("multiappend, one connection", append["rate"], verdict(append["rate"] / smtp["rate"], 0.5),
              append["server_us"])
    table.note("Both are durable before they are acknowledged (sync level 1).")
    return table, found
