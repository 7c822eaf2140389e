//! Bodies: where they are, what names them, what is kept beside them.
//!
//! Does not know: mailboxes.

use super::super::bodies::Body;
use super::super::layer::CacheEntry;
use super::super::usage::NO_SEGMENT;
use super::super::{Index, Location};
use crate::store::Sequence;

impl Index {
    pub(super) fn put_body(&mut self, body_seq: Sequence, location: Location, chunks: &[Sequence]) {
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
    pub(super) fn name_body(&mut self, seq: Sequence, whole: bool) {
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

    pub(super) fn unname_body(&mut self, seq: Sequence, whole: bool) {
        let Some(body) = self.body_in_active(seq) else {
            return;
        };
        body.unname();
        let after = *body;
        if after.is_live() {
            return;
        }
        self.segments.sub(after.segment, after.charge());
        if whole {
            self.drop_cache(seq);
        }
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
    pub(in super::super) fn release_unnamed_bodies(&mut self, below: Sequence) {
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
        self.release_waiting_caches();
    }
    /// What is kept beside a body lives as long as that. A record that comes before its body, as
    /// compaction may leave them, waits for it until [`Index::release_unnamed`].
    pub(super) fn put_cache(&mut self, seq: Sequence, at: Location, body_seq: Sequence) {
        let segment = self.segments.number(at.segment);
        let known = self.cache_entry(body_seq);
        if let Some(old) = known {
            let is_other_place = seq == old.seq && self.moves(old.segment, segment);
            if seq < old.seq || (seq == old.seq && !is_other_place) {
                return;
            }
            if seq > old.seq && self.is_covered(seq) {
                return;
            }
        } else if self.is_covered(seq) {
            return;
        }
        match self.body_entry(body_seq) {
            Some(body) if body.is_live() => {}
            Some(body) if !body.needed() => return,
            None if self.is_covered(body_seq) => return,
            _ => self.waiting_caches.push(body_seq),
        }
        if let Some(old) = known {
            self.segments.sub(old.segment, old.charge());
        }
        let entry = CacheEntry {
            seq,
            segment,
            offset: at.offset,
            bytes: at.bytes,
        };
        self.segments.add(segment, entry.charge());
        self.active.caches.insert(body_seq, entry);
    }

    fn drop_cache(&mut self, body_seq: Sequence) {
        let Some(entry) = self.cache_entry(body_seq).filter(CacheEntry::is_there) else {
            return;
        };
        self.segments.sub(entry.segment, entry.charge());
        let gone = CacheEntry {
            segment: NO_SEGMENT,
            ..entry
        };
        self.active.caches.insert(body_seq, gone);
    }

    /// Whatever waited for a body that has not come is garbage.
    pub(super) fn release_waiting_caches(&mut self) {
        for body_seq in std::mem::take(&mut self.waiting_caches) {
            match self.body_entry(body_seq) {
                Some(body) if body.is_live() => {}
                Some(body) if body.needed() => self.waiting_caches.push(body_seq),
                _ => self.drop_cache(body_seq),
            }
        }
    }
}
