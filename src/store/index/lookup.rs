//! Looks into the layers, the newest that knows first.
//!
//! Does not know: what records changed, how layers are made.

use std::ops::ControlFlow;

use super::Index;
use super::bodies::Body;
use super::layer::{CacheEntry, Entry, Fields, KeyEntry};
use super::mailbox::{BoxFields, Mailbox};
use super::marks::Mark;
use super::message::Message;
use super::sealed::Sealed;
use crate::mail::Address;
use crate::store::{MailboxId, Sequence, Uid};

/// What the layers know of one mailbox, the newest first; what is hidden is left out.
#[derive(Clone, Copy, Default)]
pub(super) struct Stack<'a> {
    pub(super) upper: [Option<&'a Mailbox>; 2],
    pub(super) base: Option<(&'a Sealed, usize)>,
}

impl<'a> Stack<'a> {
    /// The layers above the sealed file, the newest first.
    pub(super) fn layers(&self) -> impl DoubleEndedIterator<Item = &'a Mailbox> {
        self.upper.into_iter().flatten()
    }

    /// Fields of the mailbox; `None`: nothing is known of it.
    pub(super) fn fields(&self) -> Option<BoxFields> {
        match self.layers().next() {
            Some(own) => Some(own.fields),
            None => self.base.map(|(base, row)| base.box_fields(row)),
        }
    }

    /// A live message.
    pub(super) fn message(&self, uid: Uid) -> Option<Message> {
        match self.layers().find_map(|own| own.message(uid)) {
            Some(known) => known,
            None => self.base.and_then(|(base, row)| base.message(row, uid)),
        }
    }

    /// The mark of a UID, be it of a live message or of an earlier or later one.
    pub(super) fn mark(&self, uid: Uid) -> Option<Mark> {
        let own = self.layers().find_map(|own| own.mark(uid));
        own.or_else(|| self.base.and_then(|(base, row)| base.mark(row, uid)))
    }

    /// Its name as stored; empty for INBOX, and where the record with it was lost.
    pub(super) fn name(&self) -> &'a str {
        let own = self.layers().find_map(|own| own.name.as_deref());
        own.or_else(|| self.base.map(|(base, row)| base.box_name(row)))
            .unwrap_or_default()
    }

    /// Names of its keywords.
    pub(super) fn keywords(&self) -> Vec<Box<str>> {
        match self.own_keywords() {
            Some(own) => own.to_vec(),
            None => self
                .base
                .map_or_else(Vec::new, |(base, row)| base.keywords(row)),
        }
    }

    /// How many there are.
    pub(super) fn keyword_count(&self) -> usize {
        match self.own_keywords() {
            Some(own) => own.len(),
            None => self.base.map_or(0, |(base, row)| base.keyword_count(row)),
        }
    }

    fn own_keywords(&self) -> Option<&[Box<str>]> {
        self.layers().find_map(|own| {
            let rare = own.rare.as_ref();
            rare.and_then(|rare| rare.keywords.as_deref())
        })
    }

    /// Visits live messages from `first` to `last` in UID order, with their marks.
    pub(super) fn visit(
        &self,
        first: Uid,
        last: Uid,
        visit: &mut dyn FnMut(&Message, Option<Mark>) -> ControlFlow<()>,
    ) {
        let mut own: [Own<'_>; 2] = self.upper.map(|own| Own::from(own, first));
        let mut base = self
            .base
            .map(|(base, row)| BaseRows::from(base, row, first));
        loop {
            // The lowest UID; of equal ones the newest layer's.
            let mut next: Option<(usize, Message)> = None;
            for (layer, own) in own.iter().enumerate() {
                if let Some(message) = own.messages.first()
                    && next.is_none_or(|(_, next)| message.uid < next.uid)
                {
                    next = Some((layer, *message));
                }
            }
            if let Some(message) = base.as_ref().and_then(BaseRows::message)
                && next.is_none_or(|(_, next)| message.uid < next.uid)
            {
                next = Some((2, message));
            }
            let Some((layer, message)) = next.filter(|(_, next)| next.uid <= last) else {
                return;
            };
            let uid = message.uid;
            let mut is_dead = false;
            let mut mark = None;
            for (number, own) in own.iter_mut().enumerate() {
                own.pass(uid);
                is_dead |= number < layer && own.dead.first() == Some(&uid);
                mark = mark.or_else(|| own.mark(uid));
            }
            if let Some(base) = &mut base {
                base.pass(uid);
                mark = mark.or_else(|| base.mark(uid));
            }
            if !is_dead && visit(&message, mark).is_break() {
                return;
            }
        }
    }
}

/// Where a walk over the messages of one layer is.
struct Own<'a> {
    messages: &'a [Message],
    dead: &'a [Uid],
    mailbox: Option<&'a Mailbox>,
    marks: Option<std::collections::btree_map::Range<'a, Uid, Mark>>,
    mark: Option<Mark>,
}

