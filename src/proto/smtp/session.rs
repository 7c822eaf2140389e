//! The conversation: whose turn it is, and what has been asked.
//!
//! Guarantees: one reply a command, in order, for any cutting of the input into pieces; nothing is
//! read ahead of an answer; under 256 bytes while no transaction runs.
//! Does not know: sockets, time but as an argument, who the recipients are.
//! On failure: a reply that says what is wrong; the connection closes where what follows could be
//! read in two ways.

use std::sync::Arc;
use std::time::Instant;

use super::incoming::{Incoming, Took};
use super::{Answer, Ask, Dialect, Peer, Settings, replies};
use crate::limits::{COMMAND_LINE_BYTES_MAX, ENDLESS_LINE_BYTES, OUTPUT_BYTES_MAX};
use crate::mail::Reply;
use crate::proto::lines::{Line, LineBuffer};
use crate::proto::{Event, Step};

/// Commands refused in a row before the connection is closed.
const ERRORS_MAX: u8 = 20;

/// One SMTP or LMTP conversation.
pub struct Session {
    pub(super) settings: Arc<Settings>,
    pub(super) peer: Peer,
    /// The name given in EHLO, HELO or LHLO.
    pub(super) client_name: Option<Box<str>>,
    /// EHLO or LHLO, not HELO.
    pub(super) extended: bool,
    /// MAIL commands accepted.
    pub(super) messages: u32,
    pub(super) phase: Phase,
    pub(super) asked: Asked,
    lines: LineBuffer,
    /// Recipients refused for good.
    refused_recipients: u32,
    /// Refused commands since the last good one.
    errors: u8,
    /// The server goes down: no next transaction.
    draining: bool,
    /// `None` before the greeting.
    last_progress: Option<Instant>,
}

/// What the next bytes are.
pub(super) enum Phase {
    /// Commands; there is no transaction.
    Idle,
    /// Commands; MAIL was accepted.
    Open(Box<Incoming>),
    /// The message behind DATA.
    Data(Box<Incoming>),
    /// The octets behind BDAT.
    Chunk(Box<Incoming>),
    /// The octets behind a BDAT that was refused, and the reply to it.
    Skip(u64, &'static [u8]),
    /// Nothing is read before these are written.
    Replies(Box<Replies>),
    /// Nothing any more.
    Closed,
}

/// The ask that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Recipient,
    Chunk,
    Abort,
    /// So many replies are due to the client.
    Delivery(usize),
}

/// Replies that may be more than the output takes at once.
pub(super) struct Replies {
    list: std::vec::IntoIter<Reply>,
    /// After those of the list, this one so many times.
    last: Reply,
    last_count: usize,
}

/// What a command comes to.
pub(super) enum Next {
    /// Its reply is written; go on.
    Continue,
    /// It needs this.
    Ask(Ask),
    /// Its reply is written; no more.
    Close,
}

impl Session {
    /// A session that has not greeted yet.
    pub fn new(settings: Arc<Settings>, peer: Peer) -> Session {
        Session {
            settings,
            peer,
            client_name: None,
            extended: false,
            messages: 0,
            phase: Phase::Idle,
            asked: Asked::Nothing,
            lines: LineBuffer::default(),
            refused_recipients: 0,
            errors: 0,
            draining: false,
            last_progress: None,
        }
    }

    /// Bytes of memory that the session holds beside itself: an unfinished line, a body.
    pub fn held_bytes(&self) -> usize {
        let body_bytes = match &self.phase {
            Phase::Open(incoming) | Phase::Data(incoming) | Phase::Chunk(incoming) => {
                incoming.held_bytes()
            }
            _ => 0,
        };
        self.lines.held_bytes() + body_bytes
    }

    /// Memory is short: gives the body up that is coming in, if there is one. The rest of it is
    /// read over, and the reply is 452. `false`: there is nothing to give up now.
    pub fn shed_body(&mut self) -> bool {
        match &mut self.phase {
            Phase::Data(incoming) | Phase::Chunk(incoming) if self.asked == Asked::Nothing => {
                incoming.shed()
            }
            _ => false,
        }
    }

    /// Writes the reply to a command that was carried out.
    pub(super) fn accept(&mut self, reply: &[u8], out: &mut Vec<u8>) -> Next {
        self.errors = 0;
        out.extend_from_slice(reply);
        Next::Continue
    }

    /// Writes the reply to a command that was not, and loses patience at some point.
    pub(super) fn refuse(&mut self, reply: &[u8], out: &mut Vec<u8>) -> Next {
        out.extend_from_slice(reply);
        self.count_error(out)
    }

    pub(super) fn count_error(&mut self, out: &mut Vec<u8>) -> Next {
        self.errors += 1;
        if self.errors < ERRORS_MAX {
            return Next::Continue;
        }
        out.extend_from_slice(replies::ERRORS_FULL);
        Next::Close
    }

