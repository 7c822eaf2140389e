//! The files that messages go to: whole blocks, one batch in flight per file.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::path::Path;

use ringpost::config::SyncLevel;
use ringpost::limits::{BATCH_BYTES_MAX, BLOCK_BYTES};
use ringpost::ring::raw::{Uring, entry};

/// Messages that are written and synced together.
#[derive(Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    /// Connections that wait for it, and how many replies each is owed.
    pub waiting: Vec<(usize, u32)>,
}

/// One file.
#[derive(Debug)]
pub struct Log {
    file: File,
    file_bytes: u64,
    offset: u64,
    level: SyncLevel,
    /// What gathers while a batch is in flight; more than one only when the first is full.
    next: VecDeque<Batch>,
    flight: Option<Flight>,
    /// An empty batch, for its memory.
    spare: Batch,
}

#[derive(Debug)]
struct Flight {
    batch: Batch,
    offset: u64,
    written: usize,
}

/// Makes the files, filled with zeros and synced, so that overwriting them changes no metadata.
pub fn create(dir: &Path, files: u32, bytes: u64, level: SyncLevel) -> Result<Vec<Log>, String> {
    std::fs::create_dir_all(dir).map_err(|error| format!("--dir {}: {error}", dir.display()))?;
    (0..files)
        .map(|number| {
            let path = dir.join(format!("floor{number}.log"));
            let fill = || {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&path)?;
                let zeroes = vec![0; 1 << 20];
                for _ in 0..bytes >> 20 {
                    file.write_all(&zeroes)?;
                }
                file.sync_all()?;
                Ok(file)
            };
            let file = fill().map_err(|error: std::io::Error| {
                format!("{}: cannot fill it with zeros: {error}", path.display())
            })?;
            Ok(Log {
                file,
                file_bytes: bytes,
                offset: 0,
                level,
                next: VecDeque::new(),
                flight: None,
                spare: Batch::default(),
            })
        })
        .collect()
}

impl Log {
    /// The batch that takes the next message.
    pub fn open_batch(&mut self) -> &mut Batch {
        let full = |batch: &Batch| batch.bytes.len() >= BATCH_BYTES_MAX;
        if self.next.back().is_none_or(full) {
            self.next.push_back(std::mem::take(&mut self.spare));
        }
        self.next.back_mut().expect("just made sure")
    }

    /// Starts the next batch if none is in flight and a connection waits for it.
    pub fn start(&mut self, uring: &mut Uring, write_data: u64, sync_data: u64) -> bool {
        if self.flight.is_some()
            || self
                .next
                .front()
                .is_none_or(|batch| batch.waiting.is_empty())
        {
            return false;
        }
        let Some(mut batch) = self.next.pop_front() else {
            return false;
        };
        batch.bytes.resize(
            batch
                .bytes
                .len()
                .next_multiple_of(BLOCK_BYTES)
                .max(BLOCK_BYTES),
            0,
        );
        if self.offset + batch.bytes.len() as u64 > self.file_bytes {
            self.offset = 0;
        }
        self.flight = Some(Flight {
            offset: self.offset,
            batch,
            written: 0,
        });
        self.submit(uring, write_data, sync_data);
        true
    }

    fn submit(&mut self, uring: &mut Uring, write_data: u64, sync_data: u64) {
        let Some(flight) = &mut self.flight else {
            return;
        };
        let fd = self.file.as_raw_fd();
        let offset = flight.offset + flight.written as u64;
        let write = entry::write(fd, offset, &flight.batch.bytes[flight.written..]);
        let write = write.user_data(write_data);
        // SAFETY: the batch stays where it is, in `flight`, until its last event.
        unsafe {
            match entry::sync(fd, self.level) {
                Some(sync) => uring.push_linked(write, sync.user_data(sync_data)),
                None => uring.push(write),
            }
        }
    }

    /// Takes the result of a write (`wrote`) or sync. The batch, once it is durable.
    pub fn advance(
        &mut self,
        uring: &mut Uring,
        wrote: bool,
        result: i32,
        data: (u64, u64),
    ) -> Result<Option<Batch>, String> {
        let Some(flight) = &mut self.flight else {
            return Ok(None);
        };
        if result < 0 {
            let error = std::io::Error::from_raw_os_error(-result);
            return Err(format!("a write or sync failed: {error}"));
        }
        // One of the two tells: the sync behind a whole write, or a write that was short (or has
        // no sync).
        flight.written = if wrote {
            flight.written + result as usize
        } else {
            flight.batch.bytes.len()
        };
        if flight.written < flight.batch.bytes.len() {
            self.submit(uring, data.0, data.1);
            return Ok(None);
        }
        let flight = self.flight.take().expect("looked at above");
        self.offset = flight.offset + flight.batch.bytes.len() as u64;
        Ok(Some(flight.batch))
    }

    /// Takes the memory of a finished batch back.
    pub fn recycle(&mut self, mut batch: Batch) {
        batch.bytes.clear();
        batch.waiting.clear();
        self.spare = batch;
    }
}
