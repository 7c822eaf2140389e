//! Turns events of the raw ring into completions and finished futures.
//!
//! Guarantees: whatever the kernel may still touch stays in the table until its last event;
//! partial sends, reads and writes are continued here.
//! Does not know: connections beyond their tokens, what is in a file, how the shard sleeps.
//! On failure: the error goes to whoever asked; an error of the ring itself ends the shard.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use slab::Slab;

use super::operation::{FileKind, FileWork, Operation, Work, Write};
use super::probe::Probe;
use super::raw::{self, Event, Uring, entry};
use super::{Completion, Lease, Token};
use crate::config::SyncLevel;

/// Kinds in user data: which entry of an operation an event belongs to.
pub(super) const MAIN: u8 = 0;
/// The sync linked to a write.
pub(super) const SYNC: u8 = 1;
/// A cancellation, whose own end nobody waits for.
const CANCEL: u8 = 2;
/// The bell that ends a nap: another thread has something for the shard.
const BELL: u8 = 3;

/// How long closing waits for the kernel to let go of buffers before it leaks them.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Bytes of memory that an armed receive takes, with its place in a table that may be half full.
pub(super) const RECV_BYTES: usize = size_of::<Operation>() + 2 * size_of::<(Token, u64)>();

pub(super) struct Driver {
    uring: Uring,
    operations: Slab<Operation>,
    generation: u32,
    /// Armed receives and accepts by token, for cancelling.
    recvs: FxHashMap<Token, u64>,
    accepts: FxHashMap<Token, u64>,
    events: Vec<Event>,
    /// Tasks whose operations have ended, to be woken when the driver is not borrowed.
    woken: Vec<Waker>,
    /// The bell is watched.
    bell: bool,
    /// Nothing is continued any more.
    closing: bool,
}

impl Driver {
    pub fn new(uring: Uring) -> Driver {
        Driver {
            uring,
            operations: Slab::new(),
            generation: 0,
            recvs: FxHashMap::default(),
            accepts: FxHashMap::default(),
            events: Vec::new(),
            woken: Vec::new(),
            bell: false,
            closing: false,
        }
    }

    pub fn uring(&mut self) -> &mut Uring {
        &mut self.uring
    }

    /// See [`super::Ring::turn`]; `woken` gets the tasks to wake.
    pub fn turn(
        &mut self,
        into: &mut Vec<Completion>,
        max: usize,
        probe: &Probe,
        woken: &mut Vec<Waker>,
    ) -> io::Result<usize> {
        // What is there already comes first: what it makes us queue goes with the same system call.
        if !self.uring.has_events() && self.uring.needs_enter() {
            let before = self.uring.enters();
            self.uring.enter()?;
            probe.enters.add(self.uring.enters() - before);
        }
        let mut events = std::mem::take(&mut self.events);
        let count = self.uring.reap(&mut events, max);
        for event in events.drain(..) {
            self.dispatch(event, into, probe);
        }
        self.events = events;
        probe.completions.add(count as u64);
        probe.in_flight.set(self.operations.len() as i64);
        woken.append(&mut self.woken);
        Ok(count)
    }

    /// Submits what waits, then blocks until there are `want` completions (`bell` being written
    /// to is one), or `time` is over. Returns whether there is work.
    pub fn nap(
        &mut self,
        bell: RawFd,
        want: u32,
        time: Duration,
        probe: &Probe,
    ) -> io::Result<bool> {
        if !self.bell {
            self.bell = true;
            // SAFETY: the entry has no pointers.
            unsafe {
                self.uring
                    .push(entry::watch_multishot(bell).user_data(raw::pack(BELL, 0, 0)));
            }
        }
        let before = self.uring.enters();
        let result = self.uring.wait(want, Some(time));
        probe.enters.add(self.uring.enters() - before);
        result.map(|()| self.uring.has_events() || self.uring.has_queued())
    }

    fn insert(&mut self, work: Work) -> (usize, u64) {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        let generation = self.generation;
        let key = self.operations.insert(Operation { generation, work });
        let slot = u32::try_from(key).expect("fewer than 2^32 operations fit in memory");
        (key, raw::pack(MAIN, generation, slot))
    }

