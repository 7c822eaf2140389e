//! What the store needs of a disk. `real` does it through the shard's ring; `sim` is a disk that
//! cuts power, loses, tears and reorders what was not synced, fills up and fails.
//!
//! Paths are relative to nothing: the caller passes whole paths. Every operation may be cut off by
//! a crash; which of them survive is the contract of each method.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::SyncLevel;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only, without updating access times.
    Read,
    /// Reading and writing an existing file.
    ReadWrite,
    /// A new file, which must not exist.
    CreateNew,
    /// As `ReadWrite`, a segment of the log: its batches are written once and seldom looked at soon,
    /// so they may go to the device past the page cache.
    Log,
    /// As `CreateNew`, a segment of the log.
    CreateLog,
}

impl OpenMode {
    /// The file must not exist and is made.
    pub fn creates(self) -> bool {
        matches!(self, OpenMode::CreateNew | OpenMode::CreateLog)
    }

    /// The file is a segment of the log.
    pub fn is_log(self) -> bool {
        matches!(self, OpenMode::Log | OpenMode::CreateLog)
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The whole path.
    pub path: PathBuf,
    /// Its length in bytes; 0 for directories.
    pub bytes: u64,
    /// It is a directory (a link to one counts).
    pub is_dir: bool,
}

/// Bytes of a whole file for checked, read-only use: mapped on the real disk.
pub trait Mapping: AsRef<[u8]> + 'static {}
impl<T: AsRef<[u8]> + 'static> Mapping for T {}

/// A disk. Handles are cheap to clone; a file closes when its last handle goes.
#[allow(async_fn_in_trait, reason = "only used generically, on one thread")]
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: Clone + 'static;
    /// See [`Disk::map`].
    type Map: Mapping;

    /// Makes a directory; its parent exists. Durable after `sync_dir` of the parent.
    async fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory, in no order.
    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Opens a file. A created file is durable after `sync_dir` of its directory.
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File>;
    /// The file's length in bytes.
    async fn len(&self, file: &Self::File) -> io::Result<u64>;
    /// Reads up to `length` bytes at `offset`; fewer only at the end of the file.
    async fn read_at(&self, file: &Self::File, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Writes all of `bytes` at `offset`, then brings the file to `level`. Gives the buffer back
    /// for reuse. On an error nothing may be assumed about the range, and a failed sync must not
    /// be retried.
    async fn write_at(
        &self,
        file: &Self::File,
        offset: u64,
        bytes: Vec<u8>,
        level: SyncLevel,
    ) -> (io::Result<()>, Vec<u8>);
    /// Brings everything written to the file to `level`.
    async fn sync(&self, file: &Self::File, level: SyncLevel) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Reserves `bytes` of space from the start of the file, and where `zeroes` is set leaves the
    /// range as written blocks of zeros, so that overwriting it later changes no metadata.
    async fn allocate(&self, file: &Self::File, bytes: u64, zeroes: bool) -> io::Result<()>;
    /// Overwrites `bytes` of a file from `offset` on with zeros, which keep the blocks it has, and
    /// reserves those it lacks; durable after a `sync`. `false`, and nothing is done: on this
    /// filesystem there is nothing to be gained by it.
    async fn erase(&self, file: &Self::File, offset: u64, bytes: u64) -> io::Result<bool>;
    /// Gives back the space that the file holds from `from` on, a multiple of the block, where it
    /// holds nothing but zeros; it goes on to read as zeros. Does nothing where that is not possible.
    async fn release(&self, file: &Self::File, from: u64) -> io::Result<()>;
    /// Renames within a filesystem, atomically, over what is at `to`.
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    async fn remove(&self, path: &Path) -> io::Result<()>;
    /// The whole file, read-only. It must be immutable from now on.
    async fn map(&self, file: &Self::File) -> io::Result<Self::Map>;
    /// Bytes of space that an unprivileged process could still use where `path` is.
    async fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}
