//! Sessions that log in, open a mailbox and send commands drawn from a [`Mix`].
//!
//! Guarantees: an operation counts as done when its tagged OK has come; an APPEND gets exactly one
//! line in the ledger.
//! On failure: a refused command is noted and the next is sent; a broken session is opened again
//! for the next operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::client::{Client, Context, Event, Login, quoted};
use super::mix::{Mix, Operation};
use super::responses::Piece;
use crate::dialogue::secured::Upgrade;
use crate::dialogue::{Dialogue, End, Next, Work};
use crate::ledger::{self, Outcome};
use crate::message::{Builder, Draft, MessageId};
use crate::pool::Pool;
use crate::recorder::Recorder;
use crate::schedule::{Pace, Start};

/// What the run asks for.
#[derive(Debug)]
pub struct Options {
    /// How sessions begin.
    pub login: Login,
    /// Which commands.
    pub mix: Mix,
    /// Commands of a session; 0: as many as there are.
    pub commands_per_session: u64,
    /// Messages that a FETCH of flags or envelopes asks for, the newest ones.
    pub window: u32,
    /// Names the run in ids of messages that are appended.
    pub run: u32,
    /// Sessions begun so far: whose turn it is.
    pub sessions: AtomicU64,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct ImapWork {
    options: Arc<Options>,
    pace: Pace,
    pool: Arc<Pool>,
    builder: Builder,
    recorder: Recorder,
    ledger: Option<ledger::Writer>,
    random: fastrand::Rng,
}

impl ImapWork {
    /// For one thread; `builder` makes what is appended, and has to make chunks.
    pub fn new(
        options: Arc<Options>,
        pace: Pace,
        pool: Arc<Pool>,
        builder: Builder,
        recorder: Recorder,
        ledger: Option<ledger::Writer>,
        seed: u64,
    ) -> ImapWork {
        ImapWork {
            options,
            pace,
            pool,
            builder,
            recorder,
            ledger,
            random: fastrand::Rng::with_seed(seed),
        }
    }
}

impl Work for ImapWork {
    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn tick(&mut self, now: Instant) {
        self.pace.tick(now, &mut self.recorder);
        self.recorder.tick(now);
        if let Some(ledger) = &mut self.ledger {
            ledger.tick(now);
        }
    }

    fn is_cut(&self, _now: Instant) -> bool {
        self.pace.schedule().is_cut()
    }

    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        self.pace.next_due(now)
    }

    fn failure(&self) -> Option<String> {
        let ledger = self.ledger.as_ref().and_then(ledger::Writer::failure);
        ledger.map(str::to_owned)
    }
}

/// An operation on its way.
#[derive(Debug, Clone, Copy)]
struct Job {
    start: Start,
    operation: Operation,
    /// What is appended.
    draft: Draft,
    /// The appended message was given to the engine.
    body_out: bool,
}

/// One connection's conversation: one session.
#[derive(Debug)]
pub struct Imap {
    client: Client,
    user: u32,
    /// The operation that waits for the mailbox to be open.
    first: Option<Start>,
    job: Option<Job>,
    commands: u64,
    /// A literal has come in the answer to the FETCH of a body.
    body_came: bool,
}

impl Dialogue for Imap {
    type Work = ImapWork;

    fn open(work: &mut ImapWork, now: Instant) -> Option<Imap> {
        // Taken here already, so that no session is opened for nothing.
        let start = work.pace.next(now, &mut work.recorder)?;
        let session = work.options.sessions.fetch_add(1, Ordering::Relaxed);
        Some(Imap {
            client: Client::new(now),
            user: (session % work.pool.len() as u64) as u32,
            first: Some(start),
            job: None,
            commands: 0,
            body_came: false,
        })
    }

    fn connected(&mut self, _work: &mut ImapWork, now: Instant, _out: &mut Vec<u8>) -> Next {
        self.client.connected(now);
        Next::Wait
    }

    fn received(
        &mut self,
        work: &mut ImapWork,
        mut input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        loop {
            let body_came = &mut self.body_came;
            let mut context = Context {
                recorder: &mut work.recorder,
                login: &work.options.login,
                address: work.pool.get(self.user),
                now,
                out,
            };
            let event = self.client.next(&mut input, &mut context, |piece| {
                *body_came |= matches!(piece, Piece::LiteralEnd);
            });
            match event {
                Ok(None) if self.is_free() => return Next::Idle,
                Ok(None) => return Next::Wait,
                Ok(Some(Event::Failed)) => return Next::Fail,
                Ok(Some(Event::Untagged)) => {}
                Ok(Some(Event::Continue)) => self.send_message(work, out),
                Ok(Some(Event::Answered(_))) if self.client.is_leaving() => return Next::Close,
                Ok(Some(Event::Answered(good))) => {
                    self.finish(work, good, Outcome::Code(if good { 250 } else { 550 }), now);
                    self.next_command(work, now, out);
                }
                Ok(Some(Event::Ready)) => self.next_command(work, now, out),
                Err(nonsense) => {
                    self.client.nonsense(&mut work.recorder, &nonsense);
                    return Next::Fail;
                }
            }
        }
    }

    fn woken(&mut self, work: &mut ImapWork, now: Instant, out: &mut Vec<u8>) -> Next {
        self.next_command(work, now, out);
        if self.is_free() {
            Next::Idle
        } else {
            Next::Wait
        }
    }

