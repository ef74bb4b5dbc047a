//! Limits how much of our upload to one peer may be in flight while we download.
//!
//! Our requests queue behind the blocks sent before them. A link's buffer holds a second or more of its rate, TCP fills it, and
//! once it overflows each lost packet holds up everything after it. So while we download, the next block is written only when
//! little data is unacknowledged: as much as keeps the delay within a tenth of a second above the shortest round trip ever seen.
//! That is the aim of LEDBAT (BEP 29, RFC 6817), with the formula of FAST TCP, once per round: `window × target rtt / rtt`.
//!
//! The round trip time does not tell one direction from the other. If it stays long although the window has become much smaller,
//! other traffic causes the delay: the window returns to its former size, and that round trip time counts as the shortest for a
//! while.

use std::time::Duration;

use crate::net::link_figures::LinkFigures;
use crate::types::BLOCK_SIZE;

/// The delay that our data may add to the round trip time.
const DELAY: Duration = Duration::from_millis(100);
/// The limit on unacknowledged bytes: initial, smallest, and a largest value that has no effect in practice.
const INITIAL_WINDOW: f64 = BLOCK_SIZE as f64;
const MIN_WINDOW: f64 = BLOCK_SIZE as f64 / 4.0;
const MAX_WINDOW: f64 = (64 << 20) as f64;
/// The most that the window changes in one round.
const FACTOR: f64 = 2.0;
/// Once the window has shrunk to this fraction for this many rounds, the round trip time must have fallen too, by half of what
/// our data would explain.
const SHRUNK: f64 = 0.51;
const ROUNDS: u32 = 3;
/// How long a round trip time that others cause counts as the shortest.
const FOREIGN_RTT_LASTS: Duration = Duration::from_secs(30);
/// Bounds of the time until the next attempt when the window is full.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Whether a block may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowGrant {
    /// This many bytes, and at least one block.
    Go(u64),
    /// Not yet; ask again after this time.
    Wait(Duration),
}

/// The window before it started to shrink, the longest round trip time since, and how many rounds it has been small.
#[derive(Clone, Copy, Debug)]
struct Shrinking {
    from: f64,
    longest: Duration,
    rounds: u32,
}

/// One connection's window.
#[derive(Clone, Copy, Debug)]
pub struct SendWindow {
    bytes: f64,
    /// The round is over when this many bytes are acknowledged; 0 before the first round.
    mark: u64,
    /// Whether the window limited writing in this round.
    is_used: bool,
    shrinking: Option<Shrinking>,
    /// A long round trip time with a foreign cause, and until when it is assumed.
    cross_traffic_rtt: Option<(Duration, Duration)>,
}

impl Default for SendWindow {
    fn default() -> SendWindow {
        SendWindow { bytes: INITIAL_WINDOW, mark: 0, is_used: false, shrinking: None, cross_traffic_rtt: None }
    }
}

impl SendWindow {
    /// Whether a block may be written now, and how many bytes of blocks.
    pub fn ask(&mut self, now: Duration, figures: LinkFigures) -> WindowGrant {
        if figures.acknowledged >= self.mark {
            if self.mark > 0 {
                self.end_round(now, figures);
            }
            // Includes the block that is written next, because its first packet is acknowledged soon.
            self.mark = figures.acknowledged + figures.queued + u64::from(BLOCK_SIZE);
            self.is_used = false;
        }
        let room = self.bytes - figures.queued as f64;
        self.is_used |= room < INITIAL_WINDOW.max(self.bytes / 2.0);
        if room >= 0.0 { WindowGrant::Go(room as u64) } else { WindowGrant::Wait(self.pause(figures)) }
    }

    /// The queued bytes take one round trip to be acknowledged; waits for the excess part.
    fn pause(&self, figures: LinkFigures) -> Duration {
        let part = 1.0 - self.bytes / figures.queued as f64;
        figures.rtt.mul_f64(part.clamp(0.0, 1.0)).clamp(MIN_PAUSE, MAX_PAUSE)
    }

    fn end_round(&mut self, now: Duration, figures: LinkFigures) {
        self.cross_traffic_rtt = self.cross_traffic_rtt.filter(|(_, until)| now < *until);
        let base = self.cross_traffic_rtt.map_or(figures.min_rtt, |(rtt, _)| rtt.max(figures.min_rtt));
        let ratio = (base + DELAY).as_secs_f64() / figures.rtt.as_secs_f64().max(1e-6);
        if ratio >= 1.0 {
            self.shrinking = None;
            if self.is_used {
                self.bytes = (self.bytes * ratio.min(FACTOR)).min(MAX_WINDOW);
            }
            return;
        }
        let began = Shrinking { from: self.bytes, longest: figures.rtt, rounds: 0 };
        let shrinking = self.shrinking.get_or_insert(began);
        self.bytes = (self.bytes * ratio.max(1.0 / FACTOR)).max(MIN_WINDOW);
        shrinking.longest = shrinking.longest.max(figures.rtt);
        // On average, half a block is in flight beyond the window.
        let half = f64::from(BLOCK_SIZE) / 2.0;
        let part = (self.bytes + half) / (shrinking.from + half);
        shrinking.rounds = if part <= SHRUNK { shrinking.rounds + 1 } else { 0 };
        let (excess, longest) = (figures.rtt.saturating_sub(base), shrinking.longest.saturating_sub(base));
        let stays = excess > longest.mul_f64(f64::midpoint(part, 1.0)) && excess > 2 * DELAY;
        if shrinking.rounds > ROUNDS && stays {
            self.bytes = shrinking.from;
            self.shrinking = None;
            self.cross_traffic_rtt = Some((figures.rtt, now + FOREIGN_RTT_LASTS));
        }
    }
}

#[cfg(test)]
mod tests;
