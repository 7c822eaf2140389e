//! When operations of an open loop are due: a rate that may change over time, and the gaps between
//! one operation and the next.
//!
//! Guarantees: the same seed gives the same times; the times of all threads together follow the
//! curve; nothing is kept but the next time, however far behind the run is.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// How operations follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Spacing {
    /// At random, as from many users who know nothing of each other: gaps are exponential
    Poisson,
    /// All gaps alike
    Uniform,
}

/// Operations per second over time: straight lines between points, level after the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    points: Vec<Point>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    /// Seconds from the start.
    at: f64,
    /// Operations per second.
    rate: f64,
    /// Operations that are due before.
    area: f64,
}

impl Curve {
    /// The same rate always.
    pub fn level(rate: f64) -> Curve {
        Curve::through([(Duration::ZERO, rate)])
    }

    /// From one rate to another in a straight line, then level.
    pub fn ramp(from: f64, to: f64, over: Duration) -> Curve {
        if over.is_zero() {
            return Curve::level(to);
        }
        Curve::through([(Duration::ZERO, from), (over, to)])
    }

    /// Through points in the order of their times, with rates of zero or more; before the first
    /// one nothing is due.
    pub fn through(points: impl IntoIterator<Item = (Duration, f64)>) -> Curve {
        let mut curve = Curve { points: Vec::new() };
        for (at, rate) in points {
            let (at, rate) = (at.as_secs_f64(), rate.max(0.0));
            let area = curve.points.last().map_or(0.0, |last| {
                debug_assert!(at >= last.at);
                last.area + (at - last.at) * f64::midpoint(last.rate, rate)
            });
            curve.points.push(Point { at, rate, area });
        }
        curve
    }

    /// Operations per second after so long.
    pub fn rate(&self, after: Duration) -> f64 {
        let at = after.as_secs_f64();
        let next = self.points.partition_point(|point| point.at <= at);
        match (
            next.checked_sub(1).map(|index| self.points[index]),
            self.points.get(next),
        ) {
            (Some(left), Some(right)) => {
                left.rate + (right.rate - left.rate) * (at - left.at) / (right.at - left.at)
            }
            (Some(last), None) => last.rate,
            (None, _) => 0.0,
        }
    }

    /// Operations that are due in the first `time`, on average.
    pub fn count(&self, time: Duration) -> f64 {
        let at = time.as_secs_f64();
        let next = self.points.partition_point(|point| point.at <= at);
        next.checked_sub(1).map_or(0.0, |index| {
            let left = self.points[index];
            left.area + (at - left.at) * f64::midpoint(left.rate, self.rate(time))
        })
    }

    /// Seconds from the start until so many operations are due; `None`: never. `segment` is where
    /// the last answer was found: areas only grow.
    fn time_of(&self, area: f64, segment: &mut usize) -> Option<f64> {
        while self
            .points
            .get(*segment + 1)
            .is_some_and(|next| next.area <= area)
        {
            *segment += 1;
        }
        let left = self.points.get(*segment)?;
        let slope = self
            .points
            .get(*segment + 1)
            .map_or(0.0, |right| (right.rate - left.rate) / (right.at - left.at));
        let more = area - left.area;
        if more <= 0.0 {
            return Some(left.at);
        }
        // The area of a trapezoid, solved for its width without loss of digits.
        let root = (left.rate * left.rate + 2.0 * slope * more).max(0.0).sqrt();
        let width = 2.0 * more / (left.rate + root);
        width.is_finite().then_some(left.at + width)
    }
}

/// An open loop: how much, and how spaced, over all threads of all processes.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Operations per second.
    pub curve: Arc<Curve>,
    /// How they follow each other.
    pub spacing: Spacing,
    /// Where the curve starts.
    pub began: Instant,
    /// Draws the gaps.
    pub seed: u64,
    /// Number of the first thread of this process.
    pub first_thread: u32,
    /// Threads that share the curve.
    pub threads: u32,
}

/// One thread's share of the times.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    offer: Offer,
    random: fastrand::Rng,
    /// Where the next operation stands in the curve's area.
    area: f64,
    segment: usize,
    next: Option<Instant>,
}

