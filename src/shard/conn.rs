//! One connection: a socket, its session, and what waits in either direction.
//!
//! Guarantees: one send in flight, so replies keep their order; the session is fed nothing while
//! an ask is out, its output is at its bound, or it is about to move or close; a panic in a
//! session ends that session only. Input that the session has not taken yet is bounded: at the
//! bound nothing more is received. When its peer is lost a session asks for nothing more: what is
//! being done is carried through, and nothing is begun for somebody who would not learn of it.
//!
//! A connection goes only when nothing names it any more: its receive has had its last
//! completion, its send is done, and no ask is out. The descriptor is closed last.

use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Shard;
use super::probe::AskKind;
use super::pump::CONNECTION_BYTES;
use super::services;
use super::session::{AnyAnswer, AnyAsk, AnySession, Service};
use super::telemetry::Recording;
use crate::limits;
use crate::proto::transcript::Noting;
use crate::proto::{Event, Session, Step};
use crate::ring::Token;

/// Bytes of input that may wait for a session: one more receive always fits above it.
const INPUT_BYTES_MAX: usize = 4 * limits::RECV_BUFFER_BYTES;

/// Names a connection of this shard; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnKey {
    /// Place in the shard's table.
    pub(crate) index: u32,
    /// Which user of that place.
    pub(crate) generation: u32,
}

/// Set in the index of a key that is no connection's.
const GUEST: u32 = 1 << 31;
const _: () = assert!(limits::CONNECTIONS_MAX < GUEST as usize);

impl ConnKey {
    /// The key of a guest: of somebody whose connection is elsewhere.
    pub(crate) fn of_guest(number: u64) -> ConnKey {
        ConnKey {
            index: number as u32 | GUEST,
            // As many bits as a token keeps.
            generation: (number >> 31) as u32 & 0x7fff_ffff,
        }
    }

    /// No connection of this shard has this key.
    pub(crate) fn is_guest(self) -> bool {
        self.index & GUEST != 0
    }

    /// As ring token; the top bit is left to listeners.
    pub(crate) fn token(self) -> Token {
        Token(u64::from(self.generation & 0x7fff_ffff) << 32 | u64::from(self.index))
    }

    /// Back from a token.
    pub(crate) fn from_token(token: Token) -> ConnKey {
        ConnKey {
            index: token.0 as u32,
            generation: (token.0 >> 32) as u32,
        }
    }
}

/// What became of a connection after something happened to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays.
    Stays,
    /// Nothing names it any more: drop it.
    Gone,
    /// Nothing names it any more here: take it out and give it to this shard.
    Moves(usize),
}

/// A connection that is on its way to another shard, with the ask that made it move.
pub(crate) struct Luggage {
    pub(crate) socket: OwnedFd,
    pub(crate) service: Service,
    pub(crate) session: AnySession,
    pub(crate) input: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) ask: AnyAsk,
}

/// One connection.
pub(crate) struct Conn {
    socket: OwnedFd,
    pub(crate) service: Service,
    session: AnySession,
    /// Received, not yet taken by the session.
    input: Vec<u8>,
    /// Written by the session, not yet sent.
    out: Vec<u8>,
    /// A receive is armed.
    receiving: bool,
    /// ... and its cancellation is under way.
    cancelling: bool,
    sending: bool,
    /// Bytes of the buffer that is being sent.
    sending_bytes: u32,
    /// Bytes that the shard has counted for this connection.
    held_bytes: u32,
    asking: bool,
    /// The peer will send nothing more, or nobody is there to read.
    ended: bool,
    /// The session waits for its output to be sent.
    draining: bool,
    /// Ends as soon as the output is sent.
    closing: bool,
    moving: Option<Box<(usize, AnyAsk)>>,
    /// The ask that is out, and since when.
    asked: (AskKind, Instant),
    /// What is said goes to a file [N35].
    recording: Option<Box<Recording>>,
}

impl Conn {
    /// A fresh connection; call [`Conn::greet`] next.
    pub(crate) fn new(socket: OwnedFd, service: Service, session: AnySession) -> Conn {
        Conn {
            socket,
            service,
            session,
            input: Vec::new(),
            out: Vec::new(),
            receiving: false,
            cancelling: false,
            sending: false,
            sending_bytes: 0,
            held_bytes: 0,
            asking: false,
            ended: false,
            draining: false,
            closing: false,
            moving: None,
            asked: (AskKind::Http, Instant::now()),
            recording: None,
        }
    }

