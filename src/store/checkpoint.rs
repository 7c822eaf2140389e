//! Writes a sealed index, so that the next start replays little.
//!
//! Order: the index file and its name are durable, then everything it covers in the log, then the
//! manifest names it, and only then the old one goes. A crash at any point leaves one that fits.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::disk::{Disk, OpenMode};
use super::index::SealWriter;
use super::manifest::Manifest;
use super::partition::Partition;
use super::recovery::write_manifest;
use super::segment::{self, Position};
use super::wait::yield_now;
use super::{Sequence, StoreError};
use crate::config::SyncLevel;

/// An index is written when the log since the last has grown to so many segments, and to so many
/// times the index: then writing indexes costs a bounded share of writing mail.
const SEGMENTS_MIN: u64 = 4;
const INDEX_TIMES: u64 = 4;

impl<D: Disk> Partition<D> {
    /// Enough log has come since the last index.
    pub(super) fn checkpoint_is_due(&self) -> bool {
        let (_, base_bytes) = self.index.borrow().bytes();
        let least = SEGMENTS_MIN * self.settings.segment_bytes;
        self.background.log_bytes.get() > least.max(INDEX_TIMES * base_bytes)
    }

    /// Every record up to this number has been applied.
    fn covered_seq(&self) -> Sequence {
        let pending = self.pending.borrow();
        let waiting = (pending.records > 0).then_some(pending.first_seq);
        let first = [waiting, self.in_flight_seq.get()]
            .into_iter()
            .flatten()
            .min();
        first.unwrap_or(self.seq_next.get()) - 1
    }

    /// Bodies that no open stream can name any more are garbage.
    pub(super) fn release_unnamed(&self) {
        let streams = self.streams.borrow();
        let oldest = streams.values().map(|stream| stream.since).min();
        let below = oldest.unwrap_or(self.covered_seq() + 1);
        self.index.borrow_mut().release_unnamed(below);
    }

    /// Writes an index of everything applied so far. The caller holds the chores' turn.
    pub(super) async fn checkpoint(&self) -> Result<(), io::Error> {
        self.release_unnamed();
        let (covers, position) = (self.covered_seq(), self.log.borrow().end());
        let log_bytes = self.background.log_bytes.get();
        // A manifest that could not be synced may be on the disk all the same. The index it names
        // must be that one or none, not a later one that covers more than is durable.
        let begun = self.background.index.get().max(position.segment);
        let generation = self.manifest.borrow().index.max(begun) + 1;
        self.background.index.set(generation);
        let path = segment::index_path(&self.dir, generation);
        let at = (position.segment, position.offset);
        let mut writer = self
            .index
            .borrow_mut()
            .begin_seal(self.identity, covers, at);
        let sealed = match self.write_index(&path, &mut writer).await {
            Ok(map) => self.name_index(generation, position).await.map(|()| map),
            Err(error) => Err(error),
        };
        drop(writer);
        let result = match sealed {
            Ok(map) => {
                let finished = self.index.borrow_mut().finish_seal(Rc::new(map));
                finished.map_err(|error| io::Error::other(error.to_string()))
            }
            Err(error) => {
                self.index.borrow_mut().abandon_seal();
                Err(error)
            }
        };
        if let Err(error) = result {
            if self.background.not_sealed.is_news() {
                tracing::error!("{}: index not written: {error}", path.display());
            }
            // Where the manifest names it all the same, the next start finds it missing and
            // makes a new one from the log.
            if self.manifest.borrow().index != generation {
                let _ = self.disk.remove(&path).await;
            }
            return Err(error);
        }
        let state = &self.background;
        state.log_bytes.set(state.log_bytes.get() - log_bytes);
        state.covered.set(position);
        state.not_sealed.is_over();
        self.probe.seals.add(1);
        Ok(())
    }

    async fn write_index(&self, path: &Path, writer: &mut SealWriter) -> io::Result<D::Map> {
        let file = match self.disk.open(path, OpenMode::CreateNew).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(path).await?;
                self.disk.open(path, OpenMode::CreateNew).await?
            }
            other => other?,
        };
        let mut offset = 0;
        while let Some(piece) = writer.next_piece() {
            let length = piece.len() as u64;
            let (result, _) = self
                .disk
                .write_at(&file, offset, piece, SyncLevel::None)
                .await;
            result?;
            offset += length;
        }
        self.disk.sync(&file, SyncLevel::Fsync).await?;
        self.disk.sync_dir(&self.dir).await?;
        drop(file);
        let file = self.disk.open(path, OpenMode::Read).await?;
        let map = self.disk.map(&file).await?;
        loop {
            match writer.compare(map.as_ref()) {
                Ok(true) => return Ok(map),
                Ok(false) => yield_now().await,
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
    }

    /// Makes the log durable as far as the index covers it, and the index the one that counts.
    async fn name_index(&self, generation: u64, position: Position) -> io::Result<()> {
        self.sync_log(position)
            .await
            .map_err(|error| io::Error::other(error.to_string()))?;
        let old = self.manifest.borrow().index;
        self.save_manifest(|manifest| manifest.index = generation)
            .await?;
        if old != 0 {
            // It may stay for now: a start removes what the manifest does not name.
            let _ = self.disk.remove(&segment::index_path(&self.dir, old)).await;
        }
        Ok(())
    }

    /// Makes everything before `position` durable.
    pub(super) async fn sync_log(&self, position: Position) -> Result<(), StoreError> {
        let _held = self.syncs.hold().await;
        // Behind a failed sync another one may succeed, although the pages are lost.
        self.check_writable()?;
        let (file, end) = loop {
            self.sync_dirty().await?;
            let log = self.log.borrow();
            if log.durable >= position {
                return Ok(());
            }
            // A batch may have gone on to the next segment while earlier ones were synced.
            if log.dirty.is_empty() {
                let active = log.segments.get(&log.active);
                break (active.and_then(|active| active.file.clone()), log.end());
            }
        };
        if let Some(file) = file {
            let synced = self.disk.sync(&file, SyncLevel::Fdatasync).await;
            synced.map_err(|error| self.turn_read_only(&format!("sync of the log: {error}")))?;
        }
        // Batches may have gone to the next segment meanwhile; `end` was written before that.
        let mut log = self.log.borrow_mut();
        log.durable = log.durable.max(end);
        Ok(())
    }

    /// Writes the manifest as it is to be now, durably.
    pub(super) async fn save_manifest(&self, change: impl FnOnce(&mut Manifest)) -> io::Result<()> {
        let mut next = self.manifest.borrow().clone();
        {
            let log = self.log.borrow();
            // The active segment has a header only once its first batch is written, one that is not
            // synced may have none after a loss of power: they are left to their files to speak for
            // them.
            let first_dirty = log.dirty.iter().copied().min();
            let left = first_dirty.map_or(log.active, |dirty| dirty.min(log.active));
            next.as_of = left - 1;
            next.live = log.segments.range(..left).map(|(at, _)| *at).collect();
            let old = log.segments.range(..left);
            next.ends = old.map(|(generation, s)| (*generation, s.end)).collect();
        }
        next.serial += 1;
        next.listed_from = 0;
        next.closed = false;
        change(&mut next);
        write_manifest(&self.disk, &self.dir, self.identity, &next).await?;
        *self.manifest.borrow_mut() = next;
        Ok(())
    }
}
