//! Whole conversations, each played in pieces of several sizes.

mod bounds;
mod endings;
mod login;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::limits::{OUTPUT_BYTES_MAX, POP3_LINE_BYTES_MAX};
use crate::proto::driver::{Driver, play};
use crate::proto::{Event, Session as _, Step};

/// What the tests' shard holds, and what it was asked.
#[derive(Default)]
struct World {
    messages: Vec<Vec<u8>>,
    /// Of the last Expunge.
    expunged: Option<Vec<u32>>,
    /// (index, offset, length) of every Read.
    reads: Vec<(u32, u64, u32)>,
    logins: Vec<(String, Vec<u8>)>,
    /// What goes wrong.
    fault: Fault,
}

#[derive(Default, Clone, Copy)]
enum Fault {
    #[default]
    None,
    ReadFails,
    SecondReadFails,
    ReadIsShort,
    ExpungeFails,
    LoginIs(fn() -> LoginError),
}

impl World {
    fn maildrop(&self) -> Maildrop {
        let entry = |(uid, message): (u32, &Vec<u8>)| Entry {
            uid: uid * 10,
            bytes: message.len() as u64,
        };
        Maildrop {
            validity: 1_700_000_000,
            entries: (1..).zip(&self.messages).map(entry).collect(),
            expire_days: None,
        }
    }
}

type Shared = Rc<RefCell<World>>;

fn world(messages: &[&[u8]]) -> Shared {
    Rc::new(RefCell::new(World {
        messages: messages.iter().map(|message| message.to_vec()).collect(),
        ..World::default()
    }))
}

fn faulty(fault: Fault) -> Shared {
    let world = world(&[TWO_LINES, SHORT]);
    world.borrow_mut().fault = fault;
    world
}

const TWO_LINES: &[u8] = b"Subject: one\r\n\r\nfirst\r\n.second\r\n";
const SHORT: &[u8] = b"Subject: two\r\n\r\n..\r\nend";

fn session() -> Session {
    let settings = Settings {
        hostname: "mx.example.org".to_owned(),
        default_domain: "example.org".to_owned(),
        idle_timeout: Duration::from_secs(600),
    };
    Session::new(
        Arc::new(settings),
        SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)),
    )
}

fn respond(world: &Shared, ask: Ask) -> Answer {
    let mut world = world.borrow_mut();
    match ask {
        Ask::Login(credentials) => {
            let right = credentials.user == "alice@example.org"
                && credentials.password.as_slice() == b"se cret";
            world
                .logins
                .push((credentials.user, credentials.password.to_vec()));
            match (world.fault, credentials.act_as.as_deref()) {
                (Fault::LoginIs(error), _) => Answer::Login(Err(error())),
                _ if !right => Answer::Login(Err(LoginError::Credentials)),
                (_, None) => Answer::Login(Ok(world.maildrop())),
                (_, Some("ursel@example.org")) => {
                    let address = |name| crate::mail::Address::parse(name).expect("an address");
                    Answer::Pass(Pass::new(
                        address("alice@example.org"),
                        address("ursel@example.org"),
                    ))
                }
                (_, Some(_)) => Answer::Login(Err(LoginError::Authorization)),
            }
        }
        Ask::Enter(pass) => {
            let names = (pass.administrator().as_str(), pass.user().as_str());
            assert_eq!(names, ("alice@example.org", "ursel@example.org"));
            Answer::Login(Ok(world.maildrop()))
        }
        Ask::Read {
            index,
            offset,
            length,
        } => {
            world.reads.push((index, offset, length));
            let message = &world.messages[index as usize];
            let start = offset as usize;
            let end = message.len().min(start + length as usize);
            assert!(start < end, "a read of nothing");
            let mut bytes = message[start..end].to_vec();
            match world.fault {
                Fault::ReadFails => return Answer::Data(Err("disk\r\n+OK".to_owned())),
                Fault::SecondReadFails if offset > 0 => {
                    return Answer::Data(Err("disk".to_owned()));
                }
                Fault::ReadIsShort => {
                    bytes.pop();
                }
                _ => {}
            }
            Answer::Data(Ok(bytes))
        }
        Ask::Expunge { indexes } => {
            world.expunged = Some(indexes);
            Answer::Expunged(match world.fault {
                Fault::ExpungeFails => Err("disk is read-only".to_owned()),
                _ => Ok(()),
            })
        }
    }
}

