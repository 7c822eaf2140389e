"""What IMAP sessions in IDLE cost: memory of each, and CPU of a delivery that they are told of."""

import resource
import selectors
import sys
import threading
import time

import charts
from driver import generate
from imap import names, start
from servers import DOMAIN, Ringpost
from tables import Table, median, say, verdict
from talk import Talk

SESSIONS = 15_000
FEW_SESSIONS = 5_000
# Of the others, which have a process for each.
PEER_SESSIONS = 200
FEW_PEER_SESSIONS = 50
# Each of these holds inotify instances, of which a user may have 128 by default.
HIBERNATED = 60
FEW_HIBERNATED = 10
MESSAGES_EACH = 100
# Until all of them have been moved to the process that holds them, with --hibernate 1s.
SETTLE_SECONDS = 5
KINDS = ("on one mailbox", f"each on one of {MESSAGES_EACH} messages")
BOUNDS = (2.5, 6.0)


def sessions(server, count, user, held):
    """Opens sessions until there are `count`: logged in, INBOX selected, idle."""
    while len(held) < count:
        talk = Talk(server.imap, user(len(held)))
        talk.ask(b"SELECT INBOX")
        talk.socket.sendall(b"a IDLE\r\n")
        if not talk.socket.recv(4096).startswith(b"+"):
            sys.exit("IDLE was refused")
        held.append(talk)


def fill(server, users):
    if server.name == "ringpost":
        generate("lmtp", server, server.lmtp, 0, "--count", users * MESSAGES_EACH, "--users", users, "--connections", 50,
                 "--size", 512, warmup=0)
        return
    for number in range(users):
        talk = Talk(server.imap, f"u{number}@{DOMAIN}")
        talk.fill(MESSAGES_EACH, 512)
        talk.close()


def memory_of(args, name, kind):
    """Heap and what --memory-max counts of it, KiB, with few sessions and with many."""
    ours = name == "ringpost"
    hibernated = name.endswith("hibernated")
    counts = ((FEW_SESSIONS, SESSIONS) if ours else (FEW_HIBERNATED, HIBERNATED) if hibernated
              else (FEW_PEER_SESSIONS, PEER_SESSIONS))
    users = 1 if kind == KINDS[0] else counts[1]
    flags = {"hibernate": "1s"} if hibernated else {}
    server = start(args, name.split(",")[0], users, **flags)
    fill(server, users)
    if ours:
        server.stop()
        # Started twice: the first start hashes passwords and delivers, whose memory would count as theirs.
        server = Ringpost(args.work, fresh=False, env={"MIMALLOC_PURGE_DELAY": "0"})
    held, seen = [], []
    for count in counts:
        sessions(server, count, lambda number: f"u{number % users}@{DOMAIN}", held)
        time.sleep(SETTLE_SECONDS)
        counted = server.metric("ringpost_memory_held_bytes") / 1024 if ours else 0
        seen.append((count, server.heap_kib(), counted))
    for talk in held:
        talk.close()
    server.stop()
    return seen


def imap_idle(args):
    """IMAP sessions in IDLE: memory of each, 15 000 at once (of Dovecot and Cyrus 200), and what a delivery costs"""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    servers, notes = names()
    if "dovecot" in servers:
        servers.append("dovecot, hibernated")
    table = Table("IMAP sessions in IDLE", "server", "sessions", "heap with the first MiB", "with all MiB",
                  "KiB a session", "of it counted by --memory-max, KiB")
    found = {}
    for name in servers:
        for kind, bound in zip(KINDS, BOUNDS):
            seen = memory_of(args, name, kind)
            (few, before, held_before), (many, after, held_after) = seen
            each, counted = (after - before) / (many - few), (held_after - held_before) / (many - few)
            ours = name == "ringpost"
            table.row(name, f"{few:,} to {many:,}, {kind}", before / 1024, after / 1024,
                      verdict(each, bound, False) if ours else each, counted if ours else "")
            found[f"{name}, {kind}"] = {"each_kib": each, "seen": seen}
            say(f"  {name}, {kind}: {each:.1f} KiB a session")
    found["deliveries"] = deliveries(args)
    best = {state: median(runs) for state, runs in found["deliveries"].items()}
    more = best["idle"]["server_us"] - best["closed"]["server_us"]
    table.note("Slope between the first sessions and all; memory that no file is behind, of all processes of the "
               "server, without the kernel's socket buffers. Dovecot and Cyrus have a process for each session; "
               "hibernated: Dovecot with imap_hibernate_timeout.")
    table.note(f"A delivery to a mailbox with an idling session costs Ringpost {verdict(more, 15.0, False)} µs of CPU "
               f"more than to a closed one ({best['idle']['server_us']:.1f} against "
               f"{best['closed']['server_us']:.1f}; LMTP, 1,000 mailboxes, 4,000 deliveries/s).")
    for note in notes:
        table.note(note)
    each = [[found[f"{name}, {kind}"]["each_kib"] for name in servers] for kind in KINDS]
    table.picture = charts.dots("Memory of an IMAP session in IDLE", "server memory of a session, KiB", servers,
                                [(kind, values, f"{values[0]:.1f} KiB") for kind, values in zip(KINDS, each)],
                                ("the goal", BOUNDS))
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
