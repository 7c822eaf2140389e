//! What a session is told of another one's doing: annotations, NOTIFY, changed flags.

use super::many::append_many;
use super::support::imap::Imap;
use super::{arrives, server};

#[test]
fn annotations_are_told_and_kept() {
    let mut server = server(&[]);
    let (mut one, mut two) = (Imap::login(&server, "u0"), Imap::login(&server, "u0"));
    two.ok("ENABLE METADATA");
    one.ok("CREATE a/b");
    one.send(b"t SETMETADATA a/b (/shared/comment ~{4+}\r\na\0\r\n /private/c \"mine\")\r\n");
    assert_eq!(one.line(), "t OK SETMETADATA completed");
    // Without a command.
    let changed = two.line();
    assert!(changed.starts_with("* METADATA \"a/b\" /"), "{changed}");
    assert!(changed.contains("/shared/comment") && changed.contains("/private/c"));
    one.ok("RENAME a c");
    one.ok("SETMETADATA INBOX (/shared/comment \"in\")");
    assert_eq!(two.line(), "* METADATA \"INBOX\" /shared/comment");
    one.ok("RENAME INBOX old");
    // What INBOX had was copied.
    assert_eq!(two.line(), "* METADATA \"old\" /shared/comment");
    two.idle();
    one.ok("SETMETADATA \"\" (/private/vendor/x \"y\")");
    assert_eq!(two.line(), "* METADATA \"\" /private/vendor/x");
    server.kill();
    server.restart();
    let mut one = Imap::login(&server, "u0");
    assert_eq!(
        one.ok("GETMETADATA c/b (DEPTH infinity) (/shared /private)"),
        [
            "* METADATA \"c/b\" (/private/c \"mine\" /shared/comment ~{4}",
            "a\0",
            ")"
        ]
    );
    assert_eq!(
        one.ok("LIST \"\" (INBOX old) RETURN (METADATA (/shared/comment))"),
        [
            "* LIST (\\HasNoChildren) \"/\" \"INBOX\"",
            "* METADATA \"INBOX\" (/shared/comment \"in\")",
            "* LIST (\\HasNoChildren) \"/\" \"old\"",
            "* METADATA \"old\" (/shared/comment \"in\")"
        ]
    );
    assert_eq!(
        one.ok("GETMETADATA \"\" (DEPTH infinity) /private"),
        ["* METADATA \"\" (/private/vendor/x \"y\")"]
    );
    one.ok("DELETE c/b");
    one.ok("CREATE c/b");
    assert_eq!(
        one.ok("GETMETADATA c/b (DEPTH infinity) /shared"),
        ["* METADATA \"c/b\" (/shared NIL)"]
    );
    server.stop();
}

