//! What the shard answers a session.
//!
//! Guarantees: owned data; slices have the bounds that their asks say.
//! Does not know: what a client is told of it.

use std::sync::Arc;

#[cfg(doc)]
use super::Ask;
#[cfg(doc)]
use super::Threading;
use super::command::Flags;
use super::metadata::{Annotation, Entry};
use super::rights::Rights;
use super::view::View;
use crate::proto::sasl::Pass;

/// A mailbox as listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// In UTF-8, canonical.
    pub name: String,
    /// `\Sent` and its like.
    pub special_use: Option<&'static str>,
    /// UIDVALIDITY.
    pub validity: u32,
    /// UIDNEXT.
    pub uid_next: u32,
    /// Messages.
    pub exists: u32,
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// Messages with `\Deleted`.
    pub deleted: u32,
    /// Bytes of all messages.
    pub bytes: u64,
    /// Bytes of those with `\Deleted`: 0 until the session has asked for it.
    pub deleted_bytes: u64,
    /// HIGHESTMODSEQ.
    pub modseq: u64,
    /// MAILBOXID (RFC 8474 §4): `A-Z a-z 0-9 - _`.
    pub object_id: String,
    /// What the user may do with it; all, where it is one's own.
    pub rights: Rights,
}

/// Answer to [`Ask::Mailboxes`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailboxes {
    /// All, by name.
    pub list: Vec<Mailbox>,
    /// Names that are subscribed to, whether or not there is such a mailbox.
    pub subscribed: Vec<String>,
}

/// A name as LIST shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// In UTF-8, canonical.
    pub name: String,
    /// There is a mailbox of this name.
    pub exists: bool,
    /// `\Sent` and its like.
    pub special_use: Option<&'static str>,
    /// There is one, which the user knew and may not see any more.
    pub is_denied: bool,
    /// There are mailboxes below it.
    pub has_children: bool,
    /// It is subscribed to.
    pub subscribed: bool,
}

/// Something that happened in the account (RFC 5465 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// To messages of a mailbox that is not the open one.
    Messages {
        /// Its name; whether it has children is not looked up.
        place: Place,
        /// As it is now.
        mailbox: Box<Mailbox>,
        /// Messages came.
        new: bool,
        /// Messages were expunged.
        gone: bool,
        /// Messages have other flags.
        flags: bool,
    },
    /// A mailbox was made, removed or renamed, or one just below this name.
    Name {
        /// As it is now.
        place: Place,
        /// Its name before, if it was renamed.
        from: Option<String>,
    },
    /// A name was subscribed to, or is not any more.
    Subscription {
        /// As it is now.
        place: Place,
    },
    /// Annotations were set or removed.
    Metadata {
        /// Of this mailbox; `None`: of the server. Whether it has children is not looked up.
        place: Option<Place>,
        /// Which.
        entries: Vec<Entry>,
    },
}

/// A mailbox that was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// As it is now.
    pub mailbox: Mailbox,
    /// Its messages.
    pub view: Arc<View>,
    /// Names of keywords, by bit.
    pub keywords: Arc<[String]>,
    /// Number of the first message without `\Seen`; `None`: there is none, or nobody knows it yet.
    pub first_unseen: Option<u32>,
    /// Tells [`Row::email_id`] of here from the same number elsewhere: EMAILID is
    /// `M<id_space>-<email_id>`.
    pub id_space: u16,
}

/// What has changed in the open mailbox.
#[derive(Debug, Clone)]
pub struct News {
    /// HIGHESTMODSEQ.
    pub modseq: u64,
    /// Its messages now.
    pub view: Arc<View>,
    /// Names of keywords now.
    pub keywords: Arc<[String]>,
    /// Messages that have changed or come since, in the order of UIDs: the first of them, at most
    /// `limits::IMAP_SLICE_MESSAGES`.
    pub changed: Vec<Row>,
}

/// A message as listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row {
    /// Its UID.
    pub uid: u32,
    /// System flags.
    pub flags: Flags,
    /// Bits of keywords.
    pub keywords: u64,
    /// MODSEQ.
    pub modseq: u64,
    /// Bytes.
    pub bytes: u64,
    /// Internal date, milliseconds since 1970.
    pub date_ms: u64,
    /// When it came into this mailbox, milliseconds since 1970.
    pub saved_ms: u64,
    /// Equal for equal content within the [`Opened::id_space`] (RFC 8474 §5.1).
    pub email_id: u64,
}

/// A quota (RFC 9208 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Whose: the canonical name of the account.
    pub account: String,
    /// Bytes of all its messages.
    pub used_bytes: u64,
    /// Bytes it may hold; 0: no limit.
    pub limit_bytes: u64,
}

/// A message that is read for CATENATE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Of the message.
    pub bytes: u64,
    /// See [`crate::mail::mime::Summary`]; only if it was wanted.
    pub summary: Option<Vec<u8>>,
}

