//! Detects peers that read slowly what we send: their receive window, not our uplink, limits the upload to them. They leave the
//! uplink to others, so their upload slots do not count ([`crate::strategy::choker`]). Pure.
//!
//! The kernel (TCP) or the UDP thread (uTP) reports for how long a connection had data to send, and for how much of that time the
//! peer's window was full. On a fast link the window is often the limit too; and if packets wait in the queue before a slow uplink,
//! the window may be full although the peer reads at once. Both differ from slow reading: in the first case the rate is high; in
//! the second case a window of data is in flight, because the round-trip time contains the wait in the queue.

use std::time::Duration;

use crate::net::link_figures::LinkFigures;
use crate::strategy::choker::slots::GOOD_SLOT_RATE;

/// How long a connection has to have had data to send since the last decision.
const MIN_BUSY: Duration = Duration::from_millis(500);
/// The bytes in flight on average below which a full window means that the peer does not read: half of the smallest usual window.
const MAX_IN_FLIGHT: f64 = 8.0 * 1024.0;

/// How a peer reads what we send.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadingPace {
    /// The figures at the last decision.
    last: LinkFigures,
    is_slow: bool,
}

impl ReadingPace {
    /// Takes the current figures.
    pub fn observe(&mut self, now: &LinkFigures) {
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
    use std::collections::VecDeque;
    use std::net::SocketAddr;

    use super::*;
    use crate::util::random::Random;
    use crate::utp::send_clock::UtpFigures;
    use crate::utp::{UtpConfig, UtpEndpoint, UtpEvent, UtpTime};

    const SECOND: Duration = Duration::from_secs(1);

    /// Whether the peer counts as a slow reader after each of three seconds in which `bytes` were acknowledged and the window was
    /// full for `window_full` of the time.
    fn is_slow(bytes: u64, window_full: f64, rtt: Duration) -> [bool; 3] {
        let (mut pace, mut info) = (ReadingPace::default(), LinkFigures { rtt, ..LinkFigures::default() });
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

    /// Whether a peer of a uTP connection that always has data to send counts as a slow reader after five seconds. In each tenth of
    /// a second, the peer reads so many bytes, and so many datagrams leave the queue before the network.
    fn is_slow_over_utp(read: usize, carried: usize) -> bool {
        let (ours_at, theirs_at) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let mut ours = UtpEndpoint::new(UtpConfig::new(false), Random::seeded(1));
        let mut theirs =
            UtpEndpoint::new(UtpConfig { receive_buffer: 3000, ..UtpConfig::new(false) }, Random::seeded(2));
        if read > 3000 {
            theirs = UtpEndpoint::new(UtpConfig::new(false), Random::seeded(2));
        }
        let key = ours.connect(UtpTime(1), theirs_at).expect("a place");
        let (mut accepted, mut pace, mut figures) = (None, ReadingPace::default(), UtpFigures::default());
        let (mut queue, mut out, mut written) = (VecDeque::new(), Vec::new(), 0);
        let data = vec![7; 1 << 20];
        for tick in 1..=50 {
            let now = UtpTime(tick * 100_000);
            written += ours.write(key, &data) as u64;
            ours.handle_deadlines(now);
            theirs.handle_deadlines(now);
            for _ in 0..carried {
                while let Some(transmit) = ours.transmit(now, &mut out) {
                    queue.extend(out.chunks(transmit.segment).map(<[u8]>::to_vec));
                    out.clear();
                }
                let Some(datagram) = queue.pop_front() else { break };
                theirs.receive(now, ours_at, None, &datagram);
                while let Some(transmit) = theirs.transmit(now, &mut out) {
                    out.chunks(transmit.segment).for_each(|datagram| ours.receive(now, theirs_at, None, datagram));
                    out.clear();
                }
            }
            while let Some(event) = theirs.next_event() {
                accepted = if let UtpEvent::Incoming { key, .. } = event { Some(key) } else { accepted };
            }
            if let Some(key) = accepted {
                theirs.consume(key, theirs.readable(key).len().min(read));
            }
            figures = std::iter::from_fn(|| ours.next_figures()).last().map_or(figures, |(_, newest)| newest);
            pace.observe(&figures.at(now, written));
        }
        assert!(figures.acknowledged > 0 && figures.acknowledged <= written);
        pace.is_slow()
    }

    #[test]
    fn a_slow_reader_is_recognised_over_utp() {
        assert!(is_slow_over_utp(300, 100), "its window limits us");
        assert!(!is_slow_over_utp(1 << 20, 2), "the network limits us");
    }

    #[test]
    fn a_peer_counts_by_what_it_does_now() {
        let mut pace = ReadingPace::default();
        let mut info = LinkFigures { busy: SECOND * 9, window_full: SECOND * 9, ..LinkFigures::default() };
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
