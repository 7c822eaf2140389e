//! Tells whether a message that was read back is one of ours, which one, and whether it is whole.
//!
//! Fed with pieces of the message as stored (CRLF line ends, dots unstuffed); keeps no body.
//! Trace fields that a server puts in front, and fields that it adds, do not matter; the id, the
//! checksum and every byte of the body do.

use super::{MessageId, hex};

/// Bytes of a header line that are looked at; ours are far shorter.
const LINE_BYTES_MAX: usize = 256;

/// What a message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ours and whole.
    Whole(MessageId),
    /// Ours, but id, checksum or body are damaged; the id where it can be read.
    Corrupt(Option<MessageId>),
    /// Not made by a load generator.
    Foreign,
}

/// Looks at one message, then at the next.
#[derive(Debug, Default)]
pub struct Checker {
    line: Vec<u8>,
    in_body: bool,
    /// Of the first field of that name, readable or not: a real message may have been sent by a
    /// load generator before, and has its fields further down.
    id: Option<Option<MessageId>>,
    sum: Option<Option<u32>>,
    /// A field of ours was there, readable or not.
    ours: bool,
    body_sum: u32,
}

impl Checker {
    /// Takes the next piece of the message.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !self.in_body && !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&bytes[..end.min(room)]);
            let whole = bytes[end - 1] == b'\n';
            bytes = &bytes[end..];
            if whole {
                self.header_line();
                self.line.clear();
            }
        }
        if self.in_body {
            self.body_sum = crc32c::crc32c_append(self.body_sum, bytes);
        }
    }

    fn header_line(&mut self) {
        let line = self.line.trim_ascii_end();
        if line.is_empty() {
            self.in_body = true;
            if let Some(Some(id)) = self.id {
                self.body_sum = crc32c::crc32c(&id.text());
            }
        } else if let Some(value) = field(line, b"X-Loadgen-Id:") {
            self.ours = true;
            self.id.get_or_insert(MessageId::parse(value));
        } else if let Some(value) = field(line, b"X-Loadgen-Sum:") {
            self.ours = true;
            let sum = (value.len() == 8)
                .then(|| hex(value).and_then(|sum| u32::try_from(sum).ok()))
                .flatten();
            self.sum.get_or_insert(sum);
        } else if field(line, b"Message-ID:").is_some_and(|id| id.ends_with(b"@loadgen.invalid>")) {
            self.ours = true;
        }
    }

    /// The message is at its end: what it was. Ready for the next one afterwards.
    pub fn finish(&mut self) -> Verdict {
        let verdict = match (self.id, self.sum) {
            (Some(Some(id)), Some(Some(sum))) if self.in_body && sum == self.body_sum => {
                Verdict::Whole(id)
            }
            (id, _) if self.ours => Verdict::Corrupt(id.flatten()),
            _ => Verdict::Foreign,
        };
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        *self = Checker {
            line,
            ..Checker::default()
        };
        verdict
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    (line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name))
        .then(|| line[name.len()..].trim_ascii())
}
