//! The messages that are sent: each has an id and a checksum, and is made from a template.
//!
//! Guarantees: every message has exactly the size asked for, ASCII, lines of at most 78 bytes,
//! and lines that begin with dots; its body repeats the id about once per KiB, so that pieces of
//! two messages cannot be exchanged unseen; `X-Loadgen-Sum` covers the id and the body.
//! Cost: one copy of the template, one CRC32C over it, a patch per KiB.
//! Does not know: recipients, connections, whether the message arrives.

mod check;

pub use check::{Checker, Verdict};

use std::ops::Range;

use crate::clock;

/// Names a message: the run that made it and its number in that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// Random, one per run.
    pub run: u32,
    /// Unique in the run.
    pub sequence: u64,
}

impl MessageId {
    /// Bytes of an id as text: `rrrrrrrr-ssssssssssssssss`, lower-case hexadecimal.
    pub const TEXT_BYTES: usize = 25;

    /// The id as text.
    pub fn text(self) -> [u8; Self::TEXT_BYTES] {
        let mut text = [b'-'; Self::TEXT_BYTES];
        hex_into(u64::from(self.run), &mut text[..8]);
        hex_into(self.sequence, &mut text[9..]);
        text
    }

    /// The id that `text` is, whole.
    pub fn parse(text: &[u8]) -> Option<MessageId> {
        if text.len() != Self::TEXT_BYTES || text[8] != b'-' {
            return None;
        }
        Some(MessageId {
            run: u32::try_from(hex(&text[..8])?).ok()?,
            sequence: hex(&text[9..])?,
        })
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}-{:016x}", self.run, self.sequence)
    }
}

fn hex_into(mut value: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// A number of lower-case hexadecimal digits only, at most 16.
fn hex(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// How a body goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// DATA: dots at the start of a line doubled, ended by a line with one dot.
    Dots,
    /// BDAT: the message as it is.
    Chunk,
}

/// What all messages of a run have in common.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Bytes of a message: header and body, before dot-stuffing.
    pub bytes: usize,
    /// How it is sent.
    pub framing: Framing,
    /// In `From:`.
    pub sender: String,
    /// In `To:`; the recipients are in the envelope.
    pub domain: String,
}

/// Templates differ, so that no message is predicted from its neighbour.
const TEMPLATES: usize = 8;
/// Bytes of body between two copies of the id.
const MARK_EVERY_BYTES: usize = 1024;
/// Bytes of text of a line, CRLF not counted.
const LINE_BYTES_MAX: usize = 76;
/// A size that no shape may exceed: what a server can be told to take, by far.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Makes messages.
#[derive(Debug)]
pub struct Builder {
    templates: Vec<Template>,
    turn: usize,
}

#[derive(Debug)]
struct Template {
    /// The message as sent, ids and checksum to be filled in.
    wire: Vec<u8>,
    id_offsets: Vec<usize>,
    sum_offset: usize,
    /// The body, without the dots that stuffing adds.
    body: Vec<Range<usize>>,
}

impl Builder {
    /// Prepares the templates. `seed` decides the text.
    ///
    /// # Errors
    /// When `shape.bytes` is too small for the header and a line, or absurdly large.
    pub fn new(shape: &Shape, seed: u64) -> Result<Builder, String> {
        let mut random = fastrand::Rng::with_seed(seed);
        let date = clock::rfc5322_date(clock::unix_seconds());
        let templates = (0..TEMPLATES)
            .map(|_| Template::new(shape, &date, &mut random))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Builder { templates, turn: 0 })
    }

    /// Appends the message `id` to `out`, as it goes over the wire.
    pub fn build(&mut self, id: MessageId, out: &mut Vec<u8>) {
        let template = &self.templates[self.turn];
        self.turn = (self.turn + 1) % self.templates.len();
        let start = out.len();
        out.extend_from_slice(&template.wire);
        let message = &mut out[start..];
        let text = id.text();
        for &offset in &template.id_offsets {
            message[offset..offset + text.len()].copy_from_slice(&text);
        }
        let mut sum = crc32c::crc32c(&text);
        for range in &template.body {
            sum = crc32c::crc32c_append(sum, &message[range.clone()]);
        }
        let sum_at = template.sum_offset;
        hex_into(u64::from(sum), &mut message[sum_at..sum_at + 8]);
    }

    /// Bytes of the next message as it goes over the wire.
    pub fn next_wire_bytes(&self) -> usize {
        self.templates[self.turn].wire.len()
    }
}

