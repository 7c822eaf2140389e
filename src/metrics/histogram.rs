//! A distribution of latencies or sizes, at two significant digits.

use std::cell::RefCell;
use std::time::Duration;

/// Values above count as this: an hour in microseconds, 3.6 GB in bytes.
const VALUE_MAX: u64 = 3_600_000_000;
/// Significant decimal digits kept: a quantile is at most 1 % off.
const DIGITS: u8 = 2;
/// The quantiles shown; 1 is the maximum.
pub(super) const QUANTILES: [(&str, f64); 5] = [
    ("0.5", 0.5),
    ("0.9", 0.9),
    ("0.99", 0.99),
    ("0.999", 0.999),
    ("1", 1.0),
];

/// Latencies or sizes, by hdrhistogram; made at its first value, so an unused one costs nothing.
///
/// It grows with the largest value seen: about 10 KiB up to 100 ms, 14 KiB up to 1 s, 26 KiB at
/// the bound of an hour (or 3.6 GB).
#[derive(Debug, Default)]
pub struct Histogram(RefCell<Option<Box<Recorded>>>);

#[derive(Debug)]
struct Recorded {
    counts: hdrhistogram::Histogram<u64>,
    /// Exact, unlike the mean that the buckets would give.
    sum: u64,
}

/// What a scrape takes from a histogram, in recorded units.
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) sum: u64,
    /// One for each of [`QUANTILES`]; `None` while nothing is recorded.
    pub(super) quantiles: Option<[u64; QUANTILES.len()]>,
}

impl Histogram {
    /// Records a latency, in microseconds.
    pub fn record(&self, latency: Duration) {
        self.record_value(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Records a value in the family's own unit.
    pub fn record_value(&self, value: u64) {
        let value = value.min(VALUE_MAX);
        let mut slot = self.0.borrow_mut();
        let recorded = slot.get_or_insert_with(|| {
            Box::new(Recorded {
                counts: hdrhistogram::Histogram::new(DIGITS).expect("1 to 5 digits are allowed"),
                sum: 0,
            })
        });
        recorded
            .counts
            .record(value)
            .expect("a resizing histogram takes every value that has a bucket index in usize");
        recorded.sum = recorded.sum.saturating_add(value);
    }

    /// Values recorded so far.
    pub fn count(&self) -> u64 {
        self.0.borrow().as_ref().map_or(0, |r| r.counts.len())
    }

    pub(super) fn summary(&self) -> Summary {
        match self.0.borrow().as_ref() {
            None => Summary {
                count: 0,
                sum: 0,
                quantiles: None,
            },
            Some(recorded) => Summary {
                count: recorded.counts.len(),
                sum: recorded.sum,
                quantiles: Some(QUANTILES.map(|(_, q)| recorded.counts.value_at_quantile(q))),
            },
        }
    }
}
