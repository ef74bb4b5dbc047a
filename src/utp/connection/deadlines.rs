//! Handles the passing of a connection's time.

use crate::utp::connection::{UtpConnection, UtpPhase};
use crate::utp::{UtpCloseReason, UtpConfig, UtpTime};

/// After this many consecutive timeouts, datagrams may be too large for the path.
const BLACK_HOLE_TIMEOUTS: u32 = 2;

impl UtpConnection {
    /// When [`UtpConnection::handle_deadlines`] has something to do.
    pub fn next_deadline(&self) -> Option<UtpTime> {
        let keep_alive = (self.phase == UtpPhase::Open).then(|| self.last_sent.after(self.keep_alive));
        [self.retransmit_at, self.tail_probe_at(), self.delayed_ack_at, self.phase_deadline, keep_alive]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the last packet is sent again, as in RFC 8985: its acknowledgement tells which packets are lost, sooner than the timeout.
    fn tail_probe_at(&self) -> Option<UtpTime> {
        let since = self.tail_since.filter(|_| self.phase == UtpPhase::Open && self.send.has_in_flight())?;
        let may_probe = self.timeouts == 0 && self.send.lost_packets() == 0;
        let wait = self.round_trip.probe_timeout(self.send.in_flight_packets() == 1).filter(|_| may_probe)?;
        // Not if the timeout comes first.
        Some(since.after(wait)).filter(|at| self.retransmit_at.is_none_or(|timeout| *at < timeout))
    }

    fn probe_tail(&mut self, now: UtpTime) {
        self.tail_since = None;
        let losses = self.send.lose_last();
        if losses.newest_lost.is_some() {
            self.on_losses(now, losses);
            self.is_fast_retransmit_due = true;
        }
    }

    /// Does what is due.
    pub fn handle_deadlines(&mut self, now: UtpTime, config: &UtpConfig) {
        let is_due = |at: Option<UtpTime>| at.is_some_and(|at| at <= now);
        if is_due(self.phase_deadline) {
            self.phase_deadline = None;
            self.end_phase();
        }
        if is_due(self.delayed_ack_at) {
            (self.delayed_ack_at, self.is_ack_due) = (None, true);
        }
        if is_due(self.tail_probe_at()) {
            self.probe_tail(now);
        }
        if is_due(self.retransmit_at) {
            self.retransmit_at = None;
            match self.phase {
                UtpPhase::SynSent => self.syn_timed_out(now, config),
                UtpPhase::Open => self.timed_out(now, config),
                UtpPhase::HalfOpen | UtpPhase::Lingering | UtpPhase::Closed => {}
            }
        }
        if self.phase == UtpPhase::Open && self.last_sent.after(self.keep_alive) <= now {
            (self.is_ack_due, self.last_sent) = (true, now);
            self.send.free_unused();
            self.receive.free_unused();
        }
        self.arm_timeout(now);
        self.note_limit(now);
    }

    /// The phase has lasted as long as it may.
    fn end_phase(&mut self) {
        match self.phase {
            UtpPhase::Lingering => self.signals.is_removable |= self.is_released,
            UtpPhase::HalfOpen => self.signals.is_removable = true,
            // A released connection whose peer does not come to an end.
            UtpPhase::SynSent | UtpPhase::Open => {
                self.signals.send_reset |= self.phase == UtpPhase::Open;
                self.close(UtpCloseReason::TimedOut);
            }
            UtpPhase::Closed => {}
        }
    }

    fn syn_timed_out(&mut self, now: UtpTime, config: &UtpConfig) {
        if self.syn_attempts >= config.syn_attempts {
            return self.close(UtpCloseReason::ConnectTimedOut);
        }
        self.is_syn_due = true;
        self.retransmit_at = Some(now.after(self.syn_timeout(config)));
    }

    fn syn_timeout(&self, config: &UtpConfig) -> u64 {
        config.syn_timeout << self.syn_attempts.min(6)
    }

    /// Starts to wait for the answer to the first SYN.
    pub fn start_syn_timeout(&mut self, now: UtpTime, config: &UtpConfig) {
        self.retransmit_at = Some(now.after(self.syn_timeout(config)));
    }

    fn timed_out(&mut self, now: UtpTime, config: &UtpConfig) {
        if !self.send.has_in_flight() {
            self.is_window_probe_due = true;
            return self.round_trip.back_off();
        }
        let losses = self.send.lose_all();
        if losses.is_mtu_probe_lost {
            self.mtu.probe_lost(now);
        }
        if losses.newest_lost.is_none() {
            // Only an MTU probe was in flight.
            return;
        }
        self.timeouts += 1;
        if self.timeouts > config.max_timeouts {
            return self.close(UtpCloseReason::TimedOut);
        }
        self.round_trip.back_off();
        self.recovery_start = self.send.next_transmission();
        if self.peer_window >= self.payload() {
            self.ledbat.timed_out(self.payload());
            if self.timeouts >= BLACK_HOLE_TIMEOUTS {
                self.mtu.on_black_hole(now);
            }
        }
    }

    /// Arms the timer for retransmission, or for a probe of the peer's zero window.
    pub(super) fn arm_timeout(&mut self, now: UtpTime) {
        if self.phase != UtpPhase::Open {
            return;
        }
        if !self.send.has_in_flight() && !self.is_stalled(now) {
            self.retransmit_at = None;
        } else if self.retransmit_at.is_none() {
            self.retransmit_at = Some(now.after(self.round_trip.timeout()));
        }
    }
}
