//! A DHT node of one family (BEP 5, 32, 42, 43): takes packets and the time, and returns packets and peers. Pure. This file
//! contains the public interface and the handling of received packets; `maintain` does the periodic work.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::discovery::dht::external::OwnIds;
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::item_request::{ItemOutcome, ItemRequests};
use crate::discovery::dht::maintain::TorrentSearch;
use crate::discovery::dht::message::{Contact, Family, KrpcBody, KrpcError, KrpcMessage, KrpcResponse, is_usable};
use crate::discovery::dht::running::{LookupGoal, PendingQuery, QueryPurpose, RunningLookups};
use crate::discovery::dht::server::{QueryServer, ReceivedQuery};
use crate::discovery::dht::state::DhtState;
use crate::discovery::dht::stats::DhtStats;
use crate::discovery::dht::table::{K, RoutingTable};
use crate::discovery::dht::unsolicited::UnsolicitedQueries;
use crate::net::networks::is_private;
use crate::types::InfoHash;

/// The most routers, and the most bootstrap nodes, kept.
const MAX_ROUTERS: usize = 32;
/// The most packets in the send queue.
const MAX_OUT: usize = 2000;

/// The settings of a node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The address family of its network.
    pub family: Family,
    /// Whether it sends queries but does not answer any (BEP 43), because other nodes cannot reach it.
    pub is_read_only: bool,
    /// Whether its packets omit the name and version of this client.
    pub is_anonymous: bool,
    /// A secret from which tokens and transaction ids are derived.
    pub secret: [u8; 16],
}

/// An action for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhtOutput {
    /// Send a packet.
    Send {
        /// The destination.
        to: SocketAddr,
        /// The packet.
        bytes: Vec<u8>,
        /// Whether it answers the packet that was given last, so that it comes from the address which that was sent to.
        is_answer: bool,
    },
    /// A search found peers that it had not found before.
    FoundPeers {
        /// The torrent's info-hash.
        info_hash: InfoHash,
        /// The addresses of the peers, from an unverified source.
        peers: Vec<SocketAddr>,
    },
    /// A node named nodes of the other family during bootstrap.
    OtherFamilyNodes(Vec<SocketAddr>),
    /// A request for an item has ended; see [`Dht::request_item`].
    Item {
        /// The request's number.
        number: u32,
        /// Its result.
        outcome: ItemOutcome,
    },
}

/// A DHT node; see the module `dht`.
#[derive(Debug)]
pub struct Dht {
    pub(crate) family: Family,
    pub(crate) is_read_only: bool,
    is_anonymous: bool,
    pub(crate) own: OwnIds,
    /// Whether announces ask nodes to use the source port of the packet (`implied_port`).
    pub(crate) is_port_implied: bool,
    pub(crate) secret: [u8; 16],
    /// A counter from which transaction ids are derived.
    pub(crate) transactions: u64,
    pub(crate) table: RoutingTable,
    server: QueryServer,
    // Ordered maps make the node deterministic: the same input gives the same output.
    pub(crate) pending: BTreeMap<[u8; 4], PendingQuery>,
    pub(crate) lookups: RunningLookups,
    pub(crate) searches: BTreeMap<InfoHash, TorrentSearch>,
    pub(crate) items: ItemRequests,
    pub(crate) bootstrap: BootstrapState,
    pub(crate) refresh_due: Duration,
    out: VecDeque<DhtOutput>,
    pub(crate) rng: fastrand::Rng,
    pub(crate) stats: DhtStats,
    unsolicited: UnsolicitedQueries,
}

/// Where and when the node looks for other nodes.
#[derive(Debug)]
pub(crate) struct BootstrapState {
    pub(crate) routers: Vec<SocketAddr>,
    /// Nodes added while the table was nearly empty, to be queried again if it becomes so again, each with its number of
    /// unanswered pings.
    pub(crate) nodes: Vec<(SocketAddr, u32)>,
    /// When to bootstrap next.
    pub(crate) due: Duration,
    /// The delay after that if it finds too few nodes.
    pub(crate) pause: Duration,
}

