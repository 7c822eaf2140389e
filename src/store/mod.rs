//! Mailbox partitions: append-only logs that acknowledge nothing before it is durable.
//!
//! ```text
//! DATA/store/STORE            what the store is                          layout
//!   p000/MANIFEST             which files count: two slots               manifest
//!   p000/0...042.seg          a piece of the log                         segment
//!        +--------+---------+---------+-----------+---------
//!        | header | batch   | batch   | batch     | zeros
//!        +--------+---------+---------+-----------+---------
//!                 | header, records, zeros to 4096 |                     batch
//!                           | header, payload, zeros to 8 |              record
//!   p000/0...041.idx          a sealed index, mapped                     index, mapped
//!   p000/0...017.spare        was a segment and will be one again        spare
//!   p000/RESERVE              a segment for when the disk is full        background
//!   p000/RECOVERING           a segment that a start is writing          recovery
//!   p000/damaged/             copies of what could not be read           recovery
//! ```
//!
//! A change is encoded into the waiting batch (`mutate`), written and synced with all that came
//! with it (`commit`), applied to the index (`change`), and only then visible and acknowledged.
//! Batches go straight to the device (`real`): through the page cache every one would be copied
//! into fresh pages that are seldom looked at again, at several times the cost of a large message.
//! Reads go through the page cache, so that what is read is there for the next reader; they
//! (`read`, many small ones at once `gather`) verify what they return. Beside that (`background`) segments are made ahead,
//! indexes written (`checkpoint`), expunged space reclaimed (`compact`) and used again (`spare`).
//!
//! Every account has an INBOX and mailboxes beside it (`mailboxes`), whose messages come, are marked,
//! copied, moved and expunged by sessions (`messages`). A change sees those before it that still
//! wait (`waiting`); sessions that idle are told of what is durable (`notice`, `journal`). What is
//! made of a body once is kept beside it (`cache`), small things beside accounts and mailboxes
//! (`values`).
//!
//! Of what is removed and is large, the rest goes in steps (`removal`).
//!
//! An empty partition takes about 9 MiB at most: a first segment of 1 MiB, the next one and the
//! reserve of 4 MiB each (less with smaller segments). Where much mail was expunged, up to two
//! segments' files are kept for later ones, until space is short.
//!
//! Guarantees: see [`Partition`]. Does not know: protocols, other partitions, time (it is told).
//! On failure: a failed write or sync is not retried, the partition is read-only until restart;
//! lack of space refuses mail only.

mod background;
pub mod batch;
mod cache;
mod change;
mod checkpoint;
mod commit;
mod compact;
pub mod disk;
mod gather;
pub mod index;
mod journal;
pub mod layout;
mod mailbox;
mod mailboxes;
pub mod manifest;
mod mapped;
mod messages;
mod mutate;
mod notice;
mod partition;
mod probe;
mod read;
pub mod real;
pub mod record;
mod recovery;
mod removal;
pub mod segment;
mod sharing;
pub mod sim;
mod spare;
mod values;
mod wait;
mod waiting;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::SyncLevels;
use crate::mail::Address;

pub use gather::Gathered;
pub use journal::{Happening, MessagesChanged};
pub use mailbox::{
    Append, Appended, Copied, FlagChange, FlagMode, Flags, INBOX_NAME, MailboxId, MailboxInfo,
    NameError, NewMessage, SEPARATOR, SpecialUse, Stored, UidRun, View, canonical_name,
    same_keyword,
};
pub use notice::Watch;
pub use partition::Partition;
pub use probe::Probe;
pub use sharing::AccessEntry;
pub use values::ValuesMax;

/// A message's number in its mailbox, never given twice under one [`UidValidity`].
pub type Uid = u32;
/// No message gets this number or a higher one: UIDNEXT, too, is a number (RFC 9051 §2.3.1.1).
pub(crate) const UID_END: Uid = Uid::MAX;
/// Changes when the UIDs of a mailbox had to start anew.
pub type UidValidity = u32;
/// Number of a record in its partition's log; also its MODSEQ.
pub type Sequence = u64;

