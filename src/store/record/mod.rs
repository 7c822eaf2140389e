//! One record of the log: what it looks like as bytes.
//!
//! ```text
//!  0      4    5     6        8      12        16      24
//! +------+----+-----+--------+------+---------+-------+---------------+-----------+
//! | crc  |kind|flags|reserved| len  | checked | seq   | payload: len  | zeros to 8|
//! +------+----+-----+--------+------+---------+-------+---------------+-----------+
//! ```
//!
//! Little endian. `crc` is the CRC32C of everything from byte 4 to the end of the first `checked`
//! bytes of the payload, begun with the segment's [`Realm`], so that bytes of another segment,
//! store or life of a recycled file never pass for this one's. `checked` is `len`, but for bodies,
//! whose bytes have a CRC32C for each block of [`BLOCK_BYTES`] in a table that `crc` covers: a
//! part of a body is verified without the rest.
//!
//! ```text
//! PutAccount     validity u32, quota u64, address, hash         (a text: u16 length, bytes)
//! RemoveAccount  address
//! Append         uid u32, body seq u64, bytes u64, date u64, address
//! Expunge        now u64, count u32, address, uid u32 ...
//! Reserve        uid_next u32, validity u32, address
//! Key            present u8, key length u32, value length u32, key, value
//! PutMailbox     mailbox u64, validity u32, special use u8, address, name
//! RemoveMailbox  mailbox u64, address
//! AppendTo       uid u32, mailbox u64, body seq u64, bytes u64, date u64, saved u64, flags u8,
//!                keywords u8, address, keyword ...
//! Flags          mailbox u64, count u32, keywords u8, address, keyword ...,
//!                (uid u32, flags u8, keywords u64: a bit for each of those before) ...
//! ExpungeFrom    mailbox u64, now u64, count u32, address, uid u32 ...
//! ReserveIn      mailbox u64, uid_next u32, validity u32, modseq u64, floor u8, address
//!                (floor 0: none; 1: this record; 2: changed_floor u64 follows the address)
//! Cache          body seq u64, bytes
//! Body, Chunk    total u64, own u32, lead u32, chunks u32, zero u32,
//!                (chunk seq u64, bytes u32) ..., block crc u32 ..., own bytes
//! End            nothing: the log was closed here
//! ```
//!
//! Append, Expunge and Reserve speak of an INBOX; a mail store has far more of them than of all
//! others. Reserve is not written any more: ReserveIn says more.
//!
//! A message is the first `lead` of a body's own bytes, then its chunks, then the rest of its own.
//!
//! Guarantees: decoding checks every length before it believes it, and never panics.
//! Does not know: segments, batches, what a change means.

pub mod encode;
#[cfg(test)]
mod tests;

use crc32c::{crc32c, crc32c_append};

use super::{Flags, Identity, MailboxId, Sequence, Uid, UidValidity};
use crate::limits::{BLOCK_BYTES, KEYWORDS_MAX};

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 24;
/// Bytes of a body's fixed part, which the chunk and block tables follow.
pub const BODY_FIXED_BYTES: usize = 24;
const CHUNK_ENTRY_BYTES: usize = 12;
/// Bytes of one mark of a flags record.
pub const MARK_BYTES: usize = 13;
/// The record is a copy that compaction made; its sequence number is the original's.
pub const FLAG_MOVED: u8 = 1;

/// What the checksums of one segment begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Realm(u32);

impl Realm {
    /// Of a segment: its store, partition, generation, and the epoch it was written in.
    pub fn new(identity: Identity, generation: u64, epoch: u64) -> Realm {
        let mut bytes = [0; 34];
        bytes[..16].copy_from_slice(&identity.store_id.to_le_bytes());
        bytes[16..18].copy_from_slice(&identity.partition.to_le_bytes());
        bytes[18..26].copy_from_slice(&generation.to_le_bytes());
        bytes[26..].copy_from_slice(&epoch.to_le_bytes());
        Realm(crc32c(&bytes))
    }

    /// The checksum of `bytes` in this realm.
    pub fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c_append(self.0, bytes)
    }
}

