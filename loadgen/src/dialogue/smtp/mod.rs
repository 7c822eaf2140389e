//! What the SMTP or LMTP connections of one thread share: which message is next and to whom, what
//! became of it, and whether it is sent again.
//!
//! Guarantees: every attempt gets exactly one line in the ledger.
//! Does not know: commands and replies; those are `session`'s, and `opening`'s up to the first
//! message.

mod opening;
mod session;

pub use session::Smtp;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::Work;
use crate::ledger::{self, Outcome};
use crate::message::{Builder, Draft, Framing, MessageId};
use crate::pool::{Pool, Recipients};
use crate::recorder::{Recorder, Times, Verb};
use crate::sasl::{Mechanism, Salted};
use crate::schedule::Pace;
use crate::visible::Tracker;

/// What the run asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Recipients of a message.
    pub recipients: Arc<Recipients>,
    /// Messages of one connection; 0: as many as there are.
    pub messages_per_connection: u64,
    /// Open loop: connections are opened before there is something to do for them.
    pub open_all: bool,
    /// Send envelopes in one piece where the server announces PIPELINING.
    pub pipelining: bool,
    /// Send bodies by BDAT; the run ends if the server does not announce CHUNKING.
    pub chunking: bool,
    /// Attempts per message; 1: never again.
    pub attempts_max: u32,
    /// The server will be restarted: attempts that break are made again, and are no failures.
    pub expect_restarts: bool,
    /// End the run when a connection breaks.
    pub stop_on_disconnect: bool,
    /// `MAIL FROM`, unless [`Auth::own_sender`] says otherwise.
    pub sender: String,
    /// Send STARTTLS first, and everything else under TLS.
    pub starttls: bool,
    /// Log in before the first message.
    pub auth: Option<Auth>,
    /// Said in EHLO or LHLO.
    pub hello: String,
    /// Names the run in message ids.
    pub run: u32,
}

/// How connections log in: each as one user of the pool, drawn uniformly.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The server has to offer it.
    pub mechanism: Mechanism,
    /// Login name, see [`crate::pool::user_name`].
    pub user_pattern: String,
    /// Of all users.
    pub password: String,
    /// `MAIL FROM` is the user's address.
    pub own_sender: bool,
}

impl Options {
    /// How bodies are sent.
    pub fn framing(&self) -> Framing {
        if self.chunking {
            Framing::Chunk
        } else {
            Framing::Dots
        }
    }
}

/// A message to be sent, perhaps again.
#[derive(Debug)]
struct Job {
    id: MessageId,
    draft: Draft,
    attempt: u32,
    times: Times,
    recipients: Vec<u32>,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct SmtpWork {
    options: Arc<Options>,
    pace: Pace,
    pool: Arc<Pool>,
    builder: Builder,
    recorder: Recorder,
    ledger: Option<ledger::Writer>,
    random: fastrand::Rng,
    again: VecDeque<Job>,
    /// Recipient lists to be used again.
    spare: Vec<Vec<u32>>,
    salted: Salted,
    failure: Option<String>,
    /// Told of what is acknowledged.
    tracker: Option<Arc<Tracker>>,
    /// When the server last acknowledged a message, and whether a connection broke since.
    acknowledged: Option<Instant>,
    broken: bool,
}

impl SmtpWork {
    /// For one thread; `builder` must make messages of [`Options::framing`].
    pub fn new(
        options: Arc<Options>,
        pace: Pace,
        pool: Arc<Pool>,
        builder: Builder,
        recorder: Recorder,
        ledger: Option<ledger::Writer>,
        seed: u64,
    ) -> SmtpWork {
        SmtpWork {
            options,
            pace,
            pool,
            builder,
            recorder,
            ledger,
            random: fastrand::Rng::with_seed(seed),
            again: VecDeque::new(),
            spare: Vec::new(),
            salted: Salted::default(),
            failure: None,
            tracker: None,
            acknowledged: None,
            broken: false,
        }
    }

    /// The same, and `tracker` is told of what is acknowledged.
    pub fn watched(self, tracker: Option<Arc<Tracker>>) -> SmtpWork {
        SmtpWork { tracker, ..self }
    }

