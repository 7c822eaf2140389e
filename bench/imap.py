"""IMAP beside Dovecot and Cyrus: CPU of each command.

All sync what they acknowledge of STORE and APPEND (Dovecot: mail_fsync = always; Cyrus always does), which
the kernel counts here. The header of each script in bench/peers/ says how the server is set up.
"""

import charts
from driver import generate
from kernel import SyncCounts
from servers import Peer, Ringpost, free_port, missing
from tables import Table, median, say, verdict

# As operators name them, and as `loadgen imap --mix` does.
COMMANDS = {
    "NOOP": "noop",
    "FETCH 1:10 FLAGS": "fetch-flags",
    "FETCH 1:10 ENVELOPE BODYSTRUCTURE": "fetch-structure",
    "BODY.PEEK[] of 4 KiB": "fetch-body",
    "STORE": "store",
    "SEARCH UNSEEN": "search",
    "STATUS": "status",
    "SELECT": "select",
    "APPEND of 4 KiB": "append",
}
DURABLE = ("STORE", "APPEND of 4 KiB")
SESSIONS = 50
MESSAGES_EACH = 200
COUNTED = 1000


def names(peers=("dovecot", "cyrus")):
    """Ringpost and those peers that are here, and notes on those that are not."""
    away = {kind: missing(kind) for kind in peers}
    for why in filter(None, away.values()):
        say(f"  without {why}")
    notes = [f"Without {kind}, which was not there: `bench/peers/{kind} install`." for kind, why in away.items() if why]
    return ["ringpost", *(kind for kind in peers if not away[kind])], notes


def start(args, name, users, **flags):
    """A server with IMAP and accounts u0 to un-1."""
    if name == "ringpost":
        return Ringpost(args.work, users=users)
    flags |= {"password": "pw"} if name == "dovecot" else {"users": users, "prefork": min(users, SESSIONS)}
    return Peer(args.work, name, lmtp=free_port(), pop3=free_port(), imap=free_port(), **flags)


def fill(server, users, each):
    # Dovecot trips over two deliveries that make the same mailbox: the first session of each makes it.
    load(server, "noop", users, "--count", users, "--commands-per-session", 1, seconds=0, warmup=0)
    generate("lmtp", server, server.lmtp, 0, "--count", users * each, "--users", users, "--connections", 10,
             warmup=0)


def load(server, mix, users, *flags, seconds, warmup=1):
    return generate("imap", server, server.imap, seconds, "--users", users, "--password", "pw", "--connections",
                    users, "--mix", f"{mix}:1", "--window", 10, *flags, warmup=warmup)


def syncs_of(server, mix):
    """Syncs of one command from 50 sessions at once, as the kernel counts them; None if it does not."""
    kernel = SyncCounts()
    done = load(server, mix, SESSIONS, "--count", COUNTED, "--commands-per-session", 0, seconds=0, warmup=0)
    counts = kernel.stop(server.pids())
    return sum(counts.values()) / COUNTED if counts and not done["failed"] else None


def imap(args):
    """IMAP, 50 sessions: server CPU of nine commands beside Dovecot's and Cyrus's"""
    servers, notes = names()
    found = {name: {} for name in servers}
    synced = {}
    for run in range(args.runs):
        for name, by_command in found.items():
            server = start(args, name, SESSIONS)
            fill(server, SESSIONS, MESSAGES_EACH)
            for command, mix in COMMANDS.items():
                by_command.setdefault(command, []).append(
                    load(server, mix, SESSIONS, "--commands-per-session", 0, seconds=max(2, args.seconds // 3)))
            if run == 0:
                synced[name] = {command: syncs_of(server, COMMANDS[command]) for command in DURABLE}
            server.stop()
            say(f"  run {run + 1}: {name}: " + ", ".join(
                f"{command.split()[0].lower()} {runs[-1]['server_us']:.1f}" for command, runs in by_command.items()))
    best = {name: {command: median(runs) for command, runs in by_command.items()}
            for name, by_command in found.items()}
    return table(best, synced, notes), found | {"syncs": synced}


def table(best, synced, notes):
    """`best`: medians, by server and command."""
    servers, peers = list(best), [name for name in best if name != "ringpost"]
    what = f"IMAP commands, {SESSIONS} sessions, {MESSAGES_EACH} messages each"
    made = Table(what, "command", *(f"{name} CPU µs" for name in servers), *(f"of {name}'s" for name in peers),
                 *(f"{name}/s" for name in servers), *(f"{name} p99 ms" for name in servers))
    ratios = {peer: [best["ringpost"][command]["server_us"] / best[peer][command]["server_us"]
                     for command in COMMANDS] for peer in peers}
    told = lambda peer, ratio, bound: verdict(ratio, bound, False) if peer == "dovecot" else f"{ratio:.2f}"
    for index, command in enumerate(COMMANDS):
        made.row(command, *(best[name][command]["server_us"] for name in servers),
                 *(told(peer, ratios[peer][index], 0.25) for peer in peers),
                 *(best[name][command]["rate"] for name in servers),
                 *(best[name][command]["p99_ms"] for name in servers))
    made.row("median of the nine", *("" for _ in servers),
             *(told(peer, sorted(ratios[peer])[len(COMMANDS) // 2], 0.1) for peer in peers),
             *("" for _ in servers * 2))
    made.note("Server on one processor, generator on the other. FETCH asks for the newest ten messages. STORE sets or "
              "clears \\Seen of any message, so that half of them change nothing.")
    counted = ", ".join(f"{name} {' and '.join('?' if count is None else f'{count:.2f}' for count in by.values())}"
                        for name, by in synced.items())
    made.note("All sync STORE and APPEND before they acknowledge them; the rest syncs nothing. Syncs of a STORE and an "
              f"APPEND, as the kernel counts them (perf, ext4; sessions share Ringpost's): {counted}.")
    for note in notes:
        made.note(note)
    if "dovecot" in peers:
        rows = [(command, [best[name][command]["server_us"] for name in servers],
                 f"1/{1 / ratios['dovecot'][index]:.0f} of dovecot's") for index, command in enumerate(COMMANDS)]
        goal = [best["dovecot"][command]["server_us"] / 4 for command in COMMANDS]
        made.picture = charts.dots(f"{what}: server CPU of each", "server CPU of a command, µs", servers, rows,
                                   ("the goal: a quarter of dovecot's", goal))
    return made
