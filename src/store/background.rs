//! What a partition does beside its commits: segments ahead, index files, space, the end.
//!
//! Nothing here is needed for correctness while a partition runs: when the background is slow, the
//! commit loop makes its own segments, and the next start replays more of the log.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::StoreError;
use super::commit::Pending;
use super::disk::{Disk, OpenMode};
use super::partition::{Partition, Prepared};
use super::record::encode;
use super::recovery::RESERVE;
use super::segment;
use super::wait::Done;
use crate::config::SyncLevel;

/// A segment that filled more slowly than this is worth zero-filling its successor for: a sync
/// into written blocks takes half as long, but each byte is written twice.
const SLOW_FILL_MS: u64 = 5_000;
/// Milliseconds between looks at the free space.
const SPACE_CHECK_MS: u64 = 1_000;
/// Files of old segments kept open for readers.
const OPEN_FILES_MAX: usize = 64;

/// How far the background is.
#[derive(Debug, Default)]
pub(super) struct BackgroundState {
    /// It runs; what `close` waits for.
    running: Cell<bool>,
    ended: super::wait::Notify,
    /// When the last segment was begun, and when free space was last looked at.
    segment_since_ms: Cell<u64>,
    space_checked_ms: Cell<Option<u64>>,
    /// The segment that `segment_since_ms` is about.
    segment: Cell<u64>,
    /// Bytes of log since the last index file.
    pub log_bytes: Cell<u64>,
}

impl<D: Disk> Partition<D> {
    /// Prepares segments ahead, writes indexes, compacts what is due. Runs until closed. The owner
    /// polls this on its background queue. `now_ms` is asked whenever time matters.
    pub async fn background(self: Rc<Self>, now_ms: impl Fn() -> u64) {
        self.background.running.set(true);
        while !self.closing.get() {
            self.chore(now_ms()).await;
            if !self.closing.get() {
                self.chores.wait().await;
            }
        }
        self.background.running.set(false);
        self.background.ended.notify();
    }

    async fn chore(&self, now_ms: u64) {
        if self.read_only.borrow().is_some() {
            return;
        }
        // A failure has turned the partition read-only, and its reason is logged.
        let _ = self.sync_dirty().await;
        self.check_space(now_ms).await;
        self.prepare_next(now_ms).await;
        self.prepare_reserve().await;
    }

    async fn check_space(&self, now_ms: u64) {
        let due = match self.background.space_checked_ms.get() {
            Some(last) => now_ms.saturating_sub(last) >= SPACE_CHECK_MS,
            None => true,
        };
        if !due {
            return;
        }
        self.background.space_checked_ms.set(Some(now_ms));
        if let Ok(free) = self.disk.free_bytes(&self.dir).await {
            self.probe.free_bytes.set(free as i64);
            let log = self.log.borrow();
            // What is lacking to be whole again counts as used.
            let wanted = u64::from(log.next.is_none()) + u64::from(log.reserve.is_none());
            drop(log);
            let wanted_bytes = wanted * self.settings.segment_bytes;
            self.set_full(free < self.settings.reserve_bytes.saturating_add(wanted_bytes));
        }
    }

    /// Makes the next segment, if there is none.
    async fn prepare_next(&self, now_ms: u64) {
        let state = &self.background;
        let active = {
            let mut log = self.log.borrow_mut();
            if log.next.is_some() || log.preparing.is_some() || self.full.get() {
                return;
            }
            log.preparing = Some(Done::new());
            log.active
        };
        // Under load the disk has better to do than to write every byte twice.
        let filled_ms = now_ms.saturating_sub(state.segment_since_ms.get());
        let zeroes = state.segment.get() == 0 || filled_ms > SLOW_FILL_MS;
        if state.segment.replace(active) != active {
            state.segment_since_ms.set(now_ms);
        }
        let path = segment::file_path(&self.dir, active + 1);
        let made = self
            .prepare(&path, self.settings.segment_bytes, zeroes)
            .await;
        let mut log = self.log.borrow_mut();
        match made {
            Ok(prepared) => log.next = Some(prepared),
            Err(error) => {
                // The commit loop tries for itself when it has to, and says how that went.
                let path = path.display();
                tracing::warn!("{path}: a segment could not be made ahead: {error}");
            }
        }
        if let Some(done) = log.preparing.take() {
            drop(log);
            done.finish(Ok(()));
        }
    }

