//! A shard for fuzzing sessions: feeds input in pieces that the input itself chooses, answers
//! asks, sometimes with errors, and checks what must hold for every session.

use std::time::{Duration, Instant};

use ringpost::limits::OUTPUT_BYTES_MAX;
use ringpost::proto::{Event, Session, Step};

/// Steps without input or output after which a session counts as stuck.
const STEPS_MAX: usize = 100_000;
/// A session's bound, and one answer behind it.
const OUT_BYTES_MAX: usize = OUTPUT_BYTES_MAX * 4;

/// What a conversation looks like from outside.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// All that was sent.
    pub output: Vec<u8>,
    /// The session ended the connection.
    pub closed: bool,
}

/// Takes the first bytes of `data` as pieces, faults and an event, and the rest as the input of a
/// conversation, which must come out the same in one piece (unless an event cuts it at a piece's
/// end). `converse` is told input, pieces, faults and event.
///
/// # Panics
/// When it comes out otherwise.
pub fn in_any_pieces(
    data: &[u8],
    converse: impl Fn(&[u8], &[u8], u8, Option<(usize, Event)>) -> Outcome,
) {
    let Some((&[pieces, faults, event_at, kind], input)) = data.split_first_chunk::<4>() else {
        return;
    };
    let event = match kind % 8 {
        0 | 4 => Some((usize::from(event_at), Event::Shutdown)),
        1 | 5 => Some((usize::from(event_at), Event::Timeout)),
        2 | 6 => Some((usize::from(event_at), Event::Changed)),
        7 => Some((usize::from(event_at), Event::Removed)),
        _ => None,
    };
    let divided = converse(input, &[pieces, faults], faults, event);
    if event.is_none() {
        assert_eq!(divided, converse(input, &[u8::MAX], faults, None));
    }
}

/// Runs a session over `input`, divided by `pieces` (sizes, taken in turns), with an event at the
/// end of the piece of that index.
///
/// # Panics
/// When the session breaks the contract of [`Session`], or panics itself.
pub fn run<S: Session>(
    mut session: S,
    mut answer: impl FnMut(S::Ask) -> S::Answer,
    input: &[u8],
    pieces: &[u8],
    event: Option<(usize, Event)>,
) -> Outcome {
    let now = Instant::now();
    let mut out = Vec::new();
    let mut outcome = Outcome {
        output: Vec::new(),
        closed: false,
    };
    let mut pending: Vec<u8> = Vec::new();
    let mut rest = input;
    let mut step = session.greet(now, &mut out);
    let mut sizes = pieces.iter().map(|&size| usize::from(size).max(1)).cycle();
    let mut received = 0;
    let mut event = event;
    for _ in 0..STEPS_MAX + 4 * input.len() {
        assert!(out.len() <= OUT_BYTES_MAX, "{} bytes of output", out.len());
        step = match step {
            Step::Close => {
                outcome.output.append(&mut out);
                outcome.closed = true;
                return outcome;
            }
            Step::Ask(ask) => {
                assert!(
                    session.deadline().is_none(),
                    "time runs while an ask is out"
                );
                if let Some((_, event)) = event.take_if(|(at, _)| *at <= received) {
                    let quiet = session.notify(event, now, &mut out);
                    assert!(matches!(quiet, Step::NeedInput), "must wait for the answer");
                }
                match session.answer(answer(ask), now, &mut out) {
                    Step::NeedInput => feed(&mut session, &mut pending, now, &mut out),
                    step => step,
                }
            }
            Step::Drain => {
                outcome.output.append(&mut out);
                feed(&mut session, &mut pending, now, &mut out)
            }
            Step::NeedInput => {
                outcome.output.append(&mut out);
                let deadline = session.deadline().expect("an idle session has a deadline");
                assert!(deadline <= now + Duration::from_secs(3600));
                if let Some((_, event)) = event.take_if(|(at, _)| *at <= received) {
                    step = session.notify(event, now, &mut out);
                    continue;
                }
                if pending.is_empty() {
                    if rest.is_empty() {
                        return outcome;
                    }
                    let size = sizes.next().unwrap_or(usize::MAX).min(rest.len());
                    pending.extend_from_slice(&rest[..size]);
                    rest = &rest[size..];
                    received += 1;
                }
                feed(&mut session, &mut pending, now, &mut out)
            }
        };
    }
    panic!("the session is stuck");
}

fn feed<S: Session>(
    session: &mut S,
    pending: &mut Vec<u8>,
    now: Instant,
    out: &mut Vec<u8>,
) -> Step<S::Ask> {
    let (used, step) = session.feed(pending, now, out);
    pending.drain(..used);
    step
}
