//! Clients that nobody here wrote: Python's smtplib and poplib, swaks, curl, fetchmail, mpop.
//!
//! Each test names what it drives. What is absent is skipped and listed by name at the end; with
//! `RINGPOST_SKIP=never`, as `tests/run` sets it after installing everything, a skipped test fails
//! the run.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::runner::{Test, run_all};
use support::{Server, mailbox};

const TESTS: &[Test] = &[
    Test::driving("python_smtplib_and_poplib", &["python3"], python),
    Test::driving(
        "python_reads_back_every_message_byte_for_byte",
        &["python3"],
        corpus,
    ),
    Test::driving("swaks_by_smtp_and_lmtp", &["swaks"], swaks),
    Test::driving("curl_sends_and_reads", &["curl"], curl),
    Test::driving("fetchmail_fetches_and_removes", &["fetchmail"], fetchmail),
    Test::driving("mpop_fetches_with_pipelining", &["mpop"], mpop),
];

fn main() -> std::process::ExitCode {
    run_all("clients", TESTS)
}

/// Runs a client; it must end well. Returns what it printed.
fn run(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the client starts");
    let (out, err) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{command:?}: {status}\n{out}\n{err}");
    out.into_owned()
}

/// A server with u0 to u3 of bench.test, all with the password `pw`.
fn server() -> Server {
    let server = Server::start(&[]);
    server.generate(4);
    server
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

fn python() {
    let server = server();
    run(Command::new("python3")
        .arg(script("session.py"))
        .arg(server.smtp.port().to_string())
        .arg(server.lmtp.port().to_string())
        .arg(server.pop3.port().to_string()));
}

fn corpus() {
    let server = server();
    // The project's own messages; the folder of a mail collection can be added.
    let mut command = Command::new("python3");
    command
        .arg(script("corpus.py"))
        .arg(server.smtp.port().to_string())
        .arg(server.pop3.port().to_string())
        .arg(script("messages"));
    if let Some(folder) = std::env::var_os("RINGPOST_CORPUS") {
        command.arg(folder);
    }
    println!("{}", run(&mut command).trim());
}

fn swaks() {
    let server = server();
    for (protocol, address) in [("ESMTP", server.smtp), ("LMTP", server.lmtp)] {
        run(Command::new("swaks")
            .args(["--protocol", protocol, "--server", "127.0.0.1"])
            .args(["--port", &address.port().to_string()])
            .args([
                "--from",
                "a@example.org",
                "--to",
                "u0@bench.test,u1@bench.test",
            ])
            .args(["--pipeline", "--body", "swaks was here\n.a dot\n"]));
    }
    for user in ["u0@bench.test", "u1@bench.test"] {
        let messages = mailbox(server.pop3, user, "pw");
        assert_eq!(messages.len(), 2);
        assert!(
            messages[0].contains("swaks was here\r\n.a dot\r\n"),
            "{messages:?}"
        );
    }
}

fn curl() {
    let server = server();
    let folder = tempfile::tempdir().expect("a folder");
    let message = folder.path().join("message");
    std::fs::write(&message, "Subject: curl\r\n\r\n.dot\r\nlast line\r\n").expect("written");
    run(Command::new("curl")
        .args(["-sS", &format!("smtp://{}", server.smtp)])
        .args([
            "--mail-from",
            "a@example.org",
            "--mail-rcpt",
            "u2@bench.test",
            "-T",
        ])
        .arg(&message));
    let read = |path: &str| {
        let url = format!("pop3://{}/{path}", server.pop3);
        run(Command::new("curl").args(["-sS", "--user", "u2@bench.test:pw", &url]))
    };
    assert!(read("").starts_with("1 "));
    assert!(read("1").ends_with("Subject: curl\r\n\r\n.dot\r\nlast line\r\n"));
    let plain = format!("pop3://{}/1", server.pop3);
    let said = run(Command::new("curl").args([
        "-sS",
        "--login-options",
        "AUTH=PLAIN",
        "--user",
        "u2@bench.test:pw",
        &plain,
    ]));
    assert!(said.contains("Subject: curl"));
    assert!(
        run(Command::new("curl").args(["-sS", &format!("http://{}/health", server.http)]))
            .starts_with("ok")
    );
}

/// Three messages to u3.
fn three(server: &Server) {
    let mut client = support::Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    for number in 0..3 {
        let body = format!(
            "Subject: {number}\r\n\r\n{}",
            "line\r\n.\r\n".repeat(number * 500)
        );
        support::send_message(&mut client, &["u3@bench.test"], &body, false);
    }
}

fn fetchmail() {
    let server = server();
    three(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let (rc, mbox) = (folder.path().join("rc"), folder.path().join("mbox"));
    let text = format!(
        "poll 127.0.0.1 protocol pop3 port {} username \"u3@bench.test\" password \"pw\" \
         mda \"cat >> {}\" sslproto '' fetchall\n",
        server.pop3.port(),
        mbox.display()
    );
    std::fs::write(&rc, text).expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&rc, private).expect("private");
    run(Command::new("fetchmail")
        .env("FETCHMAILHOME", folder.path())
        .args(["--nosyslog", "-f"])
        .arg(&rc));
    let fetched = std::fs::read_to_string(&mbox).expect("mail");
    assert_eq!(fetched.matches("Subject: ").count(), 3, "{fetched}");
    assert!(mailbox(server.pop3, "u3@bench.test", "pw").is_empty());
}

fn mpop() {
    let server = server();
    three(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let mbox = folder.path().join("mbox");
    std::fs::write(&mbox, "").expect("written");
    run(Command::new("mpop")
        .env("HOME", folder.path())
        .args([
            "--host=127.0.0.1",
            &format!("--port={}", server.pop3.port()),
        ])
        .args([
            "--user=u3@bench.test",
            "--passwordeval=echo pw",
            "--auth=user",
            "--tls=off",
        ])
        .args(["--pipelining=on", "--keep=off", "--received-header=off"])
        .arg(format!(
            "--uidls-file={}",
            folder.path().join("uidls").display()
        ))
        .arg(format!("--delivery=mbox,{}", mbox.display())));
    let fetched = std::fs::read_to_string(&mbox).expect("mail");
    assert_eq!(fetched.matches("Subject: ").count(), 3, "{fetched}");
    assert!(mailbox(server.pop3, "u3@bench.test", "pw").is_empty());
}
