//! Simulates a whole DHT in one thread: a simulated clock and network with delay and packet loss, and malicious nodes.

mod items;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::discovery::dht::item_request::ItemOutcome;
use crate::discovery::dht::message::{KrpcBody, KrpcMessage, KrpcResponse, Query};
use crate::types::InfoHash;

const HASH: InfoHash = InfoHash([0x5a; 20]);
const PORT: u16 = 51413;

enum SimulatedEvent {
    Packet { from: SocketAddr, to: usize, bytes: Vec<u8> },
    Deadline(usize),
}

struct Node {
    dht: Dht,
    addr: SocketAddr,
    /// The deadline in the event queue.
    deadline: Duration,
    /// The kind of malice, if the node is malicious.
    malice: Option<usize>,
    found: HashSet<SocketAddr>,
    /// The results of its requests for items.
    items: Vec<ItemOutcome>,
}

struct SimulatedNetwork {
    now: Duration,
    nodes: Vec<Node>,
    by_addr: HashMap<SocketAddr, usize>,
    events: BTreeMap<(Duration, u64), SimulatedEvent>,
    sequence: u64,
    loss: f64,
    rng: fastrand::Rng,
}

/// A public address in a network of its own.
fn addr(n: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0x1400_0000 + n as u32 * 0x0001_0305).into(), 6881)
}

impl SimulatedNetwork {
    /// A network of `n` nodes that joined one after the other, each through a random earlier node.
    fn new(n: usize, loss: f64, seed: u64) -> SimulatedNetwork {
        let mut world = SimulatedNetwork {
            now: Duration::ZERO,
            nodes: Vec::new(),
            by_addr: HashMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            loss,
            rng: fastrand::Rng::with_seed(seed),
        };
        for n in 0..n {
            let id = NodeId::for_ip(addr(n).ip(), &mut world.rng);
            world.join(&DhtState { ids: vec![(addr(n).ip(), id)], nodes: Vec::new() });
            let friend = addr(world.rng.usize(0..n.max(1)));
            if n > 0 {
                world.act(n, |dht, now| dht.add_node(now, friend));
            }
            world.run(Duration::from_millis(50));
            // The next node may know only this one, so wait until it has found others. Otherwise there would be two networks.
            while n > 0 && world.nodes[n].dht.stats(world.now).nodes == 0 {
                world.run(Duration::from_millis(500));
            }
        }
        world.run(Duration::from_secs(60));
        world
    }

    fn join(&mut self, state: &DhtState) -> usize {
        let n = self.nodes.len();
        let settings =
            NodeSettings { family: Family::V4, is_read_only: false, is_anonymous: false, secret: [n as u8; 16] };
        let dht = Dht::new(&settings, state, self.rng.fork());
        self.by_addr.insert(addr(n), n);
        self.nodes.push(Node {
            dht,
            addr: addr(n),
            deadline: Duration::MAX,
            malice: None,
            found: HashSet::new(),
            items: Vec::new(),
        });
        n
    }

    fn at(&mut self, when: Duration, event: SimulatedEvent) {
        self.sequence += 1;
        self.events.insert((when, self.sequence), event);
    }

