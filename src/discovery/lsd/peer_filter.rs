//! Decides which peers to report, from the datagrams received so far. Pure.
//!
//! Anybody on the local network can announce any address, and has any number of IPv6 addresses. So each torrent has a limit of its
//! own for the hosts of each network of ours, and one for each address family elsewhere: forged addresses use up their own limit
//! only. The limit of an IPv4 /24 is enough for all its addresses. Where a limit is not, half of it goes to the first, and the rest
//! to hosts that chance chooses anew in each minute, fewer as it fills up: a host that announces late, or seldom, has the chance
//! that its share of all addresses gives it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::discovery::lsd::packet::LocalAnnounce;
use crate::net::networks::Network;
use crate::types::InfoHash;
use crate::wire::compact;

/// The minimum time between two reports of the same peer.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// The most peers of one torrent and address family reported within [`REPORT_INTERVAL`], which bounds the effect of a malicious
/// host.
const MAX_REPORTED: usize = 200;
/// The same for the hosts of one of our own networks: at least one port of each address of a /24, so that forged addresses keep
/// nobody out there.
const MAX_NEAR: usize = 512;
/// With very many torrents, each has less, so that all torrents together have no more than this many peers of one network, or
/// [`MIN_PER_TORRENT`] of each torrent.
const MAX_OF_ALL: usize = 64 * MAX_NEAR;
const MIN_PER_TORRENT: usize = 16;
/// The most ports reported per host and torrent, so that one host cannot use up the limit for all. Once half of the limit is used,
/// each host gets only one.
const MAX_PORTS: usize = 8;
/// The hosts of an IPv4 /24.
const HOSTS_OF_V4: usize = 254;

/// The hosts that share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PeerOrigin {
    /// Those of a network of ours.
    Near(Network),
    /// All others of an address family.
    Far { is_v6: bool },
}

/// The peers reported within [`REPORT_INTERVAL`], each with the time of the report.
type ReportedPeers = HashMap<SocketAddr, Duration>;

/// See the module documentation.
#[derive(Debug)]
pub struct PeerFilter {
    swarms: Vec<InfoHash>,
    cookie: String,
    /// Known to nobody, so that nobody can compute which hosts chance chooses.
    seed: u64,
    /// The networks of our interfaces.
    near: Vec<Network>,
    pools: HashMap<(InfoHash, PeerOrigin), ReportedPeers>,
    /// When all pools were last emptied of old reports.
    last_sweep: Duration,
}

impl PeerFilter {
    /// Creates a filter for peers of `swarms`; `cookie` is our own, and `seed` is random.
    pub fn new(swarms: Vec<InfoHash>, cookie: String, seed: u64) -> PeerFilter {
        PeerFilter { swarms, cookie, seed, near: Vec::new(), pools: HashMap::new(), last_sweep: Duration::ZERO }
    }

    /// Sets our own addresses. Hosts of the same networks (/24, or /64 of IPv6) have a limit of their own, which hosts elsewhere do
    /// not use up.
    pub fn set_own_addresses(&mut self, own: impl Iterator<Item = IpAddr>) {
        self.near = own.filter(|ip| !ip.is_unspecified()).map(near_network).collect();
        let near = &self.near;
        self.pools.retain(|(_, origin), _| match origin {
            PeerOrigin::Near(network) => near.contains(network),
            PeerOrigin::Far { .. } => true,
        });
    }

    fn origin(&self, ip: IpAddr) -> PeerOrigin {
        let network = near_network(ip);
        if self.near.contains(&network) { PeerOrigin::Near(network) } else { PeerOrigin::Far { is_v6: is_v6(ip) } }
    }

    /// Reports peers of `swarm`, too.
    pub fn add(&mut self, swarm: InfoHash) {
        if !self.swarms.contains(&swarm) {
            self.swarms.push(swarm);
        }
    }

    /// Stops reporting peers of `swarm`.
    pub fn remove(&mut self, swarm: InfoHash) {
        self.swarms.retain(|known| *known != swarm);
        self.pools.retain(|(known, _), _| *known != swarm);
    }

