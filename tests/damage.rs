//! Flipped bits and cut files in a stopped store, through the whole program: the server starts, what
//! was not hit is there byte for byte, and what was is reported with the file's name and counted.
//!
//! `RINGPOST_DAMAGES` sets how many damages each test does, `RINGPOST_SEED` where. The stores differ
//! from run to run (their ids and keys are random), so a seed does not bring back the same bytes.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Client, Server, command, log_in, send_message, without_trace};

const USERS: usize = 6;
/// Stands for the postmaster among the users.
const POSTMASTER: usize = USERS;
const FLAGS: [&str; 8] = [
    "--processors",
    "0-1",
    "--partitions",
    "3",
    "--cleanup-age",
    "0s",
    "--reserve",
    "1M",
];

fn user(number: usize) -> String {
    format!("u{number}@bench.test")
}

fn setting(name: &str, standard: u64) -> u64 {
    let wanted = std::env::var(name).ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(standard)
}

/// Small, seeded, good enough to pick places (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }
}

/// The mark of a message stands in each of its lines, so that its bytes can be found in a file.
fn mark(number: usize) -> String {
    format!("[mark {number:05}]")
}

fn text(number: usize) -> String {
    let lines = match number % 7 {
        0 => 1,
        1..=3 => 20,
        4 | 5 => 300,
        _ => 25_000,
    };
    let line = format!(
        "{} of a message that must come back as it was\r\n",
        mark(number)
    );
    format!("Subject: {}\r\n\r\n{}", mark(number), line.repeat(lines))
}

/// A stopped store, and what is in it.
struct Store {
    _folder: tempfile::TempDir,
    data: PathBuf,
    /// Numbers of the messages in each mailbox, ascending.
    mail: Vec<Vec<usize>>,
    is_clean: bool,
    /// Directory of each user's partition, and of the postmaster's.
    homes: Vec<PathBuf>,
}

/// Mail of several accounts in sealed indexes and behind them, space reclaimed, an alias, a message
/// in the queue. `clean`: stopped, else killed.
fn build(clean: bool) -> Store {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut server = Server::start_on(&data, &FLAGS);
    let count = (USERS + 1).to_string();
    server.run(&[
        "account",
        "generate",
        "--users",
        &count,
        "--prefix",
        "u",
        "--domain",
        "bench.test",
        "--password",
        "pw",
    ]);
    server.run(&["alias", "add", "alias@bench.test", &user(0)]);
    let mut mail = vec![Vec::new(); USERS];
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    let deliver = |client: &mut Client, mail: &mut Vec<Vec<usize>>, number: usize| {
        let to = [number % USERS, (number / 2) % USERS];
        let recipients: Vec<String> = to.iter().map(|n| user(*n)).collect();
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let body = text(number);
        let body = body.strip_suffix("\r\n").expect("it ends a line");
        let replies = send_message(client, &recipients, body, false);
        assert!(replies[0].starts_with("250"), "{replies:?}");
        for n in to {
            if mail[n].last() != Some(&number) {
                mail[n].push(number);
            }
        }
    };
    for number in 0..30 {
        deliver(&mut client, &mut mail, number);
    }
    // A start begins a segment: now there is an old one to reclaim, after which an index is written.
    assert!(server.stop().success());
    let mut server = Server::start_on(&data, &FLAGS);
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    for (number, own) in mail.iter_mut().enumerate() {
        let mut pop3 = log_in(server.pop3, &user(number), "pw");
        // From the front, so that segments become free.
        for index in 0..own.len() / 2 {
            pop3.expect(&format!("DELE {}", index + 1), "+OK");
        }
        pop3.expect("QUIT", "+OK");
        own.drain(..own.len() / 2);
    }
    server.run(&["expire", "--now"]);
    for number in 30..45 {
        deliver(&mut client, &mut mail, number);
    }
    let late = user(USERS);
    let mut queued = Client::new(server.smtp);
    queued.expect("EHLO client.example", "250");
    queued.expect("MAIL FROM:<>", "250");
    queued.expect(&format!("RCPT TO:<{late}>"), "250");
    queued.expect("RCPT TO:<postmaster>", "250");
    queued.expect("DATA", "354");
    server.run(&["account", "remove", &late]);
    queued.send(b"Subject: for the queue\r\n\r\nx\r\n.\r\n");
    assert!(queued.reply().starts_with("250"));
    let names = (0..USERS)
        .map(user)
        .chain(["postmaster@demo.test".to_owned()]);
    let homes = names.map(|name| {
        let said = server.run(&["hashdir", &name]);
        let home = said.split_whitespace().find(|word| word.contains("/p00"));
        PathBuf::from(home.expect("a path"))
    });
    let homes = homes.collect();
    if clean {
        assert!(server.stop().success());
    } else {
        server.kill();
    }
    Store {
        _folder: folder,
        data,
        mail,
        is_clean: clean,
        homes,
    }
}

