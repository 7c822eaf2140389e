//! What a partition does beside its commits: segments ahead, index files, space, the end.
//!
//! Nothing here is needed for correctness while a partition runs: when the background is slow, the
//! commit loop makes its own segments, and the next start replays more of the log.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::commit::Pending;
use super::disk::{Disk, OpenMode};
use super::partition::{Partition, Prepared};
use super::record::encode;
use super::recovery::RESERVE;
use super::recovery::aside::forget_told;
use super::segment::{self, Position};
use super::wait::{Done, Lock, Notify};
use super::{MailboxId, Reclaimed, StoreError, Uid};
use crate::config::SyncLevel;
use crate::limits::BLOCK_BYTES;
use crate::mail::Address;

/// A segment that filled more slowly than this is worth zero-filling its successor for: a sync
/// into written blocks takes half as long, but each byte is written twice.
const SLOW_FILL_MS: u64 = 5_000;
/// Bytes of the first segments that a start makes ahead: a store that is not used stays small.
const SMALL_BYTES: u64 = 4 * 1024 * 1024;
/// Files of old segments kept open for readers.
const OPEN_FILES_MAX: usize = 64;

/// How far the background is.
#[derive(Debug)]
pub(super) struct BackgroundState {
    /// It runs; what `close` waits for.
    running: Cell<bool>,
    ended: Notify,
    /// When the segment now active was first seen, and which one that is.
    segment_since_ms: Cell<u64>,
    segment: Cell<u64>,
    /// Bytes of log since the last index file.
    pub log_bytes: Cell<u64>,
    /// Generation of the last index file that was begun.
    pub index: Cell<u64>,
    /// What the index file covers.
    pub covered: Cell<Position>,
    /// The window for reclaiming space is open.
    pub expire_due: Cell<bool>,
    /// Something that was removed may not be gone yet, see `removal`.
    pub has_gone: Cell<bool>,
    /// Messages below this UID have been taken out of this mailbox.
    pub buried: Cell<(MailboxId, Uid)>,
    /// The same of an account, and of its mailboxes before that one.
    pub buried_of: RefCell<Option<(Address, MailboxId, Uid)>>,
    /// Segments that cannot be reclaimed.
    pub damaged: RefCell<FxHashSet<u64>>,
    /// One chore at a time: the right to write indexes and to compact.
    pub turn: Lock,
    not_reclaimed: Trouble,
    pub not_sealed: Trouble,
    not_reserved: Trouble,
    not_prepared: Trouble,
    pub not_swept: Trouble,
}

/// What fails and is tried again whenever something was written is told of once, until it works
/// again: a full disk must not fill up with lines of the log.
#[derive(Debug, Default)]
pub(super) struct Trouble(Cell<bool>);

impl Trouble {
    /// It fails; the last time it did not.
    pub fn is_news(&self) -> bool {
        !self.0.replace(true)
    }

    /// It works.
    pub fn is_over(&self) {
        self.0.set(false);
    }
}

impl BackgroundState {
    pub fn new(covered: Position, log_bytes: u64) -> BackgroundState {
        BackgroundState {
            running: Cell::new(false),
            ended: Notify::default(),
            segment_since_ms: Cell::new(0),
            segment: Cell::new(0),
            log_bytes: Cell::new(log_bytes),
            index: Cell::new(0),
            covered: Cell::new(covered),
            expire_due: Cell::new(false),
            has_gone: Cell::new(true),
            buried: Cell::new((MailboxId::INBOX, 0)),
            buried_of: RefCell::new(None),
            damaged: RefCell::default(),
            turn: Lock::default(),
            not_reclaimed: Trouble::default(),
            not_sealed: Trouble::default(),
            not_reserved: Trouble::default(),
            not_prepared: Trouble::default(),
            not_swept: Trouble::default(),
        }
    }
}

impl<D: Disk> Partition<D> {
    /// Prepares segments ahead, writes indexes, compacts what is due. Runs until closed. The owner
    /// polls this on its background queue. `now_ms` is asked whenever time matters.
    pub async fn background(self: Rc<Self>, now_ms: impl Fn() -> u64) {
        self.background.running.set(true);
        self.forget_told().await;
        while !self.closing.get() {
            self.chore(now_ms()).await;
            if !self.closing.get() {
                self.chores.wait().await;
            }
        }
        self.background.running.set(false);
        self.background.ended.notify();
    }

    /// Whoever opened the partition has told of what its start had found.
    async fn forget_told(&self) {
        let told = self.untold.take();
        forget_told(&self.disk, &self.dir, told).await;
    }

    async fn chore(&self, now_ms: u64) {
        if self.read_only.borrow().is_some() {
            return;
        }
        // A failure has turned the partition read-only, and its reason is logged.
        let _ = self.sync_earlier().await;
        self.check_space().await;
        self.prepare_next(now_ms).await;
        self.prepare_reserve().await;
        self.erase_spares().await;
        self.sweep_gone().await;
        let _turn = self.background.turn.hold().await;
        if self.checkpoint_is_due() {
            // Tried again when more has come; what failed is logged.
            let _ = self.checkpoint().await;
        }
        match self.reclaim_due(now_ms).await {
            Ok(reclaimed) => {
                self.background.not_reclaimed.is_over();
                if reclaimed != Reclaimed::default() {
                    let dir = self.dir.display();
                    tracing::info!("{dir}: {} bytes reclaimed", reclaimed.freed_bytes);
                    self.check_space().await;
                }
            }
            Err(error) => {
                if self.background.not_reclaimed.is_news() {
                    tracing::error!("{}: space not reclaimed: {error}", self.dir.display());
                }
            }
        }
    }

