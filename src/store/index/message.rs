//! A message as the index keeps it: 32 bytes in memory.
//!
//! Does not know: accounts, where the body is.

use crate::store::{MessageInfo, Sequence, Uid};

/// Dates are kept in 48 bits: up to the year 10889.
const DATE_MAX: u64 = (1 << 48) - 1;
/// Sizes are kept in 40 bits.
const BYTES_MAX: u64 = (1 << 40) - 1;
const _: () = assert!(crate::limits::MESSAGE_BYTES_MAX < BYTES_MAX / 2);
/// A body so far from its append that the distance does not fit: never in a log that we wrote.
const BODY_UNKNOWN: u32 = u32::MAX;

/// A live message, 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    /// Its UID.
    pub(super) uid: Uid,
    /// Number of the segment in which its append record is.
    pub(super) segment: u32,
    seq: [u32; 2],
    /// How far the body's number is below that of the append.
    pub(super) body_distance: u32,
    date_low: u32,
    bytes_low: u32,
    date_high: u16,
    bytes_high: u16,
}

impl Message {
    /// A message as its append record says it. A date of more than 48
    /// bits or a size of more than 40 is cut down to that.
    pub(super) fn new(
        uid: Uid,
        segment: u32,
        seq: Sequence,
        body_seq: Sequence,
        bytes: u64,
        date_ms: u64,
    ) -> Message {
        let body_distance = seq
            .checked_sub(body_seq)
            .and_then(|distance| u32::try_from(distance).ok())
            .unwrap_or(BODY_UNKNOWN);
        Message::from_parts(uid, segment, seq, body_distance, bytes, date_ms)
    }

    /// As stored.
    pub(super) fn from_parts(
        uid: Uid,
        segment: u32,
        seq: Sequence,
        body_distance: u32,
        bytes: u64,
        date_ms: u64,
    ) -> Message {
        let (bytes, date_ms) = (bytes.min(BYTES_MAX), date_ms.min(DATE_MAX));
        Message {
            uid,
            segment,
            seq: [seq as u32, (seq >> 32) as u32],
            body_distance,
            date_low: date_ms as u32,
            bytes_low: bytes as u32,
            date_high: (date_ms >> 32) as u16,
            bytes_high: (bytes >> 32) as u16,
        }
    }

    /// Sequence number of its append record.
    pub(super) fn seq(&self) -> Sequence {
        u64::from(self.seq[0]) | u64::from(self.seq[1]) << 32
    }

    /// The body's sequence number, if it can be told.
    pub(super) fn body_seq(&self) -> Option<Sequence> {
        if self.body_distance == BODY_UNKNOWN {
            return None;
        }
        self.seq().checked_sub(u64::from(self.body_distance))
    }

    /// Bytes of trace header and body.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.bytes_low) | u64::from(self.bytes_high) << 32
    }

    /// Internal date.
    pub(super) fn date_ms(&self) -> u64 {
        u64::from(self.date_low) | u64::from(self.date_high) << 32
    }

    /// As listed.
    pub(super) fn info(&self) -> MessageInfo {
        MessageInfo {
            uid: self.uid,
            modseq: self.seq(),
            bytes: self.bytes(),
            date_ms: self.date_ms(),
        }
    }
}
