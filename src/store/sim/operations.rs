//! The operations of a simulated disk, each with its steps, its failures and its lies.
//!
//! Guarantees: an effect lies between two steps; a crash comes at a step, so an operation in flight
//! has happened, has not, or in part.

use std::future::pending;
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::executor::yield_now;
use super::file::SECTOR_BYTES;
use super::names::{FileNumber, Names, Node};
use super::{Handle, Lie, Operation, SimDisk, SimFile, SimMap};
use crate::config::SyncLevel;
use crate::store::disk::{DirEntry, Disk, OpenMode};

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

impl SimDisk {
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
            return Err(io_error());
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
            if mode.creates() {
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
            let inode = &world.file(file.0.number).inode;
            if !inode.is_readable(offset, length) {
                return Err(io_error());
            }
            inode.read(offset, length)
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
            if world.copy_on_write {
                return Ok(());
            }
            if !world.reserve(file.0.number, bytes) {
                world.note(|| "ENOSPC".to_owned());
                return Err(no_space());
            }
            // Without zeroes only what is new reads as zeros, as `fallocate` does it.
            let change = world.next_change();
            let inode = &mut world.file(file.0.number).inode;
            let from = if zeroes { 0 } else { inode.len().min(bytes) };
            inode.write_zeros(change, from, bytes - from);
        }
        self.step().await;
        Ok(())
    }

    async fn erase(&self, file: &SimFile, offset: u64, bytes: u64) -> io::Result<bool> {
        self.begin(Operation::Write, || {
            let path = file.0.path.display();
            format!("erase {path} at {offset} {bytes} bytes")
        })
        .await?;
        {
            let mut world = self.world.borrow_mut();
            if world.copy_on_write {
                return Ok(false);
            }
            if !world.reserve(file.0.number, offset + bytes) {
                world.note(|| "ENOSPC".to_owned());
                return Err(no_space());
            }
            let change = world.next_change();
            let inode = &mut world.file(file.0.number).inode;
            inode.write_zeros(change, offset, bytes);
        }
        self.step().await;
        Ok(true)
    }

    async fn release(&self, file: &SimFile, from: u64) -> io::Result<()> {
        self.begin(Operation::Write, || {
            format!("release {} from {from}", file.0.path.display())
        })
        .await?;
        {
            let mut world = self.world.borrow_mut();
            world.file(file.0.number).inode.release(from);
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
        if !state.inode.is_readable(0, usize::MAX) {
            return Err(io_error());
        }
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
