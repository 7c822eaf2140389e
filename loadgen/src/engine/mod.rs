//! Moves bytes between connections and their dialogues: one thread, one io_uring.
//!
//! Guarantees: one enter per turn, whatever it has to submit and reap; one send in flight per
//! connection; a connection that is silent for longer than the time-out is closed and told so;
//! broken connections are opened again after a pause that doubles up to a second.
//! Does not know: protocols, messages, what is measured.
//! On failure: every fault of a connection goes to its dialogue; only a ring that cannot be made or
//! used ends the run.

mod agenda;
mod slot;
mod timers;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use ringpost::ring::raw::{Event, Setup, Uring, entry, pack, unpack};

use crate::dialogue::{Dialogue, End, Next, Work as _};
use crate::recorder::{Fault, Verb};
use crate::target::Target;
use slot::{Alarm, Phase, Slot, Spare};
use timers::Timers;

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
    /// From one connection's first opening to the next one's: zero for all at once.
    pub stagger: Duration,
    /// Connections are opened although nothing is due.
    pub open_all: bool,
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
/// How often the work has its tick, and how soon the end of the run is noticed.
const TICK_EVERY: Duration = Duration::from_millis(20);
/// The first pause before a broken connection is opened again, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The shortest sleep of a dialogue.
const SLEEP_MIN: Duration = Duration::from_micros(1);
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
    spare: Spare,
    timers: Timers,
    /// Connections that wait for an operation; some may have become something else meanwhile. The
    /// one that has waited longest is taken: so all parts of the server have their share of the
    /// load, no connection runs into the server's time-out for idle ones while others do all the
    /// work, and nothing is flattered by caches that are still warm.
    idle: VecDeque<u32>,
    /// Slots that may be opened.
    closed: VecDeque<u32>,
    /// An idle connection or a closed slot has something to do then.
    due: Option<Instant>,
    /// The clock was read then.
    now: Instant,
    /// Slots with `arriving` set, and when there was last no room for another.
    connecting: u32,
    no_room: Instant,
    /// Source addresses that had no free port any more.
    source: u32,
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
    // Without it the kernel may let a time-out come 50 µs late; and if it refuses, it does.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let now = Instant::now();
    let mut engine = Engine::<D> {
        options,
        work,
        address: Box::new(address),
        ring,
        slots: (0..options.connections).map(|_| Slot::new(now)).collect(),
        spare: Spare::default(),
        timers: Timers::new(options.connections),
        idle: VecDeque::new(),
        closed: VecDeque::new(),
        due: None,
        now,
        connecting: 0,
        no_room: now,
        source: 0,
        finished: 0,
        in_flight: 0,
    };
    for index in 0..options.connections {
        let at = now + options.stagger * (options.first_connection + index);
        engine.alarm(index, Alarm::Open(at));
    }
    let result = engine.turns().map_err(explain);
    let failure = engine.work.failure();
    engine.shut().map_err(explain)?;
    result.and(failure.map_or(Ok(()), Err))
}

