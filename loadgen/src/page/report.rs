//! `report.html`: one run to look at.

use std::fmt::Write as _;

use serde_json::Value;

use super::{drawn, escape, figure, heated, html, list, shell, table};
use crate::chart::heat::{Column, SHADES};
use crate::chart::scale::{bytes, number, percent, short, time};
use crate::chart::{Axis, COLOURS, Heat, Line, Lines};
use crate::results::Folder;
use crate::results::hdr::Series;
use crate::sample::process::Usage;

/// Columns of the heat map; longer runs have several seconds in each.
const COLUMNS_MAX: usize = 120;
/// Rows of the heat map for each power of ten.
const ROWS_PER_DECADE: f64 = 12.0;
/// Points of a percentile curve for each power of ten.
const POINTS_PER_DECADE: f64 = 24.0;
/// Kinds of errors with a line of their own.
const ERRORS_MAX: usize = COLOURS;
/// The generator is at its limit above this part of its CPUs: its own delays count as the server's.
const BUSY_MAX: f64 = 0.9;

/// The page of a run.
pub fn report(folder: &Folder) -> String {
    let mut body = String::new();
    head(&mut body, folder);
    warnings(&mut body, folder);
    figures(&mut body, folder);
    curves(&mut body, folder);
    rates(&mut body, folder);
    heat_map(&mut body, folder);
    errors(&mut body, folder);
    processes(&mut body, folder);
    counters(&mut body, folder);
    machine(&mut body, folder);
    left_out(&mut body, folder);
    html(&format!("{}: loadgen", folder.label()), &body)
}

// Writing to a string cannot fail, here and below.

fn head(body: &mut String, folder: &Folder) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let _ = writeln!(body, "<h1>{}</h1>", escape(folder.label()));
    let warmup = folder.warmup_s();
    let mut span = format!("{} s measured", short(elapsed(folder)));
    if warmup > 0.0 {
        let _ = write!(span, " after {} s of warm-up", short(warmup));
    }
    let _ = writeln!(
        body,
        "<p class=\"soft\">loadgen {}: {}<br>{}, {span}</p>",
        escape(&text(&folder.summary["command"])),
        escape(&text(&folder.summary["settings"])),
        escape(
            &text(&folder.read.run["started"])
                .replace('T', " ")
                .replace('Z', " UTC")
        ),
    );
}

fn elapsed(folder: &Folder) -> f64 {
    folder.number(&["elapsed_s"]).unwrap_or_default()
}

fn error_count(folder: &Folder) -> u64 {
    let kinds = folder.summary["errors"].as_array();
    kinds
        .into_iter()
        .flatten()
        .filter_map(|kind| kind["count"].as_u64())
        .sum()
}

fn warnings(body: &mut String, folder: &Folder) {
    let mut texts = Vec::new();
    if let Some(why) = folder.summary["ended_early"].as_str() {
        texts.push(format!("The run ended early: {why}."));
    }
    if let Some(busy) = folder.number(&["cpu_busy"]).filter(|busy| *busy > BUSY_MAX) {
        texts.push(format!(
            "The generator used {} of its CPUs: it may have been the bottleneck, and its own delays \
             are in these times.",
            percent(busy)
        ));
    }
    // Other parts of the generator say in words what else is to be known.
    let notes = folder.summary["warnings"].as_array().into_iter().flatten();
    texts.extend(notes.filter_map(|note| note.as_str().map(str::to_owned)));
    if folder.main_verb().is_none() {
        texts.push("Nothing was measured.".to_owned());
    }
    if !texts.is_empty() {
        let texts: String = texts
            .iter()
            .map(|text| format!("<p>{}</p>", escape(text)))
            .collect();
        let _ = writeln!(body, "<div class=\"warning\">{texts}</div>");
    }
}

