//! Replays the log: what is durable is taken in, what may not be is kept for later.

use std::collections::VecDeque;

use super::scan::{self, Stretch};
use super::*;
use crate::store::batch::{self, Head};
use crate::store::change::apply_record;
use crate::store::index::Location;
use crate::store::record::{Kind, Realm, Record};

/// A stretch that is not known to be durable yet.
pub(super) struct Waiting {
    pub position: Position,
    pub bytes: Vec<u8>,
    pub what: What,
}

pub(super) enum What {
    Batch {
        head: Head,
        realm: Realm,
    },
    Broken {
        head: Head,
        realm: Realm,
        reason: String,
    },
    Gap {
        reason: String,
        /// Bytes of it that may have been written: none where it is all zeros.
        used: usize,
    },
    /// A whole segment is not there; it is reported already or not.
    Missing {
        is_reported: bool,
    },
}

/// The state of a replay.
pub(super) struct Replay {
    pub index: Index,
    pub from: Position,
    pub seq_max: Sequence,
    /// The epoch in which that number was written, as far as known.
    pub seq_epoch: u64,
    /// The number that comes after all that were seen.
    follows: Sequence,
    /// The last place that anything calls durable.
    pub durable: Position,
    pub waiting: VecDeque<Waiting>,
    /// End of the last stretch that is durable.
    pub end: Position,
    /// Epochs of the segments that were read.
    pub epochs: BTreeMap<u64, u64>,
    /// The last batch is an end mark, in this segment.
    pub ended: Option<u64>,
    /// Bytes are lost that may have been acknowledged.
    pub lost: bool,
    /// Bytes are lost that were.
    pub rotten: bool,
    pub unreadable_records: Vec<String>,
    /// Of the manifest that this start has found.
    pub serial: u64,
    /// Segments with neither header nor batches that should have both.
    pub hollow: BTreeSet<u64>,
    /// Where the log ends in a segment, as the header of the next one says.
    pub ends: BTreeMap<u64, u64>,
}

impl Replay {
    pub fn new(index: Index, covers: Sequence, from: Position) -> Replay {
        Replay {
            index,
            from,
            seq_max: covers,
            seq_epoch: 0,
            follows: 0,
            durable: from,
            waiting: VecDeque::new(),
            end: from,
            epochs: BTreeMap::new(),
            ended: None,
            lost: false,
            rotten: false,
            unreadable_records: Vec::new(),
            serial: 0,
            hollow: BTreeSet::new(),
            ends: BTreeMap::new(),
        }
    }

    /// The numbers of a batch that is not taken in are used all the same.
    fn skip_numbers(&mut self, head: &Head) {
        let last = head.first_seq.saturating_add(u64::from(head.records));
        self.follows = self.follows.max(last);
        if last >= self.seq_max {
            (self.seq_max, self.seq_epoch) = (last, head.epoch);
        }
    }

    /// Takes in the records of a sound batch.
    pub fn apply(&mut self, position: Position, bytes: &[u8], head: Head, realm: Realm) {
        for (offset, record) in batch::records(bytes, head, realm).flatten() {
            self.take(position, offset, &record, head.epoch);
        }
    }

    /// Takes in what is sound of acknowledged bytes that are damaged, written in life `epoch`: each
    /// record has a checksum of its own, so what lies beside the damage is as good as ever.
    fn salvage(&mut self, position: Position, bytes: &[u8], realm: Realm, epoch: u64) {
        for (offset, record) in scan::salvage(bytes, realm) {
            self.take(position, offset, &record, epoch);
        }
    }

    fn take(&mut self, position: Position, offset: usize, record: &Record<'_>, epoch: u64) {
        self.follows = self.follows.max(record.seq.saturating_add(1));
        if record.seq >= self.seq_max {
            (self.seq_max, self.seq_epoch) = (record.seq, epoch);
        }
        let at = Location {
            segment: position.segment,
            offset: (position.offset + offset as u64) as u32,
            bytes: record.disk_bytes as u32,
        };
        if let Err(reason) = apply_record(&mut self.index, record, at) {
            self.unreadable_records.push(reason);
        }
    }
}

