//! SMTP and LMTP: messages, refusals, logins, STARTTLS.

use super::*;

const OK: Outcome = Outcome::Code(250);

/// Plays a script at both piece sizes, ends the connection, and returns counts and outcomes.
fn smtp_case(
    count: u64,
    change: impl Fn(&mut smtp::Options),
    script: &str,
    last: Next,
    end: End<'_>,
) -> (Interval, Vec<(u64, u32, Outcome)>) {
    let mut results = Vec::new();
    for piece in [1, usize::MAX] {
        let mut mail = mail(count, &change);
        let now = Instant::now();
        let mut dialogue = Smtp::open(&mut mail.work, now).expect("work to do");
        assert_eq!(play(&mut dialogue, &mut mail.work, piece, script), last);
        dialogue.ended(&mut mail.work, end, now);
        results.push(mail.end());
    }
    let whole = results.pop().expect("two results");
    let bytewise = results.pop().expect("two results");
    assert_eq!(whole.1, bytewise.1);
    assert_eq!(whole.0.counts, bytewise.0.counts);
    assert_eq!(whole.0.faults, bytewise.0.faults);
    whole
}

/// Both recipients are drawn for every message, in any order: scripts say `U`.
fn rcpts(mail_and: &str) -> [String; 2] {
    [("u0", "u1"), ("u1", "u0")].map(|(a, b)| mail_and.replace("U1", a).replace("U2", b))
}

/// As [`smtp_case`] with one recipient, whichever it is.
fn one(options: &mut smtp::Options) {
    let pool = Pool::generate("u", 2, &["x"]).expect("a pool");
    options.recipients = recipients(&pool, 1);
}

#[test]
fn a_message_pipelined() {
    // RFC 2920 §3.1: MAIL, RCPT and DATA in one piece, the body after 354.
    let mut mail = mail(1, |_| {});
    let now = Instant::now();
    let mut smtp = Smtp::open(&mut mail.work, now).expect("work to do");
    let mut out = Vec::new();
    smtp.connected(&mut mail.work, now, &mut out);
    smtp.received(&mut mail.work, b"220 hi\r\n", now, &mut out);
    assert_eq!(out, b"EHLO h\r\n");
    out.clear();
    smtp.received(
        &mut mail.work,
        b"250-x\r\n250 PIPELINING\r\n",
        now,
        &mut out,
    );
    let sent = String::from_utf8(out.clone()).expect("ASCII");
    let wanted = rcpts("MAIL FROM:<s@x>\r\nRCPT TO:<U1@x>\r\nRCPT TO:<U2@x>\r\nDATA\r\n");
    assert!(wanted.contains(&sent), "{sent}");
    out.clear();
    smtp.received(
        &mut mail.work,
        b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n",
        now,
        &mut out,
    );
    assert!(out.starts_with(b"From: ") && out.ends_with(b"\r\n.\r\n"));
    out.clear();
    smtp.received(&mut mail.work, b"250 queued\r\n", now, &mut out);
    assert_eq!(out, b"QUIT\r\n");
    assert_eq!(
        smtp.received(&mut mail.work, b"221 bye\r\n", now, &mut out),
        Next::Close
    );
    smtp.ended(&mut mail.work, End::Asked, now);
    let (sum, outcomes) = mail.end();
    assert_eq!(outcomes, [(0, 1, OK), (0, 1, OK)]);
    assert_eq!(
        (sum.counts.done, sum.counts.items, sum.counts.failed),
        (1, 2, 0)
    );
    for verb in [
        Verb::Greeting,
        Verb::Hello,
        Verb::Envelope,
        Verb::Body,
        Verb::Message,
        Verb::Quit,
    ] {
        assert_eq!(
            sum.histogram(verb).map(hdrhistogram::Histogram::len),
            Some(1),
            "{verb:?}"
        );
    }
}

#[test]
fn step_by_step_without_pipelining() {
    let (sum, outcomes) = smtp_case(
        2,
        |options| {
            one(options);
            options.messages_per_connection = 1;
        },
        "S: 220 hi
         C: EHLO h
         S: 500 what
         C: HELO h
         S: 250 hi
         C: MAIL FROM:<s@x>
         S: 250 ok
         C: *RCPT
         S: 452 4.2.2 full
         C: RSET
         S: 250 ok
         C: QUIT
         S: 221 bye",
        Next::Close,
        End::Asked,
    );
    assert_eq!(outcomes, [(0, 1, Outcome::Code(452))]);
    assert_eq!((sum.counts.done, sum.counts.failed), (0, 1));
    assert_eq!(sum.faults.len(), 2, "EHLO and RCPT: {:?}", sum.faults);
}

