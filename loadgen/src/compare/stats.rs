//! Whether two sides differ, as far as few runs can tell.
//!
//! The value of a run (its rate, its p99) is one observation: the messages within a run share its
//! luck, so their number says nothing of how the next run will come out. Runs are few, and how they
//! scatter is unknown and rarely normal, hence:
//!
//! - The difference is the Hodges-Lehmann estimate, the median of all quotients of a value of one
//!   side by a value of the other; one wild run does not move it much.
//! - Its interval is that of Mann and Whitney: quotients from the k-th smallest to the k-th largest,
//!   k from the exact distribution of the rank sum. It holds for any distribution. A bootstrap of
//!   three to ten values does not: it only knows the values it has, and its intervals come out too
//!   narrow.
//! - A difference is called real if the interval excludes a quotient of 1. Of two equal sides, a
//!   whole table of [`LINES_MAX`] lines calls a difference by chance in [`ERROR_RATE`] of the cases
//!   at most: each line has its share of that (Bonferroni), and as the lines of a run go up and down
//!   together it is less in fact.
//!
//! What few runs can show follows: with five of each side, only sides that do not overlap at all
//! differ (2 of the 252 ways to deal ten runs, 0.8%, in each of six lines: 4.8%). With four of each
//! even that happens too often by chance (2 of 70), so nothing is called; six of each forgive one
//! overlap. No number of messages makes up for that.

/// A table of two equal sides calls a difference at most so often.
pub const ERROR_RATE: f64 = 0.05;
/// Lines that are tested in one table.
pub const LINES_MAX: usize = 6;
/// Runs of one side that are compared.
pub const RUNS_MAX: usize = 200;

/// What can be said of two sides in one respect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// The other side is higher.
    Higher,
    /// The other side is lower.
    Lower,
    /// What was seen may be noise.
    NoneShown,
    /// There are too few runs to show any difference.
    TooFew,
    /// Not all runs have a value above zero.
    Unmeasured,
}

/// Two sides in one respect.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The other side as a multiple of the first; `None` if it was not measured.
    pub quotient: Option<f64>,
    /// Where the true quotient is, as sure as the table's error rate allows; with too few runs all
    /// quotients that were seen.
    pub interval: Option<(f64, f64)>,
    /// What may be said.
    pub verdict: Verdict,
}

/// Compares `other` with `base`, one value a run, in a table of `lines` tested lines.
pub fn difference(base: &[f64], other: &[f64], lines: usize) -> Difference {
    let fine = |values: &[f64]| {
        !values.is_empty() && values.iter().all(|value| value.is_finite() && *value > 0.0)
    };
    if !fine(base) || !fine(other) {
        return Difference {
            quotient: None,
            interval: None,
            verdict: Verdict::Unmeasured,
        };
    }
    let base = &base[..base.len().min(RUNS_MAX)];
    let other = &other[..other.len().min(RUNS_MAX)];
    let mut quotients: Vec<f64> = other
        .iter()
        .flat_map(|value| base.iter().map(move |base| value / base))
        .collect();
    quotients.sort_by(f64::total_cmp);
    let count = quotients.len();
    // The middle of an even number is taken in logarithms, so that A to B and B to A agree.
    let middle = (quotients[(count - 1) / 2] * quotients[count / 2]).sqrt();
    let Some(rank) = rank(base.len(), other.len(), ERROR_RATE / lines.max(1) as f64) else {
        return Difference {
            quotient: Some(middle),
            interval: Some((quotients[0], quotients[count - 1])),
            verdict: Verdict::TooFew,
        };
    };
    let interval = (quotients[rank], quotients[count - 1 - rank]);
    let verdict = match interval {
        (low, _) if low > 1.0 => Verdict::Higher,
        (_, high) if high < 1.0 => Verdict::Lower,
        _ => Verdict::NoneShown,
    };
    Difference {
        quotient: Some(middle),
        interval: Some(interval),
        verdict,
    }
}

