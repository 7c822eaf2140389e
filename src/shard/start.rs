//! From the configuration to running shards, and back.
//!
//! The calling thread checks everything that can be checked before anything is started, opens the
//! store's layout, starts a thread per processor, waits until each has recovered its partitions,
//! and then waits for signals. The first SIGTERM or SIGINT drains; a second ends at once, which
//! loses nothing: what was acknowledged is durable.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};

use super::mesh::{Links, Mesh};
use super::session::Service;
use super::{Published, SessionSettings, Shard, backend, logging, panics, pump, services};
use crate::admin;
use crate::config::{Config, ListenAddress, Machine, resolve_processors};
use crate::directory::{AuthCache, Site, Verifier};
use crate::limits;
use crate::net::{self, DescriptorBudget};
use crate::proto::{pop3, smtp};
use crate::queue::Queue;
use crate::ring::{Options, Ring};
use crate::store::layout::Layout;
use crate::store::real::RealDisk;
use crate::store::{Partition, Progress, Settings};

/// Sessions and deliveries get at least this share of time against the rest.
const SESSION_SHARES: usize = 1000;
const QUEUE_SHARES: usize = 100;
const BACKGROUND_SHARES: usize = 50;
/// Preemption interval of the sessions: at most this long until the ring is looked at.
const SESSION_LATENCY: Duration = Duration::from_micros(500);
/// Entries of a shard's ring.
const RING_ENTRIES: u32 = 1024;
/// Memory that glommio sets aside for its own I/O, of which we use almost none.
const EXECUTOR_MEMORY_BYTES: usize = 64 * 1024;
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
enum Report {
    /// This shard has recovered its partitions (messages, bytes replayed) and waits to begin.
    Ready,
    /// It cannot start.
    Failed(String),
    /// It has drained and closed its partitions.
    Ended(Result<(), String>),
    /// The first start's accounts, or what is wrong with the site; from shard 0.
    Site(Result<admin::Welcome, String>),
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
    links: Arc<Links>,
    published: Arc<Published>,
    verifier: Arc<Verifier>,
    listeners: Vec<(Service, std::os::fd::OwnedFd)>,
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
    let cpus = resolve_processors(&config.processors, &machine).map_err(ServeError::new)?;
    // Every helper thread inherits this: nothing of the server runs beside its processors.
    net::confine_to(&cpus).map_err(ServeError::new)?;
    let signals = net::Signals::install().map_err(ServeError::new)?;

    let shards = cpus.len();
    let layout = Arc::new(
        Layout::open_or_create(&config.data, config.partitions, shards).map_err(ServeError::new)?,
    );
    for warning in net::mount_warnings(&config.data) {
        tracing::warn!("{warning}");
    }
    let descriptors = DescriptorBudget::raise().map_err(ServeError::new)?;
    tracing::info!("{}", descriptors.describe());

    let (reports, inbox) = channel();
    let links = Links::new(shards);
    let published = Arc::new(Published {
        connections: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
        sessions: std::array::from_fn(|_| AtomicU32::new(0)),
        descriptors,
    });
    let verifier = Arc::new(Verifier::start(VERIFIER_THREADS, VERIFIER_QUEUE).map_err(ServeError::new)?);
    let recovery = Arc::new(Recovery::default());
    let config = Arc::new(config);
    let (mut listeners, addresses) = bind_all(&config, &layout, shards)?;

    let mut threads = Vec::with_capacity(shards);
    for (id, cpu) in cpus.iter().copied().enumerate() {
        let plan = Plan {
            id,
            cpu,
            config: Arc::clone(&config),
            layout: Arc::clone(&layout),
            links: Arc::clone(&links),
            published: Arc::clone(&published),
            verifier: Arc::clone(&verifier),
            listeners: std::mem::take(&mut listeners[id]),
            recovery: Arc::clone(&recovery),
            reports: reports.clone(),
        };
        let thread = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name(&format!("shard-{id}"))
            .io_memory(EXECUTOR_MEMORY_BYTES)
            .preempt_timer(SESSION_LATENCY)
            .spawn(move || run_shard(plan))
            .map_err(|error| ServeError(format!("shard {id} on processor {cpu}: {error}")))?;
        threads.push(thread);
    }
    drop(reports);

