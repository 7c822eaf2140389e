//! The durable queue: local mail that cannot be delivered now.
//!
//! A queue is a partition of its own with one account. A waiting message stands in its INBOX, and
//! what is to be done with it (sender, recipients, attempts) under a key named by its UID.
//!
//! | state of an entry | what a crash leaves | what the next start does |
//! |---|---|---|
//! | message appended, no key | a message nobody was promised | removes it |
//! | message and key | a waiting entry | tries again when it is due |
//! | some recipients delivered, key not yet rewritten | the key names them still | delivers again under the same `once` mark, which the partition recognises |
//! | all delivered, key removed | a message without key | removes it |
//!
//! There is one queue, at shard 0, though its directory has a number and the code asks nowhere which
//! shard it is on. What waits here is rare (mail that some partitions took and others could not),
//! and a queue of its own for every shard would cost each 9 MiB of disk and a log to recover, and
//! would have to be emptied by another where the next start has fewer processors. Above all STORE
//! does not say how many queues there are: of a lost `q001` nobody could tell that it had ever been
//! there. Mail for elsewhere, which will use it all the time, has to bring that number along.
//!
//! Guarantees: [`Queue::add`] returns when the entry is durable. Nothing is delivered twice, and
//! nothing leaves the queue before it is durable elsewhere. Does not know: shards, partitions
//! other than its own, the clock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::mail::{Address, ReversePath};
use crate::store::disk::Disk;
use crate::store::{Account, Delivery, Partition, StoreError, Uid};

/// First pause after a failed attempt; it doubles up to [`BACKOFF_MS_MAX`].
const BACKOFF_MS: u64 = 60_000;
/// Longest pause between two attempts.
const BACKOFF_MS_MAX: u64 = 30 * 60_000;
/// Age at which an entry is given to the postmaster instead (RFC 5321 §4.5.4.1: 4 to 5 days).
pub const AGE_MS_MAX: u64 = 5 * 24 * 3_600_000;
/// Entries of one queue; beyond it the client is told to try again.
pub const ENTRIES_MAX: usize = 100_000;
/// Keys of entries start so.
const KEY_PREFIX: &[u8] = b"queue/";
/// Version of the encoded entry.
const FORMAT: &str = "1";

/// What is to be done with a waiting message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Queue id, as in the `Received` header and the log.
    pub id: String,
    /// Who sent it.
    pub reverse_path: ReversePath,
    /// Accounts that have not got it yet.
    pub recipients: Vec<Address>,
    /// Milliseconds since 1970: when it was queued.
    pub queued_ms: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// Milliseconds since 1970: not before.
    pub next_attempt_ms: u64,
}

/// Where the bytes of a message to be queued are.
#[derive(Debug)]
pub enum Content {
    /// Here: header and body.
    Inline(Vec<u8>),
    /// In a mailbox that has got it already.
    Stored {
        /// Partition of the account.
        partition: u16,
        /// The account.
        address: Address,
        /// The message.
        uid: Uid,
    },
}

impl Entry {
    /// When to try again after one more failure.
    pub fn postpone(&mut self, now_ms: u64) {
        let pause = BACKOFF_MS << self.attempts.min(10);
        self.attempts += 1;
        self.next_attempt_ms = now_ms + pause.min(BACKOFF_MS_MAX);
    }

    /// It has waited too long.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.queued_ms) >= AGE_MS_MAX
    }

    /// The mark under which a partition recognises a delivery it has made already.
    pub fn once_mark(&self, recipient: &Address) -> Vec<u8> {
        format!("once/{}/{recipient}", self.id).into_bytes()
    }

    fn encode(&self) -> Vec<u8> {
        let sender = match &self.reverse_path {
            ReversePath::Null => "",
            ReversePath::Address(address) => address.as_str(),
        };
        let mut text = format!(
            "{FORMAT}\n{}\n{sender}\n{}\n{}\n{}",
            self.id, self.queued_ms, self.attempts, self.next_attempt_ms
        );
        for recipient in &self.recipients {
            text.push('\n');
            text.push_str(recipient.as_str());
        }
        text.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Entry> {
        let mut lines = std::str::from_utf8(bytes).ok()?.split('\n');
        if lines.next()? != FORMAT {
            return None;
        }
        let id = lines.next()?.to_owned();
        let reverse_path = match lines.next()? {
            "" => ReversePath::Null,
            sender => ReversePath::Address(Address::parse(sender).ok()?),
        };
        let queued_ms = lines.next()?.parse().ok()?;
        let attempts = lines.next()?.parse().ok()?;
        let next_attempt_ms = lines.next()?.parse().ok()?;
        let recipients = lines
            .map(|line| Address::parse(line).ok())
            .collect::<Option<Vec<_>>>()?;
        Some(Entry {
            id,
            reverse_path,
            recipients,
            queued_ms,
            attempts,
            next_attempt_ms,
        })
    }
}

/// The queue, on the shard that owns it.
pub struct Queue<D: Disk> {
    partition: Rc<Partition<D>>,
    account: Address,
    /// Waiting entries, by UID.
    entries: RefCell<BTreeMap<Uid, Entry>>,
}

