//! Per-user protocol telemetry [N35].

use super::server;
use super::support::imap::Imap;
use super::support::{self, Client, Server};

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
    let mut open = Imap::login(&server, "u0");
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
    open.send(b"t LOG");
    open.send(b"IN {2+}\r\nu0 {7+}\r\nhunt");
    open.send(b"er2\r\nt AUTHENTICATE PLAIN\r\nAGh1bnRlcjI=\r\nt NOOP\r\n");
    for _ in 0..4 {
        open.line();
    }
    open.send(b"t APPEND INBOX {17+}\r\nSubject: seen\r\n\r\n\r\n");
    while !open.line().starts_with("t OK") {}
    // A new one, with its login; another user on the same connection is not this user.
    let mut client = Client::silent(server.imap);
    client.line();
    client.send(b"t LOGIN u0@bench.test hunter2\r\n");
    assert!(client.line().starts_with("t NO"));
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
    drop(open);
    // Who has left is not recorded, whatever the operator switches.
    let mut left = Imap::login(&server, "u0");
    left.ok("UNAUTHENTICATE");
    switch("on");
    left.ok("ID NIL");
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
    assert!(second[0].starts_with("S: * OK [CAPABILITY "), "{second:#?}");
    let refused = "S: t NO [AUTHENTICATIONFAILED] wrong name or password";
    assert_eq!(
        second[1..4],
        ["C: t LOGIN <blanked>", refused, "C: t LOGIN <blanked>"]
    );
    assert!(second[4].starts_with("S: t OK [CAPABILITY "), "{second:#?}");
    assert_eq!(
        second[5..],
        ["C: t NOOP", "S: t OK NOOP completed", "C: t UNAUTHENTICATE"]
    );
    assert!(third[0].starts_with("S: +OK ") && has(third, "C: USER u0@bench.test"));
    assert!(has(third, "C: PASS <blanked>") && has(third, "S: Subject: seen"));
}
