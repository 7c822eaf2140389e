//! Dialogs of `tests/dialogs/imap`, and what a dialog cannot show: several sessions, large messages,
//! bounds.

mod long;
mod told;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::super::imap_world::{Desk, World, session};
use super::super::{Answer, Ask, Refusal};
use super::Session;
use crate::proto::Event;
use crate::proto::driver::{Driver, play};
use crate::proto::transcript::Noting;

type Shared = Rc<RefCell<World>>;

/// A mailbox with three messages.
fn world() -> Shared {
    let world = World::new();
    for number in 1..=3 {
        let body = format!("Subject: b{number}\r\nA: b\r\n\r\nbody {number}\r\n");
        world.borrow_mut().deliver("INBOX", body.as_bytes());
    }
    world
}

fn answers(world: &Shared) -> impl FnMut(Ask) -> Answer + use<> {
    let world = Rc::clone(world);
    let mut desk = Desk::default();
    move |ask| world.borrow_mut().answer(ask, &mut desk)
}

/// A session, and what it says.
struct Client<F>(Driver<Session, F>);

fn client(world: &Shared) -> Client<impl FnMut(Ask) -> Answer + use<>> {
    let mut client = Client(Driver::new(session(), answers(world)));
    client.say("a LOGIN alice secret");
    // As the shard says then: Alice has no telemetry.
    client.0.session.record(Noting::Nothing);
    client
}

impl<F: FnMut(Ask) -> Answer> Client<F> {
    /// Sends lines, returns what is answered.
    fn say(&mut self, lines: &str) -> String {
        self.0.take_output();
        self.0
            .receive(format!("{lines}\r\n").as_bytes(), usize::MAX);
        self.heard()
    }

    fn heard(&mut self) -> String {
        String::from_utf8_lossy(&self.0.take_output()).replace("\r\n", "\n")
    }

    /// The same, of a client whose answers are tampered with.
    fn tampered(answers: F) -> Client<F> {
        let mut client = Client(Driver::new(session(), answers));
        client.say("a LOGIN alice secret\r\nb SELECT INBOX");
        client
    }

    /// What IDLE says when the shard says that something has happened.
    fn woken(&mut self) -> String {
        self.0.notify(Event::Changed);
        self.heard()
    }
}

/// What is announced, as the greeting has it.
fn capabilities() -> String {
    let mut client = Client(Driver::new(session(), answers(&world())));
    let greeting = client.heard();
    let rest = greeting
        .split_once("[CAPABILITY ")
        .expect("the greeting announces")
        .1;
    rest.split_once(']').expect("the code ends").0.to_owned()
}

/// In dialogs `<all>` stands for all that is announced; `login.txt` spells it out.
#[test]
fn dialogs() {
    let all = capabilities();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs/imap");
    let (mut played, mut failed) = (0, Vec::new());
    for entry in std::fs::read_dir(&folder).expect("the folder is in the repository") {
        let path = entry.expect("its entries can be read").path();
        let text = std::fs::read_to_string(&path).expect("dialogs are text");
        let text = text.replace("<all>", &all);
        println!("{}", path.display());
        let result = std::panic::catch_unwind(|| {
            play(&text, || (session(), answers(&world())));
        });
        if result.is_err() {
            failed.push(path);
        }
        played += 1;
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(played > 5, "few dialogs in {}", folder.display());
}

#[test]
fn sessions_see_each_other() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b SELECT INBOX");
    two.say("b SELECT INBOX");
    assert_eq!(two.say("c IDLE"), "+ idling\n");
    one.say("c STORE 1 FLAGS (\\Flagged)");
    assert_eq!(two.woken(), "* 1 FETCH (FLAGS (\\Flagged))\n");
    assert_eq!(two.woken(), "");
    world.borrow_mut().deliver("INBOX", b"new");
    assert_eq!(two.woken(), "* 4 EXISTS\n");
    one.say("d UID STORE 2 +FLAGS.SILENT (\\Deleted)\r\ne EXPUNGE");
    // The flag was seen and gone before anybody looked.
    assert_eq!(two.woken(), "* 2 EXPUNGE\n");
    assert_eq!(two.say("DONE"), "c OK IDLE completed\n");
}

