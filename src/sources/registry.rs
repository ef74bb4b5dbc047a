//! What a tracker knows: which peers are in which swarm. Pure: addresses, time and randomness come in; [`super::server`] puts
//! HTTP around it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::http::AnnounceEvent;
use crate::types::{InfoHash, PeerId};

/// How much a registry holds, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A peer that is silent for so long is gone.
    pub expiry: Duration,
    /// Peers of one torrent; who comes later is answered but not remembered.
    pub max_peers_per_torrent: usize,
    /// Torrents; an announce of one more is refused.
    pub max_torrents: usize,
}

/// What one peer says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The swarm.
    pub info_hash: InfoHash,
    /// The peer.
    pub peer_id: PeerId,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Whether nothing is left for it to download.
    pub seed: bool,
    /// What happened.
    pub event: Option<AnnounceEvent>,
    /// How many peers it gets at most.
    pub numwant: usize,
}

/// The figures of one swarm (BEP 48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Seeds.
    pub complete: usize,
    /// Leechers.
    pub incomplete: usize,
    /// How often `completed` was reported.
    pub downloaded: u64,
}

/// No room for one more torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this tracker is full")]
pub struct Full;

/// All swarms of a tracker.
#[derive(Debug)]
pub struct Registry {
    limits: Limits,
    swarms: HashMap<InfoHash, Swarm>,
}

#[derive(Debug, Default)]
struct Swarm {
    peers: HashMap<SocketAddr, Peer>,
    downloaded: u64,
}

#[derive(Debug)]
struct Peer {
    id: PeerId,
    seed: bool,
    completed: bool,
    seen: Duration,
}

impl Registry {
    /// An empty registry.
    pub fn new(limits: Limits) -> Registry {
        Registry { limits, swarms: HashMap::new() }
    }

    /// Takes note of what a peer reports and gives it others, chosen at random: never itself, and no seeds to a seed.
    ///
    /// # Errors
    /// [`Full`] where the torrent is new and there is no room.
    pub fn announce(
        &mut self,
        now: Duration,
        report: &Report,
        rng: &mut fastrand::Rng,
    ) -> Result<(Vec<(SocketAddr, PeerId)>, Counts), Full> {
        if let Some(swarm) = self.swarms.get_mut(&report.info_hash) {
            swarm.expire(now, self.limits.expiry);
        }
        if report.event == Some(AnnounceEvent::Stopped) {
            self.remove(report);
            return Ok((Vec::new(), self.counts(&report.info_hash).unwrap_or_default()));
        }
        if !self.swarms.contains_key(&report.info_hash) && self.swarms.len() >= self.limits.max_torrents {
            self.sweep(now);
            if self.swarms.len() >= self.limits.max_torrents {
                return Err(Full);
            }
        }
        let swarm = self.swarms.entry(report.info_hash).or_default();
        swarm.note(now, report, self.limits.max_peers_per_torrent);
        let others = swarm
            .peers
            .iter()
            .filter(|(addr, peer)| **addr != report.addr && peer.id != report.peer_id && !(peer.seed && report.seed));
        let chosen = rng.choose_multiple(others, report.numwant);
        let peers = chosen.into_iter().map(|(addr, peer)| (*addr, peer.id)).collect();
        Ok((peers, swarm.counts()))
    }

    /// The figures of a torrent, where it is known (BEP 48).
    pub fn counts(&self, info_hash: &InfoHash) -> Option<Counts> {
        self.swarms.get(info_hash).map(Swarm::counts)
    }

    /// As [`Registry::counts`], without the peers that are gone by now.
    pub fn scrape(&mut self, now: Duration, info_hash: &InfoHash) -> Option<Counts> {
        let swarm = self.swarms.get_mut(info_hash)?;
        swarm.expire(now, self.limits.expiry);
        Some(swarm.counts())
    }

    /// How many torrents and how many peers are known.
    pub fn size(&self) -> (usize, usize) {
        (self.swarms.len(), self.swarms.values().map(|s| s.peers.len()).sum())
    }

    /// Forgets all peers that are gone, and the torrents that have none left.
    pub fn sweep(&mut self, now: Duration) {
        for swarm in self.swarms.values_mut() {
            swarm.expire(now, self.limits.expiry);
        }
        self.swarms.retain(|_, swarm| !swarm.peers.is_empty());
    }

    fn remove(&mut self, report: &Report) {
        if let Some(swarm) = self.swarms.get_mut(&report.info_hash) {
            swarm.peers.remove(&report.addr);
        }
    }
}

impl Swarm {
    fn expire(&mut self, now: Duration, expiry: Duration) {
        self.peers.retain(|_, peer| now.saturating_sub(peer.seen) < expiry);
    }

    /// Remembers the peer, or what is new about it.
    fn note(&mut self, now: Duration, report: &Report, max_peers: usize) {
        let completed = report.event == Some(AnnounceEvent::Completed);
        let known = self.peers.get(&report.addr).filter(|p| p.id == report.peer_id);
        let counted = known.is_some_and(|p| p.completed);
        let is_new = !self.peers.contains_key(&report.addr);
        if is_new && self.peers.len() >= max_peers {
            return;
        }
        // Each peer's completion counts once, however often it is told.
        self.downloaded += u64::from(completed && !counted);
        let peer = Peer { id: report.peer_id, seed: report.seed, completed: completed || counted, seen: now };
        self.peers.insert(report.addr, peer);
    }

