//! Tells the owner of idle sessions which of them have something to look at. No polling.
//!
//! A watch is a word of its owner's choice (a *token*) for one mailbox, or for all of an account.
//! A batch that is durable queues the tokens of what it changed, each once until they are fetched;
//! the owner has one task that fetches them and wakes those sessions. Who watches a mailbox asks what
//! has changed since the MODSEQ it knows of; who watches an account takes what its journal has.
//!
//! Guarantees: no change is missed between a look and a watch that was made before it. Memory is
//! bounded by the number of watches.
//! Does not know: sessions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::change::Pended;
use super::commit::Entry;
use super::disk::Disk;
use super::index::Index;
use super::journal::{Happening, Journal, NamesBefore, happening_of_key};
use super::partition::Partition;
use super::wait::Notify;
use super::{MailboxId, StoreError};
use crate::limits::WATCHES_MAX;
use crate::mail::Address;

#[derive(Debug)]
struct Watched {
    token: u64,
    /// `None`: all of the account.
    mailbox: Option<MailboxId>,
    /// What happened in the account.
    journal: Option<RefCell<Journal>>,
    is_queued: Cell<bool>,
}

#[derive(Debug, Default)]
struct Shared {
    by_address: RefCell<FxHashMap<Address, Vec<Rc<Watched>>>>,
    count: Cell<usize>,
    /// Of these, watches of whole accounts.
    journals: Cell<usize>,
    queued: RefCell<Vec<Rc<Watched>>>,
    notify: Notify,
    ended: Cell<bool>,
}

/// The watches of a partition.
#[derive(Debug, Default)]
pub(super) struct Watches(Rc<Shared>);

/// A watch; ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    address: Address,
    watched: Rc<Watched>,
    shared: Rc<Shared>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_address = self.shared.by_address.borrow_mut();
        if let Some(list) = by_address.get_mut(&self.address) {
            list.retain(|own| !Rc::ptr_eq(own, &self.watched));
            if list.is_empty() {
                by_address.remove(&self.address);
            }
        }
        self.shared.count.set(self.shared.count.get() - 1);
        if self.watched.journal.is_some() {
            self.shared.journals.set(self.shared.journals.get() - 1);
        }
        // Its token must not be taken for that of whoever gets the word next.
        let mut queued = self.shared.queued.borrow_mut();
        if self.watched.is_queued.get() {
            queued.retain(|own| !Rc::ptr_eq(own, &self.watched));
        }
    }
}

impl Watch {
    /// Bytes of memory that one takes beside itself, without what its journal holds.
    pub const HELD_BYTES: usize = size_of::<Watched>() + 4 * size_of::<usize>();

    /// What happened in the account since the last call, or since the watch began; nothing for the
    /// watch of one mailbox. `None`: more than [`crate::limits::JOURNAL_EVENTS_MAX`], and all of it is
    /// forgotten.
    pub fn take(&self) -> Option<Vec<Happening>> {
        match &self.watched.journal {
            Some(journal) => journal.borrow_mut().take(),
            None => Some(Vec::new()),
        }
    }

    /// The owner has done this itself, and it is done: once, nothing is said of it.
    pub fn forget(&self, own: &Happening) {
        if let Some(journal) = &self.watched.journal {
            journal.borrow_mut().forget(own);
        }
    }
}

impl Watches {
    /// The names that mailboxes have before these changes, where somebody will be told of them.
    pub fn names_before(&self, index: &Index, changes: &[Entry]) -> NamesBefore {
        if self.0.journals.get() == 0 {
            return NamesBefore::default();
        }
        let by_address = self.0.by_address.borrow();
        NamesBefore::of(index, changes, |address| {
            let list = by_address.get(address).into_iter().flatten();
            list.into_iter().any(|watched| watched.journal.is_some())
        })
    }

