//! `loadgen merge`: adds up the results of runs that were made at the same time, by several
//! machines or shells.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Verdict, write_json};
use crate::cli::Merge;
use crate::interval::Interval;
use crate::report::{self, Title};
use crate::run::Summary;

/// `merge`.
///
/// # Errors
/// Names the file that cannot be read, or is no result of a run, or of another command.
pub fn merge(flags: &Merge) -> Result<Verdict, String> {
    let origin = Instant::now();
    let mut summary = Summary {
        measure_from: origin,
        total: Interval::default(),
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
        cpus: Vec::new(),
        ended_early: None,
        attachments: Vec::new(),
    };
    let mut command = None;
    for path in &flags.files {
        let json = read(path)?;
        let wrong = |what: &str| format!("{}: {what}", path.display());
        let name = json["command"]
            .as_str()
            .ok_or_else(|| wrong("not what --json writes"))?;
        if command.get_or_insert_with(|| name.to_owned()) != name {
            return Err(wrong(&format!(
                "a result of `{name}`: wanted are runs of one command"
            )));
        }
        add(&mut summary, &json, origin).map_err(|why| wrong(&why))?;
    }
    let (command, noun, items) = match command.as_deref() {
        Some("smtp") => ("smtp", "messages", "recipients"),
        Some("lmtp") => ("lmtp", "messages", "recipients"),
        Some("submission") => ("submission", "messages", "recipients"),
        Some("pop3") => ("pop3", "sessions", "messages retrieved"),
        Some("imap") => ("imap", "commands", "bodies fetched"),
        _ => ("merge", "operations", "items"),
    };
    let title = Title {
        command,
        noun,
        items,
        settings: format!("{} runs added up", flags.files.len()),
    };
    crate::say::say(&report::table(&title, &summary));
    if let Some(path) = &flags.json {
        write_json(path, &report::json(&title, &summary))?;
    }
    Ok(summary.total.faults.is_empty()
        && summary.total.counts.failed == 0
        && summary.ended_early.is_none())
}

fn read(path: &Path) -> Result<Value, String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
}

fn add(summary: &mut Summary, json: &Value, origin: Instant) -> Result<(), String> {
    let mut interval = Interval::from_json(json["interval"].clone(), origin)
        .map_err(|why| format!("not a result that can be added up: {why}"))?;
    // Threads of another machine are others, whatever their number.
    let next = summary
        .total
        .efforts
        .keys()
        .max()
        .map_or(0, |last| last + 1);
    let efforts = std::mem::take(&mut interval.efforts);
    interval.efforts = (next..).zip(efforts.into_values()).collect();
    summary.total.add(interval);
    let seconds = |name: &str| {
        let seconds = json[name].as_f64().unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds).map_err(|e| format!("{name}: {e}"))
    };
    summary.elapsed = summary.elapsed.max(seconds("elapsed_s")?);
    summary.cpu += seconds("cpu_s")?;
    let cpus = json["cpus"].as_array().into_iter().flatten();
    let cpus = cpus.filter_map(Value::as_u64).map(|cpu| cpu as usize);
    summary.cpus.extend(cpus);
    summary.cpus.sort_unstable();
    summary.cpus.dedup();
    if summary.ended_early.is_none() {
        summary.ended_early = json["ended_early"].as_str().map(str::to_owned);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Recorder, Verb};

    /// What `--json` writes of a run of `count` messages.
    fn result(count: u64, seconds: u64) -> Value {
        let origin = Instant::now();
        let (to, from) = crossbeam::channel::unbounded();
        let mut recorder = Recorder::new(origin, to);
        for ms in 1..=count {
            recorder.time(Verb::Message, origin, origin + Duration::from_millis(ms));
        }
        recorder.counts().done = count;
        recorder.finish();
        let summary = Summary {
            measure_from: origin,
            total: from.recv().expect("shipped"),
            elapsed: Duration::from_secs(seconds),
            cpu: Duration::from_millis(10),
            cpus: vec![0],
            ended_early: None,
            attachments: Vec::new(),
        };
        let title = Title {
            command: "smtp",
            noun: "messages",
            items: "recipients",
            settings: String::new(),
        };
        report::json(&title, &summary)
    }

    #[test]
    fn results_are_added_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let [a, b, sum] = ["a", "b", "sum"].map(|name| dir.path().join(name));
        std::fs::write(&a, result(100, 2).to_string()).expect("written");
        std::fs::write(&b, result(50, 3).to_string()).expect("written");
        let mut flags = Merge {
            files: vec![a, b.clone()],
            json: Some(sum.clone()),
        };
        assert_eq!(merge(&flags), Ok(true));
        let json = read(&sum).expect("JSON");
        assert_eq!(
            (&json["done"], &json["elapsed_s"]),
            (&150.into(), &3.0.into())
        );
        assert_eq!(json["verbs"]["message"]["count"], 150);
        let max = json["verbs"]["message"]["max_ns"]
            .as_f64()
            .expect("a number");
        assert!((max - 100e6).abs() < 1e6, "{max}");
        std::fs::write(&b, r#"{"command": "pop3"}"#).expect("written");
        assert!(merge(&flags).expect_err("another command").contains("pop3"));
        std::fs::write(&b, r#"{"command": "smtp"}"#).expect("written");
        assert!(merge(&flags).expect_err("no interval").contains("added up"));
        flags.files.push("/does/not/exist".into());
        flags.files.remove(1);
        assert!(
            merge(&flags)
                .expect_err("no file")
                .contains("/does/not/exist")
        );
    }
}
