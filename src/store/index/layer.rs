//! One layer of changes over what lies below: accounts, messages, bodies, keys.
//!
//! What a layer says of a thing is the whole truth of it: the first layer from the top that knows
//! an account's fields, a UID, a body or a key decides. So two layers are merged by overwriting,
//! and a layer is merged into a sealed file in one pass.
//! Does not know: the layers below, segments.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::bodies::Bodies;
use super::usage::NO_SEGMENT;
use crate::mail::Address;
use crate::store::{MessageInfo, Sequence, Uid, UidValidity};

/// Dates are kept in 48 bits: up to the year 10889.
const DATE_MAX: u64 = (1 << 48) - 1;
/// Sizes are kept in 40 bits.
const BYTES_MAX: u64 = (1 << 40) - 1;
const _: () = assert!(crate::limits::MESSAGE_BYTES_MAX < BYTES_MAX / 2);
/// A body so far from its append that the distance does not fit: never in a log that we wrote.
const BODY_UNKNOWN: u32 = u32::MAX;

/// A live message, 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    /// Its UID.
    pub(super) uid: Uid,
    /// Number of the segment in which its append record is.
    pub(super) segment: u32,
    seq: [u32; 2],
    /// How far the body's number is below that of the append.
    pub(super) body_distance: u32,
    date_low: u32,
    bytes_low: u32,
    date_high: u16,
    bytes_high: u16,
}

impl Message {
    /// A message as its append record says it. A date of more than 48
    /// bits or a size of more than 40 is cut down to that.
    pub(super) fn new(
        uid: Uid,
        segment: u32,
        seq: Sequence,
        body_seq: Sequence,
        bytes: u64,
        date_ms: u64,
    ) -> Message {
        let body_distance = seq
            .checked_sub(body_seq)
            .and_then(|distance| u32::try_from(distance).ok())
            .unwrap_or(BODY_UNKNOWN);
        Message::from_parts(uid, segment, seq, body_distance, bytes, date_ms)
    }

    /// As stored.
    pub(super) fn from_parts(
        uid: Uid,
        segment: u32,
        seq: Sequence,
        body_distance: u32,
        bytes: u64,
        date_ms: u64,
    ) -> Message {
        let (bytes, date_ms) = (bytes.min(BYTES_MAX), date_ms.min(DATE_MAX));
        Message {
            uid,
            segment,
            seq: [seq as u32, (seq >> 32) as u32],
            body_distance,
            date_low: date_ms as u32,
            bytes_low: bytes as u32,
            date_high: (date_ms >> 32) as u16,
            bytes_high: (bytes >> 32) as u16,
        }
    }

    /// Sequence number of its append record.
    pub(super) fn seq(&self) -> Sequence {
        u64::from(self.seq[0]) | u64::from(self.seq[1]) << 32
    }

    /// The body's sequence number, if it can be told.
    pub(super) fn body_seq(&self) -> Option<Sequence> {
        if self.body_distance == BODY_UNKNOWN {
            return None;
        }
        self.seq().checked_sub(u64::from(self.body_distance))
    }

    /// Bytes of trace header and body.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.bytes_low) | u64::from(self.bytes_high) << 32
    }

    /// Internal date.
    pub(super) fn date_ms(&self) -> u64 {
        u64::from(self.date_low) | u64::from(self.date_high) << 32
    }

    /// As listed.
    pub(super) fn info(&self) -> MessageInfo {
        MessageInfo {
            uid: self.uid,
            modseq: self.seq(),
            bytes: self.bytes(),
            date_ms: self.date_ms(),
        }
    }
}

/// UIDs that an expunge record named: appends of a lower number stay dead, whenever they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tombstone {
    first: Uid,
    last: Uid,
    seq: Sequence,
}

/// Expunged UIDs since the last sealed index: disjoint ranges in ascending order.
///
/// A sealed index needs none: what it does not list, up to the number it covers, is dead. So
/// their number is bounded by the expunge records of the log behind the sealed index.
#[derive(Debug, Clone, Default)]
pub(super) struct Tombstones {
    ranges: Vec<Tombstone>,
}

