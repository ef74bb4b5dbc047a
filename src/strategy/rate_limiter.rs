//! The global download and upload limits: one token bucket per direction, each with a fair queue. All connections share one
//! limiter under a short lock, and sleep without the lock as long as it says.
//!
//! A request for bytes takes a place in the queue. Places are ordered by how many bytes their owners have had (start-time fair
//! queueing): every waiting peer gets the same number of bytes, however small its requests are and however often it asks. Bytes
//! are assigned to the places as time passes, whether the owners are awake or not, so neither a late wake-up nor a changed limit
//! gains or loses a byte. A sleep never exceeds [`MAX_WAIT`], so that everyone soon notices a new limit.
//!
//! Without a limit nothing is counted, and every request is granted at once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::PeerKey;

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

/// The answer to a request for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// This many bytes may be transferred now: at least one, and at most as many as requested.
    Go(u64),
    /// None yet; ask again after this time. The place in the queue is kept.
    Wait(Duration),
}

/// Both limits; see the module documentation.
#[derive(Debug, Default)]
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

    /// The peer `key` requests `want` bytes. Granted bytes are its own at once; it should give back any that it cannot use.
    pub fn ask(&mut self, now: Duration, direction: Direction, key: PeerKey, want: u64) -> Grant {
        self.bucket(direction).ask(now, key, want)
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
        self.down.flows.len().max(self.up.flows.len())
    }

    fn bucket(&mut self, direction: Direction) -> &mut TokenBucket {
        match direction {
            Direction::Down => &mut self.down,
            Direction::Up => &mut self.up,
        }
    }
}

/// A place in the queue: the virtual start time, then the order of arrival.
type QueuePlace = (u64, u64);

/// One peer's state in one bucket.
#[derive(Clone, Copy, Debug, Default)]
struct PeerFlow {
    /// The virtual finish time of its last place: the bytes it has had, on the bucket's virtual clock.
    finish: u64,
    place: Option<QueuePlace>,
    /// Bytes assigned to it and not yet fetched.
    granted: u64,
}

/// One limit and the peers that wait for it.
#[derive(Debug, Default)]
struct TokenBucket {
    /// Bytes per second; 0 for no limit.
    rate: u64,
    /// Available bytes × 1e-9, as of `then`.
    credit: u128,
    then: Duration,
    /// The waiting peers in order, each with the bytes it waits for.
    queue: BTreeMap<QueuePlace, (PeerKey, u64)>,
    flows: BTreeMap<PeerKey, PeerFlow>,
    /// The virtual clock: the start time of the place served last.
    served: u64,
    arrivals: u64,
}

impl TokenBucket {
    fn portion(&self) -> u64 {
        let largest = MAX_PORTION.max(self.rate / FAST_PORTIONS);
        (self.rate / PORTIONS).clamp(MIN_PORTION, largest)
    }

    fn ask(&mut self, now: Duration, key: PeerKey, want: u64) -> Grant {
        if self.rate == 0 || want == 0 {
            return Grant::Go(want);
        }
        self.advance(now);
        if self.flows.get(&key).is_none_or(|f| f.granted == 0 && f.place.is_none()) {
            self.enqueue(key, want);
            self.serve();
        }
        let Some(flow) = self.flows.get_mut(&key) else { return Grant::Wait(MAX_WAIT) };
        let granted = std::mem::take(&mut flow.granted);
        match flow.place {
            _ if granted > 0 => {
                // The peer wants less than when it took its place.
                let spare = granted.saturating_sub(want);
                if spare > 0 {
                    self.give_back(now, key, spare);
                }
                Grant::Go(granted - spare)
            }
            Some(place) => Grant::Wait(self.wait(place)),
            None => Grant::Wait(MAX_WAIT),
        }
    }

    /// Takes a place for one portion, or for all available bytes if nobody waits.
    fn enqueue(&mut self, key: PeerKey, want: u64) {
        let there = u64::try_from(self.credit / NANOS).unwrap_or(u64::MAX);
        let most = if self.queue.is_empty() { self.portion().max(there) } else { self.portion() };
        let bytes = want.min(most);
        self.arrivals += 1;
        let served = self.served;
        let flow = self.flows.entry(key).or_default();
        let place = (flow.finish.max(served), self.arrivals);
        flow.finish = place.0.saturating_add(bytes);
        flow.place = Some(place);
        self.queue.insert(place, (key, bytes));
    }

    /// How long until the bytes for this place are available, if no other place comes before it.
    fn wait(&self, place: QueuePlace) -> Duration {
        let longest = MAX_WAIT.as_nanos() * u128::from(self.rate);
        let mut lacking = 0;
        for (_, bytes) in self.queue.range(..=place).map(|(_, waiting)| waiting) {
            lacking += u128::from(*bytes) * NANOS;
            if lacking.saturating_sub(self.credit) >= longest {
                return MAX_WAIT;
            }
        }
        let nanos = lacking.saturating_sub(self.credit).div_ceil(u128::from(self.rate).max(1));
        u64::try_from(nanos).map_or(MAX_WAIT, Duration::from_nanos)
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
        while let Some((&place, &(key, bytes))) = self.queue.first_key_value() {
            let Some(left) = self.credit.checked_sub(u128::from(bytes) * NANOS) else { return };
            self.credit = left;
            self.queue.pop_first();
            self.served = self.served.max(place.0);
            if let Some(flow) = self.flows.get_mut(&key) {
                flow.place = None;
                flow.granted = bytes;
            }
        }
        self.credit = self.credit.min(IDLE_CREDIT.as_nanos() * u128::from(self.rate));
    }

    fn give_back(&mut self, now: Duration, key: PeerKey, bytes: u64) {
        if self.rate == 0 {
            return;
        }
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.finish = flow.finish.saturating_sub(bytes);
        }
        self.credit = self.credit.saturating_add(u128::from(bytes) * NANOS);
        self.advance(now);
    }

    fn leave(&mut self, now: Duration, key: PeerKey) {
        let Some(flow) = self.flows.remove(&key) else { return };
        if let Some(place) = flow.place {
            self.queue.remove(&place);
        }
        self.give_back(now, key, flow.granted);
    }

    fn set_rate(&mut self, now: Duration, rate: u64) {
        if rate == self.rate {
            return;
        }
        self.advance(now);
        self.rate = rate;
        if rate == 0 {
            // Without a limit nobody has to wait.
            (self.queue, self.flows, self.credit) = (BTreeMap::new(), BTreeMap::new(), 0);
            return;
        }
        let portion = self.portion();
        for (key, bytes) in self.queue.values_mut() {
            let excess = bytes.saturating_sub(portion);
            *bytes -= excess;
            if let Some(flow) = self.flows.get_mut(key) {
                flow.finish = flow.finish.saturating_sub(excess);
            }
        }
        self.serve();
    }
}

#[cfg(test)]
mod tests;
