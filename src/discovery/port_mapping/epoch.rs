//! Recognises from the clock in its answers that a router has restarted and has lost its mappings (RFC 6886, 3.6; RFC 6887, 8.5).
//! Pure.

use std::time::Duration;

/// The deviation that is not taken for a restart, in seconds.
const TOLERANCE: u64 = 2;

/// The time on a router's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterTime {
    /// Seconds since the router forgot all mappings.
    pub epoch: u32,
    /// Whether an answer of PCP says so, and not one of NAT-PMP.
    pub is_pcp: bool,
}

/// The router's clock as we last heard it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouterClock {
    /// Our time and the router's.
    last: Option<(Duration, u32)>,
}

impl RouterClock {
    /// Records the time in an answer that arrived `now`. Returns whether the router must have restarted since the last one:
    /// its clock went back, or ran much slower than ours. With PCP, a clock that ran ahead is also taken for a restart.
    pub fn has_restarted(&mut self, now: Duration, RouterTime { epoch, is_pcp }: RouterTime) -> bool {
        let Some((then, before)) = self.last.replace((now, epoch)) else { return false };
        let ours = now.saturating_sub(then).as_secs();
        let Some(theirs) = u64::from(epoch).checked_sub(u64::from(before)) else {
            // A second back can be the network's doing: two answers may overtake each other.
            return before - epoch > 1 || ours > TOLERANCE;
        };
        let slower = theirs + TOLERANCE < ours - ours / if is_pcp { 16 } else { 8 };
        slower || (is_pcp && ours + TOLERANCE < theirs - theirs / 16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restarted(first: (u64, u32), second: (u64, u32), is_pcp: bool) -> bool {
        let mut clock = RouterClock::default();
        assert!(
            !clock.has_restarted(Duration::from_secs(first.0), RouterTime { epoch: first.1, is_pcp }),
            "nothing to compare with"
        );
        clock.has_restarted(Duration::from_secs(second.0), RouterTime { epoch: second.1, is_pcp })
    }

    #[test]
    fn a_clock_that_goes_back_or_stands_still_is_a_restart() {
        for is_pcp in [false, true] {
            assert!(restarted((100, 5000), (1900, 30), is_pcp), "the usual case");
            assert!(restarted((100, 5000), (1900, 5000), is_pcp));
            assert!(!restarted((100, 5000), (1900, 6800), is_pcp));
            assert!(!restarted((100, 5000), (1900, 6750), is_pcp), "clocks differ a little");
            assert!(!restarted((100, 5000), (100, 4999), is_pcp), "an answer was overtaken");
            assert!(restarted((100, 5000), (100, 4990), is_pcp));
        }
        assert!(restarted((100, 5000), (1900, 9000), true));
        assert!(!restarted((100, 5000), (1900, 9000), false));
        assert!(!restarted((100, 5000), (1900, 6600), false) && restarted((100, 5000), (1900, 6600), true));
    }

    proptest! {
        #[test]
        fn a_clock_like_ours_never_restarts(start: u32, steps in prop::collection::vec(0_u32..10_000, 0..20)) {
            let (mut clock, mut now, mut epoch) = (RouterClock::default(), 0_u64, start / 2);
            for step in steps {
                now += u64::from(step);
                epoch = epoch.saturating_add(step);
                let time = RouterTime { epoch, is_pcp: true };
                prop_assert!(!clock.has_restarted(Duration::from_secs(now), time) || epoch == u32::MAX);
            }
        }

        #[test]
        fn any_clock_is_judged_without_a_problem(times: Vec<(u32, u32)>, is_pcp: bool) {
            let mut clock = RouterClock::default();
            for (now, epoch) in times {
                clock.has_restarted(Duration::from_secs(now.into()), RouterTime { epoch, is_pcp });
            }
        }
    }
}
