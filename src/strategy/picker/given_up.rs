//! Which peers gave up pieces that have one sender. Otherwise a peer that is asked for such a piece and then chokes us, again and
//! again, would keep it from all others.

use std::collections::BTreeMap;

use crate::strategy::picker::Picker;
use crate::types::{Bitfield, PeerKey, PieceIndex};

/// The most pairs of a piece and a peer that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// How often each connected peer gave up each doubtful or exclusive piece.
#[derive(Default)]
pub(super) struct GivenUp {
    counts: BTreeMap<PieceIndex, BTreeMap<PeerKey, u32>>,
    /// How many pairs of a piece and a peer `counts` has.
    entries: usize,
}

/// How often each peer gave up one piece.
#[derive(Clone, Copy)]
struct PieceCounts<'a>(Option<&'a BTreeMap<PeerKey, u32>>);

impl PieceCounts<'_> {
    fn of(self, key: PeerKey) -> u32 {
        self.0.and_then(|peers| peers.get(&key)).copied().unwrap_or_default()
    }
}

impl GivenUp {
    fn piece(&self, piece: PieceIndex) -> PieceCounts<'_> {
        PieceCounts(self.counts.get(&piece))
    }

    fn record(&mut self, piece: PieceIndex, key: PeerKey) {
        if self.entries >= MAX_REMEMBERED {
            *self = GivenUp::default();
        }
        let count = self.counts.entry(piece).or_default().entry(key).or_default();
        self.entries += usize::from(*count == 0);
        *count += 1;
    }

    pub(super) fn forget_peer(&mut self, key: PeerKey) {
        self.counts.retain(|_, peers| {
            self.entries -= usize::from(peers.remove(&key).is_some());
            !peers.is_empty()
        });
    }

    pub(super) fn forget_piece(&mut self, piece: PieceIndex) {
        self.entries -= self.counts.remove(&piece).map_or(0, |peers| peers.len());
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.entries, self.counts.values().map(BTreeMap::len).sum::<usize>());
        assert!(self.counts.values().all(|peers| !peers.is_empty()));
    }
}

impl Picker {
    /// Records that the peer choked us, rejected requests or was late in these pieces, once per piece.
    pub(crate) fn record_given_up(&mut self, key: PeerKey, mut pieces: Vec<PieceIndex>) {
        pieces.sort_unstable();
        pieces.dedup();
        for piece in pieces {
            let is_exclusive = self.begun.get(&piece).is_some_and(|begun| self.is_exclusive(piece, begun));
            if is_exclusive || self.parole.is_doubtful(piece) {
                self.parole.given_up.record(piece, key);
            }
        }
    }

    /// How much more often this peer gave the piece up than the best other peer that could send it now.
    pub(crate) fn extra_given_up(&self, piece: PieceIndex, key: PeerKey) -> u32 {
        let counts = self.parole.given_up.piece(piece);
        let own = counts.of(key);
        if own == 0 {
            return 0;
        }
        let others = self.peers.iter().filter(|peer| peer.key != key && peer.could_send(piece));
        others.map(|peer| own.saturating_sub(counts.of(peer.key))).max().unwrap_or_default()
    }

    /// Whether another peer that could send the piece goes first: one that gave it up less often, or as often and, unlike this
    /// peer, is not on parole or sent us as many blocks as would be discarded.
    pub(crate) fn must_leave(&self, piece: PieceIndex, key: PeerKey) -> bool {
        let discarded = self.begun.get(&piece).map_or(0, |begun| begun.received);
        let counts = self.parole.given_up.piece(piece);
        let rank = |key, sent_blocks| (counts.of(key), discarded > sent_blocks && self.parole.has_peer(key));
        let own = rank(key, self.peer(key).map_or(0, |peer| peer.sent_blocks));
        let mut others = self.peers.iter().filter(|peer| peer.key != key && peer.could_send(piece));
        own > (0, false) && others.any(|peer| rank(peer.key, peer.sent_blocks) < own)
    }

