//! Dialogs of `tests/dialogs`, and what a dialog cannot show: large bodies, bounds, time.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{Transaction, no_such_user};
use super::*;
use crate::limits::{BODY_CHUNK_BYTES, BODY_INLINE_BYTES_MAX};
use crate::mail::{EnhancedStatus, ForwardPath};
use crate::proto::Session as _;
use crate::proto::driver::{Driver, play};

fn settings(dialect: Dialect) -> Settings {
    Settings {
        dialect,
        hostname: "mx.example.org".to_owned(),
        message_bytes_max: 2_000_000,
        recipients_max: 3,
        messages_max: 4,
        refused_recipients_max: 3,
        command_timeout: Duration::from_secs(300),
        data_timeout: Duration::from_secs(180),
    }
}

fn session_with(settings: Settings) -> Session {
    let peer = Peer::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 4321)));
    Session::new(Arc::new(settings), peer)
}

fn session(dialect: Dialect) -> Session {
    session_with(settings(dialect))
}

/// A shard whose answers depend on local parts: `nobody` and `later` are refused, `full` cannot be
/// delivered to. Its replies tell what it was given.
fn answer(dialect: Dialect, ask: Ask) -> Answer {
    match ask {
        Ask::Recipient {
            path: ForwardPath::Address(address),
            ..
        } if address.local_part() == "nobody" => Answer::Recipient(Err(no_such_user(&address))),
        Ask::Recipient { path, .. } if path.as_str().starts_with("later@") => {
            let status = EnhancedStatus(4, 2, 1);
            Answer::Recipient(Err(Reply::new(450, status, "Later")))
        }
        Ask::Recipient { .. } => Answer::Recipient(Ok(())),
        Ask::Chunk { .. } | Ask::Abort => Answer::Chunk(Ok(())),
        Ask::Deliver(transaction) => Answer::Delivered(delivered(dialect, &transaction)),
    }
}

fn delivered(dialect: Dialect, transaction: &Transaction) -> Vec<Reply> {
    let taken = |recipients: &str| {
        let text = format!(
            "{} to {recipients}, {} from {}: {}",
            transaction.envelope.reverse_path,
            transaction.with_protocol,
            transaction.client_name,
            transaction.body.escape_ascii()
        );
        Reply::new(250, EnhancedStatus(2, 0, 0), text)
    };
    let paths = transaction.envelope.forward_paths.iter();
    match dialect {
        Dialect::Smtp => {
            let all: Vec<String> = paths.map(ForwardPath::to_string).collect();
            vec![taken(&all.join(" "))]
        }
        Dialect::Lmtp => paths
            .map(|path| match path.as_str().starts_with("full@") {
                true => Reply::new(452, EnhancedStatus(4, 2, 2), "Full"),
                false => taken(&path.to_string()),
            })
            .collect(),
    }
}

/// Plays every dialog of a folder, in pieces of several sizes down to single bytes.
fn play_folder(name: &str, dialect: Dialect) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/dialogs")
        .join(name);
    let mut played = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let dialog = std::fs::read_to_string(&path).unwrap();
        // The name shows in the output of a failing test.
        println!("{}", path.display());
        play(&dialog, || {
            (session(dialect), move |ask| answer(dialect, ask))
        });
        played += 1;
    }
    assert!(played > 0, "no dialogs in {}", folder.display());
}

#[test]
fn smtp_dialogs() {
    play_folder("smtp", Dialect::Smtp);
}

#[test]
fn lmtp_dialogs() {
    play_folder("lmtp", Dialect::Lmtp);
}

#[test]
fn an_idle_session_is_small() {
    fn is_send<T: Send>() {}
    is_send::<Session>();
    let mut session = session(Dialect::Smtp);
    let mut out = Vec::new();
    session.greet(Instant::now(), &mut out);
    session.feed(b"EHLO client.example\r\nNOOP\r\n", Instant::now(), &mut out);
    let name_bytes = session.client_name.as_ref().map_or(0, |name| name.len());
    assert!(size_of::<Session>() + session.held_bytes() + name_bytes <= 256);
    assert_eq!(session.held_bytes(), 0);
}

const ENVELOPE: &[u8] = b"EHLO client.example\r\nMAIL FROM:<s@example.com>\r\n\
    RCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n";