#[test]
fn numbers_stay_until_the_client_may_know() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b SELECT INBOX");
    two.say("b SELECT INBOX");
    one.say("c STORE 1 +FLAGS (\\Deleted)\r\nd EXPUNGE");
    world
        .borrow_mut()
        .deliver("INBOX", b"Subject: four\r\n\r\n");
    // Message 1 is gone; 2 and 3 are still these, and the new one is 4.
    assert_eq!(
        two.say("e FETCH 1:3 UID"),
        "* 2 FETCH (UID 2)\n* 3 FETCH (UID 3)\n* 4 EXISTS\n\
         e NO [EXPUNGEISSUED] some of these messages are gone\n"
    );
    assert_eq!(
        two.say("f STORE 1 +FLAGS (\\Seen)"),
        "f NO [EXPUNGEISSUED] some of these messages are gone\n"
    );
    assert_eq!(
        two.say("f STORE 3 +FLAGS (\\Seen)\r\ng SEARCH SEEN"),
        "* 3 FETCH (FLAGS (\\Seen))\nf OK STORE completed\n* SEARCH 3\ng OK SEARCH completed\n"
    );
    assert_eq!(
        two.say("h FETCH 4 UID\r\ni UID FETCH 4 UID"),
        "* 4 FETCH (UID 4)\nh OK FETCH completed\n* 4 FETCH (UID 4)\n* 1 EXPUNGE\ni OK FETCH completed\n"
    );
    assert_eq!(two.say("j NOOP"), "j OK NOOP completed\n");
    assert_eq!(
        two.say("k FETCH 3 UID"),
        "* 3 FETCH (UID 4)\nk OK FETCH completed\n"
    );
}

#[test]
fn the_session_ends_with_its_mailbox() {
    let world = world();
    let mut one = client(&world);
    one.say("b CREATE x\r\nc SELECT x");
    client(&world).say("b DELETE x");
    assert_eq!(one.say("d NOOP"), "* BYE The mailbox was deleted\n");
    assert!(one.0.closed);
}

#[test]
fn large_messages_stream() {
    let world = world();
    let mut one = client(&world);
    one.heard();
    let line = b"0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcde\r\n";
    let body = line.repeat(900_000 / line.len());
    let command = format!("b APPEND INBOX {{{}+}}\r\n", body.len());
    one.0.receive(command.as_bytes(), usize::MAX);
    one.0.receive(&body, 8000);
    one.0.receive(b"\r\n", 1);
    assert_eq!(one.heard(), "b OK [APPENDUID 101 4] APPEND completed\n");
    one.say("c EXAMINE INBOX");
    one.0.receive(b"d UID FETCH 4 BODY[]\r\n", 1);
    let output = one.0.take_output();
    let start = format!("* 4 FETCH (UID 4 BODY[] {{{}}}\r\n", body.len());
    let end = b")\r\nd OK FETCH completed\r\n";
    assert_eq!(output, [start.as_bytes(), &body, end].concat());
    assert!(one.0.drains > 5, "{} drains", one.0.drains);
}

#[test]
fn what_a_session_keeps_is_little() {
    let world = world();
    let mut one = client(&world);
    let before = one.0.session.held_bytes() + size_of::<Session>();
    assert!(before <= 400, "{before} bytes when logged in");
    one.say("b SELECT INBOX\r\nc IDLE");
    let idle = one.0.session.held_bytes() + size_of::<Session>();
    assert!(idle <= 1000, "{idle} bytes in IDLE");
}

#[test]
fn time_runs_out() {
    let world = world();
    let mut one = client(&world);
    one.say("b SELECT INBOX\r\nc IDLE");
    // News are no sign of life.
    one.0.pass(Duration::from_secs(1700));
    world.borrow_mut().deliver("INBOX", b"new");
    assert_eq!(one.woken(), "* 4 EXISTS\n");
    one.0.pass(Duration::from_secs(200));
    assert_eq!(one.heard(), "* BYE Idle for too long\n");
    assert!(one.0.closed);
}

#[test]
fn twenty_senseless_commands_end_it() {
    let mut one = client(&world());
    let said = one.say(&vec!["x FOO"; 30].join("\r\n"));
    assert_eq!(said.lines().count(), 21, "{said}");
    assert!(said.ends_with("* BYE Too many commands in a row that make no sense\n"));
    assert!(one.0.closed);
}

#[test]
fn a_silent_store_hides_nothing_of_others() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b SELECT INBOX");
    two.say("b SELECT INBOX\r\nc STORE 1:2 +FLAGS (\\Flagged)");
    // RFC 9051 §6.4.6: of message 3 the client knows all; of 1 and 2 it does not.
    assert_eq!(
        one.say("c STORE 3 +FLAGS.SILENT (\\Seen)"),
        "* 1 FETCH (FLAGS (\\Flagged))\n* 2 FETCH (FLAGS (\\Flagged))\nc OK STORE completed\n"
    );
    two.say("d STORE 1 +FLAGS (\\Draft)");
    assert_eq!(
        one.say("d STORE 1 +FLAGS.SILENT (\\Seen)"),
        "* 1 FETCH (FLAGS (\\Flagged \\Seen \\Draft))\nd OK STORE completed\n"
    );
    assert_eq!(
        one.say("e STORE 1 -FLAGS.SILENT (\\Seen)"),
        "e OK STORE completed\n"
    );
}

