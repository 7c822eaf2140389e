//! The conversation: states, commands, which ask is out.
//!
//! Guarantees: how input is divided changes no byte of output; one tagged response a command, in
//! order; message numbers are those that the client knows, and EXPUNGE is said only when it may be
//! (RFC 9051 §7.5.1). `out` never grows by more than one message's lines or one piece of a message
//! beyond its bound. Passwords are wiped after use. A session that is idle holds no command.
//! Does not know: accounts, partitions, sockets, the time of day.
//! On failure: NO, BAD or BYE with a response code and a text; a message that cannot be read to its
//! announced end ends the session, for the client could take what follows for the message.

mod append;
mod body;
mod fetch;
mod finish;
mod list;
mod login;
mod manage;
mod search;
mod select;
mod store;
mod sync;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::command::Command;
use super::frame::{Frame, Frames, Literal};
use super::parse::{AppendPrefix, BadCommand, parse_append_prefix, parse_command, parse_tag};
use super::view::View;
use super::{Answer, Ask, Settings, write};
use crate::limits::{
    IMAP_BAD_COMMANDS_MAX, IMAP_COMMAND_BYTES_MAX, IMAP_LOGIN_BYTES_MAX, OUTPUT_BYTES_MAX,
};
use crate::proto::{Event, Step};
use finish::{Finish, SyncMode};

/// One IMAP conversation. Everything in it is owned, so that it can move to another shard.
pub struct Session {
    settings: Arc<Settings>,
    peer: SocketAddr,
    frames: Frames,
    phase: Phase,
    enabled: Enabled,
    task: Option<Box<Task>>,
    /// An ask is out.
    asking: bool,
    /// Something has happened in the mailbox that the running IDLE has not looked at.
    changed: bool,
    /// From the last command, answer or output that moved.
    deadline: Option<Instant>,
    /// The server drains: close as soon as the running command is done.
    shutdown: bool,
    /// Time is up while an ask is out: close when the answer comes.
    timed_out: bool,
    bad_commands: u8,
    login_failures: u8,
}

/// RFC 9051 §3.
enum Phase {
    NotAuthenticated,
    Authenticated,
    Selected(Box<Selected>),
    /// LOGOUT, or nothing more is read or said.
    Closed,
}

/// What a client has enabled (RFC 5161).
#[derive(Debug, Clone, Copy, Default)]
struct Enabled {
    /// CONDSTORE (RFC 7162 §3.1): MODSEQ comes with FETCH responses.
    condstore: bool,
    /// QRESYNC (RFC 7162 §3.2): VANISHED in place of EXPUNGE.
    qresync: bool,
    /// UTF8=ACCEPT (RFC 6855), or IMAP4rev2: names and texts are UTF-8.
    utf8: bool,
    /// IMAP4rev2 (RFC 9051).
    rev2: bool,
}

/// The open mailbox as the client knows it.
struct Selected {
    read_only: bool,
    /// Message numbers.
    view: Arc<View>,
    /// What the mailbox holds, where the client could not yet be told that messages have gone.
    newest: Option<Arc<View>>,
    keywords: Arc<[String]>,
    /// Changes up to here are known.
    modseq: u64,
    /// Changes that this session made and has told its client of.
    own: Vec<u64>,
    /// The result of the last SEARCH RETURN (SAVE): UIDs (RFC 5182).
    saved: Vec<(u32, u32)>,
}

/// A command that runs.
struct Task {
    tag: Box<[u8]>,
    name: &'static str,
    job: Job,
}

/// What of it is left.
enum Job {
    Login(login::Login),
    Manage(manage::Manage),
    List(list::List),
    Select(select::Select),
    Fetch(fetch::Fetch),
    Store(store::Store),
    Search(search::Search),
    Append(append::Append),
    Idle(sync::Idle),
    /// The command is carried out; before it is answered the client learns what is new.
    Sync(sync::Sync, Finish),
}

/// What a job needs of its session.
struct Context<'a> {
    settings: &'a Settings,
    enabled: &'a mut Enabled,
    phase: &'a mut Phase,
    changed: &'a mut bool,
}

impl Context<'_> {
    fn selected(&mut self) -> Option<&mut Selected> {
        match self.phase {
            Phase::Selected(selected) => Some(selected),
            _ => None,
        }
    }
}

