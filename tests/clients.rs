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
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::imap::Imap;
use support::runner::{Test, installed, run_all};
use support::{Client, Server, deliver, free_address, mailbox, send_message};

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

/// A client that waits for something to come, ended when dropped.
struct Waiting(Child);

impl Waiting {
    fn start(command: &mut Command) -> Waiting {
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        Waiting(command.spawn().expect("the client starts"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it does not {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
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

/// Runs a script with the ports of SMTP and IMAP and a folder of messages; it must say that all is
/// well. `place`: where its package is, and which variable says so.
fn all_well(program: &str, name: &str, place: Option<(&str, PathBuf)>) {
    let server = server();
    let mut command = Command::new(program);
    command
        .arg(script(name))
        .arg(server.smtp.port().to_string())
        .arg(server.imap.port().to_string())
        .arg(script("messages"))
        .envs(place);
    let output = run(&mut command);
    assert!(output.contains("all well"), "{output}");
}

fn imaplib() {
    all_well("python3", "imap.py", None);
}

fn imapclient() {
    let place = ("PYTHONPATH", installed("python"));
    all_well("python3", "imap_client.py", Some(place));
}

fn imapflow() {
    let place = ("NODE_PATH", installed("node/node_modules"));
    all_well("node", "imapflow.cjs", Some(place));
}

fn compress() {
    all_well("python3", "compress.py", None);
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
    let request = |text: &str| curl("Drafts", &["--request", text]);
    request("STORE 1 +FLAGS (\\Flagged \\Seen)");
    let flags = "* 1 FETCH (FLAGS (\\Flagged \\Seen))\r\n";
    assert_eq!(request("FETCH 1 FLAGS"), flags);
    curl("Drafts", &["-T", file]);
    request("COPY 2 Archive");
    request("UID MOVE 2 Archive");
    let status = ["--request", "STATUS Archive (MESSAGES)"];
    assert_eq!(curl("", &status), "* STATUS \"Archive\" (MESSAGES 2)\r\n");
    assert_eq!(curl("Archive;UID=2", &[]), text);
    request("STORE 1 +FLAGS (\\Deleted)");
    request("EXPUNGE");
    assert_eq!(request("SEARCH ALL"), "* SEARCH\r\n");
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
         set imap_idle=yes\nset timeout=1\n",
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
    // It lists the mailboxes.
    mutt.press(&["c", "?"]);
    mutt.expect("Archive");
    mutt.expect("Trash");
    mutt.press(&["q"]);
    mutt.expect("Msgs:3 New:2");
    // The server looks into bodies.
    mutt.press(&["l", "=b line", "Enter"]);
    mutt.expect("Msgs:2/3");
    mutt.press(&["l", "all", "Enter"]);
    mutt.expect("Msgs:3 New:2");
    mutt.press(&["2", "Enter", "F"]);
    mutt.expect("Flag:1");
    // In IDLE it is told of what comes.
    deliver(&server, "u3", "fresh");
    mutt.expect("Msgs:4");
    // The third is put into Sent, which deletes it here; the first is deleted.
    mutt.press(&["3", "Enter", "s", "C-u", "=Sent", "Enter"]);
    mutt.expect("Del:1");
    mutt.press(&["1", "Enter", "d"]);
    mutt.expect("Del:2");
    mutt.press(&["q"]);
    mutt.expect_end();
    let left = mailbox(server.pop3, "u3@bench.test", "pw");
    assert_eq!(left.len(), 2);
    assert!(left[0].starts_with("Subject: 1\r\n"), "{}", left[0]);
    let mut imap = Imap::login(&server, "u3");
    imap.ok("EXAMINE INBOX");
    assert_eq!(
        imap.ok("FETCH 1 FLAGS"),
        ["* 1 FETCH (FLAGS (\\Flagged \\Seen))"]
    );
    mutt_uploads(folder.path(), &command, &mut imap);
    // Opened again, from the header cache, in the other mailbox.
    let again = Terminal::start(folder.path(), &format!("{command} -f =Sent"));
    again.expect("Msgs:1");
    again.press(&["q"]);
    again.expect_end();
}

/// What it copies from a Maildir to the server comes back as it was, but for line ends, which are LF in a
/// Maildir.
fn mutt_uploads(home: &Path, command: &str, imap: &mut Imap) {
    let maildir = home.join("local");
    for name in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(name)).expect("a folder");
    }
    let texts: Vec<String> = (0..3)
        .map(|number| {
            let lines = format!("line {number}\n.\n\tFrom here\n").repeat(number * 400);
            format!(
                "Subject: upload {number}\nFrom: a@example.org\nX-Long: {}\n\n{lines}end\n",
                "x".repeat(500)
            )
        })
        .collect();
    for (number, text) in texts.iter().enumerate() {
        let name = format!("170000000{number}.n{number}.client");
        std::fs::write(maildir.join("new").join(name), text).expect("written");
    }
    let mutt = Terminal::start(home, &format!("{command} -f {}", maildir.display()));
    mutt.expect("Msgs:3");
    mutt.press(&["T", ".", "Enter", "\\;", "C", "C-u", "=Archive", "Enter"]);
    let copied = ["* STATUS \"Archive\" (MESSAGES 3)"];
    wait_for("copy", || imap.ok("STATUS Archive (MESSAGES)") == copied);
    mutt.press(&["q"]);
    mutt.expect_end();
    imap.ok("EXAMINE Archive");
    for (number, text) in texts.iter().enumerate() {
        let text = text.replace('\n', "\r\n");
        let found = imap.responses(&format!("FETCH {} BODY.PEEK[]", number + 1));
        let found = String::from_utf8(found.concat()).expect("text");
        let (_, found) = found.split_once("\r\n").expect("a literal");
        // mutt says how long it is in a field of its own.
        let lines = found.split_inclusive('\n');
        let lines = lines.filter(|line| !line.starts_with("Content-Length: "));
        assert_eq!(lines.collect::<String>(), format!("{text})\r\n"));
    }
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

/// A fetchmail that puts what it gets from u3 into an mbox.
struct Fetchmail {
    folder: tempfile::TempDir,
    mbox: PathBuf,
}

impl Fetchmail {
    fn new() -> Fetchmail {
        let folder = tempfile::tempdir().expect("a folder");
        let mbox = folder.path().join("mbox");
        Fetchmail { folder, mbox }
    }

    fn command(&self, protocol: &str, address: SocketAddr, options: &str) -> Command {
        let rc = self.folder.path().join("rc");
        let text = format!(
            "poll 127.0.0.1 protocol {protocol} port {} username \"u3@bench.test\" password \"pw\" \
             mda \"cat >> {}\" sslproto '' {options}\n",
            address.port(),
            self.mbox.display()
        );
        std::fs::write(&rc, text).expect("written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&rc, private).expect("private");
        let mut command = Command::new("fetchmail");
        command.env("FETCHMAILHOME", self.folder.path());
        command.args(["--nosyslog", "-f"]).arg(&rc);
        command
    }

    /// Messages that it has fetched so far.
    fn fetched(&self) -> usize {
        let fetched = std::fs::read_to_string(&self.mbox).unwrap_or_default();
        fetched.matches("Subject: ").count()
    }
}

fn fetchmail() {
    let server = server();
    three(&server);
    let fetchmail = Fetchmail::new();
    run(&mut fetchmail.command("pop3", server.pop3, "fetchall"));
    assert_eq!(fetchmail.fetched(), 3);
    assert!(mailbox(server.pop3, "u3@bench.test", "pw").is_empty());
}

fn fetchmail_by_imap() {
    let server = server();
    three(&server);
    let fetchmail = Fetchmail::new();
    // What it leaves there it marks as seen, and looks for what is not.
    run(&mut fetchmail.command("imap", server.imap, "keep"));
    assert_eq!(fetchmail.fetched(), 3);
    let mut imap = Imap::login(&server, "u3");
    imap.ok("EXAMINE INBOX");
    assert_eq!(imap.ok("SEARCH SEEN"), ["* SEARCH 1 2 3"]);
    let idle = Waiting::start(&mut fetchmail.command("imap", server.imap, "keep idle"));
    // It begins with what came before, then waits in IDLE.
    for number in 4..7 {
        deliver(&server, "u3", "fresh");
        wait_for("fetch what comes", || fetchmail.fetched() >= number);
    }
    drop(idle);
    assert_eq!(fetchmail.fetched(), 6);
    run(&mut fetchmail.command("imap", server.imap, "fetchall"));
    assert_eq!(fetchmail.fetched(), 12);
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
