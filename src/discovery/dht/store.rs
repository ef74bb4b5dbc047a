//! Stores the peers that other nodes announced to us, by torrent, for half an hour and within limits. Pure.
//!
//! Whoever has a subnet (/24, IPv6 /48) can announce from all its addresses. So when a limit is reached, a peer or torrent of the
//! subnet with the most makes room.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::net::networks::{Network, heaviest_users};
use crate::types::InfoHash;

/// The lifetime of an announce; clients repeat theirs every 15 to 30 minutes.
const EXPIRY: Duration = Duration::from_secs(30 * 60);
/// The most torrents. Beyond this, one is evicted that only subnets with many peers announced, or else the one with the oldest last
/// announce.
const MAX_TORRENTS: usize = 2000;
/// The most peers per torrent. Beyond this, the oldest of the subnet with the most is evicted.
const MAX_PEERS: usize = 200;
/// The most peers that one host (an IPv4 address, or an IPv6 /64) may announce, and the most of one subnet.
const MAX_PER_HOST: usize = 100;
const MAX_PER_SUBNET: usize = 1000;
/// Subnets with no more peers than this are equal when a torrent is evicted.
const USUAL_PER_SUBNET: usize = 16;

/// The announced peers by torrent.
#[derive(Debug, Default)]
pub struct PeerStore {
    /// For each torrent its peers and the times of their announces, oldest first.
    torrents: HashMap<InfoHash, Vec<(SocketAddr, Duration)>>,
    per_host: HashMap<Network, usize>,
    /// Private addresses by host.
    per_subnet: HashMap<Network, usize>,
}

impl PeerStore {
    /// Stores a peer; false if its host or subnet has announced too many.
    pub fn announce(&mut self, now: Duration, info_hash: InfoHash, peer: SocketAddr) -> bool {
        self.remove(info_hash, |(addr, at)| *addr == peer || now.saturating_sub(*at) >= EXPIRY);
        if self.has_too_many(peer) {
            self.sweep(now);
            if self.has_too_many(peer) {
                return false;
            }
        }
        if !self.torrents.contains_key(&info_hash)
            && self.torrents.len() >= MAX_TORRENTS
            && let Some(torrent) = self.torrent_to_evict()
        {
            self.remove(torrent, |_| true);
        }
        if let Some(peers) = self.torrents.get(&info_hash).filter(|peers| peers.len() >= MAX_PEERS) {
            let of_fullest = heaviest_users(peers, |(addr, _)| Some(addr.ip()), |_| 1);
            let oldest = of_fullest.first().copied().copied();
            self.remove(info_hash, |entry| Some(*entry) == oldest);
        }
        self.torrents.entry(info_hash).or_default().push((peer, now));
        *self.per_host.entry(Network::host(peer.ip())).or_default() += 1;
        *self.per_subnet.entry(Network::public_subnet(peer.ip())).or_default() += 1;
        true
    }

    fn has_too_many(&self, peer: SocketAddr) -> bool {
        let has = |counts: &HashMap<Network, usize>, network| counts.get(&network).copied().unwrap_or_default();
        has(&self.per_host, Network::host(peer.ip())) >= MAX_PER_HOST
            || has(&self.per_subnet, Network::public_subnet(peer.ip())) >= MAX_PER_SUBNET
    }

    /// The torrent to evict. A peer of a subnet with few peers protects its torrent, whoever else announces it.
    fn torrent_to_evict(&self) -> Option<InfoHash> {
        let size =
            |addr: SocketAddr| self.per_subnet.get(&Network::public_subnet(addr.ip())).copied().unwrap_or_default();
        let rank = |peers: &[(SocketAddr, Duration)]| {
            let smallest = peers.iter().map(|(addr, _)| size(*addr).max(USUAL_PER_SUBNET)).min();
            (smallest, Reverse(peers.last().map(|(_, at)| *at)))
        };
        self.torrents.iter().max_by_key(|(_, peers)| rank(peers)).map(|(hash, _)| *hash)
    }

    /// Up to `n` random peers of a torrent.
    pub fn peers(&self, now: Duration, info_hash: InfoHash, n: usize, rng: &mut fastrand::Rng) -> Vec<SocketAddr> {
        let peers = self.torrents.get(&info_hash).into_iter().flatten();
        let fresh = peers.filter(|(_, at)| now.saturating_sub(*at) < EXPIRY).map(|(addr, _)| *addr);
        rng.choose_multiple(fresh, n)
    }

