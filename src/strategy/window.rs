//! How much of what we send one peer may be on its way at a time while we download. Pure.
//!
//! Requests leave behind the blocks that were sent before. A line's buffer holds a second or more of its rate, TCP fills it, and once it
//! overflows each lost packet holds up all that follows. So while we download, the next block is written only once little of the
//! others is left unacknowledged: as much as keeps the delay a tenth of a second above the shortest round trip ever seen. That is the
//! aim of LEDBAT (BEP 29, RFC 6817), with the formula of FAST TCP, once a round: `window × wanted round trip / round trip`.
//!
//! The round trip does not tell one direction from the other. Where it stays long although the window has become much smaller, it is
//! not our data that waits: the window goes back to where it was, and that round trip counts as the shortest for a while.

use std::time::Duration;

use crate::net::tcp_diag::TcpInfo;
use crate::types::BLOCK_SIZE;

/// What our data may add to the round trip.
const DELAY: Duration = Duration::from_millis(100);
/// Bytes unacknowledged before the next write: at first, at least, and so many that they never matter.
const INITIAL_WINDOW: f64 = BLOCK_SIZE as f64;
const MIN_WINDOW: f64 = BLOCK_SIZE as f64 / 4.0;
const MAX_WINDOW: f64 = (64 << 20) as f64;
/// The window changes by this factor in a round at most.
const FACTOR: f64 = 2.0;
/// Once so small a part of what was under way is left, for so many rounds, that has to show in the round trip: by half of what our
/// data would explain.
const SHRUNK: f64 = 0.51;
const ROUNDS: u32 = 3;
/// How long a round trip that is not ours counts as the shortest.
const FOREIGN_RTT_LASTS: Duration = Duration::from_secs(30);
/// Between two looks at a window that is full.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Whether a block may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowGrant {
    /// So many bytes, and one block in any case.
    Go(u64),
    /// Not yet: look again after so long.
    Wait(Duration),
}

/// What the window was before it began to shrink, the longest round trip since, and for how many rounds it has been small.
#[derive(Clone, Copy, Debug)]
struct Shrinking {
    from: f64,
    longest: Duration,
    rounds: u32,
}

/// One connection's window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    bytes: f64,
    /// The round is over once so many bytes are acknowledged; 0 before the first.
    mark: u64,
    /// More would have been written in this round.
    is_used: bool,
    shrinking: Option<Shrinking>,
    /// A round trip that is long for other reasons, and until when that is believed.
    foreign: Option<(Duration, Duration)>,
}

impl Default for Window {
    fn default() -> Window {
        Window { bytes: INITIAL_WINDOW, mark: 0, is_used: false, shrinking: None, foreign: None }
    }
}

impl Window {
    /// Whether a block may be written now, and how many bytes of blocks.
    pub fn ask(&mut self, now: Duration, look: TcpInfo) -> WindowGrant {
        if look.acknowledged >= self.mark {
            if self.mark > 0 {
                self.end_round(now, look);
            }
            // With the block that is written next, as the first packet of one comes back soon.
            self.mark = look.acknowledged + look.queued + u64::from(BLOCK_SIZE);
            self.is_used = false;
        }
        let room = self.bytes - look.queued as f64;
        self.is_used |= room < INITIAL_WINDOW.max(self.bytes / 2.0);
        if room >= 0.0 { WindowGrant::Go(room as u64) } else { WindowGrant::Wait(self.pause(look)) }
    }

    /// All that is queued takes a round trip to be acknowledged.
    fn pause(&self, look: TcpInfo) -> Duration {
        let part = 1.0 - self.bytes / look.queued as f64;
        look.rtt.mul_f64(part.clamp(0.0, 1.0)).clamp(MIN_PAUSE, MAX_PAUSE)
    }

    fn end_round(&mut self, now: Duration, look: TcpInfo) {
        self.foreign = self.foreign.filter(|(_, until)| now < *until);
        let base = self.foreign.map_or(look.min_rtt, |(rtt, _)| rtt.max(look.min_rtt));
        let ratio = (base + DELAY).as_secs_f64() / look.rtt.as_secs_f64().max(1e-6);
        if ratio >= 1.0 {
            self.shrinking = None;
            if self.is_used {
                self.bytes = (self.bytes * ratio.min(FACTOR)).min(MAX_WINDOW);
            }
            return;
        }
        let began = Shrinking { from: self.bytes, longest: look.rtt, rounds: 0 };
        let shrinking = self.shrinking.get_or_insert(began);
        self.bytes = (self.bytes * ratio.max(1.0 / FACTOR)).max(MIN_WINDOW);
        shrinking.longest = shrinking.longest.max(look.rtt);
        // On average half of a block is under way beside the window.
        let half = f64::from(BLOCK_SIZE) / 2.0;
        let part = (self.bytes + half) / (shrinking.from + half);
        shrinking.rounds = if part <= SHRUNK { shrinking.rounds + 1 } else { 0 };
        let (excess, longest) = (look.rtt.saturating_sub(base), shrinking.longest.saturating_sub(base));
        let stays = excess > longest.mul_f64(f64::midpoint(part, 1.0)) && excess > 2 * DELAY;
        if shrinking.rounds > ROUNDS && stays {
            self.bytes = shrinking.from;
            self.shrinking = None;
            self.foreign = Some((look.rtt, now + FOREIGN_RTT_LASTS));
        }
    }
}

#[cfg(test)]
mod tests;
