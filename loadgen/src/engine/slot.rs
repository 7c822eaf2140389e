//! One connection's place in the engine: its socket, its dialogue, what it has to send; and the
//! send buffers that are nobody's at the moment.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Where a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No connection: it may be opened when its alarm has gone off, or at once without one.
    Closed,
    Connecting,
    Up,
    /// The conversation is over, operations are still in flight.
    Closing,
    /// There is nothing more to do.
    Finished,
}

/// What happens to a slot, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    None,
    /// It may be opened.
    Open(Instant),
    /// The server has been silent for too long.
    Silence(Instant),
    /// The dialogue wants to be woken.
    Wake(Instant),
}

impl Alarm {
    /// When, if at all.
    pub fn at(self) -> Option<Instant> {
        match self {
            Alarm::None => None,
            Alarm::Open(at) | Alarm::Silence(at) | Alarm::Wake(at) => Some(at),
        }
    }
}

/// One connection's place.
pub(super) struct Slot<D> {
    pub phase: Phase,
    /// Up and free: it waits for an operation that is due.
    pub idle: bool,
    /// It stands in the engine's list of idle connections, perhaps no longer rightly.
    pub listed: bool,
    /// Counts conversations; part of the user data of operations.
    pub generation: u32,
    pub dialogue: Option<D>,
    socket: Option<OwnedFd>,
    /// Source addresses that were passed over when it was opened.
    pub source: u32,
    /// Not a byte has come from the server yet.
    pub arriving: bool,
    /// Operations that the kernel has not completed.
    pub in_flight: u32,
    /// A receive was armed in this conversation.
    pub receiving: bool,
    pub sending: bool,
    /// Written by the dialogue while something else is with the kernel.
    queued: Vec<u8>,
    /// With the kernel while `sending`; untouched then.
    with_kernel: Vec<u8>,
    /// Bytes of it that are sent.
    done: usize,
    pub began: Instant,
    /// Since when it is free: idle, or closed and without a pause to keep.
    pub free_since: Instant,
    pub alarm: Alarm,
    /// The dialogue asked to close because of the peer.
    pub failed: bool,
    /// Before the next conversation.
    pub pause: Duration,
}

impl<D> Slot<D> {
    pub fn new(now: Instant) -> Slot<D> {
        Slot {
            phase: Phase::Closed,
            idle: false,
            listed: false,
            generation: 0,
            dialogue: None,
            socket: None,
            source: 0,
            arriving: false,
            in_flight: 0,
            receiving: false,
            sending: false,
            queued: Vec::new(),
            with_kernel: Vec::new(),
            done: 0,
            began: now,
            free_since: now,
            alarm: Alarm::None,
            failed: false,
            pause: Duration::ZERO,
        }
    }

    /// Takes the socket of a new conversation.
    pub fn socket(&mut self, socket: OwnedFd) -> RawFd {
        self.socket.insert(socket).as_raw_fd()
    }

    /// The socket's descriptor; -1, which the kernel refuses, when there is none.
    pub fn fd(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, |socket| socket.as_raw_fd())
    }

    /// Takes what the dialogue wrote, to be sent when what was written before is.
    pub fn queue(&mut self, out: Vec<u8>, spare: &mut Spare) {
        if self.queued.is_empty() && !out.is_empty() {
            self.queued = out;
        } else {
            self.queued.extend_from_slice(&out);
            spare.give(out);
        }
    }

    /// Makes the next piece ready; `false`: there is nothing to send.
    pub fn next_piece(&mut self, spare: &mut Spare) -> bool {
        if self.done < self.with_kernel.len() {
            return true;
        }
        self.done = 0;
        spare.give(std::mem::take(&mut self.with_kernel));
        std::mem::swap(&mut self.with_kernel, &mut self.queued);
        !self.with_kernel.is_empty()
    }

    /// What [`Slot::next_piece`] made ready.
    pub fn piece(&self) -> &[u8] {
        &self.with_kernel[self.done..]
    }

    /// So many bytes of the piece are sent.
    pub fn sent(&mut self, bytes: usize) {
        self.done = (self.done + bytes).min(self.with_kernel.len());
    }

    /// Closes the socket and makes ready for another conversation.
    pub fn reset(&mut self, spare: &mut Spare) {
        self.socket = None;
        self.idle = false;
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        self.receiving = false;
        self.sending = false;
        spare.give(std::mem::take(&mut self.queued));
        spare.give(std::mem::take(&mut self.with_kernel));
        self.done = 0;
        self.alarm = Alarm::None;
        self.phase = Phase::Closed;
    }
}

/// Send buffers not in use: connections that have nothing to send hold none, so that many of them
/// fit into memory, and those that send write into memory that is still in the cache.
#[derive(Default)]
pub(super) struct Spare {
    buffers: Vec<Vec<u8>>,
}

/// Buffers kept, and the capacity from which one is given back to the allocator instead.
const SPARE_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 256 * 1024;

impl Spare {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity > 0 && capacity <= SPARE_BYTES_MAX && self.buffers.len() < SPARE_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_while_sending_is_sent_afterwards_and_in_order() {
        let mut spare = Spare::default();
        let mut slot = Slot::<()>::new(Instant::now());
        assert!(!slot.next_piece(&mut spare));
        slot.queue(b"one ".to_vec(), &mut spare);
        assert!(slot.next_piece(&mut spare));
        slot.queue(b"two ".to_vec(), &mut spare);
        slot.queue(b"three".to_vec(), &mut spare);
        assert_eq!(slot.piece(), b"one ");
        slot.sent(1);
        assert!(slot.next_piece(&mut spare));
        assert_eq!(slot.piece(), b"ne ");
        slot.sent(3);
        assert!(slot.next_piece(&mut spare));
        assert_eq!(slot.piece(), b"two three");
        slot.sent(9);
        slot.queue(Vec::with_capacity(10), &mut spare);
        assert!(!slot.next_piece(&mut spare));
        let empty = [&slot.queued, &slot.with_kernel].map(Vec::capacity);
        assert_eq!(empty, [0, 0], "a slot at rest holds no buffers");
        assert_eq!(spare.buffers.len(), 4);
    }

    #[test]
    fn spare_buffers_are_bounded() {
        let mut spare = Spare::default();
        spare.give(Vec::with_capacity(SPARE_BYTES_MAX + 1));
        spare.give(Vec::new());
        assert!(spare.buffers.is_empty());
        for _ in 0..2 * SPARE_MAX {
            spare.give(vec![1]);
        }
        assert_eq!(spare.buffers.len(), SPARE_MAX);
        assert!(spare.take().is_empty());
    }
}
