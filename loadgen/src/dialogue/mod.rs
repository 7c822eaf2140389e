//! The client's side of each protocol, without I/O: bytes in, bytes out, time as an argument.
//!
//! A [`Dialogue`] is one connection's conversation. What the connections of one thread share (the
//! schedule, the message builder, the recorder, the ledger) is its [`Work`]. The engine opens
//! connections, moves bytes and watches the time; it knows nothing of protocols.

pub mod http;
pub mod idle;
pub mod imap;
pub mod lines;
pub mod pop3;
pub mod pop3_watch;
pub mod secured;
pub mod smtp;

use std::time::Instant;

use crate::recorder::{Fault, Recorder, Verb};

/// What a dialogue wants next. What it wrote is sent meanwhile; closing sends nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// An answer, within the time-out.
    Wait,
    /// Nothing: the connection may stay silent for as long as it likes.
    Hold,
    /// To be woken at that time ([`Dialogue::woken`]), unless something happens before: bytes that
    /// come go to [`Dialogue::received`], whose answer replaces this one.
    Sleep(Instant),
    /// An operation: the connection is up and free. It is woken when one is due
    /// ([`Work::next_due`]) and this connection has waited longest, or when there will be none.
    Idle,
    /// To close: the conversation is over as it should be.
    Close,
    /// To close: the peer is at fault, which has been noted already.
    Fail,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// The dialogue returned [`Next::Close`] or [`Next::Fail`].
    Asked,
    /// The run is cut off: nobody's fault.
    Cut,
    /// In this way, with the system's words for it.
    Fault(Fault, &'a str),
}

/// What the connections of one thread share.
pub trait Work {
    /// Where times and errors go.
    fn recorder(&mut self) -> &mut Recorder;
    /// Called several times a second.
    fn tick(&mut self, now: Instant) {
        self.recorder().tick(now);
    }
    /// All connections are to be closed at once.
    fn is_cut(&self, now: Instant) -> bool;
    /// Why the run cannot go on, if it cannot.
    fn failure(&self) -> Option<String> {
        None
    }
    /// When the next operation is due that a free connection is to begin, perhaps in the past;
    /// `None`: there is none, and will be none. Asked about connections that are [`Next::Idle`],
    /// and about those that [`Dialogue::open`] did not open; a closed loop, in which every
    /// connection always has something to do, needs none of it.
    fn next_due(&mut self, _now: Instant) -> Option<Instant> {
        None
    }
}

/// One connection's conversation.
pub trait Dialogue: Sized {
    /// What it shares with the others of its thread.
    type Work: Work;
    /// A conversation for a connection about to be opened; `None`: there is nothing to do before
    /// [`Work::next_due`], and nothing at all if that says `None`.
    fn open(work: &mut Self::Work, now: Instant) -> Option<Self>;
    /// The connection is up.
    fn connected(&mut self, work: &mut Self::Work, now: Instant, out: &mut Vec<u8>) -> Next;
    /// Bytes came, all of which are consumed.
    fn received(
        &mut self,
        work: &mut Self::Work,
        input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next;
    /// What [`Next::Sleep`] or [`Next::Idle`] waited for has come. Where operations are taken from
    /// a schedule, there may be none left by now.
    fn woken(&mut self, _work: &mut Self::Work, _now: Instant, _out: &mut Vec<u8>) -> Next {
        Next::Hold
    }
    /// The connection is gone, or never came up.
    fn ended(self, work: &mut Self::Work, end: End<'_>, now: Instant);
}

/// What is said of a server that does not greet in time.
const SILENT_GREETING: &str =
    "no greeting; a port that wants TLS from the first byte is as silent (--tls), and so is HTTP";

/// Notes a fault of the connection itself.
fn note_fault(recorder: &mut Recorder, fault: Fault, verb: Verb, text: &str) {
    let key = crate::recorder::FaultKey {
        fault,
        verb,
        code: 0,
    };
    recorder.fault(key, text.as_bytes());
}

#[cfg(test)]
mod tests;