    let outcome = supervise(
        &inbox, &links, &recovery, &config, &addresses, &signals, started,
    );
    for thread in threads {
        // A shard that panicked has aborted the process already.
        let _ = thread.join();
    }
    net::remove_sockets(&addresses);
    outcome
}

/// Binds every listener once per shard, and the control socket for shard 0.
#[allow(clippy::type_complexity, reason = "a list per shard, and what to print")]
fn bind_all(
    config: &Config,
    layout: &Layout,
    shards: usize,
) -> Result<
    (
        Vec<Vec<(Service, std::os::fd::OwnedFd)>>,
        Vec<(&'static str, ListenAddress)>,
    ),
    ServeError,
> {
    let mut per_shard: Vec<Vec<(Service, std::os::fd::OwnedFd)>> =
        (0..shards).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    let control = [ListenAddress::Unix(layout.control_socket())];
    for (service, wanted) in [
        (Service::Smtp, config.smtp.as_slice()),
        (Service::Lmtp, config.lmtp.as_slice()),
        (Service::Pop3, config.pop3.as_slice()),
        (Service::Http, config.http.as_slice()),
        (Service::Control, &control),
    ] {
        for address in wanted {
            let flag = format!("--{}", service.name());
            let bound = net::bind(address, shards, &flag).map_err(ServeError::new)?;
            addresses.push((service.name(), bound.address));
            for (shard, socket) in bound.sockets.into_iter().enumerate() {
                per_shard[shard].push((service, socket));
            }
        }
    }
    Ok((per_shard, addresses))
}

/// The main thread's part: waits for the shards, prints, waits for signals, waits for the end.
fn supervise(
    inbox: &Receiver<(usize, Report)>,
    links: &Arc<Links>,
    recovery: &Recovery,
    config: &Config,
    addresses: &[(&'static str, ListenAddress)],
    signals: &net::Signals,
    started: Instant,
) -> Result<(), ServeError> {
    let shards = links.shards();
    let mut failure = wait_ready(inbox, recovery, shards);
    if failure.is_none() {
        for id in 0..shards {
            links.post(id, Box::new(|shard| shard.begin()));
        }
        links.post(0, Box::new(|shard| open_site(shard)));
        match inbox.recv() {
            Ok((_, Report::Site(Ok(welcome)))) => {
                tracing::info!(
                    "ready after {} ms: {} messages, {} shards",
                    started.elapsed().as_millis(),
                    recovery.messages.load(Ordering::Relaxed),
                    shards
                );
                logging::flush();
                for id in 0..shards {
                    links.post(id, Box::new(|shard| shard.open_doors()));
                }
                let listening: Vec<(&str, String)> = addresses
                    .iter()
                    .filter(|(service, _)| *service != "control")
                    .map(|(service, address)| (*service, address.to_string()))
                    .collect();
                print!("{}", welcome.text(config, &listening));
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
            if let Some(name) = signals.wait(Duration::from_millis(200)) {
                tracing::info!("{name}: draining for at most {} s", config.drain.as_secs());
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
        if let Some(name) = signals.wait(Duration::ZERO) {
            eprintln!("ringpost: {name} again: ending at once; what was acknowledged is durable");
            net::remove_sockets(addresses);
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
    let shard = match make_shard(plan).await {
        Ok(shard) => shard,
        Err(reason) => {
            let _ = reports.send((id, Report::Failed(reason.clone())));
            return Err(reason);
        }
    };
    let _ = reports.send((id, Report::Ready));
    shard.reports.set(reports).ok();
    let ran = pump::run(Rc::clone(&shard)).await;
    ran.map_err(|error| format!("shard {id}: its ring has failed: {error}"))
}