    /// Messages that wait to be sent again.
    pub fn waiting(&self) -> usize {
        self.again.len()
    }

    /// The server has acknowledged something.
    fn note_acknowledged(&mut self, job: &Job, outcomes: &[Outcome], now: Instant) {
        if let Some(before) = self.acknowledged.replace(now)
            && std::mem::take(&mut self.broken)
        {
            self.recorder.time_beside(Verb::Outage, before, now);
        }
        if let Some(tracker) = &self.tracker {
            for (&mailbox, outcome) in job.recipients.iter().zip(outcomes) {
                if outcome.is_acknowledged() && tracker.watches(mailbox) {
                    tracker.acknowledged(job.id, mailbox, now);
                }
            }
        }
    }

    fn next_job(&mut self, now: Instant) -> Option<Job> {
        if self.pace.schedule().is_over(now) {
            return None;
        }
        if let Some(job) = self.again.pop_front() {
            return Some(job);
        }
        let start = self.pace.next(now, &mut self.recorder)?;
        let mut recipients = self.spare.pop().unwrap_or_default();
        self.options
            .recipients
            .draw(&mut self.random, &mut recipients);
        Some(Job {
            draft: self.builder.draw(),
            id: MessageId {
                run: self.options.run,
                sequence: start.sequence,
            },
            attempt: 1,
            times: start.times(),
            recipients,
        })
    }

    /// Notes the end of an attempt.
    fn finish(&mut self, job: Job, outcomes: &[Outcome], now: Instant) {
        if let Some(ledger) = &mut self.ledger {
            let pool = &self.pool;
            let rows = job.recipients.iter().zip(outcomes);
            let rows = rows.map(|(&index, &outcome)| (pool.get(index), outcome));
            ledger.note(job.id, job.attempt, rows, now);
        }
        let acknowledged = outcomes
            .iter()
            .filter(|outcome| outcome.is_acknowledged())
            .count();
        let unknown = outcomes
            .iter()
            .filter(|&&outcome| outcome == Outcome::Unknown)
            .count();
        if acknowledged > 0 {
            self.note_acknowledged(&job, outcomes, now);
        }
        // Only what may succeed another time: not what was refused for good.
        let passing = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Unknown | Outcome::Unsent | Outcome::Code(400..=499)
            )
        };
        let again = job.attempt < self.options.attempts_max && outcomes.iter().any(passing);
        let pause = again && self.options.expect_restarts;
        let measured = self.recorder.measures(job.times.due);
        let counts = self.recorder.counts();
        counts.ended_ever += 1;
        if acknowledged == outcomes.len() {
            counts.done_ever += 1;
            counts.done += u64::from(measured);
        } else {
            counts.failed += u64::from(measured && !pause);
        }
        if measured {
            counts.items += acknowledged as u64;
            counts.unknown += unknown as u64;
        }
        if again {
            let mut index = 0;
            let mut job = job;
            job.recipients.retain(|_| {
                index += 1;
                passing(&outcomes[index - 1])
            });
            job.attempt += 1;
            // An open loop counts from when the message was due first.
            if job.times.began.is_none() {
                job.times.due = now;
            }
            self.again.push_back(job);
        } else {
            self.spare.push(job.recipients);
        }
    }
}

impl Work for SmtpWork {
    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn tick(&mut self, now: Instant) {
        self.pace.tick(now, &mut self.recorder);
        self.recorder.tick(now);
        if let Some(tracker) = &self.tracker {
            for (acknowledged, seen) in tracker.take() {
                self.recorder.time_beside(Verb::Visible, acknowledged, seen);
            }
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.tick(now);
        }
    }

    fn is_cut(&self, _now: Instant) -> bool {
        self.pace.schedule().is_cut()
    }

    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.pace.next_due(now);
        if due.is_some() && !self.again.is_empty() {
            return Some(now);
        }
        due
    }

    fn failure(&self) -> Option<String> {
        let ledger = self.ledger.as_ref().and_then(ledger::Writer::failure);
        self.failure.clone().or_else(|| ledger.map(str::to_owned))
    }
}
