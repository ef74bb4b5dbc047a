//! The requests of one connection that wait for an answer: how many more to send, and which of them are lost.
//!
//! How deep to ask: of a peer that has shown nothing a few blocks, then for as many as it sends in three seconds at the
//! rate at which its first blocks follow each other: a slow peer never has more than it can take, and a fast one has a full pipeline
//! after one round trip. From there a *slow start*, one deeper for each block that comes, so that each round trip doubles the depth,
//! until a round brings no more than the one before; then twice what the path holds (rate × round trip), but at least three seconds'
//! worth, up to 64 blocks, so that a slow peer hoards nothing and a fast one never runs dry. On a short path that is all, but for
//! 256 blocks where 64 are not even a hundredth of a second's worth; on any other one second's worth is outstanding, as
//! round trips vary. Whether a path is short is looked at anew every ten seconds. A *round* lasts until a request that was sent after
//! its start is answered.
//!
//! Towards the end of a download a peer is asked for half its fair part of what is left and no more, down to what its path
//! holds: all peers then finish at the same moment, and none keeps the others waiting for what it was asked for too early.
//!
//! What is lost: everything, when nothing came for long; a single request, when others overtook it by two whole depths or it
//! is much older than usual; the newest ones, when the peer turned out far too slow for what was asked of it. A peer that may be
//! slow rather than silent keeps its oldest request once more as long, as a cancel would throw away what it has done of it.

mod depth;
mod late;
#[cfg(test)]
mod path_tests;
mod rejects;
#[cfg(test)]
mod tests;
mod unwritten;

use std::collections::VecDeque;
use std::time::Duration;

use crate::strategy::rate::Rate;
use crate::types::{BLOCK_SIZE, BlockRequest};
pub use depth::PipelineDepth;
use late::FIRST_SIGHT;
pub use rejects::RejectOutcome;

/// How many requests may be outstanding at a peer that does not state its reqq; it grows while nothing is lost.
pub const LIMIT_UNSTATED: u32 = 500;
/// How many may be outstanding at any peer.
pub const LIMIT: u32 = 2000;

/// How many requests a peer has that has answered none.
const INITIAL_DEPTH: usize = 8;
/// How many at most while its first blocks alone say how fast it is.
const START: usize = 64;
/// Where the peer states a reqq of `GENEROUS` or more.
const START_GENEROUS: usize = 512;
const GENEROUS: u32 = 1000;
/// Depth after a stall, once a block comes again.
const RESTART: usize = 16;
/// A slow peer is asked for so much of its rate, a faster one for so many blocks.
const AHEAD: Duration = Duration::from_secs(3);
const AHEAD_BLOCKS: usize = 64;
const AHEAD_FAST: Duration = Duration::from_millis(10);
/// On a path that is not short so much of its rate is outstanding, as far as the peer's limit allows.
const AHEAD_LONG: Duration = Duration::from_secs(1);
const AHEAD_BLOCKS_FAST: usize = 256;
/// All peers together are asked for so many blocks at first, but each for `START_LEAST`: with many, no depth is needed.
const START_TOGETHER: usize = 1024;
const START_LEAST: usize = 16;
const AT_LEAST: usize = 2;
/// A round that took longer ends without its mark, so that slow peers are known in time.
const LONG_ROUND: Duration = Duration::from_secs(2);
/// A round that took less is measured on.
const SHORT_ROUND: Duration = Duration::from_millis(1);
/// After so long the smallest age is to be seen anew, on a short path with more than so many requests outstanding.
const MIN_AGES: Duration = Duration::from_secs(10);
const CROWDED: usize = 16;
/// Where a block takes longer than this, one request at a time will do.
const LONG_BLOCK: Duration = Duration::from_secs(4);
/// A peer whose rate is unknown has pieces of its own up to this size.
const UNKNOWN_PIECE: u32 = 512 * 1024;
/// A path with less than this between request and answer is a short one.
const SHORT_PATH: Duration = Duration::from_millis(10);
/// How much later than the path explains an answer may come before it counts as queued.
const SLACK: Duration = Duration::from_millis(2);
/// Longer round trips than this are a peer's slowness, not the path's.
const MAX_RTT: Duration = Duration::from_secs(1);
/// How long the first block after an unchoke may take.
const FIRST_BLOCK: Duration = Duration::from_secs(10);
const MIN_STALL: Duration = Duration::from_secs(2);
const MAX_STALL: Duration = Duration::from_secs(20);
/// A single request younger than this is not given up for its age.
const MIN_AGE: Duration = Duration::from_secs(10);
/// A peer that delivers a piece within this is a fast one.
const FAST_PIECE_TIME: Duration = Duration::from_secs(20);