    // Sockets.

    pub fn accept(&mut self, token: Token, listener: RawFd) {
        let (_, data) = self.insert(Work::Accept { token });
        let armed = self.accepts.insert(token, data);
        debug_assert!(armed.is_none(), "{token:?} already accepts");
        // SAFETY: the entry has no pointers.
        unsafe {
            self.uring
                .push(entry::accept_multishot(listener).user_data(data))
        };
    }

    pub fn recv(&mut self, token: Token, socket: RawFd) {
        let (_, data) = self.insert(Work::Recv { token });
        let armed = self.recvs.insert(token, data);
        debug_assert!(armed.is_none(), "{token:?} already receives");
        // SAFETY: bytes go to the ring's own buffers.
        unsafe {
            self.uring
                .push(entry::recv_multishot(socket).user_data(data))
        };
    }

    pub fn cancel_recv(&mut self, token: Token) {
        if let Some(&data) = self.recvs.get(&token) {
            self.cancel(data);
        }
    }

    pub fn cancel_accept(&mut self, token: Token) {
        if let Some(&data) = self.accepts.get(&token) {
            self.cancel(data);
        }
    }

    fn cancel(&mut self, data: u64) {
        // SAFETY: the entry has no pointers. A target that has ended meanwhile is not found, even
        // when its slot is in use again: the generation differs.
        unsafe {
            self.uring
                .push(entry::cancel(data).user_data(raw::pack(CANCEL, 0, 0)));
        }
    }

    pub fn send(&mut self, token: Token, socket: RawFd, bytes: Vec<u8>) {
        let start = entry::send(socket, &bytes);
        let (_, data) = self.insert(Work::Send {
            token,
            socket,
            bytes,
            sent: 0,
        });
        // SAFETY: the bytes' heap memory stays with the operation until its event.
        unsafe { self.uring.push(start.user_data(data)) };
    }

    // Files.

    /// Starts an operation that a future waits for, and returns its key.
    pub fn start(&mut self, mut work: FileWork) -> usize {
        if let FileKind::Read { bytes, length, .. } = &mut work.kind {
            bytes.reserve_exact(*length);
        }
        let (key, data) = self.insert(Work::File(work));
        self.submit_file(key, data);
        key
    }

    /// Pushes the entry, or the two, for what is left to do.
    fn submit_file(&mut self, key: usize, data: u64) {
        let Some(Operation {
            work: Work::File(work),
            ..
        }) = self.operations.get_mut(key)
        else {
            return;
        };
        let mut linked = None;
        let first = match &mut work.kind {
            FileKind::Open { path, flags, mode } => entry::open(path, *flags, *mode),
            FileKind::Rename { from, to } => entry::rename(from, to),
            FileKind::Unlink { path } => entry::unlink(path),
            FileKind::Mkdir { path, mode } => entry::mkdir(path, *mode),
            FileKind::Allocate {
                file,
                mode,
                offset,
                length,
            } => entry::allocate(*file, *mode, *offset, *length),
            FileKind::Read {
                file,
                offset,
                length,
                bytes,
            } => {
                let left = *length - bytes.len();
                let offset = *offset + bytes.len() as u64;
                entry::read(
                    *file,
                    offset,
                    bytes.spare_capacity_mut().as_mut_ptr().cast(),
                    left,
                )
            }
            FileKind::Write(write) => {
                let left = write.bytes.len() - write.written;
                // A write that is too large for one entry is synced with its last piece.
                let level = if left > entry::TRANSFER_BYTES_MAX {
                    SyncLevel::None
                } else {
                    write.level
                };
                linked = entry::sync(write.file, level);
                let rest = &write.source()[write.written..];
                entry::write(write.file, write.offset + write.written as u64, rest)
            }
            FileKind::Sync { file, level, .. } => match entry::sync(*file, *level) {
                Some(sync) => sync,
                None => {
                    work.result = Some(0);
                    return;
                }
            },
        };
        let first = first.user_data(data);
        match linked {
            // SAFETY: paths and bytes live on the heap and stay with the operation until its last
            // event; closing waits for that or leaks them.
            None => unsafe { self.uring.push(first) },
            Some(sync) => {
                let (_, generation, slot) = raw::unpack(data);
                let sync = sync.user_data(raw::pack(SYNC, generation, slot));
                // SAFETY: as above.
                unsafe { self.uring.push_linked(first, sync) };
            }
        }
    }

