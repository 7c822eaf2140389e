//! `kill -9` at random moments under load, then every mailbox is read back: nothing that was
//! acknowledged is missing, doubled or damaged.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Server, beside};

/// Kills in one test; `RINGPOST_CRASHES` sets another number.
fn crashes() -> u32 {
    let wanted = std::env::var("RINGPOST_CRASHES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// The load generator, built beside the server by `cargo test --workspace`.
fn loadgen() -> Command {
    let path = beside("loadgen").expect("loadgen is built: run `cargo test --workspace`");
    Command::new(path)
}

/// Under load from loadgen with this many recipients a message, killed and restarted again and
/// again; then verified.
fn survive(recipients: u32, size: &str) {
    let mut server = Server::start(&["--processors", "0-1"]);
    server.run(&[
        "account",
        "generate",
        "--users",
        "40",
        "--prefix",
        "u",
        "--domain",
        "bench.test",
        "--password",
        "pw",
    ]);
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
    verify(&server, &ledgers);
}

/// Messages that the ledger says were acknowledged.
fn acknowledged(ledger: &Path) -> usize {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    text.lines().filter(|line| line.contains("=250")).count()
}

fn verify(server: &Server, ledgers: &[impl AsRef<Path>]) {
    let mut command = loadgen();
    command.args([
        "verify",
        "--pop3",
        &server.pop3.to_string(),
        "--password",
        "pw",
    ]);
    for ledger in ledgers {
        command.arg("--ledger").arg(ledger.as_ref());
    }
    let output = command.output().expect("loadgen");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    // A run that delivered nothing proves nothing.
    let found: u64 = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("acknowledged"))
        .and_then(|rest| {
            rest.split_whitespace()
                .next()?
                .replace(',', "")
                .parse()
                .ok()
        })
        .expect("a count of acknowledged messages");
    assert!(found >= 5 * u64::from(crashes()), "{said}");
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
