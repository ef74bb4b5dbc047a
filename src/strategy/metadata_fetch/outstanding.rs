//! Which pieces are asked of how many peers, and for how long: what decides who may be asked for the same piece, too.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

/// Peers that are asked for one piece at once, while it may still be on its way. Doubled with each second in which it does not come.
const MAX_ASKED: u32 = 2;
/// After so many seconds everybody may be asked.
const STEPS: u64 = 8;

/// The requests under way, by size and piece.
#[derive(Debug, Default)]
pub(crate) struct RequestsInFlight(HashMap<(u32, u32), ByKind>);

/// Of any peers, and of those that give.
#[derive(Clone, Copy, Debug, Default)]
struct ByKind {
    any: RequestCount,
    giving: RequestCount,
}

#[derive(Clone, Copy, Debug, Default)]
struct RequestCount {
    count: u32,
    /// When the oldest was sent.
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
    /// A request that was sent at this time, to a peer that gives or to another.
    pub(crate) fn add(&mut self, size: u32, piece: u32, gives: bool, at: Duration) {
        let asked = self.0.entry((size, piece)).or_default();
        asked.any.add(at);
        if gives {
            asked.giving.add(at);
        }
    }

    /// The best of the missing pieces for a peer: one that nobody was asked for, or else one that few were. For a peer that gives,
    /// only others that give count: the silent do not keep it from any piece. One that was never asked is asked for something in
    /// any case: that is how it is found out whether it gives.
    pub(crate) fn best(
        &self,
        size: u32,
        missing: impl Iterator<Item = u32>,
        (gives, was_asked): (bool, bool),
        now: Duration,
    ) -> Option<u32> {
        let mut best: Option<(u32, Reverse<u32>)> = None;
        for piece in missing {
            let Some(asked) = self.0.get(&(size, piece)) else { return Some(piece) };
            let requests = if gives { asked.giving } else { asked.any };
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

/// When more peers may be asked for what was asked for at this time.
pub(crate) fn next_step(at: Duration, now: Duration) -> Duration {
    at + Duration::from_secs(now.saturating_sub(at).as_secs() + 1)
}
