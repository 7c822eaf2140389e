//! Moves bytes between connections and their dialogues: one thread, one io_uring.
//!
//! Guarantees: one enter per turn, whatever it has to submit and reap; one send in flight per
//! connection; a connection that is silent for longer than the time-out is closed and told so;
//! broken connections are opened again after a pause that doubles up to a second.
//! Does not know: protocols, messages, what is measured.
//! On failure: every fault of a connection goes to its dialogue; only a ring that cannot be made or
//! used ends the run.

mod slot;

use std::io;
use std::time::{Duration, Instant};

use ringpost::ring::raw::{Event, Setup, Uring, entry, pack, unpack};

use crate::dialogue::{Dialogue, End, Next, Work as _};
use crate::recorder::{Fault, Verb};
use crate::target::Target;
use slot::{Phase, Slot};

/// What one thread is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The CPU it is pinned to: its io workers are bound there too.
    pub cpu: usize,
    /// Where the server is.
    pub target: Target,
    /// Connections of this thread.
    pub connections: u32,
    /// Number of the first of them among those of all threads.
    pub first_connection: u32,
    /// Silence that a server may keep while an answer is due.
    pub timeout: Duration,
}

/// Entries of the submission queue.
const RING_ENTRIES: u32 = 2048;
/// Provided buffers, and their size in bytes.
const BUFFERS: u16 = 1024;
const BUFFER_BYTES: usize = 16 * 1024;
/// Completions handled per turn.
const EVENTS_MAX: usize = 1024;
/// Connections that may be on their way at once, from `connect` to the first byte of the greeting:
/// more would overrun the listener's backlog, and those that fall out of it hang.
const CONNECTING_MAX: u32 = 128;
/// How often time-outs and pauses are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(20);
/// The first pause before a broken connection is opened again, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long the kernel may take to give back what was in flight when the run is over.
const CLOSING_TIME: Duration = Duration::from_secs(5);

const CONNECT: u8 = 1;
const RECV: u8 = 2;
const SEND: u8 = 3;
const CANCEL: u8 = 4;

struct Engine<'a, D: Dialogue> {
    options: &'a Options,
    work: &'a mut D::Work,
    address: Box<rustix::net::SocketAddrAny>,
    ring: Uring,
    slots: Vec<Slot<D>>,
    /// Slots with `arriving` set.
    connecting: u32,
    /// Others may be opened before the next sweep is due.
    room: bool,
    /// Slots that will not be opened again.
    finished: u32,
    /// Operations that the kernel has not completed.
    in_flight: u64,
}

/// Runs conversations until there is nothing more to do.
///
/// # Errors
/// When the ring cannot be made or used, or when the work itself cannot go on; the text says why.
pub fn run<D: Dialogue>(options: &Options, work: &mut D::Work) -> Result<(), String> {
    let explain = |e: io::Error| format!("io_uring: {e}");
    let ring = Uring::new(&Setup {
        entries: RING_ENTRIES,
        buffers: BUFFERS,
        buffer_bytes: BUFFER_BYTES,
        cpu: Some(options.cpu),
        workers_max: 0,
    })
    .map_err(explain)?;
    let address = options
        .target
        .address()
        .map_err(|e| format!("{}: {e}", options.target))?;
    let now = Instant::now();
    let mut engine = Engine::<D> {
        options,
        work,
        address: Box::new(address),
        ring,
        slots: (0..options.connections).map(|_| Slot::new(now)).collect(),
        connecting: 0,
        room: false,
        finished: 0,
        in_flight: 0,
    };
    let result = engine.turns().map_err(explain);
    let failure = engine.work.failure();
    engine.shut().map_err(explain)?;
    result.and(failure.map_or(Ok(()), Err))
}

