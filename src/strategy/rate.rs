//! A rolling rate: bytes over the last seconds, in one-second buckets. Constant size; the caller passes the time.

use std::time::Duration;

/// Bytes per second over the last `WINDOW` seconds, or since the first byte if that is less.
#[derive(Clone, Debug)]
pub struct RateMeter<const WINDOW: usize = 20> {
    buckets: [u64; WINDOW],
    /// The second of the newest bucket.
    second: u64,
    /// When the first bytes were counted.
    first: Option<Duration>,
}

impl<const WINDOW: usize> Default for RateMeter<WINDOW> {
    fn default() -> RateMeter<WINDOW> {
        RateMeter { buckets: [0; WINDOW], second: 0, first: None }
    }
}

impl<const WINDOW: usize> RateMeter<WINDOW> {
    const SECONDS: u64 = WINDOW as u64;

    /// A meter that has counted nothing.
    pub fn new() -> RateMeter<WINDOW> {
        RateMeter::default()
    }

    /// Counts `bytes` at `now`. A `now` that lies before an earlier one counts as that earlier one.
    pub fn add(&mut self, now: Duration, bytes: u64) {
        self.first.get_or_insert(now);
        self.advance(now);
        if let Some(bucket) = self.buckets.get_mut((self.second % Self::SECONDS) as usize) {
            *bucket = bucket.saturating_add(bytes);
        }
    }

    /// The rate at `now`, in bytes per second. The divisor is at least one second, so that a first burst does not give an absurd
    /// rate.
    pub fn per_second(&self, now: Duration) -> u64 {
        let Some(first) = self.first else { return 0 };
        let mut seen = self.clone();
        seen.advance(now);
        let oldest = Duration::from_secs((seen.second + 1).saturating_sub(Self::SECONDS));
        let span = now.saturating_sub(first.max(oldest)).max(Duration::from_secs(1));
        let bytes: u64 = seen.buckets.iter().fold(0, |sum, b| sum.saturating_add(*b));
        (bytes as f64 / span.as_secs_f64()) as u64
    }

    /// Clears the buckets of the seconds since the last call.
    fn advance(&mut self, now: Duration) {
        let second = now.as_secs();
        if second <= self.second {
            return;
        }
        for gone in (self.second + 1..=second).take(WINDOW) {
            if let Some(bucket) = self.buckets.get_mut((gone % Self::SECONDS) as usize) {
                *bucket = 0;
            }
        }
        self.second = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_steady_flow_has_its_rate_early_and_late() {
        let mut rate = RateMeter::<20>::new();
        for tick in 0..1000u32 {
            let now = MS * (5000 + tick * 100);
            rate.add(now, 1000);
            if tick >= 10 {
                let seen = rate.per_second(now);
                assert!((9_900..=11_100).contains(&seen), "{seen} at tick {tick}");
            }
        }
    }

    #[test]
    fn bytes_older_than_the_window_do_not_count() {
        let mut rate = RateMeter::<20>::new();
        rate.add(MS * 500, 20_000);
        assert_eq!(rate.per_second(MS * 600), 20_000);
        assert_eq!(rate.per_second(MS * 10_500), 2_000);
        assert!(rate.per_second(MS * 19_900) > 0);
        assert_eq!(rate.per_second(MS * 20_000), 0);
        rate.add(MS * 1_000_000, 500);
        assert!(rate.per_second(MS * 1_000_000) < 500);
    }

    #[test]
    fn a_clock_that_steps_back_is_harmless() {
        let mut rate = RateMeter::<20>::new();
        rate.add(MS * 5000, 10);
        rate.add(MS * 1000, 10);
        assert_eq!(rate.per_second(MS * 5000), 20);
        assert_eq!(rate.per_second(Duration::ZERO), 20);
    }
}
