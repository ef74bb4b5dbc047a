//! What the user of a connection does: reads, writes and ends it.

use crate::utp::connection::{UtpConnection, UtpPhase};
use crate::utp::{UtpConfig, UtpTime};

/// [`UtpConnection::write`] accepts up to twice the congestion window, and at least this much; more would only wait here.
const MIN_SEND_BUFFER: usize = 64 << 10;
/// The user is told that it can write when there is this much space.
const WRITABLE: usize = 32 << 10;

impl UtpConnection {
    /// The first contiguous part of the received bytes in order.
    pub fn readable(&self) -> &[u8] {
        self.receive.readable()
    }

    /// Removes readable bytes. Tells the peer of the space if it may be waiting for it.
    pub fn consume(&mut self, count: usize) {
        self.receive.consume(count);
        let window = self.receive.window();
        let capacity = window.max(self.receive.capacity());
        let is_much = window >= self.advertised_window + capacity / 4;
        if self.phase == UtpPhase::Open
            && !self.receive.is_finished()
            && self.advertised_window < capacity / 2
            && is_much
        {
            self.is_ack_due = true;
        }
    }

    /// How many received bytes are kept.
    pub fn buffered(&self) -> usize {
        self.receive.buffered()
    }

    /// Changes how many received bytes are kept at most.
    pub fn set_receive_buffer(&mut self, bytes: usize) {
        self.receive.set_capacity(bytes);
    }

    /// How many bytes can be written.
    pub fn write_space(&self) -> usize {
        let is_writable = matches!(self.phase, UtpPhase::SynSent | UtpPhase::Open) && !self.send.is_ending();
        let limit = (self.ledbat.window() * 2).max(MIN_SEND_BUFFER).min(self.max_send_buffer);
        if is_writable { limit.saturating_sub(self.send.unacked_bytes()) } else { 0 }
    }

    /// Takes bytes to send, as many as there is space for.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.write_space());
        self.send.write(&bytes[..count]);
        self.is_writer_blocked |= count < bytes.len();
        count
    }

    /// Takes the last bytes to send, whether or not there is space for them.
    pub fn write_rest(&mut self, bytes: &[u8]) {
        if matches!(self.phase, UtpPhase::SynSent | UtpPhase::Open) && !self.send.is_ending() {
            self.send.write(bytes);
        }
    }

    /// The same as [`UtpConnection::write_space`]. If there is no space, the user is told when there is.
    pub fn await_space(&mut self) -> usize {
        let space = self.write_space();
        self.is_writer_blocked |= space == 0;
        space
    }

    pub(super) fn notice_space(&mut self) {
        if self.is_writer_blocked && self.write_space() >= WRITABLE.min(self.max_send_buffer / 2) {
            self.is_writer_blocked = false;
            self.signals.writable = true;
        }
    }

    /// Ends our stream after everything that is written.
    #[cfg(any(test, feature = "internals"))]
    pub fn finish(&mut self) {
        if matches!(self.phase, UtpPhase::SynSent | UtpPhase::Open) {
            self.send.finish();
        }
    }

    /// Closes gracefully: sends the remaining data and a FIN, and discards what arrives.
    pub fn release(&mut self, now: UtpTime, config: &UtpConfig) {
        if self.is_released {
            return;
        }
        self.is_released = true;
        self.receive.discard();
        match self.phase {
            UtpPhase::Open => {
                self.send.finish();
                self.phase_deadline = Some(now.after(config.finish_timeout));
                // The peer may be waiting for space.
                self.is_ack_due = true;
            }
            UtpPhase::SynSent if self.send.unacked_bytes() > 0 => {
                self.send.finish();
                self.phase_deadline = Some(now.after(config.finish_timeout));
            }
            UtpPhase::Lingering if self.phase_deadline.is_some() => {}
            _ => self.signals.is_removable = true,
        }
    }

    /// Whether nothing is left to send, and everything that was sent has arrived.
    pub fn is_delivered(&self) -> bool {
        match self.phase {
            UtpPhase::SynSent | UtpPhase::Open => self.send.is_finished() && !self.is_ack_due,
            UtpPhase::HalfOpen | UtpPhase::Lingering | UtpPhase::Closed => !self.is_ack_due,
        }
    }

    /// The user ends the connection at once.
    pub fn abort(&mut self, now: UtpTime) {
        match self.phase {
            UtpPhase::Open | UtpPhase::SynSent => self.signals.send_reset = true,
            // The peer has everything; it may still ask for the last acknowledgement.
            UtpPhase::Lingering if self.phase_deadline.is_some_and(|at| at > now) => {
                self.is_released = true;
                self.receive.discard();
                return;
            }
            _ => {}
        }
        self.signals.is_removable = true;
    }
}
