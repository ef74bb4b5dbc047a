//! One node of the DHT, of one family (BEP 5, 32, 42, 43): takes packets and time, gives packets and peers. Pure.
//! This file is what others see of it, and packets coming in; `maintain` is what it does of itself.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::discovery::dht::external::ExternalIp;
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::lookup::{Lookup, LookupSummary};
use crate::discovery::dht::message::{Body, Contact, Family, KrpcMessage, Response, is_usable};
use crate::discovery::dht::server::QueryServer;
use crate::discovery::dht::state::DhtState;
use crate::discovery::dht::table::{K, RoutingTable};
use crate::net::networks::is_private;
use crate::types::InfoHash;

/// Routers, and guides, remembered at most.
const MAX_ROUTERS: usize = 32;
/// Packets that wait to be sent, at most.
const MAX_OUT: usize = 2000;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its network.
    pub family: Family,
    /// Whether it only asks (BEP 43): it cannot be reached from outside.
    pub read_only: bool,
    /// What nobody else knows, for tokens and transaction ids.
    pub secret: [u8; 16],
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this packet.
    Send {
        /// Where to.
        to: SocketAddr,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Peers were found that this search had not found before.
    FoundPeers {
        /// The torrent.
        info_hash: InfoHash,
        /// Addresses of peers, unproven.
        peers: Vec<SocketAddr>,
    },
    /// Nodes of the other family that somebody named while we looked for our first.
    OtherFamilyNodes(Vec<SocketAddr>),
}

/// What a node has done so far, and how it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtStats {
    /// Nodes in the table.
    pub nodes: usize,
    /// Of these, those that are good.
    pub good: usize,
    /// Queries that we sent.
    pub queries: u64,
    /// Answers that we got.
    pub answers: u64,
    /// Questions that we got.
    pub asked: u64,
    /// Questions that we answered.
    pub answered: u64,
    /// Packets that were garbage, or answers to nothing.
    pub garbage: u64,
    /// Peers that others announced to us.
    pub stored: usize,
    /// Announces of ours that were accepted.
    pub announced: u64,
    /// Searches for peers that came to an end.
    pub searches: u64,
    /// What the last of them came to.
    pub last_search: LookupSummary,
    /// Our address as others see it, once enough agree.
    pub external_ip: Option<std::net::IpAddr>,
}

/// What a query was sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Ping,
    Lookup(u32),
    Announce,
}

/// A query that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub to: SocketAddr,
    pub sent: Duration,
    pub purpose: Purpose,
    pub late: bool,
}

/// What a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupGoal {
    /// To get to know our own neighbours.
    Bootstrap,
    /// To fill a bucket again.
    Refresh,
    /// Peers.
    Peers(InfoHash),
}

/// A torrent whose peers are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TorrentSearch {
    pub announce_port: Option<u16>,
    pub due: Duration,
    pub running: bool,
}

/// A node.
#[derive(Debug)]
pub struct Dht {
    pub(crate) family: Family,
    pub(crate) read_only: bool,
    pub(crate) id: NodeId,
    /// Ids by external address, as in [`DhtState::ids`].
    ids: Vec<(std::net::IpAddr, NodeId)>,
    pub(crate) secret: [u8; 16],
    /// What transaction ids are made from, each of another number.
    pub(crate) transactions: u64,
    pub(crate) table: RoutingTable,
    server: QueryServer,
    external: ExternalIp,
    // In order, so that a node does the same again where it is given the same again.
    pub(crate) pending: BTreeMap<[u8; 4], Pending>,
    pub(crate) lookups: BTreeMap<u32, (Lookup, LookupGoal)>,
    pub(crate) next_lookup: u32,
    pub(crate) wanted: BTreeMap<InfoHash, TorrentSearch>,
    pub(crate) routers: Vec<SocketAddr>,
    /// Nodes named to us while we knew hardly anybody, to be asked again should that be so again; and how many pings each
    /// has left unanswered.
    pub(crate) bootstrap_nodes: Vec<(SocketAddr, u32)>,
    /// When to look for our neighbours next, and after which pause once more where that fails.
    pub(crate) bootstrap_due: Duration,
    pub(crate) bootstrap_pause: Duration,
    pub(crate) refresh_due: Duration,
    out: VecDeque<Output>,
    pub(crate) rng: fastrand::Rng,
    pub(crate) stats: DhtStats,
}

