//! When each slot wants to be looked at: a binary heap that knows where everyone stands in it.
//!
//! Guarantees: at most one entry per slot, so its size is bounded by the number of slots; moving a
//! time further away costs nothing, which is what happens at every reply.
//! Does not know: why a slot wants it; the slot itself says so when its time has come.

use std::time::Instant;

/// Not in the heap.
const NOWHERE: u32 = u32::MAX;

/// Times by slot.
#[derive(Debug)]
pub(super) struct Timers {
    /// The earliest first; each child later than its parent.
    heap: Vec<(Instant, u32)>,
    /// By slot: its place in the heap.
    places: Vec<u32>,
}

impl Timers {
    /// For slots 0 to `slots` - 1.
    pub fn new(slots: u32) -> Timers {
        Timers {
            heap: Vec::new(),
            places: vec![NOWHERE; slots as usize],
        }
    }

    /// Has `slot` looked at no later than `at`. An earlier time that was set before stays: whoever
    /// is looked at too early sets the right time then.
    pub fn set(&mut self, slot: u32, at: Instant) {
        let place = self.places[slot as usize];
        if place == NOWHERE {
            self.places[slot as usize] = self.heap.len() as u32;
            self.heap.push((at, slot));
            self.rise(self.heap.len() - 1);
        } else if at < self.heap[place as usize].0 {
            self.heap[place as usize].0 = at;
            self.rise(place as usize);
        }
    }

    /// The earliest time.
    pub fn next(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Takes out a slot whose time has come.
    pub fn pop(&mut self, now: Instant) -> Option<u32> {
        let &(at, slot) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.places[slot as usize] = NOWHERE;
        let last = self.heap.pop()?;
        if !self.heap.is_empty() {
            self.put(0, last);
            self.sink();
        }
        Some(slot)
    }

    fn put(&mut self, place: usize, entry: (Instant, u32)) {
        self.heap[place] = entry;
        self.places[entry.1 as usize] = place as u32;
    }

    fn rise(&mut self, mut place: usize) {
        let entry = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].0 <= entry.0 {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, entry);
    }

    fn sink(&mut self) {
        let entry = self.heap[0];
        let mut place = 0;
        loop {
            let mut child = 2 * place + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1].0 < self.heap[child].0 {
                child += 1;
            }
            if entry.0 <= self.heap[child].0 {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, entry);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_comes_first_and_a_later_time_waits_its_turn() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut timers = Timers::new(3);
        timers.set(0, at(30));
        timers.set(1, at(10));
        timers.set(2, at(20));
        // Earlier counts at once, later does not.
        timers.set(0, at(5));
        timers.set(1, at(99));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop(at(4)), None);
        let order: Vec<_> = std::iter::from_fn(|| timers.pop(at(20))).collect();
        assert_eq!(order, [0, 1, 2]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn it_agrees_with_a_sorted_list() {
        const SLOTS: u32 = 200;
        let start = Instant::now();
        let mut random = fastrand::Rng::with_seed(3);
        let mut timers = Timers::new(SLOTS);
        let mut wanted = vec![None::<Instant>; SLOTS as usize];
        for _ in 0..20_000 {
            let at = start + Duration::from_micros(random.u64(0..5_000));
            if random.bool() {
                let slot = random.u32(0..SLOTS);
                timers.set(slot, at);
                let mine = &mut wanted[slot as usize];
                *mine = Some(mine.map_or(at, |mine| mine.min(at)));
            } else {
                let first = wanted.iter().flatten().min().copied();
                assert_eq!(timers.next(), first);
                match timers.pop(at) {
                    Some(slot) => {
                        assert_eq!(wanted[slot as usize].take(), first);
                        assert!(first <= Some(at));
                    }
                    None => assert!(first.is_none_or(|first| first > at)),
                }
            }
            assert!(timers.heap.len() <= SLOTS as usize);
        }
    }
}