impl Dht {
    /// Creates a node from its own family's part of `state`.
    pub fn new(settings: &NodeSettings, state: &DhtState, mut rng: fastrand::Rng) -> Dht {
        let family = settings.family;
        let own = OwnIds::new(state, family, &mut rng);
        let mut table = RoutingTable::new(own.id);
        for node in state.nodes.iter().filter(|node| Family::of(node.addr.ip()) == family && is_usable(node.addr)) {
            table.remember(*node);
        }
        Dht {
            family,
            is_read_only: settings.is_read_only,
            is_anonymous: settings.is_anonymous,
            is_port_implied: false,
            own,
            secret: settings.secret,
            transactions: 0,
            table,
            server: QueryServer::new(family, settings.secret),
            pending: BTreeMap::new(),
            lookups: RunningLookups::default(),
            searches: BTreeMap::new(),
            items: ItemRequests::default(),
            bootstrap: BootstrapState {
                routers: Vec::new(),
                nodes: Vec::new(),
                due: Duration::ZERO,
                pause: crate::discovery::dht::maintain::MIN_BOOTSTRAP_DELAY,
            },
            refresh_due: Duration::ZERO,
            out: VecDeque::new(),
            rng,
            stats: DhtStats::default(),
            unsolicited: UnsolicitedQueries::default(),
        }
    }

    /// Our id.
    #[cfg(any(test, feature = "internals"))]
    pub fn id(&self) -> NodeId {
        self.own.id
    }

    /// Searches for peers of a torrent from now on, repeatedly, and announces our TCP port if given. Must not be called for a
    /// private torrent (BEP 27).
    pub fn search(&mut self, now: Duration, info_hash: InfoHash, announce_port: Option<u16>) {
        let before = self.searches.get(&info_hash).filter(|search| !search.is_once || search.is_running);
        let (is_running, is_seed) = before.map_or((false, false), |search| (search.is_running, search.is_seed));
        self.searches.insert(info_hash, TorrentSearch { announce_port, due: now, is_running, is_once: false, is_seed });
        self.handle_deadlines(now);
    }

    /// Sets whether the next announces of a torrent that is searched for say that we have all pieces (BEP 33).
    pub fn set_seed(&mut self, info_hash: InfoHash, is_seed: bool) {
        if let Some(search) = self.searches.get_mut(&info_hash) {
            search.is_seed = is_seed;
        }
    }

    /// Stops what [`Dht::search`] started.
    pub fn forget(&mut self, info_hash: InfoHash) {
        self.searches.remove(&info_hash);
        self.lookups.running.retain(|_, (_, goal)| *goal != LookupGoal::Peers(info_hash));
    }

    /// Adds a node: a peer's (PORT message, BEP 5), one from a torrent's `nodes`, or the user's.
    pub fn add_node(&mut self, now: Duration, addr: SocketAddr) {
        if !is_usable(addr) || Family::of(addr.ip()) != self.family {
            return;
        }
        if self.table.len() < K
            && self.bootstrap.nodes.iter().all(|(node, _)| *node != addr)
            && self.bootstrap.nodes.len() < MAX_ROUTERS
        {
            self.bootstrap.nodes.push((addr, 0));
        }
        self.ping(now, addr);
        self.bootstrap_soon(now);
    }

    /// Adds a router: a node to query while the routing table is nearly empty. It never enters the table itself.
    pub fn add_router(&mut self, now: Duration, addr: SocketAddr) {
        let known = self.bootstrap.routers.contains(&addr);
        if is_usable(addr)
            && Family::of(addr.ip()) == self.family
            && !known
            && self.bootstrap.routers.len() < MAX_ROUTERS
        {
            self.bootstrap.routers.push(addr);
            self.bootstrap_soon(now);
        }
    }

    /// Sets whether the node only sends queries (BEP 43).
    pub fn set_read_only(&mut self, is_read_only: bool) {
        self.is_read_only = is_read_only;
    }

