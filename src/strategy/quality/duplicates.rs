//! Chooses which connection ends if several lead to the same peer over different addresses.
//!
//! Only the peer id shows that two connections lead to the same peer, and every peer's id is known to all that connect to it and
//! can be copied. So no connection is refused because of its id, and none ends before it had the same chance as the others: it
//! was unchoked for [`TRIAL`] and moved clearly less than another one in that time.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::types::{PeerId, PeerKey};
use crate::util::cold_sort;

/// How long a connection has to be unchoked before it can end.
const TRIAL: Duration = Duration::from_secs(30);
/// After this time unchoked, the slower connection ends even if the difference is small.
const LONG_TRIAL: Duration = Duration::from_secs(120);
/// A connection that is never unchoked in this time has had its chance too.
const PATIENCE: Duration = Duration::from_secs(600);
/// In a trial, another connection must have moved at least this many bytes…
const MIN_BYTES: u64 = 256 << 10;
/// … and this many times as much as the one that ends.
const FACTOR: u64 = 2;
/// What another connection must have moved before one that was never unchoked ends.
const MIN_BYTES_CHOKED: u64 = 4 << 20;

/// A connection with a complete handshake, at the time of a choke round.
#[derive(Clone, Copy, Debug)]
pub struct DuplicateConnection {
    /// The connection.
    pub key: PeerKey,
    /// The peer's id.
    pub id: PeerId,
    /// Whether the user named the peer's address. Such a connection ends only in favour of another one that the user named.
    pub is_from_user: bool,
    /// Whether we want blocks from the peer. Then only the blocks received from it count, otherwise only those sent to it.
    pub is_interesting: bool,
    /// Whether blocks may flow in the direction that counts: the side that has the blocks unchokes the other, which wants them.
    pub is_unchoked: bool,
    /// Payload bytes received from the peer since it connected.
    pub received: u64,
    /// Payload bytes that the peer had acknowledged by the last round.
    pub sent: u64,
}

impl DuplicateConnection {
    /// The bytes moved since the `earlier` round: received and sent.
    fn moved_since(&self, earlier: &DuplicateConnection) -> [u64; 2] {
        [self.received.saturating_sub(earlier.received), self.sent.saturating_sub(earlier.sent)]
    }

    /// The index of the direction that counts.
    fn direction(&self) -> usize {
        usize::from(!self.is_interesting)
    }
}

/// What one connection moved, compared with the others of the same peer id.
#[derive(Clone, Copy, Debug)]
struct DuplicateTrial {
    /// The connection at the last round.
    last: DuplicateConnection,
    /// The bytes that it moved in both directions.
    moved: u64,
    /// While it was unchoked: how long that was, and what it and the fastest other one moved.
    unchoked: Comparison,
    /// The same while it was choked.
    choked: Comparison,
}

#[derive(Clone, Copy, Debug, Default)]
struct Comparison {
    time: Duration,
    own: u64,
    rival: u64,
}

impl Comparison {
    fn add(&mut self, time: Duration, own: u64, rival: u64) {
        self.time += time;
        self.own = self.own.saturating_add(own);
        self.rival = self.rival.saturating_add(rival);
    }
}

impl DuplicateTrial {
    fn new(connection: DuplicateConnection) -> DuplicateTrial {
        DuplicateTrial { last: connection, moved: 0, unchoked: Comparison::default(), choked: Comparison::default() }
    }

    /// Records a round; `rival` bytes are what the fastest other connection moved in each direction since the last one.
    fn note(&mut self, connection: DuplicateConnection, time: Duration, rival: [u64; 2]) {
        let (last, direction) = (self.last, connection.direction());
        let own = connection.moved_since(&last);
        self.last = connection;
        self.moved = self.moved.saturating_add(own[0]).saturating_add(own[1]);
        if direction != last.direction() {
            (self.unchoked, self.choked) = (Comparison::default(), Comparison::default());
        } else if connection.is_unchoked && last.is_unchoked {
            self.unchoked.add(time, own[direction], rival[direction]);
        } else {
            self.choked.add(time, own[direction], rival[direction]);
        }
    }

