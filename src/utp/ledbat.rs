//! The congestion window: LEDBAT (RFC 6817) with parts of its successor LEDBAT++ and of TCP Veno.
//!
//! - Below the target delay, the window grows by at most one packet per round trip; above, it shrinks in proportion to itself.
//! - A lost packet halves the window, once per round trip. Without a queue, the loss has another cause, such as a radio link, and
//!   the window shrinks by a fifth only.
//! - If queues overflow before the delay reaches the target, LEDBAT would behave like TCP. The target then becomes half the delay at
//!   the losses.
//! - If the queue was never seen empty, our own data may hide the true delay of the path. The window then is minimal for two round
//!   trips: once after the first slow start, and then at most every 30 seconds (the slowdown of LEDBAT++).

use crate::utp::UtpTime;

/// The window of a new connection, in packets.
const INITIAL_WINDOW: f64 = 4.0;
/// The smallest window, in packets.
const MIN_WINDOW: f64 = 2.0;
/// The window after a timeout, in packets.
const MIN_WINDOW_AFTER_TIMEOUT: f64 = 1.0;
/// The largest window in bytes; a value that no sane path needs.
const MAX_WINDOW: f64 = (64 << 20) as f64;
/// The window shrinks by this factor after a loss with a queue.
const AFTER_CONGESTION: f64 = 0.5;
/// The window shrinks by this factor after a loss without a queue.
const AFTER_RANDOM_LOSS: f64 = 0.8;
/// A queuing delay below this fraction of the target counts as no queue,
const EMPTY_QUEUE_DELAY: f64 = 1.0 / 12.0;
/// or below this multiple of the measurements' variation,
const NOISE_FACTOR: f64 = 4.0;
/// but never above this fraction of the target.
const MAX_EMPTY_QUEUE_DELAY: f64 = 0.5;
/// Slow start ends when the delay stayed above this fraction of the target for a whole round trip. It causes short queues of its own
/// before the path is full.
const SLOW_START_END: f64 = 0.25;
/// Slow start ends at once when the delay is above this fraction of the target.
const SLOW_START_ABORT: f64 = 0.4;
/// The queuing delay is the smallest of this many measurements (RFC 6817: `CURRENT_FILTER`).
const DELAY_FILTER: usize = 4;
/// A loss with a queue adds this to the score of early overflows; a loss without a queue subtracts 1.
const OVERFLOW_SCORE_STEP: u32 = 4;
/// The highest score of early overflows.
const MAX_OVERFLOW_SCORE: u32 = 8;
/// From this score on, the target is half the delay at which a queue overflowed.
const SHALLOW_QUEUE_SCORE: u32 = 4;
/// How long such a target is used, in microseconds.
const SHALLOW_QUEUE_MEMORY: u64 = 60_000_000;
/// The least time between two slowdowns, in microseconds.
const SLOWDOWN_INTERVAL: u64 = 30_000_000;
/// The length of a slowdown, in round trips.
const SLOWDOWN_ROUND_TRIPS: u64 = 2;

/// What an acknowledgement means for the window.
#[derive(Clone, Copy, Debug)]
pub struct WindowAck {
    /// When it came.
    pub now: UtpTime,
    /// How many bytes have arrived.
    pub bytes: usize,
    /// Whether the window kept us from sending. An unused window must not grow.
    pub is_cwnd_limited: bool,
    /// The smoothed round trip time in microseconds.
    pub round_trip: u64,
    /// The payload of a full packet.
    pub max_payload: usize,
}

