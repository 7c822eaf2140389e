//! Runs of consecutive UIDs, found without looking at every one.
//!
//! UIDs ascend, so those from one place to another are consecutive when they are as many as their
//! numbers are apart: the end of a run is searched for, and a million in a row take twenty looks.
//! Does not know: messages, layers.

use crate::store::{Uid, UidRun};

/// The runs of `count` ascending UIDs.
pub(super) fn find(count: usize, uid: impl Fn(usize) -> Uid) -> Vec<UidRun> {
    let mut runs = Vec::new();
    let mut start = 0;
    while start < count {
        let first = uid(start);
        let in_run = |place: usize| uid(place).wrapping_sub(first) as usize == place - start;
        // Doubled steps, then halves: `low` is in the run, `high` is not.
        let (mut low, mut step) = (start, 1);
        while low + step < count && in_run(low + step) {
            low += step;
            step *= 2;
        }
        let mut high = (low + step).min(count);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if in_run(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        runs.push(UidRun {
            first,
            last: uid(low),
        });
        start = low + 1;
    }
    runs
}

/// What is in either; runs that touch become one.
pub(super) fn join(a: Vec<UidRun>, b: &[UidRun]) -> Vec<UidRun> {
    if b.is_empty() {
        return a;
    }
    if a.is_empty() {
        return b.to_vec();
    }
    let mut all = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.into_iter().peekable(), b.iter().copied().peekable());
    let mut from_both = std::iter::from_fn(|| match (a.peek(), b.peek()) {
        (Some(x), Some(y)) if x.first <= y.first => a.next(),
        (Some(_), None) => a.next(),
        _ => b.next(),
    });
    let Some(mut last) = from_both.next() else {
        return all;
    };
    for run in from_both {
        if last
            .last
            .checked_add(1)
            .is_none_or(|next| run.first <= next)
        {
            last.last = last.last.max(run.last);
        } else {
            all.push(last);
            last = run;
        }
    }
    all.push(last);
    all
}

/// Runs in the order of their first UIDs, which may overlap, as runs that do not touch.
pub(super) fn tidy(runs: &[UidRun]) -> Vec<UidRun> {
    match runs.split_first() {
        Some((first, rest)) => join(vec![*first], rest),
        None => Vec::new(),
    }
}

/// What is in `a` and not in `b`.
pub(super) fn without(a: Vec<UidRun>, b: &[UidRun]) -> Vec<UidRun> {
    if b.is_empty() {
        return a;
    }
    let mut rest = Vec::with_capacity(a.len() + b.len());
    let mut from = 0;
    for mut run in a {
        while from < b.len() && b[from].last < run.first {
            from += 1;
        }
        let mut at = from;
        let mut is_left = true;
        while at < b.len() && b[at].first <= run.last {
            if b[at].first > run.first {
                rest.push(UidRun {
                    first: run.first,
                    last: b[at].first - 1,
                });
            }
            if b[at].last >= run.last {
                is_left = false;
                break;
            }
            run.first = b[at].last + 1;
            at += 1;
        }
        if is_left {
            rest.push(run);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sim::Random;

    fn runs(uids: &[Uid]) -> Vec<UidRun> {
        find(uids.len(), |place| uids[place])
    }

    fn all(runs: &[UidRun]) -> Vec<Uid> {
        runs.iter().flat_map(|run| run.first..=run.last).collect()
    }

    #[test]
    fn runs_are_sets() {
        let mut random = Random::new(7);
        for _ in 0..2000 {
            let most = 1 + random.below(60) as Uid;
            let chance = 1 + random.below(6);
            let mut draw =
                || -> Vec<Uid> { (1..most).filter(|_| !random.one_in(chance)).collect() };
            let (a, b) = (draw(), draw());
            assert_eq!(all(&runs(&a)), a);
            let gaps = runs(&a);
            assert!(gaps.windows(2).all(|two| two[0].last + 1 < two[1].first));
            let mut either: Vec<Uid> = a.iter().chain(&b).copied().collect();
            either.sort_unstable();
            either.dedup();
            assert_eq!(join(runs(&a), &runs(&b)), runs(&either));
            let rest: Vec<Uid> = a.iter().filter(|uid| !b.contains(uid)).copied().collect();
            assert_eq!(without(runs(&a), &runs(&b)), runs(&rest));
        }
    }

    #[test]
    fn the_end_of_all_numbers_is_no_trouble() {
        let uids = [1, Uid::MAX - 1, Uid::MAX];
        let found = runs(&uids);
        assert_eq!(found.len(), 2);
        assert_eq!(join(found.clone(), &found), found);
        assert_eq!(without(found.clone(), &found), []);
    }

    #[test]
    fn a_million_in_a_row_take_few_looks() {
        let looks = std::cell::Cell::new(0);
        let found = find(1_000_000, |place| {
            looks.set(looks.get() + 1);
            place as Uid + 5
        });
        assert_eq!(all(&found).len(), 1_000_000);
        assert!(looks.get() < 100);
    }
}
