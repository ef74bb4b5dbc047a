//! The order of the peers that share slots: whose turn it is.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{ChokeCandidate, Choker, ROUND};
use crate::net::networks::Network;
use crate::types::PeerKey;

/// A turn in a shared slot ends when the peer has received this many bytes and has had the slot this long…
pub(super) const TURN_BYTES: u64 = 16 << 20;
pub(super) const MIN_TURN: Duration = Duration::from_secs(30);
/// … or when it has had the slot this long, whatever it received …
const MAX_TURN: Duration = Duration::from_secs(90);
/// … or when it has taken no byte for this long.
const IDLE_TURN: Duration = Duration::from_secs(20);

/// The state of a peer's turn in a shared slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TurnState {
    /// Unchoked less than one round ago.
    Fresh,
    /// The turn is in progress.
    Serving,
    /// The peer is choked.
    Waiting,
    /// The turn is over; the peer keeps the slot only if no other peer waits.
    Done,
}

/// How many times the share of the slots (a quarter) of a peer's host, and of its network, is used up by peers that come before it.
type Crowding = (usize, usize);

/// The sort key of [`Choker::rank`], by its fields from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotRank {
    turn: TurnState,
    is_deprioritized: bool,
    crowding: Crowding,
    rate: Reverse<u64>,
    /// When the peer last had a slot; for a turn that is over, how long before the end of time it began.
    last: Option<Duration>,
}

/// Counts the slots of each host, or of each network.
struct ShareCount {
    held: BTreeMap<Network, usize>,
    fair: usize,
}

impl ShareCount {
    /// Counts one more slot; returns how many times the share was used up before.
    fn add(&mut self, of: Network) -> usize {
        let held = self.held.entry(of).or_default();
        *held += 1;
        (*held - 1) / self.fair
    }
}

impl Choker {
    /// The state of the peer's turn.
    pub(super) fn turn_state(&self, now: Duration, c: &ChokeCandidate) -> TurnState {
        let Some((began, sent)) = self.peers.get(&c.key).and_then(|m| m.turn) else { return TurnState::Waiting };
        let (time, bytes) = (now.saturating_sub(began), c.sent.saturating_sub(sent));
        let idles = self.peers.get(&c.key).is_some_and(|m| m.idleness.is_idle(now));
        let over =
            idles || time >= MAX_TURN || (time >= MIN_TURN && bytes >= TURN_BYTES) || (time >= IDLE_TURN && bytes == 0);
        match time {
            _ if over => TurnState::Done,
            _ if time < ROUND => TurnState::Fresh,
            _ => TurnState::Serving,
        }
    }

    /// The crowding of each peer that has a slot or waits for one; 0 while host and network are within their share. Peers that
    /// have a slot come before those that wait, and these in the order in which they have waited.
    pub(super) fn crowding(&self, now: Duration, ranked: &[&ChokeCandidate]) -> BTreeMap<PeerKey, Crowding> {
        let fair = (self.slots.count() / 4).max(1);
        let order = |c: &ChokeCandidate| match self.turn_state(now, c) {
            TurnState::Waiting => {
                let last_unchoked = self.peers.get(&c.key).and_then(|m| m.last_unchoked);
                (TurnState::Waiting, Reverse(0), last_unchoked, c.since, c.key)
            }
            state => (state.min(TurnState::Serving), Reverse(c.up_rate), None, c.since, c.key),
        };
        let is_waiting = |c: &ChokeCandidate| self.turn_state(now, c) == TurnState::Waiting;
        let mut all: Vec<_> = ranked.iter().filter(|c| c.is_unchoked || is_waiting(c)).collect();
        all.sort_by_cached_key(|c| order(c));
        let [mut hosts, mut networks] = [(); 2].map(|()| ShareCount { held: BTreeMap::new(), fair });
        all.into_iter().map(|c| (c.key, (hosts.add(c.host), networks.add(c.network)))).collect()
    }

    /// The order among peers that share slots. First the peers whose turn is in progress, the fastest first. Then the waiting
    /// peers: those that wasted a slot come after the others; among equals, by the shares of their host and network, then the
    /// longest wait first (`None`, never served, sorts first). Peers with a slot beyond such a share come among these. Last the
    /// peers whose turn is over, the most recently started turn first.
    pub(super) fn rank(
        &self,
        now: Duration,
        c: &ChokeCandidate,
        turn_state: TurnState,
        crowding: Crowding,
    ) -> SlotRank {
        let history = self.peers.get(&c.key);
        let within_share = (0, 0);
        let rank = SlotRank {
            turn: turn_state,
            is_deprioritized: false,
            crowding: within_share,
            rate: Reverse(0),
            last: None,
        };
        match turn_state {
            TurnState::Serving if crowding != within_share => {
                SlotRank { turn: TurnState::Waiting, crowding, rate: Reverse(c.up_rate.saturating_add(1)), ..rank }
            }
            TurnState::Fresh | TurnState::Serving => SlotRank { rate: Reverse(c.up_rate), ..rank },
            TurnState::Waiting => {
                let is_deprioritized = history.is_some_and(|m| m.idleness.is_deprioritized(now));
                SlotRank { is_deprioritized, crowding, last: history.and_then(|m| m.last_unchoked), ..rank }
            }
            TurnState::Done => {
                let began = history.and_then(|m| m.turn).map_or(Duration::ZERO, |turn| turn.0);
                SlotRank { last: Some(Duration::MAX.saturating_sub(began)), ..rank }
            }
        }
    }
}
