//! What the picker is told of the peer that it picks for, and when a request counts as overdue.

use std::time::Duration;

/// A request is overdue this long after twice the time in which the peer should have answered it.
const SLACK: Duration = Duration::from_millis(100);
/// A peer that needs longer for a block crawls.
const LONG_BLOCK: Duration = Duration::from_secs(4);
/// The unit in which the picker keeps times, in milliseconds: 32 bits last for 497 days.
const TICK: u64 = 10;

/// How a peer serves us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// It delivers a piece soon, so it gets pieces of its own.
    Fast,
    /// It shares pieces with other slow peers, by blocks.
    Slow,
    /// It let requests run out of time and has sent nothing since. It gets free blocks, and none that others are asked for.
    Snubbed,
}

/// The peer that a pick is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The time since some start.
    pub now: Duration,
    /// How it serves us.
    pub speed: Speed,
    /// In how long it should answer a request that is sent now; `None` while it has answered none.
    pub answer: Option<Duration>,
    /// How much later each further request of the same pick.
    pub per_block: Duration,
}

impl Asking {
    /// A peer that has answered nothing yet.
    pub fn unproven(now: Duration, speed: Speed) -> Asking {
        Asking { now, speed, answer: None, per_block: Duration::ZERO }
    }

    pub(crate) fn is_fast(&self) -> bool {
        self.speed == Speed::Fast
    }

    /// Whether it takes so long for a block that a block which others let expire waits for somebody faster: it may come from them sooner.
    pub(crate) fn is_crawling(&self) -> bool {
        self.per_block > LONG_BLOCK
    }

    pub(crate) fn is_snubbed(&self) -> bool {
        self.speed == Speed::Snubbed
    }

    /// Whether it has answered requests and still does.
    pub(crate) fn is_proven(&self) -> bool {
        self.answer.is_some() && !self.is_snubbed()
    }

    /// The present moment, in ticks.
    pub(crate) fn ticks(&self) -> u32 {
        ticks(self.now)
    }

    /// When the request is overdue that comes after so many others of the pick, in ticks. At once where the peer has proved nothing.
    pub(crate) fn due(&self, after: usize) -> u32 {
        let further = self.per_block.saturating_mul(u32::try_from(after).unwrap_or(u32::MAX));
        let answer = self.answer.filter(|_| !self.is_snubbed()).map(|first| (first + further) * 2 + SLACK);
        ticks(self.now + answer.unwrap_or_default())
    }

    /// Whether a block that another peer is asked for, overdue at `due`, comes sooner by asking this one too.
    pub(crate) fn beats(&self, due: u32) -> bool {
        let now = self.ticks();
        now >= due || self.answer.is_some_and(|answer| due - now > ticks(answer * 4 + SLACK * 2))
    }
}

/// A time in ticks, rounded up.
fn ticks(time: Duration) -> u32 {
    u32::try_from((time.as_millis() as u64).div_ceil(TICK)).unwrap_or(u32::MAX)
}

/// The time that so many ticks stand for.
pub(crate) fn time_of(ticks: u32) -> Duration {
    Duration::from_millis(u64::from(ticks) * TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn peer(now: Duration, answer: Duration) -> Asking {
        Asking { now, speed: Speed::Fast, answer: Some(answer), per_block: answer / 2 }
    }

    #[test]
    fn equal_peers_do_not_double_each_other_until_one_is_late() {
        let asked = peer(MS * 1000, MS * 300);
        assert_eq!(time_of(asked.due(0)), MS * 1700);
        assert_eq!(time_of(asked.due(2)), MS * 2300);
        for (now, doubles) in [(1000, false), (1500, false), (1690, false), (1700, true)] {
            assert_eq!(peer(MS * now, MS * 300).beats(asked.due(0)), doubles, "at {now} ms");
        }
    }

    #[test]
    fn a_much_faster_peer_doubles_a_slow_one_at_once() {
        let slow = peer(MS * 1000, MS * 3000);
        assert!(peer(MS * 1000, MS * 100).beats(slow.due(0)));
        assert!(!peer(MS * 6500, MS * 100).beats(slow.due(0)), "it is about to come");
    }

    #[test]
    fn who_has_proved_nothing_is_doubled_at_once_and_doubles_only_what_is_late() {
        let unproven = Asking::unproven(MS * 1000, Speed::Fast);
        assert!(peer(MS * 1000, MS * 300).beats(unproven.due(5)));
        assert!(unproven.beats(unproven.due(5)) && !unproven.beats(peer(MS * 1000, MS * 300).due(0)));
        let snubbed = Asking { speed: Speed::Snubbed, ..peer(MS * 1000, MS * 300) };
        assert!(peer(MS * 1000, MS * 300).beats(snubbed.due(0)));
    }
}
