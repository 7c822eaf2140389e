//! Access lists: who may do what in an account's mailboxes (RFC 4314).
//!
//! Guarantees: the owner has all rights, always. What is granted holds for the next ask, and is
//! durable when it is answered.
//! Does not know: how an ask of a visitor comes here.
//!
//! Who was let in learns of it by a note beside their account, which is written first: without it
//! nobody would find the mailbox, while a note without an entry does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::super::super::conn::ConnKey;
use super::super::super::wait::Permits;
use super::super::super::{LocalPartition, Shard, Shards};
use super::super::Asked;
use super::{Desk, later, mailboxes, refusal, soon};
use crate::mail::Address;
use crate::proto::imap::{ANYONE, Access, AccessChange, Answer, Mailbox, Refusal, Rights};
use crate::store::{AccessEntry, MailboxId, MailboxInfo, SEPARATOR, StoreError, UidValidity};

/// The turn of those who open mailboxes to anyone, or close them: whether an account is among those that
/// share with anyone follows from the lists of all its mailboxes, and another one's change must not come
/// between the look and the note.
pub(super) struct Openings(Permits);

impl Default for Openings {
    fn default() -> Openings {
        Openings(Permits::new(1))
    }
}

/// What the list of a mailbox says of a user: what is granted to them and to anyone, without what is
/// taken from them or from anyone (RFC 4314 §2).
fn granted(list: &[AccessEntry], (user, validity): (&Address, UidValidity)) -> Rights {
    let (mut given, mut taken) = (Rights::NONE, Rights::NONE);
    for entry in list {
        let rights = Rights(entry.rights);
        // Whoever had the address before has left nothing to this account.
        let is_holder = entry.holder.is_none_or(|holder| holder == validity);
        let is_about = |name: &str| name == ANYONE || (name == user.as_str() && is_holder);
        match entry.whom.strip_prefix('-') {
            Some(name) if is_about(name) => taken = taken.with(rights),
            None if is_about(&entry.whom) => given = given.with(rights),
            _ => {}
        }
    }
    given.without(taken)
}

/// Of who sits at the desk, in a mailbox.
pub(super) fn rights_by_id(shard: &Shard, desk: &Desk, id: MailboxId) -> Result<Rights, Refusal> {
    let Some(guest) = &desk.guest else {
        return Ok(Rights::ALL);
    };
    let list = desk.partition(shard)?.access_list(&desk.address, id);
    Ok(granted(&list, (&guest.user, guest.validity)))
}

/// The same by its name.
pub(super) fn rights_in(shard: &Shard, desk: &Desk, name: &str) -> Result<Rights, Refusal> {
    let found = desk.partition(shard)?.mailbox(&desk.address, name);
    let info = found.map_err(|error| refusal(error, &desk.address))?;
    rights_by_id(shard, desk, info.id)
}

/// Of who sits at the desk, in the mailbox that is open.
pub(super) fn rights_in_open(shard: &Shard, desk: &Desk) -> Result<Rights, Refusal> {
    rights_by_id(shard, desk, desk.open_id()?)
}

/// Of who sits at the desk, in the mailbox of the source of CATENATE.
pub(super) fn rights_in_source(shard: &Shard, desk: &Desk) -> Result<Rights, Refusal> {
    let (id, _) = desk.source.get().ok_or(Refusal::Missing)?;
    rights_by_id(shard, desk, id)
}

/// Of who sits at the desk, in the mailbox above this name: the next one that there is.
pub(super) fn rights_above(shard: &Shard, desk: &Desk, name: &str) -> Result<Rights, Refusal> {
    match above(shard, desk, name)? {
        Some(id) => rights_by_id(shard, desk, id),
        // On top only the owner makes mailboxes.
        None => Ok(Rights::NONE),
    }
}

fn above(shard: &Shard, desk: &Desk, name: &str) -> Result<Option<MailboxId>, Refusal> {
    let partition = desk.partition(shard)?;
    let mut name = name;
    while let Some((top, _)) = name.rsplit_once(SEPARATOR) {
        match partition.mailbox(&desk.address, top) {
            Ok(info) => return Ok(Some(info.id)),
            Err(StoreError::Missing) => name = top,
            Err(error) => return Err(refusal(error, &desk.address)),
        }
    }
    Ok(None)
}