    /// The swarms whose peers are reported.
    pub fn swarms(&self) -> &[InfoHash] {
        &self.swarms
    }

    /// The peers to report from a datagram: those in our swarms, except ourselves, each at most once a minute.
    #[cfg(any(test, feature = "internals"))]
    pub fn receive(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) -> Vec<(InfoHash, SocketAddr)> {
        self.receive_for(now, from, datagram, |_| false)
    }

    /// The same, and all peers of swarms for which `is_dormant` is true. These need no limit, because each such torrent has use for
    /// one report until it has run.
    pub fn receive_for(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &[u8],
        is_dormant: impl Fn(InfoHash) -> bool,
    ) -> Vec<(InfoHash, SocketAddr)> {
        let Some(said) = LocalAnnounce::parse(datagram) else { return Vec::new() };
        let mut addr = from;
        addr.set_port(said.port);
        if said.cookie.as_ref() == Some(&self.cookie) || !compact::is_usable(addr) {
            return Vec::new();
        }
        self.sweep(now);
        let origin = self.origin(addr.ip());
        let mut found = Vec::new();
        for swarm in said.swarms {
            if !self.swarms.contains(&swarm) {
                found.extend(is_dormant(swarm).then_some((swarm, addr)));
                continue;
            }
            let (limit, luck) = (self.limit(origin), self.luck(now, swarm, addr.ip()));
            let pool = self.pools.entry((swarm, origin)).or_default();
            pool.retain(|_, at| now.saturating_sub(*at) < REPORT_INTERVAL);
            if admits(pool, limit, origin, addr, luck) {
                pool.insert(addr, now);
                found.push((swarm, addr));
            }
        }
        found
    }

    /// Frees the memory of old reports, also those of networks and torrents from which nothing arrives any more.
    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.last_sweep) < REPORT_INTERVAL {
            return;
        }
        self.last_sweep = now;
        self.pools.retain(|_, pool| {
            pool.retain(|_, at| now.saturating_sub(*at) < REPORT_INTERVAL);
            !pool.is_empty()
        });
    }

    /// The most peers of one torrent that are reported from there within [`REPORT_INTERVAL`].
    fn limit(&self, origin: PeerOrigin) -> usize {
        let most = if matches!(origin, PeerOrigin::Near(_)) { MAX_NEAR } else { MAX_REPORTED };
        (MAX_OF_ALL / self.swarms.len().max(1)).max(MIN_PER_TORRENT).min(most)
    }

    /// How lucky a host is in this minute: at least `n` with a chance of one in 2ⁿ.
    fn luck(&self, now: Duration, swarm: InfoHash, ip: IpAddr) -> u32 {
        let mut hasher = DefaultHasher::new();
        (self.seed, now.as_secs() / REPORT_INTERVAL.as_secs(), swarm, ip).hash(&mut hasher);
        hasher.finish().leading_zeros()
    }
}

/// Whether a peer is reported although so many others were.
fn admits(pool: &ReportedPeers, limit: usize, origin: PeerOrigin, addr: SocketAddr, luck: u32) -> bool {
    let room = limit.saturating_sub(pool.len());
    if room == 0 || pool.contains_key(&addr) {
        return false;
    }
    let ports = pool.keys().filter(|other| other.ip() == addr.ip()).count();
    if 2 * pool.len() < limit {
        return ports < MAX_PORTS;
    }
    let has_room_for_all = matches!(origin, PeerOrigin::Near(_)) && !is_v6(addr.ip()) && limit / 2 >= HOSTS_OF_V4;
    // The fuller the pool, the luckier.
    ports == 0 && (has_room_for_all || luck >= (limit / room).ilog2())
}

fn near_network(ip: IpAddr) -> Network {
    Network::of(ip, 24, 64)
}

