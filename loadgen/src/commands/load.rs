//! How much load a run makes, and which part of it this process makes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{DURATION, Verdict, cpus, finish, mail, observe_log, secure};
use crate::cli::{Asked, Load, Run};
use crate::dialogue::secured::Upgrade;
use crate::progress::{Goal, Progress};
use crate::recorder::Recorder;
use crate::report::Title;
use crate::run::{self, Part, Plan, Summary};
use crate::schedule::{Curve, Offer, Pace, Schedule, Spacing};
use crate::task::Task;
use crate::tls::Tls;

/// Everything a run needs beside its works.
pub struct Prepared {
    /// What it is.
    pub plan: Plan,
    /// When operations start.
    pub schedule: Arc<Schedule>,
    /// Who watches.
    pub progress: Progress,
}

/// A thread of a run.
#[derive(Debug, Clone, Copy)]
pub struct Thread {
    /// Among those of this process.
    pub index: usize,
    /// Among those of all processes.
    pub number: u64,
}

/// Prepares a run and sees it to its end, under TLS if there is any; `make` makes each thread's work.
///
/// # Errors
/// As [`prepare`] and [`run::drive`].
pub fn drive<D>(
    asked: &Asked<'_>,
    tls: Option<&Tls>,
    noun: &'static str,
    task: Task,
    make: impl Fn(Pace, Thread, Recorder) -> D::Work + Sync,
) -> Result<(Summary, Vec<D::Work>), String>
where
    D: Upgrade,
    D::Work: Send,
{
    let Prepared {
        plan,
        schedule,
        progress,
    } = prepare(asked, noun, task)?;
    let first = u64::from(plan.first_thread);
    let make = |index, recorder| {
        let number = first + index as u64;
        let pace = Pace::new(schedule.clone(), index);
        Ok(make(pace, Thread { index, number }, recorder))
    };
    secure::drive::<D>(&plan, &schedule, progress, tls, make)
}

/// What the flags ask for, or the process that has started this one.
pub fn task(flags: &Run, load: &Load) -> Task {
    let task = load.share.clone();
    task.unwrap_or_else(|| Task {
        rate: load.rate,
        warmup: flags.warmup,
        duration: flags.duration.or(flags.count.is_none().then_some(DURATION)),
        count: flags.count,
        run: mail::run_id(),
        begins: Duration::ZERO,
        processes: load.processes,
        index: None,
    })
}

/// Runs what the flags ask for, or the share of it that this process was given, and shows it.
///
/// # Errors
/// Those of `run`; when results cannot be written.
pub fn shown(
    asked: &Asked<'_>,
    run: impl FnOnce(Task) -> Result<(Title, Summary), String>,
) -> Result<Verdict, String> {
    let task = task(asked.run, asked.load);
    let share = task.is_share();
    let (title, summary) = run(task)?;
    // Whoever has shared the run out tells it all.
    if share {
        Ok(true)
    } else {
        finish(&title, &summary, asked.common)
    }
}

/// The file of a process that has a share: `FILE.0` and so on, or `FILE` where there is one process;
/// `None` for the one that shares the run out.
pub fn file_of(task: &Task, path: &Path) -> Option<PathBuf> {
    match task.index {
        _ if task.shares_out() => None,
        Some(index) => Some(path.with_added_extension(index.to_string())),
        None => Some(path.to_owned()),
    }
}

/// Sets the beginning of a run, and says what this process does of it.
///
/// # Errors
/// A machine that cannot do it, files that cannot be written.
pub fn prepare(asked: &Asked<'_>, noun: &'static str, mut task: Task) -> Result<Prepared, String> {
    let Asked {
        run: flags,
        load,
        common,
        target,
    } = *asked;
    let all_cpus = cpus(common)?;
    let (first_connection, connections) = task.share_of(u64::from(flags.connections));
    let (first_connection, connections) = (first_connection as u32, connections as u32);
    if !task.shares_out() {
        run::raise_descriptor_limit(connections)?;
    }
    let goal = match (task.count, task.duration) {
        (Some(count), None) => Goal::Count(count),
        (_, duration) => Goal::Time(task.warmup + duration.unwrap_or_default()),
    };
    let mut progress = Progress::new(noun, goal, common.quiet || task.is_share());
    if !task.is_share() {
        observe_log(&mut progress, flags, common, task.warmup)?;
    }
    task.begin();
    let began = task.began();
    let until = task.duration.map(|duration| began + task.warmup + duration);
    let threads = |task: &Task| task.threads(flags.connections, &all_cpus);
    let before = task.shares().take(task.number() as usize);
    let first_thread = before.map(|task| threads(&task)).sum();
    let all_threads = task.shares().map(|task| threads(&task)).sum();
    let plan = Plan {
        cpus: task.cpus(&all_cpus),
        target: target.clone(),
        connections,
        first_connection,
        first_thread,
        stagger: match task.rate {
            Some(_) => Duration::ZERO,
            None => load.ramp / flags.connections,
        },
        open_all: load.open_all,
        timeout: common.timeout,
        give_up: (!task.is_share()).then_some(common.give_up),
        measure_from: began + task.warmup,
        until,
        began,
        part: if task.is_share() {
            Part::Share
        } else if task.shares_out() {
            Part::Supervisor(task.shares().collect())
        } else {
            Part::Whole
        },
    };
    let count = task.count.map(|count| task.share_of(count).1);
    let mut schedule = Schedule::new(count, until);
    if task.is_share() {
        schedule = schedule.numbered(task.number(), task.processes);
    }
    let ramp = |rate| Curve::ramp(load.ramp_from, rate, load.ramp);
    if let Some(curve) = load.curve.clone().or_else(|| task.rate.map(ramp)) {
        schedule = schedule.open(Offer {
            curve: Arc::new(curve),
            spacing: load.arrivals,
            began,
            seed: load.seed,
            first_thread,
            threads: all_threads,
        });
    }
    Ok(Prepared {
        plan,
        schedule: Arc::new(schedule),
        progress,
    })
}

/// The part of the title that says how much load there is.
pub fn described(asked: &Asked<'_>, task: &Task) -> String {
    let (load, connections) = (asked.load, asked.run.connections);
    let processes = match task.processes {
        1 => String::new(),
        processes => format!(" in {processes} processes"),
    };
    let rate = match (task.rate, &load.curve) {
        (Some(rate), _) => format!("{rate}/s"),
        (None, Some(_)) => "along a curve,".to_owned(),
        (None, None) => return format!("closed loop, {connections} connections{processes}"),
    };
    let arrivals = match load.arrivals {
        Spacing::Poisson => "Poisson",
        Spacing::Uniform => "uniform",
    };
    format!("open loop, {rate} {arrivals}, at most {connections} connections{processes}")
}
