//! The sealed index file, byte by byte. Version 3; all numbers little-endian.
//!
//! ```text
//! header, 64 bytes
//!    0  8  magic "RNGPIDX\n"
//!    8  4  version, 3
//!   12  2  partition            14  2  zero
//!   16 16  store id
//!   32  8  covers: the highest sequence number whose record is in here
//!   40  8  segment  \ where in the log
//!   48  8  offset   / replay goes on
//!   56  4  zero                 60  4  CRC32C of bytes 0..60
//!
//! fifteen sections without gaps, in this order, rows in ascending order
//!   0 BODIES       20 a row: seq 6, segment 3, offset 4, bytes 4, uses 3
//!   1 CHUNK LISTS  16 a row: seq 8 of a final record, first chunk 4, chunks 4
//!   2 CHUNKS        8 a row: seq of a chunk
//!   3 CACHES       23 a row: body seq 6, record (seq 6, segment 3), offset 4, bytes 4
//!   4 MESSAGES     30 a row: uid 4, append record (segment 3, seq 6), body seq 6, date in ms 6,
//!                            bytes 5; of one mailbox after the other
//!   5 MARKS        30 a row: uid 4, flags record (segment 3, seq 6), flags 1, keywords 8, saved 6,
//!                            bytes of the flags record 2; of one mailbox after the other
//!   6 MARK ORDER   10 a row: seq 6, uid 4 of the marks with a flags record, by seq; the same
//!   7 VANISHED     14 a row: seq 6 of an expunge, first uid 4, last uid 4, by seq; the same
//!   8 ACCOUNTS     46 a row: address offset 5, address length 2, password hash length 3 (behind
//!                            the address), quota 8, account record (seq 6, segment 3), bytes in
//!                            use 8, first mailbox 5, mailboxes 4 (INBOX is the first), zero 2
//!   9 TEXT          addresses and password hashes
//!  10 MAILBOXES   127 a row: number 6 (0: INBOX), name record (seq 6, segment 3), name offset 6,
//!                            name length 2, keywords length 2 (behind the name), special use 1,
//!                            validity 4, reserve record (seq 6, segment 3, validity 4, uid 4,
//!                            modseq 6), uid_next 4, bytes 8, seen 4, deleted 4, modseq 6, floors
//!                            of changes 6 and of vanished UIDs 6; first row and rows (5, 4) of
//!                            MESSAGES, MARKS, MARK ORDER and VANISHED
//!  11 NAMES         names, and keywords, each with a zero byte behind it
//!  12 KEYS         24 a row: offset 6, key length 4, value length 5 (behind it), seq 6, segment 3
//!  13 KEY TEXT      keys and values
//!  14 SEGMENTS     24 a row: generation 8, live bytes 8, youngest expunge in ms 8
//!
//! footer, 392 bytes
//!    0     15 × 24  of each section: offset 8, length 8, CRC32C 4, zero 4
//!  360  8  live messages        368  8  bytes of the whole file
//!  376  4  version, 2           380  4  CRC32C of bytes 0..380
//!  384  8  magic "\nXDIPGNR"
//! ```
//!
//! A segment is a row of SEGMENTS; all ones: none. In `uses`, bit 23 says "named at some time",
//! bit 22 "has chunks", the rest counts, all ones being "too many to count". A mark without a
//! segment has no flags record: the append record, whose number it has, says it.
//!
//! Does not know: layers, where the bytes come from.

use super::IndexError;
use super::bodies::Body;
use super::layer::{CacheEntry, Fields};
use super::mailbox::BoxFields;
use super::marks::Mark;
use super::message::Message;
use super::usage::NO_SEGMENT;
use crate::store::{Flags, Identity, MailboxId, Sequence, Uid};

pub(super) const VERSION: u32 = 3;
pub(super) const HEADER_BYTES: usize = 64;
const END_BYTES: usize = SECTIONS * 24;
pub(super) const FOOTER_BYTES: usize = END_BYTES + 32;
const MAGIC: &[u8; 8] = b"RNGPIDX\n";
const END_MAGIC: &[u8; 8] = b"\nXDIPGNR";

