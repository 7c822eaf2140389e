//! Quotas: what an account may hold, and how much it does (RFC 9208) [N25].

use std::ops::ControlFlow;
use std::rc::Rc;

use super::super::super::conn::ConnKey;
use super::super::super::wait::breathe;
use super::super::super::{Shard, Shards};
use super::super::Asked;
use super::{Desk, later, refusal, soon};
use crate::admin::{Backend, BackendError};
use crate::mail::Address;
use crate::proto::imap::{Answer, Quota, QuotaOf, Refusal};
use crate::store::{AccountChange, Flags, MessageInfo};

/// Messages that are looked at in one go.
const SLICE_MESSAGES: usize = 4096;

/// GETQUOTA, GETQUOTAROOT.
pub(super) fn get(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, of: QuotaOf) -> Asked {
    match of {
        QuotaOf::Account(name) if name != desk.address.as_str() => {
            let address = match may_see(shard, &desk, &name) {
                Ok(address) => address,
                Err(refusal) => return soon(shard, key, &desk, Answer::Quota(Err(refusal))),
            };
            let shard = Rc::clone(shard);
            later(&Rc::clone(&shard), key, async move {
                let backend = Shards(Rc::clone(&shard));
                Answer::Quota(quota_of(&backend, &address).await.map_err(failed))
            })
        }
        QuotaOf::Mailbox(name) => {
            let found = super::mailboxes::find(shard, &desk, &name);
            let quota = found.and_then(|_| own(shard, &desk));
            soon(shard, key, &desk, Answer::Quota(quota))
        }
        QuotaOf::Own | QuotaOf::Account(_) => {
            soon(shard, key, &desk, Answer::Quota(own(shard, &desk)))
        }
    }
}

/// SETQUOTA: administrators only. It is in effect when it is answered.
pub(super) fn set(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    of: QuotaOf,
    limit_bytes: u64,
) -> Asked {
    let name = match of {
        QuotaOf::Account(name) => name,
        QuotaOf::Own | QuotaOf::Mailbox(_) => desk.address.to_string(),
    };
    let address = match may_see(shard, &desk, &name) {
        Ok(address) => address,
        Err(refusal) => return soon(shard, key, &desk, Answer::Quota(Err(refusal))),
    };
    let shard = Rc::clone(shard);
    later(&Rc::clone(&shard), key, async move {
        let backend = Shards(Rc::clone(&shard));
        let change = AccountChange {
            quota_bytes: Some(limit_bytes),
            ..AccountChange::default()
        };
        if let Err(error) = backend.update_account(&address, change).await {
            return Answer::Quota(Err(failed(error)));
        }
        tracing::info!(administrator = %desk.address, account = %address, limit_bytes, "quota set");
        Answer::Quota(quota_of(&backend, &address).await.map_err(failed))
    })
}

fn own(shard: &Shard, desk: &Desk) -> Result<Quota, Refusal> {
    let partition = desk.partition(shard)?;
    let account = partition.account(&desk.address).ok_or(Refusal::Missing)?;
    Ok(Quota {
        account: desk.address.to_string(),
        used_bytes: partition.used_bytes(&desk.address),
        limit_bytes: account.quota_bytes,
    })
}

async fn quota_of(backend: &Shards, address: &Address) -> Result<Quota, BackendError> {
    let account = backend.account(address).await?;
    let account = account.ok_or(BackendError::Missing)?;
    Ok(Quota {
        account: address.to_string(),
        used_bytes: backend.used_bytes(address).await?,
        limit_bytes: account.quota_bytes,
    })
}

/// An administrator may see what others have, and change it.
fn may_see(shard: &Shard, desk: &Desk, name: &str) -> Result<Address, Refusal> {
    if !desk.partition(shard)?.is_administrator(&desk.address) {
        return Err(Refusal::Denied("only for administrators".to_owned()));
    }
    let address = Address::parse(name).map_err(|_| Refusal::Missing)?;
    Ok(address.account_key())
}

fn failed(error: BackendError) -> Refusal {
    match error {
        BackendError::Missing => Refusal::Missing,
        error => Refusal::Unavailable(error.to_string()),
    }
}

/// Bytes of the messages of a mailbox that have `\Deleted`. Where there are some, all messages are
/// looked at, until the last of them is found.
pub(super) fn deleted_bytes(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, name: &str) -> Asked {
    let found = desk.partition(shard).and_then(|partition| {
        let info = partition.mailbox(&desk.address, name);
        Ok((
            partition,
            info.map_err(|error| refusal(error, &desk.address))?,
        ))
    });
    let (partition, info) = match found {
        Ok(found) => found,
        Err(refusal) => return soon(shard, key, &desk, Answer::DeletedBytes(Err(refusal))),
    };
    later(shard, key, async move {
        let (mut left, mut bytes, mut next) = (info.deleted, 0, Some(1));
        while let Some(first) = next.take().filter(|_| left > 0) {
            let mut seen = 0;
            let visit = |message: &MessageInfo| {
                if message.flags.has(Flags::DELETED) {
                    bytes += message.bytes;
                    left = left.saturating_sub(1);
                }
                seen += 1;
                if left == 0 {
                    return ControlFlow::Break(());
                }
                if seen >= SLICE_MESSAGES {
                    next = message.uid.checked_add(1);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            };
            let range = (first, u32::MAX);
            let visited = partition.for_each_message(&desk.address, info.id, range, visit);
            if let Err(error) = visited {
                return Answer::DeletedBytes(Err(refusal(error, &desk.address)));
            }
            breathe().await;
        }
        Answer::DeletedBytes(Ok(bytes))
    })
}
