//! One run: a pinned thread per CPU, their intervals added up, progress shown, the end decided.
//!
//! Guarantees: the run ends. Either the schedule is done, or nothing was completed for
//! `--give-up`, or what was begun has had its time after the end of the schedule.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, unbounded};

use crate::clock;
use crate::dialogue::Dialogue;
use crate::engine;
use crate::observe::{Span, View};
use crate::progress::Progress;
use crate::recorder::{Interval, Recorder};
use crate::schedule::Schedule;
use crate::target::Target;

/// What a run is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// CPUs, a thread each; fewer are used if there are fewer connections.
    pub cpus: Vec<usize>,
    /// Where the server is.
    pub target: Target,
    /// Connections over all threads.
    pub connections: u32,
    /// Silence of the server that counts as a hang.
    pub timeout: Duration,
    /// The run ends when nothing was completed for so long; `None`: never.
    pub give_up: Option<Duration>,
    /// What begins before is not measured.
    pub measure_from: Instant,
    /// Nothing begins later.
    pub until: Option<Instant>,
}

impl Plan {
    /// A run with this many connections that measures at once and ends when it is told to.
    pub fn new(cpus: Vec<usize>, target: Target, connections: u32) -> Plan {
        Plan {
            cpus,
            target,
            connections,
            timeout: Duration::from_secs(30),
            give_up: None,
            measure_from: Instant::now(),
            until: None,
        }
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

/// A target that gave nothing but errors from the start is given up sooner.
const GIVE_UP_FIRST: Duration = Duration::from_secs(5);
/// How often the display moves and the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often observers are told what was measured.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Runs `plan`: `make` makes each thread's work. Returns what was measured and the works.
///
/// # Errors
/// When a thread cannot do its work at all; the text says why.
pub fn drive<D>(
    plan: &Plan,
    schedule: &Schedule,
    progress: Progress,
    make: impl Fn(usize, Recorder) -> Result<D::Work, String> + Sync,
) -> Result<(Summary, Vec<D::Work>), String>
where
    D: Dialogue,
    D::Work: Send,
{
    let threads = plan.cpus.len().min(plan.connections as usize);
    let (to, from) = unbounded();
    let interrupted = interrupt_flag()?;
    let watch = Watch {
        plan,
        schedule,
        began: Instant::now(),
        since_log: Interval::default(),
        total: Interval::default(),
        progress,
        ended_early: None,
        last_ended: (Instant::now(), 0),
        over_since: None,
        interrupted,
    };
    std::thread::scope(|scope| {
        let mut handles = Vec::with_capacity(threads);
        for thread in 0..threads {
            let share = |index: usize| plan.connections as usize * index / threads;
            let options = engine::Options {
                cpu: plan.cpus[thread],
                target: plan.target.clone(),
                connections: (share(thread + 1) - share(thread)) as u32,
                first_connection: share(thread) as u32,
                stagger: Duration::ZERO,
                timeout: plan.timeout,
            };
            let recorder = Recorder::new(plan.measure_from, to.clone());
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
            None => Ok((summary?, works)),
        }
    })
}

/// Set by SIGINT and SIGTERM: the run ends then, with its figures.
fn interrupt_flag() -> Result<Arc<AtomicBool>, String> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second signal ends the process.
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .map_err(|e| format!("signal handlers: {e}"))?;
    }
    Ok(flag)
}

/// Creates a result file.
///
/// # Errors
/// Names flag and file.
pub fn create(path: &Path, flag: &str) -> Result<File, String> {
    File::create(path).map_err(|e| format!("{flag} {}: {e}", path.display()))
}

struct Watch<'a> {
    plan: &'a Plan,
    schedule: &'a Schedule,
    began: Instant,
    since_log: Interval,
    total: Interval,
    progress: Progress,
    ended_early: Option<String>,
    /// When the number of ended operations last grew, and to what.
    last_ended: (Instant, u64),
    over_since: Option<Instant>,
    interrupted: Arc<AtomicBool>,
}

impl Watch<'_> {
    fn until_done(mut self, from: &Receiver<Interval>, cpus: &[usize]) -> Result<Summary, String> {
        let mut cpu_from = clock::process_cpu();
        let mut warm = Instant::now() >= self.plan.measure_from;
        let mut log_from = self.began;
        let mut result = Ok(());
        loop {
            let now = Instant::now();
            if !warm && now >= self.plan.measure_from {
                warm = true;
                cpu_from = clock::process_cpu();
            }
            let look_at = now + LOOK_EVERY;
            let wake_at = if warm {
                look_at
            } else {
                look_at.min(self.plan.measure_from)
            };
            let arrived = match from.recv_deadline(wake_at) {
                Ok(interval) => Some(interval),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(interval) = arrived {
                self.since_log.add(interval);
            }
            let now = Instant::now();
            if now >= log_from + LOG_EVERY {
                result = result.and(self.tell(log_from, now));
                log_from = now;
            }
            self.look(now);
        }
        result = result.and(self.tell(log_from, Instant::now()));
        let end = self.total.last_end.unwrap_or_else(Instant::now);
        result.and(self.progress.finish())?;
        Ok(Summary {
            elapsed: end.saturating_duration_since(self.plan.measure_from),
            total: self.total,
            cpu: clock::process_cpu().saturating_sub(cpu_from),
            cpus: cpus.to_vec(),
            ended_early: self.ended_early,
            attachments: Vec::new(),
        })
    }

    /// Tells observers what came since the last time, and moves it into the total.
    fn tell(&mut self, from: Instant, now: Instant) -> Result<(), String> {
        let interval = std::mem::take(&mut self.since_log);
        let result = self.progress.interval(&Span {
            start: from - self.began,
            length: now - from,
            interval: &interval,
            late: None,
        });
        self.total.add(interval);
        result
    }

    fn look(&mut self, now: Instant) {
        let mut counts = self.total.counts;
        counts.add(&self.since_log.counts);
        let faults = [&self.total, &self.since_log]
            .iter()
            .flat_map(|interval| interval.faults.values())
            .map(|fault| fault.count)
            .sum::<u64>();
        self.progress.look(&View {
            now,
            counts,
            faults,
            total: &self.total,
            recent: &self.since_log,
            late: None,
        });
        if self.interrupted.load(Ordering::Relaxed) && self.ended_early.is_none() {
            self.ended_early = Some("interrupted by a signal".to_owned());
            self.schedule.stop();
        }
        if counts.ended_ever > self.last_ended.1 {
            self.last_ended = (now, counts.ended_ever);
        }
        if let Some(give_up) = self.plan.give_up {
            let give_up = if counts.connections == 0 {
                give_up.min(GIVE_UP_FIRST)
            } else {
                give_up
            };
            if now >= self.last_ended.0 + give_up && self.ended_early.is_none() {
                self.ended_early = Some(format!(
                    "given up: nothing was completed for {give_up:?}{}",
                    if counts.connections == 0 {
                        ", and no connection came up"
                    } else {
                        ""
                    }
                ));
                self.schedule.cut();
            }
        }
        // What has begun may take its time-out to fail, and no longer.
        if self.schedule.is_over(now) {
            let over_since = *self.over_since.get_or_insert(now);
            if now >= over_since + self.plan.timeout + LOG_EVERY {
                self.schedule.cut();
            }
        }
    }
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
