//! IMAP against a server that nobody here wrote: Debian's Dovecot, as bench/peers/dovecot starts it.
//!
//! What is absent is skipped and listed by name at the end; with `RINGPOST_SKIP=never` a skipped
//! test fails the run.

#[path = "../../tests/support/runner.rs"]
mod runner;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use runner::{Test, run_all};
use serde_json::Value;

const TESTS: &[Test] = &[
    Test::driving(
        "imap_commands_and_verify",
        &["dovecot", "python3"],
        commands,
    )
    .unless(lacks),
    Test::driving("imap_end_to_end", &["dovecot", "python3"], end_to_end).unless(lacks),
    Test::driving("tls", &["dovecot", "python3"], tls).unless(lacks),
    Test::driving("imap_idle_sessions", &["dovecot", "python3"], idle).unless(lacks),
];

fn main() -> std::process::ExitCode {
    run_all("dovecot", TESTS)
}

/// Dovecot needs its IMAP package, and root to start.
fn lacks() -> Option<String> {
    let imap = ["/usr/lib/dovecot/imap", "/usr/libexec/dovecot/imap"];
    if !imap.iter().any(|path| Path::new(path).exists()) {
        return Some("absent: dovecot-imapd".to_owned());
    }
    let root = std::fs::metadata("/proc/self").map(|meta| {
        use std::os::unix::fs::MetadataExt as _;
        meta.uid() == 0
    });
    (!root.unwrap_or(false)).then(|| "it has to be started by root".to_owned())
}

struct Dovecot {
    folder: tempfile::TempDir,
    /// LMTP, POP3, IMAP; under TLS POP3 and IMAP.
    ports: [u16; 5],
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/peers/dovecot")
}

