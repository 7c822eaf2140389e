//! Memory for direct writes, which the kernel wants aligned.
//!
//! A write with `O_DIRECT` goes from our memory to the device without a stay in the page cache. Its
//! address, its offset and its length must be multiples of the device's block; those here are of
//! [`BLOCK_BYTES`], which every device divides. The bytes are copied in: that costs a fraction of
//! what the page cache does for them, and the memory is always the same few pages.

use crate::limits::BLOCK_BYTES;

/// Buffers kept for reuse, and the largest that is: what batches usually need.
const SPARE_MAX: usize = 4;
const SPARE_BYTES_MAX: usize = 2 << 20;

#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Block([u8; BLOCK_BYTES]);

const _: () = assert!(align_of::<Block>() == BLOCK_BYTES && size_of::<Block>() == BLOCK_BYTES);

/// Whole blocks of aligned memory.
pub(super) struct Blocks {
    blocks: Vec<Block>,
    /// Bytes that count, from the start.
    length: usize,
}

impl std::ops::Deref for Blocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the blocks are plain initialised bytes without padding between them, and there
        // are at least `length` bytes of them.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.length) }
    }
}

/// Blocks for reuse.
#[derive(Default)]
pub(super) struct Spare(Vec<Blocks>);

impl Spare {
    /// Blocks with a copy of `bytes`, which are whole blocks.
    pub fn copy(&mut self, bytes: &[u8]) -> Blocks {
        debug_assert!(bytes.len().is_multiple_of(BLOCK_BYTES));
        let mut copy = self.0.pop().unwrap_or(Blocks {
            blocks: Vec::new(),
            length: 0,
        });
        let count = bytes.len().div_ceil(BLOCK_BYTES);
        if copy.blocks.len() < count {
            copy.blocks.resize(count, Block([0; BLOCK_BYTES]));
        }
        for (block, bytes) in copy.blocks.iter_mut().zip(bytes.chunks(BLOCK_BYTES)) {
            block.0[..bytes.len()].copy_from_slice(bytes);
        }
        copy.length = bytes.len();
        copy
    }

    /// Takes blocks back.
    pub fn give(&mut self, blocks: Blocks) {
        let small = blocks.blocks.len() * BLOCK_BYTES <= SPARE_BYTES_MAX;
        if small && self.0.len() < SPARE_MAX {
            self.0.push(blocks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_aligned_and_whole() {
        let mut spare = Spare::default();
        for blocks in [3, 1, 5, 2] {
            let bytes: Vec<u8> = (0..blocks * BLOCK_BYTES)
                .map(|index| (index % 251) as u8 ^ blocks as u8)
                .collect();
            let copy = spare.copy(&bytes);
            assert!(copy.as_ptr().addr().is_multiple_of(BLOCK_BYTES));
            assert_eq!(&copy[..], &bytes[..]);
            spare.give(copy);
        }
        assert_eq!(spare.0.len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spare = Spare::default();
        let many: Vec<Blocks> = (0..2 * SPARE_MAX)
            .map(|_| spare.copy(&[0; BLOCK_BYTES]))
            .collect();
        for blocks in many {
            spare.give(blocks);
        }
        assert_eq!(spare.0.len(), SPARE_MAX);
        let mut spare = Spare::default();
        let large = spare.copy(&vec![0; SPARE_BYTES_MAX + BLOCK_BYTES]);
        spare.give(large);
        assert!(spare.0.is_empty());
    }
}
