//! Shutdown and time-outs, in every state.

use super::*;

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
fn a_session_ends_with_its_account() {
    let dialog = "
        C: DELE 1
        S: +OK
        ! removed
        S: -ERR [SYS/PERM] the account was removed
        S: <close>
    ";
    let world = world(&[SHORT]);
    play_logged_in(&world, dialog);
    assert_eq!(world.borrow().expunged, None);

    // In the middle of a message there is no way to say so.
    let long = super::world(&[&[b'x'; 300_000]]);
    let mut session = session();
    let now = Instant::now();
    let mut out = Vec::new();
    let (_, mut step) = session.feed(b"USER alice\r\nPASS se cret\r\nRETR 1\r\n", now, &mut out);
    let mut notified = false;
    loop {
        step = match step {
            Step::Ask(ask) => session.answer(respond(&long, ask), now, &mut out),
            Step::NeedInput => session.feed(b"RETR 1\r\n", now, &mut out).1,
            Step::Drain if notified => panic!("it goes on"),
            Step::Drain => {
                notified = true;
                out.clear();
                session.notify(Event::Removed, now, &mut out)
            }
            Step::Close => break,
        };
    }
    assert!(notified);
    assert_eq!(String::from_utf8_lossy(&out), "");

    // While the server works nothing is said before it is done.
    let mut session = super::session();
    let (_, step) = session.feed(b"USER a\r\nPASS b\r\n", now, &mut out);
    assert!(matches!(step, Step::Ask(Ask::Login(_))));
    let step = session.notify(Event::Removed, now, &mut out);
    assert!(matches!(step, Step::NeedInput));
    let answer = Answer::Login(Err(LoginError::Credentials));
    assert!(matches!(session.answer(answer, now, &mut out), Step::Close));
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
