//! Peers that lose pieces which they had (BEP 54).

use crate::strategy::picker::{Picker, common};
use crate::types::{PeerKey, PieceIndex};

impl Picker {
    /// Records that the peer has a piece no more. Returns false if it did not have it. Blocks that were requested from it are
    /// still its own: release them afterwards, as they will not arrive.
    pub fn peer_lost(&mut self, key: PeerKey, piece: PieceIndex) -> bool {
        self.peer_lost_all(key, &[piece])
    }

    /// Records that the peer has these pieces no more. Returns false if it had none of them.
    pub fn peer_lost_all(&mut self, key: PeerKey, pieces: &[PieceIndex]) -> bool {
        let Ok(at) = self.find(key) else { return false };
        let peer = &mut self.peers[at];
        let was_seed = peer.counts_as_seed();
        let lost: Vec<PieceIndex> = pieces.iter().copied().filter(|&piece| peer.bits.clear(piece)).collect();
        if was_seed && !lost.is_empty() {
            self.order.demote();
        }
        peer.has_lost_piece |= !lost.is_empty();
        for &piece in &lost {
            self.order.fewer(piece);
        }
        if lost.iter().any(|&piece| self.unverified_wanted.has(piece)) {
            let wanted = common(&peer.bits, &self.unverified_wanted);
            peer.wanted_until = self.wanted.replace_bound(key, wanted);
        }
        for &piece in &lost {
            self.disown(key, piece);
        }
        !lost.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::strategy::picker::{PickContext, Speed};
    use crate::types::{BLOCK_SIZE, Bitfield, BlockInfo};

    const A: PeerKey = PeerKey(1);
    const B: PeerKey = PeerKey(2);

    fn picker(pieces: u32) -> Picker {
        let mut picker = Picker::new(2 * BLOCK_SIZE, u64::from(pieces * 2 * BLOCK_SIZE), Bitfield::new(pieces), 1);
        for key in [A, B] {
            picker.add_peer(key);
            picker.set_bitfield(key, Bitfield::full(pieces));
        }
        picker
    }

    fn pick(picker: &mut Picker, key: PeerKey, n: usize) -> Vec<BlockInfo> {
        let mut blocks = Vec::new();
        picker.pick(key, n, PickContext::unproven(Duration::ZERO, Speed::Fast), &mut blocks);
        picker.check_invariants();
        blocks
    }

    #[test]
    fn a_lost_piece_is_requested_from_others() {
        let mut picker = picker(2);
        let asked = pick(&mut picker, A, 1);
        let piece = asked[0].piece;
        assert!(picker.peer_lost(A, piece) && !picker.peer_lost(A, piece), "it can be lost only once");
        assert!(!picker.peer_is_seed(A) && picker.peer_is_seed(B));
        picker.release_cancelled(A, &asked);
        picker.check_invariants();
        let rest = pick(&mut picker, A, 9);
        assert!(rest.len() == 2 && rest.iter().all(|block| block.piece != piece));
        assert!(pick(&mut picker, B, 2).contains(&asked[0]));
    }

    #[test]
    fn a_peer_that_lost_all_wanted_pieces_is_not_interesting_until_it_has_one_again() {
        let mut picker = picker(3);
        for piece in (0..3).map(PieceIndex) {
            assert!(picker.is_interested_in(A) && picker.peer_lost(A, piece));
            picker.check_invariants();
        }
        assert!(!picker.is_interested_in(A) && pick(&mut picker, A, 9).is_empty());
        assert!(picker.peer_has(A, PieceIndex(1)) && picker.is_interested_in(A));
        assert_eq!(pick(&mut picker, A, 9).len(), 2);
        assert!(!picker.peer_lost(PeerKey(9), PieceIndex(0)) && !picker.peer_lost(A, PieceIndex(3)));
    }

    /// To count a peer in another way costs a pass over all pieces.
    #[test]
    fn a_seed_that_loses_pieces_again_and_again_is_counted_anew_only_once() {
        let mut picker = picker(8);
        assert_eq!(picker.order.seeds(), 2);
        for _ in 0..3 {
            assert!(picker.peer_lost(A, PieceIndex(3)));
            assert_eq!(picker.order.seeds(), 1);
            picker.check_invariants();
            assert!(picker.peer_has(A, PieceIndex(3)) && picker.peer_is_seed(A));
            assert_eq!(picker.order.seeds(), 1, "it stays counted piece by piece");
            picker.check_invariants();
        }
        assert_eq!(pick(&mut picker, A, 16).len(), 16, "it still gets requests for all pieces");
        picker.set_bitfield(A, Bitfield::full(8));
        assert_eq!(picker.order.seeds(), 2);
        picker.check_invariants();
        assert!(picker.peer_lost(A, PieceIndex(1)));
        picker.remove_peer(A);
        picker.check_invariants();
    }

    #[test]
    fn pieces_that_come_and_go_take_no_memory() {
        let mut picker = picker(8);
        for round in 0..10_000 {
            let piece = PieceIndex(round % 8);
            assert!(picker.peer_lost(A, piece) && picker.peer_has(A, piece));
        }
        picker.check_invariants();
        assert!(picker.wanted.len() < 8);
    }
}
