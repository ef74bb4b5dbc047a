//! The reader's part of the extension protocol (BEP 10): the handshake, metadata exchange in both directions (BEP 9), peer
//! exchange (BEP 11), hole punching (BEP 55), and pieces that the peer has lost (BEP 54). Also handles PORT, the DHT's only message
//! on this connection (BEP 5).

use std::net::SocketAddr;
use std::time::Duration;

use crate::peer::PeerEvent;
use crate::peer::connection::DisconnectReason;
use crate::peer::outbox::WriterCommand;
use crate::peer::reader::Reader;
use crate::peer::reader::useless_messages;
use crate::peer::roster::refill_idle_peers;
use crate::strategy::hole_punch::allowance::AllowanceLimits;
use crate::strategy::pex::PexInbox;
use crate::wire::extension::{
    ExtensionHandshake, HANDSHAKE_ID, OUR_DONT_HAVE_ID, OUR_HOLEPUNCH_ID, OUR_METADATA_ID, OUR_PEX_ID,
    OUR_UPLOAD_ONLY_ID, parse_dont_have,
};
use crate::wire::holepunch::HolePunchMessage;
use crate::wire::message::Message;
use crate::wire::metadata::MetadataMessage;
use crate::wire::pex::PexMessage;

/// Requests for our metadata that may wait for the writer: all pieces of the largest info dictionary.
const MAX_PENDING_METADATA: u32 = 2048;
/// An unrequested piece of metadata counts as this many useless messages.
const UNREQUESTED_WEIGHT: u32 = 50;
/// How many holepunch messages of one connection we take notice of. A relay tells us of up to one peer per second in a large swarm.
const HOLE_PUNCH_MESSAGES: AllowanceLimits = AllowanceLimits { burst: 16, interval: Duration::from_secs(1) };
/// PORT messages of one connection that we take notice of.
const MAX_NODES: u32 = 3;

