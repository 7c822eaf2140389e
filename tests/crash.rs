//! `kill -9` at random moments under load, then every mailbox is read back: nothing that was
//! acknowledged is missing, doubled or damaged.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::{PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};

use support::{Server, loadgen, verify};

/// Kills in one test; `RINGPOST_CRASHES` sets another number.
fn crashes() -> u32 {
    let wanted = std::env::var("RINGPOST_CRASHES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// For what takes a moment on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// An IMAP connection that may break at any moment.
struct Imap(BufReader<TcpStream>);

impl Imap {
    /// `None`: the server is gone, here and below.
    fn login(server: SocketAddr, user: &str) -> Option<Imap> {
        let stream = TcpStream::connect(server).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        let mut imap = Imap(BufReader::new(stream));
        let said = imap.ask(&format!("LOGIN {user}@bench.test pw"))?;
        said.last()?.starts_with("t OK ").then_some(imap)
    }

    /// The lines of the answer, the tagged one last.
    fn ask(&mut self, command: &str) -> Option<Vec<String>> {
        let sent = self
            .0
            .get_mut()
            .write_all(format!("t {command}\r\n").as_bytes());
        sent.ok()?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0
                .read_line(&mut line)
                .ok()
                .filter(|bytes| *bytes > 0)?;
            lines.push(line.trim_end().to_owned());
            if line.starts_with("t ") {
                return line.ends_with('\n').then_some(lines);
            }
        }
    }

    /// The same; it must be OK.
    fn ok(&mut self, command: &str) -> Option<Vec<String>> {
        let lines = self.ask(command)?;
        let tagged = lines.last()?;
        assert!(tagged.starts_with("t OK "), "{command}: {lines:?}");
        Some(lines)
    }

    /// Opens a mailbox and reads all of it: number and UID of each message.
    fn read(&mut self, mailbox: &str) -> Option<Vec<(u32, u32)>> {
        self.ok(&format!("SELECT {mailbox}"))?;
        let lines = self.ok("UID FETCH 1:* (UID BODY.PEEK[])")?;
        let mut lines = lines.iter();
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            let Some(uid) = line.split("FETCH (UID ").nth(1) else {
                continue;
            };
            let uid = uid.split(' ').next().and_then(|uid| uid.parse().ok());
            let subject = lines.next().and_then(|line| line.strip_prefix("Subject: "));
            let number = subject.and_then(|number| number.parse().ok());
            let (Some(uid), Some(number)) = (uid, number) else {
                panic!("{line:?} {subject:?}");
            };
            let whole: Vec<&String> = lines.by_ref().take(3).collect();
            assert_eq!(whole, ["", &text_of(number), ")"], "message {number}");
            found.push((number, uid));
        }
        Some(found)
    }
}

fn text_of(number: u32) -> String {
    format!("text of {number}")
}

/// Where messages are that are moved between two mailboxes.
#[derive(Debug, Default)]
struct Moves {
    /// The place of each message, as far as the server has said.
    places: BTreeMap<u32, usize>,
    /// Of a move that has no answer.
    open: BTreeSet<u32>,
    /// Moves that have one.
    answered: u32,
}

impl Moves {
    /// Moves messages to and fro, some at a time, until the server is gone.
    fn go_on(
        &mut self,
        (server, user): (SocketAddr, &str),
        places: &[String; 2],
        seed: u64,
        began: &mpsc::Sender<()>,
    ) {
        let mut imap = Imap::login(server, user);
        let mut from = (seed % 2) as usize;
        while let Some(mailbox) = imap.as_mut().and_then(|imap| imap.read(&places[from])) {
            let to = 1 - from;
            for some in mailbox.chunks(1 + (seed / 2 % 4) as usize) {
                let uids: Vec<String> = some.iter().map(|(_, uid)| uid.to_string()).collect();
                self.open = some.iter().map(|(number, _)| *number).collect();
                let command = format!("UID MOVE {} {}", uids.join(","), places[to]);
                if imap.as_mut().and_then(|imap| imap.ok(&command)).is_none() {
                    return;
                }
                let moved = std::mem::take(&mut self.open).into_iter();
                self.places.extend(moved.map(|number| (number, to)));
                self.answered += 1;
                // Nobody may listen any more.
                let _ = began.send(());
            }
            from = to;
        }
    }

