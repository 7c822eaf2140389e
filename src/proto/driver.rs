//! Drives a session in tests as a shard would: input in pieces, answers at once, output drained.

use std::time::{Duration, Instant};

use super::{Event, Session, Step};
use crate::limits::OUTPUT_BYTES_MAX;

/// No session leaves more than this in `out`: its bound, and one piece of a message with every
/// third byte a dot.
const OUT_BYTES_MAX: usize = OUTPUT_BYTES_MAX * 2 + OUTPUT_BYTES_MAX / 2;

/// A session and the answers to its asks.
pub(super) struct Driver<S, F> {
    pub(super) session: S,
    answers: F,
    pub(super) now: Instant,
    /// Received, not consumed.
    pending: Vec<u8>,
    /// All that was sent.
    pub(super) output: Vec<u8>,
    pub(super) closed: bool,
    /// How long the shard takes for each answer.
    pub(super) answers_take: Duration,
    /// Steps of each kind that must have happened in a test that means to see them.
    pub(super) drains: usize,
}

impl<S: Session, F: FnMut(S::Ask) -> S::Answer> Driver<S, F> {
    pub(super) fn new(session: S, answers: F) -> Self {
        let mut driver = Driver {
            session,
            answers,
            now: Instant::now(),
            pending: Vec::new(),
            output: Vec::new(),
            closed: false,
            answers_take: Duration::ZERO,
            drains: 0,
        };
        let mut out = Vec::new();
        let step = driver.session.greet(driver.now, &mut out);
        driver.run(step, out);
        driver
    }

    /// Receives `input` in pieces of so many bytes.
    pub(super) fn receive(&mut self, input: &[u8], piece_bytes: usize) {
        for piece in input.chunks(piece_bytes.max(1)) {
            self.pending.extend_from_slice(piece);
            self.feed();
        }
    }

    pub(super) fn notify(&mut self, event: Event) {
        let mut out = Vec::new();
        let step = self.session.notify(event, self.now, &mut out);
        self.run(step, out);
    }

    /// Lets time pass; the shard says so when the deadline is over.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        if self
            .session
            .deadline()
            .is_some_and(|deadline| deadline <= self.now)
        {
            self.notify(Event::Timeout);
        }
    }

    /// What was sent since the last call.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn feed(&mut self) {
        if self.closed {
            return;
        }
        let mut out = Vec::new();
        let (used, step) = self.session.feed(&self.pending, self.now, &mut out);
        self.pending.drain(..used);
        self.run(step, out);
    }

    /// Follows the session until it wants more than has been received.
    fn run(&mut self, mut step: Step<S::Ask>, mut out: Vec<u8>) {
        loop {
            assert!(out.len() <= OUT_BYTES_MAX, "{} bytes of output", out.len());
            step = match step {
                Step::Close => {
                    self.output.append(&mut out);
                    self.closed = true;
                    return;
                }
                Step::Ask(ask) => {
                    assert_eq!(
                        self.session.deadline(),
                        None,
                        "time runs while an ask is out"
                    );
                    let answer = (self.answers)(ask);
                    // What is fed meanwhile must not be taken.
                    let (used, quiet) = self.session.feed(b"NOOP\r\n", self.now, &mut out);
                    assert!(used == 0 && matches!(quiet, Step::NeedInput));
                    self.now += self.answers_take;
                    self.session.working(self.now, &mut out);
                    let step = self.session.answer(answer, self.now, &mut out);
                    if matches!(step, Step::NeedInput) {
                        let (used, step) = self.session.feed(&self.pending, self.now, &mut out);
                        self.pending.drain(..used);
                        step
                    } else {
                        step
                    }
                }
                Step::Drain => {
                    self.drains += 1;
                    self.output.append(&mut out);
                    let (used, step) = self.session.feed(&self.pending, self.now, &mut out);
                    self.pending.drain(..used);
                    step
                }
                Step::NeedInput => {
                    self.output.append(&mut out);
                    if self.pending.is_empty() {
                        return;
                    }
                    let (used, step) = self.session.feed(&self.pending, self.now, &mut out);
                    assert!(
                        used > 0 || !matches!(step, Step::NeedInput),
                        "stuck with {} bytes received",
                        self.pending.len()
                    );
                    self.pending.drain(..used);
                    step
                }
            };
        }
    }
}

/// Plays a dialog: `C: ` lines are sent with CRLF, each run of them at once; `S: ` lines are what
/// the run must be answered with, to the byte; `S: <close>` is the end of the connection, and a
/// connection that ends must have it. `C| ` lines are sent as they are, with the escapes `\\r`, `\\n`,
/// `\\t`, `\\\\` and `\\xHH`, and no CRLF behind them. `! shutdown` and `! timeout` are events. `#` begins a
/// comment. The dialog is played again and again, in smaller and smaller pieces.
pub(super) fn play<S: Session, F: FnMut(S::Ask) -> S::Answer>(
    dialog: &str,
    mut start: impl FnMut() -> (S, F),
) {
    for piece_bytes in [usize::MAX, 7, 2, 1] {
        let (session, answers) = start();
        let mut driver = Driver::new(session, answers);
        let mut lines = dialog
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .peekable();
        while let Some(line) = lines.peek().copied() {
            let known = ["C: ", "C| ", "S: ", "! "]
                .iter()
                .any(|kind| line.starts_with(kind));
            assert!(known, "cannot read {line:?}");
            let mut sent = Vec::new();
            while let Some(bytes) = lines.peek().and_then(|line| sent_bytes(line)) {
                sent.extend_from_slice(&bytes);
                lines.next();
            }
            let mut expected = String::new();
            let mut closes = false;
            if sent.is_empty()
                && let Some(event) = line.strip_prefix("! ")
            {
                lines.next();
                driver.notify(match event {
                    "shutdown" => Event::Shutdown,
                    "timeout" => Event::Timeout,
                    "removed" => Event::Removed,
                    _ => panic!("unknown event {event:?}"),
                });
            } else {
                driver.receive(&sent, piece_bytes);
            }
            let before = lines.peek().copied();
            while let Some(text) = lines.peek().and_then(|line| line.strip_prefix("S: ")) {
                if text == "<close>" {
                    closes = true;
                } else {
                    expected.push_str(text);
                    expected.push_str("\r\n");
                }
                lines.next();
            }
            let output = driver.take_output();
            let output = String::from_utf8_lossy(&output);
            assert_eq!(
                output, expected,
                "in pieces of {piece_bytes}, before {before:?}"
            );
            assert_eq!(
                driver.closed, closes,
                "closed, in pieces of {piece_bytes}, {before:?}"
            );
        }
    }
}

/// What a line of a dialog sends, if it is the client's.
fn sent_bytes(line: &str) -> Option<Vec<u8>> {
    if let Some(text) = line.strip_prefix("C: ") {
        return Some([text.as_bytes(), b"\r\n"].concat());
    }
    let mut bytes = Vec::new();
    let mut rest = line.strip_prefix("C| ")?;
    while let Some(found) = rest.chars().next() {
        rest = &rest[found.len_utf8()..];
        if found != '\\' {
            bytes.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let (escape, behind) = rest.split_at(1);
        rest = behind;
        bytes.push(match escape {
            "r" => b'\r',
            "n" => b'\n',
            "t" => b'\t',
            "\\" => b'\\',
            "x" => {
                let (digits, behind) = rest.split_at(2);
                rest = behind;
                u8::from_str_radix(digits, 16).unwrap()
            }
            _ => panic!("unknown escape in {line:?}"),
        });
    }
    Some(bytes)
}