/// A new mailbox has the list of the one above it (RFC 4314 §3.1 leaves it open).
pub(super) async fn inherit(shard: &Shard, desk: &Desk, name: &str) -> Result<(), Refusal> {
    let Some(from) = above(shard, desk, name)? else {
        return Ok(());
    };
    let partition = desk.partition(shard)?;
    let failed = |error| refusal(error, &desk.address);
    let to = partition.mailbox(&desk.address, name).map_err(failed)?.id;
    let done = partition.inherit_access(&desk.address, from, to).await;
    done.map_err(failed)
}

/// `rights`, if `needed` are among them. Who may not even see the mailbox is told that there is none
/// (RFC 4314 §6).
pub(super) fn need(rights: Rights, needed: Rights) -> Result<Rights, Refusal> {
    if rights.has(needed) {
        return Ok(rights);
    }
    Err(if rights.has(Rights::LOOKUP) {
        Refusal::Denied(format!("needs the right {needed}"))
    } else {
        Refusal::Missing
    })
}

/// Names of the keywords of the open mailbox.
pub(super) fn keywords_in_open(shard: &Shard, desk: &Desk) -> Vec<String> {
    let Ok(partition) = desk.partition(shard) else {
        return Vec::new();
    };
    let view = desk
        .open_id()
        .ok()
        .map(|id| partition.view(&desk.address, id));
    view.and_then(Result::ok)
        .map_or(Vec::new(), |view| view.keywords)
}

/// Mailboxes of an account that a user may look up.
pub(super) fn visible(
    shard: &Shard,
    account: &Address,
    user: (&Address, UidValidity),
) -> Vec<Mailbox> {
    let number = shard.partition_of(account);
    let Some(partition) = shard.partition(number) else {
        return Vec::new();
    };
    let infos = partition.mailboxes(account).unwrap_or_default().into_iter();
    infos
        .filter_map(|info| {
            let rights = granted(&partition.access_list(account, info.id), user);
            let mut mailbox = mailboxes::mailbox(number, info);
            mailbox.rights = rights;
            rights.has(Rights::LOOKUP).then_some(mailbox)
        })
        .collect()
}

/// Mailboxes of the account that who sits at the desk may look up.
pub(super) fn visible_at(shard: &Shard, desk: &Desk) -> Vec<MailboxInfo> {
    let Ok(partition) = desk.partition(shard) else {
        return Vec::new();
    };
    let mut infos = partition.mailboxes(&desk.address).unwrap_or_default();
    if let Some(guest) = &desk.guest {
        infos.retain(|info| {
            let list = partition.access_list(&desk.address, info.id);
            granted(&list, (&guest.user, guest.validity)).has(Rights::LOOKUP)
        });
    }
    infos
}

/// The visitor may ask this.
pub(super) fn check(shard: &Shard, desk: &Desk, access: &Access) -> Result<Rights, Refusal> {
    let rights = match access {
        Access::Set { name, .. }
        | Access::Delete { name, .. }
        | Access::Get { name }
        | Access::List { name, .. }
        | Access::Mine { name } => rights_in(shard, desk, name)?,
    };
    // RFC 4314 §4: MYRIGHTS takes any of these.
    let some = Rights::ALL
        .without(Rights::POST)
        .without(Rights::SEEN)
        .without(Rights::WRITE);
    match access {
        Access::Mine { .. } if rights.has_any(some) => Ok(rights),
        Access::Mine { .. } => Err(Refusal::Missing),
        _ => need(rights, Rights::ADMINISTER),
    }
}

/// An answer of the kind that belongs to this.
pub(super) fn refused(access: &Access, refusal: Refusal) -> Answer {
    match access {
        Access::Set { .. } | Access::Delete { .. } => Answer::Done(Err(refusal)),
        Access::Get { .. } | Access::List { .. } | Access::Mine { .. } => {
            Answer::Access(Err(refusal))
        }
    }
}

/// SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS, where the account is.
pub(super) fn answer(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, access: Access) -> Asked {
    let found = desk.partition(shard).and_then(|partition| {
        let info = partition.mailbox(&desk.address, access.name());
        let info = info.map_err(|error| refusal(error, &desk.address))?;
        Ok((partition, info.id))
    });
    let (partition, id) = match found {
        Ok(found) => found,
        Err(refusal) => return soon(shard, key, &desk, refused(&access, refusal)),
    };
    let owner = desk.address.as_str();
    let list = match access {
        Access::Get { .. } => {
            let home = Rc::clone(shard);
            return later(shard, key, async move {
                let list = partition.access_list(&desk.address, id);
                let (list, _) = divide(&home, list).await;
                let own = (desk.address.as_str().to_owned(), Rights::ALL);
                let others = list.into_iter();
                let others = others.map(|entry| (entry.whom, Rights(entry.rights)));
                Answer::Access(Ok(std::iter::once(own).chain(others).collect()))
            });
        }
        Access::Mine { .. } => match rights_by_id(shard, &desk, id) {
            Ok(rights) => vec![(String::new(), rights)],
            Err(refusal) => return soon(shard, key, &desk, Answer::Access(Err(refusal))),
        },
        // What they have whatever the list says.
        Access::List { whom, .. } => {
            let always = match whom == owner {
                true => Rights::ALL,
                false => Rights::NONE,
            };
            vec![(whom, always)]
        }
        Access::Set { whom, .. } | Access::Delete { whom, .. }
            if whom.trim_start_matches('-') == owner =>
        {
            let text = "the owner has all rights, always".to_owned();
            let refusal = Refusal::Cannot(text);
            return soon(shard, key, &desk, Answer::Done(Err(refusal)));
        }
        Access::Set { whom, how, .. } => {
            let home = Rc::clone(shard);
            return later(shard, key, async move {
                Answer::Done(set(&home, &desk, id, &whom, how).await)
            });
        }
        Access::Delete { whom, .. } => {
            let home = Rc::clone(shard);
            return later(shard, key, async move {
                let change = AccessChange::Replace(Rights::NONE);
                Answer::Done(set(&home, &desk, id, &whom, change).await)
            });
        }
    };
    soon(shard, key, &desk, Answer::Access(Ok(list)))
}

/// Changes an entry, and sees to it that those whom it is about can find the mailbox.
async fn set(
    shard: &Rc<Shard>,
    desk: &Desk,
    id: MailboxId,
    whom: &str,
    how: AccessChange,
) -> Result<(), Refusal> {
    let partition = desk.partition(shard)?;
    let account = &desk.address;
    let failed = |error| refusal(error, account);
    let _turn = match whom == ANYONE {
        true => Some(shard.desks.openings.0.acquire().await),
        false => None,
    };
    let holder = holder_of(shard, account, whom).await?;
    let changed = |before: u16| match how {
        AccessChange::Replace(rights) => rights.0,
        AccessChange::Add(rights) => Rights(before).with(rights).0,
        AccessChange::Remove(rights) => Rights(before).without(rights).0,
    };
    let gives = |rights: u16| rights != Rights::NONE.0 && !whom.starts_with('-');
    let list = partition.access_list(account, id);
    let before = list.iter().find(|known| known.whom == whom);
    if gives(changed(before.map_or(0, |known| known.rights))) {
        if whom != ANYONE && holder.is_none() {
            // Rights are an account's, and not those of one that comes to be called so.
            return Err(no_account(whom));
        }
        let_in(shard, account, whom).await?;
    }
    // Others may have changed it meanwhile: what counts is what it says when its turn comes.
    let change = || partition.change_access(account, id, (whom, holder), changed);
    let rights = match change().await {
        Err(StoreError::TooMany(_)) => {
            let (_, gone) = divide(shard, partition.access_list(account, id)).await;
            let done = partition.forget_access(account, id, gone).await;
            done.map_err(failed)?;
            change().await
        }
        rights => rights,
    };
    let rights = rights.map_err(failed)?;
    if gives(rights) {
        // Whoever looked in between has found nothing, and may have dropped the note.
        return let_in(shard, account, whom).await;
    }
    if whom == ANYONE {
        close_in_turn(shard, account).await?;
    }
    Ok(())
}

fn no_account(whom: &str) -> Refusal {
    Refusal::Cannot(format!("there is no account {whom}"))
}

