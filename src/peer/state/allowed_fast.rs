//! The pieces that both sides may request despite a choke (BEP 6).

use std::sync::OnceLock;

use parking_lot::Mutex;

use crate::types::{BlockInfo, PieceIndex};
use crate::util::atomics::Flag;

/// At most this many allowed fast pieces are kept of one peer; clients usually allow ten.
const MAX_ALLOWED: usize = 64;

/// The pieces that may be requested despite a choke.
#[derive(Debug, Default)]
pub struct AllowedFastSet {
    /// The pieces that the peer allows us to request.
    allowed_to_us: Mutex<Vec<PieceIndex>>,
    /// Whether there are any; read without the lock.
    any: Flag,
    /// The pieces that we allow the peer to request; set once it has been told.
    allowed_to_peer: OnceLock<Vec<PieceIndex>>,
}

impl AllowedFastSet {
    /// Whether the peer allows us any piece.
    pub fn has_pieces(&self) -> bool {
        self.any.is_set()
    }

    /// The pieces that the peer allows us to request.
    pub fn pieces(&self) -> Vec<PieceIndex> {
        self.allowed_to_us.lock().clone()
    }

    /// The peer allows us to request this piece. Returns true if that is new. At most `MAX_ALLOWED` pieces are kept.
    pub fn add(&self, piece: PieceIndex) -> bool {
        let mut pieces = self.allowed_to_us.lock();
        let new = pieces.len() < MAX_ALLOWED && !pieces.contains(&piece);
        if new {
            pieces.push(piece);
            self.any.set(true);
        }
        new
    }

    /// The peer rejected these requests while it chokes us, so it no longer allows their pieces.
    pub fn remove_rejected(&self, rejected: &[BlockInfo]) {
        let mut pieces = self.allowed_to_us.lock();
        pieces.retain(|piece| !rejected.iter().any(|block| block.piece == *piece));
        self.any.set(!pieces.is_empty());
    }

    /// We allow the peer to request these pieces; only the first call counts.
    pub fn grant(&self, pieces: Vec<PieceIndex>) {
        let _ = self.allowed_to_peer.set(pieces);
    }

    /// Whether we allow the peer to request this piece.
    pub fn is_granted(&self, piece: PieceIndex) -> bool {
        self.allowed_to_peer.get().is_some_and(|pieces| pieces.contains(&piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_a_peer_allows_are_bounded_and_removed_by_rejects() {
        let allowed = AllowedFastSet::default();
        assert!(!allowed.has_pieces());
        for piece in 0..1000 {
            assert_eq!(allowed.add(PieceIndex(piece)), piece < MAX_ALLOWED as u32);
        }
        assert!(!allowed.add(PieceIndex(3)));
        assert_eq!(allowed.pieces().len(), MAX_ALLOWED);
        let rejected: Vec<_> =
            (1..1000).map(|piece| BlockInfo { piece: PieceIndex(piece), begin: 0, length: 1 }).collect();
        allowed.remove_rejected(&rejected);
        assert_eq!(allowed.pieces(), [PieceIndex(0)]);
        allowed.remove_rejected(&[BlockInfo { piece: PieceIndex(0), begin: 5, length: 1 }]);
        assert!(!allowed.has_pieces());
    }

    #[test]
    fn we_grant_the_allowed_fast_set_once() {
        let allowed = AllowedFastSet::default();
        assert!(!allowed.is_granted(PieceIndex(1)));
        allowed.grant(vec![PieceIndex(1)]);
        allowed.grant(vec![PieceIndex(2)]);
        assert!(allowed.is_granted(PieceIndex(1)) && !allowed.is_granted(PieceIndex(2)));
    }
}
