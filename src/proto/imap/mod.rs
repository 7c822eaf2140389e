//! IMAP4rev1 and IMAP4rev2 (RFC 3501, RFC 9051), server side.
//!
//! ```text
//! wire      the bytes of a connection: the conversation as it is, or compressed
//! deflate   unpacking and packing them
//! session   the conversation: states, commands, which ask is out
//! frame     commands out of pieces, literals
//! parse     the grammar; command: what comes of it
//! view      message numbers and UIDs
//! sets      sequence sets
//! status    items of STATUS
//! program   a search as it is carried out
//! sorter    messages in the order of their keys
//! rights    what others may do, and how their mailboxes are called
//! names     mailbox names and patterns
//! url       URLs of messages and their parts
//! metadata  names of annotations
//! write     the small parts of responses
//! ```
//!
//! Decided here, where the RFCs leave it open:
//!
//! - A lone LF ends a line too, as in POP3.
//! - No message is ever `\Recent`: RFC 9051 has done away with it, and `RECENT` is always 0.
//! - LITERAL+ is announced, which allows all that LITERAL- does.
//! - Names of mailboxes are taken in UTF-8 too before ENABLE where they are not ASCII.
//! - A message number above what the mailbox holds is BAD; a UID that is not there is passed over.
//! - A message that was expunged by another session stays in the view until the client may be told;
//!   its flags and bytes are gone at once, and FETCH of it ends with NO [EXPUNGEISSUED].
//! - The session ends with BYE when its mailbox is deleted.

pub mod command;
mod deflate;
pub mod frame;
pub mod metadata;
pub mod names;
pub mod parse;
mod program;
mod rights;
mod session;
pub mod sets;
mod sorter;
mod status;
mod url;
pub mod view;
mod wire;
mod write;

#[cfg(test)]
#[path = "../../../tests/fuzz/src/imap_world.rs"]
mod imap_world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::mail::mime::{ThreadList, thread_by_references, thread_by_subject};

pub use super::sasl::Pass;
pub use command::{FlagList, Flags, StoreHow, ThreadBy};
pub use metadata::{Annotation, Entry, Wanted};
pub use program::compare;
pub use rights::{
    ANYONE, Access, AccessChange, Located, OTHER_USERS, Rights, locate, name_of_other,
};
pub use session::Session;
pub use view::View;
pub use wire::Wire;

/// What all sessions of a listener have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name in the greeting.
    pub hostname: String,
    /// A bare user name belongs to this domain.
    pub default_domain: String,
    /// Idle time before the session ends (RFC 9051 §5.4: at least 30 min) [I5 N17].
    pub idle_timeout: Duration,
    /// Between two words about how far a long command is (RFC 9585 §4: 10 to 15 s).
    pub progress_interval: Duration,
    /// Largest message in bytes, announced by APPENDLIMIT [N19].
    pub message_bytes_max: u64,
}

/// Names and a password. `Debug` shows no secret.
#[derive(Clone)]
pub struct Credentials {
    /// Whose password it is: canonical `user@domain` (`Address::account_key`).
    pub user: String,
    /// Whose mailboxes are wanted, where it is somebody else: canonical as well (RFC 4616 §2,
    /// authorization identity) [N34].
    pub act_as: Option<String>,
    /// As the client gave it. Wiped when dropped, wherever it was moved to.
    pub password: Zeroizing<Vec<u8>>,
    /// Where the client is, for the log.
    pub peer: SocketAddr,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, secret)", self.user)
    }
}

