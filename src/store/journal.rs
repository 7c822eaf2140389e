//! What happened in an account, for whoever watches all of it.
//!
//! Guarantees: what a batch has done is told in its order, once it is durable; changes of messages
//! are told once a mailbox until they are taken. Memory is bounded: beyond
//! [`JOURNAL_EVENTS_MAX`] all is forgotten, and the taker learns that.
//! Does not know: sessions; who made a change, unless [`super::Watch::forget`] says so.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::change::Pended;
use super::commit::Entry;
use super::index::{CONDEMNED, Index};
use super::mailboxes::{AccountKey, read_account_key};
use super::sharing::Kind;
use super::{MailboxId, SEPARATOR, Uid};
use crate::limits::JOURNAL_EVENTS_MAX;
use crate::mail::Address;

/// Something that happened in an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// To messages of a mailbox.
    Messages(MessagesChanged),
    /// A mailbox was made.
    Made {
        /// Its name.
        name: String,
    },
    /// A mailbox has another name. Of those that were renamed with one above them nothing is said.
    Renamed {
        /// Its name before.
        from: String,
        /// And now.
        to: String,
    },
    /// A mailbox was removed.
    Removed {
        /// Its name before.
        name: String,
    },
    /// A name was subscribed to, or is not any more.
    Subscribed {
        /// Of a mailbox, or of none.
        name: String,
    },
    /// A small value was set or removed, see [`super::Partition::put_value`].
    Value {
        /// Whose it is; `None`: the account's.
        mailbox: Option<MailboxId>,
        /// Its key.
        key: Vec<u8>,
    },
    /// The access list of a mailbox has changed.
    Access {
        /// Which mailbox.
        mailbox: MailboxId,
    },
    /// Another account has let this one in, or notes that it does no longer, see
    /// [`super::Partition::let_in_by`].
    LetIn,
}

/// What happened to messages of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagesChanged {
    /// Which mailbox.
    pub mailbox: MailboxId,
    /// The lowest and the highest UID of messages that came.
    pub new: Option<(Uid, Uid)>,
    /// Some were expunged.
    pub gone: bool,
    /// Some have other flags.
    pub flags: bool,
}

/// What was not taken yet.
#[derive(Debug, Default)]
pub(super) struct Journal {
    list: Vec<Happening>,
    is_lost: bool,
}

impl Journal {
    /// Adds what happened.
    pub fn note(&mut self, happening: Happening) {
        if self.is_lost {
            return;
        }
        if let Happening::Messages(now) = &happening {
            let known = self.list.iter_mut().rev().find_map(|known| match known {
                Happening::Messages(known) if known.mailbox == now.mailbox => Some(known),
                _ => None,
            });
            if let Some(known) = known {
                known.gone |= now.gone;
                known.flags |= now.flags;
                known.new = match (known.new, now.new) {
                    (Some(old), Some(new)) => Some((old.0.min(new.0), old.1.max(new.1))),
                    (old, new) => old.or(new),
                };
                return;
            }
        }
        let is_state = matches!(happening, Happening::Access { .. } | Happening::LetIn);
        if is_state && self.list.last() == Some(&happening) {
            return;
        }
        if self.list.len() >= JOURNAL_EVENTS_MAX {
            self.list = Vec::new();
            self.is_lost = true;
            return;
        }
        self.list.push(happening);
    }

    /// All since the last call; `None`: it was too much, and is forgotten.
    pub fn take(&mut self) -> Option<Vec<Happening>> {
        let list = std::mem::take(&mut self.list);
        (!std::mem::take(&mut self.is_lost)).then_some(list)
    }

    /// Forgets one of these: the taker has done it. Of messages that came, only if no others have.
    pub fn forget(&mut self, own: &Happening) {
        let is_own = |known: &Happening| match (known, own) {
            (Happening::Messages(known), Happening::Messages(own)) => {
                let within = match (known.new, own.new) {
                    (Some(known), Some(own)) => own.0 <= known.0 && known.1 <= own.1,
                    (known, _) => known.is_none(),
                };
                known.mailbox == own.mailbox
                    && within
                    && known.gone <= own.gone
                    && known.flags <= own.flags
            }
            _ => known == own,
        };
        if let Some(index) = self.list.iter().position(is_own) {
            self.list.remove(index);
        }
    }
}

/// Names of the mailboxes that a batch changes, from before it is applied.
#[derive(Debug, Default)]
pub(super) struct NamesBefore {
    by_mailbox: FxHashMap<(Address, MailboxId), String>,
    /// What became of names that had a mailbox each.
    renamed: FxHashMap<(Address, String), String>,
}

impl NamesBefore {
    /// Looks them up, for accounts that are `watched`.
    pub fn of(index: &Index, changes: &[Entry], watched: impl Fn(&Address) -> bool) -> NamesBefore {
        let mut before = NamesBefore::default();
        let mut looked_up: FxHashMap<&Address, FxHashMap<MailboxId, Rc<str>>> =
            FxHashMap::default();
        for entry in changes {
            let (address, mailbox, new) = match &entry.change {
                Pended::PutMailbox {
                    address,
                    mailbox,
                    name,
                    ..
                } => (address, *mailbox, Some(name)),
                Pended::RemoveMailbox { address, mailbox } => (address, *mailbox, None),
                _ => continue,
            };
            if !watched(address) {
                continue;
            }
            let names = looked_up
                .entry(address)
                .or_insert_with(|| index.names(address).into_iter().collect());
            let Some(name) = names.get(&mailbox) else {
                continue;
            };
            if let Some(new) = new {
                let renamed = (address.clone(), name.to_string());
                before.renamed.insert(renamed, new.clone());
            }
            before
                .by_mailbox
                .insert((address.clone(), mailbox), name.to_string());
        }
        before
    }