#[test]
fn a_mark_of_fetch_hides_nothing_of_others() {
    let world = world();
    let mut two = client(&world);
    two.say("b SELECT INBOX");
    let mut inner = answers(&world);
    let mut one = Client::tampered(move |ask| {
        if matches!(ask, Ask::Store(_)) {
            // Between the look at the flags and the mark.
            two.say("c STORE 1 +FLAGS (\\Flagged)");
        }
        inner(ask)
    });
    assert_eq!(
        one.say("c FETCH 1 BODY[TEXT]<0.4>"),
        "* 1 FETCH (BODY[TEXT]<0> {4}\nbody FLAGS (\\Seen))\n\
         * 1 FETCH (FLAGS (\\Flagged \\Seen))\nc OK FETCH completed\n"
    );
}

#[test]
fn what_cannot_be_written_is_left_out() {
    let world = world();
    let mut inner = answers(&world);
    let mut one = Client::tampered(move |ask| match ask {
        Ask::Summaries { messages } => Answer::Summaries(
            messages
                .iter()
                .map(|_| Ok(b"no summary".to_vec()))
                .collect(),
        ),
        ask => inner(ask),
    });
    for items in [
        "ENVELOPE",
        "BODYSTRUCTURE",
        "PREVIEW",
        "BINARY.SIZE[1]",
        "BODY.PEEK[1]",
    ] {
        let said = one.say(&format!("c FETCH 1 (UID {items} RFC822.SIZE)"));
        assert_eq!(
            said,
            "* 1 FETCH (UID 1 RFC822.SIZE 29)\n\
             c NO [SERVERBUG] internal error, see the server's log\n",
            "{items}"
        );
    }
    assert_eq!(
        one.say("c FETCH 1 ENVELOPE"),
        "c NO [SERVERBUG] internal error, see the server's log\n"
    );
}

#[test]
fn a_broken_message_is_not_made_whole_with_a_bye() {
    let world = world();
    world.borrow_mut().deliver("INBOX", &[b'x'; 200_000]);
    let mut inner = answers(&world);
    let mut one = Client::tampered(move |ask| match ask {
        Ask::Read { offset, .. } if offset > 0 => Answer::Data(Err(Refusal::Gone)),
        ask => inner(ask),
    });
    let said = one.say("c FETCH 4 BODY.PEEK[]");
    let (head, body) = said.split_once('\n').expect("a line");
    assert_eq!(head, "* 4 FETCH (BODY[] {200000}");
    assert!(body.bytes().all(|byte| byte == b'x') && body.len() < 200_000);
    assert!(one.0.closed);
}

#[test]
fn one_expunged_message_spoils_nothing() {
    let world = world();
    let mut inner = answers(&world);
    let mut one = Client::tampered(move |ask| match inner(ask) {
        Answer::Summaries(mut all) => {
            if all.len() > 1 {
                all[1] = Err(Refusal::Gone);
            }
            Answer::Summaries(all)
        }
        answer => answer,
    });
    assert_eq!(
        one.say("c SORT (REVERSE SUBJECT) UTF-8 ALL"),
        "* SORT 3 1\nc OK SORT completed\n"
    );
    assert_eq!(
        one.say("d THREAD REFERENCES UTF-8 ALL"),
        "* THREAD (1)(3)\nd OK THREAD completed\n"
    );
    let said = one.say("e FETCH 1:3 (PREVIEW)");
    assert_eq!(
        said,
        "* 1 FETCH (PREVIEW \"body 1\")\n* 3 FETCH (PREVIEW \"body 3\")\n\
         e NO [EXPUNGEISSUED] the message is gone\n"
    );
    let said = one.say("f UID FETCH 1:3 (PREVIEW)");
    assert!(said.ends_with("\nf OK FETCH completed\n"), "{said}");
}

/// A mailbox of which every second message is gone.
fn with_holes(count: u32) -> Shared {
    let world = World::new();
    for _ in 0..count {
        world.borrow_mut().deliver("INBOX", b"x");
    }
    let mut one = client(&world);
    let odd: Vec<String> = (0..count / 2).map(|at| (2 * at + 1).to_string()).collect();
    one.say("b SELECT INBOX");
    for some in odd.chunks(5000) {
        let set = some.join(",");
        let said = one.say(&format!("c STORE {set} +FLAGS.SILENT (\\Deleted)"));
        assert_eq!(said, "c OK STORE completed\n");
    }
    one.say("d CLOSE");
    world
}

