//! What a connection has moved, so that a full table can tell one that is used from one that is kept alive with a byte now and then. Pure.

use std::time::Duration;

/// Fewer payload bytes than these do not count as new.
const BLOCK_SIZE: u64 = crate::types::BLOCK_SIZE as u64;
/// Within this time two thirds of what was moved are forgotten in [`Traffic::recent`].
const MEMORY: Duration = Duration::from_secs(60);

/// Payload bytes of one connection, both ways together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// All that were ever moved.
    total: u64,
    /// Those since the last whole block.
    rest: u64,
    /// When the last whole block was complete.
    last_block: Option<Duration>,
    /// See [`Traffic::recent`], as of `at`.
    recent: f64,
    at: Duration,
}

impl Traffic {
    /// So many bytes were moved.
    pub fn moved(&mut self, now: Duration, bytes: u64) {
        self.recent = self.decayed(now) + bytes as f64;
        self.at = now.max(self.at);
        self.total = self.total.saturating_add(bytes);
        self.rest = self.rest.saturating_add(bytes);
        if self.rest >= BLOCK_SIZE {
            (self.rest, self.last_block) = (self.rest % BLOCK_SIZE, Some(now));
        }
    }

    /// Payload bytes so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When the last block's worth of bytes was complete; bytes that do not make up a block change nothing.
    pub fn last_block(&self) -> Option<Duration> {
        self.last_block
    }

    /// Bytes a minute: with a steady flow that is what is moved in a minute, and older bytes count less and less.
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
