//! Targets that are down, refuse, break off, speak something else, or say nothing: each is counted
//! by kind and named, and no run waits without end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::fake::{self, Doors, Manner, Speaks, rude};
use super::{loadgen, send};

/// A run against a bad server: its kind of fault and the verb it is counted at.
struct Case {
    command: &'static str,
    target: SocketAddr,
    more: &'static str,
    kind: &'static str,
    verb: &'static str,
    /// Stands in the table.
    said: &'static str,
}

const TIMED_OUT: &str = "timed out";
const RESET: &str = "connection reset";
const CLOSED: &str = "connection closed";
const NONSENSE: &str = "not the protocol";
const FOR_NOW: &str = "refused for now (4xx)";
const REFUSED: &str = "refused";

/// Runs all at once: most of the time they wait for time-outs.
fn all(cases: Vec<Case>) {
    std::thread::scope(|scope| {
        for case in &cases {
            scope.spawn(|| one(case));
        }
    });
}

fn one(case: &Case) {
    let Case { command, more, .. } = case;
    let what = format!("{command} {more}: {} at {}", case.kind, case.verb);
    let dir = tempfile::tempdir().expect("a folder");
    let limits = "--count 10 --timeout 500ms --give-up 3s";
    let began = Instant::now();
    let outcome = if *command == "pop3" {
        loadgen(
            dir.path(),
            &format!(
                "pop3 --target {} --users 20 --connections 4 --password pw {limits} {more}",
                case.target
            ),
        )
    } else {
        let more = format!("{limits} {more}");
        send(dir.path(), command, case.target, &more)
    };
    assert_eq!(outcome.status, 1, "{what}: {}", outcome.text);
    let errors = outcome.json["errors"].as_array().expect("a list").clone();
    let found = errors
        .iter()
        .find(|error| error["kind"] == case.kind && error["verb"] == case.verb);
    let error = found.unwrap_or_else(|| panic!("{what}: {}", outcome.text));
    assert!(outcome.text.contains(case.said), "{what}: {}", outcome.text);
    assert_eq!(outcome.json["done"], 0, "{what}: {}", outcome.text);
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{what}: an endless wait"
    );
    // Reconnecting is bounded: four connections, some twenty attempts a second at first.
    let count = error["count"].as_u64().expect("a count");
    assert!((1..400).contains(&count), "{what}: {}", outcome.text);
}

/// An address that refuses connections until the test's process ends: it is bound, so that no
/// server of another case is given its port, but nothing listens.
fn down() -> SocketAddr {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&held, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = getsockname(&held).expect("an address");
    std::mem::forget(held);
    address.try_into().expect("an Internet address")
}

