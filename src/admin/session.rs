//! The server's side of the control socket, without the socket.

use std::time::{Duration, Instant};

use super::wire::{Reply, Request};
use crate::limits;
use crate::proto::{Event, Step};

/// How long a client may be silent; it may have hashes to compute between its requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// One connection of the control socket. Asks are [`Request`]s, answers [`Reply`]s, one at a time.
pub struct Session {
    /// The beginning of a line; at most `limits::ADMIN_REQUEST_BYTES_MAX`.
    line: Vec<u8>,
    /// The rest of a reply that is larger than what fits the output at once.
    reply: Vec<u8>,
    sent_bytes: usize,
    asking: bool,
    closing: bool,
    deadline: Option<Instant>,
}

impl Session {
    /// A session of a new connection.
    pub fn new() -> Session {
        Session {
            line: Vec::new(),
            reply: Vec::new(),
            sent_bytes: 0,
            asking: false,
            closing: false,
            deadline: None,
        }
    }

    fn say(&mut self, reply: &Reply, out: &mut Vec<u8>) -> Step<Request> {
        // Only a list can be too long, and lists come in pages that fit.
        let encoded = reply
            .encode()
            .or_else(|error| Reply::error(error).encode())
            .unwrap_or_default();
        self.reply = encoded;
        self.sent_bytes = 0;
        self.flush(out)
    }

    /// Moves as much of the reply to `out` as fits.
    fn flush(&mut self, out: &mut Vec<u8>) -> Step<Request> {
        let room = limits::OUTPUT_BYTES_MAX.saturating_sub(out.len());
        let rest = &self.reply[self.sent_bytes..];
        let now = &rest[..rest.len().min(room)];
        out.extend_from_slice(now);
        self.sent_bytes += now.len();
        if self.sent_bytes < self.reply.len() {
            return Step::Drain;
        }
        self.reply = Vec::new();
        self.sent_bytes = 0;
        if self.closing {
            Step::Close
        } else {
            Step::NeedInput
        }
    }
}

impl Default for Session {
    fn default() -> Session {
        Session::new()
    }
}

impl crate::proto::Session for Session {
    type Ask = Request;
    type Answer = Reply;

    fn greet(&mut self, now: Instant, _out: &mut Vec<u8>) -> Step<Request> {
        self.deadline = Some(now + IDLE_TIMEOUT);
        Step::NeedInput
    }

    fn feed(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Request>) {
        if !self.reply.is_empty() {
            let step = self.flush(out);
            if !matches!(step, Step::NeedInput) {
                return (0, step);
            }
        }
        if self.closing {
            return (input.len(), Step::Close);
        }
        if !input.is_empty() {
            self.deadline = Some(now + IDLE_TIMEOUT);
        }
        let end = memchr::memchr(b'\n', input);
        let part = &input[..end.unwrap_or(input.len())];
        let consumed = part.len() + usize::from(end.is_some());
        if self.line.len() + part.len() >= limits::ADMIN_REQUEST_BYTES_MAX {
            self.line = Vec::new();
            self.closing = true;
            let reply = Reply::error(format!(
                "a request has at most {} bytes",
                limits::ADMIN_REQUEST_BYTES_MAX
            ));
            return (consumed, self.say(&reply, out));
        }
        self.line.extend_from_slice(part);
        if end.is_none() {
            return (consumed, Step::NeedInput);
        }
        let line = std::mem::take(&mut self.line);
        match Request::decode(&line) {
            Ok(request) => {
                self.asking = true;
                self.deadline = None;
                (consumed, Step::Ask(request))
            }
            Err(error) => (consumed, self.say(&Reply::error(error), out)),
        }
    }

    fn answer(&mut self, answer: Reply, now: Instant, out: &mut Vec<u8>) -> Step<Request> {
        self.asking = false;
        self.deadline = Some(now + IDLE_TIMEOUT);
        self.say(&answer, out)
    }

    fn notify(&mut self, event: Event, _now: Instant, _out: &mut Vec<u8>) -> Step<Request> {
        match event {
            // What is asked or half sent is finished first.
            Event::Shutdown | Event::Timeout => self.closing = true,
            Event::Changed | Event::Removed => return Step::NeedInput,
        }
        if self.asking || (event == Event::Shutdown && !self.reply.is_empty()) {
            Step::NeedInput
        } else {
            Step::Close
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}
