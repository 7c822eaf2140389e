//! Mailboxes of an account: what is asked of them, and how they are made, renamed and removed.
//!
//! Guarantees: names of an account's mailboxes differ; a rename takes all that is below the name
//! along, in one batch. One of these changes is under way at a time, so that each sees what the
//! ones before it have made.
//! Does not know: who may do what; which names a client may choose.
//!
//! Small values kept with an account or mailbox (subscriptions, access lists, annotations) are keys
//! of the partition. Their names begin with the account's address and UIDVALIDITY, and the
//! mailbox's number: they belong to no other one, whatever is made later under those names.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;

use super::change::Pended;
use super::commit::Pending;
use super::disk::Disk;
use super::index::CONDEMNED;
use super::mutate::{SMALL_BYTES, Space};
use super::partition::Partition;
use super::record::encode;
use super::removal::{self, Condemned};
use super::{
    INBOX_NAME, MailboxId, MailboxInfo, MessageInfo, NameError, SEPARATOR, Sequence, SpecialUse,
    StoreError, Uid, UidRun, UidValidity, View, canonical_name,
};
use crate::limits::{ACCOUNT_VALUE_BYTES_MAX, MAILBOX_NAME_BYTES_MAX, MAILBOXES_MAX};
use crate::mail::Address;

/// Every key of an account begins with this.
const ACCOUNT_KEYS: &[u8] = b"\xffaccount\0";
/// Stands for a mailbox in keys of the account itself.
pub(super) const NO_MAILBOX: u64 = u64::MAX;
const SUBSCRIBED: &[u8] = b"subscribed\0";
pub(super) const OF_OWNER: &[u8] = b"value\0";

/// What the key of a small value says.
pub(super) struct AccountKey<'a> {
    /// Canonical.
    pub address: &'a str,
    /// Whose value it is; `None`: the account's.
    pub mailbox: Option<MailboxId>,
    /// A name that is subscribed to.
    pub subscribed: Option<&'a [u8]>,
    /// The key that [`Partition::put_value`] was given.
    pub value: Option<&'a [u8]>,
    /// What [`super::sharing`] keeps there.
    pub sharing: Option<super::sharing::Kind>,
}

/// Takes the key of a small value apart; `None`: it is another key.
pub(super) fn read_account_key(key: &[u8]) -> Option<AccountKey<'_>> {
    let rest = key.strip_prefix(ACCOUNT_KEYS)?;
    let end = memchr::memchr(0, rest)?;
    let (address, rest) = (&rest[..end], &rest[end + 1..]);
    let (_validity, rest) = rest.split_first_chunk::<4>()?;
    let (mailbox, rest) = rest.split_first_chunk::<8>()?;
    let mailbox = u64::from_be_bytes(*mailbox);
    Some(AccountKey {
        address: std::str::from_utf8(address).ok()?,
        mailbox: (mailbox != NO_MAILBOX).then_some(MailboxId(mailbox)),
        subscribed: rest.strip_prefix(SUBSCRIBED),
        value: rest.strip_prefix(OF_OWNER),
        sharing: super::sharing::Kind::of(rest),
    })
}

impl<D: Disk> Partition<D> {
    // What is asked.

    /// All mailboxes of an account, INBOX first, the others in the order in which they were made.
    ///
    /// # Errors
    /// `Missing`: no such account.
    pub fn mailboxes(&self, address: &Address) -> Result<Vec<MailboxInfo>, StoreError> {
        let index = self.index.borrow();
        let names = index.names(address);
        if names.is_empty() {
            return Err(StoreError::Missing);
        }
        let infos = names.into_iter();
        Ok(infos
            .filter_map(|(id, name)| index.mailbox_info(address, id, name.as_ref().into()))
            .collect())
    }

    /// A mailbox by its name, which need not be canonical.
    ///
    /// # Errors
    /// `Missing`.
    pub fn mailbox(&self, address: &Address, name: &str) -> Result<MailboxInfo, StoreError> {
        let name = canonical_name(name).map_err(|_| StoreError::Missing)?;
        let index = self.index.borrow();
        let id = index.find_mailbox(address, &name);
        id.and_then(|id| index.mailbox_info(address, id, name))
            .ok_or(StoreError::Missing)
    }

