//! From the configuration to running shards, and back.
//!
//! The calling thread checks everything that can be checked before anything is started, opens the
//! store's layout, starts a thread per processor, waits until each has recovered its partitions,
//! and then waits for signals. The first SIGTERM or SIGINT drains; a second ends at once, which
//! loses nothing: what was acknowledged is durable.

use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};

use super::backend::{Running, Shards};
use super::mesh::{Links, Mesh};
use super::session::Service;
use super::signals::Signals;
use super::{
    Published, SessionSettings, Shard, backend, logging, now_ms, panics, pump, services, sleep,
    spawn,
};
use crate::admin::{self, FirstRun};
use crate::config::{self, Config, Machine};
use crate::directory::{AuthCache, Verifier};
use crate::limits;
use crate::net::{self, DescriptorBudget, DescriptorLimit, SocketFile};
use crate::proto::{pop3, smtp};
use crate::queue::Queue;
use crate::ring::{Options, Ring};
use crate::store::layout::Layout;
use crate::store::real::RealDisk;
use crate::store::{Identity, Partition, Progress, RecoveryReport, Settings};

/// Sessions and deliveries get at least this share of time against the rest.
const SESSION_SHARES: usize = 1000;
const BACKGROUND_SHARES: usize = 50;
/// Preemption interval of the sessions: at most this long until the ring is looked at.
const SESSION_LATENCY: Duration = Duration::from_micros(500);
/// Between two looks at what is left while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// Entries of a shard's ring.
const RING_ENTRIES: u32 = 1024;
/// Memory that glommio sets aside for its own I/O, of which we use almost none.
const EXECUTOR_MEMORY_BYTES: usize = 64 * 1024;
/// Who may open the control socket: the owner.
const CONTROL_MODE: u32 = 0o600;
/// Password workers, and jobs that may wait for them.
const VERIFIER_THREADS: usize = 2;
const VERIFIER_QUEUE: usize = 1024;

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServeError(String);

impl ServeError {
    fn new(error: impl std::fmt::Display) -> ServeError {
        ServeError(error.to_string())
    }
}

/// What the shards tell the main thread.
pub(super) enum Report {
    /// This shard has recovered its partitions (messages, bytes replayed) and waits to begin.
    Ready,
    /// It cannot start.
    Failed(String),
    /// It has drained and closed its partitions.
    Ended(Result<(), String>),
    /// The first start's accounts, or what is wrong with the site; from shard 0.
    Site(Result<Option<FirstRun>, String>),
}

/// How far recovery is, over all shards.
#[derive(Default)]
struct Recovery {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    messages: AtomicU64,
}

/// Everything a shard's thread needs to start, as owned data.
struct Plan {
    id: usize,
    cpu: usize,
    config: Arc<Config>,
    layout: Arc<Layout>,
    running: Option<Arc<Running>>,
    links: Arc<Links>,
    published: Arc<Published>,
    verifier: Verifier,
    listeners: Vec<(Service, OwnedFd)>,
    recovery: Arc<Recovery>,
    reports: Sender<(usize, Report)>,
}

/// Runs the server until it is told to end.
///
/// # Errors
/// What keeps it from starting, in words for an operator; or that a shard ended with an error.
pub fn serve(config: Config) -> Result<(), ServeError> {
    let _log = logging::start(&config.log).map_err(ServeError)?;
    panics::install();
    let started = Instant::now();
    let machine = Machine::read().map_err(ServeError::new)?;
    let cpus = config::resolve(&config.processors, &machine).map_err(ServeError::new)?;
    // Every helper thread inherits this: nothing of the server runs beside its processors.
    confine_to(&cpus)?;
    let signals = Signals::install().map_err(ServeError::new)?;

    let shards = cpus.len();
    let layout = Arc::new(
        Layout::open_or_create(&config.data, config.partitions, shards).map_err(ServeError::new)?,
    );
    if let Some(warning) = net::noatime_warning(&config.data) {
        tracing::warn!("{warning} [N31]");
    }
    let descriptors = DescriptorLimit::raise().map_err(ServeError::new)?;
    tracing::info!("{descriptors} [C6]");
    if let Some(advice) = descriptors.advice() {
        tracing::warn!("{advice}");
    }

    let (reports, inbox) = channel();
    let links = Links::new(shards);
    let published = Arc::new(Published {
        connections: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
        sessions: std::array::from_fn(|_| AtomicU32::new(0)),
        descriptors: DescriptorBudget::new(descriptors.reached),
    });
    let verifier =
        Verifier::start(VERIFIER_THREADS, VERIFIER_QUEUE, &cpus).map_err(ServeError::new)?;
    let recovery = Arc::new(Recovery::default());
    let config = Arc::new(config);
    let (mut listeners, addresses, socket_files) = bind_all(&config, &layout, shards)?;
    let running = Arc::new(Running {
        cpus: cpus.clone(),
        listeners: addresses
            .iter()
            .map(|l| format!("{} {}", l.service, l.address))
            .collect(),
        started,
    });

    let mut threads = Vec::with_capacity(shards);
    for (id, cpu) in cpus.iter().copied().enumerate() {
        threads.push(spawn_shard(Plan {
            id,
            cpu,
            config: Arc::clone(&config),
            layout: Arc::clone(&layout),
            running: Some(Arc::clone(&running)),
            links: Arc::clone(&links),
            published: Arc::clone(&published),
            verifier: verifier.clone(),
            listeners: std::mem::take(&mut listeners[id]),
            recovery: Arc::clone(&recovery),
            reports: reports.clone(),
        })?);
    }
    drop(reports);

    let outcome = supervise(&Supervision {
        inbox,
        links,
        recovery,
        config,
        layout,
        addresses,
        signals,
        started,
    });
    for thread in threads {
        // A shard that panicked has aborted the process already.
        let _ = thread.join();
    }
    drop(socket_files);
    outcome
}

