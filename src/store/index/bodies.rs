//! Where bodies are and how many need them: a sorted table in two levels, 24 bytes a body.
//!
//! Bodies come almost always in the order of their numbers, so the table grows at its end and its
//! blocks stay full; a body that comes late (replay after compaction) costs one short move.
//! Does not know: messages, layers, what a segment number means.

use super::usage::NO_SEGMENT;

/// Bodies of one block.
const BLOCK: usize = 512;
/// Something named this body at some time: when nothing does any more, it is dead.
const NAMED: u32 = 1 << 31;
/// Its list of chunks is known.
const CHUNKED: u32 = 1 << 30;
const COUNT: u32 = CHUNKED - 1;
/// The count as far as the sealed file keeps it.
const PACKED_COUNT: u32 = (1 << 22) - 1;

/// A body or chunk, see the states of [`Body::needed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body {
    seq: [u32; 2],
    /// Number of the segment; `NO_SEGMENT`: its record was not seen (yet).
    pub(super) segment: u32,
    /// Bytes from the start of the segment.
    pub(super) offset: u32,
    /// Bytes of the record.
    pub(super) bytes: u32,
    uses: u32,
}

impl Body {
    /// A body that nothing has named yet, at no place.
    pub(super) fn new(seq: u64) -> Body {
        Body::from_parts(seq, NO_SEGMENT, 0, 0, 0)
    }

    /// As stored.
    pub(super) fn from_parts(seq: u64, segment: u32, offset: u32, bytes: u32, uses: u32) -> Body {
        Body {
            seq: [seq as u32, (seq >> 32) as u32],
            segment,
            offset,
            bytes,
            uses,
        }
    }

    /// Its sequence number.
    pub(super) fn seq(&self) -> u64 {
        u64::from(self.seq[0]) | u64::from(self.seq[1]) << 32
    }

    /// Count and flags in 24 bits, for the sealed file; a count too large is "too many".
    pub(super) fn packed_uses(&self) -> u32 {
        (self.uses & !COUNT) >> 8 | (self.uses & COUNT).min(PACKED_COUNT)
    }

    /// The reverse of [`Body::packed_uses`].
    pub(super) fn unpacked_uses(packed: u32) -> u32 {
        let count = match packed & PACKED_COUNT {
            PACKED_COUNT => COUNT,
            count => count,
        };
        (packed & !PACKED_COUNT) << 8 | count
    }

    /// A live append or final record names it.
    pub(super) fn is_live(&self) -> bool {
        self.uses & COUNT != 0
    }

    /// Nothing has named it so far: a piece of a stream that may still be completed.
    pub(super) fn is_unnamed(&self) -> bool {
        self.uses & NAMED == 0
    }

    /// Its place must be kept: it is live, or may become so.
    pub(super) fn needed(&self) -> bool {
        self.is_live() || self.is_unnamed()
    }

    /// What it counts in the usage of its segment: never nothing.
    pub(super) fn charge(&self) -> u64 {
        u64::from(self.bytes.max(1))
    }

    /// Its list of chunks is known.
    pub(super) fn is_chunked(&self) -> bool {
        self.uses & CHUNKED != 0
    }

    pub(super) fn set_chunked(&mut self) {
        self.uses |= CHUNKED;
    }

    /// One more names it. The count saturates far above the number of accounts there can be, and
    /// then never comes down: the body stays.
    pub(super) fn name(&mut self) {
        if self.uses & COUNT < COUNT {
            self.uses += 1;
        }
        self.uses |= NAMED;
    }

    /// One less names it.
    pub(super) fn unname(&mut self) {
        if self.is_live() && self.uses & COUNT < COUNT {
            self.uses -= 1;
        }
    }

    /// Nothing will name it any more.
    pub(super) fn release(&mut self) {
        self.uses |= NAMED;
    }
}

/// Where a walk over a table is that does not change meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    block: usize,
    index: usize,
}

/// The table.
#[derive(Debug, Clone, Default)]
pub(super) struct Bodies {
    blocks: Vec<Vec<Body>>,
    /// Number of the first body of each block, side by side for the search.
    firsts: Vec<u64>,
}

impl Bodies {
    /// The block in which `seq` is or belongs.
    fn block_index(&self, seq: u64) -> usize {
        match self.firsts.last() {
            Some(first) if *first > seq => self
                .firsts
                .partition_point(|first| *first <= seq)
                .saturating_sub(1),
            _ => self.firsts.len().saturating_sub(1),
        }
    }

    fn position(block: &[Body], seq: u64) -> Result<usize, usize> {
        match block.last() {
            Some(last) if last.seq() == seq => Ok(block.len() - 1),
            Some(last) if last.seq() < seq => Err(block.len()),
            _ => block.binary_search_by_key(&seq, Body::seq),
        }
    }

    /// The body of this number.
    pub(super) fn get(&self, seq: u64) -> Option<&Body> {
        let block = self.blocks.get(self.block_index(seq))?;
        Self::position(block, seq).ok().map(|index| &block[index])
    }

    /// The body of this number, to be changed (not its number).
    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut Body> {
        let index = self.block_index(seq);
        let block = self.blocks.get_mut(index)?;
        Self::position(block, seq)
            .ok()
            .map(|index| &mut block[index])
    }

    /// Puts a body in; one of the same number is replaced.
    pub(super) fn insert(&mut self, body: Body) {
        let block_index = self.block_index(body.seq());
        let Some(block) = self.blocks.get_mut(block_index) else {
            self.push_block(block_index, vec![body]);
            return;
        };
        let place = match Self::position(block, body.seq()) {
            Ok(index) => {
                block[index] = body;
                return;
            }
            Err(place) => place,
        };
        if block.len() < BLOCK {
            block.insert(place, body);
            self.firsts[block_index] = block[0].seq();
            return;
        }
        // A full block at the end stays full; one in the middle is halved.
        if place == BLOCK {
            let mut next = Vec::with_capacity(BLOCK);
            next.push(body);
            self.push_block(block_index + 1, next);
            return;
        }
        let mut upper = block.split_off(BLOCK / 2);
        if place <= BLOCK / 2 {
            block.insert(place, body);
        } else {
            upper.insert(place - BLOCK / 2, body);
        }
        self.firsts[block_index] = block[0].seq();
        self.push_block(block_index + 1, upper);
    }

    fn push_block(&mut self, index: usize, block: Vec<Body>) {
        self.firsts.insert(index, block[0].seq());
        self.blocks.insert(index, block);
    }

    /// All bodies in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Body> {
        self.blocks.iter().flatten()
    }

    /// The body at a place, for walks that pause; a walk begins at the default place.
    pub(super) fn at(&self, place: Place) -> Option<&Body> {
        self.blocks.get(place.block)?.get(place.index)
    }

    /// The place behind.
    pub(super) fn next(&self, place: Place) -> Place {
        match self.blocks.get(place.block) {
            Some(block) if place.index + 1 < block.len() => Place {
                block: place.block,
                index: place.index + 1,
            },
            _ => Place {
                block: place.block + 1,
                index: 0,
            },
        }
    }

    /// Approximate bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Vec<Body>>()
            + self.firsts.capacity() * size_of::<u64>()
            + self
                .blocks
                .iter()
                .map(|block| block.capacity() * size_of::<Body>())
                .sum::<usize>()
    }
}
