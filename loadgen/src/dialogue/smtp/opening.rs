//! An SMTP or LMTP conversation before its first message: greeting, EHLO, STARTTLS (RFC 3207),
//! AUTH (RFC 4954).
//!
//! Guarantees: what was learnt before TLS is forgotten under TLS; a message is tried only when all
//! that the run asks for is in place.
//! On failure: the connection is given up, the fault noted; the message goes to another one.

use std::time::Instant;

use super::SmtpWork;
use super::session::{Await, Smtp};
use crate::dialogue::Next;
use crate::pool::user_name;
use crate::recorder::{Fault, Verb};
use crate::sasl::{self, Mechanism, Sasl};

/// What a server announces in its reply to EHLO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offers {
    pub pipelining: bool,
    chunking: bool,
    eight_bit: bool,
    starttls: bool,
    /// By number in [`Mechanism`].
    mechanisms: [bool; Mechanism::ALL.len()],
}

impl Offers {
    /// Takes a line of the reply, without its code.
    pub fn note(&mut self, line: &[u8]) {
        let mut words = line
            .split(|&byte| byte == b' ')
            .filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        match keyword.to_ascii_uppercase().as_slice() {
            b"PIPELINING" => self.pipelining = true,
            b"CHUNKING" => self.chunking = true,
            b"8BITMIME" => self.eight_bit = true,
            b"STARTTLS" => self.starttls = true,
            b"AUTH" => {
                for word in words {
                    let known = Mechanism::ALL
                        .into_iter()
                        .find(|known| word.eq_ignore_ascii_case(known.name().as_bytes()));
                    if let Some(known) = known {
                        self.mechanisms[known as usize] = true;
                    }
                }
            }
            _ => {}
        }
    }

    fn mechanisms(&self) -> Vec<&'static str> {
        let offered = Mechanism::ALL
            .into_iter()
            .filter(|known| self.mechanisms[*known as usize]);
        offered.map(Mechanism::name).collect()
    }
}

/// How far the opening is.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub offers: Offers,
    /// STARTTLS was agreed to just now.
    pub tls_next: bool,
    /// TLS is up, after STARTTLS.
    secured: bool,
    sasl: Option<Box<Sasl>>,
    authenticated: bool,
    /// `MAIL FROM` is this user's address.
    pub own_sender: Option<u32>,
}

impl Smtp {
    /// Takes a reply of the opening.
    pub(super) fn open_with(
        &mut self,
        work: &mut SmtpWork,
        code: u16,
        good: bool,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        if self.awaiting == Await::Auth {
            return self.authenticate(work, code, now, out);
        }
        if !good {
            self.refuse(work, code);
            let plain = self.awaiting == Await::Hello && !work.options.lmtp;
            if plain && (500..=504).contains(&code) {
                let name = work.options.hello.clone();
                self.command(&[b"HELO ", name.as_bytes()], Await::OldHello, out);
                return Next::Wait;
            }
            return Next::Fail;
        }
        self.time(work, self.awaiting.verb(), now);
        match self.awaiting {
            Await::Greeting => {
                self.hello(work, out);
                Next::Wait
            }
            Await::StartTls => {
                self.opening.tls_next = true;
                Next::Wait
            }
            _ => self.proceed(work, now, out),
        }
    }

    fn hello(&mut self, work: &SmtpWork, out: &mut Vec<u8>) {
        let hello: &[u8] = if work.options.lmtp {
            b"LHLO "
        } else {
            b"EHLO "
        };
        self.command(&[hello, work.options.hello.as_bytes()], Await::Hello, out);
    }

    /// TLS is up: nothing that was said before counts (RFC 3207 §4.2).
    pub(super) fn begin_again(
        &mut self,
        work: &mut SmtpWork,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        self.opening = Opening {
            secured: true,
            ..Opening::default()
        };
        self.step_began = now;
        self.hello(work, out);
        Next::Wait
    }

    /// What comes after EHLO, or after AUTH.
    fn proceed(&mut self, work: &mut SmtpWork, now: Instant, out: &mut Vec<u8>) -> Next {
        let options = work.options.clone();
        let offers = self.opening.offers;
        if options.starttls && !self.opening.secured {
            self.awaiting = Await::StartTls;
            if !offers.starttls {
                let said = b"the server does not announce STARTTLS (RFC 3207)";
                return self.fault(work, Fault::NotOffered, 0, said);
            }
            self.command(&[b"STARTTLS"], Await::StartTls, out);
            return Next::Wait;
        }
        if let Some(auth) = &options.auth
            && !self.opening.authenticated
        {
            self.awaiting = Await::Auth;
            if !offers.mechanisms[auth.mechanism as usize] {
                let said = format!(
                    "the server does not announce AUTH {}, but {:?}",
                    auth.mechanism.name(),
                    offers.mechanisms()
                );
                return self.fault(work, Fault::NotOffered, 0, said.as_bytes());
            }
            // Each connection is another user's.
            let user = work.random.u32(0..work.pool.len() as u32);
            self.opening.own_sender = auth.own_sender.then_some(user);
            let name = user_name(&auth.user_pattern, work.pool.get(user));
            let random = &mut work.random;
            let mut sasl = Sasl::new(auth.mechanism, &name, &auth.password, random);
            let initial = sasl.initial().map(|initial| sasl::encode(&initial));
            self.opening.sasl = Some(Box::new(sasl));
            let command = format!(
                "AUTH {}{}{}",
                auth.mechanism.name(),
                if initial.is_some() { " " } else { "" },
                initial.unwrap_or_default()
            );
            self.command(&[command.as_bytes()], Await::Auth, out);
            return Next::Wait;
        }
        let missing = if options.chunking && !offers.chunking {
            Some("--chunking: the server does not announce CHUNKING (RFC 3030)")
        } else if work.builder.has_eight_bit() && !offers.eight_bit {
            Some(
                "--messages: some have bytes beyond ASCII, and the server does not announce \
                 8BITMIME (RFC 6152)",
            )
        } else {
            None
        };
        if let Some(missing) = missing {
            work.failure = Some(missing.to_owned());
            return Next::Fail;
        }
        self.next_message(work, now, out)
    }

    /// Takes a reply to AUTH or to an answer.
    fn authenticate(
        &mut self,
        work: &mut SmtpWork,
        code: u16,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Next {
        let Some(sasl) = &mut self.opening.sasl else {
            return self.nonsense(work, b"a challenge without AUTH");
        };
        match code {
            334 => {
                let challenge = self.replies.text().get(4..).unwrap_or_default();
                let answer = sasl::decode(challenge)
                    .and_then(|challenge| sasl.answer(&challenge, &mut work.salted));
                match answer {
                    Ok(answer) => {
                        let answer = sasl::encode(&answer);
                        self.command(&[answer.as_bytes()], Await::Auth, out);
                        Next::Wait
                    }
                    Err(why) => self.nonsense(work, why.as_bytes()),
                }
            }
            200..=299 => match sasl.finish() {
                Ok(()) => {
                    self.time(work, Verb::Auth, now);
                    self.opening.authenticated = true;
                    self.opening.sasl = None;
                    self.proceed(work, now, out)
                }
                Err(why) => self.nonsense(work, why.as_bytes()),
            },
            _ => {
                self.refuse(work, code);
                Next::Fail
            }
        }
    }
}
