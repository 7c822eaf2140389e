//! Operations on files, as futures.
//!
//! Each hands its operation to the driver when first polled; the kernel sees it with the next
//! turn. Dropping a future does not stop the operation, whose buffers stay with the driver.

use std::ffi::CString;
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::blocks::Blocks;
use super::operation::{FileKind, FileWork, Write};
use super::{Inner, Ring};
use crate::config::SyncLevel;

/// The end of an operation.
struct Finish {
    inner: Rc<Inner>,
    key: usize,
    taken: bool,
}

impl Future for Finish {
    type Output = FileWork;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<FileWork> {
        let finished = self
            .inner
            .driver
            .borrow_mut()
            .poll(self.key, context.waker());
        match finished {
            Some(work) => {
                self.taken = true;
                Poll::Ready(work)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if !self.taken {
            self.inner.driver.borrow_mut().abandon(self.key);
        }
    }
}

/// The result of finished work, as the system call would have given it.
fn outcome(work: &FileWork) -> io::Result<i32> {
    match work.result {
        Some(result @ 0..) => Ok(result),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => unreachable!("only finished work leaves the driver"),
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{}: a path cannot hold a zero byte", path.display()),
        )
    })
}

impl Ring {
    fn start(&self, kind: FileKind) -> Finish {
        let key = self.queue(|driver| driver.start(FileWork::new(kind)));
        Finish {
            inner: Rc::clone(&self.inner),
            key,
            taken: false,
        }
    }

    /// Opens a file (`openat`), always close-on-exec. `O_NOATIME` [N31] is left out where it is
    /// refused, which is where the file belongs to someone else.
    ///
    /// # Errors
    /// Those of `openat(2)`.
    pub async fn open(&self, path: &Path, flags: i32, mode: u32) -> io::Result<OwnedFd> {
        let path = c_path(path)?;
        let open = |flags| FileKind::Open {
            path: path.clone(),
            flags,
            mode,
        };
        let mut work = self.start(open(flags)).await;
        if work.result == Some(-libc::EPERM) && flags & libc::O_NOATIME != 0 {
            work = self.start(open(flags & !libc::O_NOATIME)).await;
        }
        let fd = outcome(&work)?;
        // SAFETY: the kernel has just given us this descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Reads up to `length` bytes at `offset`; fewer only at the end of the file. Memory for all
    /// of `length` is taken first.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    pub async fn read(&self, file: RawFd, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let work = self
            .start(FileKind::Read {
                file,
                offset,
                length,
                bytes: Vec::new(),
            })
            .await;
        outcome(&work)?;
        match work.kind {
            FileKind::Read { bytes, .. } => Ok(bytes),
            _ => unreachable!("the operation started above"),
        }
    }

    /// Writes all of `bytes` at `offset` with a linked fdatasync or fsync, as `level` asks, and
    /// gives the buffer back. The sync starts only when everything is written.
    ///
    /// # Errors
    /// Those of `pwrite(2)` and `fsync(2)`. Nothing may be assumed about the range then, and a
    /// failed sync must not be retried.
    pub async fn write(
        &self,
        file: RawFd,
        offset: u64,
        bytes: Vec<u8>,
        level: SyncLevel,
    ) -> (io::Result<()>, Vec<u8>) {
        self.write_from(file, offset, bytes, None, level).await
    }

    /// As [`Ring::write`], for a descriptor opened with `O_DIRECT`: the bytes do not stay in the
    /// page cache. `offset` and the number of bytes must be whole blocks of
    /// [`BLOCK_BYTES`](crate::limits::BLOCK_BYTES).
    ///
    /// # Errors
    /// As [`Ring::write`]; `EINVAL` where the filesystem or the device wants larger blocks: then
    /// nothing was synced, and an ordinary write over the range makes up for it.
    pub async fn write_direct(
        &self,
        file: RawFd,
        offset: u64,
        bytes: Vec<u8>,
        level: SyncLevel,
    ) -> (io::Result<()>, Vec<u8>) {
        let aligned = self.inner.spare_blocks.borrow_mut().copy(&bytes);
        self.write_from(file, offset, bytes, Some(aligned), level)
            .await
    }

    async fn write_from(
        &self,
        file: RawFd,
        offset: u64,
        bytes: Vec<u8>,
        aligned: Option<Blocks>,
        level: SyncLevel,
    ) -> (io::Result<()>, Vec<u8>) {
        let work = self
            .start(FileKind::Write(Write {
                file,
                offset,
                bytes,
                aligned,
                written: 0,
                level,
                begun: Instant::now(),
            }))
            .await;
        let result = outcome(&work).map(drop);
        match work.kind {
            FileKind::Write(write) => {
                if let Some(blocks) = write.aligned {
                    self.inner.spare_blocks.borrow_mut().give(blocks);
                }
                (result, write.bytes)
            }
            _ => unreachable!("the operation started above"),
        }
    }

    /// `fdatasync` or `fsync`; nothing at level 0.
    ///
    /// # Errors
    /// Those of `fsync(2)`, after which it must not be retried.
    pub async fn sync(&self, file: RawFd, level: SyncLevel) -> io::Result<()> {
        if level == SyncLevel::None {
            return Ok(());
        }
        let begun = Instant::now();
        let work = self.start(FileKind::Sync { file, level, begun }).await;
        outcome(&work).map(drop)
    }

    /// `fallocate` with a mode.
    ///
    /// # Errors
    /// Those of `fallocate(2)`; `EOPNOTSUPP` where the filesystem cannot.
    pub async fn allocate(
        &self,
        file: RawFd,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        let work = self
            .start(FileKind::Allocate {
                file,
                mode,
                offset,
                length,
            })
            .await;
        outcome(&work).map(drop)
    }

    /// `renameat`: atomically, over what is at `to`.
    ///
    /// # Errors
    /// Those of `rename(2)`.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (c_path(from)?, c_path(to)?);
        let work = self.start(FileKind::Rename { from, to }).await;
        outcome(&work).map(drop)
    }

    /// `unlinkat`: removes a file, not a directory.
    ///
    /// # Errors
    /// Those of `unlink(2)`.
    pub async fn unlink(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let work = self.start(FileKind::Unlink { path }).await;
        outcome(&work).map(drop)
    }

    /// `mkdirat`.
    ///
    /// # Errors
    /// Those of `mkdir(2)`.
    pub async fn mkdir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let path = c_path(path)?;
        let work = self.start(FileKind::Mkdir { path, mode }).await;
        outcome(&work).map(drop)
    }
}
