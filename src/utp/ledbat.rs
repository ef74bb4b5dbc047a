//! The congestion window: LEDBAT (RFC 6817) with parts of its successor LEDBAT++ and of TCP Veno.
//!
//! - Below the target delay, the window grows by at most one packet per round trip; above, it shrinks in proportion to itself.
//! - A lost packet halves the window, once per round trip, unless there is no queue at all: then the loss has another cause, such as
//!   a radio link, and a fifth must do.
//! - Where a queue overflows again and again before it is as long as the target allows, delay must be kept shorter, or we would
//!   compete with TCP as TCP does: the target becomes half the delay that was seen then.
//! - If the queue is never seen empty, our own data may hide the true delay of the path. The window then becomes minimal for two
//!   round trips, after the first slow start and at most every 30 seconds.

use crate::utp::UtpTime;

/// The window, in packets: at first, at least, and at least after a timeout.
const INITIAL: f64 = 4.0;
const MIN: f64 = 2.0;
const MIN_AFTER_TIMEOUT: f64 = 1.0;
/// The largest window in bytes; a value that no sane path needs.
const MAX: f64 = (64 << 20) as f64;
/// Parts of the window that remain after a loss: with a queue, and without.
const AFTER_CONGESTION: f64 = 0.5;
const AFTER_RANDOM_LOSS: f64 = 0.8;
/// A delay of this part of the target is noise and not a queue. Where measurements vary more, so many times their variation is, but
/// at most that part of the target.
const NO_QUEUE: f64 = 1.0 / 12.0;
const NOISE: f64 = 4.0;
const MAX_NO_QUEUE: f64 = 0.5;
/// Slow start ends when the delay was never below the first part of the target for a round trip, or is above the second. It causes
/// short queues of its own before the path is full.
const SLOW_START_END: f64 = 0.25;
const SLOW_START_ABORT: f64 = 0.4;
/// The delay that a queue seems to cause is the smallest of the last few measurements.
const RECENT: usize = 4;
/// A loss with a queue adds to the suspicion that queues overflow early, one without a queue reduces it. Above the limit, a delay
/// at which a queue overflowed matters for this time, in microseconds.
const SUSPICION: u32 = 4;
const MAX_SUSPICION: u32 = 8;
const SUSPICION_LIMIT: u32 = 4;
const SHALLOW_LASTS: u64 = 60_000_000;
/// The time between two attempts to see an empty queue, and their length in round trips.
const SLOWDOWN_INTERVAL: u64 = 30_000_000;
const SLOWDOWN_ROUND_TRIPS: u64 = 2;

/// What an acknowledgement means for the window.
#[derive(Clone, Copy, Debug)]
pub struct WindowAck {
    /// When it came.
    pub now: UtpTime,
    /// How many bytes have arrived.
    pub bytes: usize,
    /// Whether the window kept us from sending. An unused window must not grow.
    pub is_limited: bool,
    /// The smoothed round trip time in microseconds.
    pub round_trip: u64,
    /// The payload of a full packet.
    pub packet: usize,
}

/// A connection's congestion window.
#[derive(Clone, Copy, Debug)]
pub struct Ledbat {
    window: f64,
    /// Slow start ends at this window.
    threshold: f64,
    is_slow_start: bool,
    target: f64,
    /// A lower target, and until when.
    shallow: Option<(f64, UtpTime)>,
    suspicion: u32,
    /// The window before the last loss.
    before_loss: Option<f64>,
    recent: [u32; RECENT],
    recent_count: usize,
    /// The mean difference of two measurements that follow each other.
    variation: f64,
    /// The smallest delay of this round trip, and its end.
    round_lowest: f64,
    round_ends: UtpTime,
    /// The smallest delay since the last slowdown.
    lowest: f64,
    next_slowdown: Option<UtpTime>,
    /// The end of the slowdown, and the window to return to.
    slowed: Option<(UtpTime, f64)>,
}

impl Ledbat {
    /// A window for a target delay in microseconds and packets of that payload.
    pub fn new(target: u64, packet: usize) -> Ledbat {
        Ledbat {
            window: INITIAL * packet as f64,
            threshold: MAX,
            is_slow_start: true,
            target: target.max(1) as f64,
            shallow: None,
            suspicion: 0,
            before_loss: None,
            recent: [0; RECENT],
            recent_count: 0,
            variation: 0.0,
            round_lowest: f64::MAX,
            round_ends: UtpTime::default(),
            lowest: f64::MAX,
            next_slowdown: None,
            slowed: None,
        }
    }

    /// The bytes that may be on their way.
    pub fn window(&self) -> usize {
        self.window as usize
    }

    /// Adds a measurement: by how much the delay exceeds that of the empty path, in microseconds.
    pub fn add_delay(&mut self, delay: u32) {
        if let Some(last) = self.recent_count.checked_sub(1) {
            let difference = f64::from(delay.abs_diff(self.recent[last % RECENT]));
            self.variation += (difference - self.variation) / 16.0;
        }
        self.recent[self.recent_count % RECENT] = delay;
        self.recent_count = self.recent_count.wrapping_add(1);
    }

    /// The delay that a queue causes. None before the first measurement.
    fn delay(&self) -> Option<f64> {
        self.recent.iter().take(self.recent_count).min().map(|delay| f64::from(*delay))
    }

