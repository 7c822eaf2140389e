//! The whole program: mail in by SMTP and LMTP, out by POP3, through restarts and crashes, and
//! what an operator does to it.

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::{Client, Server, command, connect, log_in, mailbox, send_message, signal};

const TWO: [&str; 2] = ["--processors", "0-1"];

#[test]
fn a_first_start_prints_all_that_one_needs_to_try_it() {
    let server = Server::start(&[]);
    let accounts = server.demo_accounts();
    assert_eq!(accounts.len(), 2, "{}", server.printed);
    let try_lines = server.printed.lines().filter(|line| line.contains("curl "));
    assert_eq!(try_lines.count(), 4, "{}", server.printed);

    let (address, password) = &accounts[0];
    let body = "Subject: one\r\n\r\nHello.\r\n.leading dot\r\n..two\r\nlast";
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    let replies = send_message(&mut client, &[address], body, false);
    assert!(replies[0].starts_with("250 2."), "{replies:?}");
    client.expect("QUIT", "221");
    // SMTP has no way to say that the last line had no end.
    assert_eq!(
        mailbox(server.pop3, address, password),
        [format!("{body}\r\n")]
    );
}

#[test]
fn lmtp_answers_for_each_recipient_and_keeps_one_copy_a_mailbox() {
    let server = Server::start(&TWO);
    server.generate(8);
    let all: Vec<String> = (0..8).map(|n| format!("u{n}@bench.test")).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut client = Client::new(server.lmtp);
    client.expect("LHLO client.example", "250");
    let replies = send_message(&mut client, &names, "Subject: x\r\n\r\nbody", true);
    assert_eq!(replies.len(), 8);
    assert!(
        replies.iter().all(|reply| reply.starts_with("250 2.")),
        "{replies:?}"
    );
    for name in names {
        assert_eq!(
            mailbox(server.pop3, name, "pw"),
            ["Subject: x\r\n\r\nbody\r\n"]
        );
    }
}

#[test]
fn recipients_resolve_through_aliases_details_and_catch_alls() {
    let server = Server::start(&[]);
    server.generate(3);
    let (u0, u1, u2) = ("u0@bench.test", "u1@bench.test", "u2@bench.test");
    server.run(&["alias", "add", "both@bench.test", u0, u1]);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<someone@elsewhere.example>", "550 5.7.1");
    client.expect("RCPT TO:<nobody@bench.test>", "550 5.1.1");
    client.expect("RCPT TO:<U0+lists@BENCH.test>", "250");
    client.expect("RCPT TO:<both@bench.test>", "250");
    client.expect("RCPT TO:<postmaster>", "250");
    client.expect("DATA", "354");
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    assert!(client.reply().starts_with("250"));
    // Named twice, delivered once.
    assert_eq!(mailbox(server.pop3, u0, "pw").len(), 1);
    assert_eq!(mailbox(server.pop3, u1, "pw").len(), 1);
    assert_eq!(mailbox(server.pop3, u2, "pw").len(), 0);
    server.run(&["catchall", "set", "bench.test", u2]);
    let replies = send_message(&mut client, &["nobody@bench.test"], "c: d\r\n\r\n", false);
    assert!(replies[0].starts_with("250"));
    assert_eq!(mailbox(server.pop3, u2, "pw").len(), 1);
}

#[test]
fn mail_survives_a_crash_and_other_processors() {
    let mut server = Server::start(&TWO);
    server.generate(6);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    for round in 0..30 {
        let to = [
            format!("u{}@bench.test", round % 6),
            format!("u{}@bench.test", (round + 1) % 6),
        ];
        let body = format!("Subject: {round}\r\n\r\n{}", "x".repeat(round * 100));
        let replies = send_message(&mut client, &[&to[0], &to[1]], &body, false);
        assert!(replies[0].starts_with("250"), "{replies:?}");
    }
    server.kill();
    server.restart();
    let counts: Vec<usize> = (0..6)
        .map(|n| mailbox(server.pop3, &format!("u{n}@bench.test"), "pw").len())
        .collect();
    assert_eq!(counts, [10; 6]);
    server.kill();
    let data = server.data.clone();
    let one = Server::start_on(&data, &["--processors", "count:1"]);
    let counts: Vec<usize> = (0..6)
        .map(|n| mailbox(one.pop3, &format!("u{n}@bench.test"), "pw").len())
        .collect();
    assert_eq!(counts, [10; 6]);
}

