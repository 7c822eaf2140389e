//! The kernel's side of a shard: one io_uring, its driver and its operations.
//!
//! Guarantees: every operation ends in exactly one last completion or finished future; memory that
//! the kernel may still touch is never freed; no wake-up is lost.
//! Does not know: protocols, mailboxes, other shards.
//! On failure: an operation's error goes to whoever asked for it. An error of [`Ring::turn`] means
//! that the ring itself is gone: the shard cannot go on.
//!
//! Sockets complete through [`Completion`]s that the shard's pump takes in turns; files complete
//! through futures that the store awaits. Both share one ring, so that one `io_uring_enter`
//! submits and reaps everything. The pump is one task of the shard's executor:
//!
//! ```ignore
//! loop {
//!     ring.turn(&mut completions, 256)?;       // submits, reaps, wakes futures of files
//!     handle(completions.drain(..));           // sessions run here, and queue sends
//!     drain_inboxes();                         // what other shards sent before they woke us
//!     if nothing_was_done { ring.park().await } else { yield_if_needed().await }
//! }
//! ```
//!
//! # What to know before touching this
//!
//! **Cancellation.** [`Ring::cancel_recv`] and [`Ring::cancel_accept`] only ask. The operation goes
//! on to have completions, bytes among them, until the one with `more == false`; only that one ends
//! it. A cancel that comes too late finds nothing: its target's last completion is on its way
//! already. User data carries a generation, so it cannot hit the next user of the same slot. A send
//! cannot be cancelled: shut the socket down, and it fails. Dropping a file's future cancels
//! nothing; the operation runs to its end and its buffers are freed then. Dropping the ring cancels
//! everything and waits; what the kernel does not let go of within seconds is leaked, not freed.
//!
//! **Descriptor reuse.** An operation holds the file that its descriptor meant when the kernel took
//! the entry, which is at the next turn, not when the method is called. So a descriptor must stay
//! open until the turn after its last operation was queued, or the entry meets a stranger with the
//! same number. Closing does not end a receive that is armed: it keeps the connection open, unseen.
//! Hence the order to close a connection: `cancel_recv`, take completions until `more == false`,
//! wait for the send in flight, then close. A [`Token`] holds the owner's generation, because a
//! completion can come after its connection is gone; one that is not known is dropped, which gives
//! its buffer back.
//!
//! **Moving a session to another shard.** Cancel its receive; keep what still arrives; await the
//! last completion (`more == false`); await the send in flight; then move descriptor, bytes already
//! received (copied: a [`Lease`] belongs to this ring and is not `Send`) and session as owned data,
//! and arm the receive on the new shard's ring. Bytes that arrive in between wait in the socket.
//! Descriptors are never registered with a ring, so nothing has to be taken back; only the new
//! owner closes.
//!
//! **What must never be awaited.** The pump awaits [`Ring::park`] and yields, and nothing else:
//! futures of files finish inside `turn`, so a pump that awaits one waits for itself, for ever.
//! The same goes for anything that waits for such a future: a delivery, a queue with room, a reply
//! from another shard. Those belong into tasks of their own. A task must not keep a [`Lease`]
//! across an await either: buffers are few, and a shard whose buffers all wait for the disk hears
//! nobody. No `RefCell` borrow crosses an await; wakers run when the driver is not borrowed.
//!
//! **Buffers.** An armed receive holds no buffer: the kernel picks one when bytes arrive. When all
//! are leased out a receive ends with `ENOBUFS` and `more == false`; nothing is lost, the bytes wait
//! in the socket, and [`Ring::recv`] arms it again once leases have been dropped.
//!
//! **Deferred work.** The kernel finishes operations only when this thread enters it; a flag in
//! the ring says that it should. `turn` looks at that flag and enters only if there is reason to.
//! The eventfd is silent while the shard runs, and speaks while it is parked.

mod blocks;
mod driver;
mod files;
mod operation;
mod park;
mod probe;
pub mod raw;

#[cfg(test)]
pub(crate) mod tests;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use driver::Driver;
use park::Parking;
pub use park::Waker;
pub use probe::Probe;

/// Io workers of a shard for files, at most: what writes and syncs at the same time.
const FILE_WORKERS_MAX: u32 = 16;

/// Bytes of memory that a receive takes as long as it is armed.
pub const ARMED_RECV_BYTES: usize = driver::RECV_BYTES;