impl Template {
    fn new(shape: &Shape, date: &str, random: &mut fastrand::Rng) -> Result<Template, String> {
        let mut template = Template {
            wire: Vec::with_capacity(shape.bytes + shape.bytes / 64 + 16),
            id_offsets: Vec::new(),
            sum_offset: 0,
            body: Vec::new(),
        };
        template.header(shape, date);
        let bytes_min = template.wire.len() + LINE_BYTES_MAX + 2;
        if shape.bytes < bytes_min || shape.bytes > MESSAGE_BYTES_MAX {
            return Err(format!(
                "a message of {} bytes cannot be made: allowed are {bytes_min} (the header and \
                 one line) to {MESSAGE_BYTES_MAX}",
                shape.bytes
            ));
        }
        template.fill(shape, random);
        if shape.framing == Framing::Dots {
            template.wire.extend_from_slice(b".\r\n");
        }
        Ok(template)
    }

    fn id(&mut self) {
        self.id_offsets.push(self.wire.len());
        self.wire.extend_from_slice(&[b'0'; MessageId::TEXT_BYTES]);
    }

    fn header(&mut self, shape: &Shape, date: &str) {
        let text = format!(
            "From: <{}>\r\nTo: recipients@{}\r\nDate: {date}\r\nSubject: loadgen ",
            shape.sender, shape.domain
        );
        self.wire.extend_from_slice(text.as_bytes());
        self.id();
        self.wire.extend_from_slice(b"\r\nMessage-ID: <");
        self.id();
        self.wire.extend_from_slice(b"@loadgen.invalid>\r\n");
        self.wire.extend_from_slice(b"X-Loadgen-Id: ");
        self.id();
        self.wire.extend_from_slice(b"\r\nX-Loadgen-Sum: ");
        self.sum_offset = self.wire.len();
        self.wire.extend_from_slice(b"00000000\r\n\r\n");
    }

    /// Fills up to the size of the shape with lines of text.
    fn fill(&mut self, shape: &Shape, random: &mut fastrand::Rng) {
        let mut left = shape.bytes - self.wire.len();
        let mut range_start = self.wire.len();
        let mut since_mark = MARK_EVERY_BYTES;
        let mut since_dot = 0;
        while left > 0 {
            let line_start = self.wire.len();
            // The last two lines share what is left, so that none is shorter than its CRLF.
            let room = match left {
                0..=78 => left - 2,
                79..=160 => left / 2 - 2,
                _ => random.usize(0..=LINE_BYTES_MAX),
            };
            if since_mark >= MARK_EVERY_BYTES && room >= MessageId::TEXT_BYTES {
                self.id();
                since_mark = 0;
            } else if since_dot >= 2 * MARK_EVERY_BYTES && room >= 2 {
                // "." alone, "..", ".text": the three ways to get dot-stuffing wrong.
                if shape.framing == Framing::Dots {
                    self.body.push(range_start..self.wire.len());
                    self.wire.push(b'.');
                    range_start = self.wire.len();
                }
                self.wire.push(b'.');
                since_dot = random.usize(0..512);
                match random.u8(0..3) {
                    0 if left > 160 => {
                        self.wire.extend_from_slice(b"\r\n");
                        left -= 3;
                        since_mark += 3;
                        continue;
                    }
                    1 => self.wire.push(b'.'),
                    _ => {}
                }
            }
            let stuffing = usize::from(range_start > line_start);
            while self.wire.len() - line_start - stuffing < room {
                self.wire.push(
                    b"eeeettaaooiinnsshhrrddlu     ETAOIN0123456789,;:!?=-+*/()<>"
                        [random.usize(0..58)],
                );
            }
            self.wire.extend_from_slice(b"\r\n");
            left -= room + 2;
            since_mark += room + 2;
            since_dot += room + 2;
        }
        self.body.push(range_start..self.wire.len());
    }
}

#[cfg(test)]
mod tests;
