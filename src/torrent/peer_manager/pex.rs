//! Peer exchange (BEP 11), our part of it: each peer that wants to know is told once a minute who has come and gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::peer::Shared;
use crate::peer::outbox::Out;
use crate::peer::state::Peer;
use crate::strategy::pex::PexDiffer;
use crate::torrent::peer_manager::Contacts;
use crate::wire::pex::Flags;

/// Between two looks at whom there is something to tell.
const PERIOD: Duration = Duration::from_secs(5);
/// The first message leaves so long after the handshake, when there may be somebody to tell of.
const FIRST: Duration = Duration::from_secs(2);

impl Contacts<'_> {
    /// Tells those whose turn it is.
    pub(crate) fn exchange(&mut self, shared: &Shared, now: Duration) {
        if !shared.pex || now < self.next_exchange {
            return;
        }
        self.next_exchange = now + PERIOD;
        let peers = shared.roster.all();
        let connected: HashMap<SocketAddr, Flags> =
            peers.iter().filter_map(|peer| peer.callable_at().map(|addr| (addr, flags(shared, peer)))).collect();
        for peer in &peers {
            let id = peer.pex_id.load(Ordering::Acquire);
            let Some(line) = self.lines.get_mut(&peer.key).filter(|_| id != 0) else { continue };
            let told = line.told.get_or_insert_with(|| PexDiffer::new(peer.since + FIRST));
            let to = peer.callable_at().unwrap_or(peer.addr);
            if let Some(message) = told.message(now, to, &connected) {
                peer.send(Out::Extended(id, message.encode()));
            }
        }
    }
}

/// What others should know of a peer.
fn flags(shared: &Shared, peer: &Peer) -> Flags {
    [
        (Flags::REACHABLE, !peer.incoming),
        (Flags::UPLOAD_ONLY, peer.upload_only.load(Ordering::Acquire) || shared.pieces.is_seed(peer.key)),
        (Flags::ENCRYPTION, peer.encrypted.load(Ordering::Relaxed)),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .fold(Flags::default(), |flags, (flag, _)| flags.with(flag))
}
