//! A server of one's own for a whole-program test: free ports of 127.0.0.1, a temporary folder,
//! ended by pid.

#![allow(dead_code, reason = "each test program uses its own part of this")]

pub mod imap;
pub mod runner;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to say that it listens, or a client to get a reply.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub struct Server {
    child: Option<Child>,
    /// The data folder.
    pub data: PathBuf,
    folder: Option<tempfile::TempDir>,
    flags: Vec<String>,
    /// What it printed until it was ready.
    pub printed: String,
    /// Where SMTP listens; the same for the others.
    pub smtp: SocketAddr,
    pub lmtp: SocketAddr,
    pub pop3: SocketAddr,
    pub imap: SocketAddr,
    pub http: SocketAddr,
}

/// The program under test.
pub fn ringpost() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ringpost"))
}

/// A program of the workspace that is built beside it.
pub fn beside(name: &str) -> Option<PathBuf> {
    let path = ringpost().with_file_name(name);
    path.exists().then_some(path)
}

impl Server {
    /// A fresh store in a temporary folder.
    pub fn start(flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let mut server = Server::start_on(&data, flags);
        server.folder = Some(folder);
        server
    }

    /// On this data folder, which may be there already.
    pub fn start_on(data: &Path, flags: &[&str]) -> Server {
        match Server::try_start(data, flags) {
            Ok(server) => server,
            Err(said) => panic!("the server did not start:\n{said}"),
        }
    }

    /// As `start_on`, or what it said instead of starting.
    pub fn try_start(data: &Path, flags: &[&str]) -> Result<Server, String> {
        Server::try_start_under(&[], data, flags)
    }

    /// The same through a program that changes what the server may do, and then becomes it.
    pub fn try_start_under(
        wrapper: &[&str],
        data: &Path,
        flags: &[&str],
    ) -> Result<Server, String> {
        let log = data.with_extension("log");
        let append = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let mut words = wrapper.iter().map(PathBuf::from).chain([ringpost()]);
        let mut child = Command::new(words.next().expect("a program"))
            .args(words)
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--smtp", "127.0.0.1:0", "--lmtp", "127.0.0.1:0"])
            .args(["--pop3", "127.0.0.1:0", "--imap", "127.0.0.1:0"])
            .args(["--http", "127.0.0.1:0"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(append)
            .spawn()
            .expect("the server program");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut printed = String::new();
        let mut find = |printed: &mut String, service: &str| -> Option<SocketAddr> {
            let start = format!("  {service}");
            loop {
                let known = printed.lines().find(|line| line.starts_with(&start));
                if let Some(line) = known {
                    return line.split_whitespace().nth(1)?.parse().ok();
                }
                if lines.read_line(printed).ok()? == 0 {
                    return None;
                }
            }
        };
        let mut address = |service: &str| find(&mut printed, service);
        let found = (|| {
            Some((
                address("smtp")?,
                address("lmtp")?,
                address("pop3")?,
                address("imap")?,
                address("http")?,
            ))
        })();
        let Some((smtp, lmtp, pop3, imap, http)) = found else {
            let status = child.wait().expect("a status");
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("{status}\n{printed}{said}"));
        };
        // The rest of what it prints comes in one piece; a reader thread keeps the pipe open.
        let rest = read_rest(lines, &mut child);
        printed.push_str(&rest);
        Ok(Server {
            child: Some(child),
            data: data.to_owned(),
            folder: None,
            flags: flags.iter().map(ToString::to_string).collect(),
            printed,
            smtp,
            lmtp,
            pop3,
            imap,
            http,
        })
    }

    /// What it has logged so far, all its lives together.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// Kibibytes of memory it has now.
    pub fn memory_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let text = std::fs::read_to_string(path).expect("its status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("a number")
    }

    /// Waits until it has logged this: lines reach the file a little later than they are said.
    pub fn expect_logged(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < PATIENCE, "not logged: {text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill -9");
            child.wait().expect("a status");
        }
    }

    /// SIGTERM, and its exit status.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        signal(self.pid(), "TERM");
        self.wait()
    }

    /// Waits for its end; its exit status.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a status") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again on the same folder, with the same flags.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "stop or kill it first");
        let flags: Vec<String> = self.flags.clone();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let folder = self.folder.take();
        let data = self.data.clone();
        *self = Server::start_on(&data, &flags);
        self.folder = folder;
    }

    /// Runs a subcommand on this data folder.
    pub fn command(&self, words: &[&str]) -> Output {
        command(&self.data, words)
    }

    /// Runs a subcommand that must succeed, and returns what it printed.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.command(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Makes u0, u1 and so on of bench.test, all with the password `pw`.
    pub fn generate(&self, users: u32) {
        let users = users.to_string();
        let words = ["account", "generate", "--users", &users, "--prefix", "u"];
        self.run(&[&words[..], &["--domain", "bench.test", "--password", "pw"]].concat());
    }

    /// The demo accounts: address and password.
    pub fn demo_accounts(&self) -> Vec<(String, String)> {
        let accounts = self.printed.lines().filter_map(|line| {
            let (address, password) = line.strip_prefix("  ")?.split_once(' ')?;
            let plain = address.contains('@') && !password.contains(' ');
            plain.then(|| (address.to_owned(), password.to_owned()))
        });
        accounts.collect()
    }

    /// A page of the admin address: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = connect(self.http);
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a response");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// The sum of a metric over all its samples.
    pub fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let values = text.lines().filter_map(|line| {
            let (head, value) = line.rsplit_once(' ')?;
            let own = head.split('{').next()? == name;
            own.then(|| value.parse::<f64>().ok())?
        });
        values.sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Whatever became of the test, nothing may stay behind.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

