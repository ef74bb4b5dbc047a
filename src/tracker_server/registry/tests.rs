use super::*;

const LIMITS: RegistryLimits = RegistryLimits {
    expiry: Duration::from_secs(60),
    max_peers: 100,
    max_per_network: 20,
    max_per_network_in_swarm: 3,
};

fn leech(n: u8) -> AnnouncedPeer {
    let addr = SocketAddr::from(([10, 0, 0, n], 6881));
    let (info_hash, peer_id) = (InfoHash([1; 20]), PeerId([n; 20]));
    AnnouncedPeer { info_hash, peer_id, addr, is_seed: false, event: None, numwant: 50, wants_own_family_only: false }
}

fn seed(n: u8) -> AnnouncedPeer {
    AnnouncedPeer { is_seed: true, ..leech(n) }
}

/// Announces at `now` seconds; returns the first byte of each returned peer's id, sorted.
fn announce(r: &mut Registry, now: u64, report: &AnnouncedPeer) -> Vec<u8> {
    let (peers, _) = r.announce(Duration::from_secs(now), report, &mut fastrand::Rng::with_seed(1)).unwrap();
    let mut ends: Vec<u8> = peers.iter().map(|(_, id)| id.0[0]).collect();
    ends.sort_unstable();
    r.assert_sound();
    ends
}

fn counts(r: &Registry) -> (usize, usize, u64) {
    let c = r.counts(&leech(0).info_hash).unwrap_or_default();
    (c.complete, c.incomplete, c.downloaded)
}

impl Registry {
    /// Asserts that each peer is in exactly the lists that it belongs to, once, and that these contain nothing else.
    fn assert_sound(&self) {
        let known = self.size().1;
        let there = |peer: u32| Some(peer).filter(|&peer| peer != NONE);
        let newer = |&peer: &u32| there(self.peers[peer as usize].newer);
        let chain: Vec<u32> = std::iter::successors(there(self.oldest), newer).collect();
        assert_eq!(chain.len(), known);
        assert!(chain.is_sorted_by_key(|&peer| self.peers[peer as usize].seen));
        assert_eq!(self.by_hash.values().map(|&swarm| self.swarms[swarm as usize].peers.len()).sum::<usize>(), known);
        assert_eq!(self.networks.values().map(|&count| count as usize).sum::<usize>(), known);
        self.subnet_sizes.assert_sound(chain.iter().map(|&peer| self.peers[peer as usize].ip.into()));
        assert_eq!(
            self.first_of_network.keys().map(|&(s, n)| self.peers_of_network(s, n).count()).sum::<usize>(),
            known
        );
        self.assert_subnets_sound();
        for peer in chain {
            let SwarmPeer { swarm, place, .. } = self.peers[peer as usize];
            assert_eq!(self.swarms[swarm as usize].peers[place as usize], peer);
        }
        for &swarm in self.by_hash.values() {
            let TrackedSwarm { peers, seeds, .. } = &self.swarms[swarm as usize];
            let counted = peers.iter().filter(|&&peer| self.peers[peer as usize].is_seed).count();
            assert_eq!(counted, *seeds as usize);
        }
    }
}

#[test]
fn nobody_gets_itself_and_no_seed_gets_seeds() {
    let mut r = Registry::new(LIMITS);
    assert!(announce(&mut r, 0, &leech(1)).is_empty());
    assert_eq!(announce(&mut r, 0, &seed(2)), [1]);
    assert_eq!(announce(&mut r, 0, &seed(3)), [1]);
    assert_eq!(announce(&mut r, 0, &leech(1)), [2, 3]);
    let elsewhere = AnnouncedPeer { addr: "[2001:db8::1]:6881".parse().unwrap(), ..leech(1) };
    assert_eq!(announce(&mut r, 0, &elsewhere), [2, 3], "nor itself under its other address");
    assert_eq!(counts(&r), (2, 2, 0));
    let of_six = AnnouncedPeer { wants_own_family_only: true, addr: "[2001:db8::2]:6881".parse().unwrap(), ..leech(9) };
    assert_eq!(announce(&mut r, 0, &of_six), [1], "UDP knows one family");
}

