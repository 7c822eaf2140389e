//! What the files look like, and their bounds.

use super::*;

fn recording() -> Recording {
    let address = Address::parse("ann@example.org").expect("an address");
    Recording::new(Path::new("/nowhere"), &address, Service::Imap, 0)
}

fn said(pieces: &[(Side, &[u8])]) -> Said {
    let owned = pieces.iter().map(|(side, bytes)| (*side, bytes.to_vec()));
    Said {
        pieces: owned.collect(),
        ..Said::default()
    }
}

fn lines(recording: &mut Recording, said: &Said) -> String {
    let mut text = Vec::new();
    for (side, bytes) in &said.pieces {
        recording.lines(*side, bytes, "T", &mut text);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn lines_have_their_time_and_side() {
    let mut recording = recording();
    let first = said(&[
        (Side::Client, b"a NOOP\r\nb FETCH"),
        (Side::Server, b"* 1 FETCH ({3}\r\nx\x1b"),
    ]);
    assert_eq!(
        lines(&mut recording, &first),
        "T C: a NOOP\nT C: b FETCH\nT S: * 1 FETCH ({3}\nT S: x\\x1b"
    );
    // A line goes on where it was left.
    let second = said(&[(Side::Server, b"y)\r\n")]);
    assert_eq!(lines(&mut recording, &second), "y)\n");
}

#[test]
fn folders_have_harmless_names() {
    assert_eq!(name_of("ann@example.org"), "ann@example.org");
    assert_eq!(name_of("../x/y@a.b"), "%2E.%2Fx%2Fy@a.b");
    assert_eq!(name_of("\u{fc}@a.b"), "%C3%BC@a.b");
    let (one, two) = ("x".repeat(250) + "1@a.b", "x".repeat(250) + "2@a.b");
    assert_ne!(name_of(&one), name_of(&two));
    assert!(name_of(&one).len() < 200);
}

#[test]
fn files_are_bounded_in_number_and_end_with_a_line() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..TELEMETRY_FILES_MAX + 3 {
        let path = folder.path().join(format!("2026{number:04}.log"));
        std::fs::write(path, "x").expect("written");
    }
    remove_oldest(folder.path()).expect("removed");
    let mut left: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    left.sort();
    assert_eq!(left.len(), TELEMETRY_FILES_MAX - 1);
    assert!(left[0].ends_with("20260004.log"));
}

#[test]
fn a_file_that_cannot_be_written_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = Address::parse("ann@example.org").expect("an address");
    // A file stands where the folder should be.
    std::fs::write(folder.path().join("telemetry"), "x").expect("written");
    let mut recording = Recording::new(folder.path(), &address, Service::Pop3, 0);
    let piece = Piece {
        file: Arc::clone(&recording.file),
        text: b"x".to_vec(),
        is_first: true,
    };
    let (sender, receiver) = sync_channel(2);
    QUEUED_BYTES.fetch_add(1, Ordering::Relaxed);
    sender.send(Some(piece)).expect("taken");
    sender.send(None).expect("taken");
    write_pieces(&receiver);
    assert!(!recording.write(&said(&[(Side::Client, b"STAT\r\n")])));
}

#[test]
fn what_is_not_taken_is_counted() {
    // No thread runs here.
    let mut recording = recording();
    assert!(recording.write(&said(&[(Side::Client, b"STAT\r\n")])));
    let left_out = recording.left_out;
    assert!(left_out > 6);
    assert!(recording.write(&said(&[(Side::Client, b"STAT\r\n")])));
    assert!(recording.left_out > 2 * left_out);
    let ended = Said {
        ended: true,
        ..Said::default()
    };
    assert!(!recording.write(&ended));
}
