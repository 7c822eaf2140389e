//! A mail client's work in accounts that it alone uses: mailboxes, flags, copies, moves, renames, access
//! lists, small values.
//!
//! As nobody else writes there, what an account must show is known to the last flag: what was
//! acknowledged, with the operations that had no answer made or not, one after the other, each whole
//! or not at all. Two are asked for at once now and then; either may come first. Often the second
//! wants the same as the first, or something of the same messages: it meets what is on its way.
//!
//! | Said or shown                    | After any crash                                          |
//! |----------------------------------|----------------------------------------------------------|
//! | operation acknowledged           | made, and all before it, though the other had no answer  |
//! | operation asked, no answer       | made or not: never in part                               |
//! | mailbox number, UID, UIDVALIDITY | never stands for another mailbox or message              |
//! | MODSEQ of a mailbox              | never goes back; changes after it are told when asked for|

mod client;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::LazyLock;

use ringpost::limits::KEYWORD_BYTES_MAX;
use ringpost::mail::Address;
use ringpost::store::sim::SimDisk;
use ringpost::store::{
    Flags, MailboxId, MailboxInfo, Partition, Sequence, StoreError, Uid, UidValidity,
};

use crate::message::identify;
use state::{Folder, Mail, State, UNREADABLE, Wish};

const WORDS: [&str; 3] = ["$Forwarded", "later", "Work"];
/// Keywords that are as long as they can be: a few messages with all of them fill a batch.
static LONG_WORDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let long = |number| format!("{number:0width$}", width = KEYWORD_BYTES_MAX);
    (0..40).map(|number| &*long(number).leak()).collect()
});
/// States of one life that a loss of power may bring back where nothing was synced.
const HISTORY_MAX: usize = 400;

/// A wish without an answer, or one that was asked with it.
#[derive(Debug, Clone)]
struct Open {
    wish: Wish,
    is_acknowledged: bool,
}

/// HIGHESTMODSEQ of mailboxes.
type Modseqs = BTreeMap<(MailboxId, UidValidity), Sequence>;

/// What is known of one account.
#[derive(Debug, Clone)]
pub struct Boxes {
    pub address: Address,
    /// What it showed last.
    state: State,
    /// Asked for at once, and not answered all.
    open: Vec<Open>,
    /// What it must be now, when all was answered and not looked at yet: one of these.
    settled: Option<Vec<State>>,
    /// What it was before, in this life.
    history: Vec<State>,
    /// What its messages are, by their bodies; learned anew in every life.
    bodies: BTreeMap<Sequence, u64>,
    uids: BTreeMap<(MailboxId, UidValidity, Uid), u64>,
    validities: BTreeMap<UidValidity, MailboxId>,
    modseqs: Modseqs,
    /// What it showed at the beginning of the life before, and the numbers of then: a client that
    /// was away asks what has changed since.
    earlier: Option<(State, Modseqs)>,
    /// An answer was not waited for: nothing is asked for until the next life.
    is_left: bool,
    /// It is gone, as accounts at level 0 can be.
    is_over: bool,
}

impl Boxes {
    pub fn new(address: Address) -> Boxes {
        Boxes {
            address,
            state: State::new(),
            open: Vec::new(),
            settled: None,
            history: Vec::new(),
            bodies: BTreeMap::new(),
            uids: BTreeMap::new(),
            validities: BTreeMap::new(),
            modseqs: BTreeMap::new(),
            earlier: None,
            is_left: false,
            is_over: false,
        }
    }

    /// Power is gone, and not everything was synced.
    pub fn loosen(&mut self) {
        self.modseqs.clear();
        self.uids.clear();
        self.validities.clear();
        self.earlier = None;
    }

    /// States that it may be in: as it was, and with any of what had no answer, in any order. `loose`:
    /// an acknowledgement says little.
    fn possible(&self, loose: bool) -> Vec<State> {
        if !loose && let Some(settled) = &self.settled {
            return settled.clone();
        }
        let must = |open: &Open| open.is_acknowledged && !loose;
        let mut states = Vec::new();
        if !self.open.iter().any(must) {
            states.push(self.state.clone());
        }
        if loose {
            states.extend(self.history.iter().cloned());
        }
        match &self.open[..] {
            [] => {}
            [one] => states.push(self.state.with(&one.wish)),
            [one, two, ..] => {
                let (with_one, with_two) = (self.state.with(&one.wish), self.state.with(&two.wish));
                states.push(with_one.with(&two.wish));
                states.push(with_two.with(&one.wish));
                if !must(two) {
                    states.push(with_one);
                }
                if !must(one) {
                    states.push(with_two);
                }
            }
        }
        states
    }

