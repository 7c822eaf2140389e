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
        if whole
            && !before.is_live()
            && let Some(cache) = self.cache_entry(seq)
        {
            self.segments.add(cache.segment, cache.charge());
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
        if whole && let Some(cache) = self.cache_entry(seq) {
            self.segments.sub(cache.segment, cache.charge());
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
    }
    /// What is kept beside a body counts while that is live, whichever of the two comes first.
    pub(super) fn put_cache(&mut self, seq: Sequence, at: Location, body_seq: Sequence) {
        let segment = self.segments.number(at.segment);
        let known = self.cache_entry(body_seq);
        let is_later = match known {
            Some(old) if old.seq == seq => {
                (self.segments.generation(old.segment), old.offset) < (at.segment, at.offset)
            }
            known => known.is_none_or(|old| seq > old.seq) && !self.is_covered(seq),
        };
        if !is_later {
            return;
        }
        let entry = CacheEntry {
            seq,
            segment,
            offset: at.offset,
            bytes: at.bytes,
        };
        if self.body_entry(body_seq).is_some_and(|body| body.is_live()) {
            if let Some(old) = known {
                self.segments.sub(old.segment, old.charge());
            }
            self.segments.add(segment, entry.charge());
        }
        self.active.caches.insert(body_seq, entry);
    }
}
