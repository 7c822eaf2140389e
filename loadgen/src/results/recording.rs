//! Writes a run's folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::folder::{Moment, Read};
use super::{hdr::HdrLog, names};
use crate::cli::Record;
use crate::observe::{Observer, Span, View};
use crate::recorder::Interval;
use crate::sample::metrics::{self, Endpoint};
use crate::sample::{Sampler, Source, process};
use crate::{clock, machine};

/// Kinds of errors that are counted apart in a second; the others are added up.
const KINDS_MAX: usize = 20;
/// Stands for secrets of the command line.
const HIDDEN: &str = "(hidden)";

/// A folder that is being filled.
struct Recording {
    dir: PathBuf,
    hdr: HdrLog,
    timeline: BufWriter<File>,
    sampler: Option<Sampler>,
    endpoints: Vec<Endpoint>,
}

/// Makes the folder that `record` asks for and starts what is sampled. `warmup` is noted.
///
/// # Errors
/// When the folder exists or cannot be made, when there is nothing to sample at a given place, when
/// flags need a folder and there is none.
pub fn begin(record: &Record, warmup: Duration) -> Result<Option<Box<dyn Observer>>, String> {
    let began = Instant::now();
    let Some(dir) = &record.results else {
        return Ok(None);
    };
    let mut info = BTreeMap::new();
    let mut pages = Vec::new();
    for endpoint in &record.sample_metrics {
        let page = endpoint
            .fetch()
            .map_err(|why| format!("--sample-metrics {why}"))?;
        info.extend(metrics::info(&page));
        pages.push(page);
    }
    for pid in &record.sample_pid {
        process::usage(*pid, false).map_err(|why| format!("--sample-pid {pid}: {why}"))?;
    }
    if let Some(data) = &record.server_data {
        fs::metadata(data).map_err(|e| format!("--server-data {}: {e}", data.display()))?;
    }
    make(dir)?;
    let command: Vec<String> = std::env::args().collect();
    let now = clock::since_epoch().as_secs();
    write_json(
        &dir.join(names::RUN),
        &json!({
            "format": 1,
            "label": label(record, dir),
            "command": without_secrets(&command),
            "started": clock::rfc3339_date(now),
            "warmup_s": warmup.as_secs_f64(),
            "loadgen": machine::own_version(),
            "server": info,
            "machine": machine::describe(record.server_data.as_deref()),
        }),
    )?;
    write_pages(&dir.join(names::METRICS_BEFORE), &pages)?;
    let path = dir.join(names::HDR_LOG);
    let hdr = HdrLog::begin(&path, create(&path)?)?;
    let sources = std::iter::once(Source::Own)
        .chain(record.sample_pid.iter().map(|pid| Source::Process(*pid)))
        .chain(record.sample_metrics.iter().cloned().map(Source::Metrics))
        .collect();
    let path = dir.join(names::SAMPLES);
    let file = create(&path)?;
    Ok(Some(Box::new(Recording {
        dir: dir.clone(),
        hdr,
        timeline: BufWriter::new(create(&dir.join(names::TIMELINE))?),
        sampler: Some(Sampler::start(sources, path, file, began)?),
        endpoints: record.sample_metrics.clone(),
    })))
}

fn make(dir: &Path) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("--results {}: {e}", dir.display());
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(wrong)?;
    }
    fs::create_dir(dir).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => format!(
            "--results {}: it exists; results are never overwritten, name a new folder",
            dir.display()
        ),
        _ => wrong(e),
    })
}

fn label(record: &Record, dir: &Path) -> String {
    let name = dir.file_name().unwrap_or(dir.as_os_str());
    record
        .label
        .clone()
        .unwrap_or_else(|| name.to_string_lossy().into_owned())
}

/// The command line without passwords: a folder is made to be shown.
fn without_secrets(arguments: &[String]) -> Vec<String> {
    let is_secret = |flag: &str| flag.starts_with("--") && flag.contains("password");
    let mut hide_next = false;
    let mut shown = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let hide = std::mem::replace(&mut hide_next, false);
        shown.push(match argument.split_once('=') {
            _ if hide => HIDDEN.to_owned(),
            Some((flag, _)) if is_secret(flag) => format!("{flag}={HIDDEN}"),
            _ => {
                hide_next = is_secret(argument);
                argument.clone()
            }
        });
    }
    shown
}

