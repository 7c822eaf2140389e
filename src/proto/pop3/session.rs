//! The conversation: states, commands, replies.
//!
//! Guarantees: how input is divided changes no byte of output; a message is expunged by QUIT in
//! the TRANSACTION state and by nothing else (RFC 1939 §6): a lost connection, a time-out or a
//! shutdown removes nothing. `out` never grows by more than one piece of a message beyond its
//! bound. Passwords are wiped after use.
//! Does not know: accounts, partitions, sockets, the time of day.
//! On failure: the peer gets `-ERR` with a response code that says whether trying again helps
//! (RFC 3206); after `limits::POP3_BAD_COMMANDS_MAX` mistakes or
//! `limits::POP3_LOGIN_FAILURES_MAX` wrong passwords the session ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use super::command::{Command, parse_command};
use super::line::{Line, LineBuffer};
use super::transaction::{Listing, Progress, Transaction, write_error};
use super::{Answer, Ask, Credentials, LoginError, Settings};
use crate::limits::{OUTPUT_BYTES_MAX, POP3_BAD_COMMANDS_MAX, POP3_LOGIN_FAILURES_MAX};
use crate::mail::Address;
use crate::proto::sasl;
use crate::proto::transcript::{Noting, Said, Transcript};
use crate::proto::{Event, Step};

/// One POP3 conversation. Everything in it is owned, so that it can move to another shard.
pub struct Session {
    settings: Arc<Settings>,
    peer: SocketAddr,
    line: LineBuffer,
    state: State,
    /// From the last command, answer or output that moved.
    deadline: Option<Instant>,
    /// The server drains: close as soon as the running command is done.
    shutdown: bool,
    /// Time is up while an ask is out: close without another word when the answer comes.
    timed_out: bool,
    /// The account is gone: close as soon as no answer and no response is under way.
    removed: bool,
    bad_commands: u8,
    login_failures: u8,
    /// What is said, while somebody wants it [N35].
    transcript: Option<Box<Transcript>>,
}

/// RFC 1939 §3, with the steps in between.
enum State {
    /// AUTHORIZATION: USER, AUTH, CAPA, UTF8 or QUIT.
    Authorization,
    /// AUTHORIZATION: a name was given, PASS comes next.
    Named(Box<[u8]>),
    /// AUTHORIZATION: the next line is the response to our empty challenge.
    Challenged,
    /// [`Ask::Login`] is out.
    LoggingIn,
    /// TRANSACTION.
    Transaction(Box<Transaction>),
    /// TRANSACTION, and [`Ask::Read`] is out.
    Reading(Box<Transaction>),
    /// UPDATE: [`Ask::Expunge`] is out.
    Updating,
    /// Nothing more is read or said.
    Closed,
}

impl Session {
    /// A session that has not greeted yet.
    pub fn new(settings: Arc<Settings>, peer: SocketAddr) -> Session {
        Session {
            settings,
            peer,
            line: LineBuffer::default(),
            state: State::Authorization,
            deadline: None,
            shutdown: false,
            timed_out: false,
            removed: false,
            bad_commands: 0,
            login_failures: 0,
            transcript: Transcript::before_login(),
        }
    }

    /// Bytes of memory that the session holds beside itself: an unfinished line, a maildrop.
    pub fn held_bytes(&self) -> usize {
        let maildrop_bytes = match &self.state {
            State::Transaction(transaction) | State::Reading(transaction) => {
                transaction.held_bytes()
            }
            _ => 0,
        };
        let transcript = self.transcript.as_ref().map_or(0, |said| said.held_bytes());
        self.line.held_bytes() + maildrop_bytes + transcript
    }

    /// From now on so much of what is said is noted [N35].
    pub fn record(&mut self, noting: Noting) {
        self.transcript = Transcript::go_on(self.transcript.take(), noting);
    }

    /// What was said since the last call; `None`: it is not noted.
    pub fn take_said(&mut self) -> Option<Said> {
        self.transcript.as_mut().map(|transcript| transcript.take())
    }

    /// Lets `work` write to `out`, and notes it.
    fn heard<R>(
        &mut self,
        out: &mut Vec<u8>,
        work: impl FnOnce(&mut Session, &mut Vec<u8>) -> R,
    ) -> R {
        if let Some(transcript) = &mut self.transcript {
            transcript.begin_turn(out);
        }
        let result = work(self, out);
        if let Some(transcript) = &mut self.transcript {
            transcript.end_turn(out);
        }
        result
    }

    /// The ask that is out waits for an answer.
    fn is_asking(&self) -> bool {
        matches!(
            self.state,
            State::LoggingIn | State::Reading(_) | State::Updating
        )
    }

