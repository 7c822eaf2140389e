//! APPEND (RFC 9051 §6.3.12; MULTIAPPEND RFC 3502) and REPLACE (RFC 8508): messages on their way in.
//!
//! Guarantees: at most `limits::IMAP_APPEND_BYTES_MAX` of all messages of one command and a chunk are
//! held, the rest is with the shard already; they come to the mailbox together, or not at all. A command that
//! has failed is read to its true end.
//! Does not know: frames; it is told what stands between messages.
//! On failure: the first failure counts, and is the answer when the command ends.

use std::io::Write as _;

use super::super::command;
use super::super::frame::Literal;
use super::super::parse::parse_append_again;
use super::super::{Answer, Ask, Incoming, Refusal, sets};
use super::Turn;
use super::finish::{Finish, SyncMode};
use crate::limits::{
    BODY_CHUNK_BYTES, IMAP_APPEND_BYTES_MAX, IMAP_APPEND_ENTRIES_BYTES_MAX,
    IMAP_APPEND_ENTRY_BYTES, IMAP_APPEND_MESSAGES_MAX,
};

/// An APPEND that runs.
pub(super) struct Append {
    name: String,
    bytes_max: u64,
    /// REPLACE: this message goes.
    replaces: Option<u32>,
    /// The last is coming in.
    messages: Vec<Incoming>,
    /// Bytes held of all of them.
    held: usize,
    /// Bytes of their entries in the log, and of their keywords here.
    entries: usize,
    keywords: usize,
    literal: Literal,
    /// Octets of the running literal that have not come.
    left: u64,
    /// A parenthesis must follow it.
    closes: bool,
    /// The shard has some of it.
    streams: bool,
    stage: Stage,
    failure: Option<Finish>,
    /// `APPENDUID`
    done: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Is there such a mailbox?
    Check,
    Checking,
    /// `+` is due.
    Invite,
    /// Octets of the literal.
    Octets,
    /// A chunk is full.
    Chunk,
    Chunking,
    /// What stands behind the literal.
    Line,
    /// The rest of a command that cannot be understood.
    Rest,
    Finish,
    Finishing,
    /// The shard must be told that it is given up.
    Abort,
    Aborting,
    End,
}

impl Append {
    /// With the first message. Nothing of it has been asked for yet.
    pub(super) fn new(
        name: String,
        append: command::Append,
        literal: Literal,
        bytes_max: u64,
        replaces: Option<u32>,
    ) -> Append {
        let mut new = Append {
            name,
            bytes_max,
            replaces,
            messages: Vec::new(),
            held: 0,
            entries: 0,
            keywords: 0,
            literal,
            left: 0,
            closes: false,
            streams: false,
            stage: Stage::Check,
            failure: None,
            done: Vec::new(),
        };
        new.begin(append, literal);
        new
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        self.held + self.keywords + self.messages.capacity() * size_of::<Incoming>()
    }

    fn begin(&mut self, append: command::Append, literal: Literal) {
        self.literal = literal;
        self.left = literal.bytes;
        self.closes = append.utf8;
        let words = append.flags.keywords.iter();
        let words_bytes: usize = words.map(|word| word.len() + 2).sum();
        self.entries += IMAP_APPEND_ENTRY_BYTES + words_bytes;
        self.keywords += words_bytes + append.flags.keywords.len() * size_of::<String>();
        self.messages.push(Incoming {
            flags: append.flags,
            date_ms: append.date_ms,
            body: Vec::new(),
            streamed_bytes: 0,
        });
        if literal.bytes == 0 {
            self.fail(Finish::no("CANNOT", "a message without a byte is none"));
        } else if literal.bytes > self.bytes_max {
            let text = format!("message too large: at most {} bytes", self.bytes_max);
            // RFC 7889 §4.
            self.fail(Finish::no("TOOBIG", text));
        } else if self.messages.len() > IMAP_APPEND_MESSAGES_MAX {
            let text = format!("at most {IMAP_APPEND_MESSAGES_MAX} messages at once");
            self.fail(Finish::no("LIMIT", text));
        } else if self.entries > IMAP_APPEND_ENTRIES_BYTES_MAX {
            let text = "too many keywords of too many messages at once: append fewer";
            self.fail(Finish::no("LIMIT", text));
        }
    }

