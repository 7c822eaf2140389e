//! When operations start and when the run ends. Closed loop: whenever a connection is free. Open
//! loop: when they are due, whether a connection is free or not; what finds none waits its turn.
//!
//! Guarantees: an operation of an open loop keeps the time at which it was due, however late it
//! begins; those that wait are a clock that stands still, not a list.

mod arrivals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use arrivals::{Curve, Offer, Spacing};

use crate::recorder::{Recorder, Times};
use arrivals::Arrivals;

/// Shared by all threads of a run.
#[derive(Debug)]
pub struct Schedule {
    count: Option<u64>,
    until: Option<Instant>,
    offer: Option<Offer>,
    /// Sequence numbers are `first`, `first + step` and so on.
    first: u64,
    step: u64,
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
    /// When it did start, in an open loop.
    pub began: Option<Instant>,
}

impl Start {
    /// From when it is timed.
    pub fn times(&self) -> Times {
        Times {
            due: self.due,
            began: self.began,
        }
    }
}

impl Schedule {
    /// A closed loop that ends after `count` operations or at `until`, whichever is first.
    pub fn new(count: Option<u64>, until: Option<Instant>) -> Schedule {
        Schedule {
            count,
            until,
            offer: None,
            first: 0,
            step: 1,
            claimed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        }
    }

    /// The same as an open loop.
    #[must_use]
    pub fn open(mut self, offer: Offer) -> Schedule {
        self.offer = Some(offer);
        self
    }

    /// The same as process number `first` of `step` that share the numbers of operations.
    #[must_use]
    pub fn numbered(mut self, first: u32, step: u32) -> Schedule {
        (self.first, self.step) = (u64::from(first), u64::from(step));
        self
    }

    /// The next operation of a closed loop; `None`: there are no more. Where there may be a rate,
    /// [`Pace::next`] is to be asked.
    pub fn next(&self, now: Instant) -> Option<Start> {
        if self.is_over(now) {
            return None;
        }
        Some(Start {
            sequence: self.claim()?,
            due: now,
            began: None,
        })
    }

    fn claim(&self) -> Option<u64> {
        let claimed = self.claimed.fetch_add(1, Ordering::Relaxed);
        let within = self.count.is_none_or(|count| claimed < count);
        within.then(|| self.first + claimed * self.step)
    }

    /// Operations are due at a rate.
    pub fn is_open(&self) -> bool {
        self.offer.is_some()
    }

