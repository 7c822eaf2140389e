//! Who may do more than use an account of their own: administrators [N34], access lists of mailboxes,
//! and, beside an account, whose mailboxes it was let into.
//!
//! Guarantees: what is kept here belongs to this account or mailbox alone, and goes with it. An entry may
//! be about one account only, and not about those that have its address after it. It is
//! durable before the change returns. There are bounds for the entries of a list.
//! Does not know: protocols, what an administrator may do, what a right means.
//!
//! Whose mailboxes an account was let into is only where to look: the access list decides. It may
//! name accounts that have let it in no longer.

use super::disk::Disk;
use super::mailboxes::NO_MAILBOX;
use super::partition::Partition;
use super::{MailboxId, StoreError, UidValidity};
use crate::limits::{ACCESS_ENTRIES_MAX, LET_IN_MAX};
use crate::mail::Address;

/// The account may act for others.
const ADMINISTRATOR: &[u8] = b"operator\0administrator";
/// An entry of a mailbox's access list; whom it is about follows.
const ACCESS: &[u8] = b"access\0";
/// Let in by the account that follows.
const LET_IN: &[u8] = b"let in\0";

/// What a key is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An access list.
    Access,
    /// The accounts that have let this one in.
    LetIn,
}

impl Kind {
    /// Of the part of a key that is behind its mailbox.
    pub fn of(rest: &[u8]) -> Option<Kind> {
        if rest.starts_with(ACCESS) {
            Some(Kind::Access)
        } else if rest.starts_with(LET_IN) {
            Some(Kind::LetIn)
        } else {
            None
        }
    }
}

/// An entry of a mailbox's access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessEntry {
    /// Whom it is about, as the list calls them.
    pub whom: String,
    /// What it says of them.
    pub rights: u16,
    /// Which account of this name it is about, by [`Partition::account_validity`]; `None`: whoever is
    /// called so.
    pub holder: Option<UidValidity>,
}

impl AccessEntry {
    fn encode(&self) -> Vec<u8> {
        let mut value = self.rights.to_le_bytes().to_vec();
        value.extend(self.holder.iter().flat_map(|holder| holder.to_le_bytes()));
        value
    }

    /// `None`: a value that nobody has written here.
    fn decode(whom: &[u8], value: &[u8]) -> Option<AccessEntry> {
        let (rights, holder) = value.split_first_chunk()?;
        let holder = match holder {
            [] => None,
            holder => Some(UidValidity::from_le_bytes(holder.try_into().ok()?)),
        };
        Some(AccessEntry {
            whom: String::from_utf8_lossy(whom).into_owned(),
            rights: u16::from_le_bytes(*rights),
            holder,
        })
    }
}

impl<D: Disk> Partition<D> {
    /// The account may act for others [N34]; `false` also where there is no such account.
    pub fn is_administrator(&self, address: &Address) -> bool {
        let key = self.key_prefix(address, Some(NO_MAILBOX));
        key.is_some_and(|mut key| {
            key.extend_from_slice(ADMINISTRATOR);
            self.get(&key).is_some()
        })
    }

    /// Lets an account act for others, or no longer.
    ///
    /// # Errors
    /// `Missing`: no such account; or what the disk says.
    pub async fn set_administrator(&self, address: &Address, on: bool) -> Result<(), StoreError> {
        let _turn = self.account_changes.hold().await;
        // What it is said to be already must be so: another's change may be on its way.
        let _ = self.settle().await;
        if !self.keeps(address, MailboxId::INBOX) {
            return Err(StoreError::Missing);
        }
        let mut key = self
            .key_prefix(address, Some(NO_MAILBOX))
            .ok_or(StoreError::Missing)?;
        key.extend_from_slice(ADMINISTRATOR);
        if self.get(&key).is_some() == on {
            return Ok(());
        }
        let value = on.then(Vec::new);
        self.put_own(address, MailboxId::INBOX, key, value).await
    }

    /// The access list of a mailbox.
    pub fn access_list(&self, address: &Address, mailbox: MailboxId) -> Vec<AccessEntry> {
        let Some(mut key) = self.key_prefix(address, Some(mailbox.0)) else {
            return Vec::new();
        };
        key.extend_from_slice(ACCESS);
        let start = key.len();
        let mut list = Vec::new();
        self.for_each_key(&key, |key, value| {
            list.extend(AccessEntry::decode(&key[start..], value));
        });
        list
    }

