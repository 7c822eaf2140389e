//! What a partition owes: everything it said, everything it showed, and what may be either way.
//!
//! The model never looks inside the store. It notes what was asked and what was answered, and
//! compares what the store shows with that. A broken promise is a panic that says which.
//!
//! | Said or shown                       | After any crash                                    |
//! |-------------------------------------|----------------------------------------------------|
//! | delivery acknowledged, or seen      | there once, byte for byte, under the same UID      |
//! | delivery asked, no answer           | there once or not at all; all recipients or none   |
//! | delivery refused, stream aborted    | not there                                          |
//! | expunge acknowledged                | gone                                               |
//! | expunge asked, no answer            | there or gone                                      |
//! | key or account acknowledged         | as acknowledged, or as a later change without answer |
//! | UID or sequence number seen         | never stands for anything else                     |
//!
//! What was hit by rot is excused by name, see [`crate::rot`]. The comparison is in [`recovered`].

pub mod recovered;

use std::collections::{BTreeMap, BTreeSet};

use ringpost::config::{SyncLevel, SyncLevels};
use ringpost::mail::Address;
use ringpost::store::{Account, MessageInfo, Sequence, Uid, UidValidity};

use crate::register::Register;

/// An account of one name can be removed and made again; its mail belongs to one of those.
pub type Incarnation = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Asked for, or of unknown outcome.
    Either,
    /// Acknowledged or seen.
    Owed,
    /// Refused, or known to have been lost without an answer.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expunge {
    No,
    Asked,
    Done,
}

/// One message in one account.
#[derive(Debug, Clone)]
struct Copy {
    presence: Presence,
    expunge: Expunge,
    bytes: u64,
    date_ms: u64,
    /// All copies of one delivery appear together.
    delivery: u64,
    /// It was hit by rot, and found lost or unreadable: that stays so, and was reported.
    damaged: bool,
}

impl Copy {
    fn check_listed(&self, id: u64, address: &Address, info: &MessageInfo) {
        assert!(
            self.presence != Presence::Never || self.damaged,
            "message {id} is in {address} although it was refused or had been lost"
        );
        assert!(
            self.bytes == info.bytes && self.date_ms == info.date_ms,
            "message {id} of {} bytes, dated {}, is listed as {info:?}",
            self.bytes,
            self.date_ms
        );
    }
}

/// What is known of one mailbox: an account in one incarnation.
#[derive(Debug, Default)]
struct Mailbox {
    copies: BTreeMap<u64, Copy>,
    uid_validity: Option<UidValidity>,
    uid_highest: Uid,
}

/// Everything known of one partition.
#[derive(Debug)]
pub struct Model {
    levels: SyncLevels,
    accounts: BTreeMap<Address, Register<Option<Account>>>,
    keys: BTreeMap<Vec<u8>, Register<Option<Vec<u8>>>>,
    mailboxes: BTreeMap<(Address, Incarnation), Mailbox>,
    /// What every UID that was ever shown stands for.
    uids: BTreeMap<(Address, UidValidity, Uid), u64>,
    /// What every sequence number that was ever shown stands for.
    sequences: BTreeMap<Sequence, (Address, u64)>,
    sequence_highest: Sequence,
    /// Accounts that rot took away, and their mail not with them: who gets the name finds it.
    orphaned: BTreeSet<Address>,
    next_delivery: u64,
}

/// What a mailbox shows: each message with what its bytes say it is (`None`: damaged).
pub type Shown = Vec<(MessageInfo, Option<u64>)>;

/// The incarnation is kept in the password hash: `incarnation/revision`.
pub fn incarnation(account: &Account) -> Incarnation {
    account
        .password_hash
        .split('/')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("account with hash {:?}", account.password_hash))
}

impl Model {
    pub fn new(levels: SyncLevels) -> Model {
        Model {
            levels,
            accounts: BTreeMap::new(),
            keys: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            uids: BTreeMap::new(),
            sequences: BTreeMap::new(),
            sequence_highest: 0,
            orphaned: BTreeSet::new(),
            next_delivery: 0,
        }
    }

    pub fn account(&mut self, address: &Address) -> &mut Register<Option<Account>> {
        self.accounts.entry(address.clone()).or_default()
    }

    pub fn key(&mut self, key: &[u8]) -> &mut Register<Option<Vec<u8>>> {
        self.keys.entry(key.to_vec()).or_default()
    }

