//! Conversations with a server that is played from a script.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::*;
use crate::dialogue::secured::Upgrade as _;
use crate::dialogue::{Dialogue, End, Next};
use crate::message::{Builder, Content, Framing, MessageId, Shape, Verdict};
use crate::pool::Pool;
use crate::recorder::{Fault, Interval, Recorder, Verb};
use crate::schedule::{Pace, Schedule};

fn login(plain: bool) -> Login {
    Login {
        user_pattern: "{local}".to_owned(),
        password: "p\"w".to_owned(),
        plain,
        mailbox: "INBOX".to_owned(),
        read_only: false,
        starttls: false,
    }
}

fn recorder() -> (Recorder, crossbeam::channel::Receiver<Interval>) {
    let (to, from) = crossbeam::channel::unbounded();
    (Recorder::new(Instant::now(), to), from)
}

fn builder() -> Builder {
    let shape = Shape {
        framing: Framing::Chunk,
        sender: "a@b.c".to_owned(),
        domain: "b.c".to_owned(),
    };
    Builder::new(&shape, &Content::Made("700".parse().expect("a size")), 1).expect("a builder")
}

fn imap_work(
    mix: &str,
    plain: bool,
    count: u64,
) -> (ImapWork, crossbeam::channel::Receiver<Interval>) {
    imap_work_with(mix, login(plain), count)
}

fn imap_work_with(
    mix: &str,
    login: Login,
    count: u64,
) -> (ImapWork, crossbeam::channel::Receiver<Interval>) {
    let options = Arc::new(Options {
        login,
        mix: mix.parse().expect("a mix"),
        commands_per_session: 0,
        window: 10,
        run: 7,
        sessions: AtomicU64::new(0),
    });
    let schedule = Arc::new(Schedule::new(Some(count), None));
    let pool = Arc::new(Pool::generate("u", 3, &["x.y"]).expect("a pool"));
    let (recorder, from) = recorder();
    let pace = Pace::new(schedule, 0);
    let work = ImapWork::new(options, pace, pool, builder(), recorder, None, 1);
    (work, from)
}

/// Plays `script` of `S: ` and `C: ` lines, the server's lines cut into pieces of `piece` bytes;
/// a `C: *` stands for anything. Returns the last [`Next`].
fn play<D: Dialogue>(work: &mut D::Work, script: &str, piece: usize) -> Next {
    let now = Instant::now();
    let mut dialogue = D::open(work, now).expect("something to do");
    let mut out = Vec::new();
    let mut next = dialogue.connected(work, now, &mut out);
    let mut sent = String::new();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if let Some(text) = line.strip_prefix("S: ") {
            let bytes = format!("{}\r\n", text.replace("\\n", "\r\n"));
            for part in bytes.as_bytes().chunks(piece) {
                next = dialogue.received(work, part, now, &mut out);
                if next != Next::Wait {
                    break;
                }
            }
            sent.push_str(&String::from_utf8_lossy(&out));
            out.clear();
        } else if let Some(wanted) = line.strip_prefix("C: ") {
            let (first, rest) = sent
                .split_once("\r\n")
                .unwrap_or_else(|| panic!("wanted '{wanted}', and nothing was sent: '{sent}'"));
            assert!(wanted == "*" || first == wanted, "'{first}' for '{wanted}'");
            sent = rest.to_owned();
        }
    }
    assert_eq!(sent, "", "more was sent than the script says");
    dialogue.ended(work, End::Asked, now);
    next
}

fn shipped(
    work: &mut impl crate::dialogue::Work,
    from: &crossbeam::channel::Receiver<Interval>,
) -> Interval {
    work.recorder().finish();
    let mut sum = Interval::default();
    from.try_iter().for_each(|interval| sum.add(interval));
    sum
}

