//! Gives back the space of what was expunged: moves what is still needed, then removes segments.
//!
//! What is moved keeps its sequence number. The commit loop itself decides what is needed, at the
//! moment it writes the copies and before anything that waits: so whatever removes a record lies
//! behind every copy of it in the log.
//!
//! Order: an index covers the segment, the copies are durable, a newer index no longer names the
//! segment, the manifest does not list it, its file is removed or kept for reuse (`spare`). Readers
//! that have it open keep it.
//! On a full disk there may be no room for an index; then the copies are enough, see `reclaim`.
//!
//! A manifest that leaves a segment out speaks for the log up to its first segment that is not
//! synced, and for nothing behind it; and what has made the segment garbage is in the log, too, as
//! durable as its level asks for. So whatever became of the indexes, everything written so far is
//! synced before that manifest is (`remove_segments`), and when it cannot be, nothing is removed. A
//! sync needs no space: batches lie where space was reserved.
//!
//! On failure: a segment with damage in it stays, as evidence and for another attempt.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::batch;
use super::change::{Pended, with_change};
use super::commit::Pending;
use super::disk::{Disk, OpenMode};
use super::index::{Change, Location, Usage};
use super::partition::Partition;
use super::record::{self, NewMark, Payload, Realm, encode};
use super::recovery::scan::{self, Stretch};
use super::segment;
use super::wait::Done;
use super::{MailboxId, Reclaimed, Sequence, StoreError};
use crate::config::SyncLevel;
use crate::limits::BLOCK_BYTES;
use crate::mail::Address;

/// Bytes of records that one batch of copies looks at, at most: mail does not wait longer than for
/// these.
const PIECE_BYTES: usize = 256 * 1024;
/// Segments are reclaimed in the nightly window when so many percent of them are garbage.
const WINDOW_GARBAGE_PERCENT: u64 = 40;
/// And at once when asked for, or when space is short.
const NOW_GARBAGE_PERCENT: u64 = 10;

/// Copies on a full disk leave so much: a start writes its last batch again, and expunges come on.
const LEFT_FREE_BYTES: u64 = 1024 * 1024;

/// Records of a segment for the commit loop to copy.
pub(super) struct Moves {
    segment: u64,
    realm: Realm,
    bytes: Rc<Vec<u8>>,
    /// Where the records begin.
    offsets: Vec<u32>,
    /// Nothing older is in the log: what says that something is gone has done its work.
    is_oldest: bool,
    /// Mailboxes whose numbers have been written down in this round.
    reserved: FxHashSet<(Address, MailboxId)>,
    /// Bytes of the copies.
    moved_bytes: u64,
    done: Rc<Done>,
    /// The same again, when they are copied.
    result: Rc<RefCell<Option<Moved>>>,
}

/// Mailboxes whose numbers are written down, and bytes of copies.
type Moved = (FxHashSet<(Address, MailboxId)>, u64);

/// What is needed of a record.
enum Needs {
    Nothing,
    Whole,
    /// The record that says the rest of it, not sealed yet.
    Part(Vec<u8>),
}

impl Needs {
    fn whole(is_needed: bool) -> Needs {
        match is_needed {
            true => Needs::Whole,
            false => Needs::Nothing,
        }
    }
}

/// Which segments to reclaim.
#[derive(Debug, Clone, Copy)]
struct Aim {
    garbage_percent: u64,
    /// Only what was expunged at this time or before.
    expunged_before_ms: u64,
}

impl<D: Disk> Partition<D> {
    /// Says whether the window for reclaiming space is open [N23]: while it is, what was expunged
    /// longer ago than the cleanup age is given back. Cheap; may be said again and again.
    pub fn set_expire_due(&self, due: bool) {
        if self.background.expire_due.replace(due) != due || due {
            self.chores.notify();
        }
    }