/// What kind of record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// See [`Payload::PutAccount`].
    PutAccount = 1,
    /// See [`Payload::RemoveAccount`].
    RemoveAccount = 2,
    /// See [`Payload::Append`].
    Append = 3,
    /// See [`Payload::Expunge`].
    Expunge = 4,
    /// See [`Payload::Reserve`].
    Reserve = 5,
    /// See [`Payload::Key`].
    Key = 6,
    /// See [`Payload::Body`].
    Body = 7,
    /// See [`Payload::Body`].
    Chunk = 8,
    /// See [`Payload::End`].
    End = 9,
    /// See [`Payload::PutMailbox`].
    PutMailbox = 10,
    /// See [`Payload::RemoveMailbox`].
    RemoveMailbox = 11,
    /// See [`Payload::Append`].
    AppendTo = 12,
    /// See [`Payload::Flags`].
    Flags = 13,
    /// See [`Payload::Expunge`].
    ExpungeFrom = 14,
    /// See [`Payload::Reserve`].
    ReserveIn = 15,
    /// See [`Payload::Cache`].
    Cache = 16,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::PutAccount,
            2 => Kind::RemoveAccount,
            3 => Kind::Append,
            4 => Kind::Expunge,
            5 => Kind::Reserve,
            6 => Kind::Key,
            7 => Kind::Body,
            8 => Kind::Chunk,
            9 => Kind::End,
            10 => Kind::PutMailbox,
            11 => Kind::RemoveMailbox,
            12 => Kind::AppendTo,
            13 => Kind::Flags,
            14 => Kind::ExpungeFrom,
            15 => Kind::ReserveIn,
            16 => Kind::Cache,
            _ => return None,
        })
    }
}

/// What a record says; text and bytes are borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// An account is made or changed.
    PutAccount {
        /// UIDVALIDITY of its INBOX.
        validity: UidValidity,
        /// Bytes, 0 = unlimited.
        quota_bytes: u64,
        /// Canonical address.
        address: &'a str,
        /// PHC or crypt form.
        password_hash: &'a str,
    },
    /// An account is gone.
    RemoveAccount {
        /// Canonical address.
        address: &'a str,
    },
    /// A mailbox is made, or has another name.
    PutMailbox {
        /// Its number.
        mailbox: MailboxId,
        /// UIDVALIDITY.
        validity: UidValidity,
        /// What it is for, see [`crate::store::SpecialUse`]; 0: nothing special.
        special_use: u8,
        /// Canonical address.
        address: &'a str,
        /// Canonical name.
        name: &'a str,
    },
    /// A mailbox is gone.
    RemoveMailbox {
        /// Its number.
        mailbox: MailboxId,
        /// Canonical address.
        address: &'a str,
    },
    /// A message is in a mailbox.
    Append {
        /// There.
        mailbox: MailboxId,
        /// Its UID.
        uid: Uid,
        /// The record with its bytes.
        body_seq: Sequence,
        /// Bytes of trace header and body.
        bytes: u64,
        /// Internal date.
        date_ms: u64,
        /// When it came there.
        saved_ms: u64,
        /// Its flags at first.
        flags: Flags,
        /// Its keywords at first.
        keywords: TextList<'a>,
        /// Canonical address.
        address: &'a str,
    },
    /// Messages have these flags and keywords.
    Flags {
        /// There.
        mailbox: MailboxId,
        /// Canonical address.
        address: &'a str,
        /// Keywords that the marks name.
        keywords: TextList<'a>,
        /// By ascending UID.
        marks: MarkList<'a>,
    },
    /// What is kept of a body beside it.
    Cache {
        /// The body.
        body_seq: Sequence,
        /// Whatever its reader makes of it.
        bytes: &'a [u8],
    },
    /// Messages are gone.
    Expunge {
        /// From there.
        mailbox: MailboxId,
        /// When.
        now_ms: u64,
        /// Canonical address.
        address: &'a str,
        /// Ascending.
        uids: UidList<'a>,
    },
    /// Numbers that are never given again.
    Reserve {
        /// There.
        mailbox: MailboxId,
        /// These.
        reserved: Reserved,
        /// Canonical address.
        address: &'a str,
    },
    /// A key has a value, or none.
    Key {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: Option<&'a [u8]>,
    },
    /// Bytes of a message, or of a chunk of one.
    Body(Body<'a>),
    /// The log was closed here.
    End,
}

