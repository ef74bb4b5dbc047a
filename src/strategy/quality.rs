//! How good a peer is: what is remembered of an address, and whom to drop when there is no room. Pure; the session's book keeps
//! a [`PeerRecord`] for each address, and the loop asks [`Turnover`] when it is full and somebody else could be called.
//!
//! Among addresses of which nothing is known, BEP 40's [`canonical`] priority decides, so that the swarm's graph is well mixed
//! and nobody can fill it from one network.

pub mod canonical;
pub mod duplicates;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use crate::types::PeerKey;
pub use canonical::canonical_priority;

/// The pause after a first failed call; it doubles with each further one.
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The same for a peer that we need: it has given data, or nobody else is there. The pause after so many calls is no longer, as a peer
/// that has just been started is ready within seconds.
pub const FIRST_EAGER_PAUSE: Duration = Duration::from_secs(2);
const EAGER_DIALS: u32 = 3;
/// How long a peer that broke the protocol is left alone; each further time lasts twice as long, up to [`LONGEST_BAN`].
pub const FIRST_REST: Duration = Duration::from_secs(60);
/// The longest pause between two calls.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1800);
/// How long a first ban lasts; each further one lasts twice as long.
pub const FIRST_BAN: Duration = Duration::from_secs(3600);
/// The longest ban.
pub const LONGEST_BAN: Duration = Duration::from_secs(24 * 3600);

/// What is known of one address.
#[derive(Clone, Debug, Default)]
pub struct PeerRecord {
    /// Calls in a row that led to nothing.
    failures: u32,
    /// Requests that were not answered in time.
    timeouts: u32,
    /// Wrong pieces that it had a part in.
    hash_failures: u32,
    /// Payload bytes that it gave.
    useful: u64,
    /// The best rate it gave at, in bytes per second.
    best_rate: u64,
    last_seen: Option<Duration>,
    /// When the last connection ended or failed, and by how much the pause after it differs from the usual one.
    disconnected: Option<(Duration, f64)>,
    /// When the first of these failures in a row was.
    failing_since: Option<Duration>,
    /// We ended the last connection ourselves, to make room.
    dropped: bool,
    offences: u32,
    rests_until: Option<Duration>,
    bans: u32,
    banned_until: Option<Duration>,
}

/// The order in which to call, the best first. Compare ranks, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    failures: u32,
    trouble: u32,
    gave: Reverse<u32>,
    priority: Reverse<u64>,
}

impl PeerRecord {
    /// A handshake with it is done.
    pub fn reached(&mut self, now: Duration) {
        self.failing_since = None;
        self.last_seen = Some(now);
    }

    /// A call failed, or its connection is over (`worked` if that was worth something): there is a pause before the next one. A peer
    /// that takes our call and hangs up at once fails like one that does not.
    pub fn disconnected(&mut self, now: Duration, worked: bool, rng: &mut fastrand::Rng) {
        self.failures = if worked { 1 } else { self.failures.saturating_add(1) };
        self.failing_since.get_or_insert(now);
        self.disconnected = Some((now, 0.75 + 0.5 * rng.f64()));
        self.dropped = false;
    }

    /// We ended its connection to make room for another peer: it is not called back sooner because it has given something.
    pub fn dropped(&mut self) {
        self.dropped = true;
    }

    /// It broke the protocol: it is left alone for a time that doubles with each offence.
    pub fn note_offence(&mut self, now: Duration) {
        let time = FIRST_REST.saturating_mul(1 << self.offences.min(16)).min(LONGEST_BAN);
        self.offences = self.offences.saturating_add(1);
        self.rests_until = Some(now + time);
    }

    /// It has just let itself be heard by another way: there is no sense in a pause, unless calls fail all the same.
    pub fn heard(&mut self) {
        if self.failures <= 1 {
            self.disconnected = None;
        }
    }

    /// Calls in a row that led to nothing.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How long calls have led to nothing.
    pub fn failing_for(&self, now: Duration) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// When it may be called again; sooner where it is `needed`, or has given something before.
    pub fn dialable_from(&self, needed: bool) -> Duration {
        let eager = needed || (self.useful > 0 && !self.dropped);
        let (first, same) = if eager { (FIRST_EAGER_PAUSE, EAGER_DIALS) } else { (FIRST_PAUSE, 1) };
        let pause = first.saturating_mul(1 << self.failures.saturating_sub(same).min(16)).min(LONGEST_PAUSE);
        let paused_until = self.disconnected.map_or(Duration::ZERO, |(at, factor)| at + pause.mul_f64(factor));
        paused_until.max(self.rests_until.unwrap_or_default()).max(self.banned_until.unwrap_or_default())
    }