/// One request that waits.
#[derive(Clone, Copy, Debug)]
struct OutstandingRequest {
    block: BlockRequest,
    at: Duration,
    /// The how-many-th request of this connection it is.
    number: u64,
    /// Whether nothing else was outstanding when it was sent: its age is then a clean round trip.
    clean: bool,
}

/// How the depth is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PipelinePhase {
    SlowStart,
    Steady,
    /// Nothing came for long: one request at a time until a block comes.
    Snubbed,
}

/// Blocks and bytes since a moment, to compare one round with the next.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Duration,
    /// The round is over when the request of this number is answered.
    mark: u64,
    blocks: usize,
    bytes: u64,
}

/// What came before the first round was over.
#[derive(Clone, Copy, Debug)]
struct FirstBlocks {
    /// Since when blocks were waited for, and when the first came.
    asked: Duration,
    came: Duration,
    blocks: usize,
}

/// One connection's outstanding requests. All times are since some start that the caller keeps.
///
/// For each block that comes: `take`, then `received`, once for each or once for a
/// batch; then ask for `want` more, `enqueue` what was picked, and write what
/// `take_unwritten` gives.
#[derive(Clone, Debug)]
pub struct RequestPipeline {
    queue: VecDeque<OutstandingRequest>,
    limit: usize,
    stated: bool,
    phase: PipelinePhase,
    depth: usize,
    /// The depth to begin with, at most.
    start: usize,
    /// The first blocks, while no round is over.
    first: Option<FirstBlocks>,
    round: Option<Round>,
    /// Bytes per second of the last rounds, once one is over.
    flow: Option<f64>,
    meter: Rate,
    /// Requests so far, and how many of them have been written to the socket.
    sent: u64,
    written: u64,
    /// The highest number answered.
    newest: u64,
    /// The smallest age of an answered request, and when it was last seen.
    rtt: Option<Duration>,
    rtt_seen: Duration,
    /// See [`RequestPipeline::set_path`].
    path: Duration,
    /// Nothing is asked for until the queue is empty.
    drain: bool,
    /// Bytes of the block that is arriving.
    partial: u64,
    /// When the picker is to be asked again although nothing happens.
    repick_at: Option<Duration>,
    /// Smoothed age of answered requests.
    age: Option<Duration>,
    /// Smoothed time between arrivals.
    gap: Option<Duration>,
    /// When something last came, or waiting began; a stall begins it anew.
    progress: Duration,
    /// The same, whatever has stalled since.
    since: Duration,
    /// No block has come since the unchoke.
    fresh: bool,
    /// Whether a limit of ours held blocks back in this round, and in the one before.
    held: [bool; 2],
    /// Cancelled requests that the peer may still reject (BEP 6), at most.
    unanswered: u32,
}

impl RequestPipeline {
    /// For a peer that takes `limit` requests at a time: [`LIMIT_UNSTATED`] until it states its reqq.
    pub fn new(limit: u32) -> RequestPipeline {
        RequestPipeline {
            queue: VecDeque::new(),
            limit: limit.clamp(1, LIMIT) as usize,
            stated: false,
            phase: PipelinePhase::SlowStart,
            depth: INITIAL_DEPTH,
            start: START_GENEROUS,
            first: None,
            round: None,
            flow: None,
            meter: Rate::new(),
            sent: 0,
            written: 0,
            newest: 0,
            rtt: None,
            rtt_seen: Duration::ZERO,
            path: Duration::ZERO,
            drain: false,
            partial: 0,
            repick_at: None,
            age: None,
            gap: None,
            progress: Duration::ZERO,
            since: Duration::ZERO,
            fresh: true,
            held: [false; 2],
            unanswered: 0,
        }
    }

