//! Answers queries of other nodes (BEP 5) without being useful to attackers: tokens cannot be guessed, a response is at most a
//! small multiple of the query's size, and the rate is limited per address and in total. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::message::{
    Contact, Family, KrpcBody, KrpcMessage, KrpcResponse, MAX_PACKET, PROTOCOL_ERROR, Query, Want,
};
use crate::discovery::dht::store::PeerStore;
use crate::discovery::dht::table::RoutingTable;
use crate::net::networks::Network;

/// How often tokens change; the previous one is still accepted.
const TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);
/// A response is at most this many times as long as its query, whose source address may be forged.
const MAX_AMPLIFICATION: usize = 8;
/// The rate limit per address (IPv6 /64): sustained and burst.
const PER_ADDRESS: QueryRate = QueryRate { per_second: 5, burst: 30 };
/// The rate limit per subnet (/24, IPv6 /48), so that one party with many addresses leaves most of the total to others.
const PER_SUBNET: QueryRate = QueryRate { per_second: 40, burst: 100 };
/// The rate limit for all addresses together.
const IN_TOTAL: QueryRate = QueryRate { per_second: 200, burst: 400 };
/// The most addresses whose rate is tracked, and the most subnets.
const MAX_NETWORKS: usize = 4096;

/// Creates and verifies tokens.
#[derive(Debug)]
pub struct Tokens {
    secret: [u8; 16],
}

impl Tokens {
    /// Derives tokens from a secret, which must be unpredictable.
    pub fn new(secret: [u8; 16]) -> Tokens {
        Tokens { secret }
    }

    /// The current token for an address.
    pub fn make(&self, now: Duration, ip: IpAddr) -> [u8; 8] {
        self.of(now.as_secs() / TOKEN_LIFE.as_secs(), ip)
    }

    /// Whether the token was created for this address no more than five to ten minutes ago.
    pub fn is_valid(&self, now: Duration, ip: IpAddr, token: &[u8]) -> bool {
        let period = now.as_secs() / TOKEN_LIFE.as_secs();
        token == self.of(period, ip) || period.checked_sub(1).is_some_and(|before| token == self.of(before, ip))
    }

    fn of(&self, period: u64, ip: IpAddr) -> [u8; 8] {
        let hash = Sha1::new().chain_update(self.secret).chain_update(period.to_be_bytes());
        let hash = match ip {
            IpAddr::V4(ip) => hash.chain_update(ip.octets()),
            IpAddr::V6(ip) => hash.chain_update(ip.octets()),
        };
        let hash: [u8; 20] = hash.finalize().into();
        std::array::from_fn(|at| hash[at])
    }
}

#[derive(Clone, Copy, Debug)]
struct QueryRate {
    per_second: u64,
    burst: u64,
}

/// The remaining allowance within a [`QueryRate`], in thousandths of a query.
#[derive(Clone, Copy, Debug)]
struct QueryBudget {
    left: u64,
    at: Duration,
}

impl QueryBudget {
    fn full(rate: QueryRate, now: Duration) -> QueryBudget {
        QueryBudget { left: rate.burst * 1000, at: now }
    }

    fn refill(&mut self, rate: QueryRate, now: Duration) {
        let passed = now.saturating_sub(self.at).as_millis() as u64;
        self.left = passed.saturating_mul(rate.per_second).saturating_add(self.left).min(rate.burst * 1000);
        self.at = now;
    }

    fn is_enough(&self) -> bool {
        self.left >= 1000
    }

    fn take(&mut self) {
        self.left = self.left.saturating_sub(1000);
    }
}

/// The allowances of networks of one size.
#[derive(Debug)]
struct NetworkBudgets {
    rate: QueryRate,
    budgets: HashMap<Network, QueryBudget>,
}

impl NetworkBudgets {
    fn new(rate: QueryRate) -> NetworkBudgets {
        NetworkBudgets { rate, budgets: HashMap::new() }
    }

    /// The present allowance of a network; `None` if too many networks are tracked.
    fn get(&mut self, now: Duration, network: Network) -> Option<&mut QueryBudget> {
        let QueryRate { per_second, burst } = self.rate;
        if self.budgets.len() >= MAX_NETWORKS && !self.budgets.contains_key(&network) {
            // Networks that have their full allowance again need not be tracked.
            let idle = Duration::from_secs(burst.div_ceil(per_second));
            self.budgets.retain(|_, allowance| now.saturating_sub(allowance.at) < idle);
            if self.budgets.len() >= MAX_NETWORKS {
                return None;
            }
        }
        let budget = self.budgets.entry(network).or_insert_with(|| QueryBudget::full(self.rate, now));
        budget.refill(self.rate, now);
        Some(budget)
    }
}

