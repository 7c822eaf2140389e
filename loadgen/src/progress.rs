//! What is seen while a run goes on, on standard error: a few lines that are drawn anew on a
//! terminal, a line now and then elsewhere. Other observers of the run go with it.
//!
//! Guarantees: the terminal stays as it was: nothing is hidden, no mode is changed, so that there is
//! nothing to restore after Ctrl-C.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::chart::scale::{number, short, time};
use crate::observe::{Observer, Span, View};
use crate::recorder::{Interval, Verb};

/// Where the end is.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// After so many operations.
    Count(u64),
    /// After so long.
    Time(Duration),
}

/// Plain lines come so often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Seconds of the small plot.
const PLOT_MAX: usize = 60;
/// Its steps.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

/// Waits for what is measured beside a run and comes after its last operation.
type Beside = Box<dyn FnOnce() -> Interval + Send>;

/// The display, and whoever else watches.
pub struct Progress {
    others: Vec<Box<dyn Observer>>,
    beside: Option<Beside>,
    bar: Option<ProgressBar>,
    lines: bool,
    noun: &'static str,
    goal: Goal,
    began: Instant,
    line_at: Instant,
    seen: Seen,
}

/// What is shown, second by second.
#[derive(Debug, Default)]
struct Seen {
    done: u64,
    faults: u64,
    late: Option<u64>,
    /// Done in the last whole second.
    rate: f64,
    /// Nanoseconds at [`QUANTILES`]: of the last second with anything in it, and of all.
    now: Option<[f64; 4]>,
    overall: Option<[f64; 4]>,
    /// The p99 of the last seconds; `None`: nothing ended.
    plot: Vec<Option<f64>>,
    /// A second has passed since the percentiles of all were looked up.
    stale: bool,
}

