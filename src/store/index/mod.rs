//! What a partition knows of its log: accounts, messages, keys, and where the bytes are.
//!
//! The newest changes are in memory (the *overlay*), the rest in a sealed index file (the *base*),
//! immutable and mapped. The log is the truth: an index can be rebuilt from it at any time.
//!
//! Guarantees: [`Index::apply`] is idempotent and may see records in another order than they were
//! written, as compaction leaves them: the highest sequence number of a thing wins.
//! Does not know: files, disks, segments' contents, time.

use std::rc::Rc;

use super::{Account, MessageInfo, Sequence, Uid, UidValidity};
use crate::mail::Address;

/// Where a record with a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Generation of the segment.
    pub segment: u64,
    /// Bytes from the start of the segment file to the record.
    pub offset: u32,
    /// Bytes of the whole record on disk: what becomes garbage with it.
    pub bytes: u32,
}

/// One change, as a record of the log says it. `seq` is the record's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// An account is made or changed. `validity` is that of its INBOX when it is made.
    PutAccount {
        /// The account.
        account: &'a Account,
        /// UIDVALIDITY of the INBOX.
        validity: UidValidity,
    },
    /// An account and its mail are gone.
    RemoveAccount {
        /// Canonical.
        address: &'a Address,
    },
    /// A message is in an INBOX now.
    Append {
        /// Canonical.
        address: &'a Address,
        /// Its number, above every earlier one.
        uid: Uid,
        /// Sequence number of the body record, which several appends may share.
        body_seq: Sequence,
        /// Bytes of trace header and body.
        bytes: u64,
        /// Internal date.
        date_ms: u64,
    },
    /// Messages are gone from an INBOX.
    Expunge {
        /// Canonical.
        address: &'a Address,
        /// Ascending.
        uids: &'a [Uid],
        /// When, for the cleanup age [N23].
        now_ms: u64,
    },
    /// UIDs of an INBOX below this are never given again; and its UIDVALIDITY.
    Reserve {
        /// Canonical.
        address: &'a Address,
        /// The next UID to give.
        uid_next: Uid,
        /// UIDVALIDITY.
        validity: UidValidity,
    },
    /// A key has this value, or none.
    Key {
        /// The key.
        key: &'a [u8],
        /// `None`: removed.
        value: Option<&'a [u8]>,
    },
    /// A body (or chunk of one) is there now: first written, or moved by compaction.
    Body {
        /// The body's sequence number, which moving does not change.
        body_seq: Sequence,
        /// Where it is now.
        location: Location,
        /// A streamed body is a final record that names its chunks, each a body record of its own
        /// that is needed as long as one that names it is. Empty for all others.
        chunks: &'a [Sequence],
    },
}

/// A message and where its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// As listed.
    pub info: MessageInfo,
    /// The body's sequence number.
    pub body_seq: Sequence,
    /// Where it is now.
    pub location: Location,
}

/// Live and dead bytes of a segment, for compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of records that something still needs.
    pub live_bytes: u64,
    /// Messages expunged at this time or later still hold space here: the latest such time.
    pub youngest_expunge_ms: u64,
}

/// The index of one partition.
pub struct Index {
    _base: Option<Rc<dyn AsRef<[u8]>>>,
}

/// The bytes at hand are no index, a damaged one, or of another partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("index file: {0}")]
pub struct IndexError(pub String);

#[allow(unused_variables, reason = "the contract, filled in next")]
impl Index {
    /// An empty index.
    pub fn new() -> Index {
        todo!()
    }

    /// Takes over a sealed index, every byte of it checked; returns with it the sequence number and
    /// the log position (segment, offset) it covers: replay goes on there.
    pub fn open(
        base: Rc<dyn AsRef<[u8]>>,
        identity: super::Identity,
    ) -> Result<(Index, Sequence, (u64, u64)), IndexError> {
        todo!()
    }

    /// Applies a record; `at` is where the record itself is (for the usage of segments).
    pub fn apply(&mut self, seq: Sequence, at: Location, change: Change<'_>) {
        todo!()
    }

    /// Begins writing a sealed index of everything applied so far. The writer holds a consistent
    /// cut; `apply` may go on meanwhile.
    pub fn begin_seal(
        &mut self,
        identity: super::Identity,
        covers: Sequence,
        position: (u64, u64),
    ) -> SealWriter {
        todo!()
    }

    /// The sealed file is durable and mapped: what it holds leaves the overlay.
    pub fn finish_seal(&mut self, base: Rc<dyn AsRef<[u8]>>) -> Result<(), IndexError> {
        todo!()
    }

    /// The sealed file could not be written: the overlay keeps everything.
    pub fn abandon_seal(&mut self) {
        todo!()
    }

    /// There is such an account.
    pub fn has_account(&self, address: &Address) -> bool {
        todo!()
    }

    /// The account.
    pub fn account(&self, address: &Address) -> Option<Account> {
        todo!()
    }

    /// Visits every account.
    pub fn for_each_account(&self, visit: &mut dyn FnMut(&Account)) {
        todo!()
    }

    /// UIDVALIDITY, next UID and bytes in use of the account's INBOX.
    pub fn inbox_state(&self, address: &Address) -> Option<(UidValidity, Uid, u64)> {
        todo!()
    }

    /// All messages of the INBOX, in UID order.
    pub fn inbox(&self, address: &Address) -> Option<Vec<MessageInfo>> {
        todo!()
    }

    /// One message.
    pub fn find(&self, address: &Address, uid: Uid) -> Option<Found> {
        todo!()
    }

    /// Where a body or chunk is, if anything still needs it.
    pub fn body(&self, body_seq: Sequence) -> Option<Location> {
        todo!()
    }

    /// Value of a key.
    pub fn key(&self, key: &[u8]) -> Option<Vec<u8>> {
        todo!()
    }

    /// Visits keys with this prefix, in order.
    pub fn for_each_key(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) {
        todo!()
    }

    /// Live messages of all INBOXes (an append each).
    pub fn messages(&self) -> u64 {
        todo!()
    }

    /// Use of every segment that anything points into.
    pub fn usage(&self) -> Vec<(u64, Usage)> {
        todo!()
    }

    /// Approximate bytes of memory of the overlay, and bytes of the base.
    pub fn bytes(&self) -> (u64, u64) {
        todo!()
    }
}

/// Writes a sealed index, piece by piece.
pub struct SealWriter {
    _private: (),
}

impl SealWriter {
    /// The next piece (at most about 256 KiB, made in well under a millisecond); `None`: done.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        todo!()
    }
}