const OPENING: &str = "S: 220 hi
    C: EHLO h
    S: 250-x|250 PIPELINING
    ";

fn after_opening(rest: &str) -> String {
    format!("{OPENING}{rest}")
}

#[test]
fn one_recipient_of_two_is_refused() {
    let (sum, outcomes) = smtp_case(
        1,
        |_| {},
        &after_opening("S: 250 a|550 5.1.1 b|250 c|354 d\nS: 250 e\nS: 221 bye"),
        Next::Close,
        End::Asked,
    );
    assert_eq!(outcomes, [(0, 1, Outcome::Code(550)), (0, 1, OK)]);
    assert_eq!((sum.counts.items, sum.counts.failed), (1, 1));
}

#[test]
fn all_recipients_refused_and_data_taken_all_the_same() {
    // RFC 2920 §3.1: the client ends the empty message with a dot and expects a refusal.
    let (_, outcomes) = smtp_case(
        1,
        |_| {},
        &after_opening(
            "S: 250 a|550 b|551 c|354 d\nS: 554 no recipients\nS: 250 reset\nS: 221 bye",
        ),
        Next::Close,
        End::Asked,
    );
    assert_eq!(
        outcomes,
        [(0, 1, Outcome::Code(550)), (0, 1, Outcome::Code(551))]
    );
}

#[test]
fn mail_refused_pipelined_counts_once() {
    let (sum, outcomes) = smtp_case(
        1,
        |_| {},
        &after_opening("S: 451 later|503 b|503 c|503 d\nS: 221 bye"),
        Next::Close,
        End::Asked,
    );
    assert_eq!(outcomes, [(0, 1, Outcome::Code(451)); 2]);
    assert_eq!(sum.faults.values().map(|fault| fault.count).sum::<u64>(), 1);
}

#[test]
fn lmtp_has_a_reply_for_each_recipient() {
    // RFC 2033 §4.2.
    let (sum, outcomes) = smtp_case(
        1,
        |options| options.lmtp = true,
        "S: 220 hi
         C: LHLO h
         S: 250-x|250 PIPELINING
         S: 250 a|250 b|250 c|354 d
         S: 250 for the first|452 not for the second
         S: 221 bye",
        Next::Close,
        End::Asked,
    );
    assert_eq!(outcomes, [(0, 1, OK), (0, 1, Outcome::Code(452))]);
    assert_eq!(sum.counts.items, 1);
}

#[test]
fn chunking_goes_out_in_one_piece() {
    let mut mail = mail(1, |options| options.chunking = true);
    let now = Instant::now();
    let mut smtp = Smtp::open(&mut mail.work, now).expect("work to do");
    let mut out = Vec::new();
    smtp.connected(&mut mail.work, now, &mut out);
    smtp.received(&mut mail.work, b"220 hi\r\n", now, &mut out);
    out.clear();
    smtp.received(
        &mut mail.work,
        b"250-CHUNKING\r\n250 PIPELINING\r\n",
        now,
        &mut out,
    );
    let at = out
        .windows(15)
        .position(|w| w == b"BDAT 600 LAST\r\n")
        .expect("BDAT");
    assert_eq!(out.len(), at + 15 + 600);
    smtp.received(
        &mut mail.work,
        b"250 a\r\n250 b\r\n250 c\r\n250 d\r\n",
        now,
        &mut out,
    );
    assert!(out.ends_with(b"QUIT\r\n"));
    smtp.ended(&mut mail.work, End::Asked, now);
    assert_eq!(mail.end().1, [(0, 1, OK); 2]);
}

#[test]
fn chunking_needs_to_be_announced() {
    let mut mail = mail(1, |options| options.chunking = true);
    let now = Instant::now();
    let mut smtp = Smtp::open(&mut mail.work, now).expect("work to do");
    assert_eq!(
        play(&mut smtp, &mut mail.work, 1, "S: 220 hi\nS: 250 x"),
        Next::Fail
    );
    assert!(mail.work.failure().expect("a reason").contains("CHUNKING"));
}

