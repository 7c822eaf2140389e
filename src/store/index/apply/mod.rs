//! What each record changes: [`Index::apply`].
//!
//! Guarantees: the state is a function of the set of records seen, not of their order, whenever
//! the set is one that a log can hold: a repeated record changes nothing, the highest sequence
//! number of a thing wins, and of two places of one record the later in the log.
//! Everything up to the number that the sealed index covers is in it: a record so old that it does
//! not list is dead. A mailbox's number is that of the record that made it: one that is below the
//! end of an account is of an account that had this address before, and so is all that names it.
//! On failure: cannot fail; what a sound log never says (a body above its append, a chunk that
//! has chunks) is taken as far as it makes sense.

mod bodies;
mod mail;

use super::layer::{Entry, Fields, KeyEntry, Slot};
use super::mailbox::{BoxFields, Mailbox};
use super::message::Message;
use super::tombstones::Tombstones;
use super::usage::{ACCOUNT_BYTES, KEY_BYTES, MAILBOX_BYTES, NO_SEGMENT, RESERVE_BYTES};
use super::{Change, Index, Location};
use crate::mail::Address;
use crate::store::{Account, MailboxId, Sequence, UidValidity};

/// A mailbox that a record speaks of.
struct Target<'a> {
    address: &'a Address,
    id: MailboxId,
    slot: Slot,
    /// Its row in the sealed file.
    base_row: Option<usize>,
}

impl Index {
    pub(super) fn apply_change(&mut self, seq: Sequence, at: Location, change: Change<'_>) {
        match change {
            Change::Append {
                address,
                mailbox,
                uid,
                body_seq,
                bytes,
                date_ms,
                saved_ms,
                flags,
                keywords,
            } => {
                let segment = self.segments.number(at.segment);
                let message = Message::new(uid, segment, seq, body_seq, bytes, date_ms);
                let saved_ms = if saved_ms == date_ms { 0 } else { saved_ms };
                self.append(address, mailbox, message, (flags, keywords, saved_ms));
            }
            Change::Body {
                body_seq,
                location,
                chunks,
            } => self.put_body(body_seq, location, chunks),
            Change::Flags {
                address,
                mailbox,
                keywords,
                marks,
            } => self.put_flags(seq, at, address, mailbox, (keywords, marks)),
            Change::Expunge {
                address,
                mailbox,
                uids,
                now_ms,
            } => self.expunge(seq, address, mailbox, uids, now_ms),
            Change::PutAccount { account, validity } => {
                self.put_account(seq, at, account, validity);
            }
            Change::RemoveAccount { address } => self.remove_account(seq, address),
            Change::PutMailbox {
                address,
                mailbox,
                validity,
                special_use,
                name,
            } => self.put_mailbox(seq, at, address, mailbox, (validity, special_use, name)),
            Change::RemoveMailbox { address, mailbox } => {
                self.remove_mailbox(seq, address, mailbox);
            }
            Change::Reserve {
                address,
                mailbox,
                reserved,
            } => self.reserve(seq, at, address, mailbox, &reserved),
            Change::Key { key, value } => self.put_key(seq, at, key, value),
            Change::Cache { body_seq } => self.put_cache(seq, at, body_seq),
        }
    }

    /// The sealed index answers for everything up to its number.
    fn is_covered(&self, seq: Sequence) -> bool {
        self.base.as_ref().is_some_and(|base| seq <= base.covers())
    }

    /// The account's entry in the newest layer, made from what is below. A record that the sealed
    /// index covers makes no entry for an account that is nowhere.
    fn touch(&mut self, address: &Address, seq: Sequence) -> Option<usize> {
        if let Some(&number) = self.active.numbers.get(address) {
            return Some(number as usize);
        }
        let fields = match self.fields_below(address) {
            Some(fields) => fields,
            None if self.is_covered(seq) => return None,
            None => Fields::ABSENT,
        };
        let inbox = self.stack_below(address, MailboxId::INBOX).fields();
        let inbox = inbox.unwrap_or(BoxFields::ABSENT);
        Some(self.active.add(Entry::new(address, fields, inbox)))
    }

