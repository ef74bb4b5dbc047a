//! Finds the peers that sent wrong blocks in pieces with blocks from several peers.
//!
//! The hash of a failed piece does not tell which block was wrong. So each failure is recorded with the sender and the SHA-1 of
//! every block. Once the piece verifies, exactly the peers whose block differs from the good one lied. SHA-1 collisions do not
//! help an attacker: it would have to match a given block (a second preimage), which is infeasible.
//!
//! The memory is bounded: the oldest failures are forgotten first. A piece may fail more than once; each failure is kept.

use std::collections::VecDeque;

use crate::types::{PeerKey, PieceIndex, Sha1Hash};
use crate::util::cold_sort;

/// The most blocks that are remembered, at 28 bytes each.
const MAX_BLOCKS: usize = 36_000;
/// The most failures that are remembered.
const MAX_FAILURES: usize = 1000;

/// Failures whose corrupt senders are not known yet.
#[derive(Debug, Default)]
pub struct SmartBan {
    /// The oldest first.
    failures: VecDeque<FailedPiece>,
    /// The number of blocks in all failures.
    blocks: usize,
}

/// The blocks of a piece that failed verification.
#[derive(Debug)]
struct FailedPiece {
    piece: PieceIndex,
    /// The sender and hash of each block, in order; `None` for a block from an earlier run.
    blocks: Box<[(Option<PeerKey>, Sha1Hash)]>,
}

impl SmartBan {
    /// Records a piece that failed verification: the senders of its blocks in order (`None` for an earlier run), and their
    /// hashes. Surplus entries of the longer list are ignored.
    pub fn record_failure(&mut self, piece: PieceIndex, block_senders: &[Option<PeerKey>], block_hashes: &[Sha1Hash]) {
        let blocks: Box<[_]> = block_senders.iter().copied().zip(block_hashes.iter().copied()).collect();
        self.blocks += blocks.len();
        self.failures.push_back(FailedPiece { piece, blocks });
        while self.blocks > MAX_BLOCKS || self.failures.len() > MAX_FAILURES {
            let Some(oldest) = self.failures.pop_front() else { break };
            self.blocks -= oldest.blocks.len();
        }
    }

    /// Whether the piece has failed, so that its blocks must be compared once it verifies.
    pub fn has_failed(&self, piece: PieceIndex) -> bool {
        self.failures.iter().any(|failure| failure.piece == piece)
    }

    /// Compares the recorded blocks with the hashes `good` of the verified piece. Returns each peer that sent a different block,
    /// once, and forgets the piece's failures.
    pub fn find_corrupt_senders(&mut self, piece: PieceIndex, good: &[Sha1Hash]) -> Vec<PeerKey> {
        let mut corrupt_senders = Vec::new();
        self.failures.retain(|failure| {
            if failure.piece != piece {
                return true;
            }
            self.blocks -= failure.blocks.len();
            let wrong = failure.blocks.iter().zip(good).filter(|((_, sum), good)| sum != *good);
            corrupt_senders.extend(wrong.filter_map(|((author, _), _)| *author));
            false
        });
        cold_sort::sort(&mut corrupt_senders);
        corrupt_senders.dedup();
        corrupt_senders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerKey = PeerKey(1);
    const B: PeerKey = PeerKey(2);
    const C: PeerKey = PeerKey(3);
    const PIECE: PieceIndex = PieceIndex(7);

    fn block_hashes<const N: usize>(of: [u8; N]) -> [Sha1Hash; N] {
        of.map(|byte| [byte; 20])
    }

    #[test]
    fn only_the_sender_of_a_different_block_is_found() {
        let mut smart_ban = SmartBan::default();
        assert!(!smart_ban.has_failed(PIECE));
        smart_ban.record_failure(PIECE, &[A, B, A, C].map(Some), &block_hashes([1, 2, 3, 4]));
        assert!(smart_ban.has_failed(PIECE) && !smart_ban.has_failed(PieceIndex(8)));
        assert_eq!(smart_ban.find_corrupt_senders(PIECE, &block_hashes([1, 9, 3, 4])), [B]);
        assert!(
            !smart_ban.has_failed(PIECE) && smart_ban.find_corrupt_senders(PIECE, &block_hashes([0; 4])).is_empty(),
            "once is enough"
        );
        assert_eq!(smart_ban.blocks, 0);
    }

    #[test]
    fn each_failure_of_a_piece_counts_and_each_corrupt_sender_once() {
        let mut smart_ban = SmartBan::default();
        smart_ban.record_failure(PIECE, &[A, B, B].map(Some), &block_hashes([1, 8, 8]));
        smart_ban.record_failure(PieceIndex(8), &[C, A, B].map(Some), &block_hashes([5, 5, 5]));
        smart_ban.record_failure(PIECE, &[C, B, A].map(Some), &block_hashes([8, 2, 3]));
        assert_eq!(smart_ban.find_corrupt_senders(PIECE, &block_hashes([1, 2, 3])), [B, C]);
        assert!(smart_ban.has_failed(PieceIndex(8)), "another piece is another matter");
        assert_eq!((smart_ban.failures.len(), smart_ban.blocks), (1, 3));
    }

    #[test]
    fn a_block_from_an_earlier_run_has_no_sender() {
        let mut smart_ban = SmartBan::default();
        smart_ban.record_failure(PIECE, &[None, Some(A), Some(B), None], &block_hashes([8, 2, 8, 4]));
        assert_eq!(smart_ban.find_corrupt_senders(PIECE, &block_hashes([1, 2, 3, 4])), [B]);
    }

    #[test]
    fn blocks_that_have_no_counterpart_prove_nothing() {
        let mut smart_ban = SmartBan::default();
        smart_ban.record_failure(PIECE, &[A, B].map(Some), &block_hashes([1]));
        assert!(smart_ban.find_corrupt_senders(PIECE, &[]).is_empty());
        assert_eq!(smart_ban.blocks, 0);
    }

    #[test]
    fn remembered_failures_are_bounded() {
        let mut smart_ban = SmartBan::default();
        for piece in 0..3000 {
            smart_ban.record_failure(PieceIndex(piece), &[Some(A); 100], &[[0; 20]; 100]);
            assert!(smart_ban.blocks <= MAX_BLOCKS && smart_ban.failures.len() <= MAX_FAILURES);
        }
        assert!(smart_ban.has_failed(PieceIndex(2999)) && !smart_ban.has_failed(PieceIndex(0)), "the oldest go first");
        for piece in 3000..6000 {
            smart_ban.record_failure(PieceIndex(piece), &[Some(A)], &[[0; 20]]);
        }
        assert_eq!(smart_ban.failures.len(), MAX_FAILURES);
        let huge = MAX_BLOCKS + 1;
        smart_ban.record_failure(PIECE, &vec![Some(A); huge], &vec![[0; 20]; huge]);
        assert_eq!((smart_ban.failures.len(), smart_ban.blocks), (0, 0));
    }
}