pub(super) const BODIES: usize = 0;
pub(super) const CHUNK_LISTS: usize = 1;
pub(super) const CHUNKS: usize = 2;
pub(super) const CACHES: usize = 3;
pub(super) const MESSAGES: usize = 4;
pub(super) const MARKS: usize = 5;
pub(super) const MARK_ORDER: usize = 6;
pub(super) const VANISHED: usize = 7;
pub(super) const ACCOUNTS: usize = 8;
pub(super) const TEXT: usize = 9;
pub(super) const MAILBOXES: usize = 10;
pub(super) const NAMES: usize = 11;
pub(super) const KEYS: usize = 12;
pub(super) const KEY_TEXT: usize = 13;
pub(super) const SEGMENTS: usize = 14;
pub(super) const SECTIONS: usize = 15;
/// Bytes of a row of each section.
pub(super) const ROW_BYTES: [usize; SECTIONS] =
    [20, 16, 8, 23, 30, 30, 10, 14, 46, 1, 127, 1, 24, 1, 24];
/// "No segment" in a file.
pub(super) const NO_ROW: u64 = (1 << 24) - 1;

/// A little-endian number of up to eight bytes; 0 outside of `bytes`, which callers have checked.
pub(super) fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let mut whole = [0; 8];
    if let Some(part) = bytes.get(at..at + width) {
        whole[..width].copy_from_slice(part);
    }
    u64::from_le_bytes(whole)
}

/// Like [`number`], for fields of at most four bytes.
fn number_u32(bytes: &[u8], at: usize, width: usize) -> u32 {
    number(bytes, at, width) as u32
}

/// Rows on their way into a section.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The bytes so far.
    pub(super) bytes: Vec<u8>,
    /// A number did not fit its field: the file must not be used.
    pub(super) overflow: bool,
}

impl Rows {
    pub(super) fn put(&mut self, value: u64, width: usize) {
        let bytes = value.to_le_bytes();
        self.overflow |= bytes[width..].iter().any(|byte| *byte != 0);
        self.bytes.extend_from_slice(&bytes[..width]);
    }

    fn put_segment(&mut self, number: u32, to_row: &[u32]) {
        if number == NO_SEGMENT {
            self.put(NO_ROW, 3);
            return;
        }
        match to_row.get(number as usize) {
            Some(&row) if u64::from(row) < NO_ROW => self.put(u64::from(row), 3),
            _ => self.overflow = true,
        }
    }

    pub(super) fn put_body(&mut self, body: &Body, to_row: &[u32]) {
        self.put(body.seq(), 6);
        self.put_segment(body.segment, to_row);
        self.put(u64::from(body.offset), 4);
        self.put(u64::from(body.bytes), 4);
        self.put(u64::from(body.packed_uses()), 3);
    }

    pub(super) fn put_cache(&mut self, body_seq: Sequence, cache: &CacheEntry, to_row: &[u32]) {
        self.put(body_seq, 6);
        self.put(cache.seq, 6);
        self.put_segment(cache.segment, to_row);
        self.put(u64::from(cache.offset), 4);
        self.put(u64::from(cache.bytes), 4);
    }

    pub(super) fn put_message(&mut self, message: &Message, to_row: &[u32]) {
        self.put(u64::from(message.uid), 4);
        self.put_segment(message.segment, to_row);
        self.put(message.seq(), 6);
        self.put(message.body_seq().unwrap_or(0), 6);
        self.put(message.date_ms(), 6);
        self.put(message.bytes(), 5);
    }

    pub(super) fn put_mark(&mut self, mark: &Mark, to_row: &[u32]) {
        self.put(u64::from(mark.uid), 4);
        self.put_segment(mark.segment, to_row);
        self.put(mark.seq, 6);
        self.put(u64::from(mark.flags.0), 1);
        self.put(mark.keywords, 8);
        // Dates are kept in 48 bits, as those of messages.
        self.put(mark.saved_ms & ((1 << 48) - 1), 6);
        self.put(u64::from(mark.charge), 2);
    }

