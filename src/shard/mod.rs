//! Owns everything and moves the bytes: the one place where floors 2 to 4 meet.
//!
//! A shard is one pinned executor with one ring. It owns its connections, its partitions and its
//! queue; nobody else touches them. What it needs of another shard it asks through the mesh.
//!
//! ```text
//! start      from the configuration to running shards, and back; signals
//! life       a shard from its ring and its recovery to its end
//! pump       the loop: completions, jobs, answers
//! conn       one connection
//! session    one type for the sessions of all services
//! services   finds the answers: recipients, deliveries, maildrops, mailboxes, admin
//! mesh       jobs between shards
//! line       how a line of the log is written
//! telemetry  what users say and hear, to files
//! wait       waiting among the tasks of one shard
//! ```
//!
//! Sessions and deliveries share one task queue: both are short, both are what a client waits
//! for, and a delivery that had to wait for the sessions' queue to run dry would hold up the very
//! clients that keep it busy. Local delivery has its own bound instead
//! (`--delivery-processors`, [C1]). The durable queue shares the background's task queue, with a
//! small share: what waits there has been put off already, and most of an attempt runs at its
//! partition, in the commit loop that all deliveries share.

mod backend;
mod conn;
mod life;
mod line;
mod logging;
mod maillog;
mod mesh;
mod panics;
mod probe;
mod pump;
mod services;
mod session;
mod signals;
mod start;
mod telemetry;
mod wait;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::Config;
use crate::directory::{AuthCache, Site, Verifier};
use crate::limits;
use crate::mail::Address;
use crate::net::DescriptorBudget;
use crate::proto::{imap, pop3, smtp};
use crate::queue::Queue;
use crate::ring::Ring;
use crate::store::layout::Layout;
use crate::store::real::RealDisk;
use crate::store::{Partition, StoreError};

use conn::ConnKey;
use mesh::Mesh;
use session::{AnyAnswer, Service};

pub use backend::Shards;
pub use start::{ServeError, serve, with_store};

/// Spare output buffers kept per shard.
const SPARE_BUFFERS_MAX: usize = 256;
/// A buffer that has grown beyond this is given back instead of kept.
const SPARE_BUFFER_BYTES_MAX: usize = 4096;
/// A shard with this many more connections than its even share passes fresh ones on.
const IMBALANCE_MIN: usize = 8;

/// The settings that sessions share, made once.
struct SessionSettings {
    smtp: Arc<smtp::Settings>,
    lmtp: Arc<smtp::Settings>,
    /// Made anew when the site is known: a bare user name needs its default domain.
    pop3: RefCell<Arc<pop3::Settings>>,
    /// As `pop3`.
    imap: RefCell<Arc<imap::Settings>>,
}

/// The few numbers that shards publish to each other: loads and counts for admission, each a
/// plain number written by its owner, none of them a lock.
struct Published {
    /// Connections per shard.
    connections: Vec<AtomicUsize>,
    /// Sessions per service, all shards together, from their admission to their end [N18].
    sessions: [AtomicU32; Service::ALL.len()],
    descriptors: DescriptorBudget,
}

/// A partition as the shards have it.
pub(crate) type LocalPartition = Partition<RealDisk>;

