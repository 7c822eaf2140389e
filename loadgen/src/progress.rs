//! What is seen while a run goes on: a bar on a terminal, a line now and then elsewhere. Other
//! observers of the run go with it.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::observe::{Observer, Span, View};

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

/// The display, on standard error, and whoever else watches.
pub struct Progress {
    others: Vec<Box<dyn Observer>>,
    bar: Option<ProgressBar>,
    lines: bool,
    noun: &'static str,
    goal: Goal,
    began: Instant,
    line_at: Instant,
    /// When, and how many were done, at the last look.
    last: (Instant, u64),
    rate: f64,
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
                ProgressStyle::with_template("{elapsed:>4} [{wide_bar}] {percent:>3}% {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Progress {
            others: Vec::new(),
            bar,
            lines: !quiet && !terminal,
            noun,
            goal,
            began: now,
            line_at: now + LINE_EVERY,
            last: (now, 0),
            rate: 0.0,
        }
    }

    /// Lets `observer` watch the run as well.
    pub fn add(&mut self, observer: Box<dyn Observer>) {
        self.others.push(observer);
    }

    /// Shows where the run is.
    pub fn look(&mut self, view: &View<'_>) {
        self.show(view);
        self.others
            .iter_mut()
            .for_each(|observer| observer.look(view));
    }

    /// A second is over.
    ///
    /// # Errors
    /// The first that an observer has; all are told in any case.
    pub fn interval(&mut self, span: &Span<'_>) -> Result<(), String> {
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

    fn show(&mut self, view: &View<'_>) {
        let (now, counts, faults) = (view.now, &view.counts, view.faults);
        let since = now - self.last.0;
        if since >= Duration::from_secs(1) {
            self.rate = (counts.done_ever - self.last.1) as f64 / since.as_secs_f64();
            self.last = (now, counts.done_ever);
        }
        let text = || {
            let faults = if faults == 0 {
                String::new()
            } else {
                format!(", {faults} errors")
            };
            format!(
                "{} {}, {:.0}/s{faults}",
                counts.done_ever, self.noun, self.rate
            )
        };
        if let Some(bar) = &self.bar {
            bar.set_position(match self.goal {
                Goal::Count(_) => counts.done_ever,
                Goal::Time(_) => u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX),
            });
            bar.set_message(text());
        } else if self.lines && now >= self.line_at {
            self.line_at = now + LINE_EVERY;
            eprintln!("{:>5.0} s: {}", (now - self.began).as_secs_f64(), text());
        }
    }
}