    /// A mailbox by its number.
    ///
    /// # Errors
    /// `Missing`.
    pub fn mailbox_info(
        &self,
        address: &Address,
        mailbox: MailboxId,
    ) -> Result<MailboxInfo, StoreError> {
        let index = self.index.borrow();
        let name = index.name(address, mailbox).ok_or(StoreError::Missing)?;
        let info = index.mailbox_info(address, mailbox, name.as_ref().into());
        info.ok_or(StoreError::Missing)
    }

    /// What a session needs of a mailbox that it selects, all of one moment.
    ///
    /// # Errors
    /// `Missing`.
    pub fn view(&self, address: &Address, mailbox: MailboxId) -> Result<View, StoreError> {
        let info = self.mailbox_info(address, mailbox)?;
        let index = self.index.borrow();
        let keywords = index.keywords(address, mailbox);
        Ok(View {
            info,
            keywords: keywords.into_iter().map(String::from).collect(),
            runs: index.runs(address, mailbox),
        })
    }

    /// Names of a mailbox's keywords by bits, as in a view, if there are more than `known`; `None`: there
    /// are not, or there is no such mailbox. What is known stays as it is, and costs nothing here.
    pub fn keywords_above(
        &self,
        address: &Address,
        mailbox: MailboxId,
        known: usize,
    ) -> Option<Vec<String>> {
        let index = self.index.borrow();
        if index.keyword_count(address, mailbox) <= known {
            return None;
        }
        let keywords = index.keywords(address, mailbox);
        Some(keywords.into_iter().map(String::from).collect())
    }

    /// Visits messages with UIDs from `first` to `last`, ascending, until `visit` says that it is
    /// enough. `visit` must not call back into the partition.
    ///
    /// # Errors
    /// `Missing`: no such mailbox.
    pub fn for_each_message(
        &self,
        address: &Address,
        mailbox: MailboxId,
        (first, last): (Uid, Uid),
        mut visit: impl FnMut(&MessageInfo) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let index = self.index.borrow();
        if !index.has_mailbox(address, mailbox) {
            return Err(StoreError::Missing);
        }
        index.visit(address, mailbox, (first, last), &mut visit);
        Ok(())
    }

    /// One message.
    ///
    /// # Errors
    /// `Missing`.
    pub fn message(
        &self,
        address: &Address,
        mailbox: MailboxId,
        uid: Uid,
    ) -> Result<MessageInfo, StoreError> {
        let found = self.index.borrow().find(address, mailbox, uid);
        Ok(found.ok_or(StoreError::Missing)?.info)
    }

    /// Messages that came or whose flags were changed after `modseq`, by ascending UID; `None`: there
    /// may be more than `count_max`. The cost follows what has changed. After a start that found
    /// acknowledged bytes damaged, all messages for a MODSEQ of before.
    ///
    /// # Errors
    /// `Missing`.
    pub fn changed_since(
        &self,
        address: &Address,
        mailbox: MailboxId,
        modseq: Sequence,
        count_max: usize,
    ) -> Result<Option<Vec<MessageInfo>>, StoreError> {
        let index = self.index.borrow();
        let changed = index.changed_since(address, mailbox, modseq, count_max);
        changed.ok_or(StoreError::Missing)
    }

    /// UIDs that were expunged after `modseq`, ascending; with them may be some that were gone
    /// before. Where that is not remembered any more
    /// ([`crate::limits::VANISHED_RANGES_MAX`]), every UID below UIDNEXT that is not there.
    ///
    /// # Errors
    /// `Missing`.
    pub fn vanished_since(
        &self,
        address: &Address,
        mailbox: MailboxId,
        modseq: Sequence,
    ) -> Result<Vec<UidRun>, StoreError> {
        let vanished = self.index.borrow().vanished_since(address, mailbox, modseq);
        vanished.ok_or(StoreError::Missing)
    }

    // What is changed.

