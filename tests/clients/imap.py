"""Python's imaplib, with everything that it knows; and messages come back as they were put in."""

import imaplib
import pathlib
import re
import smtplib
import sys

SMTP, IMAP = map(int, sys.argv[1:3])
FOLDER = pathlib.Path(sys.argv[3])
HOST, USER = "127.0.0.1", "u0@bench.test"


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


client = imaplib.IMAP4(HOST, IMAP)
for name in ("IMAP4REV1", "LITERAL+", "IDLE", "UIDPLUS", "MOVE", "ENABLE", "SASL-IR"):
    assert name in client.capabilities, (name, client.capabilities)
try:
    client.login(USER, "wrong")
    raise AssertionError("a wrong password was taken")
except imaplib.IMAP4.error as error:
    assert b"AUTHENTICATIONFAILED" in error.args[0], error
ok(client.login(USER, "pw"))
assert client.logout()[0] == "BYE"

client = imaplib.IMAP4(HOST, IMAP)
ok(client.authenticate("PLAIN", lambda _: b"\0" + USER.encode() + b"\0pw"))
ok(client.noop())
assert ok(client.namespace()) == [b'(("" "/")) (("Other Users/" "/")) NIL']

# Mailboxes.
listed = b"\n".join(ok(client.list()))
for name, use in (("Drafts", "Drafts"), ("Sent", "Sent"), ("Trash", "Trash"), ("Junk", "Junk")):
    assert re.search(rb"\\%s.*\"/\" \"%s\"" % (use.encode(), name.encode()), listed), listed
ok(client.create("work/2026"))
ok(client.create("work/2025"))
assert client.create("work/2025")[0] == "NO"
ok(client.subscribe("work/2026"))
assert ok(client.lsub('""', "work/*")) == [b'() "/" "work/2026"']
ok(client.rename("work/2025", "old/2025"))
assert b'"old/2025"' in b"\n".join(ok(client.list('""', "old/*")))
ok(client.delete("old/2025"))
assert ok(client.list('""', "old/*")) == [None]

# Every message comes back as it was put in, bare line feeds and eight bits and all.
texts = [path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.is_file()]
texts = [text for text in texts if text and b"\0" not in text]
texts.append(b"Subject: large\r\n\r\n" + b"x" * 70 * 1000 + b"\r\n" * 200_000)
for number, text in enumerate(texts, 1):
    # imaplib makes CRLF of every line end that it is given.
    text = imaplib.MapCRLF.sub(imaplib.CRLF, text)
    code = ok(client.append("work/2026", r"(\Seen $Kept)", '"17-Jul-1996 02:44:25 -0700"', text))
    assert re.fullmatch(rb"\[APPENDUID \d+ %d\] APPEND completed" % number, code[0]), code
assert ok(client.select("work/2026")) == [str(len(texts)).encode()]
for number, text in enumerate(texts, 1):
    text = imaplib.MapCRLF.sub(imaplib.CRLF, text)
    data = ok(client.fetch(str(number), "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
    assert data[0][1] == text, (number, len(data[0][1]), len(text))
    assert rb"\Seen $Kept" in data[0][0], data[0][0]
    assert b'INTERNALDATE "17-Jul-1996 09:44:25 +0000"' in data[0][0], data[0][0]
    assert b"RFC822.SIZE %d " % len(text) in data[0][0], data[0][0]
    part = ok(client.fetch(str(number), "(BODY.PEEK[]<3.50>)"))
    assert part[0][1] == text[3:53], part
    both = ok(client.fetch(str(number), "(BODY.PEEK[HEADER] BODY.PEEK[TEXT])"))
    assert both[0][1] + both[1][1] == text, number
    ok(client.fetch(str(number), "(ENVELOPE BODYSTRUCTURE)"))
ok(client.fetch("1:*", "(ENVELOPE BODY PREVIEW)"))

# Searches, flags, copies.
assert ok(client.search(None, "SUBJECT", "large")) == [str(len(texts)).encode()]
assert ok(client.search(None, "KEYWORD", "$kept", "SMALLER", "1")) == [b""]
assert client.search("KOI8-R", "TEXT", "x")[0] == "NO"
ok(client.store("1", "-FLAGS", r"(\Seen)"))
assert ok(client.search(None, "UNSEEN")) == [b"1"]
ok(client.store("1", "+FLAGS", r"(\Deleted)"))
ok(client.copy("2", "Trash"))
assert client.copy("2", "nowhere")[0] == "NO"
assert ok(client.expunge()) == [b"1"]
assert ok(client.uid("FETCH", "1:2", "(FLAGS)"))[0].startswith(b"1 (UID 2 ")
ok(client.uid("MOVE", "2", "Trash"))
ok(client.status("Trash", "(MESSAGES UNSEEN UIDNEXT)"))
assert b"(MESSAGES 2 UIDNEXT 3 UNSEEN 0)" in client.status("Trash", "(MESSAGES UNSEEN UIDNEXT)")[1][0]
ok(client.unselect())

# A delivery shows in a session that is open.
ok(client.select("INBOX"))
with smtplib.SMTP(HOST, SMTP) as sender:
    sender.sendmail("a@example.org", [USER], "Subject: fresh\r\n\r\nbody\r\n")
ok(client.noop())
assert client.response("EXISTS")[1][-1] == b"1"
data = ok(client.fetch("1", "(BODY[HEADER.FIELDS (SUBJECT)])"))
assert data[0][1] == b"Subject: fresh\r\n\r\n", data
assert ok(client.search(None, "SEEN")) == [b"1"]
ok(client.close())
client.logout()

# Names and texts in UTF-8 (RFC 6855).
client = imaplib.IMAP4(HOST, IMAP)
ok(client.login(USER, "pw"))
text = "Subject: gr\u00fc\u00dfe\r\n\r\n\u2026\r\n".encode()
ok(client.create("Entw&APw-rfe"))
# With UTF-8 enabled imaplib puts its `UTF8 (` into the message.
ok(client.append("Entw&APw-rfe", None, None, text))
ok(client.enable("UTF8=ACCEPT"))
assert '"Entw\u00fcrfe"'.encode() in b"\n".join(ok(client.list('""', "*")))
ok(client.select('"Entw\u00fcrfe"'))
assert "gr\u00fc\u00dfe".encode() in ok(client.fetch("1", "(ENVELOPE)"))[0]
assert ok(client.sort("(REVERSE DATE)", "UTF-8", "ALL")) == [b"1"]
assert ok(client.thread("REFERENCES", "UTF-8", "ALL")) == [b"(1)"]
client.logout()
print("imaplib: all well")
