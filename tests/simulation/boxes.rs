//! A mail client's work in accounts that it alone uses: mailboxes, flags, copies, moves, renames.
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

mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::Poll;

use ringpost::limits::KEYWORD_BYTES_MAX;
use ringpost::mail::Address;
use ringpost::store::sim::{Random, SimDisk};
use ringpost::store::{
    Append, FlagChange, FlagMode, Flags, MailboxId, MailboxInfo, NewMessage, Partition, Sequence,
    StoreError, Uid, UidValidity,
};

use crate::actor::{Client, Step, Stop, for_turns};
use crate::message::{content, identify};
use state::{Folder, Mail, State, UNREADABLE, Wish};

/// Names that are drawn: some are below others.
const NAMES: [&str; 6] = ["a", "a/b", "a/b/c", "d", "d/b", "Sent"];
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
        };
        let old = shown.folders.insert(info.name.clone(), folder);
        assert!(old.is_none(), "{address} has two of {}", info.name);
    }
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
        let changed = partition.changed_since(address, info.id, *since);
        let changed: BTreeSet<Uid> = changed
            .unwrap_or_else(|error| panic!("{error}"))
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

/// Polls both until both are done.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut got_a, mut got_b) = (None, None);
    poll_fn(move |context| {
        if got_a.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(context)
        {
            got_a = Some(value);
        }
        if got_b.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(context)
        {
            got_b = Some(value);
        }
        if got_a.is_some() && got_b.is_some() {
            return Poll::Ready((got_a.take(), got_b.take()));
        }
        Poll::Pending
    })
    .await
    .into_some()
}

trait IntoSome<T> {
    fn into_some(self) -> T;
}

impl<A, B> IntoSome<(A, B)> for (Option<A>, Option<B>) {
    fn into_some(self) -> (A, B) {
        (self.0.expect("it is done"), self.1.expect("it is done"))
    }
}

impl Client {
    /// Asks for something in an account of this client's own, and looks at what came of it.
    pub async fn use_boxes(&self, random: &mut Random, number: u64) -> Step {
        let Some(mut boxes) = self.boxes.borrow_mut().remove(&number) else {
            return Ok(());
        };
        let wishes: Vec<Wish> = if boxes.is_over || boxes.is_left {
            Vec::new()
        } else {
            let first = self.draw_wish(random, &boxes.state);
            let second = match &first {
                Some(first) if random.one_in(2) => self.draw_related(random, &boxes.state, first),
                _ if random.one_in(3) => self.draw_wish(random, &boxes.state),
                _ => None,
            };
            first.into_iter().chain(second).collect()
        };
        boxes.open.extend(wishes.iter().map(|wish| Open {
            wish: wish.clone(),
            is_acknowledged: false,
        }));
        let (address, state) = (boxes.address.clone(), boxes.state.clone());
        self.boxes.borrow_mut().insert(number, boxes);
        if wishes.is_empty() {
            return Ok(());
        }
        self.note(|| format!("{address} wishes {wishes:?}"));
        let leaves = random.one_in(16);
        let turns = random.below(12);
        let asked = async {
            match &wishes[..] {
                [one, two, ..] => {
                    let (a, b) = both(
                        self.ask_for(number, &address, &state, (0, one)),
                        self.ask_for(number, &address, &state, (1, two)),
                    )
                    .await;
                    vec![a, b]
                }
                [one, ..] => vec![self.ask_for(number, &address, &state, (0, one)).await],
                [] => Vec::new(),
            }
        };
        let answers = if leaves {
            match for_turns(asked, turns).await {
                Some(answers) => answers,
                // It may be made still: this account is left alone until the next life.
                None => {
                    if let Some(boxes) = self.boxes.borrow_mut().get_mut(&number) {
                        boxes.is_left = true;
                    }
                    return Ok(());
                }
            }
        } else {
            asked.await
        };
        self.note(|| format!("{address} was answered {answers:?}"));
        let mut result = Ok(());
        let mut made = Vec::new();
        for (wish, answer) in wishes.iter().zip(answers) {
            match answer {
                Ok(true) => made.push(wish.clone()),
                Ok(false) => {}
                Err(error) => {
                    if matches!(error, StoreError::ReadOnly(_)) {
                        return Err(Stop);
                    }
                    result = self.judge(&error);
                }
            }
        }
        self.look_at_boxes(number, made).await;
        result
    }

