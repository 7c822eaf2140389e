//! The life of a shard, on its own thread: makes its ring, recovers its partitions, pumps, drains,
//! closes.
//!
//! Guarantees: nothing is served before every partition of the shard is recovered; a shard that
//! ends has closed its partitions, or says what kept it from that.

use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::backend::Running;
use super::mesh::{Links, Mesh};
use super::session::Service;
use super::start::ServeError;
use super::{
    Published, SessionSettings, Shard, backend, logging, now_ms, pump, services, sleep, spawn,
};
use crate::admin::FirstRun;
use crate::config::{Config, SyncLevel};
use crate::directory::{AuthCache, Verifier};
use crate::limits;
use crate::proto::{imap, pop3, smtp};
use crate::queue::Queue;
use crate::ring::{Options, Ring};
use crate::store::layout::Layout;
use crate::store::real::RealDisk;
use crate::store::{Identity, Partition, Progress, RecoveryReport, Settings};

/// Sessions and deliveries get at least this share of time against the rest.
const SESSION_SHARES: usize = 1000;
const BACKGROUND_SHARES: usize = 50;
/// How long glommio may run tasks before it looks at its own rings, which have timers and the
/// eventfd of a parked pump. It must not be short: a timer that fires before the first task of a
/// round has run makes glommio 0.9 park although tasks are ready (`run_task_queues` reports that
/// nothing ran). The pump sees to the latency of sessions itself, see [`super::pump`].
const PREEMPT_INTERVAL: Duration = Duration::from_millis(50);
/// Between two wake-ups of a shard that has nothing to do: deadlines are looked at, and should
/// glommio ever park in spite of ready tasks, it ends so soon.
const TICK: Duration = Duration::from_millis(250);
/// Between two looks at what is left while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// Between two looks for what can be reclaimed, within the hour for it.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);
/// Segments of the site log and the queue, which are seldom written.
const SMALL_SEGMENT_BYTES: u64 = 2 * limits::BATCH_BYTES_MAX as u64;
/// Entries of a shard's ring.
const RING_ENTRIES: u32 = 1024;
/// Memory that glommio sets aside for its own I/O, of which we use almost none.
const EXECUTOR_MEMORY_BYTES: usize = 64 * 1024;

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
pub(super) struct Recovery {
    pub(super) done_bytes: AtomicU64,
    pub(super) total_bytes: AtomicU64,
    pub(super) messages: AtomicU64,
}

/// Everything a shard's thread needs to start, as owned data.
pub(super) struct Plan {
    pub(super) id: usize,
    pub(super) cpu: usize,
    pub(super) config: Arc<Config>,
    pub(super) layout: Arc<Layout>,
    pub(super) running: Option<Arc<Running>>,
    pub(super) links: Arc<Links>,
    pub(super) published: Arc<Published>,
    pub(super) verifier: Verifier,
    pub(super) listeners: Vec<(Service, OwnedFd)>,
    pub(super) recovery: Arc<Recovery>,
    pub(super) reports: Sender<(usize, Report)>,
}
/// Starts the thread of a shard, pinned.
pub(super) fn spawn_shard(plan: Plan) -> Result<glommio::ExecutorJoinHandle<()>, ServeError> {
    let (id, cpu) = (plan.id, plan.cpu);
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("shard-{id}"))
        .io_memory(EXECUTOR_MEMORY_BYTES)
        .preempt_timer(PREEMPT_INTERVAL)
        .spawn(move || run_shard(plan))
        .map_err(|error| ServeError::new(format!("shard {id} on processor {cpu}: {error}")))
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
        Latency::NotImportant,
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
    spawn(tick(Rc::clone(&shard)));
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

/// Wakes the pump now and then, for the life of the shard, opens and closes the window in which
/// expunged messages are reclaimed [N23], and has full partitions look for space.
async fn tick(shard: Rc<Shard>) {
    let mut told = Instant::now();
    let zone = TimeZone::system();
    while !shard.has_ended() {
        sleep(TICK).await;
        let due = hour_of(now_ms(), &zone) == shard.config.expire_start;
        // Said again now and then: what was too young at first has become old enough.
        let again = due && told.elapsed() >= EXPIRE_INTERVAL;
        if shard.expire_due.replace(due) != due || again {
            told = Instant::now();
            for (_, partition) in shard.own_partitions() {
                partition.set_expire_due(due);
            }
        }
        let own = shard.own_partitions().into_iter().map(|(_, own)| own);
        for log in own.chain(shard.other_logs().into_iter().map(|(_, log)| log)) {
            log.look_for_space().await;
        }
        shard.ring.nudge();
    }
}

