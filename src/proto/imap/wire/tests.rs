//! Compressed conversations: in all pieces, beside the same in plain text; bombs, pauses, damage.

use std::time::Instant;

use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{
    CompressionStrategy, CompressorOxide, TDEFLFlush, compress_to_output,
};

use super::super::deflate::Inflater;
use super::super::imap_world::{Desk, World, session};
use super::Wire;
use crate::limits::{INFLATE_BLOCK_BYTES, INFLATE_TURN_BYTES, OUTPUT_BYTES_MAX};
use crate::proto::driver::Driver;
use crate::proto::imap::{Answer, Ask};
use crate::proto::transcript::Noting;
use crate::proto::{Event, Session as _, Step};

const BEFORE: &[u8] = b"a NOOP\r\nb COMPRESS DEFLATE\r\n";

/// A client's side of the stream, with a window of its own.
struct Packer(CompressorOxide);

impl Packer {
    fn new() -> Packer {
        let strategy = CompressionStrategy::Default;
        Packer(CompressorOxide::with_params(
            DataFormat::Raw,
            6,
            strategy,
            15,
        ))
    }

    fn pack(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress_to_output(&mut self.0, text, TDEFLFlush::Sync, |bytes| {
            out.extend_from_slice(bytes);
            true
        });
        out
    }
}

