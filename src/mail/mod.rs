//! The vocabulary of mail: addresses, paths, envelopes, replies, trace headers, and the inside of
//! messages ([`mime`]).
//!
//! `Address` is `local-part@domain`; a `Mailbox` is the folder that holds messages (the RFCs use
//! one word for both).

mod address;
mod hops;
pub mod mime;
mod path;
mod reply;
pub mod trace;

pub use address::{Address, AddressError};
pub use hops::HopCounter;
pub use path::{ForwardPath, ReversePath};
pub use reply::{EnhancedStatus, Reply, write_lines};

/// How the body of a message was declared by the client (RFC 6152, RFC 3030).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BodyType {
    /// `BODY=7BIT`, or no BODY parameter.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
    /// `BODY=BINARYMIME` (only by BDAT).
    BinaryMime,
}

/// Paths and parameters of one transaction: everything about a message that is not in the message.
#[derive(Debug, Clone, Default)]
pub struct Envelope {
    /// `MAIL FROM`.
    pub reverse_path: ReversePath,
    /// `RCPT TO`, in the order given, accepted ones only.
    pub forward_paths: Vec<ForwardPath>,
    /// The BODY parameter.
    pub body_type: BodyType,
    /// The SMTPUTF8 parameter (RFC 6531).
    pub smtputf8: bool,
    /// The SIZE parameter in bytes (RFC 1870), where given.
    pub declared_bytes: Option<u64>,
}
