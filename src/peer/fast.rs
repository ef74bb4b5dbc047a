//! What both sides of a connection let each other have despite a choke (BEP 6), and the sending side of the two extensions that
//! a connection speaks: rejects, and what we say of ourselves (BEP 10).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::peer::TorrentContext;
use crate::peer::outbox::WriterCommand;
use crate::peer::state::Peer;
use crate::types::{BlockRequest, PieceIndex};
use crate::wire::extension::{HANDSHAKE_ID, OUR_REQUEST_QUEUE, OurExtensionHandshake};

/// Pieces that one peer lets us ask for while it chokes us, at most; usual are ten.
const MAX_ALLOWED: usize = 64;
/// Rejects that may wait for a peer that does not read them.
const MAX_PENDING_REJECTS: u32 = 2 * OUR_REQUEST_QUEUE;

/// Pieces that may be asked for despite a choke.
#[derive(Default)]
pub struct AllowedFastSet {
    /// Those that the peer lets us have.
    allowed_to_us: Mutex<Vec<PieceIndex>>,
    /// Whether there are any; read without the lock.
    any: AtomicBool,
    /// Those that we let it have, once it has been told.
    allowed_to_peer: OnceLock<Vec<PieceIndex>>,
}

impl AllowedFastSet {
    /// Whether the peer lets us have some.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// What the peer lets us have.
    pub fn pieces(&self) -> Vec<PieceIndex> {
        self.allowed_to_us.lock().clone()
    }

    /// The peer lets us have this one; true where that is news. More than a few dozen are not kept.
    pub fn add(&self, piece: PieceIndex) -> bool {
        let mut pieces = self.allowed_to_us.lock();
        let new = pieces.len() < MAX_ALLOWED && !pieces.contains(&piece);
        if new {
            pieces.push(piece);
            self.any.store(true, Ordering::Release);
        }
        new
    }

    /// The peer rejects these although we are choked: it takes back what it allowed.
    pub fn remove_rejected(&self, rejected: &[BlockRequest]) {
        let mut pieces = self.allowed_to_us.lock();
        pieces.retain(|piece| !rejected.iter().any(|block| block.piece == *piece));
        self.any.store(!pieces.is_empty(), Ordering::Release);
    }

    /// We let the peer have these; said once.
    pub fn grant(&self, pieces: Vec<PieceIndex>) {
        let _ = self.allowed_to_peer.set(pieces);
    }

    /// Whether we let the peer have this one.
    pub fn is_granted(&self, piece: PieceIndex) -> bool {
        self.allowed_to_peer.get().is_some_and(|pieces| pieces.contains(&piece))
    }
}

impl Peer {
    /// Tells a fast peer that these will not be answered; others are told nothing, as BEP 3 has no word for it. False where
    /// far too many such answers wait.
    pub fn send_rejects(&self, blocks: Vec<BlockRequest>) -> bool {
        if !self.fast || blocks.is_empty() {
            return true;
        }
        let count = blocks.len() as u32;
        let waiting = self.pending_rejects.fetch_add(count, Ordering::AcqRel).saturating_add(count);
        self.send(WriterCommand::Reject(blocks));
        waiting <= MAX_PENDING_REJECTS
    }

    /// What we say of ourselves to this peer (BEP 10): the payload of an extension handshake.
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

    /// Tells the peer whether we want nothing more: by the message for that where the peer takes it, else by another extension
    /// handshake where it understands that.
    pub fn send_upload_only(&self, shared: &TorrentContext) {
        match self.upload_only_id.load(Ordering::Acquire) {
            0 if self.extended => self.send(WriterCommand::Extended(HANDSHAKE_ID, self.extension_handshake(shared))),
            0 => {}
            id => self.send(WriterCommand::Extended(id, vec![u8::from(is_upload_only(shared))])),
        }
    }
}

/// Whether we say that we want nothing more (BEP 21). It is enough to have what was wanted; without metadata nobody knows. A
/// super-seed does not say so while it seems to have nothing: libtorrent disconnects a peer that neither has nor wants anything.
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
