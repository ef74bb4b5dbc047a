//! The reader's part of the extension protocol (BEP 10): the handshake, metadata for peers and from them (BEP 9), peer exchange
//! (BEP 11); and the one message of the DHT that travels here (BEP 5).

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::peer::Report;
use crate::peer::connection::Gone;
use crate::peer::outbox::Out;
use crate::peer::reader::Reader;
use crate::peer::reader::useless_messages;
use crate::strategy::pex::PexInbox;
use crate::wire::extension::{ExtensionHandshake, HANDSHAKE_ID, OUR_METADATA, OUR_PEX, OUR_UPLOAD_ONLY};
use crate::wire::message::Message;
use crate::wire::metadata::MetadataMessage;
use crate::wire::pex::PexMessage;

/// Requests for our metadata that may wait for the writer: the pieces of the largest info dictionary.
const MAX_TELLING: u32 = 2048;
/// A piece of metadata that nobody asked for counts as so many messages without use.
const UNASKED: u32 = 50;
/// PORT messages of one connection that are looked at.
const MAX_NODES: u32 = 3;

impl Reader<'_> {
    /// A message before the metadata is there: nothing can be asked for or served. What leads to it counts, and what is about pieces
    /// is remembered.
    pub(super) fn act_before_info(&mut self, message: &Message<'_>) -> Result<(), Gone> {
        match message {
            Message::Extended(id, payload) => {
                self.talk(1)?;
                self.extended(*id, payload)
            }
            Message::Port(port) => self.node(*port),
            Message::Piece(..) => Err(Gone::Broke("a block that nobody asked for")),
            Message::Request(block) if self.peer.fast => {
                self.refused.push(*block);
                Ok(())
            }
            other => {
                // Long ones weigh more.
                self.talk(if let Message::Bitfield(bits) = other { 1 + bits.len() as u32 / 64 } else { 1 })?;
                self.memory.take(other)
            }
        }
    }

    /// A message of the extension protocol, by the ids that we gave.
    pub(super) fn extended(&mut self, id: u8, payload: &[u8]) -> Result<(), Gone> {
        match id {
            HANDSHAKE_ID => {
                if self.idle.hears_handshake()
                    && let Some(said) = ExtensionHandshake::parse(payload)
                {
                    self.said(&said);
                }
                self.upload_only_changed()
            }
            OUR_UPLOAD_ONLY => {
                if let Some(&said) = payload.first() {
                    self.peer.upload_only.store(said != 0, Ordering::Release);
                }
                self.upload_only_changed()
            }
            OUR_METADATA => self.metadata(payload),
            OUR_PEX if self.shared.pex => self.pex(payload),
            _ => Ok(()),
        }
    }

    /// The peer's `upload_only` may have changed: disconnects if neither side has anything for the other.
    fn upload_only_changed(&self) -> Result<(), Gone> {
        if self.shared.wants_info { Ok(()) } else { self.leave_if_useless() }
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
            shared.report(Report::HasMetadata { key: peer.key, size });
        }
        // Once a connection, so that nobody keeps the session busy with it.
        if let Some(ip) = said.your_ip.filter(|_| !std::mem::replace(&mut self.address_told, true)) {
            shared.report(Report::OurAddress(ip));
        }
    }

    /// A request for our metadata, or the answer to one of ours.
    fn metadata(&mut self, payload: &[u8]) -> Result<(), Gone> {
        let Ok(message) = MetadataMessage::parse(payload) else {
            return Err(Gone::Broke("a metadata message that makes no sense"));
        };
        if !matches!(message, Some(MetadataMessage::Data { .. })) {
            self.talk(useless_messages::weight(payload.len() as u64))?;
        }
        let (shared, peer) = (self.shared, self.peer);
        let fewer = |asked: u32| asked.checked_sub(1);
        let answered = || peer.asked_metadata.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok();
        match message {
            Some(MetadataMessage::Request { piece }) => {
                if peer.telling.fetch_add(1, Ordering::AcqRel) >= MAX_TELLING {
                    return Err(Gone::Flood);
                }
                peer.send(Out::Metadata(piece));
            }
            // What nobody asked for is not worth a copy.
            Some(MetadataMessage::Data { piece, total_size, bytes }) if answered() => {
                shared.report(Report::Metadata { key: peer.key, piece, total_size, bytes: Some(bytes.to_vec()) });
            }
            Some(MetadataMessage::Reject { piece }) if answered() => {
                shared.report(Report::Metadata { key: peer.key, piece, total_size: 0, bytes: None });
            }
            // It cost as much to receive as many short messages.
            Some(MetadataMessage::Data { .. }) => self.talk(UNASKED)?,
            _ => {}
        }
        Ok(())
    }

    /// The peer tells of others.
    fn pex(&mut self, payload: &[u8]) -> Result<(), Gone> {
        let Ok(message) = PexMessage::parse(payload) else {
            return Err(Gone::Broke("a peer exchange message that makes no sense"));
        };
        let (now, from) = (self.shared.now(), self.peer.addr);
        let inbox = self.pex.get_or_insert_with(|| PexInbox::new(from, now));
        let added = inbox.take(now, &message).map_err(|_| Gone::Flood)?;
        if !added.is_empty() {
            self.shared.report(Report::Told(added));
        }
        Ok(())
    }

    /// The peer is a node of the DHT as well, on this UDP port.
    pub(super) fn node(&mut self, port: u16) -> Result<(), Gone> {
        self.talk(1)?;
        self.nodes += 1;
        if port != 0 && self.nodes <= MAX_NODES && self.shared.dht_port.load(Ordering::Acquire) != 0 {
            self.shared.report(Report::Node(SocketAddr::new(self.peer.addr.ip(), port)));
        }
        Ok(())
    }
}
