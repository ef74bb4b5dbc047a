//! A connection between its handshake and its threads: a new one, or one of the metadata phase that the download continues.

use std::sync::Arc;

use crate::peer::TorrentContext;
use crate::peer::encryption::StreamState;
use crate::peer::state::Peer;
use crate::types::{Bitfield, PieceIndex};
use crate::wire::extension::HANDSHAKE_ID;
use crate::wire::handshake::Handshake;
use crate::wire::message;

/// Up to this many pieces are sent as single HAVEs. More are sent as a bitfield: it should come first, but clients accept one
/// at any time.
const MAX_HAVES: u32 = 4096;

/// What the connection's threads start with.
pub struct EstablishedConnection {
    /// The peer's handshake.
    pub peer_handshake: Handshake,
    /// Whether the peer connected to us.
    pub is_incoming: bool,
    /// The received bytes that have not been parsed, and the ciphers for what follows.
    pub stream_state: StreamState,
    /// The peer's state in the metadata phase, if the connection comes from there.
    pub metadata_peer: Option<Arc<Peer>>,
}

impl Peer {
    /// Takes over what the peer announced about itself earlier on this connection.
    pub(crate) fn with_state_of(mut self, metadata_peer: &Peer) -> Peer {
        self.since = metadata_peer.since;
        self.requesting.pipeline = parking_lot::Mutex::new(metadata_peer.requesting.pipeline.lock().clone());
        self.extensions.version.clone_from(&metadata_peer.extensions.version);
        self.extensions.upload_only.set(metadata_peer.extensions.upload_only.is_set());
        self.extensions.is_hole_punched.set(metadata_peer.extensions.is_hole_punched.is_set());
        self.extensions.listen_port.set(metadata_peer.extensions.listen_port.get());
        self.requesting.outstanding_metadata.set(metadata_peer.requesting.outstanding_metadata.get());
        for (id, before) in [
            (&self.extensions.metadata_id, &metadata_peer.extensions.metadata_id),
            (&self.extensions.pex_id, &metadata_peer.extensions.pex_id),
            (&self.extensions.upload_only_id, &metadata_peer.extensions.upload_only_id),
            (&self.extensions.holepunch_id, &metadata_peer.extensions.holepunch_id),
        ] {
            id.set(before.get());
        }
        self
    }
}

/// The messages right after our handshake: the pieces that we have, and the extension handshake (BEP 10). On a connection from
/// the metadata phase, in which the peer was told that we have nothing, only what has changed.
pub(crate) fn first_messages(context: &TorrentContext, peer: &Peer, have: Option<&[u8]>, was_kept: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let have = have.filter(|_| !context.settings.is_fetching_metadata); // the number of pieces is unknown
    let bits = have.and_then(|have| Bitfield::from_wire(have, context.pieces.piece_count()));
    let whole = bits.as_ref().is_some_and(Bitfield::is_full);
    match &bits {
        Some(bits) if was_kept && bits.count() <= MAX_HAVES => {
            bits.iter().for_each(|piece: PieceIndex| message::write_have(&mut bytes, piece));
        }
        Some(bits) if was_kept || !peer.extensions.supports_fast || !whole => {
            message::write_bitfield(&mut bytes, bits.as_bytes());
        }
        None if was_kept || !peer.extensions.supports_fast => {}
        _ => message::write_have_all_or_none(&mut bytes, whole), // BEP 6 requires one of them with a fast peer
    }
    if peer.extensions.supports_extensions {
        message::write_extended(&mut bytes, HANDSHAKE_ID, &peer.extension_handshake(context));
    }
    match context.ports.dht_for(peer.addr.ip()) {
        0 => {}
        port if peer.extensions.is_dht_node && !was_kept => message::write_port(&mut bytes, port),
        _ => {}
    }
    bytes
}
