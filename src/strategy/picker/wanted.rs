//! Which peers have a piece that we want and lack, at a cost that does not grow with the number of peers.
//!
//! When a piece is verified, each peer that has it may lose its last wanted piece. Asking every peer's bitfield would take time in
//! proportion to the peers. So each peer has a lower bound instead: if it has `n` wanted pieces now, it has one until `n` more pieces are
//! verified. Only then are its pieces counted again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::types::PeerKey;

/// A number of verified pieces, counted from when the picker was made.
pub(super) type VerifiedCount = u64;

/// The number of verified pieces, and when to count a peer's pieces again.
#[derive(Clone, Debug, Default)]
pub(super) struct WantedBounds {
    verified: VerifiedCount,
    /// At least one entry for each peer with a wanted piece, at its bound or earlier. Entries of other peers may be left over.
    due: BinaryHeap<Reverse<(VerifiedCount, PeerKey)>>,
}

impl WantedBounds {
    /// The bound of a peer that has `wanted` wanted pieces now.
    pub fn bound(&mut self, key: PeerKey, wanted: u32) -> VerifiedCount {
        let bound = self.verified + u64::from(wanted);
        if wanted > 0 {
            self.due.push(Reverse((bound, key)));
        }
        bound
    }

    /// The bound of a peer that has one wanted piece more than before.
    pub fn one_more(&mut self, key: PeerKey, bound: VerifiedCount) -> VerifiedCount {
        // Its entry is found too early, and then moved.
        if self.is_wanted(bound) { bound + 1 } else { self.bound(key, 1) }
    }

    /// The bound of a peer that has `wanted` wanted pieces now, fewer than before.
    pub fn replace_bound(&mut self, key: PeerKey, wanted: u32) -> VerifiedCount {
        // Otherwise, a peer that loses and gets pieces all the time would add an entry each time.
        self.due.retain(|Reverse((_, other))| *other != key);
        self.bound(key, wanted)
    }

    /// Whether a peer with this bound has a wanted piece.
    pub fn is_wanted(&self, bound: VerifiedCount) -> bool {
        bound > self.verified
    }

    /// Whether the piece verified last reached this bound.
    pub fn is_reached_now(&self, bound: VerifiedCount) -> bool {
        bound == self.verified
    }

    /// Counts a verified piece.
    pub fn note_verified(&mut self) {
        self.verified += 1;
    }

    /// Removes and returns a peer whose bound may have been reached.
    pub fn next_due(&mut self) -> Option<PeerKey> {
        let is_due = self.due.peek().is_some_and(|Reverse((due, _))| *due <= self.verified);
        is_due.then(|| self.due.pop()).flatten().map(|Reverse((_, key))| key)
    }

    /// Puts a peer back whose bound is later.
    pub fn put_back(&mut self, key: PeerKey, bound: VerifiedCount) {
        self.due.push(Reverse((bound, key)));
    }

    /// Whether the bound of a peer with `wanted` wanted pieces is right, and the peer will be found by then.
    #[cfg(test)]
    pub fn is_within(&self, key: PeerKey, bound: VerifiedCount, wanted: u64) -> bool {
        let found_by = self.due.iter().filter(|Reverse((_, other))| *other == key).map(|Reverse((due, _))| *due).min();
        bound <= self.verified + wanted && (wanted == 0 || found_by.is_some_and(|due| due <= bound))
    }

    /// The number of entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Forgets all bounds, because other pieces are wanted now.
    pub fn clear(&mut self) {
        self.due.clear();
    }
}

#[cfg(test)]
mod tests {
    use crate::strategy::picker::Picker;
    use crate::types::{BLOCK_SIZE, Bitfield, PeerKey, PieceIndex};

    const PIECES: u32 = 64;

    /// Verifies a piece with one block from a peer that has everything.
    fn verify(picker: &mut Picker, piece: PieceIndex) -> Vec<PeerKey> {
        use crate::strategy::picker::{PickContext, Speed};
        let seed = PeerKey(0);
        let mut blocks = Vec::new();
        let pick_context = PickContext::unproven(std::time::Duration::ZERO, Speed::Fast);
        picker.pick_within(seed, 1, pick_context, &[piece], &mut blocks);
        assert_eq!(blocks.len(), 1);
        picker.accept(seed, blocks[0], &mut Vec::new());
        assert_eq!(picker.written(seed, blocks[0]), Some(piece));
        let verdict = picker.piece_hashed(piece, true);
        picker.check_invariants();
        verdict.no_longer_wanted
    }

    #[test]
    fn each_peer_is_named_once_when_its_last_wanted_piece_is_verified() {
        let mut picker = Picker::new(BLOCK_SIZE, u64::from(PIECES * BLOCK_SIZE), Bitfield::new(PIECES), 1);
        picker.add_peer(PeerKey(0));
        picker.set_bitfield(PeerKey(0), Bitfield::full(PIECES));
        let mut random = fastrand::Rng::with_seed(1);
        let mut sets = std::collections::BTreeMap::new();
        for key in 1..20 {
            let mut bits = Bitfield::new(PIECES);
            (0..random.u32(1..PIECES)).for_each(|_| {
                bits.set(PieceIndex(random.u32(..PIECES)));
            });
            picker.add_peer(PeerKey(key));
            picker.set_bitfield(PeerKey(key), bits.clone());
            sets.insert(PeerKey(key), bits);
        }
        let mut order: Vec<u32> = (0..PIECES).collect();
        random.shuffle(&mut order);
        let mut have = Bitfield::new(PIECES);
        for piece in order.into_iter().map(PieceIndex) {
            // A peer gets another piece now and then.
            let key = PeerKey(random.u32(1..20));
            let news = PieceIndex(random.u32(..PIECES));
            picker.peer_has(key, news);
            sets.get_mut(&key).expect("a peer").set(news);
            picker.check_invariants();
            let lacks = |have: &Bitfield, bits: &Bitfield| bits.iter().any(|piece| !have.has(piece));
            let before: Vec<_> = sets.iter().filter(|(_, bits)| lacks(&have, bits)).map(|(key, _)| *key).collect();
            have.set(piece);
            let mut expected: Vec<_> = before.into_iter().filter(|key| !lacks(&have, &sets[key])).collect();
            if have.is_full() {
                expected.insert(0, PeerKey(0));
            }
            assert_eq!(verify(&mut picker, piece), expected);
        }
    }
}
