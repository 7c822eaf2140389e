"""Every message of the folders given, delivered by smtplib and read back by poplib, byte for byte.

Usage: corpus.py SMTP-PORT POP3-PORT FOLDER...
Line ends are made CRLF first, as SMTP asks for, and the last line gets one if it has none.
"""

import os
import poplib
import re
import smtplib
import sys

HOST = "127.0.0.1"
smtp_port, pop3_port = int(sys.argv[1]), int(sys.argv[2])

messages = []
for folder in sys.argv[3:]:
    for place, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = os.path.join(place, name)
            if not os.path.islink(path) and os.path.getsize(path):
                with open(path, "rb") as file:
                    text = re.sub(rb"\r\n|\r|\n", b"\r\n", file.read())
                messages.append((path, text if text.endswith(b"\r\n") else text + b"\r\n"))
assert messages, "no messages found"

with smtplib.SMTP(HOST, smtp_port) as client:
    client.ehlo("client.example")
    for path, text in messages:
        options = ["BODY=8BITMIME", "SMTPUTF8"]
        refused = client.sendmail("sender@example.org", ["u2@bench.test"], text, options)
        assert not refused, (path, refused)

client = poplib.POP3(HOST, pop3_port)
poplib._MAXLINE = 1 << 24
client.utf8()
client.user("u2@bench.test")
client.pass_("pw")
count, _ = client.stat()
assert count == len(messages), (count, len(messages))
for number, (path, sent) in enumerate(messages, 1):
    _, lines, _ = client.retr(number)
    got = b"".join(line + b"\r\n" for line in lines)
    # The trace ends with its date, also where the message itself begins with white space.
    trace = re.match(rb"Return-Path: <sender@example.org>\r\nReceived: .*? \+0000\r\n", got, re.S)
    assert trace, (path, got[:200])
    assert got[trace.end():] == sent, f"{path}: came back differently"
client.quit()
print(f"{count} messages, {sum(len(text) for _, text in messages)} bytes, all identical")