impl Dovecot {
    fn start() -> Dovecot {
        let folder = tempfile::tempdir().expect("a folder");
        let held = [(); 5].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = held
            .each_ref()
            .map(|port| port.local_addr().expect("an address").port());
        drop(held);
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        for (name, text) in [
            ("cert.pem", made.cert.pem()),
            ("key.pem", made.signing_key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let log = std::fs::File::create(folder.path().join("start.log")).expect("a log");
        let status = Command::new(script())
            .arg("start")
            .arg(folder.path().join("dovecot"))
            .args(
                ["--lmtp", "--pop3", "--imap", "--pop3s", "--imaps"]
                    .into_iter()
                    .zip(ports)
                    .flat_map(|(flag, port)| [flag.to_owned(), port.to_string()]),
            )
            .arg("--certificate")
            .arg(folder.path().join("cert.pem"))
            .arg("--key")
            .arg(folder.path().join("key.pem"))
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .status()
            .expect("the script starts");
        let said = std::fs::read_to_string(folder.path().join("start.log"));
        assert!(status.success(), "{said:?}");
        Dovecot { folder, ports }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `loadgen`; names of ports and `DIR` are replaced. Its status, results and text.
    fn loadgen(&self, arguments: &str) -> (i32, Value, String) {
        let json = self.file("result.json");
        let _ = std::fs::remove_file(&json);
        // Longer names first.
        let names = ["SECURE-POP3", "SECURE-IMAP", "LMTP", "POP3", "IMAP"];
        let [lmtp, pop3, imap, secure_pop3, secure_imap] = self.ports;
        let ports = [secure_pop3, secure_imap, lmtp, pop3, imap];
        let mut arguments = arguments.replace("DIR", &self.folder.path().display().to_string());
        for (name, port) in names.into_iter().zip(ports) {
            arguments = arguments.replace(name, &format!("127.0.0.1:{port}"));
        }
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(arguments.split_ascii_whitespace())
            .args(["--json".as_ref(), json.as_os_str()])
            .output()
            .expect("it starts");
        let read = std::fs::read(&json).ok();
        (
            output.status.code().expect("not killed"),
            read.and_then(|json| serde_json::from_slice(&json).ok())
                .unwrap_or(Value::Null),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let _ = Command::new(script())
            .arg("stop")
            .arg(self.file("dovecot"))
            .status();
    }
}

fn commands() {
    let dovecot = Dovecot::start();
    let (status, _, text) = dovecot.loadgen(
        "lmtp --target LMTP --count 60 --users 6 --connections 2 --size 2K --ledger DIR/sent",
    );
    assert_eq!(status, 0, "{text}");
    let (status, json, text) = dovecot.loadgen(
        "imap --target IMAP --users 6 --password pw --connections 3 --count 200 --ledger DIR/appended \
         --mix fetch-flags:3,fetch-envelope:2,fetch-structure:2,fetch-body:3,store:2,search:1,status:1,append:3,noop:1,select:1",
    );
    assert_eq!((status, &json["done"]), (0, &200.into()), "{text}");
    for verb in [
        "LOGIN",
        "SELECT",
        "FETCH flags",
        "FETCH body",
        "STORE",
        "APPEND",
        "LOGOUT",
    ] {
        let count = json["verbs"][verb]["count"].as_u64();
        assert!(count.is_some_and(|count| count > 0), "{verb}: {text}");
    }
    let (status, json, text) = dovecot.loadgen(
        "verify --ledger DIR/sent --ledger DIR/appended --imap IMAP --password pw --auth plain",
    );
    assert_eq!(
        (status, &json["missing"], &json["corrupt"]),
        (0, &0.into(), &0.into()),
        "{text}"
    );
    assert!(
        json["found"].as_u64().is_some_and(|found| found > 60),
        "{text}"
    );
    let (status, _, text) =
        dovecot.loadgen("verify --ledger DIR/sent --imap IMAP --password wrong --attempts 1");
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("refused at LOGIN"), "{text}");
}

fn end_to_end() {
    let dovecot = Dovecot::start();
    for way in ["imap-idle", "imap-poll"] {
        let (status, json, text) = dovecot.loadgen(&format!(
            "lmtp --target LMTP --count 40 --users 8 --connections 2 --size 2K --end-to-end \
             {way}:IMAP --watch-users 8 --poll-every 200ms --mailbox-password pw"
        ));
        assert_eq!(status, 0, "{text}");
        assert_eq!(json["end_to_end"]["way"], way);
        // All users are watched: every message is seen.
        assert_eq!(json["verbs"]["250->visible"]["count"], 40, "{text}");
        // The same by messages, each with a session of its own.
        let (status, json, text) = dovecot.loadgen(&format!(
            "lmtp --target LMTP --count 20 --rate 20 --users 8 --connections 2 --size 2K \
             --end-to-end {way}:IMAP --watch-messages 20 --poll-every 200ms --mailbox-password pw"
        ));
        assert_eq!(status, 0, "{text}");
        let seen = json["end_to_end"]["seen"].as_u64().expect("a number");
        assert!((3..=20).contains(&seen), "{text}");
        assert_eq!(json["end_to_end"]["not_seen"], 0, "{text}");
    }
}

/// Every command that reads, with TLS from the first byte and after STARTTLS or STLS.
fn tls() {
    let dovecot = Dovecot::start();
    let (status, _, text) = dovecot
        .loadgen("lmtp --target LMTP --count 30 --users 6 --connections 2 --ledger DIR/sent");
    assert_eq!(status, 0, "{text}");
    let trusted = "--tls-ca DIR/cert.pem";
    for (imap, pop3, how) in [
        ("SECURE-IMAP", "SECURE-POP3", "--tls"),
        ("IMAP", "POP3", "--starttls"),
    ] {
        let (status, json, text) = dovecot.loadgen(&format!(
            "imap --target {imap} {how} {trusted} --users 6 --password pw --connections 3 --count 60 \
             --commands-per-session 5 --rate 200"
        ));
        assert_eq!((status, &json["done"]), (0, &60.into()), "{how}: {text}");
        assert!(text.contains("TLS") && text.contains("open loop"), "{text}");
        let handshakes = |verb: &str| json["verbs"][verb]["count"].as_u64().unwrap_or(0);
        assert_eq!(
            handshakes("TLS") + handshakes("TLS resumed"),
            json["connections"].as_u64().expect("a number"),
            "{how}: {text}"
        );
        for (way, target) in [("imap", imap), ("pop3", pop3)] {
            let (status, json, text) = dovecot.loadgen(&format!(
                "verify --ledger DIR/sent --{way} {target} {how} {trusted} --password pw"
            ));
            let found = (status, &json["found"], &json["missing"]);
            assert_eq!(found, (0, &30.into(), &0.into()), "{how} {way}: {text}");
        }
        let (status, json, text) = dovecot.loadgen(&format!(
            "idle --target {imap} {how} --tls-insecure --users 6 --connections 6 --password pw \
             --duration 2s --deliver LMTP --deliver-lmtp --deliver-rate 20"
        ));
        assert_eq!((status, &json["sessions"]), (0, &6.into()), "{how}: {text}");
        let seen = json["verbs"]["250->visible"]["count"].as_u64();
        assert!(seen.is_some_and(|seen| seen > 5), "{how}: {text}");
        // The certificate is for another name.
        let (status, _, text) = dovecot.loadgen(&format!(
            "imap --target {imap} {how} --tls-name example.org {trusted} --users 6 --password pw \
             --count 2 --give-up 1s"
        ));
        assert_eq!(status, 1, "{how}: {text}");
        assert!(text.contains("not valid for"), "{how}: {text}");
    }
    let (status, _, text) = dovecot.loadgen(
        "imap --target IMAP --tls --users 6 --password pw --count 2 --give-up 1s --tls-insecure",
    );
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("not TLS"), "{text}");
}

fn idle() {
    let dovecot = Dovecot::start();
    let (status, json, text) = dovecot
        .loadgen("idle --target IMAP --users 30 --connections 30 --password pw --duration 1s");
    assert_eq!((status, &json["sessions"]), (0, &30.into()), "{text}");
    let (status, _, text) = dovecot
        .loadgen("idle --target IMAP --users 3 --connections 30 --password pw --duration 1s");
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("only 3 users"), "{text}");
}
