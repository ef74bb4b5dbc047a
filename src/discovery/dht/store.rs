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

/// A peer that another node announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPeer {
    /// The peer's address.
    pub addr: SocketAddr,
    /// When it was announced.
    pub at: Duration,
    /// Whether it is a seed (BEP 33).
    pub is_seed: bool,
}

impl StoredPeer {
    fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) < EXPIRY
    }
}

/// The announced peers by torrent.
#[derive(Debug, Default)]
pub struct PeerStore {
    /// For each torrent its peers, with the oldest announce first.
    torrents: HashMap<InfoHash, Vec<StoredPeer>>,
    per_host: HashMap<Network, usize>,
    /// Private addresses by host.
    per_subnet: HashMap<Network, usize>,
}

impl PeerStore {
    /// Stores a peer that is announced now; false if its host or subnet has announced too many.
    pub fn announce(&mut self, info_hash: InfoHash, peer: StoredPeer) -> bool {
        let (addr, now) = (peer.addr, peer.at);
        self.remove(info_hash, |stored| stored.addr == addr || !stored.is_fresh(now));
        if self.has_too_many(addr) {
            self.sweep(now);
            if self.has_too_many(addr) {
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
            let of_fullest = heaviest_users(peers, |stored| Some(stored.addr.ip()), |_| 1);
            let oldest = of_fullest.first().copied().copied();
            self.remove(info_hash, |stored| Some(*stored) == oldest);
        }
        self.torrents.entry(info_hash).or_default().push(peer);
        *self.per_host.entry(Network::host(addr.ip())).or_default() += 1;
        *self.per_subnet.entry(Network::public_subnet(addr.ip())).or_default() += 1;
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
        let rank = |peers: &[StoredPeer]| {
            let smallest = peers.iter().map(|peer| size(peer.addr).max(USUAL_PER_SUBNET)).min();
            (smallest, Reverse(peers.last().map(|peer| peer.at)))
        };
        self.torrents.iter().max_by_key(|(_, peers)| rank(peers)).map(|(hash, _)| *hash)
    }

    /// Up to `n` random peers of a torrent, or of those that are no seeds.
    pub fn peers(
        &self,
        now: Duration,
        info_hash: InfoHash,
        without_seeds: bool,
        n: usize,
        rng: &mut fastrand::Rng,
    ) -> Vec<SocketAddr> {
        let peers = self.all(now, info_hash).filter(|peer| !(without_seeds && peer.is_seed));
        rng.choose_multiple(peers.map(|peer| peer.addr), n)
    }

    /// All peers of a torrent.
    pub fn all(&self, now: Duration, info_hash: InfoHash) -> impl Iterator<Item = &StoredPeer> {
        self.torrents.get(&info_hash).into_iter().flatten().filter(move |peer| peer.is_fresh(now))
    }

    /// Whether peers of a torrent are stored.
    pub fn has(&self, info_hash: InfoHash) -> bool {
        self.torrents.contains_key(&info_hash)
    }

    /// Up to `n` random torrents.
    pub fn sample(&mut self, now: Duration, n: usize, rng: &mut fastrand::Rng) -> Vec<InfoHash> {
        self.sweep(now);
        let mut hashes: Vec<InfoHash> = self.torrents.keys().copied().collect();
        hashes.sort_unstable_by_key(|hash| hash.0); // the map's order is not that of the seed
        rng.choose_multiple(hashes, n)
    }

    /// The number of torrents.
    pub fn torrents(&self) -> usize {
        self.torrents.len()
    }

    /// The number of peers stored.
    pub fn len(&self) -> usize {
        self.per_host.values().sum()
    }

    /// Removes expired peers.
    pub fn sweep(&mut self, now: Duration) {
        let hashes: Vec<InfoHash> = self.torrents.keys().copied().collect();
        for hash in hashes {
            self.remove(hash, |peer| !peer.is_fresh(now));
        }
    }

    fn remove(&mut self, info_hash: InfoHash, which: impl Fn(&StoredPeer) -> bool) {
        let Some(peers) = self.torrents.get_mut(&info_hash) else { return };
        for peer in peers.extract_if(.., |peer| which(peer)) {
            count_down(&mut self.per_host, Network::host(peer.addr.ip()));
            count_down(&mut self.per_subnet, Network::public_subnet(peer.addr.ip()));
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

    /// Announces a peer that is no seed.
    fn announce(store: &mut PeerStore, at: Duration, info_hash: InfoHash, addr: SocketAddr) -> bool {
        store.announce(info_hash, StoredPeer { addr, at, is_seed: false })
    }

    fn peer(n: u32) -> SocketAddr {
        SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 6881))
    }

    #[test]
    fn peers_are_found_until_they_are_too_old() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut store = PeerStore::default();
        assert!(announce(&mut store, Duration::ZERO, hash(1), peer(1)));
        assert!(announce(&mut store, Duration::ZERO, hash(1), peer(1)));
        assert_eq!((store.len(), store.peers(EXPIRY / 2, hash(1), false, 9, &mut rng)), (1, vec![peer(1)]));
        assert!(store.peers(EXPIRY / 2, hash(2), false, 9, &mut rng).is_empty());
        assert!(store.peers(EXPIRY, hash(1), false, 9, &mut rng).is_empty());
        store.sweep(EXPIRY);
        assert_eq!((store.len(), store.torrents.len(), store.per_host.len() + store.per_subnet.len()), (0, 0, 0));
    }

