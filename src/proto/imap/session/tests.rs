//! Dialogs of `tests/dialogs/imap`, and what a dialog cannot show: several sessions, large messages,
//! bounds.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::super::{Answer, Ask};
use super::Session;
use crate::proto::Event;
use crate::proto::driver::{Driver, play};

#[path = "../../../../tests/fuzz/src/imap_world.rs"]
mod imap_world;

use imap_world::{Desk, World, session};

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
