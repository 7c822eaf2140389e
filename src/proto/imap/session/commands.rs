//! What the client says: which command it is, whether it is the time for it, and what it starts.

use std::time::Instant;

use super::super::command::Command;
use super::super::frame::{Frame, Literal};
use super::super::parse::{
    AppendPrefix, BadCommand, Replaced, Segment, is_setmetadata, parse_append_prefix,
    parse_append_whole, parse_command, parse_tag,
};
use super::super::{Ask, names, write};
use super::append::Announced;
use super::finish::{Finish, SyncMode};
use super::keywords::Keywords;
use super::{
    Context, Enabled, Job, Phase, Session, Task, acl, append, fetch, list, login, manage, metadata,
    notify, quota, report, search, select, store, sync,
};
use crate::limits::ANNOTATION_BYTES_MAX;
use crate::proto::Step;

/// RFC 9586 §3.
const UID_REQUIRED: &str = "[UIDREQUIRED] UIDONLY is enabled: message numbers mean nothing";

/// The tag of a command that does not begin, and its answer.
type Refused = (Box<[u8]>, Finish);

impl Session {
    /// Takes bytes of the client: a command, a literal's announcement, or a part of a message.
    pub(super) fn take_input(
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
                if let Some(transcript) = &mut self.transcript {
                    transcript.hear_data(&input[..taken], out);
                }
                self.reset_deadline(now);
                return (taken, None);
            }
            return (0, Some(Step::NeedInput));
        }
        let bytes_max = self.bytes_max();
        let logged_in = !matches!(self.phase, Phase::NotAuthenticated);
        let (taken, frame) = self.frames.take(input, bytes_max);
        if !matches!(frame, Frame::Incomplete) {
            self.reset_deadline(now);
        }
        if let (Some(transcript), Frame::Command(line)) = (&mut self.transcript, &frame) {
            transcript.hear_line(line, out);
        }
        let step = match frame {
            Frame::Incomplete => return (taken, Some(Step::NeedInput)),
            Frame::Endless => Some(self.bye("Line too long, and no end of it", out)),
            Frame::TooLong(start) => {
                let tag = parse_tag(&start).unwrap_or_default().to_vec();
                if let Some(transcript) = &mut self.transcript {
                    transcript.hear_line(&start, out);
                }
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
                        notify: &mut self.notify,
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
        if logged_in && matches!(self.phase, Phase::NotAuthenticated) {
            self.await_login(now);
        }
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

    /// An APPEND or REPLACE that does not begin.
    fn refuse_append(
        &mut self,
        tag: &[u8],
        mut finish: Finish,
        out: &mut Vec<u8>,
    ) -> Option<Step<Ask>> {
        finish.write(tag, "APPEND", out);
        if finish.is_bad() {
            return self.count_bad(out);
        }
        None
    }

    fn take_command(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Step<Ask>> {
        if text.is_empty() {
            // Some clients send an empty line behind a literal. Many of them are no IMAP client.
            return self.count_bad(out);
        }
        match self.take_whole_append(text) {
            Some(Ok(())) => return None,
            Some(Err((tag, finish))) => return self.refuse_append(&tag, finish, out),
            None => {}
        }
        let tagged = match parse_command(text) {
            Ok(tagged) => tagged,
            Err(BadCommand { tag, error }) => return self.refuse(&tag, &error.0, out),
        };
        if let Err(text) = self.allows(&tagged.command) {
            return self.refuse(&tagged.tag, text, out);
        }
        if tagged.command.names_keywords() && std::mem::take(&mut self.keywords_may_be_old) {
            let name = tagged.command.name();
            let job = Job::Before(Keywords::default(), Box::new(tagged.command));
            self.start(tagged.tag, name, job);
            return None;
        }
        self.begin_now(tagged.tag, tagged.command, out)
    }

    /// What is new has been told: the command that waited for it begins.
    pub(super) fn begin_waiting(&mut self, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        let task = self.task.take()?;
        match task.job {
            Job::Before(_, command) => self.begin_now(task.tag, *command, out),
            _ => None,
        }
    }

    fn begin_now(
        &mut self,
        tag: Box<[u8]>,
        command: Command,
        out: &mut Vec<u8>,
    ) -> Option<Step<Ask>> {
        let name = command.name();
        let (knew_modseqs, opens) = (
            self.enabled.condstore,
            matches!(command, Command::Select(_)),
        );
        let begun = self.begin(&tag, command, out);
        if self.enabled.condstore
            && !(knew_modseqs || opens)
            && let Phase::Selected(selected) = &self.phase
        {
            // RFC 7162 §3.1: from now on the client keeps account, and this is where it begins.
            sync::write_known(selected, out);
        }
        match begun {
            Ok(job) => {
                self.start(tag, name, job);
                None
            }
            Err(mut finish) if matches!(self.phase, Phase::Closed) => {
                finish.write(&tag, name, out);
                Some(Step::Close)
            }
            Err(finish) => {
                // Answered at once, unless there may be news to tell first.
                let nothing = Job::Sync(report::Report::nothing(), Finish::default());
                let ends_plain = name == "COMPRESS" && !finish.is_failure();
                self.start(tag, name, nothing);
                let step = self.finish(finish, out);
                // Not one byte behind COMPRESS is plain.
                step.or(ends_plain.then_some(Step::Drain))
            }
        }
    }

    fn start(&mut self, tag: Box<[u8]>, name: &'static str, job: Job) {
        self.task = Some(Box::new(Task { tag, name, job }));
    }

    /// Where APPEND and REPLACE put a message, and which one goes.
    fn append_to(
        &mut self,
        name: &[u8],
        replaces: Option<Replaced>,
    ) -> Result<(String, Option<u32>), Finish> {
        let name = names::decode(name, self.enabled.utf8)
            .map_err(|error| Finish::no("CANNOT", error.to_string()))?;
        let Some(replaced) = replaces else {
            return Ok((name, None));
        };
        if self.enabled.uidonly && !replaced.by_uid {
            return Err(Finish::bad(UID_REQUIRED));
        }
        let selected = match &self.phase {
            Phase::Selected(selected) if !selected.read_only => selected,
            Phase::Selected(_) => {
                let text = "the mailbox is open for reading only (EXAMINE)";
                return Err(Finish::no("", text));
            }
            _ => return Err(Finish::bad("select a mailbox first")),
        };
        let view = &selected.view;
        let uid = match replaced.number {
            None => Some(view.last_uid()).filter(|uid| *uid > 0),
            Some(uid) if replaced.by_uid => view.number(uid).map(|_| uid),
            Some(number) => view.uid(number),
        };
        // RFC 8508 §3.1: a UID that is not there is no mistake of the client.
        let missing = || match replaced.by_uid {
            true => Finish::no("", "no such message"),
            false => Finish::bad("no such message"),
        };
        Ok((name, Some(uid.ok_or_else(missing)?)))
    }

    fn start_append(
        &mut self,
        tag: Box<[u8]>,
        name: String,
        segment: Segment,
        literal: Option<Literal>,
        replaces: Option<u32>,
    ) {
        let bytes_max = self.settings.message_bytes_max;
        let append = append::Append::new(name, segment, literal, bytes_max, replaces);
        let command = if replaces.is_some() {
            "REPLACE"
        } else {
            "APPEND"
        };
        self.start(tag, command, Job::Append(append));
    }

    /// APPEND and REPLACE with CATENATE and without a literal; `None`: it is another command.
    fn take_whole_append(&mut self, text: &[u8]) -> Option<Result<(), Refused>> {
        match parse_append_whole(text) {
            AppendPrefix::Other => None,
            AppendPrefix::Bad { tag, error } => Some(Err((tag, Finish::bad(error.0)))),
            AppendPrefix::Message { tag, .. } if matches!(self.phase, Phase::NotAuthenticated) => {
                Some(Err((tag, Finish::bad("log in first"))))
            }
            AppendPrefix::Message {
                tag,
                name,
                segment,
                replaces,
            } => Some(match self.append_to(&name, replaces) {
                Ok((name, replaces)) => {
                    self.start_append(tag, name, segment, None, replaces);
                    Ok(())
                }
                Err(finish) => Err((tag, finish)),
            }),
        }
    }

    /// A literal is announced: it becomes part of the command, or is a message, or is refused before
    /// the client sends it.
    fn take_literal(&mut self, literal: Literal, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        if let Some(task) = &mut self.task {
            if !matches!(task.job, Job::Append(_)) {
                // A response to a challenge, or the end of IDLE, has none.
                self.frames.refuse_literal();
                return Some(self.bye("A literal makes no sense here", out));
            };
            let bytes_max = self.bytes_max();
            let Some(Task {
                job: Job::Append(append),
                ..
            }) = self.task.as_deref_mut()
            else {
                return None;
            };
            let announced = append.take_literal(self.frames.text(), literal);
            if announced != Announced::Text {
                self.hear_text(out);
            }
            let Some(Task {
                job: Job::Append(append),
                ..
            }) = self.task.as_deref_mut()
            else {
                return None;
            };
            match announced {
                Announced::Octets => self.frames.take_message(),
                Announced::Text if self.frames.keep_literal(bytes_max) => {
                    if literal.synchronising {
                        out.extend_from_slice(b"+ Ready for the literal\r\n");
                    }
                }
                announced => {
                    if announced == Announced::Text {
                        let text = format!("command too long: at most {bytes_max} bytes");
                        append.refuse(Finish::bad(text));
                    }
                    if !self.frames.refuse_literal() {
                        // Read to its end before it is answered: see `Frame::Refused`.
                        append.await_end();
                    }
                }
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
                if literal.bytes > ANNOTATION_BYTES_MAX as u64
                    && is_setmetadata(self.frames.text())
                    && !matches!(self.phase, Phase::NotAuthenticated)
                {
                    self.frames.refuse_literal();
                    metadata::too_long().write(&tag, "SETMETADATA", out);
                    return None;
                }
                format!("command too long: at most {bytes_max} bytes").into()
            }
            AppendPrefix::Bad { error, .. } => error.0,
            AppendPrefix::Message { .. } if matches!(self.phase, Phase::NotAuthenticated) => {
                "log in first".into()
            }
            AppendPrefix::Message {
                tag,
                name,
                segment,
                replaces,
            } => match self.append_to(&name, replaces) {
                Ok((name, replaces)) => {
                    self.hear_text(out);
                    self.frames.take_message();
                    self.start_append(tag, name, segment, Some(literal), replaces);
                    return None;
                }
                Err(finish) => {
                    self.frames.refuse_literal();
                    return self.refuse_append(&tag, finish, out);
                }
            },
        };
        self.hear_text(out);
        self.frames.refuse_literal();
        self.refuse(&tag, &error, out)
    }

    /// Notes a command up to its literal, whose bytes are no part of it.
    fn hear_text(&mut self, out: &[u8]) {
        if let Some(transcript) = &mut self.transcript {
            transcript.hear_line(self.frames.text().trim_ascii_end(), out);
        }
    }

    /// Is it the time for this command (RFC 9051 §6)?
    fn allows(&self, command: &Command) -> Result<(), &'static str> {
        let needs_login = "log in first";
        match command {
            Command::Capability
            | Command::Noop
            | Command::Logout
            | Command::Id(_)
            | Command::Compress(_) => Ok(()),
            Command::StartTls => Err("no TLS here"),
            Command::Login { .. } | Command::Authenticate { .. } => match self.phase {
                Phase::NotAuthenticated => Ok(()),
                _ => Err("logged in already"),
            },
            _ if matches!(self.phase, Phase::NotAuthenticated) => Err(needs_login),
            command if self.enabled.uidonly && command.needs_numbers() => Err(UID_REQUIRED),
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

    /// RFC 4978 §3.
    fn compress(&mut self, mechanism: &str) -> Finish {
        if mechanism != "DEFLATE" {
            return Finish::no("CANNOT", "no such compression here: only DEFLATE");
        }
        if std::mem::replace(&mut self.compressed, true) {
            return Finish::no("COMPRESSIONACTIVE", "DEFLATE is active already");
        }
        Finish::ok()
    }

    /// Starts a command: what runs of it, or how it ended already.
    fn begin(&mut self, tag: &[u8], command: Command, out: &mut Vec<u8>) -> Result<Job, Finish> {
        let mut context = Context {
            settings: &self.settings,
            enabled: &mut self.enabled,
            notify: &mut self.notify,
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
                if let Some(transcript) = &mut self.transcript {
                    transcript.end(out);
                }
                self.enabled = Enabled::default();
                self.notify = None;
                self.phase = Phase::NotAuthenticated;
                Ok(Job::Manage(manage::Manage::leave()))
            }
            Command::ProxyAuth(user) => {
                login::Login::act_as(&user, self.peer, &context).map(Job::Login)
            }
            Command::Compress(mechanism) => Err(self.compress(&mechanism)),
            Command::Enable(names) => {
                let knew = context.enabled.metadata;
                login::enable(&names, &mut context, out);
                if context.enabled.metadata && !knew {
                    return Ok(Job::Manage(manage::Manage::watch_account()));
                }
                Err(Finish::ok())
            }
            Command::Namespace => {
                // RFC 2342: one's own mailboxes, and those of others below a name; those that all
                // may see are among the latter, too.
                let others = super::super::OTHER_USERS;
                let text = format!("* NAMESPACE ((\"\" \"/\")) ((\"{others}/\" \"/\")) NIL\r\n");
                out.extend_from_slice(text.as_bytes());
                Err(Finish::ok().with_sync(SyncMode::Whole))
            }
            Command::Access(access) => acl::Acl::new(access, &context).map(Job::Acl),
            Command::GetQuota(root) => quota::Quota::get(&root, &context).map(Job::Quota),
            Command::GetQuotaRoot(name) => quota::Quota::get_root(&name, &context).map(Job::Quota),
            Command::SetQuota { root, limits } => {
                quota::Quota::set(&root, &limits, &context).map(Job::Quota)
            }
            Command::Idle => Ok(Job::Idle(sync::Idle::new(&context, out))),
            Command::Notify(notify) => notify::begin(notify, &context).map(Job::Notify),
            Command::Select(select) => select::Select::new(select, &mut context).map(Job::Select),
            Command::List(list) => list::List::new(list, context.enabled.utf8).map(Job::List),
            Command::Search(search) => {
                search::Search::new(search, tag, &mut context).map(Job::Search)
            }
            Command::Fetch(fetch) => fetch::Fetch::new(fetch, &mut context).map(Job::Fetch),
            Command::Store(store) => store::Store::new(store, &mut context).map(Job::Store),
            command @ (Command::GetMetadata(_) | Command::SetMetadata { .. }) => {
                metadata::begin(command, &context).map(Job::Metadata)
            }
            command => manage::begin(command, &mut context).map(Job::Manage),
        }
    }
}