    #[test]
    fn seeds_are_told_from_others_and_torrents_are_sampled() {
        let (mut store, mut rng) = (PeerStore::default(), fastrand::Rng::with_seed(1));
        for n in 0..30 {
            assert!(announce(&mut store, Duration::ZERO, hash(n), peer(n)));
        }
        assert!(store.announce(hash(0), StoredPeer { addr: peer(50), at: Duration::ZERO, is_seed: true }));
        assert_eq!(store.peers(Duration::ZERO, hash(0), false, 9, &mut rng).len(), 2);
        assert_eq!(store.peers(Duration::ZERO, hash(0), true, 9, &mut rng), [peer(0)]);
        let mut sample = store.sample(Duration::ZERO, 20, &mut rng);
        sample.sort_unstable_by_key(|hash| hash.0);
        sample.dedup();
        assert_eq!((sample.len(), store.torrents()), (20, 30));
        assert!(store.sample(EXPIRY, 20, &mut rng).is_empty());
    }

    #[test]
    fn peers_torrents_and_addresses_are_bounded() {
        let mut store = PeerStore::default();
        for n in 0..5000 {
            assert!(announce(&mut store, Duration::from_millis(n.into()), hash(0), peer(n)));
            assert!(announce(&mut store, Duration::from_millis(n.into()), hash(n), peer(n)));
        }
        assert_eq!(store.torrents.len(), MAX_TORRENTS);
        assert_eq!(store.torrents[&hash(0)].len(), MAX_PEERS);
        assert_eq!(store.len(), store.torrents.values().map(Vec::len).sum::<usize>());
        let mut one = PeerStore::default();
        let taken = (0..500).filter(|n| announce(&mut one, Duration::ZERO, hash(*n), peer(7))).count();
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
                assert!(announce(&mut store, now(0), hash(0), honest(n)));
                assert!(announce(&mut store, now(0), hash(n.into()), honest(n)));
            }
            for n in 0..600 {
                announce(&mut store, now(n.into()), hash(0), attacker(n));
            }
            assert_eq!(store.torrents[&hash(0)].len(), MAX_PEERS);
            for n in 0..2500 {
                announce(&mut store, now(n.into()), hash(1000 + n), attacker(n));
            }
            assert!(store.len() <= 200 + usize::from(subnets) * MAX_PER_SUBNET);
            for n in 0..100 {
                assert!(store.torrents[&hash(0)].iter().any(|peer| peer.addr == honest(n)));
                assert!(store.torrents[&hash(n.into())].iter().any(|peer| peer.addr == honest(n)));
            }
        }
    }
}
