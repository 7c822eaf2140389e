//! A segment: one file of the log, a header block and batches behind it.
//!
//! ```text
//! block 0:
//!  0     4      8       12         14    16        32          40     48        56
//! +-----+------+-------+----------+-----+---------+-----------+------+---------+------------+
//! | crc | magic|format |partition |zero |store id |generation |epoch |previous |previous end|
//! +-----+------+-------+----------+-----+---------+-----------+------+---------+------------+
//!  64               72
//! +----------------+---------------+---------------------------------------------------------+
//! |durable segment |durable offset |next seq u64, zeros to 4096                              |
//! +----------------+---------------+---------------------------------------------------------+
//! block 1 ...: batches, each on a block
//! ```
//!
//! Little endian; `crc` is the CRC32C of bytes 4 to 4096. Generations count up and are never used
//! twice. "Previous" is the generation before (0: none) and where its log ends: bytes behind that
//! are not part of the log. "Next seq" is the number that no record had when the header was written
//! (0 in stores of before): a start skips numbers, and this tells of them when the records that had
//! them are lost. The header is written together with the first batch, so a file
//! without one is either prepared for later or was never acknowledged.
//!
//! Files are named by generation, `%020d.seg`. A file that is used again under another name was
//! overwritten with zeros between (`spare`). Should an old header or batch be left in it all the
//! same, it does not fit the name, and counts as none: the generation is part of every checksum.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::record::Realm;
use super::{Identity, Sequence};
use crate::limits::BLOCK_BYTES;

const MAGIC: u32 = u32::from_le_bytes(*b"RPsg");
/// Version of the segment format: 2 has records of mailboxes and flags.
pub const FORMAT: u32 = 2;

/// A place in the log. Ordered as the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Generation of the segment.
    pub segment: u64,
    /// Bytes from the start of its file.
    pub offset: u64,
}

/// What a header says, besides identity and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its generation.
    pub generation: u64,
    /// The epoch its batches are written in.
    pub epoch: u64,
    /// The end of the log before it; segment 0: there is none.
    pub previous: Position,
    /// Everything before this was durable when the header was written.
    pub durable: Position,
    /// Numbers from this one on had not been given when the header was written.
    pub seq_next: Sequence,
}

/// What is found where a header should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A header of this partition and generation.
    Header(Header),
    /// None, or that of an earlier use of the file.
    None,
    /// A newer format.
    Newer(u32),
    /// A sound header of another partition or store.
    Foreign(Identity),
}

/// The header block.
pub fn encode_header(header: &Header, identity: Identity) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[4..8].copy_from_slice(&MAGIC.to_le_bytes());
    block[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    block[12..14].copy_from_slice(&identity.partition.to_le_bytes());
    block[16..32].copy_from_slice(&identity.store_id.to_le_bytes());
    let numbers = [
        header.generation,
        header.epoch,
        header.previous.segment,
        header.previous.offset,
        header.durable.segment,
        header.durable.offset,
        header.seq_next,
    ];
    for (index, number) in numbers.iter().enumerate() {
        block[32 + index * 8..40 + index * 8].copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32c::crc32c(&block[4..]);
    block[..4].copy_from_slice(&crc.to_le_bytes());
    block
}

/// Looks for the header of `generation` in the first block of a file.
pub fn decode_header(block: &[u8], identity: Identity, generation: u64) -> Found {
    let Some(block) = block.get(..BLOCK_BYTES) else {
        return Found::None;
    };
    let u32_at =
        |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if u32_at(4) != MAGIC || u32_at(0) != crc32c::crc32c(&block[4..]) {
        return Found::None;
    }
    if u32_at(8) > FORMAT {
        return Found::Newer(u32_at(8));
    }
    let found = Identity {
        store_id: u128::from(u64_at(16)) | u128::from(u64_at(24)) << 64,
        partition: u16::from_le_bytes([block[12], block[13]]),
    };
    if found != identity {
        return Found::Foreign(found);
    }
    let at = |index: usize| u64_at(32 + index * 8);
    if at(0) != generation {
        return Found::None;
    }
    Found::Header(Header {
        generation,
        epoch: at(1),
        previous: Position {
            segment: at(2),
            offset: at(3),
        },
        durable: Position {
            segment: at(4),
            offset: at(5),
        },
        seq_next: at(6),
    })
}

/// The file of a generation.
pub fn file_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{generation:020}.seg"))
}

/// The index file of a generation.
pub fn index_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{generation:020}.idx"))
}

/// The generation in a file's name, and whether it is a segment (else an index).
pub fn parse_path(path: &Path) -> Option<(u64, bool)> {
    let is_segment = match path.extension()?.to_str()? {
        "seg" => true,
        "idx" => false,
        _ => return None,
    };
    let stem = path.file_stem()?.to_str()?;
    let is_number = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
    Some((is_number.then(|| stem.parse().ok())??, is_segment))
}

/// A segment of a running partition.
#[derive(Debug)]
pub struct Segment<F> {
    /// Its generation.
    pub generation: u64,
    /// The epoch its batches were written in.
    pub epoch: u64,
    /// The file is this long, as far as it is reserved.
    pub bytes: u64,
    /// The open file; readers hold a clone.
    pub file: Option<Rc<F>>,
    /// Where its log ends.
    pub end: u64,
}

/// What the checksums of a segment's batches of this epoch begin with.
pub fn realm(identity: Identity, generation: u64, epoch: u64) -> Realm {
    Realm::new(identity, generation, epoch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: Identity = Identity {
        store_id: u128::MAX - 5,
        partition: 0x8001,
    };

    fn header() -> Header {
        Header {
            generation: 42,
            epoch: 7,
            previous: Position {
                segment: 41,
                offset: 4096 * 9,
            },
            durable: Position {
                segment: 41,
                offset: 4096 * 8,
            },
            seq_next: 1 << 40,
        }
    }

    #[test]
    fn a_header_comes_back_in_its_own_file_only() {
        let block = encode_header(&header(), IDENTITY);
        let found = decode_header(&block, IDENTITY, 42);
        assert_eq!(found, Found::Header(header()));
        assert_eq!(decode_header(&block, IDENTITY, 43), Found::None);
        let other = Identity {
            partition: 1,
            ..IDENTITY
        };
        assert_eq!(decode_header(&block, other, 42), Found::Foreign(IDENTITY));
        assert_eq!(decode_header(&block[..100], IDENTITY, 42), Found::None);
        let mut newer = block;
        newer[8] = 3;
        let crc = crc32c::crc32c(&newer[4..]);
        newer[..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_header(&newer, IDENTITY, 42), Found::Newer(3));
    }

    #[test]
    fn names_are_read_back() {
        let path = file_path(Path::new("/d"), 42);
        assert_eq!(path, Path::new("/d/00000000000000000042.seg"));
        assert_eq!(parse_path(&path), Some((42, true)));
        assert_eq!(
            parse_path(&index_path(Path::new("/d"), 9)),
            Some((9, false))
        );
        for other in ["42.seg", "MANIFEST", "+0000000000000000042.seg", "x.seg"] {
            assert_eq!(parse_path(Path::new(other)), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in 0..BLOCK_BYTES * 8) {
            let mut block = encode_header(&header(), IDENTITY);
            block[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode_header(&block, IDENTITY, 42), Found::None);
        }
    }
}
