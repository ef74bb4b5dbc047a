//! Whom to unchoke (BEP 3). Pure; the caller runs a round every [`ROUND`], and asks between two when somebody becomes interested.
//!
//! While downloading, those who give most have the regular slots, whoever is left over shares the rest in turns, and the
//! optimistic slots, which come on top, let chance decide, so that newcomers can show what they give. A peer that snubs us has
//! no regular slot. While seeding nobody gives: all are served, or where they are too many all in turn, each until it has had its
//! quota. How many slots there are is up to [`slots`]. Who wants nothing but to give (BEP 21) has none.
//!
//! A peer can be interested at no cost. So a peer that had a slot for some seconds and asked for nothing or little loses it where others
//! wait, and comes after them for a while (`idle`). A network whose peers have a quarter of the slots comes after others that wait, and each
//! network has the same chance of an optimistic slot.
//!
//! A peer that was unchoked keeps that for a round at least, and whoever has a regular slot loses it only to a clearly better
//! giver, so that nobody is choked and unchoked without need.

mod idle;
pub mod slots;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::net::networks::Network;
use crate::types::PeerKey;
use idle::Idleness;
use slots::{Load, Slots};

/// How often a round is due.
pub const ROUND: Duration = Duration::from_secs(10);

/// How long an optimistic unchoke lasts.
const OPTIMISTIC_TURN: Duration = Duration::from_secs(30);
/// A peer is new to us for so long, and so many times as likely to be unchoked optimistically.
const NEW_PEER_AGE: Duration = Duration::from_secs(60);
const NEW_WEIGHT: u32 = 3;
/// A peer that owes us blocks and sends none for so long snubs us.
const SNUBBED_AFTER: Duration = Duration::from_secs(60);
/// Who gives fewer bytes a second is no giver.
const MIN_GIVING_RATE: u64 = 1024;
/// A turn in a shared slot is over when the peer has had so many bytes and so much time…
const TURN_BYTES: u64 = 16 << 20;
const MIN_TURN: Duration = Duration::from_secs(30);
/// … or so much time, whatever it had …
const MAX_TURN: Duration = Duration::from_secs(90);
/// … or has not taken a byte for so long.
const IDLE_TURN: Duration = Duration::from_secs(20);

/// One connected peer, as a round sees it.
#[allow(clippy::struct_excessive_bools)] // what both sides said, each independent of the others
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub key: PeerKey,
    /// The network that it is in, by which slots are shared out.
    pub network: Network,
    /// Whether it waits for blocks that it has asked for, and takes them.
    pub is_requesting: bool,
    /// Whether it wants something of us.
    pub interested: bool,
    /// Whether it takes no part in downloading: a seed, or `upload_only` (BEP 21).
    pub upload_only: bool,
    /// Whether we unchoke it now.
    pub unchoked: bool,
    /// Whether blocks should be coming: we want something of it, and it unchokes us.
    pub expects_blocks: bool,
    /// Bytes per second from it, over the last 20 s.
    pub down_rate: u64,
    /// Bytes per second to it, over the last 20 s.
    pub up_rate: u64,
    /// Payload bytes that ever came from it.
    pub received: u64,
    /// Payload bytes that ever went to it.
    pub sent: u64,
    /// When it connected.
    pub since: Duration,
}

/// What is remembered of a peer between two rounds.
#[derive(Clone, Copy, Debug)]
struct PeerHistory {
    /// When it was unchoked, and how much it had been sent by then; `None` while it is choked.
    turn: Option<(Duration, u64)>,
    /// When it was last unchoked.
    served: Option<Duration>,
    /// What it had given at the last round, and since when that has been all although it owes us more.
    received: u64,
    heard: Duration,
    /// Whether it made use of its slots.
    idleness: Idleness,
}

impl PeerHistory {
    fn new(now: Duration, c: &Candidate) -> PeerHistory {
        PeerHistory { turn: None, served: None, received: c.received, heard: now, idleness: Idleness::default() }
    }
}

/// How a turn in a shared slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TurnState {
    /// Unchoked less than a round ago.
    Fresh,
    /// Its turn lasts.
    Serving,
    /// It is choked.
    Waiting,
    /// It has had its turn, and stays only if nobody waits.
    Done,
}

/// See [`Choker::rank`].
type SlotRank = (TurnState, bool, usize, Reverse<u64>, Option<Duration>);

