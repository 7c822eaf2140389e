//! One SMTP or LMTP conversation from the client's side (RFC 5321, RFC 2033; RFC 2920 pipelining,
//! RFC 3030 BDAT).
//!
//! Guarantees: "unsent" is said only while not a byte of a message's body was given to the engine;
//! once the body is out, only a reply decides, and without one the outcome is unknown.
//! On failure: a refused message is noted and the next one is tried, on the same connection where
//! the protocol allows it.

use std::time::Instant;

use super::opening::Opening;
use super::{Job, SmtpWork};
use crate::dialogue::lines::Replies;
use crate::dialogue::secured::Upgrade;
use crate::dialogue::{Dialogue, End, Next, SILENT_GREETING, Work as _, note_fault};
use crate::ledger::Outcome;
use crate::recorder::{Fault, FaultKey, Verb};

/// What the next reply answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Await {
    Greeting,
    Hello,
    /// HELO, after EHLO was refused.
    OldHello,
    StartTls,
    Auth,
    Mail,
    /// RCPT number so much.
    Rcpt(usize),
    Data,
    /// The end of the body; in LMTP, on behalf of the recipient with this number.
    Body(usize),
    /// The end of an empty body that nobody gets.
    Nobody,
    Reset,
    Quit,
    /// Nothing: no message is due yet.
    Due,
}

impl Await {
    pub(super) fn verb(self) -> Verb {
        match self {
            Await::Greeting => Verb::Greeting,
            Await::Hello | Await::OldHello => Verb::Hello,
            Await::StartTls => Verb::StartTls,
            Await::Auth => Verb::Auth,
            Await::Mail => Verb::Mail,
            Await::Rcpt(_) => Verb::Rcpt,
            Await::Data => Verb::Data,
            Await::Body(_) | Await::Nobody => Verb::Body,
            Await::Reset => Verb::Reset,
            Await::Quit => Verb::Quit,
            Await::Due => Verb::Rest,
        }
    }

    /// Before the first message: no attempt at one has been made.
    fn is_opening(self) -> bool {
        matches!(
            self,
            Await::Greeting | Await::Hello | Await::OldHello | Await::StartTls | Await::Auth
        )
    }
}

/// One connection's conversation.
#[derive(Debug)]
pub struct Smtp {
    pub(super) replies: Replies,
    pub(super) awaiting: Await,
    pub(super) opening: Opening,
    job: Option<Job>,
    /// By recipient of the job; 0: not decided yet.
    codes: Vec<u16>,
    outcomes: Vec<Outcome>,
    /// MAIL was refused with this.
    mail_refused: Option<u16>,
    /// The body is with the engine.
    body_out: bool,
    session_began: Instant,
    pub(super) step_began: Instant,
    message_began: Instant,
    body_began: Instant,
    messages: u64,
}

impl Dialogue for Smtp {
    type Work = SmtpWork;

    fn open(work: &mut SmtpWork, now: Instant) -> Option<Smtp> {
        // A job is taken here already, so that no connection is opened for nothing, unless they are
        // all to be open from the start.
        let job = work.next_job(now);
        if job.is_none() && !(work.options.open_all && work.next_due(now).is_some()) {
            return None;
        }
        Some(Smtp {
            replies: Replies::default(),
            awaiting: Await::Greeting,
            opening: Opening::default(),
            job,
            codes: Vec::new(),
            outcomes: Vec::new(),
            mail_refused: None,
            body_out: false,
            session_began: now,
            step_began: now,
            message_began: now,
            body_began: now,
            messages: 0,
        })
    }

    fn connected(&mut self, _work: &mut SmtpWork, now: Instant, _out: &mut Vec<u8>) -> Next {
        self.step_began = now;
        Next::Wait
    }

