//! Streams that seek, so that requests are cancelled.

use super::*;

impl Model {
    /// A stream needs these pieces: what is requested from the peers that have one of them is cancelled, but for the most urgent
    /// ones.
    pub(super) fn seek(&mut self, pieces: &[u8]) {
        self.picker.set_urgent(pieces.iter().map(|&piece| PieceIndex(u32::from(piece))));
        for (&key, remote) in &mut self.remotes {
            let urgent = self.picker.most_urgent_for(key);
            let is_useless = |block: &mut BlockInfo| !urgent.is_empty() && !urgent.contains(&block.piece);
            let gone: Vec<BlockInfo> = remote.asked.extract_if(.., is_useless).collect();
            remote.lost.retain(|block| !gone.contains(block));
            remote.lost.extend(&gone);
            self.picker.release_cancelled(key, &gone);
        }
    }
}