    /// The finished operation `key`, or registers who waits for it.
    pub fn poll(&mut self, key: usize, waker: &Waker) -> Option<FileWork> {
        let Some(Operation {
            work: Work::File(work),
            ..
        }) = self.operations.get_mut(key)
        else {
            unreachable!("a future's operation stays in the table until it is taken");
        };
        if work.result.is_none() {
            match &mut work.waker {
                Some(known) => known.clone_from(waker),
                None => work.waker = Some(waker.clone()),
            }
            return None;
        }
        match self.operations.remove(key).work {
            Work::File(work) => Some(work),
            _ => unreachable!("looked at above"),
        }
    }

    /// The future of operation `key` is gone.
    pub fn abandon(&mut self, key: usize) {
        let Some(Operation {
            work: Work::File(work),
            ..
        }) = self.operations.get_mut(key)
        else {
            return;
        };
        work.abandoned = true;
        work.waker = None;
        if work.result.is_some()
            && let Work::File(work) = self.operations.remove(key).work
        {
            work.discard();
        }
    }

    // Events.

    fn dispatch(&mut self, event: Event, into: &mut Vec<Completion>, probe: &Probe) {
        let (kind, generation, slot) = raw::unpack(event.data);
        if kind == CANCEL {
            return;
        }
        if kind == BELL {
            self.bell = event.more();
            return;
        }
        let key = slot as usize;
        // An operation leaves the table with its last event, so every event finds its own.
        let Some(operation) = self.operations.get_mut(key) else {
            debug_assert!(false, "an event of no operation: {event:?}");
            return;
        };
        if operation.generation != generation {
            debug_assert!(false, "an event of an earlier operation: {event:?}");
            return;
        }
        match &mut operation.work {
            Work::Accept { token } => {
                let token = *token;
                let more = event.more();
                if !more {
                    self.operations.remove(key);
                    self.accepts.remove(&token);
                }
                let result = event.outcome().map(|fd| {
                    // SAFETY: the kernel has just given us this descriptor.
                    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
                });
                into.push(Completion::Accepted {
                    token,
                    result,
                    more,
                });
            }
            Work::Recv { token } => {
                let token = *token;
                let more = event.more();
                if !more {
                    self.operations.remove(key);
                    self.recvs.remove(&token);
                }
                let lease = Lease(self.uring.lease(&event));
                let result = event.outcome().map(|count| {
                    probe.received_bytes.add(u64::from(count));
                    lease
                });
                if event.result == -libc::ENOBUFS {
                    probe.buffers_exhausted.add(1);
                }
                into.push(Completion::Received {
                    token,
                    result,
                    more,
                });
            }
            Work::Send {
                socket,
                bytes,
                sent,
                ..
            } => {
                let result = match event.outcome() {
                    Ok(count) => {
                        probe.sent_bytes.add(u64::from(count));
                        *sent += count as usize;
                        if *sent >= bytes.len() {
                            Ok(bytes.len())
                        } else if count == 0 || self.closing {
                            Err(io::ErrorKind::WriteZero.into())
                        } else {
                            let rest = entry::send(*socket, &bytes[*sent..]);
                            // SAFETY: as for the first part.
                            unsafe { self.uring.push(rest.user_data(event.data)) };
                            return;
                        }
                    }
                    Err(error) => Err(error),
                };
                if let Work::Send { token, bytes, .. } = self.operations.remove(key).work {
                    into.push(Completion::Sent {
                        token,
                        result,
                        buffer: bytes,
                    });
                }
            }
            Work::File(work) => match advance(&mut work.kind, kind, event.result, probe) {
                Advance::Continues if !self.closing => {
                    self.submit_file(key, raw::pack(MAIN, generation, slot))
                }
                ended => {
                    work.result = Some(match ended {
                        Advance::Ends(result) => result,
                        _ => -libc::ECANCELED,
                    });
                    self.woken.extend(work.waker.take());
                    if work.abandoned
                        && let Work::File(work) = self.operations.remove(key).work
                    {
                        work.discard();
                    }
                }
            },
        }
    }

