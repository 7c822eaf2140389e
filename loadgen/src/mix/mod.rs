//! `loadgen mix`: a population of users, each doing what it does, at several shares of the rated
//! load, judged by SPECmail's criteria.
//!
//! Each class of users is a run of `loadgen` of its own, with flags that anybody can repeat.
//!
//! Guarantees: what each class will do is said before anything runs. A class whose service was not
//! named is left out and said so; the verdict is about what ran, and what did too little to be judged
//! has none.
//! Does not know: which server it is.

mod file;
mod judge;
mod plan;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::mix::Mix;
use crate::commands::{Verdict, write_json};
use crate::steps::{Obstacle, Step};
use file::{Class, Kind, Population};
use judge::{Judgement, Row};
use plan::Expected;

/// A class at one load: what is run, or why not.
struct Part<'a> {
    class: &'a Class,
    /// Operations per second that are wanted on average, or sessions held.
    wanted: f64,
    words: Result<Vec<String>, String>,
}

/// `mix`.
///
/// # Errors
/// A file that cannot be understood: names line and key.
pub fn mix(flags: &Mix) -> Result<Verdict, String> {
    let population = Population::read(flags)?;
    crate::say::say(&plan::text(&population, &flags.load, |class| {
        words(&population, class, 1.0).err()
    }));
    let mut judgements = Vec::new();
    let mut results = Vec::new();
    for &load in &flags.load {
        let parts = parts(&population, f64::from(load) / 100.0);
        if flags.dry_run {
            crate::sayln!("\nat {load} % of the rated load:");
            for part in &parts {
                match &part.words {
                    Ok(words) => crate::sayln!("  $ loadgen {}", words.join(" ")),
                    Err(why) => crate::sayln!("  {}: {why}", part.class.name),
                }
            }
            continue;
        }
        let (judgement, json) = run(&population, load, parts, &flags.processors)?;
        crate::say::say(&judgement.text(&population));
        judgements.push(judgement);
        results.push(json);
    }
    let good = judgements
        .iter()
        .filter(|judgement| judgement.load <= 100)
        .all(Judgement::good);
    if !flags.dry_run {
        crate::say::say(&judge::table(&judgements));
    }
    if let Some(path) = &flags.json {
        write_json(
            path,
            &json!({ "title": population.title, "loads": results, "good": good }),
        )?;
    }
    Ok(good)
}

fn parts(population: &Population, load: f64) -> Vec<Part<'_>> {
    population
        .classes
        .iter()
        .map(|class| Part {
            class,
            wanted: wanted(population, class, load),
            words: words(population, class, load),
        })
        .collect()
}

/// Operations per second on average, or sessions.
fn wanted(population: &Population, class: &Class, load: f64) -> f64 {
    match class.kind {
        Kind::Idle => Expected::of(population, class, load).operations,
        _ => population.mean_rate(class) * load,
    }
}