    /// All of `--count` have been handed out.
    pub fn is_exhausted(&self) -> bool {
        self.count
            .is_some_and(|count| self.claimed.load(Ordering::Relaxed) >= count)
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

    /// [`Schedule::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// [`Schedule::cut`] was called.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// An operation that begins so much later than due has found no free connection.
pub const LATE: Duration = Duration::from_millis(1);

/// One thread's share of the schedule.
#[derive(Debug)]
pub struct Pace {
    schedule: Arc<Schedule>,
    open: Option<Clocks>,
}

/// The same times twice: of those that began, and of those that are due.
#[derive(Debug)]
struct Clocks {
    begun: Arrivals,
    due: Arrivals,
}

impl Pace {
    /// For thread number `thread` of this process, from 0.
    pub fn new(schedule: Arc<Schedule>, thread: usize) -> Pace {
        let open = schedule.offer.as_ref().map(|offer| {
            let begun = Arrivals::new(offer, thread as u32);
            let due = begun.clone();
            Clocks { begun, due }
        });
        Pace { schedule, open }
    }

    /// The schedule that all threads share.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The next operation; `None`: there is none yet, or none any more ([`Pace::next_due`] knows).
    pub fn next(&mut self, now: Instant, recorder: &mut Recorder) -> Option<Start> {
        if self.schedule.is_over(now) {
            return None;
        }
        let Some(clocks) = &mut self.open else {
            return self.schedule.next(now);
        };
        let due = clocks.begun.next().filter(|due| *due <= now)?;
        let sequence = self.schedule.claim()?;
        clocks.begun.advance();
        recorder.begun(due, now, now - due > LATE);
        Some(Start {
            sequence,
            due,
            began: Some(now),
        })
    }

    /// When the next operation of an open loop is due, perhaps in the past; `None`: there will be
    /// none, or the loop is closed.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let clocks = self.open.as_ref()?;
        if self.schedule.is_over(now) || self.schedule.is_exhausted() {
            return None;
        }
        clocks.begun.next()
    }

    /// Counts what has come due since the last time. To be called several times a second.
    pub fn tick(&mut self, now: Instant, recorder: &mut Recorder) {
        let Some(clocks) = &mut self.open else {
            return;
        };
        if self.schedule.is_exhausted() {
            return;
        }
        let now = self.schedule.until.map_or(now, |until| now.min(until));
        while let Some(due) = clocks.due.next().filter(|due| *due < now) {
            recorder.due(due);
            clocks.due.advance();
        }
        if let Some(waiting) = clocks.begun.next().filter(|due| *due < now) {
            recorder.waiting(waiting, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Counts;

    fn recorder(now: Instant) -> Recorder {
        Recorder::new(now, crossbeam::channel::unbounded().0)
    }

    fn uniform(rate: f64, began: Instant) -> Offer {
        Offer {
            curve: Arc::new(Curve::level(rate)),
            spacing: Spacing::Uniform,
            began,
            seed: 1,
            first_thread: 0,
            threads: 1,
        }
    }

    #[test]
    fn a_closed_loop_counts_and_ends() {
        let now = Instant::now();
        let mut recorder = recorder(now);
        let schedule = Arc::new(Schedule::new(Some(2), Some(now + Duration::from_secs(1))));
        let mut pace = Pace::new(schedule.clone(), 0);
        for sequence in 0..2 {
            let start = Start {
                sequence,
                due: now,
                began: None,
            };
            assert_eq!(pace.next(now, &mut recorder), Some(start));
        }
        assert_eq!(pace.next(now, &mut recorder), None);
        assert_eq!(pace.next_due(now), None);
        assert!(!schedule.is_over(now) && schedule.is_exhausted());
        assert!(schedule.is_over(now + Duration::from_secs(1)));
        let schedule = Arc::new(Schedule::new(None, None));
        let mut pace = Pace::new(schedule.clone(), 0);
        assert!(pace.next(now, &mut recorder).is_some());
        schedule.cut();
        assert!(schedule.is_cut() && pace.next(now, &mut recorder).is_none());
    }

    #[test]
    fn processes_share_the_numbers() {
        let now = Instant::now();
        let mut recorder = recorder(now);
        let schedule = Arc::new(Schedule::new(None, None).numbered(2, 3));
        let mut pace = Pace::new(schedule, 0);
        let numbers: Vec<_> = (0..3)
            .filter_map(|_| pace.next(now, &mut recorder))
            .map(|start| start.sequence)
            .collect();
        assert_eq!(numbers, [2, 5, 8]);
    }

    #[test]
    fn an_open_loop_keeps_the_times_of_what_is_late() {
        let began = Instant::now();
        let after = |ms: u64| began + Duration::from_millis(ms);
        let until = Some(after(95));
        let schedule = Arc::new(Schedule::new(None, until).open(uniform(100.0, began)));
        let mut recorder = recorder(began);
        let mut pace = Pace::new(schedule, 0);
        let mut due = |now| pace.next(now, &mut recorder).map(|start| start.times());
        let times = |due, began| Times {
            due: after(due),
            began: Some(after(began)),
        };
        assert_eq!(due(began), Some(times(0, 0)));
        assert_eq!(due(after(9)), None, "not yet");
        // Nothing was free for a while: what came due meanwhile is not forgotten.
        assert_eq!(due(after(45)), Some(times(10, 45)));
        assert_eq!(due(after(45)), Some(times(20, 45)));
        assert_eq!(pace.next_due(after(45)), Some(after(30)));
        pace.tick(after(50), &mut recorder);
        assert_eq!(pace.next_due(after(95)), None, "the end");
        assert_eq!(pace.next(after(95), &mut recorder), None);
        pace.tick(after(300), &mut recorder);
        let wanted = Counts {
            due: 10,
            due_ever: 10,
            begun_ever: 3,
            late: 2,
            lateness_max: Duration::from_millis(65),
            ..Counts::default()
        };
        assert_eq!(*recorder.counts(), wanted);
    }

    #[test]
    fn an_open_loop_ends_with_its_count() {
        let began = Instant::now();
        let schedule = Schedule::new(Some(2), None).open(uniform(1000.0, began));
        let mut pace = Pace::new(Arc::new(schedule), 0);
        let mut recorder = recorder(began);
        let later = began + Duration::from_secs(1);
        assert!(pace.next(later, &mut recorder).is_some());
        assert!(pace.next_due(later).is_some());
        assert!(pace.next(later, &mut recorder).is_some());
        assert_eq!(pace.next_due(later), None);
        assert_eq!(pace.next(later, &mut recorder), None);
    }
}
