//! Names of mailboxes, remembered for accounts in use: sessions ask for them with every NOOP.
//!
//! Guarantees: what is remembered is what the layers say; whatever changes a name, or what there is
//! to be named, forgets the account's ([`Names::forget`]).
//! Does not know: layers, what a name may be.

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::Index;
use crate::limits::REMEMBERED_NAMES_MAX;
use crate::mail::Address;
use crate::store::{INBOX_NAME, MailboxId};

/// What a mailbox without a record of its name is called.
fn name_of_lost(id: MailboxId) -> String {
    format!("Recovered {}", id.0)
}

/// Names of one account's mailboxes.
#[derive(Debug, Default)]
struct Own {
    /// INBOX first, the others in the order in which they were made.
    by_id: Vec<(MailboxId, Rc<str>)>,
    by_name: BTreeMap<Rc<str>, MailboxId>,
}

/// Names of accounts that somebody has asked for.
#[derive(Debug, Default)]
pub(super) struct Names {
    accounts: FxHashMap<Address, Rc<Own>>,
    /// Names in all of them.
    count: usize,
}

impl Names {
    /// Something is named otherwise from now on.
    pub(super) fn forget(&mut self, address: &Address) {
        if let Some(own) = self.accounts.remove(address) {
            self.count -= own.by_id.len();
        }
    }

    fn put(&mut self, address: &Address, own: &Rc<Own>) {
        self.forget(address);
        if self.count + own.by_id.len() > REMEMBERED_NAMES_MAX {
            self.accounts.clear();
            self.count = 0;
        }
        self.count += own.by_id.len();
        self.accounts.insert(address.clone(), Rc::clone(own));
    }

    /// Approximate bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.accounts.capacity() * size_of::<(Address, Rc<Own>)>() + self.count * 128
    }
}

impl Index {
    /// Names of an account that is there; `None`: there is none.
    fn own_names(&self, address: &Address) -> Option<Rc<Own>> {
        if !self.has_account(address) {
            return None;
        }
        let known = self.names.borrow().accounts.get(address).cloned();
        Some(known.unwrap_or_else(|| {
            let own = Rc::new(self.look_up_names(address));
            self.names.borrow_mut().put(address, &own);
            own
        }))
    }

    /// As the layers say them, whether the account is there or not.
    fn look_up_names(&self, address: &Address) -> Own {
        let mut own = Own::default();
        for id in self.box_ids(address) {
            let stack = self.stack(address, id);
            let mut name = match stack.name() {
                _ if id.is_inbox() => INBOX_NAME.to_owned(),
                _ if !stack.fields().is_some_and(|fields| fields.is_shown()) => continue,
                "" => name_of_lost(id),
                name => name.to_owned(),
            };
            if own.by_name.contains_key(name.as_str()) {
                name = format!("{name} {}", id.0);
            }
            let name: Rc<str> = name.into();
            own.by_name.insert(Rc::clone(&name), id);
            own.by_id.push((id, name));
        }
        own
    }

    /// Mailboxes with their names, INBOX first, the others in the order in which they were made.
    ///
    /// Names differ: where damage has brought one back that another mailbox has got since, the later
    /// one's number is added to it.
    pub fn names(&self, address: &Address) -> Vec<(MailboxId, Rc<str>)> {
        let own = self.own_names(address);
        own.map_or_else(Vec::new, |own| own.by_id.clone())
    }

    /// Mailboxes that [`Index::names`] would name.
    pub fn count_names(&self, address: &Address) -> usize {
        self.own_names(address).map_or(0, |own| own.by_id.len())
    }

    /// Name of a mailbox, as [`Index::names`] gives it.
    pub fn name(&self, address: &Address, id: MailboxId) -> Option<Rc<str>> {
        let own = self.own_names(address)?;
        let place = own.by_id.binary_search_by_key(&id, |(own, _)| *own).ok()?;
        Some(Rc::clone(&own.by_id[place].1))
    }

    /// A name that a mailbox has, or would have if the account were there.
    pub fn has_name(&self, address: &Address, name: &str) -> bool {
        match self.own_names(address) {
            Some(own) => own.by_name.contains_key(name),
            None => self.look_up_names(address).by_name.contains_key(name),
        }
    }

    /// Number of a mailbox by its canonical name.
    pub fn find_mailbox(&self, address: &Address, name: &str) -> Option<MailboxId> {
        self.own_names(address)?.by_name.get(name).copied()
    }
}
