//! Picks from a few pieces that a peer serves even while it chokes us (allowed fast, BEP 6).

use crate::strategy::picker::{PickContext, Picker, choose};
use crate::types::{BlockInfo, PeerKey, PieceIndex};

impl Picker {
    /// Like [`Picker::pick`], but only from these pieces, in their order, and without duplicates.
    pub fn pick_within(
        &mut self,
        key: PeerKey,
        n: usize,
        pick_context: PickContext,
        pieces: &[PieceIndex],
        out: &mut Vec<BlockInfo>,
    ) {
        let Ok(peer) = self.find(key) else { return };
        self.deadlines.remove(key);
        self.peers[peer].pick_context = pick_context;
        let mut pick = choose::Pick::new(key, peer, pick_context, n, out);
        for &piece in pieces {
            if pick.is_full() {
                break;
            }
            if !self.peers[peer].bits.has(piece) || !self.unverified_wanted.has(piece) {
                continue;
            }
            if self.order.unbegun().has(piece) {
                if self.must_leave(piece, key) {
                    continue;
                }
                self.begin(piece, Some(key).filter(|_| !pick_context.is_stalled()), Some(key));
            }
            if self.begun.get(&piece).is_some_and(|begun| !self.may_join(piece, begun, key)) {
                continue;
            }
            let Some(begun) = self.begun.get_mut(&piece).filter(|begun| begun.free > begun.expired) else { continue };
            // A stalled peer owns nothing, so that others need not wait for it.
            let owner = if pick_context.is_stalled() { begun.owner } else { Some(*begun.owner.get_or_insert(key)) };
            // Another peer's piece is filled from its end, so that its owner can continue in order as long as possible.
            self.take_free(&mut pick, piece, owner != Some(key));
        }
        self.begin_deadline(&pick, true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::strategy::picker::Speed;
    use crate::types::{BLOCK_SIZE, Bitfield};

    const A: PeerKey = PeerKey(1);
    const B: PeerKey = PeerKey(2);

    fn take(picker: &mut Picker, key: PeerKey, n: usize, pieces: &[u32]) -> Vec<(u32, u32)> {
        let (mut out, pieces) = (Vec::new(), pieces.iter().map(|&p| PieceIndex(p)).collect::<Vec<_>>());
        let pick_context = PickContext::unproven(Duration::ZERO, Speed::Fast);
        picker.pick_within(key, n, pick_context, &pieces, &mut out);
        picker.check_invariants();
        out.iter().map(|block| (block.piece.0, block.begin / BLOCK_SIZE)).collect()
    }

    #[test]
    fn only_missing_pieces_that_the_peer_has_and_allows_are_picked() {
        let mut have = Bitfield::new(6);
        have.set(PieceIndex(3));
        let mut picker = Picker::new(2 * BLOCK_SIZE, u64::from(12 * BLOCK_SIZE), have, 1);
        let mut bits = Bitfield::full(6);
        bits.clear(PieceIndex(4));
        picker.add_peer(A);
        picker.set_bitfield(A, bits);
        picker.add_peer(B);
        picker.set_bitfield(B, Bitfield::full(6));
        assert_eq!(take(&mut picker, A, 9, &[]), []);
        assert_eq!(take(&mut picker, A, 1, &[5, 3, 4, 99, 1]), [(5, 0)]);
        // A piece of another peer is filled from its end, and no block is requested twice.
        assert_eq!(take(&mut picker, B, 9, &[5]), [(5, 1)]);
        assert_eq!(take(&mut picker, A, 9, &[5, 3, 4, 99, 1]), [(1, 0), (1, 1)]);
        assert_eq!(take(&mut picker, PeerKey(9), 9, &[0]), []);
    }
}
