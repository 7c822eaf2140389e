//! The charts of a run: percentiles, rate, heat map, errors.

use std::fmt::Write as _;

use serde_json::Value;

use super::{noun, ordered_verbs};
use crate::chart::heat::{Column, SHADES};
use crate::chart::scale::{number, short, time};
use crate::chart::{Axis, COLOURS, Heat, Line, Lines};
use crate::page::{drawn, figure, heated, table};
use crate::results::Folder;

/// Columns of the heat map; longer runs have several seconds in each.
const COLUMNS_MAX: usize = 120;
/// Rows of the heat map for each power of ten.
const ROWS_PER_DECADE: f64 = 12.0;
/// Points of a percentile curve for each power of ten.
const POINTS_PER_DECADE: f64 = 24.0;
/// Kinds of errors with a line of their own.
const ERRORS_MAX: usize = COLOURS;

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

/// What histograms tell from nothing.
const SHORTEST_NS: u64 = 1_000;

/// How a place on the axis of percentiles is written.
pub fn percentile_text(x: f64) -> String {
    format!("percentile {}", number(100.0 - 100.0 / x, 5))
}

pub(super) fn curves(body: &mut String, folder: &Folder) {
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
        .unwrap_or(1)
        .max(SHORTEST_NS);
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

pub(super) fn seconds(t: f64) -> String {
    format!("{} s", number(t, 1))
}

/// A chart over time, from zero up.
pub(super) fn over_time(
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

pub(super) fn rates(body: &mut String, folder: &Folder) {
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

pub(super) fn heat_map(body: &mut String, folder: &Folder) {
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

pub(super) fn errors(body: &mut String, folder: &Folder) {
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
