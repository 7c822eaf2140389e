//! Runs the tasks of a simulation on one thread; which ready task has its turn is drawn from a
//! seed.
//!
//! Guarantees: the same seed and the same tasks give the same order of turns.
//! Does not know: time. When no task is ready, the run has come to rest and says so.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::random::Random;
pub use crate::store::wait::yield_now;

/// Ready or not: set by the waker, taken by the executor. Atomic only because `Waker` asks for it.
#[derive(Debug)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
    waker: Waker,
}

impl Task {
    fn new(future: Pin<Box<dyn Future<Output = ()>>>) -> Task {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Task {
            future,
            waker: flag.clone().into(),
            flag,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What was waited for has happened.
    Done,
    /// Every task waits for something that never comes.
    Stalled,
    /// So many turns were made without an end.
    TooLong,
}

#[derive(Default)]
struct Shared {
    spawned: Vec<Task>,
}

/// The executor; clones spawn onto the same one.
#[derive(Clone, Default)]
pub struct Executor {
    shared: Rc<RefCell<Shared>>,
}

/// The result of a spawned task, once it is there.
pub struct JoinHandle<T> {
    slot: Rc<RefCell<(Option<T>, Option<Waker>)>>,
}

impl<T> JoinHandle<T> {
    /// Waits for the task.
    pub async fn join(self) -> T {
        poll_fn(|context| {
            let mut slot = self.slot.borrow_mut();
            if let Some(value) = slot.0.take() {
                return Poll::Ready(value);
            }
            slot.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Executor {
    /// An executor without tasks.
    pub fn new() -> Executor {
        Executor::default()
    }

    /// Adds a task; it runs while [`Executor::run`] does, whether its handle is kept or not.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        let slot = Rc::new(RefCell::new((None, None)));
        let filled = slot.clone();
        let task = Task::new(Box::pin(async move {
            let value = future.await;
            let waker = {
                let mut slot: std::cell::RefMut<'_, (Option<T>, Option<Waker>)> =
                    filled.borrow_mut();
                slot.0 = Some(value);
                slot.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }));
        self.shared.borrow_mut().spawned.push(task);
        JoinHandle { slot }
    }

    /// Gives ready tasks their turns until `done` says so (asked after every turn), all wait, or
    /// `turns_max` turns were made. All tasks are dropped then.
    pub fn run(&self, random: &mut Random, turns_max: u64, done: impl Fn() -> bool) -> Outcome {
        let mut tasks: Vec<Task> = Vec::new();
        let mut ready: Vec<usize> = Vec::new();
        for _ in 0..turns_max {
            tasks.append(&mut self.shared.borrow_mut().spawned);
            if done() {
                return Outcome::Done;
            }
            ready.clear();
            ready.extend(
                tasks
                    .iter()
                    .enumerate()
                    .filter(|(_, task)| task.flag.0.load(Ordering::Relaxed))
                    .map(|(index, _)| index),
            );
            if ready.is_empty() {
                return Outcome::Stalled;
            }
            let index = ready[random.index(ready.len())];
            let task = &mut tasks[index];
            task.flag.0.store(false, Ordering::Relaxed);
            let mut context = Context::from_waker(&task.waker);
            if task.future.as_mut().poll(&mut context).is_ready() {
                // Keeps the order of the others, on which the seed's choices rest.
                drop(tasks.remove(index));
            }
        }
        Outcome::TooLong
    }
}

/// Runs one future to its end.
///
/// # Panics
/// When it waits for something that never comes: nothing else runs here.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker: Waker = flag.clone().into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    while flag.0.swap(false, Ordering::Relaxed) {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("the future waits for something that never comes");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> Vec<u32> {
        let executor = Executor::new();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..4)
            .map(|number| {
                let seen = seen.clone();
                executor.spawn(async move {
                    for _ in 0..4 {
                        seen.borrow_mut().push(number);
                        yield_now().await;
                    }
                    number
                })
            })
            .collect();
        let sum = executor.spawn(async move {
            let mut sum = 0;
            for task in tasks {
                sum += task.join().await;
            }
            sum
        });
        let outcome = executor.run(&mut Random::new(seed), 1000, || false);
        assert_eq!(outcome, Outcome::Stalled);
        assert_eq!(block_on(sum.join()), 6);
        seen.take()
    }

    #[test]
    fn the_seed_decides_the_order() {
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    #[should_panic(expected = "never comes")]
    fn waiting_for_nothing_is_said() {
        block_on(std::future::pending::<()>());
    }
}