/// Options of a run that logs in as `x`, whoever it is.
fn logging_in(mechanism: Mechanism) -> impl Fn(&mut smtp::Options) {
    move |options| {
        one(options);
        options.auth = Some(smtp::Auth {
            mechanism,
            user_pattern: "{domain}".to_owned(),
            password: "pw".to_owned(),
            own_sender: false,
        });
    }
}

#[test]
fn auth_comes_before_the_first_message() {
    // RFC 4954 §4: PLAIN with its initial response, LOGIN by prompts.
    for (mechanism, exchange) in [
        (Mechanism::Plain, "C: AUTH PLAIN AHgAcHc="),
        (
            Mechanism::Login,
            "C: AUTH LOGIN
             S: 334 VXNlcm5hbWU6
             C: eA==
             S: 334 UGFzc3dvcmQ6
             C: cHc=",
        ),
    ] {
        let script = format!(
            "S: 220 hi
             C: EHLO h
             S: 250-x|250 AUTH LOGIN PLAIN
             {exchange}
             S: 235 2.7.0 welcome
             C: MAIL FROM:<s@x>
             S: 250 a
             C: *RCPT
             S: 250 b
             C: DATA
             S: 354 c
             S: 250 d
             S: 221 bye"
        );
        let (sum, outcomes) = smtp_case(1, logging_in(mechanism), &script, Next::Close, End::Asked);
        assert_eq!(outcomes, [(0, 1, OK)]);
        let logins = sum.histogram(Verb::Auth).map(hdrhistogram::Histogram::len);
        assert_eq!((logins, sum.faults.len()), (Some(1), 0));
    }
}

#[test]
fn logins_that_fail_are_told_and_cost_no_message() {
    for (offers, reply, fault, code) in [
        ("AUTH PLAIN", "535 5.7.8 wrong", Fault::Permanent, 535),
        ("AUTH PLAIN", "454 4.7.0 later", Fault::Transient, 454),
        ("AUTH PLAIN", "334 !not base64!", Fault::Nonsense, 0),
        ("AUTH PLAIN", "334 eA==", Fault::Nonsense, 0),
        ("AUTH PLAIN", "354 go", Fault::Nonsense, 354),
        ("AUTH LOGIN CRAM-MD5", "", Fault::NotOffered, 0),
        ("8BITMIME", "", Fault::NotOffered, 0),
    ] {
        let reply = if reply.is_empty() {
            String::new()
        } else {
            format!("S: {reply}")
        };
        let script = format!("S: 220 hi\nS: 250-x|250 {offers}\n{reply}");
        let (sum, outcomes) = smtp_case(
            1,
            logging_in(Mechanism::Plain),
            &script,
            Next::Fail,
            End::Asked,
        );
        assert_eq!(outcomes, [], "no attempt was made");
        let keys: Vec<_> = sum.faults.keys().copied().collect();
        let verb = Verb::Auth;
        assert_eq!(keys, [FaultKey { fault, verb, code }], "{offers}: {reply}");
    }
}

#[test]
fn starttls_forgets_what_was_said_before() {
    let starttls = |options: &mut smtp::Options| {
        one(options);
        options.starttls = true;
    };
    let mut mail = mail(1, starttls);
    let now = Instant::now();
    let mut smtp = Smtp::open(&mut mail.work, now).expect("work to do");
    let script = "S: 220 hi
        C: EHLO h
        S: 250-x|250-PIPELINING|250 STARTTLS
        C: STARTTLS
        S: 220 go ahead";
    assert_eq!(play(&mut smtp, &mut mail.work, 1, script), Next::Wait);
    assert!(smtp.wants_tls());
    // RFC 3207 §4.2: EHLO again; PIPELINING is not announced this time, so MAIL goes alone.
    let mut out = Vec::new();
    assert_eq!(smtp.upgraded(&mut mail.work, now, &mut out), Next::Wait);
    assert_eq!(out, b"EHLO h\r\n");
    out.clear();
    smtp.received(&mut mail.work, b"250 x\r\n", now, &mut out);
    assert_eq!(out, b"MAIL FROM:<s@x>\r\n");
    assert!(!smtp.wants_tls());
    // Not offered, refused, and with words behind the agreement that TLS does not protect.
    let hello = "S: 220 hi\nS: 250-x|250";
    for (rest, fault, code) in [
        ("PIPELINING", Fault::NotOffered, 0),
        ("STARTTLS\nS: 454 4.7.0 no", Fault::Transient, 454),
        ("STARTTLS\nS: 220 go|250 injected", Fault::Nonsense, 0),
    ] {
        let mut mail = self::mail(1, starttls);
        let mut smtp = Smtp::open(&mut mail.work, now).expect("work to do");
        let script = format!("{hello} {rest}");
        assert_eq!(
            play(&mut smtp, &mut mail.work, usize::MAX, &script),
            Next::Fail
        );
        smtp.ended(&mut mail.work, End::Asked, now);
        let (sum, outcomes) = mail.end();
        assert_eq!(outcomes, []);
        let keys: Vec<_> = sum.faults.keys().copied().collect();
        let verb = Verb::StartTls;
        assert_eq!(keys, [FaultKey { fault, verb, code }], "{rest}");
    }
}

