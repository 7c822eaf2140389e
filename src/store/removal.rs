//! What stays of mailboxes and accounts that were removed, and how it goes: in steps.
//!
//! The batch that removes something has a key beside it that says what is to go with it: small values
//! by the beginning of their keys, and the messages of a mailbox that has too many to go at once.
//! Such a mailbox is *condemned*: no more than its record says that it is, nobody finds it any more,
//! and the background takes its messages out, some at a time. The key goes last.
//!
//! Guarantees: whoever removed something does not see it again, whatever crash comes: the key is
//! found by the next start, which goes on.
//! Does not know: what the small values are.
//! On failure: tried again when there is something else to do.

use std::ops::ControlFlow;

use super::change::Pended;
use super::commit::Pending;
use super::disk::Disk;
use super::mutate::{SMALL_BYTES, Space};
use super::partition::Partition;
use super::record::encode;
use super::{MailboxId, StoreError, Uid};
use crate::config::SyncLevel;
use crate::mail::Address;

/// Keys that say what is to go begin with this.
const GONE_KEYS: &[u8] = b"\xffgone\0";
/// Bytes of keys removed in one batch.
const KEYS_BYTES_MAX: usize = 256 * 1024;
/// Messages that go with a mailbox at once, and in one step of those that do not.
pub(super) const MESSAGES_MAX: usize = 1024;
/// Steps between other chores of the background.
const STEPS: usize = 4;
/// Removals that one step goes on with.
const GONE_AT_ONCE: usize = 64;

/// The key of a removal, and the mailbox whose messages are to go.
type Gone = (Vec<u8>, Option<(MailboxId, Address)>);

/// A mailbox whose messages go in steps; `None`: there is nothing but keys.
fn decode_condemned(value: &[u8]) -> Option<(MailboxId, Address)> {
    let (id, address) = value.split_first_chunk::<8>()?;
    let address = Address::parse(std::str::from_utf8(address).ok()?).ok()?;
    Some((MailboxId(u64::from_be_bytes(*id)), address))
}

impl<D: Disk> Partition<D> {
    /// Adds the key to the batch that removes something: keys with this prefix go, and what is in
    /// the mailbox.
    pub(super) fn add_gone(
        &self,
        pending: &mut Pending,
        prefix: &[u8],
        condemned: Option<(MailboxId, &Address)>,
    ) {
        let mut value = Vec::new();
        if let Some((mailbox, address)) = condemned {
            value.extend_from_slice(&mailbox.0.to_be_bytes());
            value.extend_from_slice(address.as_str().as_bytes());
        }
        self.add_key(pending, [GONE_KEYS, prefix].concat(), Some(value));
    }

    /// A removal is durable: the background takes away what stays.
    pub(super) fn clear_gone(&self) {
        self.background.has_gone.set(true);
        self.chores.notify();
    }

    /// Removes some keys with this prefix; false: there are none.
    async fn drop_some(&self, prefix: &[u8]) -> Result<bool, StoreError> {
        let mut part = Vec::new();
        let mut bytes = 0;
        self.index.borrow().visit_keys(prefix, &mut |key, _| {
            bytes += SMALL_BYTES + key.len();
            part.push((key.to_vec(), None));
            match bytes {
                KEYS_BYTES_MAX.. => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        if part.is_empty() {
            return Ok(false);
        }
        self.put_all(part).await.map(|()| true)
    }

    /// Goes on with what is to go, a few steps.
    pub(super) async fn sweep_gone(&self) {
        for _ in 0..STEPS {
            if !self.background.has_gone.get() || self.closing.get() {
                return;
            }
            let mut some = Vec::new();
            self.index
                .borrow()
                .visit_keys(GONE_KEYS, &mut |key, value| {
                    some.push((key.to_vec(), decode_condemned(value)));
                    match some.len() < GONE_AT_ONCE {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                });
            if some.is_empty() {
                self.background.has_gone.set(false);
                self.background.not_swept.is_over();
                return;
            }
            if let Err(error) = self.step_gone(some).await {
                if self.background.not_swept.is_news() {
                    let dir = self.dir.display();
                    tracing::error!("{dir}: what was removed still takes space: {error}");
                }
                return;
            }
        }
        self.chores.notify();
    }

    /// One step of each; the keys of those that have come to their end go in one batch.
    async fn step_gone(&self, some: Vec<Gone>) -> Result<(), StoreError> {
        let mut done = Vec::new();
        for (key, condemned) in some {
            let has_messages = match condemned {
                Some((mailbox, address)) => self.bury_some(&address, mailbox).await?,
                None => false,
            };
            if !has_messages && !self.drop_some(&key[GONE_KEYS.len()..]).await? {
                done.push((key, None));
            }
        }
        if done.is_empty() {
            return Ok(());
        }
        self.put_all(done).await
    }

    /// Takes some messages out of a condemned mailbox, or at last itself; false: it is gone.
    async fn bury_some(&self, address: &Address, mailbox: MailboxId) -> Result<bool, StoreError> {
        let bytes = SMALL_BYTES + address.as_str().len() + MESSAGES_MAX * size_of::<Uid>();
        // Nobody waits for it, and a crash changes nothing but what is left to do.
        let level = SyncLevel::None;
        self.mutate(bytes, level, Space::Gives, |this, pending| {
            let (last, after) = this.background.buried.get();
            let first = if last == mailbox { after } else { 0 };
            let uids = this
                .index
                .borrow()
                .condemned(address, mailbox, first, MESSAGES_MAX);
            let Some(uids) = uids else {
                return Ok(false);
            };
            match uids.last() {
                Some(last) => {
                    let after = last.saturating_add(1);
                    this.background.buried.set((mailbox, after));
                    // Their space is free at once, as that of a smaller mailbox.
                    this.add_expunge(pending, address, mailbox, uids, 0);
                }
                None => {
                    let change = Pended::RemoveMailbox {
                        address: address.clone(),
                        mailbox,
                    };
                    this.add(pending, change, |out, seq| {
                        encode::remove_mailbox(out, seq, address.as_str(), mailbox);
                    });
                }
            }
            Ok(true)
        })
        .await
    }
}
