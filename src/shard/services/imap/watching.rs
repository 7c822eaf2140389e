//! What a session watches at other accounts (RFC 5465): where, and what happened there, under the names
//! that it has here.
//!
//! Guarantees: an account is watched from a desk there as long as the session wants it, at most
//! [`IMAP_WATCHED_ACCOUNTS_MAX`] of them; only those with news are asked. What may be told is decided
//! there, when it is asked (RFC 5465 §5.9): rights that come or go later count.
//! Does not know: which events a client wants.
//! On failure: an account that is not there is looked for again with the next news.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::super::super::Shard;
use super::super::super::conn::ConnKey;
use super::super::Asked;
use super::guests::run;
use super::shared::{as_other, owners};
use super::visits::{call, release_at};
use super::{Desk, later};
use crate::limits::IMAP_WATCHED_ACCOUNTS_MAX;
use crate::mail::Address;
use crate::proto::imap::{Answer, Ask, Happening, Located, Place, Refusal, name_of_other};
use crate::store::{SEPARATOR, canonical_name};

/// What of others' a session wants to be told of.
#[derive(Clone)]
pub(super) struct Watching {
    /// Mailboxes, and those below them.
    names: Vec<String>,
    /// What it is subscribed to, too.
    subscribed: bool,
}

/// The session wants to be told what happens to these from now on.
pub(super) fn begin(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    names: Vec<String>,
    subscribed: bool,
) -> Asked {
    let home = Rc::clone(shard);
    later(shard, key, async move {
        if names.is_empty() && !subscribed {
            stop(&home, key, &desk).await;
            return Answer::Watched(Ok(names));
        }
        let names: Vec<String> = names.iter().map(|name| own_name(&desk, name)).collect();
        let watching = Watching {
            names: names.clone(),
            subscribed,
        };
        let before = desk.with_visits(|visits| visits.watching.replace(Box::new(watching)));
        match refresh(&home, key, &desk).await {
            Ok(()) => Answer::Watched(Ok(names)),
            Err(refusal) => {
                // Nothing was changed yet, and what was wanted before still holds.
                desk.with_visits(|visits| visits.watching = before);
                Answer::Watched(Err(refusal))
            }
        }
    })
}

/// The session wants to be told nothing any more.
pub(super) fn end(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>) -> Asked {
    let home = Rc::clone(shard);
    later(shard, key, async move {
        stop(&home, key, &desk).await;
        run(&home, key, &desk, Ask::WatchAccount { on: false }).await
    })
}

async fn stop(home: &Rc<Shard>, key: ConnKey, desk: &Rc<Desk>) {
    let watched = desk.with_visits(|visits| {
        visits.watching = None;
        let watched = visits.stays.iter().filter(|stay| stay.watched);
        watched.map(|stay| stay.account.clone()).collect::<Vec<_>>()
    });
    for account in watched {
        watch(home, key, desk, &account, false).await;
    }
}

/// What the session subscribes to may be somebody else's.
pub(super) fn subscribe(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, ask: Ask) -> Asked {
    let home = Rc::clone(shard);
    later(shard, key, async move {
        let answer = run(&home, key, &desk, ask).await;
        // That it is too much is told with what happens next.
        let _ = refresh(&home, key, &desk).await;
        answer
    })
}

/// What happened in the account and in those that are watched.
pub(super) fn happened(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    with_subscribed: bool,
) -> Asked {
    let home = Rc::clone(shard);
    later(shard, key, async move {
        let ask = || Ask::Happened { with_subscribed };
        let mut told = match run(&home, key, &desk, ask()).await {
            Answer::Happened(Ok(Some(told))) => told,
            answer => return answer,
        };
        if refresh(&home, key, &desk).await.is_err() {
            return Answer::Happened(Ok(None));
        }
        let news = desk.with_visits(|visits| {
            let with_news = visits
                .stays
                .iter_mut()
                .filter(|stay| stay.watched && stay.has_news);
            let taken = with_news.map(|stay| {
                stay.has_news = false;
                stay.account.clone()
            });
            taken.collect::<Vec<_>>()
        });
        if news.is_empty() {
            return Answer::Happened(Ok(Some(told)));
        }
        let subscribed: BTreeSet<String> = match desk.partition(&home) {
            Ok(partition) => partition.subscriptions(&desk.address).into_iter().collect(),
            Err(refusal) => return Answer::Happened(Err(refusal)),
        };
        for account in news {
            match call(&home, key, &desk, &account, ask()).await {
                Answer::Happened(Ok(Some(list))) => {
                    let list = list.into_iter();
                    told.extend(list.map(|happening| at_other(happening, &account, &subscribed)));
                }
                Answer::Happened(Ok(None)) => return Answer::Happened(Ok(None)),
                // It has gone, or its disk does not answer: of the others can be told.
                _ => {}
            }
        }
        Answer::Happened(Ok(Some(told)))
    })
}

