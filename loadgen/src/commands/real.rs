//! What stands beside a run of SMTP or LMTP: watchers of mailboxes, hooks, and reading back.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{cpus, password, secure};
use crate::chaos::Chaos;
use crate::cli::imap::{Auth, ImapLogin};
use crate::cli::real::{ReadWay, Real, WatchWay};
use crate::cli::{self, Common, Verify};
use crate::dialogue::imap::{self, ImapWatch, ImapWatchWork, Watching};
use crate::dialogue::pop3_watch::{self, Pop3Watch, Pop3WatchWork};
use crate::interval::Interval;
use crate::pool::Pool;
use crate::progress::{Goal, Progress};
use crate::recorder::{Fault, Verb};
use crate::report;
use crate::run::{self, Attachment, Plan, Summary};
use crate::schedule::Schedule;
use crate::tls::{Start, Tls};
use crate::verify;
use crate::visible::{FOLLOWED_MAX, Tracker};

/// POP3 connections of all watchers together: each is used for one mailbox after another.
const POP3_CONNECTIONS_MAX: u32 = 64;
/// Mailboxes that `--verify` reads at a time.
const VERIFY_CONNECTIONS: u32 = 32;
/// Offending messages of each kind that `--verify` names.
const VERIFY_LIST: usize = 10;
/// Attempts of `--verify` to read a mailbox.
const VERIFY_ATTEMPTS: u32 = 5;
/// How often progress of watchers is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How watchers open mailboxes.
#[derive(Debug, Clone)]
pub struct Login {
    /// Login name; `{address}` and so on are replaced.
    pub user_pattern: String,
    /// Of all users.
    pub password: String,
    /// From one look at a mailbox to the next, unless the server says what is new.
    pub every: Duration,
    /// IMAP sessions are secured so; `None`: they are not.
    pub tls: Option<Tls>,
}

impl Login {
    fn of(flags: &Real) -> Login {
        Login {
            user_pattern: flags.mailbox_user_pattern.clone(),
            password: flags.mailbox_password.clone().unwrap_or_default(),
            every: flags.poll_every,
            tls: None,
        }
    }

    fn flags(&self) -> cli::Login {
        cli::Login {
            user_pattern: self.user_pattern.clone(),
            password: self.password.clone(),
        }
    }
}

/// Watchers at work.
#[derive(Debug)]
pub struct Watchers {
    way: WatchWay,
    every: Duration,
    users: usize,
    tracker: Arc<Tracker>,
    schedule: Arc<Schedule>,
    thread: Arc<JoinHandle<Result<Summary, String>>>,
}

/// Everything beside the run.
#[derive(Debug)]
pub struct Beside {
    watchers: Option<Watchers>,
    chaos: Option<Chaos>,
}

impl Beside {
    /// Of a run whose watchers are at work already.
    pub fn watched(watchers: Watchers) -> Beside {
        Beside {
            watchers: Some(watchers),
            chaos: None,
        }
    }

    /// Starts watchers, waits until every watched mailbox is under observation, and starts the
    /// clocks of hooks.
    ///
    /// # Errors
    /// When a mailbox cannot be watched; what the server said is in the text.
    pub fn start(
        flags: &Real,
        common: &Common,
        pool: &Arc<Pool>,
        run: u32,
    ) -> Result<Beside, String> {
        let watchers = match &flags.end_to_end {
            Some(way) => {
                let tracker = match flags.watch_messages {
                    Some(rate) => Tracker::following(run, rate),
                    None => Tracker::new(run, pool.len(), flags.watch_users as usize),
                };
                Some(Watchers::start(
                    way,
                    &Login::of(flags),
                    common,
                    pool,
                    tracker,
                )?)
            }
            None => None,
        };
        let chaos = match flags.chaos.as_slice() {
            [] => None,
            hooks => Some(Chaos::start(hooks)?),
        };
        Ok(Beside { watchers, chaos })
    }

    /// Who is told of acknowledged messages.
    pub fn tracker(&self) -> Option<Arc<Tracker>> {
        self.watchers
            .as_ref()
            .map(|watchers| watchers.tracker.clone())
    }

