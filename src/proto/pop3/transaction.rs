//! The maildrop of a session in the TRANSACTION state, and the response that is being written.
//!
//! Guarantees: numbers, sizes and unique-ids stay as they were at login; marks of DELE change
//! nothing but what the session shows; a response of any length passes `out` within its bound.
//! Does not know: lines, states, time.
//! On failure: a message that cannot be read gives `-ERR` before its first byte; later the
//! response cannot be ended honestly, and the session ends without the final dot.

use std::io::Write;

use super::dots::{DotStuffer, TopScanner};
use super::{Ask, Entry, Maildrop};
use crate::limits::{OUTPUT_BYTES_MAX, POP3_READ_BYTES, POP3_TOP_READ_BYTES};

/// Everything a session keeps after login. Boxed: a session before login stays small.
pub(super) struct Transaction {
    maildrop: Maildrop,
    marks: Marks,
    response: Option<Response>,
}

/// Which messages are marked as deleted.
#[derive(Default)]
struct Marks {
    /// By index, empty until the first DELE.
    bits: Vec<u64>,
    count: u32,
    bytes: u64,
}

/// A response of several lines that is not complete.
enum Response {
    /// LIST or UIDL from this index on.
    Listing { kind: Listing, next_index: u32 },
    /// RETR or TOP.
    Message(Retrieval),
}

/// What a listing shows of each message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// LIST
    Sizes,
    /// UIDL
    UniqueIds,
}

struct Retrieval {
    index: u32,
    /// Bytes of the message that were read.
    offset: u64,
    /// Bytes of the ask that is out.
    asked: u32,
    stuffer: DotStuffer,
    /// Of TOP.
    top: Option<TopScanner>,
}

/// How far the response is.
pub(super) enum Progress {
    /// There is none, or it is complete.
    Done,
    /// `out` is at its bound.
    Drain,
    /// Bytes are needed.
    Ask(Ask),
    /// It cannot be completed: the connection must end.
    Broken,
}

impl Transaction {
    pub(super) fn new(maildrop: Maildrop) -> Transaction {
        Transaction {
            maildrop,
            marks: Marks::default(),
            response: None,
        }
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        self.maildrop.entries.len() * size_of::<Entry>() + self.marks.bits.capacity() * 8
    }

    /// Messages that are not marked, and their octets.
    pub(super) fn stat(&self) -> (u32, u64) {
        let bytes: u64 = self.maildrop.entries.iter().map(|entry| entry.bytes).sum();
        (self.count() - self.marks.count, bytes - self.marks.bytes)
    }

    pub(super) fn expire_days(&self) -> Option<u32> {
        self.maildrop.expire_days
    }

    /// A response is not complete.
    pub(super) fn is_responding(&self) -> bool {
        self.response.is_some()
    }

    /// Marks a message; `false`: there is none of this number.
    pub(super) fn mark(&mut self, number: u32) -> bool {
        let Some((index, entry)) = self.find(number) else {
            return false;
        };
        let words = self.maildrop.entries.len().div_ceil(64);
        self.marks.bits.resize(words, 0);
        self.marks.bits[index as usize / 64] |= 1 << (index % 64);
        self.marks.count += 1;
        self.marks.bytes += entry.bytes;
        true
    }

    /// RSET.
    pub(super) fn unmark_all(&mut self) {
        self.marks = Marks::default();
    }

    /// Indexes of the marked messages, for [`Ask::Expunge`].
    pub(super) fn marked(&self) -> Vec<u32> {
        if self.marks.count == 0 {
            return Vec::new();
        }
        (0..self.count()).filter(|&i| self.marks.holds(i)).collect()
    }

    /// One line of LIST or UIDL; `false`: there is no such message.
    pub(super) fn list_one(&self, kind: Listing, number: u32, out: &mut Vec<u8>) -> bool {
        let Some((index, entry)) = self.find(number) else {
            return false;
        };
        out.extend_from_slice(b"+OK ");
        self.write_entry(kind, index, entry, out);
        true
    }

    /// Begins LIST or UIDL of everything; [`Transaction::proceed`] goes on.
    pub(super) fn list_all(&mut self, kind: Listing, out: &mut Vec<u8>) {
        let (count, bytes) = self.stat();
        let _ = match kind {
            Listing::Sizes => write!(out, "+OK {count} messages ({bytes} octets)\r\n"),
            Listing::UniqueIds => write!(out, "+OK {count} messages\r\n"),
        };
        self.response = Some(Response::Listing {
            kind,
            next_index: 0,
        });
    }

    /// Begins RETR, or TOP with a number of lines; `false`: there is no such message. Nothing is
    /// written before its first bytes are there.
    pub(super) fn retrieve(&mut self, number: u32, top_lines: Option<u32>) -> bool {
        let Some((index, _)) = self.find(number) else {
            return false;
        };
        self.response = Some(Response::Message(Retrieval {
            index,
            offset: 0,
            asked: 0,
            stuffer: DotStuffer::default(),
            top: top_lines.map(TopScanner::new),
        }));
        true
    }

    /// Goes on with the response.
    pub(super) fn proceed(&mut self, out: &mut Vec<u8>) -> Progress {
        match self.response.take() {
            None => Progress::Done,
            Some(Response::Listing { kind, next_index }) => self.list_on(kind, next_index, out),
            Some(Response::Message(retrieval)) => self.retrieve_on(retrieval, out),
        }
    }