#[test]
fn stopped_removes_and_silence_expires() {
    let mut r = Registry::new(LIMITS);
    announce(&mut r, 0, &leech(1));
    announce(&mut r, 30, &leech(2));
    assert_eq!(announce(&mut r, 59, &leech(3)), [1, 2]);
    assert_eq!(announce(&mut r, 60, &leech(3)), [2]);
    let stop = AnnouncedPeer { event: Some(AnnounceEvent::Stopped), ..leech(2) };
    assert!(announce(&mut r, 61, &stop).is_empty());
    assert!(announce(&mut r, 61, &leech(3)).is_empty());
    assert_eq!(r.scrape(Duration::from_secs(500), &leech(0).info_hash), None);
    assert_eq!(r.size(), (0, 0));
    let stranger = AnnouncedPeer { info_hash: InfoHash([9; 20]), ..stop };
    assert!(announce(&mut r, 500, &stranger).is_empty());
    assert_eq!(r.size(), (0, 0), "stopped makes no torrent");
}

#[test]
fn completed_counts_once_for_each_peer() {
    let mut r = Registry::new(LIMITS);
    announce(&mut r, 0, &leech(1));
    let done = AnnouncedPeer { event: Some(AnnounceEvent::Completed), ..seed(1) };
    announce(&mut r, 1, &done);
    announce(&mut r, 2, &done);
    announce(&mut r, 3, &seed(1));
    announce(&mut r, 4, &done);
    assert_eq!(counts(&r), (1, 0, 1));
    announce(&mut r, 5, &AnnouncedPeer { peer_id: PeerId([7; 20]), ..done });
    assert_eq!(counts(&r), (1, 0, 2));
}

/// A peer on another port of host 10.0.0.1, or on another host of one /64.
fn elsewhere(n: u8, v6: bool) -> AnnouncedPeer {
    let addr = if v6 { format!("[2001:db8::{n:x}]:6881") } else { format!("10.0.0.1:{}", 7000 + u32::from(n)) };
    AnnouncedPeer { addr: addr.parse().unwrap(), ..leech(n) }
}

#[test]
fn one_network_fills_no_swarm() {
    for v6 in [false, true] {
        let mut r = Registry::new(LIMITS);
        announce(&mut r, 0, &leech(99));
        for n in 1..=50 {
            announce(&mut r, n.into(), &elsewhere(n, v6));
        }
        assert_eq!(counts(&r), (0, 4, 0));
        // The peer with the oldest announce was evicted, not the one that joined first.
        announce(&mut r, 51, &elsewhere(48, v6));
        announce(&mut r, 52, &elsewhere(51, v6));
        assert_eq!(announce(&mut r, 53, &leech(98)), [48, 50, 51, 99]);
    }
}

/// A /48 contains 65,536 networks, none of which exceeds its own limit.
#[test]
fn one_subnet_fills_no_swarm() {
    let limits = RegistryLimits { max_peers: 10_000, ..LIMITS };
    let at = |addr: String| AnnouncedPeer { addr: addr.parse().unwrap(), ..leech(1) };
    let flood = |r: &mut Registry, subnet: &str, at_second: u64| {
        for n in 0..500 {
            let report = at(format!("[{subnet}:{n:x}::1]:6881"));
            r.announce(Duration::from_secs(at_second), &report, &mut fastrand::Rng::with_seed(1)).unwrap();
        }
        r.assert_sound();
        counts(r).1
    };
    let mut r = Registry::new(limits);
    announce(&mut r, 0, &at("[2001:db8:2::1]:6881".to_owned()));
    assert_eq!(flood(&mut r, "2001:db8:1", 1), 1 + 32);
    assert_eq!(flood(&mut r, "2001:db8:3", 1), 1 + 32 + 32, "others have a share of their own");
    // The peers with the oldest announces were evicted, and known peers can announce again.
    let known = |r: &Registry, n: u32| r.find(&at(format!("[2001:db8:1:{n:x}::1]:6881"))).is_some();
    assert!(!known(&r, 467) && known(&r, 468) && known(&r, 499));
    announce(&mut r, 2, &at("[2001:db8:1:1d4::1]:6881".to_owned())); // 468
    announce(&mut r, 2, &at("[2001:db8:1:fff::1]:6881".to_owned()));
    assert!(known(&r, 468) && !known(&r, 469));
    assert_eq!(r.scrape(Duration::from_secs(100), &leech(0).info_hash), None);
    assert!(r.subnets.is_empty());
    // In a large swarm, a subnet gets a quarter; private networks are exempt.
    for n in 0..300u32 {
        let report = at(format!("10.1.{}.{}:6881", n / 250, n % 250));
        r.announce(Duration::from_secs(101), &report, &mut fastrand::Rng::with_seed(1)).unwrap();
    }
    r.assert_sound();
    let mut private = Registry::new(limits);
    assert_eq!(flood(&mut private, "fd00:1:2", 1), 500);
    let all = flood(&mut r, "2001:db8:1", 102);
    assert!((300 + 75..=300 + 100).contains(&all), "{all}");
}

