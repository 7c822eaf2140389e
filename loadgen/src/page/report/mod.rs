//! `report.html`: one run to look at.

pub mod charts;
mod machine;
mod server;

use std::fmt::Write as _;

use serde_json::Value;

use super::{escape, html, table};
use crate::chart::scale::{bytes, number, percent, short, time};
use crate::recorder::Verb;
use crate::results::Folder;
use crate::results::hdr::Series;

/// The generator is at its limit above this part of its CPUs: its own delays count as the server's.
const BUSY_MAX: f64 = 0.9;

/// The page of a run.
pub fn report(folder: &Folder) -> String {
    let mut body = String::new();
    head(&mut body, folder);
    warnings(&mut body, folder);
    figures(&mut body, folder);
    charts::curves(&mut body, folder);
    charts::rates(&mut body, folder);
    charts::heat_map(&mut body, folder);
    charts::errors(&mut body, folder);
    server::processes(&mut body, folder);
    server::counters(&mut body, folder);
    machine::machine(&mut body, folder);
    machine::left_out(&mut body, folder);
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
    let mut cards: Vec<(String, f64, String, bool)> = Vec::new();
    let mut card = |value: f64, text: String, name: String| cards.push((text, value, name, false));
    if let Some(rate) = folder.number(&["done_per_s"]) {
        card(
            rate,
            format!("{}<small>/s</small>", short(rate)),
            noun.to_owned(),
        );
    }
    let main = folder.main_verb();
    if let Some((verb, total)) = main.and_then(|verb| Some((verb, folder.total(verb)?))) {
        // One of several kinds of commands does not stand for all of them.
        let whose = match verb {
            "message" | "session" => String::new(),
            other => format!(" of {other}"),
        };
        for (name, quantile) in [("median", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let ns = total.value_at_quantile(quantile) as f64;
            card(ns, unit(&time(ns)), format!("{name}{whose}"));
        }
        let most = total.max() as f64;
        card(most, unit(&time(most)), format!("slowest{whose}"));
    }
    if let Some(seen) = folder.total(Verb::Visible.name()) {
        for (name, quantile) in [("median", 0.5), ("p99", 0.99)] {
            let ns = seen.value_at_quantile(quantile) as f64;
            card(ns, unit(&time(ns)), format!("{name} from 250 to visible"));
        }
    }
    if let Some(us) = folder.number(&["server", "cpu_us_each"]) {
        card(us, unit(&time(us * 1e3)), "server CPU for each".to_owned());
    }
    if let Some(us) = folder.number(&["cpu_us_each"]) {
        card(
            us,
            unit(&time(us * 1e3)),
            "generator CPU for each".to_owned(),
        );
    }
    if let Some(most) = folder.number(&["server", "rss_bytes_max"]) {
        card(most, unit(&bytes(most)), "server memory at most".to_owned());
    }
    let errors = error_count(folder) as f64;
    cards.push((number(errors, 0), errors, "errors".to_owned(), errors > 0.0));
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
    match (folder.main_verb(), folder.summary["command"].as_str()) {
        (Some("message"), _) => "messages",
        (Some("session"), _) => "sessions",
        (_, Some("imap")) => "commands",
        (_, Some("http")) => "requests",
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