    /// What a run waits for at its end, so that its times are in every log of it.
    pub fn last_times(
        &self,
        patience: Duration,
        measure_from: Instant,
    ) -> Option<impl FnOnce() -> Interval + Send + use<>> {
        let watchers = self.watchers.as_ref()?;
        Some(watchers.last_times(patience, measure_from))
    }

    /// The run is over: ends hooks and watchers, and adds what came of them.
    ///
    /// # Errors
    /// When watchers could not go on, or mailboxes cannot be read at all.
    pub fn finish(
        self,
        flags: &Real,
        common: &Common,
        ledger: Option<&Path>,
        summary: &mut Summary,
    ) -> Result<(), String> {
        if let Some(chaos) = self.chaos {
            let reports = chaos.finish();
            summary.attachments.push(Attachment {
                name: "chaos",
                text: reports.iter().map(|report| report.text()).collect(),
                json: reports.iter().map(|report| report.json()).collect(),
                good: true,
            });
        }
        if let Some(watchers) = self.watchers {
            let attachment = watchers.finish(summary)?;
            summary.attachments.push(attachment);
        }
        if let (Some(way), Some(ledger)) = (&flags.verify, ledger) {
            summary
                .attachments
                .push(read_back(way, flags, common, ledger)?);
        }
        Ok(())
    }
}

