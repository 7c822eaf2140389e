//! One IMAP connection up to the open mailbox, and its commands afterwards: tags, capabilities,
//! STARTTLS, login, EXISTS (RFC 3501, RFC 9051; RFC 4959 for initial responses, RFC 7888 for
//! literals).
//!
//! Guarantees: every command's time and every refusal is noted once, here.
//! Does not know: which commands are wanted; the conversations built on it do.
//! On failure: an opening that is refused ends in [`Event::Failed`], noted already.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::responses::{Piece, Responses};
use crate::dialogue::lines::{Nonsense, nonsense};
use crate::dialogue::{End, note_fault};
use crate::pool::user_name;
use crate::recorder::{Fault, FaultKey, Recorder, Verb};

/// How a session begins.
#[derive(Debug, Clone)]
pub struct Login {
    /// Login name, see [`user_name`].
    pub user_pattern: String,
    /// Of all users.
    pub password: String,
    /// AUTHENTICATE PLAIN instead of LOGIN.
    pub plain: bool,
    /// The mailbox that is opened.
    pub mailbox: String,
    /// EXAMINE instead of SELECT.
    pub read_only: bool,
    /// STARTTLS before anything else.
    pub starttls: bool,
}

/// What the server can do, of what matters here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The server has said something about it in this state of the session.
    pub known: bool,
    /// LITERAL+ (RFC 7888): literals of any size without waiting.
    pub literal_plus: bool,
    /// LITERAL-, which IMAP4rev2 includes: the same up to 4096 bytes.
    pub literal_minus: bool,
    /// IDLE (RFC 2177), which IMAP4rev2 includes.
    pub idle: bool,
    /// SASL-IR (RFC 4959), which IMAP4rev2 includes.
    pub initial_response: bool,
    /// LOGIN is not allowed here.
    pub login_disabled: bool,
}

/// What has happened, for the conversation to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Logged in, the mailbox is open: commands may be sent.
    Ready,
    /// The command is answered; whether it was with OK.
    Answered(bool),
    /// `+`: the server waits for more.
    Continue,
    /// A whole untagged response, whose pieces have been seen.
    Untagged,
    /// The opening was refused, which has been noted.
    Failed,
}

/// What the client needs of its surroundings.
#[derive(Debug)]
pub struct Context<'a> {
    /// Where times and errors go.
    pub recorder: &'a mut Recorder,
    /// How to log in.
    pub login: &'a Login,
    /// Whose mailbox it is.
    pub address: &'a str,
    /// The time.
    pub now: Instant,
    /// What is sent.
    pub out: &'a mut Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    StartTls,
    /// The server has agreed to STARTTLS: what comes next is TLS.
    Handshake,
    Capability,
    /// The response of AUTHENTICATE PLAIN is due after `+`.
    Challenge,
    Login,
    /// What the server can do after the login.
    CapabilityAgain,
    Select,
    Open,
    Logout,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    responses: Responses,
    stage: Stage,
    tag: u32,
    verb: Verb,
    began: Instant,
    capabilities: Capabilities,
    /// Messages in the open mailbox.
    exists: u32,
    /// The last refusal or farewell.
    said: Vec<u8>,
    bye: bool,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Exists(u32),
    Expunge,
    Ok,
    Preauth,
    Bye,
    OtherUntagged,
    Continue,
    Tagged(u32, bool),
    Nonsense,
}

impl Client {
    /// A connection that is being opened.
    pub fn new(now: Instant) -> Client {
        Client {
            responses: Responses::default(),
            stage: Stage::Greeting,
            tag: 0,
            verb: Verb::Greeting,
            began: now,
            capabilities: Capabilities::default(),
            exists: 0,
            said: Vec::new(),
            bye: false,
        }
    }

    /// The connection is up.
    pub fn connected(&mut self, now: Instant) {
        self.began = now;
    }

    /// Messages in the open mailbox, by the server's last word.
    pub fn exists(&self) -> u32 {
        self.exists
    }

