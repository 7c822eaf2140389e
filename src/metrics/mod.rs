//! Counters, gauges and latency histograms of one shard, and the Prometheus text of all of them.
//!
//! Each component keeps a *probe* beside itself: a struct of these, used by one thread only. A
//! scrape asks every shard for its [`Exposition`] (owned data, sent through the mesh), merges them
//! by family and renders the text.
//!
//! Guarantees: recording takes no lock, no clock and no allocation but for the first value of a
//! histogram and the few times it grows; an unused instrument is 8 or 16 bytes. What is rendered is
//! valid in the text format 0.0.4 as long as names are.
//! Does not know: which metrics exist.
//! On failure: nothing here fails; values beyond a bound count as the bound.

mod exposition;
mod histogram;

use std::cell::Cell;

pub use exposition::{CONTENT_TYPE, Exposition, Family, Kind};
pub use histogram::Histogram;

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
        self.0.set(self.0.get().saturating_add(n));
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

#[cfg(test)]
mod tests;
