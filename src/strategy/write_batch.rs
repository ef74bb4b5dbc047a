//! Decides how much a writer hands to its socket at a time.
//!
//! Data handed to the socket precedes every later message. On a slow uplink, a request must not wait for seconds behind our own
//! blocks, so one block is written at a time, and little may wait in the kernel. A socket that drains fast gets many blocks per
//! write, because each write costs CPU time.

use std::time::Duration;

use crate::types::BLOCK_SIZE;

/// The most blocks per write.
pub const MAX_BLOCKS: usize = 16;
/// The blocks of the first write.
const INITIAL_BLOCKS: usize = 2;
/// After a write that took less, the next may be twice as large.
const FAST: Duration = Duration::from_millis(20);
/// After a write that took longer, the next is half as large.
const SLOW: Duration = Duration::from_millis(100);
/// The unsent bytes allowed in the kernel while the largest writes are fast.
const UNSENT_FAST: u32 = 1 << 20;

/// The write size of one connection, adjusted to how fast its socket drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBatchSize {
    blocks: usize,
}

impl Default for WriteBatchSize {
    fn default() -> WriteBatchSize {
        WriteBatchSize { blocks: INITIAL_BLOCKS }
    }
}

impl WriteBatchSize {
    /// The most blocks in the next write.
    pub fn blocks(self) -> usize {
        self.blocks
    }

    /// The unsent bytes allowed in the kernel (`TCP_NOTSENT_LOWAT`).
    pub fn unsent(self) -> u32 {
        if self.blocks == MAX_BLOCKS { UNSENT_FAST } else { self.blocks as u32 * BLOCK_SIZE }
    }

    /// Records how long a write of this many blocks took. Returns true if [`WriteBatchSize::unsent`] changes.
    pub fn wrote(&mut self, blocks: usize, took: Duration) -> bool {
        let before = self.blocks;
        if took > SLOW {
            self.blocks = (self.blocks.min(blocks) / 2).max(1);
        } else if took < FAST && blocks >= self.blocks {
            self.blocks = (2 * self.blocks).min(MAX_BLOCKS);
        }
        self.blocks != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The write size that results at `rate` bytes per second, if each write returns when its data has left.
    fn settled(rate: u32) -> WriteBatchSize {
        let mut drain = WriteBatchSize::default();
        for _ in 0..50 {
            let bytes = drain.blocks() as u32 * BLOCK_SIZE;
            drain.wrote(drain.blocks(), Duration::from_secs_f64(f64::from(bytes) / f64::from(rate)));
        }
        drain
    }

    #[test]
    fn a_slow_uplink_is_given_a_block_at_a_time_and_a_fast_one_many() {
        assert_eq!((settled(100_000).blocks(), settled(100_000).unsent()), (1, 16 * 1024));
        assert_eq!(settled(500_000).blocks(), 2);
        assert!((3..=8).contains(&settled(3_000_000).blocks()));
        assert_eq!((settled(1_000_000_000).blocks(), settled(1_000_000_000).unsent()), (MAX_BLOCKS, 1 << 20));
    }

    #[test]
    fn short_writes_say_little_unless_they_are_slow() {
        let mut drain = WriteBatchSize::default();
        assert!(!drain.wrote(1, Duration::ZERO), "a single block may fit into whatever there is");
        (0..3).for_each(|_| _ = drain.wrote(drain.blocks(), Duration::ZERO));
        assert_eq!(drain.blocks(), MAX_BLOCKS);
        assert!(drain.wrote(2, Duration::from_millis(130)));
        assert_eq!(drain.blocks(), 1);
    }
}