fn figures(body: &mut String, folder: &Folder) {
    let noun = noun(folder);
    // What is shown, the number itself for programs, what it is, whether it is bad.
    let mut cards: Vec<(String, f64, &str, bool)> = Vec::new();
    let mut card = |value: f64, text: String, name| cards.push((text, value, name, false));
    if let Some(rate) = folder.number(&["done_per_s"]) {
        card(rate, format!("{}<small>/s</small>", short(rate)), noun);
    }
    let total = folder.main_verb().and_then(|verb| folder.total(verb));
    if let Some(total) = &total {
        for (name, quantile) in [("median", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let ns = total.value_at_quantile(quantile) as f64;
            card(ns, unit(&time(ns)), name);
        }
        card(
            total.max() as f64,
            unit(&time(total.max() as f64)),
            "slowest",
        );
    }
    if let Some(us) = folder.number(&["server", "cpu_us_each"]) {
        card(us, unit(&time(us * 1e3)), "server CPU for each");
    }
    if let Some(us) = folder.number(&["cpu_us_each"]) {
        card(us, unit(&time(us * 1e3)), "generator CPU for each");
    }
    if let Some(most) = folder.number(&["server", "rss_bytes_max"]) {
        card(most, unit(&bytes(most)), "server memory at most");
    }
    let errors = error_count(folder) as f64;
    cards.push((number(errors, 0), errors, "errors", errors > 0.0));
    let cards: String = cards
        .iter()
        .map(|(text, value, name, bad)| {
            let class = if *bad { "figure bad" } else { "figure" };
            format!(
                "<div class=\"{class}\"><b><data value=\"{value}\">{text}</data></b><span>{}</span></div>\n",
                escape(name)
            )
        })
        .collect();
    let _ = writeln!(body, "<div class=\"figures\">\n{cards}</div>");
    let verbs = folder.summary["verbs"].as_object();
    let rows: Vec<Vec<String>> = ordered_verbs(folder)
        .into_iter()
        .filter_map(|name| Some((name, verbs?.get(name)?)))
        .map(|(name, verb)| {
            let times = ["p50_ns", "p90_ns", "p99_ns", "p99.9_ns", "max_ns"];
            let times = times
                .iter()
                .map(|key| verb[*key].as_f64().map_or(String::new(), time));
            let count = verb["count"].as_f64().unwrap_or_default();
            let row = [name.to_owned(), number(count, 0)];
            row.into_iter().chain(times).collect()
        })
        .collect();
    if !rows.is_empty() {
        let columns = ["what", "count", "p50", "p90", "p99", "p99.9", "slowest"];
        body.push_str(&table(&columns, &rows, &[]));
    }
}

/// Number and unit of different sizes.
fn unit(text: &str) -> String {
    match text.split_once(' ') {
        Some((number, unit)) => format!("{} <small>{}</small>", escape(number), escape(unit)),
        None => escape(text),
    }
}

fn noun(folder: &Folder) -> &'static str {
    match folder.main_verb() {
        Some("message") => "messages",
        Some("session") => "sessions",
        _ => "operations",
    }
}

/// The verb that stands for the whole first, then those that took most time in all.
fn ordered_verbs(folder: &Folder) -> Vec<&str> {
    let main = folder.main_verb();
    let weight = |series: &Series| {
        let slices = series.slices.iter();
        slices
            .map(|slice| slice.histogram.mean() * slice.histogram.len() as f64)
            .sum::<f64>()
    };
    let mut verbs: Vec<(&str, f64)> = folder
        .series
        .iter()
        .map(|(name, series)| (name.as_str(), weight(series)))
        .collect();
    verbs.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut names: Vec<&str> = verbs.into_iter().map(|(name, _)| name).collect();
    names.sort_by_key(|name| Some(*name) != main);
    names
}

/// Points of a percentile curve: x is 1/(1-q), y nanoseconds. Ends where one value is left to tell
/// of, so that no nine is shown that was not measured.
pub fn percentile_points(histogram: &hdrhistogram::Histogram<u64>) -> Vec<(f64, f64)> {
    let end = (histogram.len() as f64).max(1.0);
    let steps = (end.log10() * POINTS_PER_DECADE).floor() as i32;
    let inner = (0..=steps).map(|step| 10f64.powf(f64::from(step) / POINTS_PER_DECADE));
    inner
        .chain([end])
        .map(|x| (x, histogram.value_at_quantile(1.0 - 1.0 / x).max(1) as f64))
        .collect()
}

/// How a place on the axis of percentiles is written.
pub fn percentile_text(x: f64) -> String {
    format!("percentile {}", number(100.0 - 100.0 / x, 5))
}

fn curves(body: &mut String, folder: &Folder) {
    let totals: Vec<_> = ordered_verbs(folder)
        .into_iter()
        .filter_map(|verb| Some((verb, folder.total(verb)?)))
        .take(COLOURS)
        .collect();
    if totals.is_empty() {
        return;
    }
    let most = totals
        .iter()
        .map(|(_, total)| total.len())
        .max()
        .unwrap_or(1);
    let low = totals
        .iter()
        .map(|(_, total)| total.value_at_quantile(0.0))
        .min()
        .unwrap_or(1);
    let high = totals
        .iter()
        .map(|(_, total)| total.max())
        .max()
        .unwrap_or(1);
    let lines = totals
        .iter()
        .enumerate()
        .map(|(colour, (verb, total))| Line {
            name: (*verb).to_owned(),
            colour,
            dashed: verb.ends_with(".started"),
            band: Vec::new(),
            points: percentile_points(total),
        });
    let chart = Lines {
        label: "latency by percentile, a curve for each verb".to_owned(),
        x: Axis::quantiles(most),
        y: Axis::log("time", low as f64, high as f64, time),
        lines: lines.collect(),
        shade: None,
        x_text: percentile_text,
        y_text: time,
    };
    body.push_str(&figure(
        "Percentiles",
        "How long the slowest 1 in 10, 100, 1000&hellip; took. A curve ends where its number of \
         measurements does: beyond it nothing is known.",
        &drawn(&chart),
    ));
}