    /// Everything that was answered is visible, and nothing else has changed.
    async fn look_at_boxes(&self, number: u64, made: Vec<Wish>) {
        let known = self.boxes.borrow().get(&number).cloned();
        let Some(mut boxes) = known else { return };
        let before = boxes.modseqs.clone();
        let possible = match &made[..] {
            [] => vec![boxes.state.clone()],
            [one] => vec![boxes.state.with(one)],
            [one, two, ..] => vec![
                boxes.state.with(one).with(two),
                boxes.state.with(two).with(one),
            ],
        };
        // Reading message bytes waits: should the world end there, this much is settled.
        if let Some(kept) = self.boxes.borrow_mut().get_mut(&number) {
            kept.settled = Some(possible.clone());
        }
        let (fails, rots) = (self.plan.fails, self.plan.rots);
        let shown = show(&self.partition, &mut boxes, fails, rots, false).await;
        let shown = shown.unwrap_or_else(|| panic!("{} is gone", boxes.address));
        assert!(
            possible
                .iter()
                .any(|state| state.is_shown_by(&shown, false)),
            "{} shows\n{shown:?}\nand should show one of\n{possible:#?}",
            boxes.address
        );
        check_told(
            &self.partition,
            &boxes.address,
            &boxes.state,
            &shown,
            &before,
        );
        if made.len() > 1 {
            // Either may have come first, and a loss of power take back the other alone.
            let between: Vec<State> = made.iter().map(|wish| boxes.state.with(wish)).collect();
            boxes.history.extend(between);
        }
        boxes.adopt(shown);
        self.boxes.borrow_mut().insert(number, boxes);
    }

    fn draw_wish(&self, random: &mut Random, state: &State) -> Option<Wish> {
        let names: Vec<&String> = state.folders.keys().collect();
        let name = names[random.index(names.len())].clone();
        let other = names[random.index(names.len())].clone();
        let drawn = NAMES[random.index(NAMES.len())].to_owned();
        let uids: Vec<Uid> = state.folders[&name]
            .mail
            .iter()
            .filter(|_| random.one_in(2))
            .filter_map(|mail| mail.uid)
            .collect();
        let now = self.clock.get();
        let flags = Flags(random.below(32) as u8);
        let words: Vec<&str> = if random.one_in(12) {
            LONG_WORDS.clone()
        } else {
            WORDS.into_iter().filter(|_| random.one_in(3)).collect()
        };
        let is_own = |name: &str| name != "INBOX";
        let wish = match random.below(20) {
            0..6 => {
                let count = 1 + random.below(3);
                let mail = (0..count).map(|_| Mail {
                    id: self.next_id(),
                    uid: None,
                    flags,
                    words: words.iter().copied().collect(),
                    date_ms: now - random.below(2),
                    saved_ms: now,
                });
                Wish::Append(name, mail.collect())
            }
            6..11 if !uids.is_empty() => {
                let modes = [FlagMode::Replace, FlagMode::Add, FlagMode::Remove];
                Wish::Flags(name, uids, modes[random.index(3)], flags, words)
            }
            11 | 12 if !uids.is_empty() => Wish::Expunge(name, uids),
            13 if !uids.is_empty() => Wish::Copy(name, other, uids, now),
            14 | 15 if !uids.is_empty() => Wish::Move(name, other, uids, now),
            16 => Wish::Create(drawn),
            17 if is_own(&name) => Wish::Rename(name, drawn),
            18 if is_own(&name) && random.one_in(2) => Wish::Delete(name),
            19 => Wish::Subscribe(drawn, random.one_in(2)),
            _ => return None,
        };
        Some(wish)
    }