fn is_v6(ip: IpAddr) -> bool {
    ip.to_canonical().is_ipv6()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::lsd::packet::announces;

    const A: InfoHash = InfoHash([0xa1; 20]);
    const B: InfoHash = InfoHash([0xb2; 20]);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn one(port: u16, swarms: &[InfoHash], cookie: &str) -> Vec<u8> {
        announces("[ff15::efc0:988f]:6771".parse().unwrap(), port, swarms, cookie).remove(0)
    }

    #[test]
    fn ourselves_and_other_swarms_are_not_heard() {
        let from: SocketAddr = "192.168.1.2:6771".parse().unwrap();
        let mut peer_filter = PeerFilter::new(vec![A], "me".into(), 1);
        assert_eq!(peer_filter.receive(s(0), from, &one(5, &[A], "me")), []);
        assert_eq!(peer_filter.receive(s(0), from, &one(5, &[B], "you")), []);
        assert_eq!(peer_filter.receive(s(0), from, &one(5, &[B, A], "you")), [(A, "192.168.1.2:5".parse().unwrap())]);
    }

    #[test]
    fn peers_of_dormant_torrents_are_reported_too() {
        let mut peer_filter = PeerFilter::new(vec![A], "me".into(), 1);
        let from = "192.168.1.2:6771".parse().unwrap();
        let sent = one(5, &[A, B], "you");
        let peer = "192.168.1.2:5".parse().unwrap();
        assert_eq!(peer_filter.receive_for(s(0), from, &sent, |swarm| swarm == B), [(A, peer), (B, peer)]);
        assert_eq!(peer_filter.receive_for(s(1), from, &sent, |_| false), []);
        assert_eq!(peer_filter.receive_for(s(1), from, &one(5, &[B], "me"), |_| true), [], "ourselves");
        assert_eq!(peer_filter.swarms(), [A], "it is not announced");
    }

    #[test]
    fn swarms_come_and_go() {
        let from: SocketAddr = "192.168.1.2:6771".parse().unwrap();
        let mut peer_filter = PeerFilter::new(vec![A], "me".into(), 1);
        peer_filter.add(B);
        peer_filter.add(A);
        assert_eq!(peer_filter.swarms(), [A, B]);
        assert_eq!(peer_filter.receive(s(0), from, &one(5, &[B, A], "you")).len(), 2);
        peer_filter.remove(A);
        assert_eq!(peer_filter.receive(s(1), from, &one(5, &[A], "you")), []);
        peer_filter.add(A);
        assert_eq!(
            peer_filter.receive(s(2), from, &one(5, &[A, B], "you")).len(),
            1,
            "whoever asks anew has heard nothing yet"
        );
    }

    #[test]
    fn nobody_is_told_more_than_once_a_minute_and_a_flood_has_an_end() {
        let from: SocketAddr = "192.168.1.2:6771".parse().unwrap();
        let mut peer_filter = PeerFilter::new(vec![A], "me".into(), 1);
        let times = [0, 1, 59, 60, 61].map(|at| peer_filter.receive(s(at), from, &one(5, &[A], "you")).len());
        assert_eq!(times, [1, 0, 0, 1, 0]);
        let flood = |peer_filter: &mut PeerFilter, at| -> usize {
            (1..=1000).map(|port| peer_filter.receive(s(at), from, &one(port, &[A], "you")).len()).sum()
        };
        assert_eq!(flood(&mut peer_filter, 200), MAX_PORTS);
        assert_eq!((flood(&mut peer_filter, 259), flood(&mut peer_filter, 260)), (0, MAX_PORTS));
        // Many hosts together stay within the limit for all, and hosts that announce late may still be reported.
        let mut many = |ports: std::ops::RangeInclusive<u16>, hosts: std::ops::RangeInclusive<u8>| -> usize {
            let all = hosts.flat_map(|host| ports.clone().map(move |port| ([10, 0, 0, host], port)));
            all.map(|(ip, port)| peer_filter.receive(s(400), (ip, 6771).into(), &one(port, &[A], "you")).len()).sum()
        };
        let first = many(1..=1000, 1..=100);
        assert!(first > MAX_REPORTED / 2, "{first}");
        let later = many(1..=1000, 101..=250);
        assert!(later > 0 && first + later <= MAX_REPORTED, "{first}, {later}");
    }

    #[test]
    fn forged_hosts_keep_no_host_of_our_network_out() {
        let mut peer_filter = PeerFilter::new(vec![A], "me".into(), 1);
        peer_filter.set_own_addresses(["10.0.0.7".parse().unwrap(), "0.0.0.0".parse().unwrap()].into_iter());
        let mut reported = |ip: [u8; 4]| peer_filter.receive(s(0), (ip, 6771).into(), &one(5, &[A], "you")).len();
        let far: usize = (0..=1000u16).map(|n| reported([45, 5, (n >> 8) as u8, n as u8])).sum();
        assert!((MAX_REPORTED / 2..=MAX_REPORTED).contains(&far), "{far}");
        let near: usize = (1..=254).map(|host| reported([10, 0, 0, host])).sum();
        assert_eq!(near, 254);
    }

    /// A host announces from very many IPv6 addresses of its own network, over and over.
    fn flood(peer_filter: &mut PeerFilter, at: Duration, hosts: u16) -> usize {
        let from = |host| SocketAddr::from(([0xfd00, 9, 0, 0, 0, 0, 1, host], 6771));
        (0..hosts).map(|host| peer_filter.receive(at, from(host), &one(7, &[A], "they")).len()).sum()
    }

    fn flooded() -> PeerFilter {
        let mut peer_filter = PeerFilter::new(vec![A, B], "me".into(), 1);
        peer_filter.set_own_addresses(["10.0.0.7".parse().unwrap(), "fd00:9::7".parse().unwrap()].into_iter());
        let reported = flood(&mut peer_filter, s(0), 3000) + flood(&mut peer_filter, s(1), 3000);
        assert!((MAX_NEAR / 2..=MAX_NEAR).contains(&reported), "{reported}");
        peer_filter
    }

    #[test]
    fn many_addresses_of_one_network_keep_no_host_of_another_and_no_other_torrent_out() {
        let mut peer_filter = flooded();
        for ip in ["10.0.0.9", "10.0.1.9", "2001:db8::9"] {
            let from = SocketAddr::new(ip.parse().unwrap(), 6771);
            assert_eq!(peer_filter.receive(s(2), from, &one(7, &[A], "you")).len(), 1, "{ip}");
        }
        let neighbour = "[fd00:9::9]:6771".parse().unwrap();
        assert_eq!(peer_filter.receive(s(2), neighbour, &one(7, &[B], "you")).len(), 1);
    }

    /// In each minute, chance chooses anew. With 600 addresses, as many as there is room for, a host waits for a few minutes.
    #[test]
    fn a_host_of_the_same_network_is_reported_within_minutes_however_late_it_announces() {
        for seed in 0..10 {
            let mut peer_filter = PeerFilter::new(vec![A], "me".into(), seed);
            peer_filter.set_own_addresses(std::iter::once("fd00:9::7".parse().unwrap()));
            let neighbour = "[fd00:9::9]:6771".parse().unwrap();
            let minutes = (0..60).take_while(|minute| {
                for second in 0..2 {
                    flood(&mut peer_filter, s(minute * 60 + second), 600);
                }
                peer_filter.receive(s(minute * 60 + 30), neighbour, &one(7, &[A], "you")).is_empty()
            });
            assert!(minutes.count() < 30);
        }
    }

    #[test]
    fn with_many_torrents_all_limits_together_are_bounded() {
        let swarms: Vec<_> = (0..200).map(|n| InfoHash([n; 20])).collect();
        let mut peer_filter = PeerFilter::new(swarms.clone(), "me".into(), 1);
        peer_filter.set_own_addresses(std::iter::once("fd00:9::7".parse().unwrap()));
        for host in 0..400 {
            for datagram in announces("[ff15::efc0:988f]:6771".parse().unwrap(), 7, &swarms, "they") {
                let from = SocketAddr::from(([0xfd00, 9, 0, 0, 0, 0, 1, host], 6771));
                peer_filter.receive(s(0), from, &datagram);
            }
        }
        let all: usize = peer_filter.pools.values().map(HashMap::len).sum();
        assert!((100 * 20..=MAX_OF_ALL).contains(&all), "{all}");
        peer_filter.receive(REPORT_INTERVAL, ([192, 168, 1, 2], 6771).into(), &one(7, &swarms[..1], "you"));
        assert_eq!(peer_filter.pools.len(), 1, "old reports are forgotten");
    }
}
