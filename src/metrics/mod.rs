//! Counters, gauges and latency histograms of one shard, and the Prometheus text of all of them.
//!
//! Each component keeps a *probe* beside itself: a struct of these, used by one thread only. A
//! scrape asks every shard for its [`Exposition`] (owned data, sent through the mesh), merges them
//! by family and renders the text.

use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(Cell<i64>);

impl Gauge {
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.set(self.0.get() + n);
    }
    /// Sets the value.
    pub fn set(&self, n: i64) {
        self.0.set(n);
    }
    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

/// Latencies or sizes, by hdrhistogram; made at its first value, so an unused one costs nothing.
#[derive(Debug, Default)]
pub struct Histogram(RefCell<Option<Box<hdrhistogram::Histogram<u64>>>>);

impl Histogram {
    /// Records a latency, in microseconds.
    pub fn record(&self, latency: Duration) {
        self.record_value(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Records a value in the family's own unit.
    pub fn record_value(&self, value: u64) {
        let mut slot = self.0.borrow_mut();
        let histogram = slot.get_or_insert_with(|| {
            Box::new(
                hdrhistogram::Histogram::new_with_bounds(1, 3_600_000_000, 2)
                    .expect("constant bounds are valid"),
            )
        });
        histogram.saturating_record(value);
    }
}

/// What kind a family is, for its `# TYPE` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `counter`
    Counter,
    /// `gauge`
    Gauge,
    /// `summary`: quantiles, `_sum`, `_count`
    Summary,
}

/// Samples of one or more shards, by family, ready to be merged and rendered.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Families in the order first seen.
    pub families: Vec<Family>,
}

/// All samples of one name.
#[derive(Debug)]
pub struct Family {
    /// `ringpost_..._unit`.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
    /// `(suffix, labels without braces, value)`.
    pub samples: Vec<(&'static str, String, f64)>,
}
