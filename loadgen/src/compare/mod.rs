//! `loadgen compare`: runs side by side, and which differences are real.
//!
//! Guarantees: a difference is called only where the runs show it (see [`stats`]); what is too little
//! to tell is told to be; runs that are not of one load are shown, and what differs is named.
//! Does not know: what the servers are.

pub mod page;
pub mod sides;
pub mod stats;
pub mod text;

use std::path::Path;

use hdrhistogram::Histogram;

use crate::chart::scale::{bytes, number, short, time};
use crate::cli::Compare;
use crate::commands::Verdict;
use crate::results::Folder;
use sides::Side;
use stats::Difference;

/// Points of a percentile curve for each power of ten.
const POINTS_PER_DECADE: i32 = 16;

/// One respect in which runs are compared.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// In tables.
    pub name: &'static str,
    /// Whether differences are tested; the others are shown only.
    pub tested: bool,
    /// Writes a value.
    pub text: fn(f64) -> String,
    of: fn(&Run) -> Option<f64>,
}

/// What a run is compared by.
struct Run<'a> {
    folder: &'a Folder,
    total: &'a Histogram<u64>,
}

fn quantile(run: &Run, quantile: f64) -> Option<f64> {
    Some(run.total.value_at_quantile(quantile) as f64)
}

fn us(value: f64) -> String {
    time(value * 1e3)
}

/// Every respect. The tested ones are as many as [`stats::LINES_MAX`].
const MEASURES: [Measure; 10] = [
    Measure {
        name: "done per second",
        tested: true,
        text: short,
        of: |run| run.folder.number(&["done_per_s"]),
    },
    Measure {
        name: "p50",
        tested: true,
        text: time,
        of: |run| quantile(run, 0.5),
    },
    Measure {
        name: "p90",
        tested: true,
        text: time,
        of: |run| quantile(run, 0.9),
    },
    Measure {
        name: "p99",
        tested: true,
        text: time,
        of: |run| quantile(run, 0.99),
    },
    Measure {
        name: "p99.9",
        tested: true,
        text: time,
        of: |run| quantile(run, 0.999),
    },
    Measure {
        name: "server CPU for each",
        tested: true,
        text: us,
        of: |run| run.folder.number(&["server", "cpu_us_each"]),
    },
    Measure {
        name: "slowest",
        tested: false,
        text: time,
        of: |run| quantile(run, 1.0),
    },
    Measure {
        name: "generator CPU for each",
        tested: false,
        text: us,
        of: |run| run.folder.number(&["cpu_us_each"]),
    },
    Measure {
        name: "server memory at most",
        tested: false,
        text: bytes,
        of: |run| run.folder.number(&["server", "rss_bytes_max"]),
    },
    Measure {
        name: "errors",
        tested: false,
        text: |value| number(value, 0),
        of: |run| {
            let kinds = run.folder.summary["errors"].as_array()?;
            Some(kinds.iter().filter_map(|kind| kind["count"].as_f64()).sum())
        },
    },
];

/// All sides in one respect.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub measure: Measure,
    /// A value for each run of each side; a run that has none is left out.
    pub values: Vec<Vec<f64>>,
    /// Each further side beside the first; `None` where nothing is tested.
    pub differences: Vec<Option<Difference>>,
}

/// A percentile curve of several runs.
#[derive(Debug)]
pub struct Curve {
    /// 1/(1-q), the median of the runs in nanoseconds, the smallest and the largest.
    pub points: Vec<(f64, f64, f64, f64)>,
}

/// Everything a comparison says.
#[derive(Debug)]
pub struct Comparison {
    /// The first is the one that others are compared with.
    pub sides: Vec<Side>,
    /// Whose times they are: `message`, `session`.
    pub verb: String,
    /// In the order of the table.
    pub rows: Vec<Row>,
    /// One for each side.
    pub curves: Vec<Curve>,
    /// Lines that are tested.
    pub lines: usize,
    /// The one thing that the sides differ in, if it is only one: what is compared.
    pub subject: Option<String>,
    /// What the reader has to be warned of before the figures.
    pub notes: Vec<String>,
}

