//! Lookups in a network where one attacker has many nodes around the target whose ids do not fit their addresses.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::*;

const TARGET: NodeId = NodeId([0x5a; 20]);
const HONEST: usize = 4000;

/// All nodes by address, and what the honest ones know.
struct SybilNetwork {
    honest: BTreeMap<SocketAddr, NodeId>,
    attackers: Vec<Contact>,
    rng: fastrand::Rng,
}

/// What a lookup came to.
#[derive(Debug)]
struct LookupResult {
    /// How many of the eight nodes closest to the target, which know the peers, were queried.
    closest: usize,
    queries: usize,
    attacker_queries: usize,
}

impl SybilNetwork {
    /// `fit` of a hundred honest nodes have ids that fit. The attacker has nodes at this many addresses of each subnet.
    fn new(fit: u32, subnets: u8, addresses: u8, seed: u64) -> SybilNetwork {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut honest = BTreeMap::new();
        while honest.len() < HONEST {
            let ip = Ipv4Addr::from(rng.u32(0x1400_0000..0x3000_0000)).into();
            let fits = rng.u32(0..100) < fit;
            honest.insert(
                SocketAddr::new(ip, 6881),
                if fits { NodeId::for_ip(ip, &mut rng) } else { NodeId::random(&mut rng) },
            );
        }
        let mut attackers = Vec::new();
        for (subnet, address, port) in (0..subnets)
            .flat_map(|subnet| (0..addresses).flat_map(move |host| (0..3).map(move |port| (subnet, host, port))))
        {
            let addr = SocketAddr::from(([53, 7, subnet, address + 1], 6881 + port));
            attackers.push(Contact { id: TARGET.near(48, false, &mut rng), addr });
        }
        SybilNetwork { honest, attackers, rng }
    }

    fn closest(&self, count: usize) -> Vec<Contact> {
        let mut all: Vec<_> = self.honest.iter().map(|(addr, id)| Contact { id: *id, addr: *addr }).collect();
        all.sort_unstable_by_key(|node| node.id.distance(TARGET));
        all.truncate(count);
        all
    }

    /// The eight nodes closest to the target that an honest node knows: its table has eight nodes for each length of the prefix.
    fn nodes_of(&mut self, id: NodeId) -> Vec<Contact> {
        let bits = id.shared_bits(TARGET);
        let closer = |other: &NodeId| other.shared_bits(TARGET) > bits;
        let all = self.honest.iter().map(|(addr, id)| Contact { id: *id, addr: *addr });
        let (mut nearer, others): (Vec<_>, Vec<_>) = all.partition(|node| closer(&node.id));
        self.rng.shuffle(&mut nearer);
        // It knows its own neighbours better.
        let neighbours = others.into_iter().filter(|node| node.id.shared_bits(TARGET) == bits && node.id != id);
        let mut nodes: Vec<_> = nearer.into_iter().take(K).chain(neighbours.take(K)).collect();
        nodes.sort_unstable_by_key(|node| node.id.distance(TARGET));
        nodes.truncate(K);
        nodes
    }

    /// A lookup from four random nodes. The attacker's nodes are in the tables of all honest nodes near the target.
    fn look_up(&mut self) -> LookupResult {
        let (closest, insiders) = (self.closest(K), self.closest(128));
        let addrs: Vec<_> = self.honest.keys().copied().collect();
        let seeds: Vec<_> = (0..4)
            .map(|_| addrs[self.rng.usize(0..addrs.len())])
            .map(|addr| Contact { id: self.honest[&addr], addr })
            .collect();
        let mut lookup = Lookup::new(NodeId([0xff; 20]), TARGET, Family::V4, &seeds, &[]);
        let mut outcome = LookupResult { closest: 0, queries: 0, attacker_queries: 0 };
        let mut in_flight = std::collections::VecDeque::new();
        loop {
            in_flight.extend(std::iter::from_fn(|| lookup.next_query()));
            let Some(addr) = in_flight.pop_front() else { break };
            outcome.queries += 1;
            outcome.closest += usize::from(closest.iter().any(|node| node.addr == addr));
            let (id, nodes) = if let Some(id) = self.honest.get(&addr).copied() {
                let mut nodes = self.nodes_of(id);
                if insiders.iter().any(|node| node.addr == addr) && !self.attackers.is_empty() {
                    nodes.truncate(K - 2);
                    nodes.extend(self.rng.choose_multiple(&self.attackers, 2));
                }
                (id, nodes)
            } else {
                outcome.attacker_queries += 1;
                let id = self.attackers.iter().find(|node| node.addr == addr).expect("a node").id;
                (id, self.rng.choose_multiple(&self.attackers, K).into_iter().copied().collect())
            };
            lookup.answered(addr, &KrpcResponse { nodes, ..KrpcResponse::new(id) });
        }
        assert!(lookup.is_done());
        outcome
    }
}

#[test]
fn a_subnet_of_nodes_next_to_the_target_costs_a_lookup_few_queries() {
    for seed in 0..5 {
        let outcome = SybilNetwork::new(100, 1, 42, seed).look_up();
        assert!(outcome.attacker_queries <= usize::from(MAX_UNFIT_PER_SUBNET), "{}", outcome.attacker_queries);
        assert!(outcome.closest >= 6, "{} after {} queries", outcome.closest, outcome.queries);
    }
}

#[test]
fn subnets_of_nodes_next_to_the_target_do_not_use_up_a_lookup() {
    for (fit, least) in [(100, 7), (50, 3)] {
        for seed in 0..5 {
            let outcome = SybilNetwork::new(fit, 40, 5, seed).look_up();
            let fit_queries = outcome.queries - outcome.attacker_queries;
            assert!(outcome.closest >= least, "{fit} of 100 fit: {} after {fit_queries}", outcome.closest);
            assert!(fit < 100 || outcome.attacker_queries <= MAX_QUERIES / UNFIT_DIVISOR + PARALLEL, "{outcome:?}");
        }
    }
}

/// Most nodes do not comply with BEP 42.
#[test]
fn a_network_of_nodes_that_do_not_fit_is_searched_as_before() {
    for fit in [0, 10, 50, 100] {
        for seed in 0..5 {
            let outcome = SybilNetwork::new(fit, 0, 0, seed).look_up();
            assert!(outcome.closest >= 7, "{fit} of 100 fit: {} after {} queries", outcome.closest, outcome.queries);
        }
    }
}