/// One shard. Everything in it belongs to one thread.
pub(crate) struct Shard {
    pub(crate) id: usize,
    pub(crate) config: Arc<Config>,
    pub(crate) ring: Ring,
    pub(crate) mesh: Mesh,
    pub(crate) probe: probe::Probe,
    pub(crate) connections: pump::Connections,
    pub(crate) listeners: RefCell<Vec<pump::Listener>>,
    pub(crate) delivery: wait::Permits,
    /// An operator's requests are done one at a time.
    pub(crate) control: wait::Permits,
    pub(crate) recipients: services::RecipientCache,
    pub(crate) maildrops: services::Maildrops,
    pub(crate) desks: services::Desks,
    pub(crate) streams: services::Streams,
    pub(crate) auth_cache: RefCell<AuthCache>,
    pub(crate) verifier: Verifier,
    pub(crate) queue: OnceCell<Queue<RealDisk>>,
    session_settings: SessionSettings,
    published: Arc<Published>,
    layout: Arc<Layout>,
    /// `None`: a command has opened the store while no server runs.
    running: Option<Arc<backend::Running>>,
    /// By number; `None`: another shard's.
    partitions: RefCell<Vec<Option<Rc<LocalPartition>>>>,
    /// The site log, at shard 0.
    site_log: OnceCell<Rc<LocalPartition>>,
    site: RefCell<Arc<Site>>,
    answers: RefCell<VecDeque<(ConnKey, AnyAnswer)>>,
    /// Sessions that have something to look at.
    woken: RefCell<VecDeque<ConnKey>>,
    spare_buffers: RefCell<Vec<Vec<u8>>>,
    in_flight_bytes: Cell<i64>,
    /// The time, as of the pump's turn.
    now: Cell<Instant>,
    queue_ids: Cell<u64>,
    background: OnceCell<glommio::TaskQueueHandle>,
    /// Listeners may be armed.
    doors_open: Cell<bool>,
    /// It is the hour of `--expire-start`.
    expire_due: Cell<bool>,
    draining: Cell<bool>,
    ended: Cell<bool>,
    /// How closing the partitions went.
    closed: Cell<Option<Result<(), String>>>,
    reports: Sender<(usize, life::Report)>,
}

/// Bytes that count as held, see [`Shard::hold_memory`].
pub(crate) struct HeldMemory {
    shard: Rc<Shard>,
    bytes: i64,
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.shard.memory_in_flight(-self.bytes);
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |elapsed| elapsed.as_millis() as u64)
}

/// Runs a task beside the one that calls, in the same task queue.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

/// Waits without holding anything up.
pub(crate) async fn sleep(time: Duration) {
    glommio::timer::sleep(time).await;
}

impl Shard {
    /// The partition of an account's address, which is canonical.
    pub(crate) fn partition_of(&self, address: &Address) -> u16 {
        self.layout.partition_of(address)
    }

    /// The shard that owns a partition.
    pub(crate) fn owner_of(&self, partition: u16) -> usize {
        usize::from(partition) % self.mesh.shards()
    }

    /// What this account says and hears is to be written down [N35]. Its partition is here.
    pub(crate) fn wants_telemetry(&self, address: &Address) -> bool {
        let partition = self.partition(self.partition_of(address));
        partition
            .is_some_and(|partition| partition.value(address, None, telemetry::VALUE).is_some())
    }

    /// A partition of this shard.
    pub(crate) fn partition(&self, number: u16) -> Option<Rc<LocalPartition>> {
        self.partitions
            .borrow()
            .get(usize::from(number))
            .and_then(Clone::clone)
    }

    /// The partitions of this shard with their numbers.
    pub(crate) fn own_partitions(&self) -> Vec<(u16, Rc<LocalPartition>)> {
        let partitions = self.partitions.borrow();
        (0u16..)
            .zip(partitions.iter())
            .filter_map(|(number, partition)| Some((number, Rc::clone(partition.as_ref()?))))
            .collect()
    }

    /// The logs of this shard that hold no mailboxes, by name: shard 0 has the site's and the queue.
    pub(crate) fn other_logs(&self) -> Vec<(&'static str, Rc<LocalPartition>)> {
        let site = self.site_log.get().map(|log| ("site", Rc::clone(log)));
        let queue = self.queue.get();
        let queue = queue.map(|queue| ("queue", Rc::clone(queue.partition())));
        site.into_iter().chain(queue).collect()
    }

