//! Compares a partition that was just recovered with what it owes.
//!
//! What is forgiven, and why no less:
//!
//! | Forgiven                                 | Because                                        |
//! |------------------------------------------|------------------------------------------------|
//! | loss of a hit copy, account or key       | its only record rotted; the loss was reported  |
//! | return of a copy whose expunge was hit   | nothing else says that it is gone              |
//! | return of any mail of a hit account      | the end of an earlier incarnation may be lost  |
//! | some recipients without a hit message    | each has a record of its own                   |
//! | a hit message that cannot be read        | it says so instead of giving other bytes       |

use std::collections::{BTreeMap, BTreeSet};

use ringpost::config::SyncLevel;
use ringpost::mail::Address;
use ringpost::store::{Account, UidValidity};

use super::{Expunge, Incarnation, Model, Presence, Shown, incarnation};
use crate::rot::Excuse;

/// What a recovered partition shows.
pub struct Found {
    pub accounts: BTreeMap<Address, Account>,
    pub keys: BTreeMap<Vec<u8>, Vec<u8>>,
    pub mail: BTreeMap<Address, (UidValidity, Shown)>,
    /// Damages reported since something was hit, by this start or by one that came after that and
    /// did not live long enough to be checked.
    pub damages_reported: u64,
}

impl Model {
    /// Compares a partition at rest, just recovered, with what is owed, and takes what it shows
    /// for settled: what had no answer has happened or will never have.
    ///
    /// `excuse`: what was hit since the last time.
    pub fn check_recovered(&mut self, found: &Found, excuse: &Excuse) {
        // A loss that nobody was told of has no excuse.
        let told = Excuse::default();
        let told = if found.damages_reported > 0 {
            excuse
        } else {
            &told
        };
        self.check_values(found, told);
        let mut deliveries = BTreeMap::new();
        for (address, (validity, shown)) in &found.mail {
            let incarnation = incarnation(&found.accounts[address]);
            self.loosen_hit(address, incarnation, told);
            let uncertain = self.uncertain(address, incarnation);
            self.show(address, incarnation, *validity, shown);
            let ids: BTreeSet<u64> = shown.iter().filter_map(|(_, id)| *id).collect();
            check_whole(&mut deliveries, address, &uncertain, &ids, told);
            let unreadable = self.name_unreadable(address, incarnation, *validity, shown, excuse);
            self.settle(address, incarnation, &ids, &unreadable, found, told);
        }
        self.bury(found);
    }

    /// Accounts and keys.
    fn check_values(&mut self, found: &Found, told: &Excuse) {
        for address in found.accounts.keys() {
            assert!(
                self.accounts.contains_key(address),
                "an account {address} that nobody made"
            );
        }
        for key in found.keys.keys() {
            assert!(self.keys.contains_key(key), "a key {key:?} that nobody set");
        }
        for (address, register) in &mut self.accounts {
            let value = found.accounts.get(address).cloned();
            if told.accounts.contains(address) {
                register.accept(&value);
                self.orphaned.insert(address.clone());
            }
            register.observe(&value, || format!("account {address}"));
            register.forget_unanswered();
        }
        for (key, register) in &mut self.keys {
            let value = found.keys.get(key).cloned();
            if told.keys.contains(key) {
                register.accept(&value);
            }
            register.observe(&value, || format!("key {}", String::from_utf8_lossy(key)));
            register.forget_unanswered();
        }
    }

    /// What is hit may be there again although it was expunged.
    fn loosen_hit(&mut self, address: &Address, incarnation: Incarnation, told: &Excuse) {
        let account_hit = told.accounts.contains(address);
        self.adopt(address, incarnation);
        for (id, copy) in &mut self.mailbox(address, incarnation).copies {
            let hit = account_hit || told.copies.contains(&(address.clone(), *id));
            if hit && copy.expunge == Expunge::Done {
                copy.expunge = Expunge::Asked;
            }
            // Gone with its account, which comes back when the record of its end is hit.
            if account_hit && copy.presence == Presence::Never {
                (copy.presence, copy.expunge) = (Presence::Either, Expunge::Asked);
            }
        }
    }

    /// Copies that may be there or not, with the number of their delivery.
    fn uncertain(&self, address: &Address, incarnation: Incarnation) -> Vec<(u64, u64)> {
        let mailbox = self.mailboxes.get(&(address.clone(), incarnation));
        let copies = mailbox.into_iter().flat_map(|mailbox| &mailbox.copies);
        copies
            .filter(|(_, copy)| copy.presence == Presence::Either && copy.expunge == Expunge::No)
            .map(|(id, copy)| (*id, copy.delivery))
            .collect()
    }

