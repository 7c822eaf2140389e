//! The pump: every change to a connection goes through this one loop.
//!
//! A turn takes completions from the ring, jobs from the mesh and answers from the services, in
//! bounded numbers, lets the shard's tasks run, and parks when nothing is left to do. It awaits
//! nothing but that: no disk, no other shard, no lock. A pump that stays busy gives the other task
//! queues their share every [`YIELD_INTERVAL`].

use std::cell::RefCell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::Shard;
use super::conn::{Conn, ConnKey, Fate, Luggage};
use super::session::Service;
use super::wait::breathe;
use crate::limits;
use crate::mail::Address;
use crate::proto::Event;
use crate::ring::{ARMED_RECV_BYTES, Completion, Token};

/// Completions taken in one turn, so that tasks get their share.
const COMPLETIONS_PER_TURN: usize = 256;
/// A finished batch is followed by the next one before so many completions are looked at, not before
/// more: batches are a tenth larger for it with 200 connections or 50 KiB, and messages/s alike.
const EARLY_MAX: usize = 12;
/// So long a busy pump runs before the queues beside it get their share.
const YIELD_INTERVAL: Duration = Duration::from_micros(500);
/// The pace of completions is measured over so long.
const PACE_WINDOW: Duration = Duration::from_millis(1);
/// A turn waits for about as many completions as come in this time.
const PACE_GATHER: Duration = Duration::from_micros(100);
/// ... and never for more than so many.
const GATHER_MAX: u32 = 32;
/// Completions in that time, at most, of the few clients for whom a shard polls before it sleeps.
const CALM_MAX: u32 = 4;
/// Between two looks at the sessions' deadlines.
const DEADLINE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two tries of an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Marks the tokens of listeners.
const LISTENER_BIT: u64 = 1 << 63;

/// A listening socket of this shard.
pub(crate) struct Listener {
    socket: OwnedFd,
    service: Service,
    armed: bool,
    retry_at: Option<Instant>,
}

struct Place {
    generation: u32,
    conn: Conn,
}

/// Bytes of memory that a connection takes in the table and in the ring, without what is in its session
/// and buffers.
pub(crate) const CONNECTION_BYTES: usize =
    size_of::<Place>() + size_of::<Option<Box<Place>>>() + ARMED_RECV_BYTES;

/// The connections of a shard.
#[derive(Default)]
pub(crate) struct Connections {
    places: RefCell<Slab<Option<Box<Place>>>>,
    generation: std::cell::Cell<u32>,
}

impl Listener {
    /// Not armed yet.
    pub(crate) fn new(service: Service, socket: OwnedFd) -> Listener {
        Listener {
            socket,
            service,
            armed: false,
            retry_at: None,
        }
    }
}

impl Connections {
    /// Connections that are open.
    pub(crate) fn len(&self) -> usize {
        self.places.borrow().len()
    }

    fn insert_with<R>(&self, make: impl FnOnce(ConnKey) -> (Conn, R)) -> (ConnKey, R) {
        // Vacant while `make` runs, so that nothing it calls can find half a connection.
        let index = self.places.borrow_mut().insert(None);
        let generation = self.generation.get().wrapping_add(1) & 0x7fff_ffff;
        self.generation.set(generation);
        let key = ConnKey {
            index: index as u32,
            generation,
        };
        let (conn, extra) = make(key);
        self.places.borrow_mut()[index] = Some(Box::new(Place { generation, conn }));
        (key, extra)
    }

    /// Lets `act` work on a connection that is still there, and sees to what becomes of it.
    fn with(&self, shard: &Rc<Shard>, key: ConnKey, act: impl FnOnce(&mut Conn) -> Fate) {
        let index = key.index as usize;
        let taken = match self.places.borrow_mut().get_mut(index) {
            Some(place)
                if place
                    .as_ref()
                    .is_some_and(|p| p.generation == key.generation) =>
            {
                place.take()
            }
            _ => None,
        };
        let Some(mut place) = taken else { return };
        match act(&mut place.conn) {
            Fate::Stays => self.places.borrow_mut()[index] = Some(place),
            Fate::Gone => {
                self.places.borrow_mut().remove(index);
                shard.connection_ended(key, place.conn.service, true);
            }
            Fate::Moves(owner) => {
                self.places.borrow_mut().remove(index);
                shard.connection_ended(key, place.conn.service, false);
                if let Some(luggage) = place.conn.pack() {
                    send_luggage(shard, owner, luggage);
                }
            }
        }
    }

    fn keys(&self, mut filter: impl FnMut(&Conn) -> bool) -> Vec<ConnKey> {
        let places = self.places.borrow();
        places
            .iter()
            .filter_map(|(index, place)| {
                let place = place.as_ref()?;
                filter(&place.conn).then_some(ConnKey {
                    index: index as u32,
                    generation: place.generation,
                })
            })
            .collect()
    }

