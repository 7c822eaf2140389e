//! POP3 from the client's side (RFC 1939, RFC 2449): sessions that read like a user's program,
//! and the verifier's, which read whole mailboxes.
//!
//! Guarantees: what a session read counts only when the session has read all it wanted.
//! On failure: a session that breaks is noted; the verifier reads its mailbox again.

mod login;

pub use login::Login;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::lines::{DotReader, Lines};
use super::secured::Upgrade;
use super::{Dialogue, End, Next, SILENT_GREETING, Work, note_fault};
use crate::message::{Checker, MESSAGE_BYTES_MAX, Verdict};
use crate::pool::Pool;
use crate::recorder::{Fault, FaultKey, Recorder, Times, Verb};
use crate::sasl::{Salted, Sasl};
use crate::schedule::Pace;

/// What the run asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Login name, see [`user_name`].
    pub user_pattern: String,
    /// Of all users.
    pub password: String,
    /// How it is proved.
    pub login: Login,
    /// Send STLS first (RFC 2595), and everything else under TLS.
    pub stls: bool,
    /// Of STAT, LIST and UIDL, those to be sent. STAT is sent always: it tells how many there are.
    pub list: bool,
    /// UIDL as well.
    pub uidl: bool,
    /// Messages to be retrieved, the first ones; `None`: all.
    pub retrieve: Option<u32>,
    /// Delete what was retrieved.
    pub delete: bool,
    /// RETR and DELE commands sent ahead, if the server announces PIPELINING; 1: none ahead.
    pub window: u32,
    /// Look at every message with a [`Checker`], and try a broken session again so many times.
    pub check: Option<u32>,
}

/// What was found in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Number of the mailbox in the pool.
    pub mailbox: u32,
    /// What it is.
    pub verdict: Verdict,
}

/// A mailbox to be read.
#[derive(Debug, Clone, Copy)]
struct Job {
    mailbox: u32,
    attempt: u32,
    times: Times,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct Pop3Work {
    options: Arc<Options>,
    pace: Pace,
    pool: Arc<Pool>,
    recorder: Recorder,
    again: VecDeque<Job>,
    random: fastrand::Rng,
    salted: Salted,
    /// With `check`: mailboxes that were read whole.
    pub mailboxes_read: u64,
    /// With `check`: everything that was read.
    pub found: Vec<Found>,
    /// With `check`: mailboxes that could not be read.
    pub unread: Vec<u32>,
}

impl Pop3Work {
    /// For one thread.
    pub fn new(options: Arc<Options>, pace: Pace, pool: Arc<Pool>, recorder: Recorder) -> Pop3Work {
        Pop3Work {
            options,
            pace,
            pool,
            recorder,
            again: VecDeque::new(),
            random: fastrand::Rng::new(),
            salted: Salted::default(),
            mailboxes_read: 0,
            found: Vec::new(),
            unread: Vec::new(),
        }
    }

    fn next_job(&mut self, now: Instant) -> Option<Job> {
        if let Some(mut job) = self.again.pop_front() {
            job.times.due = now;
            return Some(job);
        }
        // One after another, so that two connections seldom want the same mailbox's lock.
        let start = self.pace.next(now, &mut self.recorder)?;
        let mailbox = start.sequence % self.pool.len() as u64;
        Some(Job {
            mailbox: mailbox as u32,
            attempt: 1,
            times: start.times(),
        })
    }
}

impl Work for Pop3Work {
    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn tick(&mut self, now: Instant) {
        self.pace.tick(now, &mut self.recorder);
        self.recorder.tick(now);
    }

    fn is_cut(&self, _now: Instant) -> bool {
        self.pace.schedule().is_cut()
    }

    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        self.pace.next_due(now)
    }
}

/// What comes next from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Await {
    Greeting,
    Stls,
    Capa,
    User,
    Pass,
    Auth,
    Stat,
    List,
    Uidl,
    Retr,
    Dele,
    Quit,
}

