//! The index against a naive model: random histories as a partition would write them, with
//! seals, reopenings, repeated records, and records in any order.

mod histories;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::store::sim::Random;

const ACCOUNTS: u64 = 5;

/// A [`Change`] that owns what it names.
#[derive(Debug, Clone)]
enum Record {
    Put(u64, UidValidity, String),
    Remove(u64),
    Append(u64, Uid, Sequence, u64),
    Expunge(u64, Vec<Uid>, u64),
    Reserve(u64, Uid, UidValidity),
    Key(Vec<u8>, Option<Vec<u8>>),
    Body(Sequence, Location, Vec<Sequence>),
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
        | Record::Append(number, ..)
        | Record::Expunge(number, ..)
        | Record::Reserve(number, ..) => address(*number),
        Record::Key(..) | Record::Body(..) => address(0),
    };
    let address = &owner;
    let account;
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
        Record::Append(_, uid, body_seq, bytes) => Change::Append {
            address,
            mailbox: INBOX,
            uid: *uid,
            body_seq: *body_seq,
            bytes: *bytes,
            date_ms: seq * 10,
            saved_ms: seq * 10,
            flags: Flags::NONE,
            keywords: &[],
        },
        Record::Expunge(_, uids, now_ms) => Change::Expunge {
            address,
            mailbox: INBOX,
            uids,
            now_ms: *now_ms,
        },
        Record::Reserve(_, uid_next, validity) => Change::Reserve {
            address,
            mailbox: INBOX,
            reserved: reserved(*uid_next, *validity),
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
    reserve: Option<usize>,
    validity: UidValidity,
    uid_next: Uid,
    /// By UID: the record's place in the log.
    messages: BTreeMap<Uid, usize>,
}

/// What a sound partition would know; refers to records by their first place in `log`.
#[derive(Default)]
struct World {
    log: Log,
    /// Latest copy of each record that was moved.
    moved: BTreeMap<usize, Location>,
    accounts: BTreeMap<u64, ModelAccount>,
    keys: BTreeMap<Vec<u8>, usize>,
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
        let numbers: Vec<u64> = self.accounts.keys().copied().collect();
        let mut some = false;
        for number in numbers {
            if !random.one_in(2) && (some || random.one_in(2)) {
                continue;
            }
            some = true;
            let uid = self.accounts[&number].uid_next;
            let bytes = random.below(5000);
            let place = self.write(random, Record::Append(number, uid, body_seq, bytes));
            let account = self.accounts.get_mut(&number).unwrap();
            account.uid_next = uid + 1;
            account.messages.insert(uid, place);
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
        match random.index(20) {
            0 | 1 if !self.accounts.contains_key(&number) => {
                self.validity += 1;
                let record = Record::Put(number, self.validity, format!("h{}", self.seq));
                let put = self.write(random, record);
                let account = ModelAccount {
                    put,
                    reserve: None,
                    validity: self.validity,
                    uid_next: 1,
                    messages: BTreeMap::new(),
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
            }
            2 if self.accounts.contains_key(&number) => {
                let account = &self.accounts[&number];
                let uid_next = account.uid_next + random.below(4) as u32;
                let validity = account.validity + random.below(2) as u32;
                self.validity = self.validity.max(validity);
                let place = self.write(random, Record::Reserve(number, uid_next, validity));
                let account = self.accounts.get_mut(&number).unwrap();
                account.uid_next = uid_next;
                account.validity = validity;
                account.reserve = Some(place);
            }
            3..=5 if self.accounts.contains_key(&number) => {
                let uid_next = self.accounts[&number].uid_next;
                let uids: Vec<Uid> = (1..uid_next).filter(|_| random.one_in(3)).collect();
                if uids.is_empty() {
                    return;
                }
                let now_ms = self.seq * 10;
                self.write(random, Record::Expunge(number, uids.clone(), now_ms));
                let account = self.accounts.get_mut(&number).unwrap();
                account.messages.retain(|uid, _| !uids.contains(uid));
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
        for account in self.accounts.values() {
            for place in account.messages.values() {
                if let Record::Append(_, _, body_seq, _) = self.log[*place].2 {
                    needed.insert(body_seq);
                    needed.extend(self.chunks(body_seq));
                }
            }
        }
        needed
    }

    /// Records that a compaction would have to keep.
    fn live(&self) -> Vec<usize> {
        let mut live: Vec<usize> = self.keys.values().copied().collect();
        for account in self.accounts.values() {
            live.push(account.put);
            live.extend(account.reserve);
            live.extend(account.messages.values());
        }
        live.extend(self.needed_bodies().iter().map(|seq| self.bodies[seq]));
        live
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
                assert_eq!(inbox_state(&index, &own), None, "{context}");
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
            if let Some(reserve) = account.reserve {
                use_bytes(reserve, 96);
            }
            let mut total = 0;
            let mut expected = Vec::new();
            for (uid, place) in &account.messages {
                let (seq, _, Record::Append(_, _, body_seq, bytes)) = self.log[*place] else {
                    panic!("no append");
                };
                let info = MessageInfo {
                    uid: *uid,
                    modseq: seq,
                    bytes,
                    date_ms: seq * 10,
                    saved_ms: seq * 10,
                    flags: Flags::NONE,
                    keywords: 0,
                    body_seq,
                };
                let found = Found {
                    info,
                    body_seq,
                    location: self.location(self.bodies[&body_seq]),
                };
                assert_eq!(index.find(&own, INBOX, *uid), Some(found), "{context}");
                expected.push(info);
                total += bytes;
                use_bytes(*place, 128);
            }
            messages += expected.len() as u64;
            for uid in 0..account.uid_next + 2 {
                if !account.messages.contains_key(&uid) {
                    assert_eq!(index.find(&own, INBOX, uid), None, "{context}: {uid}");
                }
            }
            assert_eq!(index.messages_in(&own, INBOX), Some(expected), "{context}");
            let state = (account.validity, account.uid_next, total);
            assert_eq!(
                inbox_state(&index, &own),
                Some(state),
                "{context}: account {number}"
            );
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
                Record::Expunge(..) | Record::Remove(_) | Record::Key(_, None)
            );
            // Of two copies of a body in one segment the later counts.
            let expected = match what {
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
