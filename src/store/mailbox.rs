//! Words of the store for mailboxes beside INBOX: ids, names, flags, what is asked and answered.
//!
//! Guarantees: a name that [`canonical_name`] gives has one spelling, so that comparing texts
//! compares mailboxes.
//! Does not know: where any of it is kept, IMAP's syntax.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use super::{Sequence, StreamId, Uid, UidValidity};
use crate::limits::{MAILBOX_DEPTH_MAX, MAILBOX_NAME_BYTES_MAX};

/// Between the levels of a name.
pub const SEPARATOR: char = '/';
/// The mailbox that every account has (RFC 9051 §5.1).
pub const INBOX_NAME: &str = "INBOX";

/// Names a mailbox within its account, for ever: a number is never given to another one, of this
/// account or of one that has its address later. Of all but [`MailboxId::INBOX`] it is the number of
/// the record that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxId(pub u64);

impl MailboxId {
    /// Made and removed with its account.
    pub const INBOX: MailboxId = MailboxId(0);

    /// It is the INBOX.
    pub fn is_inbox(self) -> bool {
        self == MailboxId::INBOX
    }
}

impl fmt::Display for MailboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mailbox {}", self.0)
    }
}

/// What a mailbox is for (RFC 6154 §2). Values are those of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SpecialUse {
    /// `\Drafts`
    Drafts = 1,
    /// `\Sent`
    Sent = 2,
    /// `\Trash`
    Trash = 3,
    /// `\Junk`
    Junk = 4,
    /// `\Archive`
    Archive = 5,
}

impl SpecialUse {
    /// All of them, in the order in which they are made with an account.
    pub const ALL: [SpecialUse; 5] = [
        SpecialUse::Drafts,
        SpecialUse::Sent,
        SpecialUse::Trash,
        SpecialUse::Junk,
        SpecialUse::Archive,
    ];

    /// The name under which it is made with an account.
    pub fn name(self) -> &'static str {
        match self {
            SpecialUse::Drafts => "Drafts",
            SpecialUse::Sent => "Sent",
            SpecialUse::Trash => "Trash",
            SpecialUse::Junk => "Junk",
            SpecialUse::Archive => "Archive",
        }
    }

    /// As the log has it; 0 and what is not known is none.
    pub fn from_byte(byte: u8) -> Option<SpecialUse> {
        SpecialUse::ALL.into_iter().find(|u| *u as u8 == byte)
    }
}

/// System flags of a message (RFC 9051 §2.3.2), a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// None.
    pub const NONE: Flags = Flags(0);
    /// `\Seen`
    pub const SEEN: Flags = Flags(1);
    /// `\Answered`
    pub const ANSWERED: Flags = Flags(2);
    /// `\Flagged`
    pub const FLAGGED: Flags = Flags(4);
    /// `\Deleted`
    pub const DELETED: Flags = Flags(8);
    /// `\Draft`
    pub const DRAFT: Flags = Flags(16);
    /// All that there are.
    pub const ALL: Flags = Flags(31);

    /// All of `others` are set.
    pub fn has(self, others: Flags) -> bool {
        self.0 & others.0 == others.0
    }

    /// These and `others`.
    #[must_use]
    pub fn with(self, others: Flags) -> Flags {
        Flags(self.0 | others.0)
    }

    /// These but `others`.
    #[must_use]
    pub fn without(self, others: Flags) -> Flags {
        Flags(self.0 & !others.0)
    }
}

/// What is known of a mailbox without looking at its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxInfo {
    /// Its number, which is also what OBJECTID calls it, together with `validity` for INBOX.
    pub id: MailboxId,
    /// Canonical, levels separated by [`SEPARATOR`].
    pub name: String,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
    /// UIDVALIDITY.
    pub validity: UidValidity,
    /// The number by which OBJECTID knows it, one of its own in the partition (RFC 8474 §4).
    pub object_id: u64,
    /// MODSEQ of its latest change (RFC 7162 §3.1.2.1); at least 1.
    pub highest_modseq: Sequence,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// Messages.
    pub exists: u32,
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// Messages with `\Deleted`.
    pub deleted: u32,
    /// Bytes of all messages.
    pub bytes: u64,
}

/// Consecutive UIDs, first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRun {
    /// The first.
    pub first: Uid,
    /// The last, at least the first.
    pub last: Uid,
}

/// What a session needs of a mailbox that it selects: cheap, whatever the number of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// At the same moment.
    pub info: MailboxInfo,
    /// Names of its keywords: bit `n` of [`super::MessageInfo::keywords`] is the `n`-th. While the
    /// partition is open, names are only added at the end.
    pub keywords: Vec<String>,
    /// UIDs of all messages, ascending; neighbours do not touch.
    pub runs: Vec<UidRun>,
}

/// Where the bytes of a new message are.
#[derive(Debug, Clone, Default)]
pub struct NewMessage {
    /// Its flags.
    pub flags: Flags,
    /// Its keywords, see [`same_keyword`].
    pub keywords: Vec<String>,
    /// Internal date, milliseconds since 1970.
    pub date_ms: u64,
    /// The message, or what is left of it behind `stream`.
    pub body: Vec<u8>,
    /// What was streamed before, see [`super::Partition::open_stream`].
    pub stream: Option<StreamId>,
}