fn mail_cases(command: &'static str, speaks: Speaks) -> Vec<Case> {
    let hello = if speaks == Speaks::Lmtp {
        "LHLO"
    } else {
        "EHLO"
    };
    let case = |stage: &'static str, manner, kind, verb, said| Case {
        command,
        target: rude(speaks, stage, manner),
        more: "",
        kind,
        verb,
        said,
    };
    let mut cases = vec![
        Case {
            target: down(),
            ..case("", Manner::Hangs, "connection refused", "connect", "")
        },
        case("", Manner::Hangs, TIMED_OUT, "greeting", "--tls"),
        case("", Manner::Resets, RESET, "greeting", ""),
        case("", Manner::Closes, CLOSED, "greeting", "closed by the peer"),
        case(
            "",
            Manner::Says(b"220 half a gree"),
            TIMED_OUT,
            "greeting",
            "",
        ),
        case(
            "",
            Manner::Says(b"421 4.3.2 busy\r\n"),
            FOR_NOW,
            "greeting",
            "421 4.3.2 busy",
        ),
        case(
            "",
            Manner::Says(b"554 go away\r\n"),
            REFUSED,
            "greeting",
            "554 go away",
        ),
        case(
            "",
            Manner::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            NONSENSE,
            "greeting",
            "HTTP/1.1",
        ),
        case(
            "",
            Manner::Says(b"+OK POP3 ready\r\n"),
            NONSENSE,
            "greeting",
            "+OK POP3",
        ),
        case(
            "",
            Manner::Says(b"\x15\x03\x01\x00\x02\x02\x46\n"),
            NONSENSE,
            "greeting",
            "",
        ),
        case(
            "",
            Manner::Endless(b"\x9f\x00\xe1x"),
            NONSENSE,
            "greeting",
            "",
        ),
        case(
            "",
            Manner::Endless(b"220-and more\r\n"),
            NONSENSE,
            "greeting",
            "220-and more",
        ),
        case(hello, Manner::Resets, RESET, "EHLO", ""),
        case(hello, Manner::Hangs, TIMED_OUT, "EHLO", ""),
        case(
            hello,
            Manner::Says(b"250-x\r\n550 y\r\n"),
            NONSENSE,
            "EHLO",
            "550 y",
        ),
        case("MAIL", Manner::Resets, RESET, "MAIL", ""),
        case("MAIL", Manner::Closes, CLOSED, "MAIL", "closed by the peer"),
        case(
            "MAIL",
            Manner::Says(b"421 4.3.2 shutting down\r\n"),
            FOR_NOW,
            "MAIL",
            "421 4.3.2",
        ),
        case(
            "MAIL",
            Manner::Says(b"354 what\r\n"),
            NONSENSE,
            "MAIL",
            "354 at MAIL",
        ),
        case("RCPT", Manner::Resets, RESET, "RCPT", ""),
        case(
            "RCPT",
            Manner::Says(b"550 5.1.1 nobody\r\n"),
            REFUSED,
            "RCPT",
            "550 5.1.1 nobody",
        ),
        case("RCPT", Manner::Hangs, TIMED_OUT, "RCPT", ""),
        case("DATA", Manner::Resets, RESET, "DATA", ""),
        case(
            "DATA",
            Manner::Says(b"451 4.3.0 not now\r\n"),
            FOR_NOW,
            "DATA",
            "451 4.3.0",
        ),
        case(
            "DATA",
            Manner::Says(b"250 thanks\r\n"),
            NONSENSE,
            "DATA",
            "250 at DATA",
        ),
        case("BODY", Manner::Resets, RESET, "body->250", ""),
        case(
            "BODY",
            Manner::Says(b"552 5.3.4 too large\r\n"),
            REFUSED,
            "body->250",
            "552 5.3.4",
        ),
        case("BODY", Manner::Endless(b"x"), NONSENSE, "body->250", ""),
    ];
    // It takes not a byte of a body that no socket's buffers hold.
    cases.push(Case {
        more: "--size 22M",
        ..case("BODY", Manner::Hangs, TIMED_OUT, "body->250", "")
    });
    cases
}

#[test]
fn bad_smtp_servers_are_named() {
    all(mail_cases("smtp", Speaks::Smtp));
}

#[test]
fn bad_lmtp_servers_are_named() {
    all(mail_cases("lmtp", Speaks::Lmtp));
}

#[test]
fn bad_pop3_servers_are_named() {
    let case = |stage: &'static str, manner, kind, verb, said| Case {
        command: "pop3",
        target: rude(Speaks::Pop3, stage, manner),
        more: "",
        kind,
        verb,
        said,
    };
    all(vec![
        Case {
            target: down(),
            ..case("", Manner::Hangs, "connection refused", "connect", "")
        },
        case("", Manner::Hangs, TIMED_OUT, "greeting", "--tls"),
        case("", Manner::Resets, RESET, "greeting", ""),
        case("", Manner::Closes, CLOSED, "greeting", "closed by the peer"),
        case(
            "",
            Manner::Says(b"+OK half a gree"),
            TIMED_OUT,
            "greeting",
            "",
        ),
        case(
            "",
            Manner::Says(b"-ERR [SYS/TEMP] busy\r\n"),
            REFUSED,
            "greeting",
            "busy",
        ),
        case(
            "",
            Manner::Says(b"220 SMTP here\r\n"),
            NONSENSE,
            "greeting",
            "220 SMTP here",
        ),
        case(
            "",
            Manner::Says(b"HTTP/1.1 400 Bad\r\n"),
            NONSENSE,
            "greeting",
            "HTTP/1.1",
        ),
        case(
            "",
            Manner::Endless(b"\x9f\x00\xe1x"),
            NONSENSE,
            "greeting",
            "",
        ),
        case("USER", Manner::Resets, RESET, "USER", ""),
        case("USER", Manner::Hangs, TIMED_OUT, "USER", ""),
        case(
            "PASS",
            Manner::Says(b"-ERR [AUTH] no\r\n"),
            REFUSED,
            "PASS",
            "[AUTH] no",
        ),
        case("PASS", Manner::Closes, CLOSED, "PASS", "closed by the peer"),
        case(
            "STAT",
            Manner::Says(b"+OK many\r\n"),
            NONSENSE,
            "STAT",
            "+OK many",
        ),
        case(
            "STAT",
            Manner::Says(b"-ERR no\r\n"),
            REFUSED,
            "STAT",
            "-ERR no",
        ),
        case(
            "LIST",
            Manner::Says(b"+OK\r\n1 300\r\n"),
            TIMED_OUT,
            "LIST",
            "",
        ),
        case(
            "LIST",
            Manner::Endless(b"+OK and more\r\n"),
            NONSENSE,
            "LIST",
            "more than",
        ),
        case("UIDL", Manner::Resets, RESET, "UIDL", ""),
        case(
            "RETR",
            Manner::Says(b"-ERR gone\r\n"),
            REFUSED,
            "RETR",
            "-ERR gone",
        ),
        case(
            "RETR",
            Manner::Says(b"+OK\r\nSubject: cut"),
            TIMED_OUT,
            "RETR",
            "",
        ),
        case("RETR", Manner::Resets, RESET, "RETR", ""),
    ]);
}