impl<D: Dialogue> Engine<'_, D> {
    fn turns(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut tick_at = Instant::now();
        loop {
            let now = Instant::now();
            self.now = now;
            if now >= tick_at {
                self.work.tick(now);
                if self.work.is_cut(now) || self.work.failure().is_some() {
                    return Ok(());
                }
                tick_at = now + TICK_EVERY;
            }
            self.ring_alarms(now);
            self.dispatch(now);
            if self.finished == self.options.connections {
                return Ok(());
            }
            let until = [Some(tick_at), self.due, self.timers.next()];
            let until = until.into_iter().flatten().min().unwrap_or(tick_at);
            let left = until.saturating_duration_since(Instant::now());
            self.ring.wait(1, Some(left))?;
            let full = self.ring.has_queued();
            let effort = self.work.recorder().effort();
            effort.turns += 1;
            effort.turns_full += u64::from(full);
            events.clear();
            self.ring.reap(&mut events, EVENTS_MAX);
            for event in &events {
                self.handle(event, true);
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
        // That a send is done says nothing about the server: the time of what came before will do.
        if kind != SEND {
            self.now = Instant::now();
        }
        let now = self.now;
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
                    self.arrived(index, now);
                    self.speak(index, now, |dialogue, work, out| {
                        dialogue.received(work, &bytes, now, out)
                    });
                    if !event.more() && self.slots[index as usize].phase == Phase::Up {
                        self.receive(index);
                    }
                }
                (_, Ok(_)) => {
                    self.end(index, End::Fault(Fault::Closed, "closed by the peer"), now);
                }
                // Out of buffers: they are back by now.
                (_, Err(e)) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.work.recorder().effort().buffers_lacked += 1;
                    self.receive(index);
                }
                (_, Err(e)) => self.broken(index, &e, now),
            },
            _ => {}
        }
        self.release(index, now);
    }

    fn connected(&mut self, index: u32, result: io::Result<()>, now: Instant) {
        if let Err(e) = result {
            if self.next_source(index, &e) {
                return self.connect(index, now);
            }
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
        self.speak(index, now, |dialogue, work, out| {
            dialogue.connected(work, now, out)
        });
    }

    fn receive(&mut self, index: u32) {
        let operation = entry::recv_multishot(self.slots[index as usize].fd());
        self.slots[index as usize].receiving = true;
        self.push(index, RECV, operation);
    }

    /// The connection is taken by the server, or will not be: there is room for another.
    fn arrived(&mut self, index: u32, now: Instant) {
        if std::mem::take(&mut self.slots[index as usize].arriving) {
            if self.connecting == CONNECTING_MAX {
                self.no_room = now;
            }
            self.connecting -= 1;
        }
    }

    /// Lets the dialogue do something, and does what it wants next.
    fn speak(
        &mut self,
        index: u32,
        now: Instant,
        what: impl FnOnce(&mut D, &mut D::Work, &mut Vec<u8>) -> Next,
    ) {
        let mut out = self.spare.take();
        let slot = &mut self.slots[index as usize];
        let Some(dialogue) = &mut slot.dialogue else {
            return self.spare.give(out);
        };
        let next = what(dialogue, self.work, &mut out);
        slot.queue(out, &mut self.spare);
        slot.idle = next == Next::Idle;
        match next {
            Next::Wait => self.alarm(index, Alarm::Silence(now + self.options.timeout)),
            Next::Hold => self.alarm(index, Alarm::None),
            // Later than now in any case, or two that know no rest would hold up all others.
            Next::Sleep(at) => self.alarm(index, Alarm::Wake(at.max(now + SLEEP_MIN))),
            Next::Idle => {
                self.alarm(index, Alarm::None);
                let slot = &mut self.slots[index as usize];
                slot.free_since = now;
                if !std::mem::replace(&mut slot.listed, true) {
                    self.idle.push_back(index);
                }
            }
            Next::Close | Next::Fail => {
                self.slots[index as usize].failed = next == Next::Fail;
                return self.end(index, End::Asked, now);
            }
        }
        if next != Next::Wait {
            self.arrived(index, now);
        }
        self.flush(index);
    }

    fn flush(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.sending || !slot.next_piece(&mut self.spare) {
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
                if matches!(slot.alarm, Alarm::Silence(_)) {
                    slot.alarm = Alarm::Silence(now + self.options.timeout);
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
        self.arrived(index, now);
        let slot = &mut self.slots[index as usize];
        let connecting = slot.phase == Phase::Connecting;
        slot.phase = Phase::Closing;
        slot.alarm = Alarm::None;
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
        slot.reset(&mut self.spare);
        slot.free_since = now;
        if slot.pause.is_zero() {
            self.closed.push_back(index);
        } else {
            let at = now + slot.pause;
            self.alarm(index, Alarm::Open(at));
        }
    }

    /// Ends all conversations, and waits until the kernel holds none of our memory any more.
    fn shut(mut self) -> io::Result<()> {
        let now = Instant::now();
        self.work.tick(now);
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
            self.ring.wait(1, Some(TICK_EVERY))?;
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
