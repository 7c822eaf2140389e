//! Messages and their flags: how they come and go.
//!
//! Does not know: accounts, bodies.

use super::super::layer::Slot;
use super::super::marks::Mark;
use super::super::message::Message;
use super::super::usage::{APPEND_BYTES, NO_SEGMENT, RESERVE_BYTES};
use super::super::{Index, Location};
use super::Target;
use crate::limits::KEYWORDS_MAX;
use crate::mail::Address;
use crate::store::record::{NewMark, Reserved};
use crate::store::{Flags, MailboxId, Sequence, Uid, same_keyword};

impl Index {
    pub(super) fn append(
        &mut self,
        address: &Address,
        id: MailboxId,
        message: Message,
        (flags, keywords, saved_ms): (Flags, &[&str], u64),
    ) {
        let seq = message.seq();
        let uid = message.uid;
        let Some(mut target) = self.touch_box(address, id, seq) else {
            return;
        };
        let slot = target.slot;
        let fields = self.active.at(slot).fields;
        let mut known = None;
        // In the order of the log every append is above all UIDs seen: nothing to look up.
        if uid < fields.uid_next {
            target.base_row = self.base_row(address, id);
            known = self.known(&target, uid);
            match known {
                Some(old) if old.seq() == seq => {
                    if self.moves(old.segment, message.segment) {
                        self.segments.sub(old.segment, APPEND_BYTES);
                        self.segments.add(message.segment, APPEND_BYTES);
                        self.active.at_mut(slot).put_message(message);
                    }
                    return;
                }
                // A UID given anew: the account was removed between, which may be told later.
                Some(old) if old.seq() > seq => return,
                Some(_) => {}
                None => {
                    let own = self.active.at(slot);
                    let frozen = self.frozen_entry(address).and_then(|e| e.mailbox(id));
                    let expunged = own.is_expunged(uid, seq)
                        || frozen.is_some_and(|own| own.is_expunged(uid, seq));
                    if expunged {
                        let last_expunge_ms = own
                            .last_expunge_ms
                            .max(frozen.map_or(0, |own| own.last_expunge_ms));
                        self.segments.expunged(message.segment, last_expunge_ms);
                        return;
                    }
                }
            }
        }
        if self.is_covered(seq) {
            return;
        }
        if let Some(old) = known {
            self.release(&target, &old);
        }
        // Flags that compaction left before it.
        let early = (uid < fields.uid_next)
            .then(|| self.mark_of(&target, uid))
            .flatten()
            .filter(|mark| mark.seq > seq);
        let mailbox = self.active.at_mut(slot);
        mailbox.put_message(message);
        let own = &mut mailbox.fields;
        own.uid_next = own.uid_next.max(uid.saturating_add(1));
        if own.count == 0 && !own.has_record() && !id.is_inbox() {
            self.names.get_mut().forget(address);
        }
        own.count += 1;
        own.bytes = own.bytes.saturating_add(message.bytes());
        own.modseq = own.modseq.max(seq);
        let account = &mut self.active.entries[slot.entry].fields;
        account.bytes = account.bytes.saturating_add(message.bytes());
        self.messages += 1;
        self.segments.add(message.segment, APPEND_BYTES);
        if let Some(early) = early {
            self.segments.add(early.segment, early.charge());
            let mailbox = self.active.at_mut(slot);
            mailbox.fields.count_flags(early.flags);
            mailbox.rare_mut().marks.put(Mark { saved_ms, ..early });
        } else if flags != Flags::NONE || !keywords.is_empty() || saved_ms != 0 {
            let bits = self.keyword_bits(&target, keywords);
            let keywords = bits.iter().fold(0, |all, bit| all | bit);
            let mailbox = self.active.at_mut(slot);
            mailbox.fields.count_flags(flags);
            mailbox.rare_mut().marks.put(Mark {
                uid,
                segment: NO_SEGMENT,
                seq,
                saved_ms,
                keywords,
                flags,
                charge: 0,
            });
        }
        if let Some(body_seq) = message.body_seq() {
            self.name_body(body_seq, true);
        }
    }

    /// A live message of any layer.
    fn known(&self, target: &Target<'_>, uid: Uid) -> Option<Message> {
        match self.active.at(target.slot).message(uid) {
            Some(known) => known,
            None => self.message_below(target.address, target.id, target.base_row, uid),
        }
    }

    /// The mark of a UID in any layer.
    pub(super) fn mark_of(&self, target: &Target<'_>, uid: Uid) -> Option<Mark> {
        let own = self.active.at(target.slot);
        match own.mark(uid) {
            Some(mark) => Some(mark),
            None if own.hides_below => None,
            None => self.mark_below(target.address, target.id, target.base_row, uid),
        }
    }