/// Remembers who was served when; see the module's head.
#[derive(Debug, Default)]
pub struct Choker {
    rng: fastrand::Rng,
    slots: Slots,
    peers: BTreeMap<PeerKey, PeerHistory>,
    /// The optimistic unchokes and when each began.
    optimistic: BTreeMap<PeerKey, Duration>,
}

impl Choker {
    /// Nobody was ever served. The same `rng` and the same rounds lead to the same choices.
    pub fn new(rng: fastrand::Rng) -> Choker {
        Choker { rng, ..Choker::default() }
    }

    /// States the upload limit, in bytes per second (0 for none): it bounds the number of slots from the next round on.
    pub fn set_upload_limit(&mut self, limit: u64) {
        self.slots.set_limit(limit);
    }

    /// How many regular slots there are now.
    pub fn slots(&self) -> usize {
        self.slots.count()
    }

    /// In how long a round may open slots or take one from a peer that does nothing with it, before [`ROUND`] has passed, where somebody
    /// waits for one. Whom the last round found idle it has left its slot for want of others, so there is no sooner look for that.
    pub fn early_round_in(&self, now: Duration) -> Option<Duration> {
        let idle = self.idle_from().filter(|from| *from > now).min();
        self.slots
            .early_round_in()
            .into_iter()
            .chain(idle.map(|from| from.saturating_sub(now).max(slots::RAMP_UP_INTERVAL)))
            .min()
    }

    /// The same where a peer has become interested for which there was no slot.
    pub fn early_round_for_newcomer(&self, now: Duration) -> Option<Duration> {
        let idle = self.idle_from().any(|from| from <= now).then_some(slots::RAMP_UP_INTERVAL);
        self.early_round_in(now).into_iter().chain(idle).min()
    }

    /// When each of those who have a slot and ask for nothing may lose it.
    fn idle_from(&self) -> impl Iterator<Item = Duration> {
        self.peers.values().filter_map(|m| m.idleness.idle_from())
    }

