//! The manifest: which segments and which index are the partition.
//!
//! ```text
//! slot (64 KiB; the first at offset 0, the second behind it):
//!  0     4      8       12    16      24        40         42     43..48 48     56
//! +-----+------+-------+-----+-------+---------+----------+------+------+------+------+
//! | crc | magic|format |len  |serial |store id |partition |closed|zero  |epoch |index |
//! +-----+------+-------+-----+-------+---------+----------+------+------+------+------+
//!  64     72           80..
//! +------+------------+----------------------------------------------------------+
//! |as of |runs u32,   | (first generation u64, how many u32) ...                 |
//! |      |ends u32    | (generation u64, end of its log u32) ...  zeros to 4096  |
//! +------+------------+----------------------------------------------------------+
//! ```
//!
//! Little endian; `crc` covers bytes 4 to `len`. Slots are written in turn, each whole and synced;
//! the sound one of the higher serial counts. "As of" is the newest generation the runs speak of:
//! segments above it are found by their files. At most [`RUNS_MAX`] runs fit; the oldest
//! ones are left out beyond that, and count as present when their files are.
//!
//! Where the log of a segment ends is said by the header of the one after it. For the last of a
//! run that one may be gone, so the end is told here: what lies behind it was cut off by an earlier
//! start, and would come back to life.
//!
//! "Closed" is 1 in the manifest that a clean stop writes last: the runs then speak of the active
//! segment, too, and everything up to its end was durable. Nothing else could tell a log whose end
//! was cut off from one that ends there. Every start makes a fresh segment, so the end stays true.
//!
//! Guarantees: after a crash one slot is sound. When none is, the files' headers tell the same,
//! but for segments that were about to be removed.

use std::collections::BTreeMap;

use super::Identity;
use super::segment::Position;
use crate::limits::BLOCK_BYTES;

const MAGIC: u32 = u32::from_le_bytes(*b"RPmf");
/// Version of the manifest's format.
pub const FORMAT: u32 = 1;
/// Bytes of one slot.
pub const SLOT_BYTES: usize = 64 * 1024;
/// Name of the file.
pub const FILE_NAME: &str = "MANIFEST";
const FIXED_BYTES: usize = 80;
const RUN_BYTES: usize = 12;
const END_BYTES: usize = 12;
/// Runs that fit into a slot, each with an end.
pub const RUNS_MAX: usize = (SLOT_BYTES - FIXED_BYTES) / (RUN_BYTES + END_BYTES);

/// What the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Counts the writes of the manifest.
    pub serial: u64,
    /// The epoch in use.
    pub epoch: u64,
    /// Generation of the index file; 0: none.
    pub index: u64,
    /// The newest generation that `live` speaks of.
    pub as_of: u64,
    /// The oldest generation that `live` speaks of: 0, unless there are too many runs. Not written.
    pub listed_from: u64,
    /// Segments in use, ascending.
    pub live: Vec<u64>,
    /// Written by a clean stop: the log ends at the end of segment `as_of`, all of it durable.
    pub closed: bool,
    /// Where the log of those ends, in bytes from the start of the file, as far as that is final.
    /// Written for the last of each run only.
    pub ends: BTreeMap<u64, u64>,
}

/// What is found in the manifest's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The newer of its sound slots.
    Manifest(Manifest),
    /// No sound slot.
    None,
    /// A newer format.
    Newer(u32),
    /// Another partition's.
    Foreign(Identity),
}

fn runs(live: &[u64]) -> Vec<(u64, u32)> {
    let mut runs: Vec<(u64, u32)> = Vec::new();
    for generation in live {
        match runs.last_mut() {
            Some((first, count)) if *first + u64::from(*count) == *generation => *count += 1,
            _ => runs.push((*generation, 1)),
        }
    }
    let extra = runs.len().saturating_sub(RUNS_MAX);
    runs.drain(..extra);
    runs
}

impl Manifest {
    /// Everything before this was durable when the log was closed; `None`: it was not.
    pub fn closed_at(&self) -> Option<Position> {
        let end = self.ends.get(&self.as_of).filter(|_| self.closed)?;
        Some(Position {
            segment: self.as_of,
            offset: *end,
        })
    }

    /// Offset of the slot this serial is written to.
    pub fn slot_offset(&self) -> u64 {
        self.serial % 2 * SLOT_BYTES as u64
    }