/// The end of the time axis: that of the run.
fn end_s(folder: &Folder) -> f64 {
    let ends = folder
        .timeline
        .iter()
        .map(|moment| moment.t + moment.length);
    ends.fold(0.0, f64::max)
}

fn warmup(folder: &Folder) -> Option<(f64, f64, String)> {
    let until = folder.warmup_s();
    (until > 0.0).then(|| (0.0, until, "warm-up".to_owned()))
}

fn seconds(t: f64) -> String {
    format!("{} s", number(t, 1))
}

/// A chart over time, from zero up.
fn over_time(
    folder: &Folder,
    label: &str,
    title: &str,
    lines: Vec<Line>,
    text: fn(f64) -> String,
) -> Lines {
    let values = lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(_, y)| *y));
    let most = values.fold(0.0, f64::max);
    Lines {
        label: label.to_owned(),
        x: Axis::time("time, s", end_s(folder)),
        y: Axis::linear(title, 0.0, most, text),
        lines,
        shade: warmup(folder),
        x_text: seconds,
        y_text: text,
    }
}

fn rates(body: &mut String, folder: &Folder) {
    // Shorter pieces at the end of a run say nothing of a rate.
    let whole: Vec<_> = folder
        .timeline
        .iter()
        .filter(|moment| moment.length >= 0.5)
        .collect();
    if whole.is_empty() {
        return;
    }
    let line = |name: &str, colour: usize, count: &dyn Fn(usize) -> u64| Line {
        name: name.to_owned(),
        colour,
        dashed: false,
        band: Vec::new(),
        points: (0..whole.len())
            .map(|index| {
                let moment = whole[index];
                (
                    moment.t + moment.length / 2.0,
                    count(index) as f64 / moment.length,
                )
            })
            .collect(),
    };
    let noun = noun(folder);
    let mut lines = vec![line(&format!("{noun} done"), 0, &|index| whole[index].done)];
    if whole.iter().any(|moment| moment.failed > 0) {
        lines.push(line(&format!("{noun} failed"), 1, &|index| {
            whole[index].failed
        }));
    }
    let chart = over_time(folder, "rate over time", "per second", lines, short);
    body.push_str(&figure(
        "Rate over time",
        "Counted second by second, the warm-up included.",
        &drawn(&chart),
    ));
    if whole.iter().any(|moment| moment.late.is_some()) {
        let late = Line {
            name: "due, not started".to_owned(),
            colour: 1,
            dashed: false,
            band: Vec::new(),
            points: whole
                .iter()
                .map(|moment| {
                    (
                        moment.t + moment.length,
                        moment.late.unwrap_or_default() as f64,
                    )
                })
                .collect(),
        };
        let chart = over_time(folder, "late operations over time", noun, vec![late], short);
        body.push_str(&figure(
            "Waiting to start",
            "Operations whose time had come and that no connection was free for. Their times are \
             counted from when they were due.",
            &drawn(&chart),
        ));
    }
}

