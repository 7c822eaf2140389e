//! Where a session is: what its client has enabled, and what it knows of the open mailbox.
//!
//! Does not know: commands.

use std::sync::Arc;

use super::super::view::View;
use super::super::{Rights, sets};
use crate::limits::IMAP_OWN_MAX;

/// RFC 9051 §3.
pub(super) enum Phase {
    NotAuthenticated,
    Authenticated,
    Selected(Box<Selected>),
    /// LOGOUT, or nothing more is read or said.
    Closed,
}

/// What a client has enabled (RFC 5161).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Enabled {
    /// CONDSTORE (RFC 7162 §3.1): MODSEQ comes with FETCH responses.
    pub(super) condstore: bool,
    /// QRESYNC (RFC 7162 §3.2): VANISHED in place of EXPUNGE.
    pub(super) qresync: bool,
    /// UTF8=ACCEPT (RFC 6855), or IMAP4rev2: names and texts are UTF-8.
    pub(super) utf8: bool,
    /// UTF8=ACCEPT by its name: a search names no other charset (RFC 9755 §3).
    pub(super) utf8_accept: bool,
    /// IMAP4rev2 (RFC 9051).
    pub(super) rev2: bool,
    /// UIDONLY (RFC 9586): no message numbers in either direction.
    pub(super) uidonly: bool,
    /// METADATA (RFC 5464 §4.1): the client is told of annotations that others change.
    pub(super) metadata: bool,
    /// NOTIFY without FlagChange (RFC 5465 §5): flags that others change are not told.
    pub(super) flags_untold: bool,
    /// NOTIFY with FlagChange: responses that tell of them have the UID (§5.1).
    pub(super) flags_with_uid: bool,
}

/// The open mailbox as the client knows it.
pub(super) struct Selected {
    pub(super) read_only: bool,
    /// What the user may do with it, as of its opening: the shard decides each time.
    pub(super) rights: Rights,
    pub(super) validity: u32,
    /// MAILBOXID.
    pub(super) object_id: Box<str>,
    /// Of EMAILID.
    pub(super) id_space: u16,
    /// Message numbers.
    pub(super) view: Arc<View>,
    /// What the mailbox holds, where the client could not yet be told that messages have gone.
    pub(super) newest: Option<Arc<View>>,
    pub(super) keywords: Arc<[String]>,
    /// Changes up to here are known.
    pub(super) modseq: u64,
    /// Changes that this session made and of which its client knows the outcome: ascending, at most
    /// [`IMAP_OWN_MAX`], because while NOTIFY keeps all silent nothing takes them away.
    pub(super) own: Vec<u64>,
    /// Messages that this session has put here, and has not seen come: UIDs, with the same bound.
    pub(super) own_new: Vec<(u32, u32)>,
    /// Messages have gone of which the client could not yet be told: it has been told of all that
    /// happened up to this MODSEQ.
    pub(super) gone_since: Option<u64>,
    /// The result of the last SEARCH RETURN (SAVE): UIDs (RFC 5182).
    pub(super) saved: Vec<(u32, u32)>,
}

impl Selected {
    /// This session made a change of which its client knows the outcome.
    pub(super) fn note_change(&mut self, modseq: Option<u64>) {
        if self.own.len() < IMAP_OWN_MAX {
            self.own.extend(modseq);
        }
    }

    /// This session has put a message here.
    pub(super) fn note_new(&mut self, uid: u32) {
        let last = self.own_new.last();
        let extends = last.is_some_and(|last| last.1.checked_add(1) == Some(uid));
        if extends || self.own_new.len() < IMAP_OWN_MAX {
            sets::push(&mut self.own_new, uid);
        }
    }

    /// The user may set `\\Seen`.
    pub(super) fn keeps_seen(&self) -> bool {
        !self.read_only && self.rights.has(Rights::SEEN)
    }
}
