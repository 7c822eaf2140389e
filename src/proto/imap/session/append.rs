//! APPEND (RFC 9051 §6.3.12; MULTIAPPEND RFC 3502, CATENATE RFC 4469) and REPLACE (RFC 8508): messages
//! on their way in.
//!
//! Guarantees: at most `limits::IMAP_APPEND_BYTES_MAX` of all messages of one command and a chunk are
//! held, the rest is with the shard already; they come to the mailbox together, or not at all. A command that
//! has failed is read to its true end.
//! Does not know: frames; it is told what stands between messages.
//! On failure: the first failure counts, and is the answer when the command ends.

use std::collections::VecDeque;
use std::io::Write as _;

use super::super::command;
use super::super::frame::Literal;
use super::super::parse::{Piece, Segment, SegmentEnd, parse_segment};
use super::super::{Answer, Ask, Incoming, Refusal, Rights, sets};
use super::Turn;
use super::catenate::Part;
use super::finish::{Finish, SyncMode, lacks};
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
    /// What is to be done before the literal, or before the end.
    pieces: VecDeque<Piece>,
    /// What comes behind them.
    behind: SegmentEnd,
    /// What a URL brings.
    part: Option<Box<Part>>,
    /// Bytes that all URLs have brought.
    brought: u64,
    literal: Literal,
    /// Octets of the running literal that have not come.
    left: u64,
    /// A parenthesis must follow it.
    closes: bool,
    /// The shard has some of it.
    streams: bool,
    stage: Stage,
    /// Where it goes on behind a chunk.
    resume: Stage,
    failure: Option<Finish>,
    /// `APPENDUID`
    done: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Is there such a mailbox?
    Check,
    Checking,
    /// What stands in front of the literal.
    Pieces,
    /// A URL's bytes.
    Part,
    AskingPart,
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
    /// With what stands in front of the first literal, or with all there is. Nothing of it has been
    /// asked for yet.
    pub(super) fn new(
        name: String,
        segment: Segment,
        literal: Option<Literal>,
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
            pieces: VecDeque::new(),
            behind: SegmentEnd::Command,
            part: None,
            brought: 0,
            literal: NONE,
            left: 0,
            closes: false,
            streams: false,
            stage: Stage::Check,
            resume: Stage::Octets,
            failure: None,
            done: Vec::new(),
        };
        new.take_segment(segment, literal);
        new
    }

    /// Bytes of memory held beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Url(url) => size_of::<Piece>() + url.capacity(),
            Piece::Message(_) | Piece::Close => size_of::<Piece>(),
        });
        let part = self.part.as_ref().map_or(0, |part| part.held_bytes());
        let messages = self.messages.capacity() * size_of::<Incoming>();
        self.held + self.keywords + messages + pieces.sum::<usize>() + part
    }

    fn take_segment(&mut self, segment: Segment, literal: Option<Literal>) {
        self.pieces = segment.pieces.into();
        self.behind = segment.end;
        self.literal = literal.unwrap_or(NONE);
        self.left = self.literal.bytes;
        self.closes = self.behind == SegmentEnd::Utf8Text
            || matches!(
                self.pieces.back(),
                Some(Piece::Message(append)) if append.utf8
            );
    }

    /// Carries a piece out.
    fn take_piece(&mut self, piece: Piece) {
        match piece {
            Piece::Message(_) if self.replaces.is_some() && !self.messages.is_empty() => {
                self.fail(Finish::bad("REPLACE has one message"));
            }
            Piece::Message(append) => self.begin(append),
            Piece::Url(url) => match Part::new(url) {
                Ok(part) => {
                    self.part = Some(Box::new(part));
                    self.stage = Stage::Part;
                }
                Err(finish) => self.fail(finish),
            },
            Piece::Close => {
                if self.message_bytes() == 0 {
                    self.fail(no_message());
                }
            }
        }
    }

    fn begin(&mut self, append: command::Append) {
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
        if self.messages.len() > IMAP_APPEND_MESSAGES_MAX {
            let text = format!("at most {IMAP_APPEND_MESSAGES_MAX} messages at once");
            self.fail(Finish::no("LIMIT", text));
        } else if self.entries > IMAP_APPEND_ENTRIES_BYTES_MAX {
            let text = "too many keywords of too many messages at once: append fewer";
            self.fail(Finish::no("LIMIT", text));
        }
    }

    /// Of the message that is coming in.
    fn message_bytes(&self) -> u64 {
        let message = self.messages.last();
        message.map_or(0, |message| {
            message.streamed_bytes + message.body.len() as u64
        })
    }

    /// The message that is coming in is to have so many bytes more, of a literal or of a URL. All that
    /// URLs bring is bounded as one message is, for a short command may name much.
    fn expect_bytes(&mut self, bytes: u64, of_url: bool) {
        let brought = if of_url { self.brought } else { 0 };
        let room = self
            .bytes_max
            .saturating_sub(self.message_bytes().max(brought));
        if self.failure.is_none() && bytes > room {
            let text = format!("message too large: at most {} bytes", self.bytes_max);
            // RFC 7889 §4, RFC 4469 §4.
            self.fail(Finish::no("TOOBIG", text));
        }
    }

    fn fail(&mut self, finish: Finish) {
        self.failure.get_or_insert(finish);
        self.messages = Vec::new();
        (self.held, self.keywords) = (0, 0);
        self.pieces.clear();
        self.part = None;
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
                Stage::Check => {
                    self.stage = Stage::Checking;
                    return Turn::Ask(Ask::Mailbox {
                        name: self.name.clone(),
                    });
                }
                Stage::Pieces => match self.pieces.pop_front() {
                    Some(piece) => self.take_piece(piece),
                    None if self.behind == SegmentEnd::Command => self.stage = Stage::Finish,
                    None => {
                        self.expect_bytes(self.literal.bytes, false);
                        if self.literal.bytes == 0
                            && self.behind == SegmentEnd::Message
                            && self.failure.is_none()
                        {
                            self.fail(no_message());
                        }
                        self.stage = Stage::Invite;
                    }
                },
                Stage::Part => match self.part.as_mut().and_then(|part| part.next()) {
                    Some(ask) => {
                        self.stage = Stage::AskingPart;
                        return Turn::Ask(ask);
                    }
                    None => {
                        self.part = None;
                        self.stage = Stage::Pieces;
                    }
                },
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
                    self.resume = Stage::Octets;
                    self.stage = if self.is_full() {
                        Stage::Chunk
                    } else {
                        Stage::Line
                    };
                }
                Stage::Octets | Stage::Line | Stage::Rest => return Turn::Input,
                Stage::Chunk => {
                    let Some(message) = self.messages.last_mut() else {
                        self.stage = self.resume;
                        continue;
                    };
                    let bytes = std::mem::take(&mut message.body);
                    message.streamed_bytes += bytes.len() as u64;
                    self.held -= bytes.len();
                    self.streams = true;
                    self.stage = Stage::Chunking;
                    // Bounded by `limits::IMAP_APPEND_MESSAGES_MAX`.
                    let message = (self.messages.len() - 1) as u32;
                    let name = self.name.clone();
                    return Turn::Ask(Ask::Chunk {
                        name,
                        message,
                        bytes,
                    });
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
                Stage::Checking
                | Stage::AskingPart
                | Stage::Chunking
                | Stage::Finishing
                | Stage::Aborting => {
                    return Turn::Finish(Finish::confused());
                }
            }
        }
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        let refuse = |refusal: Refusal| Finish::refused(refusal, true);
        self.stage = match (self.stage, answer) {
            (Stage::Checking, Answer::Mailbox(Ok(mailbox))) => {
                if let Some(refusal) = lacks(&mailbox, Rights::INSERT) {
                    self.fail(refuse(refusal));
                }
                Stage::Pieces
            }
            (Stage::Checking, Answer::Mailbox(Err(refusal))) => {
                self.fail(refuse(refusal));
                Stage::Pieces
            }
            (Stage::AskingPart, answer) => self.take_part(answer),
            (Stage::Chunking, Answer::Done(Ok(()))) => self.resume,
            (Stage::Chunking, Answer::Done(Err(refusal))) => {
                // The shard has given it all up.
                self.streams = false;
                self.fail(refuse(refusal));
                self.resume
            }
            (Stage::Finishing, Answer::Appended(Ok((_, validity, uids)))) => {
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

    /// What a URL brings.
    fn take_part(&mut self, answer: Answer) -> Stage {
        let Some(part) = &mut self.part else {
            self.fail(Finish::confused());
            return Stage::Pieces;
        };
        let is_found = matches!(answer, Answer::Source(_));
        match part.answer(answer) {
            Err(finish) => self.fail(finish),
            Ok(_) if is_found => {
                let bytes = part.bytes_left();
                self.expect_bytes(bytes, true);
            }
            Ok(bytes) => {
                let room = self.room();
                self.brought += bytes.len() as u64;
                self.held += bytes.len();
                if let Some(message) = self.messages.last_mut() {
                    message.body.extend_from_slice(&bytes);
                }
                if bytes.len() >= room && !bytes.is_empty() {
                    self.resume = Stage::Part;
                    return Stage::Chunk;
                }
            }
        }
        Stage::Part
    }

    /// Bytes of this message that are still kept: earlier ones may fill the room, then this one goes
    /// in pieces.
    fn room(&self) -> usize {
        let body = self.messages.last().map_or(0, |message| message.body.len());
        let others = self.held - body;
        let bytes_max = IMAP_APPEND_BYTES_MAX
            .saturating_sub(others)
            .max(BODY_CHUNK_BYTES);
        bytes_max.saturating_sub(body)
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
        let room = self.room();
        if self.failure.is_none()
            && let Some(message) = self.messages.last_mut()
        {
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
                    self.resume = Stage::Octets;
                    self.stage = Stage::Chunk;
                }
            }
        }
        self.left -= taken as u64;
        Some(taken)
    }

    /// Takes what stands behind the last literal: the end of the command.
    pub(super) fn take_line(&mut self, line: &[u8]) {
        self.stage = Stage::Finish;
        if self.failure.is_some() {
            return;
        }
        let in_catenate = self.behind.is_in_catenate();
        match self
            .closed(line)
            .map(|rest| parse_segment(rest, in_catenate, false))
        {
            Some(Ok(segment)) => {
                self.take_segment(segment, None);
                self.stage = Stage::Pieces;
            }
            Some(Err(error)) if in_catenate => self.fail(Finish::bad(error.0)),
            _ => self.fail(Finish::bad(
                "expected the end of APPEND, or another message",
            )),
        }
    }

    /// Text behind the parenthesis that UTF8 wants behind its literal; `None`: it is not there.
    fn closed<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        if self.closes {
            text.strip_prefix(b")")
        } else {
            Some(text)
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

    /// Takes what stands in front of another literal, and says what that is.
    pub(super) fn take_literal(&mut self, text: &[u8], literal: Literal) -> Announced {
        let in_catenate = self.behind.is_in_catenate();
        let parsed = match self.closed(text) {
            Some(rest) => parse_segment(rest, in_catenate, true),
            None => Err("expected ) behind the message".into()),
        };
        let segment = match parsed {
            Ok(segment) => segment,
            Err(error) => {
                self.refuse(Finish::bad(error.0));
                return Announced::Refused;
            }
        };
        if self.failure.is_some() && literal.synchronising {
            self.stage = Stage::Finish;
            return Announced::Refused;
        }
        if segment.end == SegmentEnd::Url {
            return Announced::Text;
        }
        self.take_segment(segment, Some(literal));
        if self.failure.is_some() {
            self.pieces.clear();
        }
        self.stage = Stage::Pieces;
        Announced::Octets
    }

    /// The command cannot be carried out, and is over.
    pub(super) fn refuse(&mut self, finish: Finish) {
        self.fail(finish);
        self.stage = Stage::Finish;
    }
}

/// What a literal behind the first one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    /// A message, or a part of one: its bytes are for [`Append::take_octets`].
    Octets,
    /// A URL: it belongs to the text, which is asked about again when there is more of it.
    Text,
    /// Nothing that is wanted: the command is over, or what is left of it is to be passed over.
    Refused,
}

/// No literal.
const NONE: Literal = Literal {
    bytes: 0,
    synchronising: false,
    binary: false,
};

fn no_message() -> Finish {
    Finish::no("CANNOT", "a message without a byte is none")
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
