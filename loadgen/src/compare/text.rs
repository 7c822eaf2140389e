//! A comparison for the terminal: the table, and the curves drawn with letters.

use std::fmt::Write as _;

use super::stats::{self, ERROR_RATE};
use super::{Comparison, Row, change, verdict};
use crate::chart::Axis;
use crate::chart::scale::{percent, time};

/// Letters across and lines down of the plot.
const PLOT: (usize, usize) = (64, 16);
/// Stands where curves meet.
const MEETING: char = '*';

/// Everything.
// Writing to a string cannot fail.
pub fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    if let Some(subject) = &comparison.subject {
        let _ = writeln!(text, "what differs is {subject}\n");
    }
    for note in &comparison.notes {
        let _ = writeln!(text, "{note}");
    }
    if !comparison.notes.is_empty() {
        text.push('\n');
    }
    for other in 1..comparison.sides.len() {
        table(&mut text, comparison, other);
        text.push('\n');
    }
    method(&mut text, comparison);
    text.push('\n');
    plot(&mut text, comparison);
    text
}

fn table(text: &mut String, comparison: &Comparison, other: usize) {
    let (base, side) = (&comparison.sides[0], &comparison.sides[other]);
    let runs = |count: usize| format!("{count} run{}", if count == 1 { "" } else { "s" });
    let mut rows = vec![[
        String::new(),
        format!("{} ({})", base.name, runs(base.runs.len())),
        format!("{} ({})", side.name, runs(side.runs.len())),
        "difference".to_owned(),
        "surely between".to_owned(),
        String::new(),
    ]];
    for row in &comparison.rows {
        let mut cells = [
            row.measure.name.to_owned(),
            values(row, 0),
            values(row, other),
            String::new(),
            String::new(),
            "not tested".to_owned(),
        ];
        if let Some(found) = &row.differences[other - 1] {
            cells[3] = found.quotient.map_or(String::new(), change);
            cells[4] = found.interval.map_or(String::new(), |(low, high)| {
                format!("{} and {}", change(low), change(high))
            });
            cells[5] = verdict(found).to_owned();
        }
        rows.push(cells);
    }
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if column == 0 || column == 5 {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Median, smallest and largest of the runs.
fn values(row: &Row, side: usize) -> String {
    match row.spread(side) {
        Some((median, Some(range))) => format!("{median} [{range}]"),
        Some((median, None)) => median,
        None => "?".to_owned(),
    }
}

/// What the verdicts rest on.
fn method(text: &mut String, comparison: &Comparison) {
    let needed = stats::runs_needed(comparison.lines);
    let fewest = comparison.runs_min();
    let _ = writeln!(
        text,
        "Medians of runs with their spread; times are those of '{}'. Differences: Hodges-Lehmann, with the",
        comparison.verb
    );
    let _ = writeln!(
        text,
        "interval of Mann and Whitney. Two equal sides get a verdict anywhere in their table in {} of cases",
        percent(ERROR_RATE)
    );
    let _ = writeln!(text, "at most ({} lines tested).", comparison.lines);
    if fewest < needed {
        let _ = writeln!(
            text,
            "{fewest} run{} cannot show a difference so surely, however large it looks: {needed} runs of \
             each side can (loadgen run A.toml --repeat {needed} --interleave B.toml).",
            if fewest == 1 {
                " of a side"
            } else {
                "s of a side"
            },
        );
    }
}

/// The curves: percentiles across, times up, both logarithmic.
fn plot(text: &mut String, comparison: &Comparison) {
    let points = || comparison.curves.iter().flat_map(|curve| &curve.points);
    let (Some(low), Some(high), Some(end)) = (
        points().map(|point| point.1).reduce(f64::min),
        points().map(|point| point.1).reduce(f64::max),
        points().map(|point| point.0).reduce(f64::max),
    ) else {
        return;
    };
    let x = Axis::quantiles(end as u64);
    let y = Axis::log("", low, high, time);
    let (width, height) = PLOT;
    let mut cells = vec![vec![' '; width]; height];
    for (side, curve) in comparison.curves.iter().enumerate() {
        let letter = letter(side);
        let Some(last) = curve.points.last() else {
            continue;
        };
        for (column, place) in (0..width)
            .map(|column| (column, column as f64 / (width - 1) as f64))
            // A curve ends where its measurements do.
            .take_while(|(_, place)| *place <= x.place(last.0) + 1e-9)
        {
            let near = |point: &&(f64, f64, f64, f64)| (x.place(point.0) - place).abs();
            let nearest = curve
                .points
                .iter()
                .min_by(|a, b| near(a).total_cmp(&near(b)))
                .unwrap_or(last);
            let line = height - 1 - (y.place(nearest.1) * (height - 1) as f64).round() as usize;
            let cell = &mut cells[line][column];
            *cell = if *cell == ' ' || *cell == letter {
                letter
            } else {
                MEETING
            };
        }
    }
    let mut labels = vec![String::new(); height];
    for (value, label) in &y.ticks {
        let line = height - 1 - (y.place(*value) * (height - 1) as f64).round() as usize;
        labels[line].clone_from(label);
    }
    let names: Vec<String> = comparison
        .sides
        .iter()
        .enumerate()
        .map(|(index, side)| format!("{} {}", letter(index), side.name))
        .collect();
    let _ = writeln!(
        text,
        "time of a {} by percentile, medians of the runs: {}, {MEETING} where they meet",
        comparison.verb,
        names.join(", ")
    );
    for (label, cells) in labels.iter().zip(&cells) {
        let line: String = cells.iter().collect();
        let _ = writeln!(text, "{label:>9} |{}", line.trim_end());
    }
    let mut axis = vec![' '; width + 8];
    for (value, label) in &x.ticks {
        let at = (x.place(*value) * (width - 1) as f64).round() as usize;
        let from = at.saturating_sub(label.chars().count() / 2);
        let room = from..(from + label.chars().count() + 1).min(axis.len());
        if axis[room.clone()].iter().all(|c| *c == ' ') && (from == 0 || axis[from - 1] == ' ') {
            for (cell, c) in axis[room].iter_mut().zip(label.chars()) {
                *cell = c;
            }
        }
    }
    let _ = writeln!(text, "{:>9} +{}", "", "-".repeat(width));
    let axis: String = axis.into_iter().collect();
    let _ = writeln!(text, "{:>9}  {}", "", axis.trim_end());
}

/// A, B, C.
fn letter(side: usize) -> char {
    char::from(b'A' + (side % 26) as u8)
}