/// `compare`.
///
/// # Errors
/// Folders that are none, sides that cannot be compared, an `--out` that exists.
pub fn compare(flags: &Compare) -> Result<Verdict, String> {
    let comparison = Comparison::new(sides::sides(&flags.sides)?, flags.verb.as_deref())?;
    crate::say::say(&text::text(&comparison));
    if let Some(dir) = &flags.out {
        write(&comparison, dir)?;
        crate::sayln!("\npage: {}", dir.join("compare.html").display());
    }
    Ok(true)
}

/// Writes page and picture to a new folder.
///
/// # Errors
/// Names what exists or cannot be written.
pub fn write(comparison: &Comparison, dir: &Path) -> Result<(), String> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
    }
    std::fs::create_dir(dir).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => format!(
            "--out {}: it exists; nothing is overwritten, name a new folder",
            dir.display()
        ),
        _ => format!("--out {}: {e}", dir.display()),
    })?;
    for (name, text) in [
        ("compare.html", page::page(comparison)),
        ("percentiles.svg", page::picture(comparison)),
        ("compare.txt", text::text(comparison)),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

impl Comparison {
    /// Compares sides by the times of `verb`, or of what stands for the whole.
    ///
    /// # Errors
    /// When a run has measured nothing of it, or no run of a side has measured anything: one of
    /// several that has not is left out, and that is noted.
    pub fn new(mut sides: Vec<Side>, verb: Option<&str>) -> Result<Comparison, String> {
        let mut left_out = Vec::new();
        for side in &mut sides {
            if side.runs.iter().all(|run| run.series.is_empty()) {
                continue;
            }
            for run in side.runs.extract_if(.., |run| run.series.is_empty()) {
                left_out.push(format!(
                    "{}: nothing was measured in this run; it is left out",
                    run.path.display()
                ));
            }
        }
        let first = &sides[0].runs[0];
        let verb = verb
            .or_else(|| first.main_verb())
            .ok_or_else(|| format!("{}: nothing was measured in this run", first.path.display()))?
            .to_owned();
        let mut totals = Vec::new();
        for side in &sides {
            let mut of_side = Vec::new();
            for run in &side.runs {
                let total = run.total(&verb).filter(|total| !total.is_empty());
                of_side.push(total.ok_or_else(|| {
                    let known: Vec<&str> = run.series.keys().map(String::as_str).collect();
                    format!(
                        "{}: this run has no times of '{verb}'; it has {}",
                        run.path.display(),
                        if known.is_empty() {
                            "none".to_owned()
                        } else {
                            known.join(", ")
                        }
                    )
                })?);
            }
            totals.push(of_side);
        }
        let mut rows: Vec<Row> = MEASURES
            .into_iter()
            .map(|measure| Row {
                measure,
                values: sides
                    .iter()
                    .zip(&totals)
                    .map(|(side, totals)| {
                        let runs = side.runs.iter().zip(totals);
                        let values =
                            runs.map(|(folder, total)| (measure.of)(&Run { folder, total }));
                        values.flatten().collect()
                    })
                    .collect(),
                differences: Vec::new(),
            })
            .filter(|row: &Row| row.values.iter().any(|values| !values.is_empty()))
            .collect();
        let lines = rows.iter().filter(|row| row.measure.tested).count();
        for row in &mut rows {
            let (tested, values) = (row.measure.tested, &row.values);
            let compared = values[1..].iter().zip(&sides[1..]).map(|(other, side)| {
                // A value that some runs lack is not tested: what is absent may be what differs.
                let whole =
                    values[0].len() == sides[0].runs.len() && other.len() == side.runs.len();
                let (base, other): (&[f64], &[f64]) = if whole {
                    (&values[0], other)
                } else {
                    (&[], &[])
                };
                tested.then(|| stats::difference(base, other, lines))
            });
            row.differences = compared.collect();
        }
        let curves = totals.iter().map(|totals| curve(totals)).collect();
        let (subject, mut notes) = notes(&sides);
        notes.splice(..0, left_out);
        Ok(Comparison {
            sides,
            verb,
            rows,
            curves,
            lines,
            subject,
            notes,
        })
    }

    /// Runs of the smallest side.
    pub fn runs_min(&self) -> usize {
        self.sides
            .iter()
            .map(|side| side.runs.len())
            .min()
            .unwrap_or_default()
    }
}

fn curve(totals: &[Histogram<u64>]) -> Curve {
    // As far as every run can tell.
    let end = totals.iter().map(Histogram::len).min().unwrap_or(1).max(1) as f64;
    let steps = (end.log10() * f64::from(POINTS_PER_DECADE)).floor() as i32;
    let inner = (0..=steps).map(|step| 10f64.powf(f64::from(step) / f64::from(POINTS_PER_DECADE)));
    let points = inner.chain([end]).filter_map(|x| {
        let values: Vec<f64> = totals
            .iter()
            .map(|total| total.value_at_quantile(1.0 - 1.0 / x).max(1) as f64)
            .collect();
        let (low, high) = stats::range(&values)?;
        Some((x, stats::median(&values)?, low, high))
    });
    Curve {
        points: points.collect(),
    }
}

fn notes(sides: &[Side]) -> (Option<String>, Vec<String>) {
    let mut differences = sides::differences(sides);
    let subject = if differences.len() == 1 {
        differences.pop()
    } else {
        None
    };
    let mut notes: Vec<String> = differences
        .into_iter()
        .map(|what| format!("not the same: {what}"))
        .collect();
    for run in sides.iter().flat_map(|side| &side.runs) {
        if let Some(why) = run.summary["ended_early"].as_str() {
            notes.push(format!("{} ended early: {why}", run.path.display()));
        }
    }
    (subject, notes)
}

impl Row {
    /// The median of a side's runs and their smallest and largest, each in words; the unit stands
    /// once where all share it. `None`: no run has a value.
    pub fn spread(&self, side: usize) -> Option<(String, Option<String>)> {
        let values = &self.values[side];
        let median = (self.measure.text)(stats::median(values)?);
        let (low, high) = stats::range(values)?;
        if values.len() < 2 {
            return Some((median, None));
        }
        let unit = median.split_once(' ').map_or("", |(_, unit)| unit);
        let bare = |value: f64| {
            let text = (self.measure.text)(value);
            match text.split_once(' ') {
                Some((number, own)) if own == unit => number.to_owned(),
                _ => text,
            }
        };
        let range = format!("{}..{}", bare(low), bare(high));
        Some((median, Some(range)))
    }
}

/// A quotient as more or less: `+12.3%`, `-4%`, `3.1 times`.
pub fn change(quotient: f64) -> String {
    if quotient >= 3.0 {
        return format!("× {}", number(quotient, 1));
    }
    let percent = (quotient - 1.0) * 100.0;
    let sign = if percent >= 0.05 { "+" } else { "" };
    format!("{sign}{}%", number(percent, 1))
}

/// What a verdict is in words.
pub fn verdict(found: &Difference) -> &'static str {
    match found.verdict {
        stats::Verdict::Higher => "higher",
        stats::Verdict::Lower => "lower",
        stats::Verdict::NoneShown => "no difference shown",
        stats::Verdict::TooFew => "cannot tell: too few runs",
        stats::Verdict::Unmeasured => "not measured in every run",
    }
}

