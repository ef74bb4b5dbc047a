//! Stores the peers that other nodes announced to us, by torrent, for half an hour and within limits. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::types::InfoHash;

/// The lifetime of an announce; clients repeat theirs every 15 to 30 minutes.
const EXPIRY: Duration = Duration::from_secs(30 * 60);
/// The most torrents. Beyond this, the one with the oldest last announce is evicted.
const MAX_TORRENTS: usize = 2000;
/// The most peers per torrent. Beyond this, the oldest is evicted.
const MAX_PEERS: usize = 200;
/// The most peers that one address may announce, so that it cannot displace the others.
const MAX_PER_IP: usize = 100;

/// The announced peers by torrent.
#[derive(Debug, Default)]
pub struct PeerStore {
    /// For each torrent its peers and the times of their announces, oldest first.
    torrents: HashMap<InfoHash, Vec<(SocketAddr, Duration)>>,
    per_ip: HashMap<IpAddr, usize>,
}

impl PeerStore {
    /// Stores a peer; false if its address has announced too many.
    pub fn announce(&mut self, now: Duration, info_hash: InfoHash, peer: SocketAddr) -> bool {
        self.remove(info_hash, |(addr, at)| *addr == peer || now.saturating_sub(*at) >= EXPIRY);
        if self.per_ip.get(&peer.ip()).is_some_and(|n| *n >= MAX_PER_IP) {
            self.sweep(now);
            if self.per_ip.get(&peer.ip()).is_some_and(|n| *n >= MAX_PER_IP) {
                return false;
            }
        }
        if !self.torrents.contains_key(&info_hash) && self.torrents.len() >= MAX_TORRENTS {
            let latest = |(_, peers): &(&InfoHash, &Vec<(SocketAddr, Duration)>)| peers.last().map(|(_, at)| *at);
            if let Some(silent) = self.torrents.iter().min_by_key(latest).map(|(hash, _)| *hash) {
                self.remove(silent, |_| true);
            }
        }
        if self.torrents.get(&info_hash).is_some_and(|peers| peers.len() >= MAX_PEERS) {
            let oldest = self.torrents.get(&info_hash).and_then(|peers| peers.first().copied());
            self.remove(info_hash, |entry| Some(*entry) == oldest);
        }
        self.torrents.entry(info_hash).or_default().push((peer, now));
        *self.per_ip.entry(peer.ip()).or_default() += 1;
        true
    }

    /// Up to `n` random peers of a torrent.
    pub fn peers(&self, now: Duration, info_hash: InfoHash, n: usize, rng: &mut fastrand::Rng) -> Vec<SocketAddr> {
        let peers = self.torrents.get(&info_hash).into_iter().flatten();
        let fresh = peers.filter(|(_, at)| now.saturating_sub(*at) < EXPIRY).map(|(addr, _)| *addr);
        rng.choose_multiple(fresh, n)
    }

    /// The number of peers stored.
    pub fn len(&self) -> usize {
        self.per_ip.values().sum()
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
            if let Some(n) = self.per_ip.get_mut(&addr.ip()) {
                *n -= 1;
                if *n == 0 {
                    self.per_ip.remove(&addr.ip());
                }
            }
        }
        if peers.is_empty() {
            self.torrents.remove(&info_hash);
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
        assert_eq!((store.len(), store.torrents.len(), store.per_ip.len()), (0, 0, 0));
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
        assert_eq!((taken, one.len()), (MAX_PER_IP, MAX_PER_IP));
    }
}