/// Decides which queries to answer.
#[derive(Debug)]
struct QueryLimiter {
    addresses: NetworkBudgets,
    subnets: NetworkBudgets,
    total: QueryBudget,
}

impl QueryLimiter {
    fn new() -> QueryLimiter {
        QueryLimiter {
            addresses: NetworkBudgets::new(PER_ADDRESS),
            subnets: NetworkBudgets::new(PER_SUBNET),
            total: QueryBudget::full(IN_TOTAL, Duration::ZERO),
        }
    }

    fn may_answer(&mut self, now: Duration, ip: IpAddr) -> bool {
        // Check the total first, so that a flood from forged addresses adds few of them to the maps.
        self.total.refill(IN_TOTAL, now);
        if !self.total.is_enough() {
            return false;
        }
        // And the subnet before the address, for the same reason.
        let subnet = self.subnets.get(now, Network::public_subnet(ip)).filter(|subnet| subnet.is_enough());
        let Some(subnet) = subnet else { return false };
        let Some(own) = self.addresses.get(now, Network::host(ip)).filter(|own| own.is_enough()) else { return false };
        own.take();
        subnet.take();
        self.total.take();
        true
    }
}

/// The part of a node that answers queries.
#[derive(Debug)]
pub struct QueryServer {
    family: Family,
    tokens: Tokens,
    limiter: QueryLimiter,
    store: PeerStore,
    last_sweep: Duration,
}

impl QueryServer {
    /// Creates a server with no stored peers.
    pub fn new(family: Family, secret: [u8; 16]) -> QueryServer {
        QueryServer {
            family,
            tokens: Tokens::new(secret),
            limiter: QueryLimiter::new(),
            store: PeerStore::default(),
            last_sweep: Duration::ZERO,
        }
    }

    /// Whether to answer a query from this address now; counts it against the limits.
    pub fn may_answer(&mut self, now: Duration, from: SocketAddr) -> bool {
        self.limiter.may_answer(now, from.ip())
    }

    /// The number of announced peers stored.
    pub fn stored(&self) -> usize {
        self.store.len()
    }

    /// The response to a query of `size` bytes, from a node with this id and routing table.
    pub fn answer(
        &mut self,
        now: Duration,
        (id, table): (NodeId, &RoutingTable),
        (from, size): (SocketAddr, usize),
        query: &Query,
        rng: &mut fastrand::Rng,
    ) -> KrpcBody {
        let mut response = KrpcResponse { id, nodes: Vec::new(), values: Vec::new(), token: None };
        match query {
            Query::Ping => {}
            Query::FindNode { target, want } => response.nodes = self.nodes(now, table, *target, *want),
            Query::GetPeers { info_hash, want } => {
                response.nodes = self.nodes(now, table, NodeId::from(*info_hash), *want);
                response.token = Some(self.tokens.make(now, from.ip()).to_vec());
                let fits = self.room_for_values(from, size, &response);
                response.values = self.store.peers(now, *info_hash, fits, rng);
            }
            Query::AnnouncePeer { info_hash, port, token } => {
                if !self.tokens.is_valid(now, from.ip(), token) {
                    return KrpcBody::Error(PROTOCOL_ERROR, "bad token".into());
                }
                if now.saturating_sub(self.last_sweep) > TOKEN_LIFE {
                    self.last_sweep = now;
                    self.store.sweep(now);
                }
                let peer = SocketAddr::new(from.ip(), port.unwrap_or(from.port()));
                if !self.store.announce(now, *info_hash, peer) {
                    return KrpcBody::Error(202, "too many announces".into());
                }
            }
        }
        KrpcBody::Response(response)
    }

    /// Nodes of our own family, unless the query requests only the other family, of which we know none.
    fn nodes(&self, now: Duration, table: &RoutingTable, target: NodeId, want: Want) -> Vec<Contact> {
        let wanted = match self.family {
            Family::V4 => want.wants_v4,
            Family::V6 => want.wants_v6,
        };
        if wanted || want == Want::default() { table.closest_good(now, target) } else { Vec::new() }
    }

    /// How many peers fit into the response in addition to its current content.
    fn room_for_values(&self, from: SocketAddr, size: usize, response: &KrpcResponse) -> usize {
        let message = KrpcMessage {
            // The longest transaction id that is echoed.
            transaction: vec![0; 20],
            ip: Some(from),
            body: KrpcBody::Response(response.clone()),
        };
        let room = MAX_PACKET
            .min(size.saturating_mul(MAX_AMPLIFICATION))
            .saturating_sub(message.encode().len() + "6:valuesle".len());
        // Each peer is preceded by its length, which has one digit for IPv4 and two for IPv6, and a colon.
        room / (self.family.width() + 2 + if self.family == Family::V4 { 2 } else { 3 })
    }
}

#[cfg(test)]
mod tests;