/// Binds the calling thread, and what it starts from now on, to these processors.
fn confine_to(cpus: &[usize]) -> Result<(), ServeError> {
    let mut set = rustix::thread::CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| ServeError(format!("cannot bind to processors {cpus:?}: {error}")))
}

/// Starts the thread of a shard, pinned.
fn spawn_shard(plan: Plan) -> Result<glommio::ExecutorJoinHandle<()>, ServeError> {
    let (id, cpu) = (plan.id, plan.cpu);
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("shard-{id}"))
        .io_memory(EXECUTOR_MEMORY_BYTES)
        .preempt_timer(SESSION_LATENCY)
        .spawn(move || run_shard(plan))
        .map_err(|error| ServeError(format!("shard {id} on processor {cpu}: {error}")))
}

/// Listening sockets with what they speak, a list per shard.
type Listening = Vec<Vec<(Service, OwnedFd)>>;

/// Opens the store while no server runs, with one shard that owns every partition and listens
/// nowhere, does `work` on it, and closes it again. A store that is not there yet is made.
///
/// # Errors
/// What keeps the store from being opened or closed, in words for an operator.
pub fn with_store<T, F, W>(config: Config, work: W) -> Result<T, ServeError>
where
    T: Send + 'static,
    F: Future<Output = T>,
    W: FnOnce(Shards) -> F + Send + 'static,
{
    panics::install();
    let machine = Machine::read().map_err(ServeError::new)?;
    let cpus = config::resolve(&config.processors, &machine).map_err(ServeError::new)?;
    let layout = Layout::open_or_create(&config.data, config.partitions, cpus.len());
    let layout = Arc::new(layout.map_err(ServeError::new)?);
    let links = Links::new(1);
    let (reports, inbox) = channel();
    let thread = spawn_shard(Plan {
        id: 0,
        cpu: cpus[0],
        config: Arc::new(config),
        layout: Arc::clone(&layout),
        running: None,
        links: Arc::clone(&links),
        published: Arc::new(Published {
            connections: vec![AtomicUsize::new(0)],
            sessions: std::array::from_fn(|_| AtomicU32::new(0)),
            descriptors: DescriptorBudget::new(0),
        }),
        verifier: Verifier::start(1, 1, &cpus[..1]).map_err(ServeError::new)?,
        listeners: Vec::new(),
        recovery: Arc::new(Recovery::default()),
        reports,
    })?;
    if let Some(reason) = wait_ready(&inbox, &Recovery::default(), 1) {
        let _ = thread.join();
        return Err(ServeError(reason));
    }
    layout.commit().map_err(ServeError::new)?;
    let (give, take) = channel();
    links.post(
        0,
        Box::new(move |shard| {
            let shard = Rc::clone(shard);
            spawn(async move {
                let outcome = match super::backend::read_site(&shard).await {
                    Ok(()) => Ok(work(Shards(Rc::clone(&shard))).await),
                    Err(reason) => Err(reason),
                };
                let _ = give.send(outcome);
                shard.drain();
            });
        }),
    );
    let outcome = take.recv();
    let closed = inbox.iter().find_map(|(_, report)| match report {
        Report::Ended(result) => Some(result),
        _ => None,
    });
    let _ = thread.join();
    closed.unwrap_or(Ok(())).map_err(ServeError)?;
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(reason)) => Err(ServeError(reason)),
        Err(_) => Err(ServeError(
            "the store ended before the work was done".to_owned(),
        )),
    }
}

