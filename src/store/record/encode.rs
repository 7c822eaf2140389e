//! Writes records behind each other into a buffer; their checksums come last.
//!
//! Which segment a record goes to is known only when its batch is written, so checksums that
//! depend on it are put in by [`seal`]. Those of body blocks do not, and are made while the bytes
//! are copied.

use crc32c::{crc32c, crc32c_append};

use super::{FLAG_MOVED, HEADER_BYTES, Kind, NewMark, Realm, Reserved, u32_at};
use crate::limits::BLOCK_BYTES;
use crate::store::{Flags, MailboxId, Sequence, Uid, UidValidity};

fn begin(out: &mut Vec<u8>, kind: Kind, seq: Sequence) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8, 0, 0, 0]);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&seq.to_le_bytes());
    start
}

/// Fills in the lengths; `unchecked_bytes` at the end have checksums of their own.
fn finish(out: &mut Vec<u8>, start: usize, unchecked_bytes: usize) {
    let len = out.len() - start - HEADER_BYTES;
    put_u32(out, start + 8, len as u32);
    put_u32(out, start + 12, (len - unchecked_bytes) as u32);
    out.resize(start + HEADER_BYTES + len.next_multiple_of(8), 0);
}

fn put_u32(out: &mut [u8], at: usize, value: u32) {
    out[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

/// Appends a [`Payload::PutAccount`](super::Payload::PutAccount).
pub fn put_account(
    out: &mut Vec<u8>,
    seq: Sequence,
    validity: UidValidity,
    account: &crate::store::Account,
) {
    let start = begin(out, Kind::PutAccount, seq);
    out.extend_from_slice(&validity.to_le_bytes());
    out.extend_from_slice(&account.quota_bytes.to_le_bytes());
    text(out, account.address.as_str());
    text(out, &account.password_hash);
    finish(out, start, 0);
}

/// Appends a [`Payload::RemoveAccount`](super::Payload::RemoveAccount).
pub fn remove_account(out: &mut Vec<u8>, seq: Sequence, address: &str) {
    let start = begin(out, Kind::RemoveAccount, seq);
    text(out, address);
    finish(out, start, 0);
}

/// What an append record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append<'a> {
    /// See [`Payload::Append`](super::Payload::Append) for this and what follows.
    pub address: &'a str,
    /// There.
    pub mailbox: MailboxId,
    /// Its UID.
    pub uid: Uid,
    /// The record with its bytes.
    pub body_seq: Sequence,
    /// Bytes of trace header and body.
    pub bytes: u64,
    /// Internal date.
    pub date_ms: u64,
    /// When it came there.
    pub saved_ms: u64,
    /// Its flags.
    pub flags: Flags,
    /// Its keywords, at most [`crate::limits::KEYWORDS_MAX`].
    pub keywords: &'a [Box<str>],
}

/// Appends a [`Payload::Append`](super::Payload::Append): the short record where that says it all.
pub fn append(out: &mut Vec<u8>, seq: Sequence, message: &Append<'_>) {
    let is_short = message.mailbox.is_inbox()
        && message.flags == Flags::NONE
        && message.keywords.is_empty()
        && message.saved_ms == message.date_ms;
    let kind = if is_short {
        Kind::Append
    } else {
        Kind::AppendTo
    };
    let start = begin(out, kind, seq);
    out.extend_from_slice(&message.uid.to_le_bytes());
    if !is_short {
        out.extend_from_slice(&message.mailbox.0.to_le_bytes());
    }
    out.extend_from_slice(&message.body_seq.to_le_bytes());
    out.extend_from_slice(&message.bytes.to_le_bytes());
    out.extend_from_slice(&message.date_ms.to_le_bytes());
    if !is_short {
        out.extend_from_slice(&message.saved_ms.to_le_bytes());
        out.push(message.flags.0);
        out.push(message.keywords.len() as u8);
    }
    text(out, message.address);
    for keyword in message.keywords {
        text(out, keyword);
    }
    finish(out, start, 0);
}

/// Appends a [`Payload::Flags`](super::Payload::Flags); UIDs ascend.
pub fn flags(
    out: &mut Vec<u8>,
    seq: Sequence,
    address: &str,
    mailbox: MailboxId,
    keywords: &[Box<str>],
    marks: &[NewMark],
) {
    let start = begin(out, Kind::Flags, seq);
    out.extend_from_slice(&mailbox.0.to_le_bytes());
    out.extend_from_slice(&(marks.len() as u32).to_le_bytes());
    out.push(keywords.len() as u8);
    text(out, address);
    for keyword in keywords {
        text(out, keyword);
    }
    for mark in marks {
        out.extend_from_slice(&mark.uid.to_le_bytes());
        out.push(mark.flags.0);
        out.extend_from_slice(&mark.keywords.to_le_bytes());
    }
    finish(out, start, 0);
}

/// Appends a [`Payload::Cache`](super::Payload::Cache).
pub fn cache(out: &mut Vec<u8>, seq: Sequence, body_seq: Sequence, bytes: &[u8]) {
    let start = begin(out, Kind::Cache, seq);
    out.extend_from_slice(&body_seq.to_le_bytes());
    out.extend_from_slice(bytes);
    finish(out, start, 0);
}

/// Appends a [`Payload::PutMailbox`](super::Payload::PutMailbox).
pub fn put_mailbox(
    out: &mut Vec<u8>,
    seq: Sequence,
    address: &str,
    mailbox: MailboxId,
    (validity, special_use, name): (UidValidity, u8, &str),
) {
    let start = begin(out, Kind::PutMailbox, seq);
    out.extend_from_slice(&mailbox.0.to_le_bytes());
    out.extend_from_slice(&validity.to_le_bytes());
    out.push(special_use);
    text(out, address);
    text(out, name);
    finish(out, start, 0);
}

/// Appends a [`Payload::RemoveMailbox`](super::Payload::RemoveMailbox).
pub fn remove_mailbox(out: &mut Vec<u8>, seq: Sequence, address: &str, mailbox: MailboxId) {
    let start = begin(out, Kind::RemoveMailbox, seq);
    out.extend_from_slice(&mailbox.0.to_le_bytes());
    text(out, address);
    finish(out, start, 0);
}

/// Appends a [`Payload::Expunge`](super::Payload::Expunge); `uids` ascend.
pub fn expunge(
    out: &mut Vec<u8>,
    seq: Sequence,
    address: &str,
    mailbox: MailboxId,
    uids: &[Uid],
    now_ms: u64,
) {
    let start = if mailbox.is_inbox() {
        begin(out, Kind::Expunge, seq)
    } else {
        let start = begin(out, Kind::ExpungeFrom, seq);
        out.extend_from_slice(&mailbox.0.to_le_bytes());
        start
    };
    out.extend_from_slice(&now_ms.to_le_bytes());
    out.extend_from_slice(&(uids.len() as u32).to_le_bytes());
    text(out, address);
    for uid in uids {
        out.extend_from_slice(&uid.to_le_bytes());
    }
    finish(out, start, 0);
}

/// Appends a [`Payload::Reserve`](super::Payload::Reserve).
pub fn reserve(
    out: &mut Vec<u8>,
    seq: Sequence,
    address: &str,
    mailbox: MailboxId,
    reserved: &Reserved,
) {
    let start = begin(out, Kind::ReserveIn, seq);
    out.extend_from_slice(&mailbox.0.to_le_bytes());
    out.extend_from_slice(&reserved.uid_next.to_le_bytes());
    out.extend_from_slice(&reserved.validity.to_le_bytes());
    out.extend_from_slice(&reserved.modseq.to_le_bytes());
    let floor = match reserved.changed_floor {
        0 => 0,
        own if own == seq => 1,
        _ => 2,
    };
    out.push(floor);
    text(out, address);
    if floor == 2 {
        out.extend_from_slice(&reserved.changed_floor.to_le_bytes());
    }
    finish(out, start, 0);
}

/// Appends a [`Payload::Key`](super::Payload::Key).
pub fn key(out: &mut Vec<u8>, seq: Sequence, key: &[u8], value: Option<&[u8]>) {
    let start = begin(out, Kind::Key, seq);
    let bytes = value.unwrap_or_default();
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(bytes);
    finish(out, start, 0);
}

/// Appends a [`Payload::Body`](super::Payload::Body) whose own bytes are `lead`, then `rest`, with
/// `chunks` between them.
pub fn body(
    out: &mut Vec<u8>,
    seq: Sequence,
    lead: &[u8],
    chunks: &[(Sequence, u32)],
    rest: &[u8],
) {
    bytes_record(out, Kind::Body, seq, lead, chunks, rest);
}

/// Appends a chunk that a later body names.
pub fn chunk(out: &mut Vec<u8>, seq: Sequence, bytes: &[u8]) {
    bytes_record(out, Kind::Chunk, seq, &[], &[], bytes);
}

fn bytes_record(
    out: &mut Vec<u8>,
    kind: Kind,
    seq: Sequence,
    lead: &[u8],
    chunks: &[(Sequence, u32)],
    rest: &[u8],
) {
    let start = begin(out, kind, seq);
    let own = lead.len() + rest.len();
    let streamed: u64 = chunks.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
    out.extend_from_slice(&(own as u64 + streamed).to_le_bytes());
    out.extend_from_slice(&(own as u32).to_le_bytes());
    out.extend_from_slice(&(lead.len() as u32).to_le_bytes());
    out.extend_from_slice(&(chunks.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for (chunk, bytes) in chunks {
        out.extend_from_slice(&chunk.to_le_bytes());
        out.extend_from_slice(&bytes.to_le_bytes());
    }
    let table = out.len();
    let blocks = own.div_ceil(BLOCK_BYTES);
    out.resize(table + blocks * 4, 0);
    let bytes = out.len();
    out.extend_from_slice(lead);
    out.extend_from_slice(rest);
    for block in 0..blocks {
        let from = bytes + block * BLOCK_BYTES;
        let crc = crc32c(&out[from..(from + BLOCK_BYTES).min(bytes + own)]);
        put_u32(out, table + block * 4, crc);
    }
    finish(out, start, own);
}

/// Appends a [`Payload::End`](super::Payload::End).
pub fn end(out: &mut Vec<u8>, seq: Sequence) {
    let start = begin(out, Kind::End, seq);
    finish(out, start, 0);
}

/// Appends a copy of a whole record of the log, marked as moved. Its checksum is made by [`seal`].
pub fn moved(out: &mut Vec<u8>, record: &[u8]) {
    let start = out.len();
    out.extend_from_slice(record);
    out[start + 5] |= FLAG_MOVED;
}

/// Puts in the checksums of the records in `records`, all of which this module wrote.
pub fn seal(records: &mut [u8], realm: Realm) {
    let mut rest = records;
    while rest.len() >= HEADER_BYTES {
        let len = u32_at(rest, 8) as usize;
        let checked = u32_at(rest, 12) as usize;
        let crc = crc32c_append(
            realm.checksum(&rest[4..HEADER_BYTES]),
            &rest[HEADER_BYTES..HEADER_BYTES + checked],
        );
        put_u32(rest, 0, crc);
        rest = &mut rest[super::disk_bytes(len)..];
    }
}