    /// Number and UID of a mark, or of a vanished range with its last UID.
    pub(super) fn put_numbered(&mut self, seq: Sequence, uids: &[Uid]) {
        self.put(seq, 6);
        uids.iter().for_each(|uid| self.put(u64::from(*uid), 4));
    }

    pub(super) fn put_account(&mut self, account: &AccountRow, to_row: &[u32]) {
        let fields = &account.fields;
        self.put(account.text_offset, 5);
        self.put(account.address_length, 2);
        self.put(account.hash_length, 3);
        self.put(fields.quota_bytes, 8);
        self.put(fields.put_seq, 6);
        self.put_segment(fields.put_segment, to_row);
        self.put(fields.bytes, 8);
        self.put(account.first_box, 5);
        self.put(account.boxes, 4);
        self.put(0, 2);
    }

    pub(super) fn put_box(&mut self, row: &BoxRow, to_row: &[u32]) {
        let fields = &row.fields;
        self.put(row.id.0, 6);
        self.put(fields.put_seq, 6);
        self.put_segment(fields.put_segment, to_row);
        self.put(row.text_offset, 6);
        self.put(row.name_length, 2);
        self.put(row.keywords_length, 2);
        self.put(u64::from(fields.special_use), 1);
        self.put(u64::from(fields.put_validity), 4);
        self.put(fields.reserve_seq, 6);
        self.put_segment(fields.reserve_segment, to_row);
        self.put(u64::from(fields.reserve_validity), 4);
        self.put(u64::from(fields.reserve_uid), 4);
        self.put(fields.reserve_modseq, 6);
        self.put(u64::from(fields.uid_next), 4);
        self.put(fields.bytes, 8);
        self.put(u64::from(fields.seen), 4);
        self.put(u64::from(fields.deleted), 4);
        self.put(fields.modseq, 6);
        self.put(fields.changed_floor, 6);
        self.put(fields.vanished_floor, 6);
        for part in &row.parts {
            self.put(part.first, 5);
            self.put(part.rows, 4);
        }
    }

    pub(super) fn put_key(&mut self, key: &KeyRow, to_row: &[u32]) {
        self.put(key.text_offset, 6);
        self.put(key.key_length, 4);
        self.put(key.value_length, 5);
        self.put(key.seq, 6);
        self.put_segment(key.segment, to_row);
    }
}

fn segment(row: &[u8], at: usize, numbers: &[u32]) -> u32 {
    let number = number(row, at, 3) as usize;
    numbers.get(number).copied().unwrap_or(NO_SEGMENT)
}

pub(super) fn body(row: &[u8], numbers: &[u32]) -> Body {
    Body::from_parts(
        number(row, 0, 6),
        segment(row, 6, numbers),
        number_u32(row, 9, 4),
        number_u32(row, 13, 4),
        Body::unpacked_uses(number_u32(row, 17, 3)),
    )
}

pub(super) fn cache(row: &[u8], numbers: &[u32]) -> CacheEntry {
    CacheEntry {
        seq: number(row, 6, 6),
        segment: segment(row, 12, numbers),
        offset: number_u32(row, 15, 4),
        bytes: number_u32(row, 19, 4),
    }
}

pub(super) fn message(row: &[u8], numbers: &[u32]) -> Message {
    Message::new(
        number_u32(row, 0, 4),
        segment(row, 4, numbers),
        number(row, 7, 6),
        number(row, 13, 6),
        number(row, 25, 5),
        number(row, 19, 6),
    )
}

pub(super) fn mark(row: &[u8], numbers: &[u32]) -> Mark {
    Mark {
        uid: number_u32(row, 0, 4),
        segment: segment(row, 4, numbers),
        seq: number(row, 7, 6),
        flags: Flags(number(row, 13, 1) as u8),
        keywords: number(row, 14, 8),
        saved_ms: number(row, 22, 6),
        charge: number(row, 28, 2) as u16,
    }
}

/// Number of a row of MARK ORDER or VANISHED, and its UIDs: the last one is 0 in MARK ORDER.
pub(super) fn numbered(row: &[u8]) -> (Sequence, Uid, Uid) {
    (
        number(row, 0, 6),
        number_u32(row, 6, 4),
        number_u32(row, 10, 4),
    )
}

