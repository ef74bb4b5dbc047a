//! The request pipeline of one connection: how many more requests to send, and which outstanding ones are lost.
//!
//! How deep the pipeline is:
//! - *Start.* A peer that has answered nothing gets [`INITIAL_DEPTH`] requests. After its first blocks it gets as many as it
//!   sends in [`AHEAD`] at the rate of these blocks, at most [`INITIAL_MAX`], or more on a short path or if it states a large
//!   `reqq`. So a slow peer never has more than it can serve,
//!   and a fast one has a full pipeline after one round trip.
//! - *Slow start.* Each block makes the pipeline one request deeper, which doubles the depth every round trip, until a round
//!   brings no more than the one before. A *round* lasts until a request that was sent after its start is answered.
//! - *Steady.* The depth is twice what the path holds (rate × round trip time), but at least what the peer sends in [`AHEAD`], up
//!   to [`AHEAD_BLOCKS`]. So a slow peer hoards nothing, and a fast one never runs dry.
//! - *Steady on a short path* (below [`SHORT_PATH`]). The depth is also at least what the peer sends in [`AHEAD_FAST`], up to
//!   [`AHEAD_BLOCKS_FAST`]. Whether a path is short is measured again after [`RTT_LIFETIME`].
//! - *Steady on a long path.* The depth is also at least what the peer sends in [`AHEAD_LONG`], because round trip times vary.
//! - *End of the download* ([`EndGameLimit`]). A peer is asked for at most half its fair share of the remaining blocks, but not
//!   less than its path holds. So all peers finish at the same time, and none delays the others with blocks that were requested
//!   too early.
//!
//! Which requests are lost:
//! - All of them, if nothing arrives for a time that depends on how the blocks arrived before: between [`MIN_STALL`] and
//!   [`MAX_STALL`]. A peer that may be slow rather than silent keeps its oldest request for as long again, because a cancel would
//!   waste the part that it has sent.
//! - A single one, if others overtook it by two whole depths, or if it is much older than usual (at least [`MIN_AGE`]).
//! - The newest ones, if the peer would need longer than [`MAX_BACKLOG`](late::MAX_BACKLOG) for all of them.

mod cancels;
mod depth;
mod late;
mod measured;
mod rejects;
#[cfg(test)]
mod tests;
mod unwritten;

use std::collections::VecDeque;
use std::time::Duration;

use crate::strategy::rate::RateMeter;
use crate::types::{BLOCK_SIZE, BlockInfo};
use cancels::Cancels;
pub use depth::EndGameLimit;
use late::PARTIAL_BLOCK_TIME;
use measured::{AnswerTimes, Arrivals, FirstBlocks, RequestNumbers, Round, Rounds};
pub use rejects::RejectOutcome;

/// How many requests may be outstanding at a peer that has not stated its `reqq`. Grows while nothing is lost.
pub const DEFAULT_REQQ: u32 = 500;
/// How many requests may be outstanding at any peer.
pub const MAX_REQQ: u32 = 2000;

