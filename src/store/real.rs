//! The real disk: files through the shard's ring.
//!
//! Everything that a client may wait for goes through the ring. What happens at start, or once in
//! many thousand messages (listing a directory, asking for free space, mapping an index), is a
//! plain call.
//!
//! Guarantees: the contract of [`Disk`]; reading never updates access times ([N31], `O_NOATIME`,
//! which the kernel grants to the owner of a file and to root).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use memmap2::Mmap;

use super::disk::{DirEntry, Disk, OpenMode};
use crate::config::SyncLevel;
use crate::ring::Ring;

/// Zeros written at a time when a segment is prepared: small enough not to hold up a foreground
/// write behind it for long.
const ZERO_BYTES: usize = 256 * 1024;
/// Files and folders are the server's own.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// `f_type` of filesystems that never overwrite a block in place, so that preparing blocks would
/// cost space and gain nothing: btrfs, ZFS, bcachefs (statfs(2)).
const COPY_ON_WRITE: [u32; 3] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];

/// Files through a ring. Clones use the same ring.
#[derive(Clone)]
pub struct RealDisk {
    ring: Ring,
}

impl RealDisk {
    /// A disk for the shard that owns this ring.
    pub fn new(ring: Ring) -> RealDisk {
        RealDisk { ring }
    }
}

/// This filesystem writes every change to a new place.
fn copies_on_write(file: &OwnedFd) -> bool {
    let found = rustix::fs::fstatfs(file.as_fd());
    found.is_ok_and(|stat| COPY_ON_WRITE.contains(&(stat.f_type as u32)))
}

impl Disk for RealDisk {
    type File = Rc<OwnedFd>;
    type Map = Mmap;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.ring.mkdir(path, DIR_MODE).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            // Through links: a partition may be a link to another volume [C7].
            let path = entry?.path();
            let found = fs::metadata(&path)?;
            entries.push(DirEntry {
                bytes: if found.is_dir() { 0 } else { found.len() },
                is_dir: found.is_dir(),
                path,
            });
        }
        Ok(entries)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File> {
        let flags = match mode {
            OpenMode::Read => libc::O_RDONLY | libc::O_NOATIME,
            OpenMode::ReadWrite => libc::O_RDWR | libc::O_NOATIME,
            OpenMode::CreateNew => libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOATIME,
        };
        let file = self.ring.open(path, flags | libc::O_CLOEXEC, FILE_MODE);
        Ok(Rc::new(file.await?))
    }

    async fn len(&self, file: &Self::File) -> io::Result<u64> {
        let found = rustix::fs::fstat(file.as_fd())?;
        Ok(u64::try_from(found.st_size).unwrap_or(0))
    }

    async fn read_at(&self, file: &Self::File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.ring.read(file.as_raw_fd(), offset, length).await
    }

    async fn write_at(
        &self,
        file: &Self::File,
        offset: u64,
        bytes: Vec<u8>,
        level: SyncLevel,
    ) -> (io::Result<()>, Vec<u8>) {
        let file = Rc::clone(file);
        self.ring
            .write(file.as_raw_fd(), offset, bytes, level)
            .await
    }

    async fn sync(&self, file: &Self::File, level: SyncLevel) -> io::Result<()> {
        self.ring.sync(file.as_raw_fd(), level).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let dir = self.ring.open(path, flags, 0).await?;
        self.ring.sync(dir.as_raw_fd(), SyncLevel::Fsync).await
    }

    async fn allocate(&self, file: &Self::File, bytes: u64, zeroes: bool) -> io::Result<()> {
        if copies_on_write(file) {
            return Ok(());
        }
        match self.ring.allocate(file.as_raw_fd(), 0, 0, bytes).await {
            Ok(()) => {}
            // A filesystem that cannot preallocate: the log grows by writing.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
            Err(error) => return Err(error),
        }
        if !zeroes {
            return Ok(());
        }
        let mut buffer = vec![0; ZERO_BYTES];
        let mut offset = 0;
        while offset < bytes {
            let piece = usize::try_from(bytes - offset).map_or(ZERO_BYTES, |n| n.min(ZERO_BYTES));
            buffer.truncate(piece);
            let (result, back) = self.write_at(file, offset, buffer, SyncLevel::None).await;
            result?;
            buffer = back;
            offset += piece as u64;
        }
        // Only now are the blocks written ones, which overwriting does not change any more.
        self.sync(file, SyncLevel::Fsync).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ring.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.ring.unlink(path).await
    }

    async fn map(&self, file: &Self::File) -> io::Result<Self::Map> {
        // SAFETY: only index files are mapped. They are written whole before they are mapped, are
        // named by their generation, and are never truncated or overwritten; the data folder is
        // locked against other servers. A medium that fails under the mapping raises SIGBUS, which
        // ends the process before it can go on with wrong bytes.
        unsafe { Mmap::map(&**file) }
    }

    async fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}
