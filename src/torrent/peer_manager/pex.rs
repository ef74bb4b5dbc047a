//! Our part of peer exchange (BEP 11): each peer that supports it is told once a minute which peers have come and gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::peer::TorrentContext;
use crate::peer::outbox::WriterCommand;
use crate::peer::state::Peer;
use crate::strategy::peer_list::PeerSource;
use crate::strategy::pex::PexDiffer;
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::peer_manager::hole_punch::can_relay;
use crate::types::{PeerKey, Transport};
use crate::wire::pex::PexFlags;

/// How often to check for peers that are due a message.
const PERIOD: Duration = Duration::from_secs(5);
/// The first message leaves this long after the handshake, when there may be peers to tell of.
const FIRST: Duration = Duration::from_secs(2);

impl PeerManager<'_> {
    /// Adds the peers that a peer announced.
    pub(super) fn add_pex_peers(&mut self, context: &TorrentContext, key: PeerKey, peers: &[(SocketAddr, PexFlags)]) {
        let addresses: Vec<_> = peers.iter().map(|(addr, _)| *addr).collect();
        self.add_unverified_peers(&addresses, PeerSource::Pex, |search| &mut search.pex_peers);
        let can_relay = can_relay(context, key);
        for (addr, flags) in peers {
            self.peer_list.hint(*addr, *flags);
            if can_relay && flags.has(PexFlags::HOLE_PUNCH) {
                self.hole_punch.requests.named(context.now(), key, *addr);
            }
        }
    }

    /// Sends the messages that are due.
    pub(crate) fn send_pex(&mut self, context: &TorrentContext, now: Duration) {
        if !context.settings.uses_pex || now < self.next.pex {
            return;
        }
        self.next.pex = now + PERIOD;
        let peers = context.roster.all();
        let connected: HashMap<SocketAddr, PexFlags> =
            peers.iter().filter_map(|peer| peer.listen_addr().map(|addr| (addr, flags(context, peer)))).collect();
        for peer in &peers {
            let id = peer.extensions.pex_id.get();
            let Some(entry) = self.connections.get_mut(&peer.key).filter(|_| id != 0) else { continue };
            let pex_differ = entry.pex_differ.get_or_insert_with(|| PexDiffer::new(peer.since + FIRST));
            let to = peer.listen_addr().unwrap_or(peer.addr);
            if let Some(message) = pex_differ.message(now, to, &connected) {
                peer.send(WriterCommand::Extended(id, message.encode()));
            }
        }
    }
}

/// The flags that describe a peer to others.
fn flags(context: &TorrentContext, peer: &Peer) -> PexFlags {
    let supports_hole_punch = peer.extensions.holepunch_id.get() != 0;
    [
        (PexFlags::REACHABLE, !peer.is_incoming && !peer.extensions.is_hole_punched.is_set()),
        (PexFlags::UTP, peer.transport == Transport::Utp || supports_hole_punch),
        (PexFlags::HOLE_PUNCH, supports_hole_punch),
        (PexFlags::UPLOAD_ONLY, peer.extensions.upload_only.is_set() || context.pieces.peer_is_seed(peer.key)),
        (PexFlags::ENCRYPTION, peer.encrypted.is_set()),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .fold(PexFlags::default(), |flags, (flag, _)| flags.with(flag))
}