/// UIDs as they lie in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidList<'a>(&'a [u8]);

impl UidList<'_> {
    /// The UIDs.
    pub fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        self.0
            .chunks_exact(4)
            .map(|b| Uid::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
}

/// Fixed part and tables of a body; its bytes may not be at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body<'a> {
    /// It is a chunk, which a body names.
    pub is_chunk: bool,
    /// Bytes of the whole message.
    pub total_bytes: u64,
    /// Bytes in this record.
    pub own_bytes: u32,
    /// So many of them come before the chunks.
    pub lead_bytes: u32,
    chunks: &'a [u8],
    blocks: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Body<'a> {
    /// Sequence numbers and bytes of its chunks.
    pub fn chunks(&self) -> impl Iterator<Item = (Sequence, u32)> + 'a {
        self.chunks
            .chunks_exact(CHUNK_ENTRY_BYTES)
            .map(|entry| (u64_at(entry, 0), u32_at(entry, 8)))
    }

    /// Bytes from the start of the record to its own bytes.
    pub fn bytes_offset(&self) -> usize {
        HEADER_BYTES + BODY_FIXED_BYTES + self.chunks.len() + self.blocks.len()
    }

    /// Its own bytes, as far as they were at hand when it was decoded. Not verified.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The blocks from `first` on, of which `bytes` are the bytes, match their checksums. All of
    /// `bytes` is checked; it ends at the end of a block or of the body.
    pub fn blocks_match(&self, first: usize, bytes: &[u8]) -> bool {
        let table = self.blocks.chunks_exact(4).skip(first);
        bytes.len().div_ceil(BLOCK_BYTES) <= table.len()
            && bytes
                .chunks(BLOCK_BYTES)
                .zip(table)
                .all(|(block, entry)| crc32c(block) == u32_at(entry, 0))
    }

    /// All of its own bytes are at hand and match their checksums.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() == self.own_bytes as usize && self.blocks_match(0, self.bytes)
    }
}

/// What was given of a mailbox's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// No UID below this is given again.
    pub uid_next: Uid,
    /// UIDVALIDITY.
    pub validity: UidValidity,
    /// The mailbox has had this MODSEQ.
    pub modseq: Sequence,
    /// Changes up to here may have been lost: whoever asks for those since an earlier one is told
    /// everything. 0: none was.
    pub changed_floor: Sequence,
}

/// Texts, at most [`KEYWORDS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextList<'a>(&'a [u8]);

impl<'a> TextList<'a> {
    /// None.
    pub const NONE: TextList<'static> = TextList(&[]);

    /// In the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut fields = Fields(self.0);
        std::iter::from_fn(move || fields.text())
    }
}

/// Flags and keywords of one message, as a record says them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewMark {
    /// The message.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
    /// A bit for each of the record's keywords.
    pub keywords: u64,
}

/// Marks of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkList<'a>(&'a [u8]);

impl<'a> MarkList<'a> {
    /// In the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = NewMark> + use<'a> {
        self.0.chunks_exact(MARK_BYTES).map(|mark| NewMark {
            uid: u32_at(mark, 0),
            flags: Flags(mark[4]),
            keywords: u64_at(mark, 5),
        })
    }
}

/// A record as it lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub seq: Sequence,
    /// What kind it is.
    pub kind: Kind,
    /// Compaction made it.
    pub moved: bool,
    /// What it says.
    pub payload: Payload<'a>,
    /// Bytes of it on disk, padding included.
    pub disk_bytes: usize,
}

/// What is wrong with the bytes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It goes on behind the bytes at hand.
    #[error("record is cut off")]
    Short,
    /// The checksum does not fit.
    #[error("record does not match its checksum")]
    Checksum,
    /// The checksum fits, the contents make no sense.
    #[error("record of kind {0} makes no sense")]
    Malformed(u8),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Bytes of a record with a payload of so many, padding included.
