//! An iterative lookup (BEP 5): queries the closest known nodes for closer ones, several in parallel, until the eight closest
//! have responded. Pure: the caller sends the queries and passes the responses.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::message::{Contact, Family, KrpcResponse};
use crate::discovery::dht::table::K;
use crate::net::networks::{Network, is_private, may_name_address};

/// The most queries in flight that are not late.
const PARALLEL: usize = 4;
/// The most queries in flight, late ones included.
const MAX_IN_FLIGHT: usize = 8;
/// The most queries per lookup. A lookup that still gets closer after so many is being misled.
const MAX_QUERIES: usize = 120;
/// The most candidates kept.
const MAX_CANDIDATES: usize = 120;
/// The most candidates at one public IPv4 address or in one IPv6 /48; legitimate nodes rarely share one. Whoever has a /48 could
/// choose ids near any target in spite of BEP 42; for a /24, the ids that fit are too few.
const MAX_PER_NETWORK: u8 = 3;
/// The most peers accepted in one lookup.
const MAX_PEERS: usize = 1000;

/// Statistics of a lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupSummary {
    /// The number of queries sent.
    pub queries: usize,
    /// The number of nodes that responded.
    pub answers: usize,
    /// The number of hops from a node known beforehand to the farthest of the closest nodes: a node that a known one named is one
    /// hop away.
    pub hops: u8,
    /// The number of peers found.
    pub peers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryState {
    New,
    Asked,
    /// Queried, but slow: another node may be queried in its place.
    Late,
    Answered,
    Failed,
}

#[derive(Debug)]
struct LookupNode {
    /// `None` for a router, until it responds.
    id: Option<NodeId>,
    addr: SocketAddr,
    hop: u8,
    state: QueryState,
    token: Option<Vec<u8>>,
}

impl LookupNode {
    /// Whether its response counts as one of the closest: BEP 42 excludes nodes whose id does not fit their address.
    fn has_valid_response(&self) -> bool {
        self.state == QueryState::Answered && self.id.is_some_and(|id| id.fits(self.addr.ip()))
    }
}

/// A lookup in progress.
#[derive(Debug)]
pub struct Lookup {
    own: NodeId,
    target: NodeId,
    family: Family,
    /// Sorted by distance; candidates without an id last.
    candidates: Vec<LookupNode>,
    known: HashSet<SocketAddr>,
    per_network: HashMap<Network, u8>,
    peers: HashSet<SocketAddr>,
    queries: usize,
}

impl Lookup {
    /// Starts a lookup of `target` by the node `own`, from the nodes `seeds` and from `routers`, whose ids are unknown.
    pub fn new(own: NodeId, target: NodeId, family: Family, seeds: &[Contact], routers: &[SocketAddr]) -> Lookup {
        let mut lookup = Lookup {
            own,
            target,
            family,
            candidates: Vec::new(),
            known: HashSet::new(),
            per_network: HashMap::new(),
            peers: HashSet::new(),
            queries: 0,
        };
        for seed in seeds {
            lookup.add(Some(seed.id), seed.addr, 0);
        }
        for router in routers {
            lookup.add(None, *router, 0);
        }
        lookup
    }

    /// The id that is looked up.
    pub fn target(&self) -> NodeId {
        self.target
    }

    /// The next node to query, which then counts as queried. The caller must repeat this until it returns `None`.
    pub fn next_query(&mut self) -> Option<SocketAddr> {
        let late = self.count(QueryState::Late);
        let asked = self.count(QueryState::Asked);
        if asked >= PARALLEL || asked + late >= MAX_IN_FLIGHT || self.queries >= MAX_QUERIES {
            return None;
        }
        let mut answered = 0;
        for candidate in &mut self.candidates {
            if candidate.state == QueryState::New {
                candidate.state = QueryState::Asked;
                self.queries += 1;
                return Some(candidate.addr);
            }
            answered += usize::from(candidate.has_valid_response());
            if answered >= K {
                return None;
            }
        }
        None
    }

