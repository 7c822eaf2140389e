//! What happened to the mailboxes, for those who want to be told (RFC 5465).

use std::collections::{BTreeMap, BTreeSet};

use ringpost::proto::imap::{Entry, Flags, Happening, Place};

use super::{Desk, World};

/// Things that happen before a session looks; more are too much.
const HAPPENINGS_MAX: usize = 20;

/// Something that happened, with a mailbox's id.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Messages(u64, bool, bool, bool),
    Name(String, Option<String>),
    Subscription(String),
    Metadata(Option<u64>, Entry),
}

/// What can change, at some moment.
pub(super) struct Moment {
    pub(super) folders: BTreeMap<u64, FolderState>,
    pub(super) subscribed: BTreeSet<String>,
    pub(super) annotations: BTreeMap<Entry, Vec<u8>>,
}

pub(super) struct FolderState {
    pub(super) name: String,
    pub(super) uid_next: u32,
    pub(super) messages: BTreeMap<u32, (Flags, u64)>,
    pub(super) annotations: BTreeMap<Entry, Vec<u8>>,
}

/// Entries that are not the same in both.
fn changed(old: &BTreeMap<Entry, Vec<u8>>, new: &BTreeMap<Entry, Vec<u8>>) -> Vec<Entry> {
    let all: BTreeSet<&Entry> = old.keys().chain(new.keys()).collect();
    let differs = |entry: &&Entry| old.get(*entry) != new.get(*entry);
    all.into_iter().filter(differs).cloned().collect()
}

impl World {
    pub(super) fn moment(&self) -> Moment {
        let folders = self.folders.iter();
        Moment {
            folders: folders
                .map(|(name, folder)| {
                    let messages = folder.messages.iter().map(|message| {
                        let row = message.row;
                        (row.uid, (row.flags, row.keywords))
                    });
                    let state = FolderState {
                        name: name.clone(),
                        uid_next: folder.uid_next,
                        messages: messages.collect(),
                        annotations: folder.annotations.clone(),
                    };
                    (folder.id, state)
                })
                .collect(),
            subscribed: self.subscribed.iter().cloned().collect(),
            annotations: self.annotations.clone(),
        }
    }

    /// Notes what has happened since that moment, and who did it.
    pub(super) fn note(&mut self, before: &Moment, by: u64) {
        let now = self.moment();
        let mut events = Vec::new();
        for (id, old) in &before.folders {
            let Some(new) = now.folders.get(id) else {
                events.push(Event::Name(old.name.clone(), None));
                continue;
            };
            if old.name != new.name {
                events.push(Event::Name(new.name.clone(), Some(old.name.clone())));
            }
            let gone = old
                .messages
                .keys()
                .any(|uid| !new.messages.contains_key(uid));
            let flags = old.messages.iter().any(|(uid, old)| {
                let now = new.messages.get(uid);
                now.is_some_and(|now| now != old)
            });
            let came = new.uid_next > old.uid_next;
            if came || gone || flags {
                events.push(Event::Messages(*id, came, gone, flags));
            }
            for entry in changed(&old.annotations, &new.annotations) {
                events.push(Event::Metadata(Some(*id), entry));
            }
        }
        for (id, new) in &now.folders {
            if !before.folders.contains_key(id) {
                events.push(Event::Name(new.name.clone(), None));
            }
        }
        for name in before.subscribed.symmetric_difference(&now.subscribed) {
            events.push(Event::Subscription(name.clone()));
        }
        for entry in changed(&before.annotations, &now.annotations) {
            events.push(Event::Metadata(None, entry));
        }
        self.events
            .extend(events.into_iter().map(|event| (by, event)));
    }

    /// What happened that this connection did not do and does not know of.
    pub(super) fn happened(&mut self, desk: &mut Desk) -> Option<Vec<Happening>> {
        let Some(known) = desk.known.replace(self.events.len()) else {
            desk.known = None;
            return Some(Vec::new());
        };
        let events: Vec<Event> = self.events[known..]
            .iter()
            .filter(|(by, _)| *by != desk.number)
            .map(|(_, event)| event.clone())
            .collect();
        if events.len() > HAPPENINGS_MAX {
            return None;
        }
        let mut told: Vec<Happening> = Vec::new();
        for event in events {
            match event {
                Event::Messages(id, ..) if desk.open == Some(id) => {}
                Event::Messages(id, new, gone, flags) => {
                    let Some(mailbox) = self.name_of(id).and_then(|name| self.info(&name).ok())
                    else {
                        continue;
                    };
                    let place = self.place(&mailbox.name);
                    told.push(Happening::Messages {
                        place,
                        mailbox: Box::new(mailbox),
                        new,
                        gone,
                        flags,
                    });
                }
                Event::Name(name, from) => {
                    let place = self.place(&name);
                    let above = name.rfind('/').filter(|_| from.is_none());
                    told.push(Happening::Name { place, from });
                    if let Some(end) = above {
                        told.push(Happening::Name {
                            place: self.place(&name[..end]),
                            from: None,
                        });
                    }
                }
                Event::Subscription(name) => told.push(Happening::Subscription {
                    place: self.place(&name),
                }),
                Event::Metadata(id, entry) => {
                    let place = match id {
                        None => None,
                        Some(id) => match self.name_of(id) {
                            Some(name) => Some(self.place(&name)),
                            None => continue,
                        },
                    };
                    told.push(Happening::Metadata {
                        place,
                        entries: vec![entry],
                    });
                }
            }
        }
        Some(told)
    }

    pub(super) fn name_of(&self, id: u64) -> Option<String> {
        let mut folders = self.folders.iter();
        let found = folders.find(|(_, folder)| folder.id == id);
        found.map(|(name, _)| name.clone())
    }

    pub(super) fn place(&self, name: &str) -> Place {
        let below = format!("{name}/");
        let folder = self.folders.get(name);
        Place {
            name: name.to_owned(),
            exists: folder.is_some(),
            is_denied: false,
            special_use: folder.and_then(|folder| folder.special_use),
            has_children: self.folders.keys().any(|name| name.starts_with(&below)),
            subscribed: self.subscribed.iter().any(|known| known == name),
        }
    }
}
