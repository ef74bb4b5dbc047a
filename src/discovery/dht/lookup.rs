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
/// The most candidates in one public IPv4 /24 or IPv6 /48 whose ids do not fit their addresses (BEP 42): their ids may be as near to
/// any target as somebody likes.
const MAX_UNFIT_PER_SUBNET: u8 = 8;
/// While nodes whose ids fit their addresses wait, the others get this share of the queries: half of those in flight and half of
/// all. Whoever has several subnets could otherwise use up the lookup. Most nodes today do not comply with BEP 42, so they are
/// queried too.
const UNFIT_DIVISOR: usize = 2;
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

    /// Whether its id does not fit its address, as far as it is known.
    fn violates_bep42(&self) -> bool {
        self.id.is_some_and(|id| !id.fits(self.addr.ip()))
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
    /// The candidates that were added with ids that do not fit their addresses.
    unfit_per_subnet: HashMap<Network, u8>,
    peers: HashSet<SocketAddr>,
    queries: usize,
    /// Those of nodes whose ids do not fit their addresses.
    unfit_queries: usize,
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
            unfit_per_subnet: HashMap::new(),
            peers: HashSet::new(),
            queries: 0,
            unfit_queries: 0,
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
        let at = self.next_candidate()?;
        let candidate = self.candidates.get_mut(at)?;
        candidate.state = QueryState::Asked;
        self.queries += 1;
        self.unfit_queries += usize::from(candidate.violates_bep42());
        Some(candidate.addr)
    }

    /// The position of the next node to query: the closest one, unless eight closer ones have responded. If nodes whose ids do not
    /// fit have had their share, the closest one whose id fits.
    fn next_candidate(&self) -> Option<usize> {
        let (mut answered, mut closest) = (0, None);
        let unfit_asked = self.candidates.iter().filter(|c| c.state == QueryState::Asked && c.violates_bep42()).count();
        let may_be_unfit = unfit_asked < PARALLEL / UNFIT_DIVISOR && !self.is_unfit_share_used();
        for (at, candidate) in self.candidates.iter().enumerate() {
            if candidate.state == QueryState::New {
                if may_be_unfit || !candidate.violates_bep42() {
                    return Some(at);
                }
                closest = closest.or(Some(at));
            }
            answered += usize::from(candidate.has_valid_response());
            if answered >= K {
                return closest.filter(|_| !self.is_unfit_share_used());
            }
        }
        closest
    }

    fn is_unfit_share_used(&self) -> bool {
        self.unfit_queries >= MAX_QUERIES / UNFIT_DIVISOR
    }

    /// Whether the lookup is done: the eight closest nodes have responded, or there is no node left to query. Waits for slow
    /// nodes only if fewer than eight others have responded, and so for those whose ids do not fit once they have had their share.
    pub fn is_done(&self) -> bool {
        let exhausted = self.queries >= MAX_QUERIES;
        let mut answered = 0;
        let mut waits = false;
        for candidate in &self.candidates {
            match candidate.state {
                QueryState::New if exhausted => {}
                QueryState::New if candidate.violates_bep42() && self.is_unfit_share_used() => waits = true,
                QueryState::New | QueryState::Asked => return false,
                QueryState::Late => waits = true,
                _ => answered += usize::from(candidate.has_valid_response()),
            }
            if answered >= K {
                return true;
            }
        }
        !waits
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
        let candidate = LookupNode { id, addr, hop, state: QueryState::New, token: None };
        let is_crowded = |here: Option<&u8>, most| here.is_some_and(|here| *here >= most) && !is_private(addr.ip());
        let (network, subnet) = (network(addr), Network::subnet(addr.ip()));
        if is_crowded(self.per_network.get(&network), MAX_PER_NETWORK)
            || (candidate.violates_bep42() && is_crowded(self.unfit_per_subnet.get(&subnet), MAX_UNFIT_PER_SUBNET))
        {
            return;
        }
        count_up(&mut self.per_network, network);
        if candidate.violates_bep42() {
            count_up(&mut self.unfit_per_subnet, subnet);
        }
        self.known.insert(addr);
        self.insert(candidate);
    }

    /// Inserts a candidate by distance. If there are too many, drops the farthest that was not queried, of those whose ids do not fit
    /// if they are more than half.
    fn insert(&mut self, candidate: LookupNode) {
        let target = self.target;
        let key = |c: &LookupNode| c.id.map_or((true, [0; 20]), |id| (false, id.distance(target)));
        let at = self.candidates.partition_point(|c| key(c) <= key(&candidate));
        self.candidates.insert(at, candidate);
        if self.candidates.len() <= MAX_CANDIDATES {
            return;
        }
        // Those whose ids do not fit may be nearer than all others, but displace no others beyond their share.
        let are_unfit_too_many =
            self.candidates.iter().filter(|c| c.violates_bep42()).count() > MAX_CANDIDATES / UNFIT_DIVISOR;
        let farthest = |may_go: fn(&LookupNode) -> bool| {
            self.candidates.iter().rposition(|c| c.state == QueryState::New && may_go(c))
        };
        let unfit = farthest(LookupNode::violates_bep42).filter(|_| are_unfit_too_many);
        if let Some(farthest) = unfit.or_else(|| farthest(|_| true)) {
            let gone = self.candidates.remove(farthest);
            self.known.remove(&gone.addr);
            count_down(&mut self.per_network, network(gone.addr));
            if gone.violates_bep42() {
                count_down(&mut self.unfit_per_subnet, Network::subnet(gone.addr.ip()));
            }
        }
    }
}

/// The network that may have [`MAX_PER_NETWORK`] candidates.
fn network(addr: SocketAddr) -> Network {
    Network::of(addr.ip(), 32, 48)
}

fn count_up(counts: &mut HashMap<Network, u8>, network: Network) {
    let count = counts.entry(network).or_default();
    *count = count.saturating_add(1);
}

fn count_down(counts: &mut HashMap<Network, u8>, network: Network) {
    if let Some(count) = counts.get_mut(&network) {
        *count = count.saturating_sub(1);
    }
}

#[cfg(test)]
mod crowded_simulation;
#[cfg(test)]
mod tests;
