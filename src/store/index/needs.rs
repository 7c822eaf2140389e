//! What compaction has to keep: [`Index::needs`].
//!
//! Does not know: which segments there are.

use super::{Change, Index, Location};
use crate::store::Sequence;

impl Index {
    /// The record at this place is needed to rebuild the index from the log: compaction moves it,
    /// with its number, before the segment is recycled. No other copy of it is at a later place.
    ///
    /// Records that say that something is gone (an expunge, a removed account or key) are needed
    /// as long as an older segment may still hold what they removed. That the index does not
    /// know, so it always says yes; in the oldest segment of a log they need not be kept.
    ///
    /// Of the UIDs given it knows from appends and expunges too: whoever drops the last one of an
    /// account, as told by [`Index::inbox_state`], writes a reserve record before.
    pub fn needs(&self, seq: Sequence, at: Location, change: &Change<'_>) -> bool {
        let is_here = |segment: u32| self.segments.generation(segment) == at.segment;
        match *change {
            Change::Append { address, uid, .. } => {
                let own = [self.active.entry(address), self.frozen_entry(address)];
                let known = own.into_iter().flatten();
                let message = match known.into_iter().find_map(|entry| entry.message(uid)) {
                    Some(known) => known,
                    None => self.message_below(address, self.base_row(address), uid),
                };
                message.is_some_and(|message| message.seq() == seq && is_here(message.segment))
            }
            Change::PutAccount { account, .. } => self
                .fields(&account.address)
                .is_some_and(|own| own.exists() && own.put_seq == seq && is_here(own.put_segment)),
            Change::Reserve { address, .. } => self.fields(address).is_some_and(|own| {
                own.has_reserve() && own.reserve_seq == seq && is_here(own.reserve_segment)
            }),
            Change::Key {
                key,
                value: Some(_),
            } => self.key_entry(key).is_some_and(|entry| {
                entry.value.is_some() && entry.seq == seq && is_here(entry.segment)
            }),
            Change::Body {
                body_seq, location, ..
            } => self.body(body_seq) == Some(location),
            Change::Expunge { .. } | Change::RemoveAccount { .. } | Change::Key { .. } => true,
        }
    }
}