fn heat_map(body: &mut String, folder: &Folder) {
    let Some((verb, series)) = folder
        .main_verb()
        .and_then(|verb| Some((verb, folder.series.get(verb)?)))
    else {
        return;
    };
    let Some(total) = series.total() else {
        return;
    };
    let (low, high) = (
        total.value_at_quantile(0.0).max(1) as f64,
        total.max().max(1) as f64,
    );
    let slices: Vec<_> = series.slices.iter().collect();
    let mut columns = Vec::new();
    let mut over = [Vec::new(), Vec::new()];
    for group in slices.chunks(slices.len().div_ceil(COLUMNS_MAX).max(1)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let mut sum = first.histogram.clone();
        for slice in &group[1..] {
            // Of one shape, since they come from one log.
            let _ = sum.add(&slice.histogram);
        }
        // What is measured begins with the end of the warm-up, in the middle of a second.
        let span = (
            first.start_s.max(folder.warmup_s()),
            last.start_s + last.length_s,
        );
        let middle = (span.0 + span.1) / 2.0;
        for (points, quantile) in over.iter_mut().zip([0.5, 0.99]) {
            points.push((middle, sum.value_at_quantile(quantile) as f64));
        }
        columns.push(Column {
            span,
            cells: cells(&sum),
        });
    }
    let lines = ["median", "p99"].into_iter().zip(over).enumerate();
    let chart = Heat {
        label: format!("heat map of the times of {verb}"),
        x: Axis::time("time, s", end_s(folder)),
        y: Axis::log(&format!("time of a {verb}"), low, high, time),
        columns,
        lines: lines
            .map(|(colour, (name, points))| Line {
                name: name.to_owned(),
                colour,
                dashed: false,
                band: Vec::new(),
                points,
            })
            .collect(),
        shade: warmup(folder),
    };
    let key: String = (0..SHADES)
        .map(|shade| format!("<svg viewBox=\"0 0 14 12\"><rect class=\"h{shade}\" width=\"14\" height=\"12\"/></svg>"))
        .collect();
    let reading = format!(
        "Each column is about {}, each cell the part of its {} that took so long: \
         <span class=\"key\">1 in 5,000&nbsp;{key}&nbsp;all</span>",
        if slices.len() > COLUMNS_MAX {
            format!("{} seconds", slices.len().div_ceil(COLUMNS_MAX))
        } else {
            "a second".to_owned()
        },
        noun(folder)
    );
    body.push_str(&figure("Latency over time", &reading, &heated(&chart)));
}

/// The values of a histogram in rows of equal factors, each with its part of all.
fn cells(histogram: &hdrhistogram::Histogram<u64>) -> Vec<(f64, f64, f64)> {
    let mut rows = std::collections::BTreeMap::new();
    for value in histogram.iter_recorded() {
        let ns = value.value_iterated_to().max(1) as f64;
        let row = (ns.log10() * ROWS_PER_DECADE).floor() as i32;
        *rows.entry(row).or_insert(0) += value.count_at_value();
    }
    let edge = |row: i32| 10f64.powf(f64::from(row) / ROWS_PER_DECADE);
    let all = histogram.len().max(1) as f64;
    rows.into_iter()
        .map(|(row, count)| (edge(row), edge(row + 1), count as f64 / all))
        .collect()
}

