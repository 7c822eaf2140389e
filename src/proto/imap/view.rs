//! The client's view of a mailbox: which UID has which message number (RFC 9051 §2.3.1).
//!
//! Guarantees: numbers go from 1 to [`View::exists`] without a hole, in the order of UIDs; a view
//! never changes, so that sessions which see the same share one. A million UIDs in a row cost 8
//! bytes.
//! Does not know: when a client may be told of a change.

use super::sets;

/// UIDs in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    runs: Box<[Run]>,
    exists: u32,
}

/// UIDs without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first_uid: u32,
    /// Number of the first.
    first_number: u32,
}

impl View {
    /// Of ranges of UIDs (first, last), ascending and not overlapping.
    pub fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> View {
        let mut runs: Vec<Run> = Vec::new();
        let (mut exists, mut end): (u32, Option<u32>) = (0, None);
        for (first, last) in ranges {
            if end != Some(first) {
                runs.push(Run {
                    first_uid: first,
                    first_number: exists + 1,
                });
            }
            // Within a UID's 32 bits, for ranges do not overlap.
            exists += last - first + 1;
            end = last.checked_add(1);
        }
        View {
            runs: runs.into(),
            exists,
        }
    }

    /// Messages.
    pub fn exists(&self) -> u32 {
        self.exists
    }

    /// Bytes of memory held beside itself.
    pub fn held_bytes(&self) -> usize {
        size_of_val(&*self.runs)
    }

    /// The highest UID; 0: there is none.
    pub fn last_uid(&self) -> u32 {
        self.ranges().next_back().map_or(0, |range| range.1)
    }

    /// Ranges of UIDs, ascending.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = (u32, u32)> + '_ {
        (0..self.runs.len()).map(|index| self.range(index))
    }

    fn range(&self, index: usize) -> (u32, u32) {
        let run = self.runs[index];
        let last_number = match self.runs.get(index + 1) {
            Some(next) => next.first_number - 1,
            None => self.exists,
        };
        (
            run.first_uid,
            run.first_uid + (last_number - run.first_number),
        )
    }

    /// The number of a UID; `None`: the client does not know it.
    pub fn number(&self, uid: u32) -> Option<u32> {
        let index = self
            .runs
            .partition_point(|run| run.first_uid <= uid)
            .checked_sub(1)?;
        let (first, last) = self.range(index);
        (uid <= last).then(|| self.runs[index].first_number + (uid - first))
    }

    /// The UID of a number from 1 to `exists`.
    pub fn uid(&self, number: u32) -> Option<u32> {
        if number == 0 || number > self.exists {
            return None;
        }
        let index = self.runs.partition_point(|run| run.first_number <= number) - 1;
        let run = self.runs[index];
        Some(run.first_uid + (number - run.first_number))
    }

    /// The UIDs of sorted ranges of numbers; what is above `exists` is left out.
    pub fn uids_of_numbers(&self, numbers: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut uids = Vec::new();
        for &(low, high) in numbers {
            let high = high.min(self.exists);
            if low == 0 || low > high {
                continue;
            }
            let mut index = self.runs.partition_point(|run| run.first_number <= low) - 1;
            let mut number = low;
            while number <= high {
                let run = self.runs[index];
                let (_, last_uid) = self.range(index);
                let uid = run.first_uid + (number - run.first_number);
                let end = last_uid.min(uid + (high - number));
                uids.push((uid, end));
                let Some(next) = number.checked_add(end - uid + 1) else {
                    break;
                };
                number = next;
                index += 1;
            }
        }
        sets::normalise(&mut uids);
        uids
    }

    /// Of sorted ranges of UIDs, those that the client knows.
    pub fn known(&self, uids: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut known = Vec::new();
        for &(low, high) in uids {
            let start = self
                .runs
                .partition_point(|run| run.first_uid <= low)
                .saturating_sub(1);
            for index in start..self.runs.len() {
                let (first, last) = self.range(index);
                if first > high {
                    break;
                }
                if last >= low {
                    known.push((first.max(low), last.min(high)));
                }
            }
        }
        known
    }

    /// UIDs of this view that `other` does not have, as ascending ranges.
    pub fn without(&self, other: &View) -> Vec<(u32, u32)> {
        subtract(self.ranges(), other.ranges())
    }

    /// UIDs of `self`, and those of `newer` that lie above all of them: what a client sees that may
    /// not be told of expunged messages yet.
    pub fn extended_by(&self, newer: &View) -> View {
        let last = self.last_uid();
        let above = newer
            .ranges()
            .filter(|range| range.1 > last)
            .map(|range| (range.0.max(last + 1), range.1));
        let mut ranges: Vec<(u32, u32)> = self.ranges().chain(above).collect();
        sets::normalise(&mut ranges);
        View::new(ranges)
    }
}

