//! What happened in the account, for sessions that watch all of it (RFC 5464 §4.4.2, RFC 5465): from
//! the store's numbers and keys to names and annotations.
//!
//! Guarantees: a guest is told of mailboxes that it may look up, of messages in those that it may read,
//! and of annotations that it may see, by the rights of that moment; that a mailbox comes into its sight
//! or goes out of it is told, too (RFC 5465 §5.9).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::super::super::conn::ConnKey;
use super::super::super::wait::breathe;
use super::super::super::{LocalPartition, Shard};
use super::super::Asked;
use super::annotations::{self, entry_of};
use super::mailboxes::{attribute, mailbox};
use super::{Desk, acl, at_once, later, refusal, soon};
use crate::proto::imap::{Answer, Happening, Place, Refusal, Rights};
use crate::store::{self, MailboxId, SEPARATOR};

/// Mailboxes that a guest may look up, as far as it was told. They say which names it may be told of that
/// are gone. At most `limits::MAILBOXES_MAX`.
pub(super) type Seen = BTreeMap<MailboxId, String>;

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
        if let Some(guest) = &desk.guest {
            guest.seen.replace(in_sight(shard, desk));
        }
    }
    Ok(())
}

/// What a guest may look up now.
fn in_sight(shard: &Shard, desk: &Desk) -> Seen {
    let visible = acl::visible_at(shard, desk).into_iter();
    visible.map(|info| (info.id, info.name)).collect()
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
        shard: Rc::clone(shard),
        partition,
        reader: desk.reader(),
        desk: Rc::clone(&desk),
        with_subscribed,
        names: None,
        subscribed: None,
        told: Vec::new(),
    };
    if list.len() <= SLICE {
        for happening in list {
            lookup.add(happening);
        }
        return soon(shard, key, &desk, Answer::Happened(Ok(Some(lookup.told))));
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
    shard: Rc<Shard>,
    partition: Rc<LocalPartition>,
    desk: Rc<Desk>,
    /// Whose private annotations are told of.
    reader: String,
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
                let rights = self.rights(info.id);
                if !rights.has(Rights::LOOKUP.with(Rights::READ)) {
                    return;
                }
                let mut mailbox = mailbox(self.desk.partition, info);
                mailbox.rights = rights;
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
                if self.tell_name(name.clone(), None) {
                    self.tell_above(&name);
                }
            }
            store::Happening::Renamed { from, to } => {
                let knew = self.has_seen(&from);
                self.rename_seen(&from, &to);
                self.tell_name(to, Some(from).filter(|_| knew));
            }
            store::Happening::Subscribed { name } => {
                if self.desk.guest.is_none() {
                    let place = self.listed(name);
                    self.told.push(Happening::Subscription { place });
                }
            }
            store::Happening::Value { mailbox, key } => self.add_value(mailbox, &key),
            store::Happening::Access { mailbox } => self.add_access(mailbox),
            // The account itself says nothing to clients.
            store::Happening::LetIn => {}
        }
    }

    /// Of who sits at the desk.
    fn rights(&self, mailbox: MailboxId) -> Rights {
        acl::rights_by_id(&self.shard, &self.desk, mailbox).unwrap_or(Rights::NONE)
    }

    /// A guest has seen a mailbox of this name.
    fn has_seen(&self, name: &str) -> bool {
        match &self.desk.guest {
            Some(guest) => guest.seen.borrow().values().any(|seen| seen == name),
            None => true,
        }
    }

    /// `false`: a guest need not know.
    fn tell_name(&mut self, name: String, from: Option<String>) -> bool {
        let place = self.listed(name);
        let is_told = self.note_seen(&place);
        if is_told {
            self.told.push(Happening::Name { place, from });
        }
        is_told
    }

    /// RFC 5465 §5.4: the level above is affected as well.
    fn tell_above(&mut self, name: &str) {
        if let Some(end) = name.rfind(SEPARATOR) {
            self.tell_name(name[..end].to_owned(), None);
        }
    }

    /// Remembers what a guest sees; `false`: it neither sees this now nor did so before.
    fn note_seen(&self, place: &Place) -> bool {
        let Some(guest) = &self.desk.guest else {
            return true;
        };
        let mut seen = guest.seen.borrow_mut();
        let found = self.partition.mailbox(&self.desk.address, &place.name);
        match found {
            Ok(info) if place.exists => {
                seen.insert(info.id, info.name);
                true
            }
            _ => {
                let before = seen.len();
                seen.retain(|_, name| *name != place.name);
                seen.len() < before
            }
        }
    }

    /// A mailbox has another name, and with it what is below.
    fn rename_seen(&self, from: &str, to: &str) {
        let Some(guest) = &self.desk.guest else {
            return;
        };
        for name in guest.seen.borrow_mut().values_mut() {
            let rest = name.strip_prefix(from);
            let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with(SEPARATOR));
            if let Some(rest) = rest {
                *name = format!("{to}{rest}");
            }
        }
    }

    /// Rights have come or gone.
    fn add_access(&mut self, id: MailboxId) {
        let Some(guest) = &self.desk.guest else {
            return;
        };
        let Ok(info) = self.partition.mailbox_info(&self.desk.address, id) else {
            return;
        };
        let may = self.rights(id).has(Rights::LOOKUP);
        if may == guest.seen.borrow().contains_key(&id) {
            return;
        }
        // Those that were looked up are from before.
        self.names = None;
        let mut place = self.listed(info.name.clone());
        self.note_seen(&place);
        // It is there, which this user knew (RFC 5465 §5.9).
        place.is_denied = !may;
        self.told.push(Happening::Name { place, from: None });
        self.tell_above(&info.name);
    }

    fn add_value(&mut self, id: Option<MailboxId>, key: &[u8]) {
        let Some(entry) = entry_of(key, &self.reader) else {
            return;
        };
        let may = |id| annotations::need(self.rights(id), false).is_ok();
        let place = match id {
            // What an owner notes of the server is no guest's business.
            None if self.desk.guest.is_some() => return,
            Some(id) if self.desk.guest.is_some() && !may(id) => return,
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
            is_denied: false,
            exists: true,
            special_use,
            has_children: false,
            name,
        }
    }

    /// A name, with all that LIST says of it.
    fn listed(&mut self, name: String) -> Place {
        let names = self.names.get_or_insert_with(|| {
            let all = acl::visible_at(&self.shard, &self.desk).into_iter();
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
            is_denied: false,
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
