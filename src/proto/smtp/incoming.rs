//! One message on its way in, from MAIL to the last byte: bytes in, chunks out.
//!
//! Guarantees: at most `limits::BODY_INLINE_BYTES_MAX` of a body are held, then
//! `limits::BODY_CHUNK_BYTES`; a message that has failed holds nothing, but is read to its true
//! end; a stream that was opened is ended by exactly one of `Deliver`, `Abort` or an error of its
//! last chunk.
//! Does not know: commands, who the recipients are.
//! On failure: the first failure counts, and is the reply when the message ends.
//!
//! What is refused, and why: a CR or LF by itself (RFC 5321 §2.3.8 forbids both). Servers disagree
//! on whether LF `.` LF and its kin end a message; a message that holds such a thing could be one
//! here and two elsewhere, or come out of POP3 as other lines than came in. The same holds for
//! BDAT, unless the client declared BODY=BINARYMIME (RFC 3030 §3), where bytes are just bytes.

use super::body::{DotUnstuffer, LineEndCheck};
use super::{Ask, Transaction, replies};
use crate::limits::{BODY_CHUNK_BYTES, BODY_INLINE_BYTES_MAX, HOPS_MAX};
use crate::mail::{BodyType, ForwardPath, HopCounter, Reply};

/// A transaction and what of its message has come.
pub(super) struct Incoming {
    pub(super) transaction: Box<Transaction>,
    /// Bytes that the running BDAT still brings.
    pub(super) chunk_bytes_left: u64,
    /// The running BDAT is the last.
    pub(super) chunk_is_last: bool,
    /// BDAT has been used: DATA and RCPT are too late.
    pub(super) chunking: bool,
    /// Bytes of memory of the forward paths.
    path_bytes: usize,
    unstuffer: DotUnstuffer,
    line_ends: LineEndCheck,
    hops: HopCounter,
    failure: Option<Reply>,
    stream: Stream,
    ended: bool,
}

/// Whether the shard holds a part of the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// All bytes are in `transaction.body`.
    None,
    /// Chunks went before.
    Open,
    /// Chunks went before, and the message has failed since: the shard must be told.
    AbortDue,
    /// The shard has given the chunks up.
    Gone,
}

/// What [`Incoming::take_data`] and [`Incoming::take_octets`] came to.
pub(super) enum Took {
    /// All input is used, and the message goes on.
    More,
    /// This must be answered first.
    Ask(Ask),
    /// The message (DATA) or the chunk (BDAT) has ended.
    End,
}

impl Incoming {
    pub(super) fn new(transaction: Box<Transaction>) -> Incoming {
        Incoming {
            transaction,
            chunk_bytes_left: 0,
            chunk_is_last: false,
            chunking: false,
            path_bytes: 0,
            unstuffer: DotUnstuffer::default(),
            line_ends: LineEndCheck::default(),
            hops: HopCounter::default(),
            failure: None,
            stream: Stream::None,
            ended: false,
        }
    }

    /// Adds a recipient.
    pub(super) fn add_path(&mut self, path: ForwardPath) {
        self.path_bytes += path.memory_bytes();
        self.transaction.envelope.forward_paths.push(path);
    }

    /// Takes the last recipient out again.
    pub(super) fn drop_path(&mut self) {
        if let Some(path) = self.transaction.envelope.forward_paths.pop() {
            self.path_bytes -= path.memory_bytes();
        }
    }

    /// Takes bytes between DATA and its end.
    pub(super) fn take_data(&mut self, input: &[u8], message_bytes_max: u64) -> (usize, Took) {
        let mut used = 0;
        loop {
            if let Some(step) = self.pending() {
                return (used, step);
            }
            let rest = &input[used..];
            if rest.is_empty() {
                return (used, Took::More);
            }
            if self.failure.is_some() {
                let (bytes, ended) = self.unstuffer.feed(rest, None);
                used += bytes;
                self.ended = ended;
                continue;
            }
            let Some(room_bytes) = self.room() else {
                if let Some(ask) = self.chunk() {
                    return (used, Took::Ask(ask));
                }
                continue;
            };
            let piece = &rest[..rest.len().min(room_bytes)];
            let declared_bytes = self.transaction.envelope.declared_bytes.unwrap_or(0);
            self.grow(piece.len(), declared_bytes, room_bytes);
            let (bytes, ended) = self.unstuffer.feed(piece, Some(&mut self.transaction.body));
            used += bytes;
            if self.unstuffer.saw_bare() {
                self.fail(replies::bare_line_end());
            }
            self.judge(message_bytes_max, ended);
            self.ended = ended;
        }
    }

    /// Starts a BDAT of so many bytes.
    pub(super) fn begin_chunk(&mut self, octets: u64, is_last: bool, message_bytes_max: u64) {
        self.chunking = true;
        self.chunk_bytes_left = octets;
        self.chunk_is_last = is_last;
        if self.message_bytes().saturating_add(octets) > message_bytes_max {
            self.fail(replies::message_too_large());
        }
    }