fn read_rest(mut lines: BufReader<std::process::ChildStdout>, child: &mut Child) -> String {
    // A server on a new store prints accounts and commands after the addresses, at once.
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        while matches!(lines.read_line(&mut line), Ok(1..)) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                // Nobody listens any more; keep the pipe from filling.
            }
        }
    });
    let mut rest = String::new();
    while let Ok(line) = receiver.recv_timeout(Duration::from_millis(150)) {
        rest.push_str(&line);
    }
    assert!(child.try_wait().expect("a status").is_none(), "it ended");
    rest
}

/// Runs a subcommand on a data folder.
pub fn command(data: &Path, words: &[&str]) -> Output {
    Command::new(ringpost())
        .args(words)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null())
        .output()
        .expect("the program")
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .expect("kill");
    assert!(status.success());
}

/// An address of 127.0.0.1 that nobody listens on. It is given once, and from below the range of
/// which the kernel takes the ports of clients and of port 0: nothing else comes by it meanwhile.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: u16 = 10_000;
    let start = std::process::id() % u32::from(PORTS);
    let start = u16::try_from(start).expect("below the number of ports");
    for _ in 0..PORTS {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port of 20000 to 29999 is free");
}

/// A connection that does not wait for ever.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// A client that speaks lines.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn new(address: SocketAddr) -> Client {
        let mut client = Client {
            reader: BufReader::new(connect(address)),
        };
        client.reply();
        client
    }

    /// Connects without reading.
    pub fn silent(address: SocketAddr) -> Client {
        Client {
            reader: BufReader::new(connect(address)),
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("a send");
    }

    /// Reads one line without its CRLF; empty: the server has closed.
    pub fn line(&mut self) -> String {
        let line = self.raw_line();
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// Reads one line as it is, with its end; empty: the server has closed.
    pub fn raw_line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        let _ = self.reader.read_until(b'\n', &mut line);
        line
    }

    /// Reads so many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).expect("so many bytes");
        bytes
    }

    /// Reads one reply of SMTP (all its lines) or a line of POP3.
    pub fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let line = self.line();
            let more = line.as_bytes().get(3) == Some(&b'-') && line.as_bytes()[0].is_ascii_digit();
            all.push_str(&line);
            if !more {
                return all;
            }
            all.push('\n');
        }
    }

    /// Sends a line, reads the reply.
    pub fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// As `say`; the reply must begin so.
    pub fn expect(&mut self, line: &str, start: &str) -> String {
        let reply = self.say(line);
        assert!(reply.starts_with(start), "{line:?} got {reply:?}");
        reply
    }

    /// Reads a POP3 listing or message up to its dot, dots removed.
    pub fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            let count = self.reader.read_until(b'\n', &mut line).expect("a line");
            assert!(count > 0, "the server closed within a body");
            if line == b".\r\n" {
                return body;
            }
            let stuffed = line.starts_with(b".");
            body.extend_from_slice(&line[usize::from(stuffed)..]);
        }
    }
}