    /// When a handshake with it was last done, or it last gave something.
    pub fn last_seen(&self) -> Option<Duration> {
        self.last_seen
    }

    /// It gave `bytes` more, lately at `rate` bytes per second.
    pub fn gave(&mut self, now: Duration, bytes: u64, rate: u64) {
        if bytes > 0 {
            self.useful = self.useful.saturating_add(bytes);
            self.best_rate = self.best_rate.max(rate);
            self.last_seen = Some(now);
        }
    }

    /// Payload bytes that it ever gave.
    pub fn useful(&self) -> u64 {
        self.useful
    }

    /// `requests` were not answered in time.
    pub fn timed_out(&mut self, requests: u32) {
        self.timeouts = self.timeouts.saturating_add(requests);
    }

    /// A piece that it had a part in was wrong; whether the fault was its own is not known.
    pub fn hash_failed(&mut self) {
        self.hash_failures = self.hash_failures.saturating_add(1);
    }

    /// It is to be left alone for a time that doubles with each ban.
    pub fn ban(&mut self, now: Duration) {
        let time = FIRST_BAN.saturating_mul(1 << self.bans.min(16)).min(LONGEST_BAN);
        self.bans = self.bans.saturating_add(1);
        self.banned_until = Some(now + time);
    }

    /// Whether a ban lasts.
    pub fn is_banned(&self, now: Duration) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }

    /// When the ban ends or ended, if there ever was one.
    pub fn banned_until(&self) -> Option<Duration> {
        self.banned_until
    }

    /// How it compares with others: those that can be reached, make no trouble and gave much first; then by `priority`, BEP 40's and who
    /// named it.
    pub fn rank(&self, priority: u64) -> Rank {
        Rank {
            failures: self.failures.saturating_sub(u32::from(self.useful > 0)),
            // Orders of magnitude, so that what hardly differs is left to the priority. Timeouts count against what came.
            trouble: magnitude(u64::from(self.hash_failures) * 8)
                + magnitude(u64::from(self.timeouts) / (1 + (self.useful >> 20))),
            gave: Reverse(magnitude(self.best_rate / 1024)),
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
    /// Who.
    pub key: PeerKey,
    /// When it connected.
    pub since: Duration,
    /// Whether it has something that we want.
    pub interesting: bool,
    /// Whether it wants something of us.
    pub interested: bool,
    /// Bytes per second from it, over the last 20 s.
    pub down_rate: u64,
    /// Bytes per second to it, over the last 20 s.
    pub up_rate: u64,
}

/// Says whom to drop for somebody new: only when full, only somebody of little use, and only a few a minute.
#[derive(Debug, Default)]
pub struct Turnover {
    /// When somebody was dropped within the last minute.
    drops: VecDeque<Duration>,
}

impl Turnover {
    /// Drops in a minute at most.
    pub const MAX_PER_MINUTE: usize = 3;
    /// Everybody may show what it is good for so long.
    pub const GRACE: Duration = Duration::from_secs(90);
    /// Who gives so many bytes a second (while seeding: takes) is never dropped.
    pub const GOOD: u64 = 16 * 1024;

    /// Whom to drop now, of all who are connected, for a newcomer who is known to wait; call it only when there is no room.
    /// Whoever gives a quarter of the average, or [`Turnover::GOOD`], is never named; while `seeding`, taking is what counts.
    pub fn pick(&mut self, now: Duration, seeding: bool, occupants: &[TurnoverCandidate]) -> Option<PeerKey> {
        while self.drops.front().is_some_and(|at| now.saturating_sub(*at) >= Duration::from_secs(60)) {
            self.drops.pop_front();
        }
        if self.drops.len() >= Turnover::MAX_PER_MINUTE {
            return None;
        }
        let rate = |o: &TurnoverCandidate| if seeding { o.up_rate } else { o.down_rate };
        let total = occupants.iter().map(rate).fold(0, u64::saturating_add);
        let fair = (total / occupants.len().max(1) as u64 / 4).clamp(1, Turnover::GOOD);
        let worst = occupants
            .iter()
            .filter(|o| rate(o) < fair && now.saturating_sub(o.since) >= Turnover::GRACE)
            .min_by_key(|o| {
                let (main, other) = if seeding { (o.interested, false) } else { (o.interesting, o.interested) };
                (main, other, rate(o), o.since, o.key)
            })?;
        self.drops.push_back(now);
        Some(worst.key)
    }
}

#[cfg(test)]
mod tests;