/// A connection's congestion window.
#[derive(Clone, Copy, Debug)]
pub struct Ledbat {
    window: f64,
    /// Slow start ends at this window.
    ssthresh: f64,
    is_slow_start: bool,
    target: f64,
    /// A lower target, and until when.
    shallow_target: Option<(f64, UtpTime)>,
    overflow_score: u32,
    /// The window before the last loss.
    window_before_loss: Option<f64>,
    recent: [u32; DELAY_FILTER],
    recent_count: usize,
    /// The mean difference of two measurements that follow each other.
    variation: f64,
    /// The smallest delay of this round trip, and its end.
    min_delay_this_round: f64,
    round_ends: UtpTime,
    /// The smallest delay since the last slowdown.
    min_delay_since_slowdown: f64,
    next_slowdown: Option<UtpTime>,
    /// The end of the slowdown, and the window to return to.
    slowdown: Option<(UtpTime, f64)>,
}

impl Ledbat {
    /// A window for a target delay in microseconds and packets of that payload.
    pub fn new(target: u64, packet: usize) -> Ledbat {
        Ledbat {
            window: INITIAL_WINDOW * packet as f64,
            ssthresh: MAX_WINDOW,
            is_slow_start: true,
            target: target.max(1) as f64,
            shallow_target: None,
            overflow_score: 0,
            window_before_loss: None,
            recent: [0; DELAY_FILTER],
            recent_count: 0,
            variation: 0.0,
            min_delay_this_round: f64::MAX,
            round_ends: UtpTime::default(),
            min_delay_since_slowdown: f64::MAX,
            next_slowdown: None,
            slowdown: None,
        }
    }

    /// The bytes that may be in flight.
    pub fn window(&self) -> usize {
        self.window as usize
    }

    /// Adds a measurement: by how much the delay exceeds that of the empty path, in microseconds.
    pub fn add_delay(&mut self, delay: u32) {
        if let Some(last) = self.recent_count.checked_sub(1) {
            let difference = f64::from(delay.abs_diff(self.recent[last % DELAY_FILTER]));
            self.variation += (difference - self.variation) / 16.0;
        }
        self.recent[self.recent_count % DELAY_FILTER] = delay;
        self.recent_count = self.recent_count.wrapping_add(1);
    }

    /// The delay that a queue causes. None before the first measurement.
    fn delay(&self) -> Option<f64> {
        self.recent.iter().take(self.recent_count).min().map(|delay| f64::from(*delay))
    }

    /// The lower target, if queues overflow early.
    fn shallow_target(&self, now: UtpTime) -> Option<f64> {
        self.shallow_target
            .filter(|(_, until)| now < *until && self.overflow_score >= SHALLOW_QUEUE_SCORE)
            .map(|(target, _)| target)
    }

    /// The target delay now.
    fn target(&self, now: UtpTime) -> f64 {
        self.shallow_target(now).unwrap_or(self.target)
    }

    /// The delay up to which we assume no queue.
    fn no_queue(&self) -> f64 {
        (self.target * EMPTY_QUEUE_DELAY).max(self.variation * NOISE_FACTOR).min(self.target * MAX_EMPTY_QUEUE_DELAY)
    }

    /// Packets have arrived.
    pub fn on_ack(&mut self, ack: &WindowAck) {
        let delay = self.delay().unwrap_or_default();
        self.min_delay_since_slowdown = self.min_delay_since_slowdown.min(delay);
        if self.slow_down(ack) {
            return;
        }
        let (bytes, packet, target) = (ack.bytes as f64, ack.max_payload as f64, self.target(ack.now));
        if self.is_slow_start
            && (delay > target * SLOW_START_ABORT || self.ends_round(ack, delay) > target * SLOW_START_END)
        {
            self.end_slow_start();
            if self.next_slowdown.is_none() {
                self.next_slowdown = Some(ack.now.after(ack.round_trip * SLOWDOWN_ROUND_TRIPS));
                self.min_delay_since_slowdown = f64::MAX;
            }
        }
        if self.is_slow_start {
            if ack.is_cwnd_limited {
                self.window = (self.window + bytes).min(self.ssthresh.max(self.window));
                self.is_slow_start = self.window < self.ssthresh;
            }
        } else {
            let off_target = 1.0 - delay / target;
            let per_round_trip = if off_target >= 0.0 {
                if ack.is_cwnd_limited { packet * off_target } else { 0.0 }
            } else {
                (packet + self.window * off_target).clamp(self.window * -0.5, 0.0)
            };
            self.window += per_round_trip * (bytes / self.window).min(1.0);
        }
        self.window = self.window.clamp(MIN_WINDOW * packet, MAX_WINDOW);
    }