fn errors(body: &mut String, folder: &Folder) {
    let kinds = folder.summary["errors"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if kinds.is_empty() {
        body.push_str("<h2>Errors</h2>\n<p>None, the warm-up included.</p>\n");
        return;
    }
    let mut totals = std::collections::BTreeMap::new();
    for moment in &folder.timeline {
        for (name, count) in &moment.errors {
            *totals.entry(name).or_insert(0) += count;
        }
    }
    let mut names: Vec<_> = totals.into_iter().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let left_out = names.len().saturating_sub(ERRORS_MAX);
    let lines = names
        .into_iter()
        .take(ERRORS_MAX)
        .enumerate()
        .map(|(colour, (name, _))| Line {
            name: name.clone(),
            colour,
            dashed: false,
            band: Vec::new(),
            points: folder
                .timeline
                .iter()
                .map(|moment| {
                    let count = moment.errors.get(name).copied().unwrap_or_default();
                    (
                        moment.t + moment.length / 2.0,
                        count as f64 / moment.length.max(0.001),
                    )
                })
                .collect(),
        });
    let chart = over_time(
        folder,
        "errors over time",
        "errors per second",
        lines.collect(),
        short,
    );
    let mut reading = "By kind, the warm-up included.".to_owned();
    if left_out > 0 {
        let _ = write!(reading, " {left_out} rarer kinds are in the table only.");
    }
    body.push_str(&figure("Errors", &reading, &drawn(&chart)));
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .map(|kind| {
            let code = kind["code"].as_u64().filter(|code| *code > 0);
            vec![
                text(&kind["kind"]),
                text(&kind["verb"]),
                code.map_or(String::new(), |code| code.to_string()),
                number(kind["count"].as_f64().unwrap_or_default(), 0),
                text(&kind["sample"]),
            ]
        })
        .collect();
    let columns = ["kind", "at", "code", "count", "the first one said"];
    body.push_str(&table(&columns, &rows, &[0, 1, 4]));
}

/// How a source of samples is shown: the program's name where it is known.
fn source_name(folder: &Folder, source: &str) -> String {
    match folder.read.usage(source).first() {
        Some((_, usage)) if source != "loadgen" => format!("{} ({source})", usage.name),
        _ => source.to_owned(),
    }
}

fn processes(body: &mut String, folder: &Folder) {
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
fn counters(body: &mut String, folder: &Folder) {
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

/// A JSON value in words.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(true) => Some("yes".to_owned()),
        Value::Bool(false) => Some("no".to_owned()),
        other => Some(other.to_string()),
    }
}

fn machine(body: &mut String, folder: &Folder) {
    let run = &folder.read.run;
    let command: Vec<String> = run["command"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect();
    let _ = writeln!(
        body,
        "<h2>Command and machine</h2>\n<pre>{}</pre>",
        escape(&shell(&command))
    );
    let machine = &run["machine"];
    let data = &machine["server_data"];
    let mut entries: Vec<(&str, String)> = Vec::new();
    let mut entry = |name, value: Option<String>| {
        if let Some(value) = value {
            entries.push((name, value));
        }
    };
    entry("loadgen", words(&run["loadgen"]));
    let server = run["server"].as_object().into_iter().flatten();
    let server: Vec<String> = server
        .filter_map(|(name, value)| Some(format!("{name} {}", words(value)?)))
        .collect();
    entry(
        "server says",
        (!server.is_empty()).then(|| server.join(", ")),
    );
    let cpu = words(&machine["cpu"]).unwrap_or_else(|| "unknown".to_owned());
    let cpus = machine["cpu_count"].as_u64().unwrap_or_default();
    let own = folder.summary["cpus"].to_string();
    entry(
        "processor",
        Some(format!("{cpu}, {cpus} CPUs; loadgen on {own}")),
    );
    let governor = words(&machine["governor"]);
    entry(
        "frequency governor",
        governor.or_else(|| Some("the machine does not say".to_owned())),
    );
    entry("virtual machine", words(&machine["virtual_machine"]));
    entry("memory", machine["memory_bytes"].as_f64().map(bytes));
    entry("kernel", words(&machine["kernel"]));
    entry("system", words(&machine["system"]));
    if data.is_null() {
        entry(
            "server's disk",
            Some("unknown: --server-data was not given".to_owned()),
        );
    } else {
        let parts = ["filesystem", "mounted_from", "options"];
        let parts: Vec<String> = parts
            .iter()
            .filter_map(|name| words(&data[*name]))
            .collect();
        entry("server's filesystem", Some(parts.join(", ")));
        entry(
            "its disk rotates, says the kernel",
            words(&data["disk_rotates"]),
        );
        entry("its write cache", words(&data["disk_cache"]));
        entry("its scheduler", words(&data["disk_scheduler"]));
    }
    body.push_str(&list(&entries));
}

fn left_out(body: &mut String, folder: &Folder) {
    let mut notes = Vec::new();
    if folder.warmup_s() > 0.0 {
        notes.push(
            "What began in the warm-up is in no percentile and no rate of the figures above; charts \
             over time show it shaded."
                .to_owned(),
        );
    }
    if folder.timeline.iter().all(|moment| moment.late.is_none()) {
        notes.push(
            "The loop is closed: a connection starts its next operation when the last one has ended. \
             While the server stalls nothing new is started, so the percentiles tell less of a stall \
             than users who come at their own times would feel."
                .to_owned(),
        );
    }
    let verbs = folder.series.len();
    if verbs > COLOURS {
        notes.push(format!(
            "{COLOURS} of {verbs} verbs have a curve; all are in hdr.log."
        ));
    }
    notes.push(
        "Histograms keep three digits: a value may be up to 0.1% off. Generator and server clocks are \
         not compared, all times are the generator's."
            .to_owned(),
    );
    for source in folder.read.sources() {
        let missing = folder
            .read
            .samples
            .iter()
            .filter(|sample| sample.source == source);
        let missing: Vec<_> = missing
            .filter_map(|sample| match &sample.found {
                crate::sample::Found::Absent(why) => Some((sample.t, why)),
                _ => None,
            })
            .collect();
        if let Some((t, why)) = missing.first() {
            notes.push(format!(
                "{} samples of {source} are missing, the first after {}: {why}",
                missing.len(),
                seconds(*t)
            ));
        }
    }
    let notes: String = notes
        .iter()
        .map(|note| format!("<li>{}</li>\n", escape(note)))
        .collect();
    let _ = writeln!(
        body,
        "<h2>What these figures leave out</h2>\n<ul>\n{notes}</ul>\n<p class=\"soft\">Beside this page: \
         summary.json, hdr.log (HdrHistogram interval log V2), timeline.jsonl, samples.jsonl, run.json.</p>"
    );
}
