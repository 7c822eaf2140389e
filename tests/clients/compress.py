"""COMPRESS=DEFLATE, packed and unpacked by zlib: before login and after it, with pipelined commands."""

import imaplib
import re
import smtplib
import sys
import zlib

SMTP, IMAP = map(int, sys.argv[1:3])
HOST = "127.0.0.1"
imaplib.Commands["COMPRESS"] = imaplib.Commands["UNAUTHENTICATE"] = ("NONAUTH", "AUTH", "SELECTED")


class Packed(imaplib.IMAP4):
    """imaplib over a compressed stream."""

    unpacker = None

    def compress(self):
        ok(self._simple_command("COMPRESS", "DEFLATE"))
        self.begin()

    def begin(self):
        self.unpacker = zlib.decompressobj(-15)
        self.packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.plain = b""

    def more(self):
        data = self.sock.recv(65536)
        assert data, "connection ended"
        self.plain += self.unpacker.decompress(data)

    def read(self, size):
        if not self.unpacker:
            return super().read(size)
        while len(self.plain) < size:
            self.more()
        data, self.plain = self.plain[:size], self.plain[size:]
        return data

    def readline(self):
        if not self.unpacker:
            return super().readline()
        while b"\n" not in self.plain:
            self.more()
        line, _, self.plain = self.plain.partition(b"\n")
        return line + b"\n"

    def send(self, data):
        if self.unpacker:
            data = self.packer.compress(data) + self.packer.flush(zlib.Z_SYNC_FLUSH)
        super().send(data)


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


text = b"".join(b"Line %d of a message that says what the others say.\r\n" % n for n in range(20_000))
text = b"Subject: large\r\n\r\n" + text
for number in range(4):
    # Accounts of all shards: the connection moves at login, compressed already or not yet.
    for before in (True, False):
        client = Packed(HOST, IMAP)
        assert "COMPRESS=DEFLATE" in client.capabilities
        if before:
            client.compress()
        ok(client.login(f"u{number}@bench.test", "pw"))
        if not before:
            client.compress()
        code, data = client._simple_command("COMPRESS", "DEFLATE")
        assert code == "NO" and b"COMPRESSIONACTIVE" in data[0], (code, data)
        ok(client.append("INBOX", None, None, text))
        ok(client.select("INBOX"))
        assert ok(client.fetch("1", "(BODY.PEEK[])"))[0][1] == text
        client._simple_command("UNAUTHENTICATE")
        client.state = "NONAUTH"
        ok(client.login(f"u{(number + 1) % 4}@bench.test", "pw"))
        ok(client.noop())
        assert client.logout()[0] == "BYE"

# What is behind COMPRESS in one segment is compressed already; IDLE's news come at once.
client = Packed(HOST, IMAP)
packer = zlib.compressobj(6, zlib.DEFLATED, -15)
commands = b"b LOGIN u0@bench.test pw\r\nc SELECT INBOX\r\nd FETCH 1:* (FLAGS)\r\ne IDLE\r\n"
client.sock.sendall(
    b"a COMPRESS DEFLATE\r\n" + packer.compress(commands) + packer.flush(zlib.Z_FULL_FLUSH)
)
answer = b""
while not answer.endswith(b"\n"):
    # Not through imaplib's buffer: what is behind this line is compressed.
    answer += client.sock.recv(1)
assert answer.startswith(b"a OK"), answer
client.begin()
said = b""
while b"+ idling" not in said:
    said += client.readline()
exists = int(re.search(rb"\* (\d+) EXISTS", said)[1])
assert said.count(b" FETCH (FLAGS") == exists, said
with smtplib.SMTP(HOST, SMTP) as smtp:
    smtp.sendmail("a@example.org", ["u0@bench.test"], "Subject: x\r\n\r\nx\r\n")
assert client.readline() == b"* %d EXISTS\r\n" % (exists + 1)
# One byte at a time.
for byte in packer.compress(b"DONE\r\nf LOGOUT\r\n") + packer.flush(zlib.Z_SYNC_FLUSH):
    client.sock.sendall(bytes([byte]))
assert client.readline().startswith(b"e OK")
assert client.readline().startswith(b"* BYE")
assert client.readline().startswith(b"f OK")

# Little that unpacks to much, and what is no DEFLATE at all: the session ends, the server does not.
for bad, word in (
    (zlib.compressobj(9, zlib.DEFLATED, -15).compress(b"x" * 50_000_000), b"too long"),
    (b"\x07" * 10, b"damaged"),
    (b"b NOOP\r\n", b"damaged"),
):
    client = Packed(HOST, IMAP)
    client.compress()
    client.sock.sendall(bad)
    said = client.readline()
    assert said.startswith(b"* BYE") and word in said, said
    assert Packed(HOST, IMAP).noop()[0] == "OK"
print("all well")