fn unpack(mut input: &[u8]) -> String {
    let mut inflater = Inflater::default();
    let mut plain = Vec::new();
    while !input.is_empty() || inflater.is_full() {
        let unpacked = inflater
            .unpack(input)
            .expect("what the server packs is sound");
        plain.extend_from_slice(inflater.pending());
        inflater.take(unpacked.given);
        input = &input[unpacked.used..];
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Splits what was said at the answer to COMPRESS, and unpacks what is behind it.
fn heard(output: &[u8]) -> String {
    let mark = b"b OK COMPRESS completed\r\n";
    let start = output
        .windows(mark.len())
        .position(|window| window == mark)
        .expect("COMPRESS is answered");
    let (plain, packed) = output.split_at(start + mark.len());
    String::from_utf8_lossy(plain).into_owned() + &unpack(packed)
}

fn driver() -> Driver<Wire, impl FnMut(Ask) -> Answer> {
    driver_of(Wire::new(session()))
}

fn driver_of<S>(session: S) -> Driver<S, impl FnMut(Ask) -> Answer>
where
    S: crate::proto::Session<Ask = Ask, Answer = Answer>,
{
    let world = World::new();
    for number in 1..=3 {
        let body = format!("Subject: b{number}\r\nA: b\r\n\r\nbody {number}\r\n");
        world.borrow_mut().deliver("INBOX", body.as_bytes());
    }
    let mut desk = Desk::default();
    Driver::new(session, move |ask| {
        world.borrow_mut().answer(ask, &mut desk)
    })
}

#[test]
fn compressed_says_what_plain_says_in_all_pieces() {
    let turns: [&[u8]; 4] = [
        b"c LOGIN {5}\r\n",
        b"alice {6+}\r\nsecret\r\nd SELECT INBOX\r\n",
        b"e APPEND INBOX {4+}\r\nA: b\r\nf FETCH 1:* (FLAGS ENVELOPE BODY[])\r\ng IDLE\r\nDONE\r\n",
        b"h UNAUTHENTICATE\r\ni COMPRESS DEFLATE\r\nj LOGIN alice secret\r\nk LOGOUT\r\n",
    ];
    // Without the layer below it a conversation goes on as it was.
    let mut plain = driver_of(session());
    plain.receive(BEFORE.split_at(8).0, usize::MAX);
    for turn in turns {
        plain.receive(turn, usize::MAX);
    }
    let plain = String::from_utf8_lossy(&plain.take_output()).replace(
        "i OK COMPRESS completed",
        "i NO [COMPRESSIONACTIVE] DEFLATE is active already",
    );
    let mut packer = Packer::new();
    // The first of it comes in one piece with COMPRESS itself.
    let mut input = BEFORE.to_vec();
    for turn in turns {
        input.extend(packer.pack(turn));
    }
    for piece_bytes in [1, 2, 7, 100, usize::MAX] {
        let mut driver = driver();
        driver.receive(&input, piece_bytes);
        let said = heard(&driver.take_output());
        let said = said.replace("b OK COMPRESS completed\r\n", "");
        assert_eq!(said, plain, "in pieces of {piece_bytes}");
        assert!(driver.closed);
    }
}

#[test]
fn a_session_that_waits_holds_little() {
    let mut driver = driver();
    // As the shard says at the login of one without telemetry.
    driver.session.record(Noting::Nothing);
    let before = driver.session.held_bytes();
    driver.receive(BEFORE, 1);
    let input = Packer::new().pack(b"c LOGIN alice secret\r\nd SELECT INBOX\r\ne IDLE\r\n");
    driver.receive(&input, usize::MAX);
    assert!(heard(&driver.take_output()).ends_with("+ idling\r\n"));
    let held = driver.session.held_bytes() - before;
    assert!(held < 1000, "{held} bytes");
}

#[test]
fn a_bomb_is_taken_in_turns() {
    let mut driver = driver();
    driver.receive(BEFORE, usize::MAX);
    driver.receive(&Packer::new().pack(b"c LOGIN alice secret\r\n"), usize::MAX);
    let now = Instant::now();
    let mut wire = driver.session;
    let mut packer = Packer::new();
    packer.pack(b"c LOGIN alice secret\r\n");
    let mut plain = b"d NOOP\r\n".repeat(200_000);
    plain.extend_from_slice(b"e LOGOUT\r\n");
    let mut input: &[u8] = &packer.pack(&plain);
    let (mut pauses, mut drains, mut said) = (0, 0, Vec::new());
    let mut closed = false;
    while !closed {
        let mut out = Vec::new();
        let (used, mut step) = wire.feed(input, now, &mut out);
        input = &input[used..];
        loop {
            assert!(out.len() <= OUTPUT_BYTES_MAX * 2);
            step = match step {
                Step::Ask(Ask::Pause) => {
                    pauses += 1;
                    assert_eq!(wire.feed(input, now, &mut out).0, 0);
                    assert_eq!(wire.deadline(), None);
                    wire.answer(Answer::Done(Ok(())), now, &mut out)
                }
                Step::Ask(ask) => panic!("{ask:?} of NOOP without a mailbox"),
                Step::Drain => {
                    drains += 1;
                    break;
                }
                Step::Close => {
                    closed = true;
                    break;
                }
                Step::NeedInput => break,
            };
        }
        said.extend(out);
    }
    assert_eq!(unpack(&said).matches("d OK NOOP").count(), 200_000);
    assert!(drains > 0 && pauses <= plain.len() / INFLATE_TURN_BYTES + 1);
}

/// Ten bits are a block of nothing (RFC 1951 §3.2.6), for which tables are built all the same.
#[test]
fn blocks_of_nothing_are_taken_in_turns() {
    let mut driver = driver();
    driver.receive(BEFORE, usize::MAX);
    let mut wire = driver.session;
    let four = [0x02, 0x08, 0x20, 0x80, 0x00];
    let nothing = four.repeat(1_000_000 / four.len());
    let blocks = nothing.len() / four.len() * 4;
    let mut packer = Packer::new();
    let first = packer.pack(b"c NOOP\r\n");
    let last = packer.pack(b"d NOOP\r\ne LOGOUT\r\n");
    let whole = [first, nothing, last].concat();
    let now = Instant::now();
    let turn_blocks = INFLATE_TURN_BYTES / INFLATE_BLOCK_BYTES;
    let (mut pauses, mut said) = (0, Vec::new());
    let mut input = &whole[..];
    loop {
        let (used, step) = wire.feed(input, now, &mut said);
        // At most one piece comes on top.
        assert!(used * 8 / 10 <= turn_blocks * 2, "{used} bytes in one turn");
        input = &input[used..];
        match step {
            Step::Ask(Ask::Pause) => {
                pauses += 1;
                let step = wire.answer(Answer::Done(Ok(())), now, &mut said);
                assert!(matches!(step, Step::NeedInput), "{step:?}");
            }
            Step::NeedInput => assert!(used > 0),
            Step::Close => break,
            step => panic!("{step:?}"),
        }
    }
    assert!(input.is_empty());
    assert!(pauses >= blocks / turn_blocks / 2, "{pauses} pauses");
    let said = unpack(&said);
    assert!(said.starts_with("c OK NOOP"), "{said}");
    assert!(said.contains("\r\nd OK NOOP") && said.ends_with("e OK LOGOUT completed\r\n"));
}

#[test]
fn what_happens_in_a_pause_is_not_forgotten() {
    let mut driver = driver();
    driver.receive(BEFORE, usize::MAX);
    let mut wire = driver.session;
    let (now, mut out) = (Instant::now(), Vec::new());
    let input = Packer::new().pack(&b"x".repeat(2 * INFLATE_TURN_BYTES));
    let (_, step) = wire.feed(&input, now, &mut out);
    assert!(matches!(step, Step::Ask(Ask::Pause)), "{step:?}");
    assert!(matches!(
        wire.notify(Event::Shutdown, now, &mut out),
        Step::NeedInput
    ));
    assert!(out.is_empty());
    let step = wire.answer(Answer::Done(Ok(())), now, &mut out);
    assert!(matches!(step, Step::Close), "{step:?}");
    assert_eq!(unpack(&out), "* BYE Server is shutting down\r\n");
}

#[test]
fn damage_ends_the_session() {
    for damaged in [&b"\x07"[..], b"c NOOP\r\n"] {
        let mut driver = driver();
        driver.receive(&[BEFORE, damaged].concat(), 1);
        let said = heard(&driver.take_output());
        assert!(
            said.ends_with("* BYE Compressed data is damaged\r\n"),
            "{said}"
        );
        assert!(driver.closed);
    }
}
