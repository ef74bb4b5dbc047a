//! The request and response types of an announce, common to HTTP and UDP trackers.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::net::networks::is_private;
use crate::net::route::Route;
use crate::types::{InfoHash, PeerId};
use crate::util::printable_text::printable;
use crate::util::random;
use crate::wire::compact;

/// The most peers kept from one response.
pub const MAX_PEERS: usize = 3000;
/// The shortest announce interval accepted from a tracker. Low, for trackers in tests and closed networks.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// The longest announce interval accepted from a tracker.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// The announce interval if the tracker names none.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Texts from trackers are truncated to this many characters.
pub(crate) const MAX_TEXT: usize = 400;

/// The parameters of an announce (BEP 3).
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct Announce<'a> {
    /// The torrent's info-hash.
    pub info_hash: InfoHash,
    /// Our peer id.
    pub peer_id: PeerId,
    /// The TCP port on which we accept peers.
    pub port: u16,
    /// Payload bytes uploaded since `started`.
    pub uploaded: u64,
    /// Payload bytes downloaded since `started`.
    pub downloaded: u64,
    /// Bytes left to download.
    pub left: u64,
    /// A random number that stays the same while the torrent runs, so that the tracker recognizes us when our address changes.
    pub key: u32,
    /// The number of peers requested.
    pub numwant: u32,
    /// The event; `None` for a regular announce.
    pub event: Option<AnnounceEvent>,
    /// The last `tracker id` that this tracker sent.
    pub tracker_id: Option<&'a [u8]>,
}

impl Announce<'_> {
    /// A regular announce with a random peer id and key, as of a torrent that has just started: nothing is transferred, and we do
    /// not know how much is missing.
    pub fn new(info_hash: InfoHash, port: u16) -> Announce<'static> {
        Announce {
            info_hash,
            peer_id: PeerId::generate(),
            port,
            uploaded: 0,
            downloaded: 0,
            left: u64::MAX >> 1,
            key: random::u32(),
            numwant: 50,
            event: None,
            tracker_id: None,
        }
    }

    /// The same announce of an event.
    #[must_use]
    pub fn event(self, event: AnnounceEvent) -> Self {
        Announce { event: Some(event), ..self }
    }
}

/// How a torrent identifies itself to trackers and peers, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TorrentIdentity {
    /// Its peer id.
    pub peer_id: PeerId,
    /// The random number by which trackers recognize it when its address changes.
    pub key: u32,
}

impl TorrentIdentity {
    /// A new identity, whose peer id starts with `prefix` or else as btsync's own do.
    pub fn generate(prefix: Option<[u8; 8]>) -> TorrentIdentity {
        TorrentIdentity { peer_id: prefix.map_or_else(PeerId::generate, PeerId::with_prefix), key: random::u32() }
    }

    /// The same for connections that take this route: on an anonymous one, the peer id names no client.
    pub fn for_route(route: &Route, prefix: Option<[u8; 8]>) -> TorrentIdentity {
        let identity = TorrentIdentity::generate(prefix);
        if route.is_anonymous() { TorrentIdentity { peer_id: PeerId::anonymous(), ..identity } } else { identity }
    }
}

/// Payload bytes since trackers were told that a torrent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedPayload {
    /// Bytes sent.
    pub uploaded: u64,
    /// Bytes received.
    pub downloaded: u64,
}

/// What trackers know of a torrent before it runs, because it ran or was dormant before under the same identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedBefore {
    /// The payload of that time; the announces add that of the run.
    pub payload: AnnouncedPayload,
    /// The tracker that has the torrent in its swarm. It gets no second `started`.
    pub registered_at: Option<RegisteredTracker>,
}

/// A tracker that has us in its swarm until we announce `stopped` to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredTracker {
    /// Its URL.
    pub url: String,
    /// How long until the next announce to it is due.
    pub next_announce_in: Duration,
}

/// The announce events of BEP 3 and BEP 21.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnnounceEvent {
    /// The first announce to a tracker.
    Started,
    /// The download has just completed.
    Completed,
    /// The torrent is stopping.
    Stopped,
    /// A partial seed: every wanted piece is complete, but not every piece of the torrent (BEP 21).
    Paused,
}

impl AnnounceEvent {
    /// The event's name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            AnnounceEvent::Started => "started",
            AnnounceEvent::Completed => "completed",
            AnnounceEvent::Stopped => "stopped",
            AnnounceEvent::Paused => "paused",
        }
    }
}

/// A tracker's response to an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct AnnounceResponse {
    /// Addresses of peers without duplicates, at most 3,000.
    pub peers: Vec<SocketAddr>,
    /// The number of peers dropped because a tracker on the internet named addresses in private networks.
    pub private_dropped: usize,
    /// Host names and ports of peers, still to be resolved (BEP 3).
    pub names: Vec<(String, u16)>,
    /// The time until the next regular announce, 2 s to 24 h; 30 min if the tracker names none.
    pub interval: Duration,
    /// The minimum time until the next announce without an event, 2 s to 24 h.
    pub min_interval: Option<Duration>,
    /// The number of seeds.
    pub complete: Option<u32>,
    /// The number of leechers.
    pub incomplete: Option<u32>,
    /// The `warning message`, without control characters.
    pub warning: Option<String>,
    /// The `tracker id`, to be sent with the next announce.
    pub tracker_id: Option<Vec<u8>>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