    /// Runs `work` on a partition, wherever it is.
    pub(crate) async fn on_partition<T, F>(
        self: &Rc<Self>,
        number: u16,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(Rc<LocalPartition>) -> Result<T, StoreError> + Send + 'static,
    {
        if let Some(partition) = self.partition(number) {
            return work(partition).await;
        }
        self.mesh
            .call(
                self,
                self.owner_of(number),
                async move |owner| match owner.partition(number) {
                    Some(partition) => work(partition).await,
                    None => Err(StoreError::Closing),
                },
            )
            .await
    }

    /// This shard's snapshot of the site log.
    pub(crate) fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.borrow())
    }

    /// Replaces the snapshot. Sessions from now on complete bare user names by its default domain.
    pub(crate) fn set_site(&self, site: Arc<Site>) {
        let default = site
            .default_domain(self.config.default_domain.as_deref())
            .unwrap_or_default();
        let mut settings = self.session_settings.pop3.borrow_mut();
        if settings.default_domain != default {
            let mut changed = pop3::Settings::clone(&settings);
            changed.default_domain = default.to_owned();
            *settings = Arc::new(changed);
        }
        let mut settings = self.session_settings.imap.borrow_mut();
        if settings.default_domain != default {
            let mut changed = imap::Settings::clone(&settings);
            changed.default_domain = default.to_owned();
            *settings = Arc::new(changed);
        }
        self.site.replace(site);
    }

    /// Gives a connection its answer; the pump takes it in its next turn.
    pub(crate) fn answer(&self, key: ConnKey, answer: AnyAnswer) {
        self.answers.borrow_mut().push_back((key, answer));
        self.ring.nudge();
    }

    fn next_answer(&self) -> Option<(ConnKey, AnyAnswer)> {
        self.answers.borrow_mut().pop_front()
    }

    fn has_answers(&self) -> bool {
        !self.answers.borrow().is_empty() || !self.woken.borrow().is_empty()
    }

    /// Tells a session that something has changed in what it has open; the pump does it in its next
    /// turn.
    pub(crate) fn wake_session(&self, key: ConnKey) {
        self.woken.borrow_mut().push_back(key);
        self.ring.nudge();
    }

    fn next_woken(&self) -> Option<ConnKey> {
        self.woken.borrow_mut().pop_front()
    }

    /// An empty buffer, used before if there is one.
    fn fresh_buffer(&self) -> Vec<u8> {
        self.spare_buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps an empty buffer for the next.
    fn spare(&self, buffer: Vec<u8>) {
        let mut spares = self.spare_buffers.borrow_mut();
        let fits = (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if fits && spares.len() < SPARE_BUFFERS_MAX {
            spares.push(buffer);
        }
    }

    /// A name for a message that no other message of this store has: time, shard, counter.
    pub(crate) fn next_queue_id(&self) -> String {
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        // Microseconds, but always past the last one given: 51 bits of time, 9 of shard.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let time_us = since.map_or(0, |elapsed| elapsed.as_micros() as u64);
        let time_us = time_us.max(self.queue_ids.get() + 1);
        self.queue_ids.set(time_us);
        let mut rest = time_us << 9 | self.id as u64;
        let mut text = [0u8; 12];
        for place in text.iter_mut().rev() {
            *place = DIGITS[(rest & 31) as usize];
            rest >>= 5;
        }
        text.iter().map(|digit| char::from(*digit)).collect()
    }

    /// The time: right at the start of the pump's turn, at most a turn old after that. Asking the
    /// system for every connection that a turn deals with costs more than it tells.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Counts bytes that sessions hold, and bodies on their way to the store.
    pub(crate) fn memory_in_flight(&self, bytes: i64) {
        let held = self.in_flight_bytes.get() + bytes;
        self.in_flight_bytes.set(held);
        if held > self.probe.memory_most.get() {
            self.probe.memory_most.set(held);
        }
    }

    /// Counts bytes as long as what it returns lives.
    pub(crate) fn hold_memory(self: &Rc<Self>, bytes: usize) -> HeldMemory {
        let bytes = bytes as i64;
        self.memory_in_flight(bytes);
        HeldMemory {
            shard: Rc::clone(self),
            bytes,
        }
    }

    /// Bytes counted by [`Shard::memory_in_flight`].
    pub(crate) fn memory_held(&self) -> i64 {
        self.in_flight_bytes.get()
    }

    /// A message of this size does not fit in what a shard may hold at once.
    pub(crate) fn memory_is_short(&self, declared_bytes: u64) -> bool {
        let inline = declared_bytes.min(limits::BODY_INLINE_BYTES_MAX as u64);
        let held = u64::try_from(self.in_flight_bytes.get()).unwrap_or(0);
        held + inline > self.config.shard_memory_bytes_max
    }

    // Connections and admission.

    /// Takes a fresh connection of this service in, if that may be: it counts as a session until
    /// [`Shard::give_place_back`], wherever it goes.
    fn admit(&self, service: Service, socket: &OwnedFd) -> Result<(), &'static str> {
        if !self.published.descriptors.allows(socket.as_fd()) {
            return Err("close to the descriptor limit [C6]");
        }
        let max = match service {
            Service::Smtp => self.config.smtp_sessions_max,
            Service::Lmtp => self.config.lmtp_sessions_max,
            Service::Pop3 => self.config.pop3_sessions_max,
            Service::Imap => self.config.imap_sessions_max,
            Service::Http | Service::Control => u32::MAX,
        };
        if self.memory_is_short(0) && !matches!(service, Service::Http | Service::Control) {
            self.probe.memory_refusals.add(1);
            return Err("as much memory in use as --memory-max allows");
        }
        // Counted here and not where it is served: many are on their way between shards at once.
        let sessions = &self.published.sessions[service.index()];
        let take = |open: u32| (open < max).then_some(open + 1);
        let is_full = self.connections.len() >= limits::CONNECTIONS_MAX;
        let order = Ordering::Relaxed;
        if is_full || sessions.fetch_update(order, order, take).is_err() {
            return Err("as many sessions as allowed [N18]");
        }
        Ok(())
    }

    /// A session that was admitted is over.
    fn give_place_back(&self, service: Service) {
        self.published.sessions[service.index()].fetch_sub(1, Ordering::Relaxed);
    }

    /// Logs and counts a refused connection.
    fn refuse(&self, service: Service, reason: &str) {
        self.probe.connections_refused.add(1);
        if self.probe.may_log_refusal() {
            tracing::warn!(service = service.name(), "connection refused: {reason}");
        }
    }

    fn connection_began(&self, service: Service) {
        self.probe.connections[service.index()].add(1);
        self.probe.connections_open[service.index()].add(1);
        self.published.connections[self.id].fetch_add(1, Ordering::Relaxed);
    }

    /// A connection is gone, for good or to another shard.
    fn connection_ended(self: &Rc<Self>, key: ConnKey, service: Service, for_good: bool) {
        self.probe.connections_open[service.index()].add(-1);
        self.published.connections[self.id].fetch_sub(1, Ordering::Relaxed);
        if for_good {
            self.give_place_back(service);
            services::release(self, key);
        }
    }

    /// Another shard that should get the next connection, because this one has far more than its
    /// share: `SO_REUSEPORT` spreads few connections unevenly.
    fn lighter_shard(&self) -> Option<usize> {
        let loads = &self.published.connections;
        if loads.len() < 2 {
            return None;
        }
        let load = |id: usize| loads[id].load(Ordering::Relaxed);
        let total: usize = (0..loads.len()).map(load).sum();
        let share = total / loads.len();
        let own = load(self.id);
        if own < share + IMBALANCE_MIN.max(share / 8) {
            return None;
        }
        (0..loads.len()).min_by_key(|id| load(*id))
    }

    fn is_draining(&self) -> bool {
        self.draining.get()
    }

    fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Hands over all lines of the log, or only such as have waited for a while.
    fn flush_log(&self, all: bool) {
        if all {
            logging::flush();
        } else {
            logging::flush_aged(self.now());
        }
    }
}