    /// Reclaims at once everything that was expunged, whatever its age. Segments of which hardly
    /// anything is garbage stay as they are.
    ///
    /// # Errors
    /// When the disk fails; `Closing`.
    pub async fn expire_now(&self) -> Result<Reclaimed, StoreError> {
        if self.closing.get() {
            return Err(StoreError::Closing);
        }
        let _turn = self.background.turn.hold().await;
        let aim = Aim {
            garbage_percent: NOW_GARBAGE_PERCENT,
            expunged_before_ms: u64::MAX,
        };
        let reclaimed = self.reclaim(aim).await;
        self.check_space().await;
        reclaimed
    }

    /// Reclaims what is due by itself.
    pub(super) async fn reclaim_due(&self, now_ms: u64) -> Result<Reclaimed, StoreError> {
        let aim = if self.full.get() {
            // Refusing mail is worse than reclaiming early.
            Aim {
                garbage_percent: NOW_GARBAGE_PERCENT,
                expunged_before_ms: u64::MAX,
            }
        } else if self.background.expire_due.get() {
            Aim {
                garbage_percent: WINDOW_GARBAGE_PERCENT,
                expunged_before_ms: now_ms.saturating_sub(self.settings.cleanup_age_ms),
            }
        } else {
            return Ok(Reclaimed::default());
        };
        self.reclaim(aim).await
    }

    /// Segments worth reclaiming, with their live bytes.
    fn candidates(&self, aim: Aim) -> Vec<(u64, u64)> {
        self.release_unnamed();
        let usage: rustc_hash::FxHashMap<u64, Usage> =
            self.index.borrow().usage().into_iter().collect();
        let log = self.log.borrow();
        let old = log.segments.values().filter(|s| s.generation < log.active);
        old.filter(|segment| {
            let usage = usage.get(&segment.generation).copied().unwrap_or_default();
            // What a small segment of an earlier run takes beyond its log is garbage, too.
            let bytes = segment.bytes.max(segment.end);
            let garbage = bytes.saturating_sub(usage.live_bytes + BLOCK_BYTES as u64);
            garbage * 100 >= bytes * aim.garbage_percent
                && usage.youngest_expunge_ms <= aim.expunged_before_ms
                && !self
                    .background
                    .damaged
                    .borrow()
                    .contains(&segment.generation)
        })
        .map(|segment| {
            let live = usage.get(&segment.generation);
            (live.map_or(0, |usage| usage.live_bytes), segment.generation)
        })
        .collect()
    }

    async fn reclaim(&self, aim: Aim) -> Result<Reclaimed, StoreError> {
        let mut candidates = self.candidates(aim);
        let Some(last) = candidates.iter().map(|(_, generation)| *generation).max() else {
            return Ok(Reclaimed::default());
        };
        // A record of what is gone may be dropped only when no index needs it either. On a full
        // disk there may be no room for an index: then those records are copied, too.
        if self.background.covered.get().segment <= last
            && let Err(error) = self.checkpoint().await
            && !is_full(&error)
        {
            self.check_writable()?;
            return Err(failed(&error));
        }
        let short = self.full.get();
        if short {
            // What gives most for the least copying comes first.
            candidates.sort_unstable();
        }
        let mut moved = Vec::new();
        let (mut moved_bytes, mut reclaimed) = (0, Reclaimed::default());
        let mut left_out = 0;
        for (live_bytes, generation) in candidates {
            if self.closing.get() {
                break;
            }
            if self.full.get() && !self.has_room_for_copies(live_bytes).await {
                left_out += 1;
                continue;
            }
            let Some(bytes) = self.move_segment(generation).await? else {
                self.background.damaged.borrow_mut().insert(generation);
                continue;
            };
            moved_bytes += bytes;
            moved.push(generation);
            if short || self.full.get() {
                // The copies are in the log, which the next start replays over the old index:
                // nothing needs the segment, and its space is needed now. The disk may have become
                // full by these very copies, which must not use up the reserve that expunges need.
                reclaimed += self.remove_segments(&std::mem::take(&mut moved)).await?;
            }
        }
        if !moved.is_empty() {
            if let Err(error) = self.checkpoint().await {
                self.check_writable()?;
                return Err(failed(&error));
            }
            reclaimed += self.remove_segments(&moved).await?;
        }
        self.probe.reclaimed_bytes.add(reclaimed.freed_bytes);
        if reclaimed.freed_bytes == 0 && left_out > 0 {
            return Err(StoreError::Full);
        }
        reclaimed.freed_bytes = reclaimed.freed_bytes.saturating_sub(moved_bytes);
        Ok(reclaimed)
    }