/// A row of ACCOUNTS.
#[derive(Debug, Clone, Copy)]
pub(super) struct AccountRow {
    pub(super) text_offset: u64,
    pub(super) address_length: u64,
    pub(super) hash_length: u64,
    pub(super) fields: Fields,
    pub(super) first_box: u64,
    pub(super) boxes: u64,
}

pub(super) fn account(row: &[u8], numbers: &[u32]) -> AccountRow {
    AccountRow {
        text_offset: number(row, 0, 5),
        address_length: number(row, 5, 2),
        hash_length: number(row, 7, 3),
        fields: Fields {
            quota_bytes: number(row, 10, 8),
            put_seq: number(row, 18, 6),
            removed_seq: 0,
            put_segment: segment(row, 24, numbers),
            bytes: number(row, 27, 8),
        },
        first_box: number(row, 35, 5),
        boxes: number(row, 40, 4),
    }
}

/// Rows of a section that belong to one mailbox.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) rows: u64,
}

/// Sections that have parts, in the order in which a row of MAILBOXES names them.
pub(super) const PARTS: [usize; 4] = [MESSAGES, MARKS, MARK_ORDER, VANISHED];
/// Where in a row of MAILBOXES the first of them is.
const PARTS_AT: usize = 91;

/// A row of MAILBOXES.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxRow {
    pub(super) id: MailboxId,
    pub(super) text_offset: u64,
    pub(super) name_length: u64,
    pub(super) keywords_length: u64,
    pub(super) fields: BoxFields,
    pub(super) parts: [Part; 4],
}

/// Where one of [`PARTS`] is, by its place there.
pub(super) fn part(row: &[u8], place: usize) -> Part {
    Part {
        first: number(row, PARTS_AT + place * 9, 5),
        rows: number(row, PARTS_AT + place * 9 + 5, 4),
    }
}

pub(super) fn mailbox(row: &[u8], numbers: &[u32]) -> BoxRow {
    let parts = [0, 1, 2, 3].map(|place| part(row, place));
    BoxRow {
        id: MailboxId(number(row, 0, 6)),
        text_offset: number(row, 15, 6),
        name_length: number(row, 21, 2),
        keywords_length: number(row, 23, 2),
        fields: BoxFields {
            put_seq: number(row, 6, 6),
            put_segment: segment(row, 12, numbers),
            special_use: number(row, 25, 1) as u8,
            put_validity: number_u32(row, 26, 4),
            reserve_seq: number(row, 30, 6),
            reserve_segment: segment(row, 36, numbers),
            reserve_validity: number_u32(row, 39, 4),
            reserve_uid: number_u32(row, 43, 4),
            reserve_modseq: number(row, 47, 6),
            uid_next: number_u32(row, 53, 4),
            bytes: number(row, 57, 8),
            seen: number_u32(row, 65, 4),
            deleted: number_u32(row, 69, 4),
            modseq: number(row, 73, 6),
            changed_floor: number(row, 79, 6),
            vanished_floor: number(row, 85, 6),
            count: parts[0].rows as u32,
            removed: false,
        },
        parts,
    }
}

/// A row of KEYS.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyRow {
    pub(super) text_offset: u64,
    pub(super) key_length: u64,
    pub(super) value_length: u64,
    pub(super) seq: Sequence,
    pub(super) segment: u32,
}

pub(super) fn key(row: &[u8], numbers: &[u32]) -> KeyRow {
    KeyRow {
        text_offset: number(row, 0, 6),
        key_length: number(row, 6, 4),
        value_length: number(row, 10, 5),
        seq: number(row, 15, 6),
        segment: segment(row, 21, numbers),
    }
}

