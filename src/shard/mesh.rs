//! The mesh: bounded queues between every pair of shards, and an inbox from other threads.
//!
//! What crosses is a *job*: owned data together with what to do with it at the other end. A
//! [`call`](Mesh::call) is a job whose result comes back as a job.
//!
//! Guarantees: jobs of one shard to another arrive in order. No queue grows beyond its bound: a
//! shard has at most [`CALLS_MAX`] calls out to one other shard, so that the answers (at most that
//! many in the other direction) always find room, and two shards can never block each other.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use crossbeam::queue::ArrayQueue;
use slab::Slab;

use super::Shard;
use super::wait::{Slot, breathe};
use crate::limits;
use crate::ring::Waker;

/// Calls that one shard may have out to one other.
const CALLS_MAX: u32 = (limits::MESH_DEPTH / 4) as u32;
/// One-way jobs are rare (a moved connection, an invalidation) and have the rest of the room.
const _: () = assert!(CALLS_MAX as usize * 2 < limits::MESH_DEPTH);

/// Owned data and what to do with it, at the shard that receives it.
pub(crate) type Job = Box<dyn FnOnce(&Rc<Shard>) + Send>;

/// The queues of all shards: the only thing that their threads have in common.
pub(crate) struct Links {
    shards: usize,
    /// `from * shards + to`.
    queues: Vec<ArrayQueue<Job>>,
    /// From threads that are no shards: signals, password workers.
    inboxes: Vec<ArrayQueue<Job>>,
    wakers: Vec<OnceLock<Waker>>,
}

impl Links {
    /// Queues for so many shards.
    pub(crate) fn new(shards: usize) -> Arc<Links> {
        let pairs = shards * shards;
        Arc::new(Links {
            shards,
            queues: (0..pairs)
                .map(|_| ArrayQueue::new(limits::MESH_DEPTH))
                .collect(),
            inboxes: (0..shards)
                .map(|_| ArrayQueue::new(limits::MESH_DEPTH))
                .collect(),
            wakers: (0..shards).map(|_| OnceLock::new()).collect(),
        })
    }

    /// Number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.shards
    }

    /// Tells how shard `id` is woken; called once by its own thread.
    pub(crate) fn register(&self, id: usize, waker: Waker) {
        // A second registration cannot happen: a shard has one ring for its life.
        let _ = self.wakers[id].set(waker);
    }

    /// Gives a job to a shard, from a thread that is none and may block.
    pub(crate) fn post(&self, to: usize, mut job: Job) {
        while let Err(back) = self.inboxes[to].push(job) {
            job = back;
            self.wake(to);
            std::thread::yield_now();
        }
        self.wake(to);
    }

    fn wake(&self, to: usize) {
        if let Some(waker) = self.wakers[to].get() {
            waker.wake();
        }
    }
}

/// One shard's end of the mesh.
pub(crate) struct Mesh {
    id: usize,
    links: Arc<Links>,
    calls_out: Vec<Cell<u32>>,
    /// What the calls out wait in: `Rc<Slot<T>>` each.
    slots: RefCell<Slab<Rc<dyn Any>>>,
}

impl Mesh {
    /// The end of shard `id`.
    pub(crate) fn new(id: usize, links: Arc<Links>) -> Mesh {
        let shards = links.shards;
        Mesh {
            id,
            links,
            calls_out: (0..shards).map(|_| Cell::new(0)).collect(),
            slots: RefCell::default(),
        }
    }

    /// Number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.links.shards
    }

    /// What the other threads may use to reach this shard.
    pub(crate) fn links(&self) -> &Arc<Links> {
        &self.links
    }

    /// Runs every job that has arrived (a bounded number of each), returns how many.
    pub(crate) fn receive(&self, shard: &Rc<Shard>) -> usize {
        let mut done = 0;
        for from in 0..self.links.shards {
            let queue = &self.links.queues[from * self.links.shards + self.id];
            done += Self::drain(queue, shard);
        }
        done + Self::drain(&self.links.inboxes[self.id], shard)
    }

    fn drain(queue: &ArrayQueue<Job>, shard: &Rc<Shard>) -> usize {
        let waiting = queue.len();
        let mut done = 0;
        while done < waiting
            && let Some(job) = queue.pop()
        {
            job(shard);
            done += 1;
        }
        done
    }

    /// Sends a job one way, waiting while the queue is full.
    pub(crate) async fn send(&self, to: usize, mut job: Job) {
        loop {
            match self.links.queues[self.id * self.links.shards + to].push(job) {
                Ok(()) => return self.links.wake(to),
                Err(back) => {
                    job = back;
                    self.links.wake(to);
                    breathe().await;
                }
            }
        }
    }

    /// Runs `work` on shard `to` and waits for what it returns. On this shard itself it is simply
    /// awaited. Dropping the future does not stop the work.
    pub(crate) async fn call<T, F>(&self, home: &Rc<Shard>, to: usize, work: F) -> T
    where
        T: Send + 'static,
        F: AsyncFnOnce(Rc<Shard>) -> T + Send + 'static,
    {
        if to == self.id {
            return work(Rc::clone(home)).await;
        }
        while self.calls_out[to].get() >= CALLS_MAX {
            breathe().await;
        }
        self.calls_out[to].set(self.calls_out[to].get() + 1);
        let (key, slot) = self.ticket::<T>();
        let from = self.id;
        let request: Job = Box::new(move |owner| {
            let owner = Rc::clone(owner);
            super::spawn(async move {
                let value = work(Rc::clone(&owner)).await;
                let answer: Job = Box::new(move |home| {
                    let out = &home.mesh.calls_out[to];
                    out.set(out.get() - 1);
                    home.mesh.redeem(key, value);
                });
                owner.mesh.send(from, answer).await;
            });
        });
        self.send(to, request).await;
        slot.take().await
    }

    /// A slot and the key under which a job from anywhere fills it.
    pub(crate) fn ticket<T: 'static>(&self) -> (usize, Rc<Slot<T>>) {
        let slot: Rc<Slot<T>> = Slot::new();
        let key = self.slots.borrow_mut().insert(slot.clone());
        (key, slot)
    }

    /// Fills the slot of a ticket.
    pub(crate) fn redeem<T: 'static>(&self, key: usize, value: T) {
        let slot = self.slots.borrow_mut().remove(key);
        match slot.downcast::<Slot<T>>() {
            Ok(slot) => slot.fill(value),
            Err(_) => unreachable!("a key names the slot that it was made with"),
        }
    }

    /// Takes a ticket back that nobody will redeem.
    pub(crate) fn cancel(&self, key: usize) {
        self.slots.borrow_mut().remove(key);
    }
}
