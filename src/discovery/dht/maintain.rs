//! The periodic work of a node: continues lookups, times out queries, bootstraps, refreshes buckets, and repeats searches and
//! announces. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::lookup::Lookup;
use crate::discovery::dht::message::{Family, KrpcBody, KrpcMessage, Query, ScrapeOptions, Want, is_usable};
use crate::discovery::dht::node::Dht;
use crate::discovery::dht::running::{LookupGoal, PendingQuery, QueryPurpose};
use crate::discovery::dht::table::{K, QUESTIONABLE_AFTER};
use crate::types::InfoHash;
use crate::util::cold_sort;

/// A query without a response after this time is late: its lookup queries another node in parallel.
const LATE: Duration = Duration::from_secs(2);
/// A query without a response after this time has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most pings to a node added by [`Dht::add_node`].
const MAX_TRIES: u32 = 5;
/// The most pings in flight. Nodes that query us may remain unpinged.
const MAX_PINGS: usize = 32;
/// The most concurrent lookups; further searches wait.
const MAX_LOOKUPS: usize = 8;
/// The delay before bootstrapping again if it found too few nodes; doubles with each attempt.
pub(crate) const MIN_BOOTSTRAP_DELAY: Duration = Duration::from_secs(5);
/// The longest delay between attempts to bootstrap.
const MAX_BOOTSTRAP_DELAY: Duration = Duration::from_secs(5 * 60);
/// The time between two bucket refreshes, to spread them out.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// When to repeat a search that found peers. Nodes drop announces after 30 minutes.
const SEARCH_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// When to repeat a search that found none.
const EMPTY_SEARCH_INTERVAL: Duration = Duration::from_secs(60);
/// When to repeat a search that hardly reached any node.
const FAILED_SEARCH_INTERVAL: Duration = Duration::from_secs(10);

/// The most torrents to be announced once that wait for their turn.
const MAX_ONCE: usize = 64;

/// A torrent to search for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TorrentSearch {
    pub announce_port: Option<u16>,
    pub due: Duration,
    pub is_running: bool,
    /// Whether it is not repeated.
    pub is_once: bool,
    /// Whether announces say that we have all pieces (BEP 33).
    pub is_seed: bool,
}

impl Dht {
    /// Announces a seed once, or only searches for its peers without a port, unless it is searched for repeatedly. Ignored if too
    /// many such announces wait.
    pub fn announce_once(&mut self, now: Duration, info_hash: InfoHash, port: Option<u16>) {
        let waiting = self.searches.values().filter(|search| search.is_once).count();
        if waiting < MAX_ONCE && !self.searches.contains_key(&info_hash) {
            let search =
                TorrentSearch { announce_port: port, due: now, is_running: false, is_once: true, is_seed: true };
            self.searches.insert(info_hash, search);
            self.handle_deadlines(now);
        }
    }

    /// Does all work that is due. Must be called at [`Dht::next_deadline`]; [`Dht::on_packet`], [`Dht::search`] and
    /// [`Dht::add_node`] call it as well.
    pub fn handle_deadlines(&mut self, now: Duration) {
        self.expire_queries(now);
        if now >= self.bootstrap.due && !self.has_lookup(|goal| *goal == LookupGoal::Bootstrap) {
            // Start it even if no node is known: it then ends at once, and the delay begins.
            self.start(LookupGoal::Bootstrap, self.own.id);
        }
        self.refresh(now);
        self.run_item_requests(now);
        self.advance_lookups(now);
        // Searches that end make room for others. The loop terminates, because none is due again at once.
        while self.start_searches(now) {
            self.advance_lookups(now);
        }
    }

    /// When [`Dht::handle_deadlines`] must be called next if no packet arrives; always later than its last call.
    pub fn next_deadline(&self) -> Duration {
        let answers = self.pending.values().map(|p| p.sent + if p.is_late { TIMEOUT } else { LATE });
        let bootstrap = (!self.has_lookup(|goal| *goal == LookupGoal::Bootstrap)).then_some(self.bootstrap.due);
        let refresh = (!self.has_lookup(|goal| *goal == LookupGoal::Refresh))
            .then_some(self.table.next_refresh().max(self.refresh_due));
        let can_search = self.lookups.running.len() < MAX_LOOKUPS && self.has_nodes();
        let searches = self.searches.values().filter(|w| can_search && !w.is_running).map(|w| w.due);
        // While a lookup runs, a query is always pending, so there is always a deadline.
        let items = self.items.next_deadline(self.has_nodes());
        answers.chain(items).chain(bootstrap).chain(refresh).chain(searches).min().unwrap_or(self.bootstrap.due)
    }