    /// The slot's bytes, whole blocks.
    pub fn encode(&self, identity: Identity) -> Vec<u8> {
        let runs = runs(&self.live);
        let ends: Vec<(u64, u32)> = runs
            .iter()
            .filter_map(|(first, count)| {
                let last = first + u64::from(*count) - 1;
                let end = u32::try_from(*self.ends.get(&last)?).ok()?;
                Some((last, end))
            })
            .collect();
        let len = FIXED_BYTES + runs.len() * RUN_BYTES + ends.len() * END_BYTES;
        let mut out = Vec::with_capacity(len.next_multiple_of(BLOCK_BYTES));
        out.extend_from_slice(&[0; 4]);
        for number in [MAGIC, FORMAT, len as u32] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.serial.to_le_bytes());
        out.extend_from_slice(&identity.store_id.to_le_bytes());
        out.extend_from_slice(&identity.partition.to_le_bytes());
        out.extend_from_slice(&[u8::from(self.closed), 0, 0, 0, 0, 0]);
        let counts = runs.len() as u64 | (ends.len() as u64) << 32;
        for number in [self.epoch, self.index, self.as_of, counts] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (first, count) in runs {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
        for (generation, end) in ends {
            out.extend_from_slice(&generation.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out.resize(len.next_multiple_of(BLOCK_BYTES), 0);
        out
    }
}

/// Reads the manifest from the bytes of its file.
pub fn decode(bytes: &[u8], identity: Identity) -> Found {
    let slots = [0, SLOT_BYTES].map(|at| match bytes.get(at..) {
        Some(slot) => decode_slot(slot, identity),
        None => Found::None,
    });
    match slots {
        [Found::Manifest(a), Found::Manifest(b)] => {
            Found::Manifest(if a.serial > b.serial { a } else { b })
        }
        [Found::None, other] | [other, _] => other,
    }
}

fn decode_slot(bytes: &[u8], identity: Identity) -> Found {
    let Some(fixed) = bytes.get(..FIXED_BYTES) else {
        return Found::None;
    };
    let u32_at =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let len = u32_at(12) as usize;
    let sound = u32_at(4) == MAGIC
        && (FIXED_BYTES..=SLOT_BYTES).contains(&len)
        && bytes
            .get(4..len)
            .is_some_and(|checked| crc32c::crc32c(checked) == u32_at(0));
    if !sound {
        return Found::None;
    }
    if u32_at(8) > FORMAT {
        return Found::Newer(u32_at(8));
    }
    let found = Identity {
        store_id: u128::from(u64_at(24)) | u128::from(u64_at(32)) << 64,
        partition: u16::from_le_bytes([fixed[40], fixed[41]]),
    };
    if found != identity {
        return Found::Foreign(found);
    }
    let (run_count, end_count) = (u32_at(72) as usize, u32_at(76) as usize);
    if run_count > RUNS_MAX
        || end_count > run_count
        || FIXED_BYTES + run_count * RUN_BYTES + end_count * END_BYTES != len
    {
        return Found::None;
    }
    let runs_end = FIXED_BYTES + run_count * RUN_BYTES;
    let ends = (runs_end..len)
        .step_by(END_BYTES)
        .map(|at| (u64_at(at), u64::from(u32_at(at + 8))))
        .collect();
    let mut live = Vec::new();
    for at in (FIXED_BYTES..runs_end).step_by(RUN_BYTES) {
        let (first, count) = (u64_at(at), u32_at(at + 8));
        // A checksum that fits by chance must not fill the memory.
        if count > 1 << 24 {
            return Found::None;
        }
        live.extend(first..first.saturating_add(u64::from(count)));
    }
    Found::Manifest(Manifest {
        serial: u64_at(16),
        epoch: u64_at(48),
        index: u64_at(56),
        as_of: u64_at(64),
        listed_from: match live.first() {
            Some(first) if run_count == RUNS_MAX => *first,
            _ => 0,
        },
        closed: fixed[42] & 1 != 0,
        live,
        ends,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: Identity = Identity {
        store_id: 77 << 70 | 5,
        partition: 3,
    };

    fn manifest(serial: u64) -> Manifest {
        Manifest {
            serial,
            epoch: 4,
            index: 9,
            as_of: 14,
            listed_from: 0,
            closed: serial % 2 == 1,
            live: vec![2, 3, 4, 9, 13, 14],
            ends: BTreeMap::from([(4, 8192), (9, 65536)]),
        }
    }

    fn file(first: &Manifest, second: &Manifest) -> Vec<u8> {
        let mut bytes = vec![0; SLOT_BYTES * 2];
        for manifest in [first, second] {
            let slot = manifest.encode(IDENTITY);
            let at = manifest.slot_offset() as usize;
            bytes[at..at + slot.len()].copy_from_slice(&slot);
        }
        bytes
    }

    #[test]
    fn the_higher_serial_counts_and_one_slot_is_enough() {
        let mut bytes = file(&manifest(7), &manifest(8));
        assert_eq!(decode(&bytes, IDENTITY), Found::Manifest(manifest(8)));
        bytes[20] ^= 1;
        assert_eq!(decode(&bytes, IDENTITY), Found::Manifest(manifest(7)));
        bytes[SLOT_BYTES + 20] ^= 1;
        assert_eq!(decode(&bytes, IDENTITY), Found::None);
        let one = manifest(6).encode(IDENTITY);
        assert_eq!(decode(&one, IDENTITY), Found::Manifest(manifest(6)));
    }

    #[test]
    fn too_many_runs_keep_the_newest() {
        let many = Manifest {
            live: (0..RUNS_MAX as u64 + 10).map(|n| n * 2).collect(),
            ..manifest(2)
        };
        let bytes = many.encode(IDENTITY);
        assert!(bytes.len() <= SLOT_BYTES);
        let Found::Manifest(read) = decode(&bytes, IDENTITY) else {
            panic!("not readable");
        };
        assert_eq!(read.live, many.live[10..]);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in any::<proptest::sample::Index>()) {
            let mut bytes = manifest(2).encode(IDENTITY);
            let bit = bit.index((FIXED_BYTES + 3 * RUN_BYTES + 2 * END_BYTES) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&bytes, IDENTITY), Found::None);
        }

        #[test]
        fn anything_decodes_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(&bytes, IDENTITY), Found::None);
        }
    }
}
