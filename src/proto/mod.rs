//! Protocol sessions without I/O: bytes in, bytes and asks out.
//!
//! A [`Session`] is fed what the peer sent and writes replies into `out`. What it cannot decide by
//! itself (is this a recipient, make this message durable) it returns as an *ask*; the shard finds
//! the *answer*, and until then the session is fed nothing, which is the backpressure. A session
//! knows no socket, disk, clock or executor: time is an argument, so one seed drives a whole
//! conversation in a test, one byte at a time if need be.

use std::time::Instant;

#[cfg(test)]
mod driver;
pub mod http;
pub mod imap;
pub mod lines;
pub mod pop3;
pub mod sasl;
pub mod smtp;
pub mod transcript;

/// What a session wants next.
#[derive(Debug)]
pub enum Step<A> {
    /// Feed more bytes when they arrive (all that was consumed is accounted for).
    NeedInput,
    /// Find the answer to this, then call [`Session::answer`].
    Ask(A),
    /// `out` is at its bound: send it, then call `feed` again (with an empty slice if need be).
    Drain,
    /// Send `out`, then close the connection.
    Close,
}

/// What happens to a session from outside its own conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The server drains: finish the running transaction, refuse the next with 421 or its like.
    Shutdown,
    /// The session's deadline has passed: say so if the protocol can, and close.
    Timeout,
    /// Something has changed in what the session has open, or in its account. Only sessions that have
    /// asked to be told of it are.
    Changed,
    /// The account that the session has logged in to was removed: say so if the protocol can, and
    /// close.
    Removed,
}

/// One conversation of a protocol.
///
/// `feed` returns how many bytes of `input` it consumed; the shard keeps the rest and feeds it
/// again after the next step. After `Ask`, only `answer` or `notify` is called until the answer
/// is there. A panic in a session ends that session and nothing else.
pub trait Session {
    /// What the session cannot decide by itself.
    type Ask;
    /// The answer to an ask.
    type Answer;
    /// The greeting, written before anything is read.
    fn greet(&mut self, now: Instant, out: &mut Vec<u8>) -> Step<Self::Ask>;
    /// Consumes a prefix of `input`, writes replies to `out`.
    fn feed(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Self::Ask>);
    /// Takes the answer to the ask that is out.
    fn answer(&mut self, answer: Self::Answer, now: Instant, out: &mut Vec<u8>) -> Step<Self::Ask>;
    /// Something happened outside: shutdown, time-out and the like. May be called while an ask is out, then it
    /// must return [`Step::NeedInput`] and act when the answer comes.
    fn notify(&mut self, event: Event, now: Instant, out: &mut Vec<u8>) -> Step<Self::Ask>;
    /// An ask is out, has been for a while perhaps, and nothing waits to be sent: the session may say
    /// something meanwhile. Called about once a second.
    fn working(&mut self, _now: Instant, _out: &mut Vec<u8>) {}
    /// When [`Event::Timeout`] should come if nothing happens before; `None`: never.
    fn deadline(&self) -> Option<Instant>;
}
