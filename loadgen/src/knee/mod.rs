//! `loadgen knee`: searches the highest rate at which a server keeps a promise about its latency.
//!
//! Guarantees: each step is an open-loop run of its own with its own warm-up; a rate counts as held
//! only if every run at it and below it held.
//! On failure: a search that is interrupted tells what it has found so far.

pub mod promise;
pub mod search;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chart::scale::{number, percent, short, time};
use crate::cli::knee::{Knee, KneeOf, Promise};
use crate::cli::{Common, Mail, Run};
use crate::commands::load::task;
use crate::commands::mail::{lmtp_run, smtp_run, submission_run};
use crate::commands::{Verdict, pop3_run, write_json};
use crate::report::{self, Title};
use crate::run::{Summary, was_interrupted};
use crate::task::Task;
use crate::verdict::Signs;
use promise::{Limit, broken};
use search::{Known, Trial, known, next};

/// What a step takes if no flag says otherwise.
const WARMUP: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(5);
/// From one step to the next: a server that was overrun has to come to itself.
const REST: Duration = Duration::from_millis(500);

/// `knee`.
///
/// # Errors
/// As the run that is repeated.
pub fn knee(flags: &Knee) -> Result<Verdict, String> {
    match &flags.of {
        KneeOf::Smtp(of) => search_mail(&of.promise, &of.run.mail, |task| smtp_run(&of.run, task)),
        KneeOf::Lmtp(of) => search_mail(&of.promise, &of.run.mail, |task| lmtp_run(&of.run, task)),
        KneeOf::Submission(of) => search_mail(&of.promise, &of.run.mail, |task| {
            submission_run(&of.run, task)
        }),
        KneeOf::Pop3(of) => {
            let task = task(&of.run.run, &of.run.load);
            run(&of.promise, task, &of.run.run, &of.run.common, |task| {
                pop3_run(&of.run, task)
            })
        }
    }
}

fn search_mail(
    promise: &Promise,
    flags: &Mail,
    each: impl Fn(Task) -> Result<(Title, Summary), String>,
) -> Result<Verdict, String> {
    if flags.ledger.is_some() {
        return Err("knee: --ledger notes one run, and these are many".to_owned());
    }
    let task = task(&flags.run, &flags.load);
    run(promise, task, &flags.run, &flags.common, each)
}

/// A run at a rate, and what came out.
struct Step {
    trial: Trial,
    reasons: Vec<String>,
    bottleneck: Option<String>,
    json: Value,
}

fn run(
    promise: &Promise,
    mut task: Task,
    flags: &Run,
    common: &Common,
    each: impl Fn(Task) -> Result<(Title, Summary), String>,
) -> Result<Verdict, String> {
    if task.is_share() {
        return each(task).map(|_| true);
    }
    let results = flags.hdr_log.is_some() || common.record.results.is_some();
    if task.rate.is_some() || task.count.is_some() || results {
        return Err(
            "knee: --rate, --count, --hdr-log and --results make no sense here: it chooses the \
             rates, and each step takes --duration"
                .to_owned(),
        );
    }
    task.duration = Some(flags.duration.unwrap_or(DURATION));
    if task.warmup.is_zero() {
        task.warmup = WARMUP;
    }
    let limits = promise.limits();
    let search = promise.search();
    let mut trials = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    let mut settings = None;
    while let Some(rate) = next(&trials, &search) {
        task.rate = Some(rate);
        let (title, summary) = each(task.clone())?;
        if was_interrupted() {
            break;
        }
        let step = step(rate, &title, &summary, &limits);
        if !common.quiet {
            if trials.is_empty() {
                crate::sayln!("{}", opening(&limits, &search, &task));
            }
            crate::sayln!("{}", line(&step, &summary, &limits));
        }
        trials.push(step.trial);
        steps.push(step);
        settings.get_or_insert(title);
        std::thread::sleep(REST);
    }
    let known = known(&trials);
    let bottleneck = edge_bottleneck(&steps, known);
    let text = conclusion(&limits, known, &trials, bottleneck, was_interrupted());
    crate::say::say(&text);
    if let Some(path) = &common.json {
        let json = json!({
            "command": settings.as_ref().map(|title| format!("knee {}", title.command)),
            "settings": settings.as_ref().map(|title| &title.settings),
            "promise": limits.iter().map(|limit| json!({
                "name": limit.name,
                "quantile": limit.quantile,
                "time_ns": limit.time.as_nanos() as u64,
            })).collect::<Vec<_>>(),
            "held_per_s": known.held,
            "failed_per_s": known.failed,
            "runs": trials.len(),
            "generator_was_bottleneck": bottleneck,
            "interrupted": was_interrupted(),
            "steps": steps.iter().map(|step| &step.json).collect::<Vec<_>>(),
        });
        write_json(path, &json)?;
    }
    Ok(known.held.is_some() && !was_interrupted())
}

