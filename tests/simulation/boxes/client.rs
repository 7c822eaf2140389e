//! What a mail client asks for in an account of its own, and what comes of it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use ringpost::mail::Address;
use ringpost::store::sim::Random;
use ringpost::store::{
    Append, FlagChange, FlagMode, Flags, NewMessage, StoreError, Uid, ValuesMax,
};

use super::state::{Mail, State, Wish, rights_after};
use super::{LONG_WORDS, Open, WORDS, check_told, show};
use crate::actor::{Client, Step, Stop, for_turns};
use crate::message::content;

/// Names that are drawn: some are below others.
const NAMES: [&str; 6] = ["a", "a/b", "a/b/c", "d", "d/b", "Sent"];
/// Whom access lists are about.
const PEOPLE: [&str; 3] = ["anyone", "bob@example.org", "-bob@example.org"];
/// Keys of small values: more than there may be of one mailbox.
const KEYS: [&[u8]; 4] = [b"k", b"kk", b"l", b"private"];
const VALUES_MAX: ValuesMax = ValuesMax {
    count: 3,
    bytes: 150,
    account_count: 12,
    account_bytes: 500,
};

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
        let wish = match random.below(25) {
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
            20 | 21 => {
                let modes = [FlagMode::Replace, FlagMode::Add, FlagMode::Remove];
                let whom = PEOPLE[random.index(PEOPLE.len())];
                Wish::Access(name, whom, modes[random.index(3)], random.below(16) as u16)
            }
            22 => Wish::Inherit(name, other),
            23 | 24 => {
                let place = (!random.one_in(4)).then_some(name);
                let mut entries = Vec::new();
                for key in KEYS {
                    if random.one_in(2) {
                        let bytes = random.below(60) as usize;
                        let value = (!random.one_in(3)).then(|| vec![bytes as u8; bytes]);
                        entries.push((key.to_vec(), value));
                    }
                }
                Wish::Values(place, entries)
            }
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
            Wish::Access(name, whom, ..) => match random.below(3) {
                0 => Some(Wish::Inherit(name.clone(), other)),
                1 => Some(Wish::Delete(name.clone())).filter(|_| name != "INBOX"),
                _ => {
                    let rights = random.below(16) as u16;
                    Some(Wish::Access(name.clone(), whom, FlagMode::Add, rights))
                }
            },
            Wish::Create(_) | Wish::Delete(_) | Wish::Subscribe(..) | Wish::Values(..) => {
                Some(first.clone())
            }
            Wish::Append(..) | Wish::Rename(..) | Wish::Inherit(..) => None,
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
            Wish::Access(name, whom, mode, rights) => {
                let Some(mailbox) = number(name) else {
                    return Ok(false);
                };
                let change = |before| rights_after(before, *mode, *rights);
                let changed = partition.change_access(address, mailbox, (whom, None), change);
                changed.await.map(drop)
            }
            Wish::Inherit(from, to) => {
                let (Some(source), Some(target)) = (number(from), number(to)) else {
                    return Ok(false);
                };
                partition.inherit_access(address, source, target).await
            }
            Wish::Values(name, entries) => {
                let mailbox = match name {
                    None => None,
                    Some(name) => match number(name) {
                        None => return Ok(false),
                        known => known,
                    },
                };
                let entries = entries.clone();
                partition
                    .put_values(address, mailbox, b"", entries, VALUES_MAX)
                    .await
            }
            Wish::Subscribe(name, wanted) => partition.set_subscribed(address, name, *wanted).await,
        };
        match answer {
            Ok(()) => Ok(true),
            // Another wish has taken the name or the mailbox away.
            Err(StoreError::Missing | StoreError::Exists | StoreError::Name(_)) => Ok(false),
            Err(StoreError::TooMany("values")) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
