//! IMAP through the whole program: sessions that see each other and deliveries, restarts, bounds.

mod support;

use std::time::{Duration, Instant};

use support::{Client, Server, send_message};

/// A server with u0 to u3 of bench.test, all with the password `pw`.
fn server(flags: &[&str]) -> Server {
    let server = Server::start(flags);
    server.generate(4);
    server
}

/// A session of u0.
struct Imap(Client);

impl Imap {
    fn new(server: &Server) -> Imap {
        let mut client = Client::silent(server.imap);
        let greeting = client.line();
        assert!(
            greeting.starts_with("* OK [CAPABILITY IMAP4rev1 "),
            "{greeting}"
        );
        let mut imap = Imap(client);
        imap.ok("LOGIN u0@bench.test pw");
        imap
    }

    /// Sends a command; the lines of its answer, the tagged one last.
    fn say(&mut self, command: &str) -> Vec<String> {
        self.0.send(format!("t {command}\r\n").as_bytes());
        let mut lines = Vec::new();
        loop {
            let line = self.0.line();
            let ends = line.starts_with("t ") || line.is_empty();
            lines.push(line);
            if ends {
                return lines;
            }
        }
    }

    /// The same; it must be OK. Returns the untagged lines.
    fn ok(&mut self, command: &str) -> Vec<String> {
        let mut lines = self.say(command);
        let tagged = lines.pop().unwrap_or_default();
        assert!(tagged.starts_with("t OK "), "{command}: {lines:?} {tagged}");
        lines
    }

    fn line(&mut self) -> String {
        self.0.line()
    }
}

fn deliver(server: &Server, subject: &str) {
    let mut smtp = Client::new(server.smtp);
    smtp.expect("EHLO client.example", "250");
    let body = format!("Subject: {subject}\r\n\r\nbody\r\n");
    let replies = send_message(&mut smtp, &["u0@bench.test"], &body, false);
    assert!(replies[0].starts_with("250"), "{replies:?}");
}

#[test]
fn idle_tells_of_what_happens_elsewhere() {
    let mut server = server(&[]);
    let (mut one, mut two) = (Imap::new(&server), Imap::new(&server));
    one.ok("SELECT INBOX");
    two.ok("SELECT INBOX");
    one.0.send(b"t IDLE\r\n");
    assert_eq!(one.line(), "+ idling");
    deliver(&server, "first");
    assert_eq!(one.line(), "* 1 EXISTS");
    assert_eq!(two.ok("NOOP"), ["* 1 EXISTS"]);
    assert_eq!(
        two.ok("STORE 1 +FLAGS (\\Flagged $New)"),
        [
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $New)",
            "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $New \\*)] Flags that stay",
            "* 1 FETCH (FLAGS (\\Flagged $New))"
        ]
    );
    assert_eq!(
        one.line(),
        "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $New)"
    );
    assert!(one.line().contains("$New \\*)]"));
    assert_eq!(one.line(), "* 1 FETCH (FLAGS (\\Flagged $New))");
    // POP3 takes the message away.
    let mut pop3 = support::log_in(server.pop3, "u0@bench.test", "pw");
    pop3.expect("DELE 1", "+OK");
    pop3.expect("QUIT", "+OK");
    assert_eq!(one.line(), "* 1 EXPUNGE");
    one.0.send(b"DONE\r\n");
    assert_eq!(one.line(), "t OK IDLE completed");
    assert_eq!(two.ok("NOOP"), ["* 1 EXPUNGE"]);
    server.stop();
}