impl Await {
    fn verb(self) -> Verb {
        match self {
            Await::Greeting => Verb::Greeting,
            Await::Stls => Verb::StartTls,
            Await::Capa => Verb::Capa,
            Await::User => Verb::User,
            Await::Pass => Verb::Pass,
            Await::Auth => Verb::Auth,
            Await::Stat => Verb::Stat,
            Await::List => Verb::List,
            Await::Uidl => Verb::Uidl,
            Await::Retr => Verb::Retr,
            Await::Dele => Verb::Dele,
            Await::Quit => Verb::Quit,
        }
    }
}

/// One connection's conversation: one session.
#[derive(Debug)]
pub struct Pop3 {
    job: Job,
    awaiting: Await,
    lines: Lines,
    dots: DotReader,
    checker: Checker,
    /// The server has agreed to STLS just now.
    tls_next: bool,
    /// Of the greeting (RFC 1939 §7): APOP needs it.
    timestamp: Option<String>,
    sasl: Option<Box<Sasl>>,
    /// Bytes of the text that goes on.
    text_bytes: u64,
    /// The status line was seen, the text behind it goes on.
    in_text: bool,
    step_began: Instant,
    pipelining: bool,
    /// Messages there are, by STAT.
    messages: u32,
    /// Messages wanted; known after STAT.
    wanted: u32,
    sent: u32,
    answered: u32,
    found: Vec<Found>,
    /// Something was refused: the session counts as failed.
    refused: bool,
    over: bool,
}

impl Dialogue for Pop3 {
    type Work = Pop3Work;

    fn open(work: &mut Pop3Work, now: Instant) -> Option<Pop3> {
        Some(Pop3 {
            job: work.next_job(now)?,
            awaiting: Await::Greeting,
            lines: Lines::default(),
            dots: DotReader::default(),
            checker: Checker::default(),
            tls_next: false,
            timestamp: None,
            sasl: None,
            text_bytes: 0,
            in_text: false,
            step_began: now,
            pipelining: false,
            messages: 0,
            wanted: 0,
            sent: 0,
            answered: 0,
            found: Vec::new(),
            refused: false,
            over: false,
        })
    }

    fn connected(&mut self, _work: &mut Pop3Work, now: Instant, _out: &mut Vec<u8>) -> Next {
        self.step_began = now;
        Next::Wait
    }

    fn received(
        &mut self,
        work: &mut Pop3Work,
        mut input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        while !input.is_empty() {
            if self.in_text {
                let before = input.len();
                let whole = self.text(work, &mut input);
                self.text_bytes += (before - input.len()) as u64;
                let bytes_max = match self.awaiting {
                    Await::Retr => MESSAGE_BYTES_MAX as u64,
                    _ => LIST_BYTES_MAX + LIST_LINE_BYTES_MAX * u64::from(self.messages),
                };
                if self.text_bytes > bytes_max {
                    let sample = format!("a text of more than {bytes_max} bytes");
                    return self.nonsense(work, sample.as_bytes());
                }
                if whole {
                    self.in_text = false;
                    self.text_bytes = 0;
                    match self.answered(work, now, out) {
                        Next::Wait => {}
                        other => return other,
                    }
                }
                continue;
            }
            let (good, sample) = match self.lines.next(&mut input) {
                Ok(None) => return Next::Wait,
                Ok(Some(line)) if line.starts_with(b"+OK") => {
                    if self.awaiting == Await::Stat {
                        let Some(count) = stat_count(line) else {
                            let sample = line.to_vec();
                            return self.nonsense(work, &sample);
                        };
                        self.messages = count;
                        self.wanted = work.options.retrieve.map_or(count, |max| max.min(count));
                    } else if self.awaiting == Await::Greeting {
                        self.timestamp = login::timestamp(line);
                    }
                    (true, Vec::new())
                }
                Ok(Some(line)) if self.awaiting == Await::Auth && line.starts_with(b"+") => {
                    let challenge = line[1..].to_vec();
                    match self.challenged(work, &challenge, out) {
                        Next::Wait => continue,
                        other => return other,
                    }
                }
                Ok(Some(line)) if line.starts_with(b"-ERR") => (false, line.to_vec()),
                Ok(Some(line)) => {
                    let sample = line.to_vec();
                    return self.nonsense(work, &sample);
                }
                Err(nonsense) => return self.nonsense(work, &nonsense.sample),
            };
            let next = match (good, self.awaiting) {
                (true, Await::Capa | Await::List | Await::Uidl | Await::Retr) => {
                    self.in_text = true;
                    Next::Wait
                }
                // A server that does not know CAPA (RFC 2449) is no worse for it.
                (true, _) | (false, Await::Capa) => self.answered(work, now, out),
                (false, _) => self.refused(work, &sample, now, out),
            };
            if next != Next::Wait {
                return next;
            }
            if self.tls_next && !input.is_empty() {
                // What is said between the agreement and TLS is not the server's own, perhaps.
                return self.nonsense(work, input);
            }
        }
        Next::Wait
    }