/// It is the mark of a clean stop.
fn is_end(bytes: &[u8], head: Head, realm: Realm) -> bool {
    let mut records = batch::records(bytes, head, realm);
    matches!((records.next(), records.next()), (Some(Ok((_, record))), None) if record.kind == Kind::End)
}

impl<D: Disk> Recovery<'_, D> {
    /// Reads the log behind what the index covers.
    pub(super) async fn replay(
        &mut self,
        files: &mut Files,
        replay: &mut Replay,
    ) -> Result<(), OpenError> {
        let from = replay.from;
        replay.hollow = std::mem::take(&mut files.hollow);
        let todo: Vec<(u64, u64, Option<u64>, Option<Header>)> = files
            .segments
            .range(from.segment..)
            .map(|(generation, file)| (*generation, file.bytes, file.end, file.header))
            .collect();
        let length = |bytes: u64, end: Option<u64>| end.map_or(bytes, |end| end.min(bytes));
        let total_bytes = todo
            .iter()
            .map(|(_, bytes, end, _)| length(*bytes, *end))
            .sum();
        let mut done_bytes = 0;
        let mut missing = files.missing.range(from.segment..).peekable();
        // Known from batches behind the log's end, too, where header and batches are damaged: what
        // an earlier start has salvaged by them must be found again.
        for (generation, file) in files.segments.range(from.segment..) {
            if file.epoch > 0 {
                replay.epochs.insert(*generation, file.epoch);
            }
        }
        for (generation, file_bytes, end, header) in todo {
            (self.progress)(Progress {
                done_bytes,
                total_bytes,
            });
            while let Some((lost, is_reported)) = missing.next_if(|(lost, _)| **lost < generation) {
                replay.waiting.push_back(Waiting {
                    position: Position {
                        segment: *lost,
                        offset: 0,
                    },
                    bytes: Vec::new(),
                    what: What::Missing {
                        is_reported: *is_reported,
                    },
                });
            }
            let path = segment::file_path(self.dir, generation);
            let file = self.disk.open(&path, OpenMode::Read).await;
            let file = file.map_err(io_error(&path))?;
            let read = scan::read_file(self.disk, &file, end.unwrap_or(u64::MAX)).await;
            let read = read.map_err(io_error(&path))?;
            if !read.unreadable.is_empty() {
                let bytes = read.unreadable_bytes();
                tracing::error!("{}: {bytes} bytes cannot be read", path.display());
            }
            self.replay_segment(generation, header, end, &read, replay);
            self.flush(replay).await;
            done_bytes += length(file_bytes, end);
            self.report.replayed_bytes += read.bytes.len() as u64;
        }
        (self.progress)(Progress {
            done_bytes: total_bytes,
            total_bytes,
        });
        Ok(())
    }

    fn replay_segment(
        &mut self,
        generation: u64,
        header: Option<Header>,
        end: Option<u64>,
        read: &scan::Read,
        replay: &mut Replay,
    ) {
        let bytes = &read.bytes[..];
        let block = BLOCK_BYTES as u64;
        let mut from = block;
        if replay.from.segment == generation {
            from = replay.from.offset.max(block);
        }
        match header {
            Some(header) => {
                replay.durable = replay.durable.max(header.durable);
                replay.follows = replay.follows.max(header.seq_next);
                if header.seq_next >= replay.seq_max {
                    (replay.seq_max, replay.seq_epoch) = (header.seq_next, header.epoch);
                }
                replay.epochs.insert(generation, header.epoch);
                let previous = header.previous;
                replay.ends.insert(previous.segment, previous.offset);
            }
            None => replay.waiting.push_back(Waiting {
                position: Position {
                    segment: generation,
                    offset: 0,
                },
                bytes: bytes[..bytes.len().min(BLOCK_BYTES)].to_vec(),
                what: What::Gap {
                    reason: "the header of the segment does not match its checksum".to_owned(),
                    used: bytes.len().min(BLOCK_BYTES),
                },
            }),
        }
        replay.ended = None;
        for (position, stretch) in scan::stretches(bytes, from as usize, self.identity, generation)
        {
            let what = match &stretch {
                Stretch::Batch { head, realm, .. } => What::Batch {
                    head: *head,
                    realm: *realm,
                },
                Stretch::Broken {
                    head, realm, error, ..
                } => What::Broken {
                    head: *head,
                    realm: *realm,
                    reason: error.to_string(),
                },
                Stretch::Gap { bytes } => What::Gap {
                    reason: "no batch where one should be".to_owned(),
                    used: scan::used_bytes(bytes, position.offset as usize, &read.unreadable),
                },
            };
            let bytes = stretch.bytes();
            if let What::Batch { head, realm } | What::Broken { head, realm, .. } = &what {
                replay.durable = replay.durable.max(head.durable);
                replay.epochs.entry(generation).or_insert(head.epoch);
                let ended = matches!(what, What::Batch { .. }) && is_end(bytes, *head, *realm);
                replay.ended = ended.then_some(generation);
            }
            replay.waiting.push_back(Waiting {
                position,
                bytes: bytes.to_vec(),
                what,
            });
        }
        if let Some(end) = end
            && end > (bytes.len() as u64).max(from)
        {
            let position = Position {
                segment: generation,
                offset: bytes.len() as u64,
            };
            replay.waiting.push_back(Waiting {
                position,
                bytes: Vec::new(),
                what: What::Gap {
                    reason: format!("the file ends here, its log at {end}"),
                    used: 0,
                },
            });
        }
    }

    /// Takes in everything below what is known durable by now.
    async fn flush(&mut self, replay: &mut Replay) {
        while let Some(next) = replay.waiting.front()
            && next.position < replay.durable
            && let Some(next) = replay.waiting.pop_front()
        {
            let position = next.position;
            if let What::Missing { is_reported } = next.what {
                (replay.lost, replay.rotten) = (true, true);
                if !is_reported {
                    let reason = "segment is missing".to_owned();
                    self.set_aside(replay.serial, position, &[], reason, true)
                        .await;
                }
                continue;
            }
            // The zeros behind a log's end are one stretch, of which only the front is claimed.
            let mut length = next.bytes.len() as u64;
            let is_gap = matches!(next.what, What::Gap { .. });
            if is_gap && position.segment == replay.durable.segment {
                length = length.min(replay.durable.offset - position.offset);
            }
            let end = position.offset + length;
            let reached = Position {
                segment: position.segment,
                offset: end.max(BLOCK_BYTES as u64),
            };
            // A header lies before what an index covers of its segment.
            replay.end = replay.end.max(reached);
            match next.what {
                What::Batch { head, realm } => {
                    replay.apply(position, &next.bytes, head, realm);
                }
                What::Broken {
                    head,
                    realm,
                    reason,
                } => {
                    replay.skip_numbers(&head);
                    let own = &next.bytes[..next.bytes.len().min(head.len as usize)];
                    replay.salvage(position, own, realm, head.epoch);
                    (replay.lost, replay.rotten) = (true, true);
                    let (serial, bytes) = (replay.serial, &next.bytes);
                    self.set_aside(serial, position, bytes, reason, true).await;
                }
                What::Gap { reason, .. } => {
                    (replay.lost, replay.rotten) = (true, true);
                    let bytes = &next.bytes[..length as usize];
                    // The header of a batch is 48 bytes of up to two million.
                    if let Some(epoch) = replay.epochs.get(&position.segment).copied() {
                        let realm = segment::realm(self.identity, position.segment, epoch);
                        replay.salvage(position, bytes, realm, epoch);
                    }
                    let serial = replay.serial;
                    self.set_aside(serial, position, bytes, reason, true).await;
                }
                What::Missing { .. } => {}
            }
        }
    }

    /// The batches that wait, up to the first that is not sound; reports the rest. What comes behind
    /// that one was never acknowledged at a level, as its own sync would have made all before it
    /// durable, and may build on what is lost.
    pub(super) async fn tail(&mut self, replay: &mut Replay) -> Vec<Waiting> {
        let mut tail = Vec::new();
        let waiting = std::mem::take(&mut replay.waiting);
        let last_batch = waiting
            .iter()
            .rposition(|w| matches!(w.what, What::Batch { .. } | What::Broken { .. }));
        let serial = replay.serial;
        let mut is_cut = false;
        let segments: Vec<u64> = waiting.iter().map(|w| w.position.segment).collect();
        // The first number and the level of the batch after each stretch.
        let next_batches: Vec<Option<(Sequence, SyncLevel)>> = (1..=waiting.len())
            .map(|after| {
                let mut later = waiting.iter().skip(after).filter_map(|w| match &w.what {
                    What::Batch { head, .. } | What::Broken { head, .. } => {
                        Some((head.first_seq, head.level))
                    }
                    _ => None,
                });
                later.next()
            })
            .collect();
        for (index, waiting) in waiting.into_iter().enumerate() {
            let position = waiting.position;
            let is_last = segments.get(index + 1) != Some(&position.segment);
            match &waiting.what {
                What::Batch { head, realm } => {
                    let (head, realm) = (*head, *realm);
                    replay.skip_numbers(&head);
                    if is_end(&waiting.bytes, head, realm) {
                        continue;
                    }
                    if is_cut {
                        let reason = "unfinished write: what came before it is lost".to_owned();
                        self.set_aside(serial, position, &waiting.bytes, reason, false)
                            .await;
                    } else if let Err(error) = batch::verify(&waiting.bytes, head, realm, true) {
                        is_cut = true;
                        let reason = format!("unfinished write: {error}");
                        self.set_aside(serial, position, &waiting.bytes, reason, false)
                            .await;
                    } else {
                        tail.push(waiting);
                    }
                }
                What::Broken { head, reason, .. } => {
                    replay.skip_numbers(head);
                    is_cut = true;
                    let reason = format!("unfinished write: {reason}");
                    self.set_aside(serial, position, &waiting.bytes, reason, false)
                        .await;
                }
                // Everything up to here is known to be durable, and what came next went to the
                // next segment, whose header says that nothing was ever written here. Or its
                // header is lost: then its first batch was synced, and knew of nothing here, or
                // its numbers follow those that were seen.
                What::Gap { used: 0, .. }
                    if is_last
                        && position == replay.durable
                        && match replay.ends.get(&position.segment) {
                            Some(end) => *end <= position.offset,
                            None => next_batches[index].is_none_or(|(first, level)| {
                                level > SyncLevel::None || first <= replay.follows
                            }),
                        } => {}
                What::Missing { is_reported } => {
                    if last_batch.is_some_and(|last| index < last) {
                        is_cut = true;
                        if !is_reported {
                            let reason = "unfinished write: segment is missing".to_owned();
                            self.set_aside(serial, position, &[], reason, false).await;
                        }
                    }
                }
                What::Gap { reason, .. } if last_batch.is_some_and(|last| index < last) => {
                    // A lost header takes no records with it.
                    is_cut |= position.offset > 0;
                    let reason = format!("unfinished write: {reason}");
                    self.set_aside(serial, position, &waiting.bytes, reason, false)
                        .await;
                }
                // Behind the last batch there are zeros, or what is left of a batch without its
                // header: torn, or rotten or unreadable since. A lost header takes no records with
                // it.
                What::Gap { reason, used } if position.offset > 0 && *used > 0 => {
                    is_cut = true;
                    let length = used.next_multiple_of(BLOCK_BYTES);
                    let bytes = &waiting.bytes[..length.min(waiting.bytes.len())];
                    let reason = format!("unfinished write: {reason}");
                    self.set_aside(serial, position, bytes, reason, false).await;
                }
                What::Gap { .. } if replay.hollow.remove(&position.segment) => {
                    is_cut = true;
                    let reason = "neither header nor batches, though it is part of the log";
                    self.set_aside(serial, position, &[], reason.to_owned(), true)
                        .await;
                }
                What::Gap { .. } => {}
            }
        }
        // Torn before anybody heard of it, or acknowledged and rotten since: nobody can tell, so
        // the UIDs in it are not given again.
        replay.lost |= is_cut;
        tail
    }
}
