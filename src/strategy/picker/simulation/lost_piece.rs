//! Peers that lose pieces.

use super::*;

impl Model {
    /// The peer loses a piece, so that the requests for it are void. The full peer keeps all.
    pub(super) fn lose(&mut self, key: PeerKey, piece: u8) {
        if key == FULL {
            return;
        }
        let piece = PieceIndex(u32::from(piece) % self.picker.geometry.pieces);
        let had = self.picker.peer_bitfield(key).is_some_and(|bits| bits.has(piece));
        assert_eq!(self.picker.peer_lost(key, piece), had);
        let remote = self.remotes.get_mut(&key).expect("known");
        let gone: Vec<BlockInfo> = remote.asked.extract_if(.., |block| block.piece == piece).collect();
        remote.lost.retain(|block| !gone.contains(block));
        remote.lost.extend(&gone);
        self.picker.release_cancelled(key, &gone);
    }
}
