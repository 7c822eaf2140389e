//! Reads many small records at once: those that lie near each other in the log in one operation.
//!
//! Who looks through a mailbox wants one message after the other, and they mostly lie behind each
//! other as they came. An operation for each would cost more than what is done with them.
//!
//! Guarantees: what is given was verified, as by a read of one ([`Partition::read_from`]); memory is
//! bounded by [`GATHERED_BYTES_MAX`].
//! Does not know: what is looked for.
//! On failure: what cannot be had so (it is large, in several pieces, moved meanwhile, damaged) is left out.
//! Who needs it reads it alone, and finds out why.

use super::disk::Disk;
use super::index::Location;
use super::partition::Partition;
use super::read::{Failure, WHOLE_BYTES_MAX};
use super::record::{self, Payload};
use super::{MailboxId, Sequence, Uid};
use crate::limits::GATHERED_BYTES_MAX;
use crate::mail::Address;

/// Bytes read in one operation.
const SPAN_BYTES_MAX: u64 = 512 * 1024;
/// Bytes between two records that are read for nothing rather than that two operations are made.
const GAP_BYTES_MAX: u64 = 16 * 1024;

/// What was read, by the places at which it was asked for.
#[derive(Debug, Default)]
pub struct Gathered {
    spans: Vec<Vec<u8>>,
    /// Span, start and length.
    places: Vec<Option<(u32, u32, u32)>>,
}

impl Gathered {
    /// What was asked for at this place; `None`: it must be read alone.
    pub fn get(&self, place: usize) -> Option<&[u8]> {
        let (span, start, length) = (*self.places.get(place)?)?;
        let bytes = self.spans.get(span as usize)?;
        bytes.get(start as usize..(start + length) as usize)
    }

    /// Bytes of memory held beside itself.
    pub fn held_bytes(&self) -> usize {
        self.spans.iter().map(Vec::capacity).sum()
    }
}

/// A record that is wanted.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    place: usize,
    /// Of the body or its chunk, also where what is kept beside it is wanted.
    body_seq: Sequence,
    location: Location,
}

impl Wanted {
    fn end(&self) -> u64 {
        u64::from(self.location.offset) + u64::from(self.location.bytes)
    }
}

impl<D: Disk> Partition<D> {
    /// Whole messages, as far as they are small.
    pub async fn gather_messages(
        &self,
        address: &Address,
        mailbox: MailboxId,
        uids: impl IntoIterator<Item = Uid>,
    ) -> Gathered {
        let mut wanted = Vec::new();
        let mut count = 0;
        {
            let index = self.index.borrow();
            for uid in uids {
                if let Some(found) = index.find(address, mailbox, uid) {
                    wanted.push(Wanted {
                        place: count,
                        body_seq: found.body_seq,
                        location: found.location,
                    });
                }
                count += 1;
            }
        }
        self.probe.reads.add(wanted.len() as u64);
        self.gather(count, wanted).await
    }

    /// What is kept beside bodies, as far as it is there; at places with `None` nothing is wanted.
    pub async fn gather_caches(
        &self,
        body_seqs: impl IntoIterator<Item = Option<Sequence>>,
    ) -> Gathered {
        let mut wanted = Vec::new();
        let mut count = 0;
        {
            let index = self.index.borrow();
            for body_seq in body_seqs {
                if let Some(body_seq) = body_seq
                    && let Some(location) = index.cache(body_seq)
                {
                    wanted.push(Wanted {
                        place: count,
                        body_seq,
                        location,
                    });
                }
                count += 1;
            }
        }
        self.gather(count, wanted).await
    }

    async fn gather(&self, count: usize, wanted: Vec<Wanted>) -> Gathered {
        let mut gathered = Gathered {
            spans: Vec::new(),
            places: vec![None; count],
        };
        let _reading = self.reading();
        let mut budget = GATHERED_BYTES_MAX;
        let mut chunks = self.read_spans(wanted, &mut budget, &mut gathered).await;
        {
            let index = self.index.borrow();
            chunks.retain_mut(|it| match index.body(it.body_seq) {
                Some(location) => {
                    it.location = location;
                    true
                }
                None => false,
            });
        }
        // A chunk has none itself.
        self.read_spans(chunks, &mut budget, &mut gathered).await;
        gathered
    }

    /// Reads records; returns the chunks that are whole messages, for which they only stand.
    async fn read_spans(
        &self,
        mut wanted: Vec<Wanted>,
        budget: &mut u64,
        gathered: &mut Gathered,
    ) -> Vec<Wanted> {
        let mut chunks = Vec::new();
        wanted.retain(|it| (1..=WHOLE_BYTES_MAX).contains(&it.location.bytes));
        wanted.sort_unstable_by_key(|it| (it.location.segment, it.location.offset));
        for span in wanted.chunk_by(|a, b| {
            a.location.segment == b.location.segment
                && u64::from(b.location.offset).saturating_sub(a.end()) <= GAP_BYTES_MAX
        }) {
            // What lies together, in pieces of bounded size.
            let mut rest = span;
            while let Some(first) = rest.first() {
                let start = u64::from(first.location.offset);
                let fits = rest.partition_point(|it| it.end() - start <= SPAN_BYTES_MAX);
                let (piece, behind) = rest.split_at(fits.max(1));
                rest = behind;
                let length = piece.iter().map(Wanted::end).max().unwrap_or(start) - start;
                let Some(left) = budget.checked_sub(length) else {
                    return chunks;
                };
                *budget = left;
                // A file that is gone or cannot be read: see the head of this file.
                let _ = self.read_span(piece, length, gathered, &mut chunks).await;
            }
        }
        chunks
    }

    async fn read_span(
        &self,
        piece: &[Wanted],
        length: u64,
        gathered: &mut Gathered,
        chunks: &mut Vec<Wanted>,
    ) -> Result<(), Failure> {
        let Some(first) = piece.first() else {
            return Ok(());
        };
        let file = self.segment_file(first.location.segment).await?;
        // At most `SPAN_BYTES_MAX` and one record.
        let bytes = self
            .read_bytes(&file, first.location, 0, length as usize)
            .await?;
        let realm = self.realm_of(first.location)?;
        let span = gathered.spans.len() as u32;
        for it in piece {
            let start = (it.location.offset - first.location.offset) as usize;
            let Some(own) = bytes.get(start..start + it.location.bytes as usize) else {
                continue;
            };
            let Ok(found) = record::decode(own, realm) else {
                continue;
            };
            let within = match found.payload {
                Payload::Body(_) if found.seq != it.body_seq => continue,
                Payload::Body(body) if body.own_bytes == 0 && body.total_bytes > 0 => {
                    // Only of a message in one chunk the bytes lie in a row.
                    let mut all = body.chunks();
                    if let (Some((body_seq, bytes)), None) = (all.next(), all.next())
                        && u64::from(bytes) == body.total_bytes
                    {
                        chunks.push(Wanted { body_seq, ..*it });
                    }
                    continue;
                }
                Payload::Body(body)
                    if body.total_bytes == u64::from(body.own_bytes) && body.is_whole() =>
                {
                    (body.bytes_offset(), body.bytes().len())
                }
                Payload::Cache { body_seq, bytes } if body_seq == it.body_seq => {
                    (record::CACHE_BYTES_OFFSET, bytes.len())
                }
                _ => continue,
            };
            // Within the span, which is far below 4 GiB.
            let place = (span, (start + within.0) as u32, within.1 as u32);
            gathered.places[it.place] = Some(place);
        }
        gathered.spans.push(bytes);
        Ok(())
    }
}
