//! Incomplete pieces, exchanged between the resume data and the picker.

use crate::types::{Bitfield, PieceIndex};

/// A piece with only some blocks on disk, so that its hash cannot be checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialPiece {
    /// The index of the piece.
    pub piece: PieceIndex,
    /// One bit per block: set if it is on disk.
    blocks: Bitfield,
}

impl PartialPiece {
    /// A piece of `blocks` blocks, none of which is on disk.
    pub fn new(piece: PieceIndex, blocks: u32) -> PartialPiece {
        PartialPiece { piece, blocks: Bitfield::new(blocks) }
    }

    /// Parses one bit per block; `None` if the size is wrong or a spare bit is set.
    pub fn from_bytes(piece: PieceIndex, bytes: &[u8], blocks: u32) -> Option<PartialPiece> {
        Bitfield::from_wire(bytes, blocks).map(|blocks| PartialPiece { piece, blocks })
    }

    /// One bit per block.
    pub fn as_bytes(&self) -> &[u8] {
        self.blocks.as_bytes()
    }

    /// The number of blocks in the piece.
    pub fn block_count(&self) -> u32 {
        self.blocks.len()
    }

    /// The number of blocks on disk.
    pub fn count(&self) -> u32 {
        self.blocks.count()
    }

    /// Records that a block is on disk.
    pub fn set(&mut self, block: u32) {
        self.blocks.set(PieceIndex(block));
    }

    /// The blocks on disk, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.blocks.iter().map(|block| block.0)
    }

    /// Keeps the blocks for which `keep` returns `true`.
    pub fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        for block in self.blocks.clone().iter().filter(|block| !keep(block.0)) {
            self.blocks.clear(block);
        }
    }
}