    /// Bootstraps sooner after a node was added, if the table is nearly empty.
    pub(crate) fn bootstrap_soon(&mut self, now: Duration) {
        let known = self.table.len();
        if known < K {
            let (bootstrap, search) =
                if known <= 1 { (Duration::ZERO, Duration::ZERO) } else { (LATE, FAILED_SEARCH_INTERVAL) };
            self.bootstrap.pause = MIN_BOOTSTRAP_DELAY;
            self.bootstrap.due = self.bootstrap.due.min(now + bootstrap);
            for torrent_search in self.searches.values_mut() {
                torrent_search.due = torrent_search.due.min(now + search);
            }
        }
        self.handle_deadlines(now);
    }

    fn has_lookup(&self, which: impl Fn(&LookupGoal) -> bool) -> bool {
        self.lookups.running.values().any(|(_, goal)| which(goal))
    }

    pub(crate) fn has_nodes(&self) -> bool {
        self.table.len() > 0 || !self.bootstrap.routers.is_empty() || !self.bootstrap.nodes.is_empty()
    }

    /// Handles late and failed queries.
    fn expire_queries(&mut self, now: Duration) {
        let due = |sent: Duration, after| now >= sent + after;
        let overdue: Vec<_> =
            self.pending.iter().filter(|(_, p)| due(p.sent, LATE)).map(|(key, p)| (*key, *p)).collect();
        for (key, pending) in overdue {
            let lost = due(pending.sent, TIMEOUT);
            if let QueryPurpose::Lookup(of) = pending.purpose
                && let Some((lookup, goal)) = self.lookups.running.get_mut(&of)
            {
                if lost {
                    lookup.failed(pending.to);
                } else if !pending.is_late && lookup.late(pending.to) {
                    let query = lookup_query(self.family, lookup.target(), *goal);
                    self.query(now, pending.to, query, pending.purpose);
                }
            }
            if lost {
                self.pending.remove(&key);
                if let QueryPurpose::Put(number) = pending.purpose {
                    self.on_put_result(number, Err(None));
                }
                let known = self.table.failed(pending.to);
                if pending.purpose == QueryPurpose::Ping && (known || self.should_ping_again(pending.to)) {
                    self.ping(now, pending.to);
                }
            } else if let Some(pending) = self.pending.get_mut(&key) {
                pending.is_late = true;
            }
        }
    }

    /// Whether to ping a node from [`Dht::add_node`] again, so that one lost packet does not keep us out of the network.
    fn should_ping_again(&mut self, addr: SocketAddr) -> bool {
        let Some((_, tries)) = self.bootstrap.nodes.iter_mut().find(|(node, _)| *node == addr) else {
            return false;
        };
        *tries += 1;
        *tries < MAX_TRIES
    }

    pub(crate) fn start(&mut self, goal: LookupGoal, target: NodeId) {
        let seeds = self.table.closest(target, 2 * K);
        let few = seeds.len() < K;
        let others: Vec<_> = self
            .bootstrap
            .routers
            .iter()
            .chain(self.bootstrap.nodes.iter().map(|(addr, _)| addr))
            .filter(|_| few)
            .copied()
            .collect();
        let lookup = Lookup::new(self.own.id, target, self.family, &seeds, &others);
        self.lookups.running.insert(self.lookups.next, (lookup, goal));
        self.lookups.next = self.lookups.next.wrapping_add(1);
    }

    /// Refreshes one bucket, if one is due.
    fn refresh(&mut self, now: Duration) {
        if now < self.refresh_due.max(self.table.next_refresh()) || self.has_lookup(|goal| *goal == LookupGoal::Refresh)
        {
            return;
        }
        self.refresh_due = now + REFRESH_INTERVAL;
        if let Some(target) = self.table.refresh(now, &mut self.rng) {
            self.start(LookupGoal::Refresh, target);
        }
    }

    /// Starts searches that are due, as many as may run; returns whether it started any.
    fn start_searches(&mut self, now: Duration) -> bool {
        if self.searches.is_empty() || !self.has_nodes() {
            return false;
        }
        let mut due: Vec<(Duration, InfoHash)> = self
            .searches
            .iter()
            .filter(|(_, w)| !w.is_running && w.due <= now)
            .map(|(hash, w)| (w.due, *hash))
            .collect();
        cold_sort::sort(&mut due);
        due.truncate(MAX_LOOKUPS.saturating_sub(self.lookups.running.len()));
        for (_, info_hash) in &due {
            if let Some(torrent_search) = self.searches.get_mut(info_hash) {
                torrent_search.is_running = true;
            }
            self.start(LookupGoal::Peers(*info_hash), NodeId::from(*info_hash));
        }
        !due.is_empty()
    }

    /// Lets every lookup send its queries, and finishes those that are done.
    fn advance_lookups(&mut self, now: Duration) {
        let keys: Vec<u32> = self.lookups.running.keys().copied().collect();
        for key in keys {
            let Some((mut lookup, goal)) = self.lookups.running.remove(&key) else { continue };
            while let Some(to) = lookup.next_query() {
                let query = lookup_query(self.family, lookup.target(), goal);
                self.query(now, to, query, QueryPurpose::Lookup(key));
            }
            if lookup.is_done() {
                self.finish(now, &lookup, goal);
            } else {
                self.lookups.running.insert(key, (lookup, goal));
            }
        }
    }

