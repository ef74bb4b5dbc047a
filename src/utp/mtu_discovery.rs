//! Finds the largest datagram of a path: starts with a size that is assumed to work, and tries larger ones (RFC 8899).
//!
//! uTP cannot split a packet when it retransmits it. Therefore an MTU probe carries no data, only extensions as padding; if it is
//! lost, it is retransmitted without padding. A receiver whose buffer is too small for the datagram sees a broken chain of extensions,
//! and not a packet with less data.

use crate::utp::UtpTime;

/// How often a size is tried; packets are lost for other reasons, too.
const ATTEMPTS: u8 = 2;
/// The search ends when it could gain fewer bytes than this.
const PRECISION: usize = 16;
/// The search is repeated after this time in microseconds, because the path may have changed (RFC 8899: `PMTU_RAISE_TIMER`).
const RAISE_INTERVAL: u64 = 600_000_000;

/// The search for the largest datagram of a path.
#[derive(Clone, Copy, Debug)]
pub struct MtuDiscovery {
    /// The largest size that is known to arrive.
    size: usize,
    /// The largest size that may arrive.
    ceiling: usize,
    smallest: usize,
    largest: usize,
    /// The size of the probe in flight.
    probe: Option<usize>,
    losses: u8,
    next_search: UtpTime,
}

impl MtuDiscovery {
    /// Searches between two sizes.
    pub fn new(smallest: usize, largest: usize) -> MtuDiscovery {
        let largest = largest.max(smallest);
        MtuDiscovery {
            size: smallest,
            ceiling: largest,
            smallest,
            largest,
            probe: None,
            losses: 0,
            next_search: UtpTime::default(),
        }
    }

    /// The size of datagrams that arrive.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The size to try now.
    pub fn wanted_probe(&self, now: UtpTime) -> Option<usize> {
        if self.probe.is_some() || now < self.next_search || self.ceiling < self.size + PRECISION.min(self.ceiling) {
            return None;
        }
        if self.ceiling == self.largest {
            return Some(self.largest);
        }
        // If the largest size fails, Ethernet's MTU is likely.
        let ethernet = if self.smallest < 1240 { 1452 } else { 1472 };
        if self.size < ethernet && ethernet < self.ceiling && self.largest > 1500 {
            return Some(ethernet);
        }
        Some(usize::midpoint(self.size, self.ceiling))
    }

    /// A probe was sent.
    pub fn probe_sent(&mut self, size: usize) {
        self.probe = Some(size);
    }

    /// The probe has arrived.
    pub fn probe_arrived(&mut self) {
        if let Some(size) = self.probe.take() {
            self.size = self.size.max(size.min(self.ceiling));
            self.losses = 0;
        }
    }

    /// The probe is lost.
    pub fn probe_lost(&mut self, now: UtpTime) {
        let Some(size) = self.probe.take() else { return };
        self.losses += 1;
        if self.losses >= ATTEMPTS {
            self.losses = 0;
            self.ceiling = (size - 1).max(self.size);
            if self.ceiling < self.size + PRECISION {
                (self.ceiling, self.next_search) = (self.largest, now.after(RAISE_INTERVAL));
            }
        }
    }

    /// Repeated timeouts: the path may drop datagrams of this size now (a black hole in RFC 8899).
    pub fn on_black_hole(&mut self, now: UtpTime) {
        if self.size > self.smallest {
            (self.size, self.ceiling) = (self.smallest, self.largest);
            (self.probe, self.losses, self.next_search) = (None, 0, now.after(RAISE_INTERVAL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size found on a path that carries datagrams of at most `real` bytes, and the number of probes.
    fn search(smallest: usize, largest: usize, real: usize) -> (usize, u32) {
        let (mut mtu, mut probes) = (MtuDiscovery::new(smallest, largest), 0);
        while let Some(size) = mtu.wanted_probe(UtpTime(0)) {
            assert!((smallest..=largest).contains(&size));
            mtu.probe_sent(size);
            assert_eq!(mtu.wanted_probe(UtpTime(0)), None, "one at a time");
            if size <= real {
                mtu.probe_arrived();
            } else {
                mtu.probe_lost(UtpTime(0));
            }
            probes += 1;
            assert!(probes < 40);
        }
        (mtu.size(), probes)
    }

    #[test]
    fn the_largest_size_is_found() {
        assert_eq!(search(1252, 1472, 1500), (1472, 1));
        assert_eq!(search(1232, 1232, 1500), (1232, 0));
        assert_eq!(search(1252, 65_507, 65_507), (65_507, 1));
        let (size, probes) = search(1252, 65_507, 1472);
        assert_eq!(size, 1472);
        assert!(probes < 30, "{probes}");
        for real in 1252..1472 {
            let (size, probes) = search(1252, 1472, real);
            assert!((real.saturating_sub(PRECISION)..=real).contains(&size), "{real}: {size}");
            assert!(probes <= 10, "{real}: {probes}");
        }
    }

    #[test]
    fn timeouts_reduce_the_size_and_the_search_is_repeated() {
        let mut mtu = MtuDiscovery::new(1252, 1472);
        mtu.probe_sent(1472);
        mtu.probe_arrived();
        mtu.on_black_hole(UtpTime(7));
        assert_eq!((mtu.size(), mtu.wanted_probe(UtpTime(8))), (1252, None));
        assert_eq!(mtu.wanted_probe(UtpTime(7).after(RAISE_INTERVAL)), Some(1472));
        mtu.probe_arrived();
        mtu.probe_lost(UtpTime(0));
        assert_eq!(mtu.size(), 1252);
    }
}