    /// Whoever guesses addresses has so many guesses; what is put off (4xx) is no guess.
    fn count_refused_recipient(&mut self, reply: &Reply, out: &mut Vec<u8>) -> Next {
        if reply.code < 500 {
            return Next::Continue;
        }
        self.refused_recipients += 1;
        if self.refused_recipients != self.settings.refused_recipients_max {
            return Next::Continue;
        }
        out.extend_from_slice(replies::REFUSALS_FULL);
        Next::Close
    }

    /// Goes on as far as input and output allow.
    fn advance(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        let mut used = 0;
        loop {
            if matches!(self.phase, Phase::Closed) {
                return (input.len(), Step::Close);
            }
            if out.len() >= OUTPUT_BYTES_MAX {
                return (used, Step::Drain);
            }
            if self.draining && matches!(self.phase, Phase::Idle) {
                out.extend_from_slice(replies::SHUTDOWN);
                self.phase = Phase::Closed;
                continue;
            }
            let rest = &input[used..];
            let (bytes, step) = match self.phase {
                Phase::Idle | Phase::Open(_) => self.advance_command(rest, now, out),
                _ => self.advance_body(rest, now, out),
            };
            used += bytes;
            match step {
                None => {}
                Some(step) => return (used, step),
            }
        }
    }

