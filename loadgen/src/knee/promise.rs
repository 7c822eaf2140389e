//! What has to be kept for a rate to count, and whether a run has kept it.

use std::time::Duration;

use crate::interval::Interval;
use crate::recorder::Verb;

/// So much of all operations within so long, from when they were due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// As in `p99`.
    pub name: &'static str,
    /// As in 0.99.
    pub quantile: f64,
    /// The longest that is kept.
    pub time: Duration,
}

/// Operations that may fail, and that may not be done at all.
const PART_MAX: f64 = 0.01;

/// Operations of a run, of whatever protocol.
const OPERATIONS: [Verb; 2] = [Verb::Message, Verb::Session];

impl Limit {
    /// What a run has reached; `None`: not one operation was completed.
    pub fn reached(&self, total: &Interval) -> Option<Duration> {
        OPERATIONS
            .into_iter()
            .filter_map(|verb| total.histogram(verb))
            .map(|histogram| Duration::from_nanos(histogram.value_at_quantile(self.quantile)))
            .max()
    }
}

/// Why a run has not kept its promise; empty: it has.
pub fn broken(total: &Interval, limits: &[Limit]) -> Vec<String> {
    let mut reasons = Vec::new();
    let counts = &total.counts;
    for limit in limits {
        match limit.reached(total) {
            Some(reached) if reached > limit.time => {
                reasons.push(format!("{} is {:.3} ms", limit.name, ms(reached)));
            }
            Some(_) => {}
            None => reasons.push("nothing was completed".to_owned()),
        }
    }
    let ended = counts.done + counts.failed;
    let part = |part: u64, of: u64| part as f64 / of.max(1) as f64;
    if part(counts.failed, ended) > PART_MAX {
        reasons.push(format!("{} of {ended} failed", counts.failed));
    }
    // What was not done at all has kept no promise either, and is in no histogram.
    let strictest = limits
        .iter()
        .map(|limit| 1.0 - limit.quantile)
        .fold(PART_MAX, f64::min);
    let undone = counts.due.saturating_sub(ended);
    if part(undone, counts.due) > strictest {
        reasons.push(format!(
            "{undone} of {} that were due were not done",
            counts.due
        ));
    }
    reasons
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::recorder::Recorder;

    const P99: Limit = Limit {
        name: "p99",
        quantile: 0.99,
        time: Duration::from_millis(50),
    };

    /// So many operations of 10 ms and of 100 ms, failures, and some that were due and not done.
    fn run(fast: u64, slow: u64, failed: u64, undone: u64) -> Interval {
        let start = Instant::now();
        let (to, from) = crossbeam::channel::unbounded();
        let mut recorder = Recorder::new(start, to);
        for (count, ms) in [(fast, 10), (slow, 100)] {
            for _ in 0..count {
                recorder.time(Verb::Message, start, start + Duration::from_millis(ms));
            }
        }
        recorder.counts().done = fast + slow;
        recorder.counts().failed = failed;
        recorder.counts().due = fast + slow + failed + undone;
        recorder.finish();
        from.recv().expect("shipped")
    }

    #[test]
    fn a_promise_is_kept_or_broken() {
        let p999 = Limit {
            name: "p99.9",
            quantile: 0.999,
            ..P99
        };
        for (run, limits, wanted) in [
            (run(995, 5, 5, 5), &[P99][..], ""),
            (run(980, 20, 0, 0), &[P99], "p99 is 100"),
            (run(995, 5, 0, 0), &[P99, p999], "p99.9 is 100"),
            (run(980, 0, 20, 0), &[P99], "20 of 1000 failed"),
            (run(980, 0, 0, 20), &[P99], "20 of 1000 that were due"),
            (run(995, 0, 0, 5), &[P99], ""),
            (run(995, 0, 0, 5), &[p999], "5 of 1000 that were due"),
            (run(0, 0, 0, 0), &[P99], "nothing was completed"),
        ] {
            let reasons = broken(&run, limits);
            if wanted.is_empty() {
                assert!(reasons.is_empty(), "{reasons:?}");
            } else {
                assert!(
                    reasons.iter().any(|why| why.contains(wanted)),
                    "{reasons:?}"
                );
            }
        }
    }
}
