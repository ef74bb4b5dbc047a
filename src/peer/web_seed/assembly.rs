//! Puts the blocks of a run together, whose bytes may come from several responses.

use std::ops::Range;

use crate::types::{BLOCK_SIZE, BlockInfo};

/// The bytes of a run that have arrived and are not stored, at the start of a buffer, and the blocks that they belong to.
pub(super) struct RunAssembly {
    blocks: Vec<BlockInfo>,
    /// The block to which the first byte of the buffer belongs.
    next: usize,
    /// How many bytes of the buffer are filled.
    filled: usize,
    /// The size of the buffer that is used, in bytes.
    size: usize,
}

impl RunAssembly {
    /// Nothing has arrived of these blocks, which are adjacent and in order. The buffer has room for `room` bytes.
    pub fn new(blocks: Vec<BlockInfo>, room: usize) -> RunAssembly {
        let block = BLOCK_SIZE as usize;
        RunAssembly { blocks, next: 0, filled: 0, size: (room / block).max(1) * block }
    }

    /// Where in the buffer the next bytes belong, at most `left` of them.
    pub fn room(&self, left: u64) -> Range<usize> {
        let end = self.size.min(self.filled.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
        self.filled..end
    }

    /// So many more bytes are in the buffer.
    pub fn fill(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.filled >= self.size
    }

    /// Blocks that are not stored, complete or not.
    pub fn rest(&self) -> &[BlockInfo] {
        self.blocks.get(self.next..).unwrap_or_default()
    }

    /// The complete blocks in the buffer, each with its place there.
    pub fn complete(&self) -> impl Iterator<Item = (BlockInfo, Range<usize>)> + '_ {
        let (mut start, filled) = (0, self.filled);
        let placed = self.rest().iter().map(move |block| {
            let end = start + block.length as usize;
            (*block, std::mem::replace(&mut start, end)..end)
        });
        placed.take_while(move |(_, place)| place.end <= filled)
    }

    /// The complete blocks have been stored: moves the bytes of the next one to the start of the buffer.
    pub fn remove_complete(&mut self, buffer: &mut [u8]) {
        let (count, end) = self.complete().fold((0, 0), |(count, _), (_, place)| (count + 1, place.end));
        buffer.copy_within(end..self.filled, 0);
        self.filled -= end;
        self.next += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PieceIndex;

    const BLOCK: usize = BLOCK_SIZE as usize;

    #[test]
    fn a_block_waits_for_its_last_byte() {
        let block = |at: u32, length| BlockInfo { piece: PieceIndex(0), begin: at * BLOCK_SIZE, length };
        let blocks = vec![block(0, BLOCK_SIZE), block(1, BLOCK_SIZE), block(2, 5)];
        let mut assembly = RunAssembly::new(blocks.clone(), 2 * BLOCK + 77);
        let mut buffer = vec![0; 2 * BLOCK + 77];
        assert_eq!((assembly.room(10), assembly.room(u64::MAX)), (0..10, 0..2 * BLOCK));
        assembly.fill(BLOCK + 3);
        buffer[BLOCK..BLOCK + 3].copy_from_slice(b"abc");
        let complete = |assembly: &RunAssembly| assembly.complete().collect::<Vec<_>>();
        assert_eq!(complete(&assembly), [(blocks[0], 0..BLOCK)]);
        assembly.remove_complete(&mut buffer);
        assert_eq!((&buffer[..3], assembly.rest(), assembly.is_full()), (&b"abc"[..], &blocks[1..], false));
        assembly.fill(BLOCK + 2);
        assert_eq!(complete(&assembly), [(blocks[1], 0..BLOCK), (blocks[2], BLOCK..BLOCK + 5)]);
        assembly.remove_complete(&mut buffer);
        assert!(assembly.rest().is_empty() && complete(&assembly).is_empty() && assembly.room(0) == (0..0));
    }
}