/// What an IMAP session asks of the shard. All but the login are about the account that logged in;
/// messages are those of the mailbox that is open.
#[derive(Debug)]
pub enum Ask {
    /// LOGIN, or AUTHENTICATE PLAIN. Before the answer the shard moves the session to the owner of
    /// the account. Answer: [`Answer::Login`], or [`Answer::Pass`] for an administrator who acts for
    /// somebody else.
    Login(Credentials),
    /// Who has logged in wants to act for another account, whose canonical name this is [N34].
    /// Answer: [`Answer::Pass`], or why not: [`Answer::Login`].
    ActAs {
        /// That account.
        user: String,
        /// Where the client is, for the log.
        peer: SocketAddr,
    },
    /// Comes in with a pass. Before the answer the shard moves the session to the owner of the
    /// account that the pass is for. Answer: [`Answer::Login`]; after an error nobody is logged in.
    Enter(Pass),
    /// All mailboxes. Answer: [`Answer::Mailboxes`].
    Mailboxes,
    /// Mailboxes of others that the user may see, under the names that they have here. Answer:
    /// [`Answer::Mailboxes`].
    Shared,
    /// Who may do what in a mailbox (RFC 4314). Answer: [`Answer::Access`]; to a change
    /// [`Answer::Done`].
    Access(Access),
    /// One of them, or of others' if the user has any right in it. Answer: [`Answer::Mailbox`].
    Mailbox {
        /// Decoded.
        name: String,
    },
    /// A change to mailboxes or to subscriptions. Answer: [`Answer::Mailbox`] of the mailbox that
    /// was made, of another one [`Answer::Done`].
    Manage(Manage),
    /// Opens a mailbox, and closes the one that is open. From now on the session is told
    /// [`crate::proto::Event::Changed`] when something happens in it. Answer: [`Answer::Opened`].
    Open {
        /// Decoded.
        name: String,
    },
    /// Closes the open mailbox. Answer: [`Answer::Done`].
    Close,
    /// What has changed since this MODSEQ. Answer: [`Answer::News`].
    Look {
        /// The last one that the session knows of.
        since: u64,
    },
    /// Names of keywords in the open mailbox, if there are more than so many. Answer:
    /// [`Answer::Keywords`].
    Keywords {
        /// Names that the session knows: they stay, and others come behind them.
        known: usize,
    },
    /// Messages by UID, in order, at most `limits::IMAP_SLICE_MESSAGES`. Answer: [`Answer::Rows`].
    Rows {
        /// Ascending ranges.
        uids: Vec<(u32, u32)>,
        /// Only those whose MODSEQ is above.
        changed_since: Option<u64>,
        /// At most so many.
        count_max: usize,
    },
    /// UIDs that were expunged after this MODSEQ. Answer: [`Answer::Vanished`].
    Vanished {
        /// The last one that the client knows of.
        since: u64,
    },
    /// Summaries of messages (see [`crate::mail::mime::Summary`]), for each one. Answer:
    /// [`Answer::Summaries`].
    Summaries {
        /// UID and `email_id`, ascending.
        messages: Vec<(u32, u64)>,
    },
    /// Bytes `offset..offset + length` of a message. Answer: [`Answer::Data`].
    Read {
        /// Which.
        uid: u32,
        /// Bytes from the start of the message.
        offset: u64,
        /// Bytes wanted; fewer only at the end of the message.
        length: u32,
    },
    /// Which of these texts hold of messages. Answer: [`Answer::Matched`].
    Match {
        /// UID and `email_id`, ascending.
        messages: Vec<(u32, u64)>,
        /// At most `limits::IMAP_SEARCH_TEXTS_MAX`.
        texts: Arc<[TextKey]>,
        /// Only those of them whose bit is set are wanted.
        wanted: u64,
    },
    /// What an account may hold, and how much it does (RFC 9208). Answer: [`Answer::Quota`];
    /// `Missing`: no such mailbox or account.
    Quota(QuotaOf),
    /// SETQUOTA, for administrators. Answer: as [`Ask::Quota`], when the limit is in effect.
    SetQuota {
        /// Not of a mailbox.
        of: QuotaOf,
        /// Bytes; 0: no limit.
        limit_bytes: u64,
    },
    /// Bytes of the messages of a mailbox that have `\Deleted`. Answer: [`Answer::DeletedBytes`].
    DeletedBytes {
        /// Decoded.
        name: String,
    },
    /// Annotations of a mailbox, or with `None` of the server (RFC 5464). Answer:
    /// [`Answer::Annotations`].
    Annotations {
        /// Decoded.
        mailbox: Option<String>,
        /// Which.
        wanted: Wanted,
    },
    /// Sets annotations of a mailbox, or with `None` of the server, or removes them: all or none.
    /// Answer: [`Answer::Done`].
    Annotate {
        /// Decoded.
        mailbox: Option<String>,
        /// `None` removes one.
        values: Vec<(Entry, Option<Vec<u8>>)>,
    },
    /// From now on the session is told [`crate::proto::Event::Changed`] when something happens in the
    /// account, and asks [`Ask::Happened`]; or it does not want that any more. Answer:
    /// [`Answer::Done`].
    WatchAccount {
        /// It wants it.
        on: bool,
    },
    /// What happened in the account since this was last asked; what this session did itself, and
    /// messages of the open mailbox, are left out. Answer: [`Answer::Happened`].
    Happened {
        /// [`Place::subscribed`] is looked up for all of it.
        with_subscribed: bool,
    },
    /// What time is it? Answer: [`Answer::Time`].
    Time,
    /// This session has had its share of the processor: others come first. Answer:
    /// [`Answer::Done`], `Unavailable` if it should give up long work, because memory is short.
    Pause,
    /// THREAD. Answer: [`Answer::Threads`].
    Thread(Box<Threading>),
    /// Changes flags. Answer: [`Answer::Stored`].
    Store(StoreFlags),
    /// Expunges messages. Answer: [`Answer::Done`].
    Expunge {
        /// Ascending.
        uids: Vec<u32>,
        /// Those of them that have `\Deleted` when their turn comes, whatever they had when they were
        /// looked at; else all, whatever their flags.
        only_deleted: bool,
    },
    /// COPY or MOVE. Answer: [`Answer::Copied`].
    Copy {
        /// Ascending ranges.
        uids: Vec<(u32, u32)>,
        /// To where, decoded.
        name: String,
        /// They go from here, in the same batch.
        moves: bool,
    },
    /// A piece of a message of APPEND above what the session keeps. Answer: [`Answer::Done`]; after
    /// an error nothing of this APPEND is there any more.
    Chunk {
        /// Into which mailbox, decoded.
        name: String,
        /// Which message of this APPEND, from 0, never going back.
        message: u32,
        /// The next bytes.
        bytes: Vec<u8>,
    },
    /// A message of any mailbox of the account, to be read by [`Ask::ReadSource`] from now on. Answer:
    /// [`Answer::Source`].
    Source {
        /// Of its mailbox, decoded; `None`: the one that is open.
        name: Option<String>,
        /// Its UIDVALIDITY must be this; else the message is [`Refusal::Gone`].
        validity: Option<u32>,
        /// Which.
        uid: u32,
        /// Its summary is wanted.
        inside: bool,
    },
    /// Bytes `offset..offset + length` of the source. Answer: [`Answer::Data`].
    ReadSource {
        /// Bytes from the start of the message.
        offset: u64,
        /// Bytes wanted; fewer only at the end of the message.
        length: u32,
    },
    /// The APPEND is given up. Answer: [`Answer::Done`]. A connection that ends needs none.
    Abort,
    /// The messages are complete: make them durable, all or none. Answer: [`Answer::Appended`].
    Append {
        /// Into which mailbox, decoded.
        name: String,
        /// In order; at least one.
        messages: Vec<Incoming>,
        /// REPLACE: this message of the open mailbox goes in the same batch. One that is gone
        /// already is [`Refusal::Gone`].
        replaces: Option<u32>,
    },
}

