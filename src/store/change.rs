//! A change that waits for its batch, and how a record of the log becomes a change of the index.

use super::index::{Change, Index, Location};
use super::record::{NewMark, Payload, Record, Reserved};
use super::{Account, Flags, MailboxId, Sequence, StreamId, Uid, UidValidity};
use crate::mail::Address;

/// What an appended message has that one does not that was delivered.
#[derive(Debug, Clone)]
pub struct Extra {
    pub saved_ms: u64,
    pub flags: Flags,
    pub keywords: Vec<Box<str>>,
}

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
    PutMailbox {
        address: Address,
        mailbox: MailboxId,
        validity: UidValidity,
        special_use: u8,
        name: String,
    },
    RemoveMailbox {
        address: Address,
        mailbox: MailboxId,
    },
    Append {
        address: Address,
        mailbox: MailboxId,
        uid: Uid,
        body_seq: Sequence,
        bytes: u64,
        date_ms: u64,
        /// What most messages do not have.
        extra: Option<Box<Extra>>,
    },
    Flags {
        address: Address,
        mailbox: MailboxId,
        keywords: Vec<Box<str>>,
        marks: Vec<NewMark>,
    },
    Expunge {
        address: Address,
        mailbox: MailboxId,
        uids: Vec<Uid>,
        now_ms: u64,
    },
    Reserve {
        address: Address,
        mailbox: MailboxId,
        reserved: Reserved,
    },
    Cache {
        body_seq: Sequence,
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
            | Pended::PutMailbox { address, .. }
            | Pended::RemoveMailbox { address, .. }
            | Pended::Append { address, .. }
            | Pended::Flags { address, .. }
            | Pended::Expunge { address, .. }
            | Pended::Reserve { address, .. } => Some(address),
            _ => None,
        }
    }

    /// The mailbox that it concerns, of that account.
    pub fn mailbox(&self) -> Option<MailboxId> {
        match self {
            Pended::PutMailbox { mailbox, .. }
            | Pended::RemoveMailbox { mailbox, .. }
            | Pended::Append { mailbox, .. }
            | Pended::Flags { mailbox, .. }
            | Pended::Expunge { mailbox, .. }
            | Pended::Reserve { mailbox, .. } => Some(*mailbox),
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
            Pended::PutMailbox {
                address,
                mailbox,
                validity,
                special_use,
                name,
            } => Change::PutMailbox {
                address,
                mailbox: *mailbox,
                validity: *validity,
                special_use: *special_use,
                name,
            },
            Pended::RemoveMailbox { address, mailbox } => Change::RemoveMailbox {
                address,
                mailbox: *mailbox,
            },
            Pended::Append {
                address,
                mailbox,
                uid,
                body_seq,
                bytes,
                date_ms,
                extra,
            } => {
                let words;
                let (saved_ms, flags, keywords) = match extra {
                    None => (*date_ms, Flags::NONE, &[][..]),
                    Some(extra) => {
                        words = texts(&extra.keywords);
                        (extra.saved_ms, extra.flags, &words[..])
                    }
                };
                let change = Change::Append {
                    address,
                    mailbox: *mailbox,
                    uid: *uid,
                    body_seq: *body_seq,
                    bytes: *bytes,
                    date_ms: *date_ms,
                    saved_ms,
                    flags,
                    keywords,
                };
                index.apply(seq, at, change);
                return;
            }
            Pended::Flags {
                address,
                mailbox,
                keywords,
                marks,
            } => {
                let change = Change::Flags {
                    address,
                    mailbox: *mailbox,
                    keywords: &texts(keywords),
                    marks,
                };
                index.apply(seq, at, change);
                return;
            }
            Pended::Expunge {
                address,
                mailbox,
                uids,
                now_ms,
            } => Change::Expunge {
                address,
                mailbox: *mailbox,
                uids,
                now_ms: *now_ms,
            },
            Pended::Reserve {
                address,
                mailbox,
                reserved,
            } => Change::Reserve {
                address,
                mailbox: *mailbox,
                reserved: *reserved,
            },
            Pended::Cache { body_seq } => Change::Cache {
                body_seq: *body_seq,
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

fn texts(texts: &[Box<str>]) -> Vec<&str> {
    texts.iter().map(|text| &**text).collect()
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
        Payload::PutMailbox {
            mailbox,
            validity,
            special_use,
            address,
            name,
        } => visit(Change::PutMailbox {
            address: &parse(address)?,
            mailbox,
            validity,
            special_use,
            name,
        }),
        Payload::RemoveMailbox { mailbox, address } => visit(Change::RemoveMailbox {
            address: &parse(address)?,
            mailbox,
        }),
        Payload::Append {
            mailbox,
            uid,
            body_seq,
            bytes,
            date_ms,
            saved_ms,
            flags,
            keywords,
            address,
        } => visit(Change::Append {
            address: &parse(address)?,
            mailbox,
            uid,
            body_seq,
            bytes,
            date_ms,
            saved_ms,
            flags,
            keywords: &keywords.iter().collect::<Vec<&str>>(),
        }),
        Payload::Flags {
            mailbox,
            address,
            keywords,
            marks,
        } => visit(Change::Flags {
            address: &parse(address)?,
            mailbox,
            keywords: &keywords.iter().collect::<Vec<&str>>(),
            marks: &marks.iter().collect::<Vec<NewMark>>(),
        }),
        Payload::Expunge {
            mailbox,
            now_ms,
            address,
            uids,
        } => visit(Change::Expunge {
            address: &parse(address)?,
            mailbox,
            uids: &uids.iter().collect::<Vec<Uid>>(),
            now_ms,
        }),
        Payload::Reserve {
            mailbox,
            reserved,
            address,
        } => visit(Change::Reserve {
            address: &parse(address)?,
            mailbox,
            reserved,
        }),
        Payload::Cache { body_seq, .. } => visit(Change::Cache { body_seq }),
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