#[cfg(test)]
mod tests {
    use super::sides::tests::write_run;
    use super::*;

    #[test]
    fn as_many_lines_are_tested_as_the_statistics_provide_for() {
        let tested = MEASURES.iter().filter(|measure| measure.tested).count();
        assert_eq!(tested, stats::LINES_MAX);
    }

    fn compared(runs: usize, factor: f64) -> (tempfile::TempDir, Comparison) {
        let dir = tempfile::tempdir().expect("a folder");
        for run in 0..runs {
            let drift = 1.0 + run as f64 / 1000.0;
            write_run(
                &dir.path().join(format!("a-{run}")),
                "a",
                "loadgen smtp",
                1000.0 * drift,
                100,
            );
            let ms = (100.0 * factor) as u64;
            write_run(
                &dir.path().join(format!("b-{run}")),
                "b",
                "loadgen smtp",
                1000.0 * drift / factor,
                ms,
            );
        }
        let sides = sides::sides(&[dir.path().display().to_string()]).expect("sides");
        let comparison = Comparison::new(sides, None).expect("compared");
        (dir, comparison)
    }

    fn verdict_of(comparison: &Comparison, name: &str) -> stats::Verdict {
        let row = comparison
            .rows
            .iter()
            .find(|row| row.measure.name == name)
            .expect(name);
        row.differences[0].as_ref().expect("tested").verdict
    }

