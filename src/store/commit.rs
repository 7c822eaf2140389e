//! Group commit: one batch in flight, what arrives meanwhile forms the next. No timers.
//!
//! Guarantees: batches are written one after the other; changes become visible, and their callers
//! hear of them, only when the batch is at its level. A batch that fails, or is larger than any
//! start would believe, makes the partition read-only, except for lack of space, which it survives.
//! Does not know: what the changes mean, besides applying them.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use super::batch::{self, Head};
use super::change::{Pended, apply_record};
use super::compact::is_full;
use super::disk::Disk;
use super::index::Location;
use super::partition::{Partition, Prepared};
use super::segment::{self, Header, Position, Segment};
use super::wait::Done;
use super::{Sequence, StoreError};
use crate::config::SyncLevel;
use crate::limits::{BATCH_BYTES_MAX, BLOCK_BYTES};

/// Bytes that the records of one batch may take.
pub(super) const RECORDS_BYTES_MAX: usize = BATCH_BYTES_MAX - BLOCK_BYTES;

/// Numbers of records that a batch may span when one more change comes to it. What makes mailboxes
/// skips some.
pub(super) const BATCH_NUMBERS_MAX: u64 = 1 << 24;
/// Numbers that are given without a sync, whatever the level: a loss of power takes no more of what
/// was told.
pub(super) const UNSYNCED_NUMBERS_MAX: u64 = 1 << 25;

/// A record of the waiting batch.
#[derive(Debug)]
pub(super) struct Entry {
    pub seq: Sequence,
    /// Bytes from the start of the batch.
    pub offset: u32,
    pub bytes: u32,
    pub change: Pended,
}

/// The batch that is being filled.
#[derive(Debug)]
pub(super) struct Pending {
    /// Header room and records.
    pub bytes: Vec<u8>,
    pub records: u32,
    pub first_seq: Sequence,
    /// The strictest of its contents.
    pub level: SyncLevel,
    pub changes: Vec<Entry>,
    /// Mutations that wait for it.
    pub waiting: i64,
    /// Something in it was decided by what the batch in flight says: it goes where that one goes.
    pub builds_on_flight: bool,
    /// When the first record came; `None`: it is empty.
    pub since: Option<Instant>,
    pub done: Rc<Done>,
}

impl Pending {
    pub fn new() -> Pending {
        let mut bytes = Vec::new();
        batch::begin(&mut bytes);
        Pending {
            bytes,
            records: 0,
            first_seq: 0,
            level: SyncLevel::None,
            changes: Vec::new(),
            waiting: 0,
            builds_on_flight: false,
            since: None,
            done: Done::new(),
        }
    }

    /// So many bytes of records still fit. An empty batch takes whatever one batch can hold.
    ///
    /// No batch outgrows a quarter of a segment of `segment_bytes`: a prepared segment has the space
    /// for it, even when the disk has filled up since, and the reserve has it for those that wait
    /// then and for expunges after them.
    pub fn has_room(&self, bytes: usize, segment_bytes: u64) -> bool {
        let in_segment = segment_bytes.saturating_sub(BLOCK_BYTES as u64);
        let most = (RECORDS_BYTES_MAX as u64).min(in_segment / 4);
        (self.bytes.len() + bytes) as u64 <= most || self.records == 0
    }

    /// The batch may take in records from this number on: it skips no more numbers than a start that
    /// finds nothing of it.
    pub fn has_numbers(&self, seq_next: Sequence) -> bool {
        self.records == 0 || seq_next - self.first_seq < BATCH_NUMBERS_MAX
    }

    /// What comes next was decided on the word of this record, which is in this batch or the one in
    /// flight.
    pub fn rests_on(&mut self, seq: Sequence) {
        self.builds_on_flight |= self.records == 0 || seq < self.first_seq;
    }

    /// Takes in the record that was encoded from `offset` on.
    pub fn push(&mut self, seq: Sequence, offset: usize, change: Pended) {
        if self.records == 0 {
            self.first_seq = seq;
            self.since = Some(Instant::now());
        }
        self.records += 1;
        self.changes.push(Entry {
            seq,
            offset: offset as u32,
            bytes: (self.bytes.len() - offset) as u32,
            change,
        });
    }

    /// Takes the padding away that an attempt to write it has added.
    fn unpad(&mut self) {
        let end = self.changes.last().map(|last| last.offset + last.bytes);
        self.bytes
            .truncate(end.map_or(batch::HEADER_BYTES, |end| end as usize));
    }