/// A sound header of an earlier version.
pub(super) fn is_older(bytes: &[u8]) -> bool {
    bytes.get(..HEADER_BYTES).is_some_and(|bytes| {
        &bytes[..8] == MAGIC
            && u64::from(crc32c::crc32c(&bytes[..60])) == number(bytes, 60, 4)
            && number(bytes, 8, 4) < u64::from(VERSION)
    })
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) identity: Identity,
    pub(super) covers: Sequence,
    pub(super) position: (u64, u64),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.identity.partition.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.identity.store_id.to_le_bytes());
        bytes.extend_from_slice(&self.covers.to_le_bytes());
        bytes.extend_from_slice(&self.position.0.to_le_bytes());
        bytes.extend_from_slice(&self.position.1.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Checks magic, checksum and version. Whose index it is, the caller compares.
    pub(super) fn decode(bytes: &[u8]) -> Result<Header, IndexError> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else {
            return Err(IndexError(format!(
                "{} bytes are too few for a header of {HEADER_BYTES}",
                bytes.len()
            )));
        };
        if &bytes[..8] != MAGIC {
            return Err(IndexError("does not begin as an index does".into()));
        }
        if u64::from(crc32c::crc32c(&bytes[..60])) != number(bytes, 60, 4) {
            return Err(IndexError("the header's checksum is wrong".into()));
        }
        let version = number(bytes, 8, 4);
        if version != u64::from(VERSION) {
            return Err(IndexError(format!(
                "format {version}, this program reads {VERSION}"
            )));
        }
        Ok(Header {
            identity: Identity {
                store_id: u128::from(number(bytes, 16, 8)) | u128::from(number(bytes, 24, 8)) << 64,
                partition: number(bytes, 12, 2) as u16,
            },
            covers: number(bytes, 32, 8),
            position: (number(bytes, 40, 8), number(bytes, 48, 8)),
        })
    }
}

/// Where a section is, and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) crc: u32,
}

/// What the footer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) sections: [Section; SECTIONS],
    pub(super) messages: u64,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOTER_BYTES);
        let mut end = HEADER_BYTES as u64;
        for section in &self.sections {
            bytes.extend_from_slice(&section.offset.to_le_bytes());
            bytes.extend_from_slice(&section.length.to_le_bytes());
            bytes.extend_from_slice(&section.crc.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            end += section.length;
        }
        bytes.extend_from_slice(&self.messages.to_le_bytes());
        bytes.extend_from_slice(&(end + FOOTER_BYTES as u64).to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(END_MAGIC);
        bytes
    }

    /// Checks the footer of a whole file, and that the sections fill it without gaps in whole rows.
    pub(super) fn decode(file: &[u8]) -> Result<Footer, IndexError> {
        let start = file
            .len()
            .checked_sub(FOOTER_BYTES)
            .filter(|start| *start >= HEADER_BYTES);
        let Some(start) = start else {
            return Err(IndexError(format!(
                "{} bytes are too few for an index",
                file.len()
            )));
        };
        let bytes = &file[start..];
        if &bytes[END_BYTES + 24..] != END_MAGIC {
            return Err(IndexError("does not end as an index does".into()));
        }
        if u64::from(crc32c::crc32c(&bytes[..END_BYTES + 20])) != number(bytes, END_BYTES + 20, 4) {
            return Err(IndexError("the footer's checksum is wrong".into()));
        }
        if number(bytes, END_BYTES + 8, 8) != file.len() as u64
            || number(bytes, END_BYTES + 16, 4) != u64::from(VERSION)
        {
            return Err(IndexError("the footer is of another file".into()));
        }
        let mut sections = [Section::default(); SECTIONS];
        let mut end = HEADER_BYTES as u64;
        for (index, section) in sections.iter_mut().enumerate() {
            *section = Section {
                offset: number(bytes, index * 24, 8),
                length: number(bytes, index * 24 + 8, 8),
                crc: number_u32(bytes, index * 24 + 16, 4),
            };
            let rows = section.length.is_multiple_of(ROW_BYTES[index] as u64);
            let next = end.checked_add(section.length);
            match next.filter(|next| rows && section.offset == end && *next <= start as u64) {
                Some(next) => end = next,
                None => return Err(IndexError(format!("section {index} is out of place"))),
            }
        }
        if end != start as u64 {
            return Err(IndexError("the sections leave a gap".into()));
        }
        Ok(Footer {
            sections,
            messages: number(bytes, END_BYTES, 8),
        })
    }
}