#[test]
fn sessions_end_with_their_account() {
    let server = server(&[]);
    deliver(&server, "of the old account");
    let mut idle = Imap::new(&server);
    idle.ok("SELECT INBOX");
    idle.0.send(b"t IDLE\r\n");
    assert_eq!(idle.line(), "+ idling");
    let mut open = Imap::new(&server);
    open.ok("SELECT INBOX");
    let closed = Imap::new(&server);
    let mut begun = Imap::new(&server);
    begun.0.send(b"t APPEND INBOX {100+}\r\nhalf of");
    let mut pop3 = support::log_in(server.pop3, "u0@bench.test", "pw");
    pop3.expect("DELE 1", "+OK");
    let mut reader = Client::new(server.pop3);
    server.run(&["account", "remove", "u0@bench.test"]);
    server.run(&["account", "add", "u0@bench.test", "--password", "new"]);
    deliver(&server, "of the new account");
    deliver(&server, "of the new account, too");

    // Each is told at once, whatever it was about to do.
    for mut session in [idle, open, closed, begun] {
        assert_eq!(session.line(), "* BYE The account was removed");
        assert_eq!(session.line(), "");
    }
    assert_eq!(pop3.line(), "-ERR [SYS/PERM] the account was removed");
    assert_eq!(pop3.line(), "");
    // The new owner need not wait until the maildrop of the old one is given back.
    reader.expect("USER u0@bench.test", "+OK");
    reader.expect("PASS new", "+OK");
    reader.expect("STAT", "+OK 2 ");
    reader.expect("RETR 1", "+OK");
    let message = String::from_utf8(reader.body()).expect("text");
    assert!(message.contains("of the new account"), "{message}");
    reader.expect("QUIT", "+OK");
    let left = support::mailbox(server.pop3, "u0@bench.test", "new");
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let mut server = server(&[]);
    let mut one = Imap::new(&server);
    one.ok("CREATE a/b");
    one.ok("SUBSCRIBE a/b");
    one.0
        .send(b"t APPEND a/b (\\Seen k) {10+}\r\nSubject: x {3+}\r\ntwo\r\n");
    assert!(one.line().contains("[APPENDUID "));
    one.ok("SELECT a/b");
    one.ok("STORE 2 FLAGS (\\Draft)");
    one.ok("COPY 1:2 Archive");
    one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    one.ok("EXPUNGE");
    one.ok("RENAME a c/d");
    let before = one.ok("STATUS c/d/b (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ MAILBOXID)");
    server.kill();
    server.restart();
    let mut one = Imap::new(&server);
    let after = one.ok("STATUS c/d/b (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ MAILBOXID)");
    assert_eq!(before, after);
    assert!(before[0].contains("MESSAGES 1 UIDNEXT 3 "), "{before:?}");
    one.ok("SELECT c/d/b");
    assert_eq!(
        one.ok("FETCH 1:* (UID FLAGS BODY.PEEK[])"),
        ["* 1 FETCH (UID 2 FLAGS (\\Draft) BODY[] {3}", "two)"]
    );
    one.ok("EXAMINE Archive");
    let copies = one.ok("FETCH 1:* (UID FLAGS)");
    assert_eq!(
        copies,
        [
            "* 1 FETCH (UID 1 FLAGS (\\Seen k))",
            "* 2 FETCH (UID 2 FLAGS (\\Draft))"
        ]
    );
    assert_eq!(one.ok("LSUB \"\" *"), ["* LSUB () \"/\" \"a/b\""]);
    server.stop();
}

