//! Waiting inside one thread: for something to happen, for a batch to be done, for room in turn.
//!
//! Guarantees: no wake-up is lost between asking and waiting; a dropped future leaves no trace.
//! Does not know: executors. Only wakers, so that the store runs in a simulation too.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::StoreError;

/// Lets the other tasks have a turn.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Remembers one wake-up, for one waiting task.
#[derive(Debug, Default)]
pub struct Notify {
    pending: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    /// Wakes the waiting task, or makes its next wait return at once.
    pub fn notify(&self) {
        self.pending.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits for the next, or the last unseen, [`Notify::notify`].
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.pending.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The end of something that several tasks wait for.
#[derive(Debug, Default)]
pub struct Done {
    result: RefCell<Option<Result<(), StoreError>>>,
    wakers: RefCell<Vec<Waker>>,
}

impl Done {
    /// Not yet.
    pub fn new() -> Rc<Done> {
        Rc::default()
    }

    /// It has ended so; the first word counts.
    pub fn finish(&self, result: Result<(), StoreError>) {
        self.result.borrow_mut().get_or_insert(result);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    /// Waits for the end.
    pub fn wait(self: Rc<Self>) -> Wait {
        Wait { done: self }
    }
}

/// See [`Done::wait`].
#[derive(Debug)]
pub struct Wait {
    done: Rc<Done>,
}

impl Future for Wait {
    type Output = Result<(), StoreError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = &*self.done.result.borrow() {
            return Poll::Ready(result.clone());
        }
        // A task is seldom polled twice before the end, and a needless wake-up does no harm.
        self.done.wakers.borrow_mut().push(context.waker().clone());
        Poll::Pending
    }
}

/// Lets tasks pass one after the other, in the order they came, as soon as there is room.
#[derive(Debug, Default)]
pub struct Line {
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
    next: Cell<u64>,
}

impl Line {
    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// There may be room now: the first of the line looks.
    pub fn wake(&self) {
        let waker = match self.waiting.borrow_mut().front_mut() {
            Some((_, waker)) => waker.take(),
            None => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until all who came earlier have passed and `attempt` gives a value.
    pub async fn pass<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        if self.is_empty()
            && let Some(value) = attempt()
        {
            return value;
        }
        let number = self.next.get();
        self.next.set(number + 1);
        self.waiting.borrow_mut().push_back((number, None));
        let _place = Place { line: self, number };
        poll_fn(|context| {
            let is_first = matches!(self.waiting.borrow().front(), Some((n, _)) if *n == number);
            if is_first && let Some(value) = attempt() {
                return Poll::Ready(value);
            }
            let mut waiting = self.waiting.borrow_mut();
            if let Some((_, waker)) = waiting.iter_mut().find(|(n, _)| *n == number) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// A place in a [`Line`], given up on drop.
struct Place<'a> {
    line: &'a Line,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting.borrow_mut();
        waiting.retain(|(number, _)| *number != self.number);
        drop(waiting);
        self.line.wake();
    }
}

/// Held by one task at a time, in the order they came.
#[derive(Debug, Default)]
pub struct Lock {
    line: Line,
    held: Cell<bool>,
}

/// See [`Lock::hold`]; given up on drop.
#[derive(Debug)]
pub struct Held<'a>(&'a Lock);

impl Lock {
    /// Waits until nobody else holds it.
    pub async fn hold(&self) -> Held<'_> {
        let take = || (!self.held.replace(true)).then_some(());
        self.line.pass(take).await;
        Held(self)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.set(false);
        self.0.line.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sim::{Executor, Outcome, Random};

    #[test]
    fn a_line_keeps_its_order() {
        let (line, order) = (Rc::new(Line::default()), Rc::new(RefCell::new(Vec::new())));
        let room = Rc::new(Cell::new(0));
        let executor = Executor::new();
        let (l, r, o) = (line.clone(), room.clone(), order.clone());
        let spawner = executor.clone();
        executor.spawn(async move {
            for number in 0..5 {
                let (line, room, order) = (l.clone(), r.clone(), o.clone());
                let came = Rc::new(Cell::new(false));
                let seen = came.clone();
                spawner.spawn(async move {
                    line.pass(|| {
                        came.set(true);
                        (room.get() > 0).then(|| room.set(room.get() - 1))
                    })
                    .await;
                    order.borrow_mut().push(number);
                });
                while number == 0 && !seen.get() || l.waiting.borrow().len() <= number {
                    yield_now().await;
                }
            }
            r.set(5);
            l.wake();
        });
        let outcome = executor.run(&mut Random::new(1), 10_000, || false);
        assert_eq!(outcome, Outcome::Stalled);
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
        assert!(line.is_empty());
    }
}