impl Arrivals {
    /// For thread number `thread` of this process, from 0.
    pub fn new(offer: &Offer, thread: u32) -> Arrivals {
        let thread = offer.first_thread + thread;
        let mut arrivals = Arrivals {
            random: fastrand::Rng::with_seed(
                offer.seed ^ u64::from(thread + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ),
            // Threads take turns.
            area: match offer.spacing {
                Spacing::Uniform => f64::from(thread) - f64::from(offer.threads),
                Spacing::Poisson => 0.0,
            },
            segment: 0,
            next: None,
            offer: offer.clone(),
        };
        arrivals.advance();
        arrivals
    }

    /// When the next operation is due; `None`: never.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// On to the one after it.
    pub fn advance(&mut self) {
        let gap = match self.offer.spacing {
            Spacing::Uniform => 1.0,
            // 1 - u is in (0, 1]: no infinite gaps.
            Spacing::Poisson => -(1.0 - self.random.f64()).ln(),
        };
        self.area += gap * f64::from(self.offer.threads);
        self.next = self
            .offer
            .curve
            .time_of(self.area, &mut self.segment)
            // Nobody lives to see what does not fit.
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .and_then(|time| self.offer.began.checked_add(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(curve: Curve, spacing: Spacing, threads: u32) -> Offer {
        Offer {
            curve: Arc::new(curve),
            spacing,
            began: Instant::now(),
            seed: 7,
            first_thread: 0,
            threads,
        }
    }

    /// The times of all threads up to `until`, in seconds and in order.
    fn times(offer: &Offer, until: f64) -> Vec<f64> {
        let mut all = Vec::new();
        for thread in 0..offer.threads {
            let mut arrivals = Arrivals::new(offer, thread);
            while let Some(next) = arrivals.next() {
                let at = (next - offer.began).as_secs_f64();
                if at > until {
                    break;
                }
                all.push(at);
                arrivals.advance();
            }
        }
        all.sort_by(f64::total_cmp);
        all
    }

    fn assert_near(found: f64, wanted: f64, part: f64) {
        assert!(
            (found - wanted).abs() <= wanted * part,
            "{found}, not {wanted}"
        );
    }

    #[test]
    fn uniform_times_of_several_threads_are_evenly_spaced() {
        let times = times(&offer(Curve::level(100.0), Spacing::Uniform, 3), 9.999);
        assert_eq!(times.len(), 1000);
        for (index, at) in times.iter().enumerate() {
            assert!((at - index as f64 * 0.01).abs() < 1e-6, "{index}: {at}");
        }
    }

    #[test]
    fn poisson_times_have_the_rate_and_the_spread_of_their_kind() {
        let times = times(&offer(Curve::level(5000.0), Spacing::Poisson, 4), 20.0);
        assert_near(times.len() as f64, 100_000.0, 0.02);
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential gaps vary as much as their mean, and 1/e of them are longer than it.
        assert_near(variance.sqrt(), mean, 0.03);
        let long = gaps.iter().filter(|gap| **gap > mean).count();
        assert_near(long as f64 / gaps.len() as f64, (-1.0f64).exp(), 0.03);
    }

    #[test]
    fn a_ramp_has_half_the_operations_and_grows_in_a_straight_line() {
        let ramp = Curve::ramp(0.0, 1000.0, Duration::from_secs(10));
        assert_eq!(ramp.rate(Duration::from_secs(5)), 500.0);
        assert_eq!(ramp.rate(Duration::from_secs(60)), 1000.0);
        assert_eq!(ramp.count(Duration::from_secs(10)), 5000.0);
        assert_eq!(ramp.count(Duration::from_secs(12)), 7000.0);
        for spacing in [Spacing::Uniform, Spacing::Poisson] {
            let times = times(&offer(ramp.clone(), spacing, 2), 12.0);
            let before = |until: f64| times.iter().filter(|at| **at <= until).count() as f64;
            assert_near(before(5.0), 1250.0, 0.1);
            assert_near(before(10.0), 5000.0, 0.05);
            assert_near(before(12.0), 7000.0, 0.05);
        }
    }

    #[test]
    fn a_curve_may_fall_and_rest_and_end() {
        let second = Duration::from_secs;
        let curve = Curve::through([
            (second(1), 100.0),
            (second(2), 0.0),
            (second(4), 0.0),
            (second(5), 100.0),
            (second(6), 0.0),
        ]);
        let times = times(&offer(curve, Spacing::Uniform, 1), 1e9);
        assert_near(times.len() as f64, 150.0, 0.02);
        assert!(times.iter().all(|at| *at >= 1.0 && *at <= 6.0));
        assert!(!times.iter().any(|at| *at > 2.01 && *at < 3.99));
    }

    #[test]
    fn the_seed_decides() {
        let one = offer(Curve::level(1000.0), Spacing::Poisson, 2);
        let other = Offer {
            seed: 8,
            ..one.clone()
        };
        assert_eq!(times(&one, 1.0), times(&one, 1.0));
        assert_ne!(times(&one, 1.0), times(&other, 1.0));
    }
}
