//! The peer list with a simulated clock and network: which addresses it dials when, and how soon the good peers are connected.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::strategy::dial_rate;
use crate::strategy::peer_list::{PeerList, PeerSource};
use crate::types::PeerKey;

/// How an address responds.
#[derive(Clone, Copy, PartialEq)]
enum Host {
    /// Drops all packets.
    Dead,
    /// Refuses connections.
    Shut,
    /// Accepts connections from this moment on, and refuses them before.
    Up(Duration),
    /// Accepts connections and closes them after this time.
    Disconnects(Duration),
}

struct DialSimulation {
    now: Duration,
    peer_list: PeerList,
    hosts: HashMap<SocketAddr, Host>,
    /// When each attempt or connection ends, and how.
    under_way: Vec<(Duration, SocketAddr, PeerKey, DialEnd)>,
    connected: Vec<(Duration, SocketAddr)>,
    dialed: HashMap<SocketAddr, usize>,
    keys: u32,
    dials: dial_rate::DialBudget,
}

#[derive(Clone, Copy, PartialEq)]
enum DialEnd {
    Fails,
    Connects,
    Closes,
}

const RTT: Duration = Duration::from_millis(100);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from(((0x1400_0000 + n * 0x0000_0301).to_be_bytes(), 6881))
}

impl DialSimulation {
    fn new(seed: u64) -> DialSimulation {
        let peer_list = PeerList { rng: fastrand::Rng::with_seed(seed), ..PeerList::default() };
        DialSimulation {
            now: Duration::ZERO,
            peer_list,
            hosts: HashMap::new(),
            under_way: Vec::new(),
            connected: Vec::new(),
            dialed: HashMap::new(),
            keys: 0,
            dials: dial_rate::DialBudget::default(),
        }
    }

    fn name(&mut self, range: std::ops::Range<u32>, host: Host, source: PeerSource) {
        let named: Vec<_> = range.map(addr).collect();
        self.hosts.extend(named.iter().map(|addr| (*addr, host)));
        self.peer_list.add(&named, source);
    }

    fn half_open(&self) -> usize {
        self.under_way.iter().filter(|(.., end)| *end != DialEnd::Closes).count()
    }

    fn dial(&mut self) {
        self.peer_list.set_time(self.now);
        let allowed = self.dials.allowed(self.now, dial_rate::DIALS_PER_SECOND);
        let free = allowed.min(dial_rate::MAX_HALF_OPEN - self.half_open());
        if free == 0 {
            return;
        }
        let dial_candidates = self.peer_list.dial_candidates(self.now, free + 1);
        let patience = dial_rate::connect_timeout(dial_candidates.len() > free);
        for addr in dial_candidates.into_iter().take(free) {
            self.keys += 1;
            self.peer_list.note_dialed(addr, PeerKey(self.keys));
            self.dials.begun();
            *self.dialed.entry(addr).or_default() += 1;
            let (after, end) = match self.hosts[&addr] {
                Host::Dead => (patience, DialEnd::Fails),
                Host::Shut => (RTT, DialEnd::Fails),
                Host::Up(from) if self.now < from => (RTT, DialEnd::Fails),
                Host::Up(_) | Host::Disconnects(_) => (RTT * 2, DialEnd::Connects),
            };
            self.under_way.push((self.now + after, addr, PeerKey(self.keys), end));
        }
    }

    fn run(&mut self, until: Duration) {
        while self.now < until {
            self.dial();
            let next = self.under_way.iter().map(|(when, ..)| *when).min();
            let dial = self.peer_list.next_dial().map(|at| at.max(self.dials.next()));
            let next = next.into_iter().chain(dial.filter(|at| *at > self.now)).min();
            self.now = next.unwrap_or(until).min(until);
            let due: Vec<_> = self.under_way.extract_if(.., |(when, ..)| *when <= self.now).collect();
            for (_, addr, key, end) in due {
                match end {
                    DialEnd::Connects => {
                        self.peer_list.reached(addr, self.now);
                        self.connected.push((self.now, addr));
                        if let Host::Disconnects(after) = self.hosts[&addr] {
                            self.under_way.push((self.now + after, addr, key, DialEnd::Closes));
                        }
                    }
                    DialEnd::Fails | DialEnd::Closes => self.peer_list.disconnected(addr, key, self.now, false),
                }
            }
            let stays = |(_, addr): &(Duration, SocketAddr)| matches!(self.hosts[addr], Host::Up(_));
            let connected = self.under_way.iter().any(|(.., end)| *end == DialEnd::Closes);
            self.peer_list.set_in_need(!connected && !self.connected.iter().any(stays));
        }
    }
}

