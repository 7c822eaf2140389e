//! Who watches a run: the display, the logs, the folder of results.
//!
//! Guarantees: observers are called by one thread, never by those that make the load; `look` comes
//! about ten times a second, `interval` about once a second and covers everything that was measured
//! exactly once, `finish` comes last.
//! Does not know: what is measured, how it is shown or kept.

use std::time::{Duration, Instant};

use crate::recorder::{Counts, Interval};

/// What a run looks like at one moment.
#[derive(Debug)]
pub struct View<'a> {
    /// When.
    pub now: Instant,
    /// Everything so far.
    pub counts: Counts,
    /// Errors so far, warm-up included.
    pub faults: u64,
    /// Everything measured until the last interval ended.
    pub total: &'a Interval,
    /// What was measured since then.
    pub recent: &'a Interval,
    /// Operations that are due and have not started; `None` in a closed loop, where none ever are.
    pub late: Option<u64>,
}

/// About a second of a run.
#[derive(Debug)]
pub struct Span<'a> {
    /// When it began, from the start of the run.
    pub start: Duration,
    /// How long it was.
    pub length: Duration,
    /// What was measured in it.
    pub interval: &'a Interval,
    /// As in [`View`].
    pub late: Option<u64>,
}

/// Watches a run.
pub trait Observer: Send {
    /// Where the run is.
    fn look(&mut self, view: &View<'_>);
    /// A second is over.
    ///
    /// # Errors
    /// When it cannot be kept; the text names flag and file.
    fn interval(&mut self, span: &Span<'_>) -> Result<(), String>;
    /// The run is over.
    ///
    /// # Errors
    /// As for [`Observer::interval`].
    fn finish(&mut self) -> Result<(), String>;
}