#[test]
fn long_sets_go_out_in_pieces() {
    let world = with_holes(26_000);
    let mut one = client(&world);
    let said = one.say("b ENABLE QRESYNC\r\nc SELECT INBOX (QRESYNC (101 1))");
    let vanished = said
        .lines()
        .filter(|line| line.starts_with("* VANISHED (EARLIER) "));
    let mut count = 0;
    for line in vanished.clone() {
        let set = line.rsplit_once(' ').expect("a set").1;
        let parts = set.split(',').count();
        assert!(parts <= 1000);
        count += parts;
    }
    assert_eq!(count, 13_000);
    assert_eq!(vanished.count(), 13);
    let drains = one.0.drains;
    let said = one.say("d UID COPY 1:* Sent");
    let from: Vec<String> = (1..=13_000).map(|at| (2 * at).to_string()).collect();
    let wanted = format!(
        "d OK [COPYUID 102 {} 1:13000] COPY completed\n",
        from.join(",")
    );
    assert!(said == wanted, "{}", &said[..200]);
    assert!(one.0.drains > drains, "a long line goes out at once");
    let said = one.say("e UID STORE 1:* (UNCHANGEDSINCE 1) +FLAGS (\\Seen)");
    let wanted = format!("e OK [MODIFIED {}] STORE completed\n", from.join(","));
    assert!(said.ends_with(&wanted), "{}", &said[said.len() - 200..]);
    let said = one.say("f UID MOVE 1:* Sent");
    let told = format!(
        "* OK [COPYUID 102 {} 13001:26000] Moved\n* VANISHED ",
        from.join(",")
    );
    assert!(said.starts_with(&told), "{}", &said[..200]);
}

#[test]
fn what_the_client_still_sees_has_not_vanished_earlier() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b ENABLE QRESYNC\r\nc SELECT INBOX");
    two.say("b SELECT INBOX\r\nc STORE 2 +FLAGS (\\Deleted)\r\nd EXPUNGE");
    // RFC 7162 §3.2.10: EARLIER takes no message number away.
    assert_eq!(
        one.say("d UID FETCH 1:* (UID) (CHANGEDSINCE 15 VANISHED)"),
        "* VANISHED 2\nd OK FETCH completed\n"
    );
    assert_eq!(
        one.say("e UID FETCH 1:* (UID) (CHANGEDSINCE 15 VANISHED)"),
        "* VANISHED (EARLIER) 2\ne OK FETCH completed\n"
    );
}

#[test]
fn an_untold_expunge_keeps_the_modseq_down() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b ENABLE QRESYNC\r\nc SELECT INBOX");
    two.say("b SELECT INBOX\r\nc STORE 2 +FLAGS (\\Deleted)\r\nd EXPUNGE");
    // RFC 7162 §3.2: 17 is the expunge, 18 what follows.
    assert_eq!(
        one.say("d STORE 1 +FLAGS (\\Seen)"),
        "* 1 FETCH (UID 1 MODSEQ (18) FLAGS (\\Seen))\n\
         * OK [HIGHESTMODSEQ 15] All up to here is told\nd OK STORE completed\n"
    );
    assert_eq!(
        one.say("e SEARCH SEEN\r\nf NOOP\r\ng SEARCH SEEN"),
        "* SEARCH 1\n* OK [HIGHESTMODSEQ 15] All up to here is told\ne OK SEARCH completed\n\
         * VANISHED 2\nf OK NOOP completed\n* SEARCH 1\ng OK SEARCH completed\n"
    );
}

#[test]
fn what_a_search_saves() {
    let world = world();
    let mut one = client(&world);
    one.say("b SELECT INBOX");
    for (options, saved) in [
        ("SAVE PARTIAL 2:2", "2"),
        ("SAVE PARTIAL 2:2 MIN", "1,2"),
        ("SAVE PARTIAL 2:2 COUNT", "1,2,3"),
        ("SAVE MAX", "3"),
        ("SAVE", "1,2,3"),
    ] {
        one.say(&format!("c UID SEARCH RETURN ({options}) ALL"));
        let said = one.say("d FETCH $ UID");
        let numbers = said.lines().filter_map(|line| line.strip_prefix("* "));
        let numbers: Vec<&str> = numbers.filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(numbers.join(","), saved, "{options}");
    }
    one.say("c UID SORT RETURN (SAVE PARTIAL 1:1) (REVERSE SUBJECT) UTF-8 ALL");
    assert_eq!(
        one.say("d FETCH $ UID"),
        "* 3 FETCH (UID 3)\nd OK FETCH completed\n"
    );
}
