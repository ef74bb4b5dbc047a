//! How many requests a path and a peer need, and how the peer is described to the picker.

use std::time::Duration;

use crate::strategy::picker::{PickContext, Speed};
use crate::strategy::pipeline::{
    AHEAD, AHEAD_BLOCKS, AHEAD_BLOCKS_FAST, AHEAD_FAST, AHEAD_LONG, CROWDED_DEPTH, FAST_PIECE_TIME, FirstBlocks,
    INITIAL_MAX, INITIAL_MAX_LARGE_REQQ, LONG_BLOCK, MAX_RTT, MIN_DEPTH, PARTIAL_BLOCK_TIME, PipelinePhase,
    RTT_LIFETIME, RequestPipeline, SHORT_PATH, SHORT_ROUND, SLACK, UNKNOWN_PIECE, late::MAX_BACKLOG,
};
use crate::types::BLOCK_SIZE;

/// The share of the incoming data that counts as all of it.
const SOLE_SOURCE_SHARE: f64 = 0.99;

/// Limits the requests to a peer near the end of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndGameLimit {
    /// Blocks already requested from the peer.
    pub outstanding: usize,
    /// Blocks that may always be requested.
    pub least: usize,
    /// Whether the peer's rate, and with it its share of the incoming data, is known.
    pub is_proven: bool,
}

impl EndGameLimit {
    /// How many of `want` blocks may be requested when `left` blocks are left and the peer delivers `share` of the incoming data.
    /// A peer that delivers all of it keeps nobody waiting.
    pub fn limit(self, want: usize, left: u64, share: f64) -> usize {
        if self.is_proven && share >= SOLE_SOURCE_SHARE {
            return want;
        }
        let most = self.least.max((left as f64 * share / 2.0) as usize);
        want.min(most.saturating_sub(self.outstanding))
    }
}

impl RequestPipeline {
    /// Whether a deeper pipeline may bring more. On a short path a round is measured first, and 256 are enough. Nothing is gained
    /// any more once answers spend most of their time in a queue.
    pub(crate) fn has_room(&self) -> bool {
        let (Some(rtt), Some(age)) = (self.timing.min_age.map(|rtt| rtt.max(self.timing.tcp_rtt)), self.timing.age)
        else {
            return true;
        };
        let short = self.rounds.rate.is_some() && self.depth < AHEAD_BLOCKS_FAST;
        (short || rtt >= SHORT_PATH) && age <= rtt * 4 + SLACK
    }

    /// Whether the smallest age is that of a short path. Few requests are outstanding on such a path, so the smallest age must be
    /// measured again now and then.
    fn is_short_path(&self) -> bool {
        self.timing.tcp_rtt < SHORT_PATH && self.timing.min_age.is_none_or(|rtt| rtt < SHORT_PATH)
    }

    /// Sets the connection's round trip time while we send on it. It is longer than the smallest age if our own data queues on
    /// the path.
    pub fn set_tcp_rtt(&mut self, rtt: Duration) {
        self.timing.tcp_rtt = rtt;
    }

    /// Lets the queue run empty once if the smallest age of a short path was last observed long ago: the next request then shows
    /// how long the path is now.
    pub(crate) fn check_path(&mut self, now: Duration) {
        if now >= self.timing.min_age_seen + RTT_LIFETIME && self.is_short_path() && self.depth > CROWDED_DEPTH {
            self.is_draining = true;
        }
    }

    /// Processes the age of an answered request.
    pub(crate) fn measure(&mut self, now: Duration, age: Duration, is_unqueued: bool) {
        self.timing.age = Some(crate::strategy::pipeline::smooth(self.timing.age, age));
        let seen = match self.timing.min_age {
            // An unqueued round trip also shows that the path has become longer.
            Some(rtt) if is_unqueued && age > rtt => Some((rtt + age) / 2),
            Some(rtt) if age > rtt => None,
            _ => Some(age),
        };
        if seen.is_some() {
            (self.timing.min_age, self.timing.min_age_seen) = (seen, now);
        }
    }

    /// The depth that keeps the peer busy: twice what the path holds, and at least what the peer sends in a while.
    pub(crate) fn steady_depth(&self) -> usize {
        let Some(flow) = self.rounds.rate else { return self.depth };
        let per_second = flow / f64::from(BLOCK_SIZE);
        let ahead = ((per_second * AHEAD.as_secs_f64()).ceil() as usize).min(AHEAD_BLOCKS);
        let more = if self.is_short_path() {
            ((per_second * AHEAD_FAST.as_secs_f64()) as usize).min(AHEAD_BLOCKS_FAST)
        } else {
            // Round trip times on such a path may vary far beyond the shortest one.
            (per_second * AHEAD_LONG.as_secs_f64()) as usize
        };
        self.path_blocks().max(ahead).max(more).max(self.least()).min(self.limit)
    }

