//! A disk in memory that loses power, fills up and fails, all decided by one seed.
//!
//! Guarantees: what was synced (files by [`Disk::sync`](super::disk::Disk::sync) or a synced write, names by
//! [`Disk::sync_dir`](super::disk::Disk::sync_dir) of every directory concerned) survives every crash; of everything else any
//! part may survive, down to single sectors and halves of them. The same seed and the same calls
//! give the same run, on every machine.
//! Does not know: what the bytes mean.
//! On a crash: operations in flight stop where they are and never complete; handles of before the
//! crash are dead, and [`SimDisk::crash`] gives the disk as the next process finds it.
//!
//! Operations take a few turns of the executor each, drawn at random, so concurrent ones complete
//! in any order. Every operation has at least two *steps*: one before its effect, one after it and
//! before its caller hears of it. [`SimDisk::crash_at`] stops the world at a step.
//!
//! It is compiled into the library because whole-program tests need it; the server never names it.

mod executor;
mod file;
mod names;
mod operations;
mod random;
#[cfg(test)]
mod tests;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use executor::{Executor, JoinHandle, Outcome, block_on, yield_now};
pub use file::SECTOR_BYTES;
pub use random::Random;

use names::{FileNumber, Names};
use world::{Faults, World};

/// What kind of operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Opening or making a file.
    Open,
    /// Reading a file: `read_at`, `len`, `map`.
    Read,
    /// Writing and allocating: part of it may have been done.
    Write,
    /// Bringing a file to a level: what was dirty is lost, though the cache still shows it.
    Sync,
    /// Anything on a directory: list, make, rename, remove, sync.
    Directory,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: what was written stays in the page cache, and can still be lost later.
    Process,
    /// Power loss: the platter is what is left.
    Power,
}

/// A drive that says a sync is done when it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Files are never synced.
    NoSync,
    /// A file's sync takes effect when the next sync of any file begins.
    LateSync,
    /// Directories are never synced.
    NoDirectorySync,
}

/// How often each kind of operation happened, whole or failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes, those with a sync included.
    pub writes: u64,
    /// `fdatasync`s, those behind writes included.
    pub fdatasyncs: u64,
    /// `fsync`s, those behind writes included.
    pub fsyncs: u64,
    /// Operations that failed on purpose.
    pub failures: u64,
}

/// The simulated disk; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    world: Rc<RefCell<World>>,
    life: u64,
}

/// An open file of a [`SimDisk`].
#[derive(Debug, Clone)]
pub struct SimFile(Rc<Handle>);

#[derive(Debug)]
struct Handle {
    world: Rc<RefCell<World>>,
    life: u64,
    number: FileNumber,
    path: PathBuf,
    writable: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Fails only when a panic unwinds through the disk itself.
        if let Ok(mut world) = self.world.try_borrow_mut()
            && world.life == self.life
        {
            world.file(self.number).handles -= 1;
        }
    }
}

/// A mapped file of a [`SimDisk`]; writing to the file while it lives is a bug and panics.
#[derive(Debug)]
pub struct SimMap {
    bytes: Vec<u8>,
    file: SimFile,
}

