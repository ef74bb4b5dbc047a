//! What a connection does when the peer has lost a piece (`lt_donthave`, BEP 54).

use crate::peer::TorrentContext;
use crate::peer::state::Peer;
use crate::types::PieceIndex;

impl Peer {
    /// The peer has lost a piece: forgets that it has it, and the requests for it. Returns whether there were any, so that other
    /// peers can get them.
    pub fn on_piece_lost(&self, context: &TorrentContext, piece: PieceIndex) -> bool {
        let requests = {
            let _only = self.requesting.refilling.lock(); // no thread requests blocks of the piece meanwhile
            if !context.pieces.peer_lost(self.key, piece) {
                return false;
            }
            let requests = self.requesting.pipeline.lock().remove_piece(piece);
            context.pieces.release_cancelled(self.key, &requests);
            requests
        };
        self.refresh_interest(context);
        if !requests.is_empty() {
            self.refill(context);
        }
        !requests.is_empty()
    }
}
