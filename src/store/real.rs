//! The disk of the machine, through the shard's ring.
//!
//! Guarantees: what takes time while mail flows goes through the ring and never blocks the shard.
//! What is rare and quick (listing a directory, statistics of a filesystem, mapping) is a plain
//! system call.
//! Does not know: what the bytes mean.
//! On failure: the system's error, as it is.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use super::mapped::Mapped;

use super::disk::{DirEntry, Disk, OpenMode};
use crate::config::SyncLevel;
use crate::limits::BLOCK_BYTES;
use crate::ring::Ring;

/// Bytes of zeros written at once while a segment is prepared: enough to be quick, and little
/// enough that a commit beside it does not wait long.
const ZEROES_BYTES: usize = 256 * 1024;

/// `statfs` types of filesystems that write elsewhere than where they are told: preallocation buys
/// nothing there (btrfs, bcachefs, ZFS, NILFS2).
const COPY_ON_WRITE: [i64; 4] = [0x9123_683E, 0xCA45_1A4E, 0x2FC1_2FC1, 0x3434];

/// The disk; clones share the ring.
#[derive(Clone)]
pub struct RealDisk {
    ring: Ring,
    direct: bool,
}

impl RealDisk {
    /// A disk that works through this ring. With `direct`, whole blocks of segments go to the
    /// device past the page cache, where the filesystem can do that.
    pub fn new(ring: Ring, direct: bool) -> RealDisk {
        RealDisk { ring, direct }
    }

    /// The descriptor for direct writes, made at the first of them.
    async fn direct_of<'a>(&self, file: &'a RealFile) -> Option<&'a OwnedFd> {
        if file.direct.get().is_none() {
            // By its descriptor: whatever its name is now, it is this file.
            let path = format!("/proc/self/fd/{}", file.fd.as_raw_fd());
            let flags = libc::O_WRONLY | libc::O_DIRECT;
            // A filesystem that cannot says so here (`EINVAL`).
            let opened = self.ring.open(Path::new(&path), flags, 0).await.ok();
            let _ = file.direct.set(opened);
        }
        file.direct.get()?.as_ref()
    }
}

/// An open file.
pub type RealFile = Rc<Opened>;

/// The descriptors of an open file.
pub struct Opened {
    fd: OwnedFd,
    /// For direct writes; `None` within: they are not to be had.
    direct: OnceCell<Option<OwnedFd>>,
}

impl RealDisk {
    /// Overwrites `from..end` with zeros, piece by piece, each on the device before the next: a
    /// commit beside it does not wait for more than one.
    async fn write_zeros(&self, file: &RealFile, from: u64, end: u64) -> io::Result<()> {
        let mut buffer = vec![0; ZEROES_BYTES];
        let mut offset = from;
        while offset < end {
            buffer.truncate((end - offset).min(ZEROES_BYTES as u64) as usize);
            let level = SyncLevel::Fdatasync;
            let result;
            (result, buffer) = self.write_at(file, offset, buffer, level).await;
            result?;
            offset += buffer.len() as u64;
        }
        Ok(())
    }
}