    /// Whether the lookup is done: the eight closest nodes have responded, or there is no node left to query. Waits for slow
    /// nodes only if fewer than eight others have responded.
    pub fn is_done(&self) -> bool {
        let exhausted = self.queries >= MAX_QUERIES;
        let mut answered = 0;
        let mut late = false;
        for candidate in &self.candidates {
            match candidate.state {
                QueryState::New if !exhausted => return false,
                QueryState::Asked => return false,
                QueryState::Late => late = true,
                _ => answered += usize::from(candidate.has_valid_response()),
            }
            if answered >= K {
                return true;
            }
        }
        !late
    }

    /// Marks a queried node as slow. Returns whether to query it once more: only while no node has responded, so that a lost
    /// packet to the only known node does not fail the lookup.
    pub fn late(&mut self, addr: SocketAddr) -> bool {
        let asked = self.candidates.iter().any(|c| c.addr == addr && c.state == QueryState::Asked);
        self.set_state(addr, QueryState::Late);
        asked && self.count(QueryState::Answered) == 0
    }

    /// Marks a queried node as failed: it timed out or returned an error.
    pub fn failed(&mut self, addr: SocketAddr) {
        self.set_state(addr, QueryState::Failed);
    }

    /// Records a response and returns the new peers. The candidate is sorted by the id in its own response, whatever other nodes
    /// claimed.
    pub fn answered(&mut self, addr: SocketAddr, response: &KrpcResponse) -> Vec<SocketAddr> {
        let waits = |c: &LookupNode| c.addr == addr && matches!(c.state, QueryState::Asked | QueryState::Late);
        let Some(at) = self.candidates.iter().position(waits) else { return Vec::new() };
        let mut candidate = self.candidates.remove(at);
        let hop = candidate.hop;
        candidate.id = Some(response.id);
        candidate.state = if response.id == self.own { QueryState::Failed } else { QueryState::Answered };
        candidate.token.clone_from(&response.token);
        let lies = candidate.state == QueryState::Failed;
        self.insert(candidate);
        if lies {
            return Vec::new();
        }
        // More than eight nodes are more than a response should contain; use the closest.
        let honest = |a: SocketAddr| Family::of(a.ip()) == self.family && may_name_address(addr.ip(), a.ip());
        let mut nodes: Vec<&Contact> = response.nodes.iter().filter(|node| honest(node.addr)).collect();
        nodes.sort_unstable_by_key(|node| node.id.distance(self.target));
        let values: Vec<SocketAddr> = response.values.iter().copied().filter(|value| honest(*value)).collect();
        let nodes: Vec<Contact> = nodes.into_iter().take(K).copied().collect();
        for node in nodes {
            self.add(Some(node.id), node.addr, hop.saturating_add(1));
        }
        let room = MAX_PEERS.saturating_sub(self.peers.len());
        values.into_iter().filter(|value| self.peers.insert(*value)).take(room).collect()
    }

    /// The nodes to announce to: the eight closest with a token whose ids fit their addresses (BEP 42), and the eight closest
    /// others with a token. Most nodes today do not comply with BEP 42, and other clients may query only those. On the other
    /// hand, nodes that choose their ids close to the torrent cannot displace the first eight.
    pub fn announce_targets(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        let answered = self.candidates.iter().filter(|c| c.state == QueryState::Answered);
        let with_token = answered.filter_map(|c| Some((c, c.token.as_ref().filter(|token| !token.is_empty())?)));
        let (fit, others): (Vec<_>, Vec<_>) = with_token.partition(|(c, _)| c.has_valid_response());
        let closest = fit.into_iter().take(K).chain(others.into_iter().take(K));
        closest.map(|(c, token)| (c.addr, token.clone())).collect()
    }

    /// The statistics so far.
    pub fn summary(&self) -> LookupSummary {
        let answered = || self.candidates.iter().filter(|c| c.state == QueryState::Answered);
        LookupSummary {
            queries: self.queries,
            answers: answered().count(),
            hops: answered().take(K).map(|c| c.hop).max().unwrap_or_default(),
            peers: self.peers.len(),
        }
    }

    fn count(&self, state: QueryState) -> usize {
        self.candidates.iter().filter(|c| c.state == state).count()
    }

    fn set_state(&mut self, addr: SocketAddr, state: QueryState) {
        let asked = |c: &&mut LookupNode| c.addr == addr && matches!(c.state, QueryState::Asked | QueryState::Late);
        if let Some(candidate) = self.candidates.iter_mut().find(asked) {
            candidate.state = state;
        }
    }