    /// The peer's bitfield without the pieces that it has to leave to others; `None` if there are none of these.
    pub(crate) fn allowed_bits(&self, peer: usize) -> Option<Bitfield> {
        let peer = &self.peers[peer];
        let given_up = self.parole.given_up.counts.iter().filter(|(_, peers)| peers.contains_key(&peer.key));
        let reserved: Vec<PieceIndex> =
            given_up.map(|(&piece, _)| piece).filter(|&piece| self.must_leave(piece, peer.key)).collect();
        let mut bits = (!reserved.is_empty()).then(|| peer.bits.clone())?;
        for piece in reserved {
            bits.clear(piece);
        }
        Some(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::picker::tests::{A, B, bits, pieces};
    use crate::strategy::picker::{Plan, RANDOM_FIRST};
    use crate::types::BLOCK_SIZE;

    /// Pieces of two blocks. The seeds A and B spoilt `doubtful`, and A gave it up while B serves us.
    fn given_up_by_a(plan: Plan, have: Bitfield, doubtful: PieceIndex) -> Picker {
        let count = plan.wanted.len();
        let mut picker = Picker::new(2 * BLOCK_SIZE, u64::from(count * 2 * BLOCK_SIZE), have, 7);
        picker.set_plan(plan);
        for seed in [A, B] {
            picker.add_peer(seed);
            picker.set_bitfield(seed, Bitfield::full(count));
        }
        picker.parole.begin(doubtful, &[A, B]);
        picker.take(B, 0, true);
        let blocks = picker.take(A, 2, true);
        assert_eq!(pieces(&blocks), [doubtful.0]);
        picker.release(A, &blocks);
        picker.check_invariants();
        picker
    }

    #[test]
    fn a_seed_that_leaves_a_piece_to_another_seed_gets_other_pieces() {
        let have = bits(20, &(0..RANDOM_FIRST).collect::<Vec<_>>());
        let doubtful = PieceIndex(9);
        let mut picker = given_up_by_a(Plan::all(20), have, doubtful);
        assert_eq!(picker.order.seeds(), 2);
        let mut got = pieces(&picker.take(A, 100, true));
        got.sort_unstable();
        let others: Vec<u32> = (RANDOM_FIRST..20).filter(|&piece| piece != doubtful.0).collect();
        assert_eq!(got, others);
    }

    #[test]
    fn a_peer_that_leaves_the_next_planned_piece_gets_the_one_after_it() {
        let sequential = Plan { is_sequential: true, ..Plan::all(20) };
        let mut picker = given_up_by_a(sequential, Bitfield::new(20), PieceIndex(0));
        assert_eq!(pieces(&picker.take(A, 6, true)), [1, 2, 3]);
        let early = Plan { early: [8, 5, 3].map(PieceIndex).into(), ..Plan::all(20) };
        let mut picker = given_up_by_a(early, Bitfield::new(20), PieceIndex(8));
        assert_eq!(pieces(&picker.take(A, 4, true)), [5, 3]);
    }

    #[test]
    fn an_entry_is_forgotten_with_its_piece_or_its_peer() {
        let mut given_up = GivenUp::default();
        for at in 0..MAX_REMEMBERED as u32 {
            given_up.record(PieceIndex(at / 2), if at % 2 == 0 { A } else { B });
            given_up.check();
        }
        assert_eq!(given_up.entries, MAX_REMEMBERED);
        given_up.forget_piece(PieceIndex(1));
        given_up.forget_piece(PieceIndex(u32::MAX));
        given_up.record(PieceIndex(0), A);
        assert_eq!((given_up.entries, given_up.piece(PieceIndex(0)).of(A)), (MAX_REMEMBERED - 2, 2));
        given_up.forget_peer(A);
        given_up.check();
        assert_eq!((given_up.piece(PieceIndex(0)).of(A), given_up.piece(PieceIndex(0)).of(B)), (0, 1));
        given_up.forget_peer(B);
        given_up.check();
        assert_eq!(given_up.entries, 0);
    }
}
