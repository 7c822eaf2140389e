//! Commands that ask for too much, and messages that are put together of others.

use super::support::imap::Imap;
use super::{arrives, server};

#[test]
fn hostile_commands_are_answered() {
    let mut server = server(&[]);
    let mut one = Imap::login(&server, "u0");
    arrives(&server, "x");
    one.ok("SELECT INBOX");
    for (command, start) in [
        (
            "FETCH 1:4294967295 FLAGS".to_owned(),
            "t BAD no such message number",
        ),
        ("UID FETCH 1:4294967295 UID".to_owned(), "* 1 FETCH (UID 1)"),
        (
            format!("SEARCH {}ALL{}", "(".repeat(5000), ")".repeat(5000)),
            "t BAD search keys nest",
        ),
        (
            format!("SEARCH {}ALL", "OR ALL ".repeat(60)),
            "t BAD search keys nest",
        ),
        (
            format!("FETCH 1 ({}UID)", "BODY[] ".repeat(9000)),
            "t BAD too many items",
        ),
        (
            format!("FETCH 1 BODY[{}1]", "1.".repeat(1000)),
            "t BAD part number",
        ),
        (
            "FETCH 1 BODY[1.2.3.4.5.6.7.8.9]".to_owned(),
            "* 1 FETCH (BODY[1.2.3.4.5.6.7.8.9] NIL",
        ),
        (format!("CREATE {}", "x/".repeat(600)), "t NO [CANNOT]"),
        (format!("CREATE \"{}\"", "x".repeat(5000)), "t NO [CANNOT]"),
        ("CREATE \"a\u{7}b\"".to_owned(), "t NO [CANNOT]"),
        ("CREATE INBOX".to_owned(), "t NO [ALREADYEXISTS]"),
        ("DELETE inbox".to_owned(), "t NO [CANNOT]"),
        (
            format!("LIST \"\" \"{}\"", "*%".repeat(2000)),
            "t NO [CANNOT]",
        ),
        (
            format!("SELECT {}", "x".repeat(70_000)),
            "t BAD command too long",
        ),
        ("CREATE {4294967296}".to_owned(), "t BAD command too long"),
        ("APPEND INBOX {4294967296}".to_owned(), "t NO [TOOBIG]"),
        (
            "STORE 1 +FLAGS (\\Recent \\Foo)".to_owned(),
            "t BAD expected a flag",
        ),
    ] {
        let lines = one.say(&command);
        let short: String = command.chars().take(60).collect();
        assert!(lines[0].starts_with(start), "{short}: {:?}", lines[0]);
        one.ok("NOOP");
    }
    one.send(&vec![b'x'; ringpost::limits::ENDLESS_LINE_BYTES + 70_000]);
    assert!(one.line().starts_with("* BYE Line too long"));
    assert_eq!(one.line(), "");
    server.stop();
}

#[test]
fn messages_are_put_together_of_others() {
    let mut server = server(&[]);
    let mut one = Imap::login(&server, "u0");
    // Large enough to stream to the store, as a part and as the whole.
    let line = b"0123456789abcdef0123456789abcdef\r\n";
    let attachment = line.repeat(20_000);
    let mut message = b"Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n        text\r\n--b\r\nContent-Type: application/x-data\r\n\r\n"
        .to_vec();
    message.extend_from_slice(&attachment);
    message.extend_from_slice(b"\r\n--b--\r\n");
    one.send(format!("t APPEND Sent {{{}+}}\r\n", message.len()).as_bytes());
    one.send(&message);
    one.send(b"\r\n");
    assert!(one.line().contains("[APPENDUID "));
    one.send(
        b"t APPEND Drafts (\\Draft) CATENATE (TEXT {16+}\r\nSubject: new\r\n\r\n URL /Sent/;UID=1/;SECTION=2           URL /Sent/;UID=1/;SECTION=2/;PARTIAL=0.34) CATENATE (URL /Sent/;UID=1)\r\n",
    );
    let tagged = one.line();
    assert!(tagged.starts_with("t OK [APPENDUID "), "{tagged}");
    for (text, start) in [
        ("URL /Sent/;UID=2", "t NO [BADURL /Sent/;UID=2]"),
        ("URL /Sent;UIDVALIDITY=1/;UID=1", "t NO [BADURL "),
        ("URL /Nowhere/;UID=1", "t NO [BADURL "),
    ] {
        let said = one.say(&format!("APPEND Drafts CATENATE (URL /Sent/;UID=1 {text})"));
        assert!(said[0].starts_with(start), "{said:?}");
    }
    // The rest of the session knows messages by their UIDs only.
    one.ok("ENABLE UIDONLY");
    one.ok("SELECT Drafts");
    let whole = 16 + attachment.len() + line.len();
    assert_eq!(
        one.ok("UID FETCH 1:* (RFC822.SIZE FLAGS)"),
        [
            format!("* 1 UIDFETCH (RFC822.SIZE {whole} FLAGS (\\Draft))"),
            format!("* 2 UIDFETCH (RFC822.SIZE {} FLAGS ())", message.len()),
        ]
    );
    let expected = [&b"Subject: new\r\n\r\n"[..], &attachment, line].concat();
    let text = String::from_utf8(expected).expect("text");
    one.send(b"t UID FETCH 1 BODY.PEEK[]\r\n");
    assert_eq!(one.line(), format!("* 1 UIDFETCH (BODY[] {{{whole}}}"));
    for line in text.lines() {
        assert_eq!(one.line(), line);
    }
    assert_eq!(one.line(), ")");
    assert!(one.line().starts_with("t OK "));
    assert_eq!(one.say("FETCH 1 UID").len(), 1);
    one.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(one.ok("EXPUNGE"), ["* VANISHED 1"]);
    arrives(&server, "x");
    server.stop();
}