/// The depth for a peer that has answered no request.
const INITIAL_DEPTH: usize = 8;
/// The largest depth while only a peer's first blocks show how fast it is.
const INITIAL_MAX: usize = 64;
/// A peer that states such a `reqq` queues many requests.
const LARGE_REQQ: u32 = 1000;
/// Like [`INITIAL_MAX`], for a peer that states a `reqq` of [`LARGE_REQQ`] or more.
const INITIAL_MAX_LARGE_REQQ: usize = 512;
/// The depth after a stall, once a block arrives.
const RESTART: usize = 16;
/// A peer is asked for what it sends in this time, up to [`AHEAD_BLOCKS`].
const AHEAD: Duration = Duration::from_secs(3);
/// The most blocks requested because of [`AHEAD`].
const AHEAD_BLOCKS: usize = 64;
/// On a short path, a fast peer is asked for what it sends in this time, up to [`AHEAD_BLOCKS_FAST`].
const AHEAD_FAST: Duration = Duration::from_millis(10);
/// The most blocks requested because of [`AHEAD_FAST`].
const AHEAD_BLOCKS_FAST: usize = 256;
/// On a long path, a peer is asked for what it sends in this time, within its limit.
const AHEAD_LONG: Duration = Duration::from_secs(1);
/// The most blocks requested from all peers together at first: with many peers no depth is needed.
const INITIAL_TOTAL: usize = 1024;
/// The blocks requested from each peer at first, even if that exceeds [`INITIAL_TOTAL`].
const INITIAL_MIN_SHARE: usize = 16;
/// The smallest depth, so that a peer is not idle between two requests; see [`LONG_BLOCK`].
const MIN_DEPTH: usize = 2;
/// A round that takes longer ends without an answer to a later request, so that slow peers are recognised in time.
const LONG_ROUND: Duration = Duration::from_secs(2);
/// A round that takes less is measured further.
const SHORT_ROUND: Duration = Duration::from_millis(1);
/// On a short path with more than [`CROWDED_DEPTH`] requests outstanding, the round trip time must be measured again after this
/// time.
const RTT_LIFETIME: Duration = Duration::from_secs(10);
/// With more outstanding requests than this, answers queue, so their age does not show the round trip time.
const CROWDED_DEPTH: usize = 16;
/// A peer that needs longer than this for a block gets one request at a time.
const LONG_BLOCK: Duration = Duration::from_secs(4);
/// A peer with unknown rate gets pieces of its own up to this size, in bytes.
const UNKNOWN_PIECE: u32 = 512 * 1024;
/// A path with a smaller round trip time than this is short.
const SHORT_PATH: Duration = Duration::from_millis(10);
/// How much later than the path explains an answer may arrive before it counts as queued.
const SLACK: Duration = Duration::from_millis(2);
/// A longer round trip time than this is attributed to the peer, not to the path.
const MAX_RTT: Duration = Duration::from_secs(1);
/// How long the first block after an unchoke may take.
const FIRST_BLOCK: Duration = Duration::from_secs(10);
const MIN_STALL: Duration = Duration::from_secs(2);
const MAX_STALL: Duration = Duration::from_secs(20);
/// A younger request is not given up because of its age.
const MIN_AGE: Duration = Duration::from_secs(10);
/// A peer that delivers a piece within this time is fast.
const FAST_PIECE_TIME: Duration = Duration::from_secs(20);

/// One outstanding request.
#[derive(Clone, Copy, Debug)]
struct OutstandingRequest {
    block: BlockInfo,
    at: Duration,
    /// Its sequence number on this connection.
    number: u64,
    /// Whether no other request was outstanding when it was sent: its age is then an unqueued round trip time.
    is_unqueued: bool,
}

/// How the depth is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PipelinePhase {
    SlowStart,
    Steady,
    /// See [`RequestPipeline::is_stalled`]. One request at a time until a block arrives.
    Stalled,
}

/// The outstanding requests of one connection. All times count from a start of the caller's choice.
///
/// For each block that arrives, call `take`, then `received`, once per block or once per batch. Then pick `want` more blocks,
/// `enqueue` them, and write the requests that `take_unwritten` returns.
#[derive(Clone, Debug)]
pub struct RequestPipeline {
    queue: VecDeque<OutstandingRequest>,
    limit: usize,
    /// Whether the limit stays: the peer stated it, or our guess was too large and has been halved.
    is_limit_fixed: bool,
    /// Whether the peer itself stated a limit of at least [`LARGE_REQQ`].
    has_large_reqq: bool,
    phase: PipelinePhase,
    depth: usize,
    /// The largest initial depth.
    start: usize,
    rounds: Rounds,
    meter: RateMeter,
    numbers: RequestNumbers,
    timing: AnswerTimes,
    arrivals: Arrivals,
    /// Whether nothing is requested until the queue is empty.
    is_draining: bool,
    /// When to ask the picker again even if no event occurs.
    repick_at: Option<Duration>,
    /// The most cancelled requests that the peer may still reject (BEP 6).
    rejectable_cancels: u32,
    cancels: Cancels,
}

impl RequestPipeline {
    /// For a peer that accepts `limit` requests at a time: [`DEFAULT_REQQ`] until it states its `reqq`.
    pub fn new(limit: u32) -> RequestPipeline {
        RequestPipeline {
            queue: VecDeque::new(),
            limit: limit.clamp(1, MAX_REQQ) as usize,
            is_limit_fixed: false,
            has_large_reqq: false,
            phase: PipelinePhase::SlowStart,
            depth: INITIAL_DEPTH,
            start: INITIAL_MAX_LARGE_REQQ,
            rounds: Rounds::default(),
            meter: RateMeter::new(),
            numbers: RequestNumbers::default(),
            timing: AnswerTimes::default(),
            arrivals: Arrivals::default(),
            is_draining: false,
            repick_at: None,
            rejectable_cancels: 0,
            cancels: Cancels::default(),
        }
    }

