//! One run: a pinned thread per CPU, their intervals added up, progress shown, the end decided.
//!
//! Guarantees: the run ends. Either the schedule is done, or nothing was completed for
//! `--give-up`, or what was begun has had its time after the end of the schedule.

mod processes;
mod watch;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::unbounded;

use crate::dialogue::Dialogue;
use crate::engine;
use crate::interval::Interval;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::schedule::Schedule;
use crate::target::Target;
use crate::task::Task;
use watch::Watch;
pub use watch::was_interrupted;

/// What a run is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// CPUs, a thread each; fewer are used if there are fewer connections.
    pub cpus: Vec<usize>,
    /// Where the server is.
    pub target: Target,
    /// Connections over all threads.
    pub connections: u32,
    /// Number of the first of them, and of the first thread, among those of all processes.
    pub first_connection: u32,
    /// See `first_connection`.
    pub first_thread: u32,
    /// From one connection's first opening to the next one's.
    pub stagger: Duration,
    /// Open loop: connections are opened before there is something to do for them.
    pub open_all: bool,
    /// Silence of the server that counts as a hang.
    pub timeout: Duration,
    /// The run ends when nothing was completed for so long; `None`: never.
    pub give_up: Option<Duration>,
    /// What begins before is not measured.
    pub measure_from: Instant,
    /// Nothing begins later.
    pub until: Option<Instant>,
    /// When it begins.
    pub began: Instant,
    /// What this process does of it.
    pub part: Part,
}

/// What this process does of a run.
#[derive(Debug, Clone)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its share; it reports to the process that has started it.
    Share,
    /// Nothing: it starts others, which have these shares, and adds up what they see.
    Supervisor(Vec<Task>),
}

impl Plan {
    /// A run with this many connections that measures at once and ends when it is told to, in one
    /// process.
    pub fn new(cpus: Vec<usize>, target: Target, connections: u32) -> Plan {
        let now = Instant::now();
        Plan {
            cpus,
            target,
            connections,
            first_connection: 0,
            first_thread: 0,
            stagger: Duration::ZERO,
            open_all: false,
            timeout: Duration::from_secs(30),
            give_up: None,
            measure_from: now,
            until: None,
            began: now,
            part: Part::Whole,
        }
    }

    /// Threads of a run on this plan.
    pub fn threads(&self) -> usize {
        self.cpus.len().min(self.connections as usize)
    }
}

/// What came of something that went on beside a run.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its name in JSON.
    pub name: &'static str,
    /// For people: whole lines.
    pub text: String,
    /// For programs.
    pub json: serde_json::Value,
    /// Nothing is wrong with it.
    pub good: bool,
}

/// What came out of a run.
#[derive(Debug)]
pub struct Summary {
    /// When the measured part began.
    pub measure_from: Instant,
    /// Everything that was measured.
    pub total: Interval,
    /// From the end of the warm-up to the last measured operation.
    pub elapsed: Duration,
    /// CPU time of this process in the measured part.
    pub cpu: Duration,
    /// CPUs used.
    pub cpus: Vec<usize>,
    /// Why the run ended before its time.
    pub ended_early: Option<String>,
    /// What went on beside it.
    pub attachments: Vec<Attachment>,
}

/// Runs `plan`: `make` makes each thread's work. Returns what was measured and the works.
///
/// # Errors
/// When a thread cannot do its work at all; the text says why.
pub fn drive<D>(
    plan: &Plan,
    schedule: &Arc<Schedule>,
    progress: Progress,
    make: impl Fn(usize, Recorder) -> Result<D::Work, String> + Sync,
) -> Result<(Summary, Vec<D::Work>), String>
where
    D: Dialogue,
    D::Work: Send,
{
    let threads = plan.threads();
    match &plan.part {
        Part::Supervisor(shares) => {
            let summary = processes::supervise(plan, schedule, progress, shares)?;
            return Ok((summary, Vec::new()));
        }
        Part::Share => {
            processes::obey(schedule);
            // Others may take longer to start.
            std::thread::sleep(plan.began.saturating_duration_since(Instant::now()));
        }
        Part::Whole => {}
    }
    let (to, from) = unbounded();
    let watch = Watch::new(plan, schedule, progress)?;
    std::thread::scope(|scope| {
        let mut handles = Vec::with_capacity(threads);
        for thread in 0..threads {
            let share = |index: usize| plan.connections as usize * index / threads;
            let options = engine::Options {
                cpu: plan.cpus[thread],
                target: plan.target.clone(),
                connections: (share(thread + 1) - share(thread)) as u32,
                first_connection: plan.first_connection + share(thread) as u32,
                stagger: plan.stagger,
                open_all: plan.open_all,
                timeout: plan.timeout,
            };
            let recorder = Recorder::new(plan.measure_from, to.clone())
                .on_thread(plan.first_thread + thread as u32);
            let make = &make;
            let spawned = std::thread::Builder::new()
                .name(format!("loadgen-{}", options.cpu))
                .spawn_scoped(scope, move || {
                    let core = core_affinity::CoreId { id: options.cpu };
                    if !core_affinity::set_for_current(core) {
                        schedule.cut();
                        return Err(format!("cannot be pinned to CPU {}", options.cpu));
                    }
                    let result = make(thread, recorder)
                        .and_then(|mut work| engine::run::<D>(&options, &mut work).map(|()| work));
                    // One thread that cannot go on ends all.
                    result.inspect_err(|_| schedule.cut())
                });
            handles.push(spawned.map_err(|e| {
                schedule.cut();
                format!("a thread cannot be started: {e}")
            })?);
        }
        drop(to);
        let summary = watch.until_done(&from, &plan.cpus[..threads]);
        let mut works = Vec::with_capacity(threads);
        let mut failure = None;
        for handle in handles {
            match handle.join() {
                Ok(Ok(work)) => works.push(work),
                Ok(Err(why)) => failure = Some(why),
                Err(_) => failure = Some("a thread panicked".to_owned()),
            }
        }
        match failure {
            Some(why) => Err(why),
            None => {
                let summary = summary?;
                if matches!(plan.part, Part::Share) {
                    processes::tell_end(&summary)?;
                }
                Ok((summary, works))
            }
        }
    })
}

/// Creates a result file.
///
/// # Errors
/// Names flag and file.
pub fn create(path: &Path, flag: &str) -> Result<File, String> {
    File::create(path).map_err(|e| format!("{flag} {}: {e}", path.display()))
}

/// The CPUs this process may use.
pub fn allowed_cpus() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    ids.into_iter().map(|core| core.id).collect()
}

/// Raises the limit of open descriptors so that `connections` fit.
///
/// # Errors
/// Says what the limit is and how to raise it.
pub fn raise_descriptor_limit(connections: u32) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// Standard streams, ring, files, and some to spare.
    const OTHERS: u64 = 64;
    let wanted = u64::from(connections) + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|e| {
        format!(
            "--connections {connections}: this process may open {} descriptors at most ({e}); \
             raise the limit (ulimit -Hn, LimitNOFILE= in systemd, fs.nr_open), or use several \
             processes",
            limit.maximum.unwrap_or_default()
        )
    })
}
