//! The conversation: states, commands, which ask is out.
//!
//! Guarantees: how input is divided changes no byte of output; one tagged response a command, in
//! order; message numbers are those that the client knows, and EXPUNGE is said only when it may be
//! (RFC 9051 §7.5.1). `out` never grows by more than one message's lines or one piece of a message
//! beyond its bound. Passwords are wiped after use. A session that is idle holds no command.
//! Does not know: accounts, partitions, sockets, the time of day.
//! On failure: NO, BAD or BYE with a response code and a text; a message that cannot be read to its
//! announced end ends the session, for the client could take what follows for the message.

mod acl;
mod append;
mod body;
mod catenate;
mod commands;
mod fetch;
mod finish;
mod job;
mod keywords;
mod list;
mod login;
mod manage;
mod metadata;
mod notify;
mod order;
mod progress;
mod quota;
mod report;
mod search;
mod section;
mod select;
mod state;
mod store;
mod sync;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::frame::Frames;
use super::{Answer, Ask, Settings, write};
use crate::limits::{
    IMAP_BAD_COMMANDS_MAX, IMAP_COMMAND_BYTES_MAX, IMAP_LOGIN_BYTES_MAX, IMAP_LOGIN_TIME,
    OUTPUT_BYTES_MAX,
};
use crate::proto::transcript::{Noting, Said, Transcript};
use crate::proto::{Event, Step};
use finish::{Finish, SyncMode};
use job::{Context, Job, Task, Turn};
use state::{Enabled, Phase, Selected};

/// One IMAP conversation. Everything in it is owned, so that it can move to another shard.
pub struct Session {
    settings: Arc<Settings>,
    peer: SocketAddr,
    frames: Frames,
    phase: Phase,
    enabled: Enabled,
    /// What NOTIFY has set, once it was used.
    notify: Option<Box<notify::Notify>>,
    task: Option<Box<Task>>,
    /// An ask is out.
    asking: bool,
    /// Something has happened in the mailbox that nobody has looked at.
    changed: bool,
    /// Something has happened since it was last asked which keywords there are.
    keywords_may_be_old: bool,
    /// From the last command, answer or output that moved.
    deadline: Option<Instant>,
    /// When the client was told last how far the running command is, or when it was first noticed
    /// that it takes its time.
    told_at: Option<Instant>,
    /// The server drains: close as soon as the running command is done.
    shutdown: bool,
    /// COMPRESS was answered with OK: all that follows is compressed, see [`super::wire`].
    compressed: bool,
    /// What is said, while somebody wants it, or may want it [N35].
    transcript: Option<Box<Transcript>>,
    /// The account is gone: close when the answer comes that is under way.
    removed: bool,
    /// Time is up while an ask is out: close when the answer comes.
    timed_out: bool,
    bad_commands: u8,
    login_failures: u8,
}

impl Session {
    /// A session that has not greeted yet.
    pub fn new(settings: Arc<Settings>, peer: SocketAddr) -> Session {
        Session {
            settings,
            peer,
            frames: Frames::default(),
            phase: Phase::NotAuthenticated,
            enabled: Enabled::default(),
            notify: None,
            task: None,
            asking: false,
            changed: false,
            keywords_may_be_old: false,
            deadline: None,
            told_at: None,
            shutdown: false,
            removed: false,
            compressed: false,
            transcript: Transcript::before_login(),
            timed_out: false,
            bad_commands: 0,
            login_failures: 0,
        }
    }

    /// Bytes of memory that the session holds beside itself.
    pub fn held_bytes(&self) -> usize {
        let task = self
            .task
            .as_ref()
            .map_or(0, |task| size_of::<Task>() + task.job.held_bytes());
        let selected = match &self.phase {
            // The view is shared with others, or as small as its share.
            Phase::Selected(selected) => {
                let numbers = selected.saved.capacity()
                    + selected.own.capacity()
                    + selected.own_new.capacity();
                size_of::<Selected>() + numbers * 8
            }
            _ => 0,
        };
        let transcript = self.transcript.as_ref().map_or(0, |said| said.held_bytes());
        let notify = self.notify.as_ref().map_or(0, |notify| notify.held_bytes());
        self.frames.held_bytes() + task + selected + transcript + notify
    }