pub fn disk_bytes(payload_bytes: usize) -> usize {
    HEADER_BYTES + payload_bytes.next_multiple_of(8)
}

/// Bytes on disk of a body record with so many bytes and chunks of its own.
pub fn body_disk_bytes(own_bytes: usize, chunks: usize) -> usize {
    disk_bytes(
        BODY_FIXED_BYTES
            + chunks * CHUNK_ENTRY_BYTES
            + own_bytes.div_ceil(BLOCK_BYTES) * 4
            + own_bytes,
    )
}

/// Bytes that hold header and tables of a body, from the start of its record; `None` when `head`,
/// at least [`HEADER_BYTES`] + [`BODY_FIXED_BYTES`], is no body's.
pub fn body_prefix_bytes(head: &[u8]) -> Option<usize> {
    (head.len() >= HEADER_BYTES + BODY_FIXED_BYTES
        && matches!(Kind::of(head[4]), Some(Kind::Body | Kind::Chunk)))
    .then(|| HEADER_BYTES + u32_at(head, 12) as usize)
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
    }
    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32_at(b, 0))
    }
    fn u64(&mut self) -> Option<u64> {
        self.take(8).map(|b| u64_at(b, 0))
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    fn text(&mut self) -> Option<&'a str> {
        let bytes = self.u16()?;
        std::str::from_utf8(self.take(usize::from(bytes))?).ok()
    }
    fn texts(&mut self, count: u8) -> Option<TextList<'a>> {
        let all = self.0;
        if usize::from(count) > KEYWORDS_MAX {
            return None;
        }
        for _ in 0..count {
            self.text()?;
        }
        Some(TextList(&all[..all.len() - self.0.len()]))
    }
}

/// Decodes the record at the start of `bytes`. Of a body's own bytes, those at hand are taken,
/// whether all of them are or not; see [`Body::is_whole`].
///
/// # Errors
/// What is wrong with it.
pub fn decode(bytes: &[u8], realm: Realm) -> Result<Record<'_>, RecordError> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(RecordError::Short);
    };
    let len = u32_at(header, 8) as usize;
    let checked = u32_at(header, 12) as usize;
    if checked > len {
        return Err(RecordError::Checksum);
    }
    let Some(head) = rest.get(..checked) else {
        return Err(RecordError::Short);
    };
    let crc = crc32c_append(realm.checksum(&header[4..]), head);
    if crc != u32_at(header, 0) {
        return Err(RecordError::Checksum);
    }
    let malformed = RecordError::Malformed(header[4]);
    let kind = Kind::of(header[4]).ok_or(malformed)?;
    let seq = u64_at(header, 16);
    let tail = &rest[checked..];
    let payload = decode_payload(kind, seq, head, tail, len - checked).ok_or(malformed)?;
    Ok(Record {
        seq,
        kind,
        moved: header[5] & FLAG_MOVED != 0,
        payload,
        disk_bytes: disk_bytes(len),
    })
}

