//! What compaction has to keep: [`Index::needs`].
//!
//! Does not know: which segments there are.

use super::{Change, Index, Location};
use crate::mail::Address;
use crate::store::record::NewMark;
use crate::store::{MailboxId, Sequence};

impl Index {
    /// The record at this place is needed to rebuild the index from the log: compaction moves it,
    /// with its number, before the segment is recycled. No other copy of it is at a later place.
    ///
    /// Records that say that something is gone (an expunge, a removed account or key) are needed
    /// as long as an older segment may still hold what they removed. That the index does not
    /// know, so it always says yes; in the oldest segment of a log they need not be kept.
    ///
    /// Of the UIDs given it knows from appends and expunges too: whoever drops the last one of a
    /// mailbox, as told by [`Index::reserved`], writes a reserve record before.
    pub fn needs(&self, seq: Sequence, at: Location, change: &Change<'_>) -> bool {
        let is_here = |segment: u32| self.segments.generation(segment) == at.segment;
        match *change {
            Change::Append {
                address,
                mailbox,
                uid,
                ..
            } => {
                let message = self.stack(address, mailbox).message(uid);
                message.is_some_and(|message| message.seq() == seq && is_here(message.segment))
            }
            Change::Flags {
                address,
                mailbox,
                marks,
                ..
            } => {
                let mut needed = self.needed_marks(seq, at, (address, mailbox), marks);
                needed.next().is_some()
            }
            Change::PutMailbox {
                address, mailbox, ..
            } => {
                let own = self.stack(address, mailbox).fields();
                own.is_some_and(|own| own.put_seq == seq && is_here(own.put_segment))
            }
            Change::Cache { body_seq } => self.cache(body_seq) == Some(at),
            Change::PutAccount { account, .. } => {
                self.fields(&account.address).is_some_and(|own| {
                    own.has_record() && own.put_seq == seq && is_here(own.put_segment)
                })
            }
            Change::Reserve {
                address, mailbox, ..
            } => {
                let own = self.stack(address, mailbox).fields();
                own.is_some_and(|own| {
                    own.has_reserve() && own.reserve_seq == seq && is_here(own.reserve_segment)
                })
            }
            Change::Key {
                key,
                value: Some(_),
            } => self.key_entry(key).is_some_and(|entry| {
                entry.value.is_some() && entry.seq == seq && is_here(entry.segment)
            }),
            Change::Body {
                body_seq, location, ..
            } => self.body(body_seq) == Some(location),
            Change::Expunge { .. }
            | Change::RemoveAccount { .. }
            | Change::RemoveMailbox { .. }
            | Change::Key { .. } => true,
        }
    }

    /// Those marks of a flags record at this place that are needed, for the reason that
    /// [`Index::needs`] gives: the others need not be moved with them.
    pub fn needed_marks<'a>(
        &'a self,
        seq: Sequence,
        at: Location,
        (address, mailbox): (&Address, MailboxId),
        marks: &'a [NewMark],
    ) -> impl Iterator<Item = NewMark> + use<'a> {
        let stack = self.stack(address, mailbox);
        let needed = marks.iter().filter(move |new| {
            let mark = stack.mark(new.uid).filter(|mark| mark.seq == seq);
            mark.is_some_and(|mark| self.segments.generation(mark.segment) == at.segment)
                && stack.message(new.uid).is_some_and(|m| m.seq() < seq)
        });
        needed.copied()
    }
}
