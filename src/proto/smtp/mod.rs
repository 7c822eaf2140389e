//! SMTP (RFC 5321) and LMTP (RFC 2033), server side.
//!
//! ```text
//! session   the conversation: lines in, replies out, which ask is out
//! handlers  what each command does
//! command   the grammar of command lines
//! incoming  one message on its way in: failures, chunks, bounds
//! body      dots and line ends
//! replies   the fixed replies
//! ```
//!
//! Announced and kept: PIPELINING (RFC 2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8 (6531),
//! ENHANCEDSTATUSCODES (2034), CHUNKING and BINARYMIME (3030), LIMITS (9422), HELP.
//!
//! Decided here, where the RFCs leave it open:
//! - Only CRLF ends a line. A command line with a bare CR is refused (500); a bare LF closes the
//!   connection, since what stands behind it may be somebody's message and not a command.
//! - A message with a bare CR or LF is read to its true end and refused (550 5.6.0), by DATA and by
//!   BDAT, unless it was declared BODY=BINARYMIME, which has no lines.
//! - A BDAT whose length cannot be read closes the connection. One that fails, or has no
//!   recipients, ends the transaction.
//! - Extensions may be used after HELO; what the client does not know of it does not use.
//! - VRFY says 252 to everything, EXPN 502; RCPT is the only way to ask.

pub mod body;
pub mod command;
mod handlers;
mod incoming;
mod replies;
mod session;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use crate::mail::{Address, Envelope, ForwardPath, Reply};

pub use session::Session;

/// Which of the two protocols a session speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 5321.
    Smtp,
    /// RFC 2033: LHLO, and after the message one reply per accepted recipient.
    Lmtp,
}

/// What all sessions of a listener have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// SMTP or LMTP.
    pub dialect: Dialect,
    /// The name in the greeting and in `Received: by`.
    pub hostname: String,
    /// Largest message in bytes, announced by SIZE [N19].
    pub message_bytes_max: u64,
    /// Recipients of one message [N15].
    pub recipients_max: u32,
    /// Messages of one connection [N15].
    pub messages_max: u32,
    /// Recipients refused for good before the connection is closed; 0: as many as come.
    pub refused_recipients_max: u32,
    /// Idle time before a command [N17].
    pub command_timeout: Duration,
    /// Idle time within a message [N17].
    pub data_timeout: Duration,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// By TCP.
    Tcp(SocketAddr),
    /// By a Unix socket.
    Unix,
}

/// What an SMTP session asks of the shard.
#[derive(Debug)]
pub enum Ask {
    /// RCPT: may this message have this recipient? Answer: [`Answer::Recipient`].
    Recipient {
        /// As given, parsed.
        path: ForwardPath,
        /// The SIZE parameter of MAIL, 0 where absent.
        declared_bytes: u64,
    },
    /// A piece of a body above `limits::BODY_INLINE_BYTES_MAX`, in order. The first one carries the
    /// envelope. Answer: [`Answer::Chunk`]; after an error the session discards the rest of the
    /// message and then replies with the error.
    Chunk {
        /// With the first piece only.
        open: Option<Box<Transaction>>,
        /// The next bytes, as they will be stored.
        bytes: Vec<u8>,
    },
    /// The streamed body is given up (RSET in BDAT, too large, the peer erred). Answer:
    /// [`Answer::Chunk`]. A connection that ends needs none: the shard gives up its streams.
    Abort,
    /// The message is complete: make it durable. Answer: [`Answer::Delivered`].
    Deliver(Box<Transaction>),
}

/// One message on its way in.
#[derive(Debug)]
pub struct Transaction {
    /// Reverse path, accepted forward paths, parameters.
    pub envelope: Envelope,
    /// The name given in EHLO, HELO or LHLO.
    pub client_name: String,
    /// Where it came from.
    pub peer: Peer,
    /// For `Received: with`: `SMTP`, `ESMTP`, `LMTP`, `UTF8SMTP`, ... (RFC 3848, RFC 6531 §4.3).
    pub with_protocol: &'static str,
    /// The whole body, dots removed; or, where chunks went before, the bytes behind the last chunk.
    pub body: Vec<u8>,
    /// Bytes of all chunks that went before; 0: `body` is everything.
    pub streamed_bytes: u64,
}

/// What the shard answers.
#[derive(Debug)]
pub enum Answer {
    /// `Ok`: accepted, the session replies 250. `Err`: this reply.
    Recipient(Result<(), Reply>),
    /// The piece is taken, or the reply that ends the message.
    Chunk(Result<(), Reply>),
    /// SMTP: one reply. LMTP: one per accepted recipient, in order.
    Delivered(Vec<Reply>),
}

/// Text of a reply for one address, shared by SMTP and LMTP.
pub fn no_such_user(_address: &Address) -> Reply {
    Reply {
        code: 550,
        status: Some(crate::mail::EnhancedStatus(5, 1, 1)),
        text: Cow::Borrowed("No such user here"),
    }
}
