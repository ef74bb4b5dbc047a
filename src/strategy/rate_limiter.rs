//! The global download and upload limits: one token bucket per direction, each with a fair queue. All connections share one
//! limiter under a short lock, and sleep without the lock as long as it says.
//!
//! A request for bytes takes a place in the queue, which [`fair_queue`] orders: every waiting network gets the same number of
//! bytes, and so does every waiting connection of a network, however small its requests are and however often it asks. Bytes are
//! assigned to the places as time passes, whether the owners are awake or not, so neither a late wake-up nor a changed limit gains
//! or loses a byte. A sleep never exceeds [`MAX_WAIT`], so that everyone soon notices a new limit.
//!
//! Without a limit nothing is counted, and every request is granted at once.

mod fair_queue;

use std::net::IpAddr;
use std::time::Duration;

use crate::net::networks::Network;
use crate::types::PeerKey;
use fair_queue::FairQueue;

/// The longest time a peer is told to wait before it asks again.
pub const MAX_WAIT: Duration = Duration::from_millis(250);

/// Unused capacity is lost, except for this much.
const IDLE_CREDIT: Duration = Duration::from_millis(60);
/// A portion is a 64th of a second's worth, within these bounds in bytes…
const PORTIONS: u64 = 64;
const MIN_PORTION: u64 = 2 * 1024;
const MAX_PORTION: u64 = 64 * 1024;
/// … but with high limits a 512th, because a sleep takes time too.
const FAST_PORTIONS: u64 = 512;

/// Nanoseconds per second: credit is kept in units of bytes × 1e-9, so that nothing is lost to rounding.
const NANOS: u128 = 1_000_000_000;

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From peers to us.
    Down,
    /// From us to peers.
    Up,
}

/// The limits in bytes per second; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The download limit.
    pub down: u64,
    /// The upload limit.
    pub up: u64,
}

/// A connection that asks for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId {
    /// The connection.
    pub key: PeerKey,
    /// The subscriber at its other end, who gets no more bytes by opening more connections.
    pub network: Network,
}

impl FlowId {
    /// The connection `key` to `ip`.
    pub fn new(key: PeerKey, ip: IpAddr) -> FlowId {
        FlowId { key, network: Network::site(ip) }
    }
}

/// The answer to a request for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// This many bytes may be transferred now: at least one, and at most as many as requested.
    Go(u64),
    /// None yet; ask again after this time. The place in the queue is kept.
    Wait(Duration),
}

/// Both limits; see the module documentation.
#[derive(Clone, Debug, Default)]
pub struct RateLimiter {
    down: TokenBucket,
    up: TokenBucket,
}

impl RateLimiter {
    /// A limiter with these limits, starting at time zero.
    #[cfg(any(test, feature = "internals"))]
    pub fn new(limits: Limits) -> RateLimiter {
        let mut limiter = RateLimiter::default();
        limiter.set(Duration::ZERO, limits);
        limiter
    }

    /// Changes the limits from `now` on. Waiting peers keep their places.
    pub fn set(&mut self, now: Duration, limits: Limits) {
        self.down.set_rate(now, limits.down);
        self.up.set_rate(now, limits.up);
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        Limits { down: self.down.rate, up: self.up.rate }
    }

    /// A connection requests `want` bytes. Granted bytes are its own at once; it should give back any that it cannot use.
    pub fn ask(&mut self, now: Duration, direction: Direction, flow: FlowId, want: u64) -> Grant {
        self.bucket(direction).ask(now, flow, want)
    }

    /// Returns `bytes` that were granted to `key` but not needed.
    pub fn give_back(&mut self, now: Duration, direction: Direction, key: PeerKey, bytes: u64) {
        self.bucket(direction).give_back(now, key, bytes);
    }

    /// Removes a disconnected peer and its places.
    pub fn leave(&mut self, now: Duration, key: PeerKey) {
        self.down.leave(now, key);
        self.up.leave(now, key);
    }

    /// The number of peers that either bucket knows.
    #[cfg(test)]
    pub fn known_peers(&self) -> usize {
        self.down.queue.len().max(self.up.queue.len())
    }

