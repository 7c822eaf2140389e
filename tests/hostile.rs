//! Peers that make mistakes or mean harm: each gets a clear reply and costs only itself.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use support::{Client, Server, connect, log_in, mailbox, send_message};

const TWO: [&str; 2] = ["--processors", "0-1"];
/// How long to wait for something that happens in the background.
const PATIENCE: Duration = Duration::from_secs(60);

/// An ordinary client is served as ever.
fn assert_serves(server: &Server, user: &str) {
    let before = mailbox(server.pop3, user, "pw").len();
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    let replies = send_message(&mut client, &[user], "Subject: x\r\n\r\ny", false);
    assert!(replies[0].starts_with("250"), "{replies:?}");
    assert_eq!(mailbox(server.pop3, user, "pw").len(), before + 1);
    assert_eq!(server.get("/health").0, 200);
}

/// Bytes that look like nothing, the same in every run.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// Sends all of it as far as the server takes it, and returns what it says until it closes.
fn blurt(address: SocketAddr, bytes: &[u8]) -> String {
    let stream = connect(address);
    let sender = stream.try_clone().expect("a second handle");
    blurt_on(stream, sender, TcpStream::shutdown, bytes)
}

/// The same on a stream, of which there are two handles.
fn blurt_on<S: Read + Write + Send + 'static>(
    mut stream: S,
    mut sender: S,
    end: fn(&S, Shutdown) -> std::io::Result<()>,
    bytes: &[u8],
) -> String {
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || {
        // The server may close long before it has all.
        let _ = sender.write_all(&bytes);
        let _ = end(&sender, Shutdown::Write);
    });
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    writer.join().expect("it ends");
    String::from_utf8_lossy(&said).into_owned()
}

