//! Dialogs of `tests/dialogs/imap`, and what a dialog cannot show: several sessions, large messages,
//! bounds.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::super::imap_world::{Desk, World, session};
use super::super::{Answer, Ask, Refusal};
use super::Session;
use crate::limits::IMAP_OWN_MAX;
use crate::proto::Event;
use crate::proto::driver::{Driver, play};

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
fn annotations_of_others_are_told() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b SETMETADATA INBOX (/shared/early \"\")");
    assert_eq!(two.say("b NOOP"), "b OK NOOP completed\n");
    assert_eq!(two.woken(), "");
    two.say("c ENABLE METADATA\r\nd SELECT Sent");
    one.say("c SETMETADATA INBOX (/shared/comment \"x\")");
    // Between commands.
    assert_eq!(two.woken(), "* METADATA \"INBOX\" /shared/comment\n");
    assert_eq!(two.woken(), "");
    assert_eq!(two.say("e IDLE"), "+ idling\n");
    one.say("d SETMETADATA \"\" (/private/a NIL /private/b \"y\")");
    assert_eq!(two.woken(), "* METADATA \"\" /private/b\n");
    assert_eq!(two.say("DONE"), "e OK IDLE completed\n");
    // What happens while a command is half said.
    two.0.receive(b"f NO", 1);
    one.say("e SETMETADATA Sent (/shared/z \"1\")");
    assert_eq!(two.woken(), "* METADATA \"Sent\" /shared/z\n");
    two.0.receive(b"OP\r\n", 1);
    assert_eq!(two.heard(), "f OK NOOP completed\n");
}

#[test]
fn notify_tells_of_other_mailboxes() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    two.say(
        "b NOTIFY SET (mailboxes (Sent x/y) (MessageNew MessageExpunge FlagChange)) \
         (subtree x (MailboxName)) (subscribed (SubscriptionChange)) \
         (inboxes (MailboxMetadataChange ServerMetadataChange))",
    );
    two.say("c SELECT INBOX");
    // Of the open mailbox nothing is told: SELECTED was not asked for.
    world.borrow_mut().deliver("INBOX", b"new");
    assert_eq!(two.woken(), "");
    assert_eq!(two.say("d NOOP"), "d OK NOOP completed\n");
    world.borrow_mut().deliver("Sent", b"new");
    assert_eq!(
        two.woken(),
        "* STATUS \"Sent\" (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 102 UNSEEN 1)\n"
    );
    assert_eq!(two.woken(), "");
    one.say("b SELECT Sent\r\nc STORE 1 +FLAGS (\\Seen)");
    assert_eq!(
        two.woken(),
        "* STATUS \"Sent\" (UIDVALIDITY 102 UNSEEN 0)\n"
    );
    two.say("e ENABLE CONDSTORE");
    one.say("d STORE 1 +FLAGS (\\Deleted)");
    two.woken();
    one.say("e EXPUNGE");
    let said = two.woken();
    assert!(
        said.starts_with(
            "* STATUS \"Sent\" (MESSAGES 0 UIDNEXT 2 UIDVALIDITY 102 UNSEEN 0 HIGHESTMODSEQ "
        ),
        "{said}"
    );
    // Names: the level above is affected; others are not asked for.
    one.say("f CREATE x/y\r\ng CREATE other");
    assert_eq!(
        two.woken(),
        "* LIST (\\HasNoChildren) \"/\" \"x/y\"\n* LIST (\\NonExistent \\HasChildren) \"/\" \"x\"\n"
    );
    one.say("h RENAME x/y z");
    assert_eq!(
        two.woken(),
        "* LIST (\\HasNoChildren) \"/\" \"z\" (\"OLDNAME\" (\"x/y\"))\n"
    );
    one.say("i RENAME z x/w\r\nj DELETE x/w");
    assert_eq!(
        two.woken(),
        "* LIST (\\NonExistent \\HasNoChildren) \"/\" \"x/w\" (\"OLDNAME\" (\"z\"))\n\
         * LIST (\\NonExistent \\HasNoChildren) \"/\" \"x/w\"\n\
         * LIST (\\NonExistent \\HasNoChildren) \"/\" \"x\"\n"
    );
    one.say("k SUBSCRIBE Sent");
    assert_eq!(
        two.woken(),
        "* LIST (\\Subscribed \\HasNoChildren \\Sent) \"/\" \"Sent\"\n"
    );
    one.say("l UNSUBSCRIBE Sent");
    assert_eq!(
        two.woken(),
        "* LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"\n"
    );
    one.say("m SETMETADATA INBOX (/shared/a \"1\")\r\nn SETMETADATA Sent (/shared/a \"1\")");
    one.say("o SETMETADATA \"\" (/private/a \"1\")");
    assert_eq!(
        two.woken(),
        "* METADATA \"INBOX\" /shared/a\n* METADATA \"\" /private/a\n"
    );
    // Nothing of what one does oneself.
    two.say("f CREATE x/own\r\ng SUBSCRIBE x/own\r\nh SETMETADATA INBOX (/shared/a NIL)");
    assert_eq!(two.woken(), "");
    two.say("i NOTIFY NONE");
    one.say("p CREATE x/late");
    world.borrow_mut().deliver("INBOX", b"late");
    assert_eq!(two.woken(), "");
    assert_eq!(two.say("j NOOP"), "j OK NOOP completed\n");
}

