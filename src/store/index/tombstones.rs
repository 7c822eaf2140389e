//! UIDs that were expunged, for appends that compaction moved behind their expunge record.
//!
//! Does not know: messages, layers.

use crate::store::{Sequence, Uid};

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

    /// There are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The highest number of a record above `seq`.
    pub(super) fn last_seq(&self, seq: Sequence) -> Option<Sequence> {
        let numbers = self.ranges.iter().map(|range| range.seq);
        numbers.filter(|own| *own > seq).max()
    }

    /// First UID, last UID and record of those above `seq`, by ascending UID.
    pub(super) fn after(&self, seq: Sequence) -> impl Iterator<Item = (Uid, Uid, Sequence)> {
        let ranges = self.ranges.iter().filter(move |range| range.seq > seq);
        ranges.map(|range| (range.first, range.last, range.seq))
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

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<Tombstone>()
    }
}
