//! What happened in the account, for sessions that watch all of it (RFC 5464 §4.4.2, RFC 5465): from
//! the store's numbers and keys to names and annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::super::super::conn::ConnKey;
use super::super::super::wait::breathe;
use super::super::super::{LocalPartition, Shard};
use super::super::Asked;
use super::annotations::entry_of;
use super::mailboxes::{attribute, mailbox};
use super::{Desk, at_once, later, refusal};
use crate::proto::imap::{Answer, Happening, Place, Refusal};
use crate::store::{self, MailboxId, SEPARATOR};

/// Things that are looked up in one go.
const SLICE: usize = 16;

/// The session wants to be woken when something happens in its account, or does not any more.
pub(super) fn watch(shard: &Shard, key: ConnKey, desk: &Desk, on: bool) -> Result<(), Refusal> {
    let mut account = desk.account.borrow_mut();
    if !on {
        *account = None;
    } else if account.is_none() {
        let partition = desk.partition(shard)?;
        let watch = partition.watch(&desk.address, None, key.token().0);
        *account = Some(watch.map_err(|error| refusal(error, &desk.address))?);
    }
    Ok(())
}

/// What happened since this was last asked.
pub(super) fn happened(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    with_subscribed: bool,
) -> Asked {
    let taken = desk.account.borrow().as_ref().map(store::Watch::take);
    let list = match taken {
        None => Vec::new(),
        Some(Some(list)) => list,
        Some(None) => return at_once(Answer::Happened(Ok(None))),
    };
    let partition = match desk.partition(shard) {
        Ok(partition) => partition,
        Err(refusal) => return at_once(Answer::Happened(Err(refusal))),
    };
    let mut lookup = Lookup {
        partition,
        desk,
        with_subscribed,
        names: None,
        subscribed: None,
        told: Vec::new(),
    };
    if list.len() <= SLICE {
        for happening in list {
            lookup.add(happening);
        }
        return at_once(Answer::Happened(Ok(Some(lookup.told))));
    }
    later(shard, key, async move {
        for (index, happening) in list.into_iter().enumerate() {
            if index % SLICE == 0 {
                breathe().await;
            }
            lookup.add(happening);
        }
        Answer::Happened(Ok(Some(lookup.told)))
    })
}

struct Lookup {
    partition: Rc<LocalPartition>,
    desk: Rc<Desk>,
    with_subscribed: bool,
    /// All mailboxes and their special uses, once one is asked for.
    names: Option<BTreeMap<String, Option<&'static str>>>,
    subscribed: Option<BTreeSet<String>>,
    told: Vec<Happening>,
}

impl Lookup {
    fn add(&mut self, happening: store::Happening) {
        match happening {
            store::Happening::Messages(changed) => {
                let open = self.desk.open.borrow().as_ref().map(|open| open.id);
                if open == Some(changed.mailbox) {
                    return;
                }
                // A mailbox that is gone by now has an event of its own.
                let found = self
                    .partition
                    .mailbox_info(&self.desk.address, changed.mailbox);
                let Ok(info) = found else {
                    return;
                };
                let mailbox = mailbox(self.desk.partition, info);
                let place = self.place_of(mailbox.name.clone(), mailbox.special_use);
                self.told.push(Happening::Messages {
                    place,
                    mailbox: Box::new(mailbox),
                    new: changed.new.is_some(),
                    gone: changed.gone,
                    flags: changed.flags,
                });
            }
            store::Happening::Made { name } | store::Happening::Removed { name } => {
                // RFC 5465 §5.4: the level above is affected as well.
                let above = name.rfind(SEPARATOR).map(|end| name[..end].to_owned());
                self.tell_name(name, None);
                if let Some(above) = above {
                    self.tell_name(above, None);
                }
            }
            store::Happening::Renamed { from, to } => self.tell_name(to, Some(from)),
            store::Happening::Subscribed { name } => {
                let place = self.listed(name);
                self.told.push(Happening::Subscription { place });
            }
            store::Happening::Value { mailbox, key } => self.add_value(mailbox, &key),
        }
    }

    fn tell_name(&mut self, name: String, from: Option<String>) {
        let place = self.listed(name);
        self.told.push(Happening::Name { place, from });
    }

    fn add_value(&mut self, id: Option<MailboxId>, key: &[u8]) {
        let Some(entry) = entry_of(key, &self.desk.address) else {
            return;
        };
        let place = match id {
            None => None,
            Some(id) => match self.partition.mailbox_info(&self.desk.address, id) {
                Ok(info) => Some(self.place_of(info.name, info.special_use.map(attribute))),
                // Its annotations went with it.
                Err(_) => return,
            },
        };
        if let Some(Happening::Metadata {
            place: known,
            entries,
        }) = self.told.last_mut()
            && *known == place
        {
            if !entries.contains(&entry) {
                entries.push(entry);
            }
            return;
        }
        let entries = vec![entry];
        self.told.push(Happening::Metadata { place, entries });
    }

    /// A mailbox that is there.
    fn place_of(&mut self, name: String, special_use: Option<&'static str>) -> Place {
        Place {
            subscribed: self.with_subscribed && self.is_subscribed(&name),
            exists: true,
            special_use,
            has_children: false,
            name,
        }
    }

    /// A name, with all that LIST says of it.
    fn listed(&mut self, name: String) -> Place {
        let names = self.names.get_or_insert_with(|| {
            let all = self.partition.mailboxes(&self.desk.address);
            let all = all.unwrap_or_default().into_iter();
            all.map(|info| (info.name, info.special_use.map(attribute)))
                .collect()
        });
        let found = names.get(&name).copied();
        let below = format!("{name}{SEPARATOR}");
        let mut after = names.range(below.clone()..);
        let has_children = after
            .next()
            .is_some_and(|(next, _)| next.starts_with(&below));
        Place {
            subscribed: self.is_subscribed(&name),
            exists: found.is_some(),
            special_use: found.flatten(),
            has_children,
            name,
        }
    }

    fn is_subscribed(&mut self, name: &str) -> bool {
        let subscribed = self.subscribed.get_or_insert_with(|| {
            let all = self.partition.subscriptions(&self.desk.address);
            all.into_iter().collect()
        });
        subscribed.contains(name)
    }
}