impl<'a> Own<'a> {
    fn from(mailbox: Option<&'a Mailbox>, first: Uid) -> Own<'a> {
        let Some(own) = mailbox else {
            return Own {
                messages: &[],
                dead: &[],
                mailbox: None,
                marks: None,
                mark: None,
            };
        };
        let messages = own.messages.partition_point(|m| m.uid < first);
        let dead = own.dead.partition_point(|uid| *uid < first);
        let mut marks = own.rare.as_ref().map(|rare| rare.marks.from(first));
        let mark = marks
            .as_mut()
            .and_then(|marks| marks.next().map(|(_, m)| *m));
        Own {
            messages: &own.messages[messages..],
            dead: &own.dead[dead..],
            mailbox,
            marks,
            mark,
        }
    }

    /// Goes to a UID, and behind its message.
    fn pass(&mut self, uid: Uid) {
        if self.mailbox.is_none() {
            return;
        }
        if self.messages.first().is_some_and(|m| m.uid == uid) {
            self.messages = &self.messages[1..];
        }
        while self.dead.first().is_some_and(|dead| *dead < uid) {
            self.dead = &self.dead[1..];
        }
        while self.mark.is_some_and(|mark| mark.uid < uid) {
            let marks = self.marks.as_mut();
            self.mark = marks.and_then(|marks| marks.next().map(|(_, m)| *m));
        }
    }

    fn mark(&self, uid: Uid) -> Option<Mark> {
        self.mark.filter(|mark| mark.uid == uid)
    }
}

/// The same in the sealed file.
struct BaseRows<'a> {
    base: &'a Sealed,
    messages: std::ops::Range<usize>,
    marks: std::ops::Range<usize>,
    message: Option<Message>,
    mark: Option<Mark>,
}

impl<'a> BaseRows<'a> {
    fn from(base: &'a Sealed, row: usize, first: Uid) -> BaseRows<'a> {
        let messages = base.message_rows_from(row, first);
        let marks = base.mark_rows_from(row, first);
        BaseRows {
            base,
            message: (!messages.is_empty()).then(|| base.message_at(messages.start)),
            mark: (!marks.is_empty()).then(|| base.mark_at(marks.start)),
            messages,
            marks,
        }
    }

    fn message(&self) -> Option<Message> {
        self.message
    }

    fn pass(&mut self, uid: Uid) {
        if self.message.is_some_and(|m| m.uid == uid) {
            self.messages.start += 1;
            let rows = &self.messages;
            self.message = (!rows.is_empty()).then(|| self.base.message_at(rows.start));
        }
        while self.mark.is_some_and(|mark| mark.uid < uid) {
            self.marks.start += 1;
            let rows = &self.marks;
            self.mark = (!rows.is_empty()).then(|| self.base.mark_at(rows.start));
        }
    }

    fn mark(&self, uid: Uid) -> Option<Mark> {
        self.mark.filter(|mark| mark.uid == uid)
    }
}

impl Index {
    pub(super) fn frozen_entry(&self, address: &Address) -> Option<&Entry> {
        self.frozen.as_ref()?.entry(address)
    }

    /// What the layers know of a mailbox.
    pub(super) fn stack(&self, address: &Address, id: MailboxId) -> Stack<'_> {
        let entries = [self.active.entry(address), self.frozen_entry(address)];
        self.stack_of(entries, address, id)
    }