impl Reader<'_> {
    /// Handles a message before the metadata is known, when no block can be requested or served. Messages about the metadata
    /// take effect; messages about pieces are remembered.
    pub(super) fn handle_before_metadata(&mut self, message: &Message<'_>) -> Result<(), DisconnectReason> {
        match message {
            Message::Extended(id, payload) => {
                self.count_useless(1)?;
                self.handle_extended(*id, payload)
            }
            Message::Port(port) => self.handle_port(*port),
            Message::Piece(..) => Err(DisconnectReason::ProtocolViolation("a block that was not requested")),
            Message::Request(block) if self.peer.extensions.supports_fast => {
                self.pass.refused.push(*block);
                Ok(())
            }
            other => {
                // A long message has more weight.
                self.count_useless(if let Message::Bitfield(bits) = other { 1 + bits.len() as u32 / 64 } else { 1 })?;
                self.deferred.take(other)
            }
        }
    }

    /// Handles a message of the extension protocol, by the message ids that we chose.
    pub(super) fn handle_extended(&mut self, id: u8, payload: &[u8]) -> Result<(), DisconnectReason> {
        match id {
            HANDSHAKE_ID => {
                if self.useless.accepts_handshake()
                    && let Some(handshake) = ExtensionHandshake::parse(payload)
                {
                    self.apply_extension_handshake(&handshake);
                }
                self.upload_only_changed()
            }
            OUR_UPLOAD_ONLY_ID => {
                if let Some(&said) = payload.first() {
                    self.peer.extensions.upload_only.set(said != 0);
                }
                self.upload_only_changed()
            }
            OUR_METADATA_ID => self.metadata(payload),
            OUR_DONT_HAVE_ID => self.handle_dont_have(payload),
            OUR_PEX_ID if self.context.settings.uses_pex => self.pex(payload),
            OUR_HOLEPUNCH_ID if self.context.offers_hole_punch.is_set() => {
                self.hole_punch(payload);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The peer has lost a piece (BEP 54).
    fn handle_dont_have(&mut self, payload: &[u8]) -> Result<(), DisconnectReason> {
        self.count_loss()?;
        let Some(piece) = parse_dont_have(payload) else {
            return Err(DisconnectReason::ProtocolViolation("a malformed message about a lost piece"));
        };
        if self.context.settings.is_fetching_metadata {
            self.deferred.lost(piece);
        } else if piece.0 >= self.context.pieces.piece_count() {
            return Err(DisconnectReason::ProtocolViolation("the loss of a piece beyond the last one"));
        } else if self.peer.on_piece_lost(self.context, piece) {
            refill_idle_peers(self.context);
        }
        Ok(())
    }

    /// The peer's `upload_only` may have changed: disconnects if neither side needs the other.
    fn upload_only_changed(&self) -> Result<(), DisconnectReason> {
        if self.context.settings.is_fetching_metadata { Ok(()) } else { self.disconnect_if_redundant() }
    }

    /// Takes over the fields of an extension handshake, which a peer may send more than once.
    fn apply_extension_handshake(&mut self, handshake: &ExtensionHandshake) {
        let (context, peer) = (self.context, self.peer);
        if let Some(reqq) = handshake.reqq {
            peer.requesting.pipeline.lock().set_limit(reqq);
        }
        if let Some(version) = &handshake.version {
            let _ = peer.extensions.version.set(version.clone()); // only the first one is kept
        }
        if let Some(upload_only) = handshake.is_upload_only {
            peer.extensions.upload_only.set(upload_only);
        }
        if let Some(port) = handshake.port {
            peer.extensions.listen_port.set(port);
        }
        let messages = &handshake.messages;
        for (id, ours) in [
            (messages.ut_pex, &peer.extensions.pex_id),
            (messages.ut_metadata, &peer.extensions.metadata_id),
            (messages.upload_only, &peer.extensions.upload_only_id),
            (messages.ut_holepunch, &peer.extensions.holepunch_id),
        ] {
            // Extensions that are not mentioned stay as they were (BEP 10).
            if let Some(id) = id {
                ours.set(id);
            }
        }
        let metadata_id = peer.extensions.metadata_id.get();
        if context.settings.is_fetching_metadata
            && metadata_id != 0
            && let Some(size) = handshake.metadata_size
        {
            context.send_to_main(PeerEvent::HasMetadata { key: peer.key, size });
        }
        // Once per connection, so that no peer keeps main busy with it.
        if let Some(ip) = handshake.your_ip.filter(|_| !std::mem::replace(&mut self.once.has_told_address, true)) {
            context.send_to_main(PeerEvent::OurAddress(ip));
        }
    }

    /// Handles a request for our metadata, or the answer to one of our requests.
    fn metadata(&mut self, payload: &[u8]) -> Result<(), DisconnectReason> {
        let Ok(message) = MetadataMessage::parse(payload) else {
            return Err(DisconnectReason::ProtocolViolation("a malformed metadata message"));
        };
        if !matches!(message, Some(MetadataMessage::Data { .. })) {
            self.count_useless(useless_messages::weight(payload.len() as u64))?;
        }
        let (context, peer) = (self.context, self.peer);
        let answered = || peer.requesting.outstanding_metadata.take_one();
        match message {
            Some(MetadataMessage::Request { piece }) => {
                if peer.serving.pending_metadata.add(1) >= MAX_PENDING_METADATA {
                    return Err(DisconnectReason::Flood);
                }
                peer.send(WriterCommand::Metadata(piece));
            }
            // Unrequested metadata is not copied.
            Some(MetadataMessage::Data { piece, total_size, bytes }) if answered() => {
                context.send_to_main(PeerEvent::Metadata {
                    key: peer.key,
                    piece,
                    total_size,
                    bytes: Some(bytes.to_vec()),
                });
            }
            Some(MetadataMessage::Reject { piece }) if answered() => {
                context.send_to_main(PeerEvent::Metadata { key: peer.key, piece, total_size: 0, bytes: None });
            }
            // It cost as much to receive as many short messages.
            Some(MetadataMessage::Data { .. }) => self.count_useless(UNREQUESTED_WEIGHT)?,
            _ => {}
        }
        Ok(())
    }

    /// Handles the addresses of other peers.
    fn pex(&mut self, payload: &[u8]) -> Result<(), DisconnectReason> {
        let Ok(message) = PexMessage::parse(payload) else {
            return Err(DisconnectReason::ProtocolViolation("a malformed peer exchange message"));
        };
        let (now, from) = (self.context.now(), self.peer.addr);
        let inbox = self.once.pex.get_or_insert_with(|| PexInbox::new(from, now));
        let added = inbox.take(now, &message).map_err(|_| DisconnectReason::Flood)?;
        if !added.is_empty() {
            self.context.send_to_main(PeerEvent::PexPeers { key: self.peer.key, peers: added });
        }
        Ok(())
    }

    /// Passes a holepunch message on to main (BEP 55). Malformed messages and those of unknown types are ignored, and so are too
    /// many.
    fn hole_punch(&mut self, payload: &[u8]) {
        let (context, key) = (self.context, self.peer.key);
        if let Ok(message) = HolePunchMessage::parse(payload)
            && self.once.hole_punch.take(context.now(), HOLE_PUNCH_MESSAGES)
        {
            context.send_to_main(PeerEvent::HolePunch { key, message });
        }
    }

    /// The peer is also a node of the DHT, on this UDP port.
    pub(super) fn handle_port(&mut self, port: u16) -> Result<(), DisconnectReason> {
        self.count_useless(1)?;
        self.once.port_messages += 1;
        if port != 0 && self.once.port_messages <= MAX_NODES && self.context.ports.dht.get() != 0 {
            self.context.send_to_main(PeerEvent::DhtNode(SocketAddr::new(self.peer.addr.ip(), port)));
        }
        Ok(())
    }
}
