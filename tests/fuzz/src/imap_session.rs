//! IMAP: any bytes in any pieces, with failing asks and events in between.

use ringpost::proto::Event;
use ringpost::proto::imap::{Answer, Ask, LoginError, Refusal};

use crate::imap_world::{Desk, World, session};
use crate::shard::{self, Outcome};

/// Words that lead somewhere, for inputs made by chance.
pub const WORDS: &[&[u8]] = &[
    b"a LOGIN u secret\r\n",
    b"a LOGIN u secret\r\nb SELECT INBOX\r\n",
    b"a AUTHENTICATE PLAIN\r\n",
    b"AHUAc2VjcmV0\r\n",
    b"a LOGIN root secret\r\nb PROXYAUTH u\r\n",
    b"a AUTHENTICATE PLAIN dQByb290AHNlY3JldA==\r\n",
    b"a ENABLE QRESYNC UTF8=ACCEPT\r\n",
    b"a ENABLE IMAP4rev2\r\n",
    b"a SELECT INBOX (QRESYNC (101 3 1:4))\r\n",
    b"a EXAMINE Sent\r\n",
    b"a CREATE x/y\r\n",
    b"a DELETE INBOX\r\n",
    b"a RENAME x/y z\r\n",
    b"a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (* %) RETURN (CHILDREN STATUS (MESSAGES))\r\n",
    b"a LSUB \"\" %\r\n",
    b"a SUBSCRIBE x/y\r\n",
    b"a STATUS INBOX (MESSAGES UNSEEN SIZE)\r\n",
    b"a APPEND INBOX (\\Seen k) {9}\r\n",
    b"A: b\r\n\r\nx",
    b"a APPEND INBOX {3+}\r\nabc {3+}\r\nabc\r\n",
    b"a REPLACE 1 INBOX {3+}\r\nabc\r\n",
    b"a APPEND INBOX CATENATE (URL /INBOX/;UID=2 TEXT {3+}\r\nabc URL /Sent/;UID=1/;SECTION=1)\r\n",
    b"a APPEND Sent CATENATE (UTF8 (~{4+}\r\n\xc3\xbc\r\n) URL /INBOX/;UID=1)\r\n",
    b"a FETCH 1:* (UID FLAGS BODY.PEEK[])\r\n",
    b"a APPEND Sent CATENATE (URL {29+}\r\n/INBOX;UIDVALIDITY=101/;UID=3)\r\n",
    b"a APPEND nowhere {3+}\r\nabc\r\n",
    b"a FETCH 1:* (FLAGS UID INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)\r\n",
    b"a FETCH 1 (BODY[] BODY[1] BODY[HEADER.FIELDS (A)]<1.2> BINARY[1] PREVIEW)\r\n",
    b"a UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)\r\n",
    b"a STORE 1 +FLAGS (\\Deleted $k)\r\n",
    b"a UID STORE 1:* (UNCHANGEDSINCE 12) -FLAGS.SILENT \\Seen\r\n",
    b"a SEARCH RETURN (SAVE MIN COUNT) OR TEXT x NOT SUBJECT b\r\n",
    b"a UID SEARCH 1:3 UNSEEN SENTSINCE 1-Jan-2000 YOUNGER 100\r\n",
    b"a COPY $ Sent\r\n",
    b"a UID MOVE 1:2 Sent\r\n",
    b"a EXPUNGE\r\n",
    b"a GETMETADATA INBOX (DEPTH infinity MAXSIZE 3) (/shared /private)\r\n",
    b"a SETMETADATA INBOX (/private/a ~{3+}\r\nx\0z /Shared/b NIL)\r\n",
    b"a LIST \"\" * RETURN (METADATA (/private/a))\r\n",
    b"a ENABLE METADATA\r\n",
    b"a NOTIFY SET STATUS (selected (MessageNew (UID FLAGS BODY[]) MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange))\r\n",
    b"a NOTIFY SET (selected-delayed (MessageNew MessageExpunge)) (subtree (x Sent) (MailboxName)) (subscribed NONE)\r\n",
    b"a NOTIFY SET STATUS (subtree \"Other Users\" (MessageNew MessageExpunge)) (mailboxes \"Other Users/bob@example.org/Lists\" (MailboxName))\r\n",
    b"a NOTIFY NONE\r\n",
    b"a IDLE\r\n",
    b"DONE\r\n",
    b"a CLOSE\r\n",
    b"a UNAUTHENTICATE\r\n",
    b"a GETQUOTAROOT INBOX\r\nb GETQUOTA u@example.org\r\n",
    b"a SETQUOTA root@example.org (STORAGE 1)\r\nb SETQUOTA \"\" ()\r\n",
    b"a STATUS INBOX (DELETED-STORAGE)\r\nb LIST \"\" * RETURN (STATUS (DELETED-STORAGE))\r\n",
    // Without the layer below it a conversation goes on as it was.
    b"a COMPRESS DEFLATE\r\n",
    b"a SETACL INBOX anyone +lr\r\nb GETACL INBOX\r\nc DELETEACL INBOX -u@example.org\r\n",
    b"a LISTRIGHTS INBOX anyone\r\nb MYRIGHTS INBOX\r\n",
    b"a SELECT \"Other Users/bob@example.org/Lists\"\r\n",
    b"a NOOP\r\n",
    b"a LOGOUT\r\n",
    b"{5}\r\n",
    b"{4294967296+}\r\n",
    b"\r",
    b"\n",
    b" ",
];

