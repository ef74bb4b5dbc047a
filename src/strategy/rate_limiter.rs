//! The global limits on what is received and sent: a token bucket each way, with a fair line before it. Pure; all connections
//! ask the one limiter under a short lock, and sleep (without it) as long as they are told.
//!
//! Whoever asks takes a place in the line. Places are ordered by what their owners have had (start-time fair queueing): each
//! peer that waits gets the same number of bytes, however small its portions are and however often it asks. Bytes are assigned
//! to the places as time goes by, whether their owners are awake or not; so neither a late wake-up nor a change of the limit
//! costs or gives a byte. A sleep is never longer than [`MAX_WAIT`], so that everyone soon notices a new limit.
//!
//! Without a limit nothing is counted and every question is answered at once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::PeerKey;

/// Nobody is told to sleep longer than this before asking again.
pub const MAX_WAIT: Duration = Duration::from_millis(250);

/// What a limit left unused is lost but for so much.
const IDLE_CREDIT: Duration = Duration::from_millis(60);
/// A portion is a 64th of a second's worth within these bounds, in bytes …
const PORTIONS: u64 = 64;
const MIN_PORTION: u64 = 2 * 1024;
const MAX_PORTION: u64 = 64 * 1024;
/// … but with great limits a 512th, as a sleep takes its time too.
const FAST_PORTIONS: u64 = 512;

/// Nanoseconds in a second: credit is kept in bytes × 1e-9, so that nothing is lost to rounding.
const NANOS: u128 = 1_000_000_000;

/// Which way bytes go.
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
    /// On what is received.
    pub down: u64,
    /// On what is sent.
    pub up: u64,
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// So many bytes may go now; never more than were asked for, and at least one.
    Go(u64),
    /// None yet: ask again after so long. The place in the line is kept meanwhile.
    Wait(Duration),
}

/// Both limits; see the module's head.
#[derive(Debug, Default)]
pub struct RateLimiter {
    down: TokenBucket,
    up: TokenBucket,
}

impl RateLimiter {
    /// A limiter with these limits, to be asked from the clock's start on.
    pub fn new(limits: Limits) -> RateLimiter {
        let mut limiter = RateLimiter::default();
        limiter.set(Duration::ZERO, limits);
        limiter
    }

    /// Changes the limits from `now` on. Those who wait keep their places.
    pub fn set(&mut self, now: Duration, limits: Limits) {
        self.down.set_rate(now, limits.down);
        self.up.set_rate(now, limits.up);
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        Limits { down: self.down.rate, up: self.up.rate }
    }

    /// The peer `key` would like to move `want` bytes. What it is granted is its own at once; what it then cannot use it should
    /// give back.
    pub fn ask(&mut self, now: Duration, direction: Direction, key: PeerKey, want: u64) -> Grant {
        self.bucket(direction).ask(now, key, want)
    }

    /// `bytes` of what `key` was granted are not needed after all.
    pub fn give_back(&mut self, now: Duration, direction: Direction, key: PeerKey, bytes: u64) {
        self.bucket(direction).give_back(now, key, bytes);
    }

    /// The peer is gone, and its places with it.
    pub fn leave(&mut self, now: Duration, key: PeerKey) {
        self.down.leave(now, key);
        self.up.leave(now, key);
    }

    fn bucket(&mut self, direction: Direction) -> &mut TokenBucket {
        match direction {
            Direction::Down => &mut self.down,
            Direction::Up => &mut self.up,
        }
    }
}

/// A place in the line: what its owner will have had before it, then who came first.
type QueuePlace = (u64, u64);

/// One peer at one bucket.
#[derive(Clone, Copy, Debug, Default)]
struct PeerFlow {
    /// What it has had, on the bucket's virtual clock.
    finish: u64,
    place: Option<QueuePlace>,
    /// Assigned to it, and not yet fetched.
    granted: u64,
}

/// One limit and those who wait for it.
#[derive(Debug, Default)]
struct TokenBucket {
    /// Bytes per second; 0 for no limit.
    rate: u64,
    /// Bytes × 1e-9 that may go, as of `then`.
    credit: u128,
    then: Duration,
    /// Who waits, in order, and for how many bytes.
    queue: BTreeMap<QueuePlace, (PeerKey, u64)>,
    flows: BTreeMap<PeerKey, PeerFlow>,
    /// The virtual clock: where the place was that had its bytes last.
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
                // It has changed its mind since it took its place.
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

    /// Takes a place for one portion; if nobody waits, for as much as there is.
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

    /// Until the bytes for that place will be there, if nobody comes in between.
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

    /// Lets time go by. A `now` before an earlier one counts as that earlier one.
    fn advance(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.then);
        self.then = self.then.max(now);
        self.credit = self.credit.saturating_add(elapsed.as_nanos().saturating_mul(u128::from(self.rate)));
        self.serve();
    }

    /// Assigns what there is to those who are first; what nobody waits for is lost but for a little.
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
            // Nobody is in anybody's way any more.
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