fn step(rate: f64, title: &Title, summary: &Summary, limits: &[Limit]) -> Step {
    let mut reasons = broken(&summary.total, limits);
    reasons.extend(summary.ended_early.clone());
    let mut json = report::json(title, summary);
    json["rate"] = rate.into();
    json["held"] = reasons.is_empty().into();
    json["broken"] = reasons.clone().into();
    Step {
        trial: Trial {
            rate,
            held: reasons.is_empty(),
        },
        reasons,
        bottleneck: bottleneck(summary, limits),
        json,
    }
}

/// Whether the generator was the bottleneck. That it began late matters here only as a part of what is
/// promised: a millisecond says nothing about a promise of fifty.
fn bottleneck(summary: &Summary, limits: &[Limit]) -> Option<String> {
    let mut signs = Signs::of(&summary.total, summary.elapsed);
    let strictest = limits.iter().map(|limit| limit.time).min();
    signs.operation_p50 = signs.operation_p50.max(strictest.unwrap_or_default());
    let reasons = signs.bottleneck();
    (!reasons.is_empty())
        .then(|| format!("the generator was the bottleneck: {}", reasons.join("; ")))
}

/// The promise in words.
fn promised(limits: &[Limit]) -> String {
    let parts: Vec<_> = limits
        .iter()
        .map(|limit| format!("{} within {:?}", limit.name, limit.time))
        .collect();
    parts.join(" and ")
}

fn opening(limits: &[Limit], search: &search::Limits, task: &Task) -> String {
    format!(
        "the highest rate with {}: runs of {:?}, each after {:?} of warm-up; the rate doubles until the \
         promise breaks,\nthe gap is halved until it is {} wide, and both its edges are run {} times; \
         at most {} runs",
        promised(limits),
        task.duration.unwrap_or_default(),
        task.warmup,
        percent(search.precision),
        search.repeats,
        search.trials_max
    )
}

fn line(step: &Step, summary: &Summary, limits: &[Limit]) -> String {
    let mut text = format!(
        "{:>10}/s  {:<6}",
        rate(step.trial.rate),
        if step.trial.held { "held" } else { "failed" }
    );
    for limit in limits {
        if let Some(reached) = limit.reached(&summary.total) {
            let reached = time(reached.as_nanos() as f64);
            let _ = write!(text, "  {} {reached:>8}", limit.name);
        }
    }
    if !step.reasons.is_empty() {
        let _ = write!(text, "  ({})", step.reasons.join("; "));
    }
    if let Some(why) = &step.bottleneck {
        let _ = write!(text, "  {why}");
    }
    text
}

/// Operations per second, as precise as they are searched for.
fn rate(per_s: f64) -> String {
    if per_s >= 100.0 {
        number(per_s, 0)
    } else {
        short(per_s)
    }
}

/// How sure it is, after so many runs that all came out alike, that most runs would: a coin comes
/// down on one side n times in a row once in 2^n.
fn sure(runs: usize) -> String {
    let sure = 1.0 - 0.5f64.powi(runs.min(1000) as i32);
    match runs {
        0 | 1 => String::new(),
        _ => format!(": {} sure that most do", percent(sure)),
    }
}

