//! What the ledger is for: a server that loses one message in a great many and damages another is
//! found out, and so is every message behind a server that dies.

#[allow(
    dead_code,
    unused_imports,
    reason = "each test program uses its own part of this"
)]
mod fake;

use std::path::Path;
use std::process::Command;

use fake::{Fault, Store};
use serde_json::Value;

fn loadgen(dir: &Path, arguments: &str) -> (i32, Value, String) {
    let json = dir.join("result.json");
    let _ = std::fs::remove_file(&json);
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments.split_ascii_whitespace())
        .args(["--json".as_ref(), json.as_os_str()])
        .output()
        .expect("it starts");
    let text = [output.stdout, output.stderr].concat();
    let read = std::fs::read(&json).ok();
    (
        output.status.code().expect("not killed"),
        read.and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or(Value::Null),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// One message in a great many is acknowledged and thrown away, and another has one bit
/// flipped; `LOADGEN_PROOF_MESSAGES=100000` makes it that many, which takes a minute or more.
#[test]
fn one_lost_and_one_damaged_in_a_great_many_are_found() {
    let wanted = std::env::var("LOADGEN_PROOF_MESSAGES").ok();
    let count: u64 = wanted.and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = dir.path().join("ledger");
    let store = Store::default();
    let faults = [Fault::Drop(count / 3), Fault::Corrupt(count / 2)];
    let (inbound, outbound) = (fake::smtp(&store, &faults), fake::pop3(&store));
    let (status, json, text) = loadgen(
        dir.path(),
        &format!(
            "lmtp --target {inbound} --count {count} --size 700 --users 100 --connections 20 \
             --ledger {}",
            ledger.display()
        ),
    );
    assert_eq!((status, &json["done"]), (0, &count.into()), "{text}");
    assert!(
        text.contains("no errors"),
        "the server said nothing of it: {text}"
    );
    let (status, json, text) = loadgen(
        dir.path(),
        &format!(
            "verify --ledger {} --pop3 {outbound} --password pw",
            ledger.display()
        ),
    );
    println!("{text}");
    assert_eq!(status, 1, "{text}");
    assert_eq!(json["acknowledged"], count);
    // Both were acknowledged; the damaged one is there, but not whole.
    assert_eq!(
        (&json["missing"], &json["corrupt"], &json["found"]),
        (&1.into(), &1.into(), &(count - 2).into()),
        "{text}"
    );
    assert!(
        text.contains("\nmissing: ") && text.contains("\ncorrupt: "),
        "{text}"
    );
}

#[test]
fn the_time_to_where_pop3_shows_it_is_measured() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (inbound, outbound) = (fake::smtp(&store, &[]), fake::pop3(&store));
    let (status, json, text) = loadgen(
        dir.path(),
        &format!(
            "smtp --target {inbound} --count 100 --users 20 --connections 2 --end-to-end \
             pop3:{outbound} --watch-users 10 --poll-every 200ms --mailbox-password pw"
        ),
    );
    assert_eq!(status, 0, "{text}");
    let seen = json["end_to_end"]["seen"].as_u64().expect("a number");
    assert_eq!(json["verbs"]["250->visible"]["count"], seen);
    // Half of the users are watched; fewer than ten of a hundred messages would be a miracle.
    assert!((10..=100).contains(&seen), "{text}");
    assert_eq!(json["end_to_end"]["not_seen"], 0);
    assert!(text.contains("looked at every 200ms"), "{text}");
}

#[test]
fn what_is_seen_after_the_run_is_in_its_logs() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (inbound, outbound) = (fake::smtp(&store, &[]), fake::pop3(&store));
    let results = dir.path().join("results");
    // The first look comes long after the last message.
    let (status, json, text) = loadgen(
        dir.path(),
        &format!(
            "smtp --target {inbound} --count 10 --users 2 --connections 1 --results {} --end-to-end \
             pop3:{outbound} --watch-users 2 --poll-every 2s --mailbox-password pw",
            results.display()
        ),
    );
    assert_eq!(status, 0, "{text}");
    assert_eq!(json["verbs"]["250->visible"]["count"], 10, "{text}");
    let log = loadgen::results::hdr::read(&results.join("hdr.log")).expect("a log");
    let logged = log["250->visible"].total().expect("some times");
    assert_eq!(logged.len(), 10);
    assert_eq!(
        json["verbs"]["250->visible"]["max_ns"],
        logged.max(),
        "{text}"
    );
}