/// What became of a STORE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// MODSEQ of the change; `None`: all was as asked for already.
    pub modseq: Option<u64>,
    /// The highest MODSEQ that a changed message had before; 0: none was changed.
    pub before: u64,
    /// Left alone, because they have changed since: ascending.
    pub modified: Vec<u32>,
    /// Names of keywords, by bit, where the change has made one.
    pub keywords: Option<Arc<[String]>>,
}

/// What was copied or moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Of the target, as [`Opened::id_space`]: within one, mailboxes differ in UIDVALIDITY.
    pub id_space: u16,
    /// UIDVALIDITY of the target.
    pub validity: u32,
    /// UID here and UID there, ascending.
    pub pairs: Vec<(u32, u32)>,
}

/// Why something cannot be done, for NO and its response code (RFC 9051 §7.1, RFC 5530).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such mailbox: `[NONEXISTENT]`, or `[TRYCREATE]` where it would help.
    Missing,
    /// There is one of this name: `[ALREADYEXISTS]`.
    Exists,
    /// The message is gone: `[EXPUNGEISSUED]`.
    Gone,
    /// A special use that there is not: `[USEATTR]` (RFC 6154 §3).
    SpecialUse(String),
    /// Over quota: `[OVERQUOTA]`.
    OverQuota,
    /// Is there, but not for this user: `[NOPERM]`.
    Denied(String),
    /// A name or a flag that cannot be: `[CANNOT]`.
    Cannot(String),
    /// More than there may be: `[LIMIT]`.
    Limit(String),
    /// More annotations than there may be: `[METADATA TOOMANY]`.
    TooManyAnnotations,
    /// Cannot be done now: `[UNAVAILABLE]`.
    Unavailable(String),
}

/// Why a login was refused (RFC 5530 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginError {
    /// Wrong name or password: `[AUTHENTICATIONFAILED]`.
    Credentials,
    /// The password is right, but may not act for the other: `[AUTHORIZATIONFAILED]`.
    Authorization,
    /// Cannot be decided now: `[UNAVAILABLE]`.
    Temporary(String),
    /// Will not work later either: `[CONTACTADMIN]`.
    Permanent(String),
}

/// What the shard answers.
#[derive(Debug)]
pub enum Answer {
    /// To whatever was asked: the account of the session was removed, and the session ends.
    AccountGone,
    /// Logged in, or why not.
    Login(Result<(), LoginError>),
    /// What lets an administrator in at the other's account: for [`Ask::Enter`].
    Pass(Pass),
    /// The list.
    Mailboxes(Result<Mailboxes, Refusal>),
    /// The mailbox.
    Mailbox(Result<Box<Mailbox>, Refusal>),
    /// The open one.
    Opened(Result<Box<Opened>, Refusal>),
    /// `None`: nothing. `Missing`: the mailbox is gone.
    News(Result<Option<Box<News>>, Refusal>),
    /// All names, by bit; `None`: there are no more of them.
    Keywords(Result<Option<Arc<[String]>>, Refusal>),
    /// Those that are there, in order. Fewer than asked for: there are no more.
    Rows(Result<Vec<Row>, Refusal>),
    /// Ascending ranges.
    Vanished(Result<Vec<(u32, u32)>, Refusal>),
    /// For each message one, encoded.
    Summaries(Vec<Result<Vec<u8>, Refusal>>),
    /// The bytes.
    Data(Result<Vec<u8>, Refusal>),
    /// [`Refusal::Missing`]: no such mailbox; [`Refusal::Gone`]: no such message in it.
    Source(Result<Source, Refusal>),
    /// For each message the bits of the texts that hold.
    Matched(Result<Vec<u64>, Refusal>),
    /// Who has which rights.
    Access(Result<Vec<(String, Rights)>, Refusal>),
    /// The quota.
    Quota(Result<Quota, Refusal>),
    /// Bytes.
    DeletedBytes(Result<u64, Refusal>),
    /// Those that are there, by name.
    Annotations(Result<Vec<Annotation>, Refusal>),
    /// The names, in their order, as [`Happening`] has them.
    Watched(Result<Vec<String>, Refusal>),
    /// In order; `None`: it was too much, and is forgotten (RFC 5465 §5.8).
    Happened(Result<Option<Vec<Happening>>, Refusal>),
    /// Milliseconds since 1970.
    Time(u64),
    /// As [`Threading::run`] gives them.
    Threads(Result<Vec<u8>, Refusal>),
    /// Done and durable.
    Stored(Result<Stored, Refusal>),
    /// Done and durable.
    Copied(Result<Copied, Refusal>),
    /// The space as in [`Copied::id_space`], UIDVALIDITY, and the UIDs in order.
    Appended(Result<(u16, u32, Vec<u32>), Refusal>),
    /// Done; where something was changed, durable.
    Done(Result<(), Refusal>),
}