#[test]
fn notify_tells_at_once() {
    let mut server = server(&[]);
    let (mut one, mut two) = (Imap::login(&server, "u0"), Imap::login(&server, "u0"));
    let statuses = two.ok(
        "NOTIFY SET STATUS (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (Subject)]) \
         MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge FlagChange MailboxName \
         SubscriptionChange MailboxMetadataChange ServerMetadataChange))",
    );
    assert_eq!(statuses.len(), 6, "{statuses:?}");
    assert!(statuses[0].starts_with("* STATUS \"INBOX\" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY "));
    two.ok("SELECT Archive");
    // Elsewhere: a delivery, flags, names, subscriptions.
    arrives(&server, "first");
    let told = two.line();
    assert!(
        told.starts_with("* STATUS \"INBOX\" (MESSAGES 1 UIDNEXT 2 UIDVALIDITY "),
        "{told}"
    );
    assert!(told.ends_with(" UNSEEN 1)"), "{told}");
    one.ok("SELECT INBOX");
    one.ok("STORE 1 +FLAGS (\\Seen)");
    let told = two.line();
    assert!(
        told.starts_with("* STATUS \"INBOX\" (UIDVALIDITY "),
        "{told}"
    );
    assert!(told.ends_with(" UNSEEN 0)"), "{told}");
    one.ok("CREATE a/b");
    assert_eq!(two.line(), "* LIST (\\HasNoChildren) \"/\" \"a/b\"");
    assert_eq!(
        two.line(),
        "* LIST (\\NonExistent \\HasChildren) \"/\" \"a\""
    );
    one.ok("CREATE a/b/c");
    assert_eq!(two.line(), "* LIST (\\HasNoChildren) \"/\" \"a/b/c\"");
    assert_eq!(two.line(), "* LIST (\\HasChildren) \"/\" \"a/b\"");
    one.ok("RENAME a/b d");
    assert_eq!(
        two.line(),
        "* LIST (\\HasChildren) \"/\" \"d\" (\"OLDNAME\" (\"a/b\"))"
    );
    one.ok("SUBSCRIBE d/c");
    assert_eq!(
        two.line(),
        "* LIST (\\Subscribed \\HasNoChildren) \"/\" \"d/c\""
    );
    one.ok("DELETE d/c");
    assert_eq!(
        two.line(),
        "* LIST (\\NonExistent \\Subscribed \\HasNoChildren) \"/\" \"d/c\""
    );
    assert_eq!(two.line(), "* LIST (\\HasNoChildren) \"/\" \"d\"");
    one.ok("SETMETADATA d (/shared/comment \"x\")");
    assert_eq!(two.line(), "* METADATA \"d\" /shared/comment");
    // In the open mailbox.
    one.ok("COPY 1 Archive");
    assert_eq!(two.line(), "* 1 EXISTS");
    assert_eq!(
        two.line(),
        "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (Subject)] {18}"
    );
    assert_eq!(two.line(), "Subject: first");
    assert_eq!([two.line(), two.line()], ["", ")"]);
    one.ok("SELECT Archive");
    one.ok("STORE 1 FLAGS (\\Deleted)");
    assert_eq!(two.line(), "* 1 FETCH (UID 1 FLAGS (\\Deleted))");
    one.ok("EXPUNGE");
    assert_eq!(two.line(), "* 1 EXPUNGE");
    // Nothing of what it does itself.
    two.ok("CREATE own");
    two.send(b"t APPEND own {1+}\r\nx\r\n");
    assert!(two.line().starts_with("t OK [APPENDUID "));
    two.ok("RENAME own own2");
    two.ok("SETMETADATA own2 (/private/x \"y\")");
    two.ok("DELETE own2");
    // What another one has done since comes next.
    one.ok("SUBSCRIBE later");
    assert_eq!(
        two.line(),
        "* LIST (\\NonExistent \\Subscribed \\HasNoChildren) \"/\" \"later\""
    );
    two.ok("NOTIFY NONE");
    one.ok("SUBSCRIBE last");
    assert!(two.ok("NOOP").is_empty());
    server.stop();
}

#[test]
fn changes_are_looked_up_anew() {
    let mut server = server(&[]);
    let (mut one, mut two) = (Imap::login(&server, "u0"), Imap::login(&server, "u0"));
    // As many as one slice has.
    append_many(&mut one, ringpost::limits::IMAP_SLICE_MESSAGES);
    assert!(one.line().starts_with("t OK "));
    one.ok("SELECT INBOX (CONDSTORE)");
    two.ok("SELECT INBOX");
    let command = "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)";
    assert_eq!(one.ok(command).len(), ringpost::limits::IMAP_SLICE_MESSAGES);
    two.ok("STORE 1 +FLAGS (\\Flagged)");
    let again = one.ok(command);
    assert!(again[0].contains("FLAGS (\\Flagged)"), "{}", again[0]);
    assert_eq!(
        two.say("CREATE x (USE (\\All))"),
        ["t NO [USEATTR] special uses here: Drafts, Sent, Trash, Junk, Archive"]
    );
    server.stop();
}