fn driver(world: &Shared) -> Driver<Session, impl FnMut(Ask) -> Answer + use<>> {
    let world = world.clone();
    Driver::new(session(), move |ask| respond(&world, ask))
}

fn logged_in(world: &Shared) -> Driver<Session, impl FnMut(Ask) -> Answer + use<>> {
    let mut driver = driver(world);
    driver.receive(b"USER alice\r\nPASS se cret\r\n", usize::MAX);
    assert!(driver.take_output().ends_with(b" octets)\r\n"));
    driver
}

/// Plays a dialog against this maildrop.
fn play_with(world: &Shared, dialog: &str) {
    play(dialog, || {
        let world = world.clone();
        (session(), move |ask| respond(&world, ask))
    });
}

/// Behind the greeting and a login.
fn play_logged_in(world: &Shared, dialog: &str) {
    let login = "
        S: +OK mx.example.org POP3 ready
        C: USER alice
        C: PASS se cret
        S: +OK
    ";
    let (count, bytes) = {
        let world = world.borrow();
        let bytes: usize = world.messages.iter().map(Vec::len).sum();
        (world.messages.len(), bytes)
    };
    let welcome = format!("S: +OK {count} messages ({bytes} octets)");
    play_with(world, &format!("{login}\n{welcome}\n{dialog}"));
}

#[test]
fn reads_and_deletes_mail() {
    let world = world(&[TWO_LINES, SHORT]);
    play_logged_in(
        &world,
        "
        # RFC 1939 §5
        C: STAT
        S: +OK 2 55
        C: LIST
        S: +OK 2 messages (55 octets)
        S: 1 32
        S: 2 23
        S: .
        C: LIST 2
        S: +OK 2 23
        C: UIDL
        S: +OK 2 messages
        S: 1 1700000000.10
        S: 2 1700000000.20
        S: .
        C: uidl 1
        S: +OK 1 1700000000.10
        C: RETR 1
        S: +OK 32 octets
        S: Subject: one
        S: 
        S: first
        S: ..second
        S: .
        # Its last line has no end: the response gives it one.
        C: RETR 2
        S: +OK 23 octets
        S: Subject: two
        S: 
        S: ...
        S: end
        S: .
        C: NOOP
        S: +OK
        C: DELE 1
        S: +OK
        C: DELE 1
        S: -ERR no such message
        C: RETR 1
        S: -ERR no such message
        C: STAT
        S: +OK 1 23
        C: LIST
        S: +OK 1 messages (23 octets)
        S: 2 23
        S: .
        C: RSET
        S: +OK
        C: STAT
        S: +OK 2 55
        C: DELE 2
        S: +OK
        C: QUIT
        S: +OK bye
        S: <close>
        ",
    );
    assert_eq!(world.borrow().expunged, Some(vec![1]));
}

#[test]
fn pipelines() {
    // RFC 2449 §6.6; what stands behind QUIT is not read.
    play_with(
        &world(&[TWO_LINES, SHORT]),
        "
        S: +OK mx.example.org POP3 ready
        C: USER ALICE@Example.ORG
        C: PASS se cret
        C: RETR 2
        C: RETR 1
        C: DELE 2
        C: QUIT
        C: NOOP
        S: +OK
        S: +OK 2 messages (55 octets)
        S: +OK 23 octets
        S: Subject: two
        S: 
        S: ...
        S: end
        S: .
        S: +OK 32 octets
        S: Subject: one
        S: 
        S: first
        S: ..second
        S: .
        S: +OK
        S: +OK bye
        S: <close>
        ",
    );
}

#[test]
fn shows_the_top() {
    play_logged_in(
        &world(&[TWO_LINES, b"Header: only\r\n", b""]),
        "
        C: TOP 1 0
        S: +OK
        S: Subject: one
        S: 
        S: .
        C: TOP 1 1
        S: +OK
        S: Subject: one
        S: 
        S: first
        S: .
        C: TOP 1 99
        S: +OK
        S: Subject: one
        S: 
        S: first
        S: ..second
        S: .
        C: TOP 2 1
        S: +OK
        S: Header: only
        S: .
        C: TOP 3 1
        S: +OK
        S: .
        C: RETR 3
        S: +OK 0 octets
        S: .
        C: TOP 4 1
        S: -ERR no such message
        C: TOP 1
        S: -ERR TOP needs a message number and a number of lines
        ",
    );
}

