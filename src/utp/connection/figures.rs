//! What a connection tells about its sending side.

use crate::utp::UtpTime;
use crate::utp::connection::{UtpConnection, UtpPhase};
use crate::utp::send_clock::{SendLimit, UtpFigures};

impl UtpConnection {
    /// Whether [`UtpConnection::take_figures`] has something new.
    pub fn has_new_figures(&self) -> bool {
        self.has_new_figures
    }

    /// The figures of the sending side if they have changed, except by the passing of time. The last ones before the connection
    /// fails remain.
    pub fn take_figures(&mut self) -> Option<UtpFigures> {
        let has_new = std::mem::take(&mut self.has_new_figures) && self.phase != UtpPhase::Closed;
        has_new.then(|| UtpFigures {
            acknowledged: self.send.acknowledged(),
            round_trip: self.round_trip.smooth(),
            shortest: self.round_trip.shortest(),
            clock: self.send_clock,
        })
    }

    /// Notes what the connection waits for.
    pub(super) fn note_limit(&mut self, now: UtpTime) {
        let limit = self.limit();
        self.has_new_figures |= self.send_clock.note(now, limit);
    }

    fn limit(&self) -> SendLimit {
        if self.phase != UtpPhase::Open || self.send.unacked_bytes() == 0 {
            return SendLimit::NoData;
        }
        let (in_flight, outstanding) = (self.send.in_flight(), self.send.outstanding());
        let len = self.send.unsent().min(self.payload());
        let has_lost = outstanding > in_flight;
        let is_congested = in_flight > 0 && in_flight + len > self.ledbat.window();
        let is_window_full = len > self.peer_window.saturating_sub(outstanding);
        if is_window_full && !has_lost && !is_congested { SendLimit::PeerWindow } else { SendLimit::Network }
    }
}