    fn finish(&mut self, now: Duration, lookup: &Lookup, goal: LookupGoal) {
        let summary = lookup.summary();
        match goal {
            LookupGoal::Refresh => self.refresh_due = now + REFRESH_INTERVAL,
            LookupGoal::Item(number) => self.finish_item_lookup(now, number, lookup),
            LookupGoal::Bootstrap => {
                let enough = self.table.count(now).1 >= K;
                self.bootstrap.due = now + if enough { QUESTIONABLE_AFTER } else { self.bootstrap.pause };
                self.bootstrap.pause =
                    if enough { MIN_BOOTSTRAP_DELAY } else { (self.bootstrap.pause * 2).min(MAX_BOOTSTRAP_DELAY) };
            }
            LookupGoal::Peers(info_hash) => {
                self.stats.searches += 1;
                self.stats.last_search = summary;
                let Some(torrent_search) = self.searches.get_mut(&info_hash) else { return };
                torrent_search.is_running = false;
                // One of the peers may be ourselves.
                let others = summary.peers > usize::from(torrent_search.announce_port.is_some());
                torrent_search.due = now
                    + match (summary.answers, others) {
                        (_, true) => SEARCH_INTERVAL,
                        (0..K, false) => FAILED_SEARCH_INTERVAL,
                        (_, false) => EMPTY_SEARCH_INTERVAL,
                    };
                let TorrentSearch { announce_port, is_once, is_seed, .. } = *torrent_search;
                if is_once {
                    self.searches.remove(&info_hash);
                }
                let Some(port) = announce_port else { return };
                let is_port_implied = self.is_port_implied;
                for (to, token) in lookup.announce_targets() {
                    let query = Query::AnnouncePeer { info_hash, port, is_port_implied, is_seed, token };
                    self.query(now, to, query, QueryPurpose::Announce);
                }
            }
        }
    }

    /// Pings a node, unless a ping to it is pending.
    pub(crate) fn ping(&mut self, now: Duration, addr: SocketAddr) {
        let mut pings = self.pending.values().filter(|p| p.purpose == QueryPurpose::Ping);
        let full = pings.clone().count() >= MAX_PINGS;
        if !full && is_usable(addr) && Family::of(addr.ip()) == self.family && pings.all(|p| p.to != addr) {
            self.query(now, addr, Query::Ping, QueryPurpose::Ping);
        }
    }

    /// Sends a query and records its purpose.
    pub(crate) fn query(&mut self, now: Duration, to: SocketAddr, query: Query, purpose: QueryPurpose) {
        let key = self.transaction();
        self.pending.insert(key, PendingQuery { to, sent: now, purpose, is_late: false });
        self.stats.queries_sent += 1;
        let body = KrpcBody::Query { id: self.own.id, query, is_read_only: self.is_read_only };
        self.send(to, &KrpcMessage { transaction: key.to_vec(), ip: None, body });
    }

    /// A ping with this transaction id for a node whose address is not known. The caller has to recognize the response.
    pub(crate) fn ping_packet(&mut self, transaction: [u8; 4]) -> Vec<u8> {
        self.stats.queries_sent += 1;
        let body = KrpcBody::Query { id: self.own.id, query: Query::Ping, is_read_only: self.is_read_only };
        self.encode(&KrpcMessage { transaction: transaction.to_vec(), ip: None, body })
    }

    /// An unpredictable transaction id that no pending query uses.
    fn transaction(&mut self) -> [u8; 4] {
        loop {
            self.transactions += 1;
            let hash = Sha1::new().chain_update(self.secret).chain_update(b"transaction");
            let hash: [u8; 20] = hash.chain_update(self.transactions.to_be_bytes()).finalize().into();
            let key = std::array::from_fn(|at| hash[at]);
            if !self.pending.contains_key(&key) {
                return key;
            }
        }
    }
}

/// The query that a lookup sends to every node.
fn lookup_query(family: Family, target: NodeId, goal: LookupGoal) -> Query {
    match goal {
        LookupGoal::Item(_) => Query::Get { target, seq: None, want: Want::default() },
        LookupGoal::Peers(info_hash) => {
            Query::GetPeers { info_hash, want: Want::default(), scrape: ScrapeOptions::default() }
        }
        // Nodes of both families help the other network to bootstrap (BEP 32).
        LookupGoal::Bootstrap => Query::FindNode { target, want: Want { wants_v4: true, wants_v6: true } },
        LookupGoal::Refresh => {
            let want = match family {
                Family::V4 => Want { wants_v4: true, wants_v6: false },
                Family::V6 => Want { wants_v4: false, wants_v6: true },
            };
            Query::FindNode { target, want }
        }
    }
}