    /// What somebody else may want at the same time: the same again, or the same messages.
    fn draw_related(&self, random: &mut Random, state: &State, first: &Wish) -> Option<Wish> {
        let now = self.clock.get();
        let names: Vec<&String> = state.folders.keys().collect();
        let other = names[random.index(names.len())].clone();
        match first {
            Wish::Flags(name, uids, ..) | Wish::Expunge(name, uids) => match random.below(5) {
                0 => Some(Wish::Copy(name.clone(), other, uids.clone(), now)),
                1 => Some(Wish::Move(name.clone(), other, uids.clone(), now)),
                2 => Some(Wish::Expunge(name.clone(), uids.clone())),
                _ => Some(first.clone()),
            },
            Wish::Copy(name, _, uids, _) | Wish::Move(name, _, uids, _) => match random.below(3) {
                0 => Some(Wish::Copy(name.clone(), other, uids.clone(), now)),
                1 => Some(Wish::Move(name.clone(), other, uids.clone(), now)),
                _ => Some(Wish::Expunge(name.clone(), uids.clone())),
            },
            Wish::Create(_) | Wish::Delete(_) | Wish::Subscribe(..) => Some(first.clone()),
            Wish::Append(..) | Wish::Rename(..) => None,
        }
    }

    /// Asks, and notes at once that it was made: the other may be on its way still.
    async fn ask_for(
        &self,
        number: u64,
        address: &Address,
        state: &State,
        (place, wish): (usize, &Wish),
    ) -> Result<bool, StoreError> {
        let answer = self.ask(address, state, wish).await;
        if matches!(answer, Ok(true))
            && let Some(boxes) = self.boxes.borrow_mut().get_mut(&number)
        {
            boxes.acknowledge(place);
        }
        answer
    }

    /// `Ok(false)`: it cannot be, and nothing is changed.
    async fn ask(&self, address: &Address, state: &State, wish: &Wish) -> Result<bool, StoreError> {
        let number = |name: &String| state.folders.get(name).and_then(|folder| folder.number);
        let partition = &self.partition;
        let answer = match wish {
            Wish::Append(name, mail) => {
                let Some(mailbox) = number(name) else {
                    return Ok(false);
                };
                let messages = mail.iter().map(|mail| NewMessage {
                    flags: mail.flags,
                    keywords: mail.words.iter().map(|word| (*word).to_owned()).collect(),
                    date_ms: mail.date_ms,
                    body: content(mail.id, 40 + mail.id as usize % 700),
                    stream: None,
                });
                let append = Append {
                    mailbox,
                    messages: messages.collect(),
                    replaces: None,
                    now_ms: mail[0].saved_ms,
                };
                partition.append(address, append).await.map(drop)
            }
            Wish::Flags(name, uids, mode, flags, words) => {
                let Some(mailbox) = number(name) else {
                    return Ok(false);
                };
                let change = FlagChange {
                    mode: *mode,
                    flags: *flags,
                    keywords: words.iter().map(|word| (*word).to_owned()).collect(),
                    unchanged_since: None,
                };
                let stored = partition.store_flags(address, mailbox, uids, &change).await;
                stored.map(drop)
            }
            Wish::Expunge(name, uids) => {
                let Some(mailbox) = number(name) else {
                    return Ok(false);
                };
                let now = self.clock.get();
                let done = partition.expunge_from(address, mailbox, uids, now).await;
                done.map(drop)
            }
            Wish::Copy(from, to, uids, now) | Wish::Move(from, to, uids, now) => {
                let (Some(source), Some(target)) = (number(from), number(to)) else {
                    return Ok(false);
                };
                let between = (source, target);
                if matches!(wish, Wish::Move(..)) {
                    partition
                        .move_to(address, between, uids, *now)
                        .await
                        .map(drop)
                } else {
                    partition.copy(address, between, uids, *now).await.map(drop)
                }
            }
            Wish::Create(name) => partition
                .create_mailbox(address, name, None)
                .await
                .map(drop),
            Wish::Rename(from, to) => partition.rename_mailbox(address, from, to).await,
            Wish::Delete(name) => {
                let Some(mailbox) = number(name) else {
                    return Ok(false);
                };
                partition.delete_mailbox(address, mailbox).await
            }
            Wish::Subscribe(name, wanted) => partition.set_subscribed(address, name, *wanted).await,
        };
        match answer {
            Ok(()) => Ok(true),
            // Another wish has taken the name or the mailbox away.
            Err(StoreError::Missing | StoreError::Exists | StoreError::Name(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
