//! End to end: from the server's 250 to the moment a message can be seen in the mailbox.
//!
//! A sample of the run's users is watched. What is acknowledged for one of them waits here until a
//! watcher sees it; the time between goes into a histogram of its own.
//!
//! Guarantees: bounded; what does not fit is counted and not measured.
//! Does not know: protocols; how mailboxes are watched.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::message::MessageId;

/// Messages that may be on their way at once.
const PENDING_MAX: usize = 200_000;

/// Half of what is needed for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Acknowledged(Instant),
    /// Seen before the reply was: the server stores first, and its replies travel too.
    Seen(Instant),
}

#[derive(Debug, Default)]
struct State {
    pending: FxHashMap<(MessageId, u32), Half>,
    /// Acknowledged then, seen then; not before.
    ready: Vec<(Instant, Instant)>,
    unmeasured: u64,
}

/// What is on its way to watched mailboxes.
#[derive(Debug)]
pub struct Tracker {
    run: u32,
    mailboxes: Vec<u32>,
    watched: FxHashSet<u32>,
    state: Mutex<State>,
    armed: AtomicU64,
}

impl Tracker {
    /// Watches `sample` of `users` mailboxes, evenly spread, for messages of `run`.
    pub fn new(run: u32, users: usize, sample: usize) -> Tracker {
        let sample = sample.clamp(1, users.max(1));
        let mailboxes: Vec<u32> = (0..sample)
            .map(|index| (index * users / sample) as u32)
            .collect();
        Tracker {
            run,
            watched: mailboxes.iter().copied().collect(),
            mailboxes,
            state: Mutex::default(),
            armed: AtomicU64::new(0),
        }
    }

    /// Numbers of the watched mailboxes.
    pub fn mailboxes(&self) -> &[u32] {
        &self.mailboxes
    }

    /// Whether this mailbox is watched.
    pub fn watches(&self, mailbox: u32) -> bool {
        self.watched.contains(&mailbox)
    }

    /// A watcher has its mailbox under observation for the first time.
    pub fn arm(&self) {
        self.armed.fetch_add(1, Ordering::Relaxed);
    }

    /// Mailboxes under observation.
    pub fn armed(&self) -> u64 {
        self.armed.load(Ordering::Relaxed)
    }

    /// The server has acknowledged a message for a watched mailbox.
    pub fn acknowledged(&self, id: MessageId, mailbox: u32, now: Instant) {
        self.half(id, mailbox, Half::Acknowledged(now));
    }

    /// A message was seen in its mailbox. Others than this run's do not matter.
    pub fn seen(&self, id: MessageId, mailbox: u32, now: Instant) {
        if id.run == self.run {
            self.half(id, mailbox, Half::Seen(now));
        }
    }

    fn half(&self, id: MessageId, mailbox: u32, half: Half) {
        // A thread that panics ends the run; what it left is still what was counted.
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let state = &mut *state;
        match (state.pending.remove(&(id, mailbox)), half) {
            (Some(Half::Acknowledged(acknowledged)), Half::Seen(seen))
            | (Some(Half::Seen(seen)), Half::Acknowledged(acknowledged)) => {
                state.ready.push((acknowledged, seen.max(acknowledged)));
            }
            // The same half twice: a second copy, of which the first counts.
            (Some(known), _) => {
                state.pending.insert((id, mailbox), known);
            }
            (None, half) if state.pending.len() < PENDING_MAX => {
                state.pending.insert((id, mailbox), half);
            }
            (None, _) => state.unmeasured += 1,
        }
    }

    /// Times that are complete since the last call: acknowledged, seen.
    pub fn take(&self) -> Vec<(Instant, Instant)> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        std::mem::take(&mut state.ready)
    }

    /// Messages acknowledged and not seen yet.
    pub fn unseen(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let waits = |half: &&Half| matches!(half, Half::Acknowledged(_));
        state.pending.values().filter(waits).count()
    }

    /// Messages that were too many to be measured.
    pub fn unmeasured(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.unmeasured
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sample_is_spread_evenly() {
        let tracker = Tracker::new(1, 1000, 4);
        assert_eq!(tracker.mailboxes(), [0, 250, 500, 750]);
        assert!(tracker.watches(250) && !tracker.watches(251));
        assert_eq!(Tracker::new(1, 3, 100).mailboxes(), [0, 1, 2]);
    }

    #[test]
    fn both_halves_in_either_order() {
        let tracker = Tracker::new(1, 10, 10);
        let id = |sequence| MessageId { run: 1, sequence };
        let t = Instant::now();
        let later = t + Duration::from_millis(5);
        tracker.acknowledged(id(1), 3, t);
        tracker.seen(id(1), 4, later);
        assert_eq!((tracker.take().len(), tracker.unseen()), (0, 1));
        tracker.seen(id(1), 3, later);
        assert_eq!(tracker.take(), [(t, later)]);
        // Seen first: no time at all.
        tracker.seen(id(2), 3, t);
        tracker.acknowledged(id(2), 3, later);
        assert_eq!(tracker.take(), [(later, later)]);
        // Of another run.
        tracker.seen(
            MessageId {
                run: 2,
                sequence: 9,
            },
            3,
            t,
        );
        assert_eq!((tracker.take().len(), tracker.unseen()), (0, 0));
    }
}
