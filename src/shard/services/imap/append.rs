//! APPEND: messages that come in, in pieces where they are large.

use std::rc::Rc;

use super::super::super::Shard;
use super::super::super::conn::ConnKey;
use super::super::Asked;
use super::{Desk, at_once, later, refusal};
use crate::proto::imap::{Answer, Incoming, Refusal};
use crate::store::{Append, Flags, NewMessage, StoreError, StreamId};

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
    let known = desk.streams.borrow().last().copied();
    let stream = match known {
        Some((of, stream)) if of == message => Ok(stream),
        _ => partition.open_stream().inspect(|stream| {
            desk.streams.borrow_mut().push((message, *stream));
        }),
    };
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

/// Gives up what has come.
pub(super) fn abort(shard: &Shard, desk: &Desk) {
    let streams = desk.streams.take();
    // Whatever has become of the account.
    if let Some(partition) = shard.partition(desk.partition) {
        for (_, stream) in streams {
            partition.abort_stream(stream);
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
    let streams = desk.streams.take();
    later(shard, key, async move {
        let _held = held;
        let now_ms = super::super::super::now_ms();
        let stream_of = |index: usize| -> Option<StreamId> {
            let found = streams.binary_search_by_key(&index, |(of, _)| *of as usize);
            found.ok().map(|at| streams[at].1)
        };
        let messages = messages
            .into_iter()
            .enumerate()
            .map(|(index, message)| NewMessage {
                flags: Flags(message.flags.system.0),
                keywords: message.flags.keywords,
                date_ms: message.date_ms.unwrap_or(now_ms),
                body: message.body,
                stream: stream_of(index),
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
                Ok((appended.validity, appended.uids))
            }
            // The mailbox was there a moment ago.
            Err(StoreError::Missing) if replaces.is_some() => Err(Refusal::Gone),
            Err(error) => Err(refusal(error, &desk.address)),
        })
    })
}