    fn fail(&mut self, finish: Finish) {
        self.failure.get_or_insert(finish);
        self.messages = Vec::new();
        (self.held, self.keywords) = (0, 0);
    }

    /// Memory is short: gives up what has come. `false`: nothing has.
    pub(super) fn shed(&mut self) -> bool {
        let holds = self.held > 0 && matches!(self.stage, Stage::Octets | Stage::Line);
        if holds {
            self.fail(Finish::no("UNAVAILABLE", "too busy, try again later"));
        }
        holds
    }

    /// The command has failed, and its client waits to be asked for the literal: it is over.
    pub(super) fn is_refused(&self) -> bool {
        self.failure.is_some() && self.stage == Stage::Invite && self.literal.synchronising
    }

    pub(super) fn go(&mut self, out: &mut Vec<u8>) -> Turn {
        loop {
            match self.stage {
                Stage::Check if self.failure.is_some() => self.stage = Stage::Invite,
                Stage::Check => {
                    self.stage = Stage::Checking;
                    return Turn::Ask(Ask::Mailbox {
                        name: self.name.clone(),
                    });
                }
                Stage::Invite => {
                    if self.is_refused() {
                        self.stage = Stage::Finish;
                        continue;
                    }
                    if self.literal.synchronising {
                        out.extend_from_slice(b"+ Ready for the message\r\n");
                    }
                    self.stage = Stage::Octets;
                }
                Stage::Octets if self.left == 0 => {
                    self.stage = if self.is_full() {
                        Stage::Chunk
                    } else {
                        Stage::Line
                    };
                }
                Stage::Octets | Stage::Line | Stage::Rest => return Turn::Input,
                Stage::Chunk => {
                    let Some(message) = self.messages.last_mut() else {
                        self.stage = Stage::Octets;
                        continue;
                    };
                    let bytes = std::mem::take(&mut message.body);
                    message.streamed_bytes += bytes.len() as u64;
                    self.held -= bytes.len();
                    self.streams = true;
                    self.stage = Stage::Chunking;
                    // Bounded by `limits::IMAP_APPEND_MESSAGES_MAX`.
                    let message = (self.messages.len() - 1) as u32;
                    return Turn::Ask(Ask::Chunk { message, bytes });
                }
                Stage::Finish if self.failure.is_some() && self.streams => {
                    self.stage = Stage::Abort
                }
                Stage::Finish if self.failure.is_some() => self.stage = Stage::End,
                Stage::Finish => {
                    self.stage = Stage::Finishing;
                    return Turn::Ask(Ask::Append {
                        name: std::mem::take(&mut self.name),
                        messages: std::mem::take(&mut self.messages),
                        replaces: self.replaces,
                    });
                }
                Stage::Abort => {
                    self.stage = Stage::Aborting;
                    return Turn::Ask(Ask::Abort);
                }
                Stage::End => {
                    let code = std::mem::take(&mut self.done);
                    let finish = match self.failure.take() {
                        Some(failure) => failure,
                        None if self.replaces.is_some() => {
                            // RFC 8508 §3.2: the new message is there before the old one goes.
                            out.extend_from_slice(b"* OK [");
                            out.extend_from_slice(&code);
                            out.extend_from_slice(b"] The new message is there\r\n");
                            Finish::ok().with_modseq()
                        }
                        None => Finish::ok_with(code),
                    };
                    return Turn::Finish(finish.with_sync(SyncMode::Whole));
                }
                Stage::Checking | Stage::Chunking | Stage::Finishing | Stage::Aborting => {
                    return Turn::Finish(Finish::confused());
                }
            }
        }
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        let refuse = |refusal: Refusal| Finish::refused(refusal, true);
        self.stage = match (self.stage, answer) {
            (Stage::Checking, Answer::Mailbox(Ok(_))) => Stage::Invite,
            (Stage::Checking, Answer::Mailbox(Err(refusal))) => {
                self.fail(refuse(refusal));
                Stage::Invite
            }
            (Stage::Chunking, Answer::Done(Ok(()))) => Stage::Octets,
            (Stage::Chunking, Answer::Done(Err(refusal))) => {
                // The shard has given it all up.
                self.streams = false;
                self.fail(refuse(refusal));
                Stage::Octets
            }
            (Stage::Finishing, Answer::Appended(Ok((validity, uids)))) => {
                self.done = appended(validity, &uids);
                Stage::End
            }
            (Stage::Finishing, Answer::Appended(Err(refusal))) => {
                self.failure = Some(refuse(refusal));
                Stage::End
            }
            (Stage::Aborting, _) => Stage::End,
            _ => {
                self.fail(Finish::confused());
                Stage::End
            }
        };
    }