    /// Begins or ends the telemetry of an account's connections that are open [N35].
    pub(crate) fn record_user(&self, shard: &Rc<Shard>, address: &Address) {
        for key in super::services::connections_of(shard, address) {
            self.with(shard, key, |conn| conn.record_now(key, shard));
        }
    }

    /// Ends the connections of an account that was removed.
    pub(crate) fn end_removed(&self, shard: &Rc<Shard>, address: &Address) {
        for key in super::services::connections_of_removed(shard, address) {
            self.with(shard, key, |conn| conn.notify(Event::Removed, key, shard));
        }
    }

    fn notify_all(
        &self,
        shard: &Rc<Shard>,
        event: Event,
        filter: impl FnMut(&Conn) -> bool,
    ) -> usize {
        let keys = self.keys(filter);
        for key in &keys {
            self.with(shard, *key, |conn| conn.notify(event, *key, shard));
        }
        keys.len()
    }
}

fn send_luggage(shard: &Rc<Shard>, owner: usize, luggage: Luggage) {
    let home = Rc::clone(shard);
    shard.probe.moved_out.add(1);
    super::spawn(async move {
        let job = Box::new(move |owner: &Rc<Shard>| adopt(owner, luggage));
        home.mesh.send(owner, job).await;
    });
}

/// A connection has moved here.
fn adopt(shard: &Rc<Shard>, luggage: Luggage) {
    shard.connection_began(luggage.service);
    let (key, fate) = shard
        .connections
        .insert_with(|key| Conn::unpack(luggage, key, shard));
    shard.connections.with(shard, key, |_| fate);
}

/// A fresh connection, accepted here or passed on by a shard that has more than its share.
pub(crate) fn adopt_fresh(shard: &Rc<Shard>, service: Service, socket: OwnedFd) {
    let Some(session) = super::services::new_session(shard, service, &socket) else {
        return shard.give_place_back(service);
    };
    shard.connection_began(service);
    let (key, ()) = shard
        .connections
        .insert_with(|_| (Conn::new(socket, service, session), ()));
    shard
        .connections
        .with(shard, key, |conn| conn.greet(key, shard));
}

/// Arms every listener that should be and is not.
fn arm_listeners(shard: &Rc<Shard>, now: Instant) {
    if shard.is_draining() || !shard.doors_open.get() {
        return;
    }
    for (index, listener) in shard.listeners.borrow_mut().iter_mut().enumerate() {
        if !listener.armed && listener.retry_at.is_none_or(|at| at <= now) {
            listener.armed = true;
            listener.retry_at = None;
            shard.ring.accept(
                Token(LISTENER_BIT | index as u64),
                listener.socket.as_raw_fd(),
            );
        }
    }
}

fn accepted(shard: &Rc<Shard>, token: Token, result: std::io::Result<OwnedFd>, more: bool) {
    let index = (token.0 & !LISTENER_BIT) as usize;
    let service = {
        let mut listeners = shard.listeners.borrow_mut();
        let Some(listener) = listeners.get_mut(index) else {
            return;
        };
        listener.armed &= more;
        if let Err(error) = &result
            && error.raw_os_error() != Some(libc::ECANCELED)
        {
            // Most likely EMFILE or ENOBUFS: trying at once would only spin.
            listener.retry_at = Some(Instant::now() + ACCEPT_PAUSE);
            shard.refuse(listener.service, &format!("accept failed: {error}"));
        }
        listener.service
    };
    if let Ok(socket) = result {
        match shard.admit(service, &socket) {
            Err(reason) => {
                shard.refuse(service, reason);
                // Best effort: the line fits the empty socket buffer of a fresh connection.
                let _ = rustix::net::send(
                    &socket,
                    service.busy_line(),
                    rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL,
                );
            }
            Ok(()) => match shard.lighter_shard() {
                None => adopt_fresh(shard, service, socket),
                Some(other) => {
                    let home = Rc::clone(shard);
                    shard.probe.passed_on.add(1);
                    super::spawn(async move {
                        let job = Box::new(move |there: &Rc<Shard>| {
                            adopt_fresh(there, service, socket);
                        });
                        home.mesh.send(other, job).await;
                    });
                }
            },
        }
    }
}

fn dispatch(shard: &Rc<Shard>, completion: Completion) {
    let connections = &shard.connections;
    match completion {
        Completion::Accepted {
            token,
            result,
            more,
        } => accepted(shard, token, result, more),
        Completion::Received {
            token,
            result,
            more,
        } => {
            let key = ConnKey::from_token(token);
            connections.with(shard, key, |conn| conn.received(&result, more, key, shard));
        }
        Completion::Sent {
            token,
            result,
            buffer,
        } => {
            let key = ConnKey::from_token(token);
            connections.with(shard, key, |conn| conn.sent(&result, buffer, key, shard));
        }
    }
}

