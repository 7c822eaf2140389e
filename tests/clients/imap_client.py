"""IMAPClient: everything that a mail program built on it would do, and an IDLE that wakes."""

import datetime
import imaplib
import pathlib
import smtplib
import sys

import imapclient
from imapclient import DELETED, FLAGGED, SEEN, IMAPClient

SMTP, IMAP = map(int, sys.argv[1:3])
FOLDER = pathlib.Path(sys.argv[3])
HOST, USER = "127.0.0.1", "u0@bench.test"

client = IMAPClient(HOST, port=IMAP, ssl=False, use_uid=True)
for name in (b"IMAP4REV1", b"IDLE", b"UIDPLUS", b"MOVE", b"CONDSTORE", b"SORT", b"THREAD=REFERENCES"):
    assert name in client.capabilities(), (name, client.capabilities())
try:
    client.login(USER, "wrong")
    raise AssertionError("a wrong password was taken")
except imapclient.exceptions.LoginError as error:
    assert "AUTHENTICATIONFAILED" in str(error), error
client.login(USER, "pw")
assert client.namespace().personal == (("", "/"),), client.namespace()
assert client.id_({"name": "IMAPClient"})

# Mailboxes, one of them with a name that is not ASCII.
names = {name: flags for flags, _, name in client.list_folders()}
assert b"\\Sent" in names["Sent"] and "INBOX" in names, names
assert client.find_special_folder(b"\\Trash") == "Trash"
client.create_folder("Entwürfe/2026")
client.rename_folder("Entwürfe/2026", "Pläne/2026")
client.subscribe_folder("Pläne/2026")
assert [name for _, _, name in client.list_sub_folders()] == ["Pläne/2026"]
assert client.folder_exists("Pläne/2026") and not client.folder_exists("Entwürfe/2026")

# What is put in comes back.
texts = [path.read_bytes() for path in sorted(FOLDER.iterdir())]
# imaplib, below it, makes CRLF of every line end that it is given.
texts = [imaplib.MapCRLF.sub(imaplib.CRLF, text) for text in texts if text and b"\0" not in text]
date = datetime.datetime(2024, 7, 17, 9, 44, 25, tzinfo=datetime.timezone.utc)
for text in texts:
    client.append("Pläne/2026", text, flags=[SEEN, b"$Kept"], msg_time=date)
opened = client.select_folder("Pläne/2026")
assert opened[b"EXISTS"] == len(texts), opened
uids = client.search()
assert len(uids) == len(texts)
items = [b"BODY.PEEK[]", b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODYSTRUCTURE"]
fetched = client.fetch(uids, items)
for uid, text in zip(uids, texts):
    data = fetched[uid]
    assert data[b"BODY[]"] == text, (uid, data[b"BODY[]"][:200], text[:200])
    assert data[b"FLAGS"] == (SEEN, b"$Kept"), data[b"FLAGS"]
    assert data[b"RFC822.SIZE"] == len(text)
    assert data[b"INTERNALDATE"].timestamp() == date.timestamp(), data[b"INTERNALDATE"]
    assert data[b"BODYSTRUCTURE"] and data[b"ENVELOPE"]

# Flags, searches, sorted and threaded.
client.add_flags(uids[:3], [FLAGGED, "work"])
client.remove_flags(uids[:1], [SEEN])
assert client.search(["UNSEEN"]) == uids[:1]
assert client.search(["FLAGGED", "KEYWORD", "work", "NOT", "UNSEEN"]) == uids[1:3]
assert client.search(["SINCE", datetime.date(2024, 7, 1), "LARGER", 0]) == uids
assert client.sort("SIZE", "FLAGGED") == sorted(uids[:3], key=lambda u: len(texts[uids.index(u)]))
assert client.thread() and client.get_flags(uids[0])[uids[0]] == (FLAGGED, b"$Kept", b"work")

# Copies, moves, the end of some.
client.copy(uids[:2], "Archive")
client.move(uids[2:4], "Trash")
assert client.search() == uids[:2] + uids[4:]
client.delete_messages(uids[:1])
client.expunge(uids[:1])
assert client.search() == uids[1:2] + uids[4:]
assert client.folder_status("Archive", ["MESSAGES", "UNSEEN"]) == {b"MESSAGES": 2, b"UNSEEN": 1}
client.select_folder("Trash", readonly=True)
moved = client.fetch(client.search(), ["BODY.PEEK[]"])
assert [data[b"BODY[]"] for data in moved.values()] == texts[2:4]
client.unselect_folder()

# IDLE says what comes, and what another session does to it.
client.select_folder("INBOX")
client.idle()
with smtplib.SMTP(HOST, SMTP) as sender:
    sender.sendmail("a@example.org", [USER], "Subject: fresh\r\n\r\nbody\r\n")
assert client.idle_check(timeout=30) == [(1, b"EXISTS")]
other = IMAPClient(HOST, port=IMAP, ssl=False)
other.login(USER, "pw")
other.select_folder("INBOX")
other.add_flags(other.search(), [DELETED])
assert client.idle_check(timeout=30) == [(1, b"FETCH", (b"FLAGS", (DELETED,)))]
other.expunge()
assert client.idle_check(timeout=30) == [(1, b"EXPUNGE")]
client.idle_done()
assert client.search() == []
other.logout()
client.delete_folder("Pläne/2026")
client.logout()
print("IMAPClient: all well")