/// What a job wants next.
enum Turn {
    Ask(Ask),
    /// `out` is at its bound.
    Drain,
    /// More bytes of the client.
    Input,
    /// It is done.
    Finish(Finish),
    /// The session cannot go on: this is its last word, if there is one to say.
    Bye(String),
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
            task: None,
            asking: false,
            changed: false,
            deadline: None,
            shutdown: false,
            timed_out: false,
            bad_commands: 0,
            login_failures: 0,
        }
    }

    /// Bytes of memory that the session holds beside itself.
    pub fn held_bytes(&self) -> usize {
        let task = self.task.as_ref().map_or(0, |task| {
            size_of::<Task>()
                + match &task.job {
                    Job::Append(append) => append.held_bytes(),
                    Job::Fetch(fetch) => fetch.held_bytes(),
                    _ => 0,
                }
        });
        let selected = match &self.phase {
            // The view is shared with others, or as small as its share.
            Phase::Selected(selected) => size_of::<Selected>() + selected.saved.capacity() * 8,
            _ => 0,
        };
        self.frames.held_bytes() + task + selected
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

    /// The name of the command that runs, for metrics.
    pub fn command_name(&self) -> Option<&'static str> {
        self.task.as_ref().map(|task| task.name)
    }

    fn reset_deadline(&mut self, now: Instant) {
        self.deadline = now.checked_add(self.settings.idle_timeout);
    }

    /// Something has moved for the client. What IDLE says by itself keeps no session alive.
    fn progress(&mut self, now: Instant) {
        let idles = self
            .task
            .as_ref()
            .is_some_and(|task| matches!(task.job, Job::Idle(_)));
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
                match self.run_task(out) {
                    Some(Step::NeedInput) => {}
                    Some(step) => return (used, step),
                    None => continue,
                }
            } else if let Some(step) = self.leave(out) {
                return (used, step);
            }
            let (taken, step) = self.take_input(&input[used..], now, out);
            used += taken;
            if let Some(step) = step {
                return (used, step);
            }
        }
    }

    /// Between commands: is it time to go?
    fn leave(&mut self, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        if self.timed_out {
            return Some(self.bye("Idle for too long", out));
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
            phase: &mut self.phase,
            changed: &mut self.changed,
        };
        let turn = match &mut task.job {
            Job::Login(job) => job.go(),
            Job::Manage(job) => job.go(),
            Job::List(job) => job.go(&mut context, out),
            Job::Select(job) => job.go(&mut context, out),
            Job::Fetch(job) => job.go(&mut context, out),
            Job::Store(job) => job.go(&mut context, out),
            Job::Search(job) => job.go(&mut context, out),
            Job::Append(job) => job.go(out),
            Job::Idle(job) => job.go(&mut context, out),
            Job::Sync(job, finish) => match job.go(&mut context, out) {
                Turn::Finish(_) => Turn::Finish(std::mem::take(finish).without_sync()),
                turn => turn,
            },
        };
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
            let sync = sync::Sync::new(finish.sync == SyncMode::Whole);
            task.job = Job::Sync(sync, finish);
            return None;
        }
        if let Phase::Selected(selected) = &self.phase
            && self.enabled.qresync
        {
            finish.set_modseq(selected.modseq);
        }
        let task = self.task.take()?;
        finish.write(&task.tag, task.name, out);
        if finish.is_bad() {
            return self.count_bad(out);
        }
        if !finish.is_failure() {
            self.bad_commands = 0;
        }
        if let Some(failed) = finish.login {
            self.login_failures = if failed { self.login_failures + 1 } else { 0 };
            if self.login_failures >= crate::limits::IMAP_LOGIN_FAILURES_MAX {
                return Some(self.bye("Too many wrong passwords", out));
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

    /// Takes bytes of the client: a command, a literal's announcement, or a part of a message.
    fn take_input(
        &mut self,
        input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> (usize, Option<Step<Ask>>) {
        if let Some(task) = &mut self.task
            && let Job::Append(append) = &mut task.job
            && let Some(taken) = append.take_octets(input)
        {
            if taken > 0 {
                self.reset_deadline(now);
                return (taken, None);
            }
            return (0, Some(Step::NeedInput));
        }
        let bytes_max = self.bytes_max();
        let (taken, frame) = self.frames.take(input, bytes_max);
        if !matches!(frame, Frame::Incomplete) {
            self.reset_deadline(now);
        }
        let step = match frame {
            Frame::Incomplete => return (taken, Some(Step::NeedInput)),
            Frame::Endless => Some(self.bye("Line too long, and no end of it", out)),
            Frame::TooLong(start) => {
                let tag = parse_tag(&start).unwrap_or_default().to_vec();
                self.refuse(
                    &tag,
                    &format!("command too long: at most {bytes_max} bytes"),
                    out,
                )
            }
            Frame::Refused => {
                if let Some(task) = &mut self.task
                    && let Job::Append(append) = &mut task.job
                {
                    append.end();
                }
                None
            }
            Frame::Literal(literal) => self.take_literal(literal, out),
            Frame::Command(text) => match &mut self.task {
                Some(task) => {
                    let mut context = Context {
                        settings: &self.settings,
                        enabled: &mut self.enabled,
                        phase: &mut self.phase,
                        changed: &mut self.changed,
                    };
                    match &mut task.job {
                        Job::Login(job) => job.respond(&text, self.peer, &mut context),
                        Job::Idle(job) => job.end(&text),
                        Job::Append(job) => job.take_line(&text),
                        // Others take no input, so that none is read for them.
                        _ => {}
                    }
                    None
                }
                None => self.take_command(&text, out),
            },
        };
        (taken, step)
    }

    /// A command line that cannot be carried out.
    fn refuse(&mut self, tag: &[u8], text: &str, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        if self.task.take().is_some() {
            // What was answered to `+` is part of a command: its tag is known, but the state of the
            // client is not.
            return Some(self.bye(text, out));
        }
        out.extend_from_slice(if tag.is_empty() { b"*" } else { tag });
        out.extend_from_slice(b" BAD ");
        write::text(text, out);
        out.extend_from_slice(b"\r\n");
        self.count_bad(out)
    }

    fn take_command(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Step<Ask>> {
        if text.is_empty() {
            // Some clients send an empty line behind a literal. Many of them are no IMAP client.
            return self.count_bad(out);
        }
        let tagged = match parse_command(text) {
            Ok(tagged) => tagged,
            Err(BadCommand { tag, error }) => return self.refuse(&tag, &error.0, out),
        };
        if let Err(text) = self.allows(&tagged.command) {
            return self.refuse(&tagged.tag, text, out);
        }
        let name = tagged.command.name();
        match self.begin(&tagged.tag, tagged.command, out) {
            Ok(job) => {
                self.start(tagged.tag, name, job);
                None
            }
            Err(finish) if matches!(self.phase, Phase::Closed) => {
                finish.write(&tagged.tag, name, out);
                Some(Step::Close)
            }
            Err(finish) => {
                // Answered at once, unless there may be news to tell first.
                let nothing = Job::Sync(sync::Sync::new(false), Finish::default());
                self.start(tagged.tag, name, nothing);
                self.finish(finish, out)
            }
        }
    }

    fn start(&mut self, tag: Box<[u8]>, name: &'static str, job: Job) {
        self.task = Some(Box::new(Task { tag, name, job }));
    }

    /// A literal is announced: it becomes part of the command, or is a message, or is refused before
    /// the client sends it.
    fn take_literal(&mut self, literal: Literal, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        if let Some(task) = &mut self.task {
            let Job::Append(append) = &mut task.job else {
                // A response to a challenge, or the end of IDLE, has none.
                self.frames.refuse_literal();
                return Some(self.bye("A literal makes no sense here", out));
            };
            if append.take_literal(self.frames.text(), literal) {
                self.frames.take_message();
            } else if !self.frames.refuse_literal() {
                // Read to its end before it is answered: see `Frame::Refused`.
                append.await_end();
            }
            return None;
        }
        let bytes_max = self.bytes_max();
        let tag = parse_tag(self.frames.text()).unwrap_or_default().to_vec();
        let error = match parse_append_prefix(self.frames.text()) {
            AppendPrefix::Other if tag.is_empty() => "a command begins with a tag".into(),
            AppendPrefix::Other => {
                if self.frames.keep_literal(bytes_max) {
                    if literal.synchronising {
                        out.extend_from_slice(b"+ Ready for the literal\r\n");
                    }
                    return None;
                }
                format!("command too long: at most {bytes_max} bytes").into()
            }
            AppendPrefix::Bad { error, .. } => error.0,
            AppendPrefix::Message { .. } if matches!(self.phase, Phase::NotAuthenticated) => {
                "log in first".into()
            }
            AppendPrefix::Message { tag, name, append } => {
                let bytes_max = self.settings.message_bytes_max;
                match super::names::decode(&name, self.enabled.utf8) {
                    Ok(name) => {
                        self.frames.take_message();
                        let append = append::Append::new(name, append, literal, bytes_max);
                        self.start(tag, "APPEND", Job::Append(append));
                        return None;
                    }
                    Err(error) => error.to_string().into(),
                }
            }
        };
        self.frames.refuse_literal();
        self.refuse(&tag, &error, out)
    }

    /// Is it the time for this command (RFC 9051 §6)?
    fn allows(&self, command: &Command) -> Result<(), &'static str> {
        let needs_login = "log in first";
        match command {
            Command::Capability | Command::Noop | Command::Logout | Command::Id(_) => Ok(()),
            Command::StartTls => Err("no TLS here"),
            Command::Login { .. } | Command::Authenticate { .. } => match self.phase {
                Phase::NotAuthenticated => Ok(()),
                _ => Err("logged in already"),
            },
            _ if matches!(self.phase, Phase::NotAuthenticated) => Err(needs_login),
            Command::Check
            | Command::Close
            | Command::Unselect
            | Command::Expunge(_)
            | Command::Search(_)
            | Command::Fetch(_)
            | Command::Store(_)
            | Command::Copy { .. } => match self.phase {
                Phase::Selected(_) => Ok(()),
                _ => Err("select a mailbox first"),
            },
            _ => Ok(()),
        }
    }

    /// Starts a command: what runs of it, or how it ended already.
    fn begin(&mut self, tag: &[u8], command: Command, out: &mut Vec<u8>) -> Result<Job, Finish> {
        let mut context = Context {
            settings: &self.settings,
            enabled: &mut self.enabled,
            phase: &mut self.phase,
            changed: &mut self.changed,
        };
        match command {
            Command::Capability => {
                out.extend_from_slice(b"* CAPABILITY ");
                login::write_capabilities(context.settings, out);
                out.extend_from_slice(b"\r\n");
                Err(Finish::ok().with_sync(SyncMode::Whole))
            }
            Command::Noop | Command::Check => Err(Finish::ok().with_sync(SyncMode::Whole)),
            Command::Id(pairs) => {
                login::identify(&pairs, self.peer, out);
                Err(Finish::ok().with_sync(SyncMode::Whole))
            }
            Command::Logout => {
                out.extend_from_slice(b"* BYE Logging out\r\n");
                self.phase = Phase::Closed;
                Err(Finish::ok())
            }
            Command::StartTls => Err(Finish::bad("no TLS here")),
            Command::Login { user, password } => {
                login::Login::with_password(&user, password, self.peer, context.settings)
                    .map(Job::Login)
            }
            Command::Authenticate { mechanism, initial } => {
                login::Login::begin(&mechanism, initial, self.peer, &mut context, out)
                    .map(Job::Login)
            }
            Command::Unauthenticate => {
                // RFC 8437 §3: what was enabled and selected is forgotten.
                let selected = matches!(self.phase, Phase::Selected(_));
                self.enabled = Enabled::default();
                self.phase = Phase::NotAuthenticated;
                if selected {
                    Ok(Job::Manage(manage::Manage::close_mailbox()))
                } else {
                    Err(Finish::ok())
                }
            }
            Command::Enable(names) => {
                login::enable(&names, &mut context, out);
                Err(Finish::ok())
            }
            Command::Namespace => {
                // RFC 2342: one's own mailboxes; no others' and no shared ones yet.
                out.extend_from_slice(b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
                Err(Finish::ok().with_sync(SyncMode::Whole))
            }
            Command::Idle => Ok(Job::Idle(sync::Idle::new(out))),
            Command::Select(select) => select::Select::new(select, &mut context).map(Job::Select),
            Command::List(list) => list::List::new(list, context.enabled.utf8).map(Job::List),
            Command::Search(search) => {
                search::Search::new(search, tag, &mut context).map(Job::Search)
            }
            Command::Fetch(fetch) => fetch::Fetch::new(fetch, &mut context).map(Job::Fetch),
            Command::Store(store) => store::Store::new(store, &mut context).map(Job::Store),
            command => manage::begin(command, &mut context).map(Job::Manage),
        }
    }
}

impl crate::proto::Session for Session {
    type Ask = Ask;
    type Answer = Answer;

    fn greet(&mut self, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.reset_deadline(now);
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
        let Some(task) = &mut self.task else {
            // Nothing was asked: the caller erred, and this session cannot go on.
            return self.close();
        };
        let mut context = Context {
            settings: &self.settings,
            enabled: &mut self.enabled,
            phase: &mut self.phase,
            changed: &mut self.changed,
        };
        match &mut task.job {
            Job::Login(job) => job.answer(answer, &mut context),
            Job::Manage(job) => job.answer(answer, &mut context, out),
            Job::List(job) => job.answer(answer),
            Job::Select(job) => job.answer(answer, &mut context, out),
            Job::Fetch(job) => job.answer(answer, &mut context, out),
            Job::Store(job) => job.answer(answer, &mut context, out),
            Job::Search(job) => job.answer(answer),
            Job::Append(job) => job.answer(answer),
            Job::Idle(job) => job.answer(answer, &mut context, out),
            Job::Sync(job, _) => job.answer(answer, &mut context, out),
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
            Event::Changed => self.changed = true,
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
                _ => Step::NeedInput,
            },
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

    fn deadline(&self) -> Option<Instant> {
        // While we work for the client its time does not run.
        if self.asking { None } else { self.deadline }
    }
}

impl Job {
    /// Nothing happens before the client says something.
    fn waits_for_input(&self) -> bool {
        match self {
            Job::Idle(idle) => idle.is_quiet(),
            Job::Append(_) | Job::Login(_) => true,
            _ => false,
        }
    }
}