    /// All that is kept of one command is there: what has come of this message goes.
    fn is_full(&self) -> bool {
        let has_bytes = self
            .messages
            .last()
            .is_some_and(|message| !message.body.is_empty());
        has_bytes && self.held > IMAP_APPEND_BYTES_MAX
    }

    /// Takes octets of the literal; `None`: none are due, what comes is text.
    pub(super) fn take_octets(&mut self, input: &[u8]) -> Option<usize> {
        if self.stage != Stage::Octets || self.left == 0 {
            return None;
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let mut taken = input.len().min(left);
        if self.failure.is_none()
            && let Some(message) = self.messages.last_mut()
        {
            // Earlier messages may fill the room: then this one comes in pieces.
            let others = self.held - message.body.len();
            let bytes_max = IMAP_APPEND_BYTES_MAX
                .saturating_sub(others)
                .max(BODY_CHUNK_BYTES);
            let room = bytes_max - message.body.len();
            taken = taken.min(room);
            let piece = &input[..taken];
            if !self.literal.binary && memchr::memchr(0, piece).is_some() {
                // RFC 9051 §9: CHAR8 has no NUL.
                let text = "a message with NUL needs a literal8 (RFC 3516)";
                self.fail(Finish::no("CANNOT", text));
            } else {
                grow(&mut message.body, taken, left.min(room));
                message.body.extend_from_slice(piece);
                self.held += taken;
                if taken == room {
                    self.stage = Stage::Chunk;
                }
            }
        }
        self.left -= taken as u64;
        Some(taken)
    }

    /// Takes what stands behind the last literal: the end of the command.
    pub(super) fn take_line(&mut self, line: &[u8]) {
        let rest = self.take_closing(line);
        if self.failure.is_none() && !rest.is_some_and(<[u8]>::is_empty) {
            self.fail(Finish::bad(
                "expected the end of APPEND, or another message",
            ));
        }
        self.stage = Stage::Finish;
    }

    fn take_closing<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        if std::mem::take(&mut self.closes) {
            line.strip_prefix(b")")
        } else {
            Some(line)
        }
    }

    /// What is left of the command is passed over; [`Append::end`] says that this is done.
    pub(super) fn await_end(&mut self) {
        self.stage = Stage::Rest;
    }

    /// The rest of the command has been passed over.
    pub(super) fn end(&mut self) {
        self.stage = Stage::Finish;
    }

    /// Another message is announced. Returns whether its literal is to come; else the command is
    /// over, or what is left of it is to be passed over.
    pub(super) fn take_literal(&mut self, text: &[u8], literal: Literal) -> bool {
        let parsed = match self.take_closing(text) {
            _ if self.replaces.is_some() => Err("REPLACE has one message".into()),
            Some(rest) => parse_append_again(rest),
            None => Err("expected ) behind the message".into()),
        };
        match parsed {
            Ok(append) if self.failure.is_none() => self.begin(append, literal),
            Ok(append) => {
                self.closes = append.utf8;
                (self.literal, self.left) = (literal, literal.bytes);
            }
            Err(error) => {
                self.fail(Finish::bad(error.0));
                self.stage = Stage::Finish;
                return false;
            }
        }
        if self.failure.is_some() && literal.synchronising {
            self.stage = Stage::Finish;
            return false;
        }
        self.stage = Stage::Invite;
        true
    }
}

/// Makes room in a body for `bytes` more: for as many as were announced, in steps, so that what was
/// merely announced costs little.
fn grow(body: &mut Vec<u8>, bytes: usize, announced: usize) {
    if body.capacity() - body.len() < bytes {
        let wanted = announced.min(body.capacity().max(BODY_CHUNK_BYTES));
        body.reserve_exact(wanted.max(bytes));
    }
}

/// `APPENDUID` (RFC 4315 §3).
fn appended(validity: u32, uids: &[u32]) -> Vec<u8> {
    let mut ranges = Vec::new();
    for uid in uids {
        sets::push(&mut ranges, *uid);
    }
    let mut code = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = write!(code, "APPENDUID {validity} ");
    sets::write(&ranges, &mut code);
    code
}