impl<D: Disk> Queue<D> {
    /// Takes over an opened partition: makes its account where it is new, removes what a crash has
    /// left unpromised, and lists what waits.
    ///
    /// # Errors
    /// What the partition says.
    pub async fn open(partition: Rc<Partition<D>>, now_ms: u64) -> Result<Queue<D>, StoreError> {
        let account = Address::parse("queue@queue.invalid").map_err(|_| StoreError::Missing)?;
        if partition.account(&account).is_none() {
            partition
                .create_account(Account {
                    address: account.clone(),
                    password_hash: String::new(),
                    quota_bytes: 0,
                })
                .await?;
        }
        let mut entries = BTreeMap::new();
        let mut unreadable = 0;
        partition.for_each_key(KEY_PREFIX, |key, value| {
            let uid = std::str::from_utf8(&key[KEY_PREFIX.len()..])
                .ok()
                .and_then(|text| text.parse::<Uid>().ok());
            match (uid, Entry::decode(value)) {
                (Some(uid), Some(entry)) => {
                    entries.insert(uid, entry);
                }
                _ => unreadable += 1,
            }
        });
        if unreadable > 0 {
            // Kept as they are: a newer version may have written them.
            tracing::error!("{unreadable} queue entries cannot be read and are left alone");
        } else {
            let (_, messages) = partition.inbox(&account)?;
            let orphans: Vec<Uid> = messages
                .iter()
                .map(|message| message.uid)
                .filter(|uid| !entries.contains_key(uid))
                .collect();
            if !orphans.is_empty() {
                partition.expunge(&account, &orphans, now_ms).await?;
            }
        }
        Ok(Queue {
            partition,
            account,
            entries: RefCell::new(entries),
        })
    }

    /// The partition under the queue.
    pub fn partition(&self) -> &Rc<Partition<D>> {
        &self.partition
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// When the oldest entry was queued, milliseconds since 1970.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.entries.borrow().values().map(|e| e.queued_ms).min()
    }

    /// Adds an entry with its message; returns when both are durable.
    ///
    /// # Errors
    /// `Full` also when the queue is at its bound.
    pub async fn add(&self, entry: Entry, message: Vec<u8>) -> Result<(), StoreError> {
        if self.len() >= ENTRIES_MAX {
            return Err(StoreError::Full);
        }
        let results = self
            .partition
            .deliver(Delivery {
                trace: Vec::new(),
                body: message,
                stream: None,
                recipients: vec![self.account.clone()],
                now_ms: entry.queued_ms,
                once: None,
            })
            .await?;
        let uid = results.into_iter().next().ok_or(StoreError::Missing)??;
        self.partition
            .put(key_of(uid), Some(entry.encode()))
            .await?;
        self.entries.borrow_mut().insert(uid, entry);
        Ok(())
    }

    /// Entries that are due, oldest first, at most `max`.
    pub fn due(&self, now_ms: u64, max: usize) -> Vec<(Uid, Entry)> {
        self.entries
            .borrow()
            .iter()
            .filter(|(_, entry)| entry.next_attempt_ms <= now_ms)
            .take(max)
            .map(|(uid, entry)| (*uid, entry.clone()))
            .collect()
    }

    /// The whole message of an entry.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Read`.
    pub async fn message(&self, uid: Uid) -> Result<Vec<u8>, StoreError> {
        self.partition.read(&self.account, uid, 0, usize::MAX).await
    }

    /// Writes back what is left to do for an entry; nothing left: removes it.
    ///
    /// # Errors
    /// What the partition says; the entry then stays as it was.
    pub async fn update(&self, uid: Uid, entry: Entry, now_ms: u64) -> Result<(), StoreError> {
        if !entry.recipients.is_empty() {
            self.partition
                .put(key_of(uid), Some(entry.encode()))
                .await?;
            self.entries.borrow_mut().insert(uid, entry);
            return Ok(());
        }
        self.partition.put(key_of(uid), None).await?;
        self.entries.borrow_mut().remove(&uid);
        self.partition.expunge(&self.account, &[uid], now_ms).await
    }
}

fn key_of(uid: Uid) -> Vec<u8> {
    let mut key = KEY_PREFIX.to_vec();
    key.extend_from_slice(uid.to_string().as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            id: "ABC".to_owned(),
            reverse_path: ReversePath::Null,
            recipients: vec![
                Address::parse("a@example.org").unwrap(),
                Address::parse("b@example.org").unwrap(),
            ],
            queued_ms: 5,
            attempts: 2,
            next_attempt_ms: 7,
        }
    }

    #[test]
    fn an_entry_survives_its_encoding() {
        let mut entry = entry();
        assert_eq!(Entry::decode(&entry.encode()), Some(entry.clone()));
        entry.reverse_path = ReversePath::Address(Address::parse("c@example.org").unwrap());
        assert_eq!(Entry::decode(&entry.encode()), Some(entry));
    }

    #[test]
    fn damaged_entries_are_refused() {
        let bytes = entry().encode();
        assert_eq!(Entry::decode(b"2\nx"), None);
        assert_eq!(Entry::decode(&bytes[..bytes.len() / 3]), None);
        assert_eq!(Entry::decode(&[0xff, 0xfe]), None);
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let mut entry = entry();
        entry.attempts = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            entry.postpone(0);
            pauses.push(entry.next_attempt_ms / 60_000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert!(!entry.is_expired(AGE_MS_MAX));
        assert!(entry.is_expired(AGE_MS_MAX + 5));
    }
}
