//! UIDs that were expunged, for appends that compaction moved behind their expunge record, and for
//! clients that ask what has vanished.
//!
//! Does not know: messages, layers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::store::{Sequence, Uid};

/// First UID, last UID, and number of the expunge record that names them.
pub(super) type Vanished = (Uid, Uid, Sequence);

/// Expunged UIDs since the last sealed index: disjoint ranges. Appends of a lower number than a
/// range's stay dead, whenever they come.
///
/// A sealed index needs none: what it does not list, up to the number it covers, is dead. So
/// their number is bounded by the expunge records of the log behind the sealed index. A record that
/// comes costs what it names, however many there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Tombstones {
    /// Last UID and number, by the first UID.
    ranges: BTreeMap<Uid, (Uid, Sequence)>,
    /// Number and first UID of each.
    by_seq: BTreeSet<(Sequence, Uid)>,
}

impl Tombstones {
    /// The highest number of an expunge record that names this UID.
    pub(super) fn seq_of(&self, uid: Uid) -> Option<Sequence> {
        let (_, &(last, seq)) = self.ranges.range(..=uid).next_back()?;
        (uid <= last).then_some(seq)
    }

    /// The highest UID named by a record above `seq`.
    pub(super) fn last_uid(&self, seq: Sequence) -> Option<Uid> {
        self.after(seq).map(|(_, last, _)| last).max()
    }

    /// There are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The highest number of a record above `seq`.
    pub(super) fn last_seq(&self, seq: Sequence) -> Option<Sequence> {
        let (last, _) = self.by_seq.last()?;
        (*last > seq).then_some(*last)
    }

    /// Those above `seq`, by ascending number.
    pub(super) fn after(&self, seq: Sequence) -> impl Iterator<Item = Vanished> {
        let numbers = (Bound::Excluded((seq, Uid::MAX)), Bound::Unbounded);
        let found = self.by_seq.range(numbers);
        found.filter_map(|(seq, first)| {
            let (last, _) = self.ranges.get(first)?;
            Some((*first, *last, *seq))
        })
    }

    /// Those that begin at a UID or behind it, by ascending UID.
    pub(super) fn from(&self, first: Uid) -> impl Iterator<Item = Vanished> {
        let ranges = self.ranges.range(first..);
        ranges.map(|(first, (last, seq))| (*first, *last, *seq))
    }

    /// Forgets the records up to `seq`.
    pub(super) fn drop_to(&mut self, seq: Sequence) {
        self.ranges.retain(|_, (_, own)| *own > seq);
        self.by_seq.retain(|(own, _)| *own > seq);
    }

    /// Takes in ascending UIDs of one record; where ranges overlap, the higher number stays.
    pub(super) fn insert_all(&mut self, uids: &[Uid], seq: Sequence) {
        for run in uids.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            self.insert((run[0], run[run.len() - 1], seq));
        }
    }

    fn insert(&mut self, (first, last, seq): Vanished) {
        let before = self.ranges.range(..first).next_back();
        let before = before.filter(|(_, (end, _))| *end >= first);
        let overlaps = before.into_iter().chain(self.ranges.range(first..=last));
        let overlaps: Vec<Vanished> = overlaps
            .map(|(first, (last, seq))| (*first, *last, *seq))
            .collect();
        if overlaps.is_empty() {
            self.put((first, last, seq));
            return;
        }
        let mut pieces: Vec<Vanished> = Vec::with_capacity(2 * overlaps.len() + 1);
        let mut next = Some(first);
        for (old_first, old_last, old_seq) in overlaps {
            self.ranges.remove(&old_first);
            self.by_seq.remove(&(old_seq, old_first));
            // Before the overlap: only one of the two is there.
            if old_first < first {
                pieces.push((old_first, first - 1, old_seq));
            }
            if let Some(next) = next
                && next < old_first
            {
                pieces.push((next, old_first - 1, seq));
            }
            let both = (old_first.max(first), old_last.min(last));
            pieces.push((both.0, both.1, old_seq.max(seq)));
            if old_last > last {
                pieces.push((last + 1, old_last, old_seq));
            }
            next = old_last.checked_add(1);
        }
        if let Some(next) = next
            && next <= last
        {
            pieces.push((next, last, seq));
        }
        pieces.dedup_by(|b, a| {
            let joins = a.2 == b.2 && a.1.checked_add(1) == Some(b.0);
            if joins {
                a.1 = b.1;
            }
            joins
        });
        pieces.into_iter().for_each(|piece| self.put(piece));
    }

    /// One that overlaps with none.
    fn put(&mut self, (first, last, seq): Vanished) {
        self.ranges.insert(first, (last, seq));
        self.by_seq.insert((seq, first));
    }

    /// Takes in all of another set.
    pub(super) fn merge(&mut self, other: Tombstones) {
        if self.ranges.is_empty() {
            *self = other;
            return;
        }
        for (first, (last, seq)) in other.ranges {
            self.insert((first, last, seq));
        }
    }

    /// Approximate bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        // In both, with its share of nodes that are two thirds full.
        self.ranges.len() * (2 * size_of::<Vanished>() * 3 / 2 + 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sim::Random;

    #[test]
    fn of_every_uid_the_highest_number_stays() {
        let mut random = Random::new(5);
        for _ in 0..500 {
            let mut found = Tombstones::default();
            let mut wanted: BTreeMap<Uid, Sequence> = BTreeMap::new();
            for _ in 0..random.below(12) {
                let seq = 1 + random.below(20);
                let chance = 1 + random.below(4);
                let (from, to) = (random.below(40) as Uid, random.below(60) as Uid);
                let uids: Vec<Uid> = (from..to).filter(|_| !random.one_in(chance)).collect();
                for uid in &uids {
                    let own = wanted.entry(*uid).or_default();
                    *own = seq.max(*own);
                }
                if random.one_in(2) {
                    found.insert_all(&uids, seq);
                } else {
                    let mut other = Tombstones::default();
                    other.insert_all(&uids, seq);
                    found.merge(other);
                }
            }
            for uid in 0..70 {
                assert_eq!(found.seq_of(uid), wanted.get(&uid).copied());
            }
            let ranges: Vec<Vanished> = found.from(0).collect();
            assert!(ranges.windows(2).all(|two| two[0].1 < two[1].0));
            let since = random.below(20);
            let after = wanted.iter().filter(|(_, seq)| **seq > since);
            assert_eq!(found.last_uid(since), after.map(|(uid, _)| *uid).max());
            let last = wanted.values().max().filter(|last| **last > since);
            assert_eq!(found.last_seq(since), last.copied());
            let mut after: Vec<Vanished> = found.after(since).collect();
            assert!(after.is_sorted_by_key(|range| range.2));
            after.sort_unstable();
            let newer = ranges.into_iter().filter(|range| range.2 > since);
            assert_eq!(after, newer.collect::<Vec<Vanished>>());
        }
    }

    #[test]
    fn the_end_of_all_numbers_is_no_trouble() {
        let mut found = Tombstones::default();
        found.insert_all(&[Uid::MAX - 1, Uid::MAX], 3);
        found.insert_all(&[Uid::MAX], 5);
        found.insert_all(&[Uid::MAX - 2, Uid::MAX - 1], 4);
        let ranges: Vec<Vanished> = found.from(0).collect();
        let last = Uid::MAX;
        assert_eq!(ranges, [(last - 2, last - 1, 4), (last, last, 5)]);
    }
}