impl Observer for Recording {
    fn look(&mut self, _: &View<'_>) {}

    fn interval(&mut self, span: &Span<'_>) -> Result<(), String> {
        let counts = &span.interval.counts;
        let moment = Moment {
            t: span.start.as_secs_f64(),
            length: span.length.as_secs_f64(),
            done: counts.done_ever,
            failed: counts.ended_ever.saturating_sub(counts.done_ever),
            connections: counts.connections,
            bytes_sent: counts.bytes_sent,
            bytes_received: counts.bytes_received,
            late: span.late,
            errors: errors(span.interval),
        };
        let path = || self.dir.join(names::TIMELINE);
        let line = serde_json::to_string(&moment).map_err(|e| e.to_string());
        // At once: what was seen is there even if the run does not come to its end.
        line.and_then(|line| {
            let written = writeln!(self.timeline, "{line}").and_then(|()| self.timeline.flush());
            written.map_err(|e| e.to_string())
        })
        .map_err(|why| format!("{}: {why}", path().display()))?;
        self.hdr.interval(span)
    }

    fn finish(&mut self) -> Result<(), String> {
        let sampled = self.sampler.take().map_or(Ok(()), Sampler::stop);
        // A server that is gone by now has no last page; the samples tell when it went.
        let pages: Vec<String> = self.endpoints.iter().flat_map(Endpoint::fetch).collect();
        write_pages(&self.dir.join(names::METRICS_AFTER), &pages)?;
        let path = self.dir.join(names::TIMELINE);
        self.timeline
            .flush()
            .map_err(|e| format!("{}: {e}", path.display()))?;
        self.hdr.finish().and(sampled)
    }
}

fn errors(interval: &Interval) -> BTreeMap<String, u64> {
    let mut errors = BTreeMap::new();
    for (key, fault) in &interval.faults {
        let code = match key.code {
            0 => String::new(),
            code => format!(" {code}"),
        };
        let name = format!("{}{code} at {}", key.fault.name(), key.verb.name());
        let known = errors.len() < KINDS_MAX || errors.contains_key(&name);
        let name = if known { name } else { "others".to_owned() };
        *errors.entry(name).or_insert(0) += fault.count;
    }
    errors
}

/// Adds `summary` to the folder that `record` asked for, when the run is over.
///
/// # Errors
/// Names the file that cannot be written or read back.
pub fn complete(record: &Record, mut summary: Value) -> Result<Option<PathBuf>, String> {
    let Some(dir) = &record.results else {
        return Ok(None);
    };
    let read = Read::open(dir)?;
    let from = read.run["warmup_s"].as_f64().unwrap_or_default();
    let to = from + summary["elapsed_s"].as_f64().unwrap_or_default();
    let cpu_s = read.server_cpu_s(from, to);
    let done = summary["done"].as_f64().filter(|done| *done > 0.0);
    summary["server"] = json!({
        "cpu_s": cpu_s,
        "cpu_us_each": cpu_s.zip(done).map(|(cpu_s, done)| cpu_s * 1e6 / done),
        "rss_bytes_max": read.rss_bytes_max(|source| source.starts_with("pid ")),
    });
    summary["rss_bytes_max"] = json!(read.rss_bytes_max(|source| source == "loadgen"));
    summary["run"] = read.run;
    write_json(&dir.join(names::SUMMARY), &summary)?;
    Ok(Some(dir.clone()))
}

fn create(path: &Path) -> Result<File, String> {
    File::create_new(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write_json(path: &Path, json: &Value) -> Result<(), String> {
    writeln!(create(path)?, "{json:#}").map_err(|e| format!("{}: {e}", path.display()))
}

fn write_pages(path: &Path, pages: &[String]) -> Result<(), String> {
    if pages.is_empty() {
        return Ok(());
    }
    let text = pages.join("\n");
    write!(create(path)?, "{text}").map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let arguments = [
            "loadgen",
            "pop3",
            "--password",
            "x y",
            "--sasl-password=z",
            "--users",
            "3",
        ];
        let shown = without_secrets(&arguments.map(str::to_owned));
        assert_eq!(
            shown,
            [
                "loadgen",
                "pop3",
                "--password",
                "(hidden)",
                "--sasl-password=(hidden)",
                "--users",
                "3"
            ]
        );
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("a folder");
        let why = make(dir.path()).expect_err("it exists");
        assert!(why.contains("never overwritten"), "{why}");
        make(&dir.path().join("a/b")).expect("made with its parents");
    }
}