/// What a shard saw of one connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Bytes of each piece.
    pieces: Vec<usize>,
    /// Everything of a message, put together again.
    body: Vec<u8>,
    opened: usize,
    aborted: usize,
    delivered: usize,
    output: Vec<u8>,
}

/// Runs one connection; the chunk of that index fails.
fn converse(
    settings: Settings,
    input: &[u8],
    piece_bytes: usize,
    chunk_fails: Option<usize>,
) -> Seen {
    let dialect = settings.dialect;
    let mut seen = Seen::default();
    let mut driver = Driver::new(session_with(settings), |ask| match ask {
        Ask::Chunk { open, bytes } => {
            assert_eq!(open.is_some(), seen.pieces.is_empty());
            if let Some(open) = open {
                assert_eq!(open.envelope.forward_paths.len(), 2);
                assert!(open.body.is_empty() && open.streamed_bytes == 0);
                seen.opened += 1;
            }
            assert!(bytes.len() <= BODY_INLINE_BYTES_MAX);
            seen.pieces.push(bytes.len());
            seen.body.extend_from_slice(&bytes);
            Answer::Chunk(match chunk_fails {
                Some(index) if index + 1 == seen.pieces.len() => {
                    Err(Reply::new(452, EnhancedStatus(4, 3, 1), "Disk full"))
                }
                _ => Ok(()),
            })
        }
        Ask::Abort => {
            seen.aborted += 1;
            Answer::Chunk(Ok(()))
        }
        Ask::Deliver(mut transaction) => {
            assert_eq!(
                transaction.streamed_bytes,
                seen.pieces.iter().sum::<usize>() as u64
            );
            assert_eq!(transaction.envelope.forward_paths.len(), 2);
            seen.body.extend_from_slice(&transaction.body);
            seen.delivered += 1;
            transaction.body.clear();
            Answer::Delivered(delivered(dialect, &transaction))
        }
        ask @ Ask::Recipient { .. } => answer(dialect, ask),
    });
    driver.receive(input, piece_bytes);
    let output = driver.take_output();
    seen.output = output;
    seen
}

/// The codes of all replies, the last line of each.
fn codes(output: &[u8]) -> Vec<u16> {
    String::from_utf8_lossy(output)
        .lines()
        .filter(|line| line.as_bytes().get(3) == Some(&b' '))
        .map(|line| line[..3].parse().unwrap())
        .collect()
}

fn data(body: &[u8]) -> Vec<u8> {
    [ENVELOPE, b"DATA\r\n", body, b".\r\nNOOP\r\n"].concat()
}

/// A body of so many bytes in lines of 64.
fn body(bytes: usize) -> Vec<u8> {
    let line = format!("{}\r\n", "x".repeat(62));
    let mut body = line.repeat(bytes / 64 + 1).into_bytes();
    body.truncate(bytes - 2);
    if body.last() == Some(&b'\r') {
        body.pop();
        body.push(b'x');
    }
    body.extend_from_slice(b"\r\n");
    body
}

#[test]
fn a_large_body_comes_in_bounded_pieces() {
    let body = body(BODY_INLINE_BYTES_MAX + 3 * BODY_CHUNK_BYTES + 1000);
    let bdat = [
        ENVELOPE,
        format!("BDAT {}\r\n", 300_000).as_bytes(),
        &body[..300_000],
        format!("BDAT {} LAST\r\n", body.len() - 300_000).as_bytes(),
        &body[300_000..],
        b"NOOP\r\n",
    ]
    .concat();
    for (input, last_codes) in [
        (data(&body), vec![354, 250, 250]),
        (bdat, vec![250, 250, 250]),
    ] {
        for piece_bytes in [8192, 100_000, usize::MAX] {
            let seen = converse(settings(Dialect::Smtp), &input, piece_bytes, None);
            assert_eq!(
                seen.pieces,
                [
                    BODY_INLINE_BYTES_MAX,
                    BODY_CHUNK_BYTES,
                    BODY_CHUNK_BYTES,
                    BODY_CHUNK_BYTES
                ]
            );
            assert!(seen.body == body);
            assert_eq!((seen.opened, seen.aborted, seen.delivered), (1, 0, 1));
            assert!(codes(&seen.output).ends_with(&last_codes));
        }
    }
}

#[test]
fn a_body_below_the_bound_is_one_piece() {
    let body = body(BODY_INLINE_BYTES_MAX - 1);
    let seen = converse(settings(Dialect::Smtp), &data(&body), 8192, None);
    assert!(seen.pieces.is_empty() && seen.body == body && seen.delivered == 1);
}