impl AsRef<[u8]> for SimMap {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for SimMap {
    fn drop(&mut self) {
        if let Ok(mut world) = self.file.0.world.try_borrow_mut()
            && world.life == self.file.0.life
        {
            world.file(self.file.0.number).maps -= 1;
        }
    }
}

impl SimDisk {
    /// An empty disk without bounds that never fails.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            world: Rc::new(RefCell::new(World {
                random: Random::new(seed),
                names: Names::default(),
                files: BTreeMap::new(),
                last_file: 0,
                last_change: 0,
                life: 0,
                step: 0,
                crash_at: None,
                crashed: false,
                delay_max: 3,
                capacity_bytes: None,
                faults: Faults::default(),
                counts: Counts::default(),
                copy_on_write: false,
                lie: None,
                owed_sync: None,
                trace: None,
            })),
            life: 0,
        }
    }

    /// Most turns of the executor that one step of an operation takes.
    pub fn set_delay_max(&self, turns: u64) {
        self.world.borrow_mut().delay_max = turns;
    }

    /// Bytes of space on the disk; `None`: no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world.borrow_mut().capacity_bytes = bytes;
    }

    /// The filesystem writes every time to a new place: allocating does nothing.
    pub fn set_copy_on_write(&self) {
        self.world.borrow_mut().copy_on_write = true;
    }

    /// Bytes of space in use.
    pub fn used_bytes(&self) -> u64 {
        self.world.borrow().used_bytes()
    }

    /// Operations of a kind fail with `EIO` so many times in 1000.
    pub fn fail(&self, operation: Operation, per_mille: u32) {
        self.world.borrow_mut().faults.per_mille[operation as usize] = per_mille;
    }

    /// The `nth` operation of a kind from now on fails with `EIO`; 0 is the next one.
    pub fn fail_at(&self, operation: Operation, nth: u64) {
        self.world.borrow_mut().faults.countdown[operation as usize] = Some(nth);
    }

    /// From now on the drive lies.
    pub fn lie(&self, lie: Lie) {
        self.world.borrow_mut().lie = Some(lie);
    }

    /// No operation fails any more, and the disk is large again.
    pub fn heal(&self) {
        let mut world = self.world.borrow_mut();
        world.faults = Faults::default();
        world.capacity_bytes = None;
    }

    /// Steps made so far, in all lives.
    pub fn steps(&self) -> u64 {
        self.world.borrow().step
    }

    /// Operations so far, in all lives.
    pub fn counts(&self) -> Counts {
        self.world.borrow().counts
    }

    /// The world stops at this step, counted from now; `None`: it does not.
    pub fn crash_at(&self, step: Option<u64>) {
        let mut world = self.world.borrow_mut();
        world.crash_at = step.map(|step| world.step + step.max(1));
    }

    /// The world has stopped: operations do not complete any more.
    pub fn crashed(&self) -> bool {
        let world = self.world.borrow();
        world.crashed || world.life != self.life
    }

    /// Ends this life of the disk and gives the next. Whatever used it must be dropped or never be
    /// polled again; what it still calls never completes.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> SimDisk {
        let mut world = self.world.borrow_mut();
        world.note(|| format!("crash {crash:?}"));
        world.life += 1;
        world.crashed = false;
        world.crash_at = None;
        world.owed_sync = None;
        let mut random = world.random.fork();
        let evicts = random.one_in(2);
        for file in world.files.values_mut() {
            file.handles = 0;
            file.maps = 0;
            match crash {
                Crash::Process if evicts => file.inode.evict(),
                Crash::Process => {}
                Crash::Power => file.inode.lose_power(&mut random),
            }
        }
        if crash == Crash::Power {
            world.names.lose_power(&mut random);
        }
        world.collect();
        SimDisk {
            world: self.world.clone(),
            life: world.life,
        }
    }

    /// All files with their lengths in bytes, in order of path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let world = self.world.borrow();
        let files = &world.files;
        let found = world.names.files();
        found
            .into_iter()
            .map(|(path, number)| {
                let bytes = files.get(&number).map_or(0, |file| file.inode.len());
                (path, bytes)
            })
            .collect()
    }

    /// The bytes of a file, past every fault; `None` when there is none.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world.borrow();
        let number = world.names.find_file(path).ok()?;
        world.files.get(&number).map(|file| file.inode.whole())
    }

    /// Changes one bit of a file at rest; nothing happens beyond its end.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) {
        let mut world = self.world.borrow_mut();
        world.note(|| format!("flip bit {bit} of {} at {offset}", path.display()));
        if let Ok(number) = world.names.find_file(path) {
            world.file(number).inode.flip(offset, bit & 7);
        }
    }

    /// The sector of a file that holds this byte cannot be read any more, until it is written.
    pub fn spoil_sector(&self, path: &Path, offset: u64) {
        let mut world = self.world.borrow_mut();
        world.note(|| format!("bad sector of {} at {offset}", path.display()));
        if let Ok(number) = world.names.find_file(path) {
            world.file(number).inode.spoil(offset);
        }
    }

    /// From now on every operation is written down.
    pub fn start_trace(&self) {
        self.world.borrow_mut().trace.get_or_insert_default();
    }

    /// Adds a line to the trace, if there is one.
    pub fn note(&self, text: impl FnOnce() -> String) {
        if self.world.borrow().trace.is_some() {
            // Made before the disk is touched, as it may ask the disk.
            let text = text();
            self.world.borrow_mut().note(|| text);
        }
    }

    /// What was written down, `life:step` first; empty when nothing was.
    pub fn trace(&self) -> Vec<String> {
        self.world.borrow().trace.clone().unwrap_or_default()
    }
}
