//! The size of datagrams: starts with one that every path carries, and tries larger ones (as RFC 8899 does).
//!
//! A packet cannot be divided when it is sent again. So a probe is a packet without data, filled up with extensions that receivers
//! skip: if it is lost, it goes again in a small datagram. And a receiver whose buffer is too small for the datagram sees a broken
//! chain of extensions, not a packet with less data.

use crate::utp::UtpTime;

/// How often a size is tried; packets are lost for other reasons, too.
const ATTEMPTS: u8 = 2;
/// The search ends when it could gain only so many bytes.
const PRECISION: usize = 16;
/// The path may have changed after this time, in microseconds.
const REPEAT: u64 = 600_000_000;

/// The search for the largest datagram of a path.
#[derive(Clone, Copy, Debug)]
pub struct PathMtu {
    /// The largest size that is known to arrive.
    size: usize,
    /// The largest size that may arrive.
    ceiling: usize,
    smallest: usize,
    largest: usize,
    /// The size of the probe on its way.
    probe: Option<usize>,
    losses: u8,
    next_search: UtpTime,
}

impl PathMtu {
    /// Searches between two sizes.
    pub fn new(smallest: usize, largest: usize) -> PathMtu {
        let largest = largest.max(smallest);
        PathMtu {
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
        // Where jumbo frames fail, Ethernet's size is likely.
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
                (self.ceiling, self.next_search) = (self.largest, now.after(REPEAT));
            }
        }
    }

    /// Packets time out again and again: perhaps the path carries only smaller ones now.
    pub fn suspect(&mut self, now: UtpTime) {
        if self.size > self.smallest {
            (self.size, self.ceiling) = (self.smallest, self.largest);
            (self.probe, self.losses, self.next_search) = (None, 0, now.after(REPEAT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size found on a path that carries datagrams of at most `real` bytes, and the number of probes.
    fn search(smallest: usize, largest: usize, real: usize) -> (usize, u32) {
        let (mut mtu, mut probes) = (PathMtu::new(smallest, largest), 0);
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
        let mut mtu = PathMtu::new(1252, 1472);
        mtu.probe_sent(1472);
        mtu.probe_arrived();
        mtu.suspect(UtpTime(7));
        assert_eq!((mtu.size(), mtu.wanted_probe(UtpTime(8))), (1252, None));
        assert_eq!(mtu.wanted_probe(UtpTime(7).after(REPEAT)), Some(1472));
        mtu.probe_arrived();
        mtu.probe_lost(UtpTime(0));
        assert_eq!(mtu.size(), 1252);
    }
}
