//! What a connection does when a reader of the torrent needs other pieces than before.

use std::time::Duration;

use crate::peer::TorrentContext;
use crate::peer::state::Peer;

impl Peer {
    /// Cancels requests that keep a reader waiting which has jumped, if the peer has pieces that it needs. Called while
    /// `refilling` is held, before blocks are picked.
    pub(super) fn follow_readers(&self, context: &TorrentContext, now: Duration) {
        let jumps = context.pieces.jumps();
        if jumps == 0 || !self.requesting.pipeline.lock().must_follow(now, jumps) {
            return;
        }
        let urgent = context.pieces.urgent_of(self.key);
        let cancelled = self
            .requesting
            .pipeline
            .lock()
            .cancel_for_readers(now, jumps, |block| urgent.is_empty() || urgent.contains(&block.piece));
        if !cancelled.is_empty() {
            context.pieces.give_back(self.key, &cancelled);
            self.announce_requests();
        }
    }
}

/// A reader jumped: requests what it waits for from all peers, the fastest first.
pub fn request_for_readers(context: &TorrentContext) {
    let mut peers = context.roster.all();
    peers.sort_by_key(|peer| std::cmp::Reverse(peer.rates.download_rate.get()));
    for peer in peers {
        peer.refill(context);
    }
}