    /// The numbers of those messages that are listed and cannot be read. Each must have been hit.
    fn name_unreadable(
        &self,
        address: &Address,
        incarnation: Incarnation,
        validity: UidValidity,
        shown: &Shown,
        excuse: &Excuse,
    ) -> BTreeSet<u64> {
        let readable: BTreeSet<u64> = shown.iter().filter_map(|(_, id)| *id).collect();
        let mut unreadable = BTreeSet::new();
        let Some(mailbox) = self.mailboxes.get(&(address.clone(), incarnation)) else {
            return unreadable;
        };
        let is_hit = |id: u64| {
            excuse.copies.contains(&(address.clone(), id))
                || mailbox.copies.get(&id).is_some_and(|copy| copy.damaged)
        };
        for (info, _) in shown.iter().filter(|(_, id)| id.is_none()) {
            // One that nobody has seen yet, or under another UIDVALIDITY: size and date tell.
            let looks_so = || {
                let mut copies = mailbox.copies.iter().filter(|(id, copy)| {
                    (copy.bytes, copy.date_ms) == (info.bytes, info.date_ms)
                        && copy.expunge != Expunge::Done
                        && is_hit(**id)
                        && !readable.contains(id)
                        && !unreadable.contains(*id)
                });
                copies.next().map(|(id, _)| *id)
            };
            let id = self.known(address, validity, info.uid).or_else(looks_so);
            assert!(
                id.is_some_and(is_hit),
                "message {id:?} of {address}, {info:?}, cannot be read and was not hit"
            );
            unreadable.extend(id);
        }
        unreadable
    }

    /// What is not there and need not be has not happened, or is over.
    fn settle(
        &mut self,
        address: &Address,
        incarnation: Incarnation,
        ids: &BTreeSet<u64>,
        unreadable: &BTreeSet<u64>,
        found: &Found,
        told: &Excuse,
    ) {
        for (id, copy) in &mut self.mailbox(address, incarnation).copies {
            if ids.contains(id) {
                copy.expunge = Expunge::No;
                continue;
            }
            if unreadable.contains(id) {
                // It cannot be read, but it is there: no expunge of it was carried out.
                copy.damaged = true;
                copy.presence = Presence::Owed;
                copy.expunge = Expunge::No;
                continue;
            }
            let hit = told.copies.contains(&(address.clone(), *id));
            if copy.presence == Presence::Owed && copy.expunge == Expunge::No && !copy.damaged {
                assert!(
                    hit,
                    "message {id}, acknowledged or seen, is gone from {address} \
                     ({} damages reported)",
                    found.damages_reported
                );
                copy.damaged = true;
            }
            match (copy.presence, copy.expunge) {
                (Presence::Either, Expunge::No) => copy.presence = Presence::Never,
                // Lost or expunged: a mark of its delivery may be there or not.
                (_, Expunge::Asked) => copy.expunge = Expunge::Done,
                _ => {}
            }
        }
    }

    /// Mail of accounts, or of their incarnations, that are not there any more.
    fn bury(&mut self, found: &Found) {
        // Where accounts are not synced, a removed one may come back with its mail.
        let presence = match self.levels.database {
            SyncLevel::None => Presence::Either,
            _ => Presence::Never,
        };
        for ((address, incarnation), mailbox) in &mut self.mailboxes {
            let there = found.accounts.get(address).map(super::incarnation);
            if there != Some(*incarnation) {
                for copy in mailbox.copies.values_mut() {
                    copy.presence = presence;
                }
            }
        }
    }
}

/// A delivery without an answer has reached all of its recipients or none. `deliveries`: what the
/// first of them showed.
fn check_whole(
    deliveries: &mut BTreeMap<u64, bool>,
    address: &Address,
    uncertain: &[(u64, u64)],
    ids: &BTreeSet<u64>,
    told: &Excuse,
) {
    for (id, delivery) in uncertain {
        let there = ids.contains(id);
        let before = *deliveries.entry(*delivery).or_insert(there);
        assert!(
            before == there || told.any_copy_of(*id),
            "message {id} reached some of its recipients and not others: {address} {}",
            if there { "has it" } else { "lacks it" }
        );
    }
}
