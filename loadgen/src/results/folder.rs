//! Reads a run's folder back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hdr::{self, Series};
use super::names;
use crate::sample::process::Usage;
use crate::sample::{self, Found, Sample};

/// Seconds of a run that are read back.
const MOMENTS_MAX: usize = 1_000_000;

/// One line of `timeline.jsonl`: about a second of the run, warm-up included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds from the start of the run.
    pub t: f64,
    /// Seconds.
    pub length: f64,
    /// Messages or sessions that ended as they should.
    pub done: u64,
    /// Messages or sessions that did not.
    pub failed: u64,
    /// Connections that came up.
    pub connections: u64,
    /// Bytes.
    pub bytes_sent: u64,
    /// Bytes.
    pub bytes_received: u64,
    /// Operations that were due and had not started; `None` in a closed loop.
    pub late: Option<u64>,
    /// By kind.
    pub errors: BTreeMap<String, u64>,
}

/// What a folder holds before there is a summary.
#[derive(Debug)]
pub struct Read {
    /// `run.json`.
    pub run: Value,
    /// `samples.jsonl`.
    pub samples: Vec<Sample>,
}

/// A whole folder.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// `summary.json`.
    pub summary: Value,
    /// `hdr.log`.
    pub series: BTreeMap<String, Series>,
    /// `timeline.jsonl`.
    pub timeline: Vec<Moment>,
    /// `samples.jsonl`, and the run again.
    pub read: Read,
}

/// Reads a JSON file.
///
/// # Errors
/// Names it.
pub fn read_json(path: &Path) -> Result<Value, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let text = std::fs::read(path).map_err(|e| wrong(&e))?;
    serde_json::from_slice(&text).map_err(|e| wrong(&e))
}

/// Whether this is the folder of a run, whole or not.
pub fn is_run(dir: &Path) -> bool {
    dir.join(names::RUN).is_file()
}

impl Read {
    /// Reads what there is while the summary is yet to be written.
    ///
    /// # Errors
    /// Names the file that is absent or broken.
    pub fn open(dir: &Path) -> Result<Read, String> {
        Ok(Read {
            run: read_json(&dir.join(names::RUN))?,
            samples: sample::read(&dir.join(names::SAMPLES))?,
        })
    }

    /// The sources of samples, in the order of the file.
    pub fn sources(&self) -> Vec<&str> {
        let mut sources: Vec<&str> = Vec::new();
        for sample in &self.samples {
            if !sources.contains(&sample.source.as_str()) {
                sources.push(&sample.source);
            }
        }
        sources
    }

    /// What one source's process used, by time.
    pub fn usage(&self, source: &str) -> Vec<(f64, &Usage)> {
        let of_source = self.samples.iter().filter(|sample| sample.source == source);
        of_source
            .filter_map(|sample| match &sample.found {
                Found::Process(usage) => Some((sample.t, usage)),
                _ => None,
            })
            .collect()
    }

    /// What one source's counters were, by time.
    pub fn metrics(&self, source: &str) -> Vec<(f64, &BTreeMap<String, f64>)> {
        let of_source = self.samples.iter().filter(|sample| sample.source == source);
        of_source
            .filter_map(|sample| match &sample.found {
                Found::Metrics(metrics) => Some((sample.t, metrics)),
                _ => None,
            })
            .collect()
    }

    /// CPU seconds that all sampled servers used between two moments of the run; `None`: no server
    /// was sampled, or it was gone or not there yet.
    pub fn server_cpu_s(&self, from: f64, to: f64) -> Option<f64> {
        let servers = self.sources().into_iter();
        let servers: Vec<&str> = servers.filter(|name| name.starts_with("pid ")).collect();
        if servers.is_empty() {
            return None;
        }
        let used = servers.into_iter().map(|source| {
            let usage = self.usage(source);
            let cpu: Vec<(f64, f64)> = usage.iter().map(|(t, usage)| (*t, usage.cpu_s())).collect();
            Some(at(&cpu, to)? - at(&cpu, from)?)
        });
        used.sum()
    }

    /// The most memory that the chosen sources held at one moment each, added up.
    pub fn rss_bytes_max(&self, choose: impl Fn(&str) -> bool) -> Option<u64> {
        let chosen = self.sources().into_iter().filter(|source| choose(source));
        let most = chosen.filter_map(|source| {
            let usage = self.usage(source);
            usage.iter().filter_map(|(_, usage)| usage.rss_bytes).max()
        });
        most.reduce(|a, b| a + b)
    }
}

/// The value at `t` of a line through `points`, which are in order; the nearest end if `t` is beyond
/// it by less than two samples, as at the edges of a run.
fn at(points: &[(f64, f64)], t: f64) -> Option<f64> {
    const BEYOND_MAX_S: f64 = 2.0;
    let (first, last) = (points.first()?, points.last()?);
    if t < first.0 - BEYOND_MAX_S || t > last.0 + BEYOND_MAX_S {
        return None;
    }
    let after = points.partition_point(|(x, _)| *x < t);
    match (
        after.checked_sub(1).map(|before| points[before]),
        points.get(after),
    ) {
        (Some((x0, y0)), Some((x1, y1))) if *x1 > x0 => Some(y0 + (y1 - y0) * (t - x0) / (x1 - x0)),
        (Some((_, y)), _) => Some(y),
        (None, next) => next.map(|(_, y)| *y),
    }
}

