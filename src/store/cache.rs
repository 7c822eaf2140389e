//! What readers keep beside a body: written once, without a sync of its own, and not missed when it
//! is lost.
//!
//! A record of the log holds it, the index knows where. It lives as long as the body. What was used
//! lately is in memory, too, within a bound.
//!
//! Guarantees: what is read was checked, and belongs to that body.
//! Does not know: what it says.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::change::Pended;
use super::commit::RECORDS_BYTES_MAX;
use super::disk::Disk;
use super::mutate::{SMALL_BYTES, Space};
use super::partition::Partition;
use super::record::encode;
use super::{Sequence, StoreError};
use crate::config::SyncLevel;
use crate::limits::{CACHE_BYTES_MAX, CACHE_MEMORY_BYTES_MAX};

/// What was used lately, in two halves: what is used goes into the young one; when that is full it
/// is the old one, and what was in that is forgotten.
#[derive(Debug, Default)]
pub(super) struct Recent {
    young: FxHashMap<Sequence, Rc<[u8]>>,
    old: FxHashMap<Sequence, Rc<[u8]>>,
    young_bytes: usize,
}

impl Recent {
    /// Bytes that an entry takes besides its own.
    const ENTRY_BYTES: usize = 64;

    fn put(&mut self, body_seq: Sequence, bytes: Rc<[u8]>) {
        let own = bytes.len() + Recent::ENTRY_BYTES;
        if self.young_bytes + own > CACHE_MEMORY_BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(body_seq, bytes).is_none() {
            self.young_bytes += own;
        }
    }

    fn get(&mut self, body_seq: Sequence) -> Option<Rc<[u8]>> {
        if let Some(found) = self.young.get(&body_seq) {
            return Some(found.clone());
        }
        let found = self.old.remove(&body_seq)?;
        self.put(body_seq, found.clone());
        Some(found)
    }
}

impl<D: Disk> Partition<D> {
    /// Keeps these beside their bodies ([`super::MessageInfo::body_seq`]). Resolves when they are in
    /// the log's memory, which is not yet durability. What is larger than
    /// [`CACHE_BYTES_MAX`], is there already, or belongs to no message is left out.
    ///
    /// # Errors
    /// `Full`, `ReadOnly`, `Closing`.
    pub async fn put_caches(&self, caches: Vec<(Sequence, Vec<u8>)>) -> Result<(), StoreError> {
        let fits = |(_, bytes): &(Sequence, Vec<u8>)| bytes.len() <= CACHE_BYTES_MAX;
        let mut caches = caches.into_iter().filter(fits).peekable();
        while caches.peek().is_some() {
            let mut part = Vec::new();
            let mut total = 0;
            let room = |total: usize, bytes: usize| total + bytes + SMALL_BYTES;
            while let Some((_, bytes)) = caches.peek()
                && (part.is_empty() || room(total, bytes.len()) <= RECORDS_BYTES_MAX / 4)
                && let Some((body_seq, bytes)) = caches.next()
            {
                total = room(total, bytes.len());
                part.push((body_seq, bytes));
            }
            let level = SyncLevel::None;
            self.queue(total, level, Space::Takes, |this, pending| {
                for (body_seq, bytes) in &part {
                    let is_wanted = {
                        let index = this.index.borrow();
                        index.body(*body_seq).is_some() && index.cache(*body_seq).is_none()
                    };
                    if !is_wanted {
                        continue;
                    }
                    let change = Pended::Cache {
                        body_seq: *body_seq,
                    };
                    this.add(pending, change, |out, seq| {
                        encode::cache(out, seq, *body_seq, bytes);
                    });
                    let mut recent = this.caches.borrow_mut();
                    recent.put(*body_seq, bytes.as_slice().into());
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// What is kept beside a body; `None`: nothing, or it cannot be read.
    pub async fn cache(&self, body_seq: Sequence) -> Option<Rc<[u8]>> {
        if let Some(found) = self.caches.borrow_mut().get(body_seq) {
            return Some(found);
        }
        let bytes: Rc<[u8]> = self.read_cache(body_seq).await?.into();
        self.caches.borrow_mut().put(body_seq, bytes.clone());
        Some(bytes)
    }

    /// What is kept beside a body was read (see [`super::Gathered`]): it stays in memory for a while.
    pub fn use_cache(&self, body_seq: Sequence, bytes: &[u8]) {
        let mut recent = self.caches.borrow_mut();
        if recent.get(body_seq).is_none() {
            recent.put(body_seq, bytes.into());
        }
    }

    /// What is kept beside a body, if it is in memory.
    pub fn recent_cache(&self, body_seq: Sequence) -> Option<Rc<[u8]>> {
        self.caches.borrow_mut().get(body_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_memory_is_bounded() {
        let mut recent = Recent::default();
        let piece: Rc<[u8]> = vec![7; CACHE_BYTES_MAX].into();
        recent.put(0, piece.clone());
        for seq in 1..1000 {
            recent.put(seq, piece.clone());
            assert!(recent.get(0).is_some(), "{seq}");
            let kept = recent.young.len() + recent.old.len();
            assert!(kept * CACHE_BYTES_MAX <= CACHE_MEMORY_BYTES_MAX);
        }
        assert!(recent.get(1).is_none());
        assert!(recent.get(999).is_some());
    }
}
