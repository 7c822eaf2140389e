//! RCPT: is this recipient ours, is there such an account, and can its partition take mail now?

use std::borrow::Cow;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::super::Shard;
use super::super::conn::ConnKey;
use super::super::session::AnyAnswer;
use super::Asked;
use crate::directory::{Resolution, Try};
use crate::mail::{Address, EnhancedStatus, ForwardPath, Reply};
use crate::proto::smtp;
use crate::store::{Health, StoreError};

/// Accounts of other shards that are known to exist, per shard.
const CACHE_ENTRIES_MAX: usize = 1 << 16;

/// Which accounts of other shards are known to exist. Only good news is kept: an account that is
/// made is found at once, and one that is removed is taken out by a job to every shard. What slips
/// through between the two is caught at the delivery, which the owner decides.
#[derive(Default)]
pub(crate) struct RecipientCache(std::cell::RefCell<FxHashSet<Address>>);

impl RecipientCache {
    fn contains(&self, address: &Address) -> bool {
        self.0.borrow().contains(address)
    }

    fn insert(&self, address: Address) {
        let mut known = self.0.borrow_mut();
        if known.len() >= CACHE_ENTRIES_MAX {
            known.clear();
        }
        known.insert(address);
    }

    /// The account is gone.
    pub(crate) fn forget(&self, address: &Address) {
        self.0.borrow_mut().remove(address);
    }
}

/// A reply by code, enhanced status and text.
pub(super) fn reply(
    code: u16,
    status: (u8, u16, u16),
    text: impl Into<Cow<'static, str>>,
) -> Reply {
    Reply {
        code,
        status: Some(EnhancedStatus(status.0, status.1, status.2)),
        text: text.into(),
    }
}

/// What a failure of the store is for an SMTP or LMTP client.
pub(super) fn store_reply(error: &StoreError) -> Reply {
    match error {
        StoreError::Full => reply(452, (4, 3, 1), "Insufficient system storage"),
        StoreError::OverQuota => reply(452, (4, 2, 2), "Mailbox is full"),
        StoreError::TooLarge => reply(452, (4, 5, 3), "Too many recipients for so large a message"),
        StoreError::Missing => reply(550, (5, 1, 1), "No such user here"),
        StoreError::Closing => reply(421, (4, 3, 2), "Shutting down"),
        _ => reply(451, (4, 3, 0), "Mailbox cannot be written now"),
    }
}

/// Answers RCPT, at once where nothing has to be fetched from another shard.
pub(super) fn check(
    shard: &Rc<Shard>,
    key: ConnKey,
    path: ForwardPath,
    declared_bytes: u64,
) -> Asked {
    let wrap = |result: Result<Vec<Address>, Reply>| {
        AnyAnswer::Smtp(smtp::Answer::Recipient(result.map(drop)))
    };
    if shard.memory_is_short(declared_bytes) {
        shard.probe.memory_refusals.add(1);
        return Asked::Answer(wrap(Err(reply(
            452,
            (4, 3, 1),
            "Too busy, try again later",
        ))));
    }
    if plain_account(shard, &path).is_some() {
        return Asked::Answer(AnyAnswer::Smtp(smtp::Answer::Recipient(Ok(()))));
    }
    if let Some(result) = locate_at_once(shard, &path) {
        return Asked::Answer(wrap(result));
    }
    let shard = Rc::clone(shard);
    super::super::spawn(async move {
        let result = locate(&shard, &path).await;
        shard.answer(key, wrap(result));
    });
    Asked::Later
}

enum Known {
    Yes,
    No,
    Unknown,
    Refuse(Reply),
}

fn health_reply(health: &Health) -> Option<Reply> {
    match health {
        Health::Good => None,
        Health::Full => Some(store_reply(&StoreError::Full)),
        Health::ReadOnly(reason) => Some(store_reply(&StoreError::ReadOnly(reason.clone()))),
    }
}

fn known(shard: &Shard, address: &Address) -> Known {
    let number = shard.partition_of(address);
    match shard.partition(number) {
        Some(partition) => {
            if let Some(refusal) = health_reply(&partition.health()) {
                Known::Refuse(refusal)
            } else if partition.has_account(address) {
                Known::Yes
            } else {
                Known::No
            }
        }
        None if shard.recipients.contains(address) => Known::Yes,
        None => Known::Unknown,
    }
}

/// The account behind most forward paths: an address without alias or detail, of an account that is
/// known here and whose partition takes mail. `None`: see [`locate_at_once`].
pub(super) fn plain_account(shard: &Shard, path: &ForwardPath) -> Option<Address> {
    let address = shard.site.borrow().plain(path)?;
    matches!(known(shard, &address), Known::Yes).then_some(address)
}

/// The accounts behind a forward path, or why there are none; `None`: another shard must be asked.
pub(super) fn locate_at_once(
    shard: &Shard,
    path: &ForwardPath,
) -> Option<Result<Vec<Address>, Reply>> {
    if let Some(address) = plain_account(shard, path) {
        return Some(Ok(vec![address]));
    }
    let tries = match tries(shard, path) {
        Ok(tries) => tries,
        Err(refusal) => return Some(Err(refusal)),
    };
    for candidates in tries {
        let mut accounts = Vec::with_capacity(candidates.accounts.len());
        for address in candidates.accounts {
            match known(shard, &address) {
                Known::Yes => accounts.push(address),
                Known::No => {}
                Known::Refuse(refusal) => return Some(Err(refusal)),
                Known::Unknown => return None,
            }
        }
        if !accounts.is_empty() {
            return Some(Ok(accounts));
        }
    }
    Some(Err(store_reply(&StoreError::Missing)))
}

/// As [`locate_at_once`], asking the owners of accounts on other shards.
pub(super) async fn locate(shard: &Rc<Shard>, path: &ForwardPath) -> Result<Vec<Address>, Reply> {
    for candidates in tries(shard, path)? {
        let mut accounts = Vec::with_capacity(candidates.accounts.len());
        for address in candidates.accounts {
            if is_there(shard, &address).await? {
                accounts.push(address);
            }
        }
        if !accounts.is_empty() {
            return Ok(accounts);
        }
    }
    Err(store_reply(&StoreError::Missing))
}

async fn is_there(shard: &Rc<Shard>, address: &Address) -> Result<bool, Reply> {
    match known(shard, address) {
        Known::Yes => return Ok(true),
        Known::No => return Ok(false),
        Known::Refuse(refusal) => return Err(refusal),
        Known::Unknown => {}
    }
    let number = shard.partition_of(address);
    let wanted = address.clone();
    let found = shard
        .mesh
        .call(shard, shard.owner_of(number), async move |owner| {
            let Some(partition) = owner.partition(number) else {
                return Err(store_reply(&StoreError::Closing));
            };
            match health_reply(&partition.health()) {
                Some(refusal) => Err(refusal),
                None => Ok(partition.has_account(&wanted)),
            }
        })
        .await?;
    if found {
        shard.recipients.insert(address.clone());
    }
    Ok(found)
}

/// What the site makes of a forward path.
fn tries(shard: &Shard, path: &ForwardPath) -> Result<Vec<Try>, Reply> {
    match shard.site().resolve(path) {
        Resolution::Tries(tries) => Ok(tries),
        Resolution::NotServed => Err(reply(
            550,
            (5, 7, 1),
            "Relaying denied: this domain is not served here",
        )),
        Resolution::TooWide => {
            tracing::error!(to = %path, "an alias expands beyond its bounds");
            Err(reply(550, (5, 4, 6), "Alias expands too far"))
        }
    }
}
