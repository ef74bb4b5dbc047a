//! One known address and its source.

use std::net::SocketAddr;
use std::time::Duration;

use crate::strategy::quality::{DialRank, PeerRecord, canonical_priority};
use crate::types::{DialMode, PeerKey, Transport};
use crate::wire::pex::PexFlags;

/// Ports below this belong to well-known services.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Where an address comes from; greater sources are dialed first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerSource {
    /// The DHT, where anyone may announce any address.
    #[default]
    Dht,
    /// Peer exchange.
    Pex,
    /// A magnet link, which may have any author.
    MagnetLink,
    /// A tracker.
    Tracker,
    /// A peer that connected to us and said where it listens.
    Incoming,
    /// Local discovery.
    LocalDiscovery,
    /// The user.
    User,
}

impl PeerSource {
    /// Whether the source is verified: strangers cannot use it to name a third party's address.
    pub fn is_verified(self) -> bool {
        self >= PeerSource::Tracker
    }
}

/// What is known of one address.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Debug, Default)]
pub(crate) struct PeerListEntry {
    pub record: PeerRecord,
    /// Random. For an address of a verified source it becomes BEP 40's priority once our own address is known. Peers tell us our
    /// address, so they could choose the priority of the addresses they name; those keep a random one.
    pub priority: u32,
    /// The best source so far.
    pub source: PeerSource,
    /// The connection that was opened to it, or that leads to the same peer.
    pub connection: Option<PeerKey>,
    /// Until when it is not dialed, because it is linked to a connection with another address of the same peer.
    pub alias_until: Option<Duration>,
    /// Whether a peer that connected to us has claimed it since it was last reached.
    pub is_claimed: bool,
    /// How often it led to a peer that was connected, without a useful connection in between.
    pub duplicates: u32,
    /// Whether another source than peer exchange has named it.
    pub is_named_outside_pex: bool,
    /// Until when the claim that it wants nothing counts, if a peer has made it.
    pub redundant_hint_until: Option<Duration>,
    /// Until when it counts that it wants nothing, if it said so itself.
    pub redundant_until: Option<Duration>,
    /// What peers claim about it.
    pub hints: PexFlags,
    /// The transport that worked last.
    pub transport: Option<Transport>,
    /// The dial mode of the next connection: the one that worked, or one not tried yet; `None` while nothing is known.
    pub dial_mode: Option<DialMode>,
    /// Whether the other dial mode was tried without a pause since the address was last reached.
    pub tried_other_dial_mode: bool,
    /// Whether it is never dialed: it is our own address.
    pub is_never_dialed: bool,
}

impl PeerListEntry {
    /// Adds `source` as a source of this entry, whose address is `addr`. `ours` is our own address.
    pub fn add_source(&mut self, addr: SocketAddr, source: PeerSource, ours: Option<SocketAddr>) {
        self.source = self.source.max(source);
        self.is_named_outside_pex |= source != PeerSource::Pex;
        if let Some(ours) = ours.filter(|_| self.source.is_verified()) {
            self.priority = canonical_priority(ours, addr);
        }
    }

    pub fn rank(&self) -> DialRank {
        let reachable = u64::from(self.is_hinted(PexFlags::REACHABLE));
        self.record.rank((self.source as u64) << 33 | reachable << 32 | u64::from(self.priority))
    }

    /// Whether a handshake with it has ever succeeded.
    pub fn is_proven(&self) -> bool {
        self.record.last_seen().is_some()
    }

    /// Whether it is a peer, as far as can be known before connecting.
    pub fn is_trusted(&self) -> bool {
        self.source.is_verified() || self.is_proven()
    }

    /// Whether it may be another service that somebody wants us to connect to. Anyone on the local network can forge the sender of
    /// an announce there, and a peer can claim to listen on any port, so neither vouches for a privileged port.
    pub fn is_doubtful(&self, addr: &SocketAddr) -> bool {
        let names_any_port = matches!(self.source, PeerSource::Incoming | PeerSource::LocalDiscovery);
        let is_vouched_for = self.is_proven() || (self.source.is_verified() && !names_any_port);
        addr.port() < FIRST_UNPRIVILEGED && !is_vouched_for
    }
}

#[cfg(test)]
mod tests {
    use crate::strategy::peer_list::PeerList;

    use super::*;

    #[test]
    fn neither_local_discovery_nor_the_peer_itself_vouches_for_a_privileged_port() {
        let addr = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
        let doubtful = |source: PeerSource, port: u16| {
            let mut list = PeerList::new(crate::types::Encryption::Off);
            list.add(&[addr(port)], source);
            list.entries.get(&addr(port)).expect("an entry").is_doubtful(&addr(port))
        };
        for source in [PeerSource::LocalDiscovery, PeerSource::Incoming] {
            assert!(doubtful(source, 22) && !doubtful(source, 6881));
        }
        assert!(!doubtful(PeerSource::Tracker, 22));
    }
}
