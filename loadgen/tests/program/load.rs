//! How load is made: when operations are due, by how many processes, and how much a server bears.

use std::time::Instant;

use loadgen::interval::Interval;
use loadgen::recorder::Verb;
use serde_json::Value;

use super::fake::{self, Fault, Manner, Speaks, Store};
use super::{Outcome, loadgen, numbers, send};

/// The part of what was timed that took longer.
fn share_above(outcome: &Outcome, verb: Verb, ms: u64) -> f64 {
    let interval = Interval::from_json(outcome.json["interval"].clone(), Instant::now());
    let interval = interval.unwrap_or_else(|e| panic!("{e}: {}", outcome.text));
    let histogram = interval.histogram(verb).expect("seen");
    histogram.count_between(ms * 1_000_000, u64::MAX) as f64 / histogram.len() as f64
}

#[test]
fn a_stall_is_seen_by_whoever_counts_from_when_it_was_due() {
    // 800 messages in two seconds, and half a second in which nothing is answered: one in four
    // comes due meanwhile, and one in five waits 100 ms or more; but only four connections are in
    // the middle of something.
    let dir = tempfile::tempdir().expect("a folder");
    let stall = [Fault::Stall(300, 500)];
    let target = fake::smtp(&Store::default(), &stall);
    let open = send(
        dir.path(),
        "smtp",
        target,
        "--count 800 --rate 400 --arrivals uniform",
    );
    assert_eq!(open.status, 0, "{}", open.text);
    let from_due = share_above(&open, Verb::Message, 100);
    let from_start = share_above(&open, Verb::MessageBegun, 100);
    assert!(from_due > 0.1, "{from_due}: {}", open.text);
    assert!(
        from_start < from_due / 3.0,
        "{from_start}, {from_due}: {}",
        open.text
    );
    let open_loop = &open.json["open_loop"];
    assert!(open_loop["late"].as_u64() > Some(100), "{}", open.text);
    assert!(
        open_loop["lateness_max_ns"].as_u64() > Some(300_000_000),
        "{}",
        open.text
    );
    assert!(open.text.contains("message.started"), "{}", open.text);
    // The closed loop waits with the server, and sees next to nothing.
    let target = fake::smtp(&Store::default(), &stall);
    let closed = send(dir.path(), "smtp", target, "--count 800");
    let share = share_above(&closed, Verb::Message, 100);
    assert!(
        share < from_due / 3.0,
        "{share}, {from_due}: {}",
        closed.text
    );
    assert_eq!(closed.json["open_loop"], Value::Null);
}

#[test]
fn sessions_and_connections_come_when_they_are_due() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (inbound, outbound) = (fake::smtp(&store, &[]), fake::pop3(&store));
    let sent = send(
        dir.path(),
        "smtp",
        inbound,
        "--count 100 --rate 1k --ramp 50ms --messages-per-connection 1",
    );
    assert_eq!(
        (&sent.json["done"], &sent.json["connections"]),
        (&100.into(), &100.into()),
        "{}",
        sent.text
    );
    let log = dir.path().join("hdr");
    let read = loadgen(
        dir.path(),
        &format!(
            "pop3 --target {outbound} --users 20 --connections 5 --count 60 --rate 600 --retr 1 \
             --password pw --hdr-log {}",
            log.display()
        ),
    );
    assert_eq!(
        (read.status, &read.json["done"]),
        (0, &60.into()),
        "{}",
        read.text
    );
    assert_eq!(read.json["verbs"]["session.started"]["count"], 60);
    let log = std::fs::read_to_string(log).expect("an HDR log");
    for tag in [
        "Tag=session,",
        "Tag=session.started,",
        "Tag=generator.late,",
    ] {
        assert!(log.contains(tag), "{tag}: {log}");
    }
}