    /// Ends everything in flight and waits until the kernel has let go of our memory. What it does
    /// not let go of in time is leaked, which is safe where freeing would not be.
    pub fn close(&mut self, probe: &Probe) {
        self.closing = true;
        // SAFETY: the entry has no pointers.
        unsafe {
            self.uring
                .push(entry::cancel_everything().user_data(raw::pack(CANCEL, 0, 0)));
        }
        let keys: Vec<usize> = self.operations.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.abandon(key);
        }
        let deadline = Instant::now() + CLOSE_WAIT;
        let mut completions = Vec::new();
        while !self.operations.is_empty() && Instant::now() < deadline {
            if self
                .uring
                .wait(1, Some(Duration::from_millis(50)))
                .and_then(|()| self.turn(&mut completions, usize::MAX, probe, &mut Vec::new()))
                .is_err()
            {
                break;
            }
            completions.clear();
        }
        if !self.operations.is_empty() {
            std::mem::forget(std::mem::take(&mut self.operations));
        }
    }
}

pub(super) enum Advance {
    /// Part of it is left to do.
    Continues,
    Ends(i32),
}

/// Takes an event's result into account.
fn advance(kind: &mut FileKind, part: u8, result: i32, probe: &Probe) -> Advance {
    match kind {
        FileKind::Read { length, bytes, .. } => {
            probe.reads.add(1);
            let Ok(count) = usize::try_from(result) else {
                // An interrupted read has read nothing.
                return if result == -libc::EINTR {
                    Advance::Continues
                } else {
                    Advance::Ends(result)
                };
            };
            probe.read_bytes.add(count as u64);
            let filled = bytes.len() + count;
            assert!(
                filled <= *length,
                "the kernel read more than it was asked for"
            );
            // SAFETY: capacity for `length` bytes was reserved, and the kernel has just filled
            // `count` more.
            unsafe { bytes.set_len(filled) };
            if count == 0 || filled == *length {
                Advance::Ends(0)
            } else {
                Advance::Continues
            }
        }
        FileKind::Write(write) => write.advance(part, result, probe),
        FileKind::Sync { level, begun, .. } => {
            probe.synced(*level, begun.elapsed());
            Advance::Ends(result)
        }
        _ => Advance::Ends(result),
    }
}

impl Write {
    /// What one completion means. A write whose sync is linked to it tells only of its failure (or
    /// of a short count), and then its sync tells nothing; so there is one completion in any case.
    pub fn advance(&mut self, part: u8, result: i32, probe: &Probe) -> Advance {
        if part == SYNC {
            // It runs behind a whole write only.
            if result != -libc::ECANCELED {
                self.note_written(self.bytes.len() - self.written, probe);
                probe.synced(self.level, self.begun.elapsed());
            }
            return Advance::Ends(result);
        }
        let Ok(count) = usize::try_from(result) else {
            probe.writes.add(1);
            return if result == -libc::EINTR {
                Advance::Continues
            } else {
                Advance::Ends(result)
            };
        };
        self.note_written(count, probe);
        if self.written == self.bytes.len() {
            // Of a whole write that owes a sync only that sync may tell.
            let owes_sync = self.level > SyncLevel::None;
            Advance::Ends(if owes_sync { -libc::EIO } else { 0 })
        } else if count == 0 {
            // No progress, no end: the disk does not want it.
            Advance::Ends(-libc::EIO)
        } else {
            // The rest goes with its own sync.
            Advance::Continues
        }
    }

    fn note_written(&mut self, count: usize, probe: &Probe) {
        probe.writes.add(1);
        probe.written_bytes.add(count as u64);
        self.written += count;
    }
}