    /// Memory is short: gives the message up that is coming in. `false`: there is none.
    pub fn shed(&mut self) -> bool {
        match &mut self.task {
            Some(task) if !self.asking => match &mut task.job {
                Job::Append(append) => append.shed(),
                _ => false,
            },
            _ => false,
        }
    }

    /// An ask is out: nothing is taken.
    pub(super) fn is_asking(&self) -> bool {
        self.asking
    }

    /// The answer to COMPRESS is in `out`: what comes behind it in either direction is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// From now on so much of what is said is noted [N35].
    pub fn record(&mut self, noting: Noting) {
        self.transcript = Transcript::go_on(self.transcript.take(), noting);
    }

    /// What was said since the last call; `None`: it is not noted.
    pub fn take_said(&mut self) -> Option<Said> {
        let said = self.transcript.as_mut()?.take();
        if said.ended {
            self.transcript = None;
        }
        Some(said)
    }

    pub(super) fn transcript(&mut self) -> Option<&mut Transcript> {
        self.transcript.as_deref_mut()
    }

    /// The name of the command that runs, for metrics.
    pub fn command_name(&self) -> Option<&'static str> {
        self.task.as_ref().map(|task| task.name)
    }

    /// Before login the time runs from the greeting, whatever the client says meanwhile.
    fn reset_deadline(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::NotAuthenticated) {
            self.deadline = now.checked_add(self.settings.idle_timeout);
        }
    }

    /// The client must log in from now on, and soon.
    fn await_login(&mut self, now: Instant) {
        let time = IMAP_LOGIN_TIME.min(self.settings.idle_timeout);
        self.deadline = now.checked_add(time);
    }

    /// Something has moved for the client. What IDLE says by itself keeps no session alive.
    fn progress(&mut self, now: Instant) {
        let idles = self
            .task
            .as_ref()
            .is_some_and(|task| matches!(task.job, Job::Idle(_) | Job::Report(_)));
        if !idles {
            self.reset_deadline(now);
        }
    }

    fn bytes_max(&self) -> usize {
        match self.phase {
            Phase::NotAuthenticated => IMAP_LOGIN_BYTES_MAX,
            _ => IMAP_COMMAND_BYTES_MAX,
        }
    }

    fn bye(&mut self, text: &str, out: &mut Vec<u8>) -> Step<Ask> {
        out.extend_from_slice(b"* BYE ");
        write::text(text, out);
        out.extend_from_slice(b"\r\n");
        self.close()
    }

    fn end_of_account(&mut self, out: &mut Vec<u8>) -> Step<Ask> {
        // In the middle of a response nothing can be said.
        match &self.task {
            Some(task) if task.job.is_within_response() => self.close(),
            _ => self.bye("The account was removed", out),
        }
    }

    fn close(&mut self) -> Step<Ask> {
        self.phase = Phase::Closed;
        self.task = None;
        Step::Close
    }

    /// Goes on as far as input and output allow.
    fn advance(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        let mut used = 0;
        loop {
            if matches!(self.phase, Phase::Closed) {
                return (input.len(), Step::Close);
            }
            if out.len() >= OUTPUT_BYTES_MAX {
                return (used, Step::Drain);
            }
            if self.task.is_some() {
                self.progress(now);
                self.tell_owed_progress(now, out);
                match self.run_task(out) {
                    Some(Step::NeedInput) => {}
                    Some(step) => return (used, step),
                    None => continue,
                }
            } else if let Some(step) = self.leave(out) {
                return (used, step);
            } else if self.wants_report() {
                self.start_report();
                continue;
            }
            let (taken, step) = self.take_input(&input[used..], now, out);
            used += taken;
            if let Some(step) = step {
                return (used, step);
            }
        }
    }

    /// Something has happened, and the client wants to be told between commands.
    fn wants_report(&self) -> bool {
        self.changed
            && match &self.notify {
                None => self.enabled.metadata,
                Some(notify) => {
                    let selected = matches!(self.phase, Phase::Selected(_));
                    notify.has_account() || (selected && notify.selected.is_some())
                }
            }
    }

    /// Messages that it puts into the open mailbox itself need not be shown to it (RFC 5465 §5.2).
    fn note_own(&mut self, answer: &Answer) {
        let Phase::Selected(selected) = &mut self.phase else {
            return;
        };
        let own = (selected.id_space, selected.validity);
        match answer {
            Answer::Appended(Ok((space, validity, uids))) if (*space, *validity) == own => {
                uids.iter().for_each(|uid| selected.note_new(*uid));
            }
            Answer::Copied(Ok(copied)) if (copied.id_space, copied.validity) == own => {
                let uids = copied.pairs.iter().map(|(_, uid)| *uid);
                uids.for_each(|uid| selected.note_new(uid));
            }
            _ => {}
        }
    }

    fn start_report(&mut self) {
        self.changed = false;
        let report = report::Report::between(self.notify.as_deref());
        self.task = Some(Box::new(Task {
            tag: Box::default(),
            name: "",
            job: Job::Report(report),
        }));
    }

    /// Between commands: is it time to go?
    fn leave(&mut self, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        if self.timed_out {
            return Some(match self.phase {
                Phase::NotAuthenticated => self.bye("No login for too long", out),
                _ => self.bye("Idle for too long", out),
            });
        }
        if self.shutdown {
            return Some(self.bye("Server is shutting down", out));
        }
        None
    }

    /// Lets the running command go on; `NeedInput`: it waits for bytes, `None`: it made progress.
    fn run_task(&mut self, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        let task = self.task.as_mut()?;
        let mut context = Context {
            settings: &self.settings,
            enabled: &mut self.enabled,
            notify: &mut self.notify,
            phase: &mut self.phase,
            changed: &mut self.changed,
        };
        let mut turn = task.job.go(&mut context, out);
        if matches!(turn, Turn::Finish(_)) {
            match &mut task.job {
                Job::Report(_) => {
                    self.task = None;
                    return None;
                }
                Job::Before(..) => return self.begin_waiting(out),
                Job::Sync(_, finish) => {
                    turn = Turn::Finish(std::mem::take(finish).without_sync());
                }
                _ => {}
            }
        } else if let Job::Sync(_, finish) = &mut task.job
            && matches!(turn, Turn::Bye(_))
            && task.name == "DELETE"
        {
            // The client knows that the mailbox it had open is gone.
            out.extend_from_slice(b"* OK [CLOSED] The mailbox was deleted\r\n");
            *context.phase = Phase::Authenticated;
            turn = Turn::Finish(std::mem::take(finish).without_sync());
        }
        match turn {
            Turn::Ask(ask) => {
                self.asking = true;
                Some(Step::Ask(ask))
            }
            Turn::Drain => Some(Step::Drain),
            Turn::Input => {
                if (self.timed_out || self.shutdown) && !self.asking {
                    return self.leave(out);
                }
                Some(Step::NeedInput)
            }
            Turn::Bye(text) if text.is_empty() => Some(self.close()),
            Turn::Bye(text) => Some(self.bye(&text, out)),
            Turn::Finish(finish) => self.finish(finish, out),
        }
    }

    /// Looks for news if that is due, then answers the command.
    fn finish(&mut self, mut finish: Finish, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        let selected = matches!(self.phase, Phase::Selected(_));
        let task = self.task.as_mut()?;
        if finish.sync != SyncMode::None && selected {
            let whole = finish.sync == SyncMode::Whole;
            let notify = self.notify.as_deref();
            // The open mailbox may be the one that was deleted.
            let removes = finish.expunges() || task.name == "DELETE";
            if let Some(report) = report::Report::after(whole, removes, notify) {
                task.job = Job::Sync(report, finish);
                return None;
            }
        }
        if let Phase::Selected(selected) = &self.phase
            && self.enabled.qresync
        {
            finish.set_modseq(selected.modseq);
        }
        let task = self.task.as_mut()?;
        if !finish.write(&task.tag, task.name, out) {
            task.job = Job::Answer(finish);
            return Some(Step::Drain);
        }
        self.task = None;
        self.told_at = None;
        if finish.is_bad() {
            return self.count_bad(out);
        }
        if !finish.is_failure() {
            self.bad_commands = 0;
        }
        if finish.login == Some(true) {
            // Never forgotten: who has one password must not try for ever to guess another's, with
            // UNAUTHENTICATE in between.
            self.login_failures += 1;
            if self.login_failures >= crate::limits::IMAP_LOGIN_FAILURES_MAX {
                return Some(self.bye("Too many failed logins", out));
            }
        }
        None
    }

    fn count_bad(&mut self, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        self.bad_commands += 1;
        if self.bad_commands < IMAP_BAD_COMMANDS_MAX {
            return None;
        }
        Some(self.bye("Too many commands in a row that make no sense", out))
    }
}

