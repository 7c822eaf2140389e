//! Waiting among the tasks of one shard: a slot for one value, a set of waiters, a bound.
//!
//! Single-threaded and executor-agnostic. What crosses threads goes through the mesh instead.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

/// A place for one value that one task waits for.
pub(crate) struct Slot<T> {
    value: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Slot<T> {
    /// An empty slot.
    pub(crate) fn new() -> Rc<Slot<T>> {
        Rc::new(Slot {
            value: RefCell::new(None),
            waker: RefCell::new(None),
        })
    }

    /// Fills the slot and wakes who waits.
    pub(crate) fn fill(&self, value: T) {
        self.value.replace(Some(value));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits for the value.
    pub(crate) async fn take(&self) -> T {
        poll_fn(|cx| match self.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.waker.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

/// At most so many at a time; the rest wait in order of arrival.
pub(crate) struct Permits {
    free: Cell<u32>,
    waiting: RefCell<VecDeque<(Instant, Rc<Slot<()>>)>>,
}

impl Permits {
    /// `count` permits; 0 means without bound.
    pub(crate) fn new(count: u32) -> Permits {
        Permits {
            free: Cell::new(if count == 0 { u32::MAX } else { count }),
            waiting: RefCell::default(),
        }
    }

    /// Tasks that wait for a permit.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Since when the first of them waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.waiting.borrow().front().map(|(since, _)| *since)
    }

    /// Waits for a permit, which is given back when the guard is dropped.
    pub(crate) async fn acquire(&self) -> Permit<'_> {
        if self.free.get() > 0 {
            self.free.set(self.free.get() - 1);
        } else {
            let slot = Slot::new();
            let entry = (Instant::now(), Rc::clone(&slot));
            self.waiting.borrow_mut().push_back(entry);
            slot.take().await;
        }
        Permit(self)
    }
}

/// Gives its permit to the next in line when dropped.
pub(crate) struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        match self.0.waiting.borrow_mut().pop_front() {
            Some((_, next)) => next.fill(()),
            None => self.0.free.set(self.0.free.get() + 1),
        }
    }
}

/// Lets every other ready task of the same task queue run once.
pub(crate) async fn breathe() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            Poll::Ready(())
        } else {
            yielded = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