#[test]
fn a_session_in_any_pieces() {
    let script = r#"
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR] ready
        C: a1 LOGIN "u0" "p\"w"
        S: a1 OK logged in
        C: a2 CAPABILITY
        S: * CAPABILITY IMAP4rev1 LITERAL+ IDLE
        S: a2 OK done
        C: a3 SELECT "INBOX"
        S: * FLAGS (\Seen)
        S: * 3 EXISTS
        S: * OK [UNSEEN 1] text that looks like a literal {5}
        S: * 2 EXPUNGE
        S: a3 OK [READ-WRITE] open
        C: a4 FETCH 1:* (UID FLAGS)
        S: * 1 FETCH (UID 1 FLAGS (\Seen))
        S: * 2 FETCH (X {5}\na1 \n FLAGS ())
        S: a4 OK done
        C: a5 FETCH 1:* (UID FLAGS)
        S: a5 NO no such thing
        C: a6 LOGOUT
        S: * BYE bye
        S: a6 OK bye
    "#;
    for piece in 1..60 {
        let (mut work, from) = imap_work("fetch-flags:1", false, 2);
        assert_eq!(play::<Imap>(&mut work, script, piece), Next::Close);
        let sum = shipped(&mut work, &from);
        assert_eq!((sum.counts.done, sum.counts.failed), (1, 1), "by {piece}");
        let fetches = sum.histogram(Verb::FetchFlags).expect("seen");
        assert_eq!(fetches.len(), 1);
        let (key, fault) = sum.faults.iter().next().expect("the NO");
        assert_eq!((key.fault, key.verb), (Fault::Permanent, Verb::FetchFlags));
        assert_eq!(fault.sample, "a5 NO no such thing");
    }
}

#[test]
fn plain_with_and_without_initial_response() {
    let (mut work, _from) = imap_work("noop:1", true, 1);
    let script = r#"
        S: * OK [CAPABILITY IMAP4rev2] ready
        C: a1 AUTHENTICATE PLAIN AHUwAHAidw==
        S: a1 OK [CAPABILITY IMAP4rev2] in
        C: a2 SELECT "INBOX"
        S: * 0 EXISTS
        S: a2 OK open
        C: a3 NOOP
        S: a3 OK nothing
        C: a4 LOGOUT
        S: a4 OK
    "#;
    assert_eq!(play::<Imap>(&mut work, script, 100), Next::Close);
    let (mut work, from) = imap_work("noop:1", true, 1);
    let script = r#"
        S: * OK ready
        C: a1 CAPABILITY
        S: * CAPABILITY IMAP4rev1
        S: a1 OK
        C: a2 AUTHENTICATE PLAIN
        S: +
        C: AHUwAHAidw==
        S: a2 NO [AUTHENTICATIONFAILED] no
    "#;
    assert_eq!(play::<Imap>(&mut work, script, 3), Next::Fail);
    let sum = shipped(&mut work, &from);
    assert_eq!((sum.counts.failed, sum.counts.ended_ever), (1, 1));
    assert_eq!(sum.faults.keys().next().expect("a fault").verb, Verb::Login);
}