    fn ended(self, work: &mut Pop3Work, end: End<'_>, now: Instant) {
        if let End::Fault(fault, text) = end
            && (self.awaiting != Await::Quit || matches!(fault, Fault::Timeout))
        {
            let verb = match fault {
                Fault::Refused | Fault::Unreachable => Verb::Connect,
                _ => self.awaiting.verb(),
            };
            let silent = self.awaiting == Await::Greeting && fault == Fault::Timeout;
            let text = if silent { SILENT_GREETING } else { text };
            note_fault(&mut work.recorder, fault, verb, text);
        }
        // Without --delete nothing hangs on the reply to QUIT.
        let read_all = self.awaiting == Await::Quit && !self.refused;
        let whole = read_all && (self.over || !work.options.delete);
        let measured = work.recorder.measures(self.job.times.due);
        let reached = self.awaiting != Await::Greeting;
        let counts = work.recorder.counts();
        counts.ended_ever += u64::from(reached);
        if whole {
            counts.done_ever += 1;
            counts.done += u64::from(measured);
            counts.items += if measured { u64::from(self.wanted) } else { 0 };
            work.recorder.operation(Verb::Session, self.job.times, now);
        } else if reached {
            counts.failed += u64::from(measured);
        }
        if let Some(attempts_max) = work.options.check {
            if whole {
                work.mailboxes_read += 1;
                work.found.extend(self.found);
            } else if self.job.attempt < attempts_max && !matches!(end, End::Cut) {
                work.again.push_back(Job {
                    attempt: self.job.attempt + 1,
                    ..self.job
                });
            } else {
                work.unread.push(self.job.mailbox);
            }
        }
    }
}

impl Upgrade for Pop3 {
    fn wants_tls(&self) -> bool {
        self.tls_next
    }

    fn upgraded(&mut self, work: &mut Pop3Work, now: Instant, out: &mut Vec<u8>) -> Next {
        self.tls_next = false;
        self.greeted_in_full(work, now, out)
    }
}

/// Bytes of a reply of several lines that is no message, and those of each line of LIST or UIDL: a
/// number, a blank and 70 characters at most (RFC 1939 §7), with room for what some servers add.
const LIST_BYTES_MAX: u64 = 64 << 10;
const LIST_LINE_BYTES_MAX: u64 = 512;