/// How many of the smallest and of the largest quotients may be left out of the interval so that it
/// misses the truth in `error_rate` of the cases at most; `None`: not even all of them are enough.
fn rank(base: usize, other: usize, error_rate: f64) -> Option<usize> {
    let counts = rank_sums(base, other);
    let all: f64 = counts.iter().sum();
    let mut tail = 0.0;
    let mut rank = None;
    for (left_out, count) in counts.iter().enumerate().take(counts.len() / 2) {
        tail += count;
        // A tolerance for sums that are not exact.
        if 2.0 * tail / all > error_rate * (1.0 + 1e-9) {
            break;
        }
        rank = Some(left_out);
    }
    rank
}

/// How many of the ways to deal the ranks give each value of Mann and Whitney's U, from 0 to
/// `base * other`.
fn rank_sums(base: usize, other: usize) -> Vec<f64> {
    // The coefficients of Gauss' binomial (base + other choose base): multiplied by 1 - q^(other+i),
    // divided by 1 - q^i.
    let length = base * other + 1;
    let mut counts = vec![0.0; length];
    counts[0] = 1.0;
    for index in 1..=base {
        for at in (other + index..length).rev() {
            counts[at] -= counts[at - other - index];
        }
        for at in index..length {
            counts[at] += counts[at - index];
        }
    }
    counts
}

/// The runs of each side that are needed to call a difference in a table of `lines` lines.
pub fn runs_needed(lines: usize) -> usize {
    let enough = |runs: &usize| rank(*runs, *runs, ERROR_RATE / lines.max(1) as f64).is_some();
    (2..RUNS_MAX).find(enough).unwrap_or(RUNS_MAX)
}

/// The middle value; of an even number the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted[low] + sorted[high]) / 2.0)
}