    fn received(
        &mut self,
        work: &mut SmtpWork,
        mut input: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        loop {
            let hello = self.awaiting == Await::Hello;
            let offers = &mut self.opening.offers;
            let reply = self.replies.next(&mut input, |line| {
                if hello {
                    offers.note(line);
                }
            });
            match reply {
                Ok(None) if self.awaiting == Await::Due => return Next::Idle,
                Ok(None) => return Next::Wait,
                Ok(Some(code)) => match self.reply(work, code, now, out) {
                    // What a server says between its agreement and TLS is not its own, perhaps.
                    Next::Wait if self.wants_tls() && !input.is_empty() => {
                        return self.nonsense(work, input);
                    }
                    Next::Wait | Next::Idle => {}
                    other => return other,
                },
                Err(nonsense) => return self.nonsense(work, &nonsense.sample),
            }
        }
    }

    fn woken(&mut self, work: &mut SmtpWork, now: Instant, out: &mut Vec<u8>) -> Next {
        self.next_message(work, now, out)
    }

    fn ended(mut self, work: &mut SmtpWork, end: End<'_>, now: Instant) {
        if let End::Fault(fault, text) = end {
            // After QUIT the server may close without a word.
            if self.awaiting != Await::Quit || matches!(fault, Fault::Timeout) {
                let silent = self.awaiting == Await::Greeting && fault == Fault::Timeout;
                let text = if silent { SILENT_GREETING } else { text };
                note_fault(&mut work.recorder, fault, self.verb_of(fault), text);
                work.broken = true;
                if work.options.stop_on_disconnect {
                    work.pace.schedule().stop();
                }
            }
        }
        if let Some(job) = self.job.take() {
            if self.awaiting.is_opening() {
                // No attempt has been made: the message goes to another connection.
                work.again.push_front(job);
            } else {
                self.finish(work, job, now);
            }
        }
    }
}

impl Upgrade for Smtp {
    fn wants_tls(&self) -> bool {
        self.opening.tls_next
    }

    fn upgraded(&mut self, work: &mut SmtpWork, now: Instant, out: &mut Vec<u8>) -> Next {
        self.begin_again(work, now, out)
    }
}

impl Smtp {
    fn verb_of(&self, fault: Fault) -> Verb {
        match fault {
            Fault::Refused | Fault::Unreachable => Verb::Connect,
            _ => self.awaiting.verb(),
        }
    }

    /// The envelope goes out in one piece.
    fn pipelined(&self, work: &SmtpWork) -> bool {
        self.opening.offers.pipelining && work.options.pipelining
    }

    pub(super) fn nonsense(&self, work: &mut SmtpWork, sample: &[u8]) -> Next {
        self.fault(work, Fault::Nonsense, 0, sample)
    }

    /// Notes a fault for which the connection is given up.
    pub(super) fn fault(
        &self,
        work: &mut SmtpWork,
        fault: Fault,
        code: u16,
        sample: &[u8],
    ) -> Next {
        let verb = self.awaiting.verb();
        work.recorder.fault(FaultKey { fault, verb, code }, sample);
        Next::Fail
    }

    pub(super) fn time(&mut self, work: &mut SmtpWork, verb: Verb, now: Instant) {
        work.recorder.time(verb, self.step_began, now);
        self.step_began = now;
    }

    /// Notes a reply that is not what was hoped for.
    pub(super) fn refuse(&self, work: &mut SmtpWork, code: u16) {
        let (fault, said) = match code {
            500.. => (Fault::Permanent, self.replies.text()),
            400.. => (Fault::Transient, self.replies.text()),
            _ => (
                Fault::Nonsense,
                &b"a reply that this command cannot have"[..],
            ),
        };
        self.fault(work, fault, code, said);
    }

