//! What a connection does when a stream of the torrent seeks, that is, needs other pieces than before.

use std::time::Duration;

use crate::peer::TorrentContext;
use crate::peer::state::Peer;

impl Peer {
    /// Cancels requests that delay a stream after a seek, if the peer has pieces that the stream needs. Called while `refilling`
    /// is held, before blocks are picked.
    pub(super) fn follow_seeks(&self, context: &TorrentContext, now: Duration) {
        let seeks = context.pieces.seek_count();
        if seeks == 0 || !self.requesting.pipeline.lock().is_cancel_due(now, seeks) {
            return;
        }
        let urgent = context.pieces.most_urgent_for(self.key);
        let cancelled = self
            .requesting
            .pipeline
            .lock()
            .cancel_for_seek(now, seeks, |block| urgent.is_empty() || urgent.contains(&block.piece));
        if !cancelled.is_empty() {
            context.pieces.release_cancelled(self.key, &cancelled);
            self.announce_requests();
        }
    }
}

/// A stream has seeked: requests the pieces that it waits for from all peers, the fastest first.
pub fn refill_for_seek(context: &TorrentContext) {
    let mut peers = context.roster.all();
    peers.sort_by_key(|peer| std::cmp::Reverse(peer.rates.download_rate.get()));
    for peer in peers {
        peer.refill(context);
    }
}
