//! Shows what came out of a run: a table for people, JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::recorder::{FaultCount, FaultKey, Verb};
use crate::run::Summary;
use crate::verdict::Signs;

/// How the run is described.
#[derive(Debug, Clone)]
pub struct Title {
    /// `smtp`, `lmtp`, `pop3`, `verify`.
    pub command: &'static str,
    /// `messages` or `sessions`.
    pub noun: &'static str,
    /// `recipients` or `messages retrieved`.
    pub items: &'static str,
    /// Target, sizes, connections: one line.
    pub settings: String,
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Limits of which the share of times within them is told: SPECmail's, for an operation and for a
/// delivery.
const WITHIN: [(&str, u64); 2] = [
    ("within_5s_percent", 5_000_000_000),
    ("within_60s_percent", 60_000_000_000),
];

/// The table.
pub fn table(title: &Title, summary: &Summary) -> String {
    let mut text = String::new();
    let counts = &summary.total.counts;
    // Writing to a string cannot fail.
    let _ = writeln!(text, "loadgen {}: {}", title.command, title.settings);
    let _ = write!(text, "\n{:<16}{:>9}{:>11}", "ms", "count", "per s");
    for (name, _) in QUANTILES {
        let _ = write!(text, "{name:>10}");
    }
    let _ = writeln!(text, "{:>10}", "max");
    for verb in Verb::ALL {
        // How late the generator is is told below.
        if let Some(histogram) = summary.total.histogram(verb)
            && verb != Verb::Lateness
        {
            row(&mut text, verb.name(), histogram, summary.elapsed);
        }
    }
    let seconds = summary.elapsed.as_secs_f64();
    let _ = writeln!(
        text,
        "\n{} {} in {seconds:.3} s: {:.1}/s; {} {}, {:.1}/s",
        counts.done,
        title.noun,
        rate(counts.done, summary.elapsed),
        counts.items,
        title.items,
        rate(counts.items, summary.elapsed),
    );
    if counts.due_ever > 0 {
        let _ = writeln!(
            text,
            "open loop: {} came due, {:.1}/s; {} began more than 1 ms late, the latest \
             by {:.3} s; {} never began",
            counts.due,
            rate(counts.due, summary.elapsed),
            counts.late,
            counts.lateness_max.as_secs_f64(),
            counts.queued(),
        );
    }
    if counts.failed > 0 || counts.unknown > 0 {
        let _ = writeln!(
            text,
            "{} {} failed; of {} recipients nobody knows: the connection broke before the reply",
            counts.failed, title.noun, counts.unknown
        );
    }
    let _ = writeln!(
        text,
        "{:.1} MB sent, {:.1} MB received, {} connections (warm-up included)",
        counts.bytes_sent as f64 / 1e6,
        counts.bytes_received as f64 / 1e6,
        counts.connections,
    );
    let _ = writeln!(
        text,
        "own CPU {:.3} s on CPU {:?}{}",
        summary.cpu.as_secs_f64(),
        summary.cpus,
        cpu_us_each(summary).map_or(String::new(), |us| format!(
            ": {us:.2} µs for each of the {}, {:.0}% of {}",
            title.noun,
            busy(summary) * 100.0,
            if summary.cpus.len() == 1 {
                "it"
            } else {
                "them"
            },
        )),
    );
    let signs = Signs::of(&summary.total, summary.elapsed);
    let _ = write!(
        text,
        "its busiest thread used {:.0}% of its CPU; waits for a CPU {:.1}%",
        signs.busy * 100.0,
        signs.waited * 100.0
    );
    if let Some(late) = summary.total.histogram(Verb::Lateness) {
        let _ = write!(
            text,
            "; late by p50 {:.3}, p99 {:.3}, max {:.3} ms where a connection was free",
            ms(late.value_at_quantile(0.5)),
            ms(late.value_at_quantile(0.99)),
            ms(late.max())
        );
    }
    text.push('\n');
    text.push_str(&faults_text(summary));
    if let Some(why) = &summary.ended_early {
        let _ = writeln!(text, "ended early: {why}");
    }
    for attachment in &summary.attachments {
        text.push_str(&attachment.text);
    }
    if let Some(why) = bottleneck_text(summary) {
        let _ = writeln!(text, "{why}");
    }
    text
}

/// The mark of a run that the generator limited, if it did.
pub fn bottleneck_text(summary: &Summary) -> Option<String> {
    let reasons = Signs::of(&summary.total, summary.elapsed).bottleneck();
    (!reasons.is_empty())
        .then(|| format!("the generator was the bottleneck: {}", reasons.join("; ")))
}

/// The errors, a line each.
pub fn faults_text(summary: &Summary) -> String {
    let faults = faults(summary);
    if faults.is_empty() {
        return "no errors\n".to_owned();
    }
    let mut text = "errors (warm-up included):\n".to_owned();
    for (key, fault) in faults {
        let code = if key.code == 0 {
            String::new()
        } else {
            format!(" {}", key.code)
        };
        let _ = writeln!(
            text,
            "{:>10} x {}{code} at {}: {}",
            fault.count,
            key.fault.name(),
            key.verb.name(),
            fault.sample
        );
    }
    text
}

fn row(text: &mut String, name: &str, histogram: &Histogram<u64>, elapsed: Duration) {
    let count = histogram.len();
    let _ = write!(text, "{name:<16}{count:>9}{:>11.1}", rate(count, elapsed));
    for (_, quantile) in QUANTILES {
        let _ = write!(text, "{:>10.3}", ms(histogram.value_at_quantile(quantile)));
    }
    let _ = writeln!(text, "{:>10.3}", ms(histogram.max()));
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        0.0
    } else {
        count as f64 / elapsed.as_secs_f64()
    }
}

