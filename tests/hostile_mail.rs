//! Messages that mean harm, looked into over IMAP: every question about them is answered, in bounded
//! memory, and others are served meanwhile.
//!
//! Sizes are smaller than they could be, so that the tests end soon; RINGPOST_HOSTILE_MIB=50 makes
//! them what the largest senders get through.

mod support;

use support::imap::Imap;
use support::{Client, Server, deliver, send_message};

const USER: &str = "u0@bench.test";

fn mib() -> usize {
    let set = std::env::var("RINGPOST_HOSTILE_MIB").ok();
    set.map_or(6, |mib| mib.parse().expect("a number of MiB"))
}

/// A session of the one user.
fn session(server: &Server) -> Imap {
    Imap::login(server, "u0")
}

/// What a command is answered with, which must be OK.
fn ask(imap: &mut Imap, command: &str) -> Vec<u8> {
    imap.responses(command).concat()
}

/// The numbers that a SEARCH has found.
fn found(imap: &mut Imap, keys: &str) -> String {
    let said = ask(imap, &format!("SEARCH {keys}"));
    String::from_utf8_lossy(&said).trim_end().to_owned()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Asks everything about message 1 that a client could ask; then it must still be there as it was.
fn ask_everything(server: &Server, message: &[u8]) {
    let before_kib = server.memory_kib();
    let mut imap = session(server);
    imap.ok("SELECT INBOX");
    for question in [
        "FETCH 1 (ENVELOPE BODYSTRUCTURE)",
        "FETCH 1 BODY",
        "FETCH 1 PREVIEW",
        "FETCH 1 BODY.PEEK[HEADER]",
        "FETCH 1 BODY.PEEK[1.1.1]",
        "FETCH 1 BODY.PEEK[1.MIME]",
        "FETCH 1 BODY.PEEK[1.1.1.HEADER]",
        "FETCH 1 BODY.PEEK[TEXT]<1000.10>",
        "FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT X-1 X-2)]",
        "FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT X-1 X-2)]<0.10>",
        "FETCH 1 BINARY.SIZE[1]",
        "FETCH 1 BINARY.PEEK[1]<0.10>",
        "SEARCH OR TEXT nowhere BODY nowhere",
        "SEARCH HEADER X-Nobody \"\"",
        "SEARCH OR SUBJECT nowhere FROM nowhere",
        "SEARCH SENTSINCE 1-Jan-1990",
        "SORT (SUBJECT FROM TO CC DATE SIZE) UTF-8 ALL",
        "SORT (DISPLAYFROM REVERSE DISPLAYTO) UTF-8 ALL",
        "THREAD REFERENCES UTF-8 ALL",
        "THREAD ORDEREDSUBJECT UTF-8 ALL",
    ] {
        let said = ask(&mut imap, question);
        assert!(!said.is_empty(), "{question}: nothing");
    }
    let said = ask(&mut imap, "FETCH 1 BODY.PEEK[]");
    assert!(
        said.ends_with(&[message, b")\r\n"].concat()),
        "it comes back"
    );
    // The log takes a share as large as a batch, and the answers a share of their own.
    let grown_kib = server.memory_kib().saturating_sub(before_kib);
    assert!(grown_kib < 64 << 10, "{grown_kib} KiB more");
    // Others are served.
    let reply = deliver(server, "u0", "x");
    assert!(reply.starts_with("250"), "{reply}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

fn server() -> Server {
    let server = Server::start(&["--message-bytes-max", "128M"]);
    server.generate(1);
    server
}

/// A server with this message alone.
fn with(message: &[u8]) -> Server {
    let server = server();
    session(&server).append("INBOX", "", &[message]);
    server
}

#[test]
fn a_hundred_thousand_parts() {
    let mut message =
        "Subject: many\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
    for part in 0..100_000 {
        message +=
            &format!("--b\r\nContent-Type: text/plain; name=n{part}\r\n\r\npart {part}.\r\n");
    }
    message += "--b--\r\n";
    let server = server();
    // It comes by mail here.
    let mut smtp = Client::new(server.smtp);
    smtp.expect("EHLO client.example", "250");
    let replies = send_message(&mut smtp, &[USER], &message, false);
    assert!(replies[0].starts_with("250"), "{replies:?}");
    let mut imap = session(&server);
    imap.ok("EXAMINE INBOX");
    let said = ask(&mut imap, "FETCH 1 BODY.PEEK[]");
    let said = said.strip_suffix(b")\r\n").expect("a list");
    let start = said
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a literal");
    let received = &said[start + 1..];
    // With the line break in front of the dot that ended it.
    assert!(received.ends_with(format!("{message}\r\n").as_bytes()));
    ask_everything(&server, received);
    let mut imap = session(&server);
    imap.ok("EXAMINE INBOX");
    assert_eq!(found(&mut imap, "BODY \"part 77.\""), "* SEARCH 1");
    assert_eq!(found(&mut imap, "BODY \"name=n77\""), "* SEARCH 1");
    assert!(contains(&ask(&mut imap, "FETCH 1 BODY[78]"), "part 77."));
    // Those that are told apart have a bound; what is behind is one part that nobody looks into.
    let said = ask(&mut imap, "FETCH 1 BODYSTRUCTURE");
    assert!(said.len() < 200_000, "{} bytes", said.len());
    assert_eq!(found(&mut imap, "BODY \"part 99999.\""), "* SEARCH");
}

#[test]
fn an_endless_header() {
    let mut message = "Subject: much ado\r\n".to_owned();
    let mut number = 0;
    while message.len() < mib() << 20 {
        number += 1;
        message += &format!("X-{number}: this is the field of that number, {number} it is\r\n");
    }
    message += "\r\nbody\r\n";
    let server = with(message.as_bytes());
    ask_everything(&server, message.as_bytes());
    let mut imap = session(&server);
    imap.ok("EXAMINE INBOX");
    assert_eq!(
        found(&mut imap, "HEADER X-9000 \"9000 it is\""),
        "* SEARCH 1"
    );
    assert_eq!(
        found(&mut imap, "TEXT \"X-9000: this is\" BODY body"),
        "* SEARCH 1"
    );
    // To its end, and a string may lie across two fields wherever they are.
    let last = number;
    for (keys, is_found) in [
        (format!("HEADER X-{last} \"{last} it is\""), true),
        (format!("HEADER X-{last} \"{} it is\"", last - 1), false),
        (format!("HEADER X-{} \"\"", last + 1), false),
        (format!("TEXT \"x-{last}: THIS\""), true),
        (
            format!(
                "TEXT {{{}+}}\r\n{last} it is\r\n\r\n",
                last.to_string().len() + 10
            ),
            false,
        ),
    ] {
        let wanted = if is_found { "* SEARCH 1" } else { "* SEARCH" };
        assert_eq!(found(&mut imap, &keys), wanted, "{keys}");
    }
    for number in (2..last).step_by(last as usize / 50) {
        let string = format!("{} it is\r\nX-{number}: this", number - 1);
        let keys = format!("TEXT {{{}+}}\r\n{string}", string.len());
        assert_eq!(found(&mut imap, &keys), "* SEARCH 1", "{keys}");
    }
    let said = ask(&mut imap, "FETCH 1 BODY[HEADER.FIELDS (X-9000 X-7)]");
    assert!(contains(&said, "X-7: ") && contains(&said, "X-9000: "));
    let said = ask(&mut imap, "FETCH 1 BODY[HEADER]");
    assert!(said.len() > mib() << 20);
}

#[test]
fn an_endless_field() {
    let line = " =?utf-8?Q?=C3=A4?= <a@b>,\r\n";
    // There are four of them, and a message may have 128 MiB.
    let value = line.repeat((mib() << 19) / line.len());
    let message = format!(
        "Subject:{value} end\r\nTo:{value} end\r\nReferences:{value} <end>\r\n\
         Content-Type: text/plain;{value}\r\n\r\nbody\r\n"
    );
    let server = with(message.as_bytes());
    ask_everything(&server, message.as_bytes());
    let mut imap = session(&server);
    imap.ok("EXAMINE INBOX");
    assert_eq!(
        found(&mut imap, "CHARSET UTF-8 SUBJECT {2+}\r\n\u{c4}"),
        "* SEARCH 1"
    );
    for (keys, wanted) in [
        ("HEADER REFERENCES \"<a@b>, <end>\"", "* SEARCH 1"),
        ("HEADER REFERENCES \"<a@b> <end>\"", "* SEARCH"),
        ("HEADER REFERENCES \"<end>\"", "* SEARCH 1"),
        ("HEADER X-NONE \"\"", "* SEARCH"),
        // Their envelope has the beginning only.
        ("SUBJECT \"<a@b>, end\"", "* SEARCH 1"),
        ("TO \"<a@b>, END\"", "* SEARCH 1"),
        ("TO \"<a@b> end\"", "* SEARCH"),
        ("CC end", "* SEARCH"),
        ("TEXT \"<a@b>, end\"", "* SEARCH 1"),
        ("BODY \"<end>\"", "* SEARCH"),
    ] {
        assert_eq!(found(&mut imap, keys), wanted, "{keys}");
    }
    let said = ask(&mut imap, "FETCH 1 ENVELOPE");
    assert!(said.len() < 1 << 20, "{} bytes", said.len());
}

#[test]
fn parts_within_parts() {
    let mut multiparts = String::new();
    for level in 0..5000 {
        multiparts +=
            &format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
    }
    multiparts += "Content-Type: text/plain\r\n\r\ndeep\r\n";
    let messages =
        "Subject: one in the other\r\nContent-Type: message/rfc822\r\n\r\n".repeat(20_000);
    // An unended boundary at every level, looked for in every line.
    let mut unended = String::new();
    for level in 0..31 {
        unended += &format!(
            "Content-Type: multipart/mixed; boundary=\"{}{level}\"\r\n\r\n--{}{level}\r\n",
            "b".repeat(60),
            "b".repeat(60)
        );
    }
    unended += &format!("--{}\r\n", "b".repeat(60)).repeat(20_000);
    for message in [multiparts, messages, unended] {
        let message = format!("X-1: y\r\n{message}");
        ask_everything(&with(message.as_bytes()), message.as_bytes());
    }
}

#[test]
fn a_line_without_an_end() {
    for (encoding, text) in [("7bit", "x"), ("quoted-printable", "="), ("base64", "eHh4")] {
        let line = text.repeat((mib() << 20) / text.len());
        let head = format!("Subject: long\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        let message = format!("{head}{line}needle");
        let server = with(message.as_bytes());
        ask_everything(&server, message.as_bytes());
        let mut imap = session(&server);
        imap.ok("EXAMINE INBOX");
        let wanted = if encoding == "base64" {
            "* SEARCH"
        } else {
            "* SEARCH 1"
        };
        assert_eq!(found(&mut imap, "BODY needle"), wanted, "{encoding}");
    }
}