/// Smallest and largest.
pub fn range(values: &[f64]) -> Option<(f64, f64)> {
    let smallest = values.iter().copied().reduce(f64::min)?;
    Some((smallest, values.iter().copied().reduce(f64::max)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_distribution_of_u_is_the_known_one() {
        assert_eq!(rank_sums(2, 2), [1.0, 1.0, 2.0, 1.0, 1.0]);
        assert_eq!(rank_sums(5, 5).iter().sum::<f64>(), 252.0);
        assert_eq!(rank_sums(4, 7).iter().sum::<f64>(), 330.0);
        assert_eq!(&rank_sums(5, 5)[..4], [1.0, 1.0, 2.0, 3.0]);
        // Critical values of U for two sides at 5% and 1%, as in any table of them.
        assert_eq!(rank(5, 5, 0.05), Some(2));
        assert_eq!(rank(8, 8, 0.05), Some(13));
        assert_eq!(rank(10, 10, 0.01), Some(16));
        assert_eq!(rank(3, 3, 0.05), None);
    }

    #[test]
    fn five_runs_are_needed_for_a_whole_table() {
        assert_eq!(runs_needed(LINES_MAX), 5);
        assert_eq!(runs_needed(1), 4);
    }

    #[test]
    fn too_few_runs_show_nothing_however_far_apart() {
        let found = difference(&[1.0, 1.0], &[100.0, 101.0], LINES_MAX);
        assert_eq!(found.verdict, Verdict::TooFew);
        assert_eq!(found.interval, Some((100.0, 101.0)));
        assert_eq!(difference(&[1.0], &[2.0], 1).verdict, Verdict::TooFew);
        assert_eq!(
            difference(&[0.0; 5], &[2.0; 5], 1).verdict,
            Verdict::Unmeasured
        );
        assert_eq!(difference(&[], &[2.0; 5], 1).verdict, Verdict::Unmeasured);
    }

    #[test]
    fn one_overlap_of_five_runs_is_noise() {
        let base = [100.0, 101.0, 102.0, 103.0, 104.0];
        let apart = base.map(|value| value * 1.1);
        let found = difference(&base, &apart, LINES_MAX);
        assert_eq!(found.verdict, Verdict::Higher);
        assert!((found.quotient.expect("a quotient") - 1.1).abs() < 1e-9);
        let mut overlapping = apart;
        overlapping[0] = 103.5;
        assert_eq!(
            difference(&base, &overlapping, LINES_MAX).verdict,
            Verdict::NoneShown
        );
        assert_eq!(difference(&apart, &base, LINES_MAX).verdict, Verdict::Lower);
    }

    /// A standard normal value.
    fn normal(rng: &mut fastrand::Rng) -> f64 {
        (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
    }

    /// How runs may scatter around their middle.
    const SCATTERS: [fn(&mut fastrand::Rng) -> f64; 4] = [
        |rng| normal(rng) * 0.01,
        // A wild run now and then.
        |rng| normal(rng) * if rng.u8(..10) == 0 { 0.5 } else { 0.01 },
        // Two moods.
        |rng| normal(rng) * 0.01 + if rng.bool() { 0.2 } else { 0.0 },
        // Slow tails.
        |rng| (normal(rng) * 0.5).exp() * 0.1,
    ];

    /// A table of six lines, which scatter each by itself: the worst case.
    fn table_calls(rng: &mut fastrand::Rng, runs: usize, scatter: usize, shift: f64) -> usize {
        let mut side = |factor: f64| -> Vec<f64> {
            (0..runs)
                .map(|_| 1000.0 * factor * SCATTERS[scatter](rng).exp())
                .collect()
        };
        (0..LINES_MAX)
            .map(|_| difference(&side(1.0), &side(shift), LINES_MAX).verdict)
            .filter(|verdict| matches!(verdict, Verdict::Higher | Verdict::Lower))
            .count()
    }

    #[test]
    fn equal_sides_are_called_different_no_more_often_than_stated() {
        const TABLES: usize = 4000;
        for scatter in 0..SCATTERS.len() {
            for runs in [5, 6, 8] {
                let mut rng = fastrand::Rng::with_seed((scatter * 100 + runs) as u64);
                let called = (0..TABLES)
                    .filter(|_| table_calls(&mut rng, runs, scatter, 1.0) > 0)
                    .count();
                // Four standard deviations above the stated rate: 4000 tables cannot tell closer.
                let bound = TABLES as f64 * ERROR_RATE + 4.0 * (TABLES as f64 * 0.05 * 0.95).sqrt();
                assert!(
                    (called as f64) < bound,
                    "scatter {scatter}, {runs} runs: {called}"
                );
            }
        }
    }

    #[test]
    fn a_tenth_more_is_found_under_a_hundredth_of_noise() {
        let mut rng = fastrand::Rng::with_seed(7);
        for runs in [5, 6, 10] {
            for shift in [1.1, 0.9] {
                for _ in 0..200 {
                    assert_eq!(table_calls(&mut rng, runs, 0, shift), LINES_MAX);
                }
            }
        }
    }

    proptest! {
        /// The order of runs and of sides changes nothing but the direction.
        #[test]
        fn sides_can_be_swapped(
            base in proptest::collection::vec(1.0..1e6f64, 1..12),
            other in proptest::collection::vec(1.0..1e6f64, 1..12),
        ) {
            let forth = difference(&base, &other, LINES_MAX);
            let back = difference(&other, &base, LINES_MAX);
            let swapped = match forth.verdict {
                Verdict::Higher => Verdict::Lower,
                Verdict::Lower => Verdict::Higher,
                same => same,
            };
            prop_assert_eq!(back.verdict, swapped);
            let product = forth.quotient.expect("measured") * back.quotient.expect("measured");
            prop_assert!((product - 1.0).abs() < 1e-6);
            let (low, high) = forth.interval.expect("measured");
            let middle = forth.quotient.expect("measured");
            prop_assert!(low <= middle * (1.0 + 1e-9) && middle <= high * (1.0 + 1e-9));
        }
    }
}
