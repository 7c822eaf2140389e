//! The whole program against a small server with faults to order.

#[path = "program/bad_servers.rs"]
mod bad_servers;
mod fake;
#[path = "program/load.rs"]
mod load;
#[path = "program/wire.rs"]
mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fake::{Fault, Store};
use serde_json::Value;

struct Outcome {
    status: i32,
    json: Value,
    text: String,
}

/// Runs `loadgen` on one CPU with a JSON result.
fn loadgen(dir: &Path, arguments: &str) -> Outcome {
    let json = dir.join("result.json");
    let _ = std::fs::remove_file(&json);
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments.split_ascii_whitespace())
        .args(["--processors", "count:1", "--json"])
        .arg(&json)
        .output()
        .expect("it starts");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Outcome {
        status: output
            .status
            .code()
            .unwrap_or_else(|| panic!("killed: {text}")),
        json: std::fs::read(&json)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or(Value::Null),
        text,
    }
}

fn send(dir: &Path, command: &str, target: SocketAddr, more: &str) -> Outcome {
    let ledger = dir.join("ledger");
    let _ = std::fs::remove_file(&ledger);
    let size = if more.contains("--size") {
        ""
    } else {
        "--size 2K"
    };
    loadgen(
        dir,
        &format!(
            "{command} --target {target} --users 20 --connections 4 {size} --ledger {} {more}",
            ledger.display()
        ),
    )
}

fn verify(dir: &Path, target: SocketAddr, more: &str) -> Outcome {
    let ledger = dir.join("ledger");
    loadgen(
        dir,
        &format!(
            "verify --ledger {} --pop3 {target} {more}",
            ledger.display()
        ),
    )
}

/// Sends `count` messages to a server with `faults` and verifies them.
fn round(command: &str, faults: &[Fault], more: &str) -> (Outcome, Outcome) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (inbound, outbound) = (fake::smtp(&store, faults), fake::pop3(&store));
    let sent = send(dir.path(), command, inbound, more);
    let verified = verify(dir.path(), outbound, "--password pw");
    (sent, verified)
}

fn numbers(outcome: &Outcome) -> [i64; 6] {
    [
        "acknowledged",
        "found",
        "found_unacknowledged",
        "missing",
        "doubled",
        "corrupt",
    ]
    .map(|name| {
        outcome.json[name]
            .as_i64()
            .unwrap_or_else(|| panic!("{}", outcome.text))
    })
}

#[test]
fn all_arrives() {
    let (sent, verified) = round("smtp", &[], "--count 300");
    assert_eq!(sent.status, 0, "{}", sent.text);
    assert_eq!(sent.json["done"], 300);
    assert!(
        sent.text.contains("body->250") && sent.text.contains("no errors"),
        "{}",
        sent.text
    );
    assert_eq!(verified.status, 0, "{}", verified.text);
    assert_eq!(numbers(&verified), [300, 300, 0, 0, 0, 0]);
}

#[test]
fn lmtp_with_several_recipients_and_without_pipelining() {
    let (sent, verified) = round(
        "lmtp",
        &[],
        "--count 100 --recipients 3 --pipelining off --messages-per-connection 7",
    );
    assert_eq!(sent.status, 0, "{}", sent.text);
    assert_eq!(
        (&sent.json["items"], verified.status),
        (&300.into(), 0),
        "{}",
        verified.text
    );
    assert_eq!(numbers(&verified), [300, 300, 0, 0, 0, 0]);
    assert_eq!(sent.json["verbs"]["RCPT"]["count"], 300);
    // At least 100 / 7; how many are begun for fewer at the end is a matter of who is faster.
    let connections = sent.json["connections"].as_u64().expect("a number");
    assert!((15..=25).contains(&connections), "{connections}");
}