    /// The incarnation that is there as far as acknowledgements say.
    pub fn incarnation(&self, address: &Address) -> Option<Incarnation> {
        let account = self.accounts.get(address)?.value().as_ref()?;
        Some(incarnation(account))
    }

    pub fn has_accounts(&self) -> bool {
        !self.accounts.is_empty()
    }

    /// Was message `id` acknowledged or seen in the account that is there now?
    pub fn is_owed(&self, address: &Address, id: u64) -> bool {
        self.incarnation(address)
            .and_then(|incarnation| self.mailboxes.get(&(address.clone(), incarnation)))
            .and_then(|mailbox| mailbox.copies.get(&id))
            .is_some_and(|copy| copy.presence == Presence::Owed)
    }

    fn mailbox(&mut self, address: &Address, incarnation: Incarnation) -> &mut Mailbox {
        self.mailboxes
            .entry((address.clone(), incarnation))
            .or_default()
    }

    // Deliveries.

    /// Message `id` is on its way to these mailboxes.
    pub fn begin_delivery(
        &mut self,
        id: u64,
        recipients: &[(Address, Incarnation)],
        bytes: u64,
        date_ms: u64,
    ) {
        self.next_delivery += 1;
        let copy = Copy {
            presence: Presence::Either,
            expunge: Expunge::No,
            bytes,
            date_ms,
            delivery: self.next_delivery,
            damaged: false,
        };
        for (address, incarnation) in recipients {
            let old = self
                .mailbox(address, *incarnation)
                .copies
                .insert(id, copy.clone());
            assert!(old.is_none(), "the workload used number {id} twice");
        }
    }

    /// The highest UID shown so far, and the highest sequence number: what is delivered from now
    /// on comes after them.
    pub fn marks(&mut self, address: &Address, incarnation: Incarnation) -> (Uid, Sequence) {
        let highest = self.mailbox(address, incarnation).uid_highest;
        (highest, self.sequence_highest)
    }

    pub fn acknowledge_delivery(
        &mut self,
        id: u64,
        address: &Address,
        incarnation: Incarnation,
        uid: Uid,
        uid_mark: Uid,
    ) {
        assert!(
            uid > uid_mark,
            "message {id} got UID {uid} in {address} after {uid_mark} had been shown"
        );
        let mailbox = self.mailbox(address, incarnation);
        mailbox.uid_highest = mailbox.uid_highest.max(uid);
        let validity = mailbox.uid_validity;
        let copy = mailbox
            .copies
            .get_mut(&id)
            .expect("only what was begun is acknowledged");
        copy.presence = Presence::Owed;
        if let Some(validity) = validity {
            self.show_uid(address, validity, uid, id);
        }
    }

    /// Refused before anything was written: it must not turn up, ever.
    pub fn refuse_delivery(&mut self, id: u64, address: &Address, incarnation: Incarnation) {
        if let Some(copy) = self.mailbox(address, incarnation).copies.get_mut(&id) {
            copy.presence = Presence::Never;
        }
    }

    /// A marked delivery is made, perhaps again. Says for each recipient whether it had been
    /// delivered there: yes, no, or not known.
    pub fn begin_redelivery(
        &mut self,
        id: u64,
        recipients: &[(Address, Incarnation)],
    ) -> Vec<Option<bool>> {
        recipients
            .iter()
            .map(|(address, incarnation)| {
                let copy = self.mailbox(address, *incarnation).copies.get_mut(&id)?;
                match copy.presence {
                    Presence::Owed => Some(true),
                    Presence::Either => {
                        // If it is delivered now, an expunge of before says nothing of it.
                        if copy.expunge == Expunge::Done {
                            copy.expunge = Expunge::Asked;
                        }
                        None
                    }
                    Presence::Never => {
                        copy.presence = Presence::Either;
                        Some(false)
                    }
                }
            })
            .collect()
    }

    /// A marked delivery was acknowledged, now (`uid` is not 0) or because it had been before.
    pub fn acknowledge_marked(
        &mut self,
        id: u64,
        address: &Address,
        incarnation: Incarnation,
        uid: Uid,
    ) {
        if uid > 0 {
            self.acknowledge_delivery(id, address, incarnation, uid, 0);
        } else if let Some(copy) = self.mailbox(address, incarnation).copies.get_mut(&id) {
            copy.presence = Presence::Owed;
        }
    }

