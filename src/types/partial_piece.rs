//! Pieces that are not complete, as the resume data and the picker hand them to each other.

use crate::types::{Bitfield, PieceIndex};

/// A piece of which some blocks are on disk and others are not, so that its hash cannot be checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialPiece {
    /// Which piece.
    pub piece: PieceIndex,
    /// A bit a block: those that are on disk.
    blocks: Bitfield,
}

impl PartialPiece {
    /// A piece of so many blocks, none of which is on disk.
    pub fn new(piece: PieceIndex, blocks: u32) -> PartialPiece {
        PartialPiece { piece, blocks: Bitfield::new(blocks) }
    }

    /// From a bit for each of so many blocks; `None` where the size is wrong or a spare bit is set.
    pub fn from_bytes(piece: PieceIndex, bytes: &[u8], blocks: u32) -> Option<PartialPiece> {
        Bitfield::from_wire(bytes, blocks).map(|blocks| PartialPiece { piece, blocks })
    }

    /// A bit for each block.
    pub fn as_bytes(&self) -> &[u8] {
        self.blocks.as_bytes()
    }

    /// How many blocks the piece has.
    pub fn block_count(&self) -> u32 {
        self.blocks.len()
    }

    /// How many of them are on disk.
    pub fn count(&self) -> u32 {
        self.blocks.count()
    }

    /// Notes that a block is on disk.
    pub fn set(&mut self, block: u32) {
        self.blocks.set(PieceIndex(block));
    }

    /// The blocks that are on disk, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.blocks.iter().map(|block| block.0)
    }

    /// Keeps those blocks for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        for block in self.blocks.clone().iter().filter(|block| !keep(block.0)) {
            self.blocks.clear(block);
        }
    }
}
