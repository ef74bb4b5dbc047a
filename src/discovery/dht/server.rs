//! Answers queries of other nodes (BEP 5, 33, 44, 51) without being useful to attackers: tokens cannot be guessed, a response is at most a
//! small multiple of the query's size, and the rate is limited per address and in total. Pure.

mod content;
mod limiter;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::item::ItemPut;
use crate::discovery::dht::item_store::ItemStore;
use crate::discovery::dht::message::{
    Contact, Family, KrpcBody, KrpcResponse, PROTOCOL_ERROR, Query, SERVER_ERROR, Want,
};
use crate::discovery::dht::store::{PeerStore, StoredPeer};
use crate::discovery::dht::table::RoutingTable;
use crate::types::InfoHash;
use limiter::QueryLimiter;

/// How often tokens change; the previous one is still accepted.
const TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);
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

/// The part of a node that answers queries.
#[derive(Debug)]
pub struct QueryServer {
    family: Family,
    tokens: Tokens,
    limiter: QueryLimiter,
    store: PeerStore,
    items: ItemStore,
    samples: Vec<InfoHash>,
    samples_due: Duration,
    last_sweep: Duration,
}

/// A query as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedQuery<'a> {
    /// The sender, whose address may be forged.
    pub from: SocketAddr,
    /// The size of the packet.
    pub size: usize,
    /// The query.
    pub query: &'a Query,
}

impl QueryServer {
    /// Creates a server with no stored peers and items.
    pub fn new(family: Family, secret: [u8; 16]) -> QueryServer {
        QueryServer {
            family,
            tokens: Tokens::new(secret),
            limiter: QueryLimiter::new(),
            store: PeerStore::default(),
            items: ItemStore::default(),
            samples: Vec::new(),
            samples_due: Duration::ZERO,
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

    /// The number of items stored.
    pub fn stored_items(&self) -> usize {
        self.items.len()
    }

    /// The response to a query, from a node with this id and routing table.
    pub fn answer(
        &mut self,
        now: Duration,
        (id, table): (NodeId, &RoutingTable),
        received: ReceivedQuery<'_>,
        rng: &mut fastrand::Rng,
    ) -> KrpcBody {
        let from = received.from;
        let mut response = KrpcResponse::new(id);
        let refused = match received.query {
            Query::Ping => None,
            Query::FindNode { target, want } => {
                response.nodes = self.nodes(now, table, *target, *want);
                None
            }
            Query::GetPeers { info_hash, want, scrape } => {
                response.nodes = self.nodes(now, table, NodeId::from(*info_hash), *want);
                response.token = Some(self.tokens.make(now, from.ip()).to_vec());
                self.add_peers(now, received, (*info_hash, *scrape), &mut response, rng);
                None
            }
            Query::AnnouncePeer { info_hash, port, is_port_implied, is_seed, token } => {
                let port = if *is_port_implied { from.port() } else { *port };
                let peer = StoredPeer { addr: SocketAddr::new(from.ip(), port), at: now, is_seed: *is_seed };
                self.store_peer(now, *info_hash, peer, token).err()
            }
            Query::SampleInfohashes { target, want } => {
                response.nodes = self.nodes(now, table, *target, *want);
                self.add_samples(now, received, &mut response, rng);
                None
            }
            Query::Get { target, seq, want } => {
                response.token = Some(self.tokens.make(now, from.ip()).to_vec());
                self.add_item(now, received, (*target, *seq), &mut response);
                response.nodes = self.nodes(now, table, *target, *want);
                content::drop_nodes(received, &mut response, 0);
                None
            }
            Query::Put { token, put } => self.store_item(now, from, token, put).err(),
        };
        refused.map_or(KrpcBody::Response(response), |(code, why)| KrpcBody::Error(code, why.into()))
    }

    fn check_token(&mut self, now: Duration, from: IpAddr, token: &[u8]) -> Result<(), (i64, &'static str)> {
        if !self.tokens.is_valid(now, from, token) {
            return Err((PROTOCOL_ERROR, "bad token"));
        }
        if now.saturating_sub(self.last_sweep) > TOKEN_LIFE {
            self.last_sweep = now;
            self.store.sweep(now);
            self.items.sweep(now);
        }
        Ok(())
    }

    fn store_peer(
        &mut self,
        now: Duration,
        info_hash: InfoHash,
        peer: StoredPeer,
        token: &[u8],
    ) -> Result<(), (i64, &'static str)> {
        self.check_token(now, peer.addr.ip(), token)?;
        // An implied port is that of the packet, so only a stated one can be 0.
        if self.store.announce(info_hash, peer) { Ok(()) } else { Err((SERVER_ERROR, "too many announces")) }
    }

    fn store_item(
        &mut self,
        now: Duration,
        from: SocketAddr,
        token: &[u8],
        put: &ItemPut,
    ) -> Result<(), (i64, &'static str)> {
        self.check_token(now, from.ip(), token)?;
        self.items.put(now, from.ip(), put)
    }

    /// Nodes of our own family, unless the query requests only the other family, of which we know none.
    fn nodes(&self, now: Duration, table: &RoutingTable, target: NodeId, want: Want) -> Vec<Contact> {
        let wanted = match self.family {
            Family::V4 => want.wants_v4,
            Family::V6 => want.wants_v6,
        };
        if wanted || want == Want::default() { table.closest_good(now, target) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests;
