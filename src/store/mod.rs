//! Mailbox partitions: append-only logs that acknowledge nothing before it is durable.

pub mod disk;
pub mod index;
pub mod layout;
pub mod real;
pub mod sim;

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::config::SyncLevels;
use crate::mail::Address;
use disk::Disk;

/// A message's number in its mailbox, never given twice under one [`UidValidity`].
pub type Uid = u32;
/// Changes when the UIDs of a mailbox had to start anew.
pub type UidValidity = u32;
/// Number of a record in its partition's log; also its MODSEQ.
pub type Sequence = u64;

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
    /// What is stored does not match its checksum: set aside and counted.
    #[error("stored bytes are damaged: {0}")]
    Damaged(Arc<str>),
    /// The disk failed to read.
    #[error("read failed: {0}")]
    Read(Arc<str>),
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

/// One partition, owned by one shard.
///
/// Mutations are futures that resolve when their record is durable at its level; the order in
/// which they are first polled is their order in the log. Only durable state is ever visible to
/// the reading methods. A dropped future cancels nothing that was already queued.
pub struct Partition<D: Disk> {
    _disk: D,
}

#[allow(
    unused_variables,
    clippy::unused_async,
    reason = "the contract, filled in next"
)]
impl<D: Disk> Partition<D> {
    /// Makes an empty partition in `dir`, which does not exist. Durable when it returns, but for
    /// the parent directory's entry.
    ///
    /// # Errors
    /// When an operation of the disk fails.
    pub async fn create(disk: D, dir: &Path, identity: Identity) -> Result<(), OpenError> {
        todo!()
    }

    /// Recovers the partition in `dir`. Nothing is served before this returns; a crash while it
    /// runs is a crash like any other.
    ///
    /// # Errors
    /// Only when the partition cannot be served at all; damage is reported, not an error.
    pub async fn open(
        disk: D,
        dir: &Path,
        identity: Identity,
        settings: Settings,
        now_ms: u64,
        progress: impl Fn(Progress),
    ) -> Result<(Rc<Partition<D>>, RecoveryReport), OpenError> {
        todo!()
    }

    /// The commit loop: one batch in flight, what arrives meanwhile forms the next. Runs until
    /// [`Partition::close`] is done. The owner polls this on its session or delivery queue.
    pub async fn run(self: Rc<Self>) {
        todo!()
    }

    /// Prepares segments ahead, writes indexes, compacts what is due. Runs until closed. The owner
    /// polls this on its background queue. `now_ms` is asked whenever time matters.
    pub async fn background(self: Rc<Self>, now_ms: impl Fn() -> u64) {
        todo!()
    }

    /// Reclaims at once everything that was expunged, whatever its age; returns bytes given back.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn expire_now(&self) -> Result<u64, StoreError> {
        todo!()
    }

    /// Lets queued work finish, writes the index and a clean mark, ends `run` and `background`.
    ///
    /// # Errors
    /// When the last batch could not be made durable.
    pub async fn close(&self) -> Result<(), StoreError> {
        todo!()
    }

    /// May it take mail?
    pub fn health(&self) -> Health {
        todo!()
    }

    // Accounts and small state.

    /// There is an account of this address, which is canonical: cheaper than [`Self::account`].
    pub fn has_account(&self, address: &Address) -> bool {
        todo!()
    }

    /// The account of this address, which is canonical.
    pub fn account(&self, address: &Address) -> Option<Account> {
        todo!()
    }

    /// Visits all accounts, in no order.
    pub fn for_each_account(&self, visit: impl FnMut(&Account)) {
        todo!()
    }

    /// Makes an account with an empty INBOX.
    ///
    /// # Errors
    /// `Exists`, or what the disk says.
    pub async fn create_account(&self, account: Account) -> Result<(), StoreError> {
        todo!()
    }

    /// Replaces password hash and quota.
    ///
    /// # Errors
    /// `Missing`, or what the disk says.
    pub async fn update_account(&self, account: Account) -> Result<(), StoreError> {
        todo!()
    }

    /// Removes an account and its mail.
    ///
    /// # Errors
    /// `Missing`, or what the disk says.
    pub async fn remove_account(&self, address: &Address) -> Result<(), StoreError> {
        todo!()
    }

    /// Sets a key of the partition's small table (the site log and the queue live on these);
    /// `None` removes it.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn put(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        todo!()
    }

    /// Sets several keys in one batch: after a crash all of them are there or none.
    ///
    /// # Errors
    /// What the disk says; more than fits a batch is `Full`.
    pub async fn put_all(&self, entries: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        todo!()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        todo!()
    }

    /// Visits all keys from `prefix` on that start with it, in order.
    pub fn for_each_key(&self, prefix: &[u8], visit: impl FnMut(&[u8], &[u8])) {
        todo!()
    }

    // Messages.

    /// Starts a body that is too large for one piece.
    ///
    /// # Errors
    /// `Full`, `ReadOnly`.
    pub fn open_stream(&self) -> Result<StreamId, StoreError> {
        todo!()
    }

    /// Appends a piece (at most `limits::BODY_INLINE_BYTES_MAX`); resolves when there is room for
    /// the next one, which is not yet durability.
    ///
    /// # Errors
    /// After an error the stream is gone.
    pub async fn append_stream(&self, stream: StreamId, bytes: Vec<u8>) -> Result<(), StoreError> {
        todo!()
    }

    /// Gives a stream up.
    pub fn abort_stream(&self, stream: StreamId) {
        todo!()
    }

    /// Delivers one message to INBOXes of this partition: one body, an append record each, in one
    /// batch. Resolves when durable. The outer error is that of the message (nothing was
    /// delivered), the inner ones those of single recipients.
    ///
    /// # Errors
    /// `Full`, `ReadOnly`, `Closing`.
    pub async fn deliver(&self, delivery: Delivery) -> Result<Vec<RecipientResult>, StoreError> {
        todo!()
    }

    /// UIDVALIDITY and all messages of the INBOX, in UID order.
    ///
    /// # Errors
    /// `Missing`.
    pub fn inbox(&self, address: &Address) -> Result<(UidValidity, Vec<MessageInfo>), StoreError> {
        todo!()
    }

    /// Bytes `offset..offset + length` of a message (fewer at its end), verified.
    ///
    /// # Errors
    /// `Missing` when it was expunged, `Damaged`, `Read`.
    pub async fn read(
        &self,
        address: &Address,
        uid: Uid,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        todo!()
    }

    /// Expunges messages of the INBOX, in one record. UIDs that are gone already are passed over.
    ///
    /// # Errors
    /// `Missing`, `ReadOnly`.
    pub async fn expunge(
        &self,
        address: &Address,
        uids: &[Uid],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        todo!()
    }
}
