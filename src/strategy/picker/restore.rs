//! Partial pieces: which blocks are saved at the end of a run, and restored in the next one.
//!
//! The senders of restored blocks are unknown. If a piece with such blocks fails verification, it has no single author, so nobody
//! is banned; the piece becomes doubtful and is downloaded again from one peer.

use crate::strategy::picker::Picker;
use crate::strategy::picker::begun::BlockState;
use crate::types::{PartialPiece, PieceIndex};

impl Picker {
    /// Restores blocks of a wanted, unbegun piece that an earlier run wrote to disk, so that they are not requested. Must be
    /// called after [`Picker::set_plan`]. Data that does not fit the torrent is ignored. So is a piece without a missing block:
    /// it was hashed at the start and is wrong.
    pub fn restore(&mut self, partial: &PartialPiece) {
        let piece = partial.piece;
        // A piece that does not exist is never unbegun.
        if !self.order.unbegun().has(piece) || partial.block_count() != self.geometry.blocks(piece) {
            return;
        }
        let asked_for = self.blocks_of(piece);
        let count = partial.iter().filter(|&block| block < asked_for).count() as u32;
        if count == 0 || count == asked_for {
            return;
        }
        self.begin(piece, None, None);
        if let Some(begun) = self.begun.get_mut(&piece) {
            partial.iter().filter(|&block| block < asked_for).for_each(|block| begun.restore(block as usize));
        }
        self.received += u64::from(count);
        self.update_lists(piece);
    }

    /// The begun, incomplete pieces with their blocks on disk.
    pub fn partial_pieces(&self) -> Vec<PartialPiece> {
        let has_some = self.begun.iter().filter(|(_, begun)| begun.received > 0 && !begun.is_verifying);
        has_some
            .map(|(&piece, begun)| {
                let mut partial = PartialPiece::new(piece, self.geometry.blocks(piece));
                begun.received_blocks().for_each(|block| partial.set(block as u32));
                partial
            })
            .collect()
    }

    /// Whether this block of an unverified piece is on disk or is being written, or may be left from a peer from which another
    /// took the piece over.
    pub fn may_be_on_disk(&self, piece: PieceIndex, block: u32) -> bool {
        if self.parole.has_discarded_blocks(piece) {
            return true;
        }
        let state = self.begun.get(&piece).and_then(|begun| begun.blocks().get(block as usize));
        matches!(state, Some(BlockState::Received(_) | BlockState::Writing(_)))
    }

