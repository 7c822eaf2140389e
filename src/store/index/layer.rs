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
use super::message::Message;
use super::tombstones::Tombstones;
use super::usage::NO_SEGMENT;
use crate::mail::Address;
use crate::store::{Sequence, Uid, UidValidity};

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
    /// What they may be at most; 0: unlimited.
    pub(super) quota_bytes: u64,
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
        quota_bytes: 0,
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

    /// A reserve record counts.
    pub(super) fn has_reserve(&self) -> bool {
        self.reserve_segment != NO_SEGMENT
    }

    /// UIDVALIDITY of the INBOX: the later one. A reserve may tell of the account that had this
    /// address before: compaction writes down what is visible, and the end of that account may be
    /// on its way then.
    pub(super) fn validity(&self) -> UidValidity {
        if self.has_reserve() {
            self.reserve_validity.max(self.put_validity)
        } else {
            self.put_validity
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
    /// As stored; `None`: as below.
    pub(super) password_hash: Option<Box<str>>,
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
            password_hash: None,
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
        if later.password_hash.is_some() {
            self.password_hash = later.password_hash;
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
            + self.password_hash.as_ref().map_or(0, |p| p.len())
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
        if number == self.entries.capacity() {
            self.entries.reserve_exact(number / 4 + 16);
        }
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
