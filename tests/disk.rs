//! Disks that are full, read-only, or become so: real filesystems of the test's own.
//!
//! The program runs itself again in a mount namespace that dies with it, so that nothing stays
//! mounted. Where that is not allowed its tests are skipped by name.

mod support;

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use support::runner::{Test, run_all};
use support::{Client, Server, command, log_in, mailbox};

const TESTS: &[Test] = &[
    Test::driving("a_full_disk_refuses_mail_and_loses_none", &["mount"], full).unless(cannot_mount),
    Test::driving(
        "a_disk_filled_to_its_last_byte_by_another_is_started_on",
        &["mount"],
        filled_by_another,
    )
    .unless(cannot_mount),
    Test::driving(
        "space_that_others_give_back_is_noticed",
        &["mount"],
        space_comes_back_from_others,
    )
    .unless(cannot_mount),
    Test::driving("a_read_only_folder_is_named", &["mount"], read_only).unless(cannot_mount),
    Test::driving(
        "a_disk_that_turns_read_only_still_serves_what_it_has",
        &["mount", "mkfs.ext4"],
        turns_read_only,
    )
    .unless(cannot_loop),
];

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "RINGPOST_TEST_MOUNTS";
const USERS: usize = 4;
/// How long to wait for something that happens in the background.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() && can_unshare() {
        let own = std::env::current_exe().expect("its own path");
        // Only comes back when it fails.
        let error = Command::new("unshare")
            .args(UNSHARE)
            .arg(own)
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec();
        panic!("unshare: {error}");
    }
    run_all("disk", TESTS)
}

const UNSHARE: [&str; 3] = ["--mount", "--propagation", "private"];

fn can_unshare() -> bool {
    let tried = Command::new("unshare").args(UNSHARE).arg("true").output();
    tried.is_ok_and(|output| output.status.success())
}

fn cannot_mount() -> Option<String> {
    if std::env::var_os(INSIDE).is_none() {
        return Some("may not make a mount namespace".to_owned());
    }
    Volume::tmpfs("1m").err()
}

fn cannot_loop() -> Option<String> {
    if let Some(obstacle) = cannot_mount() {
        return Some(obstacle);
    }
    Volume::ext4(8).err()
}

/// A filesystem, gone when dropped. The log of a server on it is elsewhere.
struct Volume {
    folder: tempfile::TempDir,
    image: Option<PathBuf>,
}

impl Volume {
    fn tmpfs(size: &str) -> Result<Volume, String> {
        let volume = Volume::new(None);
        let options = format!("size={size},noatime");
        volume.mount(&["-t", "tmpfs", "-o", &options, "tmpfs"])?;
        Ok(volume)
    }

    fn ext4(mebibytes: u64) -> Result<Volume, String> {
        let mut volume = Volume::new(None);
        let image = volume.folder.path().join("image");
        let file = fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mebibytes << 20)
            .map_err(|error| error.to_string())?;
        must(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        volume.image = Some(image);
        volume.mount_image()?;
        Ok(volume)
    }

