//! How fast we connect to others. Pure.

use std::time::Duration;

/// Connections that are being made at the same time, by all sessions of the host.
pub const MAX_HALF_OPEN: usize = 120;
/// How many of them each session may have at least.
pub const MIN_HALF_OPEN: usize = 5;

/// Connections that are begun in a second, by all sessions together: addresses that refuse take no time, and a list of thousands of them
/// must not make a flood of us.
pub const DIALS_PER_SECOND: usize = 100;

/// How long a connection may take while other addresses wait for their turn: a lost SYN is sent again after one second, and once
/// more after three.
const SHORT_CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long it may take otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may take to come about.
pub fn connect_timeout(others_wait: bool) -> Duration {
    if others_wait { SHORT_CONNECT_TIMEOUT } else { CONNECT_TIMEOUT }
}

/// How many connections may be begun now: a token bucket that holds those of one second.
#[derive(Debug)]
pub struct DialBudget {
    /// Those that are left, as of `at`.
    left: f64,
    at: Duration,
    /// How many come back in a second.
    rate: f64,
}

impl Default for DialBudget {
    fn default() -> DialBudget {
        let rate = DIALS_PER_SECOND as f64;
        DialBudget { left: rate, at: Duration::ZERO, rate }
    }
}

impl DialBudget {
    /// How many connections may be begun at `now`, with so many a second on the average. Where the bucket was emptied that is none for a
    /// tenth of a second, so that a long list is not looked through for each address.
    pub fn allowed(&mut self, now: Duration, a_second: usize) -> usize {
        self.rate = a_second.max(1) as f64;
        let came = now.saturating_sub(self.at).as_secs_f64() * self.rate;
        (self.left, self.at) = ((self.left + came).min(self.rate), now);
        if now < self.next() { 0 } else { self.left as usize }
    }

    /// A connection was begun.
    pub fn begun(&mut self) {
        self.left -= 1.0;
    }

    /// When the next may be begun.
    pub fn next(&self) -> Duration {
        let missing = (self.rate / 10.0).max(1.0) - self.left;
        // A millisecond more, so that rounding leaves nothing missing then.
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
