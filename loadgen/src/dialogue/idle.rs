//! Connections that are opened, greeted and then left alone, to see what they cost the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::lines::Lines;
use super::{Dialogue, End, Next, Work, note_fault};
use crate::recorder::{Fault, FaultKey, Recorder, Verb};
use crate::schedule::Schedule;

/// What the server says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing is waited for.
    None,
    /// `220`: SMTP and LMTP.
    Smtp,
    /// `+OK`: POP3.
    Pop3,
    /// `* OK`: IMAP.
    Imap,
}

/// How many are up, over all threads.
#[derive(Debug, Default)]
pub struct Census {
    /// Greeted and open now.
    pub up: AtomicU64,
    /// Closed by the server after they were up.
    pub lost: AtomicU64,
    /// Never came up.
    pub failed: AtomicU64,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct IdleWork {
    greeting: Greeting,
    schedule: Arc<Schedule>,
    census: Arc<Census>,
    recorder: Recorder,
}

impl IdleWork {
    /// For one thread. `schedule` counts connections; none is opened twice.
    pub fn new(
        greeting: Greeting,
        schedule: Arc<Schedule>,
        census: Arc<Census>,
        recorder: Recorder,
    ) -> IdleWork {
        IdleWork {
            greeting,
            schedule,
            census,
            recorder,
        }
    }
}

impl Work for IdleWork {
    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn is_cut(&self, _now: Instant) -> bool {
        self.schedule.is_cut()
    }
}

/// One idle connection.
#[derive(Debug)]
pub struct Idle {
    lines: Lines,
    began: Instant,
    up: bool,
}

impl Idle {
    fn came_up(&mut self, work: &IdleWork) -> Next {
        self.up = true;
        work.census.up.fetch_add(1, Ordering::Relaxed);
        Next::Hold
    }
}

impl Dialogue for Idle {
    type Work = IdleWork;

    fn open(work: &mut IdleWork, now: Instant) -> Option<Idle> {
        work.schedule.next(now)?;
        Some(Idle {
            lines: Lines::default(),
            began: now,
            up: false,
        })
    }

    fn connected(&mut self, work: &mut IdleWork, now: Instant, _out: &mut Vec<u8>) -> Next {
        self.began = now;
        match work.greeting {
            Greeting::None => self.came_up(work),
            Greeting::Smtp | Greeting::Pop3 | Greeting::Imap => Next::Wait,
        }
    }

    fn received(
        &mut self,
        work: &mut IdleWork,
        mut input: &[u8],
        now: Instant,
        _out: &mut Vec<u8>,
    ) -> Next {
        let wanted: &[u8] = match work.greeting {
            Greeting::Smtp => b"220",
            Greeting::Pop3 => b"+OK",
            Greeting::Imap => b"* OK",
            Greeting::None => return Next::Hold,
        };
        loop {
            let (fault, code, sample) = match self.lines.next(&mut input) {
                Ok(None) if self.up => return Next::Hold,
                Ok(None) => return Next::Wait,
                Ok(Some(line)) if line.starts_with(wanted) && !self.up => {
                    // The first line of a greeting of several is good enough.
                    work.recorder.time(Verb::Greeting, self.began, now);
                    self.came_up(work);
                    continue;
                }
                Ok(Some(line)) if self.up && line.starts_with(wanted) => continue,
                Ok(Some(line)) => {
                    let code = line
                        .get(..3)
                        .and_then(|code| std::str::from_utf8(code).ok());
                    match code.and_then(|code| code.parse::<u16>().ok()) {
                        Some(code @ 400..=499) => (Fault::Transient, code, line.to_vec()),
                        Some(code @ 500..=599) => (Fault::Permanent, code, line.to_vec()),
                        _ if line.starts_with(b"-ERR") => (Fault::Permanent, 0, line.to_vec()),
                        _ => (Fault::Nonsense, 0, line.to_vec()),
                    }
                }
                Err(nonsense) => (Fault::Nonsense, 0, nonsense.sample),
            };
            let verb = if self.up {
                Verb::Session
            } else {
                Verb::Greeting
            };
            work.recorder.fault(FaultKey { fault, verb, code }, &sample);
            return Next::Fail;
        }
    }

    fn ended(self, work: &mut IdleWork, end: End<'_>, _now: Instant) {
        if let End::Fault(fault, text) = end {
            let verb = match (self.up, fault) {
                (true, _) => Verb::Session,
                (_, Fault::Refused | Fault::Unreachable) => Verb::Connect,
                _ => Verb::Greeting,
            };
            note_fault(&mut work.recorder, fault, verb, text);
        }
        let census = &work.census;
        if !self.up {
            census.failed.fetch_add(1, Ordering::Relaxed);
        } else if end != End::Cut {
            census.up.fetch_sub(1, Ordering::Relaxed);
            census.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