/// Messages that appear in a mailbox together or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    /// There.
    pub mailbox: MailboxId,
    /// One or more, in the order of their UIDs.
    pub messages: Vec<NewMessage>,
    /// A message that goes in the same batch, and its mailbox (RFC 8508); one that is gone already
    /// is `Missing`.
    pub replaces: Option<(MailboxId, Uid)>,
    /// Milliseconds since 1970: the save date (RFC 8514).
    pub now_ms: u64,
}

/// UIDs that new messages have got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// UIDVALIDITY of the mailbox they are in.
    pub validity: UidValidity,
    /// In the order of the messages.
    pub uids: Vec<Uid>,
}

/// What is done to flags and keywords (RFC 9051 §6.4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagMode {
    /// `FLAGS`: these and no others.
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// A change of flags, made to each message as it is when its turn comes: changes that are asked for
/// at once do not undo each other.
#[derive(Debug, Clone)]
pub struct FlagChange {
    /// What is done.
    pub mode: FlagMode,
    /// To these.
    pub flags: Flags,
    /// And to these, see [`same_keyword`].
    pub keywords: Vec<String>,
    /// Only messages whose MODSEQ is not above this (RFC 7162 §3.1.3).
    pub unchanged_since: Option<Sequence>,
}

/// What became of a [`FlagChange`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// Messages that were changed, ascending; what already was as asked for is not among them.
    pub changed: Vec<Uid>,
    /// MODSEQ of the last change; `None`: nothing was changed.
    pub modseq: Option<Sequence>,
    /// The highest MODSEQ that a changed message had before; 0: none was changed.
    pub before: Sequence,
    /// Messages left alone because they have changed since, ascending: `MODIFIED`.
    pub modified: Vec<Uid>,
}

/// What was copied or moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// UIDVALIDITY of the mailbox it is in now.
    pub validity: UidValidity,
    /// UID before, UID there; ascending. What was gone already is not among them.
    pub pairs: Vec<(Uid, Uid)>,
}

/// Why a name cannot be one of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters, or none between two separators.
    #[error("a mailbox name has no empty level")]
    Empty,
    /// Too long.
    #[error("a mailbox name has at most {MAILBOX_NAME_BYTES_MAX} bytes of UTF-8")]
    TooLong,
    /// Too many levels.
    #[error("a mailbox name has at most {MAILBOX_DEPTH_MAX} levels")]
    TooDeep,
    /// A mailbox would be below itself.
    #[error("a mailbox cannot be moved below itself")]
    Inside,
    /// Control characters and what no list could show (RFC 5198 §2).
    #[error("a mailbox name has no control characters, `%` or `*`")]
    Character,
}

/// A mailbox's name in the one spelling that counts: normalization form C, INBOX in capitals, also
/// as the first of several levels.
///
/// # Errors
/// Which rule it breaks.
pub fn canonical_name(name: &str) -> Result<String, NameError> {
    if name.len() > 4 * MAILBOX_NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    let wrong = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '%' | '*');
    if name.contains(wrong) {
        return Err(NameError::Character);
    }
    let mut normal: String = name.nfc().collect();
    let first = normal.split(SEPARATOR).next().map_or(0, str::len);
    if normal[..first].eq_ignore_ascii_case(INBOX_NAME) {
        normal.replace_range(..first, INBOX_NAME);
    }
    if normal.len() > MAILBOX_NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    if normal.split(SEPARATOR).any(str::is_empty) {
        return Err(NameError::Empty);
    }
    if normal.split(SEPARATOR).count() > MAILBOX_DEPTH_MAX {
        return Err(NameError::TooDeep);
    }
    Ok(normal)
}

/// Two keywords are one: they are compared without regard to ASCII case (RFC 9051 §2.3.2),
/// and keep the spelling in which a mailbox saw them first.
pub fn same_keyword(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        assert_eq!(canonical_name("inBox").as_deref(), Ok("INBOX"));
        assert_eq!(canonical_name("inbox/x").as_deref(), Ok("INBOX/x"));
        assert_eq!(canonical_name("Inboxes").as_deref(), Ok("Inboxes"));
        assert_eq!(canonical_name("e\u{301}").as_deref(), Ok("é"));
        assert_eq!(canonical_name(""), Err(NameError::Empty));
        assert_eq!(canonical_name("a//b"), Err(NameError::Empty));
        assert_eq!(canonical_name("a/"), Err(NameError::Empty));
        assert_eq!(canonical_name("a\u{7}"), Err(NameError::Character));
        assert_eq!(canonical_name("a*"), Err(NameError::Character));
        let long = "x".repeat(MAILBOX_NAME_BYTES_MAX + 1);
        assert_eq!(canonical_name(&long), Err(NameError::TooLong));
        let deep = vec!["x"; MAILBOX_DEPTH_MAX + 1].join("/");
        assert_eq!(canonical_name(&deep), Err(NameError::TooDeep));
    }

    #[test]
    fn flags_are_bits() {
        let both = Flags::SEEN.with(Flags::DRAFT);
        assert!(both.has(Flags::SEEN) && !both.has(Flags::DELETED));
        assert_eq!(both.without(Flags::SEEN), Flags::DRAFT);
        for (number, special_use) in SpecialUse::ALL.into_iter().enumerate() {
            assert_eq!(special_use as usize, number + 1);
            assert_eq!(SpecialUse::from_byte(special_use as u8), Some(special_use));
        }
    }
}
