//! Whom to unchoke: a simple, fair rule for now. Pure; the caller runs a round every [`ROUND`] and whenever it likes.
//!
//! While downloading, those who give most are served, and one more in turn (the optimistic unchoke of BEP 3), so that
//! newcomers can show what they give. While seeding nobody gives, so all are served, or where they are too many all in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::PeerKey;

/// How often a round is due.
pub const ROUND: Duration = Duration::from_secs(10);

/// How many of the best givers are served while downloading.
const GIVERS: usize = 16;
/// How many are served while seeding.
const SEED_SLOTS: usize = 256;
/// How long an optimistic unchoke lasts, and how long a peer is served before it has to make room for others.
const TURN: Duration = Duration::from_secs(30);

/// One connected peer, as a round sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub key: PeerKey,
    /// Whether it wants something of us.
    pub interested: bool,
    /// Whether we unchoke it now.
    pub unchoked: bool,
    /// Bytes per second from it.
    pub down_rate: u64,
    /// Bytes per second to it.
    pub up_rate: u64,
    /// When it connected.
    pub since: Duration,
}

/// A peer's turns at being served.
#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    /// When the present one began.
    began: Option<Duration>,
    /// When it was last served.
    served: Option<Duration>,
}

/// Remembers who was served when; see the module's head.
#[derive(Debug, Default)]
pub struct Choker {
    turns: BTreeMap<PeerKey, Turns>,
    /// The optimistic unchoke and when its turn began.
    optimistic: Option<(PeerKey, Duration)>,
}

impl Choker {
    /// Nobody was ever served.
    pub fn new() -> Choker {
        Choker::default()
    }

    /// Whom to unchoke until the next round; everyone else is to be choked. `candidates` are all connected peers.
    pub fn round(&mut self, now: Duration, seeding: bool, candidates: &[Candidate]) -> Vec<PeerKey> {
        self.observe(now, candidates);
        let mut interested: Vec<&Candidate> = candidates.iter().filter(|c| c.interested).collect();
        if interested.len() > slots(seeding) {
            if seeding {
                self.share_out(now, &mut interested);
            } else {
                self.best_givers(now, &mut interested);
            }
        } else {
            self.optimistic = None;
        }
        let keys: Vec<PeerKey> = interested.iter().map(|c| c.key).collect();
        self.serve(now, &keys);
        keys
    }

    /// Whether a peer that became interested between two rounds may be unchoked at once: yes while slots are free.
    pub fn grant_now(&mut self, now: Duration, seeding: bool, candidates: &[Candidate], key: PeerKey) -> bool {
        let served = candidates.iter().filter(|c| c.interested && c.unchoked && c.key != key).count();
        let free = served < slots(seeding);
        if free {
            self.turns.entry(key).or_default().began.get_or_insert(now);
        }
        free
    }

    /// Brings what is remembered in line with who is there and who is unchoked.
    fn observe(&mut self, now: Duration, candidates: &[Candidate]) {
        let before = std::mem::take(&mut self.turns);
        for candidate in candidates {
            let mut turns = before.get(&candidate.key).copied().unwrap_or_default();
            if candidate.unchoked && candidate.interested {
                turns.began.get_or_insert(now);
                turns.served = Some(now);
            } else {
                turns.began = None;
            }
            self.turns.insert(candidate.key, turns);
        }
    }

    fn serve(&mut self, now: Duration, keys: &[PeerKey]) {
        for key in keys {
            self.turns.entry(*key).or_default().began.get_or_insert(now);
        }
    }

    fn turns(&self, key: PeerKey) -> Turns {
        self.turns.get(&key).copied().unwrap_or_default()
    }

    /// Leaves those who give most, and one more in turn.
    fn best_givers(&mut self, now: Duration, interested: &mut Vec<&Candidate>) {
        // Among equals whoever is being served stays, so that the choice does not flap.
        interested.sort_by_key(|c| (std::cmp::Reverse(c.down_rate), !c.unchoked, c.since, c.key));
        let rest = interested.split_off(GIVERS.min(interested.len()));
        let current = self.optimistic.filter(|&(_, began)| now.saturating_sub(began) < TURN);
        let kept = current.and_then(|(key, began)| rest.iter().find(|c| c.key == key).map(|c| (*c, began)));
        let lucky = kept.or_else(|| {
            // A peer whose turn is just over was served last, so the others come first.
            rest.iter().min_by_key(|c| (self.turns(c.key).served, c.since, c.key)).map(|c| (*c, now))
        });
        self.optimistic = lucky.map(|(c, began)| (c.key, began));
        interested.extend(lucky.map(|(c, _)| c));
    }

    /// Leaves as many as there are slots: those whose turn lasts, then those who waited longest.
    fn share_out(&mut self, now: Duration, interested: &mut Vec<&Candidate>) {
        self.optimistic = None;
        interested.sort_by_cached_key(|c| {
            let turns = self.turns(c.key);
            match turns.began {
                Some(began) if now.saturating_sub(began) < TURN => (0, Some(began), c.since, c.key),
                // Never served is `None` and comes first.
                None => (1, turns.served, c.since, c.key),
                // Only those for whom nobody waits; the latest of them have the longest right to stay.
                Some(began) => (2, Some(Duration::MAX.saturating_sub(began)), c.since, c.key),
            }
        });
        interested.truncate(SEED_SLOTS);
    }
}