    /// On a full disk: copies of so many bytes leave what expunges and the next start need.
    async fn has_room_for_copies(&self, live_bytes: u64) -> bool {
        if live_bytes == 0 {
            return true;
        }
        let free = self.disk.free_bytes(&self.dir).await.unwrap_or(0);
        let log = self.log.borrow();
        let ahead = log
            .segments
            .get(&log.active)
            .map_or(0, |active| active.bytes.saturating_sub(active.end));
        let reserve = log.reserve.as_ref().map_or(0, |reserve| reserve.bytes);
        let next = log.next.as_ref().map_or(0, |next| next.bytes);
        let kept = LEFT_FREE_BYTES.min(self.settings.segment_bytes / 2);
        live_bytes + kept <= free + ahead + next + reserve
    }

    /// Copies what is needed of a segment; `None` when it is damaged.
    async fn move_segment(&self, generation: u64) -> Result<Option<u64>, StoreError> {
        let Some((path, end, is_oldest)) = ({
            let log = self.log.borrow();
            let oldest = log.segments.keys().next().copied();
            let covered = self.background.covered.get().segment > generation;
            log.segments.get(&generation).map(|segment| {
                let path = segment::file_path(&self.dir, generation);
                (path, segment.end, covered && oldest == Some(generation))
            })
        }) else {
            return Ok(Some(0));
        };
        let read = async {
            let file = self.disk.open(&path, OpenMode::Read).await?;
            scan::read_file(&self.disk, &file, end).await
        };
        let read = match read.await {
            Ok(read) => read,
            Err(error) => {
                self.probe.read_errors.add(1);
                return Err(StoreError::Read(
                    format!("{}: {error}", path.display()).into(),
                ));
            }
        };
        let Some((offsets, realm)) = self.sound_records(generation, &read.bytes) else {
            tracing::error!(
                "{}: damaged, and therefore kept ({} bytes cannot be read)",
                path.display(),
                read.unreadable_bytes()
            );
            self.probe.damage.add(1);
            return Ok(None);
        };
        let bytes = Rc::new(read.bytes);
        let mut reserved = FxHashSet::default();
        let mut moved_bytes = 0;
        let mut rest = &offsets[..];
        // With what comes with it, a batch of copies is no larger than a segment: one that was prepared
        // has the space, however full the disk is.
        let most = (PIECE_BYTES as u64).min(self.settings.segment_bytes / 4 * 3);
        while let Some(first) = rest.first() {
            // One that does not end within a piece is one by itself: it was in a batch before.
            let ends = rest[1..].iter().copied().chain([bytes.len() as u32]);
            let ends = ends.take_while(|end| u64::from(end - first) <= most);
            let (piece, later) = rest.split_at(ends.count().max(1));
            rest = later;
            let (done, result) = (Done::new(), Rc::default());
            *self.moves.borrow_mut() = Some(Moves {
                segment: generation,
                realm,
                bytes: bytes.clone(),
                offsets: piece.to_vec(),
                is_oldest,
                reserved: std::mem::take(&mut reserved),
                moved_bytes: 0,
                done: done.clone(),
                result: Rc::clone(&result),
            });
            self.work.notify();
            done.wait().await?;
            if let Some((seen, bytes)) = result.take() {
                reserved = seen;
                moved_bytes += bytes;
            }
        }
        self.probe.compacted_bytes.add(moved_bytes);
        let usage = self.index.borrow().usage();
        let live = usage.iter().find(|(segment, _)| *segment == generation);
        if let Some((_, usage)) = live
            && usage.live_bytes > 0
        {
            let live_bytes = usage.live_bytes;
            tracing::error!("{}: {live_bytes} bytes are still in use", path.display());
            return Ok(None);
        }
        Ok(Some(moved_bytes))
    }