    /// The peer states how many requests it keeps (`reqq`, BEP 10).
    pub fn set_limit(&mut self, reqq: u32) {
        self.limit = reqq.clamp(1, LIMIT) as usize;
        self.stated = true;
    }

    /// The peer is one of so many, of which we want pieces of so many bytes; to be said before the first request. Among many each is
    /// asked for little at first: where pieces are large, for its part of one, so that the first piece is whole soon.
    pub fn limit_start_by_peers(&mut self, peers: usize, piece_size: u32) {
        if self.sent == 0 {
            let piece = piece_size.div_ceil(BLOCK_SIZE) as usize;
            let together = if piece_size > UNKNOWN_PIECE { START_TOGETHER.min(piece) } else { START_TOGETHER };
            self.start = together.div_ceil(peers.max(1)).clamp(START_LEAST, START_GENEROUS);
            self.depth = self.depth.min(self.start);
        }
    }

    /// All peers together may send us `limit` bytes per second (0: as many as they like); to be said before the first request, so
    /// that no more is asked for at first than comes within a few seconds.
    pub fn limit_start_by_rate(&mut self, peers: usize, limit: u64) {
        if self.sent == 0 && limit > 0 {
            let ahead = limit as f64 * AHEAD.as_secs_f64() / f64::from(BLOCK_SIZE) / peers.max(1) as f64;
            self.start = self.start.min((ahead as usize).max(AT_LEAST));
            self.depth = self.depth.min(self.start);
        }
    }

    /// A limit of ours kept us until now from receiving what is there: the peer is not late, nor slow.
    pub fn held_back(&mut self, now: Duration) {
        (self.progress, self.since) = (self.progress.max(now), self.since.max(now));
        self.held[0] = true;
    }

    /// The block came. Its request's age, or `None` where it is not outstanding: late, or never asked for.
    pub fn take(&mut self, now: Duration, block: &BlockRequest) -> Option<Duration> {
        let waiting = self.queue.remove(self.position(block)?)?;
        let age = now.saturating_sub(waiting.at);
        self.newest = self.newest.max(waiting.number);
        self.measure(now, age, waiting.clean);
        Some(age)
    }

    /// Takes out a request that is to be cancelled. False where it is not outstanding.
    pub fn remove(&mut self, block: &BlockRequest) -> bool {
        let removed = self.position(block).is_some_and(|at| self.queue.remove(at).is_some());
        self.unanswered = self.unanswered.saturating_add(u32::from(removed));
        removed
    }

    /// Where the request stands; answers usually come in order.
    fn position(&self, block: &BlockRequest) -> Option<usize> {
        self.queue.iter().position(|waiting| waiting.block == *block)
    }

    /// Takes out all: we were choked, or the connection ends. What is known of the rate stays.
    pub fn drain(&mut self) -> Vec<BlockRequest> {
        self.fresh = true;
        self.round = None;
        self.queue.drain(..).map(|waiting| waiting.block).collect()
    }

    /// Takes out all, as all are to be cancelled.
    pub fn cancel_all(&mut self) -> Vec<BlockRequest> {
        let all = self.drain();
        self.unanswered = self.unanswered.saturating_add(all.len() as u32);
        all
    }

    /// How many are outstanding.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is outstanding.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many should be outstanding.
    pub fn depth(&self) -> usize {
        if self.phase == PipelinePhase::Snubbed { 1 } else { self.depth.clamp(1, self.limit) }
    }