    fn new(image: Option<PathBuf>) -> Volume {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("mnt")).expect("a folder");
        Volume { folder, image }
    }

    fn mount_image(&self) -> Result<(), String> {
        let image = self
            .image
            .as_ref()
            .expect("an image")
            .to_str()
            .expect("UTF-8");
        self.mount(&["-o", "loop,noatime", image])
    }

    fn mount(&self, words: &[&str]) -> Result<(), String> {
        must(Command::new("mount").args(words).arg(self.path()))
    }

    fn unmount(&self) {
        must(Command::new("umount").arg(self.path())).expect("unmounted");
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    /// The data folder: a link from outside, beside which the log can be written.
    fn data(&self) -> PathBuf {
        let link = self.folder.path().join("data");
        let data = self.path().join("data");
        if !link.is_symlink() {
            fs::create_dir(&data).expect("a folder");
            std::os::unix::fs::symlink(&data, &link).expect("a link");
        }
        link
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Nothing is mounted when that was what failed.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

fn must(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}", said.trim()))
}

fn user(number: usize) -> String {
    format!("u{}@bench.test", number % USERS)
}

fn message(number: usize, bytes: usize) -> String {
    let line = format!("{number:06} a line of a message on a small disk\r\n");
    format!(
        "Subject: {number}\r\n\r\n{}",
        line.repeat(bytes / line.len() + 1)
    )
}

/// Offers one message; the last reply it got.
fn offer(server: &Server, number: usize, bytes: usize) -> String {
    let mut client = Client::new(server.smtp);
    client.expect("EHLO client.example", "250");
    let commands = [
        ("MAIL FROM:<>".to_owned(), "250"),
        (format!("RCPT TO:<{}>", user(number)), "250"),
        ("DATA".to_owned(), "354"),
    ];
    for (line, good) in commands {
        let reply = client.say(&line);
        if !reply.starts_with(good) {
            return reply;
        }
    }
    client.send(message(number, bytes).as_bytes());
    client.send(b".\r\n");
    client.reply()
}

/// Every mailbox has exactly these messages, as they were sent.
fn check(server: &Server, expected: &[Vec<usize>], bytes: usize) {
    for (number, expected) in expected.iter().enumerate() {
        let found = mailbox(server.pop3, &user(number), "pw");
        let wanted: Vec<String> = expected.iter().map(|n| message(*n, bytes)).collect();
        assert_eq!(found.len(), wanted.len(), "{}", user(number));
        assert!(found == wanted, "{}: other messages", user(number));
    }
}

/// Two partitions on one processor, with little held back; what goes leaves its space at once.
const TWO_PARTITIONS: [&str; 8] = [
    "--processors",
    "0",
    "--partitions",
    "2",
    "--reserve",
    "8M",
    "--cleanup-age",
    "0s",
];

/// Delivers messages from this number on until there is no space; the next number.
fn fill_up(server: &Server, mail: &mut [Vec<usize>], first: usize, bytes: usize) -> usize {
    let mut number = first;
    // Each partition finds out for itself.
    let mut refused = 0;
    while refused < 2 * USERS {
        let reply = offer(server, number, bytes);
        if reply.starts_with("250") {
            mail[number % USERS].push(number);
            refused = 0;
        } else {
            assert!(reply.starts_with("452 4.3.1"), "{reply}");
            refused += 1;
        }
        number += 1;
        assert!(number - first < 5000, "this disk is never full");
    }
    number
}

/// Deletes three of four messages of everybody.
fn delete_most(server: &Server, mail: &mut [Vec<usize>]) {
    for (number, mail) in mail.iter_mut().enumerate() {
        let mut pop3 = log_in(server.pop3, &user(number), "pw");
        let count = mail.len() * 3 / 4;
        for index in 1..=count {
            pop3.expect(&format!("DELE {index}"), "+OK");
        }
        pop3.expect("QUIT", "+OK");
        mail.drain(..count);
    }
}

fn full() {
    const BYTES: usize = 60_000;
    let volume = Volume::tmpfs("80m").expect("mounted");
    let mut server = Server::start_on(&volume.data(), &TWO_PARTITIONS);
    server.generate(USERS as u32);
    let mut mail = vec![Vec::new(); USERS];
    let number = fill_up(&server, &mut mail, 0, BYTES);
    assert!(number > 100, "hardly a message fits");
    check(&server, &mail, BYTES);
    let (status, text) = server.get("/health");
    assert_eq!(status, 503);
    assert!(text.contains("full: refuses mail with 452"), "{text}");
    assert!(server.run(&["status"]).contains("full: refuses mail"));
    server.expect_logged("not enough disk space");

    // The power goes, and nothing is lost.
    server.kill();
    server.restart();
    check(&server, &mail, BYTES);

    // Deleting works, and survives a crash.
    delete_most(&server, &mut mail);
    server.kill();
    server.restart();
    check(&server, &mail, BYTES);

    // The space comes back.
    server.run(&["expire", "--now"]);
    let started = Instant::now();
    for number in number..number + 40 {
        loop {
            let reply = offer(&server, number, BYTES);
            if reply.starts_with("250") {
                mail[number % USERS].push(number);
                break;
            }
            assert!(reply.starts_with("452 4.3.1"), "{reply}");
            assert!(started.elapsed() < PATIENCE, "no space: {reply}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    check(&server, &mail, BYTES);
    assert!(server.stop().success());
    server.restart();
    check(&server, &mail, BYTES);
}

/// Another program takes the last byte.
fn fill(volume: &Volume) -> PathBuf {
    let path = volume.path().join("other");
    let mut file = fs::File::create(&path).expect("made");
    for bytes in [1 << 16, 4096, 1] {
        let piece = vec![b'x'; bytes];
        loop {
            match file.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    path
}

fn filled_by_another() {
    const BYTES: usize = 30_000;
    let volume = Volume::tmpfs("80m").expect("mounted");
    let mut server = Server::start_on(&volume.data(), &TWO_PARTITIONS);
    server.generate(USERS as u32);
    let mut mail = vec![Vec::new(); USERS];
    let mut number = 0;
    for round in 0..6 {
        number = fill_up(&server, &mut mail, number, BYTES);
        let other = fill(&volume);
        for life in 0..3 {
            server.kill();
            fill(&volume);
            server.restart();
            check(&server, &mail, BYTES);
            // Some are deleted, one by one.
            let user_number = (round + life) % USERS;
            for _ in 0..3 {
                let mut pop3 = log_in(server.pop3, &user(user_number), "pw");
                pop3.expect("DELE 1", "+OK");
                pop3.expect("QUIT", "+OK");
                mail[user_number].remove(0);
            }
        }
        fs::remove_file(other).expect("removed");
        delete_most(&server, &mut mail);
        server.run(&["expire", "--now"]);
    }
}

/// Who is refused at RCPT sends nothing that could meet the new space.
fn space_comes_back_from_others() {
    const BYTES: usize = 60_000;
    let volume = Volume::tmpfs("80m").expect("mounted");
    let flags = ["--processors", "0", "--partitions", "2", "--reserve", "8M"];
    let server = Server::start_on(&volume.data(), &flags);
    server.generate(USERS as u32);
    let other = fill(&volume);
    let (mut number, mut refused) = (0, 0);
    while refused < 2 * USERS {
        let taken = offer(&server, number, BYTES).starts_with("250");
        refused = if taken { 0 } else { refused + 1 };
        number += 1;
        assert!(number < 5000, "this disk is never full");
    }
    fs::remove_file(other).expect("removed");
    let started = Instant::now();
    for number in 0..USERS {
        loop {
            let reply = offer(&server, number, BYTES);
            if reply.starts_with("250") {
                break;
            }
            assert!(reply.starts_with("452 4.3.1"), "{reply}");
            assert!(started.elapsed() < PATIENCE, "still refused: {reply}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What a command on a folder that cannot be written says.
fn assert_refused(data: &Path, words: &[&str]) {
    let output = command(data, words);
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let folder = data.to_str().expect("UTF-8");
    assert!(
        said.contains(folder) && said.contains("Read-only file system"),
        "{words:?}: {said}"
    );
}

fn read_only() {
    let volume = Volume::tmpfs("80m").expect("mounted");
    let data = volume.data();
    let flags = ["--processors", "0", "--reserve", "1M"];
    let mut server = Server::start_on(&data, &flags);
    server.generate(USERS as u32);
    assert!(offer(&server, 0, 1000).starts_with("250"));
    assert!(server.stop().success());
    volume.mount(&["-o", "remount,ro"]).expect("read-only");
    assert_refused(&data, &["serve"]);
    assert_refused(&data, &["domain", "add", "other.test"]);
    assert_refused(&data, &["account", "list"]);
    let fresh = volume.path().join("fresh");
    assert_refused(&fresh, &["serve"]);
    volume.mount(&["-o", "remount,rw"]).expect("writable");
    server.restart();
    check(&server, &[vec![0], vec![], vec![], vec![]], 1000);
}

fn turns_read_only() {
    let volume = Volume::ext4(120).expect("mounted");
    let data = volume.data();
    let flags = ["--processors", "0", "--partitions", "1", "--reserve", "1M"];
    let mut server = Server::start_on(&data, &flags);
    server.generate(USERS as u32);
    let mut mail = vec![Vec::new(); USERS];
    for number in 0..20 {
        assert!(offer(&server, number, 5000).starts_with("250"));
        mail[number % USERS].push(number);
    }
    // What ext4 does by itself when its disk fails (errors=remount-ro).
    volume.mount(&["-o", "remount,abort"]).expect("aborted");
    for number in 0..3 {
        let reply = offer(&server, number, 5000);
        assert!(reply.starts_with("451 4.3.0"), "{reply}");
    }
    check(&server, &mail, 5000);
    let mut pop3 = log_in(server.pop3, &user(0), "pw");
    pop3.expect("DELE 1", "+OK");
    pop3.expect("QUIT", "-ERR [SYS/TEMP]");
    check(&server, &mail, 5000);
    let (status, text) = server.get("/health");
    assert_eq!(status, 503);
    assert!(
        text.contains("partition 0 (shard 0): read-only until restart"),
        "{text}"
    );
    let said = server.run(&["status"]);
    assert!(
        said.contains("partition 0: read-only until restart"),
        "{said}"
    );
    assert!(
        !server.stop().success(),
        "it could not close cleanly, and must say so"
    );
    assert_refused(&data, &["serve"]);
    volume.unmount();
    volume.mount_image().expect("mounted again");
    server.restart();
    check(&server, &mail, 5000);
    assert!(offer(&server, 20, 5000).starts_with("250"));
}