    /// Takes the answer to the read that is out. An error text is the shard's, for `-ERR`.
    pub(super) fn take_data(
        &mut self,
        data: Result<Vec<u8>, String>,
        out: &mut Vec<u8>,
    ) -> Progress {
        let Some(Response::Message(mut retrieval)) = self.response.take() else {
            return Progress::Broken;
        };
        let data = data.and_then(|data| {
            // The size was announced; a message of another size is a damaged one.
            if data.len() == retrieval.asked as usize {
                Ok(data)
            } else {
                Err("message is damaged".to_owned())
            }
        });
        match data {
            Ok(data) => {
                if retrieval.offset == 0 {
                    self.write_head(&retrieval, out);
                }
                retrieval.offset += data.len() as u64;
                let wanted = match &mut retrieval.top {
                    Some(top) => top.scan(&data),
                    None => data.len(),
                };
                retrieval.stuffer.stuff(&data[..wanted], out);
                self.retrieve_on(retrieval, out)
            }
            Err(text) if retrieval.offset == 0 => {
                write_error(out, "[SYS/TEMP] ", &text);
                Progress::Done
            }
            Err(_) => Progress::Broken,
        }
    }

    fn list_on(&mut self, kind: Listing, first_index: u32, out: &mut Vec<u8>) -> Progress {
        for index in first_index..self.count() {
            if self.marks.holds(index) {
                continue;
            }
            if out.len() >= OUTPUT_BYTES_MAX {
                self.response = Some(Response::Listing {
                    kind,
                    next_index: index,
                });
                return Progress::Drain;
            }
            self.write_entry(kind, index, self.maildrop.entries[index as usize], out);
        }
        out.extend_from_slice(b".\r\n");
        Progress::Done
    }

    fn retrieve_on(&mut self, mut retrieval: Retrieval, out: &mut Vec<u8>) -> Progress {
        let bytes = self.maildrop.entries[retrieval.index as usize].bytes;
        let left = bytes - retrieval.offset;
        if left == 0 || retrieval.top.as_ref().is_some_and(TopScanner::is_done) {
            if bytes == 0 {
                self.write_head(&retrieval, out);
            }
            retrieval.stuffer.finish(out);
            return Progress::Done;
        }
        if out.len() >= OUTPUT_BYTES_MAX {
            self.response = Some(Response::Message(retrieval));
            return Progress::Drain;
        }
        let piece_bytes = match retrieval.top {
            Some(_) => POP3_TOP_READ_BYTES,
            None => POP3_READ_BYTES,
        };
        retrieval.asked = u32::try_from(left).map_or(piece_bytes, |left| left.min(piece_bytes));
        let ask = Ask::Read {
            index: retrieval.index,
            offset: retrieval.offset,
            length: retrieval.asked,
        };
        self.response = Some(Response::Message(retrieval));
        Progress::Ask(ask)
    }

    fn write_head(&self, retrieval: &Retrieval, out: &mut Vec<u8>) {
        let entry = self.maildrop.entries[retrieval.index as usize];
        let _ = match retrieval.top {
            Some(_) => write!(out, "+OK\r\n"),
            None => write!(out, "+OK {} octets\r\n", entry.bytes),
        };
    }

    fn write_entry(&self, kind: Listing, index: u32, entry: Entry, out: &mut Vec<u8>) {
        let number = index + 1;
        let _ = match kind {
            Listing::Sizes => write!(out, "{number} {}\r\n", entry.bytes),
            // At most 21 characters of printable ASCII (RFC 1939 §7 allows 70).
            Listing::UniqueIds => {
                write!(out, "{number} {}.{}\r\n", self.maildrop.validity, entry.uid)
            }
        };
    }

    /// The message of this number, unless it is marked (RFC 1939 §5: marked messages are gone for
    /// every command but RSET).
    fn find(&self, number: u32) -> Option<(u32, Entry)> {
        let index = number.checked_sub(1)?;
        let entry = self.maildrop.entries.get(index as usize)?;
        (!self.marks.holds(index)).then_some((index, *entry))
    }

    /// Message numbers are 32 bits wide: what a maildrop holds beyond that is not shown.
    fn count(&self) -> u32 {
        u32::try_from(self.maildrop.entries.len()).unwrap_or(u32::MAX)
    }
}

impl Marks {
    fn holds(&self, index: u32) -> bool {
        self.bits
            .get(index as usize / 64)
            .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

/// `-ERR`, a response code with its space, and a text that comes from elsewhere: what could end the
/// line or is not ASCII becomes a space.
pub(super) fn write_error(out: &mut Vec<u8>, code: &str, text: &str) {
    out.extend_from_slice(b"-ERR ");
    out.extend_from_slice(code.as_bytes());
    out.extend(
        text.bytes()
            .take(ERROR_TEXT_BYTES_MAX)
            .map(|byte| if byte.is_ascii_graphic() { byte } else { b' ' }),
    );
    out.extend_from_slice(b"\r\n");
}

/// RFC 2449 §4: a first response line has at most 512 octets.
const ERROR_TEXT_BYTES_MAX: usize = 400;
