//! Samples as owned data, and their Prometheus text (text format 0.0.4).
//!
//! ```text
//! # HELP ringpost_append_seconds From ask to durable.
//! # TYPE ringpost_append_seconds summary
//! ringpost_append_seconds{shard="0",quantile="0.99"} 0.000411
//! ringpost_append_seconds_sum{shard="0"} 1.25
//! ringpost_append_seconds_count{shard="0"} 5000
//! ```

use std::fmt::Write;
use std::time::Duration;

use super::histogram::{Histogram, QUANTILES};

/// `Content-Type` of what [`Exposition::render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind a family is, for its `# TYPE` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `counter`
    Counter,
    /// `gauge`
    Gauge,
    /// `summary`: quantiles, `_sum`, `_count`
    Summary,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        }
    }
}

/// Samples of one or more shards, by family, ready to be merged and rendered. It is `Send`.
///
/// A sample is named by its family and its labels; the caller gives the same pair once at most.
/// What comes from a shard is kept apart by the label of [`Exposition::of_shard`].
#[derive(Debug, Default)]
pub struct Exposition {
    /// Families in the order first seen.
    pub families: Vec<Family>,
    /// `shard="3"`, put before the labels of every sample.
    base_labels: String,
}

/// All samples of one name.
#[derive(Debug)]
pub struct Family {
    /// `ringpost_..._unit`.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
    /// `(suffix, labels without braces, value)`.
    pub samples: Vec<(&'static str, String, f64)>,
}

impl Exposition {
    /// An empty one that labels every sample `shard="N"`. `Exposition::default()` adds no label.
    pub fn of_shard(shard: usize) -> Exposition {
        Exposition {
            families: Vec::new(),
            base_labels: format!("shard=\"{shard}\""),
        }
    }

    /// Adds a sample of a counter. By custom the name ends in `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: u64,
    ) {
        self.sample(name, help, Kind::Counter, labels, value as f64);
    }

    /// Adds a sample of a gauge.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: i64,
    ) {
        self.sample(name, help, Kind::Gauge, labels, value as f64);
    }

    /// Adds a sample of a gauge that is a time, in seconds; its name ends in `_seconds`.
    pub fn gauge_seconds(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: Duration,
    ) {
        self.sample(name, help, Kind::Gauge, labels, value.as_secs_f64());
    }

    /// Adds a histogram as a summary: quantiles 0.5, 0.9, 0.99, 0.999 and 1 (the maximum), all
    /// since start, and the sum and count that rates are made from. A family whose name ends in
    /// `_seconds` was recorded in microseconds and is shown in seconds; others are shown as
    /// recorded. While nothing is recorded there are no quantiles.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        histogram: &Histogram,
    ) {
        let divisor = if name.ends_with("_seconds") { 1e6 } else { 1.0 };
        let summary = histogram.summary();
        let plain = self.labels(labels);
        let samples = &mut self.family(name, help, Kind::Summary).samples;
        if let Some(values) = summary.quantiles {
            for ((quantile, _), value) in QUANTILES.iter().zip(values) {
                let mut text = plain.clone();
                push_label(&mut text, "quantile", quantile);
                samples.push(("", text, value as f64 / divisor));
            }
        }
        samples.push(("_sum", plain.clone(), summary.sum as f64 / divisor));
        samples.push(("_count", plain, summary.count as f64));
    }

    /// Takes over all samples of `other`, family by family. The first one seen gives a family its
    /// help and type.
    pub fn merge(&mut self, other: Exposition) {
        for theirs in other.families {
            self.family(theirs.name, theirs.help, theirs.kind)
                .samples
                .extend(theirs.samples);
        }
    }

    /// The text: each family with one HELP and one TYPE line, its samples together.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for family in &self.families {
            let name = family.name;
            let _ = write!(out, "# HELP {name} ");
            escape(&mut out, family.help, false);
            let _ = writeln!(out, "\n# TYPE {name} {}", family.kind.as_str());
            for (suffix, labels, value) in &family.samples {
                let _ = write!(out, "{name}{suffix}");
                if !labels.is_empty() {
                    let _ = write!(out, "{{{labels}}}");
                }
                // Rust prints the shortest text that reads back as the same number. Nothing here is
                // infinite or NaN: values come from integers and durations.
                let _ = writeln!(out, " {value}");
            }
        }
        out
    }

    fn sample(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let labels = self.labels(labels);
        self.family(name, help, kind)
            .samples
            .push(("", labels, value));
    }

    fn labels(&self, labels: &[(&str, &str)]) -> String {
        let mut text = self.base_labels.clone();
        for (name, value) in labels {
            push_label(&mut text, name, value);
        }
        text
    }

    fn family(&mut self, name: &'static str, help: &'static str, kind: Kind) -> &mut Family {
        // A few dozen families: a scan is as good as a map, and keeps their order.
        let index = self.families.iter().position(|family| family.name == name);
        let index = index.unwrap_or_else(|| {
            self.families.push(Family {
                name,
                help,
                kind,
                samples: Vec::new(),
            });
            self.families.len() - 1
        });
        &mut self.families[index]
    }
}

fn push_label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    let _ = write!(text, "{name}=\"");
    escape(text, value, true);
    text.push('"');
}

/// Backslash and line feed are escaped everywhere, quotes in label values only.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