#[test]
fn after_a_failed_chunk_the_rest_is_read_over() {
    let body = body(1_000_000);
    for dialect in [Dialect::Smtp, Dialect::Lmtp] {
        let mut input = data(&body);
        if dialect == Dialect::Lmtp {
            input[..4].copy_from_slice(b"LHLO");
        }
        let seen = converse(settings(dialect), &input, 8192, Some(1));
        assert_eq!(seen.pieces.len(), 2);
        assert_eq!((seen.aborted, seen.delivered), (0, 0));
        let replies: &[u16] = match dialect {
            Dialect::Smtp => &[354, 452, 250],
            Dialect::Lmtp => &[354, 452, 452, 250],
        };
        assert!(
            codes(&seen.output).ends_with(replies),
            "{:?}",
            codes(&seen.output)
        );
    }
}

#[test]
fn a_body_over_the_size_is_read_over_and_given_up() {
    let body = body(2_000_001);
    for piece_bytes in [8192, usize::MAX] {
        let seen = converse(settings(Dialect::Smtp), &data(&body), piece_bytes, None);
        assert!(codes(&seen.output).ends_with(&[354, 552, 250]));
        assert_eq!((seen.opened, seen.aborted, seen.delivered), (1, 1, 0));
    }
    let fits = data(&body[..2_000_000 - 64]);
    let seen = converse(settings(Dialect::Smtp), &[&fits[..]].concat(), 8192, None);
    assert_eq!(seen.delivered, 1);
}

#[test]
fn exactly_the_size_is_taken() {
    let mut small = settings(Dialect::Smtp);
    small.message_bytes_max = 1000;
    let at = converse(small.clone(), &data(&body(1000)), 100, None);
    assert_eq!((at.delivered, at.body.len()), (1, 1000));
    let over = converse(small, &data(&body(1001)), 100, None);
    assert!(codes(&over.output).ends_with(&[354, 552, 250]));
}

#[test]
fn a_late_failure_gives_the_stream_up() {
    let mut late = body(400_000);
    late[399_000] = b'\n';
    let seen = converse(settings(Dialect::Smtp), &data(&late), 8192, None);
    assert!(codes(&seen.output).ends_with(&[354, 550, 250]));
    assert_eq!((seen.opened, seen.aborted, seen.delivered), (1, 1, 0));
    // Even where the failure and the end come in one piece.
    let mut last = body(400_000);
    last.extend_from_slice(b"a\n\r\n");
    for piece_bytes in [8192, usize::MAX] {
        let seen = converse(settings(Dialect::Smtp), &data(&last), piece_bytes, None);
        assert!(codes(&seen.output).ends_with(&[354, 550, 250]));
        assert_eq!((seen.opened, seen.aborted, seen.delivered), (1, 1, 0));
    }
}

#[test]
fn a_body_that_is_shed_is_read_over_and_put_off() {
    // Within a message that is in memory, and within one that streams.
    for (bytes, begun) in [(100_000, false), (400_000, true)] {
        let message = data(&body(bytes));
        let (head, tail) = message.split_at(message.len() - 50_000);
        let mut seen = Vec::new();
        let mut driver = Driver::new(session(Dialect::Smtp), |ask| {
            seen.push(match ask {
                Ask::Chunk { .. } => "chunk",
                Ask::Abort => "abort",
                Ask::Deliver(_) => "deliver",
                Ask::Recipient { .. } => "recipient",
            });
            answer(Dialect::Smtp, ask)
        });
        assert!(!driver.session.shed_body(), "there is none yet");
        driver.receive(head, 8192);
        assert!(driver.session.held_bytes() > 0);
        assert!(driver.session.shed_body());
        // The recipients are there until the message has ended.
        let held = driver.session.held_bytes();
        assert!((1..1000).contains(&held), "{held}");
        assert!(!driver.session.shed_body(), "nothing is left");
        driver.receive(tail, 8192);
        assert!(codes(&driver.take_output()).ends_with(&[354, 452, 250]));
        assert_eq!(driver.session.held_bytes(), 0);
        assert_eq!(seen.contains(&"abort"), begun, "{seen:?}");
        assert!(!seen.contains(&"deliver"), "{seen:?}");
    }
}