impl Store {
    /// Files of the store, by their path in it, without those of the whole (see the layout's own
    /// tests).
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for dir in fs::read_dir(self.data.join("store")).expect("a folder") {
            let dir = dir.expect("an entry").path();
            if dir.is_dir() {
                let entries = fs::read_dir(&dir).expect("a folder");
                files.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
        }
        let relative = |path: &PathBuf| path.strip_prefix(&self.data).map(Path::to_owned);
        let mut files: Vec<PathBuf> = files.iter().map(|p| relative(p).expect("in it")).collect();
        files.sort();
        files
    }

    /// A copy, to be damaged.
    fn copy(&self, folder: &Path) -> PathBuf {
        let to = folder.join("data");
        let status = Command::new("cp")
            .args(["-r", "--sparse=always"])
            .args([&self.data, &to])
            .status();
        assert!(status.expect("cp").success());
        let _ = fs::remove_file(to.join("control"));
        to
    }
}

/// What a damaged store still gives.
#[derive(Debug, Default)]
struct Found {
    /// Messages that are not there or not readable, with their users.
    missing: BTreeMap<usize, Vec<usize>>,
    /// Users who had to be added again.
    accounts_lost: Vec<usize>,
    /// Removed messages that are back.
    risen: Vec<usize>,
    log: String,
    damage_total: f64,
}

/// Starts on the damaged store and reads everything; `Err`: what it said instead of starting.
fn look(store: &Store, data: &Path) -> Result<Found, String> {
    let mut found = Found::default();
    let mut server = match Server::try_start(data, &FLAGS) {
        Err(said) if said.contains("'ringpost account add postmaster@demo.test'") => {
            // Without a postmaster there is no start [N9], but it says what to do.
            let words = ["account", "add", "postmaster@demo.test", "--password", "pw"];
            let added = command(data, &words);
            assert!(added.status.success(), "{added:?}");
            found.accounts_lost.push(POSTMASTER);
            Server::try_start(data, &FLAGS)?
        }
        other => other?,
    };
    for (number, expected) in store.mail.iter().enumerate() {
        let mut pop3 = Client::new(server.pop3);
        pop3.expect(&format!("USER {}", user(number)), "+OK");
        if !pop3.say("PASS pw").starts_with("+OK") {
            found.accounts_lost.push(number);
            // The messages of an account whose record is gone wait for it.
            server.run(&["account", "add", &user(number), "--password", "pw"]);
            pop3 = log_in(server.pop3, &user(number), "pw");
        }
        let stat = pop3.expect("STAT", "+OK");
        let count: usize = stat
            .split(' ')
            .nth(1)
            .expect("a count")
            .parse()
            .expect("a number");
        let mut seen = Vec::new();
        for index in 1..=count {
            if !pop3.say(&format!("RETR {index}")).starts_with("+OK") {
                continue;
            }
            let Some(body) = body(&mut pop3) else {
                // It cannot take back what it has sent, so it breaks off.
                pop3 = log_in_again(&server, &user(number));
                continue;
            };
            let body = without_trace(&body);
            let known = (0..45).find(|n| body.starts_with(&format!("Subject: {}\r\n", mark(*n))));
            let known = known.unwrap_or_else(|| panic!("not one of ours: {body:.200}"));
            assert!(body == text(known), "message {known} is not what it was");
            seen.push(known);
        }
        for wanted in expected {
            let copies = seen.iter().filter(|n| *n == wanted).count();
            assert!(copies <= 1, "message {wanted} is there {copies} times");
            if copies == 0 {
                found.missing.entry(*wanted).or_default().push(number);
            }
        }
        found
            .risen
            .extend(seen.iter().filter(|n| !expected.contains(n)));
    }
    found.damage_total = server.metric("ringpost_store_damage_total");
    // What is delivered to a damaged store is there, too.
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    client.expect("MAIL FROM:<>", "250");
    for number in 0..USERS {
        // A damaged site log may have forgotten the domain.
        let reply = client.say(&format!("RCPT TO:<{}>", user(number)));
        assert!(
            reply.starts_with("250") || reply.starts_with("550 5.7.1"),
            "{reply}"
        );
    }
    client.expect("QUIT", "221");
    assert!(server.stop().success(), "{}", server.log());
    found.log = server.log();
    Ok(found)
}

