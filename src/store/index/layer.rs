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
use super::mailbox::{BoxFields, Mailbox};
use super::usage::NO_SEGMENT;
use crate::mail::Address;
use crate::store::{MailboxId, Sequence};

/// In place of a quota: the account is gone for all who ask, see `store::removal`.
pub const CONDEMNED_QUOTA: u64 = u64::MAX;

/// Fields of an account that are small and always known as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields {
    /// Number of the account record that counts; what is above `removed_seq` only.
    pub(super) put_seq: Sequence,
    /// Number of the last removal: what is older is dead.
    pub(super) removed_seq: Sequence,
    /// Bytes of its live messages, those of all mailboxes.
    pub(super) bytes: u64,
    /// What they may be at most; 0: unlimited.
    pub(super) quota_bytes: u64,
    /// Segment of the account record; `NO_SEGMENT`: there is none.
    pub(super) put_segment: u32,
}

impl Fields {
    /// Of an address that nothing is known of.
    pub(super) const ABSENT: Fields = Fields {
        put_seq: 0,
        removed_seq: 0,
        bytes: 0,
        quota_bytes: 0,
        put_segment: NO_SEGMENT,
    };

    /// There is a record of an account.
    pub(super) fn has_record(&self) -> bool {
        self.put_segment != NO_SEGMENT
    }

    /// There is an account.
    pub(super) fn exists(&self) -> bool {
        self.has_record() && !self.is_condemned()
    }

    /// It was removed, and its messages have yet to go.
    pub(super) fn is_condemned(&self) -> bool {
        self.has_record() && self.quota_bytes == CONDEMNED_QUOTA
    }
}

/// What a layer knows of an account.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Whose it is.
    pub(super) address: Rc<Address>,
    /// Valid as they stand here.
    pub(super) fields: Fields,
    /// As stored; `None`: as below.
    pub(super) password_hash: Option<Box<str>>,
    /// Nothing below counts: the account was removed since.
    pub(super) hides_below: bool,
    /// Always known here: deliveries look no further.
    pub(super) inbox: Mailbox,
    /// Other mailboxes that have changed, by ascending id.
    pub(super) others: Vec<(MailboxId, Mailbox)>,
}

impl Entry {
    /// Nothing has changed yet.
    pub(super) fn new(address: &Address, fields: Fields, inbox: BoxFields) -> Entry {
        Entry {
            address: Rc::new(address.clone()),
            fields,
            password_hash: None,
            hides_below: false,
            inbox: Mailbox::new(inbox),
            others: Vec::new(),
        }
    }

    /// Where a mailbox other than INBOX is, or belongs.
    pub(super) fn place(&self, id: MailboxId) -> Result<usize, usize> {
        self.others.binary_search_by_key(&id, |(own, _)| *own)
    }

    /// What this layer knows of a mailbox; `None`: as below, unless that is hidden.
    pub(super) fn mailbox(&self, id: MailboxId) -> Option<&Mailbox> {
        if id.is_inbox() {
            return Some(&self.inbox);
        }
        self.place(id).ok().map(|place| &self.others[place].1)
    }

    /// Takes in what a later layer says.
    pub(super) fn merge(&mut self, later: Entry) {
        if later.password_hash.is_some() {
            self.password_hash = later.password_hash;
        }
        let removed_seq = later.fields.removed_seq;
        if later.hides_below {
            self.hides_below = true;
            self.others.clear();
        }
        self.fields = later.fields;
        self.inbox.merge(later.inbox, removed_seq);
        for (id, mailbox) in later.others {
            match self.place(id) {
                Ok(place) => self.others[place].1.merge(mailbox, removed_seq),
                Err(place) => self.others.insert(place, (id, mailbox)),
            }
        }
    }

    fn bytes(&self) -> usize {
        self.inbox.bytes()
            + self.others.capacity() * size_of::<(MailboxId, Mailbox)>()
            + self.others.iter().map(|(_, m)| m.bytes()).sum::<usize>()
            + self.password_hash.as_ref().map_or(0, |p| p.len())
    }
}

/// Where in a layer a mailbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Number of the account.
    pub(super) entry: usize,
    /// Place among its other mailboxes; `None`: the INBOX.
    other: Option<usize>,
}

/// Where what is kept beside a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheEntry {
    /// Number of the record.
    pub(super) seq: Sequence,
    /// Segment of the record.
    pub(super) segment: u32,
    /// Bytes from the start of the segment.
    pub(super) offset: u32,
    /// Bytes of the record.
    pub(super) bytes: u32,
}

impl CacheEntry {
    /// What it counts in the usage of its segment: never nothing.
    pub(super) fn charge(&self) -> u64 {
        u64::from(self.bytes.max(1))
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
    pub(super) caches: BTreeMap<Sequence, CacheEntry>,
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

    /// A mailbox of an account that is there, put in as `new` makes it if it is not.
    pub(super) fn slot(
        &mut self,
        entry: usize,
        id: MailboxId,
        new: impl FnOnce(&Entry) -> Mailbox,
    ) -> Slot {
        if id.is_inbox() {
            return Slot { entry, other: None };
        }
        let own = &mut self.entries[entry];
        let place = match own.place(id) {
            Ok(place) => place,
            Err(place) => {
                let mailbox = new(own);
                own.others.insert(place, (id, mailbox));
                place
            }
        };
        Slot {
            entry,
            other: Some(place),
        }
    }

    /// The mailbox at a place that [`Layer::slot`] gave; valid until another one is put in.
    pub(super) fn at(&self, slot: Slot) -> &Mailbox {
        let entry = &self.entries[slot.entry];
        match slot.other {
            None => &entry.inbox,
            Some(place) => &entry.others[place].1,
        }
    }

    /// The same, to be changed.
    pub(super) fn at_mut(&mut self, slot: Slot) -> &mut Mailbox {
        let entry = &mut self.entries[slot.entry];
        match slot.other {
            None => &mut entry.inbox,
            Some(place) => &mut entry.others[place].1,
        }
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
        self.caches.extend(later.caches);
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
            + self.caches.len() * (size_of::<(Sequence, CacheEntry)>() + 8)
            + self
                .keys
                .iter()
                .map(|(key, entry)| 96 + key.len() + entry.value.as_ref().map_or(0, |v| v.len()))
                .sum::<usize>()
    }
}