    /// Whether the connection had its chance and others moved more.
    fn is_lost(&self) -> bool {
        let Comparison { time, own, rival } = self.unchoked;
        let is_clear = time >= TRIAL && rival >= own.saturating_mul(FACTOR);
        let is_slower = time >= LONG_TRIAL && rival >= own;
        let never_unchoked =
            time < TRIAL && self.choked.time >= PATIENCE && self.choked.rival >= MIN_BYTES_CHOKED.max(self.choked.own);
        !self.last.is_from_user && ((rival >= MIN_BYTES && (is_clear || is_slower)) || never_unchoked)
    }
}

/// Compares the connections with the same peer id, round by round.
#[derive(Debug, Default)]
pub struct DuplicateTrials {
    trials: HashMap<PeerKey, DuplicateTrial>,
    last_round: Duration,
}

impl DuplicateTrials {
    /// Records a choke round. Returns the connections to close, each with one that stays.
    ///
    /// Both sides see the same connections, and would lose all of them if they closed different ones. Between two btsync clients,
    /// the one with the greater id decides. Other clients decide by their own rules when a connection is established, or not at
    /// all, so we decide about the connections that are left.
    pub fn round(
        &mut self,
        now: Duration,
        ours: PeerId,
        connections: &[DuplicateConnection],
    ) -> Vec<(PeerKey, PeerKey)> {
        let time = now.saturating_sub(std::mem::replace(&mut self.last_round, now));
        let mut peers: HashMap<PeerId, Vec<DuplicateConnection>> = HashMap::new();
        for connection in connections.iter().filter(|c| ours > c.id || !ours.is_same_client(&c.id)) {
            peers.entry(connection.id).or_default().push(*connection);
        }
        peers.retain(|_, same| same.len() > 1);
        let duplicates: HashSet<PeerKey> = peers.values().flatten().map(|c| c.key).collect();
        self.trials.retain(|key, _| duplicates.contains(key));
        let mut ending: Vec<_> = peers.values().flat_map(|same| self.compare(time, same)).collect();
        cold_sort::sort(&mut ending);
        ending
    }

    /// Records a round of the connections with one peer id. The one that has moved most never ends.
    fn compare(&mut self, time: Duration, same: &[DuplicateConnection]) -> Vec<(PeerKey, PeerKey)> {
        let moved: Vec<[u64; 2]> =
            same.iter().map(|c| self.trials.get(&c.key).map_or([0, 0], |trial| c.moved_since(&trial.last))).collect();
        let fastest = [0, 1].map(|direction| {
            let mut rates: Vec<u64> = moved.iter().map(|bytes| bytes[direction]).collect();
            cold_sort::sort_by(&mut rates, |a, b| b.cmp(a));
            (rates[0], rates[1])
        });
        for (connection, moved) in same.iter().zip(&moved) {
            let rival = [0, 1].map(|direction| {
                let (first, second) = fastest[direction];
                if moved[direction] == first { second } else { first }
            });
            match self.trials.get_mut(&connection.key) {
                Some(trial) => trial.note(*connection, time, rival),
                None => drop(self.trials.insert(connection.key, DuplicateTrial::new(*connection))),
            }
        }
        let trials = || same.iter().filter_map(|c| self.trials.get(&c.key));
        let best = trials().max_by_key(|trial| (trial.moved, std::cmp::Reverse(trial.last.key)));
        let Some(best) = best.map(|trial| trial.last.key) else { return Vec::new() };
        let lost =
            trials().filter(|trial| trial.last.key != best && trial.is_lost()).map(|trial| (trial.last.key, best));
        // No stranger is behind addresses that the user named, so these need no trial.
        let named = || trials().filter(|trial| trial.last.is_from_user);
        let best_named = named().max_by_key(|trial| (trial.moved, std::cmp::Reverse(trial.last.key)));
        let best_named = best_named.filter(|trial| trial.moved > 0).map(|trial| trial.last.key);
        let others = named().filter_map(|trial| Some((trial.last.key, best_named?)));
        lost.chain(others.filter(|(key, stays)| key != stays)).collect()
    }
}

#[cfg(test)]
mod tests;