    /// Changes an entry of a mailbox's access list: `change` is told what it says (0: there is none)
    /// and tells what it is to say (0: it goes), while no other such change is on its way. Returns
    /// what it says now.
    ///
    /// # Errors
    /// `Missing`: no such mailbox; `TooMany` entries; or what the disk says.
    pub async fn change_access(
        &self,
        address: &Address,
        mailbox: MailboxId,
        (whom, holder): (&str, Option<UidValidity>),
        change: impl FnOnce(u16) -> u16,
    ) -> Result<u16, StoreError> {
        let _turn = self.account_changes.hold().await;
        // One that nobody waits for any more may still be on its way.
        let _ = self.settle().await;
        if !self.keeps(address, mailbox) {
            return Err(StoreError::Missing);
        }
        let list = self.access_list(address, mailbox);
        let known = list.iter().find(|known| known.whom == whom);
        // What a removed account had is not what this one has.
        let own = known.filter(|known| known.holder.is_none() || known.holder == holder);
        let rights = change(own.map_or(0, |known| known.rights));
        if rights != 0 && known.is_none() && list.len() >= ACCESS_ENTRIES_MAX {
            return Err(StoreError::TooMany("entries in an access list"));
        }
        let is_so = match known {
            Some(known) => known.holder == holder && known.rights == rights,
            None => rights == 0,
        };
        if is_so {
            return Ok(rights);
        }
        let prefix = self.key_prefix(address, Some(mailbox.0));
        let mut key = prefix.ok_or(StoreError::Missing)?;
        key.extend_from_slice(ACCESS);
        key.extend_from_slice(whom.as_bytes());
        let entry = AccessEntry {
            whom: whom.to_owned(),
            rights,
            holder,
        };
        let value = (rights != 0).then(|| entry.encode());
        self.put_own(address, mailbox, key, value).await?;
        // Who may not read it any more has it open no longer, and need not wait until something comes.
        self.watches.look_again(address, mailbox);
        Ok(rights)
    }

    /// Takes entries out of a mailbox's access list, as far as they are still about the same holders.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn forget_access(
        &self,
        address: &Address,
        mailbox: MailboxId,
        entries: Vec<AccessEntry>,
    ) -> Result<(), StoreError> {
        let _turn = self.account_changes.hold().await;
        let _ = self.settle().await;
        let list = self.access_list(address, mailbox);
        let is_same = |entry: &AccessEntry| {
            let mut known = list.iter();
            known.any(|known| known.whom == entry.whom && known.holder == entry.holder)
        };
        let Some(mut prefix) = self.key_prefix(address, Some(mailbox.0)) else {
            return Ok(());
        };
        prefix.extend_from_slice(ACCESS);
        let gone = entries.into_iter().filter(is_same);
        let keys = gone.map(|entry| ([&prefix, entry.whom.as_bytes()].concat(), None));
        self.put_all(keys.collect()).await
    }

    /// Gives a mailbox the access list of another one of the account, in one batch.
    ///
    /// # Errors
    /// `Missing`: no such mailbox; or what the disk says.
    pub async fn inherit_access(
        &self,
        address: &Address,
        from: MailboxId,
        to: MailboxId,
    ) -> Result<(), StoreError> {
        let _turn = self.account_changes.hold().await;
        let _ = self.settle().await;
        let list = self.access_list(address, from);
        if list.is_empty() {
            return Ok(());
        }
        if !self.keeps(address, to) {
            return Err(StoreError::Missing);
        }
        let prefix = self.key_prefix(address, Some(to.0));
        let mut prefix = prefix.ok_or(StoreError::Missing)?;
        prefix.extend_from_slice(ACCESS);
        let entries = list.into_iter().map(|entry| {
            let key = [&prefix, entry.whom.as_bytes()].concat();
            (key, Some(entry.encode()))
        });
        self.put_all_own(address, to, entries.collect()).await
    }

    /// The accounts that have let this one in, and perhaps do no longer.
    pub fn let_in_by(&self, address: &Address) -> Vec<Address> {
        let Some(mut key) = self.key_prefix(address, Some(NO_MAILBOX)) else {
            return Vec::new();
        };
        key.extend_from_slice(LET_IN);
        let start = key.len();
        let mut owners = Vec::new();
        self.for_each_key(&key, |key, _| {
            let owner = std::str::from_utf8(&key[start..]).ok();
            owners.extend(owner.and_then(|owner| Address::parse(owner).ok()));
        });
        owners
    }

    /// Notes that an account has let this one in, or that it does no longer.
    ///
    /// # Errors
    /// `Missing`: no such account as this one; `TooMany` of those; or what the disk says.
    pub async fn set_let_in_by(
        &self,
        address: &Address,
        owner: &Address,
        on: bool,
    ) -> Result<(), StoreError> {
        let _turn = self.account_changes.hold().await;
        let _ = self.settle().await;
        if !self.keeps(address, MailboxId::INBOX) {
            return Err(StoreError::Missing);
        }
        let prefix = self.key_prefix(address, Some(NO_MAILBOX));
        let mut key = prefix.ok_or(StoreError::Missing)?;
        key.extend_from_slice(LET_IN);
        key.extend_from_slice(owner.as_str().as_bytes());
        if self.get(&key).is_some() == on {
            return Ok(());
        }
        if on && self.let_in_by(address).len() >= LET_IN_MAX {
            return Err(StoreError::TooMany(
                "accounts that share mailboxes with one",
            ));
        }
        let value = on.then(Vec::new);
        self.put_own(address, MailboxId::INBOX, key, value).await
    }
}