/// A message, or `None` when the connection ends within it.
fn body(client: &mut Client) -> Option<String> {
    let mut body = String::new();
    loop {
        let line = client.line();
        match line.strip_prefix('.') {
            Some("") => return Some(body),
            Some(rest) => body.push_str(rest),
            // The messages here have no empty line but one, behind the header.
            None if line.is_empty() && body.ends_with("\r\n\r\n") => return None,
            None => body.push_str(&line),
        }
        body.push_str("\r\n");
    }
}

/// The maildrop is free only when the session before has ended at its shard.
fn log_in_again(server: &Server, user: &str) -> Client {
    loop {
        let mut client = Client::new(server.pop3);
        client.expect(&format!("USER {user}"), "+OK");
        let reply = client.say("PASS pw");
        if reply.starts_with("+OK") {
            return client;
        }
        assert!(reply.contains("[IN-USE]"), "{reply}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip { byte: u64, bit: u32 },
    Cut { bytes: u64 },
    Remove,
}

impl Damage {
    fn apply(self, path: &Path) {
        match self {
            Damage::Flip { byte, bit } => {
                let mut bytes = fs::read(path).expect("a file");
                bytes[byte as usize] ^= 1 << bit;
                fs::write(path, bytes).expect("written");
            }
            Damage::Cut { bytes } => {
                let file = fs::File::options().write(true).open(path).expect("a file");
                file.set_len(bytes).expect("cut");
            }
            Damage::Remove => fs::remove_file(path).expect("removed"),
        }
    }
}

/// The last place in a file that tells of a message.
fn last_mark(bytes: &[u8], number: usize) -> Option<usize> {
    let mark = mark(number);
    let mut places = bytes.windows(mark.len()).rev();
    let from_end = places.position(|window| window == mark.as_bytes())?;
    Some(bytes.len() - mark.len() - from_end)
}

/// Damages a copy of the store in one place, and holds it to what was promised.
fn trial(store: &Store, file: &Path, damage: Damage) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = store.copy(folder.path());
    let path = data.join(file);
    let sound = fs::read(&path).expect("a file");
    damage.apply(&path);
    let what = format!("{damage:?} in {}", file.display());
    let home = path.parent().expect("a folder");
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    let is_mailboxes = store
        .homes
        .iter()
        .any(|dir| dir.file_name() == home.file_name());
    let found = match look(store, &data) {
        Ok(found) => found,
        Err(said) => {
            // Without its domains a server would refuse all mail for good: it must not start.
            assert!(home.ends_with("site"), "{what}: no start: {said}");
            let names_it = said.contains("store/site");
            assert!(names_it, "{what}: an operator is not told where: {said}");
            return;
        }
    };
    let explain = || format!("{what}: {found:#?}");
    let unhurt = found.missing.is_empty() && found.accounts_lost.is_empty();
    if !name.ends_with(".seg") || !is_mailboxes {
        assert!(unhurt && found.risen.is_empty(), "{}", explain());
    }
    for user in found.missing.values().flatten().chain(&found.accounts_lost) {
        let own = store.homes[*user].file_name() == home.file_name();
        assert!(own, "another partition's account is hit: {}", explain());
    }
    match damage {
        Damage::Flip { .. } => {
            let hit = found.missing.len() + found.accounts_lost.len();
            assert!(hit <= 1, "one bit costs one record: {}", explain());
        }
        Damage::Cut { bytes } => {
            for number in found.missing.keys() {
                let last = last_mark(&sound, *number).map(|at| at as u64);
                // The record that puts it into a mailbox lies behind its bytes, in the same batch.
                let was_cut = last.is_some_and(|last| last + 8192 >= bytes);
                assert!(was_cut, "message {number} was not cut: {}", explain());
            }
        }
        Damage::Remove => {
            for number in found.missing.keys() {
                let was_there = last_mark(&sound, *number).is_some();
                assert!(was_there, "message {number} was not in it: {}", explain());
            }
        }
    }
    // After a crash only the file itself tells where its log ends: where that was cut between two
    // batches, nothing is left that could tell. After a clean stop the manifest knows.
    let may_be_silent = !store.is_clean && !matches!(damage, Damage::Flip { .. });
    if (!unhurt || !found.risen.is_empty()) && !may_be_silent {
        let stem = name
            .split('.')
            .next()
            .unwrap_or(name)
            .trim_start_matches('0');
        let mut lines = found.log.lines();
        let told = lines.any(|line| {
            let names_it = line.contains(name) || line.contains(&format!("segment {stem} "));
            line.contains("ERROR") && names_it
        });
        assert!(told, "not a word of it in the log: {}", explain());
        assert!(found.damage_total >= 1.0, "not counted: {}", explain());
    }
    println!(
        "{what}: {} messages and {} accounts hit, {} damages counted",
        found.missing.len(),
        found.accounts_lost.len(),
        found.damage_total
    );
}

/// Places worth a flip: anywhere that is not zero, and heads of batches and records in particular.
fn flip(dice: &mut Dice, bytes: &[u8]) -> Damage {
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1) as u64;
    let heads: Vec<u64> = (0..bytes.len())
        .step_by(4096)
        .filter(|at| bytes.get(at + 4..at + 6) == Some(b"RP"))
        .map(|at| at as u64)
        .collect();
    let byte = match dice.roll(4) {
        0 if !heads.is_empty() => {
            // A batch's header, and that of the record behind it.
            heads[dice.roll(heads.len() as u64) as usize] + dice.roll(72)
        }
        1 if !heads.is_empty() => heads[dice.roll(heads.len() as u64) as usize] + dice.roll(400),
        _ => dice.roll(used.max(64)),
    };
    Damage::Flip {
        byte: byte.min(bytes.len() as u64 - 1),
        bit: dice.roll(8) as u32,
    }
}

