"""IMAP beside Dovecot: CPU of each command, memory of idle sessions, how cost grows with a mailbox.

Both servers sync what they acknowledge of STORE and APPEND (Dovecot: mail_fsync = always); its login
processes are in high-performance mode, its imap processes serve one session after the other.
"""

from driver import generate
from servers import Peer, Ringpost, free_port
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
SESSIONS = 50
MESSAGES_EACH = 200


def start(args, name, users):
    if name == "ringpost":
        return Ringpost(args.work, users=users)
    return Peer(args.work, "dovecot", lmtp=free_port(), pop3=free_port(), imap=free_port(), password="pw")


def fill(server, users, each):
    generate("lmtp", server, server.lmtp, 0, "--count", users * each, "--users", users, "--connections", 10,
             warmup=0)


def imap(args):
    """IMAP, 50 sessions: server CPU of nine commands beside Dovecot's"""
    found = {name: {} for name in ("dovecot", "ringpost")}
    for run in range(args.runs):
        for name, by_command in found.items():
            server = start(args, name, SESSIONS)
            fill(server, SESSIONS, MESSAGES_EACH)
            for command, mix in COMMANDS.items():
                by_command.setdefault(command, []).append(generate(
                    "imap", server, server.imap, max(2, args.seconds // 3), "--users", SESSIONS, "--password",
                    "pw", "--connections", SESSIONS, "--mix", f"{mix}:1", "--commands-per-session", 0,
                    "--window", 10, warmup=1))
            server.stop()
            say(f"  run {run + 1}: {name}: " + ", ".join(
                f"{command.split()[0].lower()} {runs[-1]['server_us']:.1f}" for command, runs in by_command.items()))
    table = Table(f"IMAP commands, {SESSIONS} sessions, {MESSAGES_EACH} messages each", "command",
                  "dovecot CPU µs", "ringpost CPU µs", "of dovecot's", "dovecot/s", "ringpost/s", "p99 ms", "p99 ms ")
    ratios = []
    for command in COMMANDS:
        theirs, ours = (median(found[name][command]) for name in ("dovecot", "ringpost"))
        ratios.append(ours["server_us"] / theirs["server_us"])
        table.row(command, theirs["server_us"], ours["server_us"], verdict(ratios[-1], 0.25, False),
                  theirs["rate"], ours["rate"], theirs["p99_ms"], ours["p99_ms"])
    table.row("median of the nine", "", "", verdict(sorted(ratios)[len(ratios) // 2], 0.1, False), "", "", "", "")
    table.note("Server on one processor, generator on the other. FETCH asks for the newest ten messages. Both "
               "sync STORE and APPEND before they acknowledge them; the rest syncs nothing.")
    return table, found