#[test]
fn append_waits_for_the_server_unless_it_need_not() {
    for (capability, at_once) in [("LITERAL+", true), ("LITERAL-", true), ("IDLE", false)] {
        let (mut work, _from) = imap_work("append:1", false, 1);
        let now = Instant::now();
        let mut imap = Imap::open(&mut work, now).expect("something to do");
        let mut out = Vec::new();
        let opening = format!(
            "* OK [CAPABILITY IMAP4rev1] hi\r\na1 OK [CAPABILITY IMAP4rev1 {capability}] in\r\n\
             * 0 EXISTS\r\na2 OK open\r\n"
        );
        imap.received(&mut work, opening.as_bytes(), now, &mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert_eq!(text.contains("X-Loadgen-Id: "), at_once, "{text}");
        assert!(text.contains(if at_once { "{700+}\r\n" } else { "{700}\r\n" }));
        let before = out.len();
        imap.received(&mut work, b"+ go\r\n", now, &mut out);
        // 700 bytes and the end of the command, once.
        assert_eq!(out.len() - before, if at_once { 0 } else { 702 });
        imap.received(&mut work, b"a3 OK stored\r\n", now, &mut out);
        assert!(out.ends_with(b"a4 LOGOUT\r\n"));
        imap.ended(&mut work, End::Asked, now);
    }
}

fn starttls() -> Login {
    Login {
        starttls: true,
        ..login(false)
    }
}

#[test]
fn nothing_is_said_before_tls_is_up_and_capabilities_are_asked_for_again() {
    let (mut work, _from) = imap_work_with("noop:1", starttls(), 1);
    let now = Instant::now();
    let mut imap = Imap::open(&mut work, now).expect("something to do");
    let mut out = Vec::new();
    imap.connected(&mut work, now, &mut out);
    let greeting = b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi\r\n";
    assert_eq!(
        imap.received(&mut work, greeting, now, &mut out),
        Next::Wait
    );
    assert_eq!(out, b"a1 STARTTLS\r\n");
    assert!(!imap.wants_tls());
    assert_eq!(
        imap.received(&mut work, b"a1 OK go\r\n", now, &mut out),
        Next::Wait
    );
    assert!(imap.wants_tls());
    out.clear();
    assert_eq!(imap.upgraded(&mut work, now, &mut out), Next::Wait);
    assert!(!imap.wants_tls());
    assert_eq!(out, b"a2 CAPABILITY\r\n");
    out.clear();
    // What was disabled in the clear is allowed now.
    let answer = b"* CAPABILITY IMAP4rev1\r\na2 OK\r\n";
    imap.received(&mut work, answer, now, &mut out);
    assert!(out.starts_with(b"a3 LOGIN"));
    imap.ended(&mut work, End::Cut, now);
}

#[test]
fn starttls_that_is_refused_or_tampered_with_ends_the_session() {
    for (script, fault) in [
        (
            "S: * OK hi\nC: a1 STARTTLS\nS: a1 BAD what?",
            Fault::Permanent,
        ),
        (
            "S: * OK hi\nC: a1 STARTTLS\nS: a1 NO not now",
            Fault::Permanent,
        ),
        // One piece: what follows the OK came before TLS was up.
        (
            "S: * OK hi\nC: a1 STARTTLS\nS: a1 OK go\\n* OK injected",
            Fault::Nonsense,
        ),
        ("S: * PREAUTH you are in", Fault::Permanent),
    ] {
        let (mut work, from) = imap_work_with("noop:1", starttls(), 1);
        assert_eq!(play::<Imap>(&mut work, script, 100), Next::Fail, "{script}");
        let sum = shipped(&mut work, &from);
        let (key, _) = sum.faults.iter().next().expect("a fault");
        assert_eq!((key.fault, key.verb), (fault, Verb::StartTls), "{script}");
        assert_eq!(sum.counts.failed, 1);
    }
}

#[test]
fn greetings_that_are_none() {
    for (greeting, fault) in [
        ("* BYE too many", Fault::Transient),
        ("220 smtp", Fault::Nonsense),
        ("* NO", Fault::Nonsense),
    ] {
        let (mut work, from) = imap_work("noop:1", false, 1);
        let next = play::<Imap>(&mut work, &format!("S: {greeting}"), 4);
        assert_eq!(next, Next::Fail);
        let sum = shipped(&mut work, &from);
        let (key, _) = sum.faults.iter().next().expect("a fault");
        assert_eq!((key.fault, key.verb), (fault, Verb::Greeting), "{greeting}");
    }
}

#[test]
fn the_verifier_reads_every_message_of_a_mailbox() {
    let mut whole = Vec::new();
    let id = MessageId {
        run: 7,
        sequence: 9,
    };
    let builder = builder();
    builder.build(builder.clone().draw(), id, &mut whole);
    let mut damaged = whole.clone();
    damaged[650] ^= 1;
    let mut text = b"* OK [CAPABILITY IMAP4rev1] hi\r\na1 OK in\r\n\
        * CAPABILITY IMAP4rev1\r\na2 OK\r\n* 3 EXISTS\r\na3 OK open\r\n"
        .to_vec();
    for (number, message) in [(1, &whole), (2, &damaged)] {
        text.extend_from_slice(
            format!("* {number} FETCH (BODY[] {{{}}}\r\n", message.len()).as_bytes(),
        );
        text.extend_from_slice(message);
        text.extend_from_slice(b" FLAGS (\\Recent))\r\n");
    }
    text.extend_from_slice(b"* 3 FETCH (BODY[] NIL)\r\na4 OK\r\n* BYE\r\na5 OK\r\n");
    for piece in [1, 7, 100, text.len()] {
        let options = Arc::new(CheckOptions {
            login: login(false),
            attempts_max: 1,
        });
        let schedule = Arc::new(Schedule::new(Some(1), None));
        let pool = Arc::new(Pool::generate("u", 1, &["x.y"]).expect("a pool"));
        let (recorder, _from) = recorder();
        let mut work = ImapCheckWork::new(options, schedule, pool, recorder);
        let now = Instant::now();
        let mut check = ImapCheck::open(&mut work, now).expect("a mailbox");
        let (mut out, mut next) = (Vec::new(), Next::Wait);
        for part in text.chunks(piece) {
            next = check.received(&mut work, part, now, &mut out);
        }
        assert_eq!(next, Next::Close);
        check.ended(&mut work, End::Asked, now);
        let verdicts: Vec<_> = work.found.iter().map(|found| found.verdict).collect();
        let wanted = [
            Verdict::Whole(id),
            Verdict::Corrupt(Some(id)),
            Verdict::Corrupt(None),
        ];
        assert_eq!((verdicts.as_slice(), work.mailboxes_read), (&wanted[..], 1));
    }
}