#[test]
fn a_large_message_streams_to_several_partitions() {
    let mut server = Server::start(&TWO);
    server.generate(6);
    let line = format!("{}\r\n", "0123456789".repeat(7));
    let body = format!("Subject: large\r\n\r\n{}", line.repeat(50_000));
    assert!(body.len() > 3 << 20);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    let to: Vec<String> = (0..6).map(|n| format!("u{n}@bench.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let replies = send_message(&mut client, &to, &body, false);
    assert!(replies[0].starts_with("250"), "{replies:?}");
    server.kill();
    server.restart();
    for user in to {
        let messages = mailbox(server.pop3, user, "pw");
        assert_eq!(messages.len(), 1);
        assert!(messages[0] == format!("{body}\r\n"), "{user}: another body");
    }
}

#[test]
fn deletions_count_at_quit_only_and_space_comes_back() {
    let server = Server::start(&[]);
    server.generate(1);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    for _ in 0..3 {
        send_message(
            &mut client,
            &["u0@bench.test"],
            "Subject: x\r\n\r\ny",
            false,
        );
    }
    let mut first = log_in(server.pop3, "u0@bench.test", "pw");
    first.expect("DELE 1", "+OK");
    // The maildrop is locked, and a dropped connection removes nothing.
    let mut second = Client::new(server.pop3);
    second.expect("USER u0@bench.test", "+OK");
    second.expect("PASS pw", "-ERR [IN-USE]");
    drop(first);
    let mut third = log_in_when_free(&server);
    third.expect("STAT", "+OK 3 ");
    let uidl = third.expect("UIDL 2", "+OK 2 ");
    third.expect("DELE 1", "+OK");
    third.expect("QUIT", "+OK");
    let mut fourth = log_in(server.pop3, "u0@bench.test", "pw");
    fourth.expect("STAT", "+OK 2 ");
    assert_eq!(
        fourth.say("UIDL 1").replace("+OK 1 ", ""),
        uidl.replace("+OK 2 ", "")
    );
    fourth.expect("QUIT", "+OK");
    let text = server.run(&["expire", "--now"]);
    assert!(text.contains("bytes freed for mail"), "{text}");
    assert!(text.contains("given back to the filesystem"), "{text}");
    assert_eq!(mailbox(server.pop3, "u0@bench.test", "pw").len(), 2);
}

fn log_in_when_free(server: &Server) -> Client {
    let started = Instant::now();
    loop {
        let mut client = Client::new(server.pop3);
        client.expect("USER u0@bench.test", "+OK");
        if client.say("PASS pw").starts_with("+OK") {
            return client;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "the lock stays"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_password_change_ends_what_was_cached_and_removal_ends_the_account() {
    let server = Server::start(&TWO);
    server.generate(2);
    for _ in 0..2 {
        log_in(server.pop3, "u0@bench.test", "pw").expect("QUIT", "+OK");
    }
    assert!(server.metric("ringpost_auth_cache_hits_total") >= 1.0);
    server.run(&["account", "passwd", "u0@bench.test", "--password", "other"]);
    let mut client = Client::new(server.pop3);
    client.expect("USER u0@bench.test", "+OK");
    client.expect("PASS pw", "-ERR [AUTH]");
    client.expect("USER u0@bench.test", "+OK");
    client.expect("PASS other", "+OK");
    client.expect("QUIT", "+OK");

    let mut smtp = Client::new(server.smtp);
    smtp.expect("EHLO client.example", "250");
    smtp.expect("MAIL FROM:<>", "250");
    smtp.expect("RCPT TO:<u1@bench.test>", "250");
    server.run(&["account", "remove", "u1@bench.test"]);
    smtp.expect("RSET", "250");
    smtp.expect("MAIL FROM:<>", "250");
    smtp.expect("RCPT TO:<u1@bench.test>", "550 5.1.1");
}

#[test]
fn commands_do_the_same_with_and_without_a_server() {
    let mut server = Server::start(&[]);
    server.generate(3);
    let listed = server.run(&["account", "list", "--domain", "bench.test"]);
    let place = server.run(&["hashdir", "u1@bench.test"]);
    assert!(place.contains("shard "), "{place}");
    assert!(server.stop().success());
    assert_eq!(
        server.run(&["account", "list", "--domain", "bench.test"]),
        listed
    );
    server.run(&["domain", "add", "later.test"]);
    server.run(&["account", "add", "new@later.test", "--password", "pw"]);
    assert!(
        !server
            .command(&["account", "add", "x@not-served.test", "--password", "p"])
            .status
            .success()
    );
    server.restart();
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    let replies = send_message(&mut client, &["new@later.test"], "a: b\r\n\r\nc", false);
    assert!(replies[0].starts_with("250"));
    assert_eq!(mailbox(server.pop3, "new@later.test", "pw").len(), 1);
}

#[test]
fn sigterm_drains() {
    let mut server = Server::start(&TWO);
    server.generate(1);
    let mut idle = Client::new(server.smtp);
    idle.expect("EHLO client.example", "250");
    let mut busy = Client::new(server.smtp);
    busy.expect("EHLO client.example", "250");
    busy.expect("MAIL FROM:<>", "250");
    busy.expect("RCPT TO:<u0@bench.test>", "250");
    busy.expect("DATA", "354");
    busy.send(b"Subject: running\r\n");
    signal(server.pid(), "TERM");
    assert!(idle.line().starts_with("421 4.3.2"));
    // The transaction that runs is finished, then refused the next.
    busy.send(b"\r\nbody\r\n.\r\n");
    assert!(busy.reply().starts_with("250"));
    assert!(busy.line().starts_with("421"));
    assert!(server.wait().success());
    assert!(server.log().contains("every partition closed"));
    server.restart();
    assert_eq!(mailbox(server.pop3, "u0@bench.test", "pw").len(), 1);
}

/// A client that has begun a message and does not go on.
fn stuck_in_data(server: &Server) -> Client {
    let mut stuck = Client::new(server.smtp);
    stuck.expect("EHLO client.example", "250");
    let (address, _) = &server.demo_accounts()[0];
    stuck.expect("MAIL FROM:<>", "250");
    stuck.expect(&format!("RCPT TO:<{address}>"), "250");
    stuck.expect("DATA", "354");
    stuck
}

#[test]
fn draining_is_bounded_and_a_second_signal_ends_at_once() {
    let mut server = Server::start(&["--drain-seconds", "1"]);
    let _stuck = stuck_in_data(&server);
    assert!(server.stop().success());

    let mut server = Server::start(&["--drain-seconds", "600"]);
    let _stuck = stuck_in_data(&server);
    signal(server.pid(), "TERM");
    std::thread::sleep(Duration::from_millis(300));
    let started = Instant::now();
    // The second one.
    assert!(!server.stop().success());
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_second_server_and_a_newer_store_are_refused() {
    let mut server = Server::start(&[]);
    let Err(said) = Server::try_start(&server.data, &[]) else {
        panic!("two servers on one folder");
    };
    assert!(said.contains("another server"), "{said}");
    assert!(said.contains(&server.pid().to_string()), "{said}");
    assert!(server.stop().success());
    let stores = [
        server.data.join("store/STORE"),
        server.data.join("store/STORE.copy"),
    ];
    let text = std::fs::read_to_string(&stores[0]).expect("a text file");
    let write = |text: &str| {
        for store in &stores {
            std::fs::write(store, text).expect("written");
        }
    };
    write(&text.replacen("format 2", "format 99", 1));
    let Err(said) = Server::try_start(&server.data, &[]) else {
        panic!("a newer store was opened");
    };
    assert!(said.contains("STORE") && said.contains("99"), "{said}");
    write(&text[..text.len() / 2]);
    let Err(said) = Server::try_start(&server.data, &[]) else {
        panic!("half a store file was taken");
    };
    assert!(said.contains("STORE"), "{said}");
    for store in &stores {
        std::fs::remove_file(store).expect("removed");
    }
    let Err(said) = Server::try_start(&server.data, &[]) else {
        panic!("a new store was made on top of an old one");
    };
    assert!(said.contains("STORE: gone"), "{said}");
    std::fs::write(&stores[0], text).expect("written");
    server.restart();
    assert!(stores[1].exists());
}

#[test]
fn a_processor_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = command(
        &folder.path().join("data"),
        &["serve", "--processors", "4095", "--smtp", "127.0.0.1:0"],
    );
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("4095"), "{said}");
}

#[test]
fn hostile_clients_cost_only_themselves() {
    let server = Server::start(&[]);
    server.generate(1);
    // Binary noise, an endless line, half-open sessions, one byte at a time, a reader that never reads.
    let mut noise = connect(server.smtp);
    let bytes: Vec<u8> = (0..200_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let _ = noise.write_all(&bytes);
    let mut endless = connect(server.smtp);
    let _ = endless.write_all(&vec![b'A'; 1 << 20]);
    let open: Vec<_> = (0..500).map(|_| connect(server.smtp)).collect();
    let mut deaf = connect(server.smtp);
    deaf.set_nonblocking(true).expect("non-blocking");
    for _ in 0..2000 {
        if deaf.write(&b"HELP\r\n".repeat(200)).is_err() {
            break;
        }
    }
    let mut slow = Client::silent(server.smtp);
    for byte in b"EHLO slow.example\r\nMAIL FROM:<>\r\nRCPT TO:<u0@bench.test>\r\nDATA\r\n" {
        slow.send(&[*byte]);
    }
    let mut pop3_noise = connect(server.pop3);
    let _ = pop3_noise.write_all(&bytes[..50_000]);

    // Meanwhile the rest of the server does not notice.
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    let replies = send_message(
        &mut client,
        &["u0@bench.test"],
        "Subject: x\r\n\r\ny",
        false,
    );
    assert!(replies[0].starts_with("250"));
    slow.send(b"Subject: slow\r\n\r\nz\r\n.\r\n");
    drop(open);
    let started = Instant::now();
    while mailbox(server.pop3, "u0@bench.test", "pw").len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!server.log().contains("panicked"));
}

#[test]
fn a_message_that_is_too_large_is_refused_and_leaves_nothing() {
    let server = Server::start(&["--message-bytes-max", "1M"]);
    server.generate(1);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    client.expect("MAIL FROM:<> SIZE=2000000", "552 5.3.4");
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<u0@bench.test>", "250");
    client.expect("DATA", "354");
    let line = [b'x'; 78];
    for _ in 0..20_000 {
        client.send(&line);
        client.send(b"\r\n");
    }
    client.send(b".\r\n");
    assert!(client.reply().starts_with("552 5.3.4"));
    let replies = send_message(&mut client, &["u0@bench.test"], "a: b\r\n\r\nc", false);
    assert!(replies[0].starts_with("250"));
    assert_eq!(mailbox(server.pop3, "u0@bench.test", "pw").len(), 1);
}

#[test]
fn smuggling_fails() {
    let server = Server::start(&[]);
    server.generate(1);
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n"] {
        let mut client = Client::new(server.smtp);
        client.expect("EHLO client.example", "250");
        client.expect("MAIL FROM:<>", "250");
        client.expect("RCPT TO:<u0@bench.test>", "250");
        client.expect("DATA", "354");
        let second = "MAIL FROM:<>\r\nRCPT TO:<u0@bench.test>\r\nDATA\r\nSubject: smuggled\r\n\r\n";
        client.send(format!("Subject: outer\r\n\r\nbody{end}{second}x\r\n.\r\n").as_bytes());
        assert!(client.reply().starts_with('5'), "{end:?}");
        client.expect("QUIT", "221");
    }
    assert!(mailbox(server.pop3, "u0@bench.test", "pw").is_empty());
}

#[test]
fn metrics_and_health_tell_how_it_is() {
    let server = Server::start(&TWO);
    server.generate(4);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    for n in 0..4 {
        send_message(
            &mut client,
            &[&format!("u{n}@bench.test")],
            "a: b\r\n\r\nc",
            false,
        );
    }
    assert_eq!(server.metric("ringpost_messages_accepted_total"), 4.0);
    assert!(server.metric("ringpost_fdatasyncs_total") >= 4.0);
    let (status, text) = server.get("/health");
    assert_eq!((status, text.lines().next()), (200, Some("ok")));
    assert_eq!(server.get("/nothing").0, 404);
    // A busy shard hands its lines to the log's writer every few milliseconds.
    let end = Instant::now() + Duration::from_secs(5);
    let log = loop {
        let log = server.log();
        if log.contains("to=<u3@bench.test>") || Instant::now() > end {
            break log;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let line = log.lines().find(|line| line.contains("to=<u3@bench.test>"));
    assert!(
        line.is_some_and(|line| line.contains("result=delivered")),
        "{line:?}"
    );
}

#[test]
fn unix_sockets_take_lmtp() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lmtp.sock");
    let mut server = Server::start(&["--lmtp", path.to_str().expect("UTF-8")]);
    let (address, password) = server.demo_accounts()[0].clone();
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("a connection");
    let talk = format!(
        "LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<{address}>\r\nDATA\r\nA: b\r\n\r\nc\r\n.\r\nQUIT\r\n"
    );
    stream.write_all(talk.as_bytes()).expect("a send");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("replies");
    assert!(said.contains("221"), "{said}");
    assert_eq!(mailbox(server.pop3, &address, &password).len(), 1);
    assert!(server.stop().success());
    assert!(!path.exists(), "the socket's file stays behind");
}

#[test]
fn a_recipient_that_goes_between_rcpt_and_data_is_queued_not_dropped() {
    let server = Server::start(&TWO);
    server.generate(2);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<u0@bench.test>", "250");
    client.expect("RCPT TO:<u1@bench.test>", "250");
    client.expect("DATA", "354");
    server.run(&["account", "remove", "u1@bench.test"]);
    client.send(b"a: b\r\n\r\nc\r\n.\r\n");
    assert!(client.reply().starts_with("250"));
    assert_eq!(mailbox(server.pop3, "u0@bench.test", "pw").len(), 1);
    assert_eq!(server.metric("ringpost_queue_entries"), 1.0);
}