#[test]
fn a_dropped_a_doubled_and_a_corrupted_message_are_found() {
    let faults = [Fault::Drop(10), Fault::Double(20), Fault::Corrupt(30)];
    let (sent, verified) = round("smtp", &faults, "--count 60");
    assert_eq!(
        sent.status, 0,
        "the server said nothing of it: {}",
        sent.text
    );
    assert_eq!(verified.status, 1);
    assert_eq!(numbers(&verified), [60, 58, 0, 1, 1, 1]);
    let offences: Vec<_> = verified.json["offenders"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|offender| offender["offence"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(offences, ["missing", "doubled", "corrupt"]);
    assert!(verified.text.contains("missing: ") && verified.text.contains("@bench.test"));
}

#[test]
fn a_lost_reply_is_unknown_without_retry_and_doubled_by_nobody_with_it() {
    let (sent, verified) = round("smtp", &[Fault::Mute(5)], "--count 40");
    assert_eq!(sent.status, 1, "{}", sent.text);
    assert_eq!(
        (&sent.json["unknown"], &sent.json["done"]),
        (&1.into(), &39.into())
    );
    assert_eq!(
        (verified.status, numbers(&verified)),
        (0, [39, 40, 1, 0, 0, 0])
    );
    // Sent again: two copies, of one acknowledged attempt and one unknown.
    let (sent, verified) = round("smtp", &[Fault::Mute(5)], "--count 40 --retry");
    assert_eq!(sent.json["done"], 40, "{}", sent.text);
    assert_eq!(
        (verified.status, numbers(&verified)),
        (0, [40, 40, 0, 0, 0, 0])
    );
}

#[test]
fn refusals_are_counted_by_code() {
    let (sent, verified) = round("smtp", &[Fault::Refuse(4, 452)], "--count 40");
    assert_eq!(sent.status, 1);
    let error = &sent.json["errors"][0];
    assert_eq!(
        (&error["code"], &error["count"]),
        (&452.into(), &10.into()),
        "{}",
        sent.text
    );
    assert_eq!(
        (verified.status, numbers(&verified)),
        (0, [30, 30, 0, 0, 0, 0])
    );
    let (sent, _) = round("smtp", &[Fault::RefuseRcpt(550)], "--count 10");
    assert_eq!(
        (&sent.json["failed"], sent.status),
        (&10.into(), 1),
        "{}",
        sent.text
    );
    assert!(
        sent.text.contains("refused 550 at RCPT: 550 no"),
        "{}",
        sent.text
    );
}

#[test]
fn a_wrong_password_makes_a_bad_verdict() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (inbound, outbound) = (fake::smtp(&store, &[]), fake::pop3(&store));
    send(dir.path(), "smtp", inbound, "--count 10");
    let verified = verify(dir.path(), outbound, "--password wrong --attempts 2");
    assert_eq!(verified.status, 1);
    assert!(
        verified.text.contains("[AUTH] wrong password"),
        "{}",
        verified.text
    );
    assert!(
        verified.text.contains("could not be read"),
        "{}",
        verified.text
    );
}

#[test]
fn pop3_sessions_are_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (inbound, outbound) = (fake::smtp(&store, &[]), fake::pop3(&store));
    send(dir.path(), "smtp", inbound, "--count 400");
    let log = dir.path().join("hdr");
    let read = loadgen(
        dir.path(),
        &format!(
            "pop3 --target {outbound} --users 20 --connections 3 --count 60 --retr 2 --password pw \
             --hdr-log {}",
            log.display()
        ),
    );
    assert_eq!(read.status, 0, "{}", read.text);
    assert_eq!(
        (&read.json["done"], &read.json["items"]),
        (&60.into(), &120.into())
    );
    assert_eq!(read.json["verbs"]["RETR"]["count"], 120);
    let log = std::fs::read_to_string(log).expect("an HDR log");
    assert!(log.contains("Tag=RETR,") && log.contains("HISTF"), "{log}");
}

#[test]
fn idle_connections_are_held() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = fake::smtp(&Store::default(), &[]);
    let began = Instant::now();
    let idle = loadgen(
        dir.path(),
        &format!("idle-connections --target {target} --connections 60 --hold 1s"),
    );
    assert_eq!(
        (idle.status, &idle.json["up"]),
        (0, &60.into()),
        "{}",
        idle.text
    );
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn wrong_flags_say_what_is_allowed() {
    let dir = tempfile::tempdir().expect("a folder");
    let none = "127.0.0.1:9";
    for (arguments, wanted) in [
        ("smtp --target nowhere".to_owned(), "ADDR:PORT"),
        (
            format!("smtp --target {none} --size 1K:x"),
            "'x' in '1K:x' is not a weight",
        ),
        (
            format!("smtp --target {none} --size lognormal:1K"),
            "lognormal:MEDIAN,SIGMA",
        ),
        (
            format!("smtp --target {none} --messages /does/not/exist"),
            "--messages /does/not/exist: No such file",
        ),
        (
            format!("smtp --target {none} --messages /does --size 4K"),
            "cannot be used with",
        ),
        (
            format!("smtp --target {none} --spread normal"),
            "uniform, domains, or zipf:S",
        ),
        (
            format!("smtp --target {none} --recipients 1:1,100001"),
            "a number from 1 to 100000",
        ),
        (
            format!("smtp --target {none} --users 10 --domain a,b --recipients 6 --spread domains"),
            "has only 5 users",
        ),
        (
            format!("smtp --target {none} --tls --starttls"),
            "cannot be used with",
        ),
        (
            format!("smtp --target {none} --tls-insecure"),
            "need --tls or --starttls",
        ),
        (
            format!("smtp --target {none} --tls --tls-ca /does/not/exist"),
            "--tls-ca /does/not/exist",
        ),
        (
            format!("smtp --target {none} --tls --tls-insecure --tls-name a/b"),
            "a host name or an IP address",
        ),
        (format!("smtp --target {none} --auth plain"), "--password"),
        (
            format!("submission --target {none} --auth kerberos --password x"),
            "scram-sha-256",
        ),
        (
            format!("smtp --target {none} --size 10"),
            "--size: a message of 10 bytes",
        ),
        (format!("smtp --target {none} --size 4X"), "700, 4K"),
        (
            format!("smtp --target {none} --users 2 --recipients 3"),
            "there are only 2 users",
        ),
        (
            format!("smtp --target {none} --from nobody"),
            "local-part@domain",
        ),
        (
            format!("smtp --target {none} --rcpt-file /does/not/exist"),
            "/does/not/exist",
        ),
        (
            format!("smtp --target {none} --ledger /does/not/exist"),
            "/does/not/exist",
        ),
        (
            format!("smtp --target {none} --duration soon"),
            "500ms, 10s",
        ),
        (
            "verify --ledger /does/not/exist --pop3 127.0.0.1:9 --password x".to_owned(),
            "/does/not",
        ),
        (format!("smtp --target {none} --rate fast"), "500 or 2.5k"),
        (format!("smtp --target {none} --open-all"), "--rate"),
        (
            format!("knee smtp --target {none} --p99 1s --rate 5"),
            "it chooses the rates",
        ),
        (format!("knee smtp --target {none}"), "--p99"),
    ] {
        let outcome = loadgen(dir.path(), &arguments);
        assert_eq!(outcome.status, 2, "{arguments}: {}", outcome.text);
        assert!(
            outcome.text.contains(wanted),
            "{arguments}: {}",
            outcome.text
        );
    }
}