impl Dht {
    /// A node that remembers `state`, of which only its own family's part counts.
    pub fn new(settings: &NodeSettings, state: &DhtState, mut rng: fastrand::Rng) -> Dht {
        let family = settings.family;
        let ids: Vec<_> = state.ids.iter().copied().filter(|(ip, _)| Family::of(*ip) == family).collect();
        let id = ids.last().map_or_else(|| NodeId::random(&mut rng), |(_, id)| *id);
        let mut table = RoutingTable::new(id);
        for node in state.nodes.iter().filter(|node| Family::of(node.addr.ip()) == family && is_usable(node.addr)) {
            table.remember(*node);
        }
        Dht {
            family,
            read_only: settings.read_only,
            id,
            ids,
            secret: settings.secret,
            transactions: 0,
            table,
            server: QueryServer::new(family, settings.secret),
            external: ExternalIp::default(),
            pending: BTreeMap::new(),
            lookups: BTreeMap::new(),
            next_lookup: 0,
            wanted: BTreeMap::new(),
            routers: Vec::new(),
            bootstrap_nodes: Vec::new(),
            bootstrap_due: Duration::ZERO,
            bootstrap_pause: crate::discovery::dht::maintain::MIN_BOOTSTRAP_DELAY,
            refresh_due: Duration::ZERO,
            out: VecDeque::new(),
            rng,
            stats: DhtStats::default(),
        }
    }

    /// Our id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Looks for peers of a torrent from now on, again and again, and announces ours where a TCP port is given. Never to be
    /// called for a private torrent (BEP 27).
    pub fn search(&mut self, now: Duration, info_hash: InfoHash, announce_port: Option<u16>) {
        let running = self.wanted.get(&info_hash).is_some_and(|wanted| wanted.running);
        self.wanted.insert(info_hash, TorrentSearch { announce_port, due: now, running });
        self.on_tick(now);
    }

    /// Ends what [`Dht::search`] began.
    pub fn forget(&mut self, info_hash: InfoHash) {
        self.wanted.remove(&info_hash);
        self.lookups.retain(|_, (_, goal)| *goal != LookupGoal::Peers(info_hash));
    }

    /// Gets to know a node: that of a peer (BEP 5, PORT), of a torrent's `nodes`, of the user.
    pub fn add_node(&mut self, now: Duration, addr: SocketAddr) {
        if !is_usable(addr) || Family::of(addr.ip()) != self.family {
            return;
        }
        if self.table.len() < K
            && self.bootstrap_nodes.iter().all(|(guide, _)| *guide != addr)
            && self.bootstrap_nodes.len() < MAX_ROUTERS
        {
            self.bootstrap_nodes.push((addr, 0));
        }
        self.ping(now, addr);
        self.bootstrap_soon(now);
    }

    /// A node that knows the way, to be asked while we know hardly anybody; never enters the table.
    pub fn add_router(&mut self, now: Duration, addr: SocketAddr) {
        let known = self.routers.contains(&addr);
        if is_usable(addr) && Family::of(addr.ip()) == self.family && !known && self.routers.len() < MAX_ROUTERS {
            self.routers.push(addr);
            self.bootstrap_soon(now);
        }
    }

    /// Whether it answers questions; not, where nobody can reach us (BEP 43).
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// What is to be done, oldest first.
    pub fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// How it stands.
    pub fn stats(&self, now: Duration) -> DhtStats {
        let (nodes, good) = self.table.count(now);
        DhtStats { nodes, good, stored: self.server.stored(), external_ip: self.external.agreed(), ..self.stats }
    }