#[test]
fn a_sample_of_messages_is_followed_whoever_gets_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (inbound, outbound) = (fake::smtp(&store, &[]), fake::pop3(&store));
    // Of so many users hardly one gets a second message.
    let (status, json, text) = loadgen(
        dir.path(),
        &format!(
            "smtp --target {inbound} --count 100 --rate 200 --users 100000 --connections 2 \
             --end-to-end pop3:{outbound} --watch-messages 50 --poll-every 200ms \
             --mailbox-password pw"
        ),
    );
    assert_eq!(status, 0, "{text}");
    let seen = json["end_to_end"]["seen"].as_u64().expect("a number");
    assert_eq!(json["verbs"]["250->visible"]["count"], seen);
    // Half a second at fifty a second; a slow machine takes longer, and follows more.
    assert!((10..=100).contains(&seen), "{text}");
    assert_eq!(json["end_to_end"]["not_seen"], 0);
    assert!(text.contains("to any of 100000 users"), "{text}");
}

#[test]
fn mail_that_never_becomes_visible_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let faults = [Fault::Drop(3)];
    let (inbound, outbound) = (fake::smtp(&store, &faults), fake::pop3(&store));
    let (status, json, text) = loadgen(
        dir.path(),
        &format!(
            "smtp --target {inbound} --count 10 --users 2 --connections 1 --timeout 1s \
             --end-to-end pop3:{outbound} --watch-users 2 --poll-every 200ms --mailbox-password pw"
        ),
    );
    assert_eq!(status, 1, "{text}");
    assert_eq!(json["end_to_end"]["not_seen"], 1, "{text}");
    assert!(
        text.contains("1 acknowledged messages were not seen"),
        "{text}"
    );
}

#[test]
fn mailboxes_that_cannot_be_watched_end_the_run_before_it_begins() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (inbound, outbound) = (fake::smtp(&store, &[]), fake::pop3(&store));
    for (way, wanted) in [
        (
            format!("pop3:{outbound} --mailbox-password wrong"),
            "[AUTH] wrong password",
        ),
        (
            format!("imap-idle:{outbound} --mailbox-password pw"),
            "not the protocol",
        ),
    ] {
        let (status, _, text) = loadgen(
            dir.path(),
            &format!("smtp --target {inbound} --count 10 --timeout 1s --end-to-end {way}"),
        );
        assert_eq!(status, 2, "{text}");
        assert!(
            text.contains("could be watched") && text.contains(wanted),
            "{text}"
        );
    }
}

#[test]
fn lost_replies_are_pauses_where_restarts_are_expected() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = dir.path().join("ledger");
    let store = Store::default();
    let faults = [Fault::Mute(5), Fault::Mute(50)];
    let (inbound, outbound) = (fake::smtp(&store, &faults), fake::pop3(&store));
    let (status, json, text) = loadgen(
        dir.path(),
        &format!(
            "smtp --target {inbound} --count 100 --users 20 --connections 2 --expect-restarts \
             --ledger {} --verify pop3:{outbound} --mailbox-password pw",
            ledger.display()
        ),
    );
    assert_eq!(status, 0, "{text}");
    assert_eq!(
        (&json["done"], &json["failed"]),
        (&100.into(), &0.into()),
        "{text}"
    );
    assert_eq!(json["restarts"]["connections_broken"], 2, "{text}");
    assert_eq!(json["restarts"]["messages_waiting"], 0);
    // The two whose replies were lost were sent again, and are there twice: that is allowed.
    assert_eq!(
        (&json["verify"]["found"], &json["verify"]["doubled"]),
        (&100.into(), &0.into())
    );
    assert!(
        text.contains("restarts, as expected: 2 connections broke"),
        "{text}"
    );
}

#[test]
fn hooks_run_beside_a_run_and_are_reported() {
    let dir = tempfile::tempdir().expect("a folder");
    let inbound = fake::smtp(&Store::default(), &[]);
    let json = dir.path().join("result.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["smtp", "--target", &inbound.to_string(), "--duration", "2s"])
        .args([
            "--connections",
            "1",
            "--chaos",
            "echo now every 200ms jitter 50ms",
        ])
        .args(["--json".as_ref(), json.as_os_str()])
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let json: Value =
        serde_json::from_slice(&std::fs::read(&json).expect("results")).expect("JSON");
    let hook = &json["chaos"][0];
    let count = hook["count"].as_u64().expect("a number");
    assert!(count >= 2, "{text}");
    let output = hook["output"].as_str().expect("a text");
    // The last one may be ended with the run before it has said anything.
    let lines = output.lines().count() as u64;
    assert!((count - 1..=count).contains(&lines), "{lines} of {count}");
    assert!(text.contains("chaos: 'echo now' run"), "{text}");
}
