//! What we answer others (BEP 5), so that we are of use and of no use to attackers: tokens that nobody can guess, answers that are
//! no larger than a small multiple of the question, a limit for each address and for all. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::message::{
    Body, Contact, Family, KrpcMessage, MAX_PACKET, PROTOCOL_ERROR, Query, Response, Want,
};
use crate::discovery::dht::store::PeerStore;
use crate::discovery::dht::table::RoutingTable;
use crate::net::networks::Network;

/// Tokens change so often; that of the time before is accepted, too.
const TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);
/// An answer is at most so many times as long as its question, whose address may be forged.
const MAX_AMPLIFICATION: usize = 8;
/// Questions answered of one address, each second in the long run and at once.
const PER_ADDRESS: QueryRate = QueryRate { per_second: 5, burst: 30 };
/// The same of all together.
const IN_TOTAL: QueryRate = QueryRate { per_second: 200, burst: 400 };
/// Addresses whose rate is remembered.
const MAX_ADDRESSES: usize = 4096;

/// Makes and checks tokens.
#[derive(Debug)]
pub struct Tokens {
    secret: [u8; 16],
}

impl Tokens {
    /// With a secret that nobody else has.
    pub fn new(secret: [u8; 16]) -> Tokens {
        Tokens { secret }
    }

    /// The token for an address, now.
    pub fn make(&self, now: Duration, ip: IpAddr) -> [u8; 8] {
        self.of(now.as_secs() / TOKEN_LIFE.as_secs(), ip)
    }

    /// Whether it was given to this address five to ten minutes ago at most.
    pub fn is_valid(&self, now: Duration, ip: IpAddr, token: &[u8]) -> bool {
        let age = now.as_secs() / TOKEN_LIFE.as_secs();
        token == self.of(age, ip) || age.checked_sub(1).is_some_and(|before| token == self.of(before, ip))
    }

    fn of(&self, age: u64, ip: IpAddr) -> [u8; 8] {
        let hash = Sha1::new().chain_update(self.secret).chain_update(age.to_be_bytes());
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

/// What is left of a [`QueryRate`], in thousandths.
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

    fn take(&mut self) -> bool {
        let enough = self.left >= 1000;
        self.left -= if enough { 1000 } else { 0 };
        enough
    }
}

/// Says which questions are answered.
#[derive(Debug)]
struct QueryLimiter {
    /// By IPv4 address or IPv6 /64.
    addresses: HashMap<Network, QueryBudget>,
    total: QueryBudget,
}

impl QueryLimiter {
    fn may_answer(&mut self, now: Duration, ip: IpAddr) -> bool {
        let key = Network::host(ip);
        // First of all the total, so that a storm from forged addresses leaves few of them in the table.
        self.total.refill(IN_TOTAL, now);
        if self.total.left < 1000 {
            return false;
        }
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&key) {
            // Those that have all of their allowance again need not be remembered.
            let idle = Duration::from_secs(PER_ADDRESS.burst / PER_ADDRESS.per_second);
            self.addresses.retain(|_, allowance| now.saturating_sub(allowance.at) < idle);
            if self.addresses.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let own = self.addresses.entry(key).or_insert_with(|| QueryBudget::full(PER_ADDRESS, now));
        own.refill(PER_ADDRESS, now);
        own.take() && self.total.take()
    }
}

/// The part of a node that answers.
#[derive(Debug)]
pub struct QueryServer {
    family: Family,
    tokens: Tokens,
    limiter: QueryLimiter,
    store: PeerStore,
    last_sweep: Duration,
}

impl QueryServer {
    /// An idle one.
    pub fn new(family: Family, secret: [u8; 16]) -> QueryServer {
        let limiter = QueryLimiter { addresses: HashMap::new(), total: QueryBudget::full(IN_TOTAL, Duration::ZERO) };
        QueryServer {
            family,
            tokens: Tokens::new(secret),
            limiter,
            store: PeerStore::default(),
            last_sweep: Duration::ZERO,
        }
    }

    /// Whether a question from this address may be answered now; counts it.
    pub fn may_answer(&mut self, now: Duration, from: SocketAddr) -> bool {
        self.limiter.may_answer(now, from.ip())
    }

    /// How many announced peers are stored.
    pub fn stored(&self) -> usize {
        self.store.len()
    }

    /// The answer to a question of `size` bytes, as node `id` with what `table` knows.
    pub fn answer(
        &mut self,
        now: Duration,
        (id, table): (NodeId, &RoutingTable),
        (from, size): (SocketAddr, usize),
        query: &Query,
        rng: &mut fastrand::Rng,
    ) -> Body {
        let mut response = Response { id, nodes: Vec::new(), values: Vec::new(), token: None };
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
                    return Body::Error(PROTOCOL_ERROR, "bad token".into());
                }
                if now.saturating_sub(self.last_sweep) > TOKEN_LIFE {
                    self.last_sweep = now;
                    self.store.sweep(now);
                }
                let peer = SocketAddr::new(from.ip(), port.unwrap_or(from.port()));
                if !self.store.announce(now, *info_hash, peer) {
                    return Body::Error(202, "too many announces".into());
                }
            }
        }
        Body::Response(response)
    }

    /// Nodes of our own family, unless only those of the other are wanted, of which we know none.
    fn nodes(&self, now: Duration, table: &RoutingTable, target: NodeId, want: Want) -> Vec<Contact> {
        let wanted = match self.family {
            Family::V4 => want.v4,
            Family::V6 => want.v6,
        };
        if wanted || want == Want::default() { table.closest_good(now, target) } else { Vec::new() }
    }

    /// How many peers the answer can hold beside what is in it already.
    fn room_for_values(&self, from: SocketAddr, size: usize, response: &Response) -> usize {
        let message = KrpcMessage {
            // The longest that we echo.
            transaction: vec![0; 20],
            ip: Some(from),
            body: Body::Response(response.clone()),
        };
        let room = MAX_PACKET
            .min(size.saturating_mul(MAX_AMPLIFICATION))
            .saturating_sub(message.encode().len() + "6:valuesle".len());
        // Each with its length in front, of two digits at most.
        room / (self.family.width() + 2 + if self.family == Family::V4 { 2 } else { 3 })
    }
}

#[cfg(test)]
mod tests;