    /// Sets whether others should connect to the port that our packets come from, instead of the announced one (`implied_port`,
    /// BEP 5). Only for a node whose port also accepts connections over UDP (BEP 29): behind a router, the port of our packets is
    /// then the one that works, while nothing is known about our TCP port.
    pub fn set_port_implied(&mut self, is_port_implied: bool) {
        self.is_port_implied = is_port_implied;
    }

    /// The oldest queued action.
    pub fn next_output(&mut self) -> Option<DhtOutput> {
        self.out.pop_front()
    }

    /// The current statistics.
    pub fn stats(&self, now: Duration) -> DhtStats {
        let (nodes, good) = self.table.count(now);
        DhtStats {
            nodes,
            good,
            stored: self.server.stored(),
            items: self.server.stored_items(),
            external_ip: self.own.external_ip(),
            ..self.stats
        }
    }

    /// The data to save for the next run.
    pub fn state(&self, now: Duration) -> DhtState {
        DhtState { ids: self.own.to_state(self.family), nodes: self.table.nodes_to_save(now) }
    }

    /// Handles a packet received from `from`.
    #[cfg(any(test, feature = "internals"))]
    pub fn on_packet(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        self.on_message(now, from, bytes.len(), KrpcMessage::decode(bytes));
    }

    /// Handles a packet of this size that the caller has decoded.
    pub(crate) fn on_message(
        &mut self,
        now: Duration,
        from: SocketAddr,
        size: usize,
        message: Result<KrpcMessage, KrpcError>,
    ) {
        if Family::of(from.ip()) == self.family && is_usable(from) {
            match message {
                Ok(KrpcMessage { transaction, ip, body: KrpcBody::Response(response) }) => {
                    self.on_response(now, from, &transaction, ip, &response);
                }
                Ok(KrpcMessage { transaction, body: KrpcBody::Error(code, text), .. }) => {
                    self.on_error(from, &transaction, (code, text));
                }
                Ok(message) => self.on_query(now, from, size, message),
                Err(_) => self.stats.invalid_packets += 1,
            }
        }
        self.handle_deadlines(now);
    }

    fn on_query(&mut self, now: Duration, from: SocketAddr, size: usize, message: KrpcMessage) {
        self.stats.queries_received += 1;
        self.stats.has_unsolicited_query |= self.unsolicited.note_query(from.ip());
        if self.is_read_only || !self.server.may_answer(now, from) {
            return;
        }
        let mut is_new = false;
        let body = match message.body {
            KrpcBody::Query { id, .. } if id == self.own.id => return,
            KrpcBody::Query { id, query, is_read_only } => {
                let known = (self.own.id, &self.table);
                let received = ReceivedQuery { from, size, query: &query };
                let body = self.server.answer(now, known, received, &mut self.rng);
                is_new = !is_read_only && self.table.queried(now, Contact { id, addr: from });
                body
            }
            KrpcBody::Invalid { code, why } => KrpcBody::Error(code, why.into()),
            KrpcBody::Response(_) | KrpcBody::Error(..) => return,
        };
        self.stats.queries_answered += 1;
        self.queue(from, &KrpcMessage { transaction: message.transaction, ip: Some(from), body }, true);
        if is_new {
            // Only a response proves that the node exists at this address.
            self.ping(now, from);
        }
    }

    /// The query to which a response belongs: both its transaction id and its sender must match.
    fn matching(&mut self, from: SocketAddr, transaction: &[u8]) -> Option<PendingQuery> {
        let key = <[u8; 4]>::try_from(transaction).ok();
        let key = key.filter(|key| self.pending.get(key).is_some_and(|pending| pending.to == from));
        let pending = key.and_then(|key| self.pending.remove(&key));
        self.stats.invalid_packets += u64::from(pending.is_none());
        pending
    }