/// Names a socket operation's owner: given with the operation, returned with its completions. The
/// owner puts a generation in it, because a completion can arrive after its connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// How a ring is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Submission entries; completions get four times as many.
    pub entries: u32,
    /// Provided receive buffers: a power of two, up to 32768.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: usize,
    /// The shard's CPU: io workers are bound to it. `None`: not bound.
    pub cpu: Option<usize>,
    /// Busy polling before parking.
    pub poll: Duration,
}

/// What the kernel can do, probed once at start; `lines` says what falls back to what.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// One line a fall-back, for the log.
    pub fallbacks: Vec<String>,
}

/// So long the shard blocks in its own ring before it sleeps in the executor's: about as long as a
/// disk takes for a sync. The executor's timers may be late by this much.
const NAP: Duration = Duration::from_millis(1);
/// So long a busy shard waits for more completions than one.
const GATHER: Duration = Duration::from_micros(50);
/// Other task queues that keep the processor for longer than this have work to do.
const OTHERS_BUSY: Duration = Duration::from_micros(50);

/// A socket operation has completed.
#[derive(Debug)]
pub enum Completion {
    /// A multishot accept has a connection, or an error (`EMFILE`, ...). `more`: still armed.
    Accepted {
        /// Of the listener.
        token: Token,
        /// The connection.
        result: io::Result<OwnedFd>,
        /// `false`: re-arm with [`Ring::accept`].
        more: bool,
    },
    /// Bytes arrived. Empty: the peer has shut its side. The buffer goes back when dropped.
    /// `ECANCELED` after [`Ring::cancel_recv`]; `ENOBUFS`: re-arm later.
    Received {
        /// Of the connection.
        token: Token,
        /// The bytes.
        result: io::Result<Lease>,
        /// `false`: re-arm with [`Ring::recv`] to get more.
        more: bool,
    },
    /// A send has finished whole (partial sends are continued by the ring), or failed.
    Sent {
        /// Of the connection.
        token: Token,
        /// Bytes sent, all of them.
        result: io::Result<usize>,
        /// The buffer, for reuse (its contents stand).
        buffer: Vec<u8>,
    },
}

/// Received bytes in a provided buffer, which goes back to the kernel on drop. Reading them copies
/// nothing. Not `Send`: a shard copies what it must keep.
#[derive(Debug)]
pub struct Lease(Option<raw::Lease>);

impl std::ops::Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// A shard's ring; clones are the same ring. Not `Send`.
#[derive(Clone)]
pub struct Ring {
    inner: Rc<Inner>,
}

struct Inner {
    driver: RefCell<Driver>,
    parking: RefCell<Parking>,
    /// The task that is parked, if any: work queued by other tasks wakes it.
    parked: Cell<Option<std::task::Waker>>,
    /// Another task of this shard has something for the one that parks.
    nudged: Cell<bool>,
    /// Memory for direct writes.
    spare_blocks: RefCell<blocks::Spare>,
    /// The last turn has woken tasks.
    has_woken: Cell<bool>,
    /// Room for wakers between turns.
    woken: Cell<Vec<std::task::Waker>>,
    features: Features,
    probe: Probe,
    poll: Duration,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.driver.get_mut().close(&self.probe);
    }
}

impl Ring {
    /// Makes the ring on the calling thread, which must be its only user. Must run inside the
    /// shard's glommio executor (parking awaits an eventfd through it), and the last clone must be
    /// dropped there.
    ///
    /// # Errors
    /// What the kernel refuses, explained: too old, switched off by sysctl or seccomp, no memory.
    pub fn new(options: &Options) -> io::Result<Ring> {
        let mut uring = raw::Uring::new(&raw::Setup {
            entries: options.entries,
            buffers: options.buffers,
            buffer_bytes: options.buffer_bytes,
            cpu: options.cpu,
            workers_max: FILE_WORKERS_MAX,
        })?;
        let parking = Parking::new()?;
        uring.register_eventfd(parking.eventfd())?;
        let features = Features {
            fallbacks: uring.fallbacks().to_vec(),
        };
        Ok(Ring {
            inner: Rc::new(Inner {
                driver: RefCell::new(Driver::new(uring)),
                parking: RefCell::new(parking),
                parked: Cell::new(None),
                nudged: Cell::new(false),
                spare_blocks: RefCell::default(),
                has_woken: Cell::new(false),
                woken: Cell::new(Vec::new()),
                features,
                probe: Probe::default(),
                poll: options.poll,
            }),
        })
    }

