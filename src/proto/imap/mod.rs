//! IMAP4rev1 and IMAP4rev2 (RFC 3501, RFC 9051), server side.
//!
//! ```text
//! wire      the bytes of a connection: the conversation as it is, or compressed
//! deflate   unpacking and packing them
//! session   the conversation: states, commands, which ask is out
//! ask       what it asks of the shard; answer: what it is told
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

mod answer;
mod ask;
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

use std::time::Duration;

pub use super::sasl::{Credentials, Pass};
pub use answer::{
    Answer, Copied, Happening, LoginError, Mailbox, Mailboxes, News, Opened, Place, Quota, Refusal,
    Row, Source, Stored,
};
pub use ask::{Ask, Incoming, Manage, QuotaOf, StoreFlags, TextKey, Threading};
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