impl AnnounceResponse {
    /// Drops private addresses from the response of a tracker with a public address. No host on the internet knows a private
    /// network, so such an address is a mistake, or an attempt to make us connect to a device of the user.
    #[must_use]
    pub(crate) fn without_private_peers(mut self) -> AnnounceResponse {
        let named = self.peers.len();
        self.peers.retain(|peer| !is_private(peer.ip()));
        self.private_dropped += named - self.peers.len();
        self
    }

    /// Combines the responses over both address families.
    #[must_use]
    pub fn merged(self, other: AnnounceResponse) -> AnnounceResponse {
        AnnounceResponse {
            peers: usable(self.peers.into_iter().chain(other.peers)),
            private_dropped: self.private_dropped + other.private_dropped,
            interval: self.interval.max(other.interval),
            complete: self.complete.max(other.complete),
            incomplete: self.incomplete.max(other.incomplete),
            ..self
        }
    }
}

/// A tracker's counts for one swarm (BEP 15, 48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// The number of seeds.
    pub complete: u32,
    /// The number of leechers.
    pub incomplete: u32,
    /// How many downloads were completed.
    pub downloaded: u32,
}

/// The port in announces if we listen on `port`, or on none if that is 0. Trackers refuse announces without a port; nobody listens
/// on this one.
pub(crate) fn announced_port(port: u16) -> u16 {
    port.max(1)
}

/// An interval that a tracker names, clamped to our limits; `None` if it is not positive.
pub(crate) fn seconds(seconds: i64) -> Option<Duration> {
    let seconds = u64::try_from(seconds).ok().filter(|&s| s > 0)?;
    Some(Duration::from_secs(seconds).clamp(MIN_INTERVAL, MAX_INTERVAL))
}

/// A tracker's text, truncated and without control characters.
pub(crate) fn text(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(MAX_TEXT).collect();
    printable(&text)
}

/// The usable addresses, without duplicates. If there are more than [`MAX_PEERS`], a random choice, because the good peers may be
/// anywhere in a long list.
pub(crate) fn usable(addrs: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let mut all: Vec<_> = addrs.filter(|&addr| compact::is_usable(addr) && seen.insert(addr)).collect();
    if all.len() > MAX_PEERS {
        random::fast_rng().shuffle(&mut all);
        all.truncate(MAX_PEERS);
    }
    all
}

#[cfg(test)]
impl Announce<'static> {
    /// An announce for the info-hash `[7; 20]` by a distinct peer, whose id ends in its port.
    pub fn of_port(port: u16, left: u64, event: Option<AnnounceEvent>) -> Announce<'static> {
        let mut id = *b"-BY0001-000000000000";
        id[18..].copy_from_slice(&port.to_be_bytes());
        Announce {
            info_hash: InfoHash([7; 20]),
            peer_id: PeerId(id),
            port,
            uploaded: 0,
            downloaded: 0,
            left,
            key: 7,
            numwant: 50,
            event,
            tracker_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anonymous_identity_names_no_client() {
        let route = Route::default().anonymous(true);
        let [one, two] = [(); 2].map(|()| TorrentIdentity::for_route(&route, Some(*b"-qB4650-")));
        assert!(one.peer_id != two.peer_id && one.key != two.key);
        assert!(!one.peer_id.0.starts_with(b"-qB"));
        let named = TorrentIdentity::for_route(&Route::default(), Some(*b"-qB4650-"));
        assert!(named.peer_id.0.starts_with(b"-qB4650-"));
    }

    #[test]
    fn a_public_tracker_names_no_private_addresses() {
        let private = [
            "10.1.2.3:6881",
            "127.0.0.1:6881",
            "169.254.1.1:6881",
            "172.16.0.1:6881",
            "192.168.1.1:6881",
            "[::1]:6881",
            "[fd00::1]:6881",
            "[fe80::1]:6881",
            "[::ffff:10.0.0.1]:6881",
            "[64:ff9b::c0a8:101]:6881",
            "[2002:a00:1::1]:6881",
        ];
        let public = ["203.0.113.5:6881", "[2a00::1]:6881", "[64:ff9b::808:808]:6881"];
        let peers: Vec<SocketAddr> = private.iter().chain(&public).filter_map(|peer| peer.parse().ok()).collect();
        let answer = AnnounceResponse {
            peers,
            private_dropped: 0,
            names: Vec::new(),
            interval: DEFAULT_INTERVAL,
            min_interval: None,
            complete: None,
            incomplete: None,
            warning: None,
            tracker_id: None,
            external_ip: None,
        };
        let answer = answer.without_private_peers();
        assert_eq!(answer.peers.iter().map(ToString::to_string).collect::<Vec<_>>(), public);
        assert_eq!(answer.private_dropped, private.len());
        assert_eq!(answer.clone().merged(answer).private_dropped, 2 * private.len());
    }
}
