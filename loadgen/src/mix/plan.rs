//! What each class will do in the time there is, and whether that is enough to be judged.
//!
//! Arrivals are those of many users who know nothing of each other: each is somewhere in the time
//! between two visits when the run begins, so a class has its whole rate from the first second on,
//! and its first operation after 1/rate on average.
//!
//! Guarantees: said before anything is sent. A class that is expected to do enough does so 99.9 % of
//! the time, whatever chance makes of the arrivals.

use std::fmt::Write as _;
use std::time::Duration;

use super::file::{Class, Kind, Population, Qos};

/// One bad operation may be at most this part of what is allowed: otherwise it decides alone.
const ONE_OF: f64 = 2.0;
/// A share of 100 % leaves nothing allowed; so much is taken for it.
const PERCENT_MIN: f64 = 0.1;
/// Standard deviations of a Poisson number that it may stay below its mean.
const DEVIATIONS: f64 = 3.0;

/// So many of which a part is bad make one bad one `1 / ONE_OF` of the `allowed` percentage.
fn enough(allowed_percent: f64) -> f64 {
    (100.0 * ONE_OF / allowed_percent.max(PERCENT_MIN)).ceil()
}

impl Qos {
    /// Operations of one kind that can be judged by the share that is in time: 40 for 95 %.
    pub fn operations_of_a_kind_min(&self) -> f64 {
        enough(100.0 - self.operation_share)
    }

    /// Operations of a class that can be judged, errors included: 200 for 1 %.
    pub fn operations_min(&self) -> f64 {
        enough(self.errors_percent_max).max(self.operations_of_a_kind_min())
    }

    /// Deliveries that can be judged: 40 for 95 %.
    pub fn deliveries_min(&self) -> f64 {
        enough(100.0 - self.delivery_share)
    }
}

/// The mean of a Poisson number that is hardly ever below `wanted`.
fn surely(wanted: f64) -> f64 {
    let root = f64::midpoint(DEVIATIONS, (DEVIATIONS * DEVIATIONS + 4.0 * wanted).sqrt());
    root * root
}

/// What a class is expected to do at one load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Operations; sessions of a class that waits.
    pub operations: f64,
    /// Deliveries of which the time is measured; `None`: of no matter here.
    pub deliveries: Option<f64>,
    /// The time in which there are enough of both; `None`: there are, or there never will be.
    pub longer: Option<Duration>,
}

impl Expected {
    /// Of a class, at a share of the rated load.
    pub fn of(population: &Population, class: &Class, load: f64) -> Expected {
        if class.kind == Kind::Idle {
            return Expected {
                operations: (f64::from(population.users) * class.share * load).round(),
                deliveries: None,
                longer: None,
            };
        }
        let qos = &population.qos;
        let seconds = population.time.as_secs_f64();
        let rate = population.mean_rate(class) * load;
        let watched = class.kind == Kind::Inbound && population.watched().is_some();
        // After each that is followed there is a gap, and then the next that comes.
        let sampled = 1.0 / (1.0 / rate + 1.0 / class.watch_messages);
        let mut wanted = surely(qos.operations_min()) / rate;
        if watched {
            wanted = wanted.max(surely(qos.deliveries_min()) / sampled);
        }
        let longer = (wanted > seconds && wanted.is_finite())
            .then(|| Duration::from_secs(wanted.min(1e9).ceil() as u64));
        Expected {
            operations: rate * seconds,
            deliveries: watched.then_some(sampled * seconds),
            longer,
        }
    }
}

/// The table of all classes at all loads, and what to do about classes that would do too little.
/// `absent` says why a class is left out, if it is.
pub fn text(
    population: &Population,
    loads: &[u32],
    absent: impl Fn(&Class) -> Option<String>,
) -> String {
    let mut text = format!(
        "{}\n{:<28}",
        population.describe(),
        "operations expected at"
    );
    // Writing to a string cannot fail.
    for load in loads {
        let _ = write!(text, "{:>9}", format!("{load} %"));
    }
    text.push('\n');
    let mut longest: Option<Duration> = None;
    for class in &population.classes {
        let _ = write!(text, "  {:<26}", class.name);
        if let Some(why) = absent(class) {
            let _ = writeln!(text, "  {why}");
            continue;
        }
        let expected: Vec<Expected> = loads
            .iter()
            .map(|load| Expected::of(population, class, f64::from(*load) / 100.0))
            .collect();
        for at in &expected {
            let _ = write!(text, "{:>9.0}", at.operations);
        }
        let longer = expected.iter().filter_map(|at| at.longer).max();
        if class.kind == Kind::Idle {
            text.push_str("  sessions, all the time");
        }
        if let Some(deliveries) = expected
            .iter()
            .filter_map(|at| at.deliveries)
            .reduce(f64::min)
        {
            let _ = write!(
                text,
                "  {deliveries:.0} or more of them followed to the mailbox"
            );
        }
        if let Some(time) = longer {
            let _ = write!(text, "  TOO FEW: wants {time:?}");
        }
        longest = longest.max(longer);
        text.push('\n');
    }
    if let Some(time) = longest {
        let qos = &population.qos;
        let _ = writeln!(
            text,
            "  fewer than {:.0} operations or {:.0} deliveries are not judged, and are no pass; \
             --time {}s would do for all",
            qos.operations_min(),
            qos.deliveries_min(),
            time.as_secs()
        );
    }
    text
}
