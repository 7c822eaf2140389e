//! Clients that keep a copy: mbsync and offlineimap, between a Maildir and the server, both ways.
//!
//! What both sides hold is compared message by message: body, flags, and that there is each once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::imap::Imap;
use super::support::{Server, deliver};
use super::{PATIENCE, Waiting, run, server, wait_for};

/// Messages that mbsync has to do with.
const MESSAGES: usize = 10_000;
/// Of them put in by one APPEND.
const APPENDED: usize = 500;

/// Flags as Maildir names them, in its order.
const LETTERS: &[(&str, char)] = &[
    ("\\Draft", 'D'),
    ("\\Flagged", 'F'),
    ("\\Answered", 'R'),
    ("\\Seen", 'S'),
    ("\\Deleted", 'T'),
];

/// Every message of a mailbox, and its flags in the letters of Maildir.
fn messages(imap: &mut Imap, mailbox: &str) -> BTreeMap<String, String> {
    imap.ok(&format!("EXAMINE {mailbox}"));
    let mut found = BTreeMap::new();
    for response in imap.responses("UID FETCH 1:* (FLAGS BODY.PEEK[])") {
        let response = String::from_utf8(response).expect("a message in ASCII");
        let (head, text) = response.split_once("\r\n").expect("a literal");
        // The whole message stands at the end of its response.
        let text = text.strip_suffix(")\r\n").expect("the end of a list");
        let letters = LETTERS.iter().filter(|(flag, _)| head.contains(flag));
        let letters: String = letters.map(|(_, letter)| *letter).collect();
        let before = found.insert(without_tuid(text), letters);
        assert_eq!(before, None, "twice: {text}");
    }
    found
}

/// mbsync marks each message that it carries in a header field of its own.
fn without_tuid(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines.filter(|line| !line.starts_with("X-TUID: ")).collect()
}

