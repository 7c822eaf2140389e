//! What processes and servers use while a run goes on, once a second.
//!
//! Guarantees: sampling has a thread of its own and never holds up the load; what cannot be read is
//! left out of a line, never made up; the first and the last line frame the run.
//! Does not know: what the figures mean for the load.

pub mod metrics;
pub mod process;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use metrics::Endpoint;
use process::Usage;

/// Samples are taken so often.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Lines of a file that is read back: a day with ten sources.
const LINES_MAX: usize = 1_000_000;

/// One line of `samples.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds from the start of the run.
    pub t: f64,
    /// `loadgen`, `pid N` or the address of metrics.
    pub source: String,
    /// What was found.
    #[serde(flatten)]
    pub found: Found,
}

/// What was found at a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// A process and those it started.
    Process(Usage),
    /// A server's own counters by name, the series of one name added up.
    Metrics(std::collections::BTreeMap<String, f64>),
    /// Why there is nothing.
    Absent(String),
}

/// What is sampled.
#[derive(Debug, Clone)]
pub enum Source {
    /// This program.
    Own,
    /// A process and those it started.
    Process(u32),
    /// A server's `/metrics`.
    Metrics(Endpoint),
}

impl Source {
    /// As in [`Sample::source`].
    pub fn name(&self) -> String {
        match self {
            Source::Own => "loadgen".to_owned(),
            Source::Process(pid) => format!("pid {pid}"),
            Source::Metrics(endpoint) => endpoint.to_string(),
        }
    }

    fn sample(&self) -> Found {
        let found = match self {
            Source::Own => process::usage(std::process::id(), false).map(Found::Process),
            Source::Process(pid) => process::usage(*pid, true).map(Found::Process),
            Source::Metrics(endpoint) => endpoint
                .fetch()
                .map(|page| Found::Metrics(metrics::sums(&page))),
        };
        found.unwrap_or_else(Found::Absent)
    }
}

/// A sampler at work.
#[derive(Debug)]
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Result<(), String>>,
}

impl Sampler {
    /// Samples `sources` into `file`, which is called `path` in errors; time begins at `began`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        sources: Vec<Source>,
        path: PathBuf,
        file: File,
        began: Instant,
    ) -> Result<Sampler, String> {
        let (stop, stopped) = channel();
        let work = move || {
            let mut file = BufWriter::new(file);
            let wrong = |e: std::io::Error| format!("{}: {e}", path.display());
            let mut due = Instant::now();
            loop {
                for source in &sources {
                    let t = began.elapsed().as_secs_f64();
                    let (source, found) = (source.name(), source.sample());
                    let line = serde_json::to_string(&Sample { t, source, found })
                        .map_err(|e| wrong(e.into()))?;
                    writeln!(file, "{line}").map_err(wrong)?;
                }
                due += SAMPLE_EVERY;
                let pause = due.saturating_duration_since(Instant::now());
                match stopped.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => {}
                    // Told to stop: one more line each was promised for the end.
                    Ok(()) => due = Instant::now(),
                    Err(RecvTimeoutError::Disconnected) => return file.flush().map_err(wrong),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("loadgen-sampler".to_owned())
            .spawn(work)
            .map_err(|e| format!("a thread cannot be started: {e}"))?;
        Ok(Sampler { stop, thread })
    }

    /// Takes the last samples and ends.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn stop(self) -> Result<(), String> {
        // A sampler that has ended already tells why below.
        let _ = self.stop.send(());
        drop(self.stop);
        self.thread
            .join()
            .unwrap_or_else(|_| Err("the sampler panicked".to_owned()))
    }
}

/// Reads a file of samples.
///
/// # Errors
/// Names file and line.
pub fn read(path: &Path) -> Result<Vec<Sample>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lines = text.lines().take(LINES_MAX).enumerate();
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|e| format!("{}:{}: {e}", path.display(), index + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_line_frame_the_run() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("samples.jsonl");
        let file = File::create(&path).expect("a file");
        let sources = vec![Source::Own, Source::Process(u32::MAX)];
        let sampler = Sampler::start(sources, path.clone(), file, Instant::now()).expect("started");
        sampler.stop().expect("stopped");
        let samples = read(&path).expect("read");
        let own: Vec<_> = samples.iter().filter(|s| s.source == "loadgen").collect();
        assert!(own.len() >= 2, "{samples:?}");
        for sample in own {
            let Found::Process(usage) = &sample.found else {
                panic!("this process was sampled: {sample:?}");
            };
            assert!(usage.rss_bytes.is_some_and(|bytes| bytes > 4096));
            assert!(usage.threads.is_some_and(|threads| threads >= 1));
        }
        let gone = samples.iter().find(|s| s.source.starts_with("pid"));
        assert!(matches!(gone.expect("a line").found, Found::Absent(_)));
    }
}