#[test]
fn notify_tells_of_the_open_mailbox_at_once() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b SELECT INBOX");
    two.say("b SELECT INBOX");
    world.borrow_mut().deliver("INBOX", b"early");
    assert_eq!(
        two.say(
            "c NOTIFY SET (selected (MessageNew (UID BODY[HEADER.FIELDS (Subject)]) \
             MessageExpunge FlagChange))"
        ),
        "* 4 EXISTS\nc OK NOTIFY completed\n"
    );
    world
        .borrow_mut()
        .deliver("INBOX", b"Subject: s\r\nX: y\r\n\r\nbody");
    assert_eq!(
        two.woken(),
        "* 5 EXISTS\n* 5 FETCH (UID 5 BODY[HEADER.FIELDS (Subject)] {14}\nSubject: s\n\n)\n"
    );
    assert_eq!(two.woken(), "");
    // It was not marked as seen.
    assert_eq!(
        two.say("d SEARCH UNSEEN"),
        "* SEARCH 1 2 3 4 5\nd OK SEARCH completed\n"
    );
    one.say("c STORE 1 +FLAGS (\\Deleted)");
    assert_eq!(two.woken(), "* 1 FETCH (UID 1 FLAGS (\\Deleted))\n");
    one.say("d EXPUNGE");
    assert_eq!(two.woken(), "* 1 EXPUNGE\n");
    // The same at the end of a command, and in IDLE.
    world.borrow_mut().deliver("INBOX", b"Subject: t\r\n\r\n");
    assert_eq!(
        two.say("e NOOP"),
        "* 5 EXISTS\n* 5 FETCH (UID 6 BODY[HEADER.FIELDS (Subject)] {14}\nSubject: t\n\n)\n\
         e OK NOOP completed\n"
    );
    two.say("f IDLE");
    world.borrow_mut().deliver("INBOX", b"Subject: u\r\n\r\n");
    assert_eq!(
        two.woken(),
        "* 6 EXISTS\n* 6 FETCH (UID 7 BODY[HEADER.FIELDS (Subject)] {14}\nSubject: u\n\n)\n"
    );
    two.say("DONE");
    // What one puts there oneself is not shown.
    assert_eq!(
        two.say("g APPEND INBOX {1+}\r\nx"),
        "* 7 EXISTS\ng OK [APPENDUID 101 8] APPEND completed\n"
    );
    // Without FlagChange flags of others are not told, one's own are.
    two.say("h NOTIFY SET (selected (MessageNew MessageExpunge))");
    one.say("e STORE 2 +FLAGS (\\Flagged)");
    assert_eq!(two.woken(), "");
    assert_eq!(
        two.say("i STORE 1 +FLAGS (\\Flagged)"),
        "* 1 FETCH (FLAGS (\\Flagged))\ni OK STORE completed\n"
    );
}

