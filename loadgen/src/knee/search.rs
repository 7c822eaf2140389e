//! Which rate to try next, and what is known after so many trials: no runs, no clock.
//!
//! Doubles until the promise breaks, halves the gap (by ratio) until it is narrow, then repeats the
//! rates at its edges. A trial may come out either way near the edge; whatever came out stays in
//! the reckoning, so a lucky or unlucky trial widens the answer instead of shifting it.

/// A run at a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Operations per second that were offered.
    pub rate: f64,
    /// The promise was kept.
    pub held: bool,
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The first rate.
    pub start: f64,
    /// No higher rate is tried.
    pub max: f64,
    /// The gap that is narrow enough, as a part of the rate.
    pub precision: f64,
    /// Runs at each edge.
    pub repeats: usize,
    /// Runs in all.
    pub trials_max: usize,
}

/// Lower rates are not tried.
const RATE_MIN: f64 = 0.1;

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// The highest rate at and below which every trial held.
    pub held: Option<f64>,
    /// The lowest rate at and above which every trial failed.
    pub failed: Option<f64>,
}

/// What `trials` say.
pub fn known(trials: &[Trial]) -> Known {
    let lowest_failure = rates(trials, false).fold(f64::INFINITY, f64::min);
    let highest_success = rates(trials, true).fold(0.0, f64::max);
    let below = rates(trials, true).filter(|rate| *rate < lowest_failure);
    let above = rates(trials, false).filter(|rate| *rate > highest_success);
    Known {
        held: below.reduce(f64::max),
        failed: above.reduce(f64::min),
    }
}

/// The rate to try next; `None`: enough is known, or there is no more to be had.
pub fn next(trials: &[Trial], limits: &Limits) -> Option<f64> {
    if trials.is_empty() {
        return Some(limits.start.min(limits.max));
    }
    if trials.len() >= limits.trials_max {
        return None;
    }
    let Known { held, failed } = known(trials);
    let lowest_failure = rates(trials, false).fold(f64::INFINITY, f64::min);
    let highest_success = rates(trials, true).fold(0.0, f64::max);
    let runs = |rate: f64| trials.iter().filter(|trial| trial.rate == rate).count();
    let wide = |low: f64, high: f64| high > low * (1.0 + limits.precision);
    let Some(held) = held else {
        let lower = lowest_failure / 2.0;
        return (lower >= RATE_MIN).then_some(lower);
    };
    let Some(failed) = failed else {
        let highest = rates(trials, true)
            .chain(rates(trials, false))
            .fold(held, f64::max);
        if highest < limits.max {
            return Some((highest * 2.0).min(limits.max));
        }
        return (runs(highest) < limits.repeats).then_some(highest);
    };
    if wide(held, lowest_failure) {
        Some((held * lowest_failure).sqrt())
    } else if wide(highest_success, failed) {
        Some((highest_success * failed).sqrt())
    } else {
        [held, failed]
            .into_iter()
            .find(|rate| runs(*rate) < limits.repeats)
    }
}

fn rates(trials: &[Trial], held: bool) -> impl Iterator<Item = f64> {
    let trials = trials.iter().filter(move |trial| trial.held == held);
    trials.map(|trial| trial.rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        start: 100.0,
        max: 1e6,
        precision: 0.05,
        repeats: 3,
        trials_max: 40,
    };

    /// All trials against a server that holds with the given chance at a rate.
    fn search(limits: &Limits, mut holds: impl FnMut(f64) -> bool) -> Vec<Trial> {
        let mut trials = Vec::new();
        while let Some(rate) = next(&trials, limits) {
            let held = holds(rate);
            trials.push(Trial { rate, held });
        }
        trials
    }

    #[test]
    fn a_sharp_edge_is_found_from_below_and_from_above() {
        for edge in [0.7, 3.0, 99.0, 100.0, 5_432.0, 90_000.0] {
            let trials = search(&LIMITS, |rate| rate <= edge);
            let Known { held, failed } = known(&trials);
            let (held, failed) = (held.expect("held"), failed.expect("failed"));
            assert!(held <= edge && edge < failed, "{held}..{failed} for {edge}");
            assert!(failed / held <= 1.05, "{held}..{failed}");
            for rate in [held, failed] {
                assert_eq!(trials.iter().filter(|trial| trial.rate == rate).count(), 3);
            }
            assert!(trials.len() < 32, "{} trials", trials.len());
        }
    }

    #[test]
    fn a_blurred_edge_widens_the_answer() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            // Between 900 and 1100 it is a matter of luck.
            let trials = search(&LIMITS, |rate| random.f64() > (rate - 900.0) / 200.0);
            let Known { held, failed } = known(&trials);
            let (held, failed) = (held.expect("held"), failed.expect("failed"));
            assert!(held < failed);
            assert!(held < 1100.0 && failed > 900.0, "{held}..{failed}");
            assert!(held > 500.0 && failed < 2000.0, "{held}..{failed}");
            assert!(trials.len() <= LIMITS.trials_max);
            for trial in &trials {
                assert!(trial.held || trial.rate > held);
                assert!(!trial.held || trial.rate < failed);
            }
        }
    }

    #[test]
    fn there_may_be_no_edge() {
        let trials = search(&LIMITS, |_| false);
        assert_eq!(known(&trials).held, None);
        let limits = Limits {
            max: 1000.0,
            ..LIMITS
        };
        let trials = search(&limits, |_| true);
        let wanted = Known {
            held: Some(1000.0),
            failed: None,
        };
        assert_eq!(known(&trials), wanted);
        assert_eq!(
            trials.iter().filter(|trial| trial.rate == 1000.0).count(),
            3
        );
    }

    #[test]
    fn one_unlucky_trial_below_counts() {
        let trials = [(100.0, true), (200.0, false), (400.0, true), (800.0, false)];
        let trials = trials.map(|(rate, held)| Trial { rate, held });
        let wanted = Known {
            held: Some(100.0),
            failed: Some(800.0),
        };
        assert_eq!(known(&trials), wanted);
    }
}