/// Binds every listener once per shard, the control socket among them. The files of Unix sockets
/// go when what is returned last is dropped.
fn bind_all(
    config: &Config,
    layout: &Layout,
    shards: usize,
) -> Result<(Listening, Vec<admin::Listener>, Vec<SocketFile>), ServeError> {
    let mut bound = Vec::new();
    for (service, wanted) in [
        (Service::Smtp, &config.smtp),
        (Service::Lmtp, &config.lmtp),
        (Service::Pop3, &config.pop3),
        (Service::Http, &config.http),
    ] {
        for address in wanted {
            let listener = net::listen(service.name(), address, shards);
            bound.push((service, listener.map_err(ServeError::new)?));
        }
    }
    let control = layout.control_socket();
    let control = net::listen_unix("control socket", &control, CONTROL_MODE, 1);
    bound.push((Service::Control, control.map_err(ServeError::new)?));

    let mut per_shard: Listening = (0..shards).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    let mut files = Vec::new();
    for (service, listener) in bound {
        if service != Service::Control {
            addresses.push(admin::Listener {
                service: service.name(),
                address: listener.address,
            });
        }
        files.extend(listener.file);
        for (shard, socket) in listener.sockets.into_iter().enumerate() {
            per_shard[shard].push((service, socket));
        }
    }
    Ok((per_shard, addresses, files))
}

/// What the main thread needs while the shards run.
struct Supervision {
    inbox: Receiver<(usize, Report)>,
    links: Arc<Links>,
    recovery: Arc<Recovery>,
    config: Arc<Config>,
    layout: Arc<Layout>,
    addresses: Vec<admin::Listener>,
    signals: Signals,
    started: Instant,
}

/// The main thread's part: waits for the shards, prints, waits for signals, waits for the end.
fn supervise(own: &Supervision) -> Result<(), ServeError> {
    let Supervision { inbox, links, .. } = own;
    let shards = links.shards();
    let mut failure = wait_ready(inbox, &own.recovery, shards);
    if failure.is_none() {
        links.post(0, Box::new(open_site));
        match inbox.recv() {
            Ok((_, Report::Site(Ok(first)))) => {
                tracing::info!(
                    "ready after {} ms: {} messages, {} shards",
                    own.started.elapsed().as_millis(),
                    own.recovery.messages.load(Ordering::Relaxed),
                    shards
                );
                if let Err(error) = own.layout.commit() {
                    return Err(ServeError::new(error));
                }
                for id in 0..shards {
                    links.post(id, Box::new(|shard| shard.open_doors()));
                }
                print!(
                    "{}",
                    admin::ready_text(&own.addresses, &own.config.data, first.as_ref())
                );
            }
            Ok((_, Report::Site(Err(reason)))) => failure = Some(reason),
            Ok((id, _)) => failure = Some(format!("shard {id} ended while it started")),
            Err(_) => failure = Some("every shard has ended".to_owned()),
        }
    }
    let mut ended = 0;
    if failure.is_none() {
        // Until a signal comes, or a shard ends by itself, which only a broken ring makes it do.
        loop {
            if let Some(name) = own.signals.wait(Duration::from_millis(200)) {
                tracing::info!(
                    "{name}: draining for at most {} s",
                    own.config.drain.as_secs()
                );
                break;
            }
            if let Ok((id, Report::Ended(result))) = inbox.try_recv() {
                ended += 1;
                failure = Some(format!("shard {id} ended: {result:?}"));
                break;
            }
        }
    }
    for id in 0..shards {
        links.post(id, Box::new(|shard| shard.drain()));
    }
    while ended < shards {
        match inbox.recv_timeout(Duration::from_millis(100)) {
            Ok((_, Report::Ended(result))) => {
                ended += 1;
                if let Err(reason) = result {
                    failure.get_or_insert(reason);
                }
            }
            Ok((_, Report::Failed(_))) => ended += 1,
            Ok(_) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
        if let Some(name) = own.signals.wait(Duration::ZERO) {
            eprintln!("ringpost: {name} again: ending at once; what was acknowledged is durable");
            std::process::exit(1);
        }
    }
    match failure {
        None => {
            tracing::info!("ended, every partition closed");
            Ok(())
        }
        Some(reason) => Err(ServeError(reason)),
    }
}

/// Waits until every shard is ready, and shows how far recovery is. Returns what failed.
fn wait_ready(
    inbox: &Receiver<(usize, Report)>,
    recovery: &Recovery,
    shards: usize,
) -> Option<String> {
    let mut waiting = shards;
    let mut failure = None;
    let mut next_line = Instant::now() + Duration::from_secs(1);
    while waiting > 0 {
        match inbox.recv_timeout(Duration::from_millis(100)) {
            Ok((_, Report::Ready)) => waiting -= 1,
            Ok((_, Report::Failed(reason))) => {
                waiting -= 1;
                failure.get_or_insert(reason);
            }
            Ok((id, _)) => return Some(format!("shard {id} ended while it started")),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                return failure.or_else(|| Some("a shard ended while it started".to_owned()));
            }
        }
        if Instant::now() >= next_line {
            next_line += Duration::from_secs(1);
            let done = recovery.done_bytes.load(Ordering::Relaxed);
            let total = recovery.total_bytes.load(Ordering::Relaxed).max(1);
            tracing::info!(
                "recovering: {} of {} MiB read, {} %",
                done >> 20,
                total >> 20,
                done * 100 / total
            );
        }
    }
    failure
}

