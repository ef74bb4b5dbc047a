//! Optimistic slots: draws peers at random, with the same chance for each network.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::net::networks::Network;
use crate::strategy::choker::{ChokeCandidate, Choker, OPTIMISTIC_TURN};
use crate::types::PeerKey;

/// A peer counts as new for this long after it connected, and is then [`NEW_WEIGHT`] times as likely to be unchoked
/// optimistically.
const NEW_PEER_AGE: Duration = Duration::from_secs(60);
const NEW_WEIGHT: u32 = 3;

impl Choker {
    /// Draws the optimistically unchoked peers for the turns that are over: one place, and one more for each peer that snubs us,
    /// so that a better peer can be found. Each network has the same chance, however many of its peers wait.
    pub(super) fn draw_optimistic(&mut self, now: Duration, eligible: &[&ChokeCandidate], regular: &BTreeSet<PeerKey>) {
        let snubbers = eligible.iter().filter(|c| self.is_snubbing(now, c.key)).count();
        let places = 1 + snubbers.min(self.slots.count() / 2);
        let others: BTreeMap<PeerKey, &ChokeCandidate> =
            eligible.iter().filter(|c| !regular.contains(&c.key)).map(|c| (c.key, *c)).collect();
        let history = |key: &PeerKey| self.peers.get(key);
        let is_deprioritized = |key: &PeerKey| history(key).is_some_and(|m| m.idleness.is_deprioritized(now));
        let idles = |key: &PeerKey| history(key).is_some_and(|m| m.idleness.is_idle(now));
        let (kept, over): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.optimistic)
            .into_iter()
            .filter(|(key, _)| others.contains_key(key))
            .partition(|(key, began)| now.saturating_sub(*began) < OPTIMISTIC_TURN && !idles(key));
        let mut optimistic: BTreeMap<_, _> = kept.into_iter().take(places).collect();
        // Peers whose turn has just ended, and peers that wasted a slot, are drawn last.
        for first in [true, false] {
            let waits = |key: &PeerKey| !optimistic.contains_key(key);
            let comes_first = |key: &PeerKey| !over.contains_key(key) && !is_deprioritized(key);
            let pool = others.iter().filter(|(key, _)| waits(key) && (comes_first(key) || !first));
            let mut pool: Vec<&ChokeCandidate> = pool.map(|(_, c)| *c).collect();
            while optimistic.len() < places
                && let Some(key) = draw(&mut self.rng, now, &mut pool)
            {
                optimistic.insert(key, now);
            }
        }
        self.optimistic = optimistic;
    }
}

/// Removes a random peer from `pool`: first draws a network, then one of its peers, with new peers more likely.
fn draw(rng: &mut fastrand::Rng, now: Duration, pool: &mut Vec<&ChokeCandidate>) -> Option<PeerKey> {
    let weight = |c: &ChokeCandidate| if now.saturating_sub(c.since) < NEW_PEER_AGE { NEW_WEIGHT } else { 1 };
    // A network has the weight of its heaviest peer.
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

/// A random index, drawn by weight.
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