/// Sends one message by SMTP or LMTP; the replies to its end.
pub fn send_message(
    client: &mut Client,
    recipients: &[&str],
    body: &str,
    lmtp: bool,
) -> Vec<String> {
    client.expect("MAIL FROM:<sender@example.org>", "250");
    for recipient in recipients {
        client.expect(&format!("RCPT TO:<{recipient}>"), "250");
    }
    client.expect("DATA", "354");
    let stuffed = body.replace("\r\n.", "\r\n..");
    client.send(stuffed.as_bytes());
    client.send(b"\r\n.\r\n");
    let count = if lmtp { recipients.len() } else { 1 };
    (0..count).map(|_| client.reply()).collect()
}

/// Delivers a short message of this subject to a user of bench.test by SMTP; the reply to its end.
pub fn deliver(server: &Server, user: &str, subject: &str) -> String {
    let mut smtp = Client::new(server.smtp);
    smtp.expect("EHLO client.example", "250");
    let body = format!("Subject: {subject}\r\n\r\nbody\r\n");
    let to = format!("{user}@bench.test");
    send_message(&mut smtp, &[&to], &body, false).remove(0)
}

/// Logs in by POP3.
pub fn log_in(pop3: SocketAddr, user: &str, password: &str) -> Client {
    let mut client = Client::new(pop3);
    client.expect(&format!("USER {user}"), "+OK");
    client.expect(&format!("PASS {password}"), "+OK");
    client
}

/// All messages of a maildrop, without the trace header that the server has put in front.
pub fn mailbox(pop3: SocketAddr, user: &str, password: &str) -> Vec<String> {
    let mut client = log_in(pop3, user, password);
    let count: usize = client
        .expect("STAT", "+OK")
        .split(' ')
        .nth(1)
        .and_then(|count| count.parse().ok())
        .expect("a count");
    let messages = (1..=count).map(|number| {
        client.expect(&format!("RETR {number}"), "+OK");
        let message = String::from_utf8_lossy(&client.body()).into_owned();
        without_trace(&message).to_owned()
    });
    let messages = messages.collect();
    client.expect("QUIT", "+OK");
    messages
}

/// What stands behind Return-Path and the first Received field.
pub fn without_trace(message: &str) -> &str {
    let (first, rest) = message.split_once("\r\n").expect("a first line");
    assert!(first.starts_with("Return-Path: <"), "{first:?}");
    assert!(rest.starts_with("Received: "), "{rest:?}");
    let mut at = 0;
    for line in rest.split_inclusive("\r\n") {
        if at > 0 && !line.starts_with([' ', '\t']) {
            break;
        }
        at += line.len();
    }
    &rest[at..]
}

/// The load generator, built beside the server by `cargo test --workspace`.
pub fn loadgen() -> Command {
    let path = beside("loadgen").expect("loadgen is built: run `cargo test --workspace`");
    Command::new(path)
}

/// Reads back what the ledgers of a run say was sent, and fails if anything is missing, doubled or
/// corrupt. Returns how many deliveries were acknowledged.
pub fn verify(server: &Server, ledgers: &[impl AsRef<Path>]) -> u64 {
    let mut command = loadgen();
    let pop3 = server.pop3.to_string();
    command.args(["verify", "--pop3", &pop3, "--password", "pw"]);
    for ledger in ledgers {
        command.arg("--ledger").arg(ledger.as_ref());
    }
    let output = command.output().expect("loadgen");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    said.lines()
        .find_map(|line| line.trim().strip_prefix("acknowledged"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|count| count.replace(',', "").parse().ok())
        .expect("a count of acknowledged messages")
}
