//! Checks passwords on threads of its own, so that a shard never computes for milliseconds.
//!
//! Guarantees: at most so many checks wait, and each is answered once. The threads have the lowest
//! priority and stay on the processors of the server.
//! Does not know: accounts, shards, caches.
//! On failure: a full queue is [`Busy`], and the client is told to try later; a panic in a check is
//! an error for that check only.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use rustix::thread::CpuSet;

use super::password::{self, PasswordError};

/// Called once with the result, on a thread of the pool: it must not block.
pub type Done = Box<dyn FnOnce(Result<bool, PasswordError>) + Send>;

/// The queue is full: try later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be checked")]
pub struct Busy;

struct Job {
    hash: String,
    password: Vec<u8>,
    done: Done,
}

/// The pool; a clone is another handle to the same one. Its threads end when the last handle is
/// gone and the queue is empty.
#[derive(Clone)]
pub struct Verifier {
    jobs: Sender<Job>,
}

impl Verifier {
    /// Starts `threads` threads (at least one) with room for `waiting_max` checks in their queue.
    /// They run on `processors` only; an empty list leaves that to the kernel.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(threads: usize, waiting_max: usize, processors: &[usize]) -> io::Result<Verifier> {
        let (sender, receiver) = bounded(waiting_max);
        for index in 0..threads.max(1) {
            let receiver = receiver.clone();
            let processors = processors.to_vec();
            std::thread::Builder::new()
                .name(format!("verify-{index}"))
                .spawn(move || {
                    settle(&processors);
                    work(&receiver);
                })?;
        }
        Ok(Verifier { jobs: sender })
    }

    /// Checks `password` against `hash`, then calls `done`.
    ///
    /// # Errors
    /// [`Busy`]; `done` is not called then.
    pub fn submit(&self, hash: String, password: Vec<u8>, done: Done) -> Result<(), Busy> {
        let job = Job {
            hash,
            password,
            done,
        };
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Busy,
        })
    }

    /// Checks that wait now.
    pub fn waiting(&self) -> usize {
        self.jobs.len()
    }
}

/// Priority and processors of the calling thread. What the kernel refuses costs speed, not
/// correctness, so it is only said.
fn settle(processors: &[usize]) {
    // On Linux this is the priority of the calling thread, not of the process.
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "password threads keep their priority");
    }
    let mut set = CpuSet::new();
    for &number in processors.iter().filter(|n| **n < CpuSet::MAX_CPU) {
        set.set(number);
    }
    if set.count() > 0
        && let Err(error) = rustix::thread::sched_setaffinity(None, &set)
    {
        tracing::debug!(%error, "password threads run on any processor");
    }
}

fn work(jobs: &Receiver<Job>) {
    for job in jobs {
        let checked = catch_unwind(AssertUnwindSafe(|| {
            password::verify(&job.hash, &job.password)
        }));
        let result =
            checked.unwrap_or_else(|_| Err(PasswordError::Internal("the check panicked".into())));
        let done = job.done;
        if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
            tracing::error!("the receiver of a password check panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::password::Scheme;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn answers_each_check_once() {
        let pool = Verifier::start(2, 64, &[]).expect("started");
        let hash = password::hash(Scheme::Light, b"right").expect("hashed");
        let (sender, receiver) = mpsc::channel();
        for index in 0..32_usize {
            let sender = sender.clone();
            let password = if index % 2 == 0 {
                &b"right"[..]
            } else {
                b"wrong"
            };
            pool.submit(
                hash.clone(),
                password.to_vec(),
                Box::new(move |result| sender.send((index, result)).expect("received")),
            )
            .expect("room");
        }
        let mut results: Vec<_> = (0..32)
            .map(|_| {
                receiver
                    .recv_timeout(Duration::from_secs(20))
                    .expect("answer")
            })
            .collect();
        results.sort_by_key(|(index, _)| *index);
        for (index, (found, result)) in results.into_iter().enumerate() {
            assert_eq!((found, result), (index, Ok(index % 2 == 0)));
        }
        drop(sender);
        assert!(receiver.recv().is_err(), "nothing is answered twice");
    }

    #[test]
    fn a_full_queue_says_so_and_a_bad_hash_is_an_error() {
        let pool = Verifier::start(1, 1, &[]).expect("started");
        let (release, held) = mpsc::channel::<()>();
        let (started, starts) = mpsc::channel();
        let submit = |done: Done| pool.submit("nonsense".into(), b"x".to_vec(), done);
        submit(Box::new(move |result| {
            started.send(result).expect("received");
            held.recv().expect("released");
        }))
        .expect("room");
        let result = starts
            .recv_timeout(Duration::from_secs(20))
            .expect("running");
        assert_eq!(result, Err(PasswordError::UnknownScheme));
        // One runs, one waits, the third finds no room.
        let (sender, receiver) = mpsc::channel();
        submit(Box::new(move |r| sender.send(r).expect("received"))).expect("room");
        assert_eq!(submit(Box::new(|_| {})), Err(Busy));
        assert_eq!(pool.waiting(), 1);
        release.send(()).expect("waiting");
        receiver
            .recv_timeout(Duration::from_secs(20))
            .expect("answer")
            .expect_err("bad hash");
    }

    #[test]
    fn a_panicking_receiver_costs_nobody_else() {
        let pool = Verifier::start(1, 4, &[]).expect("started");
        pool.submit(
            "x".into(),
            b"x".to_vec(),
            Box::new(|_| panic!("on purpose")),
        )
        .expect("room");
        let (sender, receiver) = mpsc::channel();
        pool.submit(
            "x".into(),
            b"x".to_vec(),
            Box::new(move |r| sender.send(r).expect("received")),
        )
        .expect("room");
        receiver
            .recv_timeout(Duration::from_secs(20))
            .expect("answer")
            .expect_err("bad hash");
    }
}
