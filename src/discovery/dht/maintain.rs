//! What a node does of itself as time passes: ask on, give up on the silent, look for neighbours, refresh buckets, repeat
//! searches and announces. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::lookup::Lookup;
use crate::discovery::dht::message::{Body, Family, KrpcMessage, Query, Want, is_usable};
use crate::discovery::dht::node::{Dht, LookupGoal, Pending, Purpose};
use crate::discovery::dht::table::{K, QUESTIONABLE_AFTER};
use crate::types::InfoHash;

/// A query without an answer for so long is late: the search asks another beside it.
const LATE: Duration = Duration::from_secs(2);
/// After so long it will not be answered any more.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pings for a node that was named to us.
const MAX_TRIES: u32 = 5;
/// Pings under way at most; of those who ask us some may go unpinged.
const MAX_PINGS: usize = 32;
/// Lookups at once; further searches wait.
const MAX_LOOKUPS: usize = 8;
/// Where nobody is found, we try again after this pause, the next time after twice as long.
pub(crate) const MIN_BOOTSTRAP_DELAY: Duration = Duration::from_secs(5);
/// The longest of these pauses.
const MAX_BOOTSTRAP_DELAY: Duration = Duration::from_secs(5 * 60);
/// Between two refreshed buckets, so that they do not come all at once.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// A search that found peers is repeated after this time; announces are forgotten after 30 minutes.
const SEARCH_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// One that found none.
const EMPTY_SEARCH_INTERVAL: Duration = Duration::from_secs(60);
/// One that hardly met anybody.
const FAILED_SEARCH_INTERVAL: Duration = Duration::from_secs(10);

impl Dht {
    /// Does what is due. To be called when [`Dht::next_deadline`] has come; every other call does it, too.
    pub fn on_tick(&mut self, now: Duration) {
        self.expire_queries(now);
        if now >= self.bootstrap_due && !self.has_lookup(|goal| *goal == LookupGoal::Bootstrap) {
            // Also where nobody is known to ask: then it ends at once, and the pause begins.
            self.start(LookupGoal::Bootstrap, self.id);
        }
        self.refresh(now);
        self.advance_lookups(now);
        // Those that end make room for others; none begins twice at one time.
        while self.start_searches(now) {
            self.advance_lookups(now);
        }
    }

    /// When [`Dht::on_tick`] has something to do, where no packet comes before; always later than its last call.
    pub fn next_deadline(&self) -> Duration {
        let answers = self.pending.values().map(|p| p.sent + if p.late { TIMEOUT } else { LATE });
        let bootstrap = (!self.has_lookup(|goal| *goal == LookupGoal::Bootstrap)).then_some(self.bootstrap_due);
        let refresh = (!self.has_lookup(|goal| *goal == LookupGoal::Refresh))
            .then_some(self.table.next_refresh().max(self.refresh_due));
        let can_search = self.lookups.len() < MAX_LOOKUPS && self.has_nodes();
        let searches = self.wanted.values().filter(|w| can_search && !w.running).map(|w| w.due);
        // Something is always pending while a lookup runs, so that there is always a deadline.
        answers.chain(bootstrap).chain(refresh).chain(searches).min().unwrap_or(self.bootstrap_due)
    }

    /// Somebody new to ask came in: where we know hardly anybody, that cannot wait.
    pub(crate) fn bootstrap_soon(&mut self, now: Duration) {
        let known = self.table.len();
        if known < K {
            let (bootstrap, search) =
                if known <= 1 { (Duration::ZERO, Duration::ZERO) } else { (LATE, FAILED_SEARCH_INTERVAL) };
            self.bootstrap_pause = MIN_BOOTSTRAP_DELAY;
            self.bootstrap_due = self.bootstrap_due.min(now + bootstrap);
            for wanted in self.wanted.values_mut() {
                wanted.due = wanted.due.min(now + search);
            }
        }
        self.on_tick(now);
    }

    fn has_lookup(&self, which: impl Fn(&LookupGoal) -> bool) -> bool {
        self.lookups.values().any(|(_, goal)| which(goal))
    }

    fn has_nodes(&self) -> bool {
        self.table.len() > 0 || !self.routers.is_empty() || !self.bootstrap_nodes.is_empty()
    }

    /// Late and lost queries.
    fn expire_queries(&mut self, now: Duration) {
        let due = |sent: Duration, after| now >= sent + after;
        let overdue: Vec<_> =
            self.pending.iter().filter(|(_, p)| due(p.sent, LATE)).map(|(key, p)| (*key, *p)).collect();
        for (key, pending) in overdue {
            let lost = due(pending.sent, TIMEOUT);
            if let Purpose::Lookup(of) = pending.purpose
                && let Some((lookup, goal)) = self.lookups.get_mut(&of)
            {
                if lost {
                    lookup.failed(pending.to);
                } else if !pending.late && lookup.late(pending.to) {
                    let query = lookup_query(self.family, lookup.target(), *goal);
                    self.query(now, pending.to, query, pending.purpose);
                }
            }
            if lost {
                self.pending.remove(&key);
                let known = self.table.failed(pending.to);
                if pending.purpose == Purpose::Ping && (known || self.should_ping_again(pending.to)) {
                    self.ping(now, pending.to);
                }
            } else if let Some(pending) = self.pending.get_mut(&key) {
                pending.late = true;
            }
        }
    }

