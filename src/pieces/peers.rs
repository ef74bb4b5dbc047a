//! Which pieces each connected peer and web seed has.

use crate::pieces::PieceManager;
use crate::types::{Bitfield, PeerKey, PieceIndex};

impl PieceManager {
    /// Registers the peer and returns our bitfield in wire form, or `None` if we have no piece. One lock covers both, so no HAVE
    /// is lost in between.
    pub fn add_peer(&self, peer: PeerKey) -> Option<Vec<u8>> {
        let mut picker = self.picker.lock();
        picker.add_peer(peer);
        let have = picker.have();
        (have.count() > 0).then(|| have.as_bytes().to_vec())
    }

    /// Removes a peer that disconnected. Its outstanding blocks become free for other peers.
    pub fn remove_peer(&self, peer: PeerKey) {
        self.picker.lock().remove_peer(peer);
    }

    /// Sets the peer's bitfield. Returns false and changes nothing if the new bitfield lacks a piece that the peer announced
    /// before.
    pub fn set_bitfield(&self, peer: PeerKey, bits: Bitfield) -> bool {
        let mut picker = self.picker.lock();
        let keeps = picker.peer_bitfield(peer).is_none_or(|before| before.is_within(&bits));
        if keeps {
            picker.set_bitfield(peer, bits);
        }
        keeps
    }

    /// Sets what a web seed has.
    pub fn set_web_seed_pieces(&self, web_seed: PeerKey, bits: Bitfield) {
        let mut picker = self.picker.lock();
        picker.set_bitfield(web_seed, bits);
        picker.mark_web_seed(web_seed);
    }

    /// Records that the peer has a piece. Returns whether the peer has any piece that we want.
    pub fn peer_has(&self, peer: PeerKey, piece: PieceIndex) -> bool {
        let mut picker = self.picker.lock();
        picker.peer_has(peer, piece);
        picker.is_interested_in(peer)
    }

    /// Records that the peer has lost a piece. Returns false if it did not have it. The caller releases the requests for it.
    pub fn peer_lost(&self, peer: PeerKey, piece: PieceIndex) -> bool {
        self.picker.lock().peer_lost(peer, piece)
    }

    /// Records that a web seed does not have these pieces.
    pub fn web_seed_lost(&self, web_seed: PeerKey, pieces: &[PieceIndex]) {
        self.picker.lock().peer_lost_all(web_seed, pieces);
    }

    /// Whether the peer has any piece that we want.
    pub fn is_interested_in(&self, peer: PeerKey) -> bool {
        self.picker.lock().is_interested_in(peer)
    }

    /// Whether the connection is useless to both sides: we are complete, and the peer is a seed or announced that it wants
    /// nothing (`is_upload_only`, BEP 21).
    pub fn is_redundant(&self, peer: PeerKey, is_upload_only: bool) -> bool {
        let picker = self.picker.lock();
        picker.is_complete() && (is_upload_only || picker.peer_is_seed(peer))
    }

    /// Whether the peer has every piece.
    pub fn peer_is_seed(&self, peer: PeerKey) -> bool {
        self.picker.lock().peer_is_seed(peer)
    }

    /// The fraction of the torrent's pieces that the peer has, 0 to 1.
    pub fn fraction_of_peer(&self, peer: PeerKey) -> f64 {
        let picker = self.picker.lock();
        picker.peer_bitfield(peer).map_or(0.0, |b| f64::from(b.count()) / f64::from(b.len().max(1)))
    }
}
