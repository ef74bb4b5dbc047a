//! The pieces that both sides may request despite a choke (BEP 6), and the sending side of two extensions: rejects (BEP 6) and
//! our extension handshake (BEP 10).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::peer::TorrentContext;
use crate::peer::outbox::WriterCommand;
use crate::peer::state::Peer;
use crate::types::{BlockRequest, PieceIndex};
use crate::wire::extension::{HANDSHAKE_ID, OUR_REQUEST_QUEUE, OurExtensionHandshake};

/// At most this many allowed fast pieces are kept of one peer; clients usually allow ten.
const MAX_ALLOWED: usize = 64;
/// Rejects that may wait for a peer that does not read them.
const MAX_PENDING_REJECTS: u32 = 2 * OUR_REQUEST_QUEUE;

/// The pieces that may be requested despite a choke.
#[derive(Debug, Default)]
pub struct AllowedFastSet {
    /// The pieces that the peer allows us to request.
    allowed_to_us: Mutex<Vec<PieceIndex>>,
    /// Whether there are any; read without the lock.
    any: AtomicBool,
    /// The pieces that we allow the peer to request; set once it has been told.
    allowed_to_peer: OnceLock<Vec<PieceIndex>>,
}

impl AllowedFastSet {
    /// Whether the peer allows us any piece.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
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
            self.any.store(true, Ordering::Release);
        }
        new
    }

    /// The peer rejected these requests while it chokes us, so it no longer allows their pieces.
    pub fn remove_rejected(&self, rejected: &[BlockRequest]) {
        let mut pieces = self.allowed_to_us.lock();
        pieces.retain(|piece| !rejected.iter().any(|block| block.piece == *piece));
        self.any.store(!pieces.is_empty(), Ordering::Release);
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

impl Peer {
    /// Tells a fast peer that these requests will not be answered. BEP 3 has no message for that, so other peers are told
    /// nothing. Returns false if far too many rejects wait.
    pub fn send_rejects(&self, blocks: Vec<BlockRequest>) -> bool {
        if !self.extensions.fast || blocks.is_empty() {
            return true;
        }
        let count = blocks.len() as u32;
        let waiting = self.serving.pending_rejects.add(count).saturating_add(count);
        self.send(WriterCommand::Reject(blocks));
        waiting <= MAX_PENDING_REJECTS
    }

    /// The payload of our extension handshake for this peer (BEP 10).
    pub fn extension_handshake(&self, shared: &TorrentContext) -> Vec<u8> {
        let upload_only = is_upload_only(shared);
        let port = shared.port.load(Ordering::Relaxed);
        let metadata_size = shared.info.get().and_then(|info| u32::try_from(info.len()).ok()).unwrap_or_default();
        OurExtensionHandshake {
            port,
            your_ip: self.addr.ip(),
            upload_only,
            metadata_size,
            pex: shared.pex,
            client: &shared.client,
        }
        .encode()
    }

    /// Tells the peer whether we are upload-only: by the `upload_only` message if the peer supports it, else by another
    /// extension handshake if the peer supports those.
    pub fn send_upload_only(&self, shared: &TorrentContext) {
        match self.extensions.upload_only_id.load(Ordering::Acquire) {
            0 if self.extensions.extended => {
                self.send(WriterCommand::Extended(HANDSHAKE_ID, self.extension_handshake(shared)));
            }
            0 => {}
            id => self.send(WriterCommand::Extended(id, vec![u8::from(is_upload_only(shared))])),
        }
    }
}

/// Whether we announce that we download nothing more (BEP 21): once every wanted piece is verified, and never before the
/// metadata is known. A super-seed does not announce it while it pretends to have nothing: libtorrent disconnects a peer that
/// neither has nor wants anything.
fn is_upload_only(shared: &TorrentContext) -> bool {
    !shared.wants_info && shared.pieces.is_complete() && shared.active_super_seed().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_allows_is_bounded_and_taken_back_by_rejects() {
        let allowed = AllowedFastSet::default();
        assert!(!allowed.any());
        for piece in 0..1000 {
            assert_eq!(allowed.add(PieceIndex(piece)), piece < MAX_ALLOWED as u32);
        }
        assert!(!allowed.add(PieceIndex(3)));
        assert_eq!(allowed.pieces().len(), MAX_ALLOWED);
        let rejected: Vec<_> =
            (1..1000).map(|piece| BlockRequest { piece: PieceIndex(piece), begin: 0, length: 1 }).collect();
        allowed.remove_rejected(&rejected);
        assert_eq!(allowed.pieces(), [PieceIndex(0)]);
        allowed.remove_rejected(&[BlockRequest { piece: PieceIndex(0), begin: 5, length: 1 }]);
        assert!(!allowed.any());
    }

    #[test]
    fn what_we_grant_is_granted_once() {
        let allowed = AllowedFastSet::default();
        assert!(!allowed.is_granted(PieceIndex(1)));
        allowed.grant(vec![PieceIndex(1)]);
        allowed.grant(vec![PieceIndex(2)]);
        assert!(allowed.is_granted(PieceIndex(1)) && !allowed.is_granted(PieceIndex(2)));
    }
}