    /// The number of blocks on disk in unverified pieces.
    pub fn received_blocks(&self) -> u64 {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::picker::tests::{A, B, pieces};
    use crate::strategy::picker::{BlockVerdict, PieceVerdict};
    use crate::types::{BLOCK_SIZE, Bitfield, BlockInfo, PeerKey, PieceIndex};

    const FIRST: PieceIndex = PieceIndex(0);

    /// Three pieces of four blocks.
    fn picker(seeds: &[PeerKey]) -> Picker {
        let mut picker = Picker::new(4 * BLOCK_SIZE, u64::from(12 * BLOCK_SIZE), Bitfield::new(3), 7);
        for &seed in seeds {
            picker.add_peer(seed);
            picker.set_bitfield(seed, Bitfield::full(3));
        }
        picker
    }

    fn partial(piece: u32, blocks: u32, there: &[u32]) -> PartialPiece {
        let mut partial = PartialPiece::new(PieceIndex(piece), blocks);
        for block in there {
            partial.set(*block);
        }
        partial
    }

    fn places(blocks: &[BlockInfo]) -> Vec<(u32, u32)> {
        blocks.iter().map(|block| (block.piece.0, block.begin / BLOCK_SIZE)).collect()
    }

    #[test]
    fn only_the_missing_blocks_of_a_piece_are_asked_for() {
        let mut picker = picker(&[A]);
        picker.restore(&partial(1, 4, &[0, 2]));
        picker.check_invariants();
        assert_eq!((picker.received_blocks(), picker.missing_wanted_blocks()), (2, 10));
        assert_eq!(picker.partial_pieces(), [partial(1, 4, &[0, 2])]);
        let asked = picker.take(A, 2, true);
        assert_eq!(places(&asked), [(1, 1), (1, 3)], "before a new piece is begun");
        let there = BlockInfo { piece: PieceIndex(1), begin: 0, length: BLOCK_SIZE };
        assert_eq!(picker.accept(A, there, &mut Vec::new()), BlockVerdict::Duplicate);
        assert_eq!(picker.give(A, asked[0]), None);
        assert_eq!(picker.partial_pieces(), [partial(1, 4, &[0, 1, 2])]);
        assert_eq!(picker.give(A, asked[1]), Some(PieceIndex(1)));
        assert_eq!(picker.partial_pieces(), [], "it is being hashed");
        assert_eq!(picker.piece_hashed(PieceIndex(1), true).restored, 2);
        picker.check_invariants();
        assert_eq!(pieces(&picker.take(A, 9, true)).len(), 2);
    }

    #[test]
    fn partial_pieces_that_do_not_fit_are_ignored() {
        let mut have = Bitfield::new(3);
        have.set(FIRST);
        let mut picker = Picker::new(4 * BLOCK_SIZE, u64::from(10 * BLOCK_SIZE), have, 7);
        picker.set_padding([(PieceIndex(1), 1)]);
        for strange in [
            partial(0, 4, &[1]),       // already verified
            partial(9, 4, &[1]),       // no such piece
            partial(1, 5, &[1]),       // it has fewer blocks
            partial(2, 4, &[1]),       // so has the last piece
            partial(2, 2, &[0, 1]),    // no block is missing
            partial(1, 4, &[0, 1, 2]), // only padding is missing
            partial(1, 4, &[3]),       // only padding was received
            partial(1, 4, &[]),
        ] {
            picker.restore(&strange);
            assert_eq!((picker.begun.len(), picker.received_blocks()), (0, 0), "{strange:?}");
        }
        picker.restore(&partial(1, 4, &[1, 3]));
        picker.restore(&partial(1, 4, &[0]));
        picker.check_invariants();
        assert_eq!((picker.begun.len(), picker.received_blocks()), (1, 1), "once");
        let mut unwanted = crate::strategy::picker::Plan::all(3);
        unwanted.wanted.clear(PieceIndex(2));
        picker.set_plan(unwanted);
        picker.restore(&partial(2, 2, &[0]));
        assert_eq!(picker.begun.len(), 1, "it is not wanted");
    }

    #[test]
    fn a_wrong_piece_with_restored_blocks_is_fetched_anew_and_its_one_sender_is_not_its_author() {
        let mut picker = picker(&[A, B]);
        picker.restore(&partial(0, 4, &[0, 1, 2]));
        let asked = picker.take(A, 1, true);
        assert_eq!(picker.give(A, asked[0]), Some(FIRST));
        assert_eq!(picker.block_senders(FIRST), [None, None, None, Some(A)]);
        let verdict = picker.piece_hashed(FIRST, false);
        picker.check_invariants();
        assert_eq!(verdict, PieceVerdict { senders: vec![A], restored: 3, ..PieceVerdict::default() });
        assert_eq!((picker.received_blocks(), picker.begun.len()), (0, 0));
        // From one peer alone, so that another failure has one author.
        let again = picker.take(B, 12, true);
        let of_it: Vec<_> = again.into_iter().filter(|block| block.piece == FIRST).collect();
        assert_eq!(places(&of_it), [(0, 0), (0, 1), (0, 2), (0, 3)]);
        for block in &of_it[..3] {
            assert_eq!(picker.give(B, *block), None);
        }
        assert_eq!(picker.give(B, of_it[3]), Some(FIRST));
        assert_eq!(picker.block_senders(FIRST), []);
        assert_eq!(picker.piece_hashed(FIRST, false), PieceVerdict { senders: vec![B], ..PieceVerdict::default() });
    }

    #[test]
    fn discarded_blocks_may_be_on_disk_until_their_piece_is_hashed() {
        for is_valid in [false, true] {
            let mut picker = Picker::new(2 * BLOCK_SIZE, u64::from(4 * BLOCK_SIZE), Bitfield::new(2), 7);
            for seed in [A, B] {
                picker.add_peer(seed);
                picker.set_bitfield(seed, Bitfield::full(2));
            }
            picker.parole.begin(FIRST, &[A, B]);
            picker.take(B, 0, true);
            let asked = picker.take(A, 2, true);
            assert_eq!((pieces(&asked), picker.give(A, asked[0])), (vec![0], None));
            picker.release(A, &asked[1..]);
            assert!(picker.may_be_on_disk(FIRST, 0) && !picker.may_be_on_disk(FIRST, 1));
            let second = picker.take(B, 4, true);
            assert_eq!(pieces(&second), [1, 0]);
            assert_eq!(picker.take_discarded_bytes(), u64::from(BLOCK_SIZE));
            assert!(picker.may_be_on_disk(FIRST, 0) && !picker.may_be_on_disk(PieceIndex(1), 0));
            picker.release(B, &second);
            assert!(picker.may_be_on_disk(FIRST, 0) && picker.order.unbegun().has(FIRST), "its bytes are still there");
            let again = picker.take(A, 4, true);
            let of_it: Vec<_> = again.into_iter().filter(|block| block.piece == FIRST).collect();
            assert_eq!(picker.give(A, of_it[0]), None);
            assert_eq!(picker.give(A, of_it[1]), Some(FIRST));
            picker.piece_hashed(FIRST, is_valid);
            assert!(!picker.may_be_on_disk(FIRST, 0), "a failed piece has been overwritten with zeros");
        }
    }
}