/// The life of a shard, on its own thread.
async fn run_shard(plan: Plan) {
    logging::collect_on_this_thread();
    let (id, reports) = (plan.id, plan.reports.clone());
    let report = |report| {
        logging::flush();
        // The main thread is there as long as a shard is.
        let _ = reports.send((id, report));
    };
    let executor = glommio::executor();
    let sessions = executor.create_task_queue(
        Shares::Static(SESSION_SHARES),
        Latency::Matters(SESSION_LATENCY),
        "sessions",
    );
    let life = glommio::spawn_local_into(live(plan), sessions);
    let result = match life {
        Ok(life) => life.await,
        Err(error) => Err(format!("shard {id}: {error}")),
    };
    report(Report::Ended(result));
}

async fn live(plan: Plan) -> Result<(), String> {
    let (id, reports) = (plan.id, plan.reports.clone());
    let recovery = Arc::clone(&plan.recovery);
    let shard = match make_shard(plan) {
        Ok(shard) => shard,
        Err(reason) => {
            let _ = reports.send((id, Report::Failed(reason.clone())));
            return Err(reason);
        }
    };
    // The pump runs from here on: without it no read of the recovery would ever complete.
    let pump = glommio::spawn_local(pump::run(Rc::clone(&shard)));
    let opened = open_partitions(&shard, &recovery).await;
    let report = match &opened {
        Ok(()) => Report::Ready,
        Err(reason) => Report::Failed(reason.clone()),
    };
    logging::flush();
    let _ = reports.send((id, report));
    if let Err(reason) = opened {
        shard.end();
        return Err(reason);
    }
    pump.await
        .map_err(|error| format!("shard {id}: its ring has failed: {error}"))?;
    shard.closed.take().unwrap_or(Ok(()))
}

fn make_shard(plan: Plan) -> Result<Rc<Shard>, String> {
    let config = plan.config;
    let ring = Ring::new(&Options {
        entries: RING_ENTRIES,
        buffers: limits::RECV_BUFFERS,
        buffer_bytes: limits::RECV_BUFFER_BYTES,
        cpu: Some(plan.cpu),
        poll: config.poll,
    })
    .map_err(|error| format!("shard {} on processor {}: {error}", plan.id, plan.cpu))?;
    if plan.id == 0 {
        for line in &ring.features().fallbacks {
            tracing::info!("ring: {line}");
        }
    }
    plan.links.register(plan.id, ring.waker());
    let key = AuthCache::random_key().map_err(|error| format!("no random numbers: {error}"))?;
    // Accounts are spread evenly, so is the cache; a little room for luck.
    let cached = config.auth_cache_size.div_ceil(plan.links.shards()) * 5 / 4;
    let listeners = plan.listeners.into_iter();
    Ok(Rc::new(Shard {
        id: plan.id,
        mesh: Mesh::new(plan.id, plan.links),
        probe: super::probe::Probe::default(),
        connections: pump::Connections::default(),
        listeners: RefCell::new(
            listeners
                .map(|(service, socket)| pump::Listener::new(service, socket))
                .collect(),
        ),
        delivery: super::wait::Permits::new(config.delivery_processors),
        recipients: services::RecipientCache::default(),
        maildrops: services::Maildrops::default(),
        streams: services::Streams::default(),
        auth_cache: RefCell::new(AuthCache::new(config.auth_cache_ttl, cached, key)),
        verifier: plan.verifier,
        queue: OnceCell::new(),
        session_settings: session_settings(&config),
        published: plan.published,
        partitions: RefCell::new(vec![None; usize::from(plan.layout.partitions())]),
        layout: plan.layout,
        running: plan.running,
        control: super::wait::Permits::new(1),
        site_log: OnceCell::new(),
        site: RefCell::default(),
        answers: RefCell::default(),
        spare_buffers: RefCell::default(),
        in_flight_bytes: Cell::new(0),
        queue_ids: Cell::new(0),
        background: OnceCell::new(),
        doors_open: Cell::new(false),
        draining: Cell::new(false),
        ended: Cell::new(false),
        closed: Cell::new(None),
        reports: plan.reports,
        ring,
        config,
    }))
}

