//! Messages of the open mailbox: rows, flags, copies, bytes.

use std::ops::ControlFlow;
use std::rc::Rc;

use super::super::super::Shard;
use super::super::super::conn::ConnKey;
use super::super::Asked;
use super::{Desk, at_once, changes, later, of_message, refusal, rest, soon};
use crate::limits::IMAP_SLICE_MESSAGES;
use crate::proto::imap::{self, Answer, Copied, Refusal, Row, StoreFlags, StoreHow, Stored};
use crate::store::{FlagChange, FlagMode, Flags, MailboxId, MessageInfo, StoreError};

/// A message as sessions list it.
pub(super) fn row(info: &MessageInfo) -> Row {
    Row {
        uid: info.uid,
        flags: imap::Flags(info.flags.0),
        keywords: info.keywords,
        modseq: info.modseq,
        bytes: info.bytes,
        date_ms: info.date_ms,
        saved_ms: info.saved_ms,
        email_id: info.body_seq,
    }
}

/// Flags are the same bits on both floors.
const _: () = {
    assert!(Flags::SEEN.0 == imap::Flags::SEEN.0);
    assert!(Flags::ANSWERED.0 == imap::Flags::ANSWERED.0);
    assert!(Flags::FLAGGED.0 == imap::Flags::FLAGGED.0);
    assert!(Flags::DELETED.0 == imap::Flags::DELETED.0);
    assert!(Flags::DRAFT.0 == imap::Flags::DRAFT.0);
};

/// A slice of messages.
pub(super) fn rows(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    uids: Vec<(u32, u32)>,
    changed_since: Option<u64>,
    count_max: usize,
) -> Asked {
    let rows = match changed_since {
        None => listed(shard, &desk, &uids, count_max),
        Some(since) => match changes::at_hand(shard, &desk, &uids, since, count_max) {
            Ok(Some(rows)) => Ok(rows),
            Ok(None) => {
                let home = Rc::clone(shard);
                return later(shard, key, async move {
                    let rows = changes::scan(&home, &desk, &uids, since, count_max);
                    Answer::Rows(rows.await)
                });
            }
            Err(refusal) => Err(refusal),
        },
    };
    // A search without an end must not keep the shard: others have their turn between slices.
    let is_full = rows.as_ref().is_ok_and(|rows| rows.len() >= count_max);
    if is_full || uids.len() >= IMAP_SLICE_MESSAGES {
        return rest(shard, key, Answer::Rows(rows));
    }
    soon(shard, key, &desk, Answer::Rows(rows))
}