    async fn prepare_reserve(&self) {
        if self.log.borrow().reserve.is_some() || self.full.get() {
            return;
        }
        let path = self.dir.join(RESERVE);
        let bytes = self.settings.segment_bytes;
        match self.prepare(&path, bytes, false).await {
            Ok(prepared) => self.log.borrow_mut().reserve = Some(prepared),
            Err(error) => tracing::warn!("{}: {error}", path.display()),
        }
    }

    /// Makes an empty segment file, durable with its name. Leaves nothing when it fails.
    pub(super) async fn prepare(
        &self,
        path: &Path,
        bytes: u64,
        zeroes: bool,
    ) -> io::Result<Prepared<D::File>> {
        let file = match self.disk.open(path, OpenMode::CreateNew).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Left by an attempt that failed.
                self.disk.remove(path).await?;
                self.disk.open(path, OpenMode::CreateNew).await?
            }
            other => other?,
        };
        let made = async {
            self.disk.allocate(&file, bytes, zeroes).await?;
            self.disk.sync(&file, SyncLevel::Fsync).await?;
            self.disk.sync_dir(&self.dir).await
        };
        if let Err(error) = made.await {
            drop(file);
            // Should this fail too, the next attempt meets the file and removes it.
            let _ = self.disk.remove(path).await;
            return Err(error);
        }
        Ok(Prepared {
            path: path.to_owned(),
            file: Rc::new(file),
            bytes,
        })
    }

    /// So many bytes of log were written.
    pub(super) fn note_written(&self, bytes: u64) {
        let state = &self.background;
        state.log_bytes.set(state.log_bytes.get() + bytes);
    }

    /// Keeps the file of a segment open for the next reader.
    pub(super) fn keep_open(&self, generation: u64, file: &Rc<D::File>) {
        let mut log = self.log.borrow_mut();
        let active = log.active;
        let open = log.segments.values().filter(|s| s.file.is_some()).count();
        if open >= OPEN_FILES_MAX {
            let dirty = log.dirty.clone();
            let old = log.segments.values_mut().find(|segment| {
                segment.file.is_some()
                    && segment.generation != active
                    && !dirty.contains(&segment.generation)
            });
            if let Some(old) = old {
                old.file = None;
            }
        }
        if let Some(segment) = log.segments.get_mut(&generation) {
            segment.file = Some(file.clone());
        }
    }

    /// Reclaims at once everything that was expunged, whatever its age; returns bytes given back.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn expire_now(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Lets queued work finish, writes the index and a clean mark, ends `run` and `background`.
    ///
    /// # Errors
    /// When the last batch could not be made durable.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.closing.set(true);
        self.line.wake();
        self.work.notify();
        self.chores.notify();
        let mut result = self.settle().await;
        while self.background.running.get() {
            self.background.ended.wait().await;
        }
        if result.is_ok() {
            result = self.write_end().await;
        }
        self.closed.set(true);
        self.work.notify();
        result
    }

    /// The clean mark: everything before it is durable.
    async fn write_end(&self) -> Result<(), StoreError> {
        let level = SyncLevel::Fsync;
        self.sync_dirty().await?;
        let file = {
            let log = self.log.borrow();
            log.segments.get(&log.active).and_then(|s| s.file.clone())
        };
        if let Some(file) = file
            && self.log.borrow().durable < self.log.borrow().end()
        {
            let synced = self.disk.sync(&file, level).await;
            synced.map_err(|error| self.turn_read_only(&format!("sync at close: {error}")))?;
            let mut log = self.log.borrow_mut();
            log.durable = log.end();
        }
        let mut last = Pending::new();
        let seq = self.next_seq();
        let offset = last.bytes.len();
        encode::end(&mut last.bytes, seq);
        last.push(seq, offset, super::change::Pended::End);
        last.level = level;
        self.commit(&mut last).await
    }
}