/// Watches what is to be watched now, and nothing else.
async fn refresh(home: &Rc<Shard>, key: ConnKey, desk: &Rc<Desk>) -> Result<(), Refusal> {
    let watching = desk.with_visits(|visits| visits.watching.clone());
    let wanted = match watching {
        Some(watching) => accounts(home, desk, &watching)?,
        None => Vec::new(),
    };
    if wanted.len() > IMAP_WATCHED_ACCOUNTS_MAX {
        let text = format!("at most {IMAP_WATCHED_ACCOUNTS_MAX} other accounts can be watched");
        return Err(Refusal::Limit(text));
    }
    let (missing, surplus) = desk.with_visits(|visits| {
        let watched = visits.stays.iter().filter(|stay| stay.watched);
        let watched: Vec<Address> = watched.map(|stay| stay.account.clone()).collect();
        let differ = |these: &[Address], those: &[Address]| {
            let differ = these.iter().filter(|account| !those.contains(account));
            differ.cloned().collect::<Vec<_>>()
        };
        (differ(&wanted, &watched), differ(&watched, &wanted))
    });
    for account in surplus {
        watch(home, key, desk, &account, false).await;
    }
    for account in missing {
        watch(home, key, desk, &account, true).await;
    }
    Ok(())
}

async fn watch(home: &Rc<Shard>, key: ConnKey, desk: &Rc<Desk>, account: &Address, on: bool) {
    let answer = call(home, key, desk, account, Ask::WatchAccount { on }).await;
    let is_watched = on && matches!(answer, Answer::Done(Ok(())));
    let surplus = desk.with_visits(|visits| {
        let mut stays = visits.stays.iter_mut();
        if let Some(stay) = stays.find(|stay| stay.account == *account) {
            stay.watched = is_watched;
            // The word of what came before this answer had nowhere to go.
            stay.has_news = is_watched;
        }
        visits.surplus(account)
    });
    for stay in &surplus {
        release_at(home, stay);
    }
}

/// Where the mailboxes are that are to be watched.
fn accounts(home: &Shard, desk: &Desk, watching: &Watching) -> Result<Vec<Address>, Refusal> {
    let partition = desk.partition(home)?;
    let mut accounts = Vec::new();
    let mut all = None;
    for name in &watching.names {
        match desk.locate(name) {
            Located::Own(_) => {}
            Located::Of(account, _) => accounts.push(account),
            Located::Nowhere => {
                let all = all.get_or_insert_with(|| owners(home, desk, &partition));
                let above = format!("{}{SEPARATOR}", name.trim_end_matches(SEPARATOR));
                let below = all
                    .iter()
                    .filter(|owner| name_of_other(owner, "").starts_with(&above));
                accounts.extend(below.cloned());
            }
        }
    }
    if watching.subscribed {
        for name in partition.subscriptions(&desk.address) {
            if let Located::Of(account, _) = desk.locate(&name) {
                accounts.push(account);
            }
        }
    }
    accounts.sort_unstable();
    accounts.dedup();
    Ok(accounts)
}

/// The name by which a mailbox is told of, however it is called.
fn own_name(desk: &Desk, name: &str) -> String {
    let canonical = |name: String| canonical_name(&name).unwrap_or(name);
    match desk.locate(name) {
        Located::Own(own) => canonical(own),
        Located::Of(account, there) => name_of_other(&account, &canonical(there)),
        Located::Nowhere => name.to_owned(),
    }
}

/// The same as it is called here.
fn at_other(happening: Happening, account: &Address, subscribed: &BTreeSet<String>) -> Happening {
    let name = |name: String| name_of_other(account, &name);
    let here = |place: Place| {
        let name = name(place.name);
        Place {
            subscribed: subscribed.contains(&name),
            special_use: None,
            name,
            ..place
        }
    };
    match happening {
        Happening::Messages {
            place,
            mailbox,
            new,
            gone,
            flags,
        } => Happening::Messages {
            place: here(place),
            mailbox: Box::new(as_other(*mailbox, account)),
            new,
            gone,
            flags,
        },
        Happening::Name { place, from } => Happening::Name {
            place: here(place),
            from: from.map(name),
        },
        Happening::Subscription { place } => Happening::Subscription { place: here(place) },
        Happening::Metadata { place, entries } => Happening::Metadata {
            place: place.map(here),
            entries,
        },
    }
}