fn decode_payload<'a>(
    kind: Kind,
    seq: Sequence,
    head: &'a [u8],
    tail: &'a [u8],
    unchecked_bytes: usize,
) -> Option<Payload<'a>> {
    if matches!(kind, Kind::Body | Kind::Chunk) {
        return decode_body(kind, head, tail, unchecked_bytes);
    }
    if unchecked_bytes != 0 {
        return None;
    }
    let mut f = Fields(head);
    let payload = match kind {
        Kind::PutAccount => Payload::PutAccount {
            validity: f.u32()?,
            quota_bytes: f.u64()?,
            address: f.text()?,
            password_hash: f.text()?,
        },
        Kind::RemoveAccount => Payload::RemoveAccount { address: f.text()? },
        Kind::Append => {
            let (uid, body_seq, bytes, date_ms) = (f.u32()?, f.u64()?, f.u64()?, f.u64()?);
            Payload::Append {
                mailbox: MailboxId::INBOX,
                uid,
                body_seq,
                bytes,
                date_ms,
                saved_ms: date_ms,
                flags: Flags::NONE,
                keywords: TextList::NONE,
                address: f.text()?,
            }
        }
        Kind::AppendTo => {
            let (uid, mailbox, body_seq) = (f.u32()?, MailboxId(f.u64()?), f.u64()?);
            let (bytes, date_ms, saved_ms) = (f.u64()?, f.u64()?, f.u64()?);
            let (flags, keywords) = (Flags(f.u8()?), f.u8()?);
            Payload::Append {
                mailbox,
                uid,
                body_seq,
                bytes,
                date_ms,
                saved_ms,
                flags,
                address: f.text()?,
                keywords: f.texts(keywords)?,
            }
        }
        Kind::Expunge | Kind::ExpungeFrom => {
            let mailbox = match kind {
                Kind::Expunge => MailboxId::INBOX,
                _ => MailboxId(f.u64()?),
            };
            let now_ms = f.u64()?;
            let count = f.u32()? as usize;
            let address = f.text()?;
            Payload::Expunge {
                mailbox,
                now_ms,
                address,
                uids: UidList(f.take(count.checked_mul(4)?)?),
            }
        }
        Kind::Reserve => Payload::Reserve {
            mailbox: MailboxId::INBOX,
            reserved: Reserved {
                uid_next: f.u32()?,
                validity: f.u32()?,
                modseq: 0,
                changed_floor: 0,
            },
            address: f.text()?,
        },
        Kind::ReserveIn => {
            let (mailbox, uid_next, validity) = (MailboxId(f.u64()?), f.u32()?, f.u32()?);
            let (modseq, floor, address) = (f.u64()?, f.u8()?, f.text()?);
            let changed_floor = match floor {
                0 => 0,
                1 => seq,
                2 => f.u64()?,
                _ => return None,
            };
            Payload::Reserve {
                mailbox,
                reserved: Reserved {
                    uid_next,
                    validity,
                    modseq,
                    changed_floor,
                },
                address,
            }
        }
        Kind::PutMailbox => Payload::PutMailbox {
            mailbox: MailboxId(f.u64()?),
            validity: f.u32()?,
            special_use: f.u8()?,
            address: f.text()?,
            name: f.text()?,
        },
        Kind::RemoveMailbox => Payload::RemoveMailbox {
            mailbox: MailboxId(f.u64()?),
            address: f.text()?,
        },
        Kind::Flags => {
            let (mailbox, count, keywords) = (MailboxId(f.u64()?), f.u32()?, f.u8()?);
            Payload::Flags {
                mailbox,
                address: f.text()?,
                keywords: f.texts(keywords)?,
                marks: MarkList(f.take((count as usize).checked_mul(MARK_BYTES)?)?),
            }
        }
        Kind::Cache => Payload::Cache {
            body_seq: f.u64()?,
            bytes: f.take(f.0.len())?,
        },
        Kind::Key => {
            let present = f.take(1)?[0];
            let (key, value) = (f.u32()? as usize, f.u32()? as usize);
            let (key, value) = (f.take(key)?, f.take(value)?);
            Payload::Key {
                key,
                value: (present != 0).then_some(value),
            }
        }
        Kind::End => Payload::End,
        Kind::Body | Kind::Chunk => return None,
    };
    f.0.is_empty().then_some(payload)
}

fn decode_body<'a>(
    kind: Kind,
    head: &'a [u8],
    tail: &'a [u8],
    own_bytes: usize,
) -> Option<Payload<'a>> {
    let mut f = Fields(head);
    let (total_bytes, own, lead_bytes) = (f.u64()?, f.u32()?, f.u32()?);
    let chunks = f.u32()? as usize;
    f.u32()?;
    let chunks = f.take(chunks.checked_mul(CHUNK_ENTRY_BYTES)?)?;
    let blocks = f.take((own as usize).div_ceil(BLOCK_BYTES) * 4)?;
    let fits = f.0.is_empty() && own as usize == own_bytes && lead_bytes <= own;
    fits.then_some(Payload::Body(Body {
        is_chunk: kind == Kind::Chunk,
        total_bytes,
        own_bytes: own,
        lead_bytes,
        chunks,
        blocks,
        bytes: &tail[..tail.len().min(own_bytes)],
    }))
}
