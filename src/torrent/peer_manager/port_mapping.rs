//! What the router said about our port, as a torrent applies it: peers and trackers are told the port at which it forwards.
//!
//! Local discovery keeps our own port: peers in our network connect to us directly, and the router's port is of no use to them.

use std::sync::Arc;
use std::time::Duration;

use crate::discovery::port_mapping::status::{MappingFailure, MappingState};
use crate::peer::TorrentContext;
use crate::peer::outbox::WriterCommand;
use crate::torrent::events::Event;
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::send_event;
use crate::wire::extension::HANDSHAKE_ID;

impl PeerManager<'_> {
    /// Applies what the router has said since the last call.
    pub(super) fn apply_port_mapping(&mut self, context: &Arc<TorrentContext>, now: Duration) {
        let version = self.registration.mapping_status().version();
        if std::mem::replace(&mut self.mapping_version, version) == version {
            return;
        }
        let status = self.registration.mapping_status().get();
        let (mapped, before) = (self.registration.mapped_ports(), context.ports.announced());
        context.ports.mapped_tcp.set(mapped.tcp.unwrap_or(0));
        context.ports.mapped_dht.set(mapped.udp.unwrap_or(0));
        if let Some(status) = status.clone().filter(|status| is_worth_telling(&status.ipv4)) {
            send_event(&self.events, Event::PortMapping { status });
        }
        self.inner.peers.search.lock().port_mapping = status;
        self.registration.update_implied_port();
        if context.ports.announced() != before {
            self.announcer.reannounce(now);
            self.discovery.announce_ports(context.ports.announced(), self.port());
            // Peers on the other side of the router learn the new port.
            for peer in context.roster.all().iter().filter(|peer| peer.extensions.supports_extensions) {
                peer.send(WriterCommand::Extended(HANDSHAKE_ID, peer.extension_handshake(context)));
            }
        }
    }
}

/// Whether the router was asked and has answered, or has not.
fn is_worth_telling(state: &MappingState) -> bool {
    let is_asked = !matches!(state, MappingState::Failed(MappingFailure::NoRouter | MappingFailure::PublicAddress));
    is_asked && *state != MappingState::Asking
}
