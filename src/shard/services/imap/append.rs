//! APPEND: messages that come in, in pieces where they are large.

use std::rc::Rc;

use super::super::super::conn::ConnKey;
use super::super::super::{LocalPartition, Shard};
use super::super::Asked;
use super::{Desk, at_once, later, refusal};
use crate::proto::imap::{Answer, Incoming, Refusal};
use crate::store::{Append, Flags, NewMessage, StoreError, StreamId};

/// A message that comes in pieces.
#[derive(Clone, Copy)]
pub(super) struct Coming {
    /// Which of its APPEND.
    message: u32,
    stream: StreamId,
    /// Of all pieces so far.
    bytes: u64,
}

/// Takes a piece of a message.
pub(super) fn chunk(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    message: u32,
    bytes: Vec<u8>,
) -> Asked {
    let partition = match desk.partition(shard) {
        Ok(partition) => partition,
        Err(refusal) => return at_once(Answer::Done(Err(refusal))),
    };
    let stream = stream_of(&partition, &desk, message, bytes.len() as u64);
    let held = shard.hold_memory(bytes.capacity());
    let owner = Rc::clone(shard);
    later(shard, key, async move {
        let _held = held;
        let taken = match stream {
            Ok(stream) => partition.append_stream(stream, bytes).await,
            Err(error) => Err(error),
        };
        if taken.is_err() {
            abort(&owner, &desk);
        }
        Answer::Done(taken.map_err(|error| refusal(error, &desk.address)))
    })
}

/// The stream of a message of which so many bytes come now.
fn stream_of(
    partition: &LocalPartition,
    desk: &Desk,
    message: u32,
    bytes: u64,
) -> Result<StreamId, StoreError> {
    let mut streams = desk.streams.borrow_mut();
    if let Some(last) = streams.last_mut().filter(|last| last.message == message) {
        last.bytes += bytes;
        return Ok(last.stream);
    }
    let stream = partition.open_stream()?;
    streams.push(Coming {
        message,
        stream,
        bytes,
    });
    Ok(stream)
}

/// Gives up what has come.
pub(super) fn abort(shard: &Shard, desk: &Desk) {
    let streams = desk.streams.take();
    // Whatever has become of the account.
    if let Some(partition) = shard.partition(desk.partition) {
        for coming in streams {
            partition.abort_stream(coming.stream);
        }
    }
}

/// Makes the messages durable, all or none.
pub(super) fn append(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    name: String,
    messages: Vec<Incoming>,
    replaces: Option<u32>,
) -> Asked {
    let found = desk.partition(shard).and_then(|partition| {
        let found = partition.mailbox(&desk.address, &name);
        let info = found.map_err(|error| refusal(error, &desk.address))?;
        let replaces = match replaces {
            Some(uid) => Some((desk.open_id()?, uid)),
            None => None,
        };
        Ok((partition, info.id, replaces))
    });
    let (partition, mailbox, replaces) = match found {
        Ok(found) => found,
        Err(refusal) => {
            abort(shard, &desk);
            return at_once(Answer::Appended(Err(refusal)));
        }
    };
    let held = shard.hold_memory(messages.iter().map(|message| message.body.capacity()).sum());
    let Some(streams) = streams_of(&desk, &messages) else {
        abort(shard, &desk);
        tracing::error!(account = %desk.address, "pieces of an APPEND do not make up its messages");
        let text = "internal error, see the server's log".to_owned();
        return at_once(Answer::Appended(Err(Refusal::Unavailable(text))));
    };
    abort(shard, &desk);
    later(shard, key, async move {
        let _held = held;
        let now_ms = super::super::super::now_ms();
        let messages = messages
            .into_iter()
            .zip(streams)
            .map(|(message, stream)| NewMessage {
                flags: Flags(message.flags.system.0),
                keywords: message.flags.keywords,
                date_ms: message.date_ms.unwrap_or(now_ms),
                body: message.body,
                stream,
            });
        let append = Append {
            mailbox,
            messages: messages.collect(),
            replaces,
            now_ms,
        };
        let appended = partition.append(&desk.address, append).await;
        Answer::Appended(match appended {
            Ok(appended) => {
                desk.did_add(mailbox, appended.uids.iter().copied());
                Ok((desk.partition, appended.validity, appended.uids))
            }
            // The mailbox was there a moment ago.
            Err(StoreError::Missing) if replaces.is_some() => Err(Refusal::Gone),
            Err(error) => Err(refusal(error, &desk.address)),
        })
    })
}

/// The stream of each message, if what came in pieces is what was sent so, to the byte: bytes of an
/// APPEND that is long over must not get into a message. What is left with the desk is nobody's.
fn streams_of(desk: &Desk, messages: &[Incoming]) -> Option<Vec<Option<StreamId>>> {
    let mut streams = desk.streams.borrow_mut();
    let found = messages.iter().enumerate().map(|(index, message)| {
        if message.streamed_bytes == 0 {
            return Some(None);
        }
        let is_its =
            |of: &Coming| of.message as usize == index && of.bytes == message.streamed_bytes;
        let at = streams.iter().position(is_its)?;
        Some(Some(streams[at].stream))
    });
    let found: Vec<_> = found.collect::<Option<_>>()?;
    streams.retain(|coming| !found.contains(&Some(coming.stream)));
    Some(found)
}
