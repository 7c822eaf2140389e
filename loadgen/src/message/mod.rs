//! The messages that are sent: each has an id and a checksum, and is made from a template or is
//! one of a collection of real ones.
//!
//! Guarantees: a made message has exactly the size asked for, ASCII, lines of at most 81 bytes with
//! their ends, and lines that begin with dots; its body repeats the id about once per KiB, so that
//! pieces of two messages cannot be exchanged unseen. A real message keeps its header and its
//! body; two fields are put in front of it. In both, `X-Loadgen-Sum` covers the id and the body.
//! Cost: one copy of the template, one CRC32C over it, a patch per KiB; of a real message one copy.
//! Does not know: recipients, connections, whether the message arrives.

mod check;
pub mod corpus;
pub mod sizes;
mod template;

pub use check::{Checker, Verdict};

use std::sync::Arc;

use crate::clock;
use corpus::Corpus;
use sizes::{Draws, Sizes};
use template::Template;

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
    /// How it is sent.
    pub framing: Framing,
    /// In `From:`.
    pub sender: String,
    /// In `To:`; the recipients are in the envelope.
    pub domain: String,
}

/// What messages are.
#[derive(Debug, Clone)]
pub enum Content {
    /// Made, of these sizes.
    Made(Sizes),
    /// Real ones, drawn uniformly; they were read for the framing of the shape.
    Real(Arc<Corpus>),
}

/// One message to be built: decided before anything of it is sent, and the same in every attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draft {
    /// Which template, or which real message.
    index: u32,
    /// Bytes before dot-stuffing, where sizes differ.
    bytes: u32,
}

/// Templates differ, so that no message is predicted from its neighbour.
const TEMPLATES: usize = 8;
/// Bytes of all templates, beyond which there are fewer of them; one there is always.
const TEMPLATE_BYTES_MAX: usize = 64 << 20;
/// A size that no message may exceed: what a server can be told to take, by far.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Makes messages; clones share the templates.
#[derive(Debug, Clone)]
pub struct Builder {
    kind: Kind,
    random: fastrand::Rng,
    turn: u32,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Templates are sent whole.
    Whole(Arc<[Template]>),
    /// Templates have the largest size, and are cut.
    Cut(Arc<[Template]>, Draws),
    Real(Arc<Corpus>),
}

impl Builder {
    /// Prepares the templates. `seed` decides text and draws.
    ///
    /// # Errors
    /// When sizes are too small for the header and a line, or absurdly large.
    pub fn new(shape: &Shape, content: &Content, seed: u64) -> Result<Builder, String> {
        let mut random = fastrand::Rng::with_seed(seed);
        let kind = match content {
            Content::Real(corpus) => Kind::Real(corpus.clone()),
            Content::Made(sizes) => {
                let date = clock::rfc5322_date(clock::unix_seconds());
                let bytes_max = sizes.bytes_max();
                let count = (TEMPLATE_BYTES_MAX / bytes_max.max(1)).clamp(1, TEMPLATES);
                let cuttable = !matches!(sizes, Sizes::Fixed(_));
                let templates = (0..count)
                    .map(|_| Template::new(shape, bytes_max, cuttable, &date, &mut random))
                    .collect::<Result<Arc<[_]>, _>>()?;
                templates[0].allows(sizes.bytes_min())?;
                match sizes {
                    Sizes::Fixed(_) => Kind::Whole(templates),
                    _ => Kind::Cut(templates, sizes.draws()),
                }
            }
        };
        Ok(Builder {
            kind,
            random,
            turn: 0,
        })
    }

    /// The same with draws of its own, for another thread.
    pub fn with_seed(&self, seed: u64) -> Builder {
        Builder {
            kind: self.kind.clone(),
            random: fastrand::Rng::with_seed(seed),
            turn: 0,
        }
    }

    /// Decides what the next message is.
    pub fn draw(&mut self) -> Draft {
        match &self.kind {
            Kind::Whole(templates) => {
                self.turn = (self.turn + 1) % templates.len() as u32;
                Draft {
                    index: self.turn,
                    bytes: 0,
                }
            }
            Kind::Cut(templates, draws) => {
                self.turn = (self.turn + 1) % templates.len() as u32;
                let (min, max) = templates[0].bytes_range();
                Draft {
                    index: self.turn,
                    // At most `MESSAGE_BYTES_MAX`.
                    bytes: draws.draw(&mut self.random).clamp(min, max) as u32,
                }
            }
            Kind::Real(corpus) => Draft {
                index: self.random.u32(0..corpus.len() as u32),
                bytes: 0,
            },
        }
    }

    /// Appends the message `id` to `out`, as it goes over the wire.
    pub fn build(&self, draft: Draft, id: MessageId, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Whole(templates) => templates[draft.index as usize].build(id, out),
            Kind::Cut(templates, _) => {
                templates[draft.index as usize].build_cut(draft.bytes as usize, id, out);
            }
            Kind::Real(corpus) => corpus.build(draft.index, id, out),
        }
    }

    /// Bytes of a message as it goes over the wire in [`Framing::Chunk`].
    pub fn chunk_bytes(&self, draft: Draft) -> usize {
        match &self.kind {
            Kind::Whole(templates) => templates[draft.index as usize].bytes_range().1,
            Kind::Cut(..) => draft.bytes as usize,
            Kind::Real(corpus) => corpus.wire_bytes(draft.index),
        }
    }

    /// Some messages have bytes beyond ASCII.
    pub fn has_eight_bit(&self) -> bool {
        matches!(&self.kind, Kind::Real(corpus) if corpus.eight_bit_count() > 0)
    }

    /// It has bytes beyond ASCII: the server has to offer 8BITMIME (RFC 6152).
    pub fn is_eight_bit(&self, draft: Draft) -> bool {
        matches!(&self.kind, Kind::Real(corpus) if corpus.is_eight_bit(draft.index))
    }
}

#[cfg(test)]
mod tests;