    // Expunges.

    pub fn begin_expunge(&mut self, address: &Address, incarnation: Incarnation, id: u64) {
        if let Some(copy) = self.mailbox(address, incarnation).copies.get_mut(&id)
            && copy.expunge == Expunge::No
        {
            copy.expunge = Expunge::Asked;
        }
    }

    pub fn acknowledge_expunge(&mut self, address: &Address, incarnation: Incarnation, id: u64) {
        if let Some(copy) = self.mailbox(address, incarnation).copies.get_mut(&id) {
            copy.expunge = Expunge::Done;
        }
    }

    /// May this message be missing for a reason other than loss?
    pub fn may_be_gone(&self, address: &Address, incarnation: Incarnation, id: u64) -> bool {
        self.mailboxes
            .get(&(address.clone(), incarnation))
            .and_then(|mailbox| mailbox.copies.get(&id))
            .is_none_or(|copy| {
                copy.expunge != Expunge::No || copy.presence != Presence::Owed || copy.damaged
            })
            || self.accounts.get(address).is_some_and(|register| {
                register.is_uncertain()
                    || register.value().as_ref().map(crate::model::incarnation) != Some(incarnation)
            })
    }

    /// Was this message, or any of the mailbox if it is not known which, found damaged at a start?
    /// Every start reads all there is, and nothing rots while it runs.
    pub fn may_be_damaged(
        &self,
        address: &Address,
        incarnation: Incarnation,
        id: Option<u64>,
    ) -> bool {
        let mailbox = self.mailboxes.get(&(address.clone(), incarnation));
        mailbox.is_some_and(|mailbox| match id {
            Some(id) => mailbox.copies.get(&id).is_some_and(|copy| copy.damaged),
            None => mailbox.copies.values().any(|copy| copy.damaged),
        })
    }

    /// Bytes that a mailbox may hold at most, for the check of quotas.
    pub fn bytes_at_most(&self, address: &Address, incarnation: Incarnation) -> u64 {
        self.mailboxes
            .get(&(address.clone(), incarnation))
            .map_or(0, |mailbox| {
                mailbox
                    .copies
                    .values()
                    .filter(|c| c.presence != Presence::Never && c.expunge != Expunge::Done)
                    .map(|c| c.bytes)
                    .sum()
            })
    }

    fn show_uid(&mut self, address: &Address, validity: UidValidity, uid: Uid, id: u64) {
        let before = *self
            .uids
            .entry((address.clone(), validity, uid))
            .or_insert(id);
        assert!(
            before == id,
            "UID {uid} of {address} (UIDVALIDITY {validity}) was message {before} and is now {id}"
        );
    }

    /// The message that a UID was seen to stand for.
    pub fn known(&self, address: &Address, validity: UidValidity, uid: Uid) -> Option<u64> {
        self.uids.get(&(address.clone(), validity, uid)).copied()
    }

    /// What a client sees in a mailbox, with the numbers of those messages that it knows (`None`:
    /// not read yet, or damaged). Everything in it is durable.
    pub fn show(
        &mut self,
        address: &Address,
        incarnation: Incarnation,
        validity: UidValidity,
        shown: &Shown,
    ) {
        self.show_validity(address, incarnation, validity);
        self.adopt(address, incarnation);
        let mailbox = self.mailbox(address, incarnation);
        let mut last_uid = 0;
        let mut ids = BTreeSet::new();
        for (info, id) in shown {
            assert!(
                info.uid > last_uid,
                "{address} lists UID {} after {last_uid}",
                info.uid
            );
            last_uid = info.uid;
            mailbox.uid_highest = mailbox.uid_highest.max(info.uid);
            let Some(id) = id else { continue };
            assert!(ids.insert(*id), "message {id} is in {address} twice");
            let Some(copy) = mailbox.copies.get_mut(id) else {
                panic!("message {id} is in {address}, for which it never was");
            };
            copy.check_listed(*id, address, info);
            assert!(
                copy.expunge != Expunge::Done,
                "message {id} is back in {address} after it was expunged"
            );
            copy.presence = Presence::Owed;
        }
        for (info, id) in shown {
            if let Some(id) = id {
                self.show_numbers(address, validity, info, *id);
            }
        }
    }