    /// How many more to ask for now: 0 until a quarter of the depth is gone, or half of it on a short path, so that requests leave
    /// in batches.
    pub fn want(&self) -> usize {
        if self.drain && !self.queue.is_empty() {
            return 0;
        }
        let depth = self.depth();
        let room = depth.saturating_sub(self.queue.len());
        let short = self.flow.is_some() && self.path_blocks() * 4 <= depth;
        let parts = if short { 2 } else { 4 };
        if room * parts >= depth { room } else { 0 }
    }

    /// `blocks` blocks with `bytes` bytes of payload came, late ones included; they are taken out already.
    pub fn received(&mut self, now: Duration, blocks: usize, bytes: u64) {
        if blocks == 0 {
            return;
        }
        self.meter.add(now, bytes);
        let since = std::mem::replace(&mut self.since, now);
        let gap = now.saturating_sub(self.progress);
        // Blocks of one read come at one moment; they say nothing of gaps.
        if !gap.is_zero() && !self.fresh {
            self.gap = Some(smooth(self.gap, gap));
        }
        self.progress = self.progress.max(now);
        self.fresh = false;
        self.partial = 0;
        self.check_path(now);
        if self.phase == PipelinePhase::Snubbed {
            (self.phase, self.depth, self.flow, self.round, self.first) =
                (PipelinePhase::SlowStart, RESTART, None, None, None);
        }
        if self.flow.is_none() && now.saturating_sub(since) >= FIRST_SIGHT && self.held == [false; 2] {
            self.settle_at(bytes as f64 / now.saturating_sub(since).as_secs_f64());
        }
        if self.phase == PipelinePhase::SlowStart {
            if self.flow.is_none() {
                self.depth = self.depth.max(self.first_depth(now, since, blocks));
            }
            if self.has_room() {
                self.depth = (self.depth + blocks).min(self.limit.max(START));
            }
        }
        self.count(now, blocks, bytes);
    }

    /// Counts into the present round, and ends it when it is time.
    fn count(&mut self, now: Duration, blocks: usize, bytes: u64) {
        let next = Round { began: now, mark: self.sent + 1, blocks: 0, bytes: 0 };
        let Some(round) = &mut self.round else {
            self.round = Some(next);
            return;
        };
        round.blocks += blocks;
        round.bytes += bytes;
        let took = now.saturating_sub(round.began);
        let marked = self.newest >= round.mark;
        let over = if marked { took >= SHORT_ROUND } else { took >= LONG_ROUND && round.blocks > 1 };
        if !over {
            return;
        }
        let rate = round.bytes as f64 / took.as_secs_f64();
        self.round = Some(next);
        self.held = [false, self.held[0]];
        let before = self.flow;
        if self.phase == PipelinePhase::SlowStart {
            // More than a long round's worth is outstanding: that is deep enough.
            if !marked || before.is_some_and(|before| rate < before * 1.1) {
                self.phase = PipelinePhase::Steady;
            }
            self.flow = Some(before.map_or(rate, |before| before.max(rate)));
        } else {
            self.flow = Some(before.map_or(rate, |before| f64::midpoint(before, rate)));
        }
        if self.phase == PipelinePhase::Steady {
            self.depth = self.steady_depth();
            if !self.stated && self.depth >= self.limit {
                self.limit = (self.limit + self.limit / 4).min(LIMIT as usize);
            }
        }
    }

    /// Bytes per second of the last rounds; `None` until one is over, or while nothing comes.
    pub fn flow(&self) -> Option<f64> {
        self.flow
    }

    /// Whether nothing came for so long that all requests were taken back, and nothing has come since.
    pub fn is_snubbed(&self) -> bool {
        self.phase == PipelinePhase::Snubbed
    }

    /// Bytes per second over the last 20 s.
    pub fn rate(&self, now: Duration) -> u64 {
        self.meter.per_second(now)
    }
}

/// A mean over the last eight or so.
fn smooth(mean: Option<Duration>, sample: Duration) -> Duration {
    mean.map_or(sample, |mean| (mean * 7 + sample) / 8)
}