/// Messages keep numbers of records in 48 bits: at a million a second they last for nine years. Not all
/// of them are used: what is made with the last of them must have a UIDVALIDITY, too.
pub(crate) const SEQUENCE_END: Sequence = 3 << 46;
/// A UIDVALIDITY has 32 bits. What gets one of its own begins at the next multiple of this number, so
/// that all numbers there are fall on different ones, and later ones on higher ones.
const SEQUENCES_PER_VALIDITY: Sequence = 1 << 16;
/// The first UIDVALIDITY. Stores of format 1 gave the number of a record, cut to 32 bits: what they have
/// given is below, unless they held a thousand million records.
const VALIDITY_FIRST: UidValidity = 1 << 30;
const _: () = assert!(
    SEQUENCE_END / SEQUENCES_PER_VALIDITY + (VALIDITY_FIRST as Sequence) <= 1 << UidValidity::BITS
);

/// UIDVALIDITY of what the record of this number makes.
pub(crate) fn validity_at(seq: Sequence) -> UidValidity {
    let number = seq.min(SEQUENCE_END - 1) / SEQUENCES_PER_VALIDITY;
    // It fits, see above.
    VALIDITY_FIRST + number as UidValidity
}

/// The next number, this one included, whose UIDVALIDITY no other one has.
pub(crate) fn with_own_validity(seq: Sequence) -> Sequence {
    seq.next_multiple_of(SEQUENCES_PER_VALIDITY)
}

/// Partition numbers from here on are queue logs.
pub const QUEUE_PARTITION: u16 = 0x8000;
/// The partition number of the site log.
pub const SITE_PARTITION: u16 = 0xffff;

/// What a partition is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Sync levels by kind of write [N21].
    pub sync: SyncLevels,
    /// Bytes of one segment (`limits::SEGMENT_BYTES`; smaller in tests).
    pub segment_bytes: u64,
    /// Bytes of free space below which mail is refused with 452 [N30].
    pub reserve_bytes: u64,
    /// Milliseconds between expunge and reclaiming [N23].
    pub cleanup_age_ms: u64,
}

/// Names a partition; part of every record checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Random, made with the store.
    pub store_id: u128,
    /// Number of the partition within the store.
    pub partition: u16,
}

/// Why a partition could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Too little space: 452 4.3.1 [N30].
    #[error("not enough disk space")]
    Full,
    /// An earlier write or sync failed: nothing is taken until restart.
    #[error("partition is read-only until restart: {0}")]
    ReadOnly(Arc<str>),
    /// The account or mailbox is not there.
    #[error("no such account or mailbox")]
    Missing,
    /// It is there already.
    #[error("exists already")]
    Exists,
    /// Over quota [N25].
    #[error("over quota")]
    OverQuota,
    /// More mailboxes or keywords than there may be.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// All UIDs of the mailbox were given: what it holds can be moved to another one.
    #[error("the mailbox has no UID left: move its messages to another mailbox")]
    NoUid,
    /// A mailbox cannot be named so.
    #[error("{0}")]
    Name(#[from] NameError),
    /// What is stored does not match its checksum: set aside and counted.
    #[error("stored bytes are damaged: {0}")]
    Damaged(Arc<str>),
    /// The disk failed to read.
    #[error("read failed: {0}")]
    Read(Arc<str>),
    /// More than fits into one batch of the log: the caller splits or streams it.
    #[error("too large for one batch of the log")]
    TooLarge,
    /// The partition is closing.
    #[error("partition is closing")]
    Closing,
}

/// An account as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Canonical (`Address::account_key`).
    pub address: Address,
    /// In PHC or crypt form, see [`crate::directory`].
    pub password_hash: String,
    /// Bytes; 0 = unlimited [N25].
    pub quota_bytes: u64,
}

/// What is to be different about an account; `None`: it stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// See [`Account::password_hash`].
    pub password_hash: Option<String>,
    /// See [`Account::quota_bytes`].
    pub quota_bytes: Option<u64>,
}

impl AccountChange {
    /// The account with the changes made.
    pub fn apply_to(&self, account: &mut Account) {
        if let Some(hash) = &self.password_hash {
            account.password_hash.clone_from(hash);
        }
        if let Some(quota_bytes) = self.quota_bytes {
            account.quota_bytes = quota_bytes;
        }
    }
}

