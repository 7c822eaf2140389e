//! Sessions that see each other and deliveries; what outlives a kill; how sessions end.

use super::support::imap::Imap;
use super::support::{self, Client};
use super::{arrives, server};

#[test]
fn idle_tells_of_what_happens_elsewhere() {
    let mut server = server(&[]);
    let (mut one, mut two) = (Imap::login(&server, "u0"), Imap::login(&server, "u0"));
    one.ok("SELECT INBOX");
    two.ok("SELECT INBOX");
    one.idle();
    arrives(&server, "first");
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
    one.done();
    assert_eq!(two.ok("NOOP"), ["* 1 EXPUNGE"]);
    server.stop();
}

#[test]
fn sessions_end_with_their_account() {
    let server = server(&[]);
    arrives(&server, "of the old account");
    let mut idle = Imap::login(&server, "u0");
    idle.ok("SELECT INBOX");
    idle.idle();
    let mut open = Imap::login(&server, "u0");
    open.ok("SELECT INBOX");
    let closed = Imap::login(&server, "u0");
    let mut begun = Imap::login(&server, "u0");
    begun.send(b"t APPEND INBOX {100+}\r\nhalf of");
    let mut pop3 = support::log_in(server.pop3, "u0@bench.test", "pw");
    pop3.expect("DELE 1", "+OK");
    let mut reader = Client::new(server.pop3);
    server.run(&["account", "remove", "u0@bench.test"]);
    server.run(&["account", "add", "u0@bench.test", "--password", "new"]);
    arrives(&server, "of the new account");
    arrives(&server, "of the new account, too");

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
    let mut one = Imap::login(&server, "u0");
    one.ok("CREATE a/b");
    one.ok("SUBSCRIBE a/b");
    one.send(b"t APPEND a/b (\\Seen k) {10+}\r\nSubject: x {3+}\r\ntwo\r\n");
    assert!(one.line().contains("[APPENDUID "));
    one.ok("SELECT a/b (CONDSTORE)");
    one.ok("STORE 2 FLAGS (\\Draft)");
    one.ok("COPY 1:2 Archive");
    one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    one.ok("EXPUNGE");
    one.ok("RENAME a c/d");
    let before = one.ok("STATUS c/d/b (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ MAILBOXID)");
    server.kill();
    server.restart();
    let mut one = Imap::login(&server, "u0");
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
fn sessions_have_their_bounds() {
    let mut server = server(&["--imap-sessions-max", "1"]);
    let one = Imap::login(&server, "u0");
    let said = Client::silent(server.imap).line();
    assert!(said.starts_with("* BYE [UNAVAILABLE]"), "{said}");
    drop(one);
    server.stop();
}

/// Sessions count from their admission on: a shard that has more than its share passes new connections on,
/// and those of a burst are on their way when the next is admitted.
#[test]
fn no_burst_gets_past_the_bound() {
    let flags = ["--imap-sessions-max", "40", "--processors", "0-1"];
    let mut server = server(&flags);
    let known: Vec<_> = (0..30).map(|_| Imap::login(&server, "u0")).collect();
    support::signal(server.pid(), "STOP");
    let burst: Vec<_> = (0..200)
        .map(|_| std::net::TcpStream::connect(server.imap).expect("a connection"))
        .collect();
    support::signal(server.pid(), "CONT");
    let greeted = burst.iter().filter(|stream| {
        let mut line = String::new();
        let mut reader = std::io::BufReader::new(*stream);
        std::io::BufRead::read_line(&mut reader, &mut line).expect("a line");
        line.starts_with("* OK")
    });
    assert_eq!(greeted.count(), 10);
    drop(known);
    server.stop();
}

#[test]
fn a_shutdown_says_bye() {
    let mut server = server(&[]);
    let mut one = Imap::login(&server, "u0");
    one.ok("SELECT INBOX");
    one.idle();
    server.stop();
    assert_eq!(one.line(), "* BYE Server is shutting down");
    assert_eq!(one.line(), "");
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

/// RFC 9051 §6.3.6: after a NO nothing has changed.
#[test]
fn an_inbox_that_cannot_be_renamed_leaves_nothing_behind() {
    let mut server = server(&[]);
    arrives(&server, "stays");
    let mut one = Imap::login(&server, "u0");
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