    fn on_response(
        &mut self,
        now: Duration,
        from: SocketAddr,
        transaction: &[u8],
        ip: Option<SocketAddr>,
        response: &KrpcResponse,
    ) {
        let Some(pending) = self.matching(from, transaction) else { return };
        self.stats.responses_received += 1;
        if let Some(ours) = ip.filter(|ip| is_usable(*ip) && Family::of(ip.ip()) == self.family) {
            self.vote_external_ip(now, from, ours);
        }
        let contact = Contact { id: response.id, addr: from };
        if response.id != self.own.id
            && !self.bootstrap.routers.contains(&from)
            && let Some(questionable) = self.table.responded(now, contact)
        {
            self.ping(now, questionable.addr);
        }
        match pending.purpose {
            QueryPurpose::Ping => self.bootstrap_soon(now),
            QueryPurpose::Announce => self.stats.announced += 1,
            QueryPurpose::Put(number) => self.on_put_result(number, Ok(())),
            QueryPurpose::Lookup(key) => self.on_lookup_response(key, from, response),
        }
    }

    fn on_lookup_response(&mut self, key: u32, from: SocketAddr, response: &KrpcResponse) {
        let Some((lookup, goal)) = self.lookups.running.get_mut(&key) else { return };
        let peers = lookup.answered(from, response);
        if let (LookupGoal::Item(number), Some(item)) = (*goal, &response.item) {
            self.item_found(number, item);
        } else if let (LookupGoal::Peers(info_hash), false) = (*goal, peers.is_empty()) {
            self.out.push_back(DhtOutput::FoundPeers { info_hash, peers });
        } else if *goal == LookupGoal::Bootstrap {
            let other = |node: &&Contact| Family::of(node.addr.ip()) != self.family && !is_private(node.addr.ip());
            let others: Vec<_> = response.nodes.iter().filter(other).map(|node| node.addr).take(2).collect();
            if !others.is_empty() {
                self.out.push_back(DhtOutput::OtherFamilyNodes(others));
            }
        }
    }

    /// The node responded with an error: the lookup continues without it.
    fn on_error(&mut self, from: SocketAddr, transaction: &[u8], error: (i64, String)) {
        match self.matching(from, transaction).map(|pending| pending.purpose) {
            Some(QueryPurpose::Lookup(key)) => {
                if let Some((lookup, _)) = self.lookups.running.get_mut(&key) {
                    lookup.failed(from);
                }
            }
            Some(QueryPurpose::Put(number)) => self.on_put_result(number, Err(Some(error))),
            Some(QueryPurpose::Ping | QueryPurpose::Announce) | None => {}
        }
    }

    /// Our external address, once enough nodes agree.
    pub fn external_ip(&self) -> Option<std::net::IpAddr> {
        self.own.external_ip()
    }

    /// Records a vote on our external address. A new id needs new neighbours.
    fn vote_external_ip(&mut self, now: Duration, from: SocketAddr, ours: SocketAddr) {
        if self.own.vote(from.ip(), ours.ip(), &mut self.rng) {
            self.table.change_own_id(now, self.own.id);
            self.bootstrap.due = now;
        }
    }

    /// Queues an output that is no packet.
    pub(crate) fn report(&mut self, output: DhtOutput) {
        self.out.push_back(output);
    }

    /// Queues a query; drops it if the queue is full, as the network might.
    pub(crate) fn send(&mut self, to: SocketAddr, message: &KrpcMessage) {
        self.queue(to, message, false);
    }

    fn queue(&mut self, to: SocketAddr, message: &KrpcMessage, is_answer: bool) {
        if self.out.len() < MAX_OUT {
            self.unsolicited.note_sent(to.ip());
            let bytes = self.encode(message);
            self.out.push_back(DhtOutput::Send { to, bytes, is_answer });
        }
    }

    /// The packet, which names this client unless that is to be hidden.
    pub(crate) fn encode(&self, message: &KrpcMessage) -> Vec<u8> {
        if self.is_anonymous { message.encode_anonymously() } else { message.encode() }
    }
}