    /// A live message is live no more: what it used and counted is taken back.
    pub(super) fn release(&mut self, target: &Target<'_>, message: &Message) {
        self.messages -= 1;
        self.segments.sub(message.segment, APPEND_BYTES);
        let mark = self.mark_of(target, message.uid);
        let mark = mark.filter(|mark| mark.seq >= message.seq());
        if let Some(mark) = mark
            && mark.is_own()
        {
            self.segments.sub(mark.segment, mark.charge());
        }
        let fields = &mut self.active.at_mut(target.slot).fields;
        fields.count -= 1;
        if fields.count == 0 && !fields.has_record() && !target.id.is_inbox() {
            self.names.get_mut().forget(target.address);
        }
        fields.bytes = fields.bytes.saturating_sub(message.bytes());
        if let Some(mark) = mark {
            fields.uncount_flags(mark.flags);
        }
        let account = &mut self.active.entries[target.slot.entry].fields;
        account.bytes = account.bytes.saturating_sub(message.bytes());
        if let Some(body_seq) = message.body_seq() {
            self.unname_body(body_seq, true);
        }
    }

    pub(super) fn expunge(
        &mut self,
        seq: Sequence,
        address: &Address,
        id: MailboxId,
        uids: &[Uid],
        now_ms: u64,
    ) {
        if self.is_covered(seq) {
            return;
        }
        let Some(mut target) = self.touch_box(address, id, seq) else {
            return;
        };
        target.base_row = self.base_row(address, id);
        let mut killed = Vec::with_capacity(uids.len());
        let mut dead = Vec::new();
        for &uid in uids {
            let below = self.message_below(address, id, target.base_row, uid);
            let own = self.active.at(target.slot);
            let known = match own.message(uid) {
                Some(known) => known,
                None => below,
            };
            if let Some(message) = known
                && message.seq() < seq
            {
                killed.push(uid);
                if below.is_some() && !own.hides_below {
                    dead.push(uid);
                }
                self.note_expunged(&message, now_ms);
                self.release(&target, &message);
            }
        }
        let mailbox = self.active.at_mut(target.slot);
        mailbox.kill(&killed, &dead, seq);
        mailbox.rare_mut().tombstones.insert_all(uids, seq);
        mailbox.last_expunge_ms = mailbox.last_expunge_ms.max(now_ms);
        mailbox.fields.modseq = mailbox.fields.modseq.max(seq);
        if let Some(last) = uids.last() {
            mailbox.fields.uid_next = mailbox.fields.uid_next.max(last.saturating_add(1));
        }
    }

    /// The places of a message wait for the cleanup age from now on [N23].
    fn note_expunged(&mut self, message: &Message, now_ms: u64) {
        self.segments.expunged(message.segment, now_ms);
        let Some(body_seq) = message.body_seq() else {
            return;
        };
        if let Some(body) = self.body_entry(body_seq) {
            self.segments.expunged(body.segment, now_ms);
        }
        for chunk in self.chunks_of(body_seq) {
            if let Some(body) = self.body_entry(chunk) {
                self.segments.expunged(body.segment, now_ms);
            }
        }
    }

    /// A mark without a message is kept: its append may come behind it, where compaction moved it.
    pub(super) fn put_flags(
        &mut self,
        seq: Sequence,
        at: Location,
        address: &Address,
        id: MailboxId,
        (keywords, marks): (&[&str], &[NewMark]),
    ) {
        let Some(mut target) = self.touch_box(address, id, seq) else {
            return;
        };
        target.base_row = self.base_row(address, id);
        let segment = self.segments.number(at.segment);
        let is_covered = self.is_covered(seq);
        let charge = u64::from(at.bytes).div_ceil(marks.len().max(1) as u64);
        let charge = u16::try_from(charge).unwrap_or(u16::MAX);
        let mut bits = None;
        for new in marks {
            let uid = new.uid;
            let message = self.known(&target, uid);
            let mut before = self.mark_of(&target, uid);
            if let Some(message) = message {
                before = before.filter(|mark| mark.seq >= message.seq());
            }
            if let Some(old) = before
                && old.seq >= seq
            {
                if old.seq == seq && old.is_own() && self.moves(old.segment, segment) {
                    let moved = Mark {
                        segment,
                        charge,
                        ..old
                    };
                    if message.is_some() {
                        self.segments.sub(old.segment, old.charge());
                        self.segments.add(segment, moved.charge());
                    }
                    self.put_mark(target.slot, moved);
                }
                continue;
            }
            if is_covered {
                continue;
            }
            match message {
                // Of an account that had this address before.
                Some(message) if message.seq() > seq => continue,
                Some(_) => {
                    self.segments.add(segment, charge.into());
                    let fields = &mut self.active.at_mut(target.slot).fields;
                    if let Some(old) = before {
                        fields.uncount_flags(old.flags);
                    }
                    fields.count_flags(new.flags);
                    if let Some(old) = before.filter(Mark::is_own) {
                        self.segments.sub(old.segment, old.charge());
                    }
                }
                None => {
                    let frozen = self.frozen_entry(address).and_then(|e| e.mailbox(id));
                    let own = self.active.at(target.slot);
                    let expunged = own.is_expunged(uid, seq)
                        || frozen.is_some_and(|own| own.is_expunged(uid, seq));
                    if expunged {
                        continue;
                    }
                }
            }
            let bits = bits.get_or_insert_with(|| self.keyword_bits(&target, keywords));
            let set = |(place, bit): (usize, &u64)| match new.keywords >> place & 1 {
                0 => 0,
                _ => *bit,
            };
            let mark = Mark {
                uid,
                segment,
                seq,
                saved_ms: before.map_or(0, |old| old.saved_ms),
                keywords: bits
                    .iter()
                    .enumerate()
                    .map(set)
                    .fold(0, |all, bit| all | bit),
                flags: new.flags,
                charge,
            };
            self.put_mark(target.slot, mark);
        }
        let fields = &mut self.active.at_mut(target.slot).fields;
        if !is_covered {
            fields.modseq = fields.modseq.max(seq);
            if let Some(last) = marks.last() {
                // An append that comes behind it must look for it.
                fields.uid_next = fields.uid_next.max(last.uid.saturating_add(1));
            }
        }
    }

