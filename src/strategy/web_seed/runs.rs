//! From picked blocks to requests: adjacent blocks become one run of bytes.

use std::ops::Range;
use std::time::Duration;

use crate::types::{BLOCK_SIZE, BlockInfo};

/// The number of blocks of a first pick, while the server's rate is unknown.
const FIRST_PICK: usize = 16;
/// The most blocks of a pick.
const MAX_PICK: usize = 4096;
/// A pick is what the server sends in this time, in seconds. Longer picks would keep peers waiting, shorter ones cost round trips.
const PICK_SECONDS: f64 = 2.0;
/// A request is at least what the server sends in this time,
const REQUEST_TIME: Duration = Duration::from_millis(100);
/// and in so many round trips.
const ROUND_TRIPS: u32 = 50;

/// Adjacent blocks, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRun {
    /// The bytes of the torrent.
    pub bytes: Range<u64>,
    /// The blocks that these bytes are.
    pub blocks: Vec<BlockInfo>,
}

/// How many blocks to pick from a server that sends `rate` bytes a second; 0 if that is unknown. `limit` is the most bytes a second
/// that it may send; 0 for any. `largest` is the number of blocks of the largest pick so far: a rate that was measured over a short
/// time is a guess, and so is the server's share in all that comes, so picks only double.
pub fn pick_size(rate: u64, limit: u64, largest: usize) -> usize {
    let rate = if limit == 0 { rate } else { rate.min(limit) };
    if rate == 0 {
        return FIRST_PICK;
    }
    ((rate as f64 * PICK_SECONDS / f64::from(BLOCK_SIZE)) as usize)
        .clamp(1, MAX_PICK.min(largest.max(FIRST_PICK / 2) * 2))
}

/// After how many bytes a request should end, for a server that sends `rate` bytes a second and takes `answer` to begin. A response
/// that is cut short costs what is on its way, so short requests are better, as long as their round trips cost little.
pub fn request_size(rate: u64, answer: Duration) -> u64 {
    let time = REQUEST_TIME.max(answer.saturating_mul(ROUND_TRIPS));
    (rate as f64 * time.as_secs_f64()) as u64
}

/// Sorts blocks and joins adjacent ones; `offset` gives a block's place in the torrent. A run ends with its piece once it has `size`
/// bytes.
pub fn runs(mut blocks: Vec<BlockInfo>, size: u64, offset: impl Fn(&BlockInfo) -> u64) -> Vec<BlockRun> {
    blocks.sort_unstable_by_key(|block| (block.piece, block.begin));
    let mut runs: Vec<BlockRun> = Vec::new();
    for block in blocks {
        let start = offset(&block);
        let end = start.saturating_add(u64::from(block.length));
        match runs.last_mut() {
            Some(run)
                if run.bytes.end == start
                    && !(run.bytes.end - run.bytes.start >= size
                        && run.blocks.last().is_some_and(|last| last.piece != block.piece)) =>
            {
                run.bytes.end = end;
                run.blocks.push(block);
            }
            _ => runs.push(BlockRun { bytes: start..end, blocks: vec![block] }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PieceIndex;

    /// Pieces of two blocks.
    fn block(at: u32) -> BlockInfo {
        BlockInfo { piece: PieceIndex(at / 2), begin: at % 2 * BLOCK_SIZE, length: BLOCK_SIZE }
    }

    fn place(block: &BlockInfo) -> u64 {
        u64::from(block.piece.0) * 2 * u64::from(BLOCK_SIZE) + u64::from(block.begin)
    }

    fn lengths(picked: &[u32], size: u64) -> Vec<usize> {
        let runs = runs(picked.iter().copied().map(block).collect(), size, place);
        for run in &runs {
            assert_eq!(run.bytes.end - run.bytes.start, run.blocks.len() as u64 * u64::from(BLOCK_SIZE));
            assert_eq!(run.bytes.start, place(&run.blocks[0]));
        }
        runs.iter().map(|run| run.blocks.len()).collect()
    }

    #[test]
    fn adjacent_blocks_are_one_run_in_whatever_order_they_were_picked() {
        assert_eq!(lengths(&[4, 2, 3, 9, 0], u64::MAX), [1, 3, 1]);
        assert_eq!(lengths(&[0, 1, 2, 3], u64::MAX), [4]);
        assert_eq!(lengths(&[], u64::MAX), [0; 0]);
    }

    #[test]
    fn a_script_gets_one_piece_at_a_time() {
        assert_eq!(lengths(&[1, 2, 3, 4], 0), [1, 2, 1]);
        assert_eq!(lengths(&[0, 1, 2, 3, 4, 5], u64::from(BLOCK_SIZE) * 3), [4, 2], "a run ends with its piece");
    }

    #[test]
    fn a_pick_is_what_arrives_in_two_seconds() {
        let block = u64::from(BLOCK_SIZE);
        assert_eq!(pick_size(0, 0, 0), FIRST_PICK);
        assert_eq!(pick_size(100 * block, 0, 1000), 200);
        assert_eq!(pick_size(100, 0, 1000), 1, "a slow server");
        assert_eq!(pick_size(u64::MAX, 0, MAX_PICK), MAX_PICK);
        assert_eq!(pick_size(100 * block, 10 * block, 1000), 20, "a limit");
        assert_eq!((pick_size(u64::MAX, 0, 0), pick_size(u64::MAX, 0, 20)), (FIRST_PICK, 40), "a guess");
    }

    #[test]
    fn round_trips_cost_little() {
        assert_eq!(request_size(1_000_000, Duration::ZERO), 100_000);
        assert_eq!(request_size(1_000_000, Duration::from_millis(100)), 5_000_000);
    }
}