/// The entries of a list that are about somebody, and those that are about accounts which were removed.
/// Where that cannot be told they count as the former.
async fn divide(shard: &Rc<Shard>, list: Vec<AccessEntry>) -> (Vec<AccessEntry>, Vec<AccessEntry>) {
    let mut by_partition: BTreeMap<u16, Vec<(usize, Address, UidValidity)>> = BTreeMap::new();
    for (place, entry) in list.iter().enumerate() {
        if let Some(holder) = entry.holder
            && let Ok(address) = Address::parse(&entry.whom)
        {
            let own = by_partition
                .entry(shard.partition_of(&address))
                .or_default();
            own.push((place, address, holder));
        }
    }
    let mut gone = BTreeSet::new();
    for (number, holders) in by_partition {
        let work = async move |partition: Rc<LocalPartition>| {
            let is_gone = |address: &Address, holder: UidValidity| {
                partition.account_validity(address) != Some(holder)
            };
            let of = holders.into_iter();
            let gone = of.filter(|(_, address, holder)| is_gone(address, *holder));
            Ok(gone.map(|(place, ..)| place).collect::<Vec<usize>>())
        };
        gone.extend(shard.on_partition(number, work).await.unwrap_or_default());
    }
    let (gone, here): (Vec<_>, Vec<_>) = list
        .into_iter()
        .enumerate()
        .partition(|(place, _)| gone.contains(place));
    let entries =
        |list: Vec<(usize, AccessEntry)>| list.into_iter().map(|(_, entry)| entry).collect();
    (entries(here), entries(gone))
}

/// Which account of this name an entry is to be about; `None`: whoever is called so.
async fn holder_of(
    shard: &Rc<Shard>,
    account: &Address,
    whom: &str,
) -> Result<Option<UidValidity>, Refusal> {
    // What is taken from somebody is taken from those, too, who come after them.
    if whom == ANYONE || whom.starts_with('-') {
        return Ok(None);
    }
    let Ok(grantee) = Address::parse(whom) else {
        return Ok(None);
    };
    let number = shard.partition_of(&grantee);
    let found = shard
        .on_partition(number, async move |partition| {
            Ok(partition.account_validity(&grantee))
        })
        .await;
    found.map_err(|error| refusal(error, account))
}

/// Notes where those whom an entry is about find it.
async fn let_in(shard: &Rc<Shard>, account: &Address, whom: &str) -> Result<(), Refusal> {
    if whom == ANYONE {
        let site = shard.site();
        let change = match site.share(account, true) {
            Ok(Some(change)) => change,
            Ok(None) => return Ok(()),
            Err(error) => return Err(Refusal::Limit(error.to_string())),
        };
        let done = Shards(Rc::clone(shard)).change_sharing(change).await;
        return done.map_err(|error| Refusal::Unavailable(error.to_string()));
    }
    let grantee = Address::parse(whom).map_err(|_| no_account(whom))?;
    let (of, by) = (grantee.clone(), account.clone());
    let noted = shard
        .on_partition(shard.partition_of(&grantee), async move |partition| {
            partition.set_let_in_by(&of, &by, true).await
        })
        .await;
    match noted {
        Err(StoreError::Missing) => Err(no_account(whom)),
        noted => noted.map_err(|error| refusal(error, account)),
    }
}

/// Takes the account off the list of those who share with anyone, if none of its mailboxes does.
pub(super) async fn close_to_anyone(shard: &Rc<Shard>, account: &Address) -> Result<(), Refusal> {
    let _turn = shard.desks.openings.0.acquire().await;
    close_in_turn(shard, account).await
}

async fn close_in_turn(shard: &Rc<Shard>, account: &Address) -> Result<(), Refusal> {
    let Ok(Some(change)) = shard.site().share(account, false) else {
        return Ok(());
    };
    let Some(partition) = shard.partition(shard.partition_of(account)) else {
        return Ok(());
    };
    let infos = partition.mailboxes(account).unwrap_or_default();
    let shares = |id| {
        let list = partition.access_list(account, id);
        list.iter().any(|entry| entry.whom == ANYONE)
    };
    if infos.iter().any(|info| shares(info.id)) {
        return Ok(());
    }
    let done = Shards(Rc::clone(shard)).change_sharing(change).await;
    done.map_err(|error| Refusal::Unavailable(error.to_string()))
}
