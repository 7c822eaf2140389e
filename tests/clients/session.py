"""Python's own clients: smtplib by SMTP and LMTP, poplib with everything it knows."""

import poplib
import smtplib
import sys

SMTP, LMTP, POP3 = map(int, sys.argv[1:4])
HOST = "127.0.0.1"


def send(client, recipients, text):
    client.ehlo("client.example")
    for name in ("pipelining", "size", "8bitmime", "smtputf8", "chunking"):
        assert client.has_extn(name), name
    refused = client.sendmail("sender@example.org", recipients, text)
    assert refused == {}, refused


with smtplib.SMTP(HOST, SMTP) as client:
    send(client, ["u0@bench.test"], "Subject: one\r\n\r\n.dot\r\nbody\r\n")
    send(client, ["u0@bench.test", "u1@bench.test"], "Subject: two\r\n\r\nbody\r\n")
    assert client.verify("u0@bench.test")[0] == 252
    assert client.noop()[0] == 250
    assert client.help()
    try:
        client.sendmail("a@example.org", ["nobody@bench.test"], "x")
        raise AssertionError("an unknown recipient was taken")
    except smtplib.SMTPRecipientsRefused as error:
        code, text = error.recipients["nobody@bench.test"]
        assert code == 550 and text.startswith(b"5.1.1"), (code, text)
    client.rset()
    client.mail("a@example.org", ["SMTPUTF8"])
    client.rcpt("u0@bench.test")
    code, text = client.data("Subject: \u00fcml\u00e4ut\r\n\r\nutf-8\r\n".encode())
    assert code == 250, (code, text)

with smtplib.LMTP(HOST, LMTP) as client:
    send(client, ["u1@bench.test"], "Subject: three\r\n\r\nbody\r\n")

client = poplib.POP3(HOST, POP3)
known = client.capa()
for name in ("TOP", "UIDL", "USER", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "SASL", "UTF8"):
    assert name in known, (name, known)
try:
    client.user("u0@bench.test")
    client.pass_("wrong")
    raise AssertionError("a wrong password was taken")
except poplib.error_proto as error:
    assert b"[AUTH]" in error.args[0], error
client.user("u0@bench.test")
client.pass_("pw")
count, octets = client.stat()
assert count == 3
_, listing, _ = client.list()
assert sum(int(line.split()[1]) for line in listing) == octets
_, lines, size = client.retr(1)
assert lines[-2:] == [b".dot", b"body"], lines
assert sum(len(line) + 2 for line in lines) == int(listing[0].split()[1])
assert lines[0] == b"Return-Path: <sender@example.org>", lines[0]
_, top, _ = client.top(2, 0)
assert top[-1] == b"" and b"Subject: two" in top and b"body" not in top
uids = [line.split()[1] for line in client.uidl()[1]]
assert len(set(uids)) == 3
client.dele(1)
client.rset()
client.dele(2)
client.quit()

client = poplib.POP3(HOST, POP3)
client.utf8()
client.user("u0@bench.test")
client.pass_("pw")
assert [line.split()[1] for line in client.uidl()[1]] == [uids[0], uids[2]]
client.quit()
print("smtplib and poplib agree with the server")