    /// RFC 1939 §3: any command resets the timer. Bytes of an unfinished line do not: one byte a
    /// minute shall not hold a maildrop's lock.
    fn reset_deadline(&mut self, now: Instant) {
        self.deadline = now.checked_add(self.settings.idle_timeout);
    }

    fn close(&mut self) -> Step<Ask> {
        self.state = State::Closed;
        Step::Close
    }

    /// One line of the client. `None`: go on with what is there.
    fn take_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Option<Step<Ask>> {
        if matches!(self.state, State::Challenged) {
            self.state = State::Authorization;
            if line == b"*" {
                return reply(out, "-ERR authentication cancelled");
            }
            return self.log_in_plain(line, out);
        }
        let command = match parse_command(line) {
            Ok(command) => command,
            Err(text) => return self.bad_command(text, out),
        };
        match (command, &mut self.state) {
            (Command::Capa, _) => self.write_capabilities(out),
            (Command::Quit, State::Transaction(transaction)) => {
                // Asked even when nothing is marked: the answer comes when the lock is given back,
                // so that a client which has its +OK can log in again at once.
                let indexes = transaction.marked();
                self.state = State::Updating;
                Some(Step::Ask(Ask::Expunge { indexes }))
            }
            (Command::Quit, _) => {
                reply(out, "+OK bye");
                Some(self.close())
            }
            (command, State::Transaction(_)) => self.transact(command, out),
            (command, _) => self.authorize(command, out),
        }
    }

    /// Commands of the AUTHORIZATION state.
    fn authorize(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        match command {
            Command::User(name) => {
                // Whether the name exists is not said before the password is right.
                self.state = State::Named(name.into());
                reply(out, "+OK")
            }
            Command::Pass(password) => {
                match std::mem::replace(&mut self.state, State::Authorization) {
                    State::Named(name) => {
                        let password = Zeroizing::new(password.to_vec());
                        self.log_in(&name, None, password, out)
                    }
                    _ => self.bad_command("USER comes first", out),
                }
            }
            Command::Auth {
                mechanism: None, ..
            } => {
                // Older than RFC 5034, but some clients ask this way.
                out.extend_from_slice(b"+OK\r\nPLAIN\r\n.\r\n");
                None
            }
            Command::Auth {
                mechanism: Some(mechanism),
                initial,
            } => {
                self.state = State::Authorization;
                if !mechanism.eq_ignore_ascii_case(b"PLAIN") {
                    return self.bad_command("no such mechanism here: only PLAIN", out);
                }
                match initial {
                    Some(response) => self.log_in_plain(response, out),
                    None => {
                        self.state = State::Challenged;
                        reply(out, "+ ")
                    }
                }
            }
            // Nothing to remember: messages and names are passed as they are in either mode.
            Command::Utf8 => reply(out, "+OK"),
            _ => self.bad_command("log in first", out),
        }
    }

    /// Commands of the TRANSACTION state.
    fn transact(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        let State::Transaction(transaction) = &mut self.state else {
            return None;
        };
        let found = match command {
            Command::Stat => {
                let (count, bytes) = transaction.stat();
                return reply(out, &format!("+OK {count} {bytes}"));
            }
            Command::List(None) => {
                transaction.list_all(Listing::Sizes, out);
                true
            }
            Command::Uidl(None) => {
                transaction.list_all(Listing::UniqueIds, out);
                true
            }
            Command::List(Some(number)) => transaction.list_one(Listing::Sizes, number, out),
            Command::Uidl(Some(number)) => transaction.list_one(Listing::UniqueIds, number, out),
            Command::Retr(number) => transaction.retrieve(number, None),
            Command::Top(number, lines) => transaction.retrieve(number, Some(lines)),
            Command::Dele(number) => {
                let found = transaction.mark(number);
                if found {
                    reply(out, "+OK");
                }
                found
            }
            Command::Rset => {
                transaction.unmark_all();
                return reply(out, "+OK");
            }
            Command::Noop => return reply(out, "+OK"),
            _ => return self.bad_command("logged in already", out),
        };
        if found {
            None
        } else {
            reply(out, "-ERR no such message")
        }
    }

    fn log_in_plain(&mut self, response: &[u8], out: &mut Vec<u8>) -> Option<Step<Ask>> {
        match sasl::decode_plain(response) {
            Ok(plain) => {
                let name = plain.authentication_id;
                let act_as = plain.authorization_id;
                self.log_in(name.as_bytes(), act_as, plain.password, out)
            }
            Err(error) => self.bad_command(&error.to_string(), out),
        }
    }