fn slots(seeding: bool) -> usize {
    if seeding { SEED_SLOTS } else { GIVERS + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SECOND: Duration = Duration::from_secs(1);

    fn peers(count: u32) -> Vec<Candidate> {
        let peer = |key| Candidate {
            key: PeerKey(key),
            interested: true,
            unchoked: false,
            down_rate: 0,
            up_rate: 0,
            since: SECOND * (key % 7),
        };
        (0..count).map(peer).collect()
    }

    /// A round, and what it decides becomes so.
    fn round(choker: &mut Choker, now: Duration, seeding: bool, peers: &mut [Candidate]) -> BTreeSet<PeerKey> {
        let list = choker.round(now, seeding, peers);
        let keys: BTreeSet<PeerKey> = list.iter().copied().collect();
        assert_eq!(keys.len(), list.len(), "each once");
        for p in peers {
            p.unchoked = keys.contains(&p.key);
        }
        keys
    }

    #[test]
    fn all_interested_are_served_while_there_is_room() {
        for (seeding, count) in [(false, 17), (true, 256)] {
            let mut all = peers(count + 5);
            for p in &mut all[..5] {
                p.interested = false;
            }
            let served = round(&mut Choker::new(), SECOND, seeding, &mut all);
            assert_eq!(served, (5..count + 5).map(PeerKey).collect());
        }
    }

    #[test]
    fn the_best_givers_stay_and_the_rest_take_turns() {
        let (mut choker, mut all) = (Choker::new(), peers(60));
        for p in &mut all[20..36] {
            p.down_rate = 1000 + u64::from(p.key.0);
        }
        let best: BTreeSet<PeerKey> = (20..36).map(PeerKey).collect();
        let mut lucky = Vec::new();
        for tick in 0..44 * 3 {
            let served = round(&mut choker, ROUND * tick, false, &mut all);
            assert!(served.is_superset(&best) && served.len() == 17);
            lucky.extend(served.difference(&best).copied());
        }
        assert_eq!(lucky.iter().collect::<BTreeSet<_>>().len(), 44, "every one of the others, in 44 turns");
        assert!(lucky.chunks(3).all(|turn| turn[0] == turn[1] && turn[1] == turn[2]), "a turn is three rounds");
    }

    #[test]
    fn a_newcomer_that_gives_displaces_the_worst() {
        let (mut choker, mut all) = (Choker::new(), peers(40));
        for p in &mut all {
            p.down_rate = 100;
        }
        let before = round(&mut choker, SECOND, false, &mut all);
        let outside = all.iter_mut().find(|p| !before.contains(&p.key)).expect("more than there are slots");
        outside.down_rate = 200;
        let key = outside.key;
        let after = round(&mut choker, SECOND * 11, false, &mut all);
        assert!(after.contains(&key));
        assert!(after.intersection(&before).count() >= 16, "the others stay");
    }

    #[test]
    fn an_optimistic_peer_that_loses_interest_gives_its_turn_away() {
        let (mut choker, mut all) = (Choker::new(), peers(30));
        for p in &mut all[..16] {
            p.down_rate = 9;
        }
        let lucky = *round(&mut choker, SECOND, false, &mut all).last().expect("someone");
        assert!(lucky.0 >= 16);
        all[lucky.0 as usize].interested = false;
        let next = *round(&mut choker, SECOND * 2, false, &mut all).last().expect("someone");
        assert!(next.0 >= 16 && next != lucky);
    }

    #[test]
    fn six_hundred_leechers_are_all_served_in_bounded_time_and_shares_are_even() {
        let (mut choker, mut all) = (Choker::new(), peers(600));
        let mut rounds_served = vec![0u32; 600];
        let mut waiting = vec![0u32; 600];
        for tick in 0..90 {
            let served = round(&mut choker, ROUND * tick, true, &mut all);
            assert_eq!(served.len(), 256);
            for key in 0..600 {
                let is_served = served.contains(&PeerKey(key as u32));
                rounds_served[key] += u32::from(is_served);
                waiting[key] = if is_served { 0 } else { waiting[key] + 1 };
                assert!(waiting[key] <= 9, "{key} waits for {} rounds", waiting[key]);
            }
        }
        // 90 rounds × 256 slots / 600 peers = 38.4 rounds each.
        assert!(rounds_served.iter().all(|n| (30..=47).contains(n)), "{rounds_served:?}");
    }

    #[test]
    fn a_turn_lasts_its_thirty_seconds() {
        let (mut choker, mut all) = (Choker::new(), peers(300));
        let first = round(&mut choker, Duration::ZERO, true, &mut all);
        assert_eq!(round(&mut choker, SECOND * 29, true, &mut all), first);
        let then = round(&mut choker, SECOND * 30, true, &mut all);
        assert_eq!(then.difference(&first).count(), 44, "all who waited");
    }

    #[test]
    fn a_free_slot_is_granted_between_rounds() {
        let (mut choker, mut all) = (Choker::new(), peers(18));
        for p in &mut all[..16] {
            p.unchoked = true;
        }
        assert!(choker.grant_now(SECOND, false, &all, PeerKey(16)));
        all[16].unchoked = true;
        assert!(!choker.grant_now(SECOND, false, &all, PeerKey(17)));
        assert!(choker.grant_now(SECOND, true, &all, PeerKey(17)));
    }
}