    /// Mail of other incarnations may be in that of an orphaned account: nothing says any more
    /// where one ended.
    fn adopt(&mut self, address: &Address, incarnation: Incarnation) {
        if !self.orphaned.contains(address) {
            return;
        }
        let others: Vec<(u64, Copy)> = self
            .mailboxes
            .iter()
            .filter(|((other, _), _)| other == address)
            .flat_map(|(_, mailbox)| mailbox.copies.clone())
            .collect();
        for (id, mut copy) in others {
            copy.presence = Presence::Either;
            let copies = &mut self.mailbox(address, incarnation).copies;
            copies.entry(id).or_insert(copy);
        }
    }

    /// UIDs were shown under this UIDVALIDITY.
    pub fn show_validity(
        &mut self,
        address: &Address,
        incarnation: Incarnation,
        validity: UidValidity,
    ) {
        let any_unsynced = self.levels_are_loose();
        let mailbox = self.mailbox(address, incarnation);
        if let Some(before) = mailbox.uid_validity.replace(validity) {
            assert!(
                before == validity || any_unsynced,
                "UIDVALIDITY of {address} went from {before} to {validity}"
            );
            if before != validity {
                mailbox.uid_highest = 0;
            }
        }
    }

    /// A message that was listed turned out to be this one.
    pub fn identify(
        &mut self,
        address: &Address,
        incarnation: Incarnation,
        validity: UidValidity,
        info: &MessageInfo,
        id: u64,
    ) {
        self.adopt(address, incarnation);
        let Some(copy) = self.mailbox(address, incarnation).copies.get_mut(&id) else {
            panic!("message {id} is in {address}, for which it never was");
        };
        copy.check_listed(id, address, info);
        copy.presence = Presence::Owed;
        self.show_numbers(address, validity, info, id);
    }

    /// UID and sequence number stand for this message, now and for ever.
    fn show_numbers(
        &mut self,
        address: &Address,
        validity: UidValidity,
        info: &MessageInfo,
        id: u64,
    ) {
        self.show_uid(address, validity, info.uid, id);
        let before = self
            .sequences
            .entry(info.modseq)
            .or_insert((address.clone(), id));
        assert!(
            *before == (address.clone(), id),
            "sequence number {} was message {} in {} and is now {id} in {address}",
            info.modseq,
            before.1,
            before.0
        );
        self.sequence_highest = self.sequence_highest.max(info.modseq);
    }

    /// Checks one acknowledged message's sequence number against the mark of before.
    pub fn check_sequence(&self, info: &MessageInfo, mark: Sequence) {
        assert!(
            info.modseq > mark,
            "a new message got sequence number {} after {mark} had been shown",
            info.modseq
        );
    }

    fn levels_are_loose(&self) -> bool {
        let levels = &self.levels;
        [
            levels.store,
            levels.message,
            levels.database,
            levels.envelope,
        ]
        .contains(&SyncLevel::None)
    }

    // Crashes.

    /// Power was lost: what was not to be synced may be as it was at any time before.
    pub fn lose_power(&mut self) {
        let accounts_loose = self.levels.database == SyncLevel::None;
        let messages_loose = self.levels.message == SyncLevel::None || accounts_loose;
        let expunges_loose = self.levels.store == SyncLevel::None;
        for copy in self
            .mailboxes
            .values_mut()
            .flat_map(|mailbox| mailbox.copies.values_mut())
        {
            if messages_loose && copy.presence == Presence::Owed {
                copy.presence = Presence::Either;
                // The others of its delivery may have been seen or not, each by itself.
                self.next_delivery += 1;
                copy.delivery = self.next_delivery;
            }
            if expunges_loose && copy.expunge == Expunge::Done {
                copy.expunge = Expunge::Asked;
            }
        }
        if accounts_loose {
            self.accounts.values_mut().for_each(Register::loosen);
        }
        if self.levels.envelope == SyncLevel::None || accounts_loose {
            self.keys.values_mut().for_each(Register::loosen);
        }
        if self.levels_are_loose() {
            self.sequences.clear();
            self.sequence_highest = 0;
            // UIDs may begin anew, under another UIDVALIDITY: `uids` knows them apart.
            for mailbox in self.mailboxes.values_mut() {
                mailbox.uid_highest = 0;
            }
        }
    }
}
