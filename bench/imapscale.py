"""How IMAP's cost grows: with the mailbox, with the messages of one APPEND."""

import itertools
import re
import statistics
import sys
import threading
import time

import charts
from driver import generate
from imap import names, start
from servers import DOMAIN, Ringpost
from tables import Table, median, say, verdict
from talk import Talk

SIZES = (100, 10_000, 1_000_000)
# Of the others, which take hours for a million: each message is a file of its own.
PEER_SIZES = SIZES[:2]
DRAWN = ("STATUS", "FETCH FLAGS, last 50", "STORE of one", "QRESYNC, 10 changes")


def fill(server, size):
    if server.name == "ringpost":
        generate("lmtp", server, server.lmtp, 0, "--count", size, "--users", 1, "--connections", 50, "--size", 512,
                 warmup=0)
        return
    talk = Talk(server.imap, f"u0@{DOMAIN}")
    talk.fill(size, 512)
    talk.close()


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


def flag_next(numbers, size):
    """A STORE that changes something: goes through the mailbox again and again, and turns flags about."""
    number = next(numbers)
    return b"STORE %d %sFLAGS (\\Flagged)" % (1 + number * 37 % size, b"+-"[number // size % 2:][:1])


def look_at(server, size, numbers):
    """All figures of a mailbox of `size` messages; `numbers` go on from run to run."""
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
    found["STORE of one"] = cost(server, talk, lambda _: flag_next(numbers, size), 4_000)
    if size == max(SIZES):
        rates = []
        for _ in range(5):
            start = time.perf_counter()
            talk.socket.sendall(b"a UID FETCH 1:* (FLAGS)\r\n")
            talk.swallow()
            rates.append(size / (time.perf_counter() - start))
        found["UID FETCH 1:* (FLAGS), messages/s"] = statistics.median(rates)
    talk.ask(b"UNSELECT")
    found["QRESYNC, 10 changes"] = reselect(server, talk, 4_000)
    talk.close()
    return found


def first_select(server):
    """How long the first SELECT takes after a start, ms: nothing of the index has been touched."""
    talk = Talk(server.imap, f"u0@{DOMAIN}")
    began = time.perf_counter()
    talk.ask(b"SELECT INBOX")
    took = (time.perf_counter() - began) * 1000
    talk.close()
    return took


def grown(args, name, size):
    """All figures of each run on one mailbox of `size` messages."""
    server = start(args, name, 1)
    fill(server, size)
    found, numbers = [], itertools.count()
    for run in range(args.runs):
        found.append(look_at(server, size, numbers))
        say(f"  {name}, {size:,} messages, run {run + 1}: "
            + ", ".join(f"{what} {value:,.1f}" for what, value in found[-1].items()))
    server.stop()
    if name == "ringpost":
        server = Ringpost(args.work, fresh=False)
        first = first_select(server)
        server.stop()
        for run in found:
            run["first SELECT after a start, ms"] = first
    return found


def imap_growth(args):
    """IMAP in mailboxes of 100, 10 000 and 1 000 000 messages: CPU of a command; Dovecot and Cyrus to 10 000"""
    servers, notes = names()
    sizes = {name: SIZES if name == "ringpost" else PEER_SIZES for name in servers}
    found = {name: {size: grown(args, name, size) for size in sizes[name]} for name in servers}
    best = {name: {size: median(runs) for size, runs in by_size.items()} for name, by_size in found.items()}
    few, many = best["ringpost"][min(SIZES)], best["ringpost"][max(SIZES)]
    table = Table("IMAP in mailboxes that grow: server CPU of a command, µs", "command",
                  *(f"{name}, {size:,} messages" for name in servers for size in sizes[name]),
                  "ringpost, the last of the first")
    for what in many:
        cells = [best[name][size].get(what, "") for name in servers for size in sizes[name]]
        if what.endswith(", ms"):
            told = verdict(many[what], 5.0, False)
        elif what.endswith("messages/s"):
            told = verdict(many[what] / 1e6, 2.0) + " million"
        else:
            told = verdict(many[what] / few[what], 2.0, False)
        table.row(what, *cells, told)
    table.note("One connection, so that each STORE waits for a sync of its own. QRESYNC: SELECT by a client that has missed flags of ten "
               "messages. Server on one processor, client on the other. SELECT is timed at the client.")
    for note in notes:
        table.note(note)
    lines = lambda what: [[(size, best[name][size][what]) for size in sizes[name]] for name in servers]
    table.picture = charts.panels("CPU of IMAP commands by the size of the mailbox", "server CPU of a command, µs",
                                  "messages in the mailbox", servers, [(what, lines(what)) for what in DRAWN])
    return table, found


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