impl Folder {
    /// Reads a folder.
    ///
    /// # Errors
    /// Names the file that is absent or broken, and says when a run did not come to its end.
    pub fn read(dir: &Path) -> Result<Folder, String> {
        if !is_run(dir) {
            return Err(format!(
                "{}: no folder of results; wanted is what --results has made",
                dir.display()
            ));
        }
        let path = dir.join(names::SUMMARY);
        if !path.exists() {
            return Err(format!(
                "{}: this run has no {}: it did not come to its end",
                dir.display(),
                names::SUMMARY
            ));
        }
        let timeline = dir.join(names::TIMELINE);
        let text = std::fs::read_to_string(&timeline)
            .map_err(|e| format!("{}: {e}", timeline.display()))?;
        let timeline = text
            .lines()
            .take(MOMENTS_MAX)
            .enumerate()
            .map(|(index, line)| {
                serde_json::from_str(line)
                    .map_err(|e| format!("{}:{}: {e}", timeline.display(), index + 1))
            })
            .collect::<Result<_, _>>()?;
        Ok(Folder {
            path: dir.to_owned(),
            summary: read_json(&path)?,
            series: hdr::read(&dir.join(names::HDR_LOG))?,
            timeline,
            read: Read::open(dir)?,
        })
    }

    /// What the run is called.
    pub fn label(&self) -> &str {
        self.read.run["label"].as_str().unwrap_or("unnamed")
    }

    /// The verb that stands for an operation as a whole: the message, the session, or what was done
    /// most; `None`: nothing was measured.
    pub fn main_verb(&self) -> Option<&str> {
        let count = |name: &str| self.series.get(name).map_or(0, count);
        let whole = ["message", "session"]
            .into_iter()
            .find(|name| count(name) > 0);
        whole.or_else(|| {
            let names = self.series.keys().map(String::as_str);
            names
                .filter(|name| count(name) > 0)
                .max_by_key(|name| count(name))
        })
    }

    /// Everything that was measured of one verb.
    pub fn total(&self, verb: &str) -> Option<Histogram<u64>> {
        self.series.get(verb).and_then(Series::total)
    }

    /// A number of the summary, by its path.
    pub fn number(&self, path: &[&str]) -> Option<f64> {
        let value = path
            .iter()
            .try_fold(&self.summary, |value, name| value.get(name));
        value?.as_f64()
    }

    /// Seconds of warm-up.
    pub fn warmup_s(&self) -> f64 {
        self.read.run["warmup_s"].as_f64().unwrap_or_default()
    }
}

fn count(series: &Series) -> u64 {
    series
        .slices
        .iter()
        .map(|slice| slice.histogram.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_between_samples() {
        let points = [(0.0, 10.0), (1.0, 20.0), (3.0, 40.0)];
        assert_eq!(at(&points, 0.5), Some(15.0));
        assert_eq!(at(&points, 1.0), Some(20.0));
        assert_eq!(at(&points, 2.0), Some(30.0));
        assert_eq!(at(&points, 3.5), Some(40.0));
        assert_eq!(at(&points, -0.1), Some(10.0));
        assert_eq!(at(&points, 9.0), None);
        assert_eq!(at(&[], 0.0), None);
    }

    fn sample(t: f64, source: &str, cpu: f64) -> Sample {
        Sample {
            t,
            source: source.to_owned(),
            found: Found::Process(Usage {
                cpu_user_s: cpu,
                rss_bytes: Some((cpu * 100.0) as u64),
                ..Usage::default()
            }),
        }
    }

    #[test]
    fn servers_are_added_up_and_the_generator_is_none() {
        let samples = vec![
            sample(0.0, "loadgen", 0.0),
            sample(0.0, "pid 1", 1.0),
            sample(0.0, "pid 2", 5.0),
            sample(4.0, "loadgen", 4.0),
            sample(4.0, "pid 1", 3.0),
            sample(4.0, "pid 2", 6.0),
        ];
        let mut read = Read {
            run: Value::Null,
            samples,
        };
        assert_eq!(read.server_cpu_s(2.0, 4.0), Some(1.5));
        assert_eq!(read.rss_bytes_max(|name| name != "loadgen"), Some(900));
        // One that is gone leaves no sum.
        read.samples.pop();
        assert_eq!(read.server_cpu_s(2.0, 4.0), None);
        read.samples.clear();
        assert_eq!(read.server_cpu_s(2.0, 4.0), None);
    }

    #[test]
    fn what_is_no_folder_of_results_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let why = Folder::read(dir.path()).expect_err("empty");
        assert!(why.contains("--results"), "{why}");
        std::fs::write(dir.path().join("run.json"), "{}").expect("written");
        let why = Folder::read(dir.path()).expect_err("no summary");
        assert!(why.contains("did not come to its end"), "{why}");
    }
}