    /// What the server can do.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The mailbox was opened.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Logout)
    }

    /// The server has agreed to STARTTLS, and TLS is not up yet.
    pub fn wants_tls(&self) -> bool {
        self.stage == Stage::Handshake
    }

    /// TLS is up after STARTTLS. What the server said before may have been somebody else's: it is
    /// asked again what it can do (RFC 9051 §6.2.1).
    pub fn upgraded(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.capabilities = Capabilities::default();
        self.stage = Stage::Capability;
        self.command(Verb::Capability, b"CAPABILITY", now, out);
    }

    /// LOGOUT was sent.
    pub fn is_leaving(&self) -> bool {
        self.stage == Stage::Logout
    }

    /// Sends a command; its time is noted as `verb` when it is answered.
    pub fn command(&mut self, verb: Verb, text: &[u8], now: Instant, out: &mut Vec<u8>) {
        self.begin(verb, text, now, out);
        out.extend_from_slice(b"\r\n");
    }

    /// Sends a command up to, and without, its line end.
    pub fn begin(&mut self, verb: Verb, text: &[u8], now: Instant, out: &mut Vec<u8>) {
        self.tag += 1;
        self.verb = verb;
        self.began = now;
        out.extend_from_slice(format!("a{} ", self.tag).as_bytes());
        out.extend_from_slice(text);
    }

    /// The command goes on, and from here to its answer it is timed as `verb`.
    pub fn time_again(&mut self, verb: Verb, now: Instant) {
        self.verb = verb;
        self.began = now;
    }

    /// Sends LOGOUT.
    pub fn leave(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.stage = Stage::Logout;
        self.command(Verb::Logout, b"LOGOUT", now, out);
    }

    /// What happens next in `input`; `None` when it is used up. `each` sees the pieces of untagged
    /// responses once the mailbox is open.
    ///
    /// # Errors
    /// When what came is not IMAP.
    pub fn next(
        &mut self,
        input: &mut &[u8],
        context: &mut Context<'_>,
        mut each: impl FnMut(Piece<'_>),
    ) -> Result<Option<Event>, Nonsense> {
        loop {
            let Some(piece) = self.responses.next(input)? else {
                return Ok(None);
            };
            let seen = matches!(self.stage, Stage::Open | Stage::Logout);
            let Piece::Text {
                text,
                first: true,
                last,
            } = piece
            else {
                if seen {
                    each(piece);
                    if matches!(piece, Piece::Text { last: true, .. }) {
                        return Ok(Some(Event::Untagged));
                    }
                }
                continue;
            };
            let line = parse_line(text);
            if let Some(words) = capability_words(text) {
                self.capabilities = parse_capabilities(words);
            }
            match line {
                Line::Nonsense => return Err(nonsense(text)),
                Line::Tagged(_, false) | Line::Bye => {
                    self.said.clear();
                    self.said.extend_from_slice(&text[..text.len().min(200)]);
                }
                Line::Tagged(tag, _) if tag != self.tag => return Err(nonsense(text)),
                Line::Exists(count) => self.exists = count,
                Line::Expunge => self.exists = self.exists.saturating_sub(1),
                _ => {}
            }
            let untagged = !matches!(line, Line::Tagged(..) | Line::Continue);
            if seen && untagged {
                each(piece);
            }
            self.bye |= line == Line::Bye;
            if let Some(event) = self.line(line, context) {
                return Ok(Some(event));
            }
            // What a server says between its agreement and TLS is not its own, perhaps.
            if self.wants_tls() && !input.is_empty() {
                return Err(nonsense(input));
            }
            if seen && untagged && last {
                return Ok(Some(Event::Untagged));
            }
        }
    }

    fn line(&mut self, line: Line, context: &mut Context<'_>) -> Option<Event> {
        match (self.stage, line) {
            (Stage::Greeting, Line::Ok | Line::Preauth) => {
                context.recorder.time(self.verb, self.began, context.now);
                if context.login.starttls {
                    if line == Line::Ok {
                        return self.opening(Stage::StartTls, Verb::StartTls, b"STARTTLS", context);
                    }
                    self.verb = Verb::StartTls;
                    self.said =
                        b"the server greets with PREAUTH, after which there is no STARTTLS \
                                  (RFC 9051 \xc2\xa77.1.4)"
                            .to_vec();
                    self.note(context.recorder, Fault::Permanent);
                    return Some(Event::Failed);
                }
                if line == Line::Preauth {
                    return self.select(context);
                }
                if self.capabilities.known {
                    self.login(context)
                } else {
                    self.opening(Stage::Capability, Verb::Capability, b"CAPABILITY", context)
                }
            }
            (Stage::Greeting, _) => {
                let fault = if line == Line::Bye {
                    Fault::Transient
                } else {
                    Fault::Nonsense
                };
                self.note(context.recorder, fault);
                Some(Event::Failed)
            }
            (Stage::Challenge, Line::Continue) => {
                let response = plain_response(context);
                context.out.extend_from_slice(response.as_bytes());
                context.out.extend_from_slice(b"\r\n");
                self.stage = Stage::Login;
                None
            }
            (Stage::Open | Stage::Logout, Line::Continue) => Some(Event::Continue),
            (_, Line::Tagged(_, false)) => {
                self.note(context.recorder, Fault::Permanent);
                Some(match self.stage {
                    Stage::Open | Stage::Logout => Event::Answered(false),
                    _ => Event::Failed,
                })
            }
            (stage, Line::Tagged(_, true)) => {
                context.recorder.time(self.verb, self.began, context.now);
                match stage {
                    Stage::StartTls => {
                        self.stage = Stage::Handshake;
                        None
                    }
                    Stage::Capability => self.login(context),
                    Stage::Login | Stage::Challenge if !self.capabilities.known => self.opening(
                        Stage::CapabilityAgain,
                        Verb::Capability,
                        b"CAPABILITY",
                        context,
                    ),
                    Stage::Login | Stage::Challenge | Stage::CapabilityAgain => {
                        self.select(context)
                    }
                    Stage::Select => {
                        self.stage = Stage::Open;
                        Some(Event::Ready)
                    }
                    Stage::Greeting | Stage::Handshake | Stage::Open | Stage::Logout => {
                        Some(Event::Answered(true))
                    }
                }
            }
            _ => None,
        }
    }

    fn opening(
        &mut self,
        stage: Stage,
        verb: Verb,
        text: &[u8],
        context: &mut Context<'_>,
    ) -> Option<Event> {
        self.stage = stage;
        self.command(verb, text, context.now, context.out);
        None
    }

    fn login(&mut self, context: &mut Context<'_>) -> Option<Event> {
        let capabilities = std::mem::take(&mut self.capabilities);
        if context.login.plain {
            return if capabilities.initial_response {
                let text = format!("AUTHENTICATE PLAIN {}", plain_response(context));
                self.opening(Stage::Login, Verb::Login, text.as_bytes(), context)
            } else {
                let text = b"AUTHENTICATE PLAIN";
                self.opening(Stage::Challenge, Verb::Login, text, context)
            };
        }
        if capabilities.login_disabled {
            self.verb = Verb::Login;
            self.said = b"the server announces LOGINDISABLED: use --auth plain, or TLS".to_vec();
            self.note(context.recorder, Fault::Permanent);
            return Some(Event::Failed);
        }
        let name = user_name(&context.login.user_pattern, context.address);
        let text = format!(
            "LOGIN {} {}",
            quoted(&name),
            quoted(&context.login.password)
        );
        self.opening(Stage::Login, Verb::Login, text.as_bytes(), context)
    }

    fn select(&mut self, context: &mut Context<'_>) -> Option<Event> {
        let verb = if context.login.read_only {
            "EXAMINE"
        } else {
            "SELECT"
        };
        let text = format!("{verb} {}", quoted(&context.login.mailbox));
        self.opening(Stage::Select, Verb::Select, text.as_bytes(), context)
    }

    fn note(&self, recorder: &mut Recorder, fault: Fault) {
        let key = FaultKey {
            fault,
            verb: self.verb,
            code: 0,
        };
        recorder.fault(key, &self.said);
    }

    /// Notes that what came is not IMAP.
    pub fn nonsense(&self, recorder: &mut Recorder, nonsense: &Nonsense) {
        let key = FaultKey {
            fault: Fault::Nonsense,
            verb: self.verb,
            code: 0,
        };
        recorder.fault(key, &nonsense.sample);
    }

    /// Notes how the connection ended, if that is a fault.
    pub fn ended(&self, recorder: &mut Recorder, end: End<'_>) {
        let End::Fault(fault, text) = end else {
            return;
        };
        // After LOGOUT the server closes (RFC 9051 §6.1.3), with or without a word.
        if self.stage == Stage::Logout && fault != Fault::Timeout {
            return;
        }
        let verb = match fault {
            Fault::Refused | Fault::Unreachable => Verb::Connect,
            _ => self.verb,
        };
        if self.bye {
            let text = String::from_utf8_lossy(&self.said).into_owned();
            note_fault(recorder, fault, verb, &text);
        } else {
            note_fault(recorder, fault, verb, text);
        }
    }
}