    /// Whether that peer had a slot, asked for nothing, and has not asked since.
    pub fn has_idled(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|m| m.idleness.has_idled())
    }

    /// Whether that peer was seen to snub us at the last round.
    pub fn is_snubbing(&self, now: Duration, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|m| now.saturating_sub(m.heard) >= SNUBBED_AFTER)
    }

    /// Whom to unchoke until the next round; everyone else is to be choked. `candidates` are all connected peers.
    pub fn round(&mut self, now: Duration, seeding: bool, candidates: &[Candidate]) -> Vec<PeerKey> {
        self.observe(now, candidates);
        let takers: Vec<&Candidate> = candidates.iter().filter(|c| can_use_slot(c)).collect();
        let load = Load {
            demand: takers.len(),
            served: takers.iter().filter(|c| c.unchoked).count(),
            active: takers
                .iter()
                .filter(|c| c.unchoked && (c.up_rate >= slots::SLOW_SLOT_RATE || c.is_requesting))
                .count(),
            total: candidates.iter().map(|c| c.up_rate).fold(0, u64::saturating_add),
            sent: candidates.iter().map(|c| c.sent).fold(0, u64::saturating_add),
        };
        self.slots.observe(now, seeding, load);
        let mut chosen = self.regular(now, seeding, &takers);
        if seeding {
            self.optimistic.clear();
        } else {
            self.draw_optimistic(now, &takers, &chosen);
            chosen.extend(self.optimistic.keys());
        }
        for candidate in takers.iter().filter(|c| chosen.contains(&c.key)) {
            self.begin_turn(now, candidate);
        }
        chosen.into_iter().collect()
    }

    /// Whether a peer that became interested between two rounds may be unchoked at once: yes while slots are free.
    pub fn can_unchoke_now(&mut self, now: Duration, seeding: bool, candidates: &[Candidate], key: PeerKey) -> bool {
        let Some(candidate) = candidates.iter().find(|c| c.key == key && can_use_slot(c)) else { return false };
        self.slots.set_seeding(seeding);
        let served = candidates.iter().filter(|c| can_use_slot(c) && c.unchoked && c.key != key).count();
        let free = served < self.slots.count() + usize::from(!seeding) && (seeding || !self.is_snubbing(now, key));
        if free {
            self.begin_turn(now, candidate);
        }
        free
    }

    /// Brings what is remembered in line with who is there, who is unchoked and who gave something.
    fn observe(&mut self, now: Duration, candidates: &[Candidate]) {
        let before = std::mem::take(&mut self.peers);
        for c in candidates {
            let mut memory = before.get(&c.key).copied().unwrap_or_else(|| PeerHistory::new(now, c));
            if c.received != memory.received || !c.expects_blocks {
                (memory.received, memory.heard) = (c.received, now);
            }
            if c.unchoked && c.interested {
                memory.turn.get_or_insert((now, c.sent));
                memory.served = Some(now);
            } else {
                memory.turn = None;
            }
            memory.idleness.observe(now, memory.turn, c.sent, c.is_requesting);
            self.peers.insert(c.key, memory);
        }
    }

    fn begin_turn(&mut self, now: Duration, c: &Candidate) {
        let memory = self.peers.entry(c.key).or_insert_with(|| PeerHistory::new(now, c));
        memory.turn.get_or_insert((now, c.sent));
        memory.idleness.observe(now, memory.turn, c.sent, c.is_requesting);
    }

    /// Who has the regular slots.
    fn regular(&self, now: Duration, seeding: bool, takers: &[&Candidate]) -> BTreeSet<PeerKey> {
        let mut ranked: Vec<_> = takers.iter().copied().filter(|c| seeding || !self.is_snubbing(now, c.key)).collect();
        let lasts = |began: &Duration| now.saturating_sub(*began) < OPTIMISTIC_TURN;
        let lucky = |c: &Candidate| !seeding && self.optimistic.get(&c.key).is_some_and(lasts);
        let crowding = self.crowding(now, &ranked);
        ranked.sort_by_cached_key(|c| {
            // An optimistic turn that is over gives no claim to a regular slot.
            let by_luck = !seeding && self.optimistic.contains_key(&c.key);
            let standing = if by_luck && !lucky(c) { TurnState::Done } else { self.standing(now, c) };
            let giver = !seeding && c.down_rate >= MIN_GIVING_RATE;
            let class = match standing {
                TurnState::Fresh if !lucky(c) => 0,
                _ if giver => 1,
                _ if !lucky(c) => 2,
                _ => 3, // has its place without a regular slot
            };
            // Whoever has a regular slot is displaced only by somebody clearly better.
            let bonus = if c.unchoked && !by_luck { c.down_rate / 8 + 512 } else { 0 };
            let merit = if class == 1 { c.down_rate.saturating_add(bonus) } else { 0 };
            let crowding = crowding.get(&c.key).copied().unwrap_or_default();
            (class, Reverse(merit), self.rank(now, c, standing, crowding), c.since, c.key)
        });
        let fresh = ranked.iter().filter(|c| self.standing(now, c) == TurnState::Fresh && !lucky(c)).count();
        ranked.into_iter().take(self.slots.count().max(fresh)).map(|c| c.key).collect()
    }

    /// How the peer's turn stands.
    fn standing(&self, now: Duration, c: &Candidate) -> TurnState {
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

    /// How far the networks of those who wait exceed a quarter of the slots with those before them: 0 while they do not.
    fn crowding(&self, now: Duration, ranked: &[&Candidate]) -> BTreeMap<PeerKey, usize> {
        let fair = (self.slots.count() / 4).max(1);
        let waits = |c: &Candidate| self.standing(now, c) == TurnState::Waiting;
        let mut held: BTreeMap<Network, usize> = BTreeMap::new();
        for c in ranked.iter().filter(|c| !waits(c) && c.unchoked) {
            *held.entry(c.network).or_default() += 1;
        }
        let mut waiting: Vec<_> = ranked.iter().filter(|c| waits(c)).collect();
        waiting.sort_by_cached_key(|c| (self.peers.get(&c.key).and_then(|m| m.served), c.since, c.key));
        let mut crowd = |c: &Candidate| {
            let held = held.entry(c.network).or_default();
            *held += 1;
            (*held - 1) / fair
        };
        waiting.into_iter().map(|c| (c.key, crowd(c))).collect()
    }

    /// The order among those who share slots: the fastest of those whose turn lasts, then who waited longest (never served is
    /// `None` and comes first) of the networks that have the least, then whose turn began last. Those who did nothing with a slot come
    /// after all others who wait.
    fn rank(&self, now: Duration, c: &Candidate, standing: TurnState, crowding: usize) -> SlotRank {
        let memory = self.peers.get(&c.key);
        match standing {
            TurnState::Fresh | TurnState::Serving => (standing, false, 0, Reverse(c.up_rate), None),
            TurnState::Waiting => {
                let is_deprioritized = memory.is_some_and(|m| m.idleness.is_deprioritized(now));
                (standing, is_deprioritized, crowding, Reverse(0), memory.and_then(|m| m.served))
            }
            TurnState::Done => {
                let began = memory.and_then(|m| m.turn).map_or(Duration::ZERO, |turn| turn.0);
                (standing, false, 0, Reverse(0), Some(Duration::MAX.saturating_sub(began)))
            }
        }
    }

    /// Lets chance decide who else is served, where a turn is over: one, and one more for each peer that snubs us, for whose
    /// place we look for somebody better. Each network has the same chance, however many of its peers wait.
    fn draw_optimistic(&mut self, now: Duration, takers: &[&Candidate], regular: &BTreeSet<PeerKey>) {
        let snubbers = takers.iter().filter(|c| self.is_snubbing(now, c.key)).count();
        let places = 1 + snubbers.min(self.slots.count() / 2);
        let others: BTreeMap<PeerKey, &Candidate> =
            takers.iter().filter(|c| !regular.contains(&c.key)).map(|c| (c.key, *c)).collect();
        let memory = |key: &PeerKey| self.peers.get(key);
        let is_deprioritized = |key: &PeerKey| memory(key).is_some_and(|m| m.idleness.is_deprioritized(now));
        let idles = |key: &PeerKey| memory(key).is_some_and(|m| m.idleness.is_idle(now));
        let (kept, over): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.optimistic)
            .into_iter()
            .filter(|(key, _)| others.contains_key(key))
            .partition(|(key, began)| now.saturating_sub(*began) < OPTIMISTIC_TURN && !idles(key));
        let mut optimistic: BTreeMap<_, _> = kept.into_iter().take(places).collect();
        // Those whose turn is just over, and those who did nothing with one, come last.
        for first in [true, false] {
            let waits = |key: &PeerKey| !optimistic.contains_key(key);
            let comes_first = |key: &PeerKey| !over.contains_key(key) && !is_deprioritized(key);
            let pool = others.iter().filter(|(key, _)| waits(key) && (comes_first(key) || !first));
            let mut pool: Vec<&Candidate> = pool.map(|(_, c)| *c).collect();
            while optimistic.len() < places
                && let Some(key) = draw(&mut self.rng, now, &mut pool)
            {
                optimistic.insert(key, now);
            }
        }
        self.optimistic = optimistic;
    }
}