    /// Where the records of a segment begin, when all of it is sound.
    fn sound_records(&self, generation: u64, bytes: &[u8]) -> Option<(Vec<u32>, Realm)> {
        let epoch = self.log.borrow().segments.get(&generation)?.epoch;
        let realm = segment::realm(self.identity, generation, epoch);
        let mut offsets = Vec::new();
        for (position, stretch) in scan::stretches(bytes, BLOCK_BYTES, self.identity, generation) {
            let Stretch::Batch {
                head,
                realm: own,
                bytes,
            } = stretch
            else {
                return None;
            };
            if own != realm {
                return None;
            }
            for record in batch::records(bytes, head, realm) {
                let (offset, _) = record.ok()?;
                offsets.push((position.offset + offset as u64) as u32);
            }
        }
        Some((offsets, realm))
    }

    /// Writes the copies of records that are needed, in a batch of their own. The commit loop
    /// calls this while nothing is in flight.
    pub(super) async fn commit_moves(&self, mut moves: Moves) {
        let mut batch = Pending::new();
        // Reserve records have new numbers: no index may claim to cover them yet.
        self.in_flight_seq.set(Some(self.seq_next.get()));
        let encoded = self.encode_moves(&mut moves, &mut batch);
        let result = match encoded {
            Ok(()) if batch.records == 0 => Ok(()),
            Ok(()) => {
                batch.level = SyncLevel::Fdatasync.max(self.settings.sync.store);
                self.commit(&mut batch).await
            }
            Err(error) => {
                self.forget(&batch);
                Err(error)
            }
        };
        self.in_flight_seq.set(None);
        *moves.result.borrow_mut() = Some((moves.reserved, moves.moved_bytes));
        moves.done.finish(result);
    }

    fn encode_moves(&self, moves: &mut Moves, batch: &mut Pending) -> Result<(), StoreError> {
        let (source, offsets) = (moves.bytes.clone(), std::mem::take(&mut moves.offsets));
        for offset in &offsets {
            let bytes = &source[*offset as usize..];
            let record = record::decode(bytes, moves.realm)
                .map_err(|error| StoreError::Damaged(error.to_string().into()))?;
            let at = Location {
                segment: moves.segment,
                offset: *offset,
                bytes: record.disk_bytes as u32,
            };
            let is_oldest = moves.is_oldest;
            let wanted = with_change(&record, at, |change| {
                let says_gone = matches!(
                    change,
                    Change::Expunge { .. }
                        | Change::RemoveAccount { .. }
                        | Change::RemoveMailbox { .. }
                        | Change::Key { value: None, .. }
                );
                let needs = if says_gone {
                    Needs::whole(!is_oldest)
                } else if let Change::Flags { .. } = change {
                    self.needs_of_flags(record.seq, at, &change)
                } else {
                    Needs::whole(self.index.borrow().needs(record.seq, at, &change))
                };
                let told_of = match change {
                    Change::Append {
                        address, mailbox, ..
                    }
                    | Change::Expunge {
                        address, mailbox, ..
                    }
                    | Change::Reserve {
                        address, mailbox, ..
                    } => Some((address.clone(), mailbox)),
                    _ => None,
                };
                (needs, told_of)
            });
            let wanted = wanted.map_err(|reason| StoreError::Damaged(reason.into()))?;
            match wanted {
                Some((Needs::Whole, _)) => {
                    if let Payload::Body(body) = record.payload
                        && !body.is_whole()
                    {
                        let reason = format!("segment {} at {offset}", moves.segment);
                        return Err(StoreError::Damaged(reason.into()));
                    }
                    moves.moved_bytes += record.disk_bytes as u64;
                    let start = batch.bytes.len();
                    encode::moved(&mut batch.bytes, &bytes[..record.disk_bytes]);
                    batch.push(record.seq, start, Pended::Moved);
                }
                Some((Needs::Part(bytes), _)) => {
                    moves.moved_bytes += bytes.len() as u64;
                    let start = batch.bytes.len();
                    encode::moved(&mut batch.bytes, &bytes);
                    batch.push(record.seq, start, Pended::Moved);
                }
                Some((Needs::Nothing, Some(told_of))) => self.reserve(moves, batch, told_of),
                Some((Needs::Nothing, None)) | None => {}
            }
        }
        Ok(())
    }

