//! A comparison as a page and as a picture.

use std::fmt::Write as _;

use super::stats::{self, ERROR_RATE, Verdict};
use super::{Comparison, change, verdict};
use crate::chart::scale::{number, percent, short, time};
use crate::chart::{Axis, Line, Lines, Size};
use crate::page::report::charts::percentile_text;
use crate::page::{drawn, escape, figure, html, standalone};

/// Classes of the table's columns: what the sentences above it say as well gives way where there is
/// little room.
const COLUMNS: [&str; 6] = ["", "", "", "", "spare", "spare"];

/// The page.
// Writing to a string cannot fail.
pub fn page(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison
        .sides
        .iter()
        .map(|side| side.name.as_str())
        .collect();
    let title = names.join(" and ");
    let mut body = format!("<h1>{}</h1>\n", escape(&title));
    let counts: Vec<String> = comparison
        .sides
        .iter()
        .map(|side| format!("{} of {}", side.runs.len(), side.name))
        .collect();
    let _ = writeln!(
        body,
        "<p class=\"soft\">loadgen compare: {} runs; times are those of a {}</p>",
        escape(&counts.join(", ")),
        escape(&comparison.verb)
    );
    if let Some(subject) = &comparison.subject {
        let _ = writeln!(
            body,
            "<div class=\"note\">What differs is {}.</div>",
            escape(subject)
        );
    }
    if !comparison.notes.is_empty() {
        let notes: String = comparison
            .notes
            .iter()
            .map(|note| format!("<p>{}</p>", escape(note)))
            .collect();
        let _ = writeln!(body, "<div class=\"warning\">{notes}</div>");
    }
    for other in 1..comparison.sides.len() {
        summary(&mut body, comparison, other);
        table(&mut body, comparison, other);
    }
    body.push_str(&figure(
        "Percentiles",
        "The line is the median of the runs, the band reaches from the lowest to the highest of them. \
         Where bands overlap, one run would not have told the sides apart.",
        &drawn(&curves(comparison)),
    ));
    body.push_str(&figure(
        "Run by run",
        "The rate of each run, in the order they were made: drift of the machine shows as a slope that \
         all sides share.",
        &drawn(&rates(comparison)),
    ));
    method(&mut body, comparison);
    runs(&mut body, comparison);
    html(&format!("{title}: loadgen compare"), &body)
}

/// The curves alone.
pub fn picture(comparison: &Comparison) -> String {
    standalone(&curves(comparison).draw(Size::WIDE))
}

/// What was found, in sentences.
fn summary(body: &mut String, comparison: &Comparison, other: usize) {
    let (base, side) = (&comparison.sides[0].name, &comparison.sides[other].name);
    let _ = writeln!(body, "<h2>{} beside {}</h2>", escape(side), escape(base));
    let mut real = Vec::new();
    let mut unclear = Vec::new();
    for row in &comparison.rows {
        let Some(found) = &row.differences[other - 1] else {
            continue;
        };
        match (found.verdict, found.quotient, found.interval) {
            (Verdict::Higher | Verdict::Lower, Some(quotient), Some((low, high))) => {
                real.push(format!(
                    "<b>{} {}</b> (between {} and {})",
                    row.measure.name,
                    change(quotient),
                    change(low),
                    change(high)
                ))
            }
            (Verdict::NoneShown, ..) => unclear.push(row.measure.name),
            _ => {}
        }
    }
    if comparison.runs_min() < stats::runs_needed(comparison.lines) {
        let _ = writeln!(
            body,
            "<p>Too few runs to tell: {} of each side can show a difference, there are {}. The figures \
             below may be noise.</p>",
            stats::runs_needed(comparison.lines),
            comparison.runs_min()
        );
        return;
    }
    let text = match (real.is_empty(), unclear.is_empty()) {
        (true, _) => {
            "No difference shown: what was seen is within what runs of one side differ among \
                      themselves."
                .to_owned()
        }
        (false, true) => format!("{}.", real.join(", ")),
        (false, false) => format!(
            "{}. No difference shown: {}.",
            real.join(", "),
            unclear.join(", ")
        ),
    };
    let _ = writeln!(body, "<p>{text}</p>");
}

