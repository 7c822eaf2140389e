//! One connection's place in the engine: its socket, its dialogue, its send buffers.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Where a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be opened then.
    Waiting(Instant),
    Connecting,
    Up,
    /// The conversation is over, operations are still in flight.
    Closing,
    /// There is nothing more to do.
    Finished,
}

/// One connection's place.
pub(super) struct Slot<D> {
    pub phase: Phase,
    /// Counts conversations; part of the user data of operations.
    pub generation: u32,
    pub dialogue: Option<D>,
    socket: Option<OwnedFd>,
    /// Not a byte has come from the server yet.
    pub arriving: bool,
    /// Operations that the kernel has not completed.
    pub in_flight: u32,
    /// A receive was armed in this conversation.
    pub receiving: bool,
    pub sending: bool,
    /// Written by the dialogue, not yet with the kernel.
    pub out: Vec<u8>,
    /// With the kernel while `sending`; untouched then.
    with_kernel: Vec<u8>,
    /// Bytes of it that are sent.
    done: usize,
    pub began: Instant,
    pub deadline: Option<Instant>,
    /// The dialogue asked to close because of the peer.
    pub failed: bool,
    /// Before the next conversation.
    pub pause: Duration,
}

impl<D> Slot<D> {
    pub fn new(now: Instant) -> Slot<D> {
        Slot {
            phase: Phase::Waiting(now),
            generation: 0,
            dialogue: None,
            socket: None,
            arriving: false,
            in_flight: 0,
            receiving: false,
            sending: false,
            out: Vec::new(),
            with_kernel: Vec::new(),
            done: 0,
            began: now,
            deadline: None,
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

    /// Makes the next piece ready; `false`: there is nothing to send.
    pub fn next_piece(&mut self) -> bool {
        if self.done < self.with_kernel.len() {
            return true;
        }
        self.with_kernel.clear();
        self.done = 0;
        std::mem::swap(&mut self.with_kernel, &mut self.out);
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

    /// Closes the socket and makes ready for another conversation, after the pause.
    pub fn reset(&mut self, now: Instant) {
        self.socket = None;
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        self.receiving = false;
        self.sending = false;
        self.out.clear();
        self.with_kernel.clear();
        self.done = 0;
        self.deadline = None;
        self.phase = Phase::Waiting(now + self.pause);
    }
}
