//! One io_uring: entries in, events out.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, cqueue};

use super::buffers::{BufferRing, Lease};
use super::setup::{self, Setup};

// From the kernel's `io_uring.h`; the crate keeps its copies private.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Packs what a completion has to find its operation by: a kind, a generation (24 bits are kept)
/// that tells apart the users of a slot that was reused, and the slot.
pub fn pack(kind: u8, generation: u32, slot: u32) -> u64 {
    u64::from(kind) << 56 | u64::from(generation & 0xff_ffff) << 32 | u64::from(slot)
}

/// The kind, generation and slot of [`pack`].
pub fn unpack(data: u64) -> (u8, u32, u32) {
    (
        (data >> 56) as u8,
        (data >> 32) as u32 & 0xff_ffff,
        data as u32,
    )
}

/// A completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The user data of its operation.
    pub data: u64,
    /// What the system call would have returned, errors negative.
    pub result: i32,
    flags: u32,
}

impl Event {
    /// The operation goes on and will have more completions.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The result as a count or a descriptor.
    ///
    /// # Errors
    /// The operation's.
    pub fn outcome(&self) -> io::Result<u32> {
        u32::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// The argument of a waiting enter (`struct io_uring_getevents_arg`).
#[repr(C)]
struct GetEventsArgument {
    signal_mask: u64,
    signal_mask_bytes: u32,
    min_wait_us: u32,
    timespec: u64,
}

/// The argument of a registration of ring descriptors (`struct io_uring_rsrc_update`).
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// A ring, used by the thread that made it. Dropping it closes it; see [`Uring::push`] for what
/// must outlive it.
pub struct Uring {
    ring: IoUring,
    /// Entries that found no room, each with whether it is linked to the next.
    backlog: VecDeque<(Entry, bool)>,
    buffers: Option<Rc<BufferRing>>,
    /// The ring's number in this thread's table of registered rings.
    registered: Option<u32>,
    fallbacks: Vec<String>,
    enters: u64,
    /// Rings are made, used and dropped on one thread.
    _not_send: PhantomData<Rc<()>>,
}

impl Uring {
    /// Makes a ring, its buffers and its workers' bounds.
    ///
    /// # Errors
    /// What the kernel refuses, with what the operator can do about it.
    pub fn new(setup: &Setup) -> io::Result<Uring> {
        setup::check_kernel(&setup::kernel_release())?;
        let mut fallbacks = Vec::new();
        let ring = setup::build(setup, &mut fallbacks)?;
        setup::bind_workers_to(&ring, setup.cpu, setup.workers_max, &mut fallbacks);
        let buffers = if setup.buffers > 0 {
            let buffers = BufferRing::new(setup.buffers, setup.buffer_bytes)?;
            // SAFETY: the address is that of `count` mapped entries, which live until after the
            // registration ends: `drop` unregisters them first.
            unsafe {
                ring.submitter().register_buf_ring_with_flags(
                    buffers.entries_address(),
                    buffers.count(),
                    BufferRing::GROUP,
                    0,
                )
            }
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("the kernel refuses a ring of receive buffers: {error}"),
                )
            })?;
            Some(Rc::new(buffers))
        } else {
            None
        };
        let mut uring = Uring {
            ring,
            backlog: VecDeque::new(),
            buffers,
            registered: None,
            fallbacks,
            enters: 0,
            _not_send: PhantomData,
        };
        uring.register_descriptor();
        Ok(uring)
    }

    /// Spares the kernel a look-up of the descriptor per enter.
    fn register_descriptor(&mut self) {
        let fd = self.ring.as_raw_fd();
        let mut update = RingUpdate {
            offset: u32::MAX,
            reserved: 0,
            data: fd as u64,
        };
        // SAFETY: `update` is the one element that the kernel is told of, and outlives the call.
        let registered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                fd,
                REGISTER_RING_FDS,
                &raw mut update,
                1,
            )
        };
        if registered == 1 {
            self.registered = Some(update.offset);
        } else {
            self.fallbacks.push(format!(
                "io_uring without a registered descriptor ({})",
                io::Error::last_os_error()
            ));
        }
    }

    /// One line for everything that the kernel did not take.
    pub fn fallbacks(&self) -> &[String] {
        &self.fallbacks
    }

    /// System calls made to submit or reap.
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// The receive buffers, if any.
    pub fn buffers(&self) -> Option<&BufferRing> {
        self.buffers.as_deref()
    }

    /// Queues an operation. It reaches the kernel with the next enter, or at once when the
    /// submission queue is full.
    ///
    /// # Safety
    /// Whatever the entry points to (buffers, paths, addresses) must stay valid and, for reads,
    /// untouched until its last completion has been reaped; also when the ring is dropped before
    /// that.
    pub unsafe fn push(&mut self, entry: Entry) {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.push_all(&[(entry, false)]) }
    }

    /// Queues two operations, of which the second starts when the first has succeeded in full. Only
    /// one event comes: that of the second; or that of the first, where it failed or was short.
    ///
    /// # Safety
    /// As for [`Uring::push`].
    pub unsafe fn push_linked(&mut self, first: Entry, second: Entry) {
        // SAFETY: the caller's promise is passed on.
        unsafe {
            self.push_all(&[
                (first.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS), true),
                (second, false),
            ])
        }
    }

    /// # Safety
    /// As for [`Uring::push`].
    unsafe fn push_all(&mut self, entries: &[(Entry, bool)]) {
        if self.backlog.is_empty() && self.room() < entries.len() {
            // An error stays for the next enter to report; the entries wait in the backlog.
            let _ = self.submit();
        }
        if !self.backlog.is_empty() || self.room() < entries.len() {
            self.backlog.extend(entries.iter().cloned());
            return;
        }
        let mut queue = self.ring.submission();
        for (entry, _) in entries {
            // SAFETY: the caller's promise is passed on.
            unsafe { queue.push(entry) }.expect("room was checked");
        }
    }

    fn room(&mut self) -> usize {
        let queue = self.ring.submission();
        queue.capacity() - queue.len()
    }

    /// Moves the backlog into the submission queue as far as there is room, never parting linked
    /// entries: an enter ends a chain.
    fn refill(&mut self) {
        while let Some((_, linked)) = self.backlog.front() {
            let needed = if *linked { 2 } else { 1 };
            if self.room() < needed {
                return;
            }
            for (entry, _) in self.backlog.drain(..needed) {
                // SAFETY: who pushed the entry has promised that its pointers stay valid.
                unsafe { self.ring.submission().push(&entry) }.expect("room was checked");
            }
        }
    }

    /// Hands queued operations to the kernel and runs completion work it has deferred, without
    /// waiting.
    ///
    /// # Errors
    /// Only such as mean a bug here: the ring is closed, or this is another thread.
    pub fn enter(&mut self) -> io::Result<()> {
        loop {
            self.submit()?;
            let left = self.backlog.len();
            self.refill();
            // What could not be moved waits until completions have been reaped.
            if self.backlog.len() == left {
                return Ok(());
            }
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        let waiting = self.waiting();
        match self.enter_raw(waiting, 0, ENTER_GETEVENTS, None) {
            Ok(_) => Ok(()),
            // Nothing is lost: what was not taken stays queued, and reaping makes room.
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As [`Uring::enter`], then waits until `want` completions are there or `timeout` is over.
    ///
    /// # Errors
    /// As for [`Uring::enter`]; that the time is over is not an error.
    pub fn wait(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.enter()?;
        }
        let waiting = self.waiting();
        match self.enter_raw(waiting, want, ENTER_GETEVENTS, timeout) {
            Ok(_) => Ok(()),
            Err(error) if is_passing(&error) || error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Entries in the submission queue.
    fn waiting(&mut self) -> u32 {
        self.ring.submission().len() as u32
    }

    fn enter_raw(
        &mut self,
        submit: u32,
        want: u32,
        flags: u32,
        timeout: Option<Duration>,
    ) -> io::Result<u32> {
        self.enters += 1;
        let (fd, flags) = match self.registered {
            Some(index) => (index as RawFd, flags | ENTER_REGISTERED_RING),
            None => (self.ring.as_raw_fd(), flags),
        };
        let timespec = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
        });
        let argument = GetEventsArgument {
            signal_mask: 0,
            signal_mask_bytes: 0,
            min_wait_us: 0,
            timespec: timespec
                .as_ref()
                .map_or(0, |spec| std::ptr::from_ref(spec) as u64),
        };
        let (pointer, bytes, flags) = match timespec {
            Some(_) => (
                std::ptr::from_ref(&argument),
                size_of::<GetEventsArgument>(),
                flags | ENTER_EXT_ARG,
            ),
            None => (std::ptr::null(), 0, flags),
        };
        // SAFETY: the argument and the timespec it points to outlive the call; what the queued
        // entries point to is promised by who pushed them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                submit,
                want,
                flags,
                pointer,
                bytes,
            )
        };
        u32::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Are there completions to reap?
    pub fn has_events(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Does anything wait for a system call: entries, deferred work, overflowed completions? Two or
    /// three loads. (Without the task-work flag, deferred work shows only after an enter.)
    pub fn needs_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow() || !self.backlog.is_empty()
    }

    /// Are there entries, or completions that overflowed, to be seen to by an enter? Leaves deferred
    /// work out: its flag may be set when there is none any more (it is set after the work was
    /// listed, and by then the work may have been run), and stays so until there is some again.
    /// Whoever sleeps on that flag being clear would spin; a wait runs the work, flag or not.
    pub fn has_queued(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.cq_overflow() || !self.backlog.is_empty()
    }

    /// Moves at most `max` completions to the end of `into`; returns how many.
    pub fn reap(&mut self, into: &mut Vec<Event>, max: usize) -> usize {
        let before = into.len();
        into.extend(self.ring.completion().take(max).map(|entry| Event {
            data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        into.len() - before
    }

    /// The bytes of a receive's completion; `None` when it came without a buffer (the end of the
    /// stream, or an error). Must be called exactly once per completion of a
    /// [`super::entry::recv_multishot`], or its buffer is lost.
    pub fn lease(&self, event: &Event) -> Option<Lease> {
        let id = cqueue::buffer_select(event.flags)?;
        let length = usize::try_from(event.result).unwrap_or(0);
        Some(self.buffers.as_ref()?.lease(id, length))
    }

    /// Signals `eventfd` at completions, once enabled by [`Uring::set_signals`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn register_eventfd(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.set_signals(false);
        self.ring.submitter().register_eventfd(eventfd)
    }

    /// Switches the eventfd's signals on or off. To sleep on it without missing anything: switch
    /// on, [`Uring::enter`], and look at [`Uring::has_events`] once more.
    pub fn set_signals(&mut self, on: bool) {
        let queue = self.ring.completion();
        if on {
            queue.enable_eventfd();
            // Our store of the flag comes before our look at the work list (in the enter that
            // follows), as the kernel's addition to that list comes before its look at the flag:
            // one of the two sees the other.
            fence(Ordering::SeqCst);
        } else {
            queue.disable_eventfd();
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.buffers.is_some() {
            // From here on no receive can pick a buffer, so their memory may go.
            let _ = self.ring.submitter().unregister_buf_ring(BufferRing::GROUP);
        }
        if let Some(index) = self.registered {
            let mut update = RingUpdate {
                offset: index,
                reserved: 0,
                data: 0,
            };
            // SAFETY: as for the registration. Without this the thread's table would keep the
            // ring open.
            unsafe {
                libc::syscall(
                    libc::SYS_io_uring_register,
                    self.ring.as_raw_fd(),
                    UNREGISTER_RING_FDS,
                    &raw mut update,
                    1,
                );
            }
        }
    }
}

/// Interrupted, out of request memory for the moment, or completions must be reaped first.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}
