//! Describes the peer for which blocks are picked, and decides when a request is overdue.

use std::time::Duration;

/// A request is overdue this long after twice its expected answer time.
const SLACK: Duration = Duration::from_millis(100);
/// A peer that needs longer for a block is very slow.
const VERY_SLOW_BLOCK: Duration = Duration::from_secs(4);
/// The picker's unit of time, in milliseconds: 32 bits last for 497 days.
const TICK: u64 = 10;

/// How fast a peer serves us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// It delivers a piece soon, so it gets pieces of its own.
    Fast,
    /// It shares pieces with other slow peers, block by block.
    Slow,
    /// See [`RequestPipeline::is_stalled`](crate::strategy::RequestPipeline::is_stalled). It gets free blocks only, none that
    /// other peers are asked for.
    Stalled,
}

/// The peer that a pick is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickContext {
    /// The time since some start.
    pub now: Duration,
    /// The peer's speed class.
    pub speed: Speed,
    /// How soon it should answer a request that is sent now; `None` until it has answered one.
    pub answer_time: Option<Duration>,
    /// The additional time for each further request of the same pick.
    pub per_block: Duration,
}

impl PickContext {
    /// A peer that has not answered any request.
    pub fn unproven(now: Duration, speed: Speed) -> PickContext {
        PickContext { now, speed, answer_time: None, per_block: Duration::ZERO }
    }

    pub(crate) fn is_fast(&self) -> bool {
        self.speed == Speed::Fast
    }

    /// Whether it is so slow that blocks expired by other peers are left to faster peers, which may deliver them sooner.
    pub(crate) fn is_very_slow(&self) -> bool {
        self.per_block > VERY_SLOW_BLOCK
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.speed == Speed::Stalled
    }

    /// Whether it has answered requests and still does.
    pub(crate) fn is_proven(&self) -> bool {
        self.answer_time.is_some() && !self.is_stalled()
    }

    /// Blocks per second; `None` until the rate is known.
    pub(crate) fn block_rate(&self) -> Option<f64> {
        (self.is_proven() && !self.per_block.is_zero()).then(|| 1.0 / self.per_block.as_secs_f64())
    }

    /// The current time in ticks.
    pub(crate) fn ticks(&self) -> u32 {
        ticks(self.now)
    }

    /// When a request is overdue that follows `after` others of the same pick, in ticks. Immediately if the peer has not proven
    /// itself.
    pub(crate) fn due(&self, after: usize) -> u32 {
        let further = self.per_block.saturating_mul(u32::try_from(after).unwrap_or(u32::MAX));
        let answer = self.answer_time.filter(|_| !self.is_stalled()).map(|first| (first + further) * 2 + SLACK);
        ticks(self.now + answer.unwrap_or_default())
    }

    /// Whether this peer is expected to deliver sooner a block that another peer was asked for, with the answer overdue at `due`.
    pub(crate) fn is_sooner_than(&self, due: u32) -> bool {
        let now = self.ticks();
        now >= due || self.answer_time.is_some_and(|answer| due - now > ticks(answer * 4 + SLACK * 2))
    }
}

/// A time in ticks, rounded up.
pub(crate) fn ticks(time: Duration) -> u32 {
    u32::try_from((time.as_millis() as u64).div_ceil(TICK)).unwrap_or(u32::MAX)
}

/// The time that this many ticks represent.
pub(crate) fn time_of(ticks: u32) -> Duration {
    Duration::from_millis(u64::from(ticks) * TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn peer(now: Duration, answer_time: Duration) -> PickContext {
        PickContext { now, speed: Speed::Fast, answer_time: Some(answer_time), per_block: answer_time / 2 }
    }

    #[test]
    fn equal_peers_do_not_double_each_other_until_one_is_late() {
        let asked = peer(MS * 1000, MS * 300);
        assert_eq!(time_of(asked.due(0)), MS * 1700);
        assert_eq!(time_of(asked.due(2)), MS * 2300);
        for (now, doubles) in [(1000, false), (1500, false), (1690, false), (1700, true)] {
            assert_eq!(peer(MS * now, MS * 300).is_sooner_than(asked.due(0)), doubles, "at {now} ms");
        }
    }

    #[test]
    fn a_much_faster_peer_doubles_a_slow_one_at_once() {
        let slow = peer(MS * 1000, MS * 3000);
        assert!(peer(MS * 1000, MS * 100).is_sooner_than(slow.due(0)));
        assert!(!peer(MS * 6500, MS * 100).is_sooner_than(slow.due(0)), "it is about to come");
    }

    #[test]
    fn requests_to_unproven_peers_are_duplicated_at_once_and_these_duplicate_only_late_ones() {
        let unproven = PickContext::unproven(MS * 1000, Speed::Fast);
        assert!(peer(MS * 1000, MS * 300).is_sooner_than(unproven.due(5)));
        assert!(unproven.is_sooner_than(unproven.due(5)) && !unproven.is_sooner_than(peer(MS * 1000, MS * 300).due(0)));
        let stalled = PickContext { speed: Speed::Stalled, ..peer(MS * 1000, MS * 300) };
        assert!(peer(MS * 1000, MS * 300).is_sooner_than(stalled.due(0)));
    }
}
