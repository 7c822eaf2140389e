//! A change that waits for its batch, and how a record of the log becomes a change of the index.

use super::index::{Change, Index, Location};
use super::record::{Payload, Record};
use super::{Account, Sequence, StreamId, Uid, UidValidity};
use crate::mail::Address;

/// A change as it waits in memory, with what it needs to be applied once it is durable.
#[derive(Debug)]
pub enum Pended {
    PutAccount {
        account: Account,
        validity: UidValidity,
    },
    RemoveAccount {
        address: Address,
    },
    Append {
        address: Address,
        uid: Uid,
        body_seq: Sequence,
        bytes: u64,
        date_ms: u64,
    },
    Expunge {
        address: Address,
        uids: Vec<Uid>,
        now_ms: u64,
    },
    Reserve {
        address: Address,
        uid_next: Uid,
        validity: UidValidity,
    },
    Key {
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    },
    Body {
        /// Chunks that it names.
        chunks: Vec<Sequence>,
        /// The stream that ends with it.
        stream: Option<StreamId>,
    },
    /// A chunk of this stream.
    Chunk {
        stream: StreamId,
    },
    /// A copy that compaction made, to be read back from the batch.
    Moved,
    /// The clean mark.
    End,
}

impl Pended {
    /// The account it concerns.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Pended::PutAccount { account, .. } => Some(&account.address),
            Pended::RemoveAccount { address }
            | Pended::Append { address, .. }
            | Pended::Expunge { address, .. }
            | Pended::Reserve { address, .. } => Some(address),
            _ => None,
        }
    }

    /// Applies it; moved records are the caller's.
    pub fn apply(&self, index: &mut Index, seq: Sequence, at: Location) {
        let change = match self {
            Pended::PutAccount { account, validity } => Change::PutAccount {
                account,
                validity: *validity,
            },
            Pended::RemoveAccount { address } => Change::RemoveAccount { address },
            Pended::Append {
                address,
                uid,
                body_seq,
                bytes,
                date_ms,
            } => Change::Append {
                address,
                uid: *uid,
                body_seq: *body_seq,
                bytes: *bytes,
                date_ms: *date_ms,
            },
            Pended::Expunge {
                address,
                uids,
                now_ms,
            } => Change::Expunge {
                address,
                uids,
                now_ms: *now_ms,
            },
            Pended::Reserve {
                address,
                uid_next,
                validity,
            } => Change::Reserve {
                address,
                uid_next: *uid_next,
                validity: *validity,
            },
            Pended::Key { key, value } => Change::Key {
                key,
                value: value.as_deref(),
            },
            Pended::Body { chunks, .. } => Change::Body {
                body_seq: seq,
                location: at,
                chunks,
            },
            Pended::Chunk { .. } => Change::Body {
                body_seq: seq,
                location: at,
                chunks: &[],
            },
            Pended::Moved | Pended::End => return,
        };
        index.apply(seq, at, change);
    }
}

/// Calls `visit` with the change that a record of the log says; not for [`Payload::End`].
///
/// # Errors
/// The record is sound, but an address in it is none.
pub fn with_change<T>(
    record: &Record<'_>,
    at: Location,
    visit: impl FnOnce(Change<'_>) -> T,
) -> Result<Option<T>, String> {
    let parse = |text: &str| {
        Address::parse(text).map_err(|error| format!("record {}: {text:?}: {error}", record.seq))
    };
    let value = match record.payload {
        Payload::PutAccount {
            validity,
            quota_bytes,
            address,
            password_hash,
        } => {
            let account = &Account {
                address: parse(address)?,
                password_hash: password_hash.to_owned(),
                quota_bytes,
            };
            visit(Change::PutAccount { account, validity })
        }
        Payload::RemoveAccount { address } => visit(Change::RemoveAccount {
            address: &parse(address)?,
        }),
        Payload::Append {
            uid,
            body_seq,
            bytes,
            date_ms,
            address,
        } => visit(Change::Append {
            address: &parse(address)?,
            uid,
            body_seq,
            bytes,
            date_ms,
        }),
        Payload::Expunge {
            now_ms,
            address,
            uids,
        } => visit(Change::Expunge {
            address: &parse(address)?,
            uids: &uids.iter().collect::<Vec<Uid>>(),
            now_ms,
        }),
        Payload::Reserve {
            uid_next,
            validity,
            address,
        } => visit(Change::Reserve {
            address: &parse(address)?,
            uid_next,
            validity,
        }),
        Payload::Key { key, value } => visit(Change::Key { key, value }),
        Payload::Body(body) => visit(Change::Body {
            body_seq: record.seq,
            location: at,
            chunks: &body.chunks().map(|(chunk, _)| chunk).collect::<Vec<_>>(),
        }),
        Payload::End => return Ok(None),
    };
    Ok(Some(value))
}

/// Applies a record of the log.
///
/// # Errors
/// As [`with_change`].
pub fn apply_record(index: &mut Index, record: &Record<'_>, at: Location) -> Result<(), String> {
    with_change(record, at, |change| index.apply(record.seq, at, change)).map(drop)
}