fn assert_sound(server: &Server) {
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn noise_and_endless_lines_on_every_port() {
    let server = Server::start(&TWO);
    server.generate(1);
    let noise = noise(200_000);
    let endless = vec![b'A'; 2 << 20];
    let long = [&[b'A'; 100_000][..], b"\r\nQUIT\r\n"].concat();
    for address in [server.smtp, server.lmtp] {
        let said = blurt(address, &noise);
        assert!(said.contains("\r\n500 5.5."), "{said}");
        // A reply that follows the rest of what was sent can be lost with the connection.
        let said = blurt(address, &endless);
        assert!(said.is_empty() || said.starts_with("220 "), "{said}");
        let said = blurt(address, &long);
        assert!(
            said.contains("\r\n500 5.5.2 Line too long\r\n221 "),
            "{said}"
        );
        let said = blurt(address, &b"\r\n".repeat(1000));
        assert!(said.contains("421 4.7.0 Too many bad commands"), "{said}");
        let said = blurt(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(said.ends_with("554 5.5.1 This is not HTTP\r\n"), "{said}");
    }
    let said = blurt(server.pop3, &noise);
    assert!(said.ends_with("-ERR too many mistakes\r\n"), "{said}");
    let said = blurt(server.pop3, &long);
    assert!(
        said.ends_with("-ERR line too long\r\n+OK bye\r\n"),
        "{said}"
    );
    let said = blurt(server.http, &noise);
    assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    let said = blurt(server.http, &long);
    assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    assert_serves(&server, "u0@bench.test");
    assert_sound(&server);
}

#[test]
fn a_line_without_an_end_is_refused_while_it_lasts() {
    let server = Server::start(&[]);
    for (address, reply) in [
        (server.smtp, "500 5.5.2 Line too long, and no end of it"),
        (server.lmtp, "500 5.5.2 Line too long, and no end of it"),
        (server.pop3, "-ERR line too long, and no end of it"),
    ] {
        let mut client = Client::new(address);
        // Just over the bound, and then silence: nothing unread is left to reset the connection.
        client.send(&vec![b'A'; (1 << 20) + 1]);
        assert!(client.line().starts_with(reply), "{reply}");
        assert_eq!(client.line(), "", "it must close");
    }
    assert_sound(&server);
}

#[test]
fn noise_on_the_control_socket() {
    let server = Server::start(&[]);
    server.generate(1);
    let ask = |bytes: &[u8]| {
        let stream = UnixStream::connect(server.data.join("control")).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let sender = stream.try_clone().expect("a second handle");
        blurt_on(stream, sender, UnixStream::shutdown, bytes)
    };
    for bad in [&noise(100_000)[..], b"{}\n", &b"[".repeat(100_000), b"\n\n"] {
        let said = ask(&[bad, b"\n"].concat());
        assert!(said.contains("\"reply\":\"error\""), "{said}");
    }
    let said = ask(&vec![b'A'; 3 << 20]);
    // The reply can be lost with what nobody has read.
    assert!(
        said.is_empty() || said.contains("at most 1048576 bytes"),
        "{said}"
    );
    server.run(&["domain", "list"]);
    assert_serves(&server, "u0@bench.test");
    assert_sound(&server);
}

#[test]
fn nested_and_absurd_addresses() {
    let server = Server::start(&[]);
    server.generate(1);
    let labels = "a.".repeat(200);
    let recipients = [
        (
            format!("{}a@b{}", "<".repeat(1800), ">".repeat(1800)),
            "501 5.1.3",
        ),
        (
            format!("<{}:u0@bench.test>", "@a,".repeat(900)),
            "501 5.1.3",
        ),
        ("<@a.example,@b.example:u0@bench.test>".to_owned(), "250"),
        (
            format!("<\"{}\"@bench.test>", "\\\"".repeat(400)),
            "501 5.1.3",
        ),
        (format!("<u0@[{}1]>", "1.".repeat(500)), "501 5.1.3"),
        ("<u0@[IPv6:::1]>".to_owned(), "550 5.7.1"),
        ("<u0@bench.test".to_owned(), "501 5.1.3"),
        ("<<u0@bench.test>>".to_owned(), "501 5.1.3"),
        ("<u0@bench..test>".to_owned(), "501 5.1.3"),
        ("<u0@bench.test@bench.test>".to_owned(), "501 5.1.3"),
        (format!("<{}@bench.test>", "x".repeat(300)), "501 5.1.3"),
        (format!("<u0@{}>", "a".repeat(64)), "501 5.1.3"),
        (format!("<u0@{labels}test>"), "501 5.1.3"),
        ("<((((u0))))@bench.test>".to_owned(), "501 5.1.3"),
        ("<\0u0@bench.test>".to_owned(), "501 5.1.3"),
        ("<u0\r@bench.test>".to_owned(), "500 5.5.2"),
        ("<>".to_owned(), "501 5.1.3"),
        ("<u0%elsewhere.example@bench.test>".to_owned(), "550 5.1.1"),
        ("<elsewhere.example!u0@bench.test>".to_owned(), "550 5.1.1"),
        ("<\"u0\"@bench.test>".to_owned(), "250"),
        (
            format!("<u0@bench.test> {}", "X=Y ".repeat(600)),
            "555 5.5.4",
        ),
        (format!("<u0@bench.test> {}", "x".repeat(5000)), "500 5.5.2"),
    ];
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    for (recipient, code) in recipients {
        client.expect("MAIL FROM:<>", "250");
        client.expect(&format!("RCPT TO:{recipient}"), code);
        client.expect("RSET", "250");
    }
    for (sender, code) in [
        ("<> SIZE=99999999999999999999", "552 5.3.4"),
        ("<> SIZE=-1", "501 5.5.4"),
        ("<> BODY=NONSENSE", "501 5.5.4"),
        ("<> SIZE=1 SIZE=1", "501 5.5.4"),
        ("<<a@b>>", "501 5.1.7"),
        ("", "501 5.1.7"),
    ] {
        client.expect(&format!("MAIL FROM:{sender}"), code);
        client.expect("RSET", "250");
    }
    for (command, reply) in [
        (format!("USER {}", "x".repeat(5000)), "-ERR line too long"),
        (format!("AUTH PLAIN {}", "A".repeat(3000)), "-ERR"),
        ("RETR 1".to_owned(), "-ERR"),
    ] {
        Client::new(server.pop3).expect(&command, reply);
    }
    let mut pop3 = log_in(server.pop3, "u0@bench.test", "pw");
    for command in [
        "RETR 0",
        "RETR -1",
        "RETR 99999999999999999999",
        "UIDL 18446744073709551617",
        "TOP 1 -1",
        "DELE 1 2",
    ] {
        pop3.expect(command, "-ERR");
    }
    pop3.expect("QUIT", "+OK");
    assert_serves(&server, "u0@bench.test");
    assert_sound(&server);
}

/// Sends as much as the server takes without reading anything.
fn never_read(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(address);
    stream.set_nonblocking(true).expect("non-blocking");
    let mut rest = bytes;
    while let Ok(sent @ 1..) = stream.write(rest) {
        rest = &rest[sent..];
    }
    stream
}

#[test]
fn clients_that_send_byte_by_byte() {
    let server = Server::start(&TWO);
    server.generate(2);
    let mut slow: Vec<Client> = (0..200).map(|_| Client::new(server.smtp)).collect();
    let all = "EHLO slow.example\r\nMAIL FROM:<>\r\nRCPT TO:<u0@bench.test>\r\nDATA\r\n\
               Subject: slow\r\n\r\nz\r\n.\r\n";
    for (number, byte) in all.bytes().enumerate() {
        for client in &mut slow {
            client.send(&[byte]);
        }
        if number % 20 == 10 {
            assert_serves(&server, "u1@bench.test");
        }
    }
    for client in &mut slow {
        for start in ["250", "250", "250", "354", "250"] {
            let reply = client.reply();
            assert!(reply.starts_with(start), "{reply}");
        }
    }
    assert_eq!(mailbox(server.pop3, "u0@bench.test", "pw").len(), 200);
    assert_sound(&server);
}

#[test]
fn clients_that_never_read() {
    let short = [
        "--smtp-timeout",
        "5s",
        "--pop3-timeout",
        "5s",
        "--allow-short-timeouts",
    ];
    let server = Server::start(&[&TWO[..], &short].concat());
    server.generate(103);
    let large = format!(
        "Subject: large\r\n\r\n{}",
        "0123456789abcdef\r\n".repeat(100_000)
    );
    let readers: Vec<String> = (3..103).map(|n| format!("u{n}@bench.test")).collect();
    let recipients: Vec<&str> = readers.iter().map(String::as_str).collect();
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    let replies = send_message(&mut client, &recipients, &large, false);
    assert!(replies[0].starts_with("250"), "{replies:?}");
    client.expect("QUIT", "221");
    let before_kib = server.memory_kib();

    let commands = [&b"EHLO x\r\n"[..], &b"NOOP\r\nHELP\r\n".repeat(20_000)].concat();
    let mut deaf = Vec::new();
    for reader in readers {
        deaf.push(never_read(server.smtp, &commands));
        let log_in = format!("USER {reader}\r\nPASS pw\r\n");
        let reads = [log_in.as_bytes(), &b"RETR 1\r\n".repeat(2000)].concat();
        deaf.push(never_read(server.pop3, &reads));
    }
    let mut grown_kib = 0;
    for _ in 0..5 {
        assert_serves(&server, "u0@bench.test");
        grown_kib = grown_kib.max(server.memory_kib().saturating_sub(before_kib));
    }
    // They asked for 100 times 2000 messages of 1.8 MB.
    assert!(grown_kib < 128 << 10, "{grown_kib} KiB more");

    // Who takes nothing is let go of after the time-out.
    let started = Instant::now();
    while server.metric("ringpost_connections_open") > 5.0 {
        assert!(started.elapsed() < PATIENCE, "they are never given up");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(deaf);
    assert_sound(&server);
}

#[test]
fn ten_thousand_half_open_sessions() {
    // This process needs as many descriptors as the server.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("raised");
    let count = limit
        .maximum
        .map_or(10_000, |most| 10_000.min(most.saturating_sub(1000)));
    let server = Server::start(&TWO);
    server.generate(1);
    let before_kib = server.memory_kib();
    let mut half_open: Vec<TcpStream> = (0..count).map(|_| connect(server.smtp)).collect();
    let started = Instant::now();
    while server.metric("ringpost_connections_open") < count as f64 {
        assert!(started.elapsed() < PATIENCE, "they are not all taken");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_serves(&server, "u0@bench.test");
    for stream in &mut half_open {
        stream
            .write_all(b"EHLO half.example\r\nMAIL FROM:<>\r\n")
            .expect("sent");
    }
    assert_serves(&server, "u0@bench.test");
    let each_kib = server.memory_kib().saturating_sub(before_kib) / count.max(1);
    assert!(each_kib < 8, "{each_kib} KiB each");
    drop(half_open);
    assert_serves(&server, "u0@bench.test");
    assert_sound(&server);
}

#[test]
fn time_outs_are_told_and_end_the_session() {
    let server = Server::start(&[
        "--allow-short-timeouts",
        "--smtp-timeout",
        "5s",
        "--smtp-data-timeout",
        "5s",
        "--pop3-timeout",
        "5s",
    ]);
    server.generate(1);
    let mut silent = Client::new(server.smtp);
    let mut pausing = Client::new(server.smtp);
    pausing.send(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<u0@bench.test>\r\nDATA\r\nSubject: half");
    let mut lmtp = Client::new(server.lmtp);
    let mut pop3 = Client::new(server.pop3);
    for start in ["250", "250", "250", "354"] {
        assert!(pausing.reply().starts_with(start));
    }
    for client in [&mut silent, &mut pausing, &mut lmtp] {
        assert!(client.line().starts_with("421 4.4.2"));
        assert_eq!(client.line(), "");
    }
    // RFC 1939 §3: without a word.
    assert_eq!(pop3.line(), "");
    // The maildrop of a session that ended so is free, and nothing was removed.
    assert_serves(&server, "u0@bench.test");
    let mut idle = log_in(server.pop3, "u0@bench.test", "pw");
    idle.expect("DELE 1", "+OK");
    assert_eq!(idle.line(), "");
    assert_eq!(mailbox(server.pop3, "u0@bench.test", "pw").len(), 1);
}

#[test]
fn too_large_by_bdat() {
    let server = Server::start(&["--message-bytes-max", "1M"]);
    server.generate(1);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    client.expect("MAIL FROM:<> SIZE=2147483648", "552 5.3.4");
    // In one piece, whose size says it all: what comes of it is read over.
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<u0@bench.test>", "250");
    client.send(b"BDAT 3000000 LAST\r\n");
    client.send(&vec![b'x'; 3_000_000]);
    assert!(client.reply().starts_with("552 5.3.4"));
    // In pieces, the last of them one too many.
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<u0@bench.test>", "250");
    let mut replies = Vec::new();
    for _ in 0..12 {
        client.send(b"BDAT 100000\r\n");
        client.send(&vec![b'x'; 100_000]);
        replies.push(client.reply());
    }
    assert!(replies[9].starts_with("250"), "{replies:?}");
    assert!(replies[10].starts_with("552 5.3.4"), "{replies:?}");
    client.expect("RSET", "250");
    assert!(mailbox(server.pop3, "u0@bench.test", "pw").is_empty());
    assert_serves(&server, "u0@bench.test");
    assert_sound(&server);
}

#[test]
fn near_the_descriptor_limit_new_connections_are_refused_with_a_reason() {
    // Without the capability to go beyond the hard limit, which an ordinary user lacks anyway.
    let wrapper = [
        "setpriv",
        "--bounding-set=-sys_resource",
        "prlimit",
        "--nofile=200:400",
    ];
    let is_root = rustix::process::geteuid().is_root();
    let wrapper = &wrapper[if is_root { 0 } else { 2 }..];
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let started = Server::try_start_under(wrapper, &data, &["--processors", "0"]);
    let server = started.expect("it starts");
    server.expect_logged("descriptor limit: found 200 (hard 400), raised to 400");
    server.expect_logged("only 400 descriptors may be open");
    server.generate(1);
    let mut inside = Client::new(server.smtp);
    inside.expect("EHLO client.example", "250");
    let mut pop3 = log_in(server.pop3, "u0@bench.test", "pw");
    let mut open = Vec::new();
    let refusal = loop {
        let mut client = Client::silent(server.smtp);
        let greeting = client.reply();
        if !greeting.starts_with("220") {
            break greeting;
        }
        open.push(client);
        assert!(open.len() < 400, "more connections than descriptors");
    };
    assert!(refusal.starts_with("421 4.3.2"), "{refusal}");
    assert!(open.len() > 200, "refused after {}", open.len());
    let said = Client::silent(server.pop3).reply();
    assert!(said.starts_with("-ERR [SYS/TEMP]"), "{said}");
    // Those that are in go on.
    let replies = send_message(&mut inside, &["u0@bench.test"], "a: b\r\n\r\nc", false);
    assert!(replies[0].starts_with("250"), "{replies:?}");
    pop3.expect("STAT", "+OK 0 0");
    pop3.expect("QUIT", "+OK");
    server.expect_logged("connection refused: ");
    // And when some have left, others come in.
    open.truncate(open.len() - 50);
    let started = Instant::now();
    loop {
        if Client::silent(server.smtp).reply().starts_with("220") {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "nobody is let in again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_serves(&server, "u0@bench.test");
}