    /// Unpacks a connection that has moved here and goes on with the ask it brought.
    pub(crate) fn unpack(luggage: Luggage, key: ConnKey, shard: &Rc<Shard>) -> (Conn, Fate) {
        let mut conn = Conn::new(luggage.socket, luggage.service, luggage.session);
        conn.input = luggage.input;
        conn.ended = luggage.ended;
        conn.take_step(Step::Ask(luggage.ask), key, shard, shard.now());
        conn.run(&[], key, shard);
        let fate = conn.settle(key, shard);
        (conn, fate)
    }

    /// Packs a connection whose fate is [`Fate::Moves`].
    pub(crate) fn pack(self) -> Option<Luggage> {
        let (_, ask) = *self.moving?;
        Some(Luggage {
            socket: self.socket,
            service: self.service,
            session: self.session,
            input: self.input,
            ended: self.ended,
            ask,
        })
    }

    /// Speaks first.
    pub(crate) fn greet(&mut self, key: ConnKey, shard: &Rc<Shard>) -> Fate {
        self.borrow_buffer(shard);
        let now = shard.now();
        let step = guarded(|| self.session.greet(now, &mut self.out));
        self.take_step(step, key, shard, now);
        self.settle(key, shard)
    }

    /// Bytes have come; none: the peer has shut its side.
    pub(crate) fn received(
        &mut self,
        result: &std::io::Result<crate::ring::Lease>,
        more: bool,
        key: ConnKey,
        shard: &Rc<Shard>,
    ) -> Fate {
        if !more {
            self.receiving = false;
            self.cancelling = false;
        }
        self.borrow_buffer(shard);
        match result {
            Ok(bytes) if bytes.is_empty() => self.ended = true,
            Ok(bytes) => self.run(bytes, key, shard),
            Err(error) => match error.raw_os_error() {
                Some(libc::ECANCELED | libc::ENOBUFS) => {}
                _ => self.lost(),
            },
        }
        self.settle(key, shard)
    }

    /// The send in flight is done.
    pub(crate) fn sent(
        &mut self,
        result: &std::io::Result<usize>,
        mut buffer: Vec<u8>,
        key: ConnKey,
        shard: &Rc<Shard>,
    ) -> Fate {
        self.sending = false;
        self.sending_bytes = 0;
        if result.is_err() {
            self.lost();
        }
        buffer.clear();
        shard.spare(buffer);
        self.borrow_buffer(shard);
        if self.draining && self.out.is_empty() {
            self.draining = false;
            let now = shard.now();
            if self.may_feed() {
                let step = guarded(|| self.session.feed(&[], now, &mut self.out).1);
                self.take_step(step, key, shard, now);
            }
            self.run(&[], key, shard);
        }
        self.settle(key, shard)
    }

    /// The answer to the ask that is out.
    pub(crate) fn answer(&mut self, answer: AnyAnswer, key: ConnKey, shard: &Rc<Shard>) -> Fate {
        self.borrow_buffer(shard);
        let now = shard.now();
        self.asking = false;
        let (kind, since) = self.asked;
        shard.probe.asks[kind as usize].record(now - since);
        if self.closing {
            // Nobody is there any more: the session must not go on with what comes next.
            return self.settle(key, shard);
        }
        if is_login(kind) {
            self.record_if_wanted(key, shard);
        }
        let step = guarded(|| self.session.answer(answer, now, &mut self.out));
        self.take_step(step, key, shard, now);
        self.run(&[], key, shard);
        self.settle(key, shard)
    }

    /// Begins or ends the telemetry of this connection, as its account wants it [N35].
    pub(crate) fn record_if_wanted(&mut self, key: ConnKey, shard: &Rc<Shard>) {
        self.hand_over_said();
        let user = services::user_of(shard, key);
        let wanted = user.as_ref().filter(|user| shard.wants_telemetry(user));
        let known = self.recording.as_ref().map(|recording| recording.address());
        if wanted.is_some() && wanted == known {
            return;
        }
        self.session.record(match (&user, wanted) {
            (None, _) => Noting::Login,
            (Some(_), None) => Noting::Nothing,
            (Some(_), Some(_)) => Noting::Everything,
        });
        self.recording = wanted.map(|user| {
            let data = &shard.config.data;
            Box::new(Recording::new(data, user, self.service, shard.id))
        });
    }

