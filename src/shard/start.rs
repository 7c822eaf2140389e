//! From the configuration to running shards, and back.
//!
//! The calling thread checks everything that can be checked before anything is started, opens the
//! store's layout, starts a thread per processor, waits until each has recovered its partitions,
//! and then waits for signals. The first SIGTERM or SIGINT drains; a second ends at once, which
//! loses nothing: what was acknowledged is durable.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::backend::{Running, Shards};
use super::life::{Plan, Recovery, Report, open_site, spawn_shard};
use super::mesh::Links;
use super::session::Service;
use super::signals::Signals;
use super::{Published, logging, panics, spawn, telemetry};
use crate::admin;
use crate::config::{self, Config, Machine};
use crate::directory::Verifier;
use crate::net::{self, DescriptorBudget, DescriptorLimit, SocketFile};
use crate::store::layout::Layout;

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
    pub(super) fn new(error: impl std::fmt::Display) -> ServeError {
        ServeError(error.to_string())
    }
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
    let _telemetry = telemetry::start().map_err(ServeError)?;

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
        (Service::Imap, &config.imap),
        (Service::Http, &config.http),
    ] {
        for address in wanted {
            let listener = net::listen(service.name(), address, shards);
            let listener = listener.map_err(ServeError::new)?;
            let kept = listener.set_keepalive(service.name(), config.tcp_keepalive);
            kept.map_err(ServeError::new)?;
            bound.push((service, listener));
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
            // A shard that has failed ends while others are still at it: what it said counts.
            Ok((id, Report::Ended(result))) => {
                return failure
                    .or(result.err())
                    .or_else(|| Some(format!("shard {id} ended while it started")));
            }
            Ok((id, Report::Site(_))) => {
                return Some(format!("shard {id} opened the site before its time"));
            }
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