    /// The number of peers stored.
    pub fn len(&self) -> usize {
        self.per_host.values().sum()
    }

    /// Removes expired peers.
    pub fn sweep(&mut self, now: Duration) {
        let hashes: Vec<InfoHash> = self.torrents.keys().copied().collect();
        for hash in hashes {
            self.remove(hash, |(_, at)| now.saturating_sub(*at) >= EXPIRY);
        }
    }

    fn remove(&mut self, info_hash: InfoHash, which: impl Fn(&(SocketAddr, Duration)) -> bool) {
        let Some(peers) = self.torrents.get_mut(&info_hash) else { return };
        for (addr, _) in peers.extract_if(.., |entry| which(entry)) {
            count_down(&mut self.per_host, Network::host(addr.ip()));
            count_down(&mut self.per_subnet, Network::public_subnet(addr.ip()));
        }
        if peers.is_empty() {
            self.torrents.remove(&info_hash);
        }
    }
}

fn count_down(counts: &mut HashMap<Network, usize>, network: Network) {
    if let Some(n) = counts.get_mut(&network) {
        *n -= 1;
        if *n == 0 {
            counts.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> InfoHash {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash(hash)
    }

    fn peer(n: u32) -> SocketAddr {
        SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 6881))
    }

    #[test]
    fn peers_are_found_until_they_are_too_old() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut store = PeerStore::default();
        assert!(store.announce(Duration::ZERO, hash(1), peer(1)));
        assert!(store.announce(Duration::ZERO, hash(1), peer(1)));
        assert_eq!((store.len(), store.peers(EXPIRY / 2, hash(1), 9, &mut rng)), (1, vec![peer(1)]));
        assert!(store.peers(EXPIRY / 2, hash(2), 9, &mut rng).is_empty());
        assert!(store.peers(EXPIRY, hash(1), 9, &mut rng).is_empty());
        store.sweep(EXPIRY);
        assert_eq!((store.len(), store.torrents.len(), store.per_host.len() + store.per_subnet.len()), (0, 0, 0));
    }

    #[test]
    fn peers_torrents_and_addresses_are_bounded() {
        let mut store = PeerStore::default();
        for n in 0..5000 {
            assert!(store.announce(Duration::from_millis(n.into()), hash(0), peer(n)));
            assert!(store.announce(Duration::from_millis(n.into()), hash(n), peer(n)));
        }
        assert_eq!(store.torrents.len(), MAX_TORRENTS);
        assert_eq!(store.torrents[&hash(0)].len(), MAX_PEERS);
        assert_eq!(store.len(), store.torrents.values().map(Vec::len).sum::<usize>());
        let mut one = PeerStore::default();
        let taken = (0..500).filter(|n| one.announce(Duration::ZERO, hash(*n), peer(7))).count();
        assert_eq!((taken, one.len()), (MAX_PER_HOST, MAX_PER_HOST));
    }

    /// One party has all addresses of a subnet, or of two.
    #[test]
    fn one_subnet_displaces_no_peer_and_no_torrent_of_others() {
        let honest = |n: u8| SocketAddr::from(([81, 1, n, 1], 6881));
        for subnets in [1, 3] {
            let (mut store, now) = (PeerStore::default(), Duration::from_millis);
            let attacker = |n: u32| SocketAddr::from(([0x2001, 0xdb8, n as u16 % subnets, n as u16, 0, 0, 0, 1], 1));
            for n in 0..100 {
                assert!(store.announce(now(0), hash(0), honest(n)));
                assert!(store.announce(now(0), hash(n.into()), honest(n)));
            }
            for n in 0..600 {
                store.announce(now(n.into()), hash(0), attacker(n));
            }
            assert_eq!(store.torrents[&hash(0)].len(), MAX_PEERS);
            for n in 0..2500 {
                store.announce(now(n.into()), hash(1000 + n), attacker(n));
            }
            assert!(store.len() <= 200 + usize::from(subnets) * MAX_PER_SUBNET);
            for n in 0..100 {
                assert!(store.torrents[&hash(0)].iter().any(|(addr, _)| *addr == honest(n)));
                assert!(store.torrents[&hash(n.into())].iter().any(|(addr, _)| *addr == honest(n)));
            }
        }
    }
}