fn session_settings(config: &Config) -> SessionSettings {
    let smtp = |dialect| {
        Arc::new(smtp::Settings {
            dialect,
            hostname: config.hostname.clone(),
            message_bytes_max: config.message_bytes_max,
            recipients_max: config.recipients_max,
            messages_max: config.messages_max,
            command_timeout: config.smtp_timeout,
            data_timeout: config.smtp_data_timeout,
        })
    };
    SessionSettings {
        smtp: smtp(smtp::Dialect::Smtp),
        lmtp: smtp(smtp::Dialect::Lmtp),
        pop3: RefCell::new(Arc::new(pop3::Settings {
            hostname: config.hostname.clone(),
            default_domain: config.default_domain.clone().unwrap_or_default(),
            idle_timeout: config.pop3_timeout,
        })),
    }
}

/// Recovers what this shard owns: its partitions, and at shard 0 the site log and the queue.
async fn open_partitions(shard: &Rc<Shard>, recovery: &Recovery) -> Result<(), String> {
    let layout = &shard.layout;
    for number in 0..layout.partitions() {
        if shard.owner_of(number) == shard.id {
            let (dir, identity) = (layout.partition_dir(number), layout.identity(number));
            let partition = open_log(shard, &dir, identity, recovery).await?;
            shard.partitions.borrow_mut()[usize::from(number)] = Some(partition);
        }
    }
    if shard.id == 0 {
        let dir = layout.site_dir();
        let site_log = open_log(shard, &dir, layout.site_identity(), recovery).await?;
        let _ = shard.site_log.set(site_log);
        let dir = layout.queue_dir(0);
        let partition = open_log(shard, &dir, layout.queue_identity(0), recovery).await?;
        let queue = Queue::open(partition, now_ms()).await;
        let queue = queue.map_err(|error| format!("{}: {error}", dir.display()))?;
        if !queue.is_empty() {
            tracing::info!("{} messages wait in the queue", queue.len());
        }
        let _ = shard.queue.set(queue);
    }
    Ok(())
}

/// Opens one log, makes it first in a store that is new, and starts its tasks.
async fn open_log(
    shard: &Rc<Shard>,
    dir: &Path,
    identity: Identity,
    recovery: &Recovery,
) -> Result<Rc<Partition<RealDisk>>, String> {
    let disk = RealDisk::new(shard.ring.clone());
    if !dir.exists() {
        if !shard.layout.is_new() {
            return Err(format!(
                "{}: this part of the store is gone; put it back, or restore the store from a backup",
                dir.display()
            ));
        }
        let made = Partition::create(disk.clone(), dir, identity).await;
        made.map_err(|error| error.to_string())?;
    }
    let settings = Settings {
        sync: shard.config.sync,
        segment_bytes: limits::SEGMENT_BYTES,
        reserve_bytes: shard.config.reserve_bytes,
        cleanup_age_ms: shard.config.cleanup_age.as_millis() as u64,
    };
    // The progress of this log within that of all: totals are added once, then the difference.
    let seen = Cell::new((0, 0));
    let progress = |now: Progress| {
        let (done, total) = seen.replace((now.done_bytes, now.total_bytes));
        let add = |sum: &AtomicU64, now: u64, before: u64| {
            sum.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        };
        add(&recovery.done_bytes, now.done_bytes, done);
        add(&recovery.total_bytes, now.total_bytes, total);
    };
    let opened = Partition::open(disk, dir, identity, settings, now_ms(), progress).await;
    let (partition, found) = opened.map_err(|error| error.to_string())?;
    recovery
        .messages
        .fetch_add(found.messages, Ordering::Relaxed);
    report_recovery(dir, &found);
    glommio::spawn_local(Rc::clone(&partition).run()).detach();
    shard.spawn_background(Rc::clone(&partition).background(now_ms));
    Ok(partition)
}

