//! Flags of messages, where they are not those that every message has at first: 40 bytes each.
//!
//! Most messages of a store that is read by POP3 have none. A mark is the whole truth of a message's
//! flags and keywords; when it is that of the append record itself, it has that one's number.
//! Does not know: messages, layers, what a keyword's bit is called.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::ops::Bound;

use super::usage::NO_SEGMENT;
use crate::store::{Flags, Sequence, Uid};

/// What is known of a message besides what its append record says in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Whose it is.
    pub(super) uid: Uid,
    /// Segment of the flags record; [`NO_SEGMENT`]: the append record says it.
    pub(super) segment: u32,
    /// Number of that record.
    pub(super) seq: Sequence,
    /// When the message came there; 0: at its internal date.
    pub(super) saved_ms: u64,
    /// A bit for each keyword of the mailbox.
    pub(super) keywords: u64,
    /// System flags.
    pub(super) flags: Flags,
    /// Bytes of the flags record that are its: those of all the record's marks make up the record.
    pub(super) charge: u16,
}

impl Mark {
    /// It has a flags record, whose space it uses.
    pub(super) fn is_own(&self) -> bool {
        self.segment != NO_SEGMENT
    }

    /// What it counts in the usage of its segment.
    pub(super) fn charge(&self) -> u64 {
        u64::from(self.charge)
    }
}

/// Marks of one mailbox in one layer.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    by_uid: BTreeMap<Uid, Mark>,
    /// Number and UID of those with a flags record.
    by_seq: BTreeSet<(Sequence, Uid)>,
}

impl Marks {
    /// The mark of a message.
    pub(super) fn get(&self, uid: Uid) -> Option<Mark> {
        self.by_uid.get(&uid).copied()
    }

    /// There is none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    /// Puts a mark in, over an earlier one.
    pub(super) fn put(&mut self, mark: Mark) {
        let before = self.by_uid.insert(mark.uid, mark);
        if let Some(before) = before.filter(Mark::is_own)
            && (before.seq != mark.seq || !mark.is_own())
        {
            self.by_seq.remove(&(before.seq, mark.uid));
        }
        if mark.is_own() {
            self.by_seq.insert((mark.seq, mark.uid));
        }
    }

    /// Takes a mark out.
    pub(super) fn remove(&mut self, uid: Uid) {
        if let Some(mark) = self.by_uid.remove(&uid) {
            self.by_seq.remove(&(mark.seq, uid));
        }
    }

    /// Takes out all that were made before this number.
    pub(super) fn drop_to(&mut self, seq: Sequence) {
        self.by_uid.retain(|_, mark| mark.seq > seq);
        self.by_seq.retain(|(own, _)| *own > seq);
    }

    /// The highest UID with a mark above `seq`.
    pub(super) fn last_uid(&self, seq: Sequence) -> Option<Uid> {
        let mut marks = self.by_uid.values().rev();
        marks.find(|mark| mark.seq > seq).map(|mark| mark.uid)
    }

    /// By ascending UID, from `first` on.
    pub(super) fn from(&self, first: Uid) -> btree_map::Range<'_, Uid, Mark> {
        self.by_uid.range(first..)
    }

    /// Number and UID of those with a flags record behind this one, by ascending number.
    pub(super) fn after(
        &self,
        place: (Sequence, Uid),
    ) -> impl Iterator<Item = (Sequence, Uid)> + use<'_> {
        let behind = (Bound::Excluded(place), Bound::Unbounded);
        self.by_seq.range(behind).copied()
    }

    /// Takes in what a later layer says.
    pub(super) fn merge(&mut self, later: Marks) {
        if self.by_uid.is_empty() {
            *self = later;
            return;
        }
        for (_, mark) in later.by_uid {
            self.put(mark);
        }
    }

    /// Approximate bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.by_uid.len() * (size_of::<Mark>() + 12)
            + self.by_seq.len() * (size_of::<(Sequence, Uid)>() * 3 / 2)
    }
}
