//! What a session asks of the shard.
//!
//! Guarantees: owned data, so that an ask can go to another shard; what it may hold is bounded where it
//! is made.
//! Does not know: who answers, and where.

use std::net::SocketAddr;
use std::sync::Arc;

use super::command::{self, FlagList, StoreHow, ThreadBy};
use super::metadata::{Entry, Wanted};
use super::rights::Access;
#[cfg(doc)]
use super::{Answer, Place, Refusal};
use crate::mail::mime::{ThreadList, thread_by_references, thread_by_subject};
use crate::proto::sasl::{Credentials, Pass};

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
    /// UNAUTHENTICATE: nobody is logged in any more, and all that the connection had goes, as at its end.
    /// Answer: [`Answer::Done`].
    Leave,
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
    /// account, and asks [`Ask::Happened`]; or it does not want that any more, of no account. Answer:
    /// [`Answer::Done`].
    WatchAccount {
        /// It wants it.
        on: bool,
    },
    /// The same of these mailboxes and all below them, as far as they are others', in place of those that
    /// were wanted before. Answer: [`Answer::Watched`]; `Limit`: in too many accounts.
    WatchOthers {
        /// Decoded. At most `limits::IMAP_NOTIFY_NAMES_MAX`.
        names: Vec<String>,
        /// And of those that the user is subscribed to.
        subscribed: bool,
    },
    /// What happened in the account, and at others that are watched, since this was last asked; what
    /// this session did itself, and messages of the open mailbox, are left out. Answer: [`Answer::Happened`].
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
