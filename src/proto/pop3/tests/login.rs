//! What is announced before a login, and who gets in.

use super::*;

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
        # Kurt for Ursel, with a wrong password; then Alice for Bob, who is not hers to act for
        C: AUTH PLAIN VXJzZWwAS3VydAB4aXBqM3BsbXE=
        S: -ERR [AUTH] wrong name or password
        C: AUTH PLAIN Ym9iAGFsaWNlAHNlIGNyZXQ=
        S: -ERR [AUTH] may not act for this user
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
fn acts_for_others() {
    play_with(
        &world(&[SHORT]),
        "
        S: +OK mx.example.org POP3 ready
        C: AUTH PLAIN dXJzZWwAYWxpY2UAc2UgY3JldA==
        S: +OK 1 messages (23 octets)
        C: QUIT
        S: +OK bye
        S: <close>
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