/// The number of messages in the reply to STAT (RFC 1939 §5).
pub(super) fn stat_count(line: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(line).ok()?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

impl Pop3 {
    /// Greeted, and under TLS if that is asked for.
    fn greeted_in_full(&mut self, work: &mut Pop3Work, now: Instant, out: &mut Vec<u8>) -> Next {
        if work.options.window > 1 {
            self.command(b"CAPA", Await::Capa, now, out)
        } else {
            self.log_in(work, now, out)
        }
    }

    fn nonsense(&self, work: &mut Pop3Work, sample: &[u8]) -> Next {
        let key = FaultKey {
            fault: Fault::Nonsense,
            verb: self.awaiting.verb(),
            code: 0,
        };
        work.recorder.fault(key, sample);
        Next::Fail
    }

    /// Takes the text behind a status line; `true` at its end.
    fn text(&mut self, work: &Pop3Work, input: &mut &[u8]) -> bool {
        match self.awaiting {
            Await::Retr if work.options.check.is_some() => {
                let checker = &mut self.checker;
                let whole = self.dots.feed(input, |bytes| checker.feed(bytes));
                if whole {
                    let verdict = self.checker.finish();
                    self.found.push(Found {
                        mailbox: self.job.mailbox,
                        verdict,
                    });
                }
                whole
            }
            Await::Capa => {
                let mut pipelining = self.pipelining;
                // Capabilities come a line at a time; one cut in two is not recognized, which
                // costs speed and nothing else.
                let whole = self.dots.feed(input, |line| {
                    pipelining |= line.trim_ascii().eq_ignore_ascii_case(b"PIPELINING");
                });
                self.pipelining = pipelining;
                whole
            }
            _ => self.dots.feed(input, |_| {}),
        }
    }

    fn refused(
        &mut self,
        work: &mut Pop3Work,
        sample: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        let key = FaultKey {
            fault: Fault::Permanent,
            verb: self.awaiting.verb(),
            code: 0,
        };
        work.recorder.fault(key, sample);
        self.refused = true;
        match self.awaiting {
            Await::Greeting | Await::Quit => Next::Fail,
            // The rest of the window is still to come.
            Await::Retr | Await::Dele => self.answered(work, now, out),
            _ => self.command(b"QUIT", Await::Quit, now, out),
        }
    }

    fn command(&mut self, text: &[u8], awaiting: Await, now: Instant, out: &mut Vec<u8>) -> Next {
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
        self.awaiting = awaiting;
        self.step_began = now;
        Next::Wait
    }

    /// The answer to what was awaited is there, whole; on to the next command.
    fn answered(&mut self, work: &mut Pop3Work, now: Instant, out: &mut Vec<u8>) -> Next {
        let options = work.options.clone();
        work.recorder
            .time(self.awaiting.verb(), self.step_began, now);
        match self.awaiting {
            Await::Greeting if options.stls => self.command(b"STLS", Await::Stls, now, out),
            Await::Stls => {
                self.tls_next = true;
                Next::Wait
            }
            Await::Greeting => self.greeted_in_full(work, now, out),
            Await::Capa => self.log_in(work, now, out),
            Await::User => {
                let pass = format!("PASS {}", options.password);
                self.command(pass.as_bytes(), Await::Pass, now, out)
            }
            Await::Pass | Await::Auth => self.logged_in(work, now, out),
            Await::Stat if options.list => self.command(b"LIST", Await::List, now, out),
            Await::Stat | Await::List if options.uidl => {
                self.command(b"UIDL", Await::Uidl, now, out)
            }
            Await::Stat | Await::List | Await::Uidl => self.window(work, Await::Retr, now, out),
            Await::Retr | Await::Dele => {
                self.answered += 1;
                if self.answered == self.sent {
                    self.window(work, self.awaiting, now, out)
                } else {
                    Next::Wait
                }
            }
            Await::Quit => {
                self.over = true;
                Next::Close
            }
        }
    }

    /// Sends the next RETR or DELE commands, or what comes after them.
    fn window(
        &mut self,
        work: &Pop3Work,
        awaiting: Await,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        if self.sent == self.wanted || self.refused {
            if awaiting == Await::Retr && work.options.delete && !self.refused && self.wanted > 0 {
                (self.sent, self.answered) = (0, 0);
                return self.window(work, Await::Dele, now, out);
            }
            return self.command(b"QUIT", Await::Quit, now, out);
        }
        let ahead = if self.pipelining {
            work.options.window
        } else {
            1
        };
        let last = self.wanted.min(self.sent.saturating_add(ahead));
        let verb = awaiting.verb().name();
        while self.sent < last {
            self.sent += 1;
            let text = format!("{verb} {}", self.sent);
            self.command(text.as_bytes(), awaiting, now, out);
        }
        Next::Wait
    }
}
