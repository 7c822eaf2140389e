//! The index against a naive model: random histories as a partition would write them, with
//! seals, reopenings, repeated records, and records in any order.

mod histories;
mod mailboxes;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::store::sim::Random;
use crate::store::validity_at;
use crate::store::{MailboxInfo, SpecialUse};

const ACCOUNTS: u64 = 5;

/// A [`Change`] that owns what it names.
#[derive(Debug, Clone)]
enum Record {
    Put(u64, UidValidity, String),
    Remove(u64),
    PutBox(u64, MailboxId, String),
    RemoveBox(u64, MailboxId),
    Append(u64, MailboxId, Arrival),
    Flags(u64, MailboxId, Vec<&'static str>, Vec<NewMark>),
    Expunge(u64, MailboxId, Vec<Uid>, u64),
    Reserve(u64, MailboxId, Reserved),
    Cache(Sequence),
    Key(Vec<u8>, Option<Vec<u8>>),
    Body(Sequence, Location, Vec<Sequence>),
}

/// What an append says.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    uid: Uid,
    body_seq: Sequence,
    bytes: u64,
    saved_ms: u64,
    flags: Flags,
    /// A bit for each of [`WORDS`].
    words: u8,
}

/// Keywords; mailboxes come to have them in any order.
const WORDS: [&str; 4] = ["$Forwarded", "$Junk", "later", "Work"];

fn words(bits: u8) -> Vec<&'static str> {
    let all = WORDS.iter().enumerate();
    all.filter(|(place, _)| bits >> place & 1 == 1)
        .map(|(_, word)| *word)
        .collect()
}

type Log = Vec<(Sequence, Location, Record)>;

