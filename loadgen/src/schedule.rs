//! When operations start and when the run ends. Closed loop: whenever a connection is free.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Shared by all threads of a run.
#[derive(Debug)]
pub struct Schedule {
    count: Option<u64>,
    until: Option<Instant>,
    claimed: AtomicU64,
    stopped: AtomicBool,
    cut: AtomicBool,
}

/// An operation that may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Its number in the run, from 0.
    pub sequence: u64,
    /// When it should start: times are measured from here. In a closed loop that is now.
    pub due: Instant,
}

impl Schedule {
    /// Ends after `count` operations or at `until`, whichever is first.
    pub fn new(count: Option<u64>, until: Option<Instant>) -> Schedule {
        Schedule {
            count,
            until,
            claimed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        }
    }

    /// The next operation; `None`: there are no more.
    pub fn next(&self, now: Instant) -> Option<Start> {
        if self.is_over(now) {
            return None;
        }
        let sequence = self.claimed.fetch_add(1, Ordering::Relaxed);
        if self.count.is_some_and(|count| sequence >= count) {
            return None;
        }
        Some(Start { sequence, due: now })
    }

    /// No attempt may start any more, not even a repeated one.
    pub fn is_over(&self, now: Instant) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.until.is_some_and(|until| now >= until)
    }

    /// Ends the run: what has begun may finish.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Ends the run at once: connections are closed wherever they stand.
    pub fn cut(&self) {
        self.stop();
        self.cut.store(true, Ordering::Relaxed);
    }

    /// [`Schedule::cut`] was called.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_and_ends() {
        let now = Instant::now();
        let schedule = Schedule::new(Some(2), Some(now + Duration::from_secs(1)));
        assert_eq!(
            schedule.next(now),
            Some(Start {
                sequence: 0,
                due: now
            })
        );
        assert_eq!(schedule.next(now).map(|start| start.sequence), Some(1));
        assert_eq!(schedule.next(now), None);
        assert!(!schedule.is_over(now));
        assert!(schedule.is_over(now + Duration::from_secs(1)));
        let schedule = Schedule::new(None, None);
        assert!(schedule.next(now).is_some());
        schedule.cut();
        assert!(schedule.is_cut() && schedule.next(now).is_none());
    }
}
