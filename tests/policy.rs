//! What an operator allows: quotas, and what clients are told that go beyond.

mod support;

use std::time::{Duration, Instant};

use support::{Client, Server, mailbox, send_message};

const TWO: [&str; 2] = ["--processors", "0-1"];

fn hello(server: &Server) -> Client {
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    client
}

#[test]
fn an_account_that_is_full_gets_no_more_and_its_share_waits() {
    let server = Server::start(&TWO);
    let small = ["account", "add", "small", "--password", "pw"];
    let small = [&small[..], &["--scheme", "light", "--quota", "3K"]].concat();
    server.run(&small);
    server.run(&["account", "add", "large", "--password", "pw"]);
    let (small, large) = ("small@demo.test", "large@demo.test");
    let body = format!("Subject: s\r\n\r\n{}\r\n", "x".repeat(990).repeat(2));
    let mut client = hello(&server);
    assert!(send_message(&mut client, &[small], &body, false)[0].starts_with("250"));
    let replies = send_message(&mut client, &[small], &body, false);
    assert!(replies[0].starts_with("452 4.2.2"), "{replies:?}");
    assert_eq!(mailbox(server.pop3, small, "pw").len(), 1);

    // LMTP says so for each; SMTP has one reply, and what is due to the full one waits.
    let mut lmtp = Client::new(server.lmtp);
    lmtp.expect("LHLO client.example", "250");
    let replies = send_message(&mut lmtp, &[small, large], &body, true);
    assert!(replies[0].starts_with("452 4.2.2"), "{replies:?}");
    assert!(replies[1].starts_with("250"), "{replies:?}");
    let replies = send_message(&mut client, &[small, large], &body, false);
    assert!(replies[0].starts_with("250"), "{replies:?}");
    assert_eq!(mailbox(server.pop3, large, "pw").len(), 2);
    assert_eq!(mailbox(server.pop3, small, "pw").len(), 1);
    assert!((server.metric("ringpost_queue_entries") - 1.0).abs() < 0.5);

    let shown = server.run(&["account", "quota", "small"]);
    assert!(shown.starts_with("small@demo.test  used 2"), "{shown}");
    assert!(shown.contains("  quota 3K  "), "{shown}");
    let listed = server.run(&["account", "list"]);
    assert!(listed.contains(&shown), "{listed}");
    let shown = server.run(&["account", "quota", "small", "1M"]);
    assert!(shown.contains("  quota 1M  0%"), "{shown}");
    // The queue looks every few seconds; after a look that came too early, in a minute.
    let started = Instant::now();
    while mailbox(server.pop3, small, "pw").len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(90));
        std::thread::sleep(Duration::from_millis(200));
    }
    let delivered = &mailbox(server.pop3, small, "pw")[1];
    assert!(delivered.starts_with("Subject: s\r\n\r\nxxx"));
    assert!(send_message(&mut client, &[small], &body, false)[0].starts_with("250"));
}

#[test]
fn an_internationalized_domain_is_one_account_however_it_is_written() {
    let server = Server::start(&["--domain", "bücher.example"]);
    server.run(&["domain", "add", "ЖУРНАЛ.example"]);
    for name in ["leser@BÜCHER.example", "leser@журнал.example"] {
        server.run(&[
            "account",
            "add",
            name,
            "--password",
            "pw",
            "--scheme",
            "light",
        ]);
    }
    let listed = server.run(&["domain", "list"]);
    assert!(
        listed.contains("xn--bcher-kva.example  bücher.example\n"),
        "{listed}"
    );
    assert!(
        !server
            .command(&["domain", "add", "xn--80alqgor.example"])
            .status
            .success()
    );
    let mut client = hello(&server);
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<leser@bücher.example>", "553 5.6.7");
    client.expect("RCPT TO:<leser@xn--bcher-kva.example>", "250");
    client.expect("RSET", "250");
    for to in [
        "leser@bücher.example",
        "Leser@bu\u{308}cher.EXAMPLE",
        "leser+x@XN--bcher-KVA.example",
        "leser@журнал.example",
    ] {
        client.expect("MAIL FROM:<лев@журнал.example> SMTPUTF8", "250");
        client.expect(&format!("RCPT TO:<{to}>"), "250");
        client.expect("DATA", "354");
        client.send(b"Subject: x\r\n\r\ny\r\n.\r\n");
        assert!(client.reply().starts_with("250"), "{to}");
    }
    for user in ["leser@bücher.example", "leser@xn--bcher-kva.example"] {
        assert_eq!(mailbox(server.pop3, user, "pw").len(), 3, "{user}");
    }
    assert_eq!(mailbox(server.pop3, "leser@журнал.example", "pw").len(), 1);
}

