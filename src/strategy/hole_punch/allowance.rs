//! How often something may be done: a few times at once, and then once in each interval.

use std::time::Duration;

/// How often something was done lately. A new one allows everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// When everything is allowed again.
    full_at: Duration,
}

/// The limits of an [`Allowance`].
#[derive(Clone, Copy, Debug)]
pub struct AllowanceLimits {
    /// How often at once.
    pub burst: u32,
    /// Then once in this time.
    pub interval: Duration,
}

impl Allowance {
    /// When it is allowed the next time.
    pub fn next(&self, limits: AllowanceLimits) -> Duration {
        self.full_at.saturating_sub(limits.interval * limits.burst.saturating_sub(1))
    }

    /// Whether it is allowed now.
    pub fn permits(&self, now: Duration, limits: AllowanceLimits) -> bool {
        self.next(limits) <= now
    }

    /// Notes that it is done now.
    pub fn note(&mut self, now: Duration, limits: AllowanceLimits) {
        self.full_at = self.full_at.max(now) + limits.interval;
    }

    /// Whether it is allowed now; if so, it is noted.
    pub fn take(&mut self, now: Duration, limits: AllowanceLimits) -> bool {
        let is_permitted = self.permits(now, limits);
        if is_permitted {
            self.note(now, limits);
        }
        is_permitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_in_each_interval() {
        let limits = AllowanceLimits { burst: 3, interval: Duration::from_secs(10) };
        let mut allowance = Allowance::default();
        let mut taken =
            |seconds: u64| (0..100).filter(|_| allowance.take(Duration::from_secs(seconds), limits)).count();
        assert_eq!((taken(0), taken(9), taken(10), taken(19), taken(20)), (3, 0, 1, 0, 1));
        assert_eq!((taken(40), taken(1000)), (2, 3), "a pause gives back no more than the burst");
        assert_eq!(allowance.next(limits), Duration::from_secs(1010));
    }
}