fn report_recovery(dir: &Path, found: &RecoveryReport) {
    if !found.clean {
        tracing::info!(
            "{}: was not closed: {} bytes replayed, {} rewritten to make sure of them",
            dir.display(),
            found.replayed_bytes,
            found.rewritten_bytes
        );
    }
    for damage in &found.damage {
        let what = if damage.acknowledged {
            "DAMAGED, acknowledged bytes cannot be read"
        } else {
            "an unfinished batch was set aside; nothing acknowledged is lost"
        };
        let saved = match &damage.saved_to {
            Some(path) => format!("a copy is in {}", path.display()),
            None => "no copy could be kept".to_owned(),
        };
        tracing::error!(
            "{} at {}, {} bytes: {}: {what}; {saved}",
            damage.file.display(),
            damage.offset,
            damage.bytes,
            damage.reason
        );
    }
}

/// At shard 0, when every shard has its partitions: the site, and on a first start its accounts.
fn open_site(shard: &Rc<Shard>) {
    let shard = Rc::clone(shard);
    spawn(async move {
        let outcome = backend::open_site(&shard).await;
        let _ = shard.reports.send((shard.id, Report::Site(outcome)));
    });
}

impl Shard {
    /// Starts listening, and what runs beside the sessions.
    fn open_doors(self: &Rc<Self>) {
        self.doors_open.set(true);
        self.spawn_background(services::run_queue(Rc::clone(self)));
        let shard = Rc::clone(self);
        // Deadlines are looked at once a second, also when nothing else happens.
        spawn(async move {
            while !shard.has_ended() {
                sleep(Duration::from_secs(1)).await;
                shard.ring.nudge();
            }
        });
        self.ring.nudge();
    }

    /// Runs a task that everything else goes before.
    pub(super) fn spawn_background(&self, task: impl Future<Output = ()> + 'static) {
        let queue = *self.background.get_or_init(|| {
            glommio::executor().create_task_queue(
                Shares::Static(BACKGROUND_SHARES),
                Latency::NotImportant,
                "background",
            )
        });
        match glommio::spawn_local_into(task, queue) {
            Ok(task) => {
                task.detach();
            }
            // The queue was made just now and is never removed.
            Err(error) => tracing::error!("no background task: {error}"),
        }
    }

    /// Takes no more connections, lets transactions finish within `--drain-seconds`, closes the
    /// partitions, ends.
    fn drain(self: &Rc<Self>) {
        if self.draining.replace(true) {
            return;
        }
        pump::begin_drain(self);
        let shard = Rc::clone(self);
        spawn(async move {
            let deadline = Instant::now() + shard.config.drain;
            while shard.connections.len() > 0 && Instant::now() < deadline {
                sleep(DRAIN_LOOK).await;
            }
            let cut = shard.connections.len();
            if cut > 0 {
                tracing::warn!("{cut} connections had not finished in time and are closed");
                pump::cut_all(&shard);
                sleep(DRAIN_LOOK).await;
            }
            // Deliveries of other shards still come in until those have drained too.
            shard.wait_for_others().await;
            let mut result = Ok(());
            let mut logs: Vec<_> = shard.own_partitions().into_iter().map(|(_, p)| p).collect();
            logs.extend(shard.site_log.get().cloned());
            logs.extend(shard.queue.get().map(|queue| Rc::clone(queue.partition())));
            for log in logs {
                if let Err(error) = log.close().await {
                    result = Err(format!("a partition could not be closed cleanly: {error}"));
                }
            }
            shard.closed.set(Some(result));
            shard.end();
        });
    }

    fn end(&self) {
        self.ended.set(true);
        self.ring.nudge();
    }

    /// Waits until no shard has a connection any more, within a bound.
    async fn wait_for_others(&self) {
        let deadline = Instant::now() + self.config.drain + DRAIN_LOOK * 20;
        let all = || {
            let loads = self.published.connections.iter();
            loads
                .map(|load| load.load(Ordering::Relaxed))
                .sum::<usize>()
        };
        while all() > 0 && Instant::now() < deadline {
            sleep(DRAIN_LOOK).await;
        }
        // What those connections had handed over is on its way through the mesh.
        sleep(DRAIN_LOOK).await;
    }
}