    fn counts(&self) -> Counts {
        let complete = self.peers.values().filter(|p| p.seed).count();
        Counts { complete, incomplete: self.peers.len() - complete, downloaded: self.downloaded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { expiry: Duration::from_secs(60), max_peers_per_torrent: 100, max_torrents: 2 };

    fn leech(n: u8) -> Report {
        let addr = SocketAddr::from(([10, 0, 0, n], 6881));
        Report { info_hash: InfoHash([1; 20]), peer_id: PeerId([n; 20]), addr, seed: false, event: None, numwant: 50 }
    }

    fn seed(n: u8) -> Report {
        Report { seed: true, ..leech(n) }
    }

    /// Announces at `now` seconds; the last bytes of the addresses that came back, sorted.
    fn announce(r: &mut Registry, now: u64, report: &Report) -> Vec<u8> {
        let (peers, _) = r.announce(Duration::from_secs(now), report, &mut fastrand::Rng::with_seed(1)).unwrap();
        let mut ends: Vec<u8> = peers.iter().map(|(_, id)| id.0[0]).collect();
        ends.sort_unstable();
        ends
    }

    fn counts(r: &Registry) -> (usize, usize, u64) {
        let c = r.counts(&leech(0).info_hash).unwrap_or_default();
        (c.complete, c.incomplete, c.downloaded)
    }

    #[test]
    fn nobody_gets_itself_and_no_seed_gets_seeds() {
        let mut r = Registry::new(LIMITS);
        assert!(announce(&mut r, 0, &leech(1)).is_empty());
        assert_eq!(announce(&mut r, 0, &seed(2)), [1]);
        assert_eq!(announce(&mut r, 0, &seed(3)), [1]);
        assert_eq!(announce(&mut r, 0, &leech(1)), [2, 3]);
        let elsewhere = Report { addr: "[2001:db8::1]:6881".parse().unwrap(), ..leech(1) };
        assert_eq!(announce(&mut r, 0, &elsewhere), [2, 3], "nor itself under its other address");
        assert_eq!(counts(&r), (2, 2, 0));
    }

    #[test]
    fn stopped_removes_and_silence_expires() {
        let mut r = Registry::new(LIMITS);
        announce(&mut r, 0, &leech(1));
        announce(&mut r, 30, &leech(2));
        assert_eq!(announce(&mut r, 59, &leech(3)), [1, 2]);
        assert_eq!(announce(&mut r, 60, &leech(3)), [2]);
        let stop = Report { event: Some(AnnounceEvent::Stopped), ..leech(2) };
        assert!(announce(&mut r, 61, &stop).is_empty());
        assert!(announce(&mut r, 61, &leech(3)).is_empty());
        assert_eq!(r.scrape(Duration::from_secs(500), &leech(0).info_hash), Some(Counts::default()));
        r.sweep(Duration::from_secs(500));
        assert_eq!(r.size(), (0, 0));
        let stranger = Report { info_hash: InfoHash([9; 20]), ..stop };
        assert!(announce(&mut r, 500, &stranger).is_empty());
        assert_eq!(r.size(), (0, 0), "stopped makes no torrent");
    }

    #[test]
    fn completed_counts_once_for_each_peer() {
        let mut r = Registry::new(LIMITS);
        announce(&mut r, 0, &leech(1));
        let done = Report { event: Some(AnnounceEvent::Completed), ..seed(1) };
        announce(&mut r, 1, &done);
        announce(&mut r, 2, &done);
        announce(&mut r, 3, &seed(1));
        announce(&mut r, 4, &done);
        assert_eq!(counts(&r), (1, 0, 1));
        announce(&mut r, 5, &Report { peer_id: PeerId([7; 20]), ..done });
        assert_eq!(counts(&r), (1, 0, 2));
    }

    #[test]
    fn limits_hold() {
        let mut r = Registry::new(Limits { max_peers_per_torrent: 3, ..LIMITS });
        for n in 1..=5 {
            announce(&mut r, 0, &leech(n));
        }
        assert_eq!(counts(&r), (0, 3, 0));
        assert_eq!(announce(&mut r, 0, &leech(5)), [1, 2, 3], "not remembered, but answered");
        let torrent = |n| Report { info_hash: InfoHash([n; 20]), ..leech(1) };
        announce(&mut r, 0, &torrent(2));
        let rng = &mut fastrand::Rng::with_seed(1);
        assert_eq!(r.announce(Duration::from_secs(59), &torrent(3), rng).unwrap_err(), Full);
        assert!(r.announce(Duration::from_secs(60), &torrent(3), rng).is_ok(), "the dead make room");
    }

    #[test]
    fn numwant_bounds_a_random_choice() {
        let mut r = Registry::new(LIMITS);
        for n in 1..=20 {
            announce(&mut r, 0, &leech(n));
        }
        let few = Report { numwant: 5, ..leech(99) };
        let mut rng = fastrand::Rng::with_seed(1);
        let mut met = std::collections::HashSet::new();
        for _ in 0..50 {
            let (peers, _) = r.announce(Duration::ZERO, &few, &mut rng).unwrap();
            assert_eq!(peers.len(), 5);
            met.extend(peers);
        }
        assert_eq!(met.len(), 20, "everybody's turn comes");
        assert!(announce(&mut r, 0, &Report { numwant: 0, ..few }).is_empty());
    }
}
