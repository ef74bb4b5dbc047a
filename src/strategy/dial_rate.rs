//! Limits how fast the client opens outgoing connections.

use std::time::Duration;

/// The most half-open connections at a time, over all torrents of the client.
pub const MAX_HALF_OPEN: usize = 120;
/// How many of them each torrent is guaranteed.
pub const MIN_HALF_OPEN: usize = 5;

/// The most connection attempts per second, over all torrents. Addresses that refuse connections answer at once, so without this
/// limit a list of thousands of them would make the client flood the network.
pub const DIALS_PER_SECOND: usize = 100;

/// The connect timeout while other addresses wait to be dialed. A lost SYN is sent again after one second, and once more after
/// three.
const SHORT_CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// The connect timeout otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time allowed for establishing a connection.
pub fn connect_timeout(others_wait: bool) -> Duration {
    if others_wait { SHORT_CONNECT_TIMEOUT } else { CONNECT_TIMEOUT }
}

/// A token bucket of connection attempts that holds at most one second's worth.
#[derive(Debug)]
pub struct DialBudget {
    /// The attempts left, as of `at`.
    left: f64,
    at: Duration,
    /// How many attempts are added per second.
    rate: f64,
}

impl Default for DialBudget {
    fn default() -> DialBudget {
        let rate = DIALS_PER_SECOND as f64;
        DialBudget { left: rate, at: Duration::ZERO, rate }
    }
}

impl DialBudget {
    /// How many connection attempts may start at `now`, at an average of `a_second` per second. After the bucket was emptied,
    /// none may start for a tenth of a second, so that a long peer list is not searched once per address.
    pub fn allowed(&mut self, now: Duration, a_second: usize) -> usize {
        self.rate = a_second.max(1) as f64;
        let came = now.saturating_sub(self.at).as_secs_f64() * self.rate;
        (self.left, self.at) = ((self.left + came).min(self.rate), now);
        if now < self.next() { 0 } else { self.left as usize }
    }

    /// Counts an attempt that was started.
    pub fn begun(&mut self) {
        self.left -= 1.0;
    }

    /// When the next attempt may start.
    pub fn next(&self) -> Duration {
        let missing = (self.rate / 10.0).max(1.0) - self.left;
        // One extra millisecond, so that rounding leaves no fraction missing.
        if missing <= 0.0 { self.at } else { self.at + Duration::from_secs_f64(missing / self.rate + 0.001) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dials_are_bounded_and_none_is_lost() {
        for rate in [1, 5, 50, 100] {
            let (mut dials, mut now, mut begun) = (DialBudget::default(), Duration::from_secs(1000), 0);
            let end = now + Duration::from_secs(60);
            while now < end {
                for _ in 0..dials.allowed(now, rate) {
                    dials.begun();
                    begun += 1;
                }
                assert!(dials.next() > now, "no dial is left over");
                now = dials.next();
            }
            assert!((rate * 58..=rate * 61).contains(&begun), "{begun} dials in a minute at {rate} a second");
        }
    }
}
