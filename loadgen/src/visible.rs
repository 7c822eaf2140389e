//! End to end: from the server's 250 to the moment a message can be seen in the mailbox.
//!
//! Either a sample of the run's users is watched, or a sample of its messages is followed into
//! whichever mailboxes they go to. What is acknowledged and in the sample waits here until a watcher
//! sees it; the time between goes into a histogram of its own.
//!
//! Watched users see a part of the messages that shrinks as users grow in number, at the cost of a
//! session each; followed messages are as many, and cost as much, whatever the number of users.
//!
//! Guarantees: bounded; what does not fit is counted and not measured.
//! Does not know: protocols; how mailboxes are watched.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::message::MessageId;

/// Messages that may be on their way at once.
const PENDING_MAX: usize = 200_000;
/// Messages that are followed at once: a connection each.
pub const FOLLOWED_MAX: usize = 64;
/// Messages of a mailbox, the newest first, among which one that is followed is looked for.
pub const FOLLOWED_BACK: u32 = 32;
/// How soon a watcher learns of a message that it is to follow.
pub const FOLLOWED_SOON: Duration = Duration::from_millis(5);

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
    /// Followed, and no watcher knows of it.
    fresh: VecDeque<(MessageId, u32)>,
}

/// What is measured.
#[derive(Debug)]
enum Sample {
    /// All messages for these users.
    Users(FxHashSet<u32>),
    /// The first message after each gap, whoever gets it.
    Messages {
        began: Instant,
        gap_ns: u64,
        /// Since `began`.
        next_ns: AtomicU64,
    },
}

/// What is on its way to watched mailboxes.
#[derive(Debug)]
pub struct Tracker {
    run: u32,
    mailboxes: Vec<u32>,
    sample: Sample,
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
            sample: Sample::Users(mailboxes.iter().copied().collect()),
            mailboxes,
            state: Mutex::default(),
            armed: AtomicU64::new(0),
        }
    }

    /// Follows messages of `run`, at most `rate` a second, above 0.
    pub fn following(run: u32, rate: f64) -> Tracker {
        Tracker {
            run,
            // Opened once, so that a wrong password is known before the run.
            mailboxes: vec![0],
            sample: Sample::Messages {
                began: Instant::now(),
                gap_ns: (1e9 / rate) as u64,
                next_ns: AtomicU64::new(0),
            },
            state: Mutex::default(),
            armed: AtomicU64::new(0),
        }
    }

    /// Messages are followed, instead of users watched.
    pub fn follows(&self) -> bool {
        matches!(self.sample, Sample::Messages { .. })
    }

    /// Numbers of the mailboxes to be watched from the start.
    pub fn mailboxes(&self) -> &[u32] {
        &self.mailboxes
    }

    /// Whether messages for this mailbox may be in the sample.
    pub fn watches(&self, mailbox: u32) -> bool {
        match &self.sample {
            Sample::Users(watched) => watched.contains(&mailbox),
            Sample::Messages { .. } => true,
        }
    }

    /// A watcher has its mailbox under observation for the first time.
    pub fn arm(&self) {
        self.armed.fetch_add(1, Ordering::Relaxed);
    }

    /// Mailboxes under observation.
    pub fn armed(&self) -> u64 {
        self.armed.load(Ordering::Relaxed)
    }

    /// The server has acknowledged a message for a mailbox that [`Tracker::watches`] names.
    pub fn acknowledged(&self, id: MessageId, mailbox: u32, now: Instant) {
        let Sample::Messages {
            began,
            gap_ns,
            next_ns,
        } = &self.sample
        else {
            return self.half(id, mailbox, Half::Acknowledged(now));
        };
        let at = now.saturating_duration_since(*began).as_nanos() as u64;
        let next = next_ns.load(Ordering::Relaxed);
        let order = Ordering::Relaxed;
        if at < next
            || next_ns
                .compare_exchange(next, at.saturating_add(*gap_ns), order, order)
                .is_err()
        {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        if state.pending.len() >= FOLLOWED_MAX {
            state.unmeasured += 1;
            return;
        }
        state.pending.insert((id, mailbox), Half::Acknowledged(now));
        state.fresh.push_back((id, mailbox));
    }

    /// A message was seen in its mailbox. Others than this run's do not matter.
    pub fn seen(&self, id: MessageId, mailbox: u32, now: Instant) {
        if id.run == self.run && (!self.follows() || self.awaits(id, mailbox)) {
            self.half(id, mailbox, Half::Seen(now));
        }
    }

    /// The next message to be followed, and its mailbox.
    pub fn follow(&self) -> Option<(MessageId, u32)> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.fresh.pop_front()
    }

    /// There is a message to be followed.
    pub fn has_fresh(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        !state.fresh.is_empty()
    }

    /// It is acknowledged and not seen.
    pub fn awaits(&self, id: MessageId, mailbox: u32) -> bool {
        let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let half = state.pending.get(&(id, mailbox));
        matches!(half, Some(Half::Acknowledged(_)))
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

    #[test]
    fn a_sample_of_messages_is_as_large_whatever_the_number_of_users() {
        let tracker = Tracker::following(1, 10.0);
        let id = |sequence| MessageId { run: 1, sequence };
        let began = Instant::now();
        // A thousand a second, each for another user, and all seen 5 ms later.
        let mut followed = 0;
        for number in 0..2000 {
            let now = began + Duration::from_millis(u64::from(number));
            tracker.acknowledged(id(number.into()), number, now);
            while let Some((message, mailbox)) = tracker.follow() {
                followed += 1;
                assert!(tracker.awaits(message, mailbox));
                tracker.seen(message, mailbox, now + Duration::from_millis(5));
                assert!(!tracker.awaits(message, mailbox));
            }
        }
        assert_eq!(followed, 20);
        assert_eq!((tracker.take().len(), tracker.unseen()), (20, 0));
        // What nobody follows is not kept.
        tracker.seen(id(3), 3, began);
        assert_eq!((tracker.take().len(), tracker.unmeasured()), (0, 0));
    }

    #[test]
    fn followed_messages_are_bounded() {
        let tracker = Tracker::following(1, 10.0);
        let began = Instant::now();
        let many = FOLLOWED_MAX as u32 + 7;
        for number in 0..many {
            let id = MessageId {
                run: 1,
                sequence: number.into(),
            };
            let now = began + Duration::from_millis(100) * number;
            tracker.acknowledged(id, 0, now);
        }
        assert_eq!((tracker.unseen(), tracker.unmeasured()), (FOLLOWED_MAX, 7));
    }
}