    /// Empties it for reuse; its buffers keep their size.
    fn reset(&mut self) {
        batch::begin(&mut self.bytes);
        self.records = 0;
        self.level = SyncLevel::None;
        self.changes.clear();
        self.waiting = 0;
        self.builds_on_flight = false;
        self.since = None;
        self.done = Done::new();
    }
}

impl<D: Disk> Partition<D> {
    /// The commit loop: one batch in flight, what arrives meanwhile forms the next. Runs until
    /// [`Partition::close`] is done. The owner polls this on its session or delivery queue.
    pub async fn run(self: Rc<Self>) {
        let mut spare = Pending::new();
        loop {
            let moves = self.moves.borrow_mut().take();
            if let Some(moves) = moves {
                self.commit_moves(moves).await;
            }
            if self.pending.borrow().records > 0 {
                spare = self.commit_pending(spare).await;
            } else if self.closed.get() {
                return;
            } else if self.moves.borrow().is_none() {
                self.work.wait().await;
            }
        }
    }

    /// Writes what waits; returns the emptied batch.
    async fn commit_pending(&self, spare: Pending) -> Pending {
        let mut taken = self.pending.replace(spare);
        *self.in_flight.borrow_mut() = Some(taken.done.clone());
        self.in_flight_seq.set(Some(taken.first_seq));
        self.in_flight_since.set(taken.since);
        self.probe.queued_bytes.set(0);
        self.line.wake();
        let result = self.commit(&mut taken).await;
        *self.in_flight.borrow_mut() = None;
        self.in_flight_seq.set(None);
        self.in_flight_since.set(None);
        self.probe.queued.add(-taken.waiting);
        if let Err(error) = &result
            && self.pending.borrow().builds_on_flight
        {
            let built = self.pending.replace(Pending::new());
            self.forget(&built);
            self.probe.queued.add(-built.waiting);
            self.probe.queued_bytes.set(0);
            built.done.finish(Err(error.clone()));
        }
        taken.done.finish(result);
        self.line.wake();
        taken.reset();
        taken
    }

    /// Writes a batch and makes it visible.
    pub(super) async fn commit(&self, taken: &mut Pending) -> Result<(), StoreError> {
        let written = self.write(taken).await;
        match written {
            Ok(position) => {
                self.apply(taken, position);
                Ok(())
            }
            Err(error) => {
                self.forget(taken);
                Err(error)
            }
        }
    }

    async fn write(&self, taken: &mut Pending) -> Result<Position, StoreError> {
        self.check_writable()?;
        if taken.bytes.len() > BATCH_BYTES_MAX {
            // No start would recognise it, nor what comes behind it: better that nobody was told
            // that it is there.
            let bytes = taken.bytes.len();
            let reason = format!("a batch of {bytes} bytes: at most {BATCH_BYTES_MAX} are read");
            return Err(self.turn_read_only(&reason));
        }
        let last_seq = taken.changes.last().map_or(0, |last| last.seq);
        if last_seq.saturating_sub(self.synced_seq.get()) > UNSYNCED_NUMBERS_MAX {
            taken.level = taken.level.max(SyncLevel::Fdatasync);
        }
        let started = Instant::now();
        let mut must_switch = false;
        loop {
            let disk_bytes = taken.bytes.len().next_multiple_of(BLOCK_BYTES) as u64;
            let end = self.log.borrow().end();
            let fits = end.offset + disk_bytes <= self.settings.segment_bytes
                || end.offset == BLOCK_BYTES as u64;
            let header = if must_switch || !fits {
                Some(self.switch().await?)
            } else {
                None
            };
            let held = if taken.level > SyncLevel::None {
                let held = self.syncs.hold().await;
                self.check_writable()?;
                self.sync_dirty().await?;
                Some(held)
            } else {
                None
            };
            let written = self.write_once(taken, header).await;
            drop(held);
            match written {
                Ok(position) => {
                    if taken.level > SyncLevel::None {
                        self.synced_seq.set(last_seq.max(self.synced_seq.get()));
                    }
                    let bytes = disk_bytes;
                    let records = u64::from(taken.records);
                    self.probe.batch_written(records, bytes, started.elapsed());
                    return Ok(position);
                }
                Err(error) if is_full(&error) && !must_switch && header.is_none() => {
                    // Nothing before this batch is touched. The reserve has space of its own, and
                    // its header says that the log ends here.
                    self.probe.write_errors.add(1);
                    self.set_full(true);
                    taken.unpad();
                    must_switch = true;
                }
                Err(error) => {
                    self.probe.write_errors.add(1);
                    let end = self.log.borrow().end();
                    let reason = format!("log write at {}:{}: {error}", end.segment, end.offset);
                    return Err(self.turn_read_only(&reason));
                }
            }
        }
    }