    /// Notes the delay of this round trip. At its end, returns the smallest, and otherwise 0.
    fn ends_round(&mut self, ack: &WindowAck, delay: f64) -> f64 {
        self.min_delay_this_round = self.min_delay_this_round.min(delay);
        if ack.now < self.round_ends {
            return 0.0;
        }
        self.round_ends = ack.now.after(ack.round_trip);
        std::mem::replace(&mut self.min_delay_this_round, f64::MAX)
    }

    /// Handles slowdowns. Returns whether the window is minimal now.
    fn slow_down(&mut self, ack: &WindowAck) -> bool {
        if let Some((end, window)) = self.slowdown {
            if ack.now < end {
                return true;
            }
            self.slowdown = None;
            (self.is_slow_start, self.ssthresh) = (true, window);
            return false;
        }
        if self.next_slowdown.is_none_or(|at| ack.now < at) {
            return false;
        }
        self.next_slowdown = Some(ack.now.after(SLOWDOWN_INTERVAL));
        let was_empty =
            std::mem::replace(&mut self.min_delay_since_slowdown, f64::MAX) < self.target * SLOW_START_END / 2.0;
        if was_empty || self.is_slow_start {
            return false;
        }
        self.slowdown = Some((ack.now.after(ack.round_trip * SLOWDOWN_ROUND_TRIPS), self.window));
        self.window = MIN_WINDOW * ack.max_payload as f64;
        true
    }

    fn end_slow_start(&mut self) {
        (self.is_slow_start, self.ssthresh) = (false, self.window);
    }

    /// A packet is lost. To be called once per round trip.
    pub fn lost(&mut self, now: UtpTime, packet: usize) {
        let no_queue = self.no_queue();
        // Without a measurement, we know of no reason to be bold.
        let delay = self.delay().unwrap_or(self.target);
        let mut part = AFTER_CONGESTION;
        if delay >= no_queue {
            self.overflow_score = (self.overflow_score + OVERFLOW_SCORE_STEP).min(MAX_OVERFLOW_SCORE);
            self.shallow_target = Some(((delay / 2.0).clamp(no_queue, self.target), now.after(SHALLOW_QUEUE_MEMORY)));
        } else {
            if self.shallow_target(now).is_none() {
                part = AFTER_RANDOM_LOSS;
            }
            self.overflow_score = self.overflow_score.saturating_sub(1);
        }
        if let Some((_, window)) = &mut self.slowdown {
            *window *= part;
            return;
        }
        self.window_before_loss = Some(self.window);
        self.window = (self.window * part).max(MIN_WINDOW * packet as f64);
        self.end_slow_start();
    }

    /// The packet of the last loss has arrived after all; it was only overtaken.
    pub fn undo_loss(&mut self) {
        if let Some(before) = self.window_before_loss.take() {
            self.window = self.window.max(before);
        }
    }

    /// Nothing was acknowledged for too long.
    pub fn timed_out(&mut self, packet: usize) {
        self.ssthresh = (self.window / 2.0).max(MIN_WINDOW * packet as f64);
        self.window = MIN_WINDOW_AFTER_TIMEOUT * packet as f64;
        self.is_slow_start = true;
        (self.slowdown, self.window_before_loss) = (None, None);
    }

    /// Nothing was sent for a while: what the path can carry is not known any more.
    pub fn on_idle(&mut self, packet: usize) {
        let initial = INITIAL_WINDOW * packet as f64;
        if self.window > initial {
            self.ssthresh = self.ssthresh.max(self.window * 0.75);
            self.window = (self.window / 2.0).max(initial);
            self.is_slow_start = true;
        }
    }
}

#[cfg(test)]
mod tests;
