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
