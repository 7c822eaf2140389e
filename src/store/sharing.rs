//! Who may do more than use an account of their own: administrators [N34], access lists of mailboxes,
//! and, beside an account, whose mailboxes it was let into.
//!
//! Guarantees: what is kept here belongs to this account or mailbox alone, and goes with it. It is
//! durable before the change returns. There are bounds for the entries of a list.
//! Does not know: protocols, what an administrator may do, what a right means.
//!
//! Whose mailboxes an account was let into is only where to look: the access list decides. It may
//! name accounts that have let it in no longer.

use super::disk::Disk;
use super::mailboxes::NO_MAILBOX;
use super::partition::Partition;
use super::{MailboxId, StoreError};
use crate::limits::{ACCESS_ENTRIES_MAX, LET_IN_MAX};
use crate::mail::Address;

/// The account may act for others.
const ADMINISTRATOR: &[u8] = b"operator\0administrator";
/// An entry of a mailbox's access list; whom it is about follows.
const ACCESS: &[u8] = b"access\0";
/// Let in by the account that follows.
const LET_IN: &[u8] = b"let in\0";

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
        self.put(key, on.then(Vec::new)).await
    }

    /// The access list of a mailbox: whom an entry is about, and what it says of them.
    pub fn access_list(&self, address: &Address, mailbox: MailboxId) -> Vec<(String, u16)> {
        let Some(mut key) = self.key_prefix(address, Some(mailbox.0)) else {
            return Vec::new();
        };
        key.extend_from_slice(ACCESS);
        let start = key.len();
        let mut list = Vec::new();
        self.for_each_key(&key, |key, value| {
            let whom = String::from_utf8_lossy(&key[start..]).into_owned();
            if let Ok(rights) = value.try_into() {
                list.push((whom, u16::from_le_bytes(rights)));
            }
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
        whom: &str,
        change: impl FnOnce(u16) -> u16,
    ) -> Result<u16, StoreError> {
        let _turn = self.account_changes.hold().await;
        // One that nobody waits for any more may still be on its way.
        let _ = self.settle().await;
        if !self.keeps(address, mailbox) {
            return Err(StoreError::Missing);
        }
        let list = self.access_list(address, mailbox);
        let known = list.iter().find(|(known, _)| known == whom);
        let before = known.map(|(_, rights)| *rights);
        let rights = change(before.unwrap_or(0));
        if rights != 0 && before.is_none() && list.len() >= ACCESS_ENTRIES_MAX {
            return Err(StoreError::TooMany("entries in an access list"));
        }
        if rights == before.unwrap_or(0) {
            return Ok(rights);
        }
        let prefix = self.key_prefix(address, Some(mailbox.0));
        let mut key = prefix.ok_or(StoreError::Missing)?;
        key.extend_from_slice(ACCESS);
        key.extend_from_slice(whom.as_bytes());
        let value = (rights != 0).then(|| rights.to_le_bytes().to_vec());
        self.put_own(address, mailbox, key, value).await?;
        Ok(rights)
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
        let entries = list.into_iter().map(|(whom, rights)| {
            let key = [&prefix, whom.as_bytes()].concat();
            (key, Some(rights.to_le_bytes().to_vec()))
        });
        self.put_all(entries.collect()).await
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
        self.put(key, on.then(Vec::new)).await
    }
}