#[test]
fn rset_between_chunks_gives_the_stream_up() {
    let body = body(300_000);
    for reset in ["RSET", "EHLO again.example"] {
        let input = [
            ENVELOPE,
            b"BDAT 300000\r\n",
            &body,
            reset.as_bytes(),
            b"\r\nBDAT 1 LAST\r\nxNOOP\r\n",
        ]
        .concat();
        let seen = converse(settings(Dialect::Smtp), &input, 8192, None);
        assert!(
            codes(&seen.output).ends_with(&[250, 250, 503, 250]),
            "{reset}"
        );
        assert_eq!((seen.opened, seen.aborted, seen.delivered), (1, 1, 0));
    }
}

#[test]
fn a_looping_message_is_refused() {
    let header = |hops: usize| {
        let fields = "Received: from a by b; date\r\n".repeat(hops);
        format!("{fields}\r\nReceived: in the body\r\n").into_bytes()
    };
    let max = crate::limits::HOPS_MAX;
    let seen = converse(settings(Dialect::Smtp), &data(&header(max)), 100, None);
    assert_eq!(seen.delivered, 1);
    let seen = converse(settings(Dialect::Smtp), &data(&header(max + 1)), 100, None);
    assert!(codes(&seen.output).ends_with(&[354, 554, 250]));
    assert_eq!(seen.delivered, 0);
    // A header so long that it streams.
    let seen = converse(settings(Dialect::Smtp), &data(&header(20_000)), 8192, None);
    assert!(codes(&seen.output).ends_with(&[354, 554, 250]));
    assert_eq!((seen.opened, seen.delivered), (0, 0));
}

#[test]
fn replies_of_many_recipients_wait_for_the_output() {
    let mut many = settings(Dialect::Lmtp);
    many.recipients_max = 5000;
    let mut input = b"LHLO c\r\nMAIL FROM:<>\r\n".to_vec();
    for number in 0..5000 {
        input.extend_from_slice(format!("RCPT TO:<u{number}@example.org>\r\n").as_bytes());
    }
    input.extend_from_slice(b"DATA\r\nHi\r\n.\r\nNOOP\r\n");
    let mut driver = Driver::new(session_with(many), |ask| answer(Dialect::Lmtp, ask));
    driver.receive(&input, usize::MAX);
    assert!(driver.drains > 3);
    let output = driver.take_output();
    let text = String::from_utf8(output).unwrap();
    assert_eq!(text.matches(" to <u").count(), 5000);
    assert!(text.ends_with(": Hi\\r\\n\r\n250 2.0.0 OK\r\n"), "{text}");
}

#[test]
fn too_few_answers_are_filled_up() {
    let mut driver = Driver::new(session(Dialect::Lmtp), |ask| match ask {
        Ask::Deliver(_) => Answer::Delivered(Vec::new()),
        ask => answer(Dialect::Lmtp, ask),
    });
    let mut input = data(b"Hi\r\n");
    input[..4].copy_from_slice(b"LHLO");
    driver.receive(&input, usize::MAX);
    assert!(codes(&driver.take_output()).ends_with(&[354, 451, 451, 250]));
}

#[test]
fn an_answer_to_nothing_closes() {
    let mut session = session(Dialect::Smtp);
    let mut out = Vec::new();
    let step = session.answer(Answer::Chunk(Ok(())), Instant::now(), &mut out);
    assert!(matches!(step, Step::Close));
    assert!(out.starts_with(b"421 4.3.0"));
}

#[test]
fn output_is_bounded_however_much_is_pipelined() {
    let mut driver = Driver::new(session(Dialect::Smtp), |ask| answer(Dialect::Smtp, ask));
    driver.receive(&b"NOOP\r\n".repeat(50_000), usize::MAX);
    assert!(driver.drains > 5);
    assert_eq!(codes(&driver.take_output()).len(), 50_001);
}

#[test]
fn a_command_has_its_time_however_it_dribbles() {
    let mut driver = Driver::new(session(Dialect::Smtp), |ask| answer(Dialect::Smtp, ask));
    for _ in 0..299 {
        driver.receive(b"x", 1);
        driver.pass(Duration::from_secs(1));
        assert!(!driver.closed);
    }
    driver.pass(Duration::from_secs(1));
    assert!(driver.closed);
    assert!(
        driver
            .take_output()
            .ends_with(b"421 4.4.2 Nothing came for too long; closing\r\n")
    );
}