    /// A mailbox above it was renamed, and it with that one (RFC 5465 §5.4).
    fn follows(&self, address: &Address, from: &str, to: &str) -> bool {
        from.rmatch_indices(SEPARATOR).any(|(end, _)| {
            let above = (address.clone(), from[..end].to_owned());
            let moved = self.renamed.get(&above);
            moved.is_some_and(|moved| to.strip_prefix(moved.as_str()) == Some(&from[end..]))
        })
    }

    /// What a change means to a watcher of its account; `None`: nothing that is told.
    pub fn happening(&self, change: &Pended) -> Option<Happening> {
        let before = |address: &Address, mailbox: MailboxId| {
            self.by_mailbox.get(&(address.clone(), mailbox)).cloned()
        };
        let messages = |mailbox, new, gone, flags| {
            Some(Happening::Messages(MessagesChanged {
                mailbox,
                new,
                gone,
                flags,
            }))
        };
        match change {
            Pended::Append { mailbox, uid, .. } => {
                messages(*mailbox, Some((*uid, *uid)), false, false)
            }
            Pended::Expunge { mailbox, .. } => messages(*mailbox, None, true, false),
            Pended::Flags { mailbox, .. } => messages(*mailbox, None, false, true),
            // Its messages go bit by bit, but nobody sees it any more.
            Pended::PutMailbox {
                address,
                mailbox,
                special_use: CONDEMNED,
                ..
            }
            | Pended::RemoveMailbox { address, mailbox } => {
                let name = before(address, *mailbox)?;
                Some(Happening::Removed { name })
            }
            Pended::PutMailbox {
                address,
                mailbox,
                name,
                ..
            } => match before(address, *mailbox) {
                None => Some(Happening::Made { name: name.clone() }),
                Some(from) if from == *name || self.follows(address, &from, name) => None,
                Some(from) => Some(Happening::Renamed {
                    from,
                    to: name.clone(),
                }),
            },
            _ => None,
        }
    }
}

/// The account of a key, and what its change means to a watcher of that account.
pub(super) fn happening_of_key(key: &[u8]) -> Option<(Address, Happening)> {
    let AccountKey {
        address,
        mailbox,
        subscribed,
        value,
        sharing,
    } = read_account_key(key)?;
    let happening = match (subscribed, value) {
        (Some(name), _) => Happening::Subscribed {
            name: String::from_utf8_lossy(name).into_owned(),
        },
        (None, Some(key)) => Happening::Value {
            mailbox,
            key: key.to_vec(),
        },
        (None, None) => match (sharing?, mailbox) {
            (Kind::Access, Some(mailbox)) => Happening::Access { mailbox },
            (Kind::LetIn, None) => Happening::LetIn,
            _ => return None,
        },
    };
    Some((Address::parse(address).ok()?, happening))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(mailbox: u64, uid: Uid) -> Happening {
        Happening::Messages(MessagesChanged {
            mailbox: MailboxId(mailbox),
            new: Some((uid, uid)),
            gone: false,
            flags: false,
        })
    }

    #[test]
    fn messages_are_told_once_a_mailbox() {
        let mut journal = Journal::default();
        for uid in 1..=5000 {
            journal.note(came(1, uid));
            journal.note(came(2, uid));
        }
        journal.forget(&came(2, 5000));
        let list = journal.take().expect("two mailboxes are not too much");
        assert_eq!(list.len(), 2);
        let Happening::Messages(first) = &list[0] else {
            panic!("{list:?}");
        };
        assert_eq!(first.new, Some((1, 5000)));
        assert_eq!(journal.take(), Some(Vec::new()));
    }

    #[test]
    fn a_list_that_changes_often_is_told_once() {
        let access = |mailbox| Happening::Access {
            mailbox: MailboxId(mailbox),
        };
        let mut journal = Journal::default();
        for _ in 0..=JOURNAL_EVENTS_MAX {
            journal.note(access(1));
        }
        for _ in 0..=JOURNAL_EVENTS_MAX {
            journal.note(Happening::LetIn);
        }
        assert_eq!(journal.take(), Some(vec![access(1), Happening::LetIn]));
    }

    #[test]
    fn what_one_did_oneself_is_forgotten_once() {
        let mut journal = Journal::default();
        let value = Happening::Value {
            mailbox: None,
            key: b"x".to_vec(),
        };
        journal.note(value.clone());
        journal.note(value.clone());
        journal.forget(&value);
        journal.note(came(1, 7));
        journal.forget(&came(1, 7));
        assert_eq!(journal.take(), Some(vec![value]));
    }

    #[test]
    fn too_much_is_lost_and_said_so() {
        let mut journal = Journal::default();
        for number in 0..=JOURNAL_EVENTS_MAX as u64 {
            journal.note(came(number, 1));
        }
        assert_eq!(journal.take(), None);
        journal.note(came(1, 2));
        assert_eq!(journal.take(), Some(vec![came(1, 2)]));
    }
}