    /// Of a node that was named to us a lost packet shall not cut us off.
    fn should_ping_again(&mut self, addr: SocketAddr) -> bool {
        let Some((_, tries)) = self.bootstrap_nodes.iter_mut().find(|(guide, _)| *guide == addr) else { return false };
        *tries += 1;
        *tries < MAX_TRIES
    }

    fn start(&mut self, goal: LookupGoal, target: NodeId) {
        let seeds = self.table.closest(target, 2 * K);
        let few = seeds.len() < K;
        let others: Vec<_> = self
            .routers
            .iter()
            .chain(self.bootstrap_nodes.iter().map(|(addr, _)| addr))
            .filter(|_| few)
            .copied()
            .collect();
        let lookup = Lookup::new(self.id, target, self.family, &seeds, &others);
        self.lookups.insert(self.next_lookup, (lookup, goal));
        self.next_lookup = self.next_lookup.wrapping_add(1);
    }

    /// One bucket at a time.
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

    /// Begins searches that are due, as many as may run; true where it began any.
    fn start_searches(&mut self, now: Duration) -> bool {
        if self.wanted.is_empty() || !self.has_nodes() {
            return false;
        }
        let mut due: Vec<(Duration, InfoHash)> =
            self.wanted.iter().filter(|(_, w)| !w.running && w.due <= now).map(|(hash, w)| (w.due, *hash)).collect();
        due.sort_unstable();
        due.truncate(MAX_LOOKUPS.saturating_sub(self.lookups.len()));
        for (_, info_hash) in &due {
            if let Some(wanted) = self.wanted.get_mut(info_hash) {
                wanted.running = true;
            }
            self.start(LookupGoal::Peers(*info_hash), NodeId::from(*info_hash));
        }
        !due.is_empty()
    }

    /// Lets every lookup ask whom it wants to ask, and ends those that have come to their end.
    fn advance_lookups(&mut self, now: Duration) {
        let keys: Vec<u32> = self.lookups.keys().copied().collect();
        for key in keys {
            let Some((mut lookup, goal)) = self.lookups.remove(&key) else { continue };
            while let Some(to) = lookup.next_query() {
                let query = lookup_query(self.family, lookup.target(), goal);
                self.query(now, to, query, Purpose::Lookup(key));
            }
            if lookup.is_done() {
                self.finish(now, &lookup, goal);
            } else {
                self.lookups.insert(key, (lookup, goal));
            }
        }
    }

    fn finish(&mut self, now: Duration, lookup: &Lookup, goal: LookupGoal) {
        let summary = lookup.summary();
        match goal {
            LookupGoal::Refresh => self.refresh_due = now + REFRESH_INTERVAL,
            LookupGoal::Bootstrap => {
                let enough = self.table.count(now).1 >= K;
                self.bootstrap_due = now + if enough { QUESTIONABLE_AFTER } else { self.bootstrap_pause };
                self.bootstrap_pause =
                    if enough { MIN_BOOTSTRAP_DELAY } else { (self.bootstrap_pause * 2).min(MAX_BOOTSTRAP_DELAY) };
            }
            LookupGoal::Peers(info_hash) => {
                self.stats.searches += 1;
                self.stats.last_search = summary;
                let Some(wanted) = self.wanted.get_mut(&info_hash) else { return };
                wanted.running = false;
                // One of the peers may be ourselves.
                let others = summary.peers > usize::from(wanted.announce_port.is_some());
                wanted.due = now
                    + match (summary.answers, others) {
                        (_, true) => SEARCH_INTERVAL,
                        (0..K, false) => FAILED_SEARCH_INTERVAL,
                        (_, false) => EMPTY_SEARCH_INTERVAL,
                    };
                let Some(port) = wanted.announce_port else { return };
                for (to, token) in lookup.announce_targets() {
                    self.query(now, to, Query::AnnouncePeer { info_hash, port: Some(port), token }, Purpose::Announce);
                }
            }
        }
    }

    /// Asks whether somebody is there, unless that is being asked already.
    pub(crate) fn ping(&mut self, now: Duration, addr: SocketAddr) {
        let mut pings = self.pending.values().filter(|p| p.purpose == Purpose::Ping);
        let full = pings.clone().count() >= MAX_PINGS;
        if !full && is_usable(addr) && Family::of(addr.ip()) == self.family && pings.all(|p| p.to != addr) {
            self.query(now, addr, Query::Ping, Purpose::Ping);
        }
    }

    /// Sends a query and remembers what for.
    fn query(&mut self, now: Duration, to: SocketAddr, query: Query, purpose: Purpose) {
        let key = self.transaction();
        self.pending.insert(key, Pending { to, sent: now, purpose, late: false });
        self.stats.queries += 1;
        let body = Body::Query { id: self.id, query, read_only: self.read_only };
        self.send(to, &KrpcMessage { transaction: key.to_vec(), ip: None, body });
    }

    /// A transaction id that nobody can guess, and that no other query waits under.
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

/// What a lookup asks everybody.
fn lookup_query(family: Family, target: NodeId, goal: LookupGoal) -> Query {
    match goal {
        LookupGoal::Peers(info_hash) => Query::GetPeers { info_hash, want: Want::default() },
        // Nodes of both families help the other network on its way (BEP 32).
        LookupGoal::Bootstrap => Query::FindNode { target, want: Want { v4: true, v6: true } },
        LookupGoal::Refresh => {
            let want = match family {
                Family::V4 => Want { v4: true, v6: false },
                Family::V6 => Want { v4: false, v6: true },
            };
            Query::FindNode { target, want }
        }
    }
}