fn table(body: &mut String, comparison: &Comparison, other: usize) {
    let head: String = [
        "",
        comparison.sides[0].name.as_str(),
        comparison.sides[other].name.as_str(),
        "difference",
        "surely between",
        "",
    ]
    .iter()
    .zip(COLUMNS)
    .map(|(cell, class)| format!("<th class=\"{class}\">{}</th>", escape(cell)))
    .collect();
    let mut rows = String::new();
    for row in &comparison.rows {
        let _ = write!(rows, "<tr><td>{}</td>", escape(row.measure.name));
        for side in [0, other] {
            let (median, range) = row.spread(side).unwrap_or(("?".to_owned(), None));
            let range = range.unwrap_or_default();
            let _ = write!(
                rows,
                "<td>{}<small>{}</small></td>",
                escape(&median),
                escape(&range)
            );
        }
        let mut cells = ["", "", "not tested"].map(str::to_owned);
        let mut real = "";
        if let Some(found) = &row.differences[other - 1] {
            if matches!(found.verdict, Verdict::Higher | Verdict::Lower) {
                real = "real";
            }
            let sure = found.interval.filter(|_| found.verdict != Verdict::TooFew);
            cells = [
                found.quotient.map_or(String::new(), change),
                sure.map_or(String::new(), |(low, high)| {
                    format!("{} and {}", change(low), change(high))
                }),
                verdict(found).to_owned(),
            ];
        }
        for (cell, class) in cells.iter().zip(&COLUMNS[3..]) {
            let _ = write!(rows, "<td class=\"{real} {class}\">{}</td>", escape(cell));
        }
        rows.push_str("</tr>\n");
    }
    let _ = writeln!(
        body,
        "<div class=\"sheet scroll\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>\n<p class=\"soft\">Medians of the runs; below them, from the smallest to the \
         largest.</p>"
    );
}

fn curves(comparison: &Comparison) -> Lines {
    let points = || comparison.curves.iter().flat_map(|curve| &curve.points);
    let low = points().map(|point| point.2).fold(f64::INFINITY, f64::min);
    let high = points().map(|point| point.3).fold(0.0, f64::max);
    let end = points().map(|point| point.0).fold(1.0, f64::max);
    let lines = comparison.sides.iter().zip(&comparison.curves).enumerate();
    Lines {
        label: "latency by percentile, a curve for each side".to_owned(),
        x: Axis::quantiles(end as u64),
        y: Axis::log(&format!("time of a {}", comparison.verb), low, high, time),
        lines: lines
            .map(|(colour, (side, curve))| Line {
                name: side.name.clone(),
                colour,
                dashed: false,
                points: curve.points.iter().map(|(x, y, ..)| (*x, *y)).collect(),
                band: curve
                    .points
                    .iter()
                    .map(|(x, _, low, high)| (*x, *low, *high))
                    .collect(),
            })
            .collect(),
        shade: None,
        x_text: percentile_text,
        y_text: time,
    }
}

fn rates(comparison: &Comparison) -> Lines {
    let rate = |run: &crate::results::Folder| run.number(&["done_per_s"]);
    // All runs in the order of time: a side's n-th run is not the n-th of all.
    let mut all: Vec<(&str, usize, f64)> = Vec::new();
    for (side, runs) in comparison.sides.iter().enumerate() {
        for run in &runs.runs {
            let started = run.read.run["started"].as_str().unwrap_or_default();
            all.extend(rate(run).map(|rate| (started, side, rate)));
        }
    }
    all.sort_by(|a, b| a.0.cmp(b.0));
    let most = all.iter().map(|(_, _, rate)| *rate).fold(0.0, f64::max);
    let lines = comparison
        .sides
        .iter()
        .enumerate()
        .map(|(index, side)| Line {
            name: side.name.clone(),
            colour: index,
            dashed: false,
            points: all
                .iter()
                .enumerate()
                .filter(|(_, (_, side, _))| *side == index)
                .map(|(order, (_, _, rate))| (order as f64 + 1.0, *rate))
                .collect(),
            band: Vec::new(),
        });
    let whole = |value: f64| {
        if value.fract() == 0.0 {
            number(value, 0)
        } else {
            String::new()
        }
    };
    Lines {
        label: "rate of each run".to_owned(),
        x: Axis::linear("run, in order of time", 0.0, all.len() as f64, whole),
        y: Axis::linear("done per second", 0.0, most, short),
        lines: lines.collect(),
        shade: None,
        x_text: |order| format!("run {}", number(order, 0)),
        y_text: short,
    }
}

fn method(body: &mut String, comparison: &Comparison) {
    let _ = writeln!(
        body,
        "<h2>How differences are judged</h2>\n<p>A run counts once: its messages share its luck, so their \
         number does not make it surer. The difference is the median of all quotients of a run of one \
         side by a run of the other (Hodges and Lehmann), its interval that of Mann and Whitney, which \
         assumes nothing of how runs scatter. Two equal sides get a verdict anywhere in their table in \
         {} of the cases at most; {} lines are tested, which takes {} runs of each side at least. \
         &ldquo;No difference shown&rdquo; does not mean that there is none: it may be smaller than the \
         noise, and the interval tells how large it could be.</p>",
        percent(ERROR_RATE),
        comparison.lines,
        stats::runs_needed(comparison.lines)
    );
}

fn runs(body: &mut String, comparison: &Comparison) {
    let mut rows = Vec::new();
    for side in &comparison.sides {
        for run in &side.runs {
            let text = |name: &str| run.read.run[name].as_str().unwrap_or_default().to_owned();
            rows.push(vec![
                side.name.clone(),
                run.path.display().to_string(),
                text("started"),
                run.number(&["done_per_s"]).map_or(String::new(), short),
            ]);
        }
    }
    body.push_str("<h2>Runs</h2>\n");
    body.push_str(&crate::page::table(
        &["side", "folder", "started", "done per second"],
        &rows,
        &[1],
    ));
}