    /// Writes the batch at the end of the log, with the header of its segment if that is new.
    async fn write_once(
        &self,
        taken: &mut Pending,
        header: Option<Header>,
    ) -> io::Result<Position> {
        let (file, position, durable) = {
            let log = self.log.borrow();
            let active = log.segments.get(&log.active);
            let Some(file) = active.and_then(|active| active.file.clone()) else {
                return Err(io::Error::other("the active segment is not open"));
            };
            (file, log.end(), log.durable)
        };
        let head = Head {
            len: taken.bytes.len() as u32,
            records: taken.records,
            epoch: self.epoch,
            first_seq: taken.first_seq,
            durable,
            level: taken.level,
        };
        let realm = segment::realm(self.identity, position.segment, self.epoch);
        batch::seal(&mut taken.bytes, &head, realm);
        let bytes = std::mem::take(&mut taken.bytes);
        let batch_bytes = bytes.len() as u64;
        let (result, bytes) = match header {
            None => {
                self.disk
                    .write_at(&file, position.offset, bytes, taken.level)
                    .await
            }
            Some(header) => {
                let block = segment::encode_header(&header, self.identity);
                let mut whole = Vec::with_capacity(block.len() + bytes.len());
                whole.extend_from_slice(&block);
                whole.extend_from_slice(&bytes);
                let (result, _) = self.disk.write_at(&file, 0, whole, taken.level).await;
                (result, bytes)
            }
        };
        taken.bytes = bytes;
        result?;
        let mut log = self.log.borrow_mut();
        if let Some(active) = log.segments.get_mut(&position.segment) {
            active.end = position.offset + batch_bytes;
            active.bytes = active.bytes.max(active.end);
        }
        if taken.level > SyncLevel::None {
            log.durable = log.end();
        }
        Ok(position)
    }

    /// Makes the changes of a durable batch visible.
    fn apply(&self, taken: &mut Pending, position: Position) {
        let mut index = self.index.borrow_mut();
        let mut streams = self.streams.borrow_mut();
        let realm = segment::realm(self.identity, position.segment, self.epoch);
        let before = self.watches.names_before(&index, &taken.changes);
        for entry in &taken.changes {
            let at = Location {
                segment: position.segment,
                offset: (position.offset + u64::from(entry.offset)) as u32,
                bytes: entry.bytes,
            };
            match &entry.change {
                Pended::Moved => {
                    let bytes = &taken.bytes[entry.offset as usize..];
                    match super::record::decode(bytes, realm) {
                        Ok(record) => {
                            let applied = apply_record(&mut index, &record, at);
                            debug_assert!(applied.is_ok(), "it was applied before it was moved");
                        }
                        Err(error) => debug_assert!(false, "sealed a moment ago: {error}"),
                    }
                }
                change => change.apply(&mut index, entry.seq, at),
            }
            match &entry.change {
                Pended::Append { .. } => self.probe.deliveries.add(1),
                Pended::Body {
                    stream: Some(stream),
                    ..
                } => {
                    streams.remove(stream);
                }
                _ => {}
            }
        }
        self.probe.messages.set(index.messages() as i64);
        drop((index, streams));
        self.watches.tell(&taken.changes, &before);
        self.release(&taken.changes);
        self.note_written(taken.bytes.len() as u64);
    }

    /// The batch was not written: what was promised to it is taken back.
    pub(super) fn forget(&self, taken: &Pending) {
        let mut streams = self.streams.borrow_mut();
        for entry in &taken.changes {
            if let Pended::Chunk { stream } = entry.change {
                streams.remove(&stream);
            }
        }
        drop(streams);
        self.release(&taken.changes);
    }

    fn release(&self, changes: &[Entry]) {
        let mut accounts = self.accounts.borrow_mut();
        for entry in changes {
            if let Pended::Key { key, .. } = &entry.change {
                self.marks.borrow_mut().remove(key);
            }
            let Some(address) = entry.change.address() else {
                continue;
            };
            let Some(account) = accounts.get_mut(address) else {
                continue;
            };
            account.release(entry.seq, &entry.change);
            if account.uses == 0 {
                accounts.remove(address);
            }
        }
    }