/// Messages to be put into threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threading {
    /// How.
    pub by: ThreadBy,
    /// What is known of each message, in the order of UIDs.
    pub keys: ThreadList,
    /// What the client knows each of them by.
    pub numbers: Vec<u32>,
}

impl Threading {
    /// Bytes of memory that putting them into threads takes, about.
    pub fn work_bytes(&self) -> usize {
        3 * self.keys.held_bytes() + 4 * self.numbers.capacity()
    }

    /// The threads as THREAD answers them. With 100,000 messages it takes a tenth of a second.
    pub fn run(&self) -> Vec<u8> {
        let keys = self.keys.keys();
        let threads = match self.by {
            ThreadBy::OrderedSubject => thread_by_subject(&keys),
            ThreadBy::References => thread_by_references(&keys),
        };
        let mut out = Vec::new();
        threads.write(|index| self.numbers[index], &mut out);
        out
    }
}

/// Whose quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaOf {
    /// One's own.
    Own,
    /// Of the account with this canonical name; others' only for administrators.
    Account(String),
    /// Of the account that has this mailbox. The name is decoded.
    Mailbox(String),
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

/// A change to mailboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manage {
    /// CREATE
    Create {
        /// Decoded, without a separator at its end.
        name: String,
        /// `SENT` and its like (RFC 6154 §2).
        special_use: Option<String>,
    },
    /// DELETE
    Delete {
        /// Decoded.
        name: String,
    },
    /// RENAME
    Rename {
        /// Decoded.
        from: String,
        /// Decoded.
        to: String,
    },
    /// SUBSCRIBE, UNSUBSCRIBE
    Subscribe {
        /// Decoded.
        name: String,
        /// To be subscribed to.
        on: bool,
    },
}

/// A change of flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFlags {
    /// Ascending ranges.
    pub uids: Vec<(u32, u32)>,
    /// Which.
    pub how: StoreHow,
    /// Flags and keywords.
    pub flags: FlagList,
    /// Only messages that have not changed since (RFC 7162 §3.1.3).
    pub unchanged_since: Option<u64>,
}

/// One message of an APPEND.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Flags and keywords.
    pub flags: FlagList,
    /// Internal date, milliseconds since 1970; `None`: now.
    pub date_ms: Option<u64>,
    /// The whole message; or, where chunks went before, what is behind the last.
    pub body: Vec<u8>,
    /// Bytes of all chunks that went before.
    pub streamed_bytes: u64,
}

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

/// What SEARCH needs a look into the message for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextKey {
    /// A header field of this name holds a text; empty: it is there.
    Header(String, String),
    /// The body holds a text.
    Body(String),
    /// Header or body holds a text.
    Text(String),
    /// The Date field, compared with days since 1970.
    Sent(command::Comparison, i32),
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
    /// UIDVALIDITY and the UIDs, in order.
    Appended(Result<(u32, Vec<u32>), Refusal>),
    /// Done; where something was changed, durable.
    Done(Result<(), Refusal>),
}
