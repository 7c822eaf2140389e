//! Commands that are run at intervals while a run lasts: kills, restarts, full disks.
//!
//! Guarantees: a hook never runs twice at a time; after the run's end none is begun, and one that
//! still runs is ended, by its own process id alone: what it has started stays.
//! On failure: a hook that cannot be started or ends with an error is told, and the run goes on.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A command and when it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// For `sh -c`.
    pub command: String,
    /// From one start to the next.
    pub every: Duration,
    /// Each start is moved by up to so much, earlier or later.
    pub jitter: Duration,
}

/// Bytes of a hook's output that are shown, the last ones.
const OUTPUT_BYTES_MAX: u64 = 4096;
/// How often a hook's end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Times of starts that are kept.
const TIMES_MAX: usize = 10_000;

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Hook, String> {
        let wanted = || {
            format!(
                "'{text}': wanted is 'COMMAND every TIME' or 'COMMAND every TIME jitter TIME', as \
                 in 'kill -9 123 every 10s jitter 3s'; times are at least 100ms, the jitter is \
                 less than the interval"
            )
        };
        let (command, times) = text.rsplit_once(" every ").ok_or_else(wanted)?;
        let (every, jitter) = times.split_once(" jitter ").unwrap_or((times, "0s"));
        let every = crate::cli::duration(every.trim()).map_err(|_| wanted())?;
        let jitter = crate::cli::duration(jitter.trim()).map_err(|_| wanted())?;
        if command.trim().is_empty() || every < Duration::from_millis(100) || jitter >= every {
            return Err(wanted());
        }
        Ok(Hook {
            command: command.trim().to_owned(),
            every,
            jitter,
        })
    }
}

/// What became of a hook.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The command.
    pub command: String,
    /// When it was started, in seconds of the run; the first ten thousand.
    pub starts_s: Vec<f64>,
    /// How often it was started.
    pub count: u64,
    /// How often its time came while it still ran, and passed.
    pub skipped: u64,
    /// How often it could not be started, or ended with another status than 0.
    pub failed: u64,
    /// It was still running at the end of the run, and was ended.
    pub was_ended: bool,
    /// The end of what it printed.
    pub output: String,
}

impl Report {
    /// For people: one line, and the output.
    pub fn text(&self) -> String {
        let times: Vec<String> = self
            .starts_s
            .iter()
            .take(20)
            .map(|at| format!("{at:.1}"))
            .collect();
        let mut text = format!(
            "chaos: '{}' run {} times, at {}{} s; {} failed, {} skipped because it still ran{}\n",
            self.command,
            self.count,
            times.join(", "),
            if self.starts_s.len() > 20 {
                ", ..."
            } else {
                ""
            },
            self.failed,
            self.skipped,
            if self.was_ended {
                "; ended with the run"
            } else {
                ""
            },
        );
        for line in self.output.lines() {
            text.push_str(&format!("  | {line}\n"));
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "command": self.command,
            "count": self.count,
            "starts_s": self.starts_s,
            "failed": self.failed,
            "skipped": self.skipped,
            "ended_with_the_run": self.was_ended,
            "output": self.output,
        })
    }
}

/// Hooks at work.
#[derive(Debug)]
pub struct Chaos {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Report>>,
}

impl Chaos {
    /// Starts the clocks of `hooks`.
    ///
    /// # Errors
    /// When there is no thread or no file for one of them.
    pub fn start(hooks: &[Hook]) -> Result<Chaos, String> {
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::with_capacity(hooks.len());
        for hook in hooks {
            let explain = |e: std::io::Error| format!("--chaos '{}': {e}", hook.command);
            // Its output, and that of what it leaves running: a file has no reader to wait for.
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            let output = rustix::fs::memfd_create("loadgen-chaos", flags)
                .map_err(|e| explain(e.into()))?
                .into();
            let (hook, over) = (hook.clone(), over.clone());
            let thread = std::thread::Builder::new()
                .name("chaos".to_owned())
                .spawn(move || run(&hook, &over, output));
            threads.push(thread.map_err(explain)?);
        }
        Ok(Chaos { over, threads })
    }