/// The response of the PLAIN mechanism (RFC 4616).
fn plain_response(context: &Context<'_>) -> String {
    let name = user_name(&context.login.user_pattern, context.address);
    STANDARD.encode(format!("\0{name}\0{}", context.login.password))
}

/// `text` as a quoted string (RFC 9051 §4.3).
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn parse_line(text: &[u8]) -> Line {
    if let Some(rest) = text.strip_prefix(b"* ") {
        let mut words = rest.split(|&byte| byte == b' ');
        let word = words.next().unwrap_or_default();
        if let Some(number) = number(word) {
            let name = words.next().unwrap_or_default();
            return match name {
                _ if name.eq_ignore_ascii_case(b"EXISTS") => Line::Exists(number),
                _ if name.eq_ignore_ascii_case(b"EXPUNGE") => Line::Expunge,
                _ => Line::OtherUntagged,
            };
        }
        return match word {
            _ if word.eq_ignore_ascii_case(b"OK") => Line::Ok,
            _ if word.eq_ignore_ascii_case(b"PREAUTH") => Line::Preauth,
            _ if word.eq_ignore_ascii_case(b"BYE") => Line::Bye,
            _ => Line::OtherUntagged,
        };
    }
    if text == b"+" || text.starts_with(b"+ ") {
        return Line::Continue;
    }
    let Some(rest) = text.strip_prefix(b"a") else {
        return Line::Nonsense;
    };
    let mut words = rest.split(|&byte| byte == b' ');
    let tag = words.next().and_then(number);
    let status = words.next().unwrap_or_default();
    match tag {
        Some(tag) if status.eq_ignore_ascii_case(b"OK") => Line::Tagged(tag, true),
        Some(tag) if status.eq_ignore_ascii_case(b"NO") || status.eq_ignore_ascii_case(b"BAD") => {
            Line::Tagged(tag, false)
        }
        _ => Line::Nonsense,
    }
}

