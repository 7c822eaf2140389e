//! Who may do more than use an account of their own: administrators [N34].
//!
//! Guarantees: what is kept here belongs to this account alone, and goes with it; a client of the
//! account cannot change it. It is durable before the change returns.
//! Does not know: protocols, what an administrator may do.

use super::disk::Disk;
use super::mailboxes::NO_MAILBOX;
use super::partition::Partition;
use super::{MailboxId, StoreError};
use crate::mail::Address;

/// The account may act for others.
const ADMINISTRATOR: &[u8] = b"operator\0administrator";

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
}