fn listed(
    shard: &Shard,
    desk: &Desk,
    uids: &[(u32, u32)],
    count_max: usize,
) -> Result<Vec<Row>, Refusal> {
    let partition = desk.partition(shard)?;
    let id = desk.open_id()?;
    // Sessions ask for what they know to be there: as good as all of it will be.
    let asked = uids
        .iter()
        .map(|(first, last)| last.saturating_sub(*first) as usize + 1);
    let asked = asked.fold(0, usize::saturating_add);
    let mut rows = Vec::with_capacity(asked.min(count_max));
    for range in uids {
        if rows.len() >= count_max {
            break;
        }
        let visit = |info: &MessageInfo| {
            rows.push(row(info));
            if rows.len() < count_max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let visited = partition.for_each_message(&desk.address, id, *range, visit);
        visited.map_err(|error| refusal(error, &desk.address))?;
    }
    Ok(rows)
}

/// UIDs that have gone.
pub(super) fn vanished(shard: &Shard, desk: &Desk, since: u64) -> Result<Vec<(u32, u32)>, Refusal> {
    let partition = desk.partition(shard)?;
    let runs = partition.vanished_since(&desk.address, desk.open_id()?, since);
    let runs = runs.map_err(|error| refusal(error, &desk.address))?;
    Ok(runs.iter().map(|run| (run.first, run.last)).collect())
}

/// Bytes of a message.
pub(super) fn read(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    message: Result<(MailboxId, u32), Refusal>,
    offset: u64,
    length: u32,
) -> Asked {
    // In the middle of a message there is no way to say so; the session's output has its bound.
    if offset == 0 && shard.memory_is_short(0) {
        shard.probe.memory_refusals.add(1);
        let text = "too busy, try again later".to_owned();
        return at_once(Answer::Data(Err(Refusal::Unavailable(text))));
    }
    let found = desk
        .partition(shard)
        .and_then(|found| Ok((found, message?)));
    let (partition, (id, uid)) = match found {
        Ok(found) => found,
        Err(refusal) => return at_once(Answer::Data(Err(refusal))),
    };
    let probe = Rc::clone(shard);
    later(shard, key, async move {
        let data = partition
            .read_from(&desk.address, id, uid, offset, length as usize)
            .await;
        Answer::Data(data.map_err(|error| {
            if !matches!(error, StoreError::Missing) {
                probe.probe.read_errors.add(1);
            }
            of_message(error, &partition, &desk.address, id)
        }))
    })
}

fn uids_of(ranges: &[(u32, u32)]) -> Vec<u32> {
    ranges
        .iter()
        .flat_map(|(first, last)| *first..=*last)
        .collect()
}

/// STORE.
pub(super) fn store(shard: &Rc<Shard>, key: ConnKey, desk: Rc<Desk>, change: StoreFlags) -> Asked {
    let found = desk
        .partition(shard)
        .and_then(|found| Ok((found, desk.open_id()?)));
    let (partition, id) = match found {
        Ok(found) => found,
        Err(refusal) => return at_once(Answer::Stored(Err(refusal))),
    };
    later(shard, key, async move {
        let makes_keywords = !change.flags.keywords.is_empty();
        let flag_change = FlagChange {
            mode: match change.how {
                StoreHow::Replace => FlagMode::Replace,
                StoreHow::Add => FlagMode::Add,
                StoreHow::Remove => FlagMode::Remove,
            },
            flags: Flags(change.flags.system.0),
            keywords: change.flags.keywords,
            unchanged_since: change.unchanged_since,
        };
        let uids = uids_of(&change.uids);
        let stored = partition
            .store_flags(&desk.address, id, &uids, &flag_change)
            .await;
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => return Answer::Stored(Err(refusal(error, &desk.address))),
        };
        let keywords = if makes_keywords {
            partition
                .view(&desk.address, id)
                .ok()
                .map(|view| view.keywords.into())
        } else {
            None
        };
        Answer::Stored(Ok(Stored {
            modseq: stored.modseq,
            before: stored.before,
            modified: stored.modified,
            keywords,
        }))
    })
}

/// EXPUNGE.
pub(super) fn expunge(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    uids: Vec<u32>,
    only_deleted: bool,
) -> Asked {
    let found = desk
        .partition(shard)
        .and_then(|found| Ok((found, desk.open_id()?)));
    let (partition, id) = match found {
        Ok(found) => found,
        Err(refusal) => return at_once(Answer::Done(Err(refusal))),
    };
    later(shard, key, async move {
        let now_ms = super::super::super::now_ms();
        let of = &desk.address;
        let gone = if only_deleted {
            partition.expunge_deleted(of, id, &uids, now_ms).await
        } else {
            partition.expunge_from(of, id, &uids, now_ms).await
        };
        Answer::Done(
            gone.map(drop)
                .map_err(|error| refusal(error, &desk.address)),
        )
    })
}

/// COPY and MOVE.
pub(super) fn copy(
    shard: &Rc<Shard>,
    key: ConnKey,
    desk: Rc<Desk>,
    uids: Vec<(u32, u32)>,
    name: String,
    moves: bool,
) -> Asked {
    let found = desk
        .partition(shard)
        .and_then(|found| Ok((found, desk.open_id()?)));
    let (partition, from) = match found {
        Ok(found) => found,
        Err(refusal) => return at_once(Answer::Copied(Err(refusal))),
    };
    let to = match partition.mailbox(&desk.address, &name) {
        Ok(info) => info.id,
        Err(error) => return at_once(Answer::Copied(Err(refusal(error, &desk.address)))),
    };
    later(shard, key, async move {
        let uids = uids_of(&uids);
        let now_ms = super::super::super::now_ms();
        let copied = if moves {
            partition
                .move_to(&desk.address, (from, to), &uids, now_ms)
                .await
        } else {
            partition
                .copy(&desk.address, (from, to), &uids, now_ms)
                .await
        };
        Answer::Copied(match copied {
            Ok(copied) => {
                desk.did_add(to, copied.pairs.iter().map(|(_, there)| *there));
                Ok(Copied {
                    id_space: desk.partition,
                    validity: copied.validity,
                    pairs: copied.pairs,
                })
            }
            Err(error) => Err(refusal(error, &desk.address)),
        })
    })
}