/// One message to some accounts of this partition.
#[derive(Debug)]
pub struct Delivery {
    /// Trace header (Return-Path, Received), stored in front of the body.
    pub trace: Vec<u8>,
    /// The body, or what is left of it behind `stream`.
    pub body: Vec<u8>,
    /// What was streamed before.
    pub stream: Option<StreamId>,
    /// INBOX of each of these gets the message; canonical addresses.
    pub recipients: Vec<Address>,
    /// Milliseconds since 1970: the internal date.
    pub now_ms: u64,
    /// A mark that makes a repeated delivery harmless: it becomes a key of the partition in the
    /// same batch, and a delivery whose mark is there already changes nothing and gives UID 0 to
    /// each recipient. The queue uses it, see [`crate::queue`].
    pub once: Option<Vec<u8>>,
}

/// A body that streams in, see [`Partition::open_stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub u64);

/// What became of one recipient.
pub type RecipientResult = Result<Uid, StoreError>;

/// A message as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageInfo {
    /// Its UID.
    pub uid: Uid,
    /// MODSEQ of its last change.
    pub modseq: Sequence,
    /// Stored bytes: trace header and body.
    pub bytes: u64,
    /// Internal date, milliseconds since 1970.
    pub date_ms: u64,
    /// When it came into this mailbox, milliseconds since 1970 (RFC 8514).
    pub saved_ms: u64,
    /// System flags.
    pub flags: Flags,
    /// A bit for each keyword of [`View::keywords`].
    pub keywords: u64,
    /// The record with its bytes, which copies of the message share: equal for equal content, and
    /// what OBJECTID calls it (RFC 8474 §5.1). 0 where the log that told of it is damaged.
    pub body_seq: Sequence,
}

/// What became of the space of expunged messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// Bytes that mail can use again, in this partition or beside it: those of the segments that
    /// went, less the copies of what was still needed in them.
    pub freed_bytes: u64,
    /// Bytes of files that were removed. The others are kept for the next segments of the log, until
    /// space is short.
    pub returned_bytes: u64,
}

impl std::ops::AddAssign for Reclaimed {
    fn add_assign(&mut self, other: Reclaimed) {
        self.freed_bytes += other.freed_bytes;
        self.returned_bytes += other.returned_bytes;
    }
}

/// Where start-up is, for the progress display.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes of log read so far.
    pub done_bytes: u64,
    /// Bytes of log to read.
    pub total_bytes: u64,
}

/// What start-up found, for the log; nothing in it is an error that stops the start.
#[derive(Debug, Clone, Default)]
pub struct RecoveryReport {
    /// The last stop was clean.
    pub clean: bool,
    /// Messages known.
    pub messages: u64,
    /// Bytes of log that were replayed.
    pub replayed_bytes: u64,
    /// Bytes rewritten because they may have been in the page cache only.
    pub rewritten_bytes: u64,
    /// Damaged stretches, set aside: file, offset, bytes, why.
    pub damage: Vec<Damage>,
}

/// A stretch of the store that cannot be read any more.
#[derive(Debug, Clone)]
pub struct Damage {
    /// Where it is.
    pub file: PathBuf,
    /// From here.
    pub offset: u64,
    /// So many bytes.
    pub bytes: u64,
    /// Copied to this file.
    pub saved_to: Option<PathBuf>,
    /// What is wrong with it.
    pub reason: String,
    /// It held bytes that had been acknowledged (corruption), not merely an unfinished batch.
    pub acknowledged: bool,
}

/// Why a partition cannot be opened at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An operation failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// On this file.
        path: PathBuf,
        /// In this way.
        source: io::Error,
    },
    /// Made by a newer version.
    #[error("{path}: store format {found}, this program reads up to {known}", path = path.display())]
    Newer {
        /// This file says so.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Not ours, or another partition's.
    #[error("{path}: {reason}", path = path.display())]
    Foreign {
        /// This file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

/// State of a partition for operators and for RCPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Takes mail.
    Good,
    /// Refuses mail with 452; reads and deletes work.
    Full,
    /// Refuses every change until restart, for this reason.
    ReadOnly(Arc<str>),
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Health::Good => f.write_str("good"),
            Health::Full => f.write_str("full: refuses mail with 452, reads and deletes work"),
            Health::ReadOnly(reason) => write!(f, "read-only until restart: {reason}"),
        }
    }
}