    /// One of those that were asked for at once is made.
    fn acknowledge(&mut self, place: usize) {
        if let Some(open) = self.open.get_mut(place) {
            open.is_acknowledged = true;
        }
    }

    /// Takes what is shown for what it is.
    fn adopt(&mut self, shown: State) {
        let before = std::mem::replace(&mut self.state, shown);
        if self.history.len() < HISTORY_MAX {
            self.history.push(before);
        }
        self.open.clear();
        self.settled = None;
    }

    /// Numbers stand for what they stood for, and do not go back.
    fn check_numbers(&mut self, info: &MailboxInfo, mail: &[Mail], is_loose: bool) {
        let address = &self.address;
        let before = *self.validities.entry(info.validity).or_insert(info.id);
        assert!(
            before == info.id,
            "UIDVALIDITY {} of {address} was {before}'s and is {}'s",
            info.validity,
            info.id
        );
        for mail in mail {
            let uid = mail.uid.expect("what is shown has a UID");
            assert!(uid < info.uid_next, "{address}: UID {uid} of {info:?}");
            let before = *self
                .uids
                .entry((info.id, info.validity, uid))
                .or_insert(mail.id);
            assert!(
                before == mail.id,
                "UID {uid} of {} of {address} was message {before} and is now {}",
                info.id,
                mail.id
            );
        }
        let modseq = self.modseqs.entry((info.id, info.validity)).or_insert(0);
        assert!(
            is_loose || info.highest_modseq >= *modseq,
            "{address}: HIGHESTMODSEQ of {} went from {modseq} to {}",
            info.id,
            info.highest_modseq
        );
        *modseq = info.highest_modseq;
        let unseen = mail.iter().filter(|m| !m.flags.has(Flags::SEEN)).count();
        let deleted = mail.iter().filter(|m| m.flags.has(Flags::DELETED)).count();
        let counted = (info.exists, info.unseen, info.deleted);
        let there = (mail.len() as u32, unseen as u32, deleted as u32);
        assert!(counted == there, "{address}: {info:?} has {there:?}");
    }
}

/// An access list, by whom its entries are about.
fn access_of(
    partition: &Partition<SimDisk>,
    address: &Address,
    mailbox: MailboxId,
) -> BTreeMap<String, u16> {
    let list = partition.access_list(address, mailbox).into_iter();
    list.map(|entry| (entry.whom, entry.rights)).collect()
}

/// Small values of a mailbox, or with `None` of the account.
fn values_of(
    partition: &Partition<SimDisk>,
    address: &Address,
    mailbox: Option<MailboxId>,
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let values = partition.values(address, mailbox, b"");
    values.into_iter().collect()
}

/// Reads an account, all of it at one moment but for message bytes, which do not change.
async fn show(
    partition: &Partition<SimDisk>,
    boxes: &mut Boxes,
    fails: bool,
    rots: bool,
    loose: bool,
) -> Option<State> {
    let address = boxes.address.clone();
    let mut shown = State::default();
    let infos = partition.mailboxes(&address).ok()?;
    let mut unread = Vec::new();
    for info in &infos {
        let view = partition.view(&address, info.id).expect("it is listed");
        assert!(view.info == *info, "{view:?} is not {info:?}");
        let mut mail = Vec::new();
        let all = (0, Uid::MAX);
        partition
            .for_each_message(&address, info.id, all, |message| {
                let id = boxes.bodies.get(&message.body_seq).copied();
                if id.is_none() {
                    unread.push((info.name.clone(), info.id, mail.len(), *message));
                }
                let word = |place: usize| {
                    let own = view.keywords[place].as_str();
                    let mut known = WORDS.iter().chain(LONG_WORDS.iter());
                    *known.find(|word| **word == own).expect("a keyword")
                };
                let places = (0..64).filter(|bit| message.keywords >> bit & 1 == 1);
                mail.push(Mail {
                    id: id.unwrap_or(0),
                    uid: Some(message.uid),
                    flags: message.flags,
                    words: places.map(word).collect(),
                    date_ms: message.date_ms,
                    saved_ms: message.saved_ms,
                });
                ControlFlow::Continue(())
            })
            .expect("it is listed");
        let there: Vec<Uid> = view.runs.iter().flat_map(|r| r.first..=r.last).collect();
        let listed: Vec<Uid> = mail.iter().filter_map(|mail| mail.uid).collect();
        assert!(there == listed, "{address} {info:?}: {there:?}, {listed:?}");
        let folder = Folder {
            number: Some(info.id),
            mail,
            access: access_of(partition, &address, info.id),
            values: values_of(partition, &address, Some(info.id)),
        };
        let old = shown.folders.insert(info.name.clone(), folder);
        assert!(old.is_none(), "{address} has two of {}", info.name);
    }
    shown.values = values_of(partition, &address, None);
    shown.subscribed = partition.subscriptions(&address).into_iter().collect();
    for (name, mailbox, place, message) in unread {
        let id = loop {
            let length = message.bytes as usize;
            let read = partition.read_from(&address, mailbox, message.uid, 0, length);
            match read.await {
                Ok(bytes) => break identify(&bytes).unwrap_or_else(|reason| panic!("{reason}")),
                Err(StoreError::Read(_)) if fails => {}
                Err(StoreError::Read(_) | StoreError::Damaged(_)) if rots => break UNREADABLE,
                Err(error) => panic!("{address} {name} UID {}: {error}", message.uid),
            }
        };
        if id != UNREADABLE {
            boxes.bodies.insert(message.body_seq, id);
        }
        if let Some(folder) = shown.folders.get_mut(&name) {
            folder.mail[place].id = id;
        }
    }
    for info in &infos {
        let mail = shown.folders[&info.name].mail.clone();
        if mail.iter().all(|mail| mail.id != UNREADABLE) {
            boxes.check_numbers(info, &mail, loose);
        }
    }
    Some(shown)
}

