//! The verifier's sessions: each reads one mailbox whole, and looks at every message.
//!
//! Guarantees: what a session found counts only when it has read all of the mailbox.
//! On failure: the mailbox is read again, a limited number of times.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::client::{Client, Context, Event, Login};
use super::responses::Piece;
use crate::dialogue::pop3::Found;
use crate::dialogue::secured::Upgrade;
use crate::dialogue::{Dialogue, End, Next, Work};
use crate::message::{Checker, Verdict};
use crate::pool::Pool;
use crate::recorder::{Recorder, Verb};
use crate::schedule::Schedule;

/// Messages of one FETCH: an answer of bounded size, so that the time-out means something.
const FETCH_MESSAGES: u32 = 500;

/// What the run asks for.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// How sessions begin.
    pub login: Login,
    /// Attempts to read a mailbox.
    pub attempts_max: u32,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    mailbox: u32,
    attempt: u32,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct ImapCheckWork {
    options: Arc<CheckOptions>,
    schedule: Arc<Schedule>,
    pool: Arc<Pool>,
    recorder: Recorder,
    again: VecDeque<Job>,
    /// Mailboxes that were read whole.
    pub mailboxes_read: u64,
    /// Everything that was read.
    pub found: Vec<Found>,
    /// Mailboxes that could not be read.
    pub unread: Vec<u32>,
}

impl ImapCheckWork {
    /// For one thread. `schedule` counts mailboxes.
    pub fn new(
        options: Arc<CheckOptions>,
        schedule: Arc<Schedule>,
        pool: Arc<Pool>,
        recorder: Recorder,
    ) -> ImapCheckWork {
        ImapCheckWork {
            options,
            schedule,
            pool,
            recorder,
            again: VecDeque::new(),
            mailboxes_read: 0,
            found: Vec::new(),
            unread: Vec::new(),
        }
    }
}

impl Work for ImapCheckWork {
    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn is_cut(&self, _now: Instant) -> bool {
        self.schedule.is_cut()
    }
}

/// One connection's conversation: one mailbox.
#[derive(Debug)]
pub struct ImapCheck {
    client: Client,
    job: Job,
    began: Instant,
    checker: Checker,
    /// A literal of the response that is being read has come.
    literal: bool,
    found: Vec<Found>,
    wanted: u32,
    asked: u32,
    whole: bool,
}

impl Dialogue for ImapCheck {
    type Work = ImapCheckWork;

    fn open(work: &mut ImapCheckWork, now: Instant) -> Option<ImapCheck> {
        let job = match work.again.pop_front() {
            Some(job) => job,
            None => Job {
                mailbox: (work.schedule.next(now)?.sequence % work.pool.len() as u64) as u32,
                attempt: 1,
            },
        };
        Some(ImapCheck {
            client: Client::new(now),
            job,
            began: now,
            checker: Checker::default(),
            literal: false,
            found: Vec::new(),
            wanted: 0,
            asked: 0,
            whole: false,
        })
    }

    fn connected(&mut self, _work: &mut ImapCheckWork, now: Instant, _out: &mut Vec<u8>) -> Next {
        self.client.connected(now);
        Next::Wait
    }

    fn received(
        &mut self,
        work: &mut ImapCheckWork,
        mut input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        loop {
            let mut context = Context {
                recorder: &mut work.recorder,
                login: &work.options.login,
                address: work.pool.get(self.job.mailbox),
                now,
                out,
            };
            let (checker, literal, found) = (&mut self.checker, &mut self.literal, &mut self.found);
            let mailbox = self.job.mailbox;
            let event = self
                .client
                .next(&mut input, &mut context, |piece| match piece {
                    Piece::Literal(bytes) => checker.feed(bytes),
                    Piece::LiteralEnd => {
                        *literal = true;
                        found.push(Found {
                            mailbox,
                            verdict: checker.finish(),
                        });
                    }
                    Piece::Text { text, last, .. } => {
                        if last && !*literal && is_bodiless_fetch(text) {
                            // A message the server has, and cannot show.
                            found.push(Found {
                                mailbox,
                                verdict: Verdict::Corrupt(None),
                            });
                        }
                        if last {
                            *literal = false;
                        }
                    }
                });
            match event {
                Ok(None) => return Next::Wait,
                Ok(Some(Event::Untagged | Event::Continue)) => {}
                Ok(Some(Event::Ready)) => {
                    self.wanted = self.client.exists();
                    self.fetch(now, out);
                }
                Ok(Some(Event::Answered(_))) if self.client.is_leaving() => return Next::Close,
                Ok(Some(Event::Answered(true))) => self.fetch(now, out),
                Ok(Some(Event::Failed | Event::Answered(false))) => return Next::Fail,
                Err(nonsense) => {
                    self.client.nonsense(&mut work.recorder, &nonsense);
                    return Next::Fail;
                }
            }
        }
    }

    fn ended(self, work: &mut ImapCheckWork, end: End<'_>, now: Instant) {
        self.client.ended(&mut work.recorder, end);
        let counts = work.recorder.counts();
        counts.ended_ever += 1;
        if self.whole {
            counts.done_ever += 1;
            counts.done += 1;
            counts.items += self.found.len() as u64;
            work.recorder.time(Verb::Session, self.began, now);
            work.mailboxes_read += 1;
            work.found.extend(self.found);
            return;
        }
        counts.failed += 1;
        if self.job.attempt < work.options.attempts_max && end != End::Cut {
            work.again.push_back(Job {
                attempt: self.job.attempt + 1,
                ..self.job
            });
        } else {
            work.unread.push(self.job.mailbox);
        }
    }
}

impl Upgrade for ImapCheck {
    fn wants_tls(&self) -> bool {
        self.client.wants_tls()
    }

    fn upgraded(&mut self, _work: &mut ImapCheckWork, now: Instant, out: &mut Vec<u8>) -> Next {
        self.client.upgraded(now, out);
        Next::Wait
    }
}

impl ImapCheck {
    fn fetch(&mut self, now: Instant, out: &mut Vec<u8>) {
        if self.asked >= self.wanted {
            // As many as the server said it had, or the mailbox was not read whole.
            self.whole = self.found.len() as u64 >= u64::from(self.wanted);
            return self.client.leave(now, out);
        }
        let first = self.asked + 1;
        self.asked = self.wanted.min(self.asked + FETCH_MESSAGES);
        let text = format!("FETCH {first}:{} (BODY.PEEK[])", self.asked);
        self.client
            .command(Verb::FetchBody, text.as_bytes(), now, out);
    }
}

/// `* 12 FETCH (BODY[] NIL)` or a quoted text, instead of a literal.
fn is_bodiless_fetch(text: &[u8]) -> bool {
    text.starts_with(b"* ") && memchr::memmem::find(text, b" FETCH (BODY[]").is_some()
}
