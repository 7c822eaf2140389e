//! The conversation: a request head, an ask, a response, again.
//!
//! Guarantees: how input is divided changes no byte of output; a request head is bounded in bytes,
//! fields and time; `out` takes a page in pieces of its bound; requests are answered in order.
//! Does not know: which pages there are, the time of day (so it sends no `Date`: RFC 9110 §6.6.1).
//! On failure: whatever leaves it unclear where the next request begins ends the connection.

use std::io::Write;
use std::time::{Duration, Instant};

use super::request::{self, Refusal, Request};
use super::{Answer, Ask};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_IDLE_SECONDS, OUTPUT_BYTES_MAX};
use crate::proto::{Event, Step};

/// One HTTP connection.
pub struct Session {
    /// The request head so far, from its first byte that is no line end. Empty while idle.
    head: Vec<u8>,
    state: State,
    deadline: Option<Instant>,
    shutdown: bool,
    timed_out: bool,
}

/// Where the conversation is.
enum State {
    /// A request head is due or has begun.
    Head,
    /// The ask is out.
    Asking { head_only: bool, keep_alive: bool },
    /// The rest of a page, from this offset on, is due.
    Body {
        body: Vec<u8>,
        offset: usize,
        keep_alive: bool,
    },
    /// Nothing more is read or said.
    Closed,
}

impl Default for Session {
    fn default() -> Self {
        Session::new()
    }
}

impl Session {
    /// A session that has not greeted yet.
    pub fn new() -> Session {
        Session {
            head: Vec::new(),
            state: State::Head,
            deadline: None,
            shutdown: false,
            timed_out: false,
        }
    }

    /// The head must be complete by then, or the output have moved.
    fn reset_deadline(&mut self, now: Instant) {
        self.deadline = now.checked_add(Duration::from_secs(HTTP_IDLE_SECONDS));
    }

    fn close(&mut self) -> Step<Ask> {
        self.state = State::Closed;
        self.head = Vec::new();
        Step::Close
    }

    /// Takes bytes up to the end of a request head; returns how many, and whether it is there.
    fn take_head(&mut self, input: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        for line in input.split_inclusive(|&byte| byte == b'\n') {
            let room = HTTP_HEAD_BYTES_MAX - self.head.len();
            if line.len() > room {
                self.head.extend_from_slice(&line[..room]);
                return (taken + room, false);
            }
            taken += line.len();
            self.head.extend_from_slice(line);
            match *self.head {
                // RFC 9112 §2.2: empty lines before a request are passed over.
                [b'\n'] | [b'\r', b'\n'] => self.head.clear(),
                [.., b'\n', b'\n'] | [.., b'\n', b'\r', b'\n'] => return (taken, true),
                _ => {}
            }
        }
        (taken, false)
    }

    fn take_request(&mut self, out: &mut Vec<u8>) -> Step<Ask> {
        let head = std::mem::take(&mut self.head);
        match request::parse_head(&head) {
            Ok(Request {
                path,
                head_only,
                keep_alive,
            }) => {
                self.state = State::Asking {
                    head_only,
                    keep_alive,
                };
                Step::Ask(Ask { path })
            }
            Err(refusal) => self.refuse(refusal, out),
        }
    }

    fn refuse(&mut self, refusal: Refusal, out: &mut Vec<u8>) -> Step<Ask> {
        let text = format!("{}\n", refusal.text);
        let extra = match refusal.status {
            405 => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        write_head(out, refusal.status, "text/plain", extra, text.len(), false);
        out.extend_from_slice(text.as_bytes());
        self.close()
    }

    /// Writes what fits of a page.
    fn write_body(
        &mut self,
        body: Vec<u8>,
        offset: usize,
        keep_alive: bool,
        out: &mut Vec<u8>,
    ) -> Option<Step<Ask>> {
        let room = OUTPUT_BYTES_MAX.saturating_sub(out.len());
        let end = body.len().min(offset + room);
        out.extend_from_slice(&body[offset..end]);
        if end < body.len() {
            self.state = State::Body {
                body,
                offset: end,
                keep_alive,
            };
            return Some(Step::Drain);
        }
        if !keep_alive || self.shutdown || self.timed_out {
            return Some(self.close());
        }
        self.state = State::Head;
        None
    }
}

impl crate::proto::Session for Session {
    type Ask = Ask;
    type Answer = Answer;

    fn greet(&mut self, now: Instant, _out: &mut Vec<u8>) -> Step<Ask> {
        self.reset_deadline(now);
        Step::NeedInput
    }

    fn feed(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        match std::mem::replace(&mut self.state, State::Head) {
            State::Head => {}
            asking @ State::Asking { .. } => {
                self.state = asking;
                return (0, Step::NeedInput);
            }
            State::Body {
                body,
                offset,
                keep_alive,
            } => {
                self.reset_deadline(now);
                if let Some(step) = self.write_body(body, offset, keep_alive, out) {
                    return (0, step);
                }
            }
            State::Closed => return (input.len(), self.close()),
        }
        if out.len() >= OUTPUT_BYTES_MAX {
            return (0, Step::Drain);
        }
        let (taken, complete) = self.take_head(input);
        if complete {
            (taken, self.take_request(out))
        } else if self.head.len() >= HTTP_HEAD_BYTES_MAX {
            let refusal = Refusal {
                status: 431,
                text: "a request head has at most 8192 bytes here",
            };
            (taken, self.refuse(refusal, out))
        } else {
            (taken, Step::NeedInput)
        }
    }

    fn answer(&mut self, answer: Answer, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.reset_deadline(now);
        let State::Asking {
            head_only,
            keep_alive,
        } = self.state
        else {
            // Nobody asked: the caller erred, and this session cannot go on.
            return self.close();
        };
        let keep_alive = keep_alive && !self.shutdown && !self.timed_out;
        let Answer {
            status,
            content_type,
            body,
        } = answer;
        write_head(out, status, content_type, "", body.len(), keep_alive);
        let body = if head_only { Vec::new() } else { body };
        self.write_body(body, 0, keep_alive, out)
            .unwrap_or(Step::NeedInput)
    }

    fn notify(&mut self, event: Event, _now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        match event {
            Event::Shutdown => self.shutdown = true,
            Event::Timeout => self.timed_out = true,
            Event::Changed | Event::Removed => return Step::NeedInput,
        }
        match (&self.state, event) {
            (State::Asking { .. }, _) => Step::NeedInput,
            // The page is finished first.
            (State::Body { .. }, Event::Shutdown) => Step::Drain,
            (State::Head, Event::Timeout) if !self.head.is_empty() => {
                let refusal = Refusal {
                    status: 408,
                    text: "the request did not come in time",
                };
                self.refuse(refusal, out)
            }
            // Idle (RFC 9112 §9.5: either side may close then), or a peer that stopped reading.
            _ => self.close(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Asking { .. } => None,
            _ => self.deadline,
        }
    }
}

/// A response head. `extra` is whole fields, each with its CRLF.
fn write_head(
    out: &mut Vec<u8>,
    status: u16,
    content_type: &str,
    extra: &str,
    body_bytes: usize,
    keep_alive: bool,
) {
    let reason = reason(status);
    let connection = if keep_alive {
        ""
    } else {
        "Connection: close\r\n"
    };
    let _ = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {body_bytes}\r\nCache-Control: no-store\r\n{extra}{connection}\r\n"
    );
}

/// RFC 9110 §15; empty for what we do not name (RFC 9112 §4 allows it).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