#[test]
fn within_a_message_every_byte_is_progress() {
    let mut driver = Driver::new(session(Dialect::Smtp), |ask| answer(Dialect::Smtp, ask));
    driver.receive(&[ENVELOPE, b"DATA\r\n"].concat(), usize::MAX);
    for _ in 0..10 {
        driver.receive(b"x", 1);
        driver.pass(Duration::from_secs(179));
        assert!(!driver.closed);
    }
    driver.pass(Duration::from_secs(1));
    assert!(driver.closed);
}

#[test]
fn a_shutdown_while_an_ask_is_out_waits() {
    let mut session = session(Dialect::Smtp);
    let (now, mut out) = (Instant::now(), Vec::new());
    session.greet(now, &mut out);
    let input = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<u@example.org>\r\n";
    let (used, step) = session.feed(input, now, &mut out);
    assert!(used == input.len() && matches!(step, Step::Ask(Ask::Recipient { .. })));
    let step = session.notify(Event::Shutdown, now, &mut out);
    assert!(matches!(step, Step::NeedInput));
    let step = session.answer(Answer::Recipient(Ok(())), now, &mut out);
    assert!(matches!(step, Step::NeedInput), "the transaction goes on");
    let (_, step) = session.feed(b"DATA\r\nHi\r\n.\r\n", now, &mut out);
    assert!(matches!(step, Step::Ask(Ask::Deliver(_))));
    out.clear();
    let replies = vec![Reply::new(250, EnhancedStatus(2, 0, 0), "Queued")];
    let step = session.answer(Answer::Delivered(replies), now, &mut out);
    assert!(matches!(step, Step::Close));
    assert_eq!(codes(&out), [250, 421]);
}

/// Sequences by which other servers were made to see a second message (SMTP smuggling).
const SMUGGLING: &[&str] = &[
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "\r.\r\n",
    "\r\n.\r",
    "\n.\r",
    "\r.\n",
    "\r\n.\r\r\n",
    "\n\n.\r\n",
    "\r\r\n.\r",
    "\n\r.\r\n",
    "\0\n.\n",
];

#[test]
fn nothing_is_smuggled() {
    for end in SMUGGLING {
        let body = format!(
            "Subject: x\r\n\r\nHi{end}MAIL FROM:<evil@example.net>\r\nRCPT TO:<v@example.org>\r\n\
             DATA\r\nevil\r\n"
        );
        for piece_bytes in [1, 2, 3, usize::MAX] {
            let seen = converse(
                settings(Dialect::Smtp),
                &data(body.as_bytes()),
                piece_bytes,
                None,
            );
            assert_eq!(seen.delivered, 0, "{end:?}");
            assert!(
                codes(&seen.output).ends_with(&[250, 250, 354, 550, 250]),
                "{end:?}"
            );
        }
    }
}

/// Words of the protocol and noise, so that deep states are reached.
fn conversations() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"EHLO c.example\r\n",
        b"LHLO c.example\r\n",
        b"MAIL FROM:<s@example.com> SIZE=9\r\n",
        b"MAIL FROM:<> BODY=BINARYMIME\r\n",
        b"RCPT TO:<a@example.org>\r\n",
        b"RCPT TO:<nobody@example.org>\r\n",
        b"DATA\r\n",
        b"Received: x\r\n",
        b"..\r\n",
        b".\r\n",
        b"BDAT 5\r\nab\r\n.",
        b"BDAT 3 LAST\r\nx\r\n",
        b"RSET\r\n",
        b"VRFY a\r\n",
        b"\r",
        b"\n",
        b".",
    ];
    let part = prop_oneof![
        8 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn cutting_changes_nothing(
        input in conversations(),
        piece_bytes in 1..50usize,
        lmtp in any::<bool>(),
    ) {
        let dialect = if lmtp { Dialect::Lmtp } else { Dialect::Smtp };
        let outcome = |piece_bytes| {
            let mut driver = Driver::new(session(dialect), |ask| answer(dialect, ask));
            driver.receive(&input, piece_bytes);
            prop_assert!(driver.session.held_bytes() <= 2 * BODY_INLINE_BYTES_MAX);
            Ok((driver.take_output(), driver.closed))
        };
        prop_assert_eq!(outcome(piece_bytes)?, outcome(usize::MAX)?);
    }
}
