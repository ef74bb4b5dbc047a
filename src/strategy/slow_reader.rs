//! Detects peers that read slowly what we send: their receive window, not our uplink, limits the upload to them. They leave the
//! uplink to others, so their upload slots do not count ([`crate::strategy::choker`]). Pure.
//!
//! The kernel reports for how long a connection had data to send, and for how long of that the peer's window was full. On a fast
//! link the window is often the limit too; and if packets wait in the queue before a slow uplink, the window may be full although
//! the peer reads at once. Both differ from slow reading: in the first case the rate is high; in the second case a window of data
//! is in flight, because the round-trip time contains the wait in the queue.

use std::time::Duration;

use crate::net::tcp_diag::TcpInfo;
use crate::strategy::choker::slots::GOOD_SLOT_RATE;

/// How long a connection has to have had data to send since the last decision.
const MIN_BUSY: Duration = Duration::from_millis(500);
/// The bytes in flight on average below which a full window means that the peer does not read: half of the smallest usual window.
const MAX_IN_FLIGHT: f64 = 8.0 * 1024.0;

/// How a peer reads what we send.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadingPace {
    /// The kernel's figures at the last decision.
    last: TcpInfo,
    is_slow: bool,
}

impl ReadingPace {
    /// Takes the kernel's current figures.
    pub fn observe(&mut self, now: &TcpInfo) {
        let busy = now.busy.saturating_sub(self.last.busy);
        if busy < MIN_BUSY {
            return;
        }
        let window_full = now.window_full.saturating_sub(self.last.window_full);
        let rate = now.acknowledged.saturating_sub(self.last.acknowledged) as f64 / busy.as_secs_f64();
        let in_flight = rate * now.rtt.as_secs_f64();
        self.is_slow = 4 * window_full >= 3 * busy && rate < GOOD_SLOT_RATE as f64 && in_flight < MAX_IN_FLIGHT;
        self.last = *now;
    }

    /// Whether the peer read slowly at the last decision.
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Whether the peer counts as a slow reader after each of three seconds in which `bytes` were acknowledged and the window was
    /// full for `window_full` of the time.
    fn is_slow(bytes: u64, window_full: f64, rtt: Duration) -> [bool; 3] {
        let (mut pace, mut info) = (ReadingPace::default(), TcpInfo { rtt, ..TcpInfo::default() });
        [(); 3].map(|()| {
            info.acknowledged += bytes;
            info.busy += SECOND;
            info.window_full += SECOND.mul_f64(window_full);
            pace.observe(&info);
            pace.is_slow()
        })
    }

    #[test]
    fn a_slow_reader_differs_from_a_slow_uplink_and_from_a_fast_link() {
        let rtt = Duration::from_millis(50);
        assert_eq!(is_slow(80, 1.0, rtt), [true; 3]);
        assert_eq!(is_slow(20_000, 0.9, rtt), [true; 3]);
        assert_eq!(is_slow(20_000, 0.1, rtt), [false; 3], "the network is slow");
        assert_eq!(is_slow(1 << 20, 1.0, rtt), [false; 3], "the window is small for a fast link");
        // Four peers share 100 kB/s; each has 64 KiB in the queue of the router.
        assert_eq!(is_slow(25_000, 1.0, Duration::from_millis(2600)), [false; 3]);
    }

    #[test]
    fn a_peer_counts_by_what_it_does_now() {
        let mut pace = ReadingPace::default();
        let mut info = TcpInfo { busy: SECOND * 9, window_full: SECOND * 9, ..TcpInfo::default() };
        pace.observe(&info);
        assert!(pace.is_slow());
        info.busy += MIN_BUSY / 2;
        pace.observe(&info);
        assert!(pace.is_slow(), "too little to tell");
        (info.busy, info.acknowledged) = (info.busy + SECOND, 1 << 20);
        pace.observe(&info);
        assert!(!pace.is_slow());
    }
}
