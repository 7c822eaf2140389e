"""A plain IMAP client for measurements: commands in a window, answers counted, hardly looked at."""

import re
import socket

WINDOW = 50
TAG = b"a"


class Talk:
    """A connection, logged in."""

    def __init__(self, port, user, password="pw"):
        self.socket = socket.create_connection(("127.0.0.1", port), 120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.recv(4096)
        self.ask(b"LOGIN %s %s" % (user.encode(), password.encode()))

    def ask(self, command):
        """One command; its whole answer."""
        self.socket.sendall(TAG + b" " + command + b"\r\n")
        answer = b""
        while not re.search(rb"(?:^|\r\n)a \w+[^\r\n]*\r\n$", answer[-4096:]):
            answer += self.piece()
        if not re.search(rb"(?:^|\r\n)a OK[^\r\n]*\r\n$", answer[-4096:]):
            raise SystemExit(f"{command[:80]!r}: {answer[-200:]!r}")
        return answer

    def piece(self):
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise SystemExit("the server closed the connection")
        return piece

    def many(self, command, count):
        """The same command so many times (`command` is a function of the number), a window of them
        under way; bytes of all answers."""
        sent = done = total = 0
        rest = b""
        while done < count:
            if sent < count and sent - done <= WINDOW // 2:
                upto = min(count, done + WINDOW)
                self.socket.sendall(b"".join(TAG + b" " + command(n) + b"\r\n" for n in range(sent, upto)))
                sent = upto
            piece = self.piece()
            total += len(piece)
            lines = rest + piece
            whole = lines.rfind(b"\n") + 1
            rest = lines[whole:]
            lines = b"\n" + lines[:whole]
            ended = lines.count(b"\na OK")
            if ended != lines.count(b"\na "):
                raise SystemExit(f"{command(0)[:80]!r}: {lines[-200:]!r}")
            done += ended
        return total

    def fill(self, count, size, each=100):
        """Appends so many messages of `size` bytes to INBOX, `each` of them in a command (MULTIAPPEND)."""
        message = b"From: a@bench.test\r\nTo: b@bench.test\r\nSubject: one of many\r\n\r\n"
        message += b"x" * (size - len(message) - 2) + b"\r\n"
        for start in range(0, count, each):
            self.ask(b"APPEND INBOX" + b" {%d+}\r\n%s" % (len(message), message) * min(each, count - start))

    def swallow(self):
        """Reads an answer to its end without keeping it; how many bytes it had."""
        total, tail = 0, b""
        while not re.search(rb"\r\na OK[^\r\n]*\r\n$", tail):
            piece = self.piece()
            total += len(piece)
            tail = (tail + piece)[-200:]
        return total

    def close(self):
        self.socket.close()