    /// Sets how many requests the peer queues (`reqq`, BEP 10).
    pub fn set_limit(&mut self, reqq: u32) {
        self.limit = reqq.clamp(1, MAX_REQQ) as usize;
        self.is_limit_fixed = true;
        self.has_large_reqq = reqq >= LARGE_REQQ;
    }

    /// Limits the initial depth for one of `peers` peers, with pieces of `piece_size` bytes. Must be called before the first
    /// request. Among many peers each is asked for little at first; with large pieces, for its share of one piece, so that the
    /// first piece is complete soon.
    pub fn limit_start_by_peers(&mut self, peers: usize, piece_size: u32) {
        if self.numbers.sent == 0 {
            let piece = piece_size.div_ceil(BLOCK_SIZE) as usize;
            let together = if piece_size > UNKNOWN_PIECE { INITIAL_TOTAL.min(piece) } else { INITIAL_TOTAL };
            self.start = together.div_ceil(peers.max(1)).clamp(INITIAL_MIN_SHARE, INITIAL_MAX_LARGE_REQQ);
            self.depth = self.depth.min(self.start);
        }
    }

    /// Limits the initial depth under a download limit of `limit` bytes per second (0 for none), so that no more is requested at
    /// first than arrives within a few seconds. Must be called before the first request.
    pub fn limit_start_by_rate(&mut self, peers: usize, limit: u64) {
        if self.numbers.sent == 0 && limit > 0 {
            let ahead = limit as f64 * AHEAD.as_secs_f64() / f64::from(BLOCK_SIZE) / peers.max(1) as f64;
            self.start = self.start.min((ahead as usize).max(MIN_DEPTH));
            self.depth = self.depth.min(self.start);
        }
    }

    /// Records that our own rate limit has kept us from reading until now, so that the peer counts as neither late nor slow.
    pub fn note_rate_limited(&mut self, now: Duration) {
        (self.arrivals.progress, self.arrivals.since) = (self.arrivals.progress.max(now), self.arrivals.since.max(now));
        self.rounds.was_rate_limited[0] = true;
    }

    /// Removes the request of a block that arrived. Returns the request's age, or `None` if it was not outstanding: late or
    /// unrequested.
    pub fn take(&mut self, now: Duration, block: &BlockInfo) -> Option<Duration> {
        let waiting = self.queue.remove(self.position(block)?)?;
        let age = now.saturating_sub(waiting.at);
        self.numbers.newest = self.numbers.newest.max(waiting.number);
        self.measure(now, age, waiting.is_unqueued);
        Some(age)
    }

    /// Removes a request that is to be cancelled. Returns false if it was not outstanding.
    pub fn remove(&mut self, block: &BlockInfo) -> bool {
        let removed = self.position(block).is_some_and(|at| self.queue.remove(at).is_some());
        self.rejectable_cancels = self.rejectable_cancels.saturating_add(u32::from(removed));
        removed
    }

    /// The request's index in the queue; answers usually arrive in order.
    fn position(&self, block: &BlockInfo) -> Option<usize> {
        self.queue.iter().position(|waiting| waiting.block == *block)
    }

    /// Removes all requests, because they are cancelled or the connection ends. The measured rate is kept.
    pub fn remove_all(&mut self) -> Vec<BlockInfo> {
        self.arrivals.awaits_first_block = true;
        self.rounds.current = None;
        self.queue.drain(..).map(|waiting| waiting.block).collect()
    }

    /// Removes all requests because they are to be cancelled.
    pub fn cancel_all(&mut self) -> Vec<BlockInfo> {
        let all = self.remove_all();
        self.rejectable_cancels = self.rejectable_cancels.saturating_add(all.len() as u32);
        all
    }

    /// The number of outstanding requests.
    #[cfg(any(test, feature = "internals"))]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no request is outstanding.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many requests should be outstanding.
    pub fn depth(&self) -> usize {
        if self.phase == PipelinePhase::Stalled { 1 } else { self.depth.clamp(1, self.limit) }
    }