    /// One command line.
    fn advance_command(
        &mut self,
        input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> (usize, Option<Step<Ask>>) {
        let (used, line) = self.lines.take(input, COMMAND_LINE_BYTES_MAX);
        let next = match line {
            Line::Partial if self.lines.line_bytes() > ENDLESS_LINE_BYTES => {
                out.extend_from_slice(replies::LINE_ENDLESS);
                Next::Close
            }
            Line::Partial => return (used, Some(Step::NeedInput)),
            Line::Complete(line) => self.command(&line, out),
            Line::TooLong => self.refuse(replies::LINE_TOO_LONG, out),
            Line::BareCr => self.refuse(replies::BARE_CR, out),
            Line::BareLf => {
                out.extend_from_slice(replies::BARE_LF);
                Next::Close
            }
        };
        self.last_progress = Some(now);
        (used, self.follow(next))
    }

    fn follow(&mut self, next: Next) -> Option<Step<Ask>> {
        match next {
            Next::Continue => None,
            Next::Ask(ask) => {
                self.asked = match &ask {
                    Ask::Recipient { .. } => Asked::Recipient,
                    Ask::Chunk { .. } => Asked::Chunk,
                    Ask::Abort => Asked::Abort,
                    Ask::Deliver(transaction) => Asked::Delivery(match self.settings.dialect {
                        Dialect::Smtp => 1,
                        Dialect::Lmtp => transaction.envelope.forward_paths.len(),
                    }),
                };
                Some(Step::Ask(ask))
            }
            Next::Close => {
                self.phase = Phase::Closed;
                None
            }
        }
    }

    /// Bytes that are no command, and replies that wait.
    fn advance_body(
        &mut self,
        input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> (usize, Option<Step<Ask>>) {
        let message_bytes_max = self.settings.message_bytes_max;
        let (used, took) = match &mut self.phase {
            Phase::Data(incoming) => incoming.take_data(input, message_bytes_max),
            Phase::Chunk(incoming) => incoming.take_octets(input, message_bytes_max),
            Phase::Skip(bytes_left, _) => {
                let bytes = usize::try_from(*bytes_left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *bytes_left -= bytes as u64;
                let took = if *bytes_left == 0 {
                    Took::End
                } else {
                    Took::More
                };
                (bytes, took)
            }
            Phase::Replies(replies) => {
                if !replies.write_some(out) {
                    self.phase = Phase::Idle;
                }
                return (0, None);
            }
            Phase::Idle | Phase::Open(_) | Phase::Closed => return (0, None),
        };
        if used > 0 {
            self.last_progress = Some(now);
        }
        let next = match took {
            Took::More => return (used, Some(Step::NeedInput)),
            Took::Ask(ask) => Next::Ask(ask),
            Took::End => self.end_of_body(out),
        };
        (used, self.follow(next))
    }

    /// A message, a chunk of one, or a refused chunk has been read to its end.
    fn end_of_body(&mut self, out: &mut Vec<u8>) -> Next {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Data(incoming) => self.complete(*incoming),
            Phase::Chunk(incoming) if incoming.chunk_is_last => self.complete(*incoming),
            Phase::Chunk(mut incoming) => {
                // RFC 3030 §2: a chunk that failed ends the transaction; BDATs that are already
                // on their way find none and get 503.
                if incoming.has_failed() {
                    if let Err((reply, _)) = incoming.finish() {
                        reply.write(out);
                    }
                } else {
                    incoming.end_chunk();
                    out.extend_from_slice(replies::OK);
                    self.phase = Phase::Open(incoming);
                }
                Next::Continue
            }
            Phase::Skip(_, reply) => self.refuse(reply, out),
            other => {
                self.phase = other;
                Next::Continue
            }
        }
    }

    /// The whole message is there, or has been read over.
    fn complete(&mut self, incoming: Incoming) -> Next {
        match incoming.finish() {
            Ok(transaction) => Next::Ask(Ask::Deliver(transaction)),
            Err((reply, recipients)) => {
                // RFC 2033 §4.2: LMTP replies for each recipient.
                let count = match self.settings.dialect {
                    Dialect::Smtp => 1,
                    Dialect::Lmtp => recipients,
                };
                self.phase = Phase::Replies(Box::new(Replies::new(Vec::new(), reply, count)));
                Next::Continue
            }
        }
    }

    /// What the answer means; `None`: it does not fit what was asked.
    fn take_answer(&mut self, answer: Answer, out: &mut Vec<u8>) -> Option<Next> {
        let asked = std::mem::replace(&mut self.asked, Asked::Nothing);
        match (asked, answer, &mut self.phase) {
            (Asked::Recipient, Answer::Recipient(Ok(())), _) => {
                Some(self.accept(replies::RECIPIENT_OK, out))
            }
            (Asked::Recipient, Answer::Recipient(Err(reply)), Phase::Open(incoming)) => {
                incoming.drop_path();
                reply.write(out);
                Some(self.count_refused_recipient(&reply, out))
            }
            (Asked::Chunk, Answer::Chunk(Ok(())), _) | (Asked::Abort, Answer::Chunk(_), _) => {
                Some(Next::Continue)
            }
            (
                Asked::Chunk,
                Answer::Chunk(Err(reply)),
                Phase::Data(incoming) | Phase::Chunk(incoming),
            ) => {
                incoming.stream_failed(reply);
                Some(Next::Continue)
            }
            (Asked::Delivery(1), Answer::Delivered(list), _) if list.len() == 1 => {
                list[0].write(out);
                Some(Next::Continue)
            }
            (Asked::Delivery(count), Answer::Delivered(mut list), _) => {
                list.truncate(count);
                let missing = count - list.len();
                let replies = Replies::new(list, replies::unanswered(), missing);
                self.phase = Phase::Replies(Box::new(replies));
                Some(Next::Continue)
            }
            _ => None,
        }
    }
}

impl crate::proto::Session for Session {
    type Ask = Ask;
    type Answer = Answer;

    /// ```text
    /// Greeting = "220 " ( Domain / address-literal ) [ SP textstring ] CRLF
    /// ```
    fn greet(&mut self, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.last_progress = Some(now);
        out.extend_from_slice(b"220 ");
        out.extend_from_slice(self.settings.hostname.as_bytes());
        out.extend_from_slice(match self.settings.dialect {
            Dialect::Smtp => b" ESMTP Ringpost\r\n",
            Dialect::Lmtp => b" LMTP Ringpost\r\n",
        });
        Step::NeedInput
    }

    fn feed(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        if self.asked != Asked::Nothing {
            return (0, Step::NeedInput);
        }
        self.advance(input, now, out)
    }

    fn answer(&mut self, answer: Answer, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.last_progress = Some(now);
        let next = self.take_answer(answer, out).unwrap_or_else(|| {
            out.extend_from_slice(replies::CONFUSED);
            Next::Close
        });
        match self.follow(next) {
            Some(step) => step,
            None => self.advance(&[], now, out).1,
        }
    }

    fn notify(&mut self, event: Event, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        if event == Event::Shutdown {
            self.draining = true;
        }
        if self.asked != Asked::Nothing {
            return Step::NeedInput;
        }
        if event == Event::Timeout && !matches!(self.phase, Phase::Closed) {
            out.extend_from_slice(replies::TIMEOUT);
            self.phase = Phase::Closed;
        }
        self.advance(&[], now, out).1
    }

    /// A command must be complete within its time, however its bytes dribble in (RFC 5321
    /// §4.5.3.2.7); within a message every byte counts as progress (§4.5.3.2.5).
    fn deadline(&self) -> Option<Instant> {
        if self.asked != Asked::Nothing {
            return None;
        }
        let timeout = match self.phase {
            Phase::Data(_) | Phase::Chunk(_) | Phase::Skip(..) => self.settings.data_timeout,
            _ => self.settings.command_timeout,
        };
        self.last_progress?.checked_add(timeout)
    }
}

impl Replies {
    fn new(list: Vec<Reply>, last: Reply, last_count: usize) -> Replies {
        Replies {
            list: list.into_iter(),
            last,
            last_count,
        }
    }

    /// Writes until the output is at its bound; `false`: all are written.
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        while out.len() < OUTPUT_BYTES_MAX {
            if let Some(reply) = self.list.next() {
                reply.write(out);
            } else if self.last_count > 0 {
                self.last_count -= 1;
                self.last.write(out);
            } else {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
