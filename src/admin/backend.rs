//! What [`execute`](super::execute) needs of whoever has the store: the running server through its
//! mesh, or a command that has opened the store itself.

use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::Arc;

use super::wire::{AccountEntry, Status};
use crate::directory::{Change, Site};
use crate::mail::Address;
use crate::store::{Account, AccountChange, Reclaimed, StoreError};

/// Accounts and site, wherever they are.
///
/// Whoever implements it runs one request that changes the site or removes something at a time:
/// what [`execute`](super::execute) checked first must still hold when it acts.
#[allow(async_fn_in_trait, reason = "only used generically, on one thread")]
pub trait Backend {
    /// The site as it is now.
    fn site(&self) -> Arc<Site>;

    /// Puts entries into the site log, in order, in one batch. Resolves when they are durable and
    /// every shard has the new snapshot.
    ///
    /// # Errors
    /// What the disk says; nothing is changed then.
    async fn change_site(&self, changes: Vec<Change>) -> Result<(), BackendError>;

    /// Makes accounts, many at once; a result for each, in order.
    async fn create_accounts(&self, accounts: Vec<Account>) -> Vec<Result<(), BackendError>>;

    /// Changes an account where it lives, so that of two changes at once neither undoes the other,
    /// and forgets what was cached of it. Gives it back as it is then.
    ///
    /// # Errors
    /// `Missing`, or what the disk says.
    async fn update_account(
        &self,
        address: &Address,
        change: AccountChange,
    ) -> Result<Account, BackendError>;

    /// Has what an account says and hears written down, or not any more: open connections, too [N35].
    /// `None`: it stays as it is. Returns whether it is, and the folder.
    ///
    /// # Errors
    /// `Missing`, or what the disk says.
    async fn telemetry(
        &self,
        address: &Address,
        on: Option<bool>,
    ) -> Result<(bool, PathBuf), BackendError>;

    /// Removes an account and its mail, and forgets what was cached of it.
    ///
    /// # Errors
    /// `Missing`, or what the disk says.
    async fn remove_account(&self, address: &Address) -> Result<(), BackendError>;

    /// The account of this canonical address.
    ///
    /// # Errors
    /// When its partition cannot be asked.
    async fn account(&self, address: &Address) -> Result<Option<Account>, BackendError>;

    /// Bytes of all messages of this account; 0 where there is none.
    ///
    /// # Errors
    /// When its partition cannot be asked.
    async fn used_bytes(&self, address: &Address) -> Result<u64, BackendError>;

    /// This account may act for others [N34]; `false` where there is none.
    ///
    /// # Errors
    /// When its partition cannot be asked.
    async fn is_administrator(&self, address: &Address) -> Result<bool, BackendError>;

    /// Lets an account act for others, or no longer [N34]. Durable when it returns.
    ///
    /// # Errors
    /// `Missing`, or what the disk says.
    async fn set_administrator(&self, address: &Address, on: bool) -> Result<(), BackendError>;

    /// The first accounts that suit, in order of their addresses: [`Listing`] finds them.
    ///
    /// # Errors
    /// When a partition cannot be asked.
    async fn list_accounts(&self, query: AccountQuery) -> Result<Vec<AccountEntry>, BackendError>;

    /// Reclaims in every partition what was expunged.
    ///
    /// # Errors
    /// The first that the disk says; the other partitions are done all the same.
    async fn expire_now(&self) -> Result<Reclaimed, BackendError>;

    /// Where an account of this address lives, or would.
    fn place(&self, address: &Address) -> Place;

    /// What runs here; `None` while no server runs.
    ///
    /// # Errors
    /// When a shard cannot be asked.
    async fn status(&self) -> Result<Option<Status>, BackendError>;
}

/// Why a backend could not. Unlike [`StoreError`] it can cross the mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The account exists already.
    #[error("exists already")]
    Exists,
    /// There is no such account.
    #[error("there is no such account")]
    Missing,
    /// Anything else, in one sentence.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for BackendError {
    fn from(error: StoreError) -> BackendError {
        match error {
            StoreError::Exists => BackendError::Exists,
            StoreError::Missing => BackendError::Missing,
            other => BackendError::Failed(other.to_string()),
        }
    }
}

/// Where an account lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Number of its partition.
    pub partition: u16,
    /// Number of the shard that owns it, and that shard's processor; `None` while no server runs.
    pub shard: Option<(usize, usize)>,
    /// The partition's directory.
    pub path: PathBuf,
}

/// Which accounts to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountQuery {
    /// Only of this domain, which is canonical.
    pub domain: Option<String>,
    /// Only what comes behind this one.
    pub after: Option<Address>,
    /// At most so many.
    pub max: usize,
}

/// Finds the first accounts of a query, whatever the order they are offered in; holds no more than
/// it was asked for.
#[derive(Debug)]
pub struct Listing {
    query: AccountQuery,
    /// The last one on top, so that it goes when a smaller one comes.
    found: BinaryHeap<(Address, u64)>,
}

impl Listing {
    /// With nothing found yet.
    pub fn new(query: AccountQuery) -> Listing {
        Listing {
            query,
            found: BinaryHeap::new(),
        }
    }

    /// Takes an account if it belongs in the list.
    pub fn offer(&mut self, account: &Account) {
        let address = &account.address;
        let suits = self
            .query
            .after
            .as_ref()
            .is_none_or(|after| after < address)
            && self
                .query
                .domain
                .as_ref()
                .is_none_or(|d| d == address.domain());
        if !suits {
            return;
        }
        if self.found.len() >= self.query.max {
            match self.found.peek() {
                Some((last, _)) if address < last => self.found.pop(),
                _ => return,
            };
        }
        self.found.push((address.clone(), account.quota_bytes));
    }

    /// What was found, in order; the bytes used, and whether it is an administrator, are asked for
    /// those only.
    pub fn finish(self, more_of: impl Fn(&Address) -> (u64, bool)) -> Vec<AccountEntry> {
        self.found
            .into_sorted_vec()
            .into_iter()
            .map(|(address, quota_bytes)| {
                let (used_bytes, is_administrator) = more_of(&address);
                AccountEntry {
                    address: address.to_string(),
                    quota_bytes,
                    used_bytes,
                    is_administrator,
                }
            })
            .collect()
    }

    /// Joins what several listings of the same query found, which each is in order.
    pub fn join(parts: Vec<Vec<AccountEntry>>, max: usize) -> Vec<AccountEntry> {
        let mut all: Vec<AccountEntry> = parts.into_iter().flatten().collect();
        all.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        all.truncate(max);
        all
    }
}
