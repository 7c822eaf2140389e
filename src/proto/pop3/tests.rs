//! Whole conversations, each played in pieces of several sizes.

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
            Answer::Login(match world.fault {
                Fault::LoginIs(error) => Err(error()),
                _ if !right => Err(LoginError::Credentials),
                _ => Ok(Maildrop {
                    validity: 1_700_000_000,
                    entries: (1..)
                        .zip(&world.messages)
                        .map(|(uid, message)| Entry {
                            uid: uid * 10,
                            bytes: message.len() as u64,
                        })
                        .collect(),
                    expire_days: None,
                }),
            })
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
fn announces_what_it_can() {
    let capabilities = "
        C: CAPA
        S: +OK
        S: TOP
        S: UIDL
        S: USER
        S: SASL PLAIN
        S: PIPELINING
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: UTF8
        S: EXPIRE NEVER
        S: IMPLEMENTATION Ringpost
        S: .
    ";
    let world = world(&[]);
    play_with(
        &world,
        &format!("S: +OK mx.example.org POP3 ready\n{capabilities}\nC: UTF8\nS: +OK"),
    );
    play_logged_in(&world, capabilities);
}

#[test]
fn authenticates_by_plain() {
    // "\0alice\0se cret" in base64, RFC 5034 §4.
    play_with(
        &world(&[]),
        "
        S: +OK mx.example.org POP3 ready
        C: AUTH
        S: +OK
        S: PLAIN
        S: .
        C: AUTH CRAM-MD5
        S: -ERR no such mechanism here: only PLAIN
        C: AUTH PLAIN
        S: + 
        C: *
        S: -ERR authentication cancelled
        C: AUTH PLAIN
        S: + 
        C: !!!
        S: -ERR not base64
        C: AUTH PLAIN =
        S: -ERR not base64
        # for Kurt as Ursel
        C: AUTH PLAIN VXJzZWwAS3VydAB4aXBqM3BsbXE=
        S: -ERR [AUTH] authorization identity must be empty or the same as the authentication identity
        C: auth plain
        S: + 
        C: AGFsaWNlAHNlIGNyZXQ=
        S: +OK 0 messages (0 octets)
        C: AUTH PLAIN AGFsaWNlAHNlIGNyZXQ=
        S: -ERR logged in already
        ",
    );
    play_with(
        &world(&[]),
        "
        S: +OK mx.example.org POP3 ready
        C: AUTH PLAIN AGFsaWNlAHNlIGNyZXQ=
        S: +OK 0 messages (0 octets)
        ",
    );
}

#[test]
fn refuses_logins_with_a_reason() {
    play_with(
        &world(&[]),
        "
        S: +OK mx.example.org POP3 ready
        C: PASS se cret
        S: -ERR USER comes first
        C: USER alice
        C: PASS wrong
        S: +OK
        S: -ERR [AUTH] wrong name or password
        # RFC 1939 §7: PASS is good for one USER
        C: PASS se cret
        S: -ERR USER comes first
        C: USER bob@example.net
        C: PASS se cret
        S: +OK
        S: -ERR [AUTH] wrong name or password
        C: USER alice
        C: PASS 
        C: NOOP
        S: +OK
        S: -ERR [AUTH] wrong name or password
        S: <close>
        ",
    );
    for (fault, reply) in [
        (
            (|| LoginError::InUse) as fn() -> LoginError,
            "-ERR [IN-USE] another session holds this maildrop",
        ),
        (
            || LoginError::Temporary("busy".to_owned()),
            "-ERR [SYS/TEMP] busy",
        ),
        (
            || LoginError::Permanent("POP3 is off\r\nfor you".to_owned()),
            "-ERR [SYS/PERM] POP3 is off  for you",
        ),
    ] {
        let login = format!("C: USER alice\nC: PASS se cret\nS: +OK\nS: {reply}\n");
        // Not the client's mistake: it may go on trying.
        let dialog = format!("S: +OK mx.example.org POP3 ready\n{}", login.repeat(5));
        play_with(&faulty(Fault::LoginIs(fault)), &dialog);
    }
}

#[test]
fn hands_over_names_and_passwords_as_meant() {
    for (user, canonical) in [
        ("alice", "alice@example.org"),
        ("Alice", "alice@example.org"),
        ("alice@EXAMPLE.net", "alice@example.net"),
    ] {
        let world = world(&[]);
        let mut driver = driver(&world);
        driver.receive(format!("USER {user}\r\nPASS  p w \r\n").as_bytes(), 3);
        let logins = world.borrow().logins.clone();
        assert_eq!(logins, [(canonical.to_owned(), b" p w ".to_vec())]);
    }
}

