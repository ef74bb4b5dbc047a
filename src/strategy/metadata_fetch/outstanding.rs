//! Counts how many peers are asked for each piece, and for how long. This decides whether another peer may be asked for the same
//! piece.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

/// The most peers asked for one piece at once. Doubled with each second in which the piece does not arrive.
const MAX_ASKED: u32 = 2;
/// After this many seconds all peers may be asked.
const STEPS: u64 = 8;

/// The outstanding requests, by size and piece.
#[derive(Debug, Default)]
pub(crate) struct RequestsInFlight(HashMap<(u32, u32), PieceRequests>);

/// Requests to any peer, and to peers whose last request brought a piece.
#[derive(Clone, Copy, Debug, Default)]
struct PieceRequests {
    any: RequestCount,
    delivering: RequestCount,
}

#[derive(Clone, Copy, Debug, Default)]
struct RequestCount {
    count: u32,
    /// When the oldest one was sent.
    oldest: Duration,
}

impl RequestCount {
    fn add(&mut self, at: Duration) {
        self.oldest = if self.count == 0 { at } else { self.oldest.min(at) };
        self.count += 1;
    }

    fn is_full(self, now: Duration) -> bool {
        let steps = now.saturating_sub(self.oldest).as_secs();
        self.count > 0 && steps < STEPS && self.count >= MAX_ASKED << steps
    }
}

impl RequestsInFlight {
    /// Adds a request sent at this time. `is_delivering`: the peer's last request brought a piece.
    pub(crate) fn add(&mut self, size: u32, piece: u32, is_delivering: bool, at: Duration) {
        let asked = self.0.entry((size, piece)).or_default();
        asked.any.add(at);
        if is_delivering {
            asked.delivering.add(at);
        }
    }

    /// The best missing piece to request from a peer: one that no peer was asked for, otherwise the one with the fewest requests.
    /// For a peer that delivers, only requests to other such peers count, so that silent peers keep no piece from it. A peer that
    /// was never asked is asked in any case, to find out whether it delivers.
    pub(crate) fn best(
        &self,
        size: u32,
        missing: impl Iterator<Item = u32>,
        is_delivering: bool,
        was_asked: bool,
        now: Duration,
    ) -> Option<u32> {
        let mut best: Option<(u32, Reverse<u32>)> = None;
        for piece in missing {
            let Some(asked) = self.0.get(&(size, piece)) else { return Some(piece) };
            let requests = if is_delivering { asked.delivering } else { asked.any };
            if !was_asked || !requests.is_full(now) {
                let rank = (requests.count, Reverse(u32::MAX - piece));
                if best.is_none_or(|best| rank < best) {
                    best = Some(rank);
                }
            }
        }
        best.map(|(_, Reverse(rest))| u32::MAX - rest)
    }
}

/// When more peers may be asked for a piece that was requested at this time.
pub(crate) fn next_step(at: Duration, now: Duration) -> Duration {
    at + Duration::from_secs(now.saturating_sub(at).as_secs() + 1)
}
