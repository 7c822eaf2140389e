//! `kill -9` at random moments under load, then every mailbox is read back: nothing that was
//! acknowledged is missing, doubled or damaged.

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Server, loadgen, verify};

/// Kills in one test; `RINGPOST_CRASHES` sets another number.
fn crashes() -> u32 {
    let wanted = std::env::var("RINGPOST_CRASHES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// Under load from loadgen with this many recipients a message, killed and restarted again and
/// again; then verified.
fn survive(recipients: u32, size: &str) {
    let mut server = Server::start(&["--processors", "0-1"]);
    server.generate(40);
    let folder = tempfile::tempdir().expect("a folder");
    let mut ledgers = Vec::new();
    let mut seed = u64::from(std::process::id());
    for round in 0..crashes() {
        let ledger = folder.path().join(format!("ledger-{round}"));
        let mut load = loadgen()
            .args([
                "smtp",
                "--target",
                &server.smtp.to_string(),
                "--connections",
                "20",
            ])
            .args([
                "--users",
                "40",
                "--recipients",
                &recipients.to_string(),
                "--size",
                size,
            ])
            .args([
                "--duration",
                "30s",
                "--stop-on-disconnect",
                "--quiet",
                "--ledger",
            ])
            .arg(&ledger)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("loadgen");
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let started = Instant::now();
        std::thread::sleep(Duration::from_millis(300 + (seed >> 33) % 1200));
        // On a busy machine the load may only just have begun.
        while acknowledged(&ledger) < 5 && started.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
        }
        server.kill();
        let killed = Instant::now();
        load.wait().expect("loadgen ends");
        assert!(killed.elapsed() < Duration::from_secs(20), "loadgen hangs");
        server.restart();
        ledgers.push(ledger);
    }
    // A run that delivered nothing proves nothing.
    assert!(verify(&server, &ledgers) >= 5 * u64::from(crashes()));
}

/// Messages that the ledger says were acknowledged.
fn acknowledged(ledger: &Path) -> usize {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    text.lines().filter(|line| line.contains("=250")).count()
}

#[test]
fn one_recipient() {
    survive(1, "4K");
}

#[test]
fn several_recipients_across_partitions() {
    survive(5, "4K");
}

#[test]
fn bodies_that_stream() {
    survive(3, "600K");
}