/// CPU of the generator for each message or session, in microseconds.
fn cpu_us_each(summary: &Summary) -> Option<f64> {
    let done = summary.total.counts.done;
    (done > 0).then(|| summary.cpu.as_secs_f64() * 1e6 / done as f64)
}

/// The part of its CPUs that the generator used.
fn busy(summary: &Summary) -> f64 {
    let available = summary.elapsed.as_secs_f64() * summary.cpus.len() as f64;
    if available > 0.0 {
        summary.cpu.as_secs_f64() / available
    } else {
        0.0
    }
}

/// The most memory that this process ever had resident, in KiB (`VmHWM`, proc_pid_status(5)).
fn memory_max_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Most frequent first.
fn faults(summary: &Summary) -> Vec<(FaultKey, &FaultCount)> {
    let mut faults: Vec<_> = summary
        .total
        .faults
        .iter()
        .map(|(key, fault)| (*key, fault))
        .collect();
    faults.sort_by_key(|(key, fault)| (std::cmp::Reverse(fault.count), *key));
    faults
}

/// The same as [`table`], for programs. Times are nanoseconds. `interval` is all that was measured,
/// without loss: see [`Interval::from_json`](crate::interval::Interval::from_json).
pub fn json(title: &Title, summary: &Summary) -> Value {
    let counts = &summary.total.counts;
    let verbs: serde_json::Map<String, Value> = Verb::ALL
        .into_iter()
        .filter_map(|verb| {
            let histogram = summary.total.histogram(verb)?;
            let mut times = serde_json::Map::new();
            times.insert("count".to_owned(), histogram.len().into());
            times.insert("mean_ns".to_owned(), histogram.mean().into());
            for (name, quantile) in QUANTILES {
                let value = histogram.value_at_quantile(quantile);
                times.insert(format!("{name}_ns"), value.into());
            }
            times.insert("max_ns".to_owned(), histogram.max().into());
            for (name, limit_ns) in WITHIN {
                let within = histogram.count_between(0, limit_ns) as f64;
                let percent = 100.0 * within / histogram.len().max(1) as f64;
                times.insert(name.to_owned(), percent.into());
            }
            Some((verb.name().to_owned(), Value::Object(times)))
        })
        .collect();
    let faults: Vec<Value> = faults(summary)
        .into_iter()
        .map(|(key, fault)| {
            json!({
                "kind": key.fault.name(),
                "verb": key.verb.name(),
                "code": key.code,
                "count": fault.count,
                "sample": fault.sample,
            })
        })
        .collect();
    // It has no form only if a histogram has none, and these have.
    let interval = summary.total.to_json(summary.measure_from).ok();
    let signs = Signs::of(&summary.total, summary.elapsed);
    let open_loop = (counts.due_ever > 0).then(|| {
        json!({
            "due": counts.due,
            "due_per_s": rate(counts.due, summary.elapsed),
            "late": counts.late,
            "lateness_max_ns": counts.lateness_max.as_nanos() as u64,
            "never_begun": counts.queued(),
        })
    });
    let mut json = json!({
        "command": title.command,
        "settings": title.settings,
        "elapsed_s": summary.elapsed.as_secs_f64(),
        "done": counts.done,
        "done_per_s": rate(counts.done, summary.elapsed),
        "failed": counts.failed,
        "items": counts.items,
        "items_per_s": rate(counts.items, summary.elapsed),
        "unknown": counts.unknown,
        "open_loop": open_loop,
        "connections": counts.connections,
        "bytes_sent": counts.bytes_sent,
        "bytes_received": counts.bytes_received,
        "cpu_s": summary.cpu.as_secs_f64(),
        "cpu_us_each": cpu_us_each(summary),
        "cpu_busy": busy(summary),
        "cpus": summary.cpus,
        "generator": {
            "bottleneck": signs.bottleneck(),
            "busiest_thread": signs.busy,
            "waited_for_cpu": signs.waited,
            "late_p99_ns": signs.late_p99.as_nanos() as u64,
            "ring_full": signs.ring_full,
            "buffers_lacked": signs.buffers_lacked,
            "memory_max_kib": memory_max_kib(),
        },
        "verbs": verbs,
        "interval": interval,
        "errors": faults,
        "ended_early": summary.ended_early,
    });
    for attachment in &summary.attachments {
        json[attachment.name] = attachment.json.clone();
    }
    json
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::recorder::{Fault, Recorder};

    /// A thousand messages of 1 to 1000 ms in ten seconds.
    fn summary() -> Summary {
        let (to, from) = crossbeam::channel::unbounded();
        let began = Instant::now();
        let mut recorder = Recorder::new(began, to);
        for ms in 1..=1000 {
            recorder.time(Verb::Message, began, began + Duration::from_millis(ms));
        }
        recorder.counts().done = 1000;
        recorder.counts().items = 3000;
        let key = FaultKey {
            fault: Fault::Permanent,
            verb: Verb::Rcpt,
            code: 550,
        };
        recorder.fault(key, b"550 5.1.1 no such user");
        recorder.finish();
        Summary {
            measure_from: began,
            total: from.recv().expect("shipped"),
            elapsed: Duration::from_secs(10),
            cpu: Duration::from_millis(5),
            cpus: vec![1],
            ended_early: None,
            attachments: Vec::new(),
        }
    }

    fn title() -> Title {
        Title {
            command: "smtp",
            noun: "messages",
            items: "recipients",
            settings: "127.0.0.1:25".to_owned(),
        }
    }

    #[test]
    fn percentiles_and_rates() {
        let table = table(&title(), &summary());
        let line = table
            .lines()
            .find(|line| line.starts_with("message "))
            .expect("a row");
        let numbers: Vec<f64> = line
            .split_ascii_whitespace()
            .skip(1)
            .map(|word| word.parse().expect("a number"))
            .collect();
        let wanted = [1000.0, 100.0, 500.0, 900.0, 990.0, 999.0, 1000.0];
        assert_eq!(numbers.len(), wanted.len());
        for (number, wanted) in numbers.iter().zip(wanted) {
            assert!(
                (number - wanted).abs() <= wanted / 500.0,
                "{number} for {wanted}: {line}"
            );
        }
        assert!(table.contains("1000 messages in 10.000 s: 100.0/s; 3000 recipients, 300.0/s"));
        assert!(
            table.contains("5.00 µs for each of the messages"),
            "{table}"
        );
        assert!(
            table.contains("1 x refused 550 at RCPT: 550 5.1.1 no such user"),
            "{table}"
        );
    }

    #[test]
    fn json_says_the_same() {
        let json = json(&title(), &summary());
        assert_eq!(json["done_per_s"], 100.0);
        assert_eq!(json["verbs"]["message"]["count"], 1000);
        let p99 = json["verbs"]["message"]["p99_ns"]
            .as_f64()
            .expect("a number");
        assert!((p99 - 990e6).abs() < 2e6, "{p99}");
        assert_eq!(json["errors"][0]["code"], 550);
        assert_eq!(json["cpu_us_each"], 5.0);
    }
}