    fn put_mark(&mut self, slot: Slot, mark: Mark) {
        self.active.at_mut(slot).rare_mut().marks.put(mark);
    }

    /// A bit of the mailbox for each of these keywords; what is new gets the next ones. Whoever writes
    /// the record has counted. Where what is left of a damaged log has more of them, those that do not
    /// fit get none: a message without a keyword is better than one with another's.
    fn keyword_bits(&mut self, target: &Target<'_>, keywords: &[&str]) -> Vec<u64> {
        if keywords.is_empty() {
            return Vec::new();
        }
        let own = self.active.at(target.slot).rare.as_ref();
        if own.is_none_or(|rare| rare.keywords.is_none()) {
            let known = self.stack(target.address, target.id).keywords();
            self.active.at_mut(target.slot).rare_mut().keywords = Some(known);
        }
        let rare = self.active.at_mut(target.slot).rare_mut();
        let known = rare.keywords.get_or_insert_default();
        let mut bits = Vec::with_capacity(keywords.len());
        for keyword in keywords {
            let place = known.iter().position(|own| same_keyword(own, keyword));
            let place = place.unwrap_or(known.len());
            if place == known.len() && place < KEYWORDS_MAX {
                known.push((*keyword).into());
            }
            bits.push(1u64.checked_shl(place as u32).unwrap_or(0));
        }
        bits
    }

    pub(super) fn reserve(
        &mut self,
        seq: Sequence,
        at: Location,
        address: &Address,
        id: MailboxId,
        reserved: &Reserved,
    ) {
        let Some(target) = self.touch_box(address, id, seq) else {
            return;
        };
        let segment = self.segments.number(at.segment);
        let fields = self.active.at(target.slot).fields;
        let has_reserve = fields.has_reserve();
        if has_reserve && seq == fields.reserve_seq {
            if self.moves(fields.reserve_segment, segment) {
                self.segments.sub(fields.reserve_segment, RESERVE_BYTES);
                self.segments.add(segment, RESERVE_BYTES);
                self.active.at_mut(target.slot).fields.reserve_segment = segment;
            }
            return;
        }
        if self.is_covered(seq) {
            return;
        }
        // Without a sealed index, expunges of before may not be in the log any more.
        let is_whole = self.base.is_some();
        let own = &mut self.active.at_mut(target.slot).fields;
        own.uid_next = own.uid_next.max(reserved.uid_next);
        own.modseq = own.modseq.max(reserved.modseq);
        own.changed_floor = own.changed_floor.max(reserved.changed_floor);
        let vanished_floor = if is_whole {
            reserved.changed_floor
        } else {
            seq
        };
        own.vanished_floor = own.vanished_floor.max(vanished_floor);
        if has_reserve && seq < fields.reserve_seq {
            return;
        }
        own.reserve_seq = seq;
        own.reserve_segment = segment;
        own.reserve_uid = reserved.uid_next;
        own.reserve_modseq = reserved.modseq;
        own.reserve_validity = reserved.validity;
        self.segments.sub(fields.reserve_segment, RESERVE_BYTES);
        self.segments.add(segment, RESERVE_BYTES);
    }
}