#[test]
fn names_that_cannot_be_are_refused_like_wrong_ones() {
    let world = world(&[]);
    let mut driver = driver(&world);
    driver.take_output();
    driver.receive(b"USER \xff\xfe\r\nPASS x\r\n", usize::MAX);
    assert_eq!(
        driver.take_output(),
        b"+OK\r\n-ERR [AUTH] wrong name or password\r\n"
    );
    assert!(world.borrow().logins.is_empty());
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

#[test]
fn shutdown_ends_idle_sessions_without_expunging() {
    let world = world(&[SHORT]);
    play_with(
        &world,
        "
        S: +OK mx.example.org POP3 ready
        ! shutdown
        S: -ERR [SYS/TEMP] server is shutting down
        S: <close>
        ",
    );
    play_logged_in(
        &world,
        "
        C: DELE 1
        S: +OK
        ! shutdown
        S: -ERR [SYS/TEMP] server is shutting down
        S: <close>
        ",
    );
    assert_eq!(world.borrow().expunged, None);
}

#[test]
fn shutdown_lets_the_running_command_finish() {
    let mut session = session();
    let now = Instant::now();
    let mut out = Vec::new();
    session.greet(now, &mut out);
    let input = b"USER a\r\nPASS b\r\nSTAT\r\n";
    let (used, step) = session.feed(input, now, &mut out);
    assert!(matches!(step, Step::Ask(Ask::Login(_))));
    assert!(matches!(
        session.notify(Event::Shutdown, now, &mut out),
        Step::NeedInput
    ));
    out.clear();
    let maildrop = Maildrop {
        validity: 1,
        entries: vec![Entry { uid: 1, bytes: 5 }],
        expire_days: None,
    };
    let step = session.answer(Answer::Login(Ok(maildrop)), now, &mut out);
    assert!(matches!(step, Step::Close));
    let expected = "+OK 1 messages (5 octets)\r\n-ERR [SYS/TEMP] server is shutting down\r\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
    let (used, step) = session.feed(&input[used..], now, &mut out);
    assert!(used == 6 && matches!(step, Step::Close));
}

#[test]
fn shutdown_lets_a_long_response_finish() {
    let world = world(&[&[b'x'; 300_000]]);
    let mut session = session();
    let now = Instant::now();
    let mut out = Vec::new();
    let mut all = Vec::new();
    let (_, mut step) = session.feed(b"USER alice\r\nPASS se cret\r\nRETR 1\r\n", now, &mut out);
    let mut notified = false;
    loop {
        step = match step {
            Step::Ask(ask) => session.answer(respond(&world, ask), now, &mut out),
            Step::NeedInput => session.feed(b"RETR 1\r\n", now, &mut out).1,
            Step::Drain => {
                all.append(&mut out);
                if notified {
                    session.feed(b"", now, &mut out).1
                } else {
                    notified = true;
                    session.notify(Event::Shutdown, now, &mut out)
                }
            }
            Step::Close => break,
        };
    }
    all.append(&mut out);
    assert!(notified);
    let end = b"xxx\r\n.\r\n-ERR [SYS/TEMP] server is shutting down\r\n";
    assert!(all.ends_with(end));
}

#[test]
fn time_out_says_and_removes_nothing() {
    let world = world(&[SHORT]);
    let dialog = "
        C: DELE 1
        S: +OK
        ! timeout
        S: <close>
    ";
    play_logged_in(&world, dialog);
    assert_eq!(world.borrow().expunged, None);
}

#[test]
fn only_commands_reset_the_timer() {
    let mut driver = driver(&world(&[]));
    for _ in 0..5 {
        driver.pass(Duration::from_secs(599));
        driver.receive(b"CAPA\r\n", usize::MAX);
        assert!(!driver.closed);
    }
    driver.receive(b"CAP", usize::MAX);
    driver.pass(Duration::from_secs(599));
    driver.receive(b"A", usize::MAX);
    assert!(!driver.closed);
    driver.pass(Duration::from_secs(2));
    assert!(driver.closed);
}

#[test]
fn a_time_out_while_the_server_works_ends_the_session_behind_it() {
    let mut session = session();
    let now = Instant::now();
    let mut out = Vec::new();
    let (_, step) = session.feed(b"USER a\r\nPASS b\r\n", now, &mut out);
    assert!(matches!(step, Step::Ask(Ask::Login(_))));
    assert!(matches!(
        session.notify(Event::Timeout, now, &mut out),
        Step::NeedInput
    ));
    let answer = Answer::Login(Err(LoginError::InUse));
    assert!(matches!(session.answer(answer, now, &mut out), Step::Close));
}

#[test]
fn large_messages_and_lists_pass_in_bounded_pieces() {
    let line = b".0123456789 a line that is long enough to make some bytes\r\n";
    let large = line.repeat(20_000);
    let many: Vec<&[u8]> = vec![b"x\r\n"; 20_000];
    let world = world(&[&[&large[..]], &many[..]].concat());
    let mut driver = logged_in(&world);
    driver.receive(b"RETR 1\r\n", usize::MAX);
    let mut expected = format!("+OK {} octets\r\n", large.len()).into_bytes();
    expected.extend(
        b".".iter()
            .chain(line)
            .copied()
            .collect::<Vec<u8>>()
            .repeat(20_000),
    );
    expected.extend_from_slice(b".\r\n");
    assert!(driver.take_output() == expected);
    assert!(driver.drains > large.len() / OUTPUT_BYTES_MAX / 2);
    driver.drains = 0;
    driver.receive(b"UIDL\r\nLIST\r\nNOOP\r\n", 3);
    let output = driver.take_output();
    assert!(driver.drains > output.len() / OUTPUT_BYTES_MAX / 2);
    let lines = output.split_inclusive(|&byte| byte == b'\n').count();
    assert_eq!(lines, 2 * (20_001 + 2) + 1);
    assert!(output.ends_with(b"20001 3\r\n.\r\n+OK\r\n"));
}

#[test]
fn many_small_commands_do_not_fill_memory() {
    let mut driver = driver(&world(&[]));
    driver.receive(&b"CAPA\r\n".repeat(5_000), usize::MAX);
    assert!(driver.drains > 1);
    assert!(!driver.closed);
}

#[test]
fn top_reads_no_more_than_it_needs() {
    let mut message = b"Subject: x\r\n\r\n".to_vec();
    message.extend(b"line\r\n".repeat(100_000));
    let world = world(&[&message]);
    let mut driver = logged_in(&world);
    driver.receive(b"TOP 1 5\r\n", usize::MAX);
    assert_eq!(world.borrow().reads.len(), 1);
    world.borrow_mut().reads.clear();
    driver.receive(b"TOP 1 5000\r\n", usize::MAX);
    assert_eq!(world.borrow().reads.len(), 2);
}

#[test]
fn a_session_is_small_and_can_move() {
    fn assert_send<T: Send + 'static>() {}
    assert_send::<Session>();
    let bytes = size_of::<Session>();
    assert!(bytes <= 256, "{bytes} bytes");
}

#[test]
fn an_answer_that_was_not_asked_for_ends_the_session() {
    let mut session = session();
    let now = Instant::now();
    let mut out = Vec::new();
    session.greet(now, &mut out);
    let answer = Answer::Expunged(Ok(()));
    assert!(matches!(session.answer(answer, now, &mut out), Step::Close));
}

/// Pieces of conversations, so that noise gets somewhere.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"USER alice\r\n",
        b"PASS se cret\r\n",
        b"AUTH PLAIN\r\n",
        b"*\r\n",
        b"RETR 1\r\n",
        b"RETR 2\r\n",
        b"TOP 1 1\r\n",
        b"DELE 1\r\n",
        b"LIST\r\n",
        b"UIDL 2\r\n",
        b"QUIT\r\n",
        b"RSET\r\n",
        b"CAPA\r\n",
        b"\n",
        b"\r",
        b" ",
        b"USER",
        b"\0",
        b"\xff",
        b"STAT\n",
        b"AUTH PLAIN AGFsaWNlAHNlIGNyZXQ=\r\n",
    ];
    let word = prop_oneof![
        8 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => Just(vec![b'x'; POP3_LINE_BYTES_MAX]),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

/// Everything that can be seen of a conversation.
fn outcome(input: &[u8], piece_bytes: usize) -> (Vec<u8>, bool, Option<Vec<u32>>) {
    let world = world(&[TWO_LINES, SHORT]);
    let mut driver = driver(&world);
    driver.receive(input, piece_bytes);
    let expunged = world.borrow().expunged.clone();
    (driver.output, driver.closed, expunged)
}

proptest! {
    #[test]
    fn pieces_of_input_do_not_matter(input in noise(), piece_bytes in 1usize..50) {
        prop_assert_eq!(outcome(&input, usize::MAX), outcome(&input, piece_bytes));
    }

    #[test]
    fn noise_never_panics(input: Vec<u8>, piece_bytes in 1usize..9) {
        outcome(&input, piece_bytes);
    }

    #[test]
    fn nothing_is_expunged_without_quit(input in noise()) {
        let (_, _, expunged) = outcome(&input, usize::MAX);
        let quits = input.to_ascii_uppercase().windows(4).any(|window| window == b"QUIT");
        prop_assert!(quits || expunged.is_none());
    }
}