#[test]
fn tls_where_there_is_none_and_none_where_there_is_tls() {
    let (config, _) = fake::certificate();
    let doors = Doors {
        tls: Some((config, true)),
        ..Doors::default()
    };
    let store = fake::Store::default();
    let plain = |command, more, target, said| Case {
        command,
        target,
        more,
        kind: NONSENSE,
        verb: "TLS",
        said,
    };
    let silent = |command, target| Case {
        command,
        target,
        more: "",
        kind: TIMED_OUT,
        verb: "greeting",
        said: "as silent (--tls)",
    };
    let tls = "--tls --tls-insecure";
    all(vec![
        plain("smtp", tls, fake::smtp(&store, &[]), "not TLS: 220 fake"),
        plain("lmtp", tls, fake::smtp(&store, &[]), "not TLS: 220 fake"),
        plain("pop3", tls, fake::pop3(&store), "not TLS: +OK fake"),
        silent("smtp", fake::guarded_smtp(&store, &[], &doors)),
        silent("pop3", fake::guarded_pop3(&store, &doors)),
        Case {
            kind: TIMED_OUT,
            ..plain("smtp", tls, rude(Speaks::Smtp, "", Manner::Hangs), "")
        },
        Case {
            kind: RESET,
            ..plain("smtp", tls, rude(Speaks::Smtp, "", Manner::Resets), "")
        },
        // A fatal alert: handshake_failure is number 40 (RFC 8446 §6).
        Case {
            kind: "TLS failed",
            ..plain(
                "smtp",
                tls,
                rude(
                    Speaks::Smtp,
                    "",
                    Manner::Says(b"\x15\x03\x03\x00\x02\x02\x28"),
                ),
                "TLS failed 40 at TLS: the server sent the alert HandshakeFailure",
            )
        },
        Case {
            kind: "not offered",
            verb: "STARTTLS",
            ..plain(
                "smtp",
                "--starttls --tls-insecure",
                fake::smtp(&store, &[]),
                "RFC 3207",
            )
        },
        Case {
            kind: REFUSED,
            verb: "STARTTLS",
            ..plain(
                "pop3",
                "--starttls --tls-insecure",
                fake::pop3(&store),
                "-ERR no TLS here",
            )
        },
        // Words in the clear behind the agreement, where only TLS may follow.
        Case {
            verb: "STARTTLS",
            ..plain(
                "pop3",
                "--starttls --tls-insecure",
                rude(
                    Speaks::Pop3,
                    "STLS",
                    Manner::Says(b"+OK\r\n+OK injected\r\n"),
                ),
                "injected",
            )
        },
    ]);
}

#[test]
fn idle_connections_fail_with_a_bad_server() {
    for (manner, kind) in [
        (Manner::Hangs, TIMED_OUT),
        (Manner::Resets, RESET),
        (Manner::Says(b"HTTP/1.1 400 Bad Request\r\n"), NONSENSE),
        (Manner::Says(b"421 4.3.2 too many connections\r\n"), FOR_NOW),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let target = rude(Speaks::Smtp, "", manner);
        let idle = loadgen(
            dir.path(),
            &format!(
                "idle-connections --target {target} --connections 5 --timeout 500ms --hold 1s"
            ),
        );
        assert_eq!(idle.status, 1, "{manner:?}: {}", idle.text);
        assert!(idle.text.contains(kind), "{manner:?}: {}", idle.text);
    }
}
