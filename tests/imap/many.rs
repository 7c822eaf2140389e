//! Many messages: put in at once, changed, searched, sorted and threaded.

use std::time::{Duration, Instant};

use super::server;
use super::support::Server;
use super::support::imap::Imap;

#[test]
fn ten_thousand_messages_in_one_append() {
    let mut server = server(&[]);
    let mut one = Imap::login(&server, "u0");
    append_many(&mut one, 10_000);
    let appended = one.line();
    assert!(
        appended.starts_with("t OK [APPENDUID ") && appended.contains(" 1:10000] "),
        "{appended}"
    );
    append_many(&mut one, 10_001);
    assert_eq!(one.line(), "t NO [LIMIT] at most 10000 messages at once");
    // All of them or none.
    assert!(one.ok("STATUS INBOX (MESSAGES)")[0].contains("(MESSAGES 10000)"));
    server.kill();
    server.restart();
    let mut one = Imap::login(&server, "u0");
    one.ok("SELECT INBOX");
    assert_eq!(
        one.ok("FETCH 10000 BODY.PEEK[TEXT]"),
        ["* 10000 FETCH (BODY[TEXT] {4}", "9999)"]
    );
    nothing_is_done_for_who_has_gone(&server);
    server.stop();
}

/// Small messages, each with its number.
pub fn append_many(imap: &mut Imap, count: usize) {
    let mut bytes = b"t APPEND INBOX".to_vec();
    for number in 0..count {
        let message = format!("Subject: x\r\n\r\n{number:04}");
        bytes.extend_from_slice(format!(" {{{}+}}\r\n{message}", message.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    imap.send(&bytes);
}

/// A search in thousands of messages ends soon when its client has gone.
fn nothing_is_done_for_who_has_gone(server: &Server) {
    let looks = || sum_of(server, "ringpost_command_seconds_count{", "\"imap_search\"");
    let mut one = Imap::login(server, "u0");
    one.ok("SELECT INBOX");
    let before = looks();
    // What is never read makes the end of the connection a loss of it.
    one.send(b"u NOOP\r\nt SEARCH TEXT nowhere\r\n");
    wait_for("a look into messages", || looks() > before);
    drop(one);
    wait_for("the end of the session", || open_sessions(server) <= 1);
    let slices = 10_000u64.div_ceil(16);
    let done = looks() - before;
    assert!(done < slices, "{done} of {slices} slices");
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is_there() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::yield_now();
    }
}

fn open_sessions(server: &Server) -> u64 {
    sum_of(server, "ringpost_connections_open{", "\"imap\"")
}

/// The samples of a metric that have a label, of all shards.
fn sum_of(server: &Server, name: &str, label: &str) -> u64 {
    let (_, text) = server.get("/metrics");
    let lines = text.lines();
    let own = lines.filter(|line| line.starts_with(name) && line.contains(label));
    own.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// More than a session keeps a list of, and more than is sorted or threaded at once.
#[test]
fn many_messages_change_and_are_put_in_order() {
    const COUNT: u32 = 17_000;
    let mut server = server(&[]);
    let (mut one, mut two) = (Imap::login(&server, "u0"), Imap::login(&server, "u0"));
    for start in (1..=COUNT).step_by(1000) {
        let mut command = b"t APPEND INBOX".to_vec();
        for number in start..start + 1000 {
            let message = format!("Subject: s{}\r\n\r\n", number % 7);
            command.extend(format!(" {{{}+}}\r\n{message}", message.len()).bytes());
        }
        one.send(&command);
        one.send(b"\r\n");
        assert!(one.line().contains("[APPENDUID "));
    }
    one.ok("SELECT INBOX");
    two.ok("SELECT INBOX");
    two.ok("STORE 1:* +FLAGS.SILENT (\\Flagged)");
    let fetch = |number: u32, flags| format!("* {number} FETCH (FLAGS ({flags}))");
    let all: Vec<String> = (1..=COUNT)
        .map(|number| fetch(number, "\\Flagged"))
        .collect();
    assert!(one.ok("NOOP") == all, "news of all of them");
    let status = one.ok("STATUS INBOX (HIGHESTMODSEQ)").remove(0);
    let modseq: u64 = status
        .split(|c: char| !c.is_ascii_digit())
        .find_map(|it| it.parse().ok())
        .expect("a number");
    let said = one.ok("FETCH 1:* (FLAGS) (CHANGEDSINCE 1)");
    assert_eq!(said.len(), COUNT as usize);
    assert!(
        said[COUNT as usize - 1]
            .starts_with(&format!("* {COUNT} FETCH (FLAGS (\\Flagged) MODSEQ ("))
    );

    // A few changes are asked for twice, with another one in between.
    let ask = format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})");
    two.ok("STORE 5:2000 FLAGS.SILENT (\\Seen)");
    assert_eq!(one.ok(&ask).len(), 1996 * 2);
    two.ok("STORE 16000 FLAGS.SILENT (\\Draft)");
    let again = one.ok(&ask);
    let draft = again.iter().filter(|line| line.contains("\\Draft"));
    assert!(draft.count() >= 1, "the change in between is told");

    let by_subject = |reverse: bool| {
        let mut uids: Vec<u32> = (1..=COUNT).collect();
        uids.sort_by_key(|uid| if reverse { 7 - uid % 7 } else { uid % 7 });
        let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
        format!("* SORT {}", uids.join(" "))
    };
    assert!(one.ok("UID SORT (SUBJECT ARRIVAL) UTF-8 ALL") == [by_subject(false)]);
    assert!(one.ok("UID SORT (REVERSE SUBJECT) UTF-8 ALL") == [by_subject(true)]);
    let threads = one.ok("UID THREAD ORDEREDSUBJECT UTF-8 UID 1:15").remove(0);
    assert_eq!(
        threads,
        "* THREAD (1 (8)(15))(2 9)(3 10)(4 11)(5 12)(6 13)(7 14)"
    );
    let threads = one.ok("THREAD REFERENCES UTF-8 ALL").remove(0);
    let numbers = threads
        .split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty());
    assert_eq!(numbers.count(), COUNT as usize);
    server.stop();
}
