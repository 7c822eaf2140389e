//! What clients are told of others' doings without asking: NOTIFY, METADATA.

use super::*;
use crate::limits::IMAP_OWN_MAX;

#[test]
fn annotations_of_others_are_told() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b SETMETADATA INBOX (/shared/early \"\")");
    assert_eq!(two.say("b NOOP"), "b OK NOOP completed\n");
    assert_eq!(two.woken(), "");
    two.say("c ENABLE METADATA\r\nd SELECT Sent");
    one.say("c SETMETADATA INBOX (/shared/comment \"x\")");
    // Between commands.
    assert_eq!(two.woken(), "* METADATA \"INBOX\" /shared/comment\n");
    assert_eq!(two.woken(), "");
    assert_eq!(two.say("e IDLE"), "+ idling\n");
    one.say("d SETMETADATA \"\" (/private/a NIL /private/b \"y\")");
    assert_eq!(two.woken(), "* METADATA \"\" /private/b\n");
    assert_eq!(two.say("DONE"), "e OK IDLE completed\n");
    // What happens while a command is half said.
    two.0.receive(b"f NO", 1);
    one.say("e SETMETADATA Sent (/shared/z \"1\")");
    assert_eq!(two.woken(), "* METADATA \"Sent\" /shared/z\n");
    two.0.receive(b"OP\r\n", 1);
    assert_eq!(two.heard(), "f OK NOOP completed\n");
}

#[test]
fn notify_tells_of_other_mailboxes() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    two.say(
        "b NOTIFY SET (mailboxes (Sent x/y) (MessageNew MessageExpunge FlagChange)) \
         (subtree x (MailboxName)) (subscribed (SubscriptionChange)) \
         (inboxes (MailboxMetadataChange ServerMetadataChange))",
    );
    two.say("c SELECT INBOX");
    // Of the open mailbox nothing is told: SELECTED was not asked for.
    world.borrow_mut().deliver("INBOX", b"new");
    assert_eq!(two.woken(), "");
    assert_eq!(two.say("d NOOP"), "d OK NOOP completed\n");
    world.borrow_mut().deliver("Sent", b"new");
    assert_eq!(
        two.woken(),
        "* STATUS \"Sent\" (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 102 UNSEEN 1)\n"
    );
    assert_eq!(two.woken(), "");
    one.say("b SELECT Sent\r\nc STORE 1 +FLAGS (\\Seen)");
    assert_eq!(
        two.woken(),
        "* STATUS \"Sent\" (UIDVALIDITY 102 UNSEEN 0)\n"
    );
    two.say("e ENABLE CONDSTORE");
    one.say("d STORE 1 +FLAGS (\\Deleted)");
    two.woken();
    one.say("e EXPUNGE");
    let said = two.woken();
    assert!(
        said.starts_with(
            "* STATUS \"Sent\" (MESSAGES 0 UIDNEXT 2 UIDVALIDITY 102 UNSEEN 0 HIGHESTMODSEQ "
        ),
        "{said}"
    );
    // Names: the level above is affected; others are not asked for.
    one.say("f CREATE x/y\r\ng CREATE other");
    assert_eq!(
        two.woken(),
        "* LIST (\\HasNoChildren) \"/\" \"x/y\"\n* LIST (\\NonExistent \\HasChildren) \"/\" \"x\"\n"
    );
    one.say("h RENAME x/y z");
    assert_eq!(
        two.woken(),
        "* LIST (\\HasNoChildren) \"/\" \"z\" (\"OLDNAME\" (\"x/y\"))\n"
    );
    one.say("i RENAME z x/w\r\nj DELETE x/w");
    assert_eq!(
        two.woken(),
        "* LIST (\\NonExistent \\HasNoChildren) \"/\" \"x/w\" (\"OLDNAME\" (\"z\"))\n\
         * LIST (\\NonExistent \\HasNoChildren) \"/\" \"x/w\"\n\
         * LIST (\\NonExistent \\HasNoChildren) \"/\" \"x\"\n"
    );
    one.say("k SUBSCRIBE Sent");
    assert_eq!(
        two.woken(),
        "* LIST (\\Subscribed \\HasNoChildren \\Sent) \"/\" \"Sent\"\n"
    );
    one.say("l UNSUBSCRIBE Sent");
    assert_eq!(
        two.woken(),
        "* LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"\n"
    );
    one.say("m SETMETADATA INBOX (/shared/a \"1\")\r\nn SETMETADATA Sent (/shared/a \"1\")");
    one.say("o SETMETADATA \"\" (/private/a \"1\")");
    assert_eq!(
        two.woken(),
        "* METADATA \"INBOX\" /shared/a\n* METADATA \"\" /private/a\n"
    );
    // Nothing of what one does oneself.
    two.say("f CREATE x/own\r\ng SUBSCRIBE x/own\r\nh SETMETADATA INBOX (/shared/a NIL)");
    assert_eq!(two.woken(), "");
    two.say("i NOTIFY NONE");
    one.say("p CREATE x/late");
    world.borrow_mut().deliver("INBOX", b"late");
    assert_eq!(two.woken(), "");
    assert_eq!(two.say("j NOOP"), "j OK NOOP completed\n");
}

