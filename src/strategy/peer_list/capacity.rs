//! What the book takes in, and what gives way when it is full. Pure.
//!
//! Whoever names addresses may aim us at a third party, so a host is tried on a few ports only. A port that turned out to be a peer
//! of this torrent does not count: behind one address there may be many peers. An honest host with several ports is not shut out by
//! that: each port that proves itself makes place for the next.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::net::networks::{Network, is_private};
use crate::strategy::peer_list::dial_history::DialHistory;
use crate::strategy::peer_list::entry::{PeerListEntry, PeerSource};
use crate::wire::compact::is_usable;

/// Addresses kept at most.
pub(crate) const MAX_KNOWN: usize = 3000;
/// With so many of unverified sources, no more of them are taken: the rest is for trackers, neighbours and the user.
pub(crate) const MAX_UNVERIFIED: usize = 2000;
/// Ports of a host that are tried, where a tracker or a link names them; where strangers do.
const PORTS: (usize, usize) = (4, 1);
/// The same for an IPv6 network of the size that one subscriber has (/64).
const PORTS_OF_NETWORK: (usize, usize) = (16, 4);
/// The same in private networks, where whole test swarms share an address, and no third party is hit.
const PRIVATE_PORTS: (usize, usize) = (256, 64);
/// Addresses that have not been tried and make room for those of one answer or message, at most: a short list always gets in, and a
/// long one does not push all others out.
const MAX_DISPLACED: usize = 200;

/// Whether a peer can be there at all.
pub(crate) fn is_possible(addr: SocketAddr) -> bool {
    is_usable(addr)
}

/// How many ports of each host and network have not proven to be peers, of those in the book and those that were dialled.
pub(crate) struct PortCounts {
    hosts: HashMap<IpAddr, usize>,
    networks: HashMap<Network, usize>,
}

impl PortCounts {
    pub fn of(entries: &HashMap<SocketAddr, PeerListEntry>, tried: &DialHistory) -> PortCounts {
        let mut ports = PortCounts { hosts: HashMap::new(), networks: HashMap::new() };
        let unproven = entries.iter().filter(|(_, entry)| !entry.is_proven() && entry.source != PeerSource::User);
        unproven.for_each(|(addr, _)| ports.count(addr.ip()));
        tried.all().filter(|addr| !entries.contains_key(addr)).for_each(|addr| ports.count(addr.ip()));
        ports
    }

    fn count(&mut self, ip: IpAddr) {
        *self.hosts.entry(ip).or_default() += 1;
        *self.networks.entry(Network::host(ip)).or_default() += 1;
    }

    /// Whether this port of its host may be taken in; if so, it is counted. One that was dialled before is counted already.
    pub fn admit(&mut self, addr: SocketAddr, source: PeerSource, tried: &DialHistory) -> bool {
        if source == PeerSource::User {
            return true;
        }
        if tried.has(&addr) {
            return !tried.is_resting(&addr);
        }
        let ip = addr.ip();
        let of = |(more, few)| if source >= PeerSource::Link { more } else { few };
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

/// The addresses that give way to one of `source`, the last one first; of those that trackers named none, where `only_unverified`.
/// What has failed goes first, and what strangers named. Connected, banned and proven peers stay.
pub(crate) fn to_displace(
    entries: &HashMap<SocketAddr, PeerListEntry>,
    source: PeerSource,
    only_unverified: bool,
    rng: &mut fastrand::Rng,
) -> Vec<SocketAddr> {
    const UNTRIED: u8 = 5;
    let mut class = |addr: &SocketAddr, entry: &PeerListEntry| {
        let (failures, verified) = (entry.record.failures(), entry.source.is_verified());
        let kept =
            entry.connection.is_some() || entry.source == PeerSource::User || entry.record.banned_until().is_some();
        let class = match (entry.is_proven(), failures) {
            _ if kept || (verified && only_unverified) => return None,
            _ if entry.is_never_dialed => 4,
            (false, 1..) if !verified => 0,
            (false, 0) if entry.is_doubtful(addr) => 1,
            (false, 1..) => 2,
            (true, 3..) => 3,
            (false, 0) if !verified => UNTRIED,
            (false, 0) if source.is_verified() => UNTRIED + 1,
            _ => return None,
        };
        // By chance among the untried: BEP 40's priority is known to those who choose their addresses.
        Some((class, Reverse(failures), rng.u32(..), *addr))
    };
    let mut all: Vec<_> = entries.iter().filter_map(|(addr, entry)| class(addr, entry)).collect();
    all.sort_unstable();
    all.truncate(all.partition_point(|(class, ..)| *class < UNTRIED) + MAX_DISPLACED);
    all.into_iter().rev().map(|(.., addr)| addr).collect()
}