    fn reply(&mut self, work: &mut SmtpWork, code: u16, now: Instant, out: &mut Vec<u8>) -> Next {
        let good = (200..300).contains(&code);
        match self.awaiting {
            awaiting if awaiting.is_opening() => self.open_with(work, code, good, now, out),
            Await::Mail => {
                if good {
                    if !self.pipelined(work) {
                        self.time(work, Verb::Mail, now);
                        self.send_rcpt(work, 0, out);
                    }
                } else {
                    self.refuse(work, code);
                    self.mail_refused = Some(code);
                    self.codes.fill(code);
                    if !self.pipelined(work) || code == 421 {
                        return self.message_over(work, code, now, out);
                    }
                }
                self.awaiting = Await::Rcpt(0);
                Next::Wait
            }
            Await::Rcpt(index) => self.rcpt(work, index, code, good, now, out),
            Await::Data => self.data(work, code, now, out),
            Await::Body(index) => self.body(work, index, code, good, now, out),
            Await::Nobody if self.mail_refused.is_none() && code != 421 => self.reset(out),
            Await::Nobody => self.message_over(work, code, now, out),
            Await::Reset => {
                self.time(work, Verb::Reset, now);
                // A server that refuses RSET has said all there is to say with its code.
                self.message_over(work, code, now, out)
            }
            Await::Due => {
                // Nobody has asked: the server takes its leave, as a rule with 421.
                self.refuse(work, code);
                Next::Fail
            }
            // Those of the opening are above.
            _ => {
                self.time(work, Verb::Quit, now);
                if work.options.messages_per_connection > 0 {
                    work.recorder.time(Verb::Session, self.session_began, now);
                }
                Next::Close
            }
        }
    }