impl crate::proto::Session for Session {
    type Ask = Ask;
    type Answer = Answer;

    fn greet(&mut self, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.await_login(now);
        out.extend_from_slice(b"* OK [CAPABILITY ");
        login::write_capabilities(&self.settings, out);
        out.extend_from_slice(b"] ");
        write::text(&self.settings.hostname, out);
        out.extend_from_slice(b" IMAP ready\r\n");
        Step::NeedInput
    }

    fn feed(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        if self.asking {
            return (0, Step::NeedInput);
        }
        self.advance(input, now, out)
    }

    fn answer(&mut self, answer: Answer, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.asking = false;
        self.progress(now);
        if self.notify.is_some() {
            self.note_own(&answer);
        }
        if self.removed || matches!(answer, Answer::AccountGone) {
            return self.end_of_account(out);
        }
        let Some(task) = &mut self.task else {
            // Nothing was asked: the caller erred, and this session cannot go on.
            return self.close();
        };
        let mut context = Context {
            settings: &self.settings,
            enabled: &mut self.enabled,
            notify: &mut self.notify,
            phase: &mut self.phase,
            changed: &mut self.changed,
        };
        if !task.job.answer(answer, &mut context, out) {
            return self.close();
        }
        if self.timed_out {
            return self.close();
        }
        self.advance(&[], now, out).1
    }

    fn notify(&mut self, event: Event, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        match event {
            Event::Shutdown => self.shutdown = true,
            Event::Timeout => self.timed_out = true,
            Event::Removed => self.removed = true,
            Event::Changed => {
                self.changed = true;
                self.keywords_may_be_old = true;
            }
        }
        if self.asking {
            return Step::NeedInput;
        }
        if matches!(self.phase, Phase::Closed) {
            return Step::Close;
        }
        match event {
            Event::Changed => match &self.task {
                Some(task) if matches!(task.job, Job::Idle(_)) => self.advance(&[], now, out).1,
                None if self.wants_report() => self.advance(&[], now, out).1,
                _ => Step::NeedInput,
            },
            Event::Removed => self.end_of_account(out),
            Event::Timeout => {
                // A client that stopped taking its response gets no more of it.
                self.leave(out).unwrap_or(Step::NeedInput)
            }
            Event::Shutdown => match &self.task {
                Some(task) if !task.job.waits_for_input() => Step::Drain,
                _ => self.leave(out).unwrap_or(Step::NeedInput),
            },
        }
    }

    fn working(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.tell_progress(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        // While we work for the client its time does not run.
        if self.asking { None } else { self.deadline }
    }
}