    fn add(&mut self, id: Option<NodeId>, addr: SocketAddr, hop: u8) {
        if id == Some(self.own) || Family::of(addr.ip()) != self.family || self.known.contains(&addr) {
            return;
        }
        let here = self.per_network.entry(Network::of(addr.ip(), 32, 48)).or_default();
        if *here >= MAX_PER_NETWORK && !is_private(addr.ip()) {
            return;
        }
        *here = here.saturating_add(1);
        self.known.insert(addr);
        self.insert(LookupNode { id, addr, hop, state: QueryState::New, token: None });
    }

    /// Inserts a candidate by distance. If there are too many, drops the farthest that was not queried.
    fn insert(&mut self, candidate: LookupNode) {
        let target = self.target;
        let key = |c: &LookupNode| c.id.map_or((true, [0; 20]), |id| (false, id.distance(target)));
        let at = self.candidates.partition_point(|c| key(c) <= key(&candidate));
        self.candidates.insert(at, candidate);
        if self.candidates.len() > MAX_CANDIDATES
            && let Some(farthest) = self.candidates.iter().rposition(|c| c.state == QueryState::New)
        {
            let gone = self.candidates.remove(farthest);
            self.known.remove(&gone.addr);
            if let Some(here) = self.per_network.get_mut(&Network::of(gone.addr.ip(), 32, 48)) {
                *here = here.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId([0xff; 20]);
    const TARGET: NodeId = NodeId([0; 20]);

    /// A node on a local network; a smaller `n` is closer to the target.
    fn node(n: u8) -> Contact {
        let mut id = [0; 20];
        id[0] = n;
        id[19] = 1;
        Contact { id: NodeId(id), addr: SocketAddr::from(([10, 0, 0, n], 1)) }
    }

    fn lookup(seeds: &[Contact]) -> Lookup {
        Lookup::new(OWN, TARGET, Family::V4, seeds, &[])
    }

    fn says(who: Contact, nodes: Vec<Contact>) -> KrpcResponse {
        KrpcResponse { id: who.id, nodes, values: Vec::new(), token: Some(vec![who.id.0[0]]) }
    }

    fn asked(lookup: &mut Lookup) -> Vec<SocketAddr> {
        std::iter::from_fn(|| lookup.next_query()).collect()
    }

    #[test]
    fn asks_four_at_a_time_closest_first_and_more_when_they_are_slow() {
        let nodes: Vec<Contact> = (1..=20).map(node).collect();
        let mut lookup = lookup(&nodes);
        let first = asked(&mut lookup);
        assert_eq!(first, nodes[..4].iter().map(|n| n.addr).collect::<Vec<_>>());
        for addr in &first {
            lookup.late(*addr);
        }
        assert_eq!(asked(&mut lookup), nodes[4..8].iter().map(|n| n.addr).collect::<Vec<_>>());
        for node in &nodes[4..8] {
            lookup.late(node.addr);
        }
        assert_eq!(asked(&mut lookup), [], "eight are in flight");
        lookup.failed(nodes[0].addr);
        assert_eq!(asked(&mut lookup), [nodes[8].addr]);
    }

    #[test]
    fn ends_when_the_eight_closest_have_answered() {
        let nodes: Vec<Contact> = (1..=20).map(node).collect();
        let mut lookup = lookup(&nodes);
        while let Some(addr) = lookup.next_query() {
            let who = nodes.iter().find(|n| n.addr == addr).unwrap();
            assert!(!lookup.is_done());
            lookup.answered(addr, &says(*who, nodes.clone()));
        }
        assert!(lookup.is_done());
        assert_eq!(lookup.summary(), LookupSummary { queries: 8, answers: 8, hops: 0, peers: 0 });
        let announce_targets = lookup.announce_targets();
        assert_eq!(
            announce_targets.iter().map(|(a, _)| *a).collect::<Vec<_>>(),
            nodes[..8].iter().map(|n| n.addr).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_slow_node_is_waited_for_only_where_there_are_too_few() {
        let mut lookup = lookup(&[node(1), node(2)]);
        asked(&mut lookup);
        lookup.late(node(1).addr);
        lookup.answered(node(2).addr, &says(node(2), vec![]));
        assert!(!lookup.is_done());
        lookup.failed(node(1).addr);
        assert!(lookup.is_done());
    }

    #[test]
    fn an_id_that_bep_42_forbids_neither_ends_a_search_nor_keeps_the_announce_from_others() {
        let attacker = |n: u8| Contact { id: NodeId([0; 20]), addr: SocketAddr::from(([80 + n, n, 9, 9], 1)) };
        let attackers: Vec<Contact> = (0..10).map(attacker).filter(|c| !c.id.fits(c.addr.ip())).take(8).collect();
        assert_eq!(attackers.len(), 8);
        let honest: Vec<Contact> = (1..=8).map(node).collect();
        let mut lookup = lookup(&[attackers.clone(), honest.clone()].concat());
        while let Some(addr) = lookup.next_query() {
            let who = *attackers.iter().chain(&honest).find(|n| n.addr == addr).unwrap();
            lookup.answered(addr, &says(who, vec![]));
        }
        assert_eq!(lookup.summary().queries, 16);
        let announce_targets: HashSet<SocketAddr> =
            lookup.announce_targets().into_iter().map(|(addr, _)| addr).collect();
        assert_eq!(announce_targets, attackers.iter().chain(&honest).map(|n| n.addr).collect(), "eight of each kind");
    }

    #[test]
    fn strangers_neither_lead_us_into_the_local_network_nor_endlessly_on() {
        let stranger = Contact { id: NodeId([9; 20]), addr: "80.1.1.1:1".parse().unwrap() };
        let mut lookup = lookup(&[stranger]);
        asked(&mut lookup);
        let mut response = says(stranger, vec![node(1)]);
        response.values = vec!["192.168.0.1:80".parse().unwrap(), "90.0.0.1:2".parse().unwrap()];
        assert_eq!(lookup.answered(stranger.addr, &response), ["90.0.0.1:2".parse().unwrap()]);
        assert_eq!(asked(&mut lookup), []);

        // Every response names eight nodes that are even closer.
        let mut rng = fastrand::Rng::with_seed(1);
        let mut lookup = Lookup::new(OWN, TARGET, Family::V4, &[stranger], &[]);
        let mut queries = 0;
        while let Some(addr) = lookup.next_query() {
            queries += 1;
            let closer = |n: u8| Contact {
                id: TARGET.near(queries.min(150), true, &mut fastrand::Rng::with_seed(u64::from(n))),
                addr: SocketAddr::from((rng.u32(0x5000_0000..0x6000_0000).to_be_bytes(), 1)),
            };
            let nodes = (0..8).map(closer).collect();
            lookup.answered(addr, &KrpcResponse { id: NodeId([9; 20]), nodes, values: vec![], token: None });
            assert!(lookup.candidates.len() <= MAX_CANDIDATES);
        }
        assert!(lookup.is_done() && queries <= MAX_QUERIES);
    }

    #[test]
    fn one_ipv6_subnet_has_three_nodes_in_a_lookup() {
        let node = |subnet, n| Contact {
            id: NodeId([n as u8; 20]),
            addr: SocketAddr::from(([0x2001, 0xdb8, subnet, n, 0, 0, 0, 1], 1)),
        };
        let seeds: Vec<_> = (1..100).map(|n| node(0, n)).chain([node(1, 100)]).collect();
        let lookup = Lookup::new(OWN, TARGET, Family::V6, &seeds, &[]);
        let addrs: Vec<_> = lookup.candidates.iter().map(|candidate| candidate.addr).collect();
        assert_eq!(addrs, [seeds[0].addr, seeds[1].addr, seeds[2].addr, seeds[99].addr]);
    }

    #[test]
    fn nobody_answers_in_our_name_or_twice() {
        let mut lookup = lookup(&[node(1), node(2)]);
        asked(&mut lookup);
        let mut response = says(node(1), vec![]);
        response.id = OWN;
        lookup.answered(node(1).addr, &response);
        let mut response = says(node(2), vec![]);
        response.values = vec!["10.9.9.9:9".parse().unwrap()];
        assert_eq!(lookup.answered(node(2).addr, &response).len(), 1);
        assert_eq!(lookup.answered(node(2).addr, &response).len(), 0);
        assert_eq!(lookup.announce_targets().len(), 1);
        assert!(lookup.is_done());
    }
}
