//! Flags of messages, where they are not those that every message has at first: 40 bytes each.
//!
//! Most messages of a store that is read by POP3 have none. A mark is the whole truth of a message's
//! flags and keywords; when it is that of the append record itself, it has that one's number.
//! Does not know: messages, layers, what a keyword's bit is called.

use std::collections::{BTreeMap, btree_map};

use super::usage::NO_SEGMENT;
use crate::store::{Flags, Sequence, Uid};

/// Entries of the list by number that are out of date, beside as many as there are marks.
const STALE_MAX: usize = 64;

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
}

impl Mark {
    /// It has a flags record, whose space it uses.
    pub(super) fn is_own(&self) -> bool {
        self.segment != NO_SEGMENT
    }
}

/// Marks of one mailbox in one layer.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    by_uid: BTreeMap<Uid, Mark>,
    /// Number and UID of those with a flags record, in the order of numbers; some are out of date.
    recent: Vec<(Sequence, Uid)>,
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
        if !mark.is_own() || before.is_some_and(|b| b.is_own() && b.seq == mark.seq) {
            return;
        }
        let key = (mark.seq, mark.uid);
        match self.recent.last() {
            Some(last) if *last > key => {
                if let Err(place) = self.recent.binary_search(&key) {
                    self.recent.insert(place, key);
                }
            }
            _ => self.recent.push(key),
        }
        if self.recent.len() > 2 * self.by_uid.len() + STALE_MAX {
            let by_uid = &self.by_uid;
            let holds = |(seq, uid): &(Sequence, Uid)| {
                by_uid.get(uid).is_some_and(|m| m.is_own() && m.seq == *seq)
            };
            self.recent.retain(holds);
        }
    }

    /// Takes a mark out.
    pub(super) fn remove(&mut self, uid: Uid) {
        self.by_uid.remove(&uid);
    }

    /// Takes out all that were made before this number.
    pub(super) fn drop_to(&mut self, seq: Sequence) {
        self.by_uid.retain(|_, mark| mark.seq > seq);
        self.recent.retain(|(own, _)| *own > seq);
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

    /// Place in the list of numbers behind those up to `seq`.
    pub(super) fn place_after(&self, seq: Sequence) -> usize {
        self.recent.partition_point(|(own, _)| *own <= seq)
    }

    /// Number and UID at a place of the list of numbers; `Some(None)`: out of date.
    pub(super) fn recent_at(&self, place: usize) -> Option<Option<(Sequence, Uid)>> {
        let &(seq, uid) = self.recent.get(place)?;
        let mark = self.by_uid.get(&uid);
        Some(
            mark.is_some_and(|m| m.is_own() && m.seq == seq)
                .then_some((seq, uid)),
        )
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
            + self.recent.capacity() * size_of::<(Sequence, Uid)>()
    }
}