/// The command line of a class.
fn words(population: &Population, class: &Class, load: f64) -> Result<Vec<String>, String> {
    let absent = |flag: &str| format!("left out: no {flag} is named, in the file or as --{flag}");
    let mut words: Vec<String> = Vec::new();
    let mut add = |parts: &[&str]| words.extend(parts.iter().map(|part| (*part).to_owned()));
    let users = population.users.to_string();
    let time = format!("{}ms", population.time.as_millis());
    let people = [
        "--users",
        &users,
        "--prefix",
        &population.prefix,
        "--domain",
        &population.domain,
    ];
    // Those of the class, where a session is somebody's.
    let count = population.members(class).to_string();
    let mut members = people;
    members[1] = &count;
    let login = ["--password", &population.password];
    let connections = class.connections.to_string();
    match class.kind {
        Kind::Inbound => {
            let target = population.smtp.as_ref().ok_or_else(|| absent("smtp"))?;
            add(&["smtp", "--target", &target.to_string()]);
            add(&people);
            add(&["--size", &class.size, "--recipients", &class.recipients]);
            if let Some(way) = population.watched() {
                add(&[
                    "--end-to-end",
                    &way,
                    "--mailbox-password",
                    &population.password,
                ]);
                add(&["--watch-messages", &class.watch_messages.to_string()]);
                // A twelfth of what is allowed: looking costs sessions.
                add(&["--poll-every", "5s"]);
            }
        }
        Kind::Relay => {
            let target = population.relay.as_ref().ok_or_else(|| absent("relay"))?;
            add(&["smtp", "--target", &target.to_string()]);
            add(&[
                "--users",
                &users,
                "--prefix",
                "r",
                "--domain",
                &class.domain,
            ]);
            add(&["--size", &class.size, "--recipients", &class.recipients]);
        }
        Kind::Pop3 => {
            let target = population.pop3.as_ref().ok_or_else(|| absent("pop3"))?;
            add(&["pop3", "--target", &target.to_string()]);
            add(&members);
            add(&login);
            add(&["--retr", &class.retrieve.to_string()]);
            if class.delete {
                add(&["--delete"]);
            }
        }
        Kind::Imap => {
            let target = population.imap.as_ref().ok_or_else(|| absent("imap"))?;
            add(&["imap", "--target", &target.to_string()]);
            add(&members);
            add(&login);
            let each = class.commands_per_session.to_string();
            add(&["--mix", &class.mix, "--commands-per-session", &each]);
        }
        Kind::Idle => {
            let target = population.imap.as_ref().ok_or_else(|| absent("imap"))?;
            let sessions = wanted(population, class, load).max(1.0);
            if sessions > f64::from(population.users) {
                return Err(format!(
                    "left out: {sessions} sessions are more than there are users"
                ));
            }
            add(&["idle", "--target", &target.to_string()]);
            add(&people);
            add(&login);
            add(&[
                "--connections",
                &format!("{sessions:.0}"),
                "--duration",
                &time,
            ]);
            return Ok(words);
        }
    }
    add(&["--connections", &connections, "--duration", &time]);
    let curve = population.curve(class, load);
    match curve.as_slice() {
        [(_, rate)] => add(&["--rate", &format!("{rate:.6}")]),
        points => {
            let points: Vec<String> = points
                .iter()
                .map(|(at, rate)| format!("{}ms:{rate:.6}", at.as_millis()))
                .collect();
            add(&["--curve", &points.join(",")]);
        }
    }
    Ok(words)
}

fn run(
    population: &Population,
    load: u32,
    parts: Vec<Part<'_>>,
    processors: &str,
) -> Result<(Judgement, Value), String> {
    eprintln!(
        "{load} % of the rated load, {:?} ...",
        Duration::from_secs(population.time.as_secs())
    );
    let mut judgement = Judgement::new(load);
    let mut running = Vec::new();
    for part in &parts {
        match &part.words {
            Ok(words) => match Step::start(processors, words) {
                Ok(step) => running.push((part, step)),
                Err(Obstacle::Absent(why) | Obstacle::Broken(why)) => return Err(why),
            },
            Err(why) => judgement
                .left_out
                .push((part.class.name.clone(), why.clone())),
        }
    }
    if running.is_empty() {
        let mut text = "nothing to run:\n".to_owned();
        for (name, why) in &judgement.left_out {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {why}");
        }
        return Err(text);
    }
    let mut classes = serde_json::Map::new();
    for (part, step) in running {
        let command = step.command.clone();
        let row = match step.finish() {
            Ok(ran) => {
                let row = Row::of(part.class, part.wanted, &ran, &population.qos);
                classes.insert(part.class.name.clone(), ran.json);
                row
            }
            Err(Obstacle::Absent(why) | Obstacle::Broken(why)) => {
                Row::broken(part.class, part.wanted, why)
            }
        };
        judgement.commands.push(command);
        judgement.rows.push(row);
    }
    let json = json!({
        "load_percent": load,
        "good": judgement.good(),
        "judgement": judgement.json(),
        "runs": classes,
    });
    Ok((judgement, json))
}

#[cfg(test)]
mod tests;