/// A partition was recovered: the account shows what it owes. `told`: damage was reported that may
/// have taken something.
pub async fn check_recovered(
    partition: &Partition<SimDisk>,
    boxes: &mut Boxes,
    (fails, rots, told, loose): (bool, bool, bool, bool),
) {
    boxes.bodies.clear();
    if told {
        // What was seen and is lost may be seen to stand for something else nowhere, but numbers of
        // lost mailboxes are not looked after any more.
        boxes.modseqs.clear();
        boxes.earlier = None;
    }
    let Some(shown) = show(partition, boxes, fails, rots, loose).await else {
        assert!(loose || told || boxes.is_over, "{} is gone", boxes.address);
        boxes.is_over = true;
        return;
    };
    let possible = boxes.possible(loose);
    let found = possible
        .iter()
        .any(|state| state.is_shown_by(&shown, loose));
    assert!(
        found || told,
        "{} shows\n{shown:?}\nand should show one of\n{possible:#?}",
        boxes.address
    );
    let mut mail = shown.folders.values().flat_map(|folder| &folder.mail);
    if loose || mail.any(|mail| mail.id == UNREADABLE) {
        boxes.earlier = None;
    } else {
        let now = (shown.clone(), boxes.modseqs.clone());
        if let Some((old, modseqs)) = boxes.earlier.replace(now) {
            check_told(partition, &boxes.address, &old, &shown, &modseqs);
        }
    }
    boxes.adopt(shown);
    boxes.is_left = false;
    boxes.history.clear();
}

/// Who asks what has changed since is told of every difference.
fn check_told(
    partition: &Partition<SimDisk>,
    address: &Address,
    old: &State,
    shown: &State,
    modseqs: &Modseqs,
) {
    for folder in shown.folders.values() {
        let before = old.folders.values();
        let mut same = before.filter(|old| old.number == folder.number);
        let Some(old) = same.next() else { continue };
        let info = folder.number.map(|n| partition.mailbox_info(address, n));
        let Some(Ok(info)) = info else { continue };
        let Some(since) = modseqs.get(&(info.id, info.validity)) else {
            continue;
        };
        assert!(
            folder.mail == old.mail || info.highest_modseq > *since,
            "{address}: {info:?} has changed, and had HIGHESTMODSEQ {since} before"
        );
        let changed = partition.changed_since(address, info.id, *since, usize::MAX);
        let changed: BTreeSet<Uid> = changed
            .unwrap_or_else(|error| panic!("{error}"))
            .expect("there is no bound")
            .iter()
            .map(|message| message.uid)
            .collect();
        let vanished = partition.vanished_since(address, info.id, *since);
        let vanished: BTreeSet<Uid> = vanished
            .unwrap_or_else(|error| panic!("{error}"))
            .iter()
            .flat_map(|run| run.first..=run.last)
            .collect();
        for mail in &folder.mail {
            let uid = mail.uid.expect("it is shown");
            assert!(!vanished.contains(&uid), "{address}: {uid} is told gone");
            let is_new = !old.mail.iter().any(|old| old == mail);
            assert!(
                !is_new || changed.contains(&uid),
                "{address} {}: UID {uid} has changed since {since}, which is not told",
                info.name
            );
        }
        for mail in &old.mail {
            let is_gone = !folder.mail.iter().any(|now| now.uid == mail.uid);
            let uid = mail.uid.expect("it was shown");
            assert!(
                !is_gone || vanished.contains(&uid),
                "{address} {}: UID {uid} has vanished since {since}, which is not told",
                info.name
            );
        }
    }
}
