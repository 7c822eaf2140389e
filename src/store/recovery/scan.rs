//! Reads one segment's log: batch after batch, and what lies between them.

use std::io;
use std::ops::Range;

use crate::limits::BLOCK_BYTES;
use crate::store::Identity;
use crate::store::batch::{self, Head};
use crate::store::disk::Disk;
use crate::store::record::{self, Realm, RecordError};
use crate::store::segment::Position;

/// Bytes read at once.
const READ_BYTES: usize = 1024 * 1024;
/// How often a block that cannot be read is tried.
const READ_ATTEMPTS: usize = 4;
/// So many blocks in a row are no bad spot any more, but a disk that is gone.
const SPOT_BLOCKS: usize = 16;

/// A stretch of a segment.
#[derive(Debug)]
pub enum Stretch<'a> {
    /// A batch whose header is sound and whose records all are, too; bytes of bodies were not
    /// looked at.
    Batch {
        head: Head,
        realm: Realm,
        bytes: &'a [u8],
    },
    /// A batch of which only the header is sound.
    Broken {
        head: Head,
        realm: Realm,
        bytes: &'a [u8],
        error: RecordError,
    },
    /// Blocks without a batch.
    Gap { bytes: &'a [u8] },
}

impl Stretch<'_> {
    /// Its bytes in the file.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Stretch::Batch { bytes, .. }
            | Stretch::Broken { bytes, .. }
            | Stretch::Gap { bytes } => bytes,
        }
    }
}

/// A file as far as it can be read.
#[derive(Debug, Default)]
pub struct Read {
    /// Its bytes; zeros where it cannot be read.
    pub bytes: Vec<u8>,
    /// What cannot be read, ascending, by offset.
    pub unreadable: Vec<Range<usize>>,
}

impl Read {
    /// Bytes that cannot be read.
    pub fn unreadable_bytes(&self) -> usize {
        self.unreadable.iter().map(Range::len).sum()
    }
}

/// So many of `bytes`, which lie at `at` of a file, may have been written: up to the last that is
/// not zero, or cannot be read.
pub fn used_bytes(bytes: &[u8], at: usize, unreadable: &[Range<usize>]) -> usize {
    let written = bytes.iter().rposition(|byte| *byte != 0);
    let written = written.map_or(0, |last| last + 1);
    let here = at..at + bytes.len();
    let bad = unreadable
        .iter()
        .filter(|bad| bad.start < here.end && here.start < bad.end)
        .map(|bad| bad.end.min(here.end) - at)
        .max();
    written.max(bad.unwrap_or(0))
}

/// The bytes of a file up to `end`. What cannot be read comes back as zeros, and is named.
///
/// # Errors
/// When not one block of a piece of many can be read: that is no bad spot, but a disk that is gone.
pub async fn read_file<D: Disk>(disk: &D, file: &D::File, end: u64) -> io::Result<Read> {
    let mut read = Read::default();
    let end = end.min(disk.len(file).await?);
    while (read.bytes.len() as u64) < end {
        let offset = read.bytes.len() as u64;
        // No piece is so short that a bad spot could be all of it, unless the file is.
        let length = match end - offset {
            left if left < 2 * READ_BYTES as u64 => left as usize,
            _ => READ_BYTES,
        };
        match disk.read_at(file, offset, length).await {
            Ok(piece) if piece.is_empty() => break,
            Ok(piece) => read.bytes.extend_from_slice(&piece),
            Err(_) => read_blocks(disk, file, length, &mut read).await?,
        }
    }
    Ok(read)
}

/// Reads block by block what could not be read in one piece.
async fn read_blocks<D: Disk>(
    disk: &D,
    file: &D::File,
    length: usize,
    out: &mut Read,
) -> io::Result<()> {
    let mut good = 0;
    let mut last_error = None;
    let offset = out.bytes.len();
    for at in (0..length).step_by(BLOCK_BYTES) {
        let block_bytes = BLOCK_BYTES.min(length - at);
        let position = offset + at;
        let mut block = None;
        for _ in 0..READ_ATTEMPTS {
            match disk.read_at(file, position as u64, block_bytes).await {
                Ok(bytes) => {
                    block = Some(bytes);
                    break;
                }
                Err(error) => last_error = Some(error),
            }
        }
        if let Some(mut bytes) = block {
            bytes.resize(block_bytes, 0);
            out.bytes.extend_from_slice(&bytes);
            good += 1;
        } else {
            out.bytes.resize(position + block_bytes, 0);
            out.unreadable.push(position..position + block_bytes);
        }
    }
    match last_error {
        Some(error) if good == 0 && length > SPOT_BLOCKS * BLOCK_BYTES => Err(error),
        _ => Ok(()),
    }
}

/// Walks the log of a segment from `from` to the end of `bytes`, the file's bytes from its start.
pub fn stretches(
    bytes: &[u8],
    from: usize,
    identity: Identity,
    generation: u64,
) -> impl Iterator<Item = (Position, Stretch<'_>)> {
    let mut at = from;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let start = at;
        let found = batch::decode_head(&bytes[at..], identity, generation);
        let stretch = match found {
            Some((head, realm)) => {
                at = (start + head.disk_bytes()).min(bytes.len());
                let bytes = &bytes[start..at];
                match batch::verify(bytes, head, realm, false) {
                    Ok(()) => Stretch::Batch { head, realm, bytes },
                    Err(error) => Stretch::Broken {
                        head,
                        realm,
                        bytes,
                        error,
                    },
                }
            }
            None => {
                at = (start + BLOCK_BYTES).min(bytes.len());
                while at < bytes.len()
                    && batch::decode_head(&bytes[at..], identity, generation).is_none()
                {
                    at = (at + BLOCK_BYTES).min(bytes.len());
                }
                Stretch::Gap {
                    bytes: &bytes[start..at],
                }
            }
        };
        let position = Position {
            segment: generation,
            offset: start as u64,
        };
        Some((position, stretch))
    })
}

/// The sound records in damaged bytes: each one's offset in them, and the record. Records begin on
/// multiples of 8 from the start of a batch, so all of those are tried.
pub fn salvage(bytes: &[u8], realm: Realm) -> impl Iterator<Item = (usize, record::Record<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            match record::decode(&bytes[start..], realm) {
                Ok(record) => {
                    at += record.disk_bytes;
                    return Some((start, record));
                }
                Err(_) => at += 8,
            }
        }
        None
    })
}