    /// Takes bytes of the running BDAT, and none beyond.
    pub(super) fn take_octets(&mut self, input: &[u8], message_bytes_max: u64) -> (usize, Took) {
        let mut used = 0;
        loop {
            if self.chunk_bytes_left == 0 && !self.ended {
                self.judge(message_bytes_max, self.chunk_is_last);
                self.ended = true;
            }
            if let Some(step) = self.pending() {
                return (used, step);
            }
            let rest = &input[used..];
            if rest.is_empty() {
                return (used, Took::More);
            }
            let bytes_max = usize::try_from(self.chunk_bytes_left).unwrap_or(usize::MAX);
            let mut piece = &rest[..rest.len().min(bytes_max)];
            if self.failure.is_none() {
                let Some(room_bytes) = self.room() else {
                    if let Some(ask) = self.chunk() {
                        return (used, Took::Ask(ask));
                    }
                    continue;
                };
                piece = &piece[..piece.len().min(room_bytes)];
                self.grow(piece.len(), self.chunk_bytes_left, room_bytes);
                self.transaction.body.extend_from_slice(piece);
                if self.transaction.envelope.body_type != BodyType::BinaryMime {
                    self.line_ends.feed(piece);
                    if self.line_ends.saw_bare(false) {
                        self.fail(replies::bare_line_end());
                    }
                }
            }
            used += piece.len();
            self.chunk_bytes_left -= piece.len() as u64;
        }
    }

    /// The running BDAT was not the last and went well: ready for the next.
    pub(super) fn end_chunk(&mut self) {
        self.ended = false;
    }

    /// The shard could not take the last chunk, and has given the stream up.
    pub(super) fn stream_failed(&mut self, reply: Reply) {
        self.stream = Stream::Gone;
        self.fail(reply);
    }

    /// Gives the body up for want of memory; `false`: it holds none.
    pub(super) fn shed(&mut self) -> bool {
        let holds = self.transaction.body.capacity() > 0;
        if holds {
            self.fail(replies::memory_short());
        }
        holds
    }

    /// Something is wrong with the message already.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The message has ended: the transaction to deliver, or the reply and how many recipients
    /// there were.
    pub(super) fn finish(self) -> Result<Box<Transaction>, (Reply, usize)> {
        match self.failure {
            None => Ok(self.transaction),
            Some(reply) => Err((reply, self.transaction.envelope.forward_paths.len())),
        }
    }

    /// The transaction is given up: what the shard must be told, if anything.
    pub(super) fn abandon(self) -> Option<Ask> {
        matches!(self.stream, Stream::Open | Stream::AbortDue).then_some(Ask::Abort)
    }

    /// Bytes of memory held for the recipients and the body.
    pub(super) fn held_bytes(&self) -> usize {
        self.path_bytes + self.transaction.body.capacity()
    }

    fn message_bytes(&self) -> u64 {
        self.transaction.streamed_bytes + self.transaction.body.len() as u64
    }

    /// What must happen before more input is looked at.
    fn pending(&mut self) -> Option<Took> {
        if self.stream == Stream::AbortDue {
            self.stream = Stream::Gone;
            Some(Took::Ask(Ask::Abort))
        } else if self.ended {
            Some(Took::End)
        } else {
            None
        }
    }

    /// Bytes that the body may grow by before it must go out as a chunk.
    fn room(&self) -> Option<usize> {
        let bytes_max = match self.stream {
            Stream::None => BODY_INLINE_BYTES_MAX,
            _ => BODY_CHUNK_BYTES,
        };
        let room_bytes = bytes_max.saturating_sub(self.transaction.body.len());
        (room_bytes > 0).then_some(room_bytes)
    }

    /// Makes room in the body for `bytes` more where there is none: for as many as the client has
    /// said will come, or twice what there was, but never beyond `room_bytes`. What was merely
    /// announced costs nothing before the first byte.
    fn grow(&mut self, bytes: usize, announced_bytes: u64, room_bytes: usize) {
        let body = &mut self.transaction.body;
        if body.capacity() - body.len() < bytes {
            let announced_bytes = usize::try_from(announced_bytes).unwrap_or(usize::MAX);
            let wanted_bytes = announced_bytes.saturating_sub(body.len());
            let wanted_bytes = wanted_bytes.max(body.capacity());
            body.reserve_exact(wanted_bytes.clamp(bytes, room_bytes));
        }
    }

    /// Sends the body so far to the shard, unless it turns out to be looping.
    fn chunk(&mut self) -> Option<Ask> {
        self.count_hops();
        if self.failure.is_some() {
            return None;
        }
        let bytes = std::mem::replace(
            &mut self.transaction.body,
            Vec::with_capacity(BODY_CHUNK_BYTES),
        );
        let transaction = &self.transaction;
        let open = (self.stream == Stream::None).then(|| {
            Box::new(Transaction {
                envelope: transaction.envelope.clone(),
                client_name: transaction.client_name.clone(),
                peer: transaction.peer.clone(),
                with_protocol: transaction.with_protocol,
                body: Vec::new(),
                streamed_bytes: 0,
            })
        });
        self.stream = Stream::Open;
        self.transaction.streamed_bytes += bytes.len() as u64;
        Some(Ask::Chunk { open, bytes })
    }

    /// Is the message, as far as it has come, still one that we take?
    fn judge(&mut self, message_bytes_max: u64, at_end: bool) {
        if self.failure.is_some() {
            return;
        }
        if self.message_bytes() > message_bytes_max {
            self.fail(replies::message_too_large());
        } else if at_end {
            let text = self.transaction.envelope.body_type != BodyType::BinaryMime;
            if self.chunking && text && self.line_ends.saw_bare(true) {
                self.fail(replies::bare_line_end());
            } else {
                self.count_hops();
            }
        }
    }

    /// Looks through the body, which is about to leave us (RFC 5321 §6.3).
    fn count_hops(&mut self) {
        self.hops.feed(&self.transaction.body);
        if self.hops.count() as usize > HOPS_MAX {
            self.fail(replies::too_many_hops());
        }
    }

    fn fail(&mut self, reply: Reply) {
        if self.failure.is_some() {
            return;
        }
        self.failure = Some(reply);
        self.transaction.body = Vec::new();
        if self.stream == Stream::Open {
            self.stream = Stream::AbortDue;
        }
    }
}