    /// Puts a new mailbox into the batch.
    pub(super) fn add_mailbox(
        &self,
        pending: &mut Pending,
        address: &Address,
        name: String,
        special_use: Option<SpecialUse>,
    ) -> MailboxId {
        // The number of the record that comes next: numbers of records never repeat.
        let validity = self.begin_validity();
        let mailbox = MailboxId(self.seq_next.get());
        let special_use = special_use.map_or(0, |special_use| special_use as u8);
        self.put_mailbox(pending, address, mailbox, (validity, special_use, name));
        mailbox
    }

    fn put_mailbox(
        &self,
        pending: &mut Pending,
        address: &Address,
        mailbox: MailboxId,
        (validity, special_use, name): (UidValidity, u8, String),
    ) -> Sequence {
        let change = Pended::PutMailbox {
            address: address.clone(),
            mailbox,
            validity,
            special_use,
            name: name.clone(),
        };
        self.add(pending, change, |out, seq| {
            let what = (validity, special_use, name.as_str());
            encode::put_mailbox(out, seq, address.as_str(), mailbox, what);
        })
    }

    /// Makes a mailbox; those above it in its name are not made with it.
    ///
    /// # Errors
    /// `Name`, `Exists`, `Missing` (the account), `TooMany` mailboxes, or what the disk says.
    pub async fn create_mailbox(
        &self,
        address: &Address,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> Result<MailboxInfo, StoreError> {
        let name = canonical_name(name)?;
        let _turn = self.account_changes.hold().await;
        // Whether that was written is seen by what is there then.
        let _ = self.settle().await;
        let bytes = SMALL_BYTES + address.as_str().len() + name.len();
        let level = self.settings.sync.database;
        let mailbox = self.mutate(bytes, level, Space::Takes, |this, pending| {
            if !this.keeps(address, MailboxId::INBOX) {
                return Err(StoreError::Missing);
            }
            if this.index.borrow().find_mailbox(address, &name).is_some() {
                return Err(StoreError::Exists);
            }
            if this.index.borrow().count_names(address) >= MAILBOXES_MAX {
                return Err(StoreError::TooMany("mailboxes"));
            }
            Ok(this.add_mailbox(pending, address, name, special_use))
        });
        self.mailbox_info(address, mailbox.await?)
    }

    /// Renames a mailbox and all that are below it, in one batch. A name that no mailbox has, but
    /// below which there are some, can be renamed, too. INBOX cannot (its messages can be moved).
    ///
    /// # Errors
    /// `Missing`; `Exists`: one of the new names is taken; `Name`: one of them cannot be; or what
    /// the disk says.
    pub async fn rename_mailbox(
        &self,
        address: &Address,
        from: &str,
        to: &str,
    ) -> Result<(), StoreError> {
        let (from, to) = (canonical_name(from)?, canonical_name(to)?);
        let is_below = |name: &str, top: &str| {
            let rest = name.strip_prefix(top);
            rest.is_some_and(|rest| rest.starts_with(SEPARATOR))
        };
        if is_below(&to, &from) {
            return Err(StoreError::Name(NameError::Inside));
        }
        if from == INBOX_NAME {
            return Err(StoreError::Missing);
        }
        let _turn = self.account_changes.hold().await;
        let _ = self.settle().await;
        let each = SMALL_BYTES + address.as_str().len() + MAILBOX_NAME_BYTES_MAX;
        let names = self.index.borrow().names(address);
        let moved = |name: &str| name == from || is_below(name, &from);
        let count = names.iter().filter(|(_, name)| moved(name)).count();
        let level = self.settings.sync.database;
        self.mutate(count * each, level, Space::Small, |this, pending| {
            if !this.keeps(address, MailboxId::INBOX) {
                return Err(StoreError::Missing);
            }
            let names = this.index.borrow().names(address);
            let (moving, staying): (Vec<_>, Vec<_>) =
                names.into_iter().partition(|(_, name)| moved(name));
            if moving.is_empty() || moving.len() > count {
                return Err(StoreError::Missing);
            }
            let staying: BTreeSet<Rc<str>> = staying.into_iter().map(|(_, name)| name).collect();
            if from == to {
                // RFC 9051 §6.3.6: a name that is taken, be it by itself.
                return Err(StoreError::Exists);
            }
            let mut renamed = Vec::with_capacity(moving.len());
            for (mailbox, name) in moving {
                let name = canonical_name(&format!("{to}{}", &name[from.len()..]))?;
                if staying.contains(name.as_str()) {
                    return Err(StoreError::Exists);
                }
                let known = this.index.borrow().put_again(address, mailbox);
                let (validity, special_use) = known.ok_or(StoreError::Missing)?;
                renamed.push((mailbox, (validity, special_use, name)));
            }
            for (mailbox, what) in renamed {
                this.put_mailbox(pending, address, mailbox, what);
            }
            Ok(())
        })
        .await
    }

    /// Removes a mailbox and its mail. Those below it in their names stay.
    ///
    /// # Errors
    /// `Missing`: there is none, or it is INBOX; or what the disk says.
    pub async fn delete_mailbox(
        &self,
        address: &Address,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        if mailbox.is_inbox() {
            return Err(StoreError::Missing);
        }
        let _turn = self.account_changes.hold().await;
        let _ = self.settle().await;
        let bytes = 3 * (SMALL_BYTES + address.as_str().len()) + MAILBOX_NAME_BYTES_MAX;
        let level = self.settings.sync.database;
        let gone = self.mutate(bytes, level, Space::Gives, |this, pending| {
            if !this.keeps(address, mailbox) {
                return Err(StoreError::Missing);
            }
            let keys = this.key_prefix(address, Some(mailbox.0));
            let keys = keys.ok_or(StoreError::Missing)?;
            let info = this.mailbox_info(address, mailbox)?;
            // More would hold everybody up at once.
            let is_condemned = info.exists as usize > removal::MESSAGES_MAX;
            let seq = if is_condemned {
                let what = (info.validity, CONDEMNED, info.name);
                this.put_mailbox(pending, address, mailbox, what)
            } else {
                let change = Pended::RemoveMailbox {
                    address: address.clone(),
                    mailbox,
                };
                this.add(pending, change, |out, seq| {
                    encode::remove_mailbox(out, seq, address.as_str(), mailbox);
                })
            };
            let condemned = is_condemned.then(|| Condemned::Mailbox(mailbox, address.clone()));
            this.add_gone(pending, &keys, condemned);
            let mut accounts = this.accounts.borrow_mut();
            let account = accounts.entry(address.clone()).or_default();
            account.mailbox_mut(mailbox).remove(seq);
            Ok(())
        });
        gone.await?;
        self.clear_gone();
        Ok(())
    }

    // Small values.

    pub(super) fn key_prefix(&self, address: &Address, mailbox: Option<u64>) -> Option<Vec<u8>> {
        let validity = self.index.borrow().account_validity(address)?;
        let mut key = ACCOUNT_KEYS.to_vec();
        key.extend_from_slice(address.as_str().as_bytes());
        key.push(0);
        key.extend_from_slice(&validity.to_be_bytes());
        if let Some(mailbox) = mailbox {
            key.extend_from_slice(&mailbox.to_be_bytes());
        }
        Some(key)
    }

    fn keys_from(&self, prefix: Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        if let Some(prefix) = prefix {
            self.for_each_key(&prefix, |key, _| keys.push(key.to_vec()));
        }
        keys
    }

    /// Puts a small value of an account, or of one of its mailboxes, as long as that is there: what
    /// is removed must not get another one.
    pub(super) async fn put_own(
        &self,
        address: &Address,
        mailbox: MailboxId,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        self.put_all_own(address, mailbox, vec![(key, value)]).await
    }

    /// The same of several, in one batch.
    pub(super) async fn put_all_own(
        &self,
        address: &Address,
        mailbox: MailboxId,
        entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let validity = self.index.borrow().account_validity(address);
        let may = |this: &Self| {
            let is_same = this.index.borrow().account_validity(address) == validity;
            match is_same && this.keeps(address, mailbox) {
                true => Ok(()),
                false => Err(StoreError::Missing),
            }
        };
        self.put_if(entries, may).await
    }

    /// Notes that an account's owner wants to see a name, or does not any more (RFC 9051 §6.3.7).
    /// There need not be such a mailbox.
    ///
    /// # Errors
    /// `Name`; `Missing`: no such account; `TooMany` subscriptions; or what the disk says.
    pub async fn set_subscribed(
        &self,
        address: &Address,
        name: &str,
        subscribed: bool,
    ) -> Result<(), StoreError> {
        let name = canonical_name(name)?;
        let _turn = self.account_changes.hold().await;
        // What it is said to be already must be so: another's change may be on its way.
        let _ = self.settle().await;
        let prefix = self.key_prefix(address, Some(NO_MAILBOX));
        let mut key = prefix.ok_or(StoreError::Missing)?;
        key.extend_from_slice(SUBSCRIBED);
        if subscribed && self.keys_from(Some(key.clone())).len() >= 2 * MAILBOXES_MAX {
            return Err(StoreError::TooMany("subscriptions"));
        }
        key.extend_from_slice(name.as_bytes());
        if self.get(&key).is_some() == subscribed {
            return Ok(());
        }
        let value = subscribed.then(Vec::new);
        self.put_own(address, MailboxId::INBOX, key, value).await
    }

    /// Names that are subscribed, in order.
    pub fn subscriptions(&self, address: &Address) -> Vec<String> {
        let Some(mut prefix) = self.key_prefix(address, Some(NO_MAILBOX)) else {
            return Vec::new();
        };
        prefix.extend_from_slice(SUBSCRIBED);
        let keys = self.keys_from(Some(prefix.clone())).into_iter();
        keys.map(|key| String::from_utf8_lossy(&key[prefix.len()..]).into_owned())
            .collect()
    }

    /// Sets a small value of an account, or of one of its mailboxes; `None` removes it.
    ///
    /// # Errors
    /// `Missing`: no such account or mailbox; `TooLarge`: key and value together have at most
    /// [`ACCOUNT_VALUE_BYTES_MAX`] bytes; or what the disk says.
    pub async fn put_value(
        &self,
        address: &Address,
        mailbox: Option<MailboxId>,
        key: &[u8],
        value: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        if key.len() + value.as_ref().map_or(0, Vec::len) > ACCOUNT_VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge);
        }
        if !self.keeps(address, mailbox.unwrap_or(MailboxId::INBOX)) {
            return self.settled(Err(StoreError::Missing)).await;
        }
        let prefix = self.value_prefix(address, mailbox);
        let mut whole = prefix.ok_or(StoreError::Missing)?;
        whole.extend_from_slice(key);
        let of = mailbox.unwrap_or(MailboxId::INBOX);
        self.put_own(address, of, whole, value).await
    }

    pub(super) fn value_prefix(
        &self,
        address: &Address,
        mailbox: Option<MailboxId>,
    ) -> Option<Vec<u8>> {
        let mailbox = mailbox.map_or(NO_MAILBOX, |mailbox| mailbox.0);
        let mut prefix = self.key_prefix(address, Some(mailbox))?;
        prefix.extend_from_slice(OF_OWNER);
        Some(prefix)
    }

    /// A small value, see [`Partition::put_value`].
    pub fn value(
        &self,
        address: &Address,
        mailbox: Option<MailboxId>,
        key: &[u8],
    ) -> Option<Vec<u8>> {
        let mut whole = self.value_prefix(address, mailbox)?;
        whole.extend_from_slice(key);
        self.get(&whole)
    }

    /// All values of an account (not of its mailboxes) or of a mailbox whose keys begin so, in order.
    pub fn values(
        &self,
        address: &Address,
        mailbox: Option<MailboxId>,
        prefix: &[u8],
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut values = Vec::new();
        if let Some(mut whole) = self.value_prefix(address, mailbox) {
            let start = whole.len();
            whole.extend_from_slice(prefix);
            self.for_each_key(&whole, |key, value| {
                values.push((key[start..].to_vec(), value.to_vec()));
            });
        }
        values
    }
}