    #[test]
    fn five_runs_show_a_fifth() {
        let (_dir, comparison) = compared(5, 1.2);
        assert_eq!(
            verdict_of(&comparison, "done per second"),
            stats::Verdict::Lower
        );
        assert_eq!(verdict_of(&comparison, "p99"), stats::Verdict::Higher);
        assert_eq!(
            verdict_of(&comparison, "server CPU for each"),
            stats::Verdict::Higher
        );
        let text = text::text(&comparison);
        assert!(text.contains("+20") && text.contains("higher"), "{text}");
        let page = page::page(&comparison);
        assert!(
            page.contains("b: higher") || page.contains(">higher<"),
            "{page}"
        );
    }

    #[test]
    fn one_run_each_cannot_tell() {
        let (_dir, comparison) = compared(1, 1.2);
        assert_eq!(verdict_of(&comparison, "p99"), stats::Verdict::TooFew);
        let text = text::text(&comparison);
        assert!(
            text.contains("cannot tell") && text.contains("5 runs of each"),
            "{text}"
        );
        assert!(!text.contains(" higher"), "{text}");
    }

    #[test]
    fn equal_sides_show_no_difference() {
        let (_dir, comparison) = compared(5, 1.0);
        assert_eq!(
            verdict_of(&comparison, "done per second"),
            stats::Verdict::NoneShown
        );
        assert!(text::text(&comparison).contains("no difference shown"));
    }

    #[test]
    fn a_run_that_measured_nothing_is_left_out_and_one_difference_is_the_subject() {
        let (dir, _) = compared(3, 1.2);
        let log = dir.path().join("b-1/hdr.log");
        let head: String = std::fs::read_to_string(&log)
            .expect("a log")
            .lines()
            .filter(|line| !line.starts_with("Tag="))
            .map(|line| format!("{line}\n"))
            .collect();
        std::fs::write(&log, head).expect("written");
        let read = || {
            let sides = sides::sides(&[dir.path().display().to_string()]).expect("sides");
            Comparison::new(sides, None).expect("compared")
        };
        let comparison = read();
        assert_eq!(comparison.sides[1].runs.len(), 2);
        assert!(comparison.notes[0].contains("b-1: nothing was measured"));
        assert_eq!(comparison.subject, None);
        let change = |side: &str, key: &str, value: &str| {
            for run in 0..3 {
                let path = dir.path().join(format!("{side}-{run}/run.json"));
                let text = std::fs::read_to_string(&path).expect("read");
                let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                json["machine"][key] = value.into();
                std::fs::write(&path, json.to_string()).expect("written");
            }
        };
        change("a", "kernel", "6.1");
        let comparison = read();
        let subject = comparison.subject.as_deref().expect("one");
        assert!(subject.starts_with("kernel: a: \"6.1\""), "{subject}");
        assert!(page::page(&comparison).contains("What differs is kernel"));
        change("b", "governor", "powersave");
        let comparison = read();
        assert_eq!((&comparison.subject, comparison.notes.len()), (&None, 3));
    }

    #[test]
    fn an_unknown_verb_is_told_with_those_there_are() {
        let (dir, _) = compared(1, 1.0);
        let sides = sides::sides(&[dir.path().display().to_string()]).expect("sides");
        let why = Comparison::new(sides, Some("RETR")).expect_err("no such verb");
        assert!(why.contains("'RETR'; it has message"), "{why}");
    }

    #[test]
    fn changes_read_well() {
        assert_eq!(change(1.0), "0%");
        assert_eq!(change(1.123), "+12.3%");
        assert_eq!(change(0.5), "-50%");
        assert_eq!(change(31.04), "× 31");
    }
}