    /// Goes on in the next segment; returns the header to be written with its first batch.
    async fn switch(&self) -> Result<Header, StoreError> {
        loop {
            let preparing = self.log.borrow().preparing.clone();
            match preparing {
                // Its end is what counts, not how it ended.
                Some(done) => drop(done.wait().await),
                None => break,
            }
        }
        let next = self.log.borrow_mut().next.take();
        let next = match next {
            Some(next) => next,
            None => {
                // The background must not make the same file meanwhile.
                let done = Done::new();
                self.log.borrow_mut().preparing = Some(done.clone());
                let next = self.next_now().await;
                self.log.borrow_mut().preparing = None;
                done.finish(Ok(()));
                next?
            }
        };
        let mut log = self.log.borrow_mut();
        let end = log.end();
        if log.durable < end {
            log.dirty.push(end.segment);
        }
        let generation = end.segment + 1;
        if log.durable >= end
            && let Some(left) = log.segments.get_mut(&end.segment)
        {
            // Its descriptors for writing have done their work; whoever reads opens it again.
            left.file = None;
        }
        log.active = generation;
        log.segments.insert(
            generation,
            Segment {
                generation,
                epoch: self.epoch,
                bytes: next.bytes,
                file: Some(next.file),
                end: BLOCK_BYTES as u64,
            },
        );
        self.probe.segments.set(log.segments.len() as i64);
        let header = Header {
            generation,
            epoch: self.epoch,
            previous: end,
            durable: log.durable,
            seq_next: self.seq_next.get(),
        };
        drop(log);
        self.chores.notify();
        Ok(header)
    }

    /// A segment to go on in, made while a batch waits; the reserve when there is no space.
    async fn next_now(&self) -> Result<Prepared<D::File>, StoreError> {
        self.probe.segments_late.add(1);
        let generation = self.log.borrow().active + 1;
        let path = segment::file_path(&self.dir, generation);
        let bytes = self.settings.segment_bytes;
        if let Some(spare) = self.use_spare(&path).await {
            return Ok(spare);
        }
        let mut made = self.prepare(&path, bytes, false).await;
        if made.as_ref().is_err_and(is_full) && self.drop_spares().await {
            made = self.prepare(&path, bytes, false).await;
        }
        let made = match made {
            Err(error) if is_full(&error) => {
                self.set_full(true);
                let reserve = self.log.borrow_mut().reserve.take();
                match reserve {
                    None => return Err(StoreError::Full),
                    Some(reserve) => self.use_reserve(reserve, path).await,
                }
            }
            other => other,
        };
        made.map_err(|error| {
            self.probe.write_errors.add(1);
            self.turn_read_only(&format!("segment {generation}: {error}"))
        })
    }

    async fn use_reserve(
        &self,
        reserve: Prepared<D::File>,
        path: std::path::PathBuf,
    ) -> io::Result<Prepared<D::File>> {
        self.disk.rename(&reserve.path, &path).await?;
        self.disk.sync_dir(&self.dir).await?;
        Ok(Prepared { path, ..reserve })
    }

    /// Nothing has failed so far: what is written and synced now is durable.
    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        match &*self.read_only.borrow() {
            Some(reason) => Err(StoreError::ReadOnly(reason.clone())),
            None => Ok(()),
        }
    }

    /// Makes earlier segments durable, for whom it may concern.
    pub(super) async fn sync_earlier(&self) -> Result<(), StoreError> {
        let _held = self.syncs.hold().await;
        self.check_writable()?;
        self.sync_dirty().await
    }

    /// Makes earlier segments durable: what a batch at a level says of everything before it.
    ///
    /// The caller holds the right to sync, and has seen since that nothing has failed: of two syncs
    /// of a file that run at once the kernel tells one that pages are lost, and the other that all
    /// is well.
    pub(super) async fn sync_dirty(&self) -> Result<(), StoreError> {
        loop {
            let dirty = {
                let log = self.log.borrow();
                let Some(generation) = log.dirty.first().copied() else {
                    return Ok(());
                };
                let file = log.segments.get(&generation).and_then(|s| s.file.clone());
                (generation, file)
            };
            if let (generation, Some(file)) = &dirty
                && let Err(error) = self.disk.sync(file, SyncLevel::Fdatasync).await
            {
                self.probe.write_errors.add(1);
                let reason = format!("sync of segment {generation}: {error}");
                return Err(self.turn_read_only(&reason));
            }
            let mut log = self.log.borrow_mut();
            log.dirty.retain(|generation| *generation != dirty.0);
            if log.dirty.is_empty() {
                // Not the start of the active segment: where the log before it ends must stay
                // known even if the active one's header is lost.
                let before = log.segments.range(..log.active).next_back();
                let end = before.map(|(segment, before)| Position {
                    segment: *segment,
                    offset: before.end,
                });
                log.durable = log.durable.max(end.unwrap_or_default());
            }
        }
    }
}
