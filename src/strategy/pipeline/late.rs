//! Which requests are lost, and when to check again.

use std::time::Duration;

use crate::strategy::pipeline::{
    FIRST_BLOCK, INITIAL_MAX, MAX_REQQ, MAX_STALL, MIN_AGE, MIN_STALL, OutstandingRequest, PipelinePhase, RESTART,
    RequestPipeline,
};
use crate::types::{BLOCK_SIZE, BlockInfo};

/// A peer that sends at least this many bytes of a block per second is not silent; below it, the request expires.
const SLOWEST: u64 = 512;
/// Requests that a slow peer would need longer for are taken back.
pub(crate) const MAX_BACKLOG: Duration = Duration::from_secs(10);
/// After this time, the part of a block that has arrived shows how slow a peer is.
pub(crate) const PARTIAL_BLOCK_TIME: Duration = Duration::from_secs(4);

impl RequestPipeline {
    /// When to call [`RequestPipeline::expire`] and [`RequestPipeline::is_repick_due`] next, unless a block arrives before.
    pub fn next_deadline(&self) -> Option<Duration> {
        match (self.lost_at(), self.repick_at) {
            (Some(lost), Some(repick_at)) => Some(lost.min(repick_at)),
            (lost, repick_at) => lost.or(repick_at),
        }
    }

    /// Sets when to ask the picker again even if no event occurs; `None` for never.
    pub fn set_repick_at(&mut self, at: Option<Duration>) {
        self.repick_at = at;
    }

    /// Whether that time has come; returns true once.
    pub fn is_repick_due(&mut self, now: Duration) -> bool {
        self.repick_at.take_if(|at| *at <= now).is_some()
    }

    /// When the next outstanding request counts as lost.
    fn lost_at(&self) -> Option<Duration> {
        let front = self.queue.front().filter(|front| front.number <= self.numbers.written)?;
        if self.surplus() > 0 || self.is_overtaken(front) {
            return Some(self.arrivals.progress);
        }
        let stalled = self.arrivals.progress + self.stall();
        // A request's age counts against it only while later ones are answered.
        Some(if self.numbers.newest > front.number { stalled.min(front.at + self.oldest_age()) } else { stalled })
    }

    /// Removes the requests that are lost by now: pass them to `Picker::expire`, and send `cancel` for them. Their blocks may
    /// still arrive.
    pub fn expire(&mut self, now: Duration) -> Vec<BlockInfo> {
        let lost = self.lose(now);
        self.rejectable_cancels = self.rejectable_cancels.saturating_add(lost.len() as u32);
        lost
    }

    fn lose(&mut self, now: Duration) -> Vec<BlockInfo> {
        if self.queue.front().is_none_or(|front| front.number > self.numbers.written) {
            return Vec::new();
        }
        if now >= self.arrivals.progress + self.stall() {
            let keep = usize::from(self.may_be_slow());
            self.phase = PipelinePhase::Stalled;
            (self.rounds.current, self.rounds.rate, self.arrivals.partial) = (None, None, 0);
            self.arrivals.progress = now;
            return self.queue.drain(keep..).map(|waiting| waiting.block).collect();
        }
        let mut lost = Vec::new();
        while let Some(front) = self.queue.front()
            && (self.is_overtaken(front) || (self.numbers.newest > front.number && now >= front.at + self.oldest_age()))
        {
            lost.extend(self.queue.pop_front().map(|waiting| waiting.block));
        }
        if !lost.is_empty() && !self.is_limit_fixed {
            // The peer queues fewer requests than we sent.
            self.limit = (self.limit / 2).clamp(INITIAL_MAX, MAX_REQQ as usize);
            self.is_limit_fixed = true;
        }
        let keep = self.queue.len() - self.surplus();
        lost.extend(self.queue.drain(keep..).map(|waiting| waiting.block));
        lost
    }

    /// Whether the peer may be slow instead of silent: this is its first stall, and it has shown nothing yet or needs seconds per
    /// block.
    fn may_be_slow(&self) -> bool {
        self.phase != PipelinePhase::Stalled
            && (self.arrivals.awaits_first_block || self.timing.gap.is_some_and(|gap| gap * 8 >= MAX_STALL))
    }

    /// Whether so many later requests were answered that the peer must have dropped this one.
    fn is_overtaken(&self, waiting: &OutstandingRequest) -> bool {
        self.numbers.newest.saturating_sub(waiting.number) > 2 * self.depth().max(RESTART) as u64
    }

    /// How many of the newest requests a slow peer would not reach in reasonable time.
    fn surplus(&self) -> usize {
        let Some(flow) = self
            .rounds
            .rate
            .filter(|_| self.phase == PipelinePhase::Steady && self.rounds.was_rate_limited == [false; 2])
        else {
            return 0;
        };
        let reach = (flow * MAX_BACKLOG.as_secs_f64() / f64::from(BLOCK_SIZE)) as usize;
        let keep = self.depth().max(self.least());
        if self.queue.len() > reach.max(3 * keep) { self.queue.len() - keep } else { 0 }
    }

    /// How long no block may arrive before all requests count as lost; the more of a block has arrived, the longer.
    fn stall(&self) -> Duration {
        let arriving = Duration::from_millis(self.arrivals.partial * 1000 / SLOWEST);
        if self.arrivals.awaits_first_block {
            return FIRST_BLOCK + arriving;
        }
        let gaps = self.timing.gap.unwrap_or_default() * 8;
        let trips = self.timing.min_age.unwrap_or_default() * 4;
        gaps.max(trips).clamp(MIN_STALL, MAX_STALL) + arriving
    }

    /// The largest age of a request while later ones are answered.
    fn oldest_age(&self) -> Duration {
        (self.timing.age.unwrap_or_default() * 4).max(MIN_AGE)
    }
}
