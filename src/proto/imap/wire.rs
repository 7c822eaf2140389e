//! What goes over the wire: the conversation as it is, or compressed (RFC 4978).
//!
//! Guarantees: what the client sends behind COMPRESS is unpacked from its first byte on, however it is
//! cut, and what answers COMPRESS is the last that goes out plain; each turn's output is flushed, so
//! nothing waits in a compressor. Input that stands for much, or has much work in it for nothing, is
//! unpacked in pieces of bounded size, with pauses in which others are served.
//! Does not know: commands.
//! On failure: input that cannot be unpacked ends the session with BYE.
//!
//! Compression stays over LOGIN and UNAUTHENTICATE (RFC 8437 §3), and there is one layer of it.

use std::time::Instant;

use super::deflate::{Inflater, pack};
use super::{Answer, Ask, Session};
use crate::limits::INFLATE_TURN_BYTES;
use crate::proto::transcript::{Noting, Said};
use crate::proto::{Event, Step};

/// An IMAP connection's bytes: a [`Session`], and the compression that its client may start.
pub struct Wire {
    session: Session,
    layer: Option<Box<Layer>>,
}

/// Compression that has begun.
#[derive(Default)]
struct Layer {
    inflater: Inflater,
    /// [`Ask::Pause`] is out.
    pauses: bool,
    /// What happened meanwhile.
    missed: Vec<Event>,
}

impl Wire {
    /// Over a session that has not greeted yet.
    pub fn new(session: Session) -> Wire {
        Wire {
            session,
            layer: None,
        }
    }

    /// Bytes of memory held beside itself.
    pub fn held_bytes(&self) -> usize {
        let layer = self
            .layer
            .as_ref()
            .map_or(0, |layer| size_of::<Layer>() + layer.inflater.held_bytes());
        self.session.held_bytes() + layer
    }

    /// Memory is short: gives up what can be asked for again. `false`: there is nothing.
    pub fn shed(&mut self) -> bool {
        self.session.shed()
    }

    /// See [`Session::record`].
    pub fn record(&mut self, noting: Noting) {
        self.session.record(noting);
    }

    /// See [`Session::take_said`].
    pub fn take_said(&mut self) -> Option<Said> {
        self.session.take_said()
    }

    fn pauses(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.pauses)
    }

    /// Goes on with compressed input.
    fn go_on(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        let Some(layer) = &mut self.layer else {
            return crate::proto::Session::feed(&mut self.session, input, now, out);
        };
        let (mut used, mut turn_bytes) = (0, 0);
        loop {
            let plain = layer.inflater.pending();
            let (taken, step) = crate::proto::Session::feed(&mut self.session, plain, now, out);
            layer.inflater.take(taken);
            if !matches!(step, Step::NeedInput) {
                return (used, step);
            }
            if used == input.len() && !layer.inflater.is_full() {
                layer.inflater.rest();
                return (used, Step::NeedInput);
            }
            if turn_bytes >= INFLATE_TURN_BYTES {
                layer.pauses = true;
                return (used, Step::Ask(Ask::Pause));
            }
            match layer.inflater.unpack(&input[used..]) {
                Ok(unpacked) => {
                    used += unpacked.used;
                    turn_bytes += unpacked.turn_bytes();
                }
                Err(_) => {
                    out.extend_from_slice(b"* BYE Compressed data is damaged\r\n");
                    return (input.len(), Step::Close);
                }
            }
        }
    }

    /// Lets `work` write plain output, and packs it if that is due.
    fn packed<R>(
        &mut self,
        out: &mut Vec<u8>,
        work: impl FnOnce(&mut Wire, &mut Vec<u8>) -> R,
    ) -> R {
        let start = out.len();
        let is_packed = self.layer.is_some();
        if let Some(transcript) = self.session.transcript() {
            transcript.begin_turn(out);
        }
        let result = work(self, out);
        if let Some(transcript) = self.session.transcript() {
            transcript.end_turn(out);
        }
        if is_packed {
            pack(out, start);
        } else if self.session.is_compressed() {
            self.layer = Some(Box::default());
        }
        result
    }

    /// Others have had their turn.
    fn resume(&mut self, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        let missed = match &mut self.layer {
            Some(layer) => {
                layer.pauses = false;
                std::mem::take(&mut layer.missed)
            }
            None => Vec::new(),
        };
        missed.into_iter().fold(Step::NeedInput, |step, event| {
            let next = crate::proto::Session::notify(&mut self.session, event, now, out);
            match next {
                // With an ask out a session does nothing but remember.
                Step::NeedInput => step,
                next => next,
            }
        })
    }
}

impl crate::proto::Session for Wire {
    type Ask = Ask;
    type Answer = Answer;

    fn greet(&mut self, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.packed(out, |wire, out| wire.session.greet(now, out))
    }

    fn feed(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        if self.pauses() || self.session.is_asking() {
            return (0, Step::NeedInput);
        }
        self.packed(out, |wire, out| wire.go_on(input, now, out))
    }

    fn answer(&mut self, answer: Answer, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.packed(out, |wire, out| {
            let step = if wire.pauses() {
                wire.resume(now, out)
            } else {
                wire.session.answer(answer, now, out)
            };
            match step {
                // What is unpacked already comes before what is not.
                Step::NeedInput if wire.layer.is_some() => wire.go_on(&[], now, out).1,
                step => step,
            }
        })
    }

    fn notify(&mut self, event: Event, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        if let Some(layer) = self.layer.as_mut().filter(|layer| layer.pauses) {
            if !layer.missed.contains(&event) {
                layer.missed.push(event);
            }
            return Step::NeedInput;
        }
        self.packed(out, |wire, out| wire.session.notify(event, now, out))
    }

    fn working(&mut self, now: Instant, out: &mut Vec<u8>) {
        if !self.pauses() {
            self.packed(out, |wire, out| wire.session.working(now, out));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.pauses() {
            None
        } else {
            self.session.deadline()
        }
    }
}

#[cfg(test)]
mod tests;
