//! Clients that nobody here wrote: Python's smtplib, poplib and imaplib, IMAPClient, imapflow, swaks,
//! curl, fetchmail, mpop, mutt, mbsync, offlineimap, and Postfix, which keeps what it cannot deliver
//! and tries again.
//!
//! Each test names what it drives. What is absent is skipped and listed by name at the end; with
//! `RINGPOST_SKIP=never`, as `tests/run` sets it after installing everything, a skipped test fails
//! the run.

mod support;
#[path = "clients/sync.rs"]
mod sync;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::runner::{Test, installed, run_all};
use support::{Client, Server, free_address, mailbox, send_message};

/// How long another program may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where `tests/run` puts what is no Debian package, below [`installed`].
const IMAPCLIENT: &[&str] = &["python3", "python/imapclient"];
const IMAPFLOW: &[&str] = &["node", "node/node_modules/imapflow"];

const TESTS: &[Test] = &[
    Test::driving("python_smtplib_and_poplib", &["python3"], python),
    Test::driving(
        "python_reads_back_every_message_byte_for_byte",
        &["python3"],
        corpus,
    ),
    Test::driving("python_imaplib", &["python3"], imaplib),
    Test::driving("imapclient", IMAPCLIENT, imapclient),
    Test::driving("imapflow", IMAPFLOW, imapflow),
    Test::driving("python_zlib_by_compress", &["python3"], compress),
    Test::driving("swaks_by_smtp_and_lmtp", &["swaks"], swaks),
    Test::driving("curl_sends_and_reads", &["curl"], curl),
    Test::driving("curl_by_imap", &["curl"], curl_by_imap),
    Test::driving("fetchmail_fetches_and_removes", &["fetchmail"], fetchmail),
    Test::driving(
        "fetchmail_fetches_and_removes_by_imap",
        &["fetchmail"],
        fetchmail_by_imap,
    ),
    Test::driving("mpop_fetches_with_pipelining", &["mpop"], mpop),
    Test::driving("mutt_reads_and_deletes", &["mutt", "tmux"], mutt),
    Test::driving("mutt_by_imap", &["mutt", "tmux"], mutt_by_imap),
    Test::driving("mbsync_both_ways", &["mbsync"], sync::mbsync),
    Test::driving("offlineimap_both_ways", &["offlineimap"], sync::offlineimap),
    Test::driving(
        "postfix_delivers_by_lmtp_through_kills",
        &["postfix", "python3"],
        postfix_by_lmtp,
    )
    .unless(not_root),
    Test::driving(
        "postfix_delivers_by_smtp_through_kills",
        &["postfix", "python3"],
        postfix_by_smtp,
    )
    .unless(not_root),
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

fn imaplib() {
    let server = server();
    let output = run(Command::new("python3")
        .arg(script("imap.py"))
        .arg(server.smtp.port().to_string())
        .arg(server.imap.port().to_string())
        .arg(script("messages")));
    assert!(output.contains("all well"), "{output}");
}

fn imapclient() {
    let server = server();
    let output = run(Command::new("python3")
        .arg(script("imap_client.py"))
        .arg(server.smtp.port().to_string())
        .arg(server.imap.port().to_string())
        .arg(script("messages"))
        .env("PYTHONPATH", installed("python")));
    assert!(output.contains("all well"), "{output}");
}

fn imapflow() {
    let server = server();
    let output = run(Command::new("node")
        .arg(script("imapflow.cjs"))
        .arg(server.smtp.port().to_string())
        .arg(server.imap.port().to_string())
        .arg(script("messages"))
        .env("NODE_PATH", installed("node/node_modules")));
    assert!(output.contains("all well"), "{output}");
}

fn compress() {
    let server = server();
    let output = run(Command::new("python3")
        .arg(script("compress.py"))
        .arg(server.smtp.port().to_string())
        .arg(server.imap.port().to_string()));
    assert!(output.contains("all well"), "{output}");
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

fn curl_by_imap() {
    let server = server();
    let folder = tempfile::tempdir().expect("a folder");
    let message = folder.path().join("message");
    let text = format!("Subject: curl\r\n\r\n{}last\r\n", ".dot\r\n".repeat(20_000));
    std::fs::write(&message, &text).expect("written");
    let curl = |path: &str, more: &[&str]| {
        let url = format!("imap://{}/{path}", server.imap);
        let mut command = Command::new("curl");
        command.args(["-sS", "--user", "u2@bench.test:pw", &url]);
        run(command.args(more))
    };
    let file = message.to_str().expect("a path in UTF-8");
    curl("Drafts", &["-T", file]);
    assert!(curl("", &[]).contains("* LIST (\\HasNoChildren \\Drafts) \"/\" \"Drafts\"\r\n"));
    assert_eq!(curl("Drafts;MAILINDEX=1", &[]), text);
    assert_eq!(
        curl("Drafts;UID=1;SECTION=HEADER", &[]),
        "Subject: curl\r\n\r\n"
    );
    assert_eq!(curl("Drafts?SUBJECT%20curl", &[]), "* SEARCH 1\r\n");
    let plain = [
        "--login-options",
        "AUTH=PLAIN",
        "--request",
        "STATUS Drafts (MESSAGES SIZE)",
    ];
    let status = format!("* STATUS \"Drafts\" (MESSAGES 1 SIZE {})\r\n", text.len());
    assert_eq!(curl("", &plain), status);
    curl("Drafts", &["--request", "STORE 1 +FLAGS (\\Deleted)"]);
    curl("Drafts", &["--request", "EXPUNGE"]);
    assert_eq!(curl("Drafts", &["--request", "SEARCH ALL"]), "* SEARCH\r\n");
}

/// A terminal of its own for a program that wants one.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn start(folder: &Path, command: &str) -> Terminal {
        let terminal = Terminal {
            socket: folder.join("tmux"),
        };
        let size = ["new-session", "-d", "-x", "100", "-y", "30", command];
        assert!(terminal.tmux(&size).status.success());
        terminal
    }

    fn tmux(&self, words: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.args(["-f", "/dev/null", "-S"]).arg(&self.socket);
        command.args(words).output().expect("tmux")
    }

    fn screen(&self) -> String {
        let seen = self.tmux(&["capture-pane", "-p"]).stdout;
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Waits until the screen shows this.
    fn expect(&self, text: &str) {
        let started = Instant::now();
        while !self.screen().contains(text) {
            let screen = self.screen();
            assert!(started.elapsed() < PATIENCE, "no {text:?} on:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&self, keys: &[&str]) {
        let words = [&["send-keys"], keys].concat();
        assert!(self.tmux(&words).status.success(), "{keys:?}");
    }

    /// Waits until the program has ended, and its terminal with it.
    fn expect_end(&self) {
        let started = Instant::now();
        while self.tmux(&["has-session"]).status.success() {
            let screen = self.screen();
            assert!(started.elapsed() < PATIENCE, "it does not end:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Gone already when all went well.
        let _ = self.tmux(&["kill-server"]);
    }
}

fn mutt() {
    let server = server();
    three(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let rc = folder.path().join("rc");
    let text = format!(
        "set folder={1}\nset spoolfile=pop://u3%40bench.test@{0}/\nset pop_pass=pw\nset pop_delete=yes\nset ssl_starttls=no\nset ssl_force_tls=no\nset delete=yes\n\
         set quit=yes\nset header_cache=\nset mail_check=60\n",
        server.pop3,
        folder.path().display()
    );
    std::fs::write(&rc, text).expect("written");
    let home = folder.path().display();
    let command = format!("HOME={home} TERM=screen LC_ALL=C mutt -n -F {home}/rc");
    let mutt = Terminal::start(folder.path(), &command);
    // The second is opened and read to its end; the first is marked, and deleted at the end.
    mutt.expect("Msgs:3");
    mutt.press(&["2", "Enter", "Enter"]);
    mutt.expect("2/3");
    mutt.press(&["End"]);
    mutt.expect("(end)");
    mutt.press(&["q"]);
    mutt.expect("Msgs:3 New:2");
    mutt.press(&["1", "Enter", "d"]);
    mutt.expect("Del:1");
    mutt.press(&["q"]);
    mutt.expect_end();
    let left = mailbox(server.pop3, "u3@bench.test", "pw");
    assert_eq!(left.len(), 2);
    assert!(left[0].starts_with("Subject: 1\r\n"), "{}", left[0]);
}

fn mutt_by_imap() {
    let server = server();
    three(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "set folder=imap://u3%40bench.test@{0}/\nset spoolfile=+INBOX\nset imap_pass=pw\n\
         set ssl_starttls=no\nset ssl_force_tls=no\nset delete=yes\nset quit=yes\n\
         set header_cache={1}/cache\nset mail_check=60\nset record=+Sent\nset confirmappend=no\n\
         set imap_idle=yes\n",
        server.imap,
        folder.path().display()
    );
    std::fs::write(folder.path().join("rc"), text).expect("written");
    let home = folder.path().display();
    let command = format!("HOME={home} TERM=screen LC_ALL=C mutt -n -F {home}/rc");
    let mutt = Terminal::start(folder.path(), &command);
    mutt.expect("Msgs:3");
    mutt.press(&["2", "Enter", "Enter"]);
    mutt.expect("2/3");
    mutt.press(&["End"]);
    mutt.expect("(end)");
    mutt.press(&["q"]);
    mutt.expect("Msgs:3 New:2");
    // The third is put into Sent, which deletes it here; the first is deleted.
    mutt.press(&["3", "Enter", "s", "C-u", "=Sent", "Enter"]);
    mutt.expect("Del:1");
    mutt.press(&["1", "Enter", "d"]);
    mutt.expect("Del:2");
    mutt.press(&["q"]);
    mutt.expect_end();
    let left = mailbox(server.pop3, "u3@bench.test", "pw");
    assert_eq!(left.len(), 1);
    assert!(left[0].starts_with("Subject: 1\r\n"), "{}", left[0]);
    // Opened again, from the header cache, in the other mailbox.
    let again = Terminal::start(folder.path(), &format!("{command} -f =Sent"));
    again.expect("Msgs:1");
    again.press(&["q"]);
    again.expect_end();
}

fn not_root() -> Option<String> {
    (!rustix::process::getuid().is_root()).then(|| "Postfix is started by root only".to_owned())
}

/// Debian's Postfix in a folder of its own, stopped when dropped.
struct Postfix {
    folder: tempfile::TempDir,
    smtp: SocketAddr,
}

impl Postfix {
    fn start(words: &[&str]) -> Postfix {
        let postfix = Postfix {
            folder: tempfile::tempdir().expect("a folder"),
            smtp: free_address(),
        };
        let port = postfix.smtp.port().to_string();
        let words = [&["--smtp", &port], words].concat();
        run(postfix.command("start").args(words));
        postfix
    }

    fn command(&self, verb: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/peers/postfix");
        let mut command = Command::new("python3");
        command.arg(script).arg(verb).arg(self.folder.path());
        command
    }

    fn waiting(&self) -> usize {
        let said = run(&mut self.command("queue"));
        said.trim().parse().expect("a number")
    }

    /// Tries again at once what could not be delivered.
    fn flush(&self) {
        run(Command::new("postqueue")
            .arg("-c")
            .arg(self.folder.path().join("etc"))
            .arg("-f"));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("postfix.log")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // Where it did not start, there is nothing to stop.
        let _ = self.command("stop").output();
        if std::thread::panicking() {
            eprintln!("Postfix's log:\n{}", self.log());
        }
    }
}

fn postfix_by_lmtp() {
    let hop = free_address();
    let hop_flag = hop.to_string();
    postfix_through_kills(
        &["--lmtp", &hop_flag],
        &["--transport", &format!("lmtp:inet:{hop}")],
    );
}

fn postfix_by_smtp() {
    let hop = free_address();
    let hop_flag = hop.to_string();
    postfix_through_kills(
        &["--smtp", &hop_flag],
        &[
            "--transport",
            &format!("smtp:[{}]:{}", hop.ip(), hop.port()),
        ],
    );
}

/// Postfix is given mail and passes it on, while the server is killed again and again.
fn postfix_through_kills(flags: &[&str], words: &[&str]) {
    const MESSAGES: usize = 240;
    const KILLS: usize = 4;
    let mut server = Server::start(flags);
    server.generate(4);
    let postfix = Postfix::start(words);
    // Each to two accounts, which may be in two partitions.
    let users: Vec<String> = (0..4).map(|n| format!("u{n}@bench.test")).collect();
    let to = |number: usize| [&*users[number % 4], &*users[(number + 1) % 4]];
    let mut client = Client::new(postfix.smtp);
    client.expect("EHLO client.example", "250");
    for number in 0..MESSAGES {
        let body = format!("Subject: message {number:04}\r\n\r\n.dot");
        let replies = send_message(&mut client, &to(number), &body, false);
        assert!(replies[0].starts_with("250"), "{replies:?}");
        if number % (MESSAGES / KILLS) == MESSAGES / KILLS / 2 {
            server.kill();
        } else if number % (MESSAGES / KILLS) == MESSAGES / KILLS / 2 + 10 {
            server.restart();
            postfix.flush();
        }
    }
    let started = Instant::now();
    while postfix.waiting() > 0 {
        assert!(started.elapsed() < PATIENCE, "{} wait", postfix.waiting());
        postfix.flush();
        std::thread::sleep(Duration::from_millis(300));
    }
    let mut doubled = 0;
    for (index, user) in users.iter().enumerate() {
        let found = mailbox(server.pop3, user, "pw");
        for number in (0..MESSAGES).filter(|n| n % 4 == index || (n + 1) % 4 == index) {
            // Postfix adds fields that are missing.
            let subject = format!("\r\nSubject: message {number:04}\r\n");
            let is_it =
                |text: &&String| text.contains(&subject) && text.ends_with("\r\n\r\n.dot\r\n");
            let copies = found.iter().filter(is_it).count();
            assert!(copies >= 1, "message {number} to {user} is lost");
            doubled += copies - 1;
        }
        let expected = MESSAGES / 2;
        assert!(found.len() >= expected, "{user}");
    }
    // RFC 1047: who loses the connection before the reply has to send again.
    let log = postfix.log();
    let unsure = log.matches("may be sent more than once").count();
    assert!(
        doubled <= unsure,
        "{doubled} copies too many, {unsure} unsure"
    );
    assert!(log.contains("status=deferred"), "no kill hit anything");
    println!(
        "{MESSAGES} messages, {KILLS} kills: {doubled} copies more, {unsure} deliveries unsure"
    );
}

/// Three messages to u3.
fn three(server: &Server) {
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    for number in 0..3 {
        let body = format!(
            "Subject: {number}\r\n\r\n{}",
            "line\r\n.\r\n".repeat(number * 500)
        );
        send_message(&mut client, &["u3@bench.test"], &body, false);
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

fn fetchmail_by_imap() {
    let server = server();
    three(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let (rc, mbox) = (folder.path().join("rc"), folder.path().join("mbox"));
    let text = format!(
        "poll 127.0.0.1 protocol imap port {} username \"u3@bench.test\" password \"pw\" \
         mda \"cat >> {}\" sslproto '' fetchall\n",
        server.imap.port(),
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
