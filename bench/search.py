"""SEARCH TEXT and BODY through the wire: server CPU a GB, every answer checked.

A mailbox is filled by a generator with a seed: three messages of ten have their text in base64 or
quoted-printable, half of them are UTF-8 and half ISO-8859-1, some are multipart. Every UID of every answer
is compared with a plain search in Python: the email package takes the messages apart, `str.casefold` and
`in` do the rest.
"""

import base64
import email
import email.header
import quopri
import random
import re
import socket
import sys
import time

from servers import Ringpost
from tables import Table, median, say, verdict

USER, PASSWORD = "u0@bench.test", "pw"
SEED = 9585
WORDS = """meeting invoice shipment weather garden quarterly Grüße Straße café naïve résumé Øresund façade piñata
report budget printer coffee holiday train ticket answer question yesterday tomorrow Müller Ångström server mailbox
deadline contract signature window bicycle orange kitchen library station platform evening breakfast""".split()
# Said by some messages only: in one of a hundred, in one of a thousand.
RARE, RAREST = "Zwölfboxkämpfer", "sphinxquartz"
MISS = "neverwritten"


def text_of(rng, size):
    lines, length = [], 0
    while length < size:
        line = " ".join(rng.choices(WORDS, k=10))
        lines.append(line)
        length += len(line) + 2
    for word, chance in ((RARE, 0.01), (RAREST, 0.001)):
        if rng.random() < chance:
            at = rng.randrange(len(lines))
            lines[at] = f"{lines[at]} {word.upper() if rng.random() < 0.5 else word}"
    return "\r\n".join(lines) + "\r\n"


