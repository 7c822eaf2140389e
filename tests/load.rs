//! The load generator and the server together, where other tests have one of them fake: BDAT on the
//! wire, and LMTP on a Unix socket.

mod support;

use std::path::Path;

use support::{Server, loadgen, verify};

/// Sends 200 messages, and reads them back.
fn send_and_verify(server: &Server, words: &[&str], folder: &Path) -> u64 {
    let ledger = tempfile::tempdir_in(folder)
        .expect("a folder")
        .keep()
        .join("ledger");
    let output = loadgen()
        .args(words)
        .args(["--connections", "4", "--users", "8", "--recipients", "2"])
        .args(["--count", "200", "--quiet", "--ledger"])
        .arg(&ledger)
        .output()
        .expect("loadgen");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    verify(server, &[ledger])
}

#[test]
fn bodies_by_bdat_arrive_whole() {
    let server = Server::start(&["--processors", "0-1"]);
    server.generate(8);
    let folder = tempfile::tempdir().expect("a folder");
    // Some stream, some do not.
    for size in ["3K", "300K"] {
        let target = server.smtp.to_string();
        let words = ["smtp", "--target", &target, "--chunking", "--size", size];
        assert_eq!(send_and_verify(&server, &words, folder.path()), 400);
    }
}

#[test]
fn lmtp_takes_mail_on_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("lmtp.sock");
    let path = socket.to_str().expect("a plain path");
    let server = Server::start(&["--processors", "0-1", "--lmtp", path]);
    server.generate(8);
    let words = ["lmtp", "--target", path, "--size", "4K"];
    assert_eq!(send_and_verify(&server, &words, folder.path()), 400);
}

/// N15: more recipients in one partition than one batch holds are several deliveries of one message;
/// where a body has streamed, which is there once, they are put off.
#[test]
fn one_message_may_have_more_recipients_than_a_batch_holds() {
    const RECIPIENTS: u32 = 20_000;
    let all = RECIPIENTS.to_string();
    let server = Server::start(&["--processors", "count:1", "--recipients-max", &all]);
    server.generate(RECIPIENTS);
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = folder.path().join("ledger");
    let send = |size: &str| {
        let target = server.smtp.to_string();
        let output = loadgen()
            .args([
                "smtp",
                "--target",
                &target,
                "--connections",
                "1",
                "--count",
                "1",
            ])
            .args([
                "--users",
                &all,
                "--recipients",
                &all,
                "--size",
                size,
                "--quiet",
            ])
            .args(["--timeout", "5m", "--ledger"])
            .arg(&ledger)
            .output()
            .expect("loadgen");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    let (good, said) = send("300K");
    assert!(!good && said.contains("452 4.5.3"), "{said}");
    std::fs::remove_file(&ledger).expect("the ledger of what was refused");
    let (good, said) = send("3K");
    assert!(good, "{said}");
    assert_eq!(verify(&server, &[ledger]), u64::from(RECIPIENTS));
}

/// What the recipients of a message that is coming in hold is bounded with everything else.
#[test]
fn recipients_count_towards_the_memory_of_a_shard() {
    let server = Server::start(&["--processors", "count:1", "--recipients-max", "5000"]);
    server.generate(1);
    let mut client = support::Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    client.expect("MAIL FROM:<>", "250");
    let before = server.metric("ringpost_memory_held_bytes");
    for _ in 0..2000 {
        client.expect("RCPT TO:<u0@bench.test>", "250");
    }
    let text = "u0@bench.test".len() as f64;
    let held = server.metric("ringpost_memory_held_bytes") - before;
    assert!(held >= 2000.0 * text, "{held}");
    client.expect("RSET", "250");
    let after = server.metric("ringpost_memory_held_bytes");
    assert!(after < before + 2000.0 * text, "{after}");
}
