//! The kernel's side of a shard: one io_uring, its driver and its operations.
//!
//! Sockets complete through [`Completion`]s that the shard's pump takes in turns; files complete
//! through futures that the store awaits. Both share one ring, so that one `io_uring_enter`
//! submits and reaps everything.

pub mod raw;

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::config::SyncLevel;

/// Names a socket operation's owner: given with the operation, returned with its completions. The
/// owner puts a generation in it, because a completion can arrive after its connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// How a ring is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Submission entries; completions get four times as many.
    pub entries: u32,
    /// Provided receive buffers and their size in bytes.
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

/// Received bytes in a provided buffer, which goes back to the kernel on drop.
#[derive(Debug)]
pub struct Lease {
    bytes: Vec<u8>,
}

impl std::ops::Deref for Lease {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Wakes a parked shard from any thread: after pushing to its mesh or inbox, call `wake`.
#[derive(Debug, Clone)]
pub struct Waker {
    _eventfd: Arc<OwnedFd>,
}

impl Waker {
    /// Cheap when the shard is not parked.
    pub fn wake(&self) {
        todo!()
    }
}

/// A shard's ring; clones are the same ring. Not `Send`.
#[derive(Clone)]
pub struct Ring {
    _inner: std::rc::Rc<()>,
}

#[allow(unused_variables, reason = "the contract, filled in next")]
impl Ring {
    /// Makes the ring on the calling thread, which must be its only user. Must run inside the
    /// shard's glommio executor (parking awaits an eventfd through it).
    ///
    /// # Errors
    /// What the kernel refuses, explained: too old, switched off by sysctl or seccomp, no memory.
    pub fn new(options: &Options) -> io::Result<Ring> {
        todo!()
    }

    /// What was probed.
    pub fn features(&self) -> &Features {
        todo!()
    }

    /// For other threads.
    pub fn waker(&self) -> Waker {
        todo!()
    }

    /// Submits what waits, and moves completions of sockets to `into` (at most `max`); completions
    /// of files wake their futures. Never blocks. Returns how many completions it has seen.
    pub fn turn(&self, into: &mut Vec<Completion>, max: usize) -> io::Result<usize> {
        todo!()
    }

    /// Waits until there is something for `turn` to do: a completion, an operation to submit
    /// that a task queued meanwhile, or a [`Waker`]. Polls for `Options::poll` first.
    pub async fn park(&self) {
        todo!()
    }

    /// Arms a multishot accept.
    pub fn accept(&self, token: Token, listener: RawFd) {
        todo!()
    }

    /// Arms a multishot receive with provided buffers.
    pub fn recv(&self, token: Token, socket: RawFd) {
        todo!()
    }

    /// Cancels the receive of `token`; its last completion has `more == false`.
    pub fn cancel_recv(&self, token: Token) {
        todo!()
    }

    /// Cancels the accept of `token`.
    pub fn cancel_accept(&self, token: Token) {
        todo!()
    }

    /// Sends all of `bytes`. One send at a time per socket: the caller sees to that.
    pub fn send(&self, token: Token, socket: RawFd, bytes: Vec<u8>) {
        todo!()
    }

    // Files: futures, which may be awaited by any task of this shard. Dropping one does not stop
    // the operation; its buffer lives until the kernel is done.

    /// Opens a file (`openat`), for example with `O_NOATIME`, falling back where that is refused.
    pub async fn open(&self, path: &std::path::Path, flags: i32, mode: u32) -> io::Result<OwnedFd> {
        todo!()
    }

    /// Reads up to `length` bytes at `offset`; fewer only at the end of the file.
    pub async fn read(&self, file: RawFd, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        todo!()
    }

    /// Writes all of `bytes` at `offset` with a linked fdatasync or fsync, as `level` asks.
    pub async fn write(
        &self,
        file: RawFd,
        offset: u64,
        bytes: Vec<u8>,
        level: SyncLevel,
    ) -> (io::Result<()>, Vec<u8>) {
        todo!()
    }

    /// `fdatasync` or `fsync`.
    pub async fn sync(&self, file: RawFd, level: SyncLevel) -> io::Result<()> {
        todo!()
    }

    /// `fallocate` with a mode.
    pub async fn allocate(
        &self,
        file: RawFd,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        todo!()
    }

    /// `renameat`.
    pub async fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
        todo!()
    }

    /// `unlinkat`.
    pub async fn unlink(&self, path: &std::path::Path) -> io::Result<()> {
        todo!()
    }

    /// `mkdirat`.
    pub async fn mkdir(&self, path: &std::path::Path, mode: u32) -> io::Result<()> {
        todo!()
    }
}