/// 200 addresses from a tracker, 180 of which drop all packets. The other 20 are connected within 8 seconds.
#[test]
fn live_peers_among_dead_ones_are_reached_soon() {
    for seed in 0..20 {
        let mut world = DialSimulation::new(seed);
        world.name(0..20, Host::Up(Duration::ZERO), PeerSource::Tracker);
        world.name(20..200, Host::Dead, PeerSource::Tracker);
        world.run(seconds(8));
        assert_eq!(world.connected.len(), 20, "seed {seed}");
    }
}

/// The only seed is named after thousands of dead addresses, by a peer or by a tracker.
#[test]
fn the_only_seed_is_reached_whatever_fills_the_list() {
    for seed in 0..2 {
        for (source, many) in [(PeerSource::Pex, 2000), (PeerSource::Dht, 2000), (PeerSource::Tracker, 3000)] {
            let mut world = DialSimulation::new(seed);
            world.name(100..100 + many, Host::Dead, source);
            world.run(seconds(10));
            world.name(0..1, Host::Up(Duration::ZERO), source);
            while world.connected.is_empty() && world.now < seconds(180) {
                world.run(world.now + seconds(5));
            }
            assert_eq!(world.connected.len(), 1, "{source:?}, seed {seed}");
        }
    }
}

/// The only seed accepts connections a little later, and is connected soon after that.
#[test]
fn a_seed_that_was_not_ready_is_dialed_again_soon() {
    for seed in 0..50 {
        let mut world = DialSimulation::new(seed);
        let ready = seconds(seed % 5);
        world.name(0..1, Host::Up(ready), PeerSource::Tracker);
        world.peer_list.set_in_need(true);
        world.run(seconds(60));
        let (when, _) = world.connected[0];
        assert!(when <= ready + seconds(3), "{when:?}, seed {seed}");
    }
}

/// The only peer closes every connection. It is dialed again after 1 to 3 seconds, and then at growing intervals.
#[test]
fn an_only_peer_that_disconnects_is_dialed_again_soon_but_not_all_the_time() {
    let mut world = DialSimulation::new(1);
    world.name(0..1, Host::Disconnects(RTT), PeerSource::Tracker);
    world.run(seconds(600));
    let pauses: Vec<_> =
        world.connected.windows(2).map(|two| two[1].0.as_secs_f64() - two[0].0.as_secs_f64()).collect();
    assert!((1.0..3.5).contains(&pauses[0]), "{pauses:?}");
    assert!((5..300).contains(&pauses.len()), "{pauses:?}");
}

/// Addresses that refuse connections are not dialed often, whatever their source.
#[test]
fn a_third_party_is_left_alone() {
    for (source, most) in [(PeerSource::Tracker, 10), (PeerSource::Pex, 4)] {
        let mut world = DialSimulation::new(3);
        world.name(0..50, Host::Shut, source);
        world.peer_list.set_in_need(true);
        world.run(seconds(120));
        let most_dials = world.dialed.values().max().copied().unwrap_or_default();
        assert!(most_dials <= most, "{most_dials} dials of one address in two minutes, named by {source:?}");
    }
}

/// A tracker names many addresses that refuse connections, and one that accepts. The latter is reached once each of the others
/// was dialed. Neither all of them together nor any single one is dialed too often.
#[test]
fn many_addresses_that_refuse_are_no_flood() {
    let mut world = DialSimulation::new(1);
    world.name(1..1200, Host::Shut, PeerSource::Tracker);
    world.run(seconds(8));
    let all = world.dialed.values().sum::<usize>();
    assert!((780..=900).contains(&all), "{all} dials in 8 s");
    world.name(0..1, Host::Up(Duration::ZERO), PeerSource::Tracker);
    world.run(seconds(20));
    assert_eq!(world.connected.len(), 1);
    assert_eq!(world.dialed.values().max(), Some(&1), "none is tried again within seconds");
}