    fn ended(mut self, work: &mut ImapWork, end: End<'_>, now: Instant) {
        self.client.ended(&mut work.recorder, end);
        if let Some(start) = self.first.take() {
            // The session never got to its first operation.
            let measured = work.recorder.measures(start.due);
            let counts = work.recorder.counts();
            counts.ended_ever += 1;
            counts.failed += u64::from(measured && end != End::Cut);
        }
        let body_out = self.job.is_some_and(|job| job.body_out);
        let outcome = if body_out {
            Outcome::Unknown
        } else {
            Outcome::Unsent
        };
        self.finish(work, false, outcome, now);
    }
}

impl Upgrade for Imap {
    fn wants_tls(&self) -> bool {
        self.client.wants_tls()
    }

    fn upgraded(&mut self, _work: &mut ImapWork, now: Instant, out: &mut Vec<u8>) -> Next {
        self.client.upgraded(now, out);
        Next::Wait
    }
}

impl Imap {
    /// The mailbox is open and no command is on its way.
    fn is_free(&self) -> bool {
        self.client.is_open() && !self.client.is_leaving() && self.job.is_none()
    }

    fn next_command(&mut self, work: &mut ImapWork, now: Instant, out: &mut Vec<u8>) {
        let options = work.options.clone();
        let limit = options.commands_per_session;
        let start = self.first.take().or_else(|| {
            (limit == 0 || self.commands < limit)
                .then(|| work.pace.next(now, &mut work.recorder))
                .flatten()
        });
        let Some(mut start) = start else {
            let limited = limit > 0 && self.commands >= limit;
            if limited || work.pace.next_due(now).is_none() {
                self.client.leave(now, out);
            }
            return;
        };
        if start.began.is_none() {
            // A closed loop does not count how long the session took to open.
            start.due = now;
        }
        self.commands += 1;
        let exists = self.client.exists();
        let operation = options.mix.draw(&mut work.random, exists == 0);
        self.body_came = false;
        let draft = work.builder.draw();
        self.job = Some(Job {
            start,
            operation,
            draft,
            body_out: false,
        });
        let oldest = exists.saturating_sub(options.window - 1).max(1);
        let one = 1 + work.random.u32(0..exists.max(1));
        let text = match operation {
            Operation::FetchFlags => format!("FETCH {oldest}:* (UID FLAGS)"),
            Operation::FetchEnvelope => {
                format!("FETCH {oldest}:* (UID FLAGS RFC822.SIZE INTERNALDATE ENVELOPE)")
            }
            Operation::FetchStructure => {
                format!("FETCH {oldest}:* (UID ENVELOPE BODYSTRUCTURE)")
            }
            Operation::FetchBody => format!("FETCH {one} (UID BODY.PEEK[])"),
            Operation::Store => {
                let sign = if work.random.bool() { '+' } else { '-' };
                format!("STORE {one} {sign}FLAGS (\\Seen)")
            }
            Operation::Search => "SEARCH UNSEEN".to_owned(),
            Operation::Status => format!(
                "STATUS {} (MESSAGES UIDNEXT UNSEEN)",
                quoted(&options.login.mailbox)
            ),
            Operation::Noop => "NOOP".to_owned(),
            Operation::Select => format!("SELECT {}", quoted(&options.login.mailbox)),
            Operation::Append => return self.append(work, draft, start.due, out),
        };
        // Timed from when it was due.
        self.client
            .command(operation.verb(), text.as_bytes(), start.due, out);
    }

    fn append(&mut self, work: &mut ImapWork, draft: Draft, due: Instant, out: &mut Vec<u8>) {
        let bytes = work.builder.chunk_bytes(draft);
        let capabilities = self.client.capabilities();
        let at_once = capabilities.literal_plus || (capabilities.literal_minus && bytes <= 4096);
        let text = format!(
            "APPEND {} {{{bytes}{}}}\r\n",
            quoted(&work.options.login.mailbox),
            if at_once { "+" } else { "" }
        );
        let verb = Operation::Append.verb();
        self.client.begin(verb, text.as_bytes(), due, out);
        if at_once {
            self.send_message(work, out);
        }
    }

    fn send_message(&mut self, work: &mut ImapWork, out: &mut Vec<u8>) {
        if let Some(job) = &mut self.job
            && job.operation == Operation::Append
            && !job.body_out
        {
            job.body_out = true;
            let id = MessageId {
                run: work.options.run,
                sequence: job.start.sequence,
            };
            work.builder.build(job.draft, id, out);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn finish(&mut self, work: &mut ImapWork, good: bool, outcome: Outcome, now: Instant) {
        let Some(job) = self.job.take() else {
            return;
        };
        let measured = work.recorder.measures(job.start.due);
        let counts = work.recorder.counts();
        counts.ended_ever += 1;
        if good {
            counts.done_ever += 1;
            counts.done += u64::from(measured);
            let body = job.operation == Operation::FetchBody && self.body_came;
            counts.items += u64::from(measured && body);
        } else {
            counts.failed += u64::from(measured);
        }
        if job.operation == Operation::Append
            && let Some(ledger) = &mut work.ledger
        {
            let id = MessageId {
                run: work.options.run,
                sequence: job.start.sequence,
            };
            let row = (work.pool.get(self.user), outcome);
            ledger.note(id, 1, std::iter::once(row), now);
        }
    }
}