#[test]
fn a_broken_connection_leaves_what_is_known() {
    let reset = End::Fault(Fault::Reset, "reset by peer");
    // Before the body was out: it cannot have arrived.
    let unsent = smtp_case(1, one, &after_opening("S: 250 a"), Next::Wait, reset);
    assert_eq!(unsent.1, [(0, 1, Outcome::Unsent)]);
    // After that: nobody knows.
    let script = after_opening("S: 250 a|250 b|354 c");
    let unknown = smtp_case(1, one, &script, Next::Wait, reset);
    assert_eq!(unknown.1, [(0, 1, Outcome::Unknown)]);
    assert_eq!(unknown.0.counts.unknown, 1);
    let key = unknown.0.faults.keys().next().expect("a fault");
    assert_eq!((key.fault, key.verb), (Fault::Reset, Verb::Body));
    // Before the envelope: no attempt at all.
    assert_eq!(smtp_case(1, one, "S: 220 hi", Next::Wait, reset).1, []);
    // After QUIT: nobody's fault.
    let script = after_opening("S: 250 a|250 b|354 c\nS: 250 d");
    let done = smtp_case(
        1,
        one,
        &script,
        Next::Wait,
        End::Fault(Fault::Closed, "closed"),
    );
    assert_eq!(done.1, [(0, 1, OK)]);
    assert!(done.0.faults.is_empty());
}

#[test]
fn a_421_ends_the_connection_and_decides_the_message() {
    let script = after_opening("S: 250 a|250 b|354 c\nS: 421 4.3.2 shutting down");
    let (sum, outcomes) = smtp_case(1, one, &script, Next::Fail, End::Asked);
    assert_eq!(outcomes, [(0, 1, Outcome::Code(421))]);
    assert_eq!(sum.faults.len(), 1);
}

#[test]
fn other_protocols_are_named_as_such() {
    for script in [
        "S: +OK POP3 here",
        "S: HTTP/1.1 400 Bad Request",
        "S: \x16\x03\x01",
    ] {
        let (sum, outcomes) = smtp_case(1, one, script, Next::Fail, End::Asked);
        assert_eq!(outcomes, []);
        let (key, _) = sum.faults.iter().next().expect("a fault");
        assert_eq!((key.fault, key.verb), (Fault::Nonsense, Verb::Greeting));
    }
}

#[test]
fn retry_sends_the_same_id_to_whom_it_did_not_reach() {
    let mut mail = mail(1, |options| {
        options.attempts_max = 3;
        options.lmtp = true;
    });
    let now = Instant::now();
    let opening = "S: 220 hi\nS: 250-x|250 PIPELINING\n";
    let mut first = Smtp::open(&mut mail.work, now).expect("work to do");
    let script = format!("{opening}S: 250 a|250 b|250 c|354 d\nS: 250 first only");
    play(&mut first, &mut mail.work, 1, &script);
    first.ended(&mut mail.work, End::Fault(Fault::Closed, "gone"), now);
    let mut second = Smtp::open(&mut mail.work, now).expect("the same again");
    let script = format!("{opening}S: 250 a|250 b|354 c\nS: 250 d\nS: 221 bye");
    assert_eq!(play(&mut second, &mut mail.work, 1, &script), Next::Close);
    second.ended(&mut mail.work, End::Asked, now);
    assert!(Smtp::open(&mut mail.work, now).is_none());
    let outcomes = mail.end().1;
    assert_eq!(outcomes, [(0, 1, OK), (0, 1, Outcome::Unknown), (0, 2, OK)]);
}