    /// A flags record is moved without the marks that are not needed any more, and without the
    /// keywords that only those had.
    fn needs_of_flags(&self, seq: Sequence, at: Location, change: &Change<'_>) -> Needs {
        let Change::Flags {
            address,
            mailbox,
            keywords,
            marks,
        } = *change
        else {
            return Needs::Nothing;
        };
        let index = self.index.borrow();
        let needed = index.needed_marks(seq, at, (address, mailbox), marks);
        let mut needed: Vec<NewMark> = needed.collect();
        if needed.is_empty() || needed.len() == marks.len() {
            return Needs::whole(!needed.is_empty());
        }
        let used = needed.iter().fold(0, |all, mark| all | mark.keywords);
        let places: Vec<usize> = (0..keywords.len())
            .filter(|place| used >> place & 1 == 1)
            .collect();
        let words: Vec<Box<str>> = places.iter().map(|place| keywords[*place].into()).collect();
        for mark in &mut needed {
            let bits = places.iter().zip(0..);
            let bits = bits.map(|(place, new): (_, u32)| (mark.keywords >> place & 1) << new);
            mark.keywords = bits.sum();
        }
        let mut bytes = Vec::new();
        encode::flags(&mut bytes, seq, address.as_str(), mailbox, &words, &needed);
        Needs::Part(bytes)
    }

    /// Records that told of given numbers go: the next ones are written down by themselves.
    fn reserve(&self, moves: &mut Moves, batch: &mut Pending, told_of: (Address, MailboxId)) {
        let (address, mailbox) = (&told_of.0, told_of.1);
        let Some(reserved) = self.index.borrow().reserved(address, mailbox) else {
            return;
        };
        if !moves.reserved.insert(told_of.clone()) {
            return;
        }
        let (address, mailbox) = told_of;
        let change = Pended::Reserve {
            address: address.clone(),
            mailbox,
            reserved,
        };
        self.add(batch, change, |out, seq| {
            encode::reserve(out, seq, address.as_str(), mailbox, &reserved);
        });
    }

    /// Takes segments out of the log and removes their files, or keeps them for later ones.
    ///
    /// # Errors
    /// When the log cannot be synced, or the manifest not be written: they stay.
    pub(super) async fn remove_segments(
        &self,
        generations: &[u64],
    ) -> Result<Reclaimed, StoreError> {
        let end = self.log.borrow().end();
        self.sync_log(end).await?;
        let saved = self.save_manifest(|manifest| {
            manifest.live.retain(|at| !generations.contains(at));
        });
        saved.await.map_err(|error| failed(&error))?;
        let mut removed = Vec::with_capacity(generations.len());
        {
            let mut log = self.log.borrow_mut();
            for generation in generations {
                if let Some(segment) = log.segments.remove(generation) {
                    removed.push((*generation, segment.bytes));
                }
            }
            self.probe.segments.set(log.segments.len() as i64);
        }
        let mut reclaimed = Reclaimed::default();
        for (generation, bytes) in removed {
            self.index.borrow_mut().forget_segment(generation);
            reclaimed.freed_bytes += bytes;
            if self.keep_spare(generation, bytes).await {
                continue;
            }
            let path = segment::file_path(&self.dir, generation);
            if let Err(error) = self.disk.remove(&path).await {
                // The manifest does not list it: the next start removes it.
                tracing::warn!("{}: cannot be removed: {error}", path.display());
                continue;
            }
            reclaimed.returned_bytes += bytes;
        }
        Ok(reclaimed)
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn failed(error: &io::Error) -> StoreError {
    if is_full(error) {
        StoreError::Full
    } else {
        StoreError::Read(error.to_string().into())
    }
}