fn cut(dice: &mut Dice, bytes: &[u8]) -> Damage {
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1) as u64;
    match dice.roll(6) {
        0 => Damage::Remove,
        1 => Damage::Cut { bytes: 0 },
        2 => Damage::Cut {
            bytes: dice.roll(used / 4096 + 1) * 4096,
        },
        _ => Damage::Cut {
            bytes: dice.roll(used),
        },
    }
}

/// Goes through the files again and again until so many damages are done.
fn damages(clean: bool, standard: u64, pick: fn(&mut Dice, &[u8]) -> Damage) {
    let store = build(clean);
    // The store is sound, and the check can tell.
    let folder = tempfile::tempdir().expect("a folder");
    let found = look(&store, &store.copy(folder.path())).expect("it starts");
    assert!(
        found.missing.is_empty() && found.risen.is_empty() && found.damage_total == 0.0,
        "{found:#?}"
    );
    let mut dice = Dice(setting("RINGPOST_SEED", 1));
    let mut files = store.files();
    for kind in [".seg", ".idx", "MANIFEST", "RESERVE"] {
        let has = files
            .iter()
            .any(|file| file.to_string_lossy().ends_with(kind));
        assert!(has, "no {kind} among {files:?}");
    }
    // Prepared ahead and never written to: there is nothing in them to lose.
    files.retain(|file| {
        let bytes = fs::read(store.data.join(file)).expect("a file");
        bytes.iter().any(|byte| *byte != 0) || file.ends_with("RESERVE")
    });
    for _ in 0..setting("RINGPOST_DAMAGES", standard) {
        let file = &files[dice.roll(files.len() as u64) as usize];
        let bytes = fs::read(store.data.join(file)).expect("a file");
        trial(&store, file, pick(&mut dice, &bytes));
    }
}

#[test]
fn flipped_bits_after_a_clean_stop() {
    damages(true, 12, flip);
}

#[test]
fn flipped_bits_after_a_crash() {
    damages(false, 8, flip);
}

#[test]
fn cut_files_after_a_clean_stop() {
    damages(true, 12, cut);
}

#[test]
fn cut_files_after_a_crash() {
    damages(false, 8, cut);
}
