//! Detects peers that use their slots little or not at all.
//!
//! A peer that is unchoked and for [`IDLE_TIMEOUT`] requests nothing, or takes less than we would send, gives its slot to a
//! waiting peer, so that a peer cannot hold a slot with a byte per second. A peer on a slow link is not idle: at every
//! observation, requests of it are waiting. An idle peer may have lost a message or may currently want none of our pieces, so the
//! penalty is temporary: the peer ranks after all other waiting peers for [`FIRST_PENALTY`], twice as long each further time. The
//! history is cleared as soon as requests of the peer wait or it takes blocks at a fair rate.

use std::time::Duration;

/// How long a peer with a slot may request nothing while others wait: several round trips and a lost packet.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that takes this many bytes within [`IDLE_TIMEOUT`] uses its slot, even if none of its requests ever waits.
const MIN_USED_BYTES: u64 = 48 * 1024;
/// How long the peer ranks last after the first time.
const FIRST_PENALTY: Duration = Duration::from_secs(30);
/// The longest penalty.
const MAX_PENALTY: Duration = Duration::from_secs(600);

/// How one peer has used its slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idleness {
    /// While the peer has a slot: since when it has requested little or nothing, and how many bytes it had been sent by then.
    since: Option<(Duration, u64)>,
    /// Whether the peer used its slot at the last observation.
    was_active: bool,
    /// Whether the current idle period has been counted.
    is_counted: bool,
    /// How many times in a row the peer wasted a slot.
    times: u32,
    /// The end of the penalty.
    deprioritized_until: Duration,
}

impl Idleness {
    /// Updates the state. `turn` is the time since when the peer has its slot and the bytes it had been sent by then, or `None`
    /// without a slot; `sent` the bytes it has been sent by now; `is_requesting` whether its requests wait for blocks and it
    /// reads them.
    pub fn observe(&mut self, now: Duration, turn: Option<(Duration, u64)>, sent: u64, is_requesting: bool) {
        let Some(turn) = turn else {
            (self.since, self.was_active, self.is_counted) = (None, false, false);
            return;
        };
        let (since, sent_then) = *self.since.get_or_insert(turn);
        let spans = now.saturating_sub(since).as_secs_f64() / IDLE_TIMEOUT.as_secs_f64();
        self.was_active =
            is_requesting || sent.saturating_sub(sent_then) as f64 >= MIN_USED_BYTES as f64 * spans.max(1.0);
        if self.was_active {
            *self = Idleness { since: Some((now, sent)), was_active: true, ..Idleness::default() };
        } else if self.is_idle(now) && !self.is_counted {
            let rest = FIRST_PENALTY.saturating_mul(1 << self.times.min(8)).min(MAX_PENALTY);
            (self.is_counted, self.times, self.deprioritized_until) = (true, self.times.saturating_add(1), now + rest);
        }
    }

    /// Whether the peer has been idle so long that a waiting peer may take its slot.
    pub fn is_idle(&self, now: Duration) -> bool {
        self.idle_from().is_some_and(|from| now >= from)
    }

    /// When [`Idleness::is_idle`] becomes true if the peer stays idle.
    pub fn idle_from(&self) -> Option<Duration> {
        self.since.filter(|_| !self.was_active).map(|(since, _)| since + IDLE_TIMEOUT)
    }

    /// Whether the peer ranks after all other waiting peers.
    pub fn is_deprioritized(&self, now: Duration) -> bool {
        now < self.deprioritized_until
    }

    /// Whether the peer requested nothing or little in its last slot, and has not used one since.
    pub fn left_slot_idle(&self) -> bool {
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
            assert!(!idleness.is_idle(now + SECOND * 99) && idleness.left_slot_idle());
            now += SECOND * (5 + rest);
        }
        idleness.observe(now, Some((now, 7)), 7, true);
        assert!(!idleness.left_slot_idle() && !idleness.is_deprioritized(now), "a request, and all is forgotten");
    }

    #[test]
    fn a_peer_that_takes_blocks_is_not_idle_until_it_stops() {
        let (mut idleness, turn) = (Idleness::default(), Some((SECOND, 0)));
        for second in 2..60 {
            // One block per second, with no request waiting at any observation.
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

    /// On a slow link, requests wait at every observation.
    #[test]
    fn a_slow_connection_is_not_idle() {
        let (mut idleness, turn) = (Idleness::default(), Some((SECOND, 0)));
        for second in 2..90 {
            idleness.observe(SECOND * second, turn, u64::from(second) * 500, true);
            assert!(!idleness.is_idle(SECOND * second));
        }
    }
}
