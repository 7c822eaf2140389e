//! What the sampled processes used, and what the server counted itself.

use std::fmt::Write as _;

use super::charts::over_time;
use super::{elapsed, noun};
use crate::chart::Line;
use crate::chart::scale::{bytes, number, percent, short};
use crate::page::{drawn, escape, figure, table};
use crate::results::Folder;
use crate::sample::process::Usage;

/// How a source of samples is shown: the program's name where it is known.
fn source_name(folder: &Folder, source: &str) -> String {
    match folder.read.usage(source).first() {
        Some((_, usage)) if source != "loadgen" => format!("{} ({source})", usage.name),
        _ => source.to_owned(),
    }
}

pub(super) fn processes(body: &mut String, folder: &Folder) {
    let sources: Vec<&str> = folder
        .read
        .sources()
        .into_iter()
        .filter(|source| !folder.read.usage(source).is_empty())
        .collect();
    if sources.is_empty() {
        return;
    }
    // Servers first.
    let mut sources = sources;
    sources.sort_by_key(|source| *source == "loadgen");
    let line = |colour: usize, source: &str, points: Vec<(f64, f64)>| Line {
        name: source_name(folder, source),
        colour,
        dashed: false,
        band: Vec::new(),
        points,
    };
    let cpu = sources.iter().enumerate().map(|(colour, source)| {
        line(
            colour,
            source,
            per_second(&folder.read.usage(source), |usage| {
                Some(usage.cpu_s() * 100.0)
            }),
        )
    });
    let chart = over_time(
        folder,
        "CPU over time",
        "% of one CPU, user and system",
        cpu.collect(),
        short,
    );
    body.push_str(&figure(
        "CPU",
        "All threads of each process and of those it started; 100 is one CPU, fully used.",
        &drawn(&chart),
    ));
    let memory = sources.iter().enumerate().map(|(colour, source)| {
        let usage = folder.read.usage(source);
        let points = usage
            .iter()
            .filter_map(|(t, usage)| Some((*t, usage.rss_bytes? as f64 / 1_048_576.0)));
        line(colour, source, points.collect())
    });
    let chart = over_time(
        folder,
        "memory over time",
        "resident, MiB",
        memory.collect(),
        short,
    );
    body.push_str(&figure(
        "Memory",
        "Resident pages; those that processes share count in each.",
        &drawn(&chart),
    ));
    let (from, to) = (folder.warmup_s(), folder.warmup_s() + elapsed(folder));
    let rows: Vec<Vec<String>> = sources
        .iter()
        .map(|source| process_row(folder, source, from, to))
        .collect();
    let columns = [
        "process",
        "threads",
        "descriptors",
        "user CPU",
        "system CPU",
        "disk writes",
        "disk reads",
        "waits",
        "preemptions",
    ];
    body.push_str("<p class=\"soft\">Most threads and descriptors at one time; the others are per second, from the first sample of the measured part to its last.</p>\n");
    body.push_str(&table(&columns, &rows, &[]));
}

fn process_row(folder: &Folder, source: &str, from: f64, to: f64) -> Vec<String> {
    let usage = folder.read.usage(source);
    let most = |value: fn(&Usage) -> Option<u64>| {
        let most = usage.iter().filter_map(|(_, usage)| value(usage)).max();
        most.map_or("?".to_owned(), |most| number(most as f64, 0))
    };
    let within: Vec<_> = usage
        .iter()
        .filter(|(t, _)| (from..=to).contains(t))
        .collect();
    let rate = |value: fn(&Usage) -> Option<f64>, text: fn(f64) -> String| {
        let rate = within.first().zip(within.last()).and_then(|(first, last)| {
            let grown = value(last.1)? - value(first.1)?;
            (last.0 > first.0).then(|| grown / (last.0 - first.0))
        });
        rate.map_or("?".to_owned(), text)
    };
    vec![
        source_name(folder, source),
        most(|usage| usage.threads),
        most(|usage| usage.descriptors),
        rate(|usage| Some(usage.cpu_user_s), percent),
        rate(|usage| Some(usage.cpu_system_s), percent),
        rate(
            |usage| usage.write_bytes.map(|n| n as f64),
            |rate| bytes(rate) + "/s",
        ),
        rate(
            |usage| usage.read_bytes.map(|n| n as f64),
            |rate| bytes(rate) + "/s",
        ),
        rate(
            |usage| usage.switches_voluntary.map(|n| n as f64),
            |rate| short(rate) + "/s",
        ),
        rate(
            |usage| usage.switches_involuntary.map(|n| n as f64),
            |rate| short(rate) + "/s",
        ),
    ]
}

/// What grew, per second, between one sample and the next.
fn per_second(usage: &[(f64, &Usage)], value: fn(&Usage) -> Option<f64>) -> Vec<(f64, f64)> {
    /// The last sample may follow the one before at once: too short to tell a rate.
    const APART_MIN_S: f64 = 0.5;
    let pairs = usage
        .windows(2)
        .filter(|pair| pair[1].0 - pair[0].0 >= APART_MIN_S);
    pairs
        .filter_map(|pair| {
            let grown = value(pair[1].1)? - value(pair[0].1)?;
            Some((
                (pair[0].0 + pair[1].0) / 2.0,
                grown.max(0.0) / (pair[1].0 - pair[0].0),
            ))
        })
        .collect()
}

/// What the server counted itself, from the first to the last sample of the measured part.
pub(super) fn counters(body: &mut String, folder: &Folder) {
    let (from, to) = (folder.warmup_s(), folder.warmup_s() + elapsed(folder));
    let sources = folder.read.sources().into_iter();
    for source in sources.filter(|source| source.starts_with("http")) {
        let samples = folder.read.metrics(source);
        let within: Vec<_> = samples
            .iter()
            .filter(|(t, _)| (from..=to).contains(t))
            .collect();
        let (Some((t0, first)), Some((t1, last))) = (within.first(), within.last()) else {
            continue;
        };
        let length = t1 - t0;
        if length <= 0.0 {
            continue;
        }
        let done: f64 = folder.number(&["done_per_s"]).unwrap_or_default() * length;
        let changed: Vec<Vec<String>> = last
            .iter()
            .filter_map(|(name, after)| {
                let before = first.get(name)?;
                let grown = after - before;
                (grown != 0.0).then(|| {
                    let each = if done > 0.0 {
                        short(grown / done)
                    } else {
                        String::new()
                    };
                    vec![
                        name.clone(),
                        short(*before),
                        short(*after),
                        short(grown / length),
                        each,
                    ]
                })
            })
            .collect();
        let _ = writeln!(
            body,
            "<h2>The server's own counters</h2>\n<p class=\"soft\">{}: those of {} that changed \
             within {} s of the measured part; all labels of a name are added up. The page as it came \
             is in metrics-before.txt and metrics-after.txt.</p>\n<details><summary>{} counters</summary>",
            escape(source),
            last.len(),
            short(length),
            changed.len(),
        );
        let each = format!("for each of the {}", noun(folder));
        let columns = ["name", "from", "to", "per second", each.as_str()];
        body.push_str(&table(&columns, &changed, &[0]));
        body.push_str("</details>\n");
    }
}
