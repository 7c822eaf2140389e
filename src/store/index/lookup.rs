//! Looks into the layers, the newest that knows first.
//!
//! Does not know: what records changed, how layers are made.

use super::Index;
use super::bodies::Body;
use super::layer::{Entry, Fields, KeyEntry};
use super::message::Message;
use crate::mail::Address;
use crate::store::{Sequence, Uid};

impl Index {
    pub(super) fn frozen_entry(&self, address: &Address) -> Option<&Entry> {
        self.frozen.as_ref()?.entry(address)
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

    /// The account's row in the base.
    pub(super) fn base_row(&self, address: &Address) -> Option<usize> {
        let (account, _) = self.base.as_ref()?.account(address.as_str())?;
        Some(account)
    }

    /// A live message of the layers below the newest.
    pub(super) fn message_below(
        &self,
        address: &Address,
        base_row: Option<usize>,
        uid: Uid,
    ) -> Option<Message> {
        if let Some(entry) = self.frozen_entry(address)
            && let Some(known) = entry.message(uid)
        {
            return known;
        }
        self.base.as_ref()?.message(base_row?, uid)
    }

    /// All live messages, in UID order.
    pub(super) fn messages_of(&self, address: &Address) -> Vec<Message> {
        let active = self.active.entry(address);
        let frozen = self.frozen_entry(address);
        let hidden = [active, frozen]
            .iter()
            .flatten()
            .any(|entry| entry.hides_below);
        let mut messages = match &self.base {
            Some(base) if !hidden => base
                .account(address.as_str())
                .map_or_else(Vec::new, |(account, _)| base.messages(account)),
            _ => Vec::new(),
        };
        for entry in [frozen, active].into_iter().flatten() {
            messages = entry.over(messages);
        }
        messages
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