/// Ranges of `from` without those of `taken`; both ascend.
fn subtract(
    from: impl Iterator<Item = (u32, u32)>,
    taken: impl Iterator<Item = (u32, u32)>,
) -> Vec<(u32, u32)> {
    let mut left = Vec::new();
    let mut taken = taken.peekable();
    for (mut low, high) in from {
        while let Some(&(first, last)) = taken.peek() {
            if last < low {
                taken.next();
                continue;
            }
            if first > high {
                break;
            }
            if first > low {
                left.push((low, first - 1));
            }
            if last >= high {
                low = 0;
                break;
            }
            low = last + 1;
            taken.next();
        }
        // UIDs are above 0: a low end of 0 says that nothing is left.
        if low > 0 {
            left.push((low, high));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn view(uids: &BTreeSet<u32>) -> View {
        let mut ranges = Vec::new();
        for uid in uids {
            sets::push(&mut ranges, *uid);
        }
        View::new(ranges)
    }

    fn all(ranges: &[(u32, u32)]) -> Vec<u32> {
        ranges.iter().flat_map(|(low, high)| *low..=*high).collect()
    }

    #[test]
    fn the_whole_range_of_uids() {
        let view = View::new([(1, u32::MAX)]);
        assert_eq!(view.exists(), u32::MAX);
        assert_eq!(view.number(u32::MAX), Some(u32::MAX));
        assert_eq!(view.uids_of_numbers(&[(1, u32::MAX)]), [(1, u32::MAX)]);
        assert_eq!(View::new([]).without(&view), []);
        assert_eq!(view.without(&View::new([(2, 2)])), [(1, 1), (3, u32::MAX)]);
    }

    proptest! {
        #[test]
        fn like_a_list(
            mine in prop::collection::btree_set(1u32..40, 0..25),
            other in prop::collection::btree_set(1u32..40, 0..25),
            asked in prop::collection::vec((1u32..45, 0u32..9), 0..4),
        ) {
            let list: Vec<u32> = mine.iter().copied().collect();
            let seen = view(&mine);
            prop_assert_eq!(seen.exists() as usize, list.len());
            prop_assert_eq!(seen.last_uid(), list.last().copied().unwrap_or(0));
            prop_assert_eq!(all(&seen.ranges().collect::<Vec<_>>()), list.clone());
            for uid in 0..45 {
                let number = list.iter().position(|known| *known == uid);
                prop_assert_eq!(seen.number(uid), number.map(|index| index as u32 + 1));
                let index = (uid as usize).checked_sub(1);
                prop_assert_eq!(seen.uid(uid), index.and_then(|index| list.get(index)).copied());
            }
            let mut ranges: Vec<(u32, u32)> = asked.iter().map(|(low, more)| (*low, low + more)).collect();
            sets::normalise(&mut ranges);
            let numbers = all(&ranges).into_iter();
            let wanted: Vec<u32> = numbers.filter_map(|number| seen.uid(number)).collect();
            prop_assert_eq!(all(&seen.uids_of_numbers(&ranges)), wanted);
            let wanted: Vec<u32> = all(&ranges).into_iter().filter(|uid| mine.contains(uid)).collect();
            prop_assert_eq!(all(&seen.known(&ranges)), wanted);
            let newer = view(&other);
            let gone: Vec<u32> = mine.difference(&other).copied().collect();
            prop_assert_eq!(all(&seen.without(&newer)), gone);
            let above = other.iter().filter(|uid| **uid > seen.last_uid());
            let wanted: Vec<u32> = mine.iter().chain(above).copied().collect();
            let extended = seen.extended_by(&newer);
            prop_assert_eq!(all(&extended.ranges().collect::<Vec<_>>()), wanted);
        }
    }
}