#[test]
fn guessing_addresses_ends_the_connection() {
    let server = Server::start(&["--refused-recipients-max", "5"]);
    let mut client = hello(&server);
    client.expect("MAIL FROM:<>", "250");
    for guess in 0..5 {
        client.expect(&format!("RCPT TO:<guess{guess}@demo.test>"), "550 5.1.1");
    }
    assert!(client.reply().starts_with("421 4.7.0"));
    assert_eq!(client.line(), "", "closed");
    // A mail server of ours may relay as many as it is asked to.
    let mut lmtp = Client::new(server.lmtp);
    lmtp.expect("LHLO client.example", "250");
    lmtp.expect("MAIL FROM:<>", "250");
    for guess in 0..30 {
        lmtp.expect(&format!("RCPT TO:<guess{guess}@demo.test>"), "550 5.1.1");
    }
    lmtp.expect("QUIT", "221");
}

/// Every partition gets a copy of the body: they are counted, and at the bound made one by one.
#[test]
fn copies_for_several_partitions_are_counted() {
    const BOUND: usize = 16 << 20;
    const PARTITIONS: usize = 12;
    let server = Server::start(&[
        "--processors",
        "count:1",
        "--partitions",
        "12",
        "--memory-max",
        "16M",
    ]);
    // So many accounts are in all partitions.
    server.generate(90);
    let users: Vec<String> = (0..90).map(|n| format!("u{n}@bench.test")).collect();
    let all: Vec<&str> = users.iter().map(String::as_str).collect();
    let text = "0123456789abcde\r\n".repeat(12_000);
    let body = format!("Subject: x\r\n\r\n{text}");
    let most = || server.metric("ringpost_memory_held_bytes_max") as usize;
    let deliver = |to: &[&str]| {
        let replies = send_message(&mut hello(&server), to, &body, false);
        assert!(replies[0].starts_with("250"), "{replies:?}");
    };
    deliver(&all[..1]);
    let one = most();
    assert!((body.len()..3 * body.len()).contains(&one), "{one}");
    deliver(&all);
    let copies = most();
    assert!(copies > (PARTITIONS + 1) * body.len(), "{copies}");
    // Others leave room for the message, and for some of the copies.
    let held = || server.metric("ringpost_memory_held_bytes") as usize;
    let mut others = Vec::new();
    while held() + 3 * body.len() < BOUND {
        let mut client = hello(&server);
        client.expect("MAIL FROM:<>", "250");
        client.expect(&format!("RCPT TO:<{}>", all[0]), "250");
        client.expect("DATA", "354");
        let before = held();
        client.send(body.as_bytes());
        while held() < before + body.len() {
            std::thread::sleep(Duration::from_millis(2));
        }
        others.push(client);
    }
    deliver(&all);
    assert!(most() > BOUND - 2 * body.len(), "{}", most());
    assert!(most() < BOUND + 2 * body.len(), "{}", most());
    drop(others);
    for user in &all[1..] {
        assert_eq!(mailbox(server.pop3, user, "pw").len(), 2, "{user}");
    }
}

#[test]
fn memory_is_bounded_and_comes_back() {
    const BOUND: f64 = (16 << 20) as f64;
    let server = Server::start(&["--processors", "count:1", "--memory-max", "16M"]);
    let (user, password) = server.demo_accounts()[0].clone();
    let held = || server.metric("ringpost_memory_held_bytes");
    // Each announces nothing and sends almost as much as a session keeps in memory.
    let body = format!("Subject: x\r\n\r\n{}", "0123456789abcde\r\n".repeat(13_000));
    let mut clients: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = hello(&server);
            client.expect("MAIL FROM:<>", "250");
            client.expect(&format!("RCPT TO:<{user}>"), "250");
            client.expect("DATA", "354");
            client
        })
        .collect();
    let before = held();
    let mut most = before;
    for client in &mut clients {
        client.send(body.as_bytes());
        most = held().max(most);
    }
    assert!(most > BOUND * 0.8, "{most}");
    assert!(most < BOUND + 1e6, "{most}");
    // Whoever says how much is to come is told before it comes.
    let mut late = hello(&server);
    late.expect("MAIL FROM:<> SIZE=2000000", "250");
    late.expect(&format!("RCPT TO:<{user}>"), "452 4.3.1");
    let mut taken = 0;
    let mut put_off = 0;
    for client in &mut clients {
        client.send(b"\r\n.\r\n");
        let reply = client.reply();
        taken += usize::from(reply.starts_with("250"));
        put_off += usize::from(reply.starts_with("452 4.3.1"));
    }
    assert_eq!(taken + put_off, clients.len());
    assert!(
        taken >= 50 && put_off >= 10,
        "{taken} taken, {put_off} put off"
    );
    drop(clients);
    assert_eq!(mailbox(server.pop3, &user, &password).len(), taken);
    assert!(server.metric("ringpost_memory_refusals_total") >= put_off as f64);
    let started = Instant::now();
    while held() > before {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{} held",
            held()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    hello(&server).expect("QUIT", "221");
}