    pub(super) fn command(&mut self, parts: &[&[u8]], awaiting: Await, out: &mut Vec<u8>) {
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b"\r\n");
        self.awaiting = awaiting;
    }

    /// Begins the next message, or says goodbye.
    pub(super) fn next_message(
        &mut self,
        work: &mut SmtpWork,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        let limit = work.options.messages_per_connection;
        if self.job.is_none() && (limit == 0 || self.messages < limit) {
            self.job = work.next_job(now);
        }
        (self.step_began, self.message_began) = (now, now);
        let Some(job) = &mut self.job else {
            let limited = limit > 0 && self.messages >= limit;
            if !limited && work.next_due(now).is_some() {
                self.awaiting = Await::Due;
                return Next::Idle;
            }
            self.command(&[b"QUIT"], Await::Quit, out);
            return Next::Wait;
        };
        if self.messages == 0 && job.times.began.is_none() {
            // It was taken before the connection was opened, whose time a closed loop leaves out.
            job.times.due = now;
        }
        self.messages += 1;
        self.codes.clear();
        self.codes.resize(job.recipients.len(), 0);
        self.mail_refused = None;
        self.body_out = false;
        let sender = match self.opening.own_sender {
            Some(user) => work.pool.get(user),
            None => &work.options.sender,
        };
        // That the server offers 8BITMIME was seen to before the first message.
        let end: &[u8] = if work.builder.is_eight_bit(job.draft) {
            b"> BODY=8BITMIME"
        } else {
            b">"
        };
        self.command(&[b"MAIL FROM:<", sender.as_bytes(), end], Await::Mail, out);
        if self.pipelined(work) {
            for index in 0..self.codes.len() {
                self.send_rcpt(work, index, out);
            }
            if work.options.chunking {
                self.send_chunk(work, now, out);
            } else {
                out.extend_from_slice(b"DATA\r\n");
            }
            self.awaiting = Await::Mail;
        }
        Next::Wait
    }

    fn send_rcpt(&mut self, work: &SmtpWork, index: usize, out: &mut Vec<u8>) {
        if let Some(job) = &self.job {
            let address = work.pool.get(job.recipients[index]);
            self.command(
                &[b"RCPT TO:<", address.as_bytes(), b">"],
                Await::Rcpt(index),
                out,
            );
        }
    }

    fn send_chunk(&mut self, work: &mut SmtpWork, now: Instant, out: &mut Vec<u8>) {
        if let Some(job) = &self.job {
            let bytes = work.builder.chunk_bytes(job.draft);
            out.extend_from_slice(format!("BDAT {bytes} LAST\r\n").as_bytes());
        }
        self.send_body(work, now, out);
    }

    fn send_body(&mut self, work: &mut SmtpWork, now: Instant, out: &mut Vec<u8>) {
        if let Some(job) = &self.job {
            work.builder.build(job.draft, job.id, out);
        }
        self.body_out = true;
        self.body_began = now;
    }

    fn rcpt(
        &mut self,
        work: &mut SmtpWork,
        index: usize,
        code: u16,
        good: bool,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        let pipelined = self.pipelined(work);
        if self.mail_refused.is_none() {
            if good {
                if !pipelined {
                    self.time(work, Verb::Rcpt, now);
                }
            } else {
                self.refuse(work, code);
                self.codes[index] = code;
                if code == 421 {
                    return self.message_over(work, code, now, out);
                }
            }
        }
        let next = index + 1;
        if next < self.codes.len() {
            if !pipelined {
                self.send_rcpt(work, next, out);
            }
            self.awaiting = Await::Rcpt(next);
            return Next::Wait;
        }
        match (pipelined, work.options.chunking) {
            (false, _) if !self.codes.contains(&0) => return self.reset(out),
            (false, true) => {
                self.send_chunk(work, now, out);
                self.awaiting = self.body_of(work, 0);
            }
            (false, false) => self.command(&[b"DATA"], Await::Data, out),
            (true, true) => self.awaiting = self.body_of(work, 0),
            (true, false) => self.awaiting = Await::Data,
        }
        Next::Wait
    }

    /// Whose reply comes next, from recipient `from` on: LMTP has one for each accepted recipient
    /// (RFC 2033 §4.2), SMTP one for all.
    fn body_of(&self, work: &SmtpWork, from: usize) -> Await {
        let open = self.codes[from..].iter().position(|&code| code == 0);
        match open {
            Some(offset) if work.options.lmtp => Await::Body(from + offset),
            Some(_) => Await::Body(0),
            None => Await::Nobody,
        }
    }

    fn data(&mut self, work: &mut SmtpWork, code: u16, now: Instant, out: &mut Vec<u8>) -> Next {
        let wanted = self.codes.contains(&0);
        if code == 354 {
            if self.pipelined(work) {
                work.recorder.time(Verb::Envelope, self.step_began, now);
            } else {
                self.time(work, Verb::Data, now);
                work.recorder.time(Verb::Envelope, self.message_began, now);
            }
            if wanted {
                self.send_body(work, now, out);
            } else {
                // RFC 2920 §3.1: the server took DATA although it took no recipient.
                out.extend_from_slice(b".\r\n");
            }
            self.awaiting = self.body_of(work, 0);
            return Next::Wait;
        }
        if wanted {
            self.refuse(work, code);
            // A 2xx here is no acknowledgement of anything.
            let code = if code < 400 { 554 } else { code };
            self.codes
                .iter_mut()
                .filter(|known| **known == 0)
                .for_each(|known| *known = code);
        }
        if code == 421 || self.mail_refused.is_some() {
            return self.message_over(work, code, now, out);
        }
        self.reset(out)
    }

    fn body(
        &mut self,
        work: &mut SmtpWork,
        index: usize,
        code: u16,
        good: bool,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        if good {
            work.recorder.time(Verb::Body, self.body_began, now);
        } else {
            self.refuse(work, code);
        }
        if work.options.lmtp && code != 421 {
            self.codes[index] = code;
            if let next @ Await::Body(_) = self.body_of(work, index + 1) {
                self.awaiting = next;
                return Next::Wait;
            }
        } else {
            self.codes
                .iter_mut()
                .filter(|known| **known == 0)
                .for_each(|known| *known = code);
        }
        if let Some(job) = &self.job
            && good
        {
            work.recorder.operation(Verb::Message, job.times, now);
        }
        self.message_over(work, code, now, out)
    }

    fn reset(&mut self, out: &mut Vec<u8>) -> Next {
        self.command(&[b"RSET"], Await::Reset, out);
        Next::Wait
    }

    /// The message is decided; on to the next, unless the server is leaving (421).
    fn message_over(
        &mut self,
        work: &mut SmtpWork,
        code: u16,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        if let Some(job) = self.job.take() {
            self.finish(work, job, now);
        }
        if code == 421 {
            return Next::Fail;
        }
        self.next_message(work, now, out)
    }

    fn finish(&mut self, work: &mut SmtpWork, job: Job, now: Instant) {
        let open = if self.body_out {
            Outcome::Unknown
        } else {
            Outcome::Unsent
        };
        self.outcomes.clear();
        self.outcomes
            .extend(self.codes.iter().map(|&code| match code {
                0 => open,
                code => Outcome::Code(code),
            }));
        work.finish(job, &self.outcomes, now);
    }
}
