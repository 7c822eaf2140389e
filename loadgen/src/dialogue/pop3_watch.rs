//! Watchers by POP3: each watched mailbox is opened at intervals, and the headers of what is new
//! are read with TOP (RFC 1939 §7). Of a message that is followed, the mailbox is opened at once and
//! then at intervals until it is there.
//!
//! Guarantees: a message counts as seen when the reply to STAT came in whose session it was new;
//! so times have the interval's resolution.
//! On failure: the mailbox is looked at again after the interval.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::lines::{DotReader, Lines};
use super::pop3::stat_count;
use super::{Dialogue, End, Next, Work, note_fault};
use crate::message::MessageId;
use crate::pool::{Pool, user_name};
use crate::recorder::{Fault, FaultKey, Recorder, Verb};
use crate::schedule::Schedule;
use crate::visible::{FOLLOWED_BACK, FOLLOWED_SOON, Tracker};

/// What the run asks for.
#[derive(Debug)]
pub struct WatchOptions {
    /// Login name, see [`user_name`].
    pub user_pattern: String,
    /// Of all users.
    pub password: String,
    /// From one look at a mailbox to the next.
    pub interval: Duration,
    /// Mailboxes of the tracker that a thread has taken.
    pub begun: AtomicUsize,
}

/// A mailbox to be looked at.
#[derive(Debug, Clone, Copy)]
struct Job {
    mailbox: u32,
    due: Instant,
    /// Messages seen so far; `None`: it was never opened.
    known: Option<u32>,
    /// Opened for this message only.
    followed: Option<MessageId>,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct Pop3WatchWork {
    options: Arc<WatchOptions>,
    schedule: Arc<Schedule>,
    pool: Arc<Pool>,
    tracker: Arc<Tracker>,
    recorder: Recorder,
    /// In the order in which they are due: the interval is the same for all.
    waiting: VecDeque<Job>,
}

impl Pop3WatchWork {
    /// For one thread.
    pub fn new(
        options: Arc<WatchOptions>,
        schedule: Arc<Schedule>,
        pool: Arc<Pool>,
        tracker: Arc<Tracker>,
        recorder: Recorder,
    ) -> Pop3WatchWork {
        Pop3WatchWork {
            options,
            schedule,
            pool,
            tracker,
            recorder,
            waiting: VecDeque::new(),
        }
    }
}

impl Work for Pop3WatchWork {
    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn is_cut(&self, _now: Instant) -> bool {
        self.schedule.is_cut()
    }

    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        if self.schedule.is_over(now) {
            return None;
        }
        if self.options.begun.load(Ordering::Relaxed) < self.tracker.mailboxes().len() {
            return Some(now);
        }
        if self.tracker.has_fresh() {
            return Some(now);
        }
        // Something is always due sooner or later: what is under way comes back into the queue.
        let due = self.waiting.front().map(|job| job.due);
        let later = if self.tracker.follows() {
            now + FOLLOWED_SOON
        } else {
            now + self.options.interval
        };
        Some(due.map_or(later, |due| due.min(later)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Await {
    Greeting,
    User,
    Pass,
    Stat,
    Top,
    Quit,
}

impl Await {
    fn verb(self) -> Verb {
        match self {
            Await::Greeting => Verb::Greeting,
            Await::User => Verb::User,
            Await::Pass => Verb::Pass,
            Await::Stat => Verb::Stat,
            Await::Top => Verb::Top,
            Await::Quit => Verb::Quit,
        }
    }
}

/// One connection's conversation: one look at one mailbox.
#[derive(Debug)]
pub struct Pop3Watch {
    job: Job,
    awaiting: Await,
    began: Instant,
    lines: Lines,
    dots: DotReader,
    in_text: bool,
    header: Lines,
    id: Option<MessageId>,
    /// When STAT was answered.
    looked: Instant,
    /// Number of the message whose header comes next.
    next: u32,
    count: u32,
}

impl Dialogue for Pop3Watch {
    type Work = Pop3WatchWork;

    fn open(work: &mut Pop3WatchWork, now: Instant) -> Option<Pop3Watch> {
        if work.schedule.is_over(now) {
            return None;
        }
        let mailboxes = work.tracker.mailboxes();
        let fresh = || {
            let index = work.options.begun.fetch_add(1, Ordering::Relaxed);
            let mailbox = *mailboxes.get(index)?;
            Some(Job {
                mailbox,
                due: now,
                known: None,
                followed: None,
            })
        };
        let followed = || {
            let (id, mailbox) = work.tracker.follow()?;
            Some(Job {
                mailbox,
                due: now,
                known: None,
                followed: Some(id),
            })
        };
        let job = match fresh().or_else(followed) {
            Some(job) => job,
            None => work.waiting.pop_front_if(|job| job.due <= now)?,
        };
        Some(Pop3Watch {
            job,
            awaiting: Await::Greeting,
            began: now,
            lines: Lines::default(),
            dots: DotReader::default(),
            in_text: false,
            header: Lines::default(),
            id: None,
            looked: now,
            next: 0,
            count: 0,
        })
    }

    fn connected(&mut self, _work: &mut Pop3WatchWork, now: Instant, _out: &mut Vec<u8>) -> Next {
        self.began = now;
        Next::Wait
    }

    fn received(
        &mut self,
        work: &mut Pop3WatchWork,
        mut input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        while !input.is_empty() {
            if self.in_text {
                let (header, id) = (&mut self.header, &mut self.id);
                let whole = self.dots.feed(&mut input, |mut bytes| {
                    while let Ok(Some(line)) = header.next(&mut bytes) {
                        *id = id.or_else(|| parse_id(line));
                    }
                });
                if whole {
                    self.in_text = false;
                    if let Some(id) = self.id.take() {
                        work.tracker.seen(id, self.job.mailbox, self.looked);
                    }
                    work.recorder.time(Verb::Top, self.began, now);
                    if self.job.followed.is_some() {
                        self.next -= 1;
                    } else {
                        self.job.known = Some(self.next);
                        self.next += 1;
                    }
                    self.top(work, now, out);
                }
                continue;
            }
            let line = match self.lines.next(&mut input) {
                Ok(None) => return Next::Wait,
                Ok(Some(line)) => line,
                Err(nonsense) => {
                    self.note(work, Fault::Nonsense, &nonsense.sample);
                    return Next::Fail;
                }
            };
            if !line.starts_with(b"+OK") {
                let line = line.to_vec();
                let fault = if line.starts_with(b"-ERR") {
                    Fault::Permanent
                } else {
                    Fault::Nonsense
                };
                self.note(work, fault, &line);
                return Next::Fail;
            }
            let count = stat_count(line);
            if self.awaiting == Await::Top {
                self.in_text = true;
                self.dots = DotReader::default();
                self.header = Lines::default();
                continue;
            }
            work.recorder.time(self.awaiting.verb(), self.began, now);
            match self.awaiting {
                Await::Greeting => {
                    let address = work.pool.get(self.job.mailbox);
                    let name = user_name(&work.options.user_pattern, address);
                    self.command(&format!("USER {name}"), Await::User, now, out);
                }
                Await::User => {
                    let text = format!("PASS {}", work.options.password);
                    self.command(&text, Await::Pass, now, out);
                }
                Await::Pass => self.command("STAT", Await::Stat, now, out),
                Await::Stat => {
                    self.looked = now;
                    self.count = count.unwrap_or_default();
                    if self.job.followed.is_some() {
                        // Users may have deleted others meanwhile: the newest are looked at anew.
                        self.next = self.count;
                    } else {
                        if self.job.known.is_none() {
                            work.tracker.arm();
                        }
                        let known = self.job.known.unwrap_or(self.count).min(self.count);
                        self.job.known = Some(known);
                        self.next = known + 1;
                    }
                    self.top(work, now, out);
                }
                Await::Top => {}
                Await::Quit => return Next::Close,
            }
        }
        Next::Wait
    }

    fn ended(self, work: &mut Pop3WatchWork, end: End<'_>, now: Instant) {
        if let End::Fault(fault, text) = end
            && (self.awaiting != Await::Quit || fault == Fault::Timeout)
        {
            let verb = match fault {
                Fault::Refused | Fault::Unreachable => Verb::Connect,
                _ => self.awaiting.verb(),
            };
            note_fault(&mut work.recorder, fault, verb, text);
        }
        let counts = work.recorder.counts();
        counts.ended_ever += 1;
        if self.awaiting == Await::Quit {
            counts.done_ever += 1;
            counts.done += 1;
        } else {
            counts.failed += u64::from(end != End::Cut);
        }
        let again = match self.job.followed {
            Some(id) => work.tracker.awaits(id, self.job.mailbox),
            // Where messages are followed, a mailbox was only to be opened.
            None => !work.tracker.follows() || self.job.known.is_none(),
        };
        if again {
            work.waiting.push_back(Job {
                due: now + work.options.interval,
                ..self.job
            });
        }
    }
}

impl Pop3Watch {
    fn note(&self, work: &mut Pop3WatchWork, fault: Fault, sample: &[u8]) {
        let key = FaultKey {
            fault,
            verb: self.awaiting.verb(),
            code: 0,
        };
        work.recorder.fault(key, sample);
    }

    fn command(&mut self, text: &str, awaiting: Await, now: Instant, out: &mut Vec<u8>) {
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
        self.awaiting = awaiting;
        self.began = now;
    }

    /// Reads the next header, or says goodbye.
    fn top(&mut self, work: &Pop3WatchWork, now: Instant, out: &mut Vec<u8>) {
        let more = match self.job.followed {
            Some(id) => {
                let within = self.next > self.count.saturating_sub(FOLLOWED_BACK);
                within && work.tracker.awaits(id, self.job.mailbox)
            }
            None => self.next <= self.count,
        };
        if more {
            self.command(&format!("TOP {} 0", self.next), Await::Top, now, out);
        } else {
            self.command("QUIT", Await::Quit, now, out);
        }
    }
}

/// The id in a line of a header that has it.
fn parse_id(line: &[u8]) -> Option<MessageId> {
    let name = b"X-Loadgen-Id: ";
    let is_it = line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name);
    is_it
        .then(|| MessageId::parse(line[name.len()..].trim_ascii()))
        .flatten()
}