    /// Nothing is missing, and only what had no answer may be in both; that is taken out of the first.
    fn check(&mut self, imap: &mut Imap, places: &[String; 2]) -> Option<u32> {
        let second = imap.read(&places[1])?;
        let first = imap.read(&places[0])?;
        let mut doubled = 0;
        for (number, place) in &mut self.places {
            let uids = [&first, &second].map(|there| {
                let own = there.iter().filter(|(known, _)| known == number);
                own.map(|(_, uid)| *uid).collect::<Vec<u32>>()
            });
            let counts = [uids[0].len(), uids[1].len()];
            let expected = match place {
                0 => [1, 0],
                _ => [0, 1],
            };
            match self.open.contains(number) {
                false => assert_eq!(counts, expected, "message {number}"),
                true => assert!(
                    matches!(counts, [1, 0] | [0, 1] | [1, 1]),
                    "message {number}, whose move was not answered: {counts:?}"
                ),
            }
            *place = counts[1];
            if counts == [1, 1] {
                doubled += 1;
                let uid = uids[0][0];
                imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
                imap.ok(&format!("UID EXPUNGE {uid}"))?;
            }
        }
        self.open.clear();
        Some(doubled)
    }
}

/// A MOVE between accounts of two shards is a copy there and an expunge here: a crash between them
/// may leave both, and never none.
#[test]
fn moves_between_accounts_lose_nothing() {
    let _shared = ALONE.read().unwrap_or_else(PoisonError::into_inner);
    let mut server = Server::start(&["--processors", "0-1", "--partitions", "8"]);
    server.generate(24);
    let on_shard = |shard: char| {
        let mut users = (0..24).map(|number| format!("u{number}"));
        users.find(|user| {
            let said = server.run(&["hashdir", &format!("{user}@bench.test")]);
            let own = said.split("shard ").nth(1).expect("its shard");
            own.starts_with(shard)
        })
    };
    let users = (on_shard('0'), on_shard('1'));
    let (Some(owner), Some(user)) = users else {
        panic!("24 accounts on two shards: {users:?}");
    };
    let mut imap = Imap::login(server.imap, &owner).expect("a login");
    imap.ok("CREATE box").expect("an answer");
    let set = format!("SETACL box {user}@bench.test lrswite");
    imap.ok(&set).expect("an answer");
    let places = [
        "INBOX".to_owned(),
        format!("\"Other Users/{owner}@bench.test/box\""),
    ];
    let mut imap = Imap::login(server.imap, &user).expect("a login");
    let mut moves = Moves::default();
    for number in 0..24 {
        let message = format!("Subject: {number}\r\n\r\n{}\r\n", text_of(number));
        let length = message.len();
        let append = format!("APPEND INBOX {{{length}+}}\r\n{message}");
        imap.ok(&append).expect("an answer");
        moves.places.insert(number, 0);
    }
    let mut seed = u64::from(std::process::id());
    let (mut cut, mut doubled) = (0, 0);
    let rounds = 3 * crashes();
    for _ in 0..rounds {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (address, own, there) = (server.imap, user.clone(), places.clone());
        let before = moves.answered;
        let (began, has_begun) = mpsc::channel();
        let worker = std::thread::spawn(move || {
            moves.go_on((address, &own), &there, seed >> 40, &began);
            moves
        });
        // On a busy machine it takes a while.
        let _ = has_begun.recv_timeout(PATIENCE);
        std::thread::sleep(Duration::from_millis((seed >> 33) % 400));
        server.kill();
        moves = worker.join().expect("it ends with the server");
        cut += u32::from(!moves.open.is_empty());
        server.restart();
        let mut imap = Imap::login(server.imap, &user).expect("a login");
        doubled += moves.check(&mut imap, &places).expect("answers");
        eprintln!("{} moves answered, then a crash", moves.answered - before);
    }
    eprintln!("{rounds} crashes, {cut} within a move, {doubled} messages doubled");
    assert!(moves.answered > 0 && cut > 0, "no crash came within a move");
}
