//! Which peers do little or nothing with their slots. Pure.
//!
//! A peer that was unchoked and for [`IDLE_TIMEOUT`] asks for nothing, or for less than we would send, gives its slot to one that waits: a
//! byte a second must not hold one. A slow line is another matter: there requests wait whenever we look. It may have lost a message, or
//! want nothing of what we have by now, so it is not left out for good: it comes after all others who wait for [`FIRST_PENALTY`], and for
//! twice as long each further time. When it waits for blocks, or takes some at a fair rate, all is forgotten.

use std::time::Duration;

/// How long a peer with a slot may ask for nothing while others wait: several round trips, and a lost packet.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that takes so many bytes in that time makes use of its slot even if none of its requests ever waits.
const MIN_USED_BYTES: u64 = 48 * 1024;
/// How long it comes last after the first time.
const FIRST_PENALTY: Duration = Duration::from_secs(30);
/// The longest such time.
const MAX_PENALTY: Duration = Duration::from_secs(600);

/// What one peer has made of its slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idleness {
    /// While it has a slot: since when it has asked for nothing or little, and how much it had been sent by then.
    since: Option<(Duration, u64)>,
    /// Whether it waited for blocks, or had taken enough, at the last look.
    active: bool,
    /// Whether this time has been counted.
    counted: bool,
    /// How many times in a row it did nothing with a slot.
    times: u32,
    /// Until when it comes last.
    deprioritized_until: Duration,
}

impl Idleness {
    /// What is to be seen of a peer: since when it has its slot, where it has one, and what it had been sent by then; what it has been sent
    /// by now, and whether it waits for blocks and takes them.
    pub fn observe(&mut self, now: Duration, turn: Option<(Duration, u64)>, sent: u64, is_requesting: bool) {
        let Some(turn) = turn else {
            (self.since, self.active, self.counted) = (None, false, false);
            return;
        };
        let (since, sent_then) = *self.since.get_or_insert(turn);
        let spans = now.saturating_sub(since).as_secs_f64() / IDLE_TIMEOUT.as_secs_f64();
        self.active = is_requesting || sent.saturating_sub(sent_then) as f64 >= MIN_USED_BYTES as f64 * spans.max(1.0);
        if self.active {
            *self = Idleness { since: Some((now, sent)), active: true, ..Idleness::default() };
        } else if self.is_idle(now) && !self.counted {
            let rest = FIRST_PENALTY.saturating_mul(1 << self.times.min(8)).min(MAX_PENALTY);
            (self.counted, self.times, self.deprioritized_until) = (true, self.times.saturating_add(1), now + rest);
        }
    }

    /// Whether it has had a slot for so long and asked for nothing that it is to lose it to one that waits.
    pub fn is_idle(&self, now: Duration) -> bool {
        self.idle_from().is_some_and(|from| now >= from)
    }

    /// From when on that will be so, if it goes on asking for nothing.
    pub fn idle_from(&self) -> Option<Duration> {
        self.since.filter(|_| !self.active).map(|(since, _)| since + IDLE_TIMEOUT)
    }

    /// Whether it comes after all others who wait.
    pub fn is_deprioritized(&self, now: Duration) -> bool {
        now < self.deprioritized_until
    }

    /// Whether it did nothing with its last slot.
    pub fn has_idled(&self) -> bool {
        self.times > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_slot_without_a_request_counts_after_five_seconds_and_longer_each_time() {
        let (mut idleness, mut now) = (Idleness::default(), SECOND * 100);
        for rest in [30, 60, 120, 240, 480, 600, 600] {
            idleness.observe(now + SECOND * 4, Some((now, 7)), 7, false);
            assert!(!idleness.is_idle(now + SECOND * 4) && !idleness.is_deprioritized(now + SECOND * 4));
            for look in 5..9 {
                idleness.observe(now + SECOND * look, Some((now, 7)), 7, false);
                assert!(idleness.is_idle(now + SECOND * look));
            }
            assert!(
                idleness.is_deprioritized(now + SECOND * (4 + rest))
                    && !idleness.is_deprioritized(now + SECOND * (5 + rest))
            );
            idleness.observe(now + SECOND * 9, None, 7, false);
            assert!(!idleness.is_idle(now + SECOND * 99) && idleness.has_idled());
            now += SECOND * (5 + rest);
        }
        idleness.observe(now, Some((now, 7)), 7, true);
        assert!(!idleness.has_idled() && !idleness.is_deprioritized(now), "a request, and all is forgotten");
    }

    #[test]
    fn who_takes_something_is_not_idle_until_it_stops() {
        let (mut idleness, turn) = (Idleness::default(), Some((SECOND, 0)));
        for second in 2..60 {
            // A block a second, and never a request that waits when we look.
            idleness.observe(SECOND * second as u32, turn, second * 16 * 1024, false);
            assert!(!idleness.is_idle(SECOND * second as u32), "{second}");
        }
        idleness.observe(SECOND * 65, turn, 59 * 16 * 1024, false);
        assert!(idleness.is_idle(SECOND * 65));
    }

    #[test]
    fn a_byte_a_second_or_a_block_every_five_holds_no_slot() {
        for looks in [1, 2, 5, 10] {
            for (every, bytes) in [(1, 1), (5, 16 * 1024)] {
                let (mut idleness, turn) = (Idleness::default(), Some((SECOND, 0)));
                for second in (1 + looks..=16).step_by(looks as usize) {
                    idleness.observe(SECOND * second, turn, u64::from(second / every) * bytes, false);
                }
                assert!(idleness.is_idle(SECOND * 16), "{bytes} bytes every {every} s, a look every {looks} s");
            }
        }
    }

    /// Behind a slow line requests wait at every look.
    #[test]
    fn a_slow_line_is_not_idle() {
        let (mut idleness, turn) = (Idleness::default(), Some((SECOND, 0)));
        for second in 2..90 {
            idleness.observe(SECOND * second, turn, u64::from(second) * 500, true);
            assert!(!idleness.is_idle(SECOND * second));
        }
    }
}
