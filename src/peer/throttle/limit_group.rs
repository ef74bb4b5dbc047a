//! Rate limits with the limiter behind them.

use std::time::Instant;

use parking_lot::Mutex;

use crate::strategy::rate_limiter::{Direction, FlowId, Grant, Limits, RateLimiter};
use crate::types::PeerKey;
use crate::util::atomics::{Counter, Flag, Gauge};

/// Rate limits that several connections share: those of all torrents of a client, of some of them, or of one. The connections'
/// keys must come from one client.
#[derive(Debug)]
pub struct LimitGroup {
    limiter: Mutex<RateLimiter>,
    /// The limits in bytes per second, 0 for none: they tell whether the limiter must be asked at all.
    down: Counter,
    up: Counter,
    started: Instant,
    /// The number of torrents that transfer data under these limits.
    torrents: Gauge,
    /// Whether the client's limits do not apply to these torrents.
    ignores_client: Flag,
}

impl Default for LimitGroup {
    fn default() -> LimitGroup {
        LimitGroup {
            limiter: Mutex::default(),
            down: Counter::default(),
            up: Counter::default(),
            started: Instant::now(),
            torrents: Gauge::default(),
            ignores_client: Flag::default(),
        }
    }
}

impl LimitGroup {
    /// A group with these limits and without torrents.
    pub fn new(limits: Limits) -> LimitGroup {
        let group = LimitGroup::default();
        group.set(limits);
        group
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limiter.lock().limits()
    }

    /// Changes the limits; a thread that waits for its turn notices within `MAX_WAIT`.
    pub fn set(&self, limits: Limits) {
        let mut limiter = self.limiter.lock();
        limiter.set(self.started.elapsed(), limits);
        self.down.set(limits.down);
        self.up.set(limits.up);
    }

    /// Sets whether the client's limits do not apply to the torrents of this group.
    pub fn set_ignores_client(&self, ignores_client: bool) {
        self.ignores_client.set(ignores_client);
    }

    /// Whether the client's limits do not apply to the torrents of this group.
    pub(super) fn ignores_client(&self) -> bool {
        self.ignores_client.is_set()
    }

    /// Another torrent starts to transfer data.
    pub fn torrent_started(&self) {
        self.torrents.add(1);
    }

    /// A torrent no longer transfers data.
    pub fn torrent_stopped(&self) {
        self.torrents.sub(1);
    }

    /// The number of torrents that share the limits.
    pub fn torrents(&self) -> usize {
        self.torrents.get() as usize
    }

    /// The limit in this direction, in bytes per second; 0 for none.
    pub fn limit(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Down => self.down.get(),
            Direction::Up => self.up.get(),
        }
    }

    /// One torrent's equal share of the limit in this direction, in bytes per second; 0 for no limit.
    pub fn fair_share(&self, direction: Direction) -> u64 {
        match self.limit(direction) {
            0 => 0,
            limit => (limit / self.torrents().max(1) as u64).max(1),
        }
    }

    /// Asks for `want` bytes for a connection; see [`RateLimiter::ask`].
    pub(super) fn ask(&self, direction: Direction, flow: FlowId, want: u64) -> Grant {
        self.limiter.lock().ask(self.started.elapsed(), direction, flow, want)
    }

    /// Returns `bytes` that were granted to `key` and not used.
    pub(super) fn give_back(&self, direction: Direction, key: PeerKey, bytes: u64) {
        if bytes > 0 {
            self.limiter.lock().give_back(self.started.elapsed(), direction, key, bytes);
        }
    }

    /// Removes a connection that has ended from the limiter.
    pub(super) fn remove_peer(&self, key: PeerKey) {
        self.limiter.lock().leave(self.started.elapsed(), key);
    }

    /// The number of connections that the limiter knows.
    #[cfg(test)]
    pub(super) fn known_peers(&self) -> usize {
        self.limiter.lock().known_peers()
    }
}