    /// How many more blocks to request now: 0 until a quarter of the depth is free, or half of it on a short path, so that
    /// requests are sent in batches.
    pub fn want(&self) -> usize {
        if self.is_draining && !self.queue.is_empty() {
            return 0;
        }
        let depth = self.depth();
        let room = depth.saturating_sub(self.queue.len());
        let short = self.rounds.rate.is_some() && self.path_blocks() * 4 <= depth;
        let parts = if short { 2 } else { 4 };
        if room * parts >= depth { room } else { 0 }
    }

    /// Records that `blocks` blocks with `bytes` bytes of payload arrived, including late ones. They were removed with `take`
    /// before.
    pub fn received(&mut self, now: Duration, blocks: usize, bytes: u64) {
        if blocks == 0 {
            return;
        }
        self.meter.add(now, bytes);
        let since = std::mem::replace(&mut self.arrivals.since, now);
        let gap = now.saturating_sub(self.arrivals.progress);
        // The blocks of one read arrive at the same time and say nothing about gaps.
        if !gap.is_zero() && !self.arrivals.awaits_first_block {
            self.timing.gap = Some(smooth(self.timing.gap, gap));
        }
        self.arrivals.progress = self.arrivals.progress.max(now);
        self.arrivals.awaits_first_block = false;
        self.arrivals.partial = 0;
        self.check_path(now);
        if self.phase == PipelinePhase::Stalled {
            (self.phase, self.depth, self.rounds.rate, self.rounds.current, self.rounds.first) =
                (PipelinePhase::SlowStart, RESTART, None, None, None);
        }
        if self.rounds.rate.is_none()
            && now.saturating_sub(since) >= PARTIAL_BLOCK_TIME
            && self.rounds.was_rate_limited == [false; 2]
        {
            self.settle_at(bytes as f64 / now.saturating_sub(since).as_secs_f64());
        }
        if self.phase == PipelinePhase::SlowStart {
            if self.rounds.rate.is_none() {
                self.depth = self.depth.max(self.first_depth(now, since, blocks));
            }
            if self.has_room() {
                self.depth = (self.depth + blocks).min(self.limit.max(INITIAL_MAX));
            }
        }
        self.count(now, blocks, bytes);
    }

    /// Counts blocks in the current round, and ends it when it is due.
    fn count(&mut self, now: Duration, blocks: usize, bytes: u64) {
        let next = Round { began: now, mark: self.numbers.sent + 1, blocks: 0, bytes: 0 };
        let Some(round) = &mut self.rounds.current else {
            self.rounds.current = Some(next);
            return;
        };
        round.blocks += blocks;
        round.bytes += bytes;
        let took = now.saturating_sub(round.began);
        let marked = self.numbers.newest >= round.mark;
        let over = if marked { took >= SHORT_ROUND } else { took >= LONG_ROUND && round.blocks > 1 };
        if !over {
            return;
        }
        let rate = round.bytes as f64 / took.as_secs_f64();
        self.rounds.current = Some(next);
        self.rounds.was_rate_limited = [false, self.rounds.was_rate_limited[0]];
        let before = self.rounds.rate;
        if self.phase == PipelinePhase::SlowStart {
            // More than a long round's worth is outstanding, which is deep enough.
            if !marked || before.is_some_and(|before| rate < before * 1.1) {
                self.phase = PipelinePhase::Steady;
            }
            self.rounds.rate = Some(before.map_or(rate, |before| before.max(rate)));
        } else {
            self.rounds.rate = Some(before.map_or(rate, |before| f64::midpoint(before, rate)));
        }
        if self.phase == PipelinePhase::Steady {
            self.depth = self.steady_depth();
            if !self.is_limit_fixed && self.depth >= self.limit {
                self.limit = (self.limit + self.limit / 4).min(MAX_REQQ as usize);
            }
        }
    }

    /// Bytes per second over the last rounds; `None` until one has ended, or while nothing arrives.
    pub fn round_rate(&self) -> Option<f64> {
        self.rounds.rate
    }

    /// Whether the peer let its requests time out or rejected all of them, and has sent no block since.
    pub fn is_stalled(&self) -> bool {
        self.phase == PipelinePhase::Stalled
    }

    /// Bytes per second over the last 20 s.
    #[cfg(any(test, feature = "internals"))]
    pub fn rate(&self, now: Duration) -> u64 {
        self.meter.per_second(now)
    }
}

/// A mean over about the last eight samples.
fn smooth(mean: Option<Duration>, sample: Duration) -> Duration {
    mean.map_or(sample, |mean| (mean * 7 + sample) / 8)
}
