//! A run that several processes share: they are started, heard, and told when to stop.
//!
//! A process that has a share writes what its threads see to its standard output, an interval a
//! line, and at the end what it used; it reads from its standard input when to stop. So the process
//! that has shared the run out adds up the same intervals that threads of its own would have sent.
//! On failure: one that cannot go on ends all; when the first process is gone, the others end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, unbounded};
use serde_json::{Value, json};

use super::{Plan, Summary, Watch};
use crate::interval::Interval;
use crate::progress::Progress;
use crate::schedule::Schedule;
use crate::task::Task;

/// How often the others are told what has changed.
const TELL_EVERY: Duration = Duration::from_millis(20);
/// Said to a process that has a share.
const STOP: &str = "stop";
const CUT: &str = "cut";

/// Starts this program again for each of the `shares`, and adds up what they see.
///
/// # Errors
/// When one cannot be started, or could not do its work; it has told why on standard error.
pub(super) fn supervise(
    plan: &Plan,
    schedule: &Schedule,
    progress: Progress,
    shares: &[Task],
) -> Result<Summary, String> {
    let watch = Watch::new(plan, schedule, progress)?;
    let mut children = Vec::with_capacity(shares.len());
    for share in shares {
        match start(share) {
            Ok(child) => children.push(child),
            Err(why) => {
                children.iter_mut().for_each(end);
                return Err(why);
            }
        }
    }
    let (to, from) = unbounded();
    let running = AtomicUsize::new(children.len());
    std::thread::scope(|scope| {
        let mut readers = Vec::with_capacity(children.len());
        let mut inputs = Vec::with_capacity(children.len());
        for mut child in children {
            inputs.push(child.stdin.take());
            let (to, running) = (to.clone(), &running);
            readers.push(scope.spawn(move || {
                let result = listen(&mut child, &to, plan.began);
                running.fetch_sub(1, Ordering::Relaxed);
                // One that cannot go on ends all.
                result.inspect_err(|_| schedule.cut())
            }));
        }
        drop(to);
        let running = &running;
        scope.spawn(move || {
            let (mut stop_told, mut cut_told) = (false, false);
            while running.load(Ordering::Relaxed) > 0 {
                for (told, is, word) in [
                    (&mut stop_told, schedule.is_stopped(), STOP),
                    (&mut cut_told, schedule.is_cut(), CUT),
                ] {
                    if is && !std::mem::replace(told, true) {
                        for input in inputs.iter_mut().flatten() {
                            // One that is gone needs no telling.
                            let _ = writeln!(input, "{word}");
                        }
                    }
                }
                std::thread::sleep(TELL_EVERY);
            }
        });
        let summary = watch.until_done(&from, &[]);
        let mut ends = Vec::with_capacity(readers.len());
        let mut failure = None;
        for reader in readers {
            match reader.join() {
                Ok(Ok(end)) => ends.push(end),
                Ok(Err(why)) => failure = Some(why),
                Err(_) => failure = Some("a thread panicked".to_owned()),
            }
        }
        if let Some(why) = failure {
            return Err(why);
        }
        let mut summary = summary?;
        for end in ends {
            summary.cpu += Duration::from_nanos(end["cpu_ns"].as_u64().unwrap_or(0));
            let cpus = end["cpus"].as_array().into_iter().flatten();
            let cpus = cpus.filter_map(|cpu| cpu.as_u64().map(|cpu| cpu as usize));
            summary.cpus.extend(cpus);
            if summary.ended_early.is_none() {
                summary.ended_early = end["ended_early"].as_str().map(str::to_owned);
            }
        }
        summary.cpus.sort_unstable();
        summary.cpus.dedup();
        Ok(summary)
    })
}

/// Ends a process that has nobody to report to.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn start(share: &Task) -> Result<Child, String> {
    let explain =
        |e: std::io::Error| format!("--processes: another process cannot be started: {e}");
    let share = serde_json::to_string(share).map_err(|e| e.to_string())?;
    Command::new(std::env::current_exe().map_err(explain)?)
        .args(std::env::args_os().skip(1))
        .arg("--share")
        .arg(share)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(explain)
}

/// Hands on what a process sees until it ends; returns what it said last.
fn listen(child: &mut Child, to: &Sender<Interval>, origin: Instant) -> Result<Value, String> {
    let mut last = Err("it said nothing at its end".to_owned());
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let said = line
                .map_err(|e| e.to_string())
                .and_then(|line| serde_json::from_str::<Value>(&line).map_err(|e| e.to_string()));
            match said {
                Ok(mut said) if said.get("interval").is_some() => {
                    match Interval::from_json(said["interval"].take(), origin) {
                        // Nobody listens any more only if the run has failed already.
                        Ok(interval) => drop(to.send(interval)),
                        Err(why) => last = Err(why),
                    }
                }
                Ok(end) => last = Ok(end),
                Err(why) => last = Err(why),
            }
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if !ExitStatus::success(&status) {
        return Err(format!("one of the processes could not go on: {status}"));
    }
    last.map_err(|why| format!("one of the processes cannot be understood: {why}"))
}

/// Tells the process that has shared the run out what was seen.
pub(super) fn tell_interval(interval: &Interval, origin: Instant) -> Result<(), String> {
    tell(&json!({ "interval": interval.to_json(origin)? }))
}

/// The last words of a process that has a share.
pub(super) fn tell_end(summary: &Summary) -> Result<(), String> {
    tell(&json!({
        "cpu_ns": summary.cpu.as_nanos() as u64,
        "cpus": summary.cpus,
        "ended_early": summary.ended_early,
    }))
}

fn tell(what: &Value) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")
        .and_then(|()| out.flush())
        .map_err(|e| format!("the process that shared the run out is gone: {e}"))
}

/// Obeys the process that has shared the run out, for as long as this process lives.
pub(super) fn obey(schedule: &Arc<Schedule>) {
    let schedule = schedule.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match line.as_str() {
                STOP => schedule.stop(),
                _ => break,
            }
        }
        // Told so, or nobody is there any more.
        schedule.cut();
    });
}
