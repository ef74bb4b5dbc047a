//! For how long a connection had bytes that the peer had not acknowledged, and for how much of that time the peer's window was full.

use std::time::Duration;

use crate::net::link_figures::LinkFigures;
use crate::utp::UtpTime;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendLimit {
    /// Everything written is acknowledged.
    #[default]
    NoData,
    /// Acknowledgements, or space in the congestion window.
    Network,
    /// The peer to have space for more.
    PeerWindow,
}

/// See the module's documentation. All times are microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendClock {
    busy: u64,
    window_full: u64,
    limit: SendLimit,
    since: UtpTime,
}

impl SendClock {
    /// From now on, the connection waits for this. Returns whether that is a change.
    pub fn note(&mut self, now: UtpTime, limit: SendLimit) -> bool {
        if limit == self.limit {
            return false;
        }
        (self.busy, self.window_full) = self.times(now);
        (self.limit, self.since) = (limit, now);
        true
    }

    /// For how long there were unacknowledged bytes, and for how much of that the peer's window was full.
    pub fn times(&self, now: UtpTime) -> (u64, u64) {
        let elapsed = now.since(self.since);
        match self.limit {
            SendLimit::NoData => (self.busy, self.window_full),
            SendLimit::Network => (self.busy + elapsed, self.window_full),
            SendLimit::PeerWindow => (self.busy + elapsed, self.window_full + elapsed),
        }
    }
}

/// What a connection knows about its sending side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UtpFigures {
    /// Bytes that the peer has acknowledged.
    pub acknowledged: u64,
    /// The smoothed round trip time in microseconds.
    pub round_trip: u64,
    /// The shortest one.
    pub shortest: u64,
    /// What the connection waited for.
    pub clock: SendClock,
}

impl UtpFigures {
    /// The figures at a time, of a connection whose owner has written so many bytes.
    pub fn at(&self, now: UtpTime, written: u64) -> LinkFigures {
        let (busy, window_full) = self.clock.times(now);
        LinkFigures {
            acknowledged: self.acknowledged,
            queued: written.saturating_sub(self.acknowledged),
            rtt: Duration::from_micros(self.round_trip),
            min_rtt: Duration::from_micros(self.shortest),
            busy: Duration::from_micros(busy),
            window_full: Duration::from_micros(window_full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_add_up() {
        let mut clock = SendClock::default();
        assert!(!clock.note(UtpTime(5), SendLimit::NoData));
        assert_eq!(clock.times(UtpTime(50)), (0, 0));
        assert!(clock.note(UtpTime(100), SendLimit::Network));
        assert_eq!(clock.times(UtpTime(130)), (30, 0));
        assert!(clock.note(UtpTime(140), SendLimit::PeerWindow) && !clock.note(UtpTime(150), SendLimit::PeerWindow));
        assert_eq!(clock.times(UtpTime(200)), (100, 60));
        assert!(clock.note(UtpTime(240), SendLimit::NoData));
        assert_eq!(clock.times(UtpTime(9000)), (140, 100));
    }
}