#[test]
fn notify_delays_expunges_where_it_is_asked_to() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    one.say("b SELECT INBOX");
    two.say("b SELECT INBOX");
    two.say("c NOTIFY SET (selected-delayed (MessageNew (UID) MessageExpunge FlagChange))");
    one.say("c STORE 1 +FLAGS (\\Deleted)\r\nd EXPUNGE");
    world.borrow_mut().deliver("INBOX", b"new");
    assert_eq!(two.woken(), "* 4 EXISTS\n* 4 FETCH (UID 4)\n");
    assert_eq!(
        two.say("d FETCH 2 UID"),
        "* 2 FETCH (UID 2)\nd OK FETCH completed\n"
    );
    assert_eq!(two.say("e NOOP"), "* 1 EXPUNGE\ne OK NOOP completed\n");
    // With nothing of messages, a command that expunges tells of it nevertheless.
    two.say("f NOTIFY SET (selected NONE)");
    world.borrow_mut().deliver("INBOX", b"new");
    assert_eq!(two.say("g NOOP"), "g OK NOOP completed\n");
    assert_eq!(
        two.say("h STORE 1 +FLAGS.SILENT (\\Deleted)\r\ni EXPUNGE"),
        "h OK STORE completed\n* 1 EXPUNGE\n* 3 EXISTS\ni OK EXPUNGE completed\n"
    );
    // That the open mailbox is gone as well.
    assert_eq!(
        two.say("j CREATE x\r\nk SELECT x\r\nl DELETE x")
            .lines()
            .rev()
            .take(2)
            .collect::<Vec<_>>(),
        [
            "l OK DELETE completed",
            "* OK [CLOSED] The mailbox was deleted"
        ]
    );
}

/// What a session remembers as its own while it tells nothing has a bound, and what is told later is
/// true.
#[test]
fn what_is_done_in_silence_is_not_remembered_for_ever() {
    let world = world();
    let mut one = client(&world);
    one.say("b SELECT INBOX\r\nc NOTIFY SET (selected NONE)");
    let before = one.0.session.held_bytes();
    for _ in 0..IMAP_OWN_MAX {
        one.say("d STORE 1 +FLAGS (\\Seen)\r\ne STORE 1 -FLAGS (\\Seen)");
    }
    for _ in 0..IMAP_OWN_MAX {
        world.borrow_mut().deliver("INBOX", b"x");
        one.say("f APPEND INBOX {1+}\r\nx");
    }
    one.say("g STORE 2 +FLAGS.SILENT (\\Flagged)");
    world.borrow_mut().deliver("INBOX", b"x");
    one.say("h APPEND INBOX {1+}\r\nx");
    let held = one.0.session.held_bytes() - before;
    assert!(held <= IMAP_OWN_MAX * 2 * 8 + 100, "{held} bytes");

    let exists = 3 + 2 * IMAP_OWN_MAX + 2;
    let said = one.say("i NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange))");
    assert_eq!(
        said,
        format!(
            "* {exists} EXISTS\n* 1 FETCH (FLAGS ())\n* 2 FETCH (FLAGS (\\Flagged))\n\
             i OK NOTIFY completed\n"
        )
    );
    assert_eq!(one.say("j NOOP"), "j OK NOOP completed\n");
    // And what it does from now on it is not told.
    one.say("k STORE 1 +FLAGS.SILENT (\\Seen)");
    assert_eq!(one.say("l NOOP"), "l OK NOOP completed\n");
}

#[test]
fn notify_ends_when_too_much_happens() {
    let world = world();
    let (mut one, mut two) = (client(&world), client(&world));
    two.say("b NOTIFY SET (personal (MailboxName))");
    for number in 0..30 {
        one.say(&format!("b CREATE {number}"));
    }
    assert_eq!(
        two.woken(),
        "* OK [NOTIFICATIONOVERFLOW] Too much has happened at once\n"
    );
    one.say("c CREATE late");
    assert_eq!(two.woken(), "");
    let names = vec!["x"; crate::limits::IMAP_NOTIFY_NAMES_MAX + 1].join(" ");
    let said = two.say(&format!("c NOTIFY SET (mailboxes ({names}) (MailboxName))"));
    assert!(
        said.starts_with("c NO [NOTIFICATIONOVERFLOW] at most "),
        "{said}"
    );
}

