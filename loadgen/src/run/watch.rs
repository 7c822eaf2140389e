//! Sees a run to its end: adds up what threads or processes see, tells those who watch, and decides
//! when enough is enough.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::processes::tell_interval;
use super::{Part, Plan, Summary};
use crate::clock;
use crate::interval::Interval;
use crate::observe::{Span, View};
use crate::progress::Progress;
use crate::schedule::Schedule;

/// A target that gave nothing but errors from the start is given up sooner.
const GIVE_UP_FIRST: Duration = Duration::from_secs(5);
/// How often the display moves and the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often observers are told what was measured.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// How often a process that has a share reports.
const TELL_EVERY: Duration = Duration::from_millis(400);

/// Set by SIGINT and SIGTERM: the run ends then, with its figures. One flag for all runs of the
/// process.
fn interrupt_flag() -> Result<Arc<AtomicBool>, String> {
    static FLAG: OnceLock<Result<Arc<AtomicBool>, String>> = OnceLock::new();
    FLAG.get_or_init(|| {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // A second signal ends the process.
            signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())
                .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
                .map_err(|e| format!("signal handlers: {e}"))?;
        }
        Ok(flag)
    })
    .clone()
}

/// Whether a signal has asked this process to end.
pub fn was_interrupted() -> bool {
    interrupt_flag().is_ok_and(|flag| flag.load(Ordering::Relaxed))
}

/// Sees a run to its end.
pub(super) struct Watch<'a> {
    plan: &'a Plan,
    schedule: &'a Schedule,
    began: Instant,
    since_log: Interval,
    total: Interval,
    progress: Progress,
    ended_early: Option<String>,
    /// When the number of ended operations last grew, and to what.
    last_ended: (Instant, u64),
    over_since: Option<Instant>,
    interrupted: Arc<AtomicBool>,
}

impl<'a> Watch<'a> {
    /// From now on.
    pub fn new(
        plan: &'a Plan,
        schedule: &'a Schedule,
        progress: Progress,
    ) -> Result<Watch<'a>, String> {
        Ok(Watch {
            plan,
            schedule,
            began: Instant::now(),
            since_log: Interval::default(),
            total: Interval::default(),
            progress,
            ended_early: None,
            last_ended: (Instant::now(), 0),
            over_since: None,
            interrupted: interrupt_flag()?,
        })
    }

    /// Until all senders are gone.
    pub fn until_done(
        mut self,
        from: &Receiver<Interval>,
        cpus: &[usize],
    ) -> Result<Summary, String> {
        let mut cpu_from = clock::process_cpu();
        let mut warm = Instant::now() >= self.plan.measure_from;
        let mut log_from = self.began;
        let mut result = Ok(());
        loop {
            let now = Instant::now();
            if !warm && now >= self.plan.measure_from {
                warm = true;
                cpu_from = clock::process_cpu();
            }
            let look_at = now + LOOK_EVERY;
            let wake_at = if warm {
                look_at
            } else {
                look_at.min(self.plan.measure_from)
            };
            let arrived = match from.recv_deadline(wake_at) {
                Ok(interval) => Some(interval),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(interval) = arrived {
                self.since_log.add(interval);
            }
            let now = Instant::now();
            if now >= log_from + self.log_every() {
                result = result.and(self.tell(log_from, now));
                log_from = now;
            }
            self.look(now);
        }
        let over = Instant::now();
        result = result.and(self.tell(log_from, over));
        let end = self.total.last_end.unwrap_or(over);
        let cpu = clock::process_cpu().saturating_sub(cpu_from);
        if let Some(wait) = self.progress.take_beside() {
            self.since_log.add(wait());
            result = result.and(self.tell(over, Instant::now()));
        }
        result.and(self.progress.finish())?;
        Ok(Summary {
            measure_from: self.plan.measure_from,
            elapsed: end.saturating_duration_since(self.plan.measure_from),
            total: self.total,
            cpu,
            cpus: cpus.to_vec(),
            ended_early: self.ended_early,
            attachments: Vec::new(),
        })
    }

    fn log_every(&self) -> Duration {
        if matches!(self.plan.part, Part::Share) {
            TELL_EVERY
        } else {
            LOG_EVERY
        }
    }

    /// Operations that are due and have not begun, where there is a rate.
    fn late(&self, since: &Interval) -> Option<u64> {
        let mut counts = self.total.counts;
        counts.add(&since.counts);
        self.schedule.is_open().then(|| counts.queued())
    }

    /// Tells observers what came since the last time, and moves it into the total.
    fn tell(&mut self, from: Instant, now: Instant) -> Result<(), String> {
        let interval = std::mem::take(&mut self.since_log);
        let mut result = self.progress.interval(&Span {
            start: from - self.began,
            length: now - from,
            interval: &interval,
            late: self.late(&interval),
        });
        if matches!(self.plan.part, Part::Share) {
            // Without anybody to report to there is nothing to go on for.
            result = result.and(
                tell_interval(&interval, self.plan.began).inspect_err(|_| self.schedule.cut()),
            );
        }
        self.total.add(interval);
        result
    }

    fn look(&mut self, now: Instant) {
        let mut counts = self.total.counts;
        counts.add(&self.since_log.counts);
        let faults = [&self.total, &self.since_log]
            .iter()
            .flat_map(|interval| interval.faults.values())
            .map(|fault| fault.count)
            .sum::<u64>();
        let late = self.late(&self.since_log);
        self.progress.look(&View {
            now,
            counts,
            faults,
            total: &self.total,
            recent: &self.since_log,
            late,
        });
        if self.interrupted.load(Ordering::Relaxed) && self.ended_early.is_none() {
            self.ended_early = Some("interrupted by a signal".to_owned());
            self.schedule.stop();
        }
        if counts.ended_ever > self.last_ended.1 {
            self.last_ended = (now, counts.ended_ever);
        }
        if let Some(give_up) = self.plan.give_up {
            let give_up = if counts.connections == 0 {
                give_up.min(GIVE_UP_FIRST)
            } else {
                give_up
            };
            if now >= self.last_ended.0 + give_up && self.ended_early.is_none() {
                self.ended_early = Some(format!(
                    "given up: nothing was completed for {give_up:?}{}",
                    if counts.connections == 0 {
                        ", and no connection came up"
                    } else {
                        ""
                    }
                ));
                self.schedule.cut();
            }
        }
        // What has begun may take its time-out to fail, and no longer.
        if self.schedule.is_over(now) {
            let over_since = *self.over_since.get_or_insert(now);
            if now >= over_since + self.plan.timeout + LOG_EVERY {
                self.schedule.cut();
            }
        }
    }
}
