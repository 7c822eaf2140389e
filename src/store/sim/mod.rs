//! A disk in memory that loses power, fills up and fails, all decided by one seed.
//!
//! Guarantees: what was synced (files by [`Disk::sync`] or a synced write, names by
//! [`Disk::sync_dir`] of every directory concerned) survives every crash; of everything else any
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
mod random;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use executor::{Executor, JoinHandle, Outcome, block_on, yield_now};
pub use file::SECTOR_BYTES;
pub use random::Random;

use super::disk::{DirEntry, Disk, OpenMode};
use crate::config::SyncLevel;
use file::Inode;
use names::{FileNumber, Names, Node};

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

/// Operations by kind, for [`Faults`].
const OPERATIONS: usize = 5;

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

/// Which operations fail.
#[derive(Debug, Default)]
struct Faults {
    per_mille: [u32; OPERATIONS],
    /// So many more of a kind until one fails.
    countdown: [Option<u64>; OPERATIONS],
}

#[derive(Debug, Default)]
struct FileState {
    inode: Inode,
    handles: u32,
    maps: u32,
}

#[derive(Debug)]
struct World {
    random: Random,
    names: Names,
    files: BTreeMap<FileNumber, FileState>,
    last_file: FileNumber,
    /// Orders writes and name changes against the syncs that cover them.
    last_change: u64,
    /// Handles of another life are dead.
    life: u64,
    step: u64,
    crash_at: Option<u64>,
    crashed: bool,
    delay_max: u64,
    capacity_bytes: Option<u64>,
    faults: Faults,
    counts: Counts,
    lie: Option<Lie>,
    /// What [`Lie::LateSync`] still owes: the file, and the last change its sync covers.
    owed_sync: Option<(FileNumber, u64)>,
    trace: Option<Vec<String>>,
}

impl World {
    fn next_change(&mut self) -> u64 {
        self.last_change += 1;
        self.last_change
    }

    fn used_bytes(&self) -> u64 {
        self.files
            .iter()
            .filter(|(number, file)| file.handles > 0 || self.names.shows(**number))
            .map(|(_, file)| file.inode.reserved_bytes())
            .sum()
    }

    fn free_bytes(&self) -> u64 {
        match self.capacity_bytes {
            None => u64::MAX / 4,
            Some(capacity) => capacity.saturating_sub(self.used_bytes()),
        }
    }

    fn file(&mut self, number: FileNumber) -> &mut FileState {
        self.files.entry(number).or_default()
    }

    /// Forgets files that nothing can reach any more.
    fn collect(&mut self) {
        let names = &self.names;
        self.files
            .retain(|number, file| file.handles > 0 || file.maps > 0 || names.keeps(*number));
    }

    fn fails(&mut self, operation: Operation) -> bool {
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

    fn note(&mut self, text: impl FnOnce() -> String) {
        let (step, life) = (self.step, self.life);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{life}:{step} {}", text()));
        }
    }