/// The hour of the day, 0 to 23, as clocks show it there.
fn hour_of(now_ms: u64, zone: &TimeZone) -> u8 {
    let now = i64::try_from(now_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::MAX);
    // An hour is never below zero.
    zone.to_datetime(now).hour().unsigned_abs()
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
        desks: services::Desks::default(),
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
        woken: RefCell::default(),
        spare_buffers: RefCell::default(),
        in_flight_bytes: Cell::new(0),
        now: Cell::new(Instant::now()),
        queue_ids: Cell::new(0),
        background: OnceCell::new(),
        doors_open: Cell::new(false),
        expire_due: Cell::new(false),
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
            refused_recipients_max: match dialect {
                smtp::Dialect::Smtp => config.refused_recipients_max,
                // The other end is a mail server of ours, which may well relay what it is asked.
                smtp::Dialect::Lmtp => 0,
            },
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
        imap: RefCell::new(Arc::new(imap::Settings {
            hostname: config.hostname.clone(),
            default_domain: config.default_domain.clone().unwrap_or_default(),
            idle_timeout: config.imap_timeout,
            progress_interval: Duration::from_secs(limits::IMAP_PROGRESS_SECONDS),
            message_bytes_max: config.message_bytes_max,
        })),
    }
}

/// Recovers what this shard owns: its partitions, and at shard 0 the site log and the queue.
async fn open_partitions(shard: &Rc<Shard>, recovery: &Recovery) -> Result<(), String> {
    let layout = &shard.layout;
    for number in 0..layout.partitions() {
        if shard.owner_of(number) == shard.id {
            let (dir, identity) = (layout.partition_dir(number), layout.identity(number));
            let partition =
                open_log(shard, &dir, identity, limits::SEGMENT_BYTES, recovery).await?;
            spawn(services::watch(Rc::clone(shard), Rc::clone(&partition)));
            shard.partitions.borrow_mut()[usize::from(number)] = Some(partition);
        }
    }
    if shard.id == 0 {
        let dir = layout.site_dir();
        let site_log = open_log(
            shard,
            &dir,
            layout.site_identity(),
            SMALL_SEGMENT_BYTES,
            recovery,
        )
        .await?;
        let _ = shard.site_log.set(site_log);
        let dir = layout.queue_dir(0);
        let partition = open_log(
            shard,
            &dir,
            layout.queue_identity(0),
            SMALL_SEGMENT_BYTES,
            recovery,
        )
        .await?;
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
    segment_bytes: u64,
    recovery: &Recovery,
) -> Result<Rc<Partition<RealDisk>>, String> {
    let config = &shard.config;
    // What need not be on the disk soon is the page cache's business.
    let direct = !config.buffered_writes && config.sync.message > SyncLevel::None;
    let disk = RealDisk::new(shard.ring.clone(), direct);
    if !dir.exists() && !shard.layout.is_new() {
        return Err(format!(
            "{}: this part of the store is gone; put it back, or restore the store from a backup",
            dir.display()
        ));
    }
    // What an interrupted first start has left is made again.
    if shard.layout.is_new() && !dir.join("MANIFEST").exists() {
        let made = Partition::create(disk.clone(), dir, identity).await;
        made.map_err(|error| error.to_string())?;
    }
    let settings = Settings {
        sync: shard.config.sync,
        segment_bytes,
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
            "an unfinished batch was set aside; it was never acknowledged, unless the disk has \
             damaged it since"
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
pub(super) fn open_site(shard: &Rc<Shard>) {
    let shard = Rc::clone(shard);
    spawn(async move {
        let outcome = backend::open_site(&shard).await;
        let _ = shard.reports.send((shard.id, Report::Site(outcome)));
    });
}

impl Shard {
    /// Starts listening, and what runs beside the sessions.
    pub(super) fn open_doors(self: &Rc<Self>) {
        self.doors_open.set(true);
        self.spawn_background(services::run_queue(Rc::clone(self)));
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
    pub(super) fn drain(self: &Rc<Self>) {
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
            logs.extend(shard.other_logs().into_iter().map(|(_, log)| log));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_is_the_local_one_and_follows_the_clocks() {
        // 2026-03-29, 00:30 UTC: half an hour before clocks go forward in Berlin.
        let before = 1_774_744_200_000;
        let hour_ms = 3_600_000;
        let utc = TimeZone::UTC;
        // As a rule, so that no table of zones is needed.
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        let kolkata = TimeZone::posix("IST-5:30").expect("a rule");
        for (now_ms, zone, hour) in [
            (before, &utc, 0),
            (before, &berlin, 1),
            (before + hour_ms, &berlin, 3),
            (before, &kolkata, 6),
            (before + 23 * hour_ms, &utc, 23),
            (before + 22 * hour_ms, &berlin, 0),
        ] {
            assert_eq!(hour_of(now_ms, zone), hour, "{now_ms}");
        }
        assert!(hour_of(u64::MAX, &berlin) < 24);
    }
}