    fn log_in(
        &mut self,
        name: &[u8],
        act_as: Option<String>,
        password: Zeroizing<Vec<u8>>,
        out: &mut Vec<u8>,
    ) -> Option<Step<Ask>> {
        let Some(user) = self.canonical_user(name) else {
            return self.refuse_credentials(out);
        };
        let act_as = match act_as.map(|name| self.canonical_user(name.as_bytes())) {
            None => None,
            Some(Some(name)) => Some(name).filter(|name| *name != user),
            Some(None) => return self.refuse_credentials(out),
        };
        self.state = State::LoggingIn;
        Some(Step::Ask(Ask::Login(Credentials {
            user,
            act_as,
            password,
            peer: self.peer,
        })))
    }

    /// `None`: no account can have this name.
    fn canonical_user(&self, name: &[u8]) -> Option<String> {
        let name = std::str::from_utf8(name).ok()?;
        let address = if name.contains('@') {
            Address::parse(name)
        } else {
            Address::parse(&format!("{name}@{}", self.settings.default_domain))
        };
        Some(address.ok()?.account_key().as_str().to_owned())
    }

    fn refuse_credentials(&mut self, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        self.refuse_login("wrong name or password", out)
    }

    fn refuse_login(&mut self, why: &str, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        write_error(out, "[AUTH] ", why);
        self.login_failures += 1;
        (self.login_failures >= POP3_LOGIN_FAILURES_MAX).then(|| self.close())
    }

    fn bad_command(&mut self, text: &str, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        write_error(out, "", text);
        self.bad_commands += 1;
        if self.bad_commands < POP3_BAD_COMMANDS_MAX {
            return None;
        }
        reply(out, "-ERR too many mistakes");
        Some(self.close())
    }

    fn write_capabilities(&self, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        // RFC 2449 §6.7. Before login it is what holds for all: nothing expires unless an account
        // says so, and that account's number is shown after login.
        let expire = match &self.state {
            State::Transaction(transaction) => transaction.expire_days(),
            _ => None,
        };
        let expire = expire.map_or("NEVER".to_owned(), |days| days.to_string());
        // No LOGIN-DELAY: there is none. No LANG: texts are in English only. UTF8 without USER:
        // names are compared as they come, not prepared by RFC 6856 §2.2.
        out.extend_from_slice(
            b"+OK\r\nTOP\r\nUIDL\r\nUSER\r\nSASL PLAIN\r\nPIPELINING\r\nRESP-CODES\r\n\
              AUTH-RESP-CODE\r\nUTF8\r\n",
        );
        reply(out, &format!("EXPIRE {expire}"));
        reply(out, "IMPLEMENTATION Ringpost");
        reply(out, ".")
    }

    /// Goes on with a response that takes more than one step; `None`: none is left.
    fn proceed(&mut self, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        let State::Transaction(transaction) = &mut self.state else {
            return None;
        };
        let progress = transaction.proceed(out);
        self.take_progress(progress)
    }

    fn take_progress(&mut self, progress: Progress) -> Option<Step<Ask>> {
        match progress {
            Progress::Done => None,
            Progress::Drain => Some(Step::Drain),
            Progress::Broken => Some(self.close()),
            Progress::Ask(ask) => {
                self.state = match std::mem::replace(&mut self.state, State::Closed) {
                    State::Transaction(transaction) => State::Reading(transaction),
                    other => other,
                };
                Some(Step::Ask(ask))
            }
        }
    }

    fn take_login(
        &mut self,
        result: Result<super::Maildrop, LoginError>,
        out: &mut Vec<u8>,
    ) -> Option<Step<Ask>> {
        self.state = State::Authorization;
        match result {
            Ok(maildrop) => {
                let transaction = Transaction::new(maildrop);
                let (count, bytes) = transaction.stat();
                self.state = State::Transaction(Box::new(transaction));
                return reply(out, &format!("+OK {count} messages ({bytes} octets)"));
            }
            Err(LoginError::Credentials) => return self.refuse_credentials(out),
            Err(LoginError::Authorization) => {
                return self.refuse_login("may not act for this user", out);
            }
            Err(LoginError::InUse) => {
                write_error(out, "[IN-USE] ", "another session holds this maildrop");
            }
            Err(LoginError::Temporary(text)) => write_error(out, "[SYS/TEMP] ", &text),
            Err(LoginError::Permanent(text)) => write_error(out, "[SYS/PERM] ", &text),
        }
        None
    }

    /// Between commands: is it time to go?
    fn leave(&mut self, out: &mut Vec<u8>) -> Option<Step<Ask>> {
        if self.timed_out {
            return Some(self.close());
        }
        if self.removed {
            reply(out, "-ERR [SYS/PERM] the account was removed");
            return Some(self.close());
        }
        if self.shutdown {
            reply(out, "-ERR [SYS/TEMP] server is shutting down");
            return Some(self.close());
        }
        None
    }
}

impl crate::proto::Session for Session {
    type Ask = Ask;
    type Answer = Answer;

