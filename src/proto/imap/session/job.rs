//! The command that runs: what is left of it, what it needs of its session, what it wants next.
//!
//! Does not know: what comes before a command, and behind it.

use super::super::command::Command;
use super::super::{Answer, Ask, Settings};
use super::finish::Finish;
use super::state::{Enabled, Phase, Selected};
use super::{
    acl, append, fetch, keywords, list, login, manage, metadata, notify, quota, report, search,
    select, store, sync,
};

/// A command that runs.
pub(super) struct Task {
    pub(super) tag: Box<[u8]>,
    pub(super) name: &'static str,
    pub(super) job: Job,
}

/// What of it is left.
pub(super) enum Job {
    Login(login::Login),
    Manage(manage::Manage),
    List(list::List),
    Select(select::Select),
    Fetch(fetch::Fetch),
    Store(store::Store),
    Search(search::Search),
    Append(append::Append),
    Quota(quota::Quota),
    Acl(acl::Acl),
    Metadata(metadata::Metadata),
    Notify(notify::Job),
    Idle(sync::Idle),
    /// No command: the client wants to be told what has happened.
    Report(report::Report),
    /// The command is carried out; before it is answered the client learns what is new.
    Sync(report::Report, Finish),
    /// Before it is carried out: which keywords others have made meanwhile.
    Before(keywords::Keywords, Box<Command>),
    /// The answer is longer than what may wait to be sent.
    Answer(Finish),
}

/// What a job needs of its session.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) enabled: &'a mut Enabled,
    pub(super) notify: &'a mut Option<Box<notify::Notify>>,
    pub(super) phase: &'a mut Phase,
    pub(super) changed: &'a mut bool,
}

impl Context<'_> {
    pub(super) fn selected(&mut self) -> Option<&mut Selected> {
        match self.phase {
            Phase::Selected(selected) => Some(selected),
            _ => None,
        }
    }
}

/// What a job wants next.
pub(super) enum Turn {
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

impl Job {
    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Job::Append(append) => append.held_bytes(),
            Job::Fetch(fetch) => fetch.held_bytes(),
            Job::Search(search) => search.held_bytes(),
            Job::List(list) => list.held_bytes(),
            Job::Store(store) => store.held_bytes(),
            Job::Manage(manage) => manage.held_bytes(),
            Job::Report(report) => report.held_bytes(),
            Job::Sync(report, finish) => report.held_bytes() + finish.held_bytes(),
            Job::Answer(finish) => finish.held_bytes(),
            _ => 0,
        }
    }

    /// Goes on until it wants something.
    pub(super) fn go(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        match self {
            Job::Login(job) => job.go(),
            Job::Manage(job) => job.go(out),
            Job::List(job) => job.go(context, out),
            Job::Select(job) => job.go(context, out),
            Job::Fetch(job) => job.go(context, out),
            Job::Store(job) => job.go(context, out),
            Job::Search(job) => job.go(context, out),
            Job::Append(job) => job.go(out),
            Job::Quota(job) => job.go(),
            Job::Acl(job) => job.go(),
            Job::Metadata(job) => job.go(context, out),
            Job::Notify(job) => job.go(context, out),
            Job::Idle(job) => job.go(context, out),
            Job::Report(job) | Job::Sync(job, _) => job.go(context, out),
            Job::Before(job, _) => job.go(context),
            Job::Answer(finish) => Turn::Finish(std::mem::take(finish)),
        }
    }

    /// Takes the answer to what it asked; `false`: it has asked nothing.
    pub(super) fn answer(
        &mut self,
        answer: Answer,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        match self {
            Job::Login(job) => job.answer(answer, context),
            Job::Manage(job) => job.answer(answer, context, out),
            Job::List(job) => job.answer(answer, context, out),
            Job::Select(job) => job.answer(answer, context, out),
            Job::Fetch(job) => job.answer(answer, context),
            Job::Store(job) => job.answer(answer, context, out),
            Job::Search(job) => job.answer(answer, context),
            Job::Append(job) => job.answer(answer),
            Job::Quota(job) => job.answer(answer, context, out),
            Job::Acl(job) => job.answer(answer, context, out),
            Job::Metadata(job) => job.answer(answer),
            Job::Notify(job) => job.answer(answer, context, out),
            Job::Idle(job) => job.answer(answer, context, out),
            Job::Report(job) | Job::Sync(job, _) => job.answer(answer, context, out),
            Job::Before(job, _) => job.answer(answer, context, out),
            Job::Answer(_) => return false,
        }
        true
    }

    /// What is said now would be taken for a part of a message.
    pub(super) fn is_within_response(&self) -> bool {
        matches!(self, Job::Fetch(fetch) if fetch.is_within_response())
    }

    /// Nothing happens before the client says something.
    pub(super) fn waits_for_input(&self) -> bool {
        match self {
            Job::Idle(idle) => idle.is_quiet(),
            Job::Append(_) | Job::Login(_) => true,
            _ => false,
        }
    }
}