    /// The lower target, if queues overflow early.
    fn shallow_target(&self, now: UtpTime) -> Option<f64> {
        self.shallow.filter(|(_, until)| now < *until && self.suspicion >= SUSPICION_LIMIT).map(|(target, _)| target)
    }

    /// The target delay now.
    fn target(&self, now: UtpTime) -> f64 {
        self.shallow_target(now).unwrap_or(self.target)
    }

    /// The delay up to which we assume no queue.
    fn no_queue(&self) -> f64 {
        (self.target * NO_QUEUE).max(self.variation * NOISE).min(self.target * MAX_NO_QUEUE)
    }

    /// Packets have arrived.
    pub fn acknowledged(&mut self, ack: &WindowAck) {
        let delay = self.delay().unwrap_or_default();
        self.lowest = self.lowest.min(delay);
        if self.slow_down(ack) {
            return;
        }
        let (bytes, packet, target) = (ack.bytes as f64, ack.packet as f64, self.target(ack.now));
        if self.is_slow_start
            && (delay > target * SLOW_START_ABORT || self.ends_round(ack, delay) > target * SLOW_START_END)
        {
            self.end_slow_start();
            if self.next_slowdown.is_none() {
                self.next_slowdown = Some(ack.now.after(ack.round_trip * SLOWDOWN_ROUND_TRIPS));
                self.lowest = f64::MAX;
            }
        }
        if self.is_slow_start {
            if ack.is_limited {
                self.window = (self.window + bytes).min(self.threshold.max(self.window));
                self.is_slow_start = self.window < self.threshold;
            }
        } else {
            let off_target = 1.0 - delay / target;
            let per_round_trip = if off_target >= 0.0 {
                if ack.is_limited { packet * off_target } else { 0.0 }
            } else {
                (packet + self.window * off_target).clamp(self.window * -0.5, 0.0)
            };
            self.window += per_round_trip * (bytes / self.window).min(1.0);
        }
        self.window = self.window.clamp(MIN * packet, MAX);
    }

    /// Notes the delay of this round trip. At its end, returns the smallest, and otherwise 0.
    fn ends_round(&mut self, ack: &WindowAck, delay: f64) -> f64 {
        self.round_lowest = self.round_lowest.min(delay);
        if ack.now < self.round_ends {
            return 0.0;
        }
        self.round_ends = ack.now.after(ack.round_trip);
        std::mem::replace(&mut self.round_lowest, f64::MAX)
    }

    /// Handles slowdowns. Returns whether the window is minimal now.
    fn slow_down(&mut self, ack: &WindowAck) -> bool {
        if let Some((end, window)) = self.slowed {
            if ack.now < end {
                return true;
            }
            self.slowed = None;
            (self.is_slow_start, self.threshold) = (true, window);
            return false;
        }
        if self.next_slowdown.is_none_or(|at| ack.now < at) {
            return false;
        }
        self.next_slowdown = Some(ack.now.after(SLOWDOWN_INTERVAL));
        let was_empty = std::mem::replace(&mut self.lowest, f64::MAX) < self.target * SLOW_START_END / 2.0;
        if was_empty || self.is_slow_start {
            return false;
        }
        self.slowed = Some((ack.now.after(ack.round_trip * SLOWDOWN_ROUND_TRIPS), self.window));
        self.window = MIN * ack.packet as f64;
        true
    }

    fn end_slow_start(&mut self) {
        (self.is_slow_start, self.threshold) = (false, self.window);
    }

    /// A packet is lost. To be called once per round trip.
    pub fn lost(&mut self, now: UtpTime, packet: usize) {
        let no_queue = self.no_queue();
        // Without a measurement, we know of no reason to be bold.
        let delay = self.delay().unwrap_or(self.target);
        let mut part = AFTER_CONGESTION;
        if delay >= no_queue {
            self.suspicion = (self.suspicion + SUSPICION).min(MAX_SUSPICION);
            self.shallow = Some(((delay / 2.0).clamp(no_queue, self.target), now.after(SHALLOW_LASTS)));
        } else {
            if self.shallow_target(now).is_none() {
                part = AFTER_RANDOM_LOSS;
            }
            self.suspicion = self.suspicion.saturating_sub(1);
        }
        if let Some((_, window)) = &mut self.slowed {
            *window *= part;
            return;
        }
        self.before_loss = Some(self.window);
        self.window = (self.window * part).max(MIN * packet as f64);
        self.end_slow_start();
    }

    /// The packet of the last loss has arrived after all; it was only overtaken.
    pub fn not_lost(&mut self) {
        if let Some(before) = self.before_loss.take() {
            self.window = self.window.max(before);
        }
    }

    /// Nothing was acknowledged for too long.
    pub fn timed_out(&mut self, packet: usize) {
        self.threshold = (self.window / 2.0).max(MIN * packet as f64);
        self.window = MIN_AFTER_TIMEOUT * packet as f64;
        self.is_slow_start = true;
        (self.slowed, self.before_loss) = (None, None);
    }

    /// Nothing was sent for a while: what the path can carry is not known any more.
    pub fn rested(&mut self, packet: usize) {
        let initial = INITIAL * packet as f64;
        if self.window > initial {
            self.threshold = self.threshold.max(self.window * 0.75);
            self.window = (self.window / 2.0).max(initial);
            self.is_slow_start = true;
        }
    }
}

#[cfg(test)]
mod tests;
