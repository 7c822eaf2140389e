//! Segments recycled: the file of one that nothing needs any more becomes a later one.
//!
//! Overwriting blocks that are written already changes nothing but them, so a sync of them takes
//! half as long as of blocks that are new to the file; and on a busy disk nothing has to be found,
//! freed or discarded. What is in such a file cannot be told from what a torn write has left, so it
//! is overwritten with zeros first, while nothing waits for it:
//!
//! ```text
//! 0...041.seg    in the log
//!      | the manifest without it is durable
//! 0...041.spare  waiting: a read may still have it open; a start takes every spare for one of these
//!      | that name is durable, and all reads that began before have ended
//! 0...041.spare  erased: zeros as far as a segment reaches, durable
//!      | renamed, and the name is durable
//! 0...057.seg    the next segment: written to from now on
//! ```
//!
//! Guarantees: no byte of an earlier use is left when a file is a segment again, so a start finds in
//! it what it finds in a new one. A crash between any two of these steps costs the spare at most. At
//! most [`SPARES_MAX`] are kept, and none when space is short.
//! Does not know: what was in them.
//! On failure: the file is removed, and a new one is made when one is needed.
//!
//! A disk that fills up meanwhile has its space back as soon as the piece that is being erased is
//! done, at most [`PIECE_BYTES`] later: until then mail may be refused, and a commit that needs a
//! segment takes the reserve. Erasing itself needs space only for what the file lacks of a whole
//! segment; where there is none, that is a failure like any other. A close waits for one piece, too,
//! and leaves the file to the next start, which erases all of it.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::disk::{Disk, OpenMode};
use super::partition::{Partition, Prepared};
use super::segment;
use crate::config::SyncLevel;
use crate::limits::BLOCK_BYTES;

/// Files kept for reuse by one partition.
pub(super) const SPARES_MAX: usize = 2;
/// So much of one is erased at once: who wants the background to end, or the space, waits for it.
const PIECE_BYTES: u64 = 1024 * 1024;
/// What their names end in.
const EXTENSION: &str = "spare";

/// How far a spare is.
#[derive(Debug)]
enum State<F> {
    /// Reads that began before this [`Reads::began`] may have it open.
    Waiting(u64),
    /// It is being overwritten with zeros.
    Erasing,
    /// All zeros, durably.
    Erased(Rc<F>),
}

/// A file to be a segment again.
#[derive(Debug)]
pub(super) struct Spare<F> {
    path: PathBuf,
    state: State<F>,
}

impl<F> Spare<F> {
    /// One that a start has found, whatever is in it.
    pub fn found(path: PathBuf) -> Spare<F> {
        Spare {
            path,
            state: State::Waiting(0),
        }
    }
}

/// The name of a file that was this segment.
pub(super) fn path_of(dir: &Path, generation: u64) -> PathBuf {
    segment::file_path(dir, generation).with_extension(EXTENSION)
}

/// It is the name of a spare.
pub(super) fn is_spare(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == EXTENSION)
}

/// A file of so many bytes is worth keeping: hardly more has to be added to it.
pub(super) fn suits(bytes: u64, segment_bytes: u64) -> bool {
    (segment_bytes / 2..=segment_bytes).contains(&bytes)
}

/// Reads in flight, as far as the reuse of files has to know.
#[derive(Debug, Default)]
pub(super) struct Reads {
    in_flight: Cell<u64>,
    /// Counts the moments without any.
    quiet: Cell<u64>,
    /// A spare waits for such a moment.
    wanted: Cell<bool>,
}

impl Reads {
    /// Those in flight now have ended when [`Reads::are_past`] says so of this.
    fn began(&self) -> u64 {
        self.quiet.get() + u64::from(self.in_flight.get() > 0)
    }

    fn are_past(&self, began: u64) -> bool {
        self.quiet.get() >= began
    }
}

/// A read in flight.
pub(super) struct Reading<'a, D: Disk>(&'a Partition<D>);

impl<D: Disk> Drop for Reading<'_, D> {
    fn drop(&mut self) {
        let reads = &self.0.reads;
        reads.in_flight.set(reads.in_flight.get() - 1);
        if reads.in_flight.get() == 0 {
            reads.quiet.set(reads.quiet.get() + 1);
            if reads.wanted.take() {
                self.0.chores.notify();
            }
        }
    }
}