    fn act(&mut self, n: usize, deed: impl FnOnce(&mut Dht, Duration)) {
        let now = self.now;
        deed(&mut self.nodes[n].dht, now);
        while let Some(output) = self.nodes[n].dht.next_output() {
            match output {
                DhtOutput::Send { to, bytes, .. } => self.send(self.nodes[n].addr, to, bytes),
                DhtOutput::FoundPeers { info_hash, peers } => {
                    assert_eq!(info_hash, HASH);
                    self.nodes[n].found.extend(peers);
                }
                DhtOutput::Item { outcome, .. } => self.nodes[n].items.push(outcome),
                DhtOutput::OtherFamilyNodes(_) => panic!("there is no other family here"),
            }
        }
        let deadline = self.nodes[n].dht.next_deadline();
        if deadline < self.nodes[n].deadline {
            self.nodes[n].deadline = deadline;
            self.at(deadline, SimulatedEvent::Deadline(n));
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        assert!(bytes.len() <= message::MAX_PACKET);
        let (lost, delay) = (self.rng.f64() < self.loss, self.rng.u64(10..200));
        if let (Some(to), false) = (self.by_addr.get(&to).copied(), lost) {
            self.at(self.now + Duration::from_millis(delay), SimulatedEvent::Packet { from, to, bytes });
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(((when, _), _)) = self.events.first_key_value()
            && *when <= end
        {
            let Some(((when, _), event)) = self.events.pop_first() else { break };
            self.now = when;
            match event {
                SimulatedEvent::Packet { from, to, bytes } => {
                    let malice =
                        self.nodes[to].malice.and_then(|malice| self.malicious_response(malice, to, from, &bytes));
                    match malice {
                        Some(packets) => packets.into_iter().for_each(|(me, bytes)| self.send(me, from, bytes)),
                        None => self.act(to, |dht, now| dht.on_packet(now, from, &bytes)),
                    }
                }
                // Later deadlines that were queued earlier are obsolete.
                SimulatedEvent::Deadline(n) if self.nodes[n].deadline == when => {
                    self.nodes[n].deadline = Duration::MAX;
                    self.act(n, Dht::handle_deadlines);
                    assert!(self.nodes[n].dht.next_deadline() > self.now, "it would run in circles");
                }
                SimulatedEvent::Deadline(_) => {}
            }
        }
        self.now = end;
    }

    /// A malicious node's response to a lookup, and its source address.
    fn malicious_response(
        &mut self,
        malice: usize,
        me: usize,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Vec<(SocketAddr, Vec<u8>)>> {
        let Ok(KrpcMessage { transaction, body: KrpcBody::Query { query, .. }, .. }) = KrpcMessage::decode(bytes)
        else {
            return None;
        };
        let target = match query {
            Query::GetPeers { info_hash, .. } => NodeId::from(info_hash),
            Query::FindNode { target, .. } => target,
            _ => return None,
        };
        let (mut rng, wrong) = (self.rng.fork(), self.rng.u32(..));
        let mut fake = |bits: usize| Contact {
            id: target.near(bits, false, &mut rng),
            addr: SocketAddr::from((rng.u32(0x2000_0000..0x3000_0000).to_be_bytes(), 6881)),
        };
        let id = self.nodes[me].dht.id();
        let myself = self.nodes[me].addr;
        let mut response = KrpcResponse { token: Some(b"lies".to_vec()), ..KrpcResponse::new(id) };
        let (mut answer_from, mut echoed) = (myself, transaction);
        match malice {
            // Claims to be close to the target, and names even closer nodes that do not exist.
            0 => (response.id, response.nodes) = (fake(60).id, (0..8).map(|_| fake(80)).collect()),
            1 => echoed = wrong.to_be_bytes().to_vec(),
            2 => answer_from.set_port(1),
            3 => {
                let garbage = (0..8).flat_map(|_| fake(0).id.0).collect();
                return Some(vec![(myself, garbage)]);
            }
            4 => response.nodes = (0..20).map(|_| Contact { id: fake(40).id, addr: myself }).collect(),
            5 => {
                response.nodes = (0..16).map(|_| fake(10)).collect();
                response.values = (0..60).map(|_| fake(0).addr).collect();
            }
            6 => response.nodes = vec![Contact { id: fake(90).id, addr: from }],
            _ => return Some(Vec::new()),
        }
        let mut packet =
            KrpcMessage { transaction: echoed, ip: Some(fake(0).addr), body: KrpcBody::Response(response) }.encode();
        packet.truncate(message::MAX_PACKET);
        Some(vec![(answer_from, packet)])
    }

    /// Makes nodes malicious, in turn in each of the eight ways.
    fn make_malicious(&mut self, attackers: usize) {
        for n in 0..attackers {
            let at = self.rng.usize(0..self.nodes.len());
            self.nodes[at].malice = Some(n % 8);
        }
    }

    fn honest(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].malice.is_none()).collect()
    }

    /// One honest node announces, all others search. Returns the nodes that have not found it in time, and the lookups'
    /// statistics.
    fn announce_and_search(&mut self, patience: Duration) -> (Vec<usize>, Vec<LookupSummary>) {
        let honest = self.honest();
        let (first, others) = honest.split_first().unwrap();
        self.act(*first, |dht, now| dht.search(now, HASH, Some(PORT)));
        self.run(Duration::from_secs(30));
        self.act(*first, |dht, _| dht.forget(HASH));
        for n in others {
            self.act(*n, |dht, now| dht.search(now, HASH, None));
            self.run(Duration::from_millis(20));
        }
        self.run(patience);
        self.nodes.iter().for_each(|node| node.dht.table.check());
        let peer = SocketAddr::new(addr(*first).ip(), PORT);
        let lost = others.iter().copied().filter(|n| !self.nodes[*n].found.contains(&peer)).collect();
        (lost, others.iter().map(|n| self.nodes[*n].dht.stats(self.now).last_search).collect())
    }
}

/// The maximum and the mean of a figure.
fn figures(of: &[LookupSummary], which: impl Fn(&LookupSummary) -> usize) -> (usize, f64) {
    let all: Vec<usize> = of.iter().map(which).collect();
    (all.iter().copied().max().unwrap_or_default(), all.iter().sum::<usize>() as f64 / all.len() as f64)
}

#[test]
fn in_a_network_of_a_thousand_an_announce_is_found_from_every_node_in_few_hops() {
    let mut world = SimulatedNetwork::new(1000, 0.0, 1);
    let (lost, searches) = world.announce_and_search(Duration::from_secs(30));
    assert!(lost.is_empty(), "{lost:?}");
    let (hops, queries) = (figures(&searches, |s| s.hops.into()), figures(&searches, |s| s.queries));
    assert!(hops.0 <= 6 && hops.1 <= 3.5, "hops: {hops:?}");
    assert!(queries.0 <= 40 && queries.1 <= 25.0, "queries: {queries:?}");

    // Now a tenth of all packets is lost, and a tenth of all nodes are malicious.
    world.nodes.iter_mut().for_each(|node| node.found.clear());
    for n in 0..1000 {
        world.act(n, |dht, _| dht.forget(HASH));
    }
    world.loss = 0.1;
    world.make_malicious(100);
    let (lost, searches) = world.announce_and_search(Duration::from_secs(150));
    assert!(lost.is_empty(), "{lost:?}");
    let (hops, queries) = (figures(&searches, |s| s.hops.into()), figures(&searches, |s| s.queries));
    assert!(hops.1 <= 4.0, "hops: {hops:?}");
    assert!(queries.0 <= 120 && queries.1 <= 60.0, "queries: {queries:?}");
}

#[test]
fn an_announce_that_is_made_once_is_found_and_not_repeated() {
    let mut world = SimulatedNetwork::new(200, 0.0, 3);
    let other = |n: u8| InfoHash([n; 20]);
    world.act(0, |dht, now| dht.announce_once(now, HASH, Some(PORT)));
    // Of more than fit, the rest is ignored.
    world.act(0, |dht, now| (0..100).for_each(|n| dht.announce_once(now, other(n), Some(PORT))));
    assert_eq!(world.nodes[0].dht.searches.len(), 64);
    // A torrent that is searched for stays so.
    world.act(1, |dht, now| dht.search(now, HASH, None));
    world.act(1, |dht, now| dht.announce_once(now, HASH, Some(PORT)));
    world.run(Duration::from_secs(120));
    assert!(world.nodes[0].dht.searches.is_empty());
    assert!(
        world.nodes[1].dht.searches.get(&HASH).is_some_and(|search| !search.is_once && search.announce_port.is_none())
    );
    assert!(world.nodes[1].found.contains(&SocketAddr::new(addr(0).ip(), PORT)));
    let announced = world.nodes[0].dht.stats(world.now).announced;
    world.run(Duration::from_secs(3600));
    assert_eq!(world.nodes[0].dht.stats(world.now).announced, announced);
    // While it runs, a search for the torrent takes its place.
    world.act(0, |dht, now| dht.announce_once(now, other(7), Some(PORT)));
    world.act(0, |dht, now| dht.search(now, other(7), Some(PORT)));
    world.run(Duration::from_secs(60));
    assert!(world.nodes[0].dht.searches.get(&other(7)).is_some_and(|search| !search.is_once));
}

#[test]
fn a_newcomer_learns_its_address_and_takes_an_id_that_belongs_to_it() {
    let mut world = SimulatedNetwork::new(60, 0.0, 2);
    let n = world.join(&DhtState::default());
    assert!(!world.nodes[n].dht.id().fits(addr(n).ip()));
    world.act(n, |dht, now| dht.add_router(now, addr(0)));
    world.run(Duration::from_secs(60));
    let stats = world.nodes[n].dht.stats(world.now);
    assert_eq!(stats.external_ip, Some(addr(n).ip()));
    assert!(world.nodes[n].dht.id().fits(addr(n).ip()));
    assert!(stats.good >= 8, "{stats:?}");
    world.nodes[n].dht.table.check();
    let kept = world.nodes[n].dht.state(world.now);
    assert!(kept.nodes.iter().all(|node| node.addr != addr(0)), "routers are not for everyday use");

    // The next run starts with that id and these nodes, and needs no router.
    let again = Dht::new(
        &NodeSettings { family: Family::V4, is_read_only: false, is_anonymous: false, secret: [9; 16] },
        &kept,
        fastrand::Rng::with_seed(1),
    );
    assert_eq!(again.id(), world.nodes[n].dht.id());
    world.nodes[n].dht = again;
    world.nodes[n].deadline = Duration::MAX;
    world.act(n, Dht::handle_deadlines);
    world.run(Duration::from_secs(20));
    assert!(world.nodes[n].dht.stats(world.now).good >= 8, "without a router");
}

#[test]
fn an_hour_later_the_tables_are_alive_and_the_traffic_is_small() {
    let mut world = SimulatedNetwork::new(60, 0.02, 3);
    // A third of the nodes disappears without notice.
    for n in 40..60 {
        world.by_addr.remove(&addr(n));
    }
    let before: u64 = world.nodes[..40].iter().map(|node| node.dht.stats(world.now).queries_sent).sum();
    world.run(Duration::from_secs(3600));
    for node in &world.nodes[..40] {
        let stats = node.dht.stats(world.now);
        assert!(stats.good >= 8, "{stats:?}");
        node.dht.table.check();
    }
    let after: u64 = world.nodes[..40].iter().map(|node| node.dht.stats(world.now).queries_sent).sum();
    let each_minute = (after - before) as f64 / 40.0 / 60.0;
    assert!(each_minute < 30.0, "{each_minute} queries a minute when nobody searches");
    let (lost, _) = world.announce_and_search_among(40);
    assert!(lost.is_empty(), "{lost:?}");
}

impl SimulatedNetwork {
    /// Like [`SimulatedNetwork::announce_and_search`], among the first `n` nodes.
    fn announce_and_search_among(&mut self, n: usize) -> (Vec<usize>, Vec<LookupSummary>) {
        self.nodes.truncate(n);
        self.events.retain(|_, event| match event {
            SimulatedEvent::Packet { to, .. } => *to < n,
            SimulatedEvent::Deadline(of) => *of < n,
        });
        self.announce_and_search(Duration::from_secs(150))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Whatever the network, the loss and the malicious nodes, every honest node finds an announce. There is time for a second
    /// search, ten minutes after a first one that found only peers from malicious nodes.
    #[test]
    fn an_announce_is_found_in_any_small_network(n in 20_usize..80, loss in 0.0..0.15, attackers in 0_usize..8, seed: u64) {
        let mut world = SimulatedNetwork::new(n, loss, seed);
        world.make_malicious(attackers.min(n / 8));
        let (lost, _) = world.announce_and_search(Duration::from_secs(900));
        prop_assert_eq!(lost, Vec::<usize>::new());
    }
}
