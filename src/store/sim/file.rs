//! One simulated file: what the page cache holds, what the platter holds, and the writes between.
//!
//! Guarantees: reads see the cache; a sync carries every write made before it began to the
//! platter; a loss of power decides the fate of every unsynced sector by itself.
//! Does not know: names, handles, when operations fail.
//!
//! As Linux does it: `fdatasync` makes the length durable where reading the data back needs it,
//! and a failed sync marks pages clean although they never arrived: the cache still shows them, a
//! later sync does not write them, and the next eviction or loss of power takes them away.

use std::collections::BTreeSet;

use super::random::Random;

/// Bytes that a disk writes as one, and the unit in which unsynced data is lost.
pub const SECTOR_BYTES: usize = 512;
/// Space is given out in pieces of this size.
const EXTENT_BYTES: u64 = 4096;

/// What a write carries.
#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    Zeros(usize),
}

/// A write that no sync has covered yet.
#[derive(Debug)]
struct Write {
    number: u64,
    offset: usize,
    content: Content,
}

impl Write {
    fn end(&self) -> usize {
        self.offset
            + match &self.content {
                Content::Bytes(bytes) => bytes.len(),
                Content::Zeros(length) => *length,
            }
    }

    /// Carries the file's bytes `from..to`, which lie inside this write, into `target`.
    fn copy_range(&self, target: &mut Vec<u8>, from: usize, to: usize) {
        if target.len() < to {
            target.resize(to, 0);
        }
        match &self.content {
            Content::Bytes(bytes) => {
                target[from..to].copy_from_slice(&bytes[from - self.offset..to - self.offset]);
            }
            Content::Zeros(_) => target[from..to].fill(0),
        }
    }

    fn copy_all(&self, target: &mut Vec<u8>) {
        self.copy_range(target, self.offset, self.end());
    }

    /// Carries those sectors that `fate` says; a torn sector arrives as far as some byte.
    fn copy_sectors(
        &self,
        target: &mut Vec<u8>,
        random: &mut Random,
        mut fate: impl FnMut(&mut Random) -> SectorFate,
    ) {
        let mut from = self.offset;
        while from < self.end() {
            let to = self.end().min((from / SECTOR_BYTES + 1) * SECTOR_BYTES);
            match fate(random) {
                SectorFate::Kept => self.copy_range(target, from, to),
                SectorFate::Torn => {
                    self.copy_range(target, from, from + random.index(to - from));
                }
                SectorFate::Lost => {}
            }
            from = to;
        }
    }
}

enum SectorFate {
    Kept,
    Torn,
    Lost,
}

