//! Was it the generator, and not the server, that set the limit of a run?
//!
//! Guarantees: a run in which the generator had no CPU left, or began operations late although a
//! connection was free, is marked as such, with the reason.
//! Does not know: what the server did meanwhile.

use std::time::Duration;

use crate::interval::Interval;
use crate::recorder::Verb;

/// What the verdict is made from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Signs {
    /// The part of its CPU that the busiest thread used.
    pub busy: f64,
    /// The part of the time that the worst-off thread was ready to run and did not.
    pub waited: f64,
    /// Operations of an open loop that were due while a connection was free.
    pub starts: u64,
    /// How late 1 % of them began, or later.
    pub late_p99: Duration,
    /// What half of the operations took, from when they were due.
    pub operation_p50: Duration,
    /// The part of the turns after which the submission ring was still full.
    pub ring_full: f64,
    /// Receives that found no buffer, for each turn.
    pub buffers_lacked: f64,
}

/// A thread that uses more of its CPU has nothing left for a peak.
const BUSY_MAX: f64 = 0.9;
/// A thread that waits longer for its CPU shares it with something else.
const WAITED_MAX: f64 = 0.1;
/// Lateness that is no matter, and the part of an operation's time that it may be beyond that.
const LATE_MAX: Duration = Duration::from_millis(1);
const LATE_PART_MAX: f64 = 0.1;
/// Fewer operations have no 99th percentile.
const STARTS_MIN: u64 = 100;
/// Turns that may find the ring full, or lack a buffer.
const TURNS_PART_MAX: f64 = 0.01;

impl Signs {
    /// From what was seen in a measured part that took so long.
    pub fn of(total: &Interval, elapsed: Duration) -> Signs {
        let part = |time: Duration| {
            if elapsed.is_zero() {
                0.0
            } else {
                time.as_secs_f64() / elapsed.as_secs_f64()
            }
        };
        let quantile = |verb: Verb, quantile: f64| {
            total.histogram(verb).map_or(Duration::ZERO, |histogram| {
                Duration::from_nanos(histogram.value_at_quantile(quantile))
            })
        };
        let efforts = || total.efforts.values();
        let turns = efforts().map(|effort| effort.turns).sum::<u64>().max(1) as f64;
        Signs {
            busy: efforts().map(|effort| part(effort.cpu)).fold(0.0, f64::max),
            waited: efforts()
                .map(|effort| part(effort.waited))
                .fold(0.0, f64::max),
            starts: total.histogram(Verb::Lateness).map_or(0, |seen| seen.len()),
            late_p99: quantile(Verb::Lateness, 0.99),
            operation_p50: quantile(Verb::Message, 0.5).max(quantile(Verb::Session, 0.5)),
            ring_full: efforts().map(|effort| effort.turns_full).sum::<u64>() as f64 / turns,
            buffers_lacked: efforts().map(|effort| effort.buffers_lacked).sum::<u64>() as f64
                / turns,
        }
    }

    /// Why the generator was the bottleneck; empty: it was not.
    pub fn bottleneck(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let percent = |part: f64| part * 100.0;
        if self.busy >= BUSY_MAX {
            reasons.push(format!(
                "a thread of it used {:.0}% of its CPU",
                percent(self.busy)
            ));
        }
        if self.waited >= WAITED_MAX {
            reasons.push(format!(
                "a thread of it waited {:.0}% of the time for a CPU that something else used",
                percent(self.waited)
            ));
        }
        if self.starts >= STARTS_MIN
            && self.late_p99 > LATE_MAX
            && self.late_p99 > self.operation_p50.mul_f64(LATE_PART_MAX)
        {
            reasons.push(format!(
                "it began 1% of the operations {:.3} ms late or more, although a connection was free",
                self.late_p99.as_secs_f64() * 1e3
            ));
        }
        if self.ring_full > TURNS_PART_MAX {
            reasons.push(format!(
                "its submission ring was full in {:.0}% of its turns",
                percent(self.ring_full)
            ));
        }
        if self.buffers_lacked > TURNS_PART_MAX {
            reasons.push(format!(
                "it ran out of receive buffers, {:.0} times in 100 turns",
                percent(self.buffers_lacked)
            ));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::recorder::Recorder;

    /// A generator at ease.
    fn ease() -> Signs {
        Signs {
            busy: 0.5,
            waited: 0.01,
            starts: 10_000,
            late_p99: Duration::from_micros(80),
            operation_p50: Duration::from_millis(2),
            ring_full: 0.0,
            buffers_lacked: 0.001,
        }
    }

    #[test]
    fn a_generator_at_ease_is_no_bottleneck() {
        assert_eq!(ease().bottleneck(), Vec::<String>::new());
        assert_eq!(Signs::default().bottleneck(), Vec::<String>::new());
    }

    #[test]
    fn every_sign_alone_is_enough_and_says_so() {
        let ms = Duration::from_millis;
        let signs = ease();
        for (signs, wanted) in [
            (
                Signs {
                    busy: 0.93,
                    ..signs
                },
                "used 93% of its CPU",
            ),
            (
                Signs {
                    waited: 0.4,
                    ..signs
                },
                "waited 40% of the time",
            ),
            (
                Signs {
                    late_p99: ms(5),
                    ..signs
                },
                "5.000 ms late",
            ),
            (
                Signs {
                    ring_full: 0.05,
                    ..signs
                },
                "full in 5% of its turns",
            ),
            (
                Signs {
                    buffers_lacked: 0.5,
                    ..signs
                },
                "50 times in 100 turns",
            ),
        ] {
            let reasons = signs.bottleneck();
            assert!(
                reasons.len() == 1 && reasons[0].contains(wanted),
                "{reasons:?}"
            );
        }
    }

    #[test]
    fn lateness_counts_against_what_is_measured() {
        let late = Signs {
            late_p99: Duration::from_millis(5),
            ..ease()
        };
        let slow_server = Signs {
            operation_p50: Duration::from_millis(60),
            ..late
        };
        assert!(slow_server.bottleneck().is_empty());
        let few = Signs { starts: 99, ..late };
        assert!(few.bottleneck().is_empty());
    }

    #[test]
    fn the_worst_thread_counts() {
        let start = Instant::now();
        let (to, from) = crossbeam::channel::unbounded();
        let mut total = Interval::default();
        for thread in 0..2 {
            let mut recorder = Recorder::new(start, to.clone()).on_thread(thread);
            recorder.effort().turns = 50;
            recorder.effort().turns_full = u64::from(thread) * 2;
            recorder.time(Verb::Lateness, start, start + Duration::from_millis(3));
            recorder.time(Verb::Message, start, start + Duration::from_millis(8));
            recorder.finish();
            let mut interval = from.recv().expect("shipped");
            if let Some(effort) = interval.efforts.get_mut(&thread) {
                effort.cpu = Duration::from_millis(400 + 100 * u64::from(thread));
                effort.waited = Duration::from_millis(100 - 100 * u64::from(thread));
            }
            total.add(interval);
        }
        let signs = Signs::of(&total, Duration::from_secs(1));
        assert_eq!((signs.busy, signs.waited), (0.5, 0.1));
        assert_eq!((signs.starts, signs.ring_full), (2, 0.02));
        assert!(signs.late_p99 >= Duration::from_millis(3));
        assert!(signs.operation_p50 >= Duration::from_millis(8));
    }
}