#[test]
fn notify_tells_of_the_open_mailbox_at_once() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b SELECT INBOX");
    two.say("b SELECT INBOX");
    world.borrow_mut().deliver("INBOX", b"early");
    assert_eq!(
        two.say(
            "c NOTIFY SET (selected (MessageNew (UID BODY[HEADER.FIELDS (Subject)]) \
             MessageExpunge FlagChange))"
        ),
        "* 4 EXISTS\nc OK NOTIFY completed\n"
    );
    world
        .borrow_mut()
        .deliver("INBOX", b"Subject: s\r\nX: y\r\n\r\nbody");
    assert_eq!(
        two.woken(),
        "* 5 EXISTS\n* 5 FETCH (UID 5 BODY[HEADER.FIELDS (Subject)] {14}\nSubject: s\n\n)\n"
    );
    assert_eq!(two.woken(), "");
    // It was not marked as seen.
    assert_eq!(
        two.say("d SEARCH UNSEEN"),
        "* SEARCH 1 2 3 4 5\nd OK SEARCH completed\n"
    );
    one.say("c STORE 1 +FLAGS (\\Deleted)");
    assert_eq!(two.woken(), "* 1 FETCH (UID 1 FLAGS (\\Deleted))\n");
    one.say("d EXPUNGE");
    assert_eq!(two.woken(), "* 1 EXPUNGE\n");
    // The same at the end of a command, and in IDLE.
    world.borrow_mut().deliver("INBOX", b"Subject: t\r\n\r\n");
    assert_eq!(
        two.say("e NOOP"),
        "* 5 EXISTS\n* 5 FETCH (UID 6 BODY[HEADER.FIELDS (Subject)] {14}\nSubject: t\n\n)\n\
         e OK NOOP completed\n"
    );
    two.say("f IDLE");
    world.borrow_mut().deliver("INBOX", b"Subject: u\r\n\r\n");
    assert_eq!(
        two.woken(),
        "* 6 EXISTS\n* 6 FETCH (UID 7 BODY[HEADER.FIELDS (Subject)] {14}\nSubject: u\n\n)\n"
    );
    two.say("DONE");
    // What one puts there oneself is not shown.
    assert_eq!(
        two.say("g APPEND INBOX {1+}\r\nx"),
        "* 7 EXISTS\ng OK [APPENDUID 101 8] APPEND completed\n"
    );
    // Without FlagChange flags of others are not told, one's own are.
    two.say("h NOTIFY SET (selected (MessageNew MessageExpunge))");
    one.say("e STORE 2 +FLAGS (\\Flagged)");
    assert_eq!(two.woken(), "");
    assert_eq!(
        two.say("i STORE 1 +FLAGS (\\Flagged)"),
        "* 1 FETCH (FLAGS (\\Flagged))\ni OK STORE completed\n"
    );
}