    /// Ends them; what became of each.
    pub fn finish(self) -> Vec<Report> {
        self.over.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    }
}

fn run(hook: &Hook, over: &AtomicBool, output: std::fs::File) -> Report {
    let began = Instant::now();
    let mut random = fastrand::Rng::new();
    let mut report = Report {
        command: hook.command.clone(),
        starts_s: Vec::new(),
        count: 0,
        skipped: 0,
        failed: 0,
        was_ended: false,
        output: String::new(),
    };
    let mut jittered = |beat: u32| {
        let at = began + hook.every * beat;
        let moved = hook.jitter.mul_f64(random.f64() * 2.0);
        at + moved - hook.jitter.min(hook.every)
    };
    let mut beat = 1;
    let mut at = jittered(beat);
    let mut child: Option<Child> = None;
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY.min(at.saturating_duration_since(Instant::now())));
        if let Some(running) = &mut child
            && let Ok(Some(status)) = running.try_wait()
        {
            report.failed += u64::from(!status.success());
            child = None;
        }
        let now = Instant::now();
        if now < at {
            continue;
        }
        if child.is_some() {
            report.skipped += 1;
        } else {
            report.count += 1;
            if report.starts_s.len() < TIMES_MAX {
                report.starts_s.push((now - began).as_secs_f64());
            }
            child = start(hook, &output, report.count);
            report.failed += u64::from(child.is_none());
        }
        beat += 1;
        at = jittered(beat);
    }
    if let Some(mut running) = child {
        // By its id; what the shell has started is not ours to end.
        report.was_ended = running.kill().is_ok();
        let _ = running.wait();
    }
    report.output = read_end(output);
    report
}

fn start(hook: &Hook, output: &std::fs::File, count: u64) -> Option<Child> {
    let (out, err) = (output.try_clone().ok()?, output.try_clone().ok()?);
    Command::new("sh")
        .args(["-c", &hook.command])
        .env("LOADGEN_CHAOS_COUNT", count.to_string())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .ok()
}

fn read_end(mut output: std::fs::File) -> String {
    let bytes = output.seek(SeekFrom::End(0)).unwrap_or(0);
    let from = bytes.saturating_sub(OUTPUT_BYTES_MAX);
    let mut text = Vec::new();
    let read = output
        .seek(SeekFrom::Start(from))
        .and_then(|_| output.take(OUTPUT_BYTES_MAX).read_to_end(&mut text));
    if read.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&text)
        .chars()
        .map(|c| if c.is_control() && c != '\n' { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_as_written() {
        let hook: Hook = "kill -9 1 every now and then every 10s jitter 500ms"
            .parse()
            .expect("a hook");
        assert_eq!(hook.command, "kill -9 1 every now and then");
        assert_eq!(hook.every, Duration::from_secs(10));
        assert_eq!(hook.jitter, Duration::from_millis(500));
        for wrong in [
            "true",
            "every 10s",
            "true every soon",
            "true every 1ms",
            "true every 1s jitter 1s",
        ] {
            let error = wrong.parse::<Hook>().expect_err(wrong);
            assert!(error.contains("COMMAND every TIME"), "{error}");
        }
    }

    #[test]
    fn hooks_run_at_intervals_and_end_with_the_run() {
        let hooks: Vec<Hook> = [
            "echo beat $LOADGEN_CHAOS_COUNT; exit 3 every 100ms",
            "echo long; exec sleep 1000 every 100ms",
        ]
        .map(|text| text.parse().expect("a hook"))
        .to_vec();
        let chaos = Chaos::start(&hooks).expect("started");
        std::thread::sleep(Duration::from_millis(1500));
        let reports = chaos.finish();
        let quick = &reports[0];
        assert!(quick.count >= 2 && quick.failed >= 1, "{quick:?}");
        assert_eq!(quick.starts_s.len() as u64, quick.count);
        assert!(quick.output.starts_with("beat 1\nbeat 2\n"), "{quick:?}");
        let long = &reports[1];
        assert_eq!((long.count, long.was_ended), (1, true), "{long:?}");
        assert!(long.skipped >= 1 && long.output == "long\n", "{long:?}");
    }
}