#[test]
fn many_annotations_are_told_in_pieces() {
    let world = world();
    let mut one = client(&world);
    let value = "x".repeat(16_000);
    for number in 0..9 {
        let command = format!("b SETMETADATA INBOX (/shared/{number} \"{value}\")");
        assert_eq!(one.say(&command), "b OK SETMETADATA completed\n");
    }
    let said = one.say("c GETMETADATA INBOX (DEPTH 1) /shared");
    assert_eq!(said.matches(&value).count(), 9);
    assert_eq!(said.matches("* METADATA \"INBOX\" (").count(), 2);
    assert!(one.0.drains > 0);
    let long = format!("d SETMETADATA INBOX (/shared/0 \"{value}{value}\")");
    assert_eq!(
        one.say(&long),
        "d NO [METADATA MAXSIZE 16384] a value is too long\n"
    );
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
         * OK [HIGHESTMODSEQ 15] Messages have gone since\nd OK STORE completed\n"
    );
    assert_eq!(
        one.say("e SEARCH SEEN\r\nf NOOP\r\ng SEARCH SEEN"),
        "* SEARCH 1\n* OK [HIGHESTMODSEQ 15] Messages have gone since\ne OK SEARCH completed\n\
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

#[test]
fn a_login_must_come_soon() {
    let world = world();
    let mut one = Client(Driver::new(session(), answers(&world)));
    one.0.pass(Duration::from_secs(100));
    one.say("a NOOP");
    one.0.pass(Duration::from_secs(100));
    assert_eq!(one.heard(), "* BYE No login for too long\n");
    assert!(one.0.closed);
    // Who has logged in has half an hour, and no more when it has gone back.
    let mut one = client(&world);
    one.0.pass(Duration::from_secs(1000));
    one.say("b UNAUTHENTICATE");
    one.0.pass(Duration::from_secs(170));
    one.say("c NOOP");
    assert!(!one.0.closed);
    one.0.pass(Duration::from_secs(20));
    assert_eq!(one.heard(), "* BYE No login for too long\n");
}

#[test]
fn wrong_passwords_are_not_forgotten() {
    let mut one = client(&world());
    one.say("b UNAUTHENTICATE\r\nc LOGIN alice x\r\nd LOGIN alice x\r\ne LOGIN alice secret");
    let said = one.say("f UNAUTHENTICATE\r\ng LOGIN alice x");
    assert!(said.ends_with("* BYE Too many failed logins\n"), "{said}");
    assert!(one.0.closed);
}

#[test]
fn long_lists_give_others_their_turn() {
    let world = world();
    let mut inner = answers(&world);
    let breaths = Rc::new(RefCell::new(0));
    let count = Rc::clone(&breaths);
    let mut one = Client::tampered(move |ask| {
        if matches!(ask, Ask::Pause) {
            *count.borrow_mut() += 1;
        }
        inner(ask)
    });
    let name = "a".repeat(400);
    for number in 0..20 {
        one.say(&format!("c CREATE {number}{name}"));
    }
    let said = one.say(&format!("d LIST \"\" {}b", "*a".repeat(900)));
    assert_eq!(said, "d OK LIST completed\n");
    assert!(*breaths.borrow() > 5, "{} breaths", breaths.borrow());
    let said = one.say("e LIST \"\" *a%*%a");
    assert_eq!(said.lines().count(), 21);
    let patterns = vec![format!("%{}", "b".repeat(100)); 30].join(" ");
    let said = one.say(&format!("f LIST \"\" ({patterns})"));
    assert_eq!(
        said,
        "f NO [LIMIT] at most 2048 bytes in all patterns, each with its reference\n"
    );
}

#[test]
fn as_many_messages_at_once_as_there_may_be() {
    let world = world();
    let mut one = client(&world);
    one.heard();
    let mut append = |count: usize, flags: &str| {
        one.0.receive(b"b APPEND INBOX", usize::MAX);
        for _ in 0..count {
            one.0
                .receive(format!("{flags} {{1+}}\r\nx").as_bytes(), usize::MAX);
        }
        one.0.receive(b"\r\n", usize::MAX);
        one.heard()
    };
    assert_eq!(
        append(10_000, ""),
        "b OK [APPENDUID 101 4:10003] APPEND completed\n"
    );
    assert_eq!(
        append(10_001, ""),
        "b NO [LIMIT] at most 10000 messages at once\n"
    );
    let words: Vec<String> = (0..64).map(|number| format!("{number:060}")).collect();
    assert_eq!(
        append(1000, &format!(" ({})", words.join(" "))),
        "b NO [LIMIT] too many keywords of too many messages at once: append fewer\n"
    );
}

#[test]
fn long_commands_say_how_far_they_are() {
    let world = world();
    let mut one = client(&world);
    one.say("b SELECT INBOX");
    // The first time that a command is seen at work does not count.
    one.0.answers_take = Duration::from_secs(9);
    assert_eq!(
        one.say("c SEARCH BODY 2"),
        "* SEARCH 2\nc OK SEARCH completed\n"
    );
    one.0.answers_take = Duration::from_secs(11);
    assert_eq!(
        one.say("d SEARCH BODY 2"),
        "* OK [INPROGRESS (\"d\" 0 3)] SEARCH goes on\n* SEARCH 2\nd OK SEARCH completed\n"
    );
    // All but the last step of it: a goal is never reached before the end.
    assert_eq!(
        one.say("e] SORT (SUBJECT) UTF-8 ALL"),
        "* OK [INPROGRESS (NIL 2 3)] SORT goes on\n\
         * SORT 1 2 3\ne] OK SORT completed\n"
    );
    one.0.answers_take = Duration::from_secs(6);
    assert_eq!(
        one.say("f THREAD REFERENCES UTF-8 ALL"),
        "* OK [INPROGRESS (\"f\" 2 3)] THREAD goes on\n\
         * THREAD (1)(2)(3)\nf OK THREAD completed\n"
    );
    // Between two messages, not within one.
    one.0.answers_take = Duration::from_secs(11);
    assert_eq!(
        one.say("g FETCH 1:2 (UID BODY.PEEK[TEXT])"),
        "* OK [INPROGRESS (\"g\" 0 2)] FETCH goes on\n\
         * 1 FETCH (UID 1 BODY[TEXT] {8}\nbody 1\n)\n\
         * OK [INPROGRESS (\"g\" 1 2)] FETCH goes on\n\
         * 2 FETCH (UID 2 BODY[TEXT] {8}\nbody 2\n)\n\
         * OK [INPROGRESS (\"g\" 1 2)] FETCH goes on\n\
         g OK FETCH completed\n"
    );
    // How many have changed nobody knows before the end.
    assert_eq!(
        one.say("h FETCH 1 (UID RFC822.SIZE ENVELOPE) (CHANGEDSINCE 1)")
            .lines()
            .filter(|line| line.contains("INPROGRESS"))
            .collect::<Vec<_>>(),
        ["* OK [INPROGRESS (\"h\" NIL NIL)] FETCH goes on"]
    );
}

#[test]
fn keywords_that_others_make_are_known() {
    let world = world();
    let asked = Rc::new(RefCell::new(0));
    let mut one = client(&world);
    one.say("b SELECT INBOX");
    let (count, mut answer) = (Rc::clone(&asked), answers(&world));
    let mut two = Client::tampered(move |ask| {
        *count.borrow_mut() += i32::from(matches!(ask, Ask::Keywords { .. }));
        answer(ask)
    });
    one.say("c STORE 2 +FLAGS ($New)");
    two.0.notify(Event::Changed);
    // Not where nobody is interested.
    two.say("c FETCH 1 (UID BODY.PEEK[])\r\nd SEARCH BODY x");
    assert_eq!(*asked.borrow(), 0);
    one.say("d STORE 3 +FLAGS ($Newer)");
    two.0.notify(Event::Changed);
    let said = two.say("e SEARCH OR SEEN KEYWORD $newer");
    assert!(
        said.contains("$New $Newer \\*)] Flags that stay\n* SEARCH 3\n"),
        "{said}"
    );
    assert_eq!(*asked.borrow(), 1);
    // And not again before something happens.
    two.say("f FETCH 1:3 FLAGS");
    assert_eq!(*asked.borrow(), 1);
}