#[test]
fn one_network_fills_no_tracker() {
    let mut r = Registry::new(LIMITS);
    let torrent = |n: u8, from: u8| AnnouncedPeer { info_hash: InfoHash([n; 20]), ..leech(from) };
    let rng = &mut fastrand::Rng::with_seed(1);
    for n in 0..=255 {
        let told = r.announce(Duration::ZERO, &torrent(n, 1), rng);
        assert_eq!(told.is_err(), n >= 20, "{n}");
    }
    r.assert_sound();
    assert_eq!(r.size(), (20, 20));
    assert!(r.announce(Duration::ZERO, &torrent(255, 2), rng).is_ok(), "others may");
    assert!(r.announce(Duration::ZERO, &torrent(3, 1), rng).is_ok(), "and what is known may announce again");
}

/// One party has all addresses of some subnets, and spreads over many torrents and networks.
#[test]
fn a_few_subnets_fill_no_tracker() {
    for subnets in [1, 5] {
        let limits = RegistryLimits { max_peers: 400, expiry: Duration::from_secs(1000), ..LIMITS };
        let (mut r, rng) = (Registry::new(limits), &mut fastrand::Rng::with_seed(1));
        for n in 0..100 {
            let addr = SocketAddr::from(([81, 1, n, 1], 6881));
            r.announce(Duration::ZERO, &AnnouncedPeer { addr, ..leech(n) }, rng).unwrap();
        }
        for n in 0..20_000_u16 {
            let addr = SocketAddr::from(([0x2001, 0xdb8, n % subnets, n, 0, 0, 0, 1], 6881));
            let info_hash = InfoHash([(n / 60) as u8; 20]);
            let info_hash = if info_hash == leech(0).info_hash { InfoHash([255; 20]) } else { info_hash };
            r.announce(Duration::from_millis(n.into()), &AnnouncedPeer { info_hash, addr, ..leech(7) }, rng).unwrap();
        }
        r.assert_sound();
        assert_eq!((r.size().1, counts(&r).1), (400, 100), "{subnets} subnets");
    }
}

#[test]
fn where_all_is_full_the_longest_silence_ends() {
    let torrent = |n: u8| AnnouncedPeer { info_hash: InfoHash([n; 20]), ..leech(n) };
    let mut r = Registry::new(RegistryLimits { expiry: Duration::from_secs(1000), ..LIMITS });
    for n in 0..150 {
        announce(&mut r, n.into(), &torrent(n));
        // The first stays, because it announces again.
        announce(&mut r, n.into(), &torrent(0));
        assert!(r.size().1 <= 100);
    }
    let there = |n: u8| r.counts(&InfoHash([n; 20])).is_some();
    assert!(there(0) && !there(1) && !there(50) && there(51) && there(149));
}

#[test]
fn numwant_bounds_a_random_choice() {
    let mut r = Registry::new(LIMITS);
    for n in 1..=20 {
        announce(&mut r, 0, &leech(n));
    }
    let few = AnnouncedPeer { numwant: 5, ..leech(99) };
    let mut rng = fastrand::Rng::with_seed(1);
    let mut met = std::collections::HashSet::new();
    for _ in 0..50 {
        let (peers, _) = r.announce(Duration::ZERO, &few, &mut rng).unwrap();
        assert_eq!(peers.len(), 5);
        met.extend(peers);
    }
    r.assert_sound();
    assert_eq!(met.len(), 20, "everybody's turn comes");
    assert!(announce(&mut r, 0, &AnnouncedPeer { numwant: 0, ..few }).is_empty());
}
