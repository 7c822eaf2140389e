//! What a session is in the middle of, for those who want to end it.

use super::Job;

impl Job {
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