#[test]
fn connections_may_be_opened_before_they_are_needed() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = fake::smtp(&Store::default(), &[]);
    let flags = "--rate 20 --arrivals uniform --duration 1s --connections 30";
    for (more, least, most) in [("", 1, 29), ("--open-all", 30, 30)] {
        let sent = loadgen(
            dir.path(),
            &format!("smtp --target {target} {flags} {more}"),
        );
        let connections = sent.json["connections"].as_u64();
        assert_eq!(sent.status, 0, "{}", sent.text);
        assert!(
            connections >= Some(least) && connections <= Some(most),
            "{}",
            sent.text
        );
    }
}

#[test]
fn processes_share_a_run_and_lose_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::default();
    let (inbound, outbound) = (fake::smtp(&store, &[]), fake::pop3(&store));
    let log = dir.path().join("hdr");
    let flags = format!("--count 301 --processes 3 --hdr-log {}", log.display());
    for more in ["", "--rate 2k"] {
        store.lock().expect("not poisoned").clear();
        (0..3).for_each(|index| {
            drop(std::fs::remove_file(
                dir.path().join(format!("ledger.{index}")),
            ))
        });
        let sent = send(dir.path(), "smtp", inbound, &format!("{flags} {more}"));
        assert_eq!(
            (sent.status, &sent.json["done"]),
            (0, &301.into()),
            "{}",
            sent.text
        );
        let interval = Interval::from_json(sent.json["interval"].clone(), Instant::now());
        let interval = interval.expect("an interval");
        assert_eq!(interval.histogram(Verb::Message).expect("seen").len(), 301);
        assert_eq!(interval.efforts.len(), 3, "a thread of each");
        let text = std::fs::read_to_string(&log).expect("an HDR log");
        assert!(text.contains("Tag=message,"), "{text}");
        let ledgers: String = (0..3)
            .map(|index| {
                format!(
                    " --ledger {}",
                    dir.path().join(format!("ledger.{index}")).display()
                )
            })
            .collect();
        let verified = loadgen(
            dir.path(),
            &format!("verify --pop3 {outbound} --password pw{ledgers}"),
        );
        // No message has been sent twice, and none by nobody.
        assert_eq!(
            (verified.status, numbers(&verified)),
            (0, [301, 301, 0, 0, 0, 0]),
            "{}",
            verified.text
        );
    }
    let sent = send(dir.path(), "smtp", inbound, "--processes 2 --count 10");
    assert_eq!(
        (sent.status, sent.text.contains("ledger.0")),
        (2, true),
        "{}",
        sent.text
    );
}

#[test]
fn the_knee_of_a_server_that_is_slow_on_purpose() {
    // One message in 50 makes the whole server stand still for 100 ms: it cannot take 500/s.
    let dir = tempfile::tempdir().expect("a folder");
    let stalls: Vec<_> = (0..4000)
        .map(|number| Fault::Stall(number * 50, 100))
        .collect();
    let target = fake::smtp(&Store::default(), &stalls);
    let knee = loadgen(
        dir.path(),
        &format!(
            "knee smtp --target {target} --p50 2s --p99 5s --max-rate 64000 --start-rate 40 \
             --warmup 100ms --duration 1s --repeats 1 --precision 50"
        ),
    );
    let steps = knee.json["steps"]
        .as_array()
        .unwrap_or_else(|| panic!("{}", knee.text));
    assert!(
        knee.json["failed_per_s"].as_f64() < Some(64_000.0),
        "{}",
        knee.text
    );
    assert_eq!(knee.json["runs"], steps.len());
    assert!(
        steps.iter().any(|step| step["held"] == false),
        "{}",
        knee.text
    );
    for wanted in ["/s  failed", "knee: "] {
        assert!(knee.text.contains(wanted), "{wanted}: {}", knee.text);
    }
    // A promise that nobody keeps.
    let target = fake::rude(
        Speaks::Smtp,
        "",
        Manner::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    );
    let knee = loadgen(
        dir.path(),
        &format!(
            "knee smtp --target {target} --p99 1s --start-rate 1 --duration 200ms --warmup 1ms \
             --give-up 300ms"
        ),
    );
    assert_eq!(
        (knee.status, &knee.json["held_per_s"]),
        (1, &Value::Null),
        "{}",
        knee.text
    );
    assert!(knee.text.contains("held at no rate"), "{}", knee.text);
}