impl Watchers {
    /// Starts them, and waits until every mailbox of `tracker` is under observation.
    ///
    /// # Errors
    /// As for [`Beside::start`].
    pub fn start(
        way: &WatchWay,
        login: &Login,
        common: &Common,
        pool: &Arc<Pool>,
        tracker: Tracker,
    ) -> Result<Watchers, String> {
        let tracker = Arc::new(tracker);
        let schedule = Arc::new(Schedule::new(None, None));
        let wanted = tracker.mailboxes().len();
        let mut connections = wanted as u32;
        if tracker.follows() {
            // And the one that is opened at the start.
            connections = FOLLOWED_MAX as u32 + 1;
        } else if matches!(way, WatchWay::Pop3(_)) {
            connections = connections.min(POP3_CONNECTIONS_MAX);
        }
        let starttls = login.tls.as_ref().map(|tls| tls.start) == Some(Start::Command);
        let opening = super::imap::login(&login.flags(), &imap_login(), starttls, true)?;
        let mut plan = Plan::new(vec![], way.target().clone(), connections);
        // Watchers sleep most of the time: one CPU is enough, the last one.
        plan.cpus = cpus(common)?.pop().into_iter().collect();
        plan.timeout = common.timeout;
        let (thread_way, every, tls) = (way.clone(), login.every, login.tls.clone());
        let shared = (schedule.clone(), pool.clone(), tracker.clone());
        let thread = std::thread::Builder::new()
            .name("watchers".to_owned())
            .spawn(move || watch(&thread_way, &plan, every, opening, tls.as_ref(), shared))
            .map_err(|e| format!("a thread cannot be started: {e}"))?;
        let watchers = Watchers {
            way: way.clone(),
            every: login.every,
            users: pool.len(),
            tracker,
            schedule,
            thread: Arc::new(thread),
        };
        let mut last = (Instant::now(), 0);
        loop {
            let armed = watchers.tracker.armed();
            if armed >= wanted as u64 {
                return Ok(watchers);
            }
            let now = Instant::now();
            if armed > last.1 {
                last = (now, armed);
            }
            if watchers.thread.is_finished() || now >= last.0 + common.timeout {
                watchers.schedule.cut();
                let said = watchers.end().map(|summary| report::faults_text(&summary));
                let said = said.unwrap_or_else(|why| why);
                return Err(format!(
                    "only {armed} of {wanted} mailboxes could be watched: {said}"
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// They have ended, which they do not unless something is wrong.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits, when called after the end of a run, until all is seen, at most `patience`; ends the
    /// watchers, and returns the times that nobody has taken yet.
    pub fn last_times(
        &self,
        patience: Duration,
        measure_from: Instant,
    ) -> impl FnOnce() -> Interval + Send + use<> {
        let patience = patience.max(self.every * 2);
        let (tracker, schedule) = (self.tracker.clone(), self.schedule.clone());
        let thread = self.thread.clone();
        move || {
            let until = Instant::now() + patience;
            while tracker.unseen() > 0 && Instant::now() < until && !thread.is_finished() {
                std::thread::sleep(LOOK_EVERY);
            }
            schedule.cut();
            // Until then more may be seen. It ends, for so does every run that is cut.
            while !thread.is_finished() {
                std::thread::sleep(LOOK_EVERY);
            }
            let mut times = Interval::default();
            for (acknowledged, seen) in tracker.take() {
                if acknowledged >= measure_from {
                    times.time(Verb::Visible, acknowledged, seen);
                }
            }
            times
        }
    }

    /// Ends the watchers; what they have come to.
    fn end(self) -> Result<Summary, String> {
        self.schedule.cut();
        let thread = Arc::into_inner(self.thread).ok_or("watchers are still waited for")?;
        thread.join().map_err(|_| "a thread panicked".to_owned())?
    }

    /// Ends the watchers, and says what was seen by `summary`.
    ///
    /// # Errors
    /// When they could not go on.
    pub fn finish(self, summary: &Summary) -> Result<Attachment, String> {
        let (tracker, way) = (self.tracker.clone(), self.way.clone());
        let (every, users) = (self.every, self.users);
        let theirs = self
            .end()
            .map_err(|why| format!("watching mailboxes: {why}"))?;
        let unseen = tracker.unseen();
        let unmeasured = tracker.unmeasured();
        let seen = summary.total.histogram(Verb::Visible);
        let seen = seen.map_or(0, |histogram| histogram.len());
        let follows = tracker.follows();
        let watched = tracker.mailboxes().len();
        let name = match &way {
            WatchWay::ImapIdle(_) => "imap-idle",
            WatchWay::ImapPoll(_) => "imap-poll",
            WatchWay::Pop3(_) => "pop3",
        };
        let idles = name == "imap-idle";
        let resolution = match (idles, follows) {
            (true, false) => String::new(),
            (true, true) => ", each from its own 250 on: times have a login in them".to_owned(),
            (false, false) => format!(
                ", looked at every {:?}: times are up to that much too long",
                every
            ),
            (false, true) => format!(
                ", each looked for at its 250 and every {:?} after: times have a login in them",
                every
            ),
        };
        let mut text = if follows {
            format!(
                "end to end by {name}: a sample of {seen} messages to any of {} users{resolution}\n",
                users
            )
        } else {
            format!(
                "end to end by {name}: {seen} messages to {watched} of {} users{resolution}\n",
                users
            )
        };
        // Writing to a string cannot fail.
        if unseen > 0 {
            let _ = writeln!(
                text,
                "{unseen} acknowledged messages were not seen by the end"
            );
        }
        if unmeasured > 0 {
            let _ = writeln!(
                text,
                "{unmeasured} more were too many at once to be measured"
            );
        }
        if !theirs.total.faults.is_empty() {
            let _ = write!(text, "watchers: {}", report::faults_text(&theirs));
        }
        Ok(Attachment {
            name: "end_to_end",
            json: json!({
                "way": name,
                "users_watched": (!follows).then_some(watched),
                "resolution_s": (!idles && !follows).then_some(every.as_secs_f64()),
                "seen": seen,
                "not_seen": unseen,
                "not_measured": unmeasured,
                "watcher_errors": theirs.total.faults.values().map(|fault| fault.count).sum::<u64>(),
            }),
            text,
            good: unseen == 0,
        })
    }
}

type Shared = (Arc<Schedule>, Arc<Pool>, Arc<Tracker>);

fn watch(
    way: &WatchWay,
    plan: &Plan,
    every: Duration,
    login: imap::Login,
    tls: Option<&Tls>,
    (schedule, pool, tracker): Shared,
) -> Result<Summary, String> {
    let progress = Progress::new("looks", Goal::Time(Duration::ZERO), true);
    let watching = match way {
        WatchWay::ImapIdle(_) => Watching::Idle,
        WatchWay::ImapPoll(_) => Watching::Poll(every),
        WatchWay::Pop3(_) => {
            let options = Arc::new(pop3_watch::WatchOptions {
                user_pattern: login.user_pattern,
                password: login.password,
                interval: every,
                begun: AtomicUsize::new(0),
            });
            let shared = schedule.clone();
            return run::drive::<Pop3Watch>(plan, &shared, progress, |_, recorder| {
                let (options, schedule) = (options.clone(), schedule.clone());
                let (pool, tracker) = (pool.clone(), tracker.clone());
                Ok(Pop3WatchWork::new(
                    options, schedule, pool, tracker, recorder,
                ))
            })
            .map(|(summary, _)| summary);
        }
    };
    let options = Arc::new(imap::WatchOptions {
        login,
        watching,
        begun: AtomicUsize::new(0),
    });
    let shared = schedule.clone();
    secure::drive::<ImapWatch>(plan, &shared, progress, tls, |_, recorder| {
        let (options, schedule) = (options.clone(), schedule.clone());
        let (pool, tracker) = (pool.clone(), tracker.clone());
        Ok(ImapWatchWork::new(
            options, schedule, pool, tracker, recorder,
        ))
    })
    .map(|(summary, _)| summary)
}

fn imap_login() -> ImapLogin {
    ImapLogin {
        auth: Auth::Login,
        mailbox: "INBOX".to_owned(),
    }
}

fn read_back(
    way: &ReadWay,
    flags: &Real,
    common: &Common,
    ledger: &Path,
) -> Result<Attachment, String> {
    let (pop3, imap) = match way {
        ReadWay::Pop3(target) => (Some(target.clone()), None),
        ReadWay::Imap(target) => (None, Some(target.clone())),
    };
    let login = Login::of(flags).flags();
    password(&login.password)?;
    let proof = verify::check(&Verify {
        ledger: vec![ledger.to_owned()],
        pop3,
        imap,
        login,
        imap_login: imap_login(),
        tls: cli::wire::Tls::default(),
        connections: VERIFY_CONNECTIONS,
        list: VERIFY_LIST,
        attempts: VERIFY_ATTEMPTS,
        common: common.quiet_copy(),
    })?;
    Ok(Attachment {
        name: "verify",
        text: format!("read back:\n{}", proof.text),
        json: proof.json,
        good: proof.good,
    })
}

/// With `--expect-restarts`: takes broken and refused connections out of the errors of `summary`,
/// and says them apart. `waiting`: messages that were never acknowledged.
pub fn set_restarts_aside(summary: &mut Summary, waiting: usize) {
    let is_pause = |fault: Fault, code: u16| {
        matches!(
            fault,
            Fault::Refused | Fault::Unreachable | Fault::Reset | Fault::Closed
        ) || code == 421
    };
    let mut paused: Vec<_> = Vec::new();
    summary.total.faults.retain(|key, fault| {
        let pause = is_pause(key.fault, key.code);
        if pause {
            paused.push((*key, fault.clone()));
        }
        !pause
    });
    paused.sort_by_key(|(key, _)| *key);
    let of = |wanted: &[Fault]| -> u64 {
        paused
            .iter()
            .filter(|(key, _)| wanted.contains(&key.fault))
            .map(|(_, fault)| fault.count)
            .sum()
    };
    let refused = of(&[Fault::Refused, Fault::Unreachable]);
    let broken = of(&[Fault::Reset, Fault::Closed]);
    let farewells = of(&[Fault::Transient]);
    let outages = summary.total.histogram(Verb::Outage);
    let longest = outages.map_or(0.0, |histogram| histogram.max() as f64 / 1e9);
    let times = outages.map_or(0, |histogram| histogram.len());
    let mut text = format!(
        "restarts, as expected: {broken} connections broke, {farewells} were sent away (421), \
         {refused} attempts to connect were refused\n"
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{times} outages over all threads, the longest {longest:.2} s from the last \
         acknowledgement before to the first after"
    );
    if waiting > 0 {
        let _ = writeln!(text, "{waiting} messages were not acknowledged by the end");
    }
    summary.attachments.insert(
        0,
        Attachment {
            name: "restarts",
            json: json!({
                "connections_broken": broken,
                "farewells": farewells,
                "connects_refused": refused,
                "outages": times,
                "outage_longest_s": longest,
                "messages_waiting": waiting,
            }),
            text,
            good: true,
        },
    );
}