impl Tombstones {
    /// The highest number of an expunge record that names this UID.
    pub(super) fn seq_of(&self, uid: Uid) -> Option<Sequence> {
        let index = self.ranges.partition_point(|range| range.last < uid);
        let range = self.ranges.get(index)?;
        (range.first <= uid).then_some(range.seq)
    }

    /// The highest UID named by a record above `seq`.
    pub(super) fn last_uid(&self, seq: Sequence) -> Option<Uid> {
        let range = self.ranges.iter().rev().find(|range| range.seq > seq)?;
        Some(range.last)
    }

    /// Forgets the records up to `seq`.
    pub(super) fn drop_to(&mut self, seq: Sequence) {
        self.ranges.retain(|range| range.seq > seq);
    }

    /// Takes in ascending UIDs of one record; where ranges overlap, the higher number stays.
    pub(super) fn insert_all(&mut self, uids: &[Uid], seq: Sequence) {
        for run in uids.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            self.insert(Tombstone {
                first: run[0],
                last: run[run.len() - 1],
                seq,
            });
        }
    }

    fn insert(&mut self, new: Tombstone) {
        let start = self.ranges.partition_point(|range| range.last < new.first);
        let count = self.ranges[start..].partition_point(|range| range.first <= new.last);
        if count == 0 {
            self.ranges.insert(start, new);
            return;
        }
        let mut pieces = Vec::with_capacity(2 * count + 1);
        let mut next = Some(new.first);
        for old in &self.ranges[start..start + count] {
            // Before the overlap: only one of the two is there.
            if old.first < new.first {
                pieces.push(Tombstone {
                    last: new.first - 1,
                    ..*old
                });
            }
            if let Some(first) = next
                && first < old.first
            {
                pieces.push(Tombstone {
                    first,
                    last: old.first - 1,
                    ..new
                });
            }
            pieces.push(Tombstone {
                first: old.first.max(new.first),
                last: old.last.min(new.last),
                seq: old.seq.max(new.seq),
            });
            if old.last > new.last {
                pieces.push(Tombstone {
                    first: new.last + 1,
                    ..*old
                });
            }
            next = old.last.checked_add(1);
        }
        if let Some(first) = next
            && first <= new.last
        {
            pieces.push(Tombstone { first, ..new });
        }
        pieces.dedup_by(|b, a| {
            let joins = a.seq == b.seq && a.last.checked_add(1) == Some(b.first);
            if joins {
                a.last = b.last;
            }
            joins
        });
        self.ranges.splice(start..start + count, pieces);
    }

    /// Takes in all of another set.
    pub(super) fn merge(&mut self, other: Tombstones) {
        if self.ranges.is_empty() {
            *self = other;
            return;
        }
        for range in other.ranges {
            self.insert(range);
        }
    }

    fn bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<Tombstone>()
    }
}

/// What an operator set on an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// As stored.
    pub(super) password_hash: Box<str>,
    /// Bytes; 0: unlimited.
    pub(super) quota_bytes: u64,
}

/// Fields of an account that are small and always known as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields {
    /// Number of the account record that counts; what is above `removed_seq` only.
    pub(super) put_seq: Sequence,
    /// Number of the last removal: what is older is dead.
    pub(super) removed_seq: Sequence,
    /// Number of the reserve record that counts.
    pub(super) reserve_seq: Sequence,
    /// Bytes of its live messages.
    pub(super) bytes: u64,
    /// Segment of the account record; `NO_SEGMENT`: there is no account.
    pub(super) put_segment: u32,
    /// Segment of the reserve record; `NO_SEGMENT`: there is none.
    pub(super) reserve_segment: u32,
    /// UIDVALIDITY as the account record says it.
    pub(super) put_validity: UidValidity,
    /// UIDVALIDITY as the reserve record says it, which is stronger.
    pub(super) reserve_validity: UidValidity,
    /// As the reserve record says it.
    pub(super) reserve_uid: Uid,
    /// Above every UID seen.
    pub(super) uid_next: Uid,
    /// Live messages.
    pub(super) count: u32,
}

impl Fields {
    /// Of an address that nothing is known of.
    pub(super) const ABSENT: Fields = Fields {
        put_seq: 0,
        removed_seq: 0,
        reserve_seq: 0,
        bytes: 0,
        put_segment: NO_SEGMENT,
        reserve_segment: NO_SEGMENT,
        put_validity: 0,
        reserve_validity: 0,
        reserve_uid: 0,
        uid_next: 1,
        count: 0,
    };

