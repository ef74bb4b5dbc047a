//! How good a peer is: the history of an address, and which connection to drop when there are too many. The torrent's peer list
//! keeps a [`PeerRecord`] per address. Main asks [`Turnover`] when all connections are in use and another address
//! could be dialed.
//!
//! Among addresses without history, BEP 40's [`canonical`] priority decides, so that the swarm's graph is well mixed and nobody
//! can dominate it from one network.

pub mod canonical;
pub mod duplicates;
pub mod id_conflicts;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use crate::types::PeerKey;
pub use canonical::canonical_priority;

/// The pause after the first failed connection attempt. It doubles with each further failure.
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The same for a peer that we need: it has delivered data, or we have no other peer. For this many attempts the pause does not
/// grow, because a peer that has just started is ready within seconds.
pub const FIRST_EAGER_PAUSE: Duration = Duration::from_secs(2);
const EAGER_DIALS: u32 = 3;
/// How long a peer that violated the protocol is left alone. The time doubles with each further violation, up to [`MAX_BAN`].
pub const FIRST_VIOLATION_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause between two attempts.
pub const MAX_PAUSE: Duration = Duration::from_secs(1800);
/// The length of the first ban; each further one lasts twice as long.
pub const FIRST_BAN: Duration = Duration::from_secs(3600);
/// The longest ban.
pub const MAX_BAN: Duration = Duration::from_secs(24 * 3600);

/// The history of one address.
#[derive(Clone, Debug, Default)]
pub struct PeerRecord {
    /// How long the pause before the next attempt is: 1 after a useful connection, one more with each further attempt that was
    /// not useful.
    pause_step: u32,
    /// Requests that were not answered in time.
    timeouts: u32,
    /// Failed pieces that contained blocks of this peer.
    hash_failures: u32,
    /// Payload bytes that the peer delivered.
    delivered_bytes: u64,
    /// The highest rate at which it delivered, in bytes per second.
    best_rate: u64,
    last_seen: Option<Duration>,
    /// When the last connection ended or failed, and the random factor of the pause after it.
    disconnected: Option<(Duration, f64)>,
    /// When the first connection or attempt ended since the last successful handshake.
    unreached_since: Option<Duration>,
    /// Whether we closed the last connection to make room.
    was_dropped: bool,
    violations: u32,
    avoided_until: Option<Duration>,
    bans: u32,
    banned_until: Option<Duration>,
}

/// The order of dialing; the smallest is the best. Only for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DialRank {
    pause_step: u32,
    trouble: u32,
    best_rate: Reverse<u32>,
    priority: Reverse<u64>,
}

impl PeerRecord {
    /// Records a successful handshake.
    pub fn reached(&mut self, now: Duration) {
        self.unreached_since = None;
        self.last_seen = Some(now);
    }

    /// Records that a connection failed or ended (`has_worked`: it was useful), after which a pause begins. A peer that accepts and
    /// closes at once counts as failed.
    pub fn disconnected(&mut self, now: Duration, has_worked: bool, rng: &mut fastrand::Rng) {
        self.pause_step = if has_worked { 1 } else { self.pause_step.saturating_add(1) };
        self.unreached_since.get_or_insert(now);
        self.disconnected = Some((now, 0.75 + 0.5 * rng.f64()));
        self.was_dropped = false;
    }

    /// Records that we closed the connection to make room for another peer. The peer is then not redialed early for having
    /// delivered data.
    pub fn dropped(&mut self) {
        self.was_dropped = true;
    }

    /// Records a protocol violation. The peer is left alone for a time that doubles with each violation.
    pub fn note_violation(&mut self, now: Duration) {
        let time = FIRST_VIOLATION_PAUSE.saturating_mul(1 << self.violations.min(16)).min(MAX_BAN);
        self.violations = self.violations.saturating_add(1);
        self.avoided_until = Some(now + time);
    }

    /// Records a sign of life by another channel. It ends the pause, unless several attempts in a row have failed.
    pub fn note_sign_of_life(&mut self) {
        if self.pause_step <= 1 {
            self.disconnected = None;
        }
    }

    /// 0 before the first attempt, 1 after a useful connection, one more with each further attempt that was not useful.
    pub fn pause_step(&self) -> u32 {
        self.pause_step
    }

