//! What stays of mailboxes and accounts that were removed, and how it goes: in steps.
//!
//! The batch that removes something has a key beside it that says what is to go with it: small values
//! by the beginning of their keys, and the messages of a mailbox or account that has too many to go at
//! once. Such a one is *condemned*: no more than its record says that it is, nobody finds it any more,
//! and the background takes its messages out, some at a time. The key goes last. An account is not made
//! again before the one that had its address has gone to its end.
//!
//! Guarantees: whoever removed something does not see it again, whatever crash comes: the key is
//! found by the next start, which goes on.
//! Does not know: what the small values are.
//! On failure: tried again when there is something else to do.

use std::ops::ControlFlow;

use super::change::Pended;
use super::commit::Pending;
use super::disk::Disk;
use super::index::CONDEMNED_QUOTA;
use super::mailboxes::NO_MAILBOX;
use super::mutate::{SMALL_BYTES, Space};
use super::partition::Partition;
use super::record::encode;
use super::{Account, MailboxId, StoreError, Uid};
use crate::config::SyncLevel;
use crate::mail::Address;

/// Keys that say what is to go begin with this.
const GONE_KEYS: &[u8] = b"\xffgone\0";
/// Bytes of keys removed in one batch.
const KEYS_BYTES_MAX: usize = 256 * 1024;
/// Messages that go with a mailbox or account at once, and in one step of those that do not.
pub(super) const MESSAGES_MAX: usize = 1024;
/// Steps between other chores of the background.
const STEPS: usize = 4;
/// Removals that one step goes on with.
const GONE_AT_ONCE: usize = 64;

/// The key of a removal, and that of which messages are to go.
type Gone = (Vec<u8>, Option<Condemned>);

/// Whose messages go in steps.
pub(super) enum Condemned {
    /// This mailbox of an account.
    Mailbox(MailboxId, Address),
    /// All of them.
    Account(Address),
}

impl Condemned {
    fn encode(&self) -> Vec<u8> {
        let (mailbox, address) = match self {
            Condemned::Mailbox(mailbox, address) => (mailbox.0, address),
            Condemned::Account(address) => (NO_MAILBOX, address),
        };
        let mut value = mailbox.to_be_bytes().to_vec();
        value.extend_from_slice(address.as_str().as_bytes());
        value
    }

    /// `None`: there is nothing but keys.
    fn decode(value: &[u8]) -> Option<Condemned> {
        let (id, address) = value.split_first_chunk::<8>()?;
        let address = Address::parse(std::str::from_utf8(address).ok()?).ok()?;
        Some(match u64::from_be_bytes(*id) {
            NO_MAILBOX => Condemned::Account(address),
            id => Condemned::Mailbox(MailboxId(id), address),
        })
    }
}

impl<D: Disk> Partition<D> {
    /// Adds the key to the batch that removes something: keys with this prefix go, and what is
    /// condemned.
    pub(super) fn add_gone(
        &self,
        pending: &mut Pending,
        prefix: &[u8],
        condemned: Option<Condemned>,
    ) {
        let value = condemned.map_or_else(Vec::new, |condemned| condemned.encode());
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
                    some.push((key.to_vec(), Condemned::decode(value)));
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
                Some(Condemned::Mailbox(mailbox, address)) => {
                    self.bury_some(&address, mailbox).await?
                }
                Some(Condemned::Account(address)) => self.bury_some_of(&address).await?,
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

    /// Adds the record that condemns an account.
    pub(super) fn condemn_account(
        &self,
        pending: &mut Pending,
        address: &Address,
    ) -> Result<(), StoreError> {
        let validity = self.index.borrow().account_validity(address);
        let validity = validity.ok_or(StoreError::Missing)?;
        let account = Account {
            address: address.clone(),
            password_hash: String::new(),
            quota_bytes: CONDEMNED_QUOTA,
        };
        let change = Pended::PutAccount {
            account: account.clone(),
            validity,
        };
        let seq = self.add(pending, change, |out, seq| {
            encode::put_account(out, seq, validity, &account);
        });
        if let Some(waiting) = self.accounts.borrow_mut().get_mut(address) {
            waiting.condemn(seq);
        }
        Ok(())
    }

    /// Goes on until nothing is left of a condemned account of this address.
    pub(super) async fn bury_account(&self, address: &Address) -> Result<(), StoreError> {
        while self.index.borrow().is_condemned(address) {
            self.bury_some_of(address).await?;
        }
        Ok(())
    }

    /// Takes some messages out of a condemned account, or at last itself; false: it is gone.
    async fn bury_some_of(&self, address: &Address) -> Result<bool, StoreError> {
        let bytes = SMALL_BYTES + address.as_str().len() + MESSAGES_MAX * size_of::<Uid>();
        let level = SyncLevel::None;
        self.mutate(bytes, level, Space::Gives, |this, pending| {
            let index = this.index.borrow();
            if !index.is_condemned(address) {
                return Ok(false);
            }
            let mut buried = this.background.buried_of.borrow_mut();
            let first = match &*buried {
                Some((of, mailbox, uid)) if of == address => (*mailbox, *uid),
                _ => (MailboxId::INBOX, 0),
            };
            let some = index.condemned_in_account(address, first, MESSAGES_MAX);
            drop(index);
            match some {
                Some((mailbox, uids)) => {
                    let after = uids.last().map_or(0, |last| last.saturating_add(1));
                    *buried = Some((address.clone(), mailbox, after));
                    this.add_expunge(pending, address, mailbox, uids, 0);
                }
                None => {
                    // Another account of this address begins anew.
                    *buried = None;
                    this.add_account_end(pending, address);
                }
            }
            Ok(true)
        })
        .await
    }
}
