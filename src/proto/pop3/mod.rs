//! POP3 (RFC 1939, 2449, 1734, 5034, 3206, 6856), server side.
//!
//! Where we depart from the letter, and why:
//!
//! - A lone LF ends a command line too: see `line`.
//! - Messages with UTF-8 in their header go out as they are stored, whether or not the client said
//!   UTF8 (RFC 6856 §5 would have them refused or downgraded otherwise). Raw 8-bit headers are
//!   common in mail that was never declared SMTPUTF8, clients without UTF8 show them well enough,
//!   and a rewritten message would break its signatures and no longer be what was delivered.
//! - AUTH without a mechanism lists them, as many servers do.
//! - The timer of RFC 1939 §3 starts anew with each *command* and with each piece of a response
//!   that the client takes, never with bytes of an unfinished line; it is the same before login
//!   and after [N17].

mod command;
mod dots;
mod line;
mod session;
mod transaction;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use command::{Command, parse_command};
pub use dots::{DotStuffer, TopScanner};
pub use session::Session;

pub use super::sasl::{Credentials, Pass};

/// What all sessions of a listener have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name in the greeting.
    pub hostname: String,
    /// A bare user name belongs to this domain.
    pub default_domain: String,
    /// Idle time before the session ends without expunging (RFC 1939 §3: at least 10 min) [N17].
    pub idle_timeout: Duration,
}

/// What a POP3 session asks of the shard.
#[derive(Debug)]
pub enum Ask {
    /// USER and PASS, or AUTH PLAIN. Before the answer the shard moves the session to the owner of
    /// the account and takes the maildrop lock. Answer: [`Answer::Login`], or [`Answer::Pass`] for an
    /// administrator who acts for somebody else.
    Login(Credentials),
    /// Comes in with a pass, at the owner of the account that it is for. Answer: [`Answer::Login`].
    Enter(Pass),
    /// Bytes `offset..offset + length` of a message. Answer: [`Answer::Data`].
    Read {
        /// Index into the list of [`Answer::Login`].
        index: u32,
        /// Bytes from the start of the message.
        offset: u64,
        /// Bytes wanted; fewer only at the end of the message.
        length: u32,
    },
    /// QUIT in the transaction state: expunge these messages (there may be none), durably, and give
    /// back the lock before the answer. Answer: [`Answer::Expunged`].
    Expunge {
        /// Indexes into the list of [`Answer::Login`].
        indexes: Vec<u32>,
    },
}

/// One message of the maildrop, as it was when the session logged in.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// For UIDL, together with the maildrop's validity.
    pub uid: u32,
    /// Octets on the wire, before dot-stuffing (stored bytes are CRLF already).
    pub bytes: u64,
}

/// The maildrop of a session.
#[derive(Debug, Clone)]
pub struct Maildrop {
    /// UIDVALIDITY of the INBOX: UIDL shows `validity.uid`.
    pub validity: u32,
    /// In order of arrival.
    pub entries: Vec<Entry>,
    /// Days after which messages of this account may be removed, shown by CAPA after login
    /// (RFC 2449 §6.7); `None`: never.
    pub expire_days: Option<u32>,
}

/// Why a login was refused (RFC 2449 §8.1, RFC 3206).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginError {
    /// Wrong name or password: `[AUTH]`.
    Credentials,
    /// The password is right, but may not act for the other: `[AUTH]`.
    Authorization,
    /// Another session holds the maildrop: `[IN-USE]`.
    InUse,
    /// Cannot be decided now (pool full, partition away): `[SYS/TEMP]`.
    Temporary(String),
    /// Will not work later either: `[SYS/PERM]`.
    Permanent(String),
}

/// What the shard answers.
#[derive(Debug)]
pub enum Answer {
    /// The maildrop, or why not.
    Login(Result<Maildrop, LoginError>),
    /// What lets an administrator in at the other's account: for [`Ask::Enter`].
    Pass(Pass),
    /// The bytes, or a text for `-ERR [SYS/TEMP]`.
    Data(Result<Vec<u8>, String>),
    /// Done and durable, or a text for `-ERR [SYS/TEMP]` (nothing or not all was removed).
    Expunged(Result<(), String>),
}
