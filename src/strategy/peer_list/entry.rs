//! One known address, and who named it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::strategy::quality::{PeerRecord, Rank, canonical_priority};
use crate::types::{DialMode, PeerKey};
use crate::wire::pex::PexFlags;

/// Below this port are the well-known services.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Who named an address; the greater, the sooner it is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerSource {
    /// The DHT, where anybody may announce.
    #[default]
    Dht,
    /// A peer, by peer exchange.
    Pex,
    /// A magnet link, which anybody may have written.
    Link,
    /// A tracker.
    Tracker,
    /// Local discovery, or the peer itself.
    LocalDiscovery,
    /// The user.
    User,
}

impl PeerSource {
    /// Whether the source is trusted: not one by which a stranger can name a third party's address.
    pub fn is_verified(self) -> bool {
        self >= PeerSource::Tracker
    }
}

/// What is known of one address.
#[derive(Debug, Default)]
pub(crate) struct PeerListEntry {
    pub record: PeerRecord,
    /// By chance; BEP 40's once our own address is known, for an address of a verified source: peers tell us what our address is, so
    /// that they choose the priority of those that they name.
    pub priority: u32,
    /// The best of those who named it.
    pub source: PeerSource,
    /// The connection that was made to it, or that is to the same peer.
    pub connection: Option<PeerKey>,
    /// Since when it has led to a connection that was made to another address of the same peer.
    pub linked: Option<Duration>,
    /// What peers say of it.
    pub hints: PexFlags,
    /// How to begin the next call: what worked, or what has not been tried; `None` while nothing is known.
    pub dial_mode: Option<DialMode>,
    /// The other opening has been tried at once, without a pause, since the address was last reached.
    pub tried_other_opening: bool,
    /// Whether it is never to be called: ourselves, or one that has nothing for us, nor we for it.
    pub is_never_dialed: bool,
}

impl PeerListEntry {
    /// `source` names the address, which is `addr`; `ours` is our own one.
    pub fn name_by(&mut self, addr: SocketAddr, source: PeerSource, ours: Option<SocketAddr>) {
        self.source = self.source.max(source);
        if let Some(ours) = ours.filter(|_| self.source.is_verified()) {
            self.priority = canonical_priority(ours, addr);
        }
    }

    pub fn rank(&self) -> Rank {
        let reachable = u64::from(self.is_hinted(PexFlags::REACHABLE));
        self.record.rank((self.source as u64) << 33 | reachable << 32 | u64::from(self.priority))
    }

    /// Whether a handshake with it has ever been done.
    pub fn is_proven(&self) -> bool {
        self.record.last_seen().is_some()
    }

    /// Whether it is a peer, as far as we can know before we connect to it.
    pub fn is_trusted(&self) -> bool {
        self.source.is_verified() || self.is_proven()
    }

    /// Whether it may well be some other service, that a stranger wants us to connect to.
    pub fn is_doubtful(&self, addr: &SocketAddr) -> bool {
        addr.port() < FIRST_UNPRIVILEGED && !self.is_trusted()
    }
}