/// A file's content.
#[derive(Debug, Default)]
pub(super) struct Inode {
    cache: Vec<u8>,
    platter: Vec<u8>,
    unsynced: Vec<Write>,
    /// A sync failed: the cache shows bytes that no later sync will write.
    pages_dropped: bool,
    /// Space held, counted from the start of the file.
    reserved_bytes: u64,
    /// Sectors that cannot be read until they are written again.
    bad: BTreeSet<usize>,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.cache.len() as u64
    }

    pub(super) fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// Space that reaching `end` would take in addition to what the file holds.
    pub(super) fn missing_bytes(&self, end: u64) -> u64 {
        end.next_multiple_of(EXTENT_BYTES)
            .saturating_sub(self.reserved_bytes)
    }

    /// Takes the space that [`Inode::missing_bytes`] named.
    pub(super) fn reserve(&mut self, end: u64) {
        self.reserved_bytes += self.missing_bytes(end);
    }

    /// Gives back the space from here on, where there are only zeros.
    pub(super) fn release(&mut self, from: u64) {
        let tail = self.cache.get(from as usize..).unwrap_or_default();
        assert!(tail.iter().all(|byte| *byte == 0), "bytes would be lost");
        self.reserved_bytes = self.reserved_bytes.min(from.next_multiple_of(EXTENT_BYTES));
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let start = self.cache.len().min(offset as usize);
        let end = self.cache.len().min(start.saturating_add(length));
        self.cache[start..end].to_vec()
    }

    /// Nothing of this range lies in a bad sector.
    pub(super) fn is_readable(&self, offset: u64, length: usize) -> bool {
        let first = offset as usize / SECTOR_BYTES;
        let end = (offset as usize).saturating_add(length);
        let end = end.min(self.cache.len()).div_ceil(SECTOR_BYTES);
        first >= end || self.bad.range(first..end).next().is_none()
    }

    pub(super) fn whole(&self) -> Vec<u8> {
        self.cache.clone()
    }

    pub(super) fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) {
        self.push(number, offset, Content::Bytes(bytes.to_vec()));
    }

    pub(super) fn write_zeros(&mut self, number: u64, offset: u64, length: u64) {
        self.push(number, offset, Content::Zeros(length as usize));
    }

    fn push(&mut self, number: u64, offset: u64, content: Content) {
        let write = Write {
            number,
            offset: offset as usize,
            content,
        };
        if write.end() > write.offset {
            let sectors = write.offset / SECTOR_BYTES..write.end().div_ceil(SECTOR_BYTES);
            self.bad.retain(|sector| !sectors.contains(sector));
            write.copy_all(&mut self.cache);
            self.unsynced.push(write);
        }
    }

    /// Writes numbered up to `number` reach the platter.
    pub(super) fn sync(&mut self, number: u64) {
        let covered = self.unsynced.partition_point(|w| w.number <= number);
        for write in self.unsynced.drain(..covered) {
            write.copy_all(&mut self.platter);
        }
    }

    /// A sync that failed: some sectors arrived, and nothing is left to be written.
    pub(super) fn sync_failed(&mut self, random: &mut Random) {
        for write in self.unsynced.drain(..) {
            write.copy_sectors(&mut self.platter, random, |random| match random.below(2) {
                0 => SectorFate::Kept,
                _ => SectorFate::Lost,
            });
        }
        self.pages_dropped = true;
    }

    /// Clean pages leave the cache and are read anew from the platter.
    pub(super) fn evict(&mut self) {
        if self.pages_dropped {
            self.cache.clone_from(&self.platter);
            for write in &self.unsynced {
                write.copy_all(&mut self.cache);
            }
            self.pages_dropped = false;
        }
    }

    /// Power is gone: what was unsynced arrived, or did not, or in part.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        if self.unsynced.is_empty() && !self.pages_dropped {
            return;
        }
        let writes = std::mem::take(&mut self.unsynced);
        let end = writes.iter().map(Write::end).max().unwrap_or(0);
        match random.below(8) {
            // Everything had arrived.
            0 => writes.iter().for_each(|w| w.copy_all(&mut self.platter)),
            // Nothing had.
            1 => {}
            // The first few, whole; of the next one the start.
            2 | 3 => {
                let whole = random.index(writes.len() + 1);
                for write in &writes[..whole.min(writes.len())] {
                    write.copy_all(&mut self.platter);
                }
                if let Some(write) = writes.get(whole) {
                    let cut = write.offset + random.index(write.end() - write.offset);
                    write.copy_range(&mut self.platter, write.offset, cut);
                }
            }
            // Any of them, whole.
            4 => {
                for write in &writes {
                    if random.one_in(2) {
                        write.copy_all(&mut self.platter);
                    }
                }
            }
            // Any sector of any of them, some half; mostly arrived, mostly lost, or evenly.
            _ => {
                let kept_per_mille = [500, 900, 100][random.index(3)];
                for write in &writes {
                    write.copy_sectors(&mut self.platter, random, |random| {
                        if random.one_in(16) {
                            SectorFate::Torn
                        } else if random.chance(kept_per_mille) {
                            SectorFate::Kept
                        } else {
                            SectorFate::Lost
                        }
                    });
                }
            }
        }
        // The length may outlive the data it was made for; what lies there reads as zeros.
        if end > self.platter.len() && random.one_in(2) {
            self.platter.resize(end, 0);
        }
        self.cache.clone_from(&self.platter);
        self.pages_dropped = false;
        self.reserved_bytes = self
            .reserved_bytes
            .max(self.len().next_multiple_of(EXTENT_BYTES));
    }

    /// The sector at `offset` cannot be read from now on.
    pub(super) fn spoil(&mut self, offset: u64) {
        self.bad.insert(offset as usize / SECTOR_BYTES);
    }

    /// Changes one bit at rest.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        for bytes in [&mut self.platter, &mut self.cache] {
            if let Some(byte) = bytes.get_mut(offset as usize) {
                *byte ^= 1 << bit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_covers_what_was_written_before_it() {
        let mut random = Random::new(1);
        let mut lost = 0;
        for _ in 0..200 {
            let mut inode = Inode::default();
            inode.write(1, 0, &[1; 1024]);
            inode.sync(1);
            inode.write(2, 512, &[2; 1024]);
            inode.lose_power(&mut random);
            assert_eq!(inode.read(0, 512), [1; 512]);
            let second = inode.read(512, 512);
            if second == [1; 512] {
                lost += 1;
            }
        }
        assert!(
            (20..180).contains(&lost),
            "{lost} of 200 lost the overwrite"
        );
    }

    #[test]
    fn a_failed_sync_shows_what_it_lost_until_the_cache_goes() {
        let mut random = Random::new(2);
        let mut gone = 0;
        for _ in 0..100 {
            let mut inode = Inode::default();
            inode.write(1, 0, &[7; 512]);
            inode.sync_failed(&mut random);
            inode.sync(9);
            assert_eq!(inode.read(0, 512), [7; 512]);
            inode.lose_power(&mut random);
            gone += u32::from(inode.read(0, 512) != [7; 512]);
        }
        assert!(gone > 20, "{gone} of 100 gone");
    }

    #[test]
    fn sectors_are_torn_and_reordered() {
        let mut random = Random::new(3);
        let (mut torn, mut reordered) = (false, false);
        for _ in 0..400 {
            let mut inode = Inode::default();
            inode.write(1, 0, &[0; 1536]);
            inode.sync(1);
            inode.write(2, 0, &[1; 1536]);
            inode.lose_power(&mut random);
            let bytes = inode.read(0, 1536);
            reordered |= bytes[0] == 0 && bytes[1535] == 1;
            torn |= bytes[..512].iter().any(|b| *b != bytes[0]);
        }
        assert!(torn && reordered);
    }
}
