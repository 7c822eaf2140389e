//! What one process does of a run: all of it, its share, or sharing it out.
//!
//! Shares are numbered. Together they make exactly the run that one process alone would make: the
//! same number of connections and operations, the same rate, no operation twice.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock;

/// What one process does of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Operations per second over all processes; `None`: a closed loop.
    pub rate: Option<f64>,
    /// Comes first and is left out of the figures.
    pub warmup: Duration,
    /// Ends the run so long after that.
    pub duration: Option<Duration>,
    /// Ends the run after so many operations, over all processes.
    pub count: Option<u64>,
    /// Names the run in message ids.
    pub run: u32,
    /// When it begins, since 1970: what all processes agree on.
    pub begins: Duration,
    /// Processes that share the run.
    pub processes: u32,
    /// Which of them this is, from 0; `None`: not one of several, or the one that shares it out.
    pub index: Option<u32>,
}

/// From the start of processes to the start of the run.
const START_AFTER: Duration = Duration::from_millis(300);

impl Task {
    /// This process has a share of a run that another one has shared out.
    pub fn is_share(&self) -> bool {
        self.index.is_some()
    }

    /// This process shares the run out to others and does nothing of it itself.
    pub fn shares_out(&self) -> bool {
        self.processes > 1 && self.index.is_none()
    }

    /// Sets the time at which the run begins: now, or as soon as other processes are ready. A share
    /// keeps the time it was given.
    pub fn begin(&mut self) {
        if self.is_share() {
            return;
        }
        let after = if self.shares_out() {
            START_AFTER
        } else {
            Duration::ZERO
        };
        self.begins = clock::since_epoch() + after;
    }

    /// The same time on this process's clock.
    pub fn began(&self) -> Instant {
        let (now, wall) = (Instant::now(), clock::since_epoch());
        if self.begins > wall {
            now + (self.begins - wall)
        } else {
            now.checked_sub(wall - self.begins).unwrap_or(now)
        }
    }

    /// The number of this share, from 0.
    pub fn number(&self) -> u32 {
        self.index.unwrap_or(0)
    }

    /// Where this process's share of `total` begins, and how large it is.
    pub fn share_of(&self, total: u64) -> (u64, u64) {
        let Some(index) = self.index else {
            return (0, total);
        };
        let from = |index: u32| total * u64::from(index) / u64::from(self.processes);
        (from(index), from(index + 1) - from(index))
    }

    /// The CPUs of this process, of those that all share: as many as go round, and at least one.
    pub fn cpus(&self, all: &[usize]) -> Vec<usize> {
        let Some(index) = self.index else {
            return all.to_vec();
        };
        let (index, processes) = (index as usize, self.processes as usize);
        if all.len() < processes {
            return all
                .get(index % all.len().max(1))
                .copied()
                .into_iter()
                .collect();
        }
        let mine = all.iter().enumerate();
        mine.filter(|(place, _)| place % processes == index)
            .map(|(_, cpu)| *cpu)
            .collect()
    }

    /// Threads of this process with so many connections over all processes and these CPUs.
    pub fn threads(&self, connections: u32, all: &[usize]) -> u32 {
        let (_, mine) = self.share_of(u64::from(connections));
        self.cpus(all).len().min(mine as usize) as u32
    }

    /// The shares.
    pub fn shares(&self) -> impl Iterator<Item = Task> {
        (0..self.processes).map(|index| Task {
            index: Some(index),
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(processes: u32) -> Task {
        Task {
            rate: None,
            warmup: Duration::ZERO,
            duration: None,
            count: None,
            run: 1,
            begins: Duration::ZERO,
            processes,
            index: None,
        }
    }

    #[test]
    fn shares_make_the_whole() {
        for processes in 1..6 {
            for total in [0, 1, 7, 1000] {
                let mut next = 0;
                for share in task(processes).shares() {
                    let (from, size) = share.share_of(total);
                    assert_eq!(from, next);
                    next += size;
                }
                assert_eq!(next, total);
            }
        }
        assert_eq!(task(3).share_of(10), (0, 10));
    }

    #[test]
    fn cpus_go_round() {
        let cpus = |processes, all: &[usize]| -> Vec<Vec<usize>> {
            task(processes)
                .shares()
                .map(|share| share.cpus(all))
                .collect()
        };
        assert_eq!(cpus(2, &[4, 5, 6]), [vec![4, 6], vec![5]]);
        assert_eq!(cpus(3, &[4, 5]), [[4], [5], [4]]);
        let threads: Vec<_> = task(2)
            .shares()
            .map(|share| share.threads(3, &[4, 5, 6]))
            .collect();
        assert_eq!(threads, [1, 1]);
    }

    #[test]
    fn processes_agree_on_the_beginning() {
        let mut whole = task(2);
        whole.begin();
        let times: Vec<_> = whole.shares().map(|share| share.began()).collect();
        assert!(times[1].saturating_duration_since(times[0]) < Duration::from_millis(200));
        assert!(whole.shares_out() && whole.shares().all(|share| share.is_share()));
        let json = serde_json::to_string(&whole).expect("JSON");
        assert_eq!(serde_json::from_str::<Task>(&json).expect("a task"), whole);
    }
}
