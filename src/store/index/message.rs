//! A message as the index keeps it: 32 bytes in memory.
//!
//! Does not know: accounts, where the body is.

use super::marks::Mark;
use crate::store::{Flags, MessageInfo, SEQUENCE_END, Sequence, Uid};

/// Dates are kept in 48 bits: up to the year 10889.
const DATE_MAX: u64 = (1 << 48) - 1;
/// Sizes are kept in 40 bits.
const BYTES_MAX: u64 = (1 << 40) - 1;
const _: () = assert!(crate::limits::MESSAGE_BYTES_MAX < BYTES_MAX / 2);
/// Numbers of records are kept in 48 bits.
const SEQ_MAX: u64 = SEQUENCE_END - 1;

/// A live message, 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    /// Its UID.
    pub(super) uid: Uid,
    /// Number of the segment in which its append record is.
    pub(super) segment: u32,
    seq_low: u32,
    body_low: u32,
    date_low: u32,
    bytes_low: u32,
    seq_high: u16,
    body_high: u16,
    date_high: u16,
    bytes_high: u16,
}

impl Message {
    /// A message as its append record says it. A date of more than 48 bits or a size of more than
    /// 40 is cut down to that. A body that has no number below that of the append, as no sound log
    /// says it, is none.
    pub(super) fn new(
        uid: Uid,
        segment: u32,
        seq: Sequence,
        body_seq: Sequence,
        bytes: u64,
        date_ms: u64,
    ) -> Message {
        let (bytes, date_ms) = (bytes.min(BYTES_MAX), date_ms.min(DATE_MAX));
        let seq = seq.min(SEQ_MAX);
        let body_seq = if body_seq < seq { body_seq } else { 0 };
        Message {
            uid,
            segment,
            seq_low: seq as u32,
            body_low: body_seq as u32,
            date_low: date_ms as u32,
            bytes_low: bytes as u32,
            seq_high: (seq >> 32) as u16,
            body_high: (body_seq >> 32) as u16,
            date_high: (date_ms >> 32) as u16,
            bytes_high: (bytes >> 32) as u16,
        }
    }

    /// Sequence number of its append record.
    pub(super) fn seq(&self) -> Sequence {
        u64::from(self.seq_low) | u64::from(self.seq_high) << 32
    }

    /// The body's sequence number, if it can be told.
    pub(super) fn body_seq(&self) -> Option<Sequence> {
        // Records have numbers above 0.
        let seq = u64::from(self.body_low) | u64::from(self.body_high) << 32;
        (seq > 0).then_some(seq)
    }

    /// Bytes of trace header and body.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.bytes_low) | u64::from(self.bytes_high) << 32
    }

    /// Internal date.
    pub(super) fn date_ms(&self) -> u64 {
        u64::from(self.date_low) | u64::from(self.date_high) << 32
    }

    /// As listed, with its mark if it has one.
    pub(super) fn info(&self, mark: Option<Mark>) -> MessageInfo {
        let info = MessageInfo {
            uid: self.uid,
            modseq: self.seq(),
            bytes: self.bytes(),
            date_ms: self.date_ms(),
            saved_ms: self.date_ms(),
            flags: Flags::NONE,
            keywords: 0,
            body_seq: self.body_seq().unwrap_or(0),
        };
        match mark {
            Some(mark) if mark.seq >= self.seq() => MessageInfo {
                modseq: mark.seq,
                saved_ms: match mark.saved_ms {
                    0 => info.date_ms,
                    saved_ms => saved_ms,
                },
                flags: mark.flags,
                keywords: mark.keywords,
                ..info
            },
            _ => info,
        }
    }
}
