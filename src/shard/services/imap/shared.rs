//! Mailboxes of others that a user may see: which they are, and how they look from here.
//!
//! Guarantees: what is listed is at most [`IMAP_SHARED_MAILBOXES_MAX`] mailboxes; each account is asked
//! by itself, where its access lists are.
//! Does not know: who may do what.

use std::rc::Rc;

use super::super::super::conn::ConnKey;
use super::super::super::{LocalPartition, Shard};
use super::super::Asked;
use super::{Desk, acl, at_once, later};
use crate::limits::IMAP_SHARED_MAILBOXES_MAX;
use crate::mail::Address;
use crate::proto::imap::{Answer, Mailbox, Mailboxes, name_of_other};

/// What an owner uses a mailbox for says nothing about who visits it.
pub(super) fn as_other(mailbox: Mailbox, account: &Address) -> Mailbox {
    Mailbox {
        name: name_of_other(account, &mailbox.name),
        special_use: None,
        ..mailbox
    }
}

/// Accounts that may have let the user in.
pub(super) fn owners(shard: &Shard, desk: &Desk, partition: &LocalPartition) -> Vec<Address> {
    let mut owners = partition.let_in_by(&desk.address);
    owners.extend(shard.site().sharing().cloned());
    owners.sort_unstable();
    owners.dedup();
    owners.retain(|owner| *owner != desk.address);
    owners
}

/// Mailboxes of others that the user may see.
pub(super) fn list(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>) -> Asked {
    let partition = match desk.partition(shard) {
        Ok(partition) => partition,
        Err(refusal) => return at_once(Answer::Mailboxes(Err(refusal))),
    };
    let owners = owners(shard, &desk, &partition);
    if owners.is_empty() {
        return at_once(Answer::Mailboxes(Ok(Mailboxes::default())));
    }
    let home = Rc::clone(shard);
    later(shard, key, async move {
        let mut list = Vec::new();
        for owner in owners {
            let there = home.owner_of(home.partition_of(&owner));
            let look = || {
                let (account, user) = (owner.clone(), desk.address.clone());
                let validity = desk.validity;
                let work =
                    async move |there: Rc<Shard>| acl::visible(&there, &account, (&user, validity));
                home.mesh.call(&home, there, work)
            };
            let mut visible = look().await;
            if visible.is_empty() && partition.let_in_by(&desk.address).contains(&owner) {
                // It was let in once. That it is looked for again does no harm if this fails.
                let _ = partition.set_let_in_by(&desk.address, &owner, false).await;
                // Whoever has let it in meanwhile may have found the note, and taken it for theirs.
                visible = look().await;
                if !visible.is_empty() {
                    let _ = partition.set_let_in_by(&desk.address, &owner, true).await;
                }
            }
            list.extend(visible.into_iter().map(|mailbox| as_other(mailbox, &owner)));
            if list.len() > IMAP_SHARED_MAILBOXES_MAX {
                list.truncate(IMAP_SHARED_MAILBOXES_MAX);
                tracing::warn!(account = %desk.address, "not all mailboxes of others are listed");
                break;
            }
        }
        Answer::Mailboxes(Ok(Mailboxes {
            list,
            subscribed: Vec::new(),
        }))
    })
}