    /// How long ago the first connection or attempt ended since the last successful handshake.
    pub fn unreached_for(&self, now: Duration) -> Duration {
        self.unreached_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// When the address may be dialed again; earlier if it is `is_needed` or has delivered data before.
    pub fn dialable_from(&self, is_needed: bool) -> Duration {
        let eager = is_needed || (self.delivered_bytes > 0 && !self.was_dropped);
        let (first, same) = if eager { (FIRST_EAGER_PAUSE, EAGER_DIALS) } else { (FIRST_PAUSE, 1) };
        let pause = first.saturating_mul(1 << self.pause_step.saturating_sub(same).min(16)).min(MAX_PAUSE);
        let paused_until = self.disconnected.map_or(Duration::ZERO, |(at, factor)| at + pause.mul_f64(factor));
        paused_until.max(self.avoided_until.unwrap_or_default()).max(self.banned_until.unwrap_or_default())
    }

    /// When the last handshake succeeded or the peer last delivered data.
    pub fn last_seen(&self) -> Option<Duration> {
        self.last_seen
    }

    /// Records `bytes` delivered, recently at `rate` bytes per second.
    pub fn record_delivered(&mut self, now: Duration, bytes: u64, rate: u64) {
        if bytes > 0 {
            self.delivered_bytes = self.delivered_bytes.saturating_add(bytes);
            self.best_rate = self.best_rate.max(rate);
            self.last_seen = Some(now);
        }
    }

    /// Records that this many requests were not answered in time.
    pub fn timed_out(&mut self, requests: u32) {
        self.timeouts = self.timeouts.saturating_add(requests);
    }

    /// Records that a piece with blocks of this peer failed verification. Whether the peer is to blame is unknown.
    pub fn hash_failed(&mut self) {
        self.hash_failures = self.hash_failures.saturating_add(1);
    }

    /// Bans the peer for a time that doubles with each ban.
    pub fn ban(&mut self, now: Duration) {
        let time = FIRST_BAN.saturating_mul(1 << self.bans.min(16)).min(MAX_BAN);
        self.bans = self.bans.saturating_add(1);
        self.banned_until = Some(now + time);
    }

    /// Whether the peer is banned now.
    pub fn is_banned(&self, now: Duration) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }

    /// When the ban ends or ended; `None` if there never was one.
    pub fn banned_until(&self) -> Option<Duration> {
        self.banned_until
    }

    /// The peer's rank: peers that can be reached, cause no trouble and delivered much come first, then those with a higher
    /// `priority`, which combines the source and BEP 40.
    pub fn rank(&self, priority: u64) -> DialRank {
        DialRank {
            pause_step: self.pause_step.saturating_sub(u32::from(self.delivered_bytes > 0)),
            // Only orders of magnitude count, so that small differences leave the order to the priority. Timeouts are weighed
            // against the data delivered.
            trouble: magnitude(u64::from(self.hash_failures) * 8)
                + magnitude(u64::from(self.timeouts) / (1 + (self.delivered_bytes >> 20))),
            best_rate: Reverse(magnitude(self.best_rate / 1024)),
            priority: Reverse(priority),
        }
    }
}

/// 0 for 0, 1 for 1, 2 for 2 and 3, 3 for 4 to 7…
fn magnitude(n: u64) -> u32 {
    u64::BITS - n.leading_zeros()
}

/// A connected peer, as [`Turnover`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnoverCandidate {
    /// The peer.
    pub key: PeerKey,
    /// When it connected.
    pub since: Duration,
    /// Whether it has a piece that we want.
    pub is_interesting: bool,
    /// Whether it is interested in our pieces.
    pub is_interested: bool,
    /// The download rate from the peer over the last 10 to 20 s, in bytes per second.
    pub down_rate: u64,
    /// The upload rate to the peer over the last 10 to 20 s, in bytes per second.
    pub up_rate: u64,
}

/// Chooses connections to replace when all are in use: only peers of little use, and only a few per minute.
#[derive(Debug, Default)]
pub struct Turnover {
    /// The times of the drops within the last minute.
    drops: VecDeque<Duration>,
}

impl Turnover {
    /// The most drops per minute.
    pub const MAX_PER_MINUTE: usize = 3;
    /// How long a new peer is safe, so that it can show what it delivers.
    pub const GRACE: Duration = Duration::from_secs(90);
    /// A peer with this download rate (upload rate while seeding), in bytes per second, is never dropped.
    pub const GOOD: u64 = 16 * 1024;

    /// The peer to drop for another one that is known to wait; only to be called when no connection is free. A peer with a
    /// quarter of the average rate, or with [`Turnover::GOOD`], is never chosen. While `is_seeding`, the upload rate counts.
    pub fn pick(&mut self, now: Duration, is_seeding: bool, candidates: &[TurnoverCandidate]) -> Option<PeerKey> {
        while self.drops.front().is_some_and(|at| now.saturating_sub(*at) >= Duration::from_secs(60)) {
            self.drops.pop_front();
        }
        if self.drops.len() >= Turnover::MAX_PER_MINUTE {
            return None;
        }
        let rate = |o: &TurnoverCandidate| if is_seeding { o.up_rate } else { o.down_rate };
        let total = candidates.iter().map(rate).fold(0, u64::saturating_add);
        let fair = (total / candidates.len().max(1) as u64 / 4).clamp(1, Turnover::GOOD);
        let worst = candidates
            .iter()
            .filter(|o| rate(o) < fair && now.saturating_sub(o.since) >= Turnover::GRACE)
            .min_by_key(|o| {
                let (main, other) =
                    if is_seeding { (o.is_interested, false) } else { (o.is_interesting, o.is_interested) };
                (main, other, rate(o), o.since, o.key)
            })?;
        self.drops.push_back(now);
        Some(worst.key)
    }
}

#[cfg(test)]
mod tests;
