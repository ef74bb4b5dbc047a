//! Chooses the peers to unchoke (BEP 3). The caller runs a round every [`ROUND`], and asks in between when a peer becomes
//! interested.
//!
//! While downloading, the regular slots go to the peers with the highest download rate; the remaining peers take turns in the
//! slots that are left. Optimistic slots (`optimistic`) come on top and are drawn at random, so that new peers can show what
//! they deliver. A peer that snubs us gets no regular slot. While seeding, all interested peers are served; if there are too
//! many, they take turns, each until its quota is used up. [`slots`] decides the number of slots. A peer with `upload_only`
//! (BEP 21) gets none. Slots of peers that read slowly do not count, because these peers leave the uplink to others.
//!
//! Claiming interest costs a peer nothing. So a peer that requests nothing or little for some seconds loses its slot to a waiting
//! peer, and then ranks last for a while (`idle`). A host or network whose peers hold a quarter of the slots ranks after others
//! that wait, which take over the slots that it has beyond that share at the next round; and every network has the same chance of
//! an optimistic slot.
//!
//! To avoid needless changes, an unchoked peer stays unchoked for at least one round, and a peer with a regular slot loses it
//! only to a clearly faster peer.

mod idle;
mod optimistic;
pub mod slots;
mod turns;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::net::networks::Network;
use crate::types::PeerKey;
use idle::Idleness;
use slots::{Load, Slots};
use turns::TurnState;

/// The time between two rounds.
pub const ROUND: Duration = Duration::from_secs(10);

/// How long an optimistic unchoke lasts.
const OPTIMISTIC_TURN: Duration = Duration::from_secs(30);
/// A peer that owes us blocks and sends none for this long snubs us.
const SNUBBED_AFTER: Duration = Duration::from_secs(60);
/// Below this rate, in bytes per second, a peer does not earn a regular slot.
const MIN_RECIPROCATION_RATE: u64 = 1024;
/// For how long after a further peer with a slot was found to read slowly rounds are as frequent as during a ramp-up: those that
/// got the slots instead may read as slowly.
const SLOW_READERS_SEARCH: Duration = Duration::from_secs(10);

/// The state of one connected peer at the time of a round.
#[allow(clippy::struct_excessive_bools)] // independent facts about both sides
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChokeCandidate {
    /// The peer.
    pub key: PeerKey,
    /// The peer's host and its network; slots are shared fairly among hosts, and among networks.
    pub host: Network,
    /// See `host`.
    pub network: Network,
    /// Whether requests of the peer are waiting for blocks, and the peer reads what we send.
    pub is_requesting: bool,
    /// Whether the peer has a slot and requests, and its slow reading, not our uplink, limits the upload to it
    /// ([`crate::strategy::slow_reader`]).
    pub reads_slowly: bool,
    /// Whether the peer is interested in our pieces.
    pub is_interested: bool,
    /// Whether the peer does not download: a seed, or `upload_only` (BEP 21).
    pub is_upload_only: bool,
    /// Whether we unchoke the peer now.
    pub is_unchoked: bool,
    /// Whether the peer should be sending blocks: we are interested, and it unchokes us.
    pub owes_blocks: bool,
    /// The download rate from the peer over the last 10 to 20 s, in bytes per second.
    pub down_rate: u64,
    /// The upload rate to the peer over the last 10 to 20 s, in bytes per second.
    pub up_rate: u64,
    /// Payload bytes received from the peer since it connected.
    pub received: u64,
    /// Payload bytes that the peer had acknowledged by the last round.
    pub sent: u64,
    /// When the peer connected.
    pub since: Duration,
}

/// What the choker remembers of a peer between two rounds.
#[derive(Clone, Copy, Debug)]
struct PeerHistory {
    /// When the peer was unchoked, and how many bytes it had been sent by then; `None` while it is choked.
    turn: Option<(Duration, u64)>,
    /// The last round in which the peer was unchoked.
    last_unchoked: Option<Duration>,
    /// The bytes received from the peer by the last round, and when that number last grew or the peer owed us nothing.
    received: u64,
    last_progress: Duration,
    /// How the peer has used its slots.
    idleness: Idleness,
}

impl PeerHistory {
    fn new(now: Duration, c: &ChokeCandidate) -> PeerHistory {
        PeerHistory {
            turn: None,
            last_unchoked: None,
            received: c.received,
            last_progress: now,
            idleness: Idleness::default(),
        }
    }
}

/// The choker of one torrent; see the module documentation.
#[derive(Debug, Default)]
pub struct Choker {
    rng: fastrand::Rng,
    slots: Slots,
    peers: BTreeMap<PeerKey, PeerHistory>,
    /// The optimistically unchoked peers, with the start of each turn.
    optimistic: BTreeMap<PeerKey, Duration>,
    /// How many peers with a slot read slowly, as of the last round, and when that number last grew.
    slow_readers: usize,
    slow_readers_grew: Option<Duration>,
}