#[test]
fn annotations_are_told_and_kept() {
    let mut server = server(&[]);
    let (mut one, mut two) = (Imap::new(&server), Imap::new(&server));
    two.ok("ENABLE METADATA");
    one.ok("CREATE a/b");
    one.0
        .send(b"t SETMETADATA a/b (/shared/comment ~{4+}\r\na\0\r\n /private/c \"mine\")\r\n");
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
    two.0.send(b"t IDLE\r\n");
    assert_eq!(two.line(), "+ idling");
    one.ok("SETMETADATA \"\" (/private/vendor/x \"y\")");
    assert_eq!(two.line(), "* METADATA \"\" /private/vendor/x");
    server.kill();
    server.restart();
    let mut one = Imap::new(&server);
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
    let (mut one, mut two) = (Imap::new(&server), Imap::new(&server));
    let statuses = two.ok(
        "NOTIFY SET STATUS (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (Subject)]) \
         MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge FlagChange MailboxName \
         SubscriptionChange MailboxMetadataChange ServerMetadataChange))",
    );
    assert_eq!(statuses.len(), 6, "{statuses:?}");
    assert!(statuses[0].starts_with("* STATUS \"INBOX\" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY "));
    two.ok("SELECT Archive");
    // Elsewhere: a delivery, flags, names, subscriptions.
    deliver(&server, "first");
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
    two.0.send(b"t APPEND own {1+}\r\nx\r\n");
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
fn hostile_commands_are_answered() {
    let mut server = server(&[]);
    let mut one = Imap::new(&server);
    deliver(&server, "x");
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
    one.0
        .send(&vec![b'x'; ringpost::limits::ENDLESS_LINE_BYTES + 70_000]);
    assert!(one.line().starts_with("* BYE Line too long"));
    assert_eq!(one.line(), "");
    server.stop();
}

/// Lines of all telemetry files of an account, oldest first, without their times.
fn telemetry(server: &Server, account: &str) -> Vec<Vec<String>> {
    let folder = server.data.join("telemetry").join(account);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    paths.sort();
    let read = |path| std::fs::read_to_string(path).expect("text");
    let lines = |text: String| {
        let lines = text.lines().map(|line| {
            let (time, line) = line.split_once(' ').expect("a time");
            assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
            line.to_owned()
        });
        lines.collect()
    };
    paths.into_iter().map(read).map(lines).collect()
}

#[test]
fn telemetry_tells_everything_but_secrets() {
    let mut server = server(&[]);
    let switch = |state: &str| server.run(&["account", "telemetry", "u0@bench.test", state]);
    // Before it is switched on, and somebody else's: not a word.
    let mut open = Imap::new(&server);
    open.ok("NOOP");
    let shown = switch("on");
    assert!(
        shown.starts_with("u0@bench.test  telemetry on  "),
        "{shown}"
    );
    drop(support::log_in(server.pop3, "u1@bench.test", "pw"));
    // A connection that is open begins now.
    open.ok("SELECT INBOX");
    assert!(open.say("LOGIN u0@bench.test hunter2")[0].starts_with("t BAD "));
    // Secrets in pieces, in literals, pipelined, in answers to challenges that were not made.
    open.0.send(b"t LOG");
    open.0.send(b"IN {2+}\r\nu0 {7+}\r\nhunt");
    open.0
        .send(b"er2\r\nt AUTHENTICATE PLAIN\r\nAGh1bnRlcjI=\r\nt NOOP\r\n");
    for _ in 0..4 {
        open.line();
    }
    open.0
        .send(b"t APPEND INBOX {17+}\r\nSubject: seen\r\n\r\n\r\n");
    while !open.line().starts_with("t OK") {}
    // A new one, from its login on; another user on the same connection is not this user.
    let mut client = Client::silent(server.imap);
    client.line();
    client.send(b"t LOGIN u0@bench.test pw\r\nt NOOP\r\n");
    assert!(client.line().starts_with("t OK") && client.line().starts_with("t OK"));
    client.send(b"t UNAUTHENTICATE\r\nt LOGIN u1@bench.test pw\r\nt ID NIL\r\n");
    while !client.line().starts_with("t OK ID") {}
    let mut pop3 = support::log_in(server.pop3, "u0@bench.test", "pw");
    pop3.expect("PASS hunter2", "-ERR");
    pop3.expect("RETR 1", "+OK");
    pop3.expect("QUIT", "");
    assert!(switch("off").contains("telemetry off"));
    open.ok("SUBSCRIBE afterwards");
    server.stop();
    assert!(!server.data.join("telemetry/u1@bench.test").exists());
    let files = telemetry(&server, "u0@bench.test");
    assert_eq!(files.len(), 3, "{files:#?}");
    let all: String = files.concat().join("\n");
    for secret in ["hunter2", "AGh1bnRlcjI", "hunt"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
    let [first, second, third] = &files[..] else {
        unreachable!("three of them");
    };
    let has = |lines: &[String], line: &str| lines.iter().any(|l| l == line);
    assert_eq!(first[0], "C: t SELECT INBOX");
    for line in [
        "S: * 0 EXISTS",
        "C: t LOGIN <blanked>",
        "C: t AUTHENTICATE <blanked>",
        "C: t APPEND INBOX {17+}",
        "C: Subject: seen",
        "S: t OK NOOP completed",
    ] {
        assert!(has(first, line), "{line}: {first:#?}");
    }
    assert!(!all.contains("afterwards"));
    assert!(second[0].starts_with("S: t OK [CAPABILITY "), "{second:#?}");
    assert_eq!(
        second[1..],
        ["C: t NOOP", "S: t OK NOOP completed", "C: t UNAUTHENTICATE"]
    );
    assert!(has(third, "C: PASS <blanked>") && has(third, "S: Subject: seen"));
}

#[test]
fn messages_are_put_together_of_others() {
    let mut server = server(&[]);
    let mut one = Imap::new(&server);
    // Large enough to stream to the store, as a part and as the whole.
    let line = b"0123456789abcdef0123456789abcdef\r\n";
    let attachment = line.repeat(20_000);
    let mut message = b"Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n        text\r\n--b\r\nContent-Type: application/x-data\r\n\r\n"
        .to_vec();
    message.extend_from_slice(&attachment);
    message.extend_from_slice(b"\r\n--b--\r\n");
    one.0
        .send(format!("t APPEND Sent {{{}+}}\r\n", message.len()).as_bytes());
    one.0.send(&message);
    one.0.send(b"\r\n");
    assert!(one.line().contains("[APPENDUID "));
    one.0.send(
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
    one.0.send(b"t UID FETCH 1 BODY.PEEK[]\r\n");
    assert_eq!(one.line(), format!("* 1 UIDFETCH (BODY[] {{{whole}}}"));
    for line in text.lines() {
        assert_eq!(one.line(), line);
    }
    assert_eq!(one.line(), ")");
    assert!(one.line().starts_with("t OK "));
    assert_eq!(one.say("FETCH 1 UID").len(), 1);
    one.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(one.ok("EXPUNGE"), ["* VANISHED 1"]);
    deliver(&server, "x");
    server.stop();
}

#[test]
fn sessions_have_their_bounds() {
    let mut server = server(&["--imap-sessions-max", "1"]);
    let one = Imap::new(&server);
    let said = Client::silent(server.imap).line();
    assert!(said.starts_with("* BYE [UNAVAILABLE]"), "{said}");
    drop(one);
    server.stop();
}

#[test]
fn a_shutdown_says_bye() {
    let mut server = server(&[]);
    let mut one = Imap::new(&server);
    one.ok("SELECT INBOX");
    one.0.send(b"t IDLE\r\n");
    assert_eq!(one.line(), "+ idling");
    server.stop();
    assert_eq!(one.line(), "* BYE Server is shutting down");
    assert_eq!(one.line(), "");
}

#[test]
fn ten_thousand_messages_in_one_append() {
    let mut server = server(&[]);
    let mut one = Imap::new(&server);
    append_many(&mut one, 10_000);
    let appended = one.line();
    assert!(
        appended.starts_with("t OK [APPENDUID ") && appended.contains(" 1:10000] "),
        "{appended}"
    );
    append_many(&mut one, 10_001);
    assert_eq!(one.line(), "t NO [LIMIT] at most 10000 messages at once");
    // All of them or none.
    assert!(one.ok("STATUS INBOX (MESSAGES)")[0].contains("(MESSAGES 10000)"));
    server.kill();
    server.restart();
    let mut one = Imap::new(&server);
    one.ok("SELECT INBOX");
    assert_eq!(
        one.ok("FETCH 10000 BODY.PEEK[TEXT]"),
        ["* 10000 FETCH (BODY[TEXT] {4}", "9999)"]
    );
    nothing_is_done_for_who_has_gone(&server);
    server.stop();
}

/// Small messages, each with its number.
fn append_many(imap: &mut Imap, count: usize) {
    let mut bytes = b"t APPEND INBOX".to_vec();
    for number in 0..count {
        let message = format!("Subject: x\r\n\r\n{number:04}");
        bytes.extend_from_slice(format!(" {{{}+}}\r\n{message}", message.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    imap.0.send(&bytes);
}

/// A search in thousands of messages ends soon when its client has gone.
fn nothing_is_done_for_who_has_gone(server: &Server) {
    let looks = || sum_of(server, "ringpost_command_seconds_count{", "\"imap_search\"");
    let mut one = Imap::new(server);
    one.ok("SELECT INBOX");
    let before = looks();
    // What is never read makes the end of the connection a loss of it.
    one.0.send(b"u NOOP\r\nt SEARCH TEXT nowhere\r\n");
    wait_for("a look into messages", || looks() > before);
    drop(one);
    wait_for("the end of the session", || open_sessions(server) <= 1);
    let slices = 10_000u64.div_ceil(16);
    let done = looks() - before;
    assert!(done < slices, "{done} of {slices} slices");
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is_there() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::yield_now();
    }
}

fn open_sessions(server: &Server) -> u64 {
    sum_of(server, "ringpost_connections_open{", "\"imap\"")
}

/// The samples of a metric that have a label, of all shards.
fn sum_of(server: &Server, name: &str, label: &str) -> u64 {
    let (_, text) = server.get("/metrics");
    let lines = text.lines();
    let own = lines.filter(|line| line.starts_with(name) && line.contains(label));
    own.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[test]
fn changes_are_looked_up_anew() {
    let mut server = server(&[]);
    let (mut one, mut two) = (Imap::new(&server), Imap::new(&server));
    // As many as one slice has.
    append_many(&mut one, ringpost::limits::IMAP_SLICE_MESSAGES);
    assert!(one.line().starts_with("t OK "));
    one.ok("SELECT INBOX");
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

#[test]
fn loadgen_works_against_it() {
    let mut server = server(&[]);
    let (imap, smtp) = (server.imap.to_string(), server.smtp.to_string());
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        let path = folder.path().join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let run = |words: &[&str]| {
        let mut command = support::loadgen();
        let output = command.args(words).output().expect("loadgen");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}{errors}");
        said
    };
    let (sent, appended) = (path("sent"), path("appended"));
    let users = ["--users", "4", "--connections", "4", "--quiet"];
    let words = [
        "smtp", "--target", &smtp, "--count", "100", "--ledger", &sent,
    ];
    run(&[&words[..], &users].concat());
    let mix =
        "fetch-flags:3,fetch-envelope:3,fetch-body:3,store:3,search:3,status:3,append:3,noop:3";
    let words = [
        "imap",
        "--target",
        &imap,
        "--password",
        "pw",
        "--mix",
        mix,
        "--count",
        "400",
    ];
    run(&[&words[..], &users, &["--ledger", &appended]].concat());
    let words = ["verify", "--imap", &imap, "--password", "pw"];
    run(&[&words[..], &["--ledger", &sent, "--ledger", &appended]].concat());
    server.stop();
}

/// More than a session keeps a list of, and more than is sorted or threaded at once.
#[test]
fn many_messages_change_and_are_put_in_order() {
    const COUNT: u32 = 17_000;
    let mut server = server(&[]);
    let (mut one, mut two) = (Imap::new(&server), Imap::new(&server));
    for start in (1..=COUNT).step_by(1000) {
        let mut command = b"t APPEND INBOX".to_vec();
        for number in start..start + 1000 {
            let message = format!("Subject: s{}\r\n\r\n", number % 7);
            command.extend(format!(" {{{}+}}\r\n{message}", message.len()).bytes());
        }
        one.0.send(&command);
        one.0.send(b"\r\n");
        assert!(one.line().contains("[APPENDUID "));
    }
    one.ok("SELECT INBOX");
    two.ok("SELECT INBOX");
    two.ok("STORE 1:* +FLAGS.SILENT (\\Flagged)");
    let fetch = |number: u32, flags| format!("* {number} FETCH (FLAGS ({flags}))");
    let all: Vec<String> = (1..=COUNT)
        .map(|number| fetch(number, "\\Flagged"))
        .collect();
    assert!(one.ok("NOOP") == all, "news of all of them");
    let status = one.ok("STATUS INBOX (HIGHESTMODSEQ)").remove(0);
    let modseq: u64 = status
        .split(|c: char| !c.is_ascii_digit())
        .find_map(|it| it.parse().ok())
        .expect("a number");
    let said = one.ok("FETCH 1:* (FLAGS) (CHANGEDSINCE 1)");
    assert_eq!(said.len(), COUNT as usize);
    assert!(
        said[COUNT as usize - 1]
            .starts_with(&format!("* {COUNT} FETCH (FLAGS (\\Flagged) MODSEQ ("))
    );

    // A few changes are asked for twice, with another one in between.
    let ask = format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})");
    two.ok("STORE 5:2000 FLAGS.SILENT (\\Seen)");
    assert_eq!(one.ok(&ask).len(), 1996 * 2);
    two.ok("STORE 16000 FLAGS.SILENT (\\Draft)");
    let again = one.ok(&ask);
    let draft = again.iter().filter(|line| line.contains("\\Draft"));
    assert!(draft.count() >= 1, "the change in between is told");

    let by_subject = |reverse: bool| {
        let mut uids: Vec<u32> = (1..=COUNT).collect();
        uids.sort_by_key(|uid| if reverse { 7 - uid % 7 } else { uid % 7 });
        let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
        format!("* SORT {}", uids.join(" "))
    };
    assert!(one.ok("UID SORT (SUBJECT ARRIVAL) UTF-8 ALL") == [by_subject(false)]);
    assert!(one.ok("UID SORT (REVERSE SUBJECT) UTF-8 ALL") == [by_subject(true)]);
    let threads = one.ok("UID THREAD ORDEREDSUBJECT UTF-8 UID 1:15").remove(0);
    assert_eq!(
        threads,
        "* THREAD (1 (8)(15))(2 9)(3 10)(4 11)(5 12)(6 13)(7 14)"
    );
    let threads = one.ok("THREAD REFERENCES UTF-8 ALL").remove(0);
    let numbers = threads
        .split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty());
    assert_eq!(numbers.count(), COUNT as usize);
    server.stop();
}

/// RFC 9051 §6.3.6: after a NO nothing has changed.
#[test]
fn an_inbox_that_cannot_be_renamed_leaves_nothing_behind() {
    let mut server = server(&[]);
    deliver(&server, "stays");
    let mut one = Imap::new(&server);
    let value = "x".repeat(16_000);
    // As many annotations as one account may have: those of INBOX cannot be copied.
    let own = ["INBOX", "Drafts", "Sent", "Trash", "Junk", "Archive"];
    for mailbox in own.into_iter().chain(["a", "b"]) {
        if mailbox.len() == 1 {
            one.ok(&format!("CREATE {mailbox}"));
        }
        for number in 0..15 {
            let length = value.len();
            one.ok(&format!(
                "SETMETADATA {mailbox} (/private/n{number} {{{length}+}}\r\n{value})"
            ));
        }
    }
    let before = one.ok("LIST \"\" *");
    let said = one.say("RENAME INBOX old");
    assert!(said[0].starts_with("t NO"), "{said:?}");
    assert_eq!(one.ok("LIST \"\" *"), before);
    for number in 0..15 {
        one.ok(&format!("SETMETADATA Archive (/private/n{number} NIL)"));
    }
    one.ok("RENAME INBOX old");
    assert_eq!(
        one.ok("STATUS old (MESSAGES)"),
        ["* STATUS \"old\" (MESSAGES 1)"]
    );
    server.stop();
}
