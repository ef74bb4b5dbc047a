//! What of the requests is lost by now, and when to look again.

use std::time::Duration;

use crate::strategy::pipeline::{
    FIRST_BLOCK, LIMIT, MAX_STALL, MIN_AGE, MIN_STALL, OutstandingRequest, PipelinePhase, RESTART, RequestPipeline,
    START,
};
use crate::types::{BLOCK_SIZE, BlockRequest};

/// A peer that sends this many bytes of a block a second, or more, is not silent: with fewer its time runs out.
const SLOWEST: u64 = 512;
/// What a slow peer would need longer for than this is taken back.
pub(crate) const MAX_BACKLOG: Duration = Duration::from_secs(10);
/// After so long what has come of a block says how slow a peer is.
pub(crate) const FIRST_SIGHT: Duration = Duration::from_secs(4);

impl RequestPipeline {
    /// When to call [`RequestPipeline::expire`] and [`RequestPipeline::is_repick_due`] next, unless something comes before.
    pub fn next_deadline(&self) -> Option<Duration> {
        match (self.lost_at(), self.repick_at) {
            (Some(lost), Some(repick_at)) => Some(lost.min(repick_at)),
            (lost, repick_at) => lost.or(repick_at),
        }
    }

    /// The picker is to be asked again then although nothing happens, or need not be.
    pub fn set_repick_at(&mut self, at: Option<Duration>) {
        self.repick_at = at;
    }

    /// Whether it is time for that; says so once.
    pub fn is_repick_due(&mut self, now: Duration) -> bool {
        self.repick_at.take_if(|at| *at <= now).is_some()
    }

    /// When the next of the outstanding requests counts as lost.
    fn lost_at(&self) -> Option<Duration> {
        let front = self.queue.front().filter(|front| front.number <= self.written)?;
        if self.surplus() > 0 || self.is_overtaken(front) {
            return Some(self.progress);
        }
        let stalled = self.progress + self.stall();
        // Its age only counts against a request while others are answered.
        Some(if self.newest > front.number { stalled.min(front.at + self.oldest_age()) } else { stalled })
    }

    /// Takes out what is lost by now: give it to `Picker::expire` and send `cancel` for it. It may still come late.
    pub fn expire(&mut self, now: Duration) -> Vec<BlockRequest> {
        let lost = self.lose(now);
        self.unanswered = self.unanswered.saturating_add(lost.len() as u32);
        lost
    }

    fn lose(&mut self, now: Duration) -> Vec<BlockRequest> {
        if self.queue.front().is_none_or(|front| front.number > self.written) {
            return Vec::new();
        }
        if now >= self.progress + self.stall() {
            let keep = usize::from(self.may_be_slow());
            self.phase = PipelinePhase::Snubbed;
            (self.round, self.flow, self.partial) = (None, None, 0);
            self.progress = now;
            return self.queue.drain(keep..).map(|waiting| waiting.block).collect();
        }
        let mut lost = Vec::new();
        while let Some(front) = self.queue.front()
            && (self.is_overtaken(front) || (self.newest > front.number && now >= front.at + self.oldest_age()))
        {
            lost.extend(self.queue.pop_front().map(|waiting| waiting.block));
        }
        if !lost.is_empty() && !self.stated {
            // It keeps fewer than we asked for.
            self.limit = (self.limit / 2).clamp(START, LIMIT as usize);
            self.stated = true;
        }
        let keep = self.queue.len() - self.surplus();
        lost.extend(self.queue.drain(keep..).map(|waiting| waiting.block));
        lost
    }

    /// Whether nothing comes for the first time, of a peer that has shown nothing yet or sends a block in seconds.
    fn may_be_slow(&self) -> bool {
        self.phase != PipelinePhase::Snubbed && (self.fresh || self.gap.is_some_and(|gap| gap * 8 >= MAX_STALL))
    }

    /// Whether so much that was sent later is answered that this one must have been dropped.
    fn is_overtaken(&self, waiting: &OutstandingRequest) -> bool {
        self.newest.saturating_sub(waiting.number) > 2 * self.depth().max(RESTART) as u64
    }

    /// How many of the newest requests such a slow peer would not come to within reason.
    fn surplus(&self) -> usize {
        let Some(flow) = self.flow.filter(|_| self.phase == PipelinePhase::Steady && self.held == [false; 2]) else {
            return 0;
        };
        let reach = (flow * MAX_BACKLOG.as_secs_f64() / f64::from(BLOCK_SIZE)) as usize;
        let keep = self.depth().max(self.least());
        if self.queue.len() > reach.max(3 * keep) { self.queue.len() - keep } else { 0 }
    }

    /// How long no block may come before all counts as lost; longer, the more of a block has come.
    fn stall(&self) -> Duration {
        let arriving = Duration::from_millis(self.partial * 1000 / SLOWEST);
        if self.fresh {
            return FIRST_BLOCK + arriving;
        }
        let gaps = self.gap.unwrap_or_default() * 8;
        let trips = self.rtt.unwrap_or_default() * 4;
        gaps.max(trips).clamp(MIN_STALL, MAX_STALL) + arriving
    }

    /// How old a request may become while later ones are answered.
    fn oldest_age(&self) -> Duration {
        (self.age.unwrap_or_default() * 4).max(MIN_AGE)
    }
}