/// Whether the generator set the limit where the promise broke.
fn edge_bottleneck(steps: &[Step], known: Known) -> Option<&str> {
    let edge = |step: &&Step| {
        let rate = step.trial.rate;
        known.held.is_none_or(|held| rate >= held)
            && known.failed.is_none_or(|failed| rate <= failed)
    };
    let mut reasons = steps
        .iter()
        .filter(edge)
        .filter_map(|step| step.bottleneck.as_deref());
    reasons.next()
}

fn conclusion(
    limits: &[Limit],
    known: Known,
    trials: &[Trial],
    bottleneck: Option<&str>,
    interrupted: bool,
) -> String {
    let promise = promised(limits);
    let runs = |wanted: &dyn Fn(f64) -> bool| {
        let runs = trials.iter().filter(|trial| wanted(trial.rate));
        runs.count()
    };
    let mut text = match known.held {
        Some(held) => format!("\nknee: {}/s with {promise}\n", rate(held)),
        None => format!("\nknee: none: {promise} held at no rate\n"),
    };
    // Writing to a string cannot fail, here and below.
    if let Some(held) = known.held {
        let here = runs(&|rate| rate == held);
        let _ = writeln!(
            text,
            "  held at   {:>9}/s  in {here} of {here} runs, and in all {} below it{}",
            rate(held),
            runs(&|rate| rate < held),
            sure(here)
        );
    }
    if let (Some(held), Some(failed)) = (known.held, known.failed) {
        let luck: Vec<_> = trials
            .iter()
            .filter(|trial| trial.rate > held && trial.rate < failed)
            .collect();
        if !luck.is_empty() {
            let _ = writeln!(
                text,
                "  between            in {} of {} runs: a matter of luck there",
                luck.iter().filter(|trial| trial.held).count(),
                luck.len()
            );
        }
    }
    match known.failed {
        Some(failed) => {
            let here = runs(&|rate| rate == failed);
            let _ = writeln!(
                text,
                "  failed at {:>9}/s  in {here} of {here} runs, and in all {} above it{}",
                rate(failed),
                runs(&|rate| rate > failed),
                sure(here)
            );
        }
        None if known.held.is_some() => {
            text.push_str(
                "  it may be higher: no higher rate was tried, or not every one failed\n",
            );
        }
        None => {}
    }
    if let Some(why) = bottleneck {
        let _ = writeln!(text, "the knee is a lower bound: {why}");
    }
    if interrupted {
        text.push_str("ended early: interrupted by a signal\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conclusion_says_how_sure_it_is() {
        let limits = [Limit {
            name: "p99",
            quantile: 0.99,
            time: Duration::from_millis(50),
        }];
        let trials: Vec<_> = [(800.0, true), (800.0, true), (840.0, false)]
            .into_iter()
            .map(|(rate, held)| Trial { rate, held })
            .collect();
        let text = conclusion(&limits, known(&trials), &trials, Some("it was busy"), false);
        assert!(text.contains("800/s with p99 within 50ms"), "{text}");
        let held = "held at         800/s  in 2 of 2 runs, and in all 0 below it: 75% sure";
        assert!(text.contains(held), "{text}");
        let failed = "failed at       840/s  in 1 of 1 runs, and in all 0 above it\n";
        assert!(text.contains(failed), "{text}");
        assert!(text.contains("a lower bound: it was busy"), "{text}");
        let text = conclusion(&limits, known(&trials[..1]), &trials[..1], None, true);
        assert!(
            text.contains("it may be higher") && text.contains("interrupted"),
            "{text}"
        );
        let blurred = [(700.0, true), (800.0, false), (810.0, true), (900.0, false)]
            .map(|(rate, held)| Trial { rate, held });
        let text = conclusion(&limits, known(&blurred), &blurred, None, false);
        assert!(text.contains("in 1 of 2 runs: a matter of luck"), "{text}");
        let text = conclusion(&limits, known(&trials[2..]), &trials[2..], None, false);
        assert!(text.contains("held at no rate"), "{text}");
    }
}