    /// The mailbox in the newest layer, made from what is below; `None` where it, or all that the
    /// record says of it, is gone.
    fn touch_box<'a>(
        &mut self,
        address: &'a Address,
        id: MailboxId,
        seq: Sequence,
    ) -> Option<Target<'a>> {
        let number = self.touch(address, seq)?;
        let entry = &self.active.entries[number];
        let removed_seq = entry.fields.removed_seq;
        if seq < removed_seq || (!id.is_inbox() && id.0 < removed_seq) {
            return None;
        }
        let mut below = BoxFields::ABSENT;
        if entry.mailbox(id).is_none() && !entry.hides_below {
            below = match self.stack_below(address, id).fields() {
                Some(fields) => fields,
                None if self.is_covered(seq) => return None,
                None => BoxFields::ABSENT,
            };
        }
        let slot = self.active.slot(number, id, |entry| Mailbox {
            hides_below: entry.hides_below,
            ..Mailbox::new(below)
        });
        (!self.active.at(slot).fields.removed).then_some(Target {
            address,
            id,
            slot,
            base_row: None,
        })
    }

    /// The later of two places of one record: a higher generation is later.
    fn moves(&self, from: u32, to: u32) -> bool {
        from != to && self.segments.generation(to) > self.segments.generation(from)
    }

    fn put_account(
        &mut self,
        seq: Sequence,
        at: Location,
        account: &Account,
        validity: UidValidity,
    ) {
        let Some(number) = self.touch(&account.address, seq) else {
            return;
        };
        self.names.get_mut().forget(&account.address);
        let segment = self.segments.number(at.segment);
        let fields = self.active.entries[number].fields;
        if seq < fields.removed_seq || (fields.has_record() && seq < fields.put_seq) {
            return;
        }
        if fields.has_record() && seq == fields.put_seq {
            if self.moves(fields.put_segment, segment) {
                self.segments.sub(fields.put_segment, ACCOUNT_BYTES);
                self.segments.add(segment, ACCOUNT_BYTES);
                self.active.entries[number].fields.put_segment = segment;
            }
            return;
        }
        if self.is_covered(seq) {
            return;
        }
        self.segments.sub(fields.put_segment, ACCOUNT_BYTES);
        self.segments.add(segment, ACCOUNT_BYTES);
        let entry = &mut self.active.entries[number];
        entry.fields.put_seq = seq;
        entry.fields.put_segment = segment;
        entry.inbox.fields.put_validity = validity;
        entry.fields.quota_bytes = account.quota_bytes;
        entry.password_hash = Some(account.password_hash.as_str().into());
    }

    fn remove_account(&mut self, seq: Sequence, address: &Address) {
        if self.is_covered(seq) {
            return;
        }
        let Some(number) = self.touch(address, seq) else {
            return;
        };
        if seq <= self.active.entries[number].fields.removed_seq {
            return;
        }
        self.names.get_mut().forget(address);
        for id in self.box_ids(address) {
            let entry = &self.active.entries[number];
            let below = match entry.mailbox(id) {
                None if !entry.hides_below => self.stack_below(address, id).fields(),
                _ => None,
            };
            let below = below.unwrap_or(BoxFields::ABSENT);
            let slot = self.active.slot(number, id, |_| Mailbox::new(below));
            let target = Target {
                address,
                id,
                slot,
                base_row: self.base_row(address, id),
            };
            if id.is_inbox() || id.0 > seq {
                self.clear_before(&target, seq);
            } else {
                self.clear_all(&target);
            }
        }
        let entry = &mut self.active.entries[number];
        entry.others.retain(|(id, _)| id.0 > seq);
        entry.hides_below = true;
        entry.fields.removed_seq = seq;
        let mut fields = entry.fields;
        if fields.has_record() && fields.put_seq < seq {
            self.segments.sub(fields.put_segment, ACCOUNT_BYTES);
            fields.put_segment = NO_SEGMENT;
            fields.quota_bytes = 0;
            entry.password_hash = None;
        }
        entry.fields = fields;
    }

    /// All that is older goes from a mailbox that is there again, or from INBOX.
    fn clear_before(&mut self, target: &Target<'_>, seq: Sequence) {
        let stack = self.stack(target.address, target.id);
        let Some(mut fields) = stack.fields() else {
            return;
        };
        let keywords = stack.keywords();
        let name: Box<str> = stack.name().into();
        // What came after it, in a layer that is hidden from now on, too.
        let mut last = None;
        let mut tombstones = Tombstones::default();
        for rare in stack.layers().filter_map(|own| own.rare.as_ref()) {
            last = last.max(rare.marks.last_uid(seq));
            tombstones.merge(rare.tombstones.clone());
        }
        tombstones.drop_to(seq);
        last = last.max(tombstones.last_uid(seq));
        let mut modseq = tombstones.last_seq(seq).unwrap_or(0);
        let mut live = Vec::new();
        // As in `clear_all`.
        let all = match fields.count {
            0 => Vec::new(),
            _ => self.messages_of(target.address, target.id),
        };
        for message in all {
            if message.seq() < seq {
                self.release(target, &message);
                continue;
            }
            let mark = self.mark_of(target, message.uid);
            modseq = modseq.max(mark.map_or(0, |m| m.seq)).max(message.seq());
            live.push((message, mark));
        }
        // What release has counted.
        let own = self.active.at(target.slot).fields;
        (fields.count, fields.bytes) = (own.count, own.bytes);
        (fields.seen, fields.deleted) = (own.seen, own.deleted);
        if fields.has_reserve() && fields.reserve_seq < seq {
            self.segments.sub(fields.reserve_segment, RESERVE_BYTES);
            fields.reserve_segment = NO_SEGMENT;
            fields.reserve_uid = 0;
            fields.reserve_modseq = 0;
            fields.changed_floor = 0;
            fields.vanished_floor = 0;
        }
        // Only what came after the removal says which UIDs were given.
        let last = live.last().map(|(message, _)| message.uid).max(last);
        fields.uid_next = last
            .map_or(1, |uid| uid.saturating_add(1))
            .max(fields.reserve_uid);
        fields.modseq = modseq.max(fields.reserve_modseq);
        let mailbox = self.active.at_mut(target.slot);
        mailbox.fields = fields;
        if !name.is_empty() {
            mailbox.name = Some(name);
        }
        mailbox.dead = Vec::new();
        mailbox.hides_below = true;
        if let Some(rare) = &mut mailbox.rare {
            rare.marks.drop_to(seq);
        }
        if !tombstones.is_empty() || mailbox.rare.is_some() {
            mailbox.rare_mut().tombstones = tombstones;
        }
        if !live.is_empty() {
            mailbox.rare_mut().keywords = Some(keywords);
        }
        mailbox.messages = live.iter().map(|(message, _)| *message).collect();
        for (_, mark) in live {
            if let Some(mark) = mark {
                mailbox.rare_mut().marks.put(mark);
            }
        }
    }

    /// All of a mailbox goes, and its space; it stays so.
    fn clear_all(&mut self, target: &Target<'_>) {
        let stack = self.stack(target.address, target.id);
        let Some(fields) = stack.fields() else { return };
        // One that was emptied before has nothing to look for, and may have had a million.
        if fields.count > 0 {
            for message in self.messages_of(target.address, target.id) {
                self.release(target, &message);
            }
        }
        self.segments.sub(fields.put_segment, MAILBOX_BYTES);
        self.segments.sub(fields.reserve_segment, RESERVE_BYTES);
        *self.active.at_mut(target.slot) = Mailbox {
            hides_below: true,
            ..Mailbox::new(BoxFields {
                removed: true,
                ..BoxFields::ABSENT
            })
        };
    }

    fn put_mailbox(
        &mut self,
        seq: Sequence,
        at: Location,
        address: &Address,
        id: MailboxId,
        (validity, special_use, name): (UidValidity, u8, &str),
    ) {
        let Some(target) = self.touch_box(address, id, seq) else {
            return;
        };
        let segment = self.segments.number(at.segment);
        let fields = self.active.at(target.slot).fields;
        if fields.has_record() && seq < fields.put_seq {
            return;
        }
        if fields.has_record() && seq == fields.put_seq {
            if self.moves(fields.put_segment, segment) {
                self.segments.sub(fields.put_segment, MAILBOX_BYTES);
                self.segments.add(segment, MAILBOX_BYTES);
                self.active.at_mut(target.slot).fields.put_segment = segment;
            }
            return;
        }
        if self.is_covered(seq) {
            return;
        }
        self.names.get_mut().forget(address);
        self.segments.sub(fields.put_segment, MAILBOX_BYTES);
        self.segments.add(segment, MAILBOX_BYTES);
        let mailbox = self.active.at_mut(target.slot);
        mailbox.fields.put_seq = seq;
        mailbox.fields.put_segment = segment;
        mailbox.fields.put_validity = validity;
        mailbox.fields.special_use = special_use;
        mailbox.name = Some(name.into());
    }

    fn remove_mailbox(&mut self, seq: Sequence, address: &Address, id: MailboxId) {
        if self.is_covered(seq) {
            return;
        }
        if let Some(mut target) = self.touch_box(address, id, seq) {
            target.base_row = self.base_row(address, id);
            self.names.get_mut().forget(address);
            self.clear_all(&target);
        }
    }

    fn put_key(&mut self, seq: Sequence, at: Location, key: &[u8], value: Option<&[u8]>) {
        let segment = self.segments.number(at.segment);
        // A removal is not charged: nothing is lost with it once what it removed is gone.
        let charge = |value: &Option<Box<[u8]>>| match value {
            Some(value) => KEY_BYTES + key.len() as u64 + value.len() as u64,
            None => 0,
        };
        if let Some(old) = self.key_entry(key) {
            if seq < old.seq || (seq == old.seq && !self.moves(old.segment, segment)) {
                return;
            }
            if seq > old.seq && self.is_covered(seq) {
                return;
            }
            self.segments.sub(old.segment, charge(&old.value));
        } else if self.is_covered(seq) {
            return;
        }
        let entry = KeyEntry {
            seq,
            segment,
            value: value.map(Into::into),
        };
        self.segments.add(segment, charge(&entry.value));
        match self.active.keys.get_mut(key) {
            Some(own) => *own = entry,
            None => {
                self.active.keys.insert(key.into(), entry);
            }
        }
    }
}
