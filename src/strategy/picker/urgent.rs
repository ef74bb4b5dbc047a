//! Pieces that somebody waits for, such as a media player: all peers work on them first.

use crate::strategy::picker::choose::Pick;
use crate::strategy::picker::{BlockState, Picker};
use crate::types::PieceIndex;

/// The most urgent pieces; further ones are ignored.
pub const MAX_URGENT: usize = 64;
/// How many of the urgent pieces may be requested twice, if another peer is likely to deliver them sooner.
const DUPLICATED: usize = 4;

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

    /// Takes blocks of urgent pieces: free ones, those that other peers let expire, and for the most urgent pieces those that
    /// other peers are likely to deliver later. Peers that need long for a block get none, as the pieces would wait for them.
    pub(super) fn take_urgent(&mut self, pick: &mut Pick) {
        if pick.context.is_crawling() {
            return;
        }
        let urgent = std::mem::take(&mut self.sequence.urgent);
        for &piece in &urgent {
            if pick.is_full() {
                break;
            }
            self.take_urgent_piece(pick, piece);
        }
        if !pick.is_full() {
            self.take_duplicates(pick, urgent.get(..DUPLICATED).or(Some(&urgent)));
        }
        self.sequence.urgent = urgent;
    }

    fn take_urgent_piece(&mut self, pick: &mut Pick, piece: PieceIndex) {
        let key = pick.key;
        if !self.peers[pick.peer].bits.has(piece) {
            return;
        }
        if self.order.unbegun().has(piece) {
            if self.must_leave(piece, key) {
                return;
            }
            self.begin(piece, Some(key), Some(key));
        }
        let Some(begun) = self.begun.get(&piece) else { return };
        if begun.free == 0 || !self.may_join(piece, begun, key) {
            return;
        }
        let Some(begun) = self.begun.get_mut(&piece) else { return };
        for at in 0..if begun.expired > 0 { begun.blocks().len() } else { 0 } {
            if !pick.is_full() && matches!(begun.get(at), Some(BlockState::Expired(by)) if by != key) {
                begun.ask(at, key, pick.due());
                pick.out.push(self.geometry.block(piece, at));
            }
        }
        let owner = *begun.owner.get_or_insert(key);
        // Another peer's piece is filled from its end, so that its owner can continue in order as long as possible.
        self.take_free(pick, piece, owner != key);
    }
}