    /// What to keep for the next run.
    pub fn state(&self, now: Duration) -> DhtState {
        let mut ids = self.ids.clone();
        if ids.last().is_none_or(|(_, id)| *id != self.id) {
            let unknown = match self.family {
                Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            ids.push((self.external.agreed().unwrap_or(unknown), self.id));
        }
        DhtState { ids, nodes: self.table.nodes_to_save(now) }
    }

    /// Takes a packet that came from `from`.
    pub fn on_packet(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        if Family::of(from.ip()) == self.family && is_usable(from) {
            match KrpcMessage::decode(bytes) {
                Ok(KrpcMessage { transaction, ip, body: Body::Response(response) }) => {
                    self.on_answer(now, from, &transaction, ip, &response);
                }
                Ok(KrpcMessage { transaction, body: Body::Error(..), .. }) => self.on_refusal(from, &transaction),
                Ok(message) => self.on_question(now, from, bytes.len(), message),
                Err(_) => self.stats.garbage += 1,
            }
        }
        self.on_tick(now);
    }

    fn on_question(&mut self, now: Duration, from: SocketAddr, size: usize, message: KrpcMessage) {
        self.stats.asked += 1;
        if self.read_only || !self.server.may_answer(now, from) {
            return;
        }
        let mut stranger = false;
        let body = match message.body {
            Body::Query { id, .. } if id == self.id => return,
            Body::Query { id, query, read_only } => {
                let known = (self.id, &self.table);
                let body = self.server.answer(now, known, (from, size), &query, &mut self.rng);
                stranger = !read_only && self.table.queried(now, Contact { id, addr: from });
                body
            }
            Body::Invalid { code, why } => Body::Error(code, why.into()),
            Body::Response(_) | Body::Error(..) => return,
        };
        self.stats.answered += 1;
        self.send(from, &KrpcMessage { transaction: message.transaction, ip: Some(from), body });
        if stranger {
            // Only an answer proves that it is there and has this address.
            self.ping(now, from);
        }
    }

    /// The query that an answer belongs to: its transaction id and its sender must both be right.
    fn matching(&mut self, from: SocketAddr, transaction: &[u8]) -> Option<Pending> {
        let key = <[u8; 4]>::try_from(transaction).ok();
        let key = key.filter(|key| self.pending.get(key).is_some_and(|pending| pending.to == from));
        let pending = key.and_then(|key| self.pending.remove(&key));
        self.stats.garbage += u64::from(pending.is_none());
        pending
    }

    fn on_answer(
        &mut self,
        now: Duration,
        from: SocketAddr,
        transaction: &[u8],
        ip: Option<SocketAddr>,
        response: &Response,
    ) {
        let Some(pending) = self.matching(from, transaction) else { return };
        self.stats.answers += 1;
        if let Some(ours) = ip.filter(|ip| is_usable(*ip) && Family::of(ip.ip()) == self.family) {
            self.vote_external_ip(now, from, ours);
        }
        let contact = Contact { id: response.id, addr: from };
        if response.id != self.id
            && !self.routers.contains(&from)
            && let Some(questionable) = self.table.responded(now, contact)
        {
            self.ping(now, questionable.addr);
        }
        match pending.purpose {
            Purpose::Ping => self.bootstrap_soon(now),
            Purpose::Announce => self.stats.announced += 1,
            Purpose::Lookup(key) => self.on_found(key, from, response),
        }
    }

    fn on_found(&mut self, key: u32, from: SocketAddr, response: &Response) {
        let Some((lookup, goal)) = self.lookups.get_mut(&key) else { return };
        let peers = lookup.answered(from, response);
        if let (LookupGoal::Peers(info_hash), false) = (*goal, peers.is_empty()) {
            self.out.push_back(Output::FoundPeers { info_hash, peers });
        } else if *goal == LookupGoal::Bootstrap {
            let other = |node: &&Contact| Family::of(node.addr.ip()) != self.family && !is_private(node.addr.ip());
            let others: Vec<_> = response.nodes.iter().filter(other).map(|node| node.addr).take(2).collect();
            if !others.is_empty() {
                self.out.push_back(Output::OtherFamilyNodes(others));
            }
        }
    }

    /// It is there, but does not want to: the search goes on without it.
    fn on_refusal(&mut self, from: SocketAddr, transaction: &[u8]) {
        if let Some(Pending { purpose: Purpose::Lookup(key), .. }) = self.matching(from, transaction)
            && let Some((lookup, _)) = self.lookups.get_mut(&key)
        {
            lookup.failed(from);
        }
    }

    /// Counts a vote on our address; once enough agree, we take an id that belongs to it.
    fn vote_external_ip(&mut self, now: Duration, from: SocketAddr, ours: SocketAddr) {
        let Some(ip) = self.external.vote(from.ip(), ours.ip()) else { return };
        if !self.id.fits(ip) {
            let had = self.ids.iter().rev().find(|(at, id)| *at == ip && id.fits(ip)).map(|(_, id)| *id);
            self.id = had.unwrap_or_else(|| NodeId::for_ip(ip, &mut self.rng));
            self.table.change_own_id(now, self.id);
            self.bootstrap_due = now;
        }
        self.ids.retain(|(at, id)| *at != ip && *id != self.id);
        self.ids.push((ip, self.id));
    }

    /// Puts a packet into the queue; a full one loses it, as the network might.
    pub(crate) fn send(&mut self, to: SocketAddr, message: &KrpcMessage) {
        if self.out.len() < MAX_OUT {
            self.out.push_back(Output::Send { to, bytes: message.encode() });
        }
    }
}