    /// Makes room up to `end`, as far as there is any; true when that is all of it.
    fn reserve(&mut self, number: FileNumber, end: u64) -> bool {
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

fn io_error(operation: Operation) -> io::Error {
    tracing::trace!(?operation, "simulated I/O error");
    io::Error::from_raw_os_error(libc::EIO)
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
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

    /// One step: a place where the world may stop, and where others have their turn.
    async fn step(&self) {
        let turns = {
            let mut world = self.world.borrow_mut();
            if world.life == self.life && !world.crashed {
                world.step += 1;
                if world.crash_at == Some(world.step) {
                    world.crashed = true;
                    world.note(|| "the world stops".to_owned());
                }
            }
            let delay_max = world.delay_max;
            world.random.below(delay_max + 1)
        };
        for _ in 0..turns {
            if self.crashed() {
                break;
            }
            yield_now().await;
        }
        if self.crashed() {
            pending::<()>().await;
        }
    }

    /// The step before an operation's effect; says whether it fails.
    async fn begin(&self, operation: Operation, text: impl FnOnce() -> String) -> io::Result<()> {
        self.step().await;
        let mut world = self.world.borrow_mut();
        let fails = world.fails(operation);
        world.note(|| format!("{}{}", text(), if fails { " EIO" } else { "" }));
        if fails {
            return Err(io_error(operation));
        }
        Ok(())
    }

    fn handle(&self, number: FileNumber, path: &Path, writable: bool) -> SimFile {
        self.world.borrow_mut().file(number).handles += 1;
        SimFile(Rc::new(Handle {
            world: self.world.clone(),
            life: self.life,
            number,
            path: path.to_owned(),
            writable,
        }))
    }

    /// Writes a part of what one operation writes; what does not fit is left out.
    fn write_part(&self, file: &SimFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        assert!(
            world.file(file.0.number).maps == 0,
            "{} is written to while it is mapped",
            file.0.path.display()
        );
        let change = world.next_change();
        let end = offset + bytes.len() as u64;
        if world.reserve(file.0.number, end) {
            let inode = &mut world.file(file.0.number).inode;
            inode.write(change, offset, bytes);
            return Ok(());
        }
        // As `write` does it: what still fits is written, the rest is not.
        let fits = bytes
            .len()
            .min(world.free_bytes() as usize / SECTOR_BYTES * SECTOR_BYTES);
        if world.reserve(file.0.number, offset + fits as u64) {
            let inode = &mut world.file(file.0.number).inode;
            inode.write(change, offset, &bytes[..fits]);
        }
        world.note(|| "ENOSPC".to_owned());
        Err(no_space())
    }

    async fn write_unsynced(&self, file: &SimFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let failed = self
            .begin(Operation::Write, || {
                format!(
                    "write {} at {offset} {} bytes",
                    file.0.path.display(),
                    bytes.len()
                )
            })
            .await;
        self.world.borrow_mut().counts.writes += 1;
        if !file.0.writable {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // The bytes arrive in two pieces, so that a crash can come between and readers see halves.
        let sectors = bytes.len() / SECTOR_BYTES;
        let cut = self.world.borrow_mut().random.index(sectors + 1) * SECTOR_BYTES;
        self.write_part(file, offset, &bytes[..cut])?;
        self.step().await;
        failed?;
        self.write_part(file, offset + cut as u64, &bytes[cut..])
    }

    async fn sync_file(&self, file: &SimFile, level: SyncLevel) -> io::Result<()> {
        if level == SyncLevel::None {
            return Ok(());
        }
        self.step().await;
        // Writes that come while it runs are not covered.
        let covered = self.world.borrow().last_change;
        let failed = self
            .begin(Operation::Sync, || {
                format!("{level:?} {}", file.0.path.display())
            })
            .await;
        let mut guard = self.world.borrow_mut();
        let world = &mut *guard;
        match level {
            SyncLevel::Fsync => world.counts.fsyncs += 1,
            SyncLevel::Fdatasync | SyncLevel::None => world.counts.fdatasyncs += 1,
        }
        if let Some((number, covered)) = world.owed_sync.take() {
            world.file(number).inode.sync(covered);
        }
        let inode = &mut world.files.entry(file.0.number).or_default().inode;
        match failed {
            Ok(()) if world.lie == Some(Lie::NoSync) => {}
            Ok(()) if world.lie == Some(Lie::LateSync) => {
                world.owed_sync = Some((file.0.number, covered));
            }
            Ok(()) => inode.sync(covered),
            Err(_) => inode.sync_failed(&mut world.random),
        }
        failed
    }

    async fn change_names(
        &self,
        text: impl FnOnce() -> String,
        change: impl FnOnce(&mut Names, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        self.begin(Operation::Directory, text).await?;
        {
            let mut world = self.world.borrow_mut();
            let number = world.next_change();
            change(&mut world.names, number)?;
        }
        self.step().await;
        Ok(())
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Map = SimMap;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change_names(
            || format!("create_dir {}", path.display()),
            |names, number| names.create_dir(number, path),
        )
        .await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.begin(Operation::Directory, || {
            format!("read_dir {}", path.display())
        })
        .await?;
        let mut guard = self.world.borrow_mut();
        let world = &mut *guard;
        let found = world.names.list(path, &mut world.random)?;
        Ok(found
            .into_iter()
            .map(|(path, node)| DirEntry {
                path,
                bytes: match node {
                    Node::Dir(_) => 0,
                    Node::File(number) => world.files.get(&number).map_or(0, |f| f.inode.len()),
                },
                is_dir: matches!(node, Node::Dir(_)),
            })
            .collect())
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        self.begin(Operation::Open, || {
            format!("open {} {mode:?}", path.display())
        })
        .await?;
        let number = {
            let mut world = self.world.borrow_mut();
            if mode == OpenMode::CreateNew {
                if world.free_bytes() == 0 {
                    return Err(no_space());
                }
                let (change, number) = (world.next_change(), world.last_file + 1);
                world.names.create_file(change, path, number)?;
                world.last_file = number;
                number
            } else {
                world.names.find_file(path)?
            }
        };
        let file = self.handle(number, path, mode != OpenMode::Read);
        self.step().await;
        Ok(file)
    }

    async fn len(&self, file: &SimFile) -> io::Result<u64> {
        self.begin(Operation::Read, || format!("len {}", file.0.path.display()))
            .await?;
        Ok(self.world.borrow_mut().file(file.0.number).inode.len())
    }

    async fn read_at(&self, file: &SimFile, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.begin(Operation::Read, || {
            format!("read {} at {offset} {length} bytes", file.0.path.display())
        })
        .await?;
        let bytes = {
            let mut world = self.world.borrow_mut();
            world.file(file.0.number).inode.read(offset, length)
        };
        self.step().await;
        Ok(bytes)
    }

    async fn write_at(
        &self,
        file: &SimFile,
        offset: u64,
        bytes: Vec<u8>,
        level: SyncLevel,
    ) -> (io::Result<()>, Vec<u8>) {
        let mut result = self.write_unsynced(file, offset, &bytes).await;
        if result.is_ok() {
            result = self.sync_file(file, level).await;
        }
        self.step().await;
        (result, bytes)
    }

    async fn sync(&self, file: &SimFile, level: SyncLevel) -> io::Result<()> {
        let result = self.sync_file(file, level).await;
        self.step().await;
        result
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step().await;
        let covered = self.world.borrow().last_change;
        self.begin(Operation::Directory, || {
            format!("sync_dir {}", path.display())
        })
        .await?;
        {
            let mut world = self.world.borrow_mut();
            let dir = world.names.find_dir(path)?;
            if world.lie != Some(Lie::NoDirectorySync) {
                world.names.sync_dir(dir, covered);
            }
            world.collect();
        }
        self.step().await;
        Ok(())
    }

    async fn allocate(&self, file: &SimFile, bytes: u64, zeroes: bool) -> io::Result<()> {
        self.begin(Operation::Write, || {
            format!(
                "allocate {} {bytes} bytes{}",
                file.0.path.display(),
                if zeroes { " of zeros" } else { "" }
            )
        })
        .await?;
        {
            let mut world = self.world.borrow_mut();
            if !world.reserve(file.0.number, bytes) {
                world.note(|| "ENOSPC".to_owned());
                return Err(no_space());
            }
            if zeroes {
                let change = world.next_change();
                let inode = &mut world.file(file.0.number).inode;
                inode.write_zeros(change, bytes);
            }
        }
        self.step().await;
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_names(
            || format!("rename {} to {}", from.display(), to.display()),
            |names, number| names.rename(number, from, to),
        )
        .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.change_names(
            || format!("remove {}", path.display()),
            |names, number| names.remove(number, path),
        )
        .await
    }

    async fn map(&self, file: &SimFile) -> io::Result<SimMap> {
        self.begin(Operation::Read, || format!("map {}", file.0.path.display()))
            .await?;
        let mut world = self.world.borrow_mut();
        let state = world.file(file.0.number);
        state.maps += 1;
        Ok(SimMap {
            bytes: state.inode.whole(),
            file: file.clone(),
        })
    }

    async fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.begin(Operation::Directory, || "free_bytes".to_owned())
            .await?;
        Ok(self.world.borrow().free_bytes())
    }
}