    /// Twice the blocks that the path holds; with less outstanding, the peer would run dry.
    pub(crate) fn path_blocks(&self) -> usize {
        let per_second = self.rounds.rate.unwrap_or_default() / f64::from(BLOCK_SIZE);
        let rtt = self.timing.min_age.unwrap_or_default().max(self.timing.tcp_rtt).min(MAX_RTT);
        (2.0 * per_second * rtt.as_secs_f64()).ceil() as usize
    }

    /// How many requests any peer may have: two, so that it is not idle between them, or one if a block takes it long.
    pub(crate) fn least(&self) -> usize {
        let slow = self.rounds.rate.is_some_and(|flow| flow * LONG_BLOCK.as_secs_f64() < f64::from(BLOCK_SIZE));
        if slow { 1 } else { MIN_DEPTH }
    }

    /// The limits near the end of the download, for the picker.
    pub fn end_game_limit(&self) -> EndGameLimit {
        EndGameLimit {
            outstanding: self.queue.len(),
            least: self.path_blocks().max(self.least()),
            is_proven: self.rounds.rate.is_some(),
        }
    }

    /// The description of this peer by which the picker chooses blocks, with pieces of `piece_size` bytes.
    pub fn pick_context(&self, now: Duration, piece_size: u32) -> PickContext {
        let speed = match () {
            () if self.is_stalled() => Speed::Stalled,
            () if self.is_fast(piece_size) => Speed::Fast,
            () => Speed::Slow,
        };
        let Some(flow) = self.rounds.rate.filter(|flow| *flow >= 1.0) else {
            return PickContext { answer_time: self.timing.age, ..PickContext::unproven(now, speed) };
        };
        let per_block = Duration::from_secs_f64(f64::from(BLOCK_SIZE) / flow);
        let queued = per_block.saturating_mul(u32::try_from(self.queue.len() + 1).unwrap_or(u32::MAX));
        PickContext { now, speed, answer_time: Some(self.timing.min_age.unwrap_or_default() + queued), per_block }
    }

    /// Whether the peer delivers a piece of this size within 20 s. While its rate is unknown, only small pieces count.
    pub fn is_fast(&self, piece_size: u32) -> bool {
        let fast = match self.rounds.rate {
            Some(flow) => flow * FAST_PIECE_TIME.as_secs_f64() > f64::from(piece_size),
            None => piece_size <= UNKNOWN_PIECE,
        };
        fast && !self.is_stalled()
    }

    /// Records that only a part of a block has arrived, `bytes` so far. A peer that sends a block slowly is not silent, and the
    /// data of a few seconds shows how slow it is, long before whole blocks do.
    pub fn note_partial_block(&mut self, now: Duration, bytes: u64) {
        self.arrivals.partial = bytes.min(u64::from(BLOCK_SIZE));
        let took = now.saturating_sub(self.arrivals.progress);
        if took >= PARTIAL_BLOCK_TIME
            && !self.queue.is_empty()
            && self.rounds.was_rate_limited == [false; 2]
            && self.phase != PipelinePhase::Stalled
        {
            self.settle_at(bytes as f64 / took.as_secs_f64());
        }
    }

    /// Sets a slow peer's rate in bytes per second and the depth, without waiting for a round.
    pub(crate) fn settle_at(&mut self, rate: f64) {
        (self.rounds.rate, self.phase, self.rounds.current) = (Some(rate), PipelinePhase::Steady, None);
        self.depth = self.steady_depth();
    }

    /// The depth after `blocks` more blocks, while no round has ended; waiting for the first one began at `since`. Three seconds'
    /// worth at the rate at which they follow each other, but at most ten seconds' worth at the rate since they were requested,
    /// because some peers send in bursts.
    pub(crate) fn first_depth(&mut self, now: Duration, since: Duration, blocks: usize) -> usize {
        let first = self.rounds.first.get_or_insert(FirstBlocks { asked: since, came: now, blocks: 0 });
        first.blocks += blocks;
        let worth = |ahead: Duration, blocks: usize, since: Duration| {
            let took = now.saturating_sub(since).max(SHORT_ROUND);
            (blocks as f64 * ahead.as_secs_f64() / took.as_secs_f64()) as usize
        };
        let seen = worth(AHEAD, first.blocks - 1, first.came).min(worth(MAX_BACKLOG, first.blocks, first.asked));
        let most = match () {
            () if self.is_short_path() => AHEAD_BLOCKS_FAST,
            () if self.has_large_reqq => INITIAL_MAX_LARGE_REQQ,
            () => INITIAL_MAX,
        };
        seen.min(most).min(self.start)
    }
}