    /// Takes mail again where others have made room. While mail is refused nothing of its own may
    /// ever come to look, as clients are told before they send anything: the owner does, now and
    /// then. Gives spares back when others are short of space. Cheap.
    pub async fn look_for_space(&self) {
        let may_give = self.full.get() || !self.log.borrow().spares.is_empty();
        if may_give && !self.closing.get() {
            self.check_space().await;
        }
    }

    pub(super) async fn check_space(&self) {
        if let Ok(mut free) = self.disk.free_bytes(&self.dir).await {
            self.probe.free_bytes.set(free as i64);
            // What is lacking to be whole again counts as used.
            let wanted = {
                let log = self.log.borrow();
                u64::from(log.next.is_none()) + u64::from(log.reserve.is_none())
            };
            let wanted_bytes = wanted * self.settings.segment_bytes.min(SMALL_BYTES);
            let least = self.settings.reserve_bytes.saturating_add(wanted_bytes);
            if free < least && self.drop_spares().await {
                free = self.disk.free_bytes(&self.dir).await.unwrap_or(free);
                self.probe.free_bytes.set(free as i64);
            }
            let was_full = self.full.get();
            let mut is_full = free < least;
            if was_full && !is_full {
                // First of all: mail would be quicker, and leave nothing for expunges.
                self.prepare_reserve().await;
                is_full = self.log.borrow().reserve.is_none();
            }
            self.set_full(is_full);
            if was_full && !is_full {
                self.chores.notify();
            }
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
        let is_first = state.segment.get() == 0;
        let zeroes = is_first || filled_ms > SLOW_FILL_MS;
        if state.segment.replace(active) != active {
            state.segment_since_ms.set(now_ms);
        }
        let path = segment::file_path(&self.dir, active + 1);
        // On a disk with little room left, less is taken ahead.
        let room_bytes = self.probe.free_bytes.get().max(0) as u64 / 16;
        let most = if is_first {
            SMALL_BYTES
        } else {
            room_bytes
                .next_multiple_of(BLOCK_BYTES as u64)
                .max(SMALL_BYTES)
        };
        let bytes = self.settings.segment_bytes.min(most);
        let made = match self.use_spare(&path).await {
            Some(spare) => Ok(spare),
            None => self.prepare(&path, bytes, zeroes).await,
        };
        let mut log = self.log.borrow_mut();
        match made {
            Ok(prepared) => {
                log.next = Some(prepared);
                state.not_prepared.is_over();
            }
            Err(error) => {
                // The commit loop tries for itself when it has to, and says how that went.
                if state.not_prepared.is_news() {
                    let path = path.display();
                    tracing::warn!("{path}: a segment could not be made ahead: {error}");
                }
            }
        }
        if let Some(done) = log.preparing.take() {
            drop(log);
            done.finish(Ok(()));
        }
    }

    async fn prepare_reserve(&self) {
        let bytes = self.settings.segment_bytes.min(SMALL_BYTES);
        // The space that is kept free is there for this, too.
        let is_lacking = self.full.get() && self.probe.free_bytes.get() < bytes as i64;
        if self.log.borrow().reserve.is_some() || is_lacking {
            return;
        }
        let path = self.dir.join(RESERVE);
        match self.prepare(&path, bytes, false).await {
            Ok(prepared) => {
                self.log.borrow_mut().reserve = Some(prepared);
                self.background.not_reserved.is_over();
            }
            Err(error) => {
                if self.background.not_reserved.is_news() {
                    tracing::warn!("{}: {error}", path.display());
                }
            }
        }
    }

    /// Makes an empty segment file, durable with its name. Leaves nothing when it fails.
    pub(super) async fn prepare(
        &self,
        path: &Path,
        bytes: u64,
        zeroes: bool,
    ) -> io::Result<Prepared<D::File>> {
        let file = match self.disk.open(path, OpenMode::CreateLog).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Left by an attempt that failed.
                self.disk.remove(path).await?;
                self.disk.open(path, OpenMode::CreateLog).await?
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
        if self.full.get() {
            // Whatever was written may have been an expunge, and there may be space to gain.
            self.chores.notify();
        }
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
        // The background may not have come to it.
        self.forget_told().await;
        if result.is_ok() {
            let _turn = self.background.turn.hold().await;
            if self.background.log_bytes.get() > self.settings.segment_bytes / 4 {
                // Without it the next start takes longer; what failed is logged.
                let _ = self.checkpoint().await;
            }
            result = self.write_end().await;
        }
        self.closed.set(true);
        self.work.notify();
        self.watches.end();
        result
    }

    /// The clean mark: everything before it is durable.
    async fn write_end(&self) -> Result<(), StoreError> {
        let level = SyncLevel::Fsync;
        let end = self.log.borrow().end();
        self.sync_log(end).await?;
        let mut last = Pending::new();
        let seq = self.next_seq();
        let offset = last.bytes.len();
        encode::end(&mut last.bytes, seq);
        last.push(seq, offset, super::change::Pended::End);
        last.level = level;
        self.commit(&mut last).await?;
        let end = self.log.borrow().end();
        let closed = self.save_manifest(|manifest| {
            manifest.closed = true;
            manifest.as_of = end.segment;
            manifest.live.push(end.segment);
            manifest.ends.insert(end.segment, end.offset);
        });
        if let Err(error) = closed.await {
            // The log is whole without it; the next start takes its end as it finds it.
            let dir = self.dir.display();
            tracing::warn!("{dir}: the end of the log could not be noted: {error}");
        }
        Ok(())
    }
}