#[test]
fn an_empty_maildrop() {
    let world = world(&[]);
    play_logged_in(
        &world,
        "
        C: STAT
        S: +OK 0 0
        C: LIST
        S: +OK 0 messages (0 octets)
        S: .
        C: UIDL
        S: +OK 0 messages
        S: .
        C: RETR 1
        S: -ERR no such message
        C: RETR 0
        S: -ERR no such message
        C: QUIT
        S: +OK bye
        S: <close>
        ",
    );
    // The lock is given back by the answer to this.
    assert_eq!(world.borrow().expunged, Some(vec![]));
}

#[test]
fn commands_in_the_wrong_state() {
    play_with(
        &world(&[]),
        "
        S: +OK mx.example.org POP3 ready
        C: STAT
        C: RETR 1
        C: NOOP
        S: -ERR log in first
        S: -ERR log in first
        S: -ERR log in first
        C: APOP alice 0123456789abcdef
        S: -ERR unknown command
        C: QUIT
        S: +OK bye
        S: <close>
        ",
    );
    play_logged_in(
        &world(&[]),
        "
        C: USER alice
        C: PASS se cret
        C: UTF8
        S: -ERR logged in already
        S: -ERR logged in already
        S: -ERR logged in already
        ",
    );
}

#[test]
fn too_many_mistakes_end_the_session() {
    let mut dialog = String::from("S: +OK mx.example.org POP3 ready\n");
    for _ in 0..19 {
        dialog.push_str("C: XYZZY\nS: -ERR unknown command\n");
    }
    dialog.push_str(
        "C: XYZZY\nC: QUIT\nS: -ERR unknown command\nS: -ERR too many mistakes\nS: <close>\n",
    );
    play_with(&world(&[]), &dialog);
}

#[test]
fn an_over_long_line_is_one_mistake() {
    let long = "x".repeat(3 * POP3_LINE_BYTES_MAX);
    play_with(
        &world(&[]),
        &format!(
            "
            S: +OK mx.example.org POP3 ready
            C: {long}
            C: UTF8
            S: -ERR line too long
            S: +OK
            C: AUTH PLAIN
            S: + 
            C: {long}
            C: UTF8
            S: -ERR line too long
            S: +OK
            "
        ),
    );
}

#[test]
fn a_lone_line_feed_ends_a_command() {
    let world = world(&[SHORT]);
    let mut driver = driver(&world);
    driver.take_output();
    driver.receive(b"USER alice\nPASS se cret\nSTAT\nQUIT\n", 1);
    let output = b"+OK\r\n+OK 1 messages (23 octets)\r\n+OK 1 23\r\n+OK bye\r\n";
    assert_eq!(driver.take_output(), output);
    assert!(driver.closed);
}

#[test]
fn a_message_that_cannot_be_read() {
    let dialog = "
        C: RETR 1
        S: -ERR [SYS/TEMP] disk  +OK
        C: STAT
        S: +OK 2 55
    ";
    play_logged_in(&faulty(Fault::ReadFails), dialog);
    let dialog = "
        C: RETR 1
        S: -ERR [SYS/TEMP] message is damaged
        C: TOP 2 0
        S: -ERR [SYS/TEMP] message is damaged
    ";
    play_logged_in(&faulty(Fault::ReadIsShort), dialog);
}

#[test]
fn a_message_that_breaks_off_ends_the_session_without_its_dot() {
    let world = faulty(Fault::SecondReadFails);
    world.borrow_mut().messages[0] = vec![b'x'; 200_000];
    let mut driver = logged_in(&world);
    driver.receive(b"DELE 2\r\nRETR 1\r\nQUIT\r\n", usize::MAX);
    let output = driver.take_output();
    assert!(driver.closed);
    assert!(output.starts_with(b"+OK\r\n+OK 200000 octets\r\nxxx"));
    assert!(output.ends_with(b"xxx"));
    assert_eq!(world.borrow().expunged, None);
}

#[test]
fn quit_says_when_messages_stay() {
    play_logged_in(
        &faulty(Fault::ExpungeFails),
        "
        C: DELE 1
        C: QUIT
        S: +OK
        S: -ERR [SYS/TEMP] not all deleted messages removed: disk is read-only
        S: <close>
        ",
    );
}