    /// What was probed.
    pub fn features(&self) -> &Features {
        &self.inner.features
    }

    /// What it has done so far.
    pub fn probe(&self) -> &Probe {
        &self.inner.probe
    }

    /// Receive buffers leased out now.
    pub fn buffers_leased(&self) -> u16 {
        let mut driver = self.inner.driver.borrow_mut();
        driver.uring().buffers().map_or(0, raw::BufferRing::leased)
    }

    /// For other threads.
    pub fn waker(&self) -> Waker {
        self.inner.parking.borrow().waker()
    }

    /// Submits what waits, and moves completions of sockets to `into` (at most `max`); completions
    /// of files wake their futures. Never blocks. Returns how many completions it has seen.
    ///
    /// # Errors
    /// Only when the ring itself is gone; the shard cannot go on.
    pub fn turn(&self, into: &mut Vec<Completion>, max: usize) -> io::Result<usize> {
        let mut woken = self.inner.woken.take();
        let result = self
            .inner
            .driver
            .borrow_mut()
            .turn(into, max, &self.inner.probe, &mut woken);
        self.inner.has_woken.set(!woken.is_empty());
        for waker in woken.drain(..) {
            waker.wake();
        }
        self.inner.woken.set(woken);
        result
    }

    /// The last turn has ended operations on files that tasks were waiting for; they have not run
    /// yet. Says so once.
    pub fn take_woken(&self) -> bool {
        self.inner.has_woken.take()
    }

