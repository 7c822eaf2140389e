//! Stores that earlier versions have written, kept as they were: every later one reads them.
//!
//! `tests/fixtures/store-format-N.tar.gz` was written by the first version of format N. To make one
//! for a new format: `RINGPOST_FIXTURE=tests/fixtures/store-format-N.tar.gz cargo test --test upgrade`.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Client, Server, log_in, mailbox, send_message};

const FLAGS: [&str; 6] = [
    "--processors",
    "0",
    "--partitions",
    "1",
    "--cleanup-age",
    "0s",
];

/// What the fixture's ann has, the first of three having been deleted and reclaimed.
const ANN: [&str; 2] = [
    "Subject: two\r\n\r\n.dot\r\n",
    "Subject: three\r\n\r\nc\r\n",
];

/// What bob has, and a body that came in pieces.
fn bob() -> [String; 2] {
    let large = "a line of a body that streams\r\n".repeat(20_000);
    [ANN[1].to_owned(), format!("Subject: large\r\n\r\n{large}")]
}

fn fixture(format: u32) -> PathBuf {
    let name = format!("tests/fixtures/store-format-{format}.tar.gz");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn tar(words: &[&str], folder: &Path) {
    let status = Command::new("tar").args(words).current_dir(folder).status();
    assert!(status.expect("tar").success());
}

fn deliver(server: &Server, to: &[&str], message: &str) {
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    let message = message.strip_suffix("\r\n").expect("it ends a line");
    let replies = send_message(&mut client, to, message, false);
    assert!(replies[0].starts_with("250"), "{replies:?}");
}

/// Writes a store with something of everything, and packs it.
fn make(target: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start_on(&folder.path().join("data"), &FLAGS);
    server.run(&["domain", "add", "old.test"]);
    for user in ["ann@old.test", "bob@old.test", "gone@old.test"] {
        server.run(&["account", "add", user, "--password", "pw"]);
    }
    server.run(&[
        "alias",
        "add",
        "both@old.test",
        "ann@old.test",
        "bob@old.test",
    ]);
    deliver(&server, &["ann@old.test"], "Subject: one\r\n\r\na\r\n");
    deliver(&server, &["ann@old.test"], ANN[0]);
    deliver(&server, &["both@old.test"], ANN[1]);
    // A new segment, so that the old one can be reclaimed and an index is written.
    assert!(server.stop().success());
    server.restart();
    let mut pop3 = log_in(server.pop3, "ann@old.test", "pw");
    pop3.expect("DELE 1", "+OK");
    pop3.expect("QUIT", "+OK");
    server.run(&["expire", "--now"]);
    deliver(&server, &["bob@old.test"], &bob()[1]);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<gone@old.test>", "250");
    client.expect("RCPT TO:<postmaster>", "250");
    client.expect("DATA", "354");
    server.run(&["account", "remove", "gone@old.test"]);
    client.send(b"Subject: waits\r\n\r\nx\r\n.\r\n");
    assert!(client.reply().starts_with("250"));
    // As a crash leaves it: more is read on the way back.
    server.kill();
    let target = std::env::current_dir().expect("a folder").join(target);
    let target = target.to_str().expect("UTF-8");
    tar(
        &["-czf", target, "--exclude=control", "data"],
        folder.path(),
    );
}

#[test]
fn every_format_so_far_is_read() {
    if let Some(target) = std::env::var_os("RINGPOST_FIXTURE") {
        make(Path::new(&target));
    }
    for format in 1..=ringpost::store::layout::FORMAT {
        let folder = tempfile::tempdir().expect("a folder");
        let packed = fixture(format);
        tar(&["-xzf", packed.to_str().expect("UTF-8")], folder.path());
        let mut server = Server::start_on(&folder.path().join("data"), &[]);
        for _ in 0..2 {
            assert_eq!(mailbox(server.pop3, "ann@old.test", "pw"), ANN);
            assert!(mailbox(server.pop3, "bob@old.test", "pw") == bob());
            assert_eq!(server.metric("ringpost_store_damage_total"), 0.0);
            assert_eq!(server.metric("ringpost_queue_entries"), 1.0);
            assert!(server.run(&["alias", "list"]).contains("both@old.test"));
            assert!(server.stop().success());
            server.restart();
        }
        deliver(&server, &["both@old.test"], "Subject: new\r\n\r\nx\r\n");
        assert_eq!(mailbox(server.pop3, "ann@old.test", "pw").len(), 3);
        assert_eq!(mailbox(server.pop3, "bob@old.test", "pw").len(), 3);
    }
}
