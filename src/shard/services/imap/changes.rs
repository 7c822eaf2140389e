//! What has changed in the open mailbox, slice by slice, for sessions that look for news or ask for
//! it (CHANGEDSINCE, RFC 7162 §3.1.4).
//!
//! Guarantees: rows are as of now, whatever was found before; what a session keeps between slices is
//! counted, and bounded by [`IMAP_CHANGED_MESSAGES_MAX`]. Where more has changed, the mailbox is looked
//! through, with pauses.
//! Does not know: what clients have been told.

use std::ops::ControlFlow;
use std::rc::Rc;

use super::super::super::wait::breathe;
use super::super::super::{HeldMemory, Shard};
use super::messages::row;
use super::{Desk, refusal};
use crate::limits::{IMAP_CHANGED_MESSAGES_MAX, IMAP_SLICE_MESSAGES};
use crate::proto::imap::{Refusal, Row};
use crate::store::{MessageInfo, Sequence, StoreError, Uid};

/// Messages looked at between two pauses.
const SCAN_MESSAGES: usize = 4 * IMAP_SLICE_MESSAGES;

/// What was found at the first slice, for those that follow.
pub(super) struct Changes {
    since: Sequence,
    /// HIGHESTMODSEQ then: when it is another one, there may be more.
    modseq: Sequence,
    uids: Rc<[Uid]>,
    _held: HeldMemory,
}

/// Messages in these ranges that have changed since, at most `count_max`; `None`: too much has
/// changed, they must be looked for with [`scan`].
pub(super) fn at_hand(
    shard: &Rc<Shard>,
    desk: &Desk,
    ranges: &[(u32, u32)],
    since: Sequence,
    count_max: usize,
) -> Result<Option<Vec<Row>>, Refusal> {
    let partition = desk.partition(shard)?;
    let id = desk.open_id()?;
    let address = &desk.address;
    let failed = |error| refusal(error, address);
    let info = partition.mailbox_info(address, id).map_err(failed)?;
    let kept = match desk.open.borrow_mut().as_mut() {
        Some(open) => open.changes.take().filter(|known| {
            // Another command may ask for the same, and more has happened since.
            known.since == since && known.modseq == info.highest_modseq
        }),
        None => None,
    };
    let changes = match kept {
        Some(changes) => changes,
        None => {
            let count_max = IMAP_CHANGED_MESSAGES_MAX;
            let found = partition.changed_since(address, id, since, count_max);
            let Some(found) = found.map_err(failed)? else {
                return Ok(None);
            };
            let uids: Rc<[Uid]> = found.iter().map(|info| info.uid).collect();
            Changes {
                since,
                modseq: info.highest_modseq,
                _held: shard.hold_memory(size_of_val(&*uids)),
                uids,
            }
        }
    };
    let mut rows = Vec::new();
    for (first, last) in ranges {
        let start = changes.uids.partition_point(|uid| uid < first);
        let wanted = changes.uids[start..].iter().take_while(|uid| *uid <= last);
        for uid in wanted.take(count_max - rows.len()) {
            match partition.message(address, id, *uid) {
                Ok(info) => rows.push(row(&info)),
                // It was expunged meanwhile.
                Err(StoreError::Missing) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    if rows.len() >= count_max
        && let Some(open) = desk.open.borrow_mut().as_mut()
    {
        open.changes = Some(changes);
    }
    Ok(Some(rows))
}

/// The same as [`at_hand`], however much has changed.
pub(super) async fn scan(
    shard: &Rc<Shard>,
    desk: &Desk,
    ranges: &[(u32, u32)],
    since: Sequence,
    count_max: usize,
) -> Result<Vec<Row>, Refusal> {
    let mut rows = Vec::new();
    for (first, last) in ranges {
        let mut next = Some(*first);
        while let Some(first) = next.filter(|first| first <= last) {
            let partition = desk.partition(shard)?;
            let id = desk.open_id()?;
            let (mut seen, mut at) = (0, *last);
            let visit = |info: &MessageInfo| {
                seen += 1;
                at = info.uid;
                if info.modseq > since {
                    rows.push(row(info));
                }
                if rows.len() < count_max && seen < SCAN_MESSAGES {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            };
            partition
                .for_each_message(&desk.address, id, (first, *last), visit)
                .map_err(|error| refusal(error, &desk.address))?;
            breathe().await;
            if rows.len() >= count_max {
                return Ok(rows);
            }
            next = at.checked_add(1).filter(|_| seen >= SCAN_MESSAGES);
        }
    }
    Ok(rows)
}