    /// There is an account.
    pub(super) fn exists(&self) -> bool {
        self.put_segment != NO_SEGMENT
    }

    /// UIDVALIDITY of the INBOX.
    pub(super) fn validity(&self) -> UidValidity {
        if self.reserve_segment == NO_SEGMENT {
            self.put_validity
        } else {
            self.reserve_validity
        }
    }
}

/// What a layer knows of an account.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Whose it is.
    pub(super) address: Rc<Address>,
    /// Valid as they stand here.
    pub(super) fields: Fields,
    /// The latest expunge, for messages that arrive dead.
    pub(super) last_expunge_ms: u64,
    /// `None`: as below.
    pub(super) profile: Option<Box<Profile>>,
    /// Messages appended (or whose append record was moved) since, in UID order.
    pub(super) messages: Vec<Message>,
    /// Messages of the layers below that are dead, ascending.
    pub(super) dead: Vec<Uid>,
    /// See [`Tombstones`].
    pub(super) tombstones: Tombstones,
    /// No message below counts: the account was removed since.
    pub(super) hides_below: bool,
}

impl Entry {
    /// Nothing has changed yet.
    pub(super) fn new(address: &Address, fields: Fields) -> Entry {
        Entry {
            address: Rc::new(address.clone()),
            fields,
            last_expunge_ms: 0,
            profile: None,
            messages: Vec::new(),
            dead: Vec::new(),
            tombstones: Tombstones::default(),
            hides_below: false,
        }
    }

    /// `Some(None)`: the UID is dead here; `None`: the layers below know.
    pub(super) fn message(&self, uid: Uid) -> Option<Option<Message>> {
        if let Ok(index) = self.position(uid) {
            return Some(Some(self.messages[index]));
        }
        if self.hides_below || self.dead.binary_search(&uid).is_ok() {
            return Some(None);
        }
        None
    }

    fn position(&self, uid: Uid) -> Result<usize, usize> {
        match self.messages.last() {
            Some(last) if last.uid < uid => Err(self.messages.len()),
            None => Err(0),
            _ => self.messages.binary_search_by_key(&uid, |m| m.uid),
        }
    }

    /// Puts a live message in, over one of the same UID.
    pub(super) fn put_message(&mut self, message: Message) {
        match self.position(message.uid) {
            Ok(index) => self.messages[index] = message,
            Err(place) => {
                if self.messages.len() == self.messages.capacity() {
                    // By a quarter, not double: there are many of these, and most stay as they are.
                    self.messages.reserve_exact(self.messages.len() / 4 + 4);
                }
                self.messages.insert(place, message);
            }
        }
    }

    /// Takes out messages by ascending UIDs in one pass; `dead` of them were below.
    pub(super) fn kill(&mut self, uids: &[Uid], below: impl Iterator<Item = Uid>) {
        if let (Some(first), Some(last)) = (uids.first(), uids.last()) {
            let start = self.messages.partition_point(|m| m.uid < *first);
            let end = self.messages.partition_point(|m| m.uid <= *last);
            if start < end {
                let mut kept = start;
                for index in start..end {
                    if uids.binary_search(&self.messages[index].uid).is_err() {
                        self.messages[kept] = self.messages[index];
                        kept += 1;
                    }
                }
                self.messages.drain(kept..end);
            }
        }
        let before = self.dead.len();
        self.dead.extend(below);
        if self.dead.len() > before {
            self.dead.sort_unstable();
            self.dead.dedup();
        }
    }

    /// Messages of this layer over `below`, both and the result in UID order.
    pub(super) fn over(&self, below: Vec<Message>) -> Vec<Message> {
        if self.hides_below || below.is_empty() {
            return self.messages.clone();
        }
        if self.messages.is_empty() && self.dead.is_empty() {
            return below;
        }
        let mut merged = Vec::with_capacity(below.len() + self.messages.len());
        let mut own = self.messages.iter().copied().peekable();
        let mut dead = self.dead.iter().copied().peekable();
        for message in below {
            while let Some(newer) = own.next_if(|own| own.uid < message.uid) {
                merged.push(newer);
            }
            while dead.next_if(|dead| *dead < message.uid).is_some() {}
            if let Some(newer) = own.next_if(|own| own.uid == message.uid) {
                merged.push(newer);
            } else if dead.peek() != Some(&message.uid) {
                merged.push(message);
            }
        }
        merged.extend(own);
        merged
    }