/// Shows a record to `visit` as the change that it is.
fn with_change<T>(
    (seq, at, record): &(Sequence, Location, Record),
    visit: impl FnOnce(Sequence, Location, Change<'_>) -> T,
) -> T {
    let (seq, at) = (*seq, *at);
    let owner = match record {
        Record::Put(number, ..)
        | Record::Remove(number)
        | Record::PutBox(number, ..)
        | Record::RemoveBox(number, ..)
        | Record::Append(number, ..)
        | Record::Flags(number, ..)
        | Record::Expunge(number, ..)
        | Record::Reserve(number, ..) => address(*number),
        Record::Key(..) | Record::Body(..) | Record::Cache(..) => address(0),
    };
    let address = &owner;
    let (account, texts);
    let change = match record {
        Record::Put(_, validity, hash) => {
            account = Account {
                address: owner.clone(),
                password_hash: hash.clone(),
                quota_bytes: seq,
            };
            Change::PutAccount {
                account: &account,
                validity: *validity,
            }
        }
        Record::Remove(_) => Change::RemoveAccount { address },
        Record::PutBox(_, mailbox, name) => Change::PutMailbox {
            address,
            mailbox: *mailbox,
            validity: validity_at(mailbox.0),
            special_use: 3,
            name,
        },
        Record::RemoveBox(_, mailbox) => Change::RemoveMailbox {
            address,
            mailbox: *mailbox,
        },
        Record::Append(_, mailbox, new) => {
            texts = words(new.words);
            Change::Append {
                address,
                mailbox: *mailbox,
                uid: new.uid,
                body_seq: new.body_seq,
                bytes: new.bytes,
                date_ms: seq * 10,
                saved_ms: new.saved_ms,
                flags: new.flags,
                keywords: &texts,
            }
        }
        Record::Flags(_, mailbox, keywords, marks) => Change::Flags {
            address,
            mailbox: *mailbox,
            keywords,
            marks,
        },
        Record::Expunge(_, mailbox, uids, now_ms) => Change::Expunge {
            address,
            mailbox: *mailbox,
            uids,
            now_ms: *now_ms,
        },
        Record::Reserve(_, mailbox, reserved) => Change::Reserve {
            address,
            mailbox: *mailbox,
            reserved: *reserved,
        },
        Record::Cache(body_seq) => Change::Cache {
            body_seq: *body_seq,
        },
        Record::Key(key, value) => Change::Key {
            key,
            value: value.as_deref(),
        },
        Record::Body(body_seq, location, chunks) => Change::Body {
            body_seq: *body_seq,
            location: *location,
            chunks,
        },
    };
    visit(seq, at, change)
}

fn apply(index: &mut Index, record: &(Sequence, Location, Record)) {
    with_change(record, |seq, at, change| index.apply(seq, at, change));
}

#[derive(Debug, Clone)]
struct ModelAccount {
    put: usize,
    validity: UidValidity,
    boxes: BTreeMap<MailboxId, ModelBox>,
}

/// Flags of a message: number of the record, its place if it is a flags record, flags, words.
type ModelMark = (Sequence, Option<usize>, Flags, u8);

#[derive(Debug, Clone)]
struct ModelBox {
    /// The record with its name; none for INBOX.
    put: Option<usize>,
    reserve: Option<usize>,
    validity: UidValidity,
    uid_next: Uid,
    modseq: Sequence,
    /// By UID: the record's place in the log.
    messages: BTreeMap<Uid, usize>,
    marks: BTreeMap<Uid, ModelMark>,
    /// What was expunged, by which record.
    vanished: BTreeMap<Uid, Sequence>,
}

impl ModelBox {
    fn new(put: Option<usize>, validity: UidValidity) -> ModelBox {
        ModelBox {
            put,
            reserve: None,
            validity,
            uid_next: 1,
            modseq: 0,
            messages: BTreeMap::new(),
            marks: BTreeMap::new(),
            vanished: BTreeMap::new(),
        }
    }
}

/// What a sound partition would know; refers to records by their first place in `log`.
#[derive(Default)]
struct World {
    log: Log,
    /// Latest copy of each record that was moved.
    moved: BTreeMap<usize, Location>,
    /// Marks in the latest copy of a flags record.
    moved_marks: BTreeMap<usize, usize>,
    accounts: BTreeMap<u64, ModelAccount>,
    keys: BTreeMap<Vec<u8>, usize>,
    /// What is kept beside bodies.
    caches: BTreeMap<Sequence, usize>,
    /// Chunks of streams that are open.
    streams: Vec<Vec<Sequence>>,
    /// Record of each body, by its number.
    bodies: BTreeMap<Sequence, usize>,
    /// Bodies that nothing has named and that were not released.
    unnamed: BTreeSet<Sequence>,
    released: Sequence,
    seq: Sequence,
    segment: u64,
    offset: u32,
    validity: u32,
}

impl World {
    fn place(&mut self, random: &mut Random) -> Location {
        if random.one_in(15) {
            self.segment += 1 + random.below(3);
            self.offset = 0;
        }
        let bytes = 50 + random.below(1000) as u32;
        let location = Location {
            segment: self.segment,
            offset: self.offset,
            bytes,
        };
        self.offset += bytes;
        location
    }

    fn write(&mut self, random: &mut Random, record: Record) -> usize {
        self.seq += 1 + random.below(3) * random.below(2);
        let at = self.place(random);
        self.log.push((self.seq, at, record));
        self.log.len() - 1
    }

    fn write_body(&mut self, random: &mut Random, chunks: Vec<Sequence>) -> Sequence {
        self.seq += 1;
        let at = self.place(random);
        for chunk in &chunks {
            self.unnamed.remove(chunk);
        }
        self.log
            .push((self.seq, at, Record::Body(self.seq, at, chunks)));
        self.bodies.insert(self.seq, self.log.len() - 1);
        self.seq
    }

    fn number(&self, random: &mut Random) -> u64 {
        random.below(ACCOUNTS)
    }

    fn deliver(&mut self, random: &mut Random) {
        if self.accounts.is_empty() {
            return;
        }
        let chunks = match random.index(4) {
            0 if !self.streams.is_empty() => self.streams.remove(random.index(self.streams.len())),
            _ => Vec::new(),
        };
        let body_seq = self.write_body(random, chunks);
        let targets: Vec<(u64, MailboxId)> = self.all_boxes();
        let mut some = false;
        for (number, id) in targets {
            if random.one_in(2) || (!some && random.one_in(2)) {
                continue;
            }
            some = true;
            self.append(random, number, id, body_seq);
        }
        if !some {
            self.unnamed.insert(body_seq);
            // Named chunks of an unnamed final record do not live by it.
            let chunks = self.chunks(body_seq);
            self.unnamed.extend(chunks);
        }
    }

    fn chunks(&self, body_seq: Sequence) -> Vec<Sequence> {
        match &self.log[self.bodies[&body_seq]].2 {
            Record::Body(_, _, chunks) => chunks.clone(),
            _ => panic!("no body"),
        }
    }

    fn step(&mut self, random: &mut Random) {
        let number = self.number(random);
        match random.index(27) {
            0 | 1 if !self.accounts.contains_key(&number) => {
                self.validity += 1;
                let validity = self.validity;
                let record = Record::Put(number, validity, format!("h{}", self.seq));
                let put = self.write(random, record);
                let boxes = BTreeMap::from([(INBOX, ModelBox::new(None, validity))]);
                let account = ModelAccount {
                    put,
                    validity,
                    boxes,
                };
                self.accounts.insert(number, account);
            }
            0 => {
                let validity = self.accounts[&number].validity;
                let record = Record::Put(number, validity, format!("changed{}", self.seq));
                let put = self.write(random, record);
                self.accounts.get_mut(&number).unwrap().put = put;
            }
            1 if random.one_in(3) => {
                self.write(random, Record::Remove(number));
                self.accounts.remove(&number);
                self.drop_caches();
            }
            2 => {
                let Some((number, id)) = self.some_box(random) else {
                    return;
                };
                let own = self.own((number, id));
                let reserved = Reserved {
                    uid_next: own.uid_next + random.below(4) as u32,
                    validity: own.validity + random.below(2) as u32,
                    modseq: own.modseq + random.below(2),
                    changed_floor: 0,
                };
                self.validity = self.validity.max(reserved.validity);
                let place = self.write(random, Record::Reserve(number, id, reserved));
                let own = self.own((number, id));
                own.uid_next = reserved.uid_next;
                own.validity = reserved.validity;
                own.modseq = reserved.modseq;
                own.reserve = Some(place);
            }
            3..=5 => {
                let Some(target) = self.some_box(random) else {
                    return;
                };
                let uid_next = self.own(target).uid_next;
                let uids: Vec<Uid> = (1..uid_next).filter(|_| random.one_in(3)).collect();
                if !uids.is_empty() {
                    self.expunge(random, target, uids);
                }
            }
            20 if self.accounts.contains_key(&number) => {
                self.seq += 1;
                let (id, at) = (MailboxId(self.seq), self.place(random));
                let record = Record::PutBox(number, id, format!("box{}", id.0));
                self.log.push((self.seq, at, record));
                let own = ModelBox::new(Some(self.log.len() - 1), validity_at(id.0));
                let account = self.accounts.get_mut(&number).unwrap();
                account.boxes.insert(id, own);
            }
            21 => {
                let Some((number, id)) = self.some_box(random).filter(|(_, id)| *id != INBOX)
                else {
                    return;
                };
                if random.one_in(2) {
                    self.write(random, Record::RemoveBox(number, id));
                    self.accounts.get_mut(&number).unwrap().boxes.remove(&id);
                    self.drop_caches();
                } else {
                    let record = Record::PutBox(number, id, format!("again{}", self.seq));
                    let place = self.write(random, record);
                    self.own((number, id)).put = Some(place);
                }
            }
            22 | 23 => self.flag(random),
            24 => self.copy(random),
            25 => {
                let named: Vec<Sequence> = self.named_bodies().into_iter().collect();
                if !named.is_empty() {
                    let body_seq = named[random.index(named.len())];
                    let place = self.write(random, Record::Cache(body_seq));
                    self.caches.insert(body_seq, place);
                }
            }
            6 | 7 => {
                let key = format!("k{}", random.below(12)).into_bytes();
                let value = (!random.one_in(3)).then(|| format!("v{}", self.seq).into_bytes());
                let place = self.write(random, Record::Key(key.clone(), value.clone()));
                if value.is_some() {
                    self.keys.insert(key, place);
                } else {
                    self.keys.remove(&key);
                }
            }
            8 => self.streams.push(Vec::new()),
            9 | 10 if !self.streams.is_empty() => {
                let stream = random.index(self.streams.len());
                let chunk = self.write_body(random, Vec::new());
                self.unnamed.insert(chunk);
                self.streams[stream].push(chunk);
            }
            11 if random.one_in(3) && !self.streams.is_empty() => {
                self.streams.remove(random.index(self.streams.len()));
            }
            12 | 13 => self.compact(random),
            _ => self.deliver(random),
        }
    }

    fn needed_bodies(&self) -> BTreeSet<Sequence> {
        let mut needed = self.unnamed.clone();
        for body_seq in self.named_bodies() {
            needed.insert(body_seq);
            needed.extend(self.chunks(body_seq));
        }
        needed
    }

    /// Records that a compaction would have to keep.
    fn live(&self) -> Vec<usize> {
        let mut live: BTreeSet<usize> = self.keys.values().copied().collect();
        live.extend(self.caches.values());
        for account in self.accounts.values() {
            live.insert(account.put);
            for own in account.boxes.values() {
                live.extend(own.put);
                live.extend(own.reserve);
                live.extend(own.messages.values());
                live.extend(own.marks.values().filter_map(|(_, place, ..)| *place));
            }
        }
        live.extend(self.needed_bodies().iter().map(|seq| self.bodies[seq]));
        live.into_iter().collect()
    }

    fn location(&self, place: usize) -> Location {
        let first = self.log[place].1;
        self.moved.get(&place).copied().unwrap_or(first)
    }

    /// Moves some live records of one segment to the end of the log.
    fn compact(&mut self, random: &mut Random) {
        let segment = random.below(self.segment + 1);
        for place in self.live() {
            if self.location(place).segment != segment || random.one_in(8) {
                continue;
            }
            let at = self.place(random);
            let bytes = self.location(place).bytes;
            let at = Location { bytes, ..at };
            let (seq, _, mut record) = self.log[place].clone();
            if let Record::Body(_, location, _) = &mut record {
                *location = at;
            }
            if let Record::Flags(number, id, _, marks) = &mut record {
                // Marks that nobody needs stay behind, now and then.
                if random.one_in(2) {
                    let own = &self.accounts[number].boxes[id].marks;
                    marks.retain(|mark| own.get(&mark.uid).is_some_and(|own| own.1 == Some(place)));
                }
                self.moved_marks.insert(place, marks.len());
            }
            self.log.push((seq, at, record));
            self.moved.insert(place, at);
        }
    }

    /// What no open stream can name is garbage.
    fn release(&mut self) -> Sequence {
        let open = self.streams.iter().flatten().min().copied();
        let below = open.unwrap_or(self.seq + 1);
        self.unnamed.retain(|seq| *seq >= below);
        self.released = below;
        below
    }

    fn check(&self, index: &Index, context: &str) {
        let mut messages = 0;
        let mut usage: BTreeMap<u64, u64> = BTreeMap::new();
        let mut use_bytes = |place: usize, bytes: u64| {
            *usage.entry(self.location(place).segment).or_default() += bytes;
        };
        for number in 0..ACCOUNTS {
            let own = address(number);
            let Some(account) = self.accounts.get(&number) else {
                assert!(!index.has_account(&own), "{context}");
                assert_eq!(index.account(&own), None, "{context}");
                assert_eq!(index.messages_in(&own, INBOX), None, "{context}");
                assert_eq!(inbox_state(index, &own), None, "{context}");
                assert_eq!(index.find(&own, INBOX, 1), None, "{context}");
                continue;
            };
            let (seq, _, Record::Put(_, _, hash)) = &self.log[account.put] else {
                panic!("no account");
            };
            let expected = Account {
                address: own.clone(),
                password_hash: hash.clone(),
                quota_bytes: *seq,
            };
            assert_eq!(index.account(&own), Some(expected), "{context}");
            use_bytes(account.put, 256);
            let mut total = 0;
            for (id, model) in &account.boxes {
                total += self.check_box(index, (&own, *id), model, &mut use_bytes, context);
                messages += model.messages.len() as u64;
            }
            assert_eq!(index.used_bytes(&own), Some(total), "{context}");
            let ids: Vec<MailboxId> = account.boxes.keys().copied().collect();
            assert_eq!(index.mailbox_ids(&own), ids, "{context}");
        }
        assert_eq!(index.messages(), messages, "{context}");
        let needed = self.needed_bodies();
        for (seq, place) in &self.bodies {
            let location = self.location(*place);
            let expected = needed.contains(seq).then_some(location);
            assert_eq!(index.body(*seq), expected, "{context}: body {seq}");
            if needed.contains(seq) {
                use_bytes(*place, location.bytes.into());
            }
        }
        for body_seq in self.bodies.keys() {
            let place = self.caches.get(body_seq);
            let expected = place.map(|place| self.location(*place));
            assert_eq!(
                index.cache(*body_seq),
                expected,
                "{context}: beside {body_seq}"
            );
            if let (Some(place), Some(location)) = (place, expected) {
                use_bytes(*place, location.bytes.into());
            }
        }
        let mut keys = Vec::new();
        for (key, place) in &self.keys {
            let Record::Key(_, Some(value)) = &self.log[*place].2 else {
                panic!("no key");
            };
            assert_eq!(index.key(key).as_ref(), Some(value), "{context}");
            use_bytes(*place, 64 + (key.len() + value.len()) as u64);
            keys.push((key.clone(), value.clone()));
        }
        for prefix in ["", "k", "k1", "x"] {
            let mut seen = Vec::new();
            index.for_each_key(prefix.as_bytes(), &mut |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
            });
            let mut expected = keys.clone();
            expected.retain(|(key, _)| key.starts_with(prefix.as_bytes()));
            assert_eq!(seen, expected, "{context}");
        }
        let mut seen = BTreeSet::new();
        index.for_each_account(&mut |account| {
            assert!(seen.insert(account.address.clone()), "{context}");
        });
        let expected: BTreeSet<_> = self.accounts.keys().map(|n| address(*n)).collect();
        assert_eq!(seen, expected, "{context}");
        let live: BTreeSet<(Sequence, u64)> = self
            .live()
            .into_iter()
            .map(|place| (self.log[place].0, self.location(place).segment))
            .collect();
        for (place, record) in self.log.iter().enumerate() {
            let (seq, at, what) = record;
            let says_gone = matches!(
                what,
                Record::Expunge(..)
                    | Record::Remove(_)
                    | Record::RemoveBox(..)
                    | Record::Key(_, None)
            );
            // Of two copies of a body in one segment the later counts.
            let expected = match what {
                Record::Cache(body_seq) => {
                    let place = self.caches.get(body_seq);
                    place.is_some_and(|place| {
                        self.log[*place].0 == *seq && self.location(*place) == *at
                    })
                }
                Record::Body(body_seq, location, _) => {
                    let place = self.bodies[body_seq];
                    live.contains(&(*seq, at.segment)) && self.location(place) == *location
                }
                _ => says_gone || live.contains(&(*seq, at.segment)),
            };
            let needed = with_change(record, |seq, at, change| index.needs(seq, at, &change));
            assert_eq!(needed, expected, "{context}: {place} {record:?}");
        }
        let live: BTreeMap<u64, u64> = index
            .usage()
            .into_iter()
            .map(|(segment, usage)| (segment, usage.live_bytes))
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
        assert_eq!(live, usage, "{context}");
    }
}

fn history(random: &mut Random, steps: usize) -> World {
    let mut world = World {
        segment: 1,
        ..World::default()
    };
    for _ in 0..steps {
        world.step(random);
    }
    world
}

fn shuffle<T>(random: &mut Random, items: &mut [T]) {
    for index in (1..items.len()).rev() {
        items.swap(index, random.index(index + 1));
    }
}