    fn bucket(&mut self, direction: Direction) -> &mut TokenBucket {
        match direction {
            Direction::Down => &mut self.down,
            Direction::Up => &mut self.up,
        }
    }
}

/// One limit and the connections that wait for it.
#[derive(Clone, Debug, Default)]
struct TokenBucket {
    /// Bytes per second; 0 for no limit.
    rate: u64,
    /// Available bytes × 1e-9, as of `then`.
    credit: u128,
    then: Duration,
    queue: FairQueue,
}

impl TokenBucket {
    fn portion(&self) -> u64 {
        let largest = MAX_PORTION.max(self.rate / FAST_PORTIONS);
        (self.rate / PORTIONS).clamp(MIN_PORTION, largest)
    }

    fn ask(&mut self, now: Duration, flow: FlowId, want: u64) -> Grant {
        if self.rate == 0 || want == 0 {
            return Grant::Go(want);
        }
        self.advance(now);
        if !self.queue.has_place_or_grant(flow.key) {
            // A place is for one portion, or for all available bytes if nobody waits.
            let there = u64::try_from(self.credit / NANOS).unwrap_or(u64::MAX);
            let most = if self.queue.is_empty() { self.portion().max(there) } else { self.portion() };
            self.queue.enqueue(flow, want.min(most));
            self.serve();
        }
        let granted = self.queue.take_granted(flow.key);
        if granted > 0 {
            // The connection wants less than when it took its place.
            let spare = granted.saturating_sub(want);
            if spare > 0 {
                self.give_back(now, flow.key, spare);
            }
            return Grant::Go(granted - spare);
        }
        Grant::Wait(self.wait(flow.key))
    }

    /// How long until the bytes for the connection's place are available, if nobody takes a place before it.
    fn wait(&self, key: PeerKey) -> Duration {
        let rate = u128::from(self.rate).max(1);
        let longest = self.credit.saturating_add(MAX_WAIT.as_nanos() * rate) / NANOS;
        let longest = u64::try_from(longest).unwrap_or(u64::MAX);
        let Some(lacking) = self.queue.bytes_until(key, longest) else { return MAX_WAIT };
        let nanos = (u128::from(lacking) * NANOS).saturating_sub(self.credit).div_ceil(rate);
        u64::try_from(nanos).map_or(MAX_WAIT, Duration::from_nanos).min(MAX_WAIT)
    }

    /// Advances the time. A `now` that lies before an earlier one counts as that earlier one.
    fn advance(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.then);
        self.then = self.then.max(now);
        self.credit = self.credit.saturating_add(elapsed.as_nanos().saturating_mul(u128::from(self.rate)));
        self.serve();
    }

    /// Assigns available bytes to the first places. Unclaimed bytes are lost beyond [`IDLE_CREDIT`].
    fn serve(&mut self) {
        while let Some(bytes) = self.queue.next_bytes() {
            let Some(left) = self.credit.checked_sub(u128::from(bytes) * NANOS) else { return };
            self.credit = left;
            self.queue.grant_next();
        }
        self.credit = self.credit.min(IDLE_CREDIT.as_nanos() * u128::from(self.rate));
    }

    fn give_back(&mut self, now: Duration, key: PeerKey, bytes: u64) {
        if self.rate == 0 {
            return;
        }
        self.queue.uncharge(key, bytes);
        self.credit = self.credit.saturating_add(u128::from(bytes) * NANOS);
        self.advance(now);
    }

    fn leave(&mut self, now: Duration, key: PeerKey) {
        let granted = self.queue.remove(key);
        self.give_back(now, key, granted);
    }

    fn set_rate(&mut self, now: Duration, rate: u64) {
        if rate == self.rate {
            return;
        }
        self.advance(now);
        self.rate = rate;
        if rate == 0 {
            // Without a limit nobody has to wait.
            (self.queue, self.credit) = (FairQueue::default(), 0);
            return;
        }
        self.queue.shorten_places(self.portion());
        self.serve();
    }
}

#[cfg(test)]
mod tests;
