//! What each record changes: [`Index::apply`].
//!
//! Guarantees: the state is a function of the set of records seen, not of their order, whenever
//! the set is one that a log can hold: a repeated record changes nothing, the highest sequence
//! number of a thing wins, and of two places of one record the later in the log.
//! Everything up to the number that the sealed index covers is in it: a record so old that it does
//! not list is dead.
//! On failure: cannot fail; what a sound log never says (a body far from its append, a chunk that
//! has chunks) is taken as far as it makes sense.

use super::bodies::Body;
use super::layer::{Entry, Fields, KeyEntry};
use super::message::Message;
use super::usage::{ACCOUNT_BYTES, APPEND_BYTES, KEY_BYTES, NO_SEGMENT, RESERVE_BYTES};
use super::{Change, Index, Location};
use crate::mail::Address;
use crate::store::{Account, Sequence, Uid, UidValidity};

impl Index {
    pub(super) fn apply_change(&mut self, seq: Sequence, at: Location, change: Change<'_>) {
        match change {
            Change::Append {
                address,
                uid,
                body_seq,
                bytes,
                date_ms,
            } => {
                let segment = self.segments.number(at.segment);
                let message = Message::new(uid, segment, seq, body_seq, bytes, date_ms);
                self.append(address, message);
            }
            Change::Body {
                body_seq,
                location,
                chunks,
            } => self.put_body(body_seq, location, chunks),
            Change::Expunge {
                address,
                uids,
                now_ms,
            } => self.expunge(seq, address, uids, now_ms),
            Change::PutAccount { account, validity } => {
                self.put_account(seq, at, account, validity);
            }
            Change::RemoveAccount { address } => self.remove_account(seq, address),
            Change::Reserve {
                address,
                uid_next,
                validity,
            } => self.reserve(seq, at, address, uid_next, validity),
            Change::Key { key, value } => self.put_key(seq, at, key, value),
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
        Some(self.active.add(Entry::new(address, fields)))
    }

    /// The later of two places of one record: a higher generation is later.
    fn moves(&self, from: u32, to: u32) -> bool {
        from != to && self.segments.generation(to) > self.segments.generation(from)
    }

    fn append(&mut self, address: &Address, message: Message) {
        let seq = message.seq();
        let uid = message.uid;
        let Some(number) = self.touch(address, seq) else {
            return;
        };
        let entry = &self.active.entries[number];
        let fields = entry.fields;
        if seq < fields.removed_seq {
            return;
        }
        let mut known = None;
        // In the order of the log every append is above all UIDs seen: nothing to look up.
        if uid < fields.uid_next {
            known = match entry.message(uid) {
                Some(known) => known,
                None => self.message_below(address, self.base_row(address), uid),
            };
            match known {
                Some(old) if old.seq() == seq => {
                    if self.moves(old.segment, message.segment) {
                        self.segments.sub(old.segment, APPEND_BYTES);
                        self.segments.add(message.segment, APPEND_BYTES);
                        self.active.entries[number].put_message(message);
                    }
                    return;
                }
                // A UID given anew: the account was removed between, which may be told later.
                Some(old) if old.seq() > seq => return,
                Some(_) => {}
                None => {
                    let entry = &self.active.entries[number];
                    let expunged = entry.tombstones.seq_of(uid) > Some(seq)
                        || self
                            .frozen_entry(address)
                            .is_some_and(|entry| entry.tombstones.seq_of(uid) > Some(seq));
                    if expunged {
                        let last_expunge_ms = entry.last_expunge_ms.max(
                            self.frozen_entry(address)
                                .map_or(0, |entry| entry.last_expunge_ms),
                        );
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
            self.release(&old);
            let fields = &mut self.active.entries[number].fields;
            fields.count -= 1;
            fields.bytes = fields.bytes.saturating_sub(old.bytes());
        }
        let entry = &mut self.active.entries[number];
        entry.put_message(message);
        entry.fields.uid_next = fields.uid_next.max(uid.saturating_add(1));
        entry.fields.count += 1;
        entry.fields.bytes = entry.fields.bytes.saturating_add(message.bytes());
        self.messages += 1;
        self.segments.add(message.segment, APPEND_BYTES);
        if let Some(body_seq) = message.body_seq() {
            self.name_body(body_seq, true);
        }
    }

    /// A live message is live no more.
    fn release(&mut self, message: &Message) {
        self.messages -= 1;
        self.segments.sub(message.segment, APPEND_BYTES);
        if let Some(body_seq) = message.body_seq() {
            self.unname_body(body_seq, true);
        }
    }

    fn expunge(&mut self, seq: Sequence, address: &Address, uids: &[Uid], now_ms: u64) {
        if self.is_covered(seq) {
            return;
        }
        let Some(number) = self.touch(address, seq) else {
            return;
        };
        if seq < self.active.entries[number].fields.removed_seq {
            return;
        }
        let mut killed = Vec::with_capacity(uids.len());
        let mut dead = Vec::new();
        let base_row = self.base_row(address);
        for &uid in uids {
            let below = self.message_below(address, base_row, uid);
            let entry = &self.active.entries[number];
            let known = match entry.message(uid) {
                Some(known) => known,
                None => below,
            };
            if let Some(message) = known
                && message.seq() < seq
            {
                killed.push(uid);
                if below.is_some() && !entry.hides_below {
                    dead.push(uid);
                }
                self.note_expunged(&message, now_ms);
                self.release(&message);
                let fields = &mut self.active.entries[number].fields;
                fields.count -= 1;
                fields.bytes = fields.bytes.saturating_sub(message.bytes());
            }
        }
        let entry = &mut self.active.entries[number];
        entry.kill(&killed, dead.into_iter());
        entry.tombstones.insert_all(uids, seq);
        entry.last_expunge_ms = entry.last_expunge_ms.max(now_ms);
        if let Some(last) = uids.last() {
            entry.fields.uid_next = entry.fields.uid_next.max(last.saturating_add(1));
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
        let segment = self.segments.number(at.segment);
        let fields = self.active.entries[number].fields;
        if seq < fields.removed_seq || (fields.exists() && seq < fields.put_seq) {
            return;
        }
        if fields.exists() && seq == fields.put_seq {
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
        entry.fields.put_validity = validity;
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
        let mut live = Vec::new();
        for message in self.messages_of(address) {
            if message.seq() < seq {
                self.release(&message);
            } else {
                live.push(message);
            }
        }
        let frozen_last = self
            .frozen_entry(address)
            .and_then(|entry| entry.tombstones.last_uid(seq));
        let entry = &mut self.active.entries[number];
        entry.tombstones.drop_to(seq);
        entry.dead = Vec::new();
        entry.hides_below = true;
        let mut fields = entry.fields;
        fields.removed_seq = seq;
        fields.count = live.len() as u32;
        fields.bytes = live.iter().map(Message::bytes).sum();
        if fields.exists() && fields.put_seq < seq {
            self.segments.sub(fields.put_segment, ACCOUNT_BYTES);
            fields.put_segment = NO_SEGMENT;
            fields.quota_bytes = 0;
            entry.password_hash = None;
        }
        if fields.has_reserve() && fields.reserve_seq < seq {
            self.segments.sub(fields.reserve_segment, RESERVE_BYTES);
            fields.reserve_segment = NO_SEGMENT;
            fields.reserve_uid = 0;
        }
        // Only what came after the removal says which UIDs were given.
        let expunged = entry.tombstones.last_uid(seq).max(frozen_last);
        let last = live.last().map(|message| message.uid).max(expunged);
        fields.uid_next = last
            .map_or(1, |uid| uid.saturating_add(1))
            .max(fields.reserve_uid);
        entry.messages = live;
        entry.fields = fields;
    }

    fn reserve(
        &mut self,
        seq: Sequence,
        at: Location,
        address: &Address,
        uid_next: Uid,
        validity: UidValidity,
    ) {
        let Some(number) = self.touch(address, seq) else {
            return;
        };
        let segment = self.segments.number(at.segment);
        let fields = self.active.entries[number].fields;
        let has_reserve = fields.has_reserve();
        if seq < fields.removed_seq {
            return;
        }
        if has_reserve && seq == fields.reserve_seq {
            if self.moves(fields.reserve_segment, segment) {
                self.segments.sub(fields.reserve_segment, RESERVE_BYTES);
                self.segments.add(segment, RESERVE_BYTES);
                self.active.entries[number].fields.reserve_segment = segment;
            }
            return;
        }
        if self.is_covered(seq) {
            return;
        }
        let own = &mut self.active.entries[number].fields;
        own.uid_next = own.uid_next.max(uid_next);
        if has_reserve && seq < fields.reserve_seq {
            return;
        }
        own.reserve_seq = seq;
        own.reserve_segment = segment;
        own.reserve_uid = uid_next;
        own.reserve_validity = validity;
        self.segments.sub(fields.reserve_segment, RESERVE_BYTES);
        self.segments.add(segment, RESERVE_BYTES);
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

    fn put_body(&mut self, body_seq: Sequence, location: Location, chunks: &[Sequence]) {
        let segment = self.segments.number(location.segment);
        let body = match self.body_in_active(body_seq).map(|body| *body) {
            Some(body) => body,
            None if self.is_covered(body_seq) => {
                // Dead, or a chunk that was told of only when its final record named it.
                let mut body = Body::new(body_seq);
                body.release();
                body
            }
            None => {
                self.unnamed.push(body_seq);
                Body::new(body_seq)
            }
        };
        let mut new = body;
        let later = body.segment == NO_SEGMENT
            || (self.segments.generation(body.segment), body.offset)
                < (location.segment, location.offset);
        if later {
            if body.needed() {
                self.segments.sub(body.segment, body.charge());
            }
            new.segment = segment;
            new.offset = location.offset;
            new.bytes = location.bytes;
            if new.needed() {
                self.segments.add(segment, new.charge());
            }
        }
        let learns_chunks = !chunks.is_empty() && !body.is_chunked();
        if learns_chunks {
            new.set_chunked();
            self.active.chunks.insert(body_seq, chunks.into());
        }
        if new != body || body.segment == NO_SEGMENT {
            self.active.bodies.insert(new);
        }
        if learns_chunks && body.is_live() {
            for &chunk in chunks {
                self.name_body(chunk, false);
            }
        }
    }

    /// A live append (`whole`) or a final record names the body.
    fn name_body(&mut self, seq: Sequence, whole: bool) {
        if self.unnamed.last() == Some(&seq) {
            self.unnamed.pop();
        }
        if self.body_in_active(seq).is_none() {
            self.active.bodies.insert(Body::new(seq));
        }
        let Some(body) = self.active.bodies.get_mut(seq) else {
            return;
        };
        let before = *body;
        body.name();
        if !before.needed() {
            self.segments.add(before.segment, before.charge());
        }
        // Chunks have no chunks: this ends after one step, whatever the log says.
        if whole && !before.is_live() && before.is_chunked() {
            for chunk in self.chunks_of(seq) {
                self.name_body(chunk, false);
            }
        }
    }

    fn unname_body(&mut self, seq: Sequence, whole: bool) {
        let Some(body) = self.body_in_active(seq) else {
            return;
        };
        body.unname();
        let after = *body;
        if after.is_live() {
            return;
        }
        self.segments.sub(after.segment, after.charge());
        if whole && after.is_chunked() {
            for chunk in self.chunks_of(seq) {
                self.unname_body(chunk, false);
            }
        }
    }

    /// The body in the newest layer, brought up from below.
    fn body_in_active(&mut self, seq: Sequence) -> Option<&mut Body> {
        if self.active.bodies.get(seq).is_none() {
            let body = self.body_below(seq)?;
            self.active.bodies.insert(body);
        }
        self.active.bodies.get_mut(seq)
    }

    /// Bodies below this number that nothing has named are garbage from now on.
    pub(super) fn release_unnamed_bodies(&mut self, below: Sequence) {
        let unnamed = std::mem::take(&mut self.unnamed);
        for seq in unnamed {
            let Some(body) = self.body_in_active(seq) else {
                continue;
            };
            if !body.is_unnamed() {
                continue;
            }
            if seq >= below {
                self.unnamed.push(seq);
                continue;
            }
            body.release();
            let body = *body;
            self.segments.sub(body.segment, body.charge());
        }
    }
}
