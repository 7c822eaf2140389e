//! What a sealed index remembers of expunged UIDs: as much as is of use, found in two passes.
//!
//! There may be a million ranges where there is room for few. Each is looked at by itself, so that
//! no step takes long: the first pass finds which are the newest, the second joins the others where
//! they touch and forgets the oldest of these.
//! Does not know: rows, accounts.

use super::super::tombstones::Vanished;
use crate::limits::VANISHED_RANGES_MAX;
use crate::store::{Sequence, Uid};

/// Ranges that stay as they are when there are too many.
const NEWEST: usize = VANISHED_RANGES_MAX / 2;

/// The order in which ranges are written and forgotten.
type Age = (Sequence, Uid);

fn age(range: &Vanished) -> Age {
    (range.2, range.0)
}

/// The newest ranges of those seen.
#[derive(Debug, Default)]
struct Newest {
    ranges: Vec<Vanished>,
    /// The highest number of what was dropped.
    dropped: Sequence,
}

impl Newest {
    fn push(&mut self, range: Vanished) {
        self.ranges.push(range);
        if self.ranges.len() == 2 * VANISHED_RANGES_MAX {
            self.cut();
        }
    }

    /// Leaves as many as there is room for, in order.
    fn cut(&mut self) {
        self.ranges.sort_unstable_by_key(age);
        let too_many = self.ranges.len().saturating_sub(VANISHED_RANGES_MAX);
        let dropped = self.ranges.drain(..too_many).map(|range| range.2).max();
        self.dropped = self.dropped.max(dropped.unwrap_or(0));
    }
}

/// Ranges of one mailbox on their way into the file: of the base and of the layer above it.
#[derive(Debug)]
pub(super) struct Walk {
    /// Of the base, by UID.
    base: Vec<Vanished>,
    base_next: usize,
    /// Those of the layer are to come that begin here or behind.
    next: Option<Uid>,
    /// Seen in the first pass.
    count: usize,
    found: Newest,
    /// In the second pass: those of this age or younger stay as they are.
    stays: Option<Age>,
    /// The older one that is being put together.
    joined: Option<Vanished>,
}

impl Walk {
    /// `base`: at most [`VANISHED_RANGES_MAX`].
    pub(super) fn new(mut base: Vec<Vanished>) -> Walk {
        base.sort_unstable();
        Walk {
            base,
            base_next: 0,
            next: Some(0),
            count: 0,
            found: Newest::default(),
            stays: None,
            joined: None,
        }
    }

    /// Where the layer's next range is looked for; `None`: it has no more.
    pub(super) fn next(&self) -> Option<Uid> {
        self.next
    }

    /// Takes in one range; `upper` is the layer's first from [`Walk::next`] on. False: that was all.
    pub(super) fn step(&mut self, upper: Option<Vanished>) -> bool {
        let lower = self.base.get(self.base_next).copied();
        let by_uid = |range: &Vanished| (range.0, range.2);
        let mut range = match (upper, lower) {
            (None, None) => return self.end_pass(),
            (Some(upper), Some(lower)) if by_uid(&upper) <= by_uid(&lower) => upper,
            (Some(upper), None) => upper,
            (_, Some(lower)) => lower,
        };
        // A record that came again while the file with it was being written is in both.
        if let Some(upper) = upper.filter(|upper| by_uid(upper) == by_uid(&range)) {
            range.1 = range.1.max(upper.1);
            self.next = upper.0.checked_add(1);
        }
        if let Some(lower) = lower.filter(|lower| by_uid(lower) == by_uid(&range)) {
            range.1 = range.1.max(lower.1);
            self.base_next += 1;
        }
        match self.stays {
            None => {
                self.count += 1;
                self.found.push(range);
            }
            Some(stays) if age(&range) >= stays => self.found.push(range),
            Some(_) => match &mut self.joined {
                Some(joined) if joined.1.checked_add(1).is_none_or(|next| range.0 <= next) => {
                    joined.1 = joined.1.max(range.1);
                    joined.2 = joined.2.max(range.2);
                }
                joined => {
                    if let Some(whole) = joined.replace(range) {
                        self.found.push(whole);
                    }
                }
            },
        }
        true
    }

    /// Begins the second pass, if there is to be one.
    fn end_pass(&mut self) -> bool {
        if self.stays.is_some() || self.count <= VANISHED_RANGES_MAX {
            return false;
        }
        self.found.cut();
        let newest = self.found.ranges.len() - NEWEST;
        self.stays = Some(age(&self.found.ranges[newest]));
        self.found = Newest::default();
        (self.base_next, self.next) = (0, Some(0));
        true
    }

    /// Those that stay, by number, and the number up to which others are forgotten.
    pub(super) fn finish(mut self) -> (Vec<Vanished>, Sequence) {
        if let Some(joined) = self.joined {
            self.found.push(joined);
        }
        self.found.cut();
        (self.found.ranges, self.found.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::index::tombstones::Tombstones;
    use crate::store::sim::Random;

    fn remembered(base: &[Vanished], own: &Tombstones) -> (Vec<Vanished>, Sequence) {
        let mut walk = Walk::new(base.to_vec());
        while walk.step(walk.next().and_then(|next| own.from(next).next())) {}
        walk.finish()
    }

    #[test]
    fn what_is_not_remembered_is_below_the_floor() {
        let mut random = Random::new(9);
        for round in 0..300 {
            let mut own = Tombstones::default();
            let mut base = Vec::new();
            let mut all: Vec<(Uid, Sequence)> = Vec::new();
            let gap = 1 + random.below(3) as Uid;
            let mut uid = 1;
            for seq in 1..random.below(4 * VANISHED_RANGES_MAX as u64) {
                uid += random.below(2) as Uid * gap;
                all.push((uid, seq));
                if base.len() < VANISHED_RANGES_MAX && seq < 60 {
                    base.push((uid, uid, seq));
                }
                if base.last() != Some(&(uid, uid, seq)) || random.one_in(9) {
                    own.insert_all(&[uid], seq);
                }
                uid += 1;
            }
            let (found, floor) = remembered(&base, &own);
            assert!(found.len() <= VANISHED_RANGES_MAX, "round {round}");
            assert!(found.is_sorted_by_key(age), "round {round}");
            let few = all.len() <= VANISHED_RANGES_MAX;
            assert!(!few || floor == 0, "round {round}: forgotten without need");
            for (uid, seq) in &all {
                let tells =
                    |range: &Vanished| range.0 <= *uid && *uid <= range.1 && range.2 >= *seq;
                let is_told = found.iter().any(tells);
                assert!(is_told || *seq <= floor, "round {round}: {uid} {seq}");
            }
            // The newest stay to the letter.
            for (uid, seq) in all.iter().rev().take(NEWEST) {
                assert!(found.contains(&(*uid, *uid, *seq)), "round {round}: {uid}");
            }
            assert!(found.iter().all(|(first, last, _)| {
                (*first..=*last).all(|uid| all.iter().any(|(own, _)| *own == uid))
            }));
        }
    }
}