#[test]
fn notify_delays_expunges_where_it_is_asked_to() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b SELECT INBOX");
    two.say("b SELECT INBOX");
    two.say("c NOTIFY SET (selected-delayed (MessageNew (UID) MessageExpunge FlagChange))");
    one.say("c STORE 1 +FLAGS (\\Deleted)\r\nd EXPUNGE");
    world.borrow_mut().deliver("INBOX", b"new");
    assert_eq!(two.woken(), "* 4 EXISTS\n* 4 FETCH (UID 4)\n");
    assert_eq!(
        two.say("d FETCH 2 UID"),
        "* 2 FETCH (UID 2)\nd OK FETCH completed\n"
    );
    assert_eq!(two.say("e NOOP"), "* 1 EXPUNGE\ne OK NOOP completed\n");
    // With nothing of messages, a command that expunges tells of it nevertheless.
    two.say("f NOTIFY SET (selected NONE)");
    world.borrow_mut().deliver("INBOX", b"new");
    assert_eq!(two.say("g NOOP"), "g OK NOOP completed\n");
    assert_eq!(
        two.say("h STORE 1 +FLAGS.SILENT (\\Deleted)\r\ni EXPUNGE"),
        "h OK STORE completed\n* 1 EXPUNGE\n* 3 EXISTS\ni OK EXPUNGE completed\n"
    );
    // That the open mailbox is gone as well.
    assert_eq!(
        two.say("j CREATE x\r\nk SELECT x\r\nl DELETE x")
            .lines()
            .rev()
            .take(2)
            .collect::<Vec<_>>(),
        [
            "l OK DELETE completed",
            "* OK [CLOSED] The mailbox was deleted"
        ]
    );
}

/// What a session remembers as its own while it tells nothing has a bound, and what is told later is
/// true.
#[test]
fn what_is_done_in_silence_is_not_remembered_for_ever() {
    let world = world();
    let mut one = client(&world);
    one.say("b SELECT INBOX\r\nc NOTIFY SET (selected NONE)");
    let before = one.0.session.held_bytes();
    for _ in 0..IMAP_OWN_MAX {
        one.say("d STORE 1 +FLAGS (\\Seen)\r\ne STORE 1 -FLAGS (\\Seen)");
    }
    for _ in 0..IMAP_OWN_MAX {
        world.borrow_mut().deliver("INBOX", b"x");
        one.say("f APPEND INBOX {1+}\r\nx");
    }
    one.say("g STORE 2 +FLAGS.SILENT (\\Flagged)");
    world.borrow_mut().deliver("INBOX", b"x");
    one.say("h APPEND INBOX {1+}\r\nx");
    let held = one.0.session.held_bytes() - before;
    assert!(held <= IMAP_OWN_MAX * 2 * 8 + 100, "{held} bytes");

    let exists = 3 + 2 * IMAP_OWN_MAX + 2;
    let said = one.say("i NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange))");
    assert_eq!(
        said,
        format!(
            "* {exists} EXISTS\n* 1 FETCH (FLAGS ())\n* 2 FETCH (FLAGS (\\Flagged))\n\
             i OK NOTIFY completed\n"
        )
    );
    assert_eq!(one.say("j NOOP"), "j OK NOOP completed\n");
    // And what it does from now on it is not told.
    one.say("k STORE 1 +FLAGS.SILENT (\\Seen)");
    assert_eq!(one.say("l NOOP"), "l OK NOOP completed\n");
}

#[test]
fn notify_ends_when_too_much_happens() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    two.say("b NOTIFY SET (personal (MailboxName))");
    for number in 0..30 {
        one.say(&format!("b CREATE {number}"));
    }
    assert_eq!(
        two.woken(),
        "* OK [NOTIFICATIONOVERFLOW] Too much has happened at once\n"
    );
    one.say("c CREATE late");
    assert_eq!(two.woken(), "");
    let names = vec!["x"; crate::limits::IMAP_NOTIFY_NAMES_MAX + 1].join(" ");
    let said = two.say(&format!("c NOTIFY SET (mailboxes ({names}) (MailboxName))"));
    assert!(
        said.starts_with("c NO [NOTIFICATIONOVERFLOW] at most "),
        "{said}"
    );
}

#[test]
fn many_annotations_are_told_in_pieces() {
    let world = world();
    let mut one = client(&world);
    let value = "x".repeat(16_000);
    for number in 0..9 {
        let command = format!("b SETMETADATA INBOX (/shared/{number} \"{value}\")");
        assert_eq!(one.say(&command), "b OK SETMETADATA completed\n");
    }
    let said = one.say("c GETMETADATA INBOX (DEPTH 1) /shared");
    assert_eq!(said.matches(&value).count(), 9);
    assert_eq!(said.matches("* METADATA \"INBOX\" (").count(), 2);
    assert!(one.0.drains > 0);
    let long = format!("d SETMETADATA INBOX (/shared/0 \"{value}{value}\")");
    assert_eq!(
        one.say(&long),
        "d NO [METADATA MAXSIZE 16384] a value is too long\n"
    );
}
