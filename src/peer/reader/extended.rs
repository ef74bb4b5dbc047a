//! The reader's part of the extension protocol (BEP 10): the handshake, metadata for peers and from them (BEP 9), peer exchange
//! (BEP 11); and the one message of the DHT that travels here (BEP 5).

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::peer::PeerEvent;
use crate::peer::connection::DisconnectReason;
use crate::peer::outbox::WriterCommand;
use crate::peer::reader::Reader;
use crate::peer::reader::useless_messages;
use crate::strategy::pex::PexInbox;
use crate::wire::extension::{ExtensionHandshake, HANDSHAKE_ID, OUR_METADATA_ID, OUR_PEX_ID, OUR_UPLOAD_ONLY_ID};
use crate::wire::message::Message;
use crate::wire::metadata::MetadataMessage;
use crate::wire::pex::PexMessage;

/// Requests for our metadata that may wait for the writer: the pieces of the largest info dictionary.
const MAX_PENDING_METADATA: u32 = 2048;
/// A piece of metadata that nobody asked for counts as so many messages without use.
const UNREQUESTED_WEIGHT: u32 = 50;
/// PORT messages of one connection that are looked at.
const MAX_NODES: u32 = 3;

impl Reader<'_> {
    /// A message before the metadata is there: nothing can be asked for or served. What leads to it counts, and what is about pieces
    /// is remembered.
    pub(super) fn handle_before_metadata(&mut self, message: &Message<'_>) -> Result<(), DisconnectReason> {
        match message {
            Message::Extended(id, payload) => {
                self.count_useless(1)?;
                self.extended(*id, payload)
            }
            Message::Port(port) => self.node(*port),
            Message::Piece(..) => Err(DisconnectReason::ProtocolViolation("a block that nobody asked for")),
            Message::Request(block) if self.peer.fast => {
                self.refused.push(*block);
                Ok(())
            }
            other => {
                // Long ones weigh more.
                self.count_useless(if let Message::Bitfield(bits) = other { 1 + bits.len() as u32 / 64 } else { 1 })?;
                self.deferred.take(other)
            }
        }
    }

    /// A message of the extension protocol, by the ids that we gave.
    pub(super) fn extended(&mut self, id: u8, payload: &[u8]) -> Result<(), DisconnectReason> {
        match id {
            HANDSHAKE_ID => {
                if self.useless.accepts_handshake()
                    && let Some(said) = ExtensionHandshake::parse(payload)
                {
                    self.said(&said);
                }
                self.upload_only_changed()
            }
            OUR_UPLOAD_ONLY_ID => {
                if let Some(&said) = payload.first() {
                    self.peer.upload_only.store(said != 0, Ordering::Release);
                }
                self.upload_only_changed()
            }
            OUR_METADATA_ID => self.metadata(payload),
            OUR_PEX_ID if self.shared.pex => self.pex(payload),
            _ => Ok(()),
        }
    }

    /// The peer's `upload_only` may have changed: disconnects if neither side has anything for the other.
    fn upload_only_changed(&self) -> Result<(), DisconnectReason> {
        if self.shared.wants_info { Ok(()) } else { self.disconnect_if_redundant() }
    }

    /// What a peer says of itself; the first time, or anew.
    fn said(&mut self, said: &ExtensionHandshake) {
        let (shared, peer) = (self.shared, self.peer);
        if let Some(reqq) = said.reqq {
            peer.requests.lock().set_limit(reqq);
        }
        if let Some(version) = &said.version {
            let _ = peer.version.set(version.clone()); // the first word counts
        }
        if let Some(upload_only) = said.upload_only {
            peer.upload_only.store(upload_only, Ordering::Release);
        }
        if let Some(port) = said.port {
            peer.listen_port.store(port, Ordering::Release);
        }
        let messages = &said.messages;
        for (id, ours) in [
            (messages.ut_pex, &peer.pex_id),
            (messages.ut_metadata, &peer.metadata_id),
            (messages.upload_only, &peer.upload_only_id),
        ] {
            // What is not mentioned stays as it was (BEP 10).
            if let Some(id) = id {
                ours.store(id, Ordering::Release);
            }
        }
        let metadata_id = peer.metadata_id.load(Ordering::Acquire);
        if shared.wants_info
            && metadata_id != 0
            && let Some(size) = said.metadata_size
        {
            shared.report(PeerEvent::HasMetadata { key: peer.key, size });
        }
        // Once a connection, so that nobody keeps the session busy with it.
        if let Some(ip) = said.your_ip.filter(|_| !std::mem::replace(&mut self.has_told_address, true)) {
            shared.report(PeerEvent::OurAddress(ip));
        }
    }

    /// A request for our metadata, or the answer to one of ours.
    fn metadata(&mut self, payload: &[u8]) -> Result<(), DisconnectReason> {
        let Ok(message) = MetadataMessage::parse(payload) else {
            return Err(DisconnectReason::ProtocolViolation("a metadata message that makes no sense"));
        };
        if !matches!(message, Some(MetadataMessage::Data { .. })) {
            self.count_useless(useless_messages::weight(payload.len() as u64))?;
        }
        let (shared, peer) = (self.shared, self.peer);
        let fewer = |requested: u32| requested.checked_sub(1);
        let answered = || peer.asked_metadata.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok();
        match message {
            Some(MetadataMessage::Request { piece }) => {
                if peer.pending_metadata.fetch_add(1, Ordering::AcqRel) >= MAX_PENDING_METADATA {
                    return Err(DisconnectReason::Flood);
                }
                peer.send(WriterCommand::Metadata(piece));
            }
            // What nobody asked for is not worth a copy.
            Some(MetadataMessage::Data { piece, total_size, bytes }) if answered() => {
                shared.report(PeerEvent::Metadata { key: peer.key, piece, total_size, bytes: Some(bytes.to_vec()) });
            }
            Some(MetadataMessage::Reject { piece }) if answered() => {
                shared.report(PeerEvent::Metadata { key: peer.key, piece, total_size: 0, bytes: None });
            }
            // It cost as much to receive as many short messages.
            Some(MetadataMessage::Data { .. }) => self.count_useless(UNREQUESTED_WEIGHT)?,
            _ => {}
        }
        Ok(())
    }

    /// The peer tells of others.
    fn pex(&mut self, payload: &[u8]) -> Result<(), DisconnectReason> {
        let Ok(message) = PexMessage::parse(payload) else {
            return Err(DisconnectReason::ProtocolViolation("a peer exchange message that makes no sense"));
        };
        let (now, from) = (self.shared.now(), self.peer.addr);
        let inbox = self.pex.get_or_insert_with(|| PexInbox::new(from, now));
        let added = inbox.take(now, &message).map_err(|_| DisconnectReason::Flood)?;
        if !added.is_empty() {
            self.shared.report(PeerEvent::PexPeers(added));
        }
        Ok(())
    }

    /// The peer is a node of the DHT as well, on this UDP port.
    pub(super) fn node(&mut self, port: u16) -> Result<(), DisconnectReason> {
        self.count_useless(1)?;
        self.nodes += 1;
        if port != 0 && self.nodes <= MAX_NODES && self.shared.dht_port.load(Ordering::Acquire) != 0 {
            self.shared.report(PeerEvent::DhtNode(SocketAddr::new(self.peer.addr.ip(), port)));
        }
        Ok(())
    }
}