impl Progress {
    /// A display that counts `noun`, or none if `quiet`.
    pub fn new(noun: &'static str, goal: Goal, quiet: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let now = Instant::now();
        let bar = (!quiet && terminal).then(|| {
            let length = match goal {
                Goal::Count(count) => count,
                Goal::Time(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            };
            let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{elapsed:>4} [{wide_bar}] {percent:>3}%\n{msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Progress {
            others: Vec::new(),
            beside: None,
            bar,
            lines: !quiet && !terminal,
            noun,
            goal,
            began: now,
            line_at: now + LINE_EVERY,
            seen: Seen::default(),
        }
    }

    /// Lets `observer` watch the run as well.
    pub fn add(&mut self, observer: Box<dyn Observer>) {
        self.others.push(observer);
    }

    /// When the last operation has ended, `wait` is called, and what it returns counts to the run as
    /// well: observers get it as their last interval.
    pub fn wait_for(&mut self, wait: Beside) {
        self.beside = Some(wait);
    }

    /// What [`Progress::wait_for`] was given, once.
    pub fn take_beside(&mut self) -> Option<Beside> {
        self.beside.take()
    }

    /// Shows where the run is.
    pub fn look(&mut self, view: &View<'_>) {
        self.seen.look(view);
        let elapsed = view.now - self.began;
        if let Some(bar) = &self.bar {
            bar.set_position(match self.goal {
                Goal::Count(_) => view.counts.done_ever,
                Goal::Time(_) => u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            });
            bar.set_message(self.seen.block(self.noun));
        } else if self.lines && view.now >= self.line_at {
            self.line_at = view.now + LINE_EVERY;
            eprintln!(
                "{:>5.0} s: {}",
                elapsed.as_secs_f64(),
                self.seen.line(self.noun)
            );
        }
        self.others
            .iter_mut()
            .for_each(|observer| observer.look(view));
    }

    /// A second is over.
    ///
    /// # Errors
    /// The first that an observer has; all are told in any case.
    pub fn interval(&mut self, span: &Span<'_>) -> Result<(), String> {
        self.seen.interval(span);
        let told = self
            .others
            .iter_mut()
            .map(|observer| observer.interval(span));
        told.fold(Ok(()), Result::and)
    }

    /// Takes the display away and ends what others keep.
    ///
    /// # Errors
    /// As for [`Progress::interval`].
    pub fn finish(&mut self) -> Result<(), String> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let ended = self.others.iter_mut().map(|observer| observer.finish());
        ended.fold(Ok(()), Result::and)
    }
}

/// The times of what stands for the whole: the message, the session, or what came most.
fn times(interval: &Interval) -> Option<&Histogram<u64>> {
    let whole = [Verb::Message, Verb::Session].into_iter();
    let whole = whole
        .filter_map(|verb| interval.histogram(verb))
        .find(|h| !h.is_empty());
    whole.or_else(|| {
        let all = Verb::ALL
            .into_iter()
            .filter_map(|verb| interval.histogram(verb));
        all.filter(|h| !h.is_empty()).max_by_key(|h| h.len())
    })
}

fn quantiles(histogram: &Histogram<u64>) -> [f64; 4] {
    QUANTILES.map(|(_, quantile)| histogram.value_at_quantile(quantile) as f64)
}

// Writing to a string cannot fail, below.
impl Seen {
    fn look(&mut self, view: &View<'_>) {
        (self.done, self.faults, self.late) = (view.counts.done_ever, view.faults, view.late);
        if std::mem::take(&mut self.stale) {
            self.overall = times(view.total).map(quantiles);
        }
    }

    fn interval(&mut self, span: &Span<'_>) {
        let seconds = span.length.as_secs_f64();
        if seconds > 0.0 {
            self.rate = span.interval.counts.done_ever as f64 / seconds;
        }
        let now = times(span.interval).map(quantiles);
        self.now = now.or(self.now);
        self.stale = true;
        if self.plot.len() == PLOT_MAX {
            self.plot.remove(0);
        }
        self.plot.push(now.map(|quantiles| quantiles[2]));
    }

    fn counts(&self, noun: &str) -> String {
        let mut text = format!(
            "{} {noun}, {}/s",
            number(self.done as f64, 0),
            number(self.rate, 0)
        );
        if let Some(late) = self.late {
            let _ = write!(text, ", {} late to start", number(late as f64, 0));
        }
        if self.faults > 0 {
            let _ = write!(text, ", {} errors", number(self.faults as f64, 0));
        }
        text
    }

    /// For those without a terminal.
    fn line(&self, noun: &str) -> String {
        let mut text = self.counts(noun);
        if let Some(now) = self.now {
            let _ = write!(text, ", p50 {}, p99 {}", time(now[0]), time(now[2]));
        }
        text
    }

    /// For terminals.
    fn block(&self, noun: &str) -> String {
        let mut text = self.counts(noun);
        for (name, values) in [("now", self.now), ("overall", self.overall)] {
            let Some(values) = values else {
                continue;
            };
            let _ = write!(text, "\n{name:<8}");
            for ((name, _), value) in QUANTILES.iter().zip(values) {
                let _ = write!(text, "  {name} {:<8}", time(value));
            }
        }
        if let Some((plot, low, high)) = plot(&self.plot) {
            let (low, high) = (ms(low), ms(high));
            let _ = write!(text, "\np99, second by second, {low} to {high} ms\n{plot}");
        }
        text
    }
}

fn ms(ns: f64) -> String {
    short(ns / 1e6)
}

/// Values as steps between the lowest and the highest, logarithmic; a gap where there is none.
fn plot(values: &[Option<f64>]) -> Option<(String, f64, f64)> {
    let known = || values.iter().flatten().copied();
    let (low, high) = (known().reduce(f64::min)?, known().reduce(f64::max)?);
    let place = |value: f64| {
        if high > low {
            (value / low).ln() / (high / low).ln()
        } else {
            0.0
        }
    };
    let steps = values.iter().map(|value| match value {
        Some(value) => STEPS[(place(*value) * (STEPS.len() - 1) as f64).round() as usize],
        None => ' ',
    });
    Some((steps.collect(), low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Counts, Recorder};

    fn interval(ms: u64) -> Interval {
        let (to, from) = crossbeam::channel::unbounded();
        let began = Instant::now();
        let mut recorder = Recorder::new(began, to);
        recorder.time(Verb::Message, began, began + Duration::from_millis(ms));
        recorder.counts().done_ever = 500;
        recorder.finish();
        from.recv().expect("shipped")
    }

    #[test]
    fn what_is_shown_is_what_was_measured() {
        let mut seen = Seen::default();
        let total = interval(8);
        for ms in [1, 100] {
            seen.interval(&Span {
                start: Duration::ZERO,
                length: Duration::from_millis(500),
                interval: &interval(ms),
                late: None,
            });
        }
        seen.look(&View {
            now: Instant::now(),
            counts: Counts {
                done_ever: 1234,
                ..Counts::default()
            },
            faults: 3,
            total: &total,
            recent: &Interval::default(),
            late: Some(7),
        });
        let block = seen.block("messages");
        assert!(
            block.starts_with("1,234 messages, 1,000/s, 7 late to start, 3 errors\n"),
            "{block}"
        );
        assert!(
            block.contains("\nnow       p50 100 ms") && block.contains("\noverall   p50 8"),
            "{block}"
        );
        assert!(block.ends_with("1 to 100 ms\n▁█"), "{block}");
        assert!(
            seen.line("messages")
                .ends_with("3 errors, p50 100 ms, p99 100 ms")
        );
    }

    #[test]
    fn a_second_without_anything_is_a_gap() {
        let (steps, low, high) = plot(&[Some(1.0), None, Some(10.0), Some(100.0)]).expect("values");
        assert_eq!((low, high), (1.0, 100.0));
        assert_eq!(steps, "▁ ▅█");
        assert_eq!(plot(&[None]), None);
        assert_eq!(plot(&[Some(5.0)]).expect("a value").0, "▁");
    }
}