/// Whether a slot is of any use to it.
fn can_use_slot(c: &Candidate) -> bool {
    c.interested && !c.upload_only
}

/// Takes one out of `pool`: of a network by chance, in which a peer that is new to us is more likely than others.
fn draw(rng: &mut fastrand::Rng, now: Duration, pool: &mut Vec<&Candidate>) -> Option<PeerKey> {
    let weight = |c: &Candidate| if now.saturating_sub(c.since) < NEW_PEER_AGE { NEW_WEIGHT } else { 1 };
    // A network weighs as much as the heaviest of its peers.
    let mut networks: BTreeMap<Network, u32> = BTreeMap::new();
    for c in pool.iter() {
        let heaviest = networks.entry(c.network).or_default();
        *heaviest = weight(c).max(*heaviest);
    }
    let networks: Vec<_> = networks.into_iter().collect();
    let (network, _) = networks[weighted_index(rng, networks.iter().map(|(_, weight)| *weight))?];
    let members: Vec<usize> = (0..pool.len()).filter(|&at| pool[at].network == network).collect();
    let member = weighted_index(rng, members.iter().map(|&at| weight(pool[at])))?;
    Some(pool.swap_remove(members[member]).key)
}

/// Which of these, each as likely as its weight says.
fn weighted_index(rng: &mut fastrand::Rng, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
    let total: u32 = weights.clone().sum();
    if total == 0 {
        return None;
    }
    let mut at = rng.u32(..total);
    weights.into_iter().position(|weight| {
        let hit = at < weight;
        at = at.saturating_sub(weight);
        hit
    })
}

#[cfg(test)]
mod tests;