/// Files of a Maildir, without those that are being written.
fn files(maildir: &Path) -> Vec<PathBuf> {
    let folders = ["cur", "new"].map(|name| std::fs::read_dir(maildir.join(name)));
    let entries = folders.into_iter().flatten().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Every message of a Maildir with line ends as on the wire, and the letters of its flags.
fn maildir_messages(maildir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in files(maildir) {
        let text = std::fs::read_to_string(&path).expect("a message in ASCII");
        let text = without_tuid(&text.replace("\r\n", "\n")).replace('\n', "\r\n");
        let name = path.to_string_lossy().into_owned();
        let letters = name.rsplit_once(":2,").map_or("", |(_, letters)| letters);
        let before = found.insert(text.clone(), letters.to_owned());
        assert_eq!(before, None, "twice in {}: {text}", maildir.display());
    }
    found
}

/// Gives a message of a Maildir these letters.
fn mark(path: &Path, letters: &str) {
    let name = path.file_name().expect("a name").to_string_lossy();
    let name = name.split(":2,").next().unwrap_or(&name).to_owned();
    let cur = path
        .parent()
        .and_then(Path::parent)
        .expect("a Maildir")
        .join("cur");
    std::fs::rename(path, cur.join(format!("{name}:2,{letters}"))).expect("renamed");
}

/// Takes a message to another Maildir as a mail program would.
fn carry(path: &Path, to: &Path, name: &str) {
    let text = std::fs::read_to_string(path).expect("a message in ASCII");
    put(to, name, &without_tuid(&text));
    std::fs::remove_file(path).expect("removed");
}

/// Puts a message into a Maildir as a mail program would.
fn put(maildir: &Path, name: &str, text: &str) {
    let path = maildir
        .join("new")
        .join(format!("1700000000.{name}.client"));
    std::fs::write(path, text.replace("\r\n", "\n")).expect("written");
}

fn text(number: usize) -> String {
    format!("Subject: message {number}\r\nFrom: a@example.org\r\n\r\nbody of {number}\r\n.\r\n")
}

fn same(imap: &mut Imap, mailbox: &str, maildir: &Path) -> usize {
    let (there, here) = (messages(imap, mailbox), maildir_messages(maildir));
    let differs = |other: &BTreeMap<String, String>, (text, letters): (&String, &String)| {
        (other.get(text) != Some(letters)).then(|| format!("{letters:?} of {text:?}"))
    };
    let not_here = there.iter().find_map(|pair| differs(&here, pair));
    let not_there = here.iter().find_map(|pair| differs(&there, pair));
    assert_eq!((not_here, not_there), (None, None), "{mailbox}");
    there.len()
}

/// mbsync with 10,000 messages: killed in the middle and run again, changes on both sides.
pub fn mbsync() {
    let server = server();
    let folder = tempfile::tempdir().expect("a folder");
    let mail = folder.path().join("mail");
    std::fs::create_dir(&mail).expect("a folder");
    let config = format!(
        "FSync no\nIMAPAccount a\nHost 127.0.0.1\nPort {}\nUser u0@bench.test\nPass pw\nSSLType None\n\
         AuthMechs LOGIN\n\nIMAPStore far\nAccount a\n\nMaildirStore near\nPath {1}/\nInbox {1}/INBOX\n\
         SubFolders Verbatim\n\nChannel c\nFar :far:\nNear :near:\nPatterns INBOX Work\nCreate Both\n\
         Expunge Both\nCopyArrivalDate yes\nSyncState {2}/\n",
        server.imap.port(),
        mail.display(),
        folder.path().display(),
    );
    let rc = folder.path().join("rc");
    std::fs::write(&rc, config).expect("written");
    let inbox = mail.join("INBOX");
    let mut imap = Imap::login(&server, "u0");
    let texts: Vec<String> = (0..MESSAGES).map(text).collect();
    for part in texts.chunks(APPENDED) {
        imap.append("INBOX", "", part);
    }
    // Killed twice on the way.
    for enough in [MESSAGES / 10, MESSAGES / 2] {
        interrupted(&server, &rc, || files(&inbox).len() >= enough);
    }
    let sync = || run(Command::new("mbsync").arg("-q").arg("-c").arg(&rc).arg("c"));
    sync();
    assert_eq!(same(&mut imap, "INBOX", &inbox), MESSAGES);

    // There: flags, messages that go, a mailbox that comes.
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1:500 +FLAGS.SILENT (\\Flagged)");
    imap.ok("STORE 401:600 +FLAGS.SILENT (\\Seen \\Answered)");
    imap.ok("STORE 9000:9499 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.ok("CREATE Work");
    imap.append("Work", "", &texts[..20]);
    // Here: the same, of others; and new ones, which go there.
    let here = files(&inbox);
    let number = |path: &PathBuf| -> usize {
        let text = std::fs::read_to_string(path).expect("a message");
        let digits = text
            .lines()
            .find_map(|line| line.strip_prefix("Subject: message "));
        digits
            .and_then(|digits| digits.parse().ok())
            .expect("a number")
    };
    let mut moved = Vec::new();
    for path in &here {
        match number(path) {
            1000..1500 => mark(path, "FS"),
            1500..1700 => mark(path, "R"),
            2000..2400 => mark(path, "T"),
            2400..2500 => std::fs::remove_file(path).expect("removed"),
            number @ 2500..2510 => moved.push((number, path)),
            _ => {}
        }
    }
    // A client moves some from one mailbox to the other.
    let work = mail.join("Work");
    for name in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(work.join(name)).expect("a folder");
    }
    for (number, path) in moved {
        carry(path, &work, &format!("m{number}"));
    }
    for new in 0..1000 {
        put(&inbox, &format!("n{new}"), &text(MESSAGES + new));
    }
    imap.ok("SELECT INBOX");
    let before = MESSAGES - 500;
    interrupted(&server, &rc, || {
        let status = imap.ok("STATUS INBOX (MESSAGES)");
        !status
            .iter()
            .any(|line| line.ends_with(&format!("(MESSAGES {before})")))
    });
    sync();
    // What was marked as deleted here is expunged there, and the other way.
    sync();
    assert_eq!(
        same(&mut imap, "INBOX", &inbox),
        MESSAGES - 500 - 500 - 10 + 1000
    );
    assert_eq!(same(&mut imap, "Work", &work), 20 + 10);
    assert!(messages(&mut imap, "Work").contains_key(&text(2505)));
    let there = messages(&mut imap, "INBOX");
    assert_eq!(there[&text(450)], "FRS");
    assert_eq!(there[&text(1200)], "FS");
    assert!(!there.contains_key(&text(2450)) && !there.contains_key(&text(2100)));
}

/// Starts mbsync, and kills it as soon as this is so. Where it is too fast it ends by itself. Then
/// waits until the server has done with what it had sent: a client that comes back sooner could take
/// it for lost.
fn interrupted(server: &Server, rc: &Path, mut is_enough: impl FnMut() -> bool) {
    let mut child = Command::new("mbsync")
        .arg("-q")
        .arg("-c")
        .arg(rc)
        .arg("c")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mbsync");
    let started = Instant::now();
    while !is_enough() && child.try_wait().expect("a status").is_none() {
        assert!(started.elapsed() < PATIENCE, "mbsync gets nowhere");
        std::thread::sleep(Duration::from_millis(5));
    }
    // It may have ended already.
    let _ = child.kill();
    child.wait().expect("a status");
    while connections(server) > 1 {
        assert!(started.elapsed() < PATIENCE, "its session does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// IMAP connections that are open.
fn connections(server: &Server) -> u64 {
    let (_, text) = server.get("/metrics");
    let lines = text.lines().filter(|line| {
        line.starts_with("ringpost_connections_open{") && line.contains("service=\"imap\"")
    });
    let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    counts.sum()
}

/// offlineimap: mailboxes, flags, new messages and deletions, both ways.
pub fn offlineimap() {
    let server = server();
    let folder = tempfile::tempdir().expect("a folder");
    let mail = folder.path().join("mail");
    let config = format!(
        "[general]\naccounts = a\nmetadata = {0}/meta\nui = quiet\n\
         [Account a]\nlocalrepository = near\nremoterepository = far\n\
         [Repository near]\ntype = Maildir\nlocalfolders = {0}/mail\n\
         [Repository far]\ntype = IMAP\nremotehost = 127.0.0.1\nremoteport = {1}\n\
         remoteuser = u0@bench.test\nremotepass = pw\nssl = no\nstarttls = no\n\
         auth_mechanisms = LOGIN\n",
        folder.path().display(),
        server.imap.port(),
    );
    let rc = folder.path().join("rc");
    std::fs::write(&rc, config).expect("written");
    let sync = || {
        run(Command::new("offlineimap")
            .arg("-o")
            .arg("-c")
            .arg(&rc)
            .env("HOME", folder.path())
            .env("LC_ALL", "C.UTF-8"));
    };
    let mut imap = Imap::login(&server, "u0");
    let texts: Vec<String> = (0..300).map(text).collect();
    imap.append("INBOX", "", &texts);
    imap.ok("CREATE Work/2026");
    imap.append("Work/2026", "", &texts[..10]);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1:100 +FLAGS.SILENT (\\Seen)");
    sync();
    let (inbox, work) = (mail.join("INBOX"), mail.join("Work.2026"));
    assert_eq!(same(&mut imap, "INBOX", &inbox), 300);
    assert_eq!(same(&mut imap, "Work/2026", &work), 10);

    // There.
    imap.ok("SELECT INBOX");
    imap.ok("STORE 11:20 +FLAGS.SILENT (\\Flagged)");
    imap.ok("STORE 21:30 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    // Here.
    let of = |wanted: usize| {
        let subject = format!("Subject: message {wanted}\n");
        let holds = |path: &&PathBuf| {
            std::fs::read_to_string(path).is_ok_and(|text| text.contains(&subject))
        };
        files(&inbox)
            .iter()
            .find(holds)
            .expect("the message")
            .clone()
    };
    mark(&of(200), "FS");
    std::fs::remove_file(of(201)).expect("removed");
    carry(&of(202), &work, "m");
    for new in 0..20 {
        put(&inbox, &format!("n{new}"), &text(1000 + new));
    }
    put(&work, "w", &text(2000));
    sync();
    sync();
    assert_eq!(same(&mut imap, "INBOX", &inbox), 300 - 10 - 2 + 20);
    assert_eq!(same(&mut imap, "Work/2026", &work), 12);
    assert!(messages(&mut imap, "Work/2026").contains_key(&text(202)));
    let there = messages(&mut imap, "INBOX");
    assert_eq!(there[&text(200)], "FS");
    assert_eq!(there[&text(15)], "FS");
    assert!(!there.contains_key(&text(201)));

    // In IDLE it is told of what comes.
    let config = std::fs::read_to_string(&rc).expect("its configuration");
    let config = config.replace(
        "remoterepository = far\n",
        "remoterepository = far\nautorefresh = 30\n",
    );
    std::fs::write(
        &rc,
        format!("{config}idlefolders = ['INBOX']\nholdconnectionopen = yes\nkeepalive = 60\n"),
    )
    .expect("written");
    let before = files(&inbox).len();
    deliver(&server, "u0", "fresh");
    let waits = Waiting::start(
        Command::new("offlineimap")
            .arg("-c")
            .arg(&rc)
            .env("HOME", folder.path())
            .env("LC_ALL", "C.UTF-8"),
    );
    wait_for("fetch what came before", || files(&inbox).len() > before);
    // Then it waits in IDLE, or is about to.
    wait_for("fetch what comes", || {
        deliver(&server, "u0", "fresh");
        files(&inbox).len() > before + 1
    });
    drop(waits);
}