impl Disk for RealDisk {
    type File = RealFile;
    type Map = Mapped;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.ring.mkdir(path, 0o700).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let path = entry?.path();
            // Links count as what they point to; a dangling one is passed over.
            let Ok(metadata) = std::fs::metadata(&path) else {
                continue;
            };
            entries.push(DirEntry {
                path,
                bytes: if metadata.is_dir() { 0 } else { metadata.len() },
                is_dir: metadata.is_dir(),
            });
        }
        Ok(entries)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<RealFile> {
        let flags = match mode {
            OpenMode::Read => libc::O_RDONLY | libc::O_NOATIME,
            OpenMode::ReadWrite | OpenMode::Log => libc::O_RDWR | libc::O_NOATIME,
            OpenMode::CreateNew | OpenMode::CreateLog => {
                libc::O_RDWR | libc::O_CREAT | libc::O_EXCL
            }
        };
        let fd = self.ring.open(path, flags, 0o600).await?;
        let direct = if self.direct && mode.is_log() {
            OnceCell::new()
        } else {
            OnceCell::from(None)
        };
        Ok(Rc::new(Opened { fd, direct }))
    }

    async fn len(&self, file: &RealFile) -> io::Result<u64> {
        rustix::fs::fstat(&file.fd)
            .map(|stat| stat.st_size as u64)
            .map_err(io::Error::from)
    }

    async fn read_at(&self, file: &RealFile, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.ring.read(file.fd.as_raw_fd(), offset, length).await
    }

    async fn write_at(
        &self,
        file: &RealFile,
        offset: u64,
        bytes: Vec<u8>,
        level: SyncLevel,
    ) -> (io::Result<()>, Vec<u8>) {
        let block = BLOCK_BYTES as u64;
        let whole = offset.is_multiple_of(block) && (bytes.len() as u64).is_multiple_of(block);
        let mut bytes = bytes;
        if whole && let Some(direct) = self.direct_of(file).await {
            let result;
            (result, bytes) = self
                .ring
                .write_direct(direct.as_raw_fd(), offset, bytes, level)
                .await;
            match result {
                // Blocks of this size do not suit the device. Nothing was synced yet.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                other => return (other, bytes),
            }
        }
        self.ring
            .write(file.fd.as_raw_fd(), offset, bytes, level)
            .await
    }

    async fn sync(&self, file: &RealFile, level: SyncLevel) -> io::Result<()> {
        self.ring.sync(file.fd.as_raw_fd(), level).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let dir = self.ring.open(path, flags, 0).await?;
        self.ring.sync(dir.as_raw_fd(), SyncLevel::Fsync).await
    }

    async fn allocate(&self, file: &RealFile, bytes: u64, zeroes: bool) -> io::Result<()> {
        // On a filesystem that does not say what it is, reserving does no harm.
        let type_of = rustix::fs::fstatfs(&file.fd).map_or(0, |stat| stat.f_type);
        if COPY_ON_WRITE.contains(&type_of) {
            return Ok(());
        }
        match self.ring.allocate(file.fd.as_raw_fd(), 0, 0, bytes).await {
            // The filesystem cannot: then it grows as it is written.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
            other => other?,
        }
        if !zeroes {
            return Ok(());
        }
        self.write_zeros(file, 0, bytes).await
    }

    async fn erase(&self, file: &RealFile, offset: u64, bytes: u64) -> io::Result<bool> {
        let type_of = rustix::fs::fstatfs(&file.fd).map_or(0, |stat| stat.f_type);
        if COPY_ON_WRITE.contains(&type_of) {
            return Ok(false);
        }
        let fd = file.fd.as_raw_fd();
        match self.ring.allocate(fd, 0, offset, bytes).await {
            // What it lacks comes with the zeros.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => other?,
        }
        self.write_zeros(file, offset, offset + bytes).await?;
        Ok(true)
    }

    async fn release(&self, file: &RealFile, from: u64) -> io::Result<()> {
        let length = self.len(file).await?.saturating_sub(from);
        if length == 0 {
            return Ok(());
        }
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let fd = file.fd.as_raw_fd();
        match self.ring.allocate(fd, mode, from, length).await {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            other => other,
        }
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ring.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.ring.unlink(path).await
    }

    async fn map(&self, file: &RealFile) -> io::Result<Mapped> {
        // Only sealed index files are mapped. The store never writes to or truncates one after it
        // is complete, only unlinks it, which leaves a mapping as it is; and no other process may
        // have the store open (`Layout` holds its lock).
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.fd.as_raw_fd()));
        let file = File::from(file.fd.try_clone()?);
        Mapped::new(&file, &path.unwrap_or_default())
    }

    async fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path).map_err(io::Error::from)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::tests::run_files;

    const BLOCK: usize = BLOCK_BYTES;

    /// Straight to the device where it suits, through the page cache where it does not: readers see
    /// no difference, at any place, in any order.
    #[test]
    fn what_is_written_either_way_is_read() {
        for direct in [true, false] {
            run_files(move |ring| async move {
                let dir = tempfile::tempdir().expect("a folder");
                let disk = RealDisk::new(ring, direct);
                for mode in [OpenMode::CreateLog, OpenMode::CreateNew] {
                    let path = dir.path().join(format!("{mode:?}"));
                    let file = disk.open(&path, mode).await.expect("made");
                    disk.allocate(&file, 8 * BLOCK as u64, true)
                        .await
                        .expect("space");
                    let mut expected = vec![0; 8 * BLOCK];
                    let pieces = [
                        (0, 2, 0),
                        (1, 3, 0),
                        (2, 1, -7),
                        (4, 2, 0),
                        (3, 2, -1),
                        (0, 8, 0),
                    ];
                    for (step, (at, blocks, more)) in pieces.into_iter().enumerate() {
                        let offset = at * BLOCK;
                        let length = (blocks * BLOCK).strict_add_signed(more);
                        // Into the page cache with what is there.
                        let before = disk.read_at(&file, 0, 8 * BLOCK).await.expect("read");
                        assert_eq!(before, expected, "{mode:?} before step {step}");
                        let bytes = vec![b'a' + step as u8; length];
                        let level = [SyncLevel::None, SyncLevel::Fdatasync][step % 2];
                        let (result, bytes) =
                            disk.write_at(&file, offset as u64, bytes, level).await;
                        result.expect("written");
                        expected[offset..offset + length].copy_from_slice(&bytes);
                    }
                    let other = disk.open(&path, OpenMode::Log).await.expect("opened");
                    disk.release(&other, 6 * BLOCK as u64)
                        .await
                        .expect("released");
                    expected[6 * BLOCK..].fill(0);
                    let after = disk.read_at(&file, 0, 9 * BLOCK).await.expect("read");
                    assert_eq!(after, expected, "{mode:?} after all");
                    // On a filesystem where that is of use.
                    let (from, bytes) = (2 * BLOCK as u64, 7 * BLOCK as u64);
                    if disk.erase(&other, from, bytes).await.expect("erased") {
                        expected.truncate(2 * BLOCK);
                        expected.resize(9 * BLOCK, 0);
                        let erased = disk.read_at(&file, 0, 10 * BLOCK).await.expect("read");
                        assert!(erased == expected, "{mode:?} erased");
                    }
                    let is_direct = matches!(file.direct.get(), Some(Some(_)));
                    assert!(direct && mode.is_log() || !is_direct, "{mode:?}");
                }
            });
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_for_direct_writes_is_written_all_the_same() {
        run_files(|ring| async move {
            let dir = tempfile::tempdir().expect("a folder");
            let disk = RealDisk::new(ring, true);
            let path = dir.path().join("log");
            let file = disk.open(&path, OpenMode::CreateLog).await.expect("made");
            // As on a filesystem without direct writes.
            assert!(file.direct.set(None).is_ok());
            let (result, _) = disk
                .write_at(&file, 0, vec![b'x'; BLOCK], SyncLevel::Fdatasync)
                .await;
            result.expect("written");
            assert_eq!(std::fs::read(&path).expect("read"), vec![b'x'; BLOCK]);
        });
    }
}