fn number(word: &[u8]) -> Option<u32> {
    let digits = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    digits
        .then(|| std::str::from_utf8(word).ok()?.parse().ok())
        .flatten()
}

/// The list in `* CAPABILITY ...` or in the code `[CAPABILITY ...]` of a status response.
fn capability_words(text: &[u8]) -> Option<&[u8]> {
    if let Some(list) = text.strip_prefix(b"* CAPABILITY ") {
        return Some(list);
    }
    let code = b"[CAPABILITY ";
    let at = text
        .windows(code.len())
        .take(32)
        .position(|window| window == code)?;
    let list = &text[at + code.len()..];
    list.split(|&byte| byte == b']').next()
}

fn parse_capabilities(words: &[u8]) -> Capabilities {
    let mut found = Capabilities {
        known: true,
        ..Capabilities::default()
    };
    for word in words.split(|&byte| byte == b' ') {
        let word = word.to_ascii_uppercase();
        match word.as_slice() {
            b"IMAP4REV2" => {
                found.literal_minus = true;
                found.idle = true;
                found.initial_response = true;
            }
            b"LITERAL+" => found.literal_plus = true,
            b"LITERAL-" => found.literal_minus = true,
            b"IDLE" => found.idle = true,
            b"SASL-IR" => found.initial_response = true,
            b"LOGINDISABLED" => found.login_disabled = true,
            _ => {}
        }
    }
    found
}
