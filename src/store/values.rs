//! Several small values of an account or mailbox at once, within bounds: annotations.
//!
//! Guarantees: all values of one call are set or none, after a crash as well; the bounds hold,
//! however many calls are under way.
//! Does not know: what the values are.

use super::disk::Disk;
use super::mailboxes::OF_OWNER;
use super::partition::Partition;
use super::{MailboxId, StoreError};
use crate::limits::ACCOUNT_VALUE_BYTES_MAX;
use crate::mail::Address;

/// How much there may be of values whose keys begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValuesMax {
    /// Values of one mailbox, or of the account itself.
    pub count: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
    /// Values of the account and all its mailboxes.
    pub account_count: usize,
    /// Bytes of those.
    pub account_bytes: usize,
}

impl<D: Disk> Partition<D> {
    /// Sets small values of an account, or of one of its mailboxes, in one batch; `None` removes one.
    /// All keys begin with `prefix`. A call that only removes is within any bounds.
    ///
    /// # Errors
    /// `Missing`: no such account or mailbox; `TooLarge`: key and value together have at most
    /// [`ACCOUNT_VALUE_BYTES_MAX`] bytes, and all together fit into one batch; `TooMany` values by
    /// `max`; or what the disk says.
    pub async fn put_values(
        &self,
        address: &Address,
        mailbox: Option<MailboxId>,
        prefix: &[u8],
        entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        max: ValuesMax,
    ) -> Result<(), StoreError> {
        let bytes_of =
            |key: &[u8], value: &Option<Vec<u8>>| key.len() + value.as_ref().map_or(0, Vec::len);
        if entries
            .iter()
            .any(|(key, value)| bytes_of(key, value) > ACCOUNT_VALUE_BYTES_MAX)
        {
            return Err(StoreError::TooLarge);
        }
        // One call after the other: each counts what those before it have set.
        let _turn = self.account_changes.hold().await;
        // One that nobody waits for any more may still be on its way.
        let _ = self.settle().await;
        if !self.keeps(address, mailbox.unwrap_or(MailboxId::INBOX)) {
            return Err(StoreError::Missing);
        }
        let own = self
            .value_prefix(address, mailbox)
            .ok_or(StoreError::Missing)?;
        let whole = self.key_prefix(address, None).ok_or(StoreError::Missing)?;
        if entries.iter().any(|(_, value)| value.is_some()) {
            let (mut count, mut bytes, mut account_count, mut account_bytes) = (0, 0, 0, 0);
            self.for_each_key(&whole, |key, value| {
                let counted = key
                    .get(whole.len() + size_of::<u64>()..)
                    .and_then(|rest| rest.strip_prefix(OF_OWNER))
                    .filter(|key| key.starts_with(prefix));
                let Some(short) = counted else {
                    return;
                };
                let is_own = key.starts_with(&own);
                if is_own && entries.iter().any(|(key, _)| key == short) {
                    return;
                }
                account_count += 1;
                account_bytes += short.len() + value.len();
                if is_own {
                    count += 1;
                    bytes += short.len() + value.len();
                }
            });
            for (key, value) in entries.iter().filter(|(_, value)| value.is_some()) {
                count += 1;
                bytes += bytes_of(key, value);
                account_count += 1;
                account_bytes += bytes_of(key, value);
            }
            if count > max.count
                || bytes > max.bytes
                || account_count > max.account_count
                || account_bytes > max.account_bytes
            {
                return Err(StoreError::TooMany("values"));
            }
        }
        let entries = entries.into_iter().map(|(key, value)| {
            let mut whole = own.clone();
            whole.extend_from_slice(&key);
            (whole, value)
        });
        let of = mailbox.unwrap_or(MailboxId::INBOX);
        self.put_all_own(address, of, entries.collect()).await
    }
}