impl Choker {
    /// A choker without history. The same `rng` and the same rounds lead to the same choices.
    #[cfg(any(test, feature = "internals"))]
    pub fn new(rng: fastrand::Rng) -> Choker {
        Choker { rng, ..Choker::default() }
    }

    /// Sets the upload limit in bytes per second, 0 for none. It bounds the number of slots from the next round on.
    pub fn set_upload_limit(&mut self, limit: u64) {
        self.slots.set_limit(limit);
    }

    /// The current number of regular slots.
    pub fn slots(&self) -> usize {
        self.slots.count()
    }

    /// How soon a round should run before [`ROUND`] has passed, if a peer waits for a slot: to open more slots, or to take a slot
    /// from an idle peer. A peer that was already idle at the last round kept its slot because no other peer could take it, so it
    /// is no reason for an early round.
    pub fn early_round_in(&self, now: Duration) -> Option<Duration> {
        let idle = self.idle_from().filter(|from| *from > now).min();
        let is_searching = self.slow_readers_grew.is_some_and(|grew| now < grew + SLOW_READERS_SEARCH);
        self.slots
            .early_round_in()
            .into_iter()
            .chain(is_searching.then_some(slots::RAMP_UP_INTERVAL))
            .chain(idle.map(|from| from.saturating_sub(now).max(slots::RAMP_UP_INTERVAL)))
            .min()
    }

    /// Like [`Choker::early_round_in`], for a peer that has just become interested and found no free slot. It may also take the
    /// slot of a peer that is already idle.
    pub fn early_round_for_newcomer(&self, now: Duration) -> Option<Duration> {
        let idle = self.idle_from().any(|from| from <= now).then_some(slots::RAMP_UP_INTERVAL);
        self.early_round_in(now).into_iter().chain(idle).min()
    }

    /// For each idle peer with a slot, the time from which it may lose the slot.
    fn idle_from(&self) -> impl Iterator<Item = Duration> {
        self.peers.values().filter_map(|m| m.idleness.idle_from())
    }