    /// The same without the newest layer.
    pub(super) fn stack_below(&self, address: &Address, id: MailboxId) -> Stack<'_> {
        self.stack_of([None, self.frozen_entry(address)], address, id)
    }

    fn stack_of<'a>(
        &'a self,
        entries: [Option<&'a Entry>; 2],
        address: &Address,
        id: MailboxId,
    ) -> Stack<'a> {
        let mut stack = Stack::default();
        for (layer, entry) in entries.into_iter().enumerate() {
            let Some(entry) = entry else { continue };
            stack.upper[layer] = entry.mailbox(id);
            let hides = stack.upper[layer].is_some_and(|own| own.hides_below);
            if entry.hides_below || hides {
                return stack;
            }
        }
        if let Some(base) = &self.base
            && let Some(row) = self.base_row(address, id)
        {
            stack.base = Some((base, row));
        }
        stack
    }

    pub(super) fn fields(&self, address: &Address) -> Option<Fields> {
        match self.active.entry(address) {
            Some(entry) => Some(entry.fields),
            None => self.fields_below(address),
        }
    }

    pub(super) fn fields_below(&self, address: &Address) -> Option<Fields> {
        if let Some(entry) = self.frozen_entry(address) {
            return Some(entry.fields);
        }
        let (_, fields) = self.base.as_ref()?.account(address.as_str())?;
        Some(fields)
    }

    /// The mailbox's row in the base, hidden or not.
    pub(super) fn base_row(&self, address: &Address, id: MailboxId) -> Option<usize> {
        let base = self.base.as_ref()?;
        let (account, _) = base.account(address.as_str())?;
        base.box_row(account, id)
    }

    /// A live message of the layers below the newest, hidden or not by that. `base_row`: what
    /// [`Index::base_row`] says.
    pub(super) fn message_below(
        &self,
        address: &Address,
        id: MailboxId,
        base_row: Option<usize>,
        uid: Uid,
    ) -> Option<Message> {
        if let Some(entry) = self.frozen_entry(address) {
            match entry.mailbox(id) {
                Some(own) => {
                    if let Some(known) = own.message(uid) {
                        return known;
                    }
                }
                None if entry.hides_below => return None,
                None => {}
            }
        }
        self.base.as_ref()?.message(base_row?, uid)
    }

    /// The mark of a UID in the layers below the newest, hidden or not by that.
    pub(super) fn mark_below(
        &self,
        address: &Address,
        id: MailboxId,
        base_row: Option<usize>,
        uid: Uid,
    ) -> Option<Mark> {
        if let Some(entry) = self.frozen_entry(address) {
            match entry.mailbox(id) {
                Some(own) => {
                    if let Some(known) = own.mark(uid) {
                        return Some(known);
                    }
                    if own.hides_below {
                        return None;
                    }
                }
                None if entry.hides_below => return None,
                None => {}
            }
        }
        self.base.as_ref()?.mark(base_row?, uid)
    }

    /// Numbers of all mailboxes that any layer knows of and no later one hides, INBOX first.
    pub(super) fn box_ids(&self, address: &Address) -> Vec<MailboxId> {
        let mut ids = vec![MailboxId::INBOX];
        for entry in [self.active.entry(address), self.frozen_entry(address)] {
            let Some(entry) = entry else { continue };
            ids.extend(entry.others.iter().map(|(id, _)| *id));
            if entry.hides_below {
                ids.sort_unstable();
                ids.dedup();
                return ids;
            }
        }
        if let Some(base) = &self.base
            && let Some((account, _)) = base.account(address.as_str())
        {
            ids.extend(base.box_rows(account).map(|row| base.box_id(row)));
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(super) fn body_entry(&self, seq: Sequence) -> Option<Body> {
        match self.active.bodies.get(seq) {
            Some(body) => Some(*body),
            None => self.body_below(seq),
        }
    }

    pub(super) fn body_below(&self, seq: Sequence) -> Option<Body> {
        if let Some(body) = self.frozen.as_ref().and_then(|f| f.bodies.get(seq)) {
            return Some(*body);
        }
        self.base.as_ref()?.body(seq)
    }

    /// Chunks of a streamed body; empty for all others.
    pub(super) fn chunks_of(&self, seq: Sequence) -> Vec<Sequence> {
        let frozen = self.frozen.as_ref();
        if let Some(chunks) = self.active.chunks.get(&seq) {
            return chunks.to_vec();
        }
        if let Some(chunks) = frozen.and_then(|frozen| frozen.chunks.get(&seq)) {
            return chunks.to_vec();
        }
        let base = self.base.as_ref().and_then(|base| base.chunks(seq));
        base.unwrap_or_default()
    }

    pub(super) fn cache_entry(&self, body_seq: Sequence) -> Option<CacheEntry> {
        if let Some(entry) = self.active.caches.get(&body_seq) {
            return Some(*entry);
        }
        let frozen = self.frozen.as_ref();
        if let Some(entry) = frozen.and_then(|frozen| frozen.caches.get(&body_seq)) {
            return Some(*entry);
        }
        let base = self.base.as_ref()?;
        // Of most bodies that are asked for, a delivery's, the file cannot know.
        (body_seq <= base.covers()).then(|| base.cache(body_seq))?
    }

    pub(super) fn key_entry(&self, key: &[u8]) -> Option<KeyEntry> {
        if let Some(entry) = self.active.keys.get(key) {
            return Some(entry.clone());
        }
        if let Some(entry) = self.frozen.as_ref().and_then(|f| f.keys.get(key)) {
            return Some(entry.clone());
        }
        self.base.as_ref()?.key(key)
    }
}

/// Two sorted runs of keys as one; of equal keys the one of `upper` counts.
pub(super) fn over<'a>(
    upper: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    lower: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
    let mut upper = upper.peekable();
    let mut lower = lower.peekable();
    std::iter::from_fn(move || {
        let Some((high, _)) = upper.peek() else {
            return lower.next();
        };
        match lower.peek() {
            Some((low, _)) if low < high => lower.next(),
            Some((low, _)) if low == high => {
                lower.next();
                upper.next()
            }
            _ => upper.next(),
        }
    })
}
