//! INPROGRESS (RFC 9585): how far a command is that takes long.
//!
//! Guarantees: nothing is said within another response, nor more often than the settings allow. What
//! is due within a response of FETCH is said when that is complete.
//! Does not know: when the shard asks; about once a second is enough.

use std::time::Instant;

use super::super::write;
use super::{Job, Session, Task};

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    Unknown,
    /// Messages that are done, and all of them.
    Messages(u64, u64),
}

impl Session {
    /// See [`crate::proto::Session::working`].
    pub(super) fn tell_progress(&mut self, now: Instant, out: &mut Vec<u8>) {
        let Some(task) = self.task.as_ref().filter(|_| self.asking) else {
            return;
        };
        let since = *self.told_at.get_or_insert(now);
        if now.saturating_duration_since(since) < self.settings.progress_interval {
            return;
        }
        match task.progress() {
            Some(progress) => {
                self.told_at = Some(now);
                write_progress(task, progress, out);
            }
            None => {
                if let Some(Job::Fetch(fetch)) = self.task.as_mut().map(|task| &mut task.job) {
                    fetch.owe_progress();
                }
            }
        }
    }

    /// What could not be said within a response is said behind it.
    pub(super) fn tell_owed_progress(&mut self, now: Instant, out: &mut Vec<u8>) {
        if let Some(task) = &mut self.task
            && let Job::Fetch(fetch) = &mut task.job
            && fetch.takes_progress()
        {
            let progress = fetch.progress();
            self.told_at = Some(now);
            write_progress(task, progress, out);
        }
    }
}

impl Task {
    /// `None`: it says so itself, or is in the middle of saying something.
    fn progress(&self) -> Option<Progress> {
        match &self.job {
            Job::Search(search) => Some(search.progress()),
            Job::Fetch(fetch) if !fetch.is_within_response() => Some(fetch.progress()),
            Job::Select(_) | Job::List(_) | Job::Manage(_) | Job::Store(_) | Job::Append(_) => {
                Some(Progress::Unknown)
            }
            _ => None,
        }
    }
}

/// ```text
/// resp-text-code =/ "INPROGRESS" [SP "(" (quoted / nil) SP inprogress-state ")"]
/// inprogress-state = nil SP nil / number SP nil / number SP nz-number
/// ```
fn write_progress(task: &Task, progress: Progress, out: &mut Vec<u8>) {
    // A bracket would end the response code for clients that know no quotes in it.
    let tag = Some(&*task.tag).filter(|tag| !tag.contains(&b']'));
    out.extend_from_slice(b"* OK [INPROGRESS");
    if tag.is_some() || progress != Progress::Unknown {
        out.extend_from_slice(b" (");
        match tag {
            Some(tag) => write::quoted(&String::from_utf8_lossy(tag), out),
            None => out.extend_from_slice(b"NIL"),
        }
        match progress {
            // RFC 9585 §4: the goal is above what is reached.
            Progress::Messages(done, goal @ 1..) => {
                out.push(b' ');
                write::number(done.min(goal - 1), out);
                out.push(b' ');
                write::number(goal, out);
            }
            _ => out.extend_from_slice(b" NIL NIL"),
        }
        out.push(b')');
    }
    out.extend_from_slice(b"] ");
    out.extend_from_slice(task.name.as_bytes());
    out.extend_from_slice(b" goes on\r\n");
}