    fn greet(&mut self, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.reset_deadline(now);
        // No APOP timestamp (RFC 1939 §7): it would need passwords in the clear on our side.
        self.heard(out, |session, out| {
            let hostname = &session.settings.hostname;
            reply(out, &format!("+OK {hostname} POP3 ready"));
        });
        Step::NeedInput
    }

    fn feed(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        self.heard(out, |session, out| session.take_input(input, now, out))
    }

    fn answer(&mut self, answer: Answer, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.heard(out, |session, out| session.take_answer(answer, now, out))
    }

    fn notify(&mut self, event: Event, _now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.heard(out, |session, out| session.take_event(event, out))
    }

    fn deadline(&self) -> Option<Instant> {
        // While we work for the client its time does not run.
        if self.is_asking() {
            None
        } else {
            self.deadline
        }
    }
}

impl Session {
    fn take_input(&mut self, input: &[u8], now: Instant, out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        if self.is_asking() {
            return (0, Step::NeedInput);
        }
        let mut used = 0;
        loop {
            if matches!(self.state, State::Closed) {
                return (input.len(), Step::Close);
            }
            if out.len() >= OUTPUT_BYTES_MAX {
                return (used, Step::Drain);
            }
            if let Some(transaction) = self.transaction()
                && transaction.is_responding()
            {
                // The client takes what it asked for: that is life enough.
                self.reset_deadline(now);
            }
            let step = match self.proceed(out) {
                Some(step) => Some(step),
                None => self.leave(out),
            };
            if let Some(step) = step {
                return (used, step);
            }
            let (taken, line) = self.line.take(&input[used..]);
            used += taken;
            let step = match line {
                Line::Incomplete => return (used, Step::NeedInput),
                Line::TooLong => {
                    self.reset_deadline(now);
                    if matches!(self.state, State::Challenged) {
                        self.state = State::Authorization;
                    }
                    self.bad_command("line too long", out)
                }
                Line::Endless => {
                    reply(out, "-ERR line too long, and no end of it");
                    Some(self.close())
                }
                Line::Complete(line) => {
                    if let Some(transcript) = &mut self.transcript {
                        transcript.hear_line(&line, out);
                    }
                    self.reset_deadline(now);
                    self.take_line(&line, out)
                }
            };
            if let Some(step) = step {
                return (used, step);
            }
        }
    }

    fn take_answer(&mut self, answer: Answer, now: Instant, out: &mut Vec<u8>) -> Step<Ask> {
        self.reset_deadline(now);
        let state = std::mem::replace(&mut self.state, State::Closed);
        let step = match (state, answer) {
            (State::LoggingIn, Answer::Login(result)) => self.take_login(result, out),
            (State::LoggingIn, Answer::Pass(pass)) => {
                self.state = State::LoggingIn;
                Some(Step::Ask(Ask::Enter(pass)))
            }
            (State::Reading(mut transaction), Answer::Data(data)) => {
                let progress = transaction.take_data(data, out);
                self.state = State::Transaction(transaction);
                if self.timed_out {
                    return self.close();
                }
                self.take_progress(progress)
            }
            (State::Updating, Answer::Expunged(result)) => {
                match result {
                    Ok(()) => reply(out, "+OK bye"),
                    Err(text) => {
                        write_error(out, "[SYS/TEMP] not all deleted messages removed: ", &text);
                        None
                    }
                };
                Some(self.close())
            }
            // An answer to something else: the caller erred, and this session cannot go on.
            _ => Some(Step::Close),
        };
        match step {
            Some(step) => step,
            None => self.leave(out).unwrap_or(Step::NeedInput),
        }
    }

    fn take_event(&mut self, event: Event, out: &mut Vec<u8>) -> Step<Ask> {
        match event {
            Event::Shutdown => self.shutdown = true,
            Event::Timeout => self.timed_out = true,
            Event::Removed => self.removed = true,
            Event::Changed => return Step::NeedInput,
        }
        if self.is_asking() {
            return Step::NeedInput;
        }
        if matches!(self.state, State::Closed) {
            return Step::Close;
        }
        let responding = self.transaction().is_some_and(Transaction::is_responding);
        if responding && event == Event::Shutdown {
            return Step::Drain;
        }
        if responding && event == Event::Removed {
            // There is no more of the message, and no way to say so.
            return self.close();
        }
        // A client that stopped taking its response gets no more of it. RFC 1939 §3: at a time-out
        // nothing is said; a line could be taken for the answer to a command on its way.
        self.leave(out).unwrap_or(Step::NeedInput)
    }

    fn transaction(&self) -> Option<&Transaction> {
        match &self.state {
            State::Transaction(transaction) => Some(transaction),
            _ => None,
        }
    }
}

/// A reply of one line; returns that nothing else is to be done.
fn reply(out: &mut Vec<u8>, text: &str) -> Option<Step<Ask>> {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
    None
}