    /// The same between two turns.
    pub(crate) fn record_now(&mut self, key: ConnKey, shard: &Rc<Shard>) -> Fate {
        self.record_if_wanted(key, shard);
        self.settle(key, shard)
    }

    /// What was said in this turn goes to its file.
    fn hand_over_said(&mut self) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let goes_on = match self.session.take_said() {
            Some(said) => recording.write(&said),
            None => false,
        };
        if !goes_on {
            self.session.record(Noting::Nothing);
            self.recording = None;
        }
    }

    /// Shutdown, or a time-out.
    pub(crate) fn notify(&mut self, event: Event, key: ConnKey, shard: &Rc<Shard>) -> Fate {
        if !self.closing {
            self.borrow_buffer(shard);
            let now = shard.now();
            let step = guarded(|| self.session.notify(event, now, &mut self.out));
            self.take_step(step, key, shard, now);
            if event == Event::Timeout && self.closing && self.sending {
                // The peer does not read either: what waits will never be taken.
                self.lost();
            }
        } else if event == Event::Timeout {
            self.lost();
        }
        self.settle(key, shard)
    }

    /// The session has been waiting for an answer: it may say something to its client, if that has
    /// taken all that was said before.
    pub(crate) fn working(&mut self, key: ConnKey, shard: &Rc<Shard>) -> Fate {
        self.borrow_buffer(shard);
        let now = shard.now();
        let step = guarded(|| {
            self.session.working(now, &mut self.out);
            Step::NeedInput
        });
        self.take_step(step, key, shard, now);
        self.settle(key, shard)
    }

    /// An ask is out, and nothing waits to be sent.
    pub(crate) fn is_working(&self) -> bool {
        self.asking && self.out.is_empty() && !(self.sending || self.closing || self.ended)
    }

    /// Closes without another word; an ask that is out is still carried through, the next is not.
    pub(crate) fn cut(&mut self, key: ConnKey, shard: &Rc<Shard>) -> Fate {
        self.lost();
        self.settle(key, shard)
    }

    /// The session's deadline, unless the shard itself keeps it waiting.
    pub(crate) fn overdue(&self, now: Instant) -> bool {
        !self.asking && self.session.deadline().is_some_and(|at| at <= now)
    }

    /// A place for what the session writes, used before if there is one. It goes back when nothing
    /// is written: a connection that waits for its client holds none.
    fn borrow_buffer(&mut self, shard: &Shard) {
        if self.out.capacity() == 0 {
            self.out = shard.fresh_buffer();
        }
    }

    fn may_feed(&self) -> bool {
        !(self.asking || self.draining || self.closing || self.moving.is_some())
    }

    fn lost(&mut self) {
        self.ended = true;
        self.closing = true;
        self.draining = false;
        self.out = Vec::new();
        self.input = Vec::new();
        if self.sending {
            // A peer that does not read would keep the send, and so this connection, for ever.
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        }
    }

    /// Feeds what waits and what has just come, as far as the session takes it.
    fn run(&mut self, fresh: &[u8], key: ConnKey, shard: &Rc<Shard>) {
        let mut waiting = std::mem::take(&mut self.input);
        let direct = waiting.is_empty();
        if !direct {
            waiting.extend_from_slice(fresh);
        }
        let bytes: &[u8] = if direct { fresh } else { &waiting };
        let mut used = 0;
        let now = shard.now();
        while used < bytes.len() && self.may_feed() {
            let mut taken = 0;
            let step = guarded(|| {
                let (count, step) = self.session.feed(&bytes[used..], now, &mut self.out);
                taken = count;
                step
            });
            used += taken;
            let stuck = taken == 0 && matches!(step, Step::NeedInput);
            self.take_step(step, key, shard, now);
            if stuck {
                break;
            }
        }
        if self.closing {
            return;
        }
        if direct {
            self.input.extend_from_slice(&bytes[used..]);
        } else if used < waiting.len() {
            waiting.drain(..used);
            self.input = waiting;
        }
    }

    /// Does what the session asks for, until it wants input or must wait.
    fn take_step(&mut self, step: Step<AnyAsk>, key: ConnKey, shard: &Rc<Shard>, now: Instant) {
        let mut step = step;
        loop {
            match step {
                Step::NeedInput => return,
                Step::Drain => {
                    self.draining = true;
                    return;
                }
                Step::Close => {
                    self.closing = true;
                    return;
                }
                Step::Ask(ask) => {
                    self.asked = (ask.kind(), now);
                    match services::ask(shard, key, ask) {
                        services::Asked::Answer(answer) => {
                            shard.probe.asks[self.asked.0 as usize].record(Duration::ZERO);
                            if is_login(self.asked.0) {
                                self.record_if_wanted(key, shard);
                            }
                            step = guarded(|| self.session.answer(answer, now, &mut self.out));
                        }
                        services::Asked::Later => {
                            self.asking = true;
                            return;
                        }
                        services::Asked::Elsewhere(owner, ask) => {
                            self.moving = Some(Box::new((owner, ask)));
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Tells the shard what this connection holds now. At the shard's bound, whoever takes more
    /// gives up the message that is coming in.
    fn count_memory(&mut self, shard: &Rc<Shard>) {
        let buffers = self.input.capacity() + self.out.capacity() + self.sending_bytes as usize;
        let held = (CONNECTION_BYTES + buffers + self.session.held_bytes()) as u32;
        let grown = i64::from(held) - i64::from(self.held_bytes);
        if grown == 0 {
            return;
        }
        self.held_bytes = held;
        shard.memory_in_flight(grown);
        if grown > 0 && shard.memory_is_short(0) && self.session.shed() {
            shard.probe.memory_refusals.add(1);
            self.count_memory(shard);
        }
    }

    /// Sends what can be sent, arms or disarms the receive, and tells what becomes of it.
    fn settle(&mut self, key: ConnKey, shard: &Rc<Shard>) -> Fate {
        self.hand_over_said();
        if self.draining && self.out.is_empty() && !self.sending {
            // Nothing to wait for: the session is fed again at once.
            self.draining = false;
        }
        if self.ended && !self.asking && self.moving.is_none() && !self.draining {
            self.closing = true;
        }
        if !self.sending && !self.out.is_empty() {
            let bytes = std::mem::take(&mut self.out);
            self.sending = true;
            self.sending_bytes = bytes.capacity() as u32;
            shard.ring.send(key.token(), self.socket.as_raw_fd(), bytes);
        }
        if self.out.is_empty() && self.out.capacity() > 0 {
            shard.spare(std::mem::take(&mut self.out));
        }
        self.count_memory(shard);
        let quiet = !self.sending && self.out.is_empty() && !self.asking;
        let leaves = quiet && (self.closing || self.moving.is_some());
        let full = self.input.len() >= INPUT_BYTES_MAX;
        if leaves || full {
            if self.receiving && !self.cancelling {
                self.cancelling = true;
                shard.ring.cancel_recv(key.token());
            }
        } else if !self.receiving && !self.ended && !self.closing {
            self.receiving = true;
            shard.ring.recv(key.token(), self.socket.as_raw_fd());
        }
        if leaves && !self.receiving {
            shard.memory_in_flight(-i64::from(std::mem::take(&mut self.held_bytes)));
            return match &self.moving {
                Some(moving) if !self.closing => Fate::Moves(moving.0),
                _ => Fate::Gone,
            };
        }
        Fate::Stays
    }
}

fn is_login(kind: AskKind) -> bool {
    matches!(kind, AskKind::Login | AskKind::ImapLogin)
}

/// Runs a piece of a session; a panic ends the session, not the shard.
fn guarded(work: impl FnOnce() -> Step<AnyAsk>) -> Step<AnyAsk> {
    super::panics::in_session(|| catch_unwind(AssertUnwindSafe(work))).unwrap_or_else(|_| {
        tracing::error!("a session panicked and was ended; the rest of the server goes on");
        Step::Close
    })
}