impl<D: Disk> Partition<D> {
    /// While this lives, no file that is part of the log now is overwritten.
    pub(super) fn reading(&self) -> Reading<'_, D> {
        self.reads.in_flight.set(self.reads.in_flight.get() + 1);
        Reading(self)
    }

    /// Keeps the file of a segment that is not part of the log any more, by the durable manifest;
    /// `false` when it is not wanted.
    pub(super) async fn keep_spare(&self, generation: u64, bytes: u64) -> bool {
        let is_wanted = !self.full.get()
            && suits(bytes, self.settings.segment_bytes)
            && self.log.borrow().spares.len() < SPARES_MAX;
        if !is_wanted {
            return false;
        }
        let path = path_of(&self.dir, generation);
        let from = segment::file_path(&self.dir, generation);
        if self.disk.rename(&from, &path).await.is_err() {
            return false;
        }
        let state = State::Waiting(self.reads.began());
        self.log.borrow_mut().spares.push(Spare { path, state });
        self.chores.notify();
        true
    }

    /// Overwrites what waits and is not read any more. The background does this, one at a time.
    pub(super) async fn erase_spares(&self) {
        loop {
            let path = {
                let mut log = self.log.borrow_mut();
                let mut waiting = false;
                let ready = log.spares.iter_mut().find(|spare| match spare.state {
                    State::Waiting(began) => {
                        waiting = true;
                        self.reads.are_past(began)
                    }
                    _ => false,
                });
                self.reads.wanted.set(waiting && ready.is_none());
                let Some(spare) = ready else { return };
                spare.state = State::Erasing;
                spare.path.clone()
            };
            let result = self.erase(&path).await;
            if self.closing.get() {
                // Whatever became of it, a start takes it for one that waits.
                return;
            }
            let is_kept = {
                let mut log = self.log.borrow_mut();
                match (result, log.spares.iter().position(|s| s.path == path)) {
                    (Ok(Some(file)), Some(at)) => {
                        log.spares[at].state = State::Erased(Rc::new(file));
                        true
                    }
                    (result, at) => {
                        if let Err(error) = result {
                            tracing::warn!("{}: not used again: {error}", path.display());
                        }
                        at.map(|at| log.spares.remove(at));
                        false
                    }
                }
            };
            if !is_kept {
                self.remove_spare(&path).await;
                if self.full.get() {
                    // That may have been all that was lacking.
                    self.check_space().await;
                }
            }
        }
    }

    /// `None`: of no use on this filesystem, or not wanted any more.
    async fn erase(&self, path: &Path) -> io::Result<Option<D::File>> {
        // Before a byte of it goes, no crash can bring its old name back.
        self.disk.sync_dir(&self.dir).await?;
        let file = self.disk.open(path, OpenMode::Log).await?;
        let bytes = self.settings.segment_bytes;
        let is_wanted = || !self.closing.get() && !self.full.get();
        // A small segment has several pieces, too, so that what comes between them is tried.
        let piece_bytes = (bytes / 8)
            .next_multiple_of(BLOCK_BYTES as u64)
            .min(PIECE_BYTES);
        for offset in (0..bytes).step_by(piece_bytes as usize) {
            let length = piece_bytes.min(bytes - offset);
            if !is_wanted() || !self.disk.erase(&file, offset, length).await? {
                return Ok(None);
            }
        }
        self.disk.sync(&file, SyncLevel::Fsync).await?;
        Ok(is_wanted().then_some(file))
    }

    async fn remove_spare(&self, path: &Path) {
        if let Err(error) = self.disk.remove(path).await {
            // The next start finds it.
            tracing::warn!("{}: cannot be removed: {error}", path.display());
        }
    }

    /// Makes an erased spare the segment file `path`, durable with its name; `None`: there is none,
    /// or it did not work.
    pub(super) async fn use_spare(&self, path: &Path) -> Option<Prepared<D::File>> {
        let (old, file) = {
            let mut log = self.log.borrow_mut();
            let is_erased = |spare: &Spare<_>| matches!(spare.state, State::Erased(_));
            let at = log.spares.iter().position(is_erased)?;
            match log.spares.remove(at) {
                Spare {
                    path,
                    state: State::Erased(file),
                } => (path, file),
                _ => return None,
            }
        };
        let renamed = async {
            self.disk.rename(&old, path).await?;
            self.disk.sync_dir(&self.dir).await
        };
        if let Err(error) = renamed.await {
            tracing::warn!("{}: not used again: {error}", old.display());
            // It has one of these names, and whoever needs either of them removes what is there.
            let _ = self.disk.remove(&old).await;
            return None;
        }
        self.probe.segments_recycled.add(1);
        Some(Prepared {
            path: path.to_owned(),
            file,
            bytes: self.settings.segment_bytes,
        })
    }

    /// Gives the space of all spares back; `false` when there are none.
    pub(super) async fn drop_spares(&self) -> bool {
        let mut paths = Vec::new();
        self.log.borrow_mut().spares.retain(|spare| {
            // One that is being erased goes when that is done.
            let stays = matches!(spare.state, State::Erasing);
            if !stays {
                paths.push(spare.path.clone());
            }
            stays
        });
        for path in &paths {
            self.remove_spare(path).await;
        }
        !paths.is_empty()
    }
}