    /// Hands what was queued to the kernel now, not with the next turn: for what takes the device
    /// long, while this thread has other things to do.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn submit(&self) -> io::Result<()> {
        let mut driver = self.inner.driver.borrow_mut();
        let uring = driver.uring();
        if !uring.has_queued() {
            return Ok(());
        }
        self.inner.probe.enters.add(1);
        uring.enter()
    }

    /// Waits until there is something for `turn` to do: a completion, an operation to submit
    /// that a task queued meanwhile, or a [`Waker`]. Polls for `Options::poll` first, letting
    /// other tasks run. May return without reason. One task at a time parks.
    pub async fn park(&self) {
        if self.has_reason_to_stay() {
            return self.inner.parking.borrow().leave();
        }
        if self.look_around().await {
            return self.inner.parking.borrow().leave();
        }
        let mut sleep = Sleep {
            ring: self,
            asleep: false,
        };
        poll_fn(|context| sleep.poll(context)).await;
    }

    /// Busy polling.
    async fn look_around(&self) -> bool {
        if self.inner.poll.is_zero() {
            return false;
        }
        let end = Instant::now() + self.inner.poll;
        while Instant::now() < end {
            glommio::executor().yield_task_queue_now().await;
            let failed = {
                let mut driver = self.inner.driver.borrow_mut();
                let uring = driver.uring();
                let enters = uring.needs_enter();
                self.inner.probe.enters.add(u64::from(enters));
                // Its error shows again in the next turn, so there must be one.
                enters && uring.enter().is_err()
            };
            if failed || self.has_reason_to_stay() {
                return true;
            }
        }
        false
    }

    /// As [`Ring::park`], but only for a moment (a millisecond), and blocking in this ring: one
    /// system call, where the executor's sleep takes several. The executor's timers wait
    /// meanwhile; its other task queues run first, and if they have much to do there is no nap.
    /// With `poll` it polls for `Options::poll` first. Returns whether there is something for `turn`
    /// to do, or may be: if not, park.
    pub async fn nap(&self, poll: bool) -> bool {
        let inner = &self.inner;
        if self.has_reason_to_stay() || (poll && self.look_around().await) {
            inner.parking.borrow().leave();
            return true;
        }
        // First the other task queues. If they are busy the processor is theirs: no nap.
        let before = Instant::now();
        glommio::executor().yield_task_queue_now().await;
        if self.has_reason_to_stay() || before.elapsed() > OTHERS_BUSY {
            inner.parking.borrow().leave();
            return true;
        }
        inner.probe.naps.add(1);
        self.block(1, NAP)
    }

    /// Submits what waits and gives the kernel a moment (50 microseconds) to complete up to `want`
    /// operations, for the next turn: a busy shard that takes completions one by one pays a system
    /// call for each. Does nothing when there is something already, or a wake-up has come.
    pub fn gather(&self, want: u32) {
        let inner = &self.inner;
        let found = inner.driver.borrow_mut().uring().has_events();
        if !found && !inner.nudged.take() {
            self.block(want, GATHER);
        }
    }

    /// Blocks in this ring. Returns whether there is something to do.
    fn block(&self, want: u32, time: Duration) -> bool {
        let inner = &self.inner;
        let parking = inner.parking.borrow();
        let mut something = true;
        if parking.announce_nap() {
            let mut driver = inner.driver.borrow_mut();
            // An error shows again in the next turn, so there must be one.
            let napped = driver.nap(parking.bell(), want, time, &inner.probe);
            something = napped.unwrap_or(true) || parking.is_notified();
        }
        parking.leave();
        something
    }

    /// Makes [`Ring::park`] return, or not park at all the next time: for tasks of this shard that
    /// have something for the one that parks. Other threads use a [`Waker`].
    pub fn nudge(&self) {
        self.inner.nudged.set(true);
        if let Some(waker) = self.inner.parked.take() {
            waker.wake();
        }
    }

    fn has_reason_to_stay(&self) -> bool {
        let mut driver = self.inner.driver.borrow_mut();
        let uring = driver.uring();
        // Not deferred work: whoever asks goes on to an enter that runs it.
        self.inner.nudged.take()
            || uring.has_events()
            || uring.has_queued()
            || self.inner.parking.borrow().is_notified()
    }

    /// Runs `f` on the driver; what it queued gets a parked pump going.
    fn queue<T>(&self, f: impl FnOnce(&mut Driver) -> T) -> T {
        let value = f(&mut self.inner.driver.borrow_mut());
        if let Some(waker) = self.inner.parked.take() {
            waker.wake();
        }
        value
    }

    /// Arms a multishot accept. One at a time per token.
    pub fn accept(&self, token: Token, listener: RawFd) {
        self.queue(|driver| driver.accept(token, listener));
    }

    /// Arms a multishot receive with provided buffers. One at a time per token.
    pub fn recv(&self, token: Token, socket: RawFd) {
        self.queue(|driver| driver.recv(token, socket));
    }

    /// Cancels the receive of `token`; its last completion has `more == false`. Nothing happens
    /// when that one has been seen already.
    pub fn cancel_recv(&self, token: Token) {
        self.queue(|driver| driver.cancel_recv(token));
    }

    /// Cancels the accept of `token`, as [`Ring::cancel_recv`] does a receive.
    pub fn cancel_accept(&self, token: Token) {
        self.queue(|driver| driver.cancel_accept(token));
    }

    /// Sends all of `bytes`. One send at a time per socket: the caller sees to that.
    pub fn send(&self, token: Token, socket: RawFd, bytes: Vec<u8>) {
        self.queue(|driver| driver.send(token, socket, bytes));
    }
}

/// The sleep of [`Ring::park`]; dropping it wakes up.
struct Sleep<'a> {
    ring: &'a Ring,
    asleep: bool,
}

impl Sleep<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let inner = &self.ring.inner;
        if self.asleep {
            // The signal first: one that has come but is not taken would end the next sleep.
            if inner.parking.borrow_mut().poll_signal(context) || self.ring.has_reason_to_stay() {
                return Poll::Ready(());
            }
        } else {
            self.asleep = true;
            if !inner.parking.borrow().announce() {
                return Poll::Ready(());
            }
            inner.probe.parks.add(1);
            let mut driver = inner.driver.borrow_mut();
            let uring = driver.uring();
            uring.set_signals(true);
            inner.probe.enters.add(1);
            // The enter runs deferred work that came before signals were on. Its error shows
            // again in the next turn, so there must be one.
            if uring.enter().is_err() {
                return Poll::Ready(());
            }
            drop(driver);
            if self.ring.has_reason_to_stay() || inner.parking.borrow_mut().poll_signal(context) {
                return Poll::Ready(());
            }
        }
        inner.parked.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if self.asleep {
            let inner = &self.ring.inner;
            inner.parked.set(None);
            inner.driver.borrow_mut().uring().set_signals(false);
            inner.parking.borrow().leave();
        }
    }
}
