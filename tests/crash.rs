//! `kill -9` at random moments under load, then every mailbox is read back: nothing that was
//! acknowledged is missing, doubled or damaged.

mod support;

use std::path::Path;
use std::process::Stdio;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use support::{Server, loadgen, verify};

/// Kills in one test; `RINGPOST_CRASHES` sets another number.
fn crashes() -> u32 {
    let wanted = std::env::var("RINGPOST_CRASHES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// Restarts by a hook are timed by the run they are part of: nothing else is killed meanwhile.
static ALONE: RwLock<()> = RwLock::new(());

/// Under load from loadgen with this many recipients a message, killed and restarted again and
/// again; then verified.
fn survive(recipients: u32, size: &str) {
    let _shared = ALONE.read().unwrap_or_else(PoisonError::into_inner);
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

/// One run of loadgen under which the server is killed and started again by a hook, several times;
/// the run reconnects, and reads everything back at its end.
#[test]
fn killed_and_restarted_by_a_hook() {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let mut server = Server::start(&["--processors", "0-1"]);
    server.generate(40);
    let [smtp, pop3] = [server.smtp, server.pop3].map(|address| address.to_string());
    server.kill();
    let folder = tempfile::tempdir().expect("a folder");
    let pid = folder.path().join("pid");
    // Once the old one has let go of the store, on the addresses it had; what it prints goes to a
    // file, and the hook does not wait for it.
    let script = format!(
        "if [ -s {pid} ]; then\n\
         kill -9 $(cat {pid})\n\
         for i in $(seq 50); do kill -0 $(cat {pid}) 2>/dev/null || break; sleep 0.05; done\n\
         fi\n\
         {ringpost} serve --data {data} --smtp {smtp} --pop3 {pop3} --lmtp none --imap none --http none \
         >>{log} 2>&1 </dev/null &\n\
         echo $! >{pid}\n",
        pid = pid.display(),
        ringpost = support::ringpost().display(),
        data = server.data.display(),
        log = folder.path().join("log").display(),
    );
    let hook = folder.path().join("hook");
    std::fs::write(&hook, script).expect("a script");
    let start = std::process::Command::new("sh").arg(&hook).status();
    assert!(start.expect("a shell").success());
    let json = folder.path().join("result.json");
    let output = loadgen()
        .args([
            "smtp",
            "--target",
            &smtp,
            "--connections",
            "10",
            "--users",
            "40",
        ])
        // Twice, the second time two seconds before the end at the latest.
        .args(["--duration", "13s", "--expect-restarts", "--ledger"])
        .arg(folder.path().join("ledger"))
        .args([
            "--chaos",
            &format!("sh {} every 5s jitter 1s", hook.display()),
        ])
        .args([
            "--verify",
            &format!("pop3:{pop3}"),
            "--mailbox-password",
            "pw",
        ])
        .args(["--mailbox-user-pattern", "{address}", "--json"])
        .arg(&json)
        .output()
        .expect("loadgen");
    let id = std::fs::read_to_string(&pid).expect("a process id");
    let ended = std::process::Command::new("kill")
        .args(["-9", id.trim()])
        .status();
    assert!(ended.expect("kill").success(), "it did not run at the end");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}\nSERVER {}",
        String::from_utf8_lossy(&output.stderr),
        std::fs::read_to_string(folder.path().join("log"))
            .unwrap_or_default()
            .lines()
            .filter(|line| !line.contains("ringpost::mail"))
            .collect::<Vec<_>>()
            .join("\n")
    );
    let json = std::fs::read_to_string(&json).expect("results");
    // What it said is what matters here; the numbers are loadgen's own tests'.
    assert!(
        json.contains("\"missing\": 0") && json.contains("\"corrupt\": 0"),
        "{text}"
    );
    assert!(
        text.contains("restarts, as expected") && text.contains("chaos: 'sh "),
        "{text}"
    );
}