impl<D: Dialogue> Engine<'_, D> {
    fn turns(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut sweep_at = Instant::now();
        loop {
            let now = Instant::now();
            if now >= sweep_at {
                self.work.tick(now);
                if self.work.is_cut(now) || self.work.failure().is_some() {
                    return Ok(());
                }
                sweep_at = now + SWEEP_EVERY;
                self.room = true;
            }
            if std::mem::take(&mut self.room) {
                self.sweep(now);
            }
            if self.finished == self.options.connections {
                return Ok(());
            }
            self.ring.wait(1, Some(SWEEP_EVERY))?;
            events.clear();
            self.ring.reap(&mut events, EVENTS_MAX);
            for event in &events {
                self.handle(event, true);
            }
        }
    }

    /// Opens what waits to be opened, and ends what was silent for too long.
    fn sweep(&mut self, now: Instant) {
        for index in 0..self.options.connections {
            let slot = &self.slots[index as usize];
            match slot.phase {
                Phase::Waiting(until) if now >= until && self.connecting < CONNECTING_MAX => {
                    self.open(index, now);
                }
                Phase::Connecting | Phase::Up if slot.deadline.is_some_and(|at| now >= at) => {
                    let text = format!("nothing for {:?}", self.options.timeout);
                    self.end(index, End::Fault(Fault::Timeout, &text), now);
                }
                _ => {}
            }
        }
    }

    fn open(&mut self, index: u32, now: Instant) {
        let Some(dialogue) = D::open(self.work, now) else {
            self.slots[index as usize].phase = Phase::Finished;
            self.finished += 1;
            return;
        };
        let slot = &mut self.slots[index as usize];
        slot.began = now;
        slot.deadline = Some(now + self.options.timeout);
        slot.dialogue = Some(dialogue);
        match self
            .options
            .target
            .socket(self.options.first_connection + index)
        {
            Ok(socket) => {
                let fd = slot.socket(socket);
                slot.phase = Phase::Connecting;
                slot.arriving = true;
                self.connecting += 1;
                let (pointer, bytes) = (self.address.as_ptr(), self.address.addr_len());
                let operation = entry::connect(fd, pointer.cast(), bytes);
                self.push(index, CONNECT, operation);
            }
            Err(e) => {
                slot.phase = Phase::Up;
                self.end(index, End::Fault(Fault::Unreachable, &e.to_string()), now);
            }
        }
    }

    fn push(&mut self, index: u32, kind: u8, operation: io_uring::squeue::Entry) {
        self.in_flight += 1;
        let slot = &mut self.slots[index as usize];
        slot.in_flight += 1;
        // SAFETY: the address is boxed in the engine, and send buffers belong to slots, which are
        // not touched while a send is in flight; `shut` waits for the last completion before
        // either is freed, or leaks them.
        unsafe {
            self.ring
                .push(operation.user_data(pack(kind, slot.generation, index)))
        };
    }

    /// `live`: dialogues are still spoken with; otherwise completions are only counted off.
    fn handle(&mut self, event: &Event, live: bool) {
        let (kind, generation, index) = unpack(event.data);
        // Taken in any case, so that the buffer goes back.
        let lease = if kind == RECV {
            self.ring.lease(event)
        } else {
            None
        };
        if kind == CANCEL {
            return;
        }
        let slot = &mut self.slots[index as usize];
        debug_assert_eq!(
            slot.generation, generation,
            "a slot was used again too early"
        );
        if !event.more() {
            self.in_flight -= 1;
            slot.in_flight -= 1;
        }
        let now = Instant::now();
        let phase = slot.phase;
        match kind {
            CONNECT if phase == Phase::Connecting => {
                slot.phase = Phase::Up;
                if live {
                    self.connected(index, event.outcome().map(|_| ()), now);
                }
            }
            SEND => {
                slot.sending = false;
                if phase == Phase::Up && live {
                    self.sent(index, event.outcome(), now);
                }
            }
            RECV if phase == Phase::Up && live => match (lease, event.outcome()) {
                (Some(bytes), Ok(_)) => {
                    self.work.recorder().counts().bytes_received += bytes.len() as u64;
                    self.received(index, &bytes, now);
                    if !event.more() && self.slots[index as usize].phase == Phase::Up {
                        self.receive(index);
                    }
                }
                (_, Ok(_)) => {
                    self.end(index, End::Fault(Fault::Closed, "closed by the peer"), now);
                }
                // Out of buffers: they are back by now.
                (_, Err(e)) if e.raw_os_error() == Some(libc::ENOBUFS) => self.receive(index),
                (_, Err(e)) => self.broken(index, &e, now),
            },
            _ => {}
        }
        self.release(index, now);
    }

    fn connected(&mut self, index: u32, result: io::Result<()>, now: Instant) {
        if let Err(e) = result {
            let fault = match e.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Fault::Refused,
                _ => Fault::Unreachable,
            };
            return self.end(index, End::Fault(fault, &e.to_string()), now);
        }
        let began = self.slots[index as usize].began;
        self.work.recorder().time(Verb::Connect, began, now);
        self.work.recorder().counts().connections += 1;
        self.receive(index);
        let slot = &mut self.slots[index as usize];
        if let Some(dialogue) = &mut slot.dialogue {
            let next = dialogue.connected(self.work, now, &mut slot.out);
            self.act(index, next, now);
        }
    }

    fn receive(&mut self, index: u32) {
        let operation = entry::recv_multishot(self.slots[index as usize].fd());
        self.slots[index as usize].receiving = true;
        self.push(index, RECV, operation);
    }

    /// The connection is taken by the server, or will not be: there is room for another.
    fn arrived(&mut self, index: u32) {
        if std::mem::take(&mut self.slots[index as usize].arriving) {
            self.connecting -= 1;
            self.room |= self.connecting == CONNECTING_MAX / 2;
        }
    }

    fn received(&mut self, index: u32, bytes: &[u8], now: Instant) {
        self.arrived(index);
        let slot = &mut self.slots[index as usize];
        if let Some(dialogue) = &mut slot.dialogue {
            let next = dialogue.received(self.work, bytes, now, &mut slot.out);
            self.act(index, next, now);
        }
    }

    fn act(&mut self, index: u32, next: Next, now: Instant) {
        let slot = &mut self.slots[index as usize];
        match next {
            Next::Wait => slot.deadline = Some(now + self.options.timeout),
            Next::Hold => {
                slot.deadline = None;
                self.arrived(index);
            }
            Next::Close | Next::Fail => {
                slot.failed = next == Next::Fail;
                return self.end(index, End::Asked, now);
            }
        }
        self.flush(index);
    }

    fn flush(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.sending || !slot.next_piece() {
            return;
        }
        slot.sending = true;
        let operation = entry::send(slot.fd(), slot.piece());
        self.push(index, SEND, operation);
    }

    fn sent(&mut self, index: u32, outcome: io::Result<u32>, now: Instant) {
        match outcome {
            Ok(bytes) => {
                self.work.recorder().counts().bytes_sent += u64::from(bytes);
                let slot = &mut self.slots[index as usize];
                slot.sent(bytes as usize);
                if slot.deadline.is_some() {
                    slot.deadline = Some(now + self.options.timeout);
                }
                self.flush(index);
            }
            // What the server said before it closed is worth more than our broken send: the
            // receive tells the end.
            Err(_) if self.slots[index as usize].receiving => {}
            Err(e) => self.broken(index, &e, now),
        }
    }

    fn broken(&mut self, index: u32, e: &io::Error, now: Instant) {
        let fault = match e.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Fault::Reset,
            io::ErrorKind::TimedOut => Fault::Timeout,
            _ => Fault::Closed,
        };
        self.end(index, End::Fault(fault, &e.to_string()), now);
    }

    /// The conversation is over; the slot is free when the kernel has let go of it.
    fn end(&mut self, index: u32, end: End<'_>, now: Instant) {
        self.arrived(index);
        let slot = &mut self.slots[index as usize];
        let connecting = slot.phase == Phase::Connecting;
        slot.phase = Phase::Closing;
        if slot.failed || matches!(end, End::Fault(..)) {
            slot.pause = (slot.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        } else {
            slot.pause = Duration::ZERO;
        }
        slot.failed = false;
        if let Some(dialogue) = slot.dialogue.take() {
            dialogue.ended(self.work, end, now);
        }
        if slot.in_flight > 0 {
            let generation = slot.generation;
            let (receiving, sending) = (slot.receiving, slot.sending);
            let kinds = [(CONNECT, connecting), (RECV, receiving), (SEND, sending)];
            for (kind, _) in kinds.into_iter().filter(|(_, in_flight)| *in_flight) {
                let cancel = entry::cancel(pack(kind, generation, index))
                    .user_data(pack(CANCEL, generation, index));
                // SAFETY: a cancellation points to nothing.
                unsafe { self.ring.push(cancel) };
            }
        }
        self.release(index, now);
    }

    /// Frees the slot of an ended conversation once nothing is in flight, and uses it again.
    fn release(&mut self, index: u32, now: Instant) {
        let slot = &mut self.slots[index as usize];
        if slot.phase != Phase::Closing || slot.in_flight > 0 {
            return;
        }
        slot.reset(now);
        if slot.pause.is_zero() && self.connecting < CONNECTING_MAX {
            self.open(index, now);
        }
    }

    /// Ends all conversations, and waits until the kernel holds none of our memory any more.
    fn shut(mut self) -> io::Result<()> {
        let now = Instant::now();
        for slot in &mut self.slots {
            if let Some(dialogue) = slot.dialogue.take() {
                dialogue.ended(self.work, End::Cut, now);
            }
        }
        self.work.recorder().finish();
        if self.in_flight > 0 {
            // SAFETY: a cancellation points to nothing.
            unsafe {
                self.ring
                    .push(entry::cancel_everything().user_data(pack(CANCEL, 0, 0)))
            };
        }
        for slot in &mut self.slots {
            slot.phase = Phase::Finished;
        }
        let mut events = Vec::new();
        while self.in_flight > 0 && now.elapsed() < CLOSING_TIME {
            self.ring.wait(1, Some(SWEEP_EVERY))?;
            events.clear();
            self.ring.reap(&mut events, EVENTS_MAX);
            for event in &events {
                self.handle(event, false);
            }
        }
        if self.in_flight > 0 {
            // The kernel may still read these: they stay for as long as the process does.
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(self.address);
        }
        Ok(())
    }
}
