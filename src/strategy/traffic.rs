//! Measures what a connection has transferred, so that eviction from a full table can tell a used connection from one that is
//! kept alive with single bytes.

use std::time::Duration;

use crate::strategy::rate::RateMeter;
use crate::strategy::rate_limiter::Direction;

/// Only this many payload bytes count as a new block.
const BLOCK_SIZE: u64 = crate::types::BLOCK_SIZE as u64;
/// In [`Traffic::recent`], two thirds of the transferred bytes are forgotten within this time.
const MEMORY: Duration = Duration::from_secs(60);

/// The payload bytes of one connection: both directions together, and the current rate of each.
#[derive(Debug, Default)]
pub struct PeerTraffic {
    both: Traffic,
    down: RateMeter<5>,
    up: RateMeter<5>,
}

impl PeerTraffic {
    /// Counts transferred bytes.
    pub fn moved(&mut self, now: Duration, direction: Direction, bytes: u64) {
        self.both.moved(now, bytes);
        match direction {
            Direction::Down => self.down.add(now, bytes),
            Direction::Up => self.up.add(now, bytes),
        }
    }

    /// Both directions together.
    pub fn both(&self) -> Traffic {
        self.both
    }

    /// Bytes per second over the last five seconds.
    pub fn rate(&self, direction: Direction, now: Duration) -> u64 {
        match direction {
            Direction::Down => self.down.per_second(now),
            Direction::Up => self.up.per_second(now),
        }
    }
}

/// The payload bytes of one connection, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// All bytes so far.
    total: u64,
    /// The bytes since the last whole block.
    rest: u64,
    /// When the last whole block was complete.
    last_block: Option<Duration>,
    /// See [`Traffic::recent`], as of `at`.
    recent: f64,
    at: Duration,
}

impl Traffic {
    /// Counts transferred bytes.
    pub fn moved(&mut self, now: Duration, bytes: u64) {
        self.recent = self.decayed(now) + bytes as f64;
        self.at = now.max(self.at);
        self.total = self.total.saturating_add(bytes);
        self.rest = self.rest.saturating_add(bytes);
        if self.rest >= BLOCK_SIZE {
            (self.rest, self.last_block) = (self.rest % BLOCK_SIZE, Some(now));
        }
    }

    /// All payload bytes so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When the last block's worth of bytes was complete. Bytes that do not make up a block do not change it.
    pub fn last_block(&self) -> Option<Duration> {
        self.last_block
    }

    /// Recent bytes per minute. With a steady flow this is the number of bytes per minute; older bytes count less and less.
    pub fn recent(&self, now: Duration) -> u64 {
        self.decayed(now) as u64
    }

    fn decayed(&self, now: Duration) -> f64 {
        self.recent * (-now.saturating_sub(self.at).as_secs_f64() / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn single_bytes_do_not_renew_a_block() {
        let mut traffic = Traffic::default();
        traffic.moved(SECOND, BLOCK_SIZE - 1);
        assert_eq!(traffic.last_block(), None);
        traffic.moved(SECOND * 2, 1);
        assert_eq!(traffic.last_block(), Some(SECOND * 2));
        (3..600).for_each(|second| traffic.moved(SECOND * second, 1));
        assert_eq!(traffic.last_block(), Some(SECOND * 2));
        assert_eq!(traffic.total(), BLOCK_SIZE + 597);
    }

    #[test]
    fn a_steady_flow_counts_by_the_minute_and_is_forgotten_after_some() {
        let mut traffic = Traffic::default();
        (0..600).for_each(|second| traffic.moved(SECOND * second, 1000));
        assert!((58_000..62_000).contains(&traffic.recent(SECOND * 600)), "{}", traffic.recent(SECOND * 600));
        assert!(traffic.recent(SECOND * 900) < 1000);
    }
}