def part_of(rng, size):
    """A text part: its MIME fields and its body."""
    charset = rng.choice(("utf-8", "iso-8859-1"))
    body = text_of(rng, size).encode(charset)
    how = rng.choices(("8bit", "base64", "quoted-printable"), (70, 15, 15))[0]
    if how == "base64":
        body = base64.encodebytes(body).replace(b"\n", b"\r\n")
    elif how == "quoted-printable":
        body = quopri.encodestring(body.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    fields = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {how}\r\n"
    return fields.encode(), body


def message_of(rng, number, size):
    subject = " ".join(rng.choices(WORDS, k=4))
    encoded = email.header.Header(subject, "utf-8", maxlinelen=900).encode(linesep="\r\n")
    head = (f"From: Sender {number % 97} <s{number % 97}@example.org>\r\nTo: <u0@bench.test>\r\n"
            f"Subject: {encoded}\r\nDate: Sat, 21 Nov 2026 10:{number % 60:02}:00 +0000\r\n"
            f"Message-ID: <{number}@example.org>\r\nMIME-Version: 1.0\r\n").encode()
    if rng.random() < 0.9:
        fields, body = part_of(rng, size - 400)
        return head + fields + b"\r\n" + body
    parts = [part_of(rng, (size - 700) // 2) for _ in range(2)]
    inner = b"".join(b"--=_b\r\n" + fields + b"\r\n" + body + b"\r\n" for fields, body in parts)
    return head + b'Content-Type: multipart/mixed; boundary="=_b"\r\n\r\n' + inner + b"--=_b--\r\n"


def messages_of(count, size):
    rng = random.Random(SEED)
    return [message_of(rng, number, size) for number in range(count)]


def plain(message):
    """What SEARCH BODY and SEARCH HEADER look in, by the email package; TEXT looks in both."""
    parsed = email.message_from_bytes(message)
    texts = []
    for part in parsed.walk():
        if part is not parsed:
            texts.append("".join(f"{name}: {value}\r\n" for name, value in part.items()))
        if part.get_content_maintype() == "text":
            texts.append(part.get_payload(decode=True).decode(part.get_content_charset("utf-8"), "replace"))
    decode = lambda value: str(email.header.make_header(email.header.decode_header(value)))
    header = "".join(f"{name}: {decode(value)}\r\n" for name, value in parsed.items())
    return fold("\0".join(texts)), fold(header)


def fold(text):
    # Simple folding: what is one letter stays one ("ß" is not "ss").
    return "".join(it.lower() if len(it.lower()) == 1 else it for it in text)


def fill(server, messages, each=50):
    """APPEND, many in a command (MULTIAPPEND, LITERAL+)."""
    connection = socket.create_connection(("127.0.0.1", server.imap))
    answers = connection.makefile("rb")
    answers.readline()
    connection.sendall(f"a LOGIN {USER} {PASSWORD}\r\n".encode())
    assert b" OK" in answers.readline()
    for start in range(0, len(messages), each):
        some = messages[start:start + each]
        literals = b"".join(b" {%d+}\r\n%s" % (len(message), message) for message in some)
        connection.sendall(b"b APPEND INBOX" + literals + b"\r\n")
        answer = answers.readline()
        if not answer.startswith(b"b OK"):
            sys.exit(f"APPEND: {answer}")
    connection.close()


class Searcher:
    def __init__(self, server):
        self.connection = socket.create_connection(("127.0.0.1", server.imap))
        self.answers = self.connection.makefile("rb")
        self.answers.readline()
        self.say(f"LOGIN {USER} {PASSWORD}".encode())
        self.say(b"EXAMINE INBOX")

    def say(self, command):
        self.connection.sendall(b"t " + command + b"\r\n")
        lines = []
        while True:
            line = self.answers.readline()
            if line.startswith(b"t "):
                if not line.startswith(b"t OK"):
                    sys.exit(f"{command}: {line}")
                return lines
            if not line:
                sys.exit(f"{command}: the connection is gone")
            lines.append(line)

    def search(self, key, text):
        raw = text.encode()
        lines = self.say(b"UID SEARCH CHARSET UTF-8 %s {%d+}\r\n%s" % (key.encode(), len(raw), raw))
        found = [line for line in lines if line.startswith(b"* SEARCH")]
        return [int(uid) for uid in re.findall(rb"\d+", found[0])]


def imap_search(args):
    """SEARCH TEXT and BODY over 100 000 messages of 4 KiB, checked against a plain search"""
    count, size = args.search_messages, 4096
    say(f"  {count:,} messages, seed {SEED}: made and taken apart by Python first")
    messages = messages_of(count, size)
    total = sum(map(len, messages))
    plains = [plain(message) for message in messages]
    server = Ringpost(args.work, users=1)
    fill(server, messages)
    searcher = Searcher(server)
    asked = [("TEXT", RAREST), ("BODY", RAREST), ("TEXT", MISS), ("BODY", RARE.lower()), ("TEXT", "naïve"),
             ("TEXT", "subject: meeting"), ("BODY", "Sender 5")]
    table = Table(f"SEARCH over {count:,} messages, {total / 1e6:,.0f} MB, from cache, one processor", "search",
                  "found", "server CPU s", "GB/s of CPU", "wall s", "GB/s")
    found = {"bytes": total, "seed": SEED}
    began, used = time.monotonic(), server.cpu()
    searcher.search("TEXT", MISS)
    found["first"] = {"wall_s": time.monotonic() - began, "cpu_s": server.cpu() - used}
    for key, text in asked:
        wanted = [uid for uid, (body, header) in enumerate(plains, 1)
                  if fold(text) in body or (key == "TEXT" and fold(text) in header)]
        runs = []
        for _ in range(args.runs):
            began, used = time.monotonic(), server.cpu()
            uids = searcher.search(key, text)
            runs.append({"wall_s": time.monotonic() - began, "cpu_s": server.cpu() - used})
            if uids != wanted:
                wrong = sorted(set(uids) ^ set(wanted))
                sys.exit(f"{key} {text}: {len(uids)} found, {len(wanted)} expected; UIDs {wrong[:10]} differ")
        best = median(runs)
        rate = total / 1e9 / best["cpu_s"]
        table.row(f"{key} {text}", len(wanted), best["cpu_s"], verdict(rate, 0.5), best["wall_s"],
                  total / 1e9 / best["wall_s"])
        found[f"{key} {text}"] = runs
    first = found["first"]
    table.note(f"The first search of all, which also takes every message apart: {first['cpu_s']:.2f} s of CPU, "
               f"{first['wall_s']:.2f} s. Every answer has the UIDs that a plain search in Python finds.")
    server.stop()
    return table, found
