//! The state behind a simulated disk: files, names, what fails, when it stops.
//!
//! Does not know: futures. It is borrowed for one call at a time and never across an await.

use std::collections::BTreeMap;

use super::file::Inode;
use super::names::{FileNumber, Names};
use super::random::Random;
use super::{Counts, Lie, Operation};

/// Kinds of operations, see [`Operation`].
const OPERATIONS: usize = 5;

/// Which operations fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) per_mille: [u32; OPERATIONS],
    /// So many more of a kind until one fails.
    pub(super) countdown: [Option<u64>; OPERATIONS],
}

#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) inode: Inode,
    pub(super) handles: u32,
    pub(super) maps: u32,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) random: Random,
    pub(super) names: Names,
    pub(super) files: BTreeMap<FileNumber, FileState>,
    pub(super) last_file: FileNumber,
    /// Orders writes and name changes against the syncs that cover them.
    pub(super) last_change: u64,
    /// Handles of another life are dead.
    pub(super) life: u64,
    pub(super) step: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
    pub(super) delay_max: u64,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) faults: Faults,
    pub(super) counts: Counts,
    /// Allocating does nothing, as where every write goes to a new place.
    pub(super) copy_on_write: bool,
    pub(super) lie: Option<Lie>,
    /// What [`Lie::LateSync`] still owes: the file, and the last change its sync covers.
    pub(super) owed_sync: Option<(FileNumber, u64)>,
    pub(super) trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn next_change(&mut self) -> u64 {
        self.last_change += 1;
        self.last_change
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.files
            .iter()
            .filter(|(number, file)| file.handles > 0 || self.names.shows(**number))
            .map(|(_, file)| file.inode.reserved_bytes())
            .sum()
    }

    pub(super) fn free_bytes(&self) -> u64 {
        match self.capacity_bytes {
            None => u64::MAX / 4,
            Some(capacity) => capacity.saturating_sub(self.used_bytes()),
        }
    }

    pub(super) fn file(&mut self, number: FileNumber) -> &mut FileState {
        self.files.entry(number).or_default()
    }

    /// Forgets files that nothing can reach any more.
    pub(super) fn collect(&mut self) {
        let names = &self.names;
        self.files
            .retain(|number, file| file.handles > 0 || file.maps > 0 || names.keeps(*number));
    }

    pub(super) fn fails(&mut self, operation: Operation) -> bool {
        let kind = operation as usize;
        let due = match &mut self.faults.countdown[kind] {
            Some(0) => {
                self.faults.countdown[kind] = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        let fails = due || self.random.chance(self.faults.per_mille[kind]);
        self.counts.failures += u64::from(fails);
        fails
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        let (step, life) = (self.step, self.life);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{life}:{step} {}", text()));
        }
    }

    /// Makes room up to `end`, as far as there is any; true when that is all of it.
    pub(super) fn reserve(&mut self, number: FileNumber, end: u64) -> bool {
        let missing = self.file(number).inode.missing_bytes(end);
        if missing == 0 {
            return true;
        }
        let fits = missing <= self.free_bytes();
        if fits {
            self.file(number).inode.reserve(end);
        }
        fits
    }
}
