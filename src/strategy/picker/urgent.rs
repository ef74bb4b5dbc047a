//! Urgent pieces, which somebody waits for, such as a media player: all peers work on them first. libtorrent calls them
//! time-critical.

use crate::strategy::picker::choose::Pick;
use crate::strategy::picker::{BegunPiece, BlockState, Picker};
use crate::types::{PeerKey, PieceIndex};

/// The most urgent pieces; further ones are ignored.
pub const MAX_URGENT: usize = 64;
/// How many of the most urgent pieces may be requested twice, if another peer is likely to deliver them sooner.
const MAX_DUPLICATED_PIECES: usize = 4;
/// How many of them are divided among the peers.
const MAX_DIVIDED_PIECES: usize = 16;
/// A peer that is slower than the fastest one by more than this factor leaves the most urgent piece alone.
const TOO_SLOW: f64 = 4.0;

/// How many of a piece's `missing` blocks a peer may be asked for, so that all peers complete it at the same time. `rates` are
/// those of all peers that may send blocks of it, in blocks per second, and `own` is that of the peer; `None` if it is not known.
/// `is_first` says whether the piece is the most urgent one.
fn blocks_for_peer(
    rates: impl Iterator<Item = Option<f64>> + Clone,
    own: Option<f64>,
    missing: usize,
    is_first: bool,
) -> usize {
    let fastest = rates.clone().flatten().fold(0.0, f64::max);
    let helps = |rate: &f64| !is_first || rate * TOO_SLOW >= fastest;
    let part = match own {
        Some(own) if !helps(&own) => return 0,
        Some(own) => own / rates.flatten().filter(helps).sum::<f64>(),
        None => 1.0 / rates.count().max(1) as f64,
    };
    ((missing as f64 * part).ceil() as usize).clamp(1, missing.max(1))
}

impl Picker {
    /// Sets the pieces that come before all others, most urgent first, in place of the earlier ones. Those that are verified or
    /// not wanted are left out.
    pub fn set_urgent(&mut self, pieces: impl IntoIterator<Item = PieceIndex>) {
        self.sequence.urgent.clear();
        for piece in pieces {
            if self.sequence.urgent.len() >= MAX_URGENT {
                break;
            }
            if self.unverified_wanted.has(piece) && !self.sequence.urgent.contains(&piece) {
                self.sequence.urgent.push(piece);
            }
        }
    }

    /// The most urgent pieces; none if the peer has no urgent piece.
    pub fn most_urgent_for(&self, key: PeerKey) -> Vec<PieceIndex> {
        let urgent = &self.sequence.urgent;
        let is_useful = self.peer(key).is_some_and(|peer| urgent.iter().any(|&piece| peer.bits.has(piece)));
        if is_useful { urgent.iter().copied().take(MAX_DUPLICATED_PIECES).collect() } else { Vec::new() }
    }

    /// Takes blocks of urgent pieces: free ones, those that other peers let expire, and for the most urgent pieces those that
    /// other peers are likely to deliver later. Peers that need long for a block get none, as the pieces would wait for them.
    pub(super) fn take_urgent(&mut self, pick: &mut Pick) {
        if pick.context.is_very_slow() {
            return;
        }
        let urgent = std::mem::take(&mut self.sequence.urgent);
        for (rank, &piece) in urgent.iter().enumerate() {
            if pick.is_full() {
                break;
            }
            self.take_urgent_piece(pick, piece, rank);
        }
        if !pick.is_full() {
            self.take_duplicates(pick, urgent.get(..MAX_DUPLICATED_PIECES).or(Some(&urgent)));
        }
        self.sequence.urgent = urgent;
    }

    fn take_urgent_piece(&mut self, pick: &mut Pick, piece: PieceIndex, rank: usize) {
        let key = pick.key;
        if !self.peers[pick.peer].bits.has(piece) || self.begun.get(&piece).is_some_and(|begun| begun.free == 0) {
            return;
        }
        let most = if rank < MAX_DIVIDED_PIECES { self.blocks_of_urgent(pick, piece, rank == 0) } else { usize::MAX };
        if most == 0 {
            return;
        }
        if self.order.unbegun().has(piece) {
            if self.must_leave(piece, key) {
                return;
            }
            self.begin(piece, Some(key), Some(key));
        }
        if !self.begun.get(&piece).is_some_and(|begun| self.may_join(piece, begun, key)) {
            return;
        }
        let Some(begun) = self.begun.get_mut(&piece) else { return };
        let goal = pick.limit_to(most);
        for at in 0..if begun.expired > 0 { begun.blocks().len() } else { 0 } {
            if !pick.is_full() && matches!(begun.get(at), Some(BlockState::Expired(by)) if by != key) {
                begun.request(at, key, pick.due());
                pick.out.push(self.geometry.block(piece, at));
            }
        }
        let owner = *begun.owner.get_or_insert(key);
        // Another peer's piece is filled from its end, so that its owner can continue in order as long as possible.
        self.take_free(pick, piece, owner != key);
        pick.restore_limit(goal);
    }

    /// How many blocks of the piece this peer may be asked for now.
    fn blocks_of_urgent(&self, pick: &Pick, piece: PieceIndex, is_first: bool) -> usize {
        let serving = self.peers.iter().filter(|peer| peer.is_serving && !peer.pick_context.is_stalled());
        let rates = serving.filter(|peer| peer.bits.has(piece)).map(|peer| peer.pick_context.block_rate());
        let missing = self.begun.get(&piece).map_or(self.blocks_of(piece), BegunPiece::missing);
        blocks_for_peer(rates, pick.context.block_rate(), missing as usize, is_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_divided_by_the_rates_and_a_much_slower_peer_leaves_the_first_one_alone() {
        let of = |rates: &[Option<f64>], own, is_first| blocks_for_peer(rates.iter().copied(), own, 16, is_first);
        assert_eq!(of(&[Some(4.0); 4], Some(4.0), true), 4);
        assert_eq!(of(&[Some(6.0), Some(2.0)], Some(6.0), true), 12);
        assert_eq!(of(&[Some(6.0), Some(2.0)], Some(2.0), true), 4);
        let unequal = [Some(9.0), Some(2.0)];
        assert_eq!([true, false].map(|is_first| of(&unequal, Some(2.0), is_first)), [0, 3]);
        assert_eq!(of(&unequal, Some(9.0), true), 16, "the others do its part");
        assert_eq!(of(&[Some(8.0), Some(2.0)], Some(2.0), true), 4, "four times is not too slow");
        assert_eq!(of(&[Some(0.1)], Some(0.1), true), 16, "nobody else has it");
        assert_eq!(of(&[None, None], None, true), 8, "nobody has proven itself");
        assert_eq!(of(&[Some(1.0), None], None, true), 8);
        assert_eq!(of(&[Some(1000.0), Some(1.0)], Some(1.0), false), 1, "never none of a later one");
        assert_eq!(blocks_for_peer([].into_iter(), None, 0, true), 1);
    }
}
