//! IMAP from the client's side (RFC 3501, RFC 9051): sessions that work like a user's program, the
//! verifier's, which read whole mailboxes, and watchers, which see when mail arrives.
//!
//! ```text
//! session, check, watch   conversations
//! mix                     which commands, how often
//! client                  opening, tags, capabilities
//! responses               lines and literals
//! ```

mod check;
mod client;
mod mix;
mod responses;
mod session;
mod watch;

pub use check::{CheckOptions, ImapCheck, ImapCheckWork};
pub use client::Login;
pub use mix::{Mix, Operation};
pub use session::{Imap, ImapWork, Options};
pub use watch::{ImapWatch, ImapWatchWork, WatchOptions, Watching};

#[cfg(test)]
mod tests;