    /// Whether the peer requested nothing or little in its last slot, and has not used one since.
    pub fn left_slot_idle(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|m| m.idleness.left_slot_idle())
    }

    /// Whether the peer snubs us, as of the last round.
    pub fn is_snubbing(&self, now: Duration, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|m| now.saturating_sub(m.last_progress) >= SNUBBED_AFTER)
    }

    /// Runs a round. Returns the peers to unchoke until the next round; all others are to be choked. `candidates` are all
    /// connected peers.
    pub fn round(&mut self, now: Duration, is_seeding: bool, candidates: &[ChokeCandidate]) -> Vec<PeerKey> {
        self.observe(now, candidates);
        let eligible: Vec<&ChokeCandidate> = candidates.iter().filter(|c| can_use_slot(c)).collect();
        let slow_readers = eligible.iter().filter(|c| c.reads_slowly).count();
        if slow_readers > self.slow_readers {
            self.slow_readers_grew = Some(now);
        }
        self.slow_readers = slow_readers;
        let is_active = |c: &ChokeCandidate| c.up_rate >= slots::SLOW_SLOT_RATE || c.is_requesting;
        let load = Load {
            demand: eligible.len() - slow_readers,
            served: eligible.iter().filter(|c| uses_slot(c)).count(),
            active: eligible.iter().filter(|c| uses_slot(c) && is_active(c)).count(),
            upload_rate: candidates.iter().map(|c| c.up_rate).fold(0, u64::saturating_add),
            sent: candidates.iter().map(|c| c.sent).fold(0, u64::saturating_add),
        };
        self.slots.observe(now, is_seeding, load);
        let mut chosen = self.regular(now, is_seeding, &eligible);
        if is_seeding {
            self.optimistic.clear();
        } else {
            self.draw_optimistic(now, &eligible, &chosen);
            chosen.extend(self.optimistic.keys());
        }
        for candidate in eligible.iter().filter(|c| chosen.contains(&c.key)) {
            self.begin_turn(now, candidate);
        }
        chosen.into_iter().collect()
    }

    /// Whether to unchoke a peer that became interested between two rounds at once: only if a slot is free. If so, its
    /// turn begins.
    pub fn can_unchoke_now(
        &mut self,
        now: Duration,
        is_seeding: bool,
        candidates: &[ChokeCandidate],
        key: PeerKey,
    ) -> bool {
        let Some(candidate) = candidates.iter().find(|c| c.key == key && can_use_slot(c)) else { return false };
        self.slots.set_seeding(is_seeding);
        let others = || candidates.iter().filter(|c| can_use_slot(c) && c.is_unchoked && c.key != key);
        let served = others().filter(|c| uses_slot(c)).count();
        let free = others().count() < slots::MAX_SLOTS
            && served < self.slots.count() + usize::from(!is_seeding)
            && (is_seeding || !self.is_snubbing(now, key));
        if free {
            self.begin_turn(now, candidate);
        }
        free
    }

    /// Whether the peer has a slot, or had one when it disconnected.
    pub fn has_slot(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|history| history.turn.is_some())
    }

    /// The waiting peer to unchoke at once because a peer with a slot has left between two rounds; `None` if no slot is free or
    /// no peer waits. The optimistic slots are drawn in rounds only.
    pub fn fill_free_slot(
        &mut self,
        now: Duration,
        is_seeding: bool,
        candidates: &[ChokeCandidate],
    ) -> Option<PeerKey> {
        self.slots.set_seeding(is_seeding);
        let eligible: Vec<&ChokeCandidate> = candidates.iter().filter(|c| can_use_slot(c)).collect();
        let has_regular_slot =
            |c: &ChokeCandidate| uses_slot(c) && (is_seeding || !self.optimistic.contains_key(&c.key));
        if eligible.iter().filter(|c| has_regular_slot(c)).count() >= self.slots.count() {
            return None;
        }
        let chosen = self.regular(now, is_seeding, &eligible);
        let waiting = eligible.into_iter().find(|c| !c.is_unchoked && chosen.contains(&c.key))?;
        self.begin_turn(now, waiting);
        Some(waiting.key)
    }

    /// Updates the histories from the current state of all peers, and drops those of disconnected peers.
    fn observe(&mut self, now: Duration, candidates: &[ChokeCandidate]) {
        let before = std::mem::take(&mut self.peers);
        for c in candidates {
            let mut history = before.get(&c.key).copied().unwrap_or_else(|| PeerHistory::new(now, c));
            if c.received != history.received || !c.owes_blocks {
                (history.received, history.last_progress) = (c.received, now);
            }
            if c.is_unchoked && c.is_interested {
                history.turn.get_or_insert((now, c.sent));
                history.last_unchoked = Some(now);
            } else {
                history.turn = None;
            }
            history.idleness.observe(now, history.turn, c.sent, c.is_requesting);
            self.peers.insert(c.key, history);
        }
    }

    fn begin_turn(&mut self, now: Duration, c: &ChokeCandidate) {
        let history = self.peers.entry(c.key).or_insert_with(|| PeerHistory::new(now, c));
        history.turn.get_or_insert((now, c.sent));
        history.idleness.observe(now, history.turn, c.sent, c.is_requesting);
    }

    /// The peers that get the regular slots.
    fn regular(&self, now: Duration, is_seeding: bool, eligible: &[&ChokeCandidate]) -> BTreeSet<PeerKey> {
        let mut ranked: Vec<_> =
            eligible.iter().copied().filter(|c| is_seeding || !self.is_snubbing(now, c.key)).collect();
        let lasts = |began: &Duration| now.saturating_sub(*began) < OPTIMISTIC_TURN;
        let lucky = |c: &ChokeCandidate| !is_seeding && self.optimistic.get(&c.key).is_some_and(lasts);
        let crowding = self.crowding(now, &ranked);
        ranked.sort_by_cached_key(|c| {
            // When an optimistic turn is over, it gives no claim to a regular slot.
            let by_luck = !is_seeding && self.optimistic.contains_key(&c.key);
            let turn_state = if by_luck && !lucky(c) { TurnState::Done } else { self.turn_state(now, c) };
            let reciprocates = !is_seeding && c.down_rate >= MIN_RECIPROCATION_RATE;
            let class = match turn_state {
                TurnState::Fresh if !lucky(c) => 0,
                _ if reciprocates => 1,
                _ if !lucky(c) => 2,
                _ => 3, // served by its optimistic slot
            };
            // Only a clearly faster peer displaces a peer from its regular slot.
            let bonus = if c.is_unchoked && !by_luck { c.down_rate / 8 + 512 } else { 0 };
            let merit = if class == 1 { c.down_rate.saturating_add(bonus) } else { 0 };
            let crowding = crowding.get(&c.key).copied().unwrap_or_default();
            (class, Reverse(merit), self.rank(now, c, turn_state, crowding), c.since, c.key)
        });
        let (slow_readers, ranked): (Vec<_>, Vec<_>) = ranked.into_iter().partition(|c| c.reads_slowly);
        let fresh = ranked.iter().filter(|c| self.turn_state(now, c) == TurnState::Fresh && !lucky(c)).count();
        let chosen = ranked.into_iter().take(self.slots.count().max(fresh));
        chosen.chain(slow_readers).take(slots::MAX_SLOTS).map(|c| c.key).collect()
    }
}

/// Whether the peer can use a slot.
fn can_use_slot(c: &ChokeCandidate) -> bool {
    c.is_interested && !c.is_upload_only
}

/// Whether the peer has a slot that counts.
fn uses_slot(c: &ChokeCandidate) -> bool {
    c.is_unchoked && !c.reads_slowly
}

#[cfg(test)]
mod tests;