    /// Takes in what a later layer says.
    pub(super) fn merge(&mut self, later: Entry) {
        self.messages = later.over(std::mem::take(&mut self.messages));
        if later.hides_below {
            self.hides_below = true;
            self.dead.clear();
        }
        self.dead.extend(&later.dead);
        self.dead.sort_unstable();
        self.dead.dedup();
        let live: &[Message] = &self.messages;
        self.dead
            .retain(|uid| live.binary_search_by_key(uid, |m| m.uid).is_err());
        if later.profile.is_some() {
            self.profile = later.profile;
        }
        self.tombstones.merge(later.tombstones);
        self.tombstones.drop_to(later.fields.removed_seq);
        self.last_expunge_ms = self.last_expunge_ms.max(later.last_expunge_ms);
        self.fields = later.fields;
    }

    fn bytes(&self) -> usize {
        self.messages.capacity() * size_of::<Message>()
            + self.dead.capacity() * size_of::<Uid>()
            + self.tombstones.bytes()
            + self
                .profile
                .as_ref()
                .map_or(0, |p| size_of::<Profile>() + p.password_hash.len())
    }
}

/// A key as a layer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyEntry {
    /// Number of the record.
    pub(super) seq: Sequence,
    /// Segment of the record.
    pub(super) segment: u32,
    /// `None`: removed.
    pub(super) value: Option<Box<[u8]>>,
}

/// The layer.
///
/// Accounts are found by FxHash, which can be flooded by whoever chooses the keys; addresses of
/// accounts are chosen by operators. A client's guess at an address is only looked up.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    pub(super) numbers: FxHashMap<Rc<Address>, u32>,
    pub(super) entries: Vec<Entry>,
    pub(super) bodies: Bodies,
    pub(super) chunks: BTreeMap<Sequence, Box<[Sequence]>>,
    pub(super) keys: BTreeMap<Box<[u8]>, KeyEntry>,
}

impl Layer {
    /// What is known of an account.
    pub(super) fn entry(&self, address: &Address) -> Option<&Entry> {
        self.numbers
            .get(address)
            .map(|&number| &self.entries[number as usize])
    }

    /// Adds an account that is not there.
    pub(super) fn add(&mut self, entry: Entry) -> usize {
        let number = self.entries.len();
        self.numbers
            .insert(Rc::clone(&entry.address), number as u32);
        self.entries.push(entry);
        number
    }

    /// Keys from `first` on, with their values.
    pub(super) fn keys_from<'a>(
        &'a self,
        first: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.keys
            .range::<[u8], _>((Bound::Included(first), Bound::Unbounded))
            .map(|(key, entry)| (key.as_ref(), entry.value.as_deref()))
    }

    /// Takes in what a later layer says.
    pub(super) fn merge(&mut self, later: Layer) {
        for entry in later.entries {
            match self.numbers.get(&entry.address) {
                Some(&own) => self.entries[own as usize].merge(entry),
                None => {
                    self.add(entry);
                }
            }
        }
        for body in later.bodies.iter() {
            self.bodies.insert(*body);
        }
        self.chunks.extend(later.chunks);
        self.keys.extend(later.keys);
    }

    /// Approximate bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        // A slot of the map is its entry and a control byte; an address has its text besides, both counted.
        self.numbers.capacity() * (size_of::<(Rc<Address>, u32)>() + 1)
            + self.numbers.len() * 72
            + self.entries.capacity() * size_of::<Entry>()
            + self.entries.iter().map(Entry::bytes).sum::<usize>()
            + self.bodies.bytes()
            + self
                .chunks
                .values()
                .map(|chunks| 48 + chunks.len() * 8)
                .sum::<usize>()
            + self
                .keys
                .iter()
                .map(|(key, entry)| 96 + key.len() + entry.value.as_ref().map_or(0, |v| v.len()))
                .sum::<usize>()
    }
}
