use super::*;

type Row = (MessageId, u32, String, Outcome);

fn rows(path: &Path) -> Result<(Vec<Row>, bool), ReadError> {
    let mut rows = Vec::new();
    let torn = read(path, |entry| {
        rows.push((
            entry.id,
            entry.attempt,
            entry.recipient.to_owned(),
            entry.outcome,
        ));
    })?;
    Ok((rows, torn))
}

fn id(sequence: u64) -> MessageId {
    MessageId { run: 7, sequence }
}

fn fill(path: &Path, count: u64) -> Vec<Row> {
    let ledger = Ledger::create(path, "a test\nof two lines").expect("created");
    let mut writers = [ledger.writer(), ledger.writer()];
    let mut expected = Vec::new();
    let now = Instant::now();
    for sequence in 0..count {
        let outcomes = [
            ("u1@bench.test", Outcome::Code(250)),
            ("\"a=b\"@bench.test", Outcome::Code(452)),
            ("u3@bench.test", Outcome::Unknown),
            ("u4@bench.test", Outcome::Unsent),
        ];
        let writer = &mut writers[sequence as usize % 2];
        writer.note(id(sequence), 1 + sequence as u32, outcomes.into_iter(), now);
        for (address, outcome) in outcomes {
            expected.push((
                id(sequence),
                1 + sequence as u32,
                address.to_owned(),
                outcome,
            ));
        }
    }
    expected
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("ledger");
    let mut expected = fill(&path, 3000);
    let (mut found, torn) = rows(&path).expect("readable");
    assert!(!torn);
    let key = |row: &Row| (row.0, row.2.clone());
    expected.sort_by_key(key);
    found.sort_by_key(key);
    assert_eq!(found, expected);
}

#[test]
fn a_torn_last_line_is_passed_over_wherever_it_is_torn() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("ledger");
    fill(&path, 1);
    let whole = std::fs::read(&path).expect("read");
    let line_start = whole.len()
        - 1
        - whole[..whole.len() - 1]
            .iter()
            .rev()
            .position(|&b| b == b'\n')
            .expect("lines");
    for end in line_start + 1..whole.len() {
        std::fs::write(&path, &whole[..end]).expect("written");
        let (found, torn) = rows(&path).expect("readable");
        assert!(torn && found.is_empty(), "cut at {end}: {found:?}");
    }
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("ledger");
    fill(&path, 1);
    let error = Ledger::create(&path, "").expect_err("exists");
    assert!(error.contains("exists already"), "{error}");
}

#[test]
fn strange_lines_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("ledger");
    for (line, wanted) in [
        ("x 1 a@b=250", "not a message id"),
        (
            "00000007-0000000000000001 x a@b=250",
            "number of an attempt",
        ),
        ("00000007-0000000000000001 1 a@b", "RECIPIENT=OUTCOME"),
        ("00000007-0000000000000001 1 a@b=99", "no outcome"),
    ] {
        std::fs::write(&path, format!("{TITLE}\n{line}\n")).expect("written");
        let error = rows(&path).expect_err(line).to_string();
        assert!(
            error.contains(wanted) && error.contains("ledger:2"),
            "{error}"
        );
    }
    std::fs::write(&path, "hello\n").expect("written");
    assert!(rows(&path).is_err());
    std::fs::write(&path, "").expect("written");
    assert!(rows(&path).is_err());
}

#[test]
fn a_tick_writes_what_has_waited() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("ledger");
    let ledger = Ledger::create(&path, "").expect("created");
    let mut writer = ledger.writer();
    let now = Instant::now();
    writer.note(id(1), 1, [("a@b", Outcome::Code(250))].into_iter(), now);
    writer.tick(now);
    assert_eq!(rows(&path).expect("readable").0.len(), 0);
    writer.tick(now + FLUSH_EVERY);
    assert_eq!(rows(&path).expect("readable").0.len(), 1);
    assert_eq!(writer.failure(), None);
}