    /// These changes are visible now.
    pub fn tell(&self, changes: &[Entry], before: &NamesBefore) {
        if self.0.count.get() == 0 {
            return;
        }
        let has_journals = self.0.journals.get() > 0;
        let by_address = self.0.by_address.borrow();
        let mut queued = self.0.queued.borrow_mut();
        for entry in changes {
            if let Pended::Key { key, .. } = &entry.change {
                let found = has_journals.then(|| happening_of_key(key)).flatten();
                let Some((address, happening)) = found else {
                    continue;
                };
                for watched in by_address.get(&address).into_iter().flatten() {
                    if let Some(journal) = &watched.journal {
                        journal.borrow_mut().note(happening.clone());
                        if !watched.is_queued.replace(true) {
                            queued.push(watched.clone());
                        }
                    }
                }
                continue;
            }
            let of = match &entry.change {
                Pended::PutAccount { .. } | Pended::RemoveAccount { .. } => None,
                Pended::PutMailbox { mailbox, .. }
                | Pended::RemoveMailbox { mailbox, .. }
                | Pended::Append { mailbox, .. }
                | Pended::Flags { mailbox, .. }
                | Pended::Expunge { mailbox, .. } => Some(*mailbox),
                _ => continue,
            };
            let list = entry.change.address().and_then(|a| by_address.get(a));
            for watched in list.into_iter().flatten() {
                let concerns = of.is_none() || watched.mailbox.is_none() || watched.mailbox == of;
                if !concerns {
                    continue;
                }
                if let Some(journal) = &watched.journal
                    && let Some(happening) = before.happening(&entry.change)
                {
                    journal.borrow_mut().note(happening);
                }
                if !watched.is_queued.replace(true) {
                    queued.push(watched.clone());
                }
            }
        }
        if !queued.is_empty() {
            self.0.notify.notify();
        }
    }

    /// Who watches this mailbox has to look again, though nothing in it has changed.
    pub fn look_again(&self, address: &Address, mailbox: MailboxId) {
        let by_address = self.0.by_address.borrow();
        let mut queued = self.0.queued.borrow_mut();
        for watched in by_address.get(address).into_iter().flatten() {
            if watched.mailbox == Some(mailbox) && !watched.is_queued.replace(true) {
                queued.push(watched.clone());
            }
        }
        if !queued.is_empty() {
            self.0.notify.notify();
        }
    }

    /// Nothing comes any more.
    pub fn end(&self) {
        self.0.ended.set(true);
        self.0.notify.notify();
    }
}

impl<D: Disk> Partition<D> {
    /// From now on `token` is among [`Partition::notices`] when something of a mailbox has changed,
    /// or with `None` anything of the account: see [`Watch::take`].
    ///
    /// # Errors
    /// `Missing`; `TooMany` watches ([`WATCHES_MAX`]).
    pub fn watch(
        &self,
        address: &Address,
        mailbox: Option<MailboxId>,
        token: u64,
    ) -> Result<Watch, StoreError> {
        let looks_at = mailbox.unwrap_or(MailboxId::INBOX);
        if !self.index.borrow().has_mailbox(address, looks_at) {
            return Err(StoreError::Missing);
        }
        let shared = &self.watches.0;
        if shared.count.get() >= WATCHES_MAX {
            return Err(StoreError::TooMany("watches"));
        }
        let watched = Rc::new(Watched {
            token,
            mailbox,
            journal: mailbox.is_none().then(RefCell::default),
            is_queued: Cell::new(false),
        });
        let mut by_address = shared.by_address.borrow_mut();
        match by_address.get_mut(address) {
            Some(list) => list.push(watched.clone()),
            None => {
                by_address.insert(address.clone(), vec![watched.clone()]);
            }
        }
        shared.count.set(shared.count.get() + 1);
        if mailbox.is_none() {
            shared.journals.set(shared.journals.get() + 1);
        }
        Ok(Watch {
            address: address.clone(),
            watched,
            shared: shared.clone(),
        })
    }

    /// Waits for changes of what is watched: tokens, each once. Empty: the partition has closed.
    /// One task at a time may wait.
    pub async fn notices(&self) -> Vec<u64> {
        loop {
            let queued = self.watches.0.queued.take();
            if !queued.is_empty() || self.watches.0.ended.get() {
                let token = |watched: Rc<Watched>| {
                    watched.is_queued.set(false);
                    watched.token
                };
                return queued.into_iter().map(token).collect();
            }
            self.watches.0.notify.wait().await;
        }
    }
}
