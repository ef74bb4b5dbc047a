//! Which addresses the peer list accepts, and which ones it displaces when it is full.
//!
//! A source of addresses may try to aim us at a third party, so only a few ports of each host are dialed. A port that has proven
//! to be a peer of this torrent does not count, because one address may have many peers. So an honest host with several ports is
//! not shut out: each port that proves itself makes room for the next.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::net::networks::{Network, is_private};
use crate::strategy::peer_list::dial_history::DialHistory;
use crate::strategy::peer_list::entry::{PeerListEntry, PeerSource};
use crate::util::cold_sort;
use crate::wire::compact::is_usable;

/// The most addresses in the list.
pub(crate) const MAX_KNOWN: usize = 3000;
/// The most addresses from unverified sources; the rest is reserved for trackers, local discovery and the user.
pub(crate) const MAX_UNVERIFIED: usize = 2000;
/// The most unproven ports per host: first from a tracker or a link, second from peers or the DHT.
const PORTS: (usize, usize) = (4, 1);
/// The same per IPv6 /64, the size of one subscriber's network.
const PORTS_OF_NETWORK: (usize, usize) = (16, 4);
/// The same in private networks, where whole test swarms share an address and no third party can be hit.
const PRIVATE_PORTS: (usize, usize) = (256, 64);
/// The most untried addresses that one answer or message displaces: a short list is always accepted, and a long one does not
/// displace all others.
const MAX_DISPLACED: usize = 200;

/// Whether a peer can have this address.
pub(crate) fn is_possible(addr: SocketAddr) -> bool {
    is_usable(addr)
}

/// The number of unproven ports of each host and network, in the list and among those dialed before.
pub(crate) struct PortCounts {
    hosts: HashMap<IpAddr, usize>,
    networks: HashMap<Network, usize>,
}

impl PortCounts {
    pub fn of(entries: &HashMap<SocketAddr, PeerListEntry>, dial_history: &DialHistory) -> PortCounts {
        let mut ports = PortCounts { hosts: HashMap::new(), networks: HashMap::new() };
        let unproven = entries.iter().filter(|(_, entry)| !entry.is_proven() && entry.source != PeerSource::User);
        unproven.for_each(|(addr, _)| ports.count(addr.ip()));
        dial_history.all().filter(|addr| !entries.contains_key(addr)).for_each(|addr| ports.count(addr.ip()));
        ports
    }

    fn count(&mut self, ip: IpAddr) {
        *self.hosts.entry(ip).or_default() += 1;
        *self.networks.entry(Network::host(ip)).or_default() += 1;
    }

    /// Whether this port of its host may be added; if so, it is counted. A port that was dialed before is counted already.
    pub fn admit(&mut self, addr: SocketAddr, source: PeerSource, dial_history: &DialHistory) -> bool {
        if source == PeerSource::User {
            return true;
        }
        if dial_history.has(&addr) {
            return !dial_history.was_dialed_recently(&addr);
        }
        let ip = addr.ip();
        let of = |(more, few)| if source >= PeerSource::MagnetLink { more } else { few };
        let (host, network) = match ip {
            _ if is_private(ip) => (of(PRIVATE_PORTS), of(PRIVATE_PORTS)),
            IpAddr::V4(_) => (of(PORTS), of(PORTS)),
            IpAddr::V6(_) => (of(PORTS), of(PORTS_OF_NETWORK)),
        };
        let has = |count: Option<&usize>| count.copied().unwrap_or_default();
        let admitted = has(self.hosts.get(&ip)) < host && has(self.networks.get(&Network::host(ip))) < network;
        if admitted {
            self.count(ip);
        }
        admitted
    }
}

/// The addresses that addresses of `source` may displace; the last one in the result goes first. With `takes_only_unverified`, none
/// from verified sources. Failed addresses and those from unverified sources go first. Connected and banned peers stay, and so do
/// addresses of the user, and proven peers with few failures since.
pub(crate) fn to_displace(
    entries: &HashMap<SocketAddr, PeerListEntry>,
    source: PeerSource,
    takes_only_unverified: bool,
    rng: &mut fastrand::Rng,
) -> Vec<SocketAddr> {
    const UNTRIED: u8 = 5;
    let mut class = |addr: &SocketAddr, entry: &PeerListEntry| {
        let (pause_step, verified) = (entry.record.pause_step(), entry.source.is_verified());
        let kept =
            entry.connection.is_some() || entry.source == PeerSource::User || entry.record.banned_until().is_some();
        let class = match (entry.is_proven(), pause_step) {
            _ if kept || (verified && takes_only_unverified) => return None,
            _ if entry.is_never_dialed => 4,
            (false, 1..) if !verified => 0,
            (false, 0) if entry.is_doubtful(addr) => 1,
            (false, 1..) => 2,
            (true, 3..) => 3,
            (false, 0) if !verified => UNTRIED,
            (false, 0) if source.is_verified() => UNTRIED + 1,
            _ => return None,
        };
        // Untried addresses are displaced at random: an attacker who chooses addresses can compute BEP 40's priority.
        Some((class, Reverse(pause_step), rng.u32(..), *addr))
    };
    let mut all: Vec<_> = entries.iter().filter_map(|(addr, entry)| class(addr, entry)).collect();
    cold_sort::sort(&mut all);
    all.truncate(all.partition_point(|(class, ..)| *class < UNTRIED) + MAX_DISPLACED);
    all.into_iter().rev().map(|(.., addr)| addr).collect()
}
