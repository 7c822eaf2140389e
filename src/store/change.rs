//! A change that waits for its batch, and how a record of the log becomes a change of the index.

use rustc_hash::FxHashMap;

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
        /// Chunks that it names: applied with it, as nothing needs them before.
        chunks: Vec<(Sequence, Location)>,
        /// The stream that ends with it.
        stream: Option<StreamId>,
    },
    /// A chunk: its stream wants to know where it has come to lie.
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

    /// Applies it; chunks and moved records are the caller's.
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
            Pended::Body { chunks, .. } => {
                let named: Vec<Sequence> = chunks.iter().map(|(chunk, _)| *chunk).collect();
                for (chunk, location) in chunks {
                    apply_body(index, *chunk, *location, &[]);
                }
                return apply_body(index, seq, at, &named);
            }
            Pended::Chunk { .. } | Pended::Moved | Pended::End => return,
        };
        index.apply(seq, at, change);
    }
}

fn apply_body(index: &mut Index, body_seq: Sequence, location: Location, chunks: &[Sequence]) {
    let change = Change::Body {
        body_seq,
        location,
        chunks,
    };
    index.apply(body_seq, location, change);
}

/// Chunks that were read but not named yet.
pub type Chunks = FxHashMap<Sequence, Location>;

/// Applies a record of the log. Chunks wait in `chunks` until a body names them.
///
/// # Errors
/// The record is sound, but an address in it is none.
pub fn apply_record(
    index: &mut Index,
    record: &Record<'_>,
    at: Location,
    chunks: &mut Chunks,
) -> Result<(), String> {
    let parse = |text: &str| {
        Address::parse(text).map_err(|error| format!("record {}: {text:?}: {error}", record.seq))
    };
    let seq = record.seq;
    match record.payload {
        Payload::PutAccount {
            validity,
            quota_bytes,
            address,
            password_hash,
        } => {
            let account = Account {
                address: parse(address)?,
                password_hash: password_hash.to_owned(),
                quota_bytes,
            };
            let account = &account;
            index.apply(seq, at, Change::PutAccount { account, validity });
        }
        Payload::RemoveAccount { address } => {
            let address = &parse(address)?;
            index.apply(seq, at, Change::RemoveAccount { address });
        }
        Payload::Append {
            uid,
            body_seq,
            bytes,
            date_ms,
            address,
        } => {
            let change = Change::Append {
                address: &parse(address)?,
                uid,
                body_seq,
                bytes,
                date_ms,
            };
            index.apply(seq, at, change);
        }
        Payload::Expunge {
            now_ms,
            address,
            uids,
        } => {
            let change = Change::Expunge {
                address: &parse(address)?,
                uids: &uids.iter().collect::<Vec<Uid>>(),
                now_ms,
            };
            index.apply(seq, at, change);
        }
        Payload::Reserve {
            uid_next,
            validity,
            address,
        } => {
            let change = Change::Reserve {
                address: &parse(address)?,
                uid_next,
                validity,
            };
            index.apply(seq, at, change);
        }
        Payload::Key { key, value } => index.apply(seq, at, Change::Key { key, value }),
        Payload::Body(body) if body.is_chunk && !record.moved => {
            chunks.insert(seq, at);
        }
        Payload::Body(body) => {
            let named: Vec<Sequence> = body.chunks().map(|(chunk, _)| chunk).collect();
            for chunk in &named {
                if let Some(location) = chunks.remove(chunk) {
                    apply_body(index, *chunk, location, &[]);
                }
            }
            apply_body(index, seq, at, &named);
        }
        Payload::End => {}
    }
    Ok(())
}
