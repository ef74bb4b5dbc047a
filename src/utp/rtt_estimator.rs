//! The round trip time, and how long to wait for an acknowledgement (RFC 6298, with BEP 29's minimum of 500 ms).

/// The timeout before the first measurement, in microseconds.
const INITIAL_TIMEOUT: u64 = 1_000_000;
/// The least timeout, in microseconds.
const MIN_TIMEOUT: u64 = 500_000;
/// The longest timeout, in microseconds.
const MAX_TIMEOUT: u64 = 30_000_000;
/// The least time before the last packet is sent again, and how long other clients may delay an acknowledgement.
const MIN_PROBE_TIMEOUT: u64 = 30_000;
const PEER_ACK_DELAY: u64 = 100_000;

/// The round trip time of a connection, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct RttEstimator {
    smooth: Option<u64>,
    variation: u64,
    shortest: u64,
    backoff: u32,
}

impl RttEstimator {
    /// Adds the round trip of a packet that was sent once.
    pub fn add(&mut self, sample: u64) {
        match self.smooth {
            None => (self.smooth, self.variation, self.shortest) = (Some(sample), sample / 2, sample),
            Some(smooth) => {
                self.variation = (self.variation * 3 + smooth.abs_diff(sample)) / 4;
                self.smooth = Some((smooth * 7 + sample) / 8);
                self.shortest = self.shortest.min(sample);
            }
        }
    }

    /// The smoothed round trip time; 100 ms before the first measurement.
    pub fn smooth(&self) -> u64 {
        self.smooth.unwrap_or(100_000)
    }

    /// The shortest round trip time, 0 before the first measurement.
    pub fn shortest(&self) -> u64 {
        self.shortest
    }

    /// How long to wait for an acknowledgement.
    pub fn timeout(&self) -> u64 {
        let timeout = self.smooth.map_or(INITIAL_TIMEOUT, |smooth| (smooth + self.variation * 4).max(MIN_TIMEOUT));
        (timeout << self.backoff.min(8)).min(MAX_TIMEOUT)
    }

    /// How long to wait for an acknowledgement of the last packet before it is sent again, to learn whether packets are lost. With a
    /// single packet on its way, the peer may wait for another before it acknowledges. None before the first measurement.
    pub fn probe_timeout(&self, is_single: bool) -> Option<u64> {
        let delay = if is_single { PEER_ACK_DELAY } else { 0 };
        Some((self.smooth? * 2 + self.variation * 2).max(MIN_PROBE_TIMEOUT) + delay)
    }

    /// The next timeout is twice as long.
    pub fn back_off(&mut self) {
        self.backoff += 1;
    }

    /// The peer answers: timeouts have their normal length again.
    pub fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_measurements_within_its_bounds() {
        let mut rtt = RttEstimator::default();
        assert_eq!((rtt.timeout(), rtt.shortest()), (1_000_000, 0));
        rtt.add(20_000);
        assert_eq!((rtt.timeout(), rtt.smooth()), (500_000, 20_000));
        for _ in 0..100 {
            rtt.add(800_000);
        }
        assert!((800_000..900_000).contains(&rtt.timeout()), "{rtt:?}");
        assert_eq!(rtt.shortest(), 20_000);
        rtt.back_off();
        assert!((1_600_000..1_800_000).contains(&rtt.timeout()), "{rtt:?}");
        for _ in 0..100 {
            rtt.back_off();
        }
        assert_eq!(rtt.timeout(), MAX_TIMEOUT);
        rtt.reset_backoff();
        assert!(rtt.timeout() < 900_000);
        rtt.add(u64::from(u32::MAX) * 1000);
        assert_eq!(rtt.timeout(), MAX_TIMEOUT);
    }
}