/// Runs until the shard is told to end. Returns an error only when the ring itself is broken.
pub(crate) async fn run(shard: Rc<Shard>) -> std::io::Result<()> {
    let mut completions = Vec::with_capacity(COMPLETIONS_PER_TURN);
    let mut next_deadlines = Instant::now() + DEADLINE_INTERVAL;
    let mut next_yield = Instant::now() + YIELD_INTERVAL;
    let mut pace = Pace::default();
    loop {
        let mut done = shard.ring.turn(&mut completions, COMPLETIONS_PER_TURN)?;
        if shard.ring.take_woken() && done <= EARLY_MAX {
            // A batch is done: the next one is on its way to the disk before sessions take the
            // processor for what has come meanwhile, whose leases wait for one round of tasks.
            // Where much has come, messages for that batch are among it: it is better full.
            breathe().await;
            shard.ring.submit()?;
        }
        let now = Instant::now();
        shard.now.set(now);
        let want = pace.want(done, now);
        for completion in completions.drain(..) {
            dispatch(&shard, completion);
        }
        done += shard.mesh.receive(&shard);
        // The tasks that all this has woken run now; what they answer is taken in the same turn.
        breathe().await;
        let now = Instant::now();
        shard.now.set(now);
        done += take_answers(&shard);
        if now >= next_deadlines {
            next_deadlines = now + DEADLINE_INTERVAL;
            shard
                .connections
                .notify_all(&shard, Event::Timeout, |conn| conn.overdue(now));
            for key in shard.connections.keys(Conn::is_working) {
                shard
                    .connections
                    .with(&shard, key, |conn| conn.working(key, &shard));
            }
        }
        arm_listeners(&shard, now);
        if shard.has_ended() {
            return Ok(());
        }
        if done == 0 && !shard.has_answers() {
            shard.flush_log(false);
            if !shard.ring.nap(pace.is_calm()).await {
                shard.flush_log(true);
                shard.ring.park().await;
            }
            next_yield = Instant::now() + YIELD_INTERVAL;
        } else if now >= next_yield {
            glommio::executor().yield_task_queue_now().await;
            next_yield = Instant::now() + YIELD_INTERVAL;
        } else if want > 1 && !shard.has_answers() {
            shard.ring.gather(want);
        }
    }
}

/// How fast completions have come lately.
#[derive(Default)]
struct Pace {
    since: Option<Instant>,
    seen: u32,
    want: u32,
}

impl Pace {
    /// Takes note of completions; returns how many the next turn should wait for, 1 unless many
    /// clients are busy.
    fn want(&mut self, done: usize, now: Instant) -> u32 {
        self.seen = self.seen.saturating_add(done as u32);
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= PACE_WINDOW {
            let share = PACE_GATHER.as_secs_f64() / elapsed.as_secs_f64();
            self.want = (f64::from(self.seen) * share) as u32;
            self.since = Some(now);
            self.seen = 0;
        }
        self.want.clamp(1, GATHER_MAX)
    }

    /// So few clients are at work that each waits for us alone: looking for more before sleeping is
    /// worth its time. With many there is always more soon, and the time is another's.
    fn is_calm(&self) -> bool {
        self.want <= CALM_MAX
    }
}

/// Answers of the services first, then who has something to look at: what a session asks for its
/// news is answered at once.
fn take_answers(shard: &Rc<Shard>) -> usize {
    let mut done = 0;
    while let Some((key, answer)) = shard.next_answer() {
        shard
            .connections
            .with(shard, key, |conn| conn.answer(answer, key, shard));
        done += 1;
    }
    while let Some(key) = shard.next_woken() {
        shard
            .connections
            .with(shard, key, |conn| conn.notify(Event::Changed, key, shard));
        done += 1;
    }
    done
}

/// Accepts no more; tells every session to finish.
pub(crate) fn begin_drain(shard: &Rc<Shard>) {
    for (index, listener) in shard.listeners.borrow_mut().iter_mut().enumerate() {
        if listener.armed {
            shard.ring.cancel_accept(Token(LISTENER_BIT | index as u64));
        }
    }
    shard
        .connections
        .notify_all(shard, Event::Shutdown, |_| true);
}

/// Closes what is still open when the time to drain is over.
pub(crate) fn cut_all(shard: &Rc<Shard>) {
    for key in shard.connections.keys(|_| true) {
        shard
            .connections
            .with(shard, key, |conn| conn.cut(key, shard));
    }
}

const _: () = assert!(limits::CONNECTIONS_MAX <= u32::MAX as usize);