/// The first bytes choose pieces, faults and the event; the rest is the conversation, which must
/// come out the same in one piece (unless an event cuts it at a piece's end).
pub fn imap_session(data: &[u8]) {
    shard::in_any_pieces(data, converse);
}

fn converse(input: &[u8], pieces: &[u8], faults: u8, event: Option<(usize, Event)>) -> Outcome {
    let world = World::new();
    for number in 0..3 {
        let body = format!("Subject: b{number}\r\nA: b\r\n\r\nx\r\n");
        world.borrow_mut().deliver("INBOX", body.as_bytes());
    }
    let mut desk = Desk::default();
    let mut asks = 0u32;
    let answer = |ask| {
        asks += 1;
        let fails = faults & 0x80 != 0 && asks.is_multiple_of(u32::from(faults & 7) + 2);
        let refusal = || Refusal::Unavailable("disk\r\n".to_owned());
        match ask {
            Ask::Login(_) if fails => Answer::Login(Err(LoginError::Temporary("busy".to_owned()))),
            Ask::Enter(_) if fails => Answer::Login(Err(LoginError::Authorization)),
            Ask::Source { .. } if fails => Answer::Source(Err(refusal())),
            Ask::Read { .. } | Ask::ReadSource { .. } if fails => Answer::Data(Err(refusal())),
            Ask::Rows { .. } if fails => Answer::Rows(Err(refusal())),
            Ask::Look { .. } if fails => Answer::News(Err(refusal())),
            Ask::Keywords { .. } if fails => Answer::Keywords(Err(refusal())),
            Ask::Store(_) if fails => Answer::Stored(Err(refusal())),
            Ask::Annotations { .. } if fails => Answer::Annotations(Err(refusal())),
            Ask::Annotate { .. } if fails => Answer::Done(Err(Refusal::TooManyAnnotations)),
            Ask::WatchAccount { .. } if fails => Answer::Done(Err(refusal())),
            Ask::WatchOthers { .. } if fails => Answer::Watched(Err(refusal())),
            Ask::Happened { .. } if fails => Answer::Happened(Ok(None)),
            Ask::Chunk { .. } if fails => {
                desk = Desk::default();
                Answer::Done(Err(refusal()))
            }
            Ask::Append { .. } if fails => Answer::Appended(Err(refusal())),
            Ask::Summaries { messages } if fails => {
                Answer::Summaries(messages.iter().map(|_| Err(refusal())).collect())
            }
            ask => world.borrow_mut().answer(ask, &mut desk),
        }
    };
    shard::run(session(), answer, input, pieces, event)
}
