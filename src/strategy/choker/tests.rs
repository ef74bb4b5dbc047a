//! The choker with a simulated clock: one round every ten simulated seconds, hours in milliseconds.

mod idle_and_crowded;
mod slow_readers;

use super::*;
use std::collections::BTreeSet;

const SECOND: Duration = Duration::from_secs(1);
const KIB: u64 = 1024;

/// A simulated swarm around us. Each round applies the choker's decision, and data flows accordingly until the next.
struct ChokerSwarm {
    choker: Choker,
    peers: Vec<ChokeCandidate>,
    /// How many bytes per second each peer can take, and how many we can send in total.
    takes: Vec<u64>,
    link: u64,
    seeding: bool,
    now: Duration,
    /// When each peer's choke state last changed, to detect flapping.
    changed: Vec<Duration>,
    changes: Vec<u32>,
    rounds_served: Vec<u32>,
    waiting: Vec<u32>,
    longest_wait: Vec<u32>,
}

fn peer(key: u32) -> ChokeCandidate {
    ChokeCandidate {
        key: PeerKey(key),
        host: Network::host(key.to_be_bytes().into()),
        network: Network::subnet([10, 0, 0, 1].into()),
        is_requesting: true,
        reads_slowly: false,
        is_interested: true,
        is_upload_only: false,
        is_unchoked: false,
        owes_blocks: false,
        down_rate: 0,
        up_rate: 0,
        received: 0,
        sent: 0,
        since: SECOND * (key % 7),
    }
}

impl ChokerSwarm {
    fn new(count: u32, seeding: bool) -> ChokerSwarm {
        let n = count as usize;
        ChokerSwarm {
            choker: Choker::new(fastrand::Rng::with_seed(7)),
            peers: (0..count).map(peer).collect(),
            takes: vec![100 * KIB; n],
            link: 1 << 40,
            seeding,
            now: SECOND * 100,
            changed: vec![Duration::ZERO; n],
            changes: vec![0; n],
            rounds_served: vec![0; n],
            waiting: vec![0; n],
            longest_wait: vec![0; n],
        }
    }

    /// Runs one round and the ten seconds after it. Returns the unchoked peers.
    fn round(&mut self) -> BTreeSet<u32> {
        let list = self.choker.round(self.now, self.seeding, &self.peers);
        let served: BTreeSet<u32> = list.iter().map(|k| k.0).collect();
        assert_eq!(served.len(), list.len(), "each once");
        let total: u64 = served.iter().map(|n| self.takes[*n as usize]).sum();
        for (n, p) in self.peers.iter_mut().enumerate() {
            let unchoked = served.contains(&p.key.0);
            assert!(!unchoked || (p.is_interested && !p.is_upload_only));
            if unchoked != p.is_unchoked {
                assert!(!p.is_unchoked || !p.is_interested || self.now >= self.changed[n] + ROUND, "{n} flaps");
                (p.is_unchoked, self.changed[n]) = (unchoked, self.now);
                self.changes[n] += 1;
            }
            let share = self.takes[n] as f64 * (self.link as f64 / total.max(1) as f64).min(1.0);
            p.up_rate = if unchoked { share as u64 } else { 0 };
            p.is_requesting = unchoked && self.takes[n] > 0;
            p.sent += p.up_rate * 10;
            p.received += p.down_rate * 10;
            self.rounds_served[n] += u32::from(unchoked);
            self.waiting[n] = if unchoked { 0 } else { self.waiting[n] + 1 };
            self.longest_wait[n] = self.longest_wait[n].max(self.waiting[n]);
        }
        self.now += ROUND;
        served
    }

    fn forget(&mut self) {
        self.rounds_served.fill(0);
        self.changes.fill(0);
        self.longest_wait.fill(0);
    }
}

#[test]
fn every_interested_peer_is_served_while_slots_are_free_and_no_other() {
    for (seeding, count) in [(false, 16), (true, 200), (true, 256)] {
        let mut swarm = ChokerSwarm::new(count + 10, seeding);
        swarm.peers[..5].iter_mut().for_each(|p| p.is_interested = false);
        swarm.peers[5..10].iter_mut().for_each(|p| p.is_upload_only = true);
        // A seed doubles its slots as long as each is above `GOOD_SLOT_RATE`.
        for _ in 0..if seeding { 30 } else { 1 } {
            swarm.round();
        }
        swarm.forget();
        for _ in 0..100 {
            assert_eq!(swarm.round(), (10..count + 10).collect());
        }
        assert!(swarm.changes.iter().all(|n| *n == 0));
        assert!(!swarm.choker.can_unchoke_now(swarm.now, seeding, &swarm.peers, PeerKey(7)), "it is no taker");
    }
}

#[test]
fn a_slow_link_keeps_its_slots_few_and_a_fast_one_opens_more() {
    for (link, slots) in [(100 * KIB, 8..=15), (1 << 30, 200..=256)] {
        let mut swarm = ChokerSwarm::new(300, false);
        swarm.link = link;
        for _ in 0..60 {
            swarm.round();
        }
        assert!(slots.contains(&swarm.choker.slots()), "{} at {link} B/s", swarm.choker.slots());
    }
    let mut swarm = ChokerSwarm::new(300, false);
    swarm.choker.set_upload_limit(64 * KIB);
    swarm.link = 64 * KIB;
    assert!(swarm.round().len() <= 9 && swarm.choker.slots() == 8);
}

/// Three hundred peers behind a link for about eight slots. Peers deliver at their rate while we serve them, at a fifth of it
/// otherwise, and the measured rates fluctuate. The fastest peers are found and kept.
#[test]
fn tit_for_tat_finds_the_fastest_uploaders_and_stays_with_them() {
    let mut swarm = ChokerSwarm::new(300, false);
    (swarm.link, swarm.takes) = (60 * KIB, vec![1 << 20; 300]);
    let mut rng = fastrand::Rng::with_seed(3);
    let best: BTreeSet<u32> = (0..8).map(|n| n * 37).collect();
    let gives = |n: u32| if best.contains(&n) { (40 + u64::from(n)) * KIB } else { u64::from(n % 11) * KIB };
    for round in 0..3 * 360 {
        if round == 360 * 2 {
            swarm.forget();
        }
        swarm.round();
        for p in &mut swarm.peers {
            let generous = if p.is_unchoked { 1.0 } else { 0.2 };
            p.down_rate = (gives(p.key.0) as f64 * generous * (0.95 + 0.1 * rng.f64())) as u64;
        }
    }
    // In the third hour.
    for n in &best {
        assert!(swarm.rounds_served[*n as usize] >= 355, "{n}: {}", swarm.rounds_served[*n as usize]);
        assert!(swarm.changes[*n as usize] <= 2, "{n}: {}", swarm.changes[*n as usize]);
    }
    assert!(swarm.rounds_served.iter().sum::<u32>() <= 360 * 14, "few slots, and one by chance");
}

#[test]
fn uploaders_of_similar_speed_do_not_take_turns() {
    let mut swarm = ChokerSwarm::new(60, false);
    swarm.choker.set_upload_limit(64 * KIB);
    swarm.link = 64 * KIB;
    let mut rng = fastrand::Rng::with_seed(5);
    for round in 0..720 {
        if round == 360 {
            swarm.forget();
        }
        swarm.round();
        for p in &mut swarm.peers {
            p.down_rate = (50_000.0 * (0.97 + 0.06 * rng.f64())) as u64;
        }
    }
    let steady = swarm.rounds_served.iter().filter(|n| **n == 360).count();
    assert_eq!(steady, 8);
    // All other changes come from the optimistic slot: 120 turns, each with one unchoke and one choke.
    let changes: u32 = swarm.changes.iter().sum();
    assert!(changes <= 240, "{changes}");
}

#[test]
fn newcomers_are_three_times_as_likely_to_have_the_optimistic_slot() {
    let (mut new, mut turns) = (0, 0);
    let mut swarm = ChokerSwarm::new(60, false);
    swarm.choker.set_upload_limit(64 * KIB);
    swarm.link = 64 * KIB;
    for p in &mut swarm.peers[..8] {
        p.down_rate = 100 * KIB;
    }
    // Of the 52 other peers, 13 are new whenever a turn begins.
    for round in 0..6000u32 {
        for p in &mut swarm.peers[8..] {
            p.since = if p.key.0 < 21 { swarm.now } else { Duration::ZERO };
        }
        let served = swarm.round();
        if round % 3 == 0 && round > 300 {
            assert_eq!(served.len(), 9, "eight uploaders and one by chance");
            turns += 1;
            new += u32::from(served.iter().any(|n| (8..21).contains(n)));
        }
    }
    let odds = f64::from(new) / f64::from(turns); // 13 × 3 of 13 × 3 + 39
    assert!((0.46..=0.54).contains(&odds), "{odds}");
    assert!(swarm.rounds_served[21..].iter().all(|n| *n > 20), "nobody is left out");
}

#[test]
fn an_optimistic_turn_lasts_thirty_seconds_and_ends_with_the_interest() {
    let mut swarm = ChokerSwarm::new(40, false);
    swarm.choker.set_upload_limit(64 * KIB);
    swarm.link = 64 * KIB;
    for p in &mut swarm.peers[..8] {
        p.down_rate = 100 * KIB;
    }
    let lucky = |served: BTreeSet<u32>| *served.last().expect("someone");
    let turns: Vec<u32> = (0..30).map(|_| lucky(swarm.round())).collect();
    assert!(turns.iter().all(|n| *n >= 8));
    assert!(turns.chunks(3).all(|t| t[0] == t[1] && t[1] == t[2]), "{turns:?}");
    assert!(turns.windows(6).step_by(3).all(|t| t[0] != t[3]), "another one each time: {turns:?}");
    let now = lucky(swarm.round());
    swarm.peers[now as usize].is_interested = false;
    assert_ne!(lucky(swarm.round()), now);
}

#[test]
fn a_snubbing_peer_loses_its_slot_and_chance_chooses_another_peer() {
    let mut swarm = ChokerSwarm::new(40, false);
    swarm.choker.set_upload_limit(64 * KIB);
    swarm.link = 64 * KIB;
    for p in &mut swarm.peers[..10] {
        (p.down_rate, p.owes_blocks) = (100 * KIB + u64::from(10 - p.key.0), true);
    }
    for _ in 0..10 {
        assert!(swarm.round().is_superset(&(0..8).collect()));
    }
    for p in &mut swarm.peers[..2] {
        p.down_rate = 0;
    }
    for _ in 0..6 {
        // The peers do not snub us yet, though others take their slots because of their rate.
        let now = swarm.now;
        assert!(!swarm.choker.is_snubbing(now, PeerKey(0)));
        swarm.round();
    }
    swarm.round();
    assert!(swarm.choker.is_snubbing(swarm.now, PeerKey(0)) && swarm.choker.is_snubbing(swarm.now, PeerKey(1)));
    assert!(!swarm.choker.is_snubbing(swarm.now, PeerKey(2)), "a peer that sends blocks does not snub us");
    assert!(!swarm.choker.is_snubbing(swarm.now, PeerKey(20)), "a peer that owes us nothing does not snub us");
    for _ in 0..30 {
        assert_eq!(swarm.round().len(), 8 + 3, "two more by chance");
    }
    assert!(!swarm.choker.can_unchoke_now(swarm.now, false, &[swarm.peers[0]], PeerKey(0)));
    // After one block the snub is forgotten.
    swarm.peers[0].down_rate = 200 * KIB;
    swarm.round();
    assert!(swarm.round().contains(&0));
    assert_eq!(swarm.round().len(), 8 + 2);
}

#[test]
fn a_slot_that_becomes_free_between_rounds_goes_to_a_waiting_peer() {
    for seeding in [true, false] {
        let mut swarm = ChokerSwarm::new(20, seeding);
        swarm.choker.set_upload_limit(64 * KIB);
        let served = swarm.round();
        assert_eq!(swarm.choker.fill_free_slot(swarm.now, seeding, &swarm.peers), None, "no slot is free");
        let optimistic: BTreeSet<u32> = swarm.choker.optimistic.keys().map(|key| key.0).collect();
        assert_eq!(optimistic.is_empty(), seeding);
        let mut leave = |key: &u32| {
            assert!(swarm.choker.has_slot(PeerKey(*key)));
            let departed = &mut swarm.peers[*key as usize];
            (departed.is_interested, departed.is_unchoked) = (false, false);
        };
        served.difference(&optimistic).take(3).for_each(&mut leave);
        let mut newly_served = BTreeSet::new();
        while let Some(key) = swarm.choker.fill_free_slot(swarm.now, seeding, &swarm.peers) {
            swarm.peers[key.0 as usize].is_unchoked = true;
            newly_served.insert(key.0);
        }
        assert_eq!(newly_served.len(), 3, "one for each regular slot");
        assert!(newly_served.iter().all(|peer| !served.contains(peer)));
        swarm.choker.peers.clear();
        assert_eq!(swarm.choker.fill_free_slot(swarm.now, seeding, &swarm.peers[..0]), None, "nobody waits");
    }
}

#[test]
fn where_few_give_the_others_share_the_rest_in_turns() {
    let mut swarm = ChokerSwarm::new(100, false);
    swarm.choker.set_upload_limit(64 * KIB);
    swarm.link = 64 * KIB;
    swarm.peers[50].down_rate = 5 * KIB;
    for _ in 0..360 {
        swarm.round();
    }
    assert_eq!(swarm.rounds_served[50], 360);
    assert!(swarm.longest_wait.iter().all(|n| *n <= 180), "within half an hour: {:?}", swarm.longest_wait);
}

#[test]
fn six_hundred_leechers_are_all_served_in_bounded_time_and_shares_are_even() {
    let mut swarm = ChokerSwarm::new(600, true);
    for n in (0..600).step_by(3) {
        swarm.takes[n] = 4 << 20; // uses up its quota within a round; the others take ninety seconds
    }
    for _ in 0..50 {
        swarm.round();
    }
    swarm.forget();
    for _ in 0..360 {
        assert_eq!(swarm.round().len(), 256);
    }
    assert!(swarm.longest_wait.iter().all(|n| *n <= 15), "{:?}", swarm.longest_wait);
    let fast: u32 = swarm.rounds_served.iter().step_by(3).sum::<u32>() / 200;
    for (n, rounds) in swarm.rounds_served.iter().enumerate() {
        // Slow peers have longer turns.
        assert!(*rounds >= 60 && (n % 3 == 0 || *rounds > fast), "{n}: {rounds} rounds, the fast {fast}");
    }
    assert!(swarm.changes.iter().all(|n| *n <= 360 / 3), "{:?}", swarm.changes);
}

#[test]
fn a_slow_seed_serves_everyone_in_turns() {
    let mut swarm = ChokerSwarm::new(400, true);
    swarm.link = 100 * KIB;
    for _ in 0..360 {
        swarm.round();
    }
    swarm.forget();
    for _ in 0..4 * 360 {
        swarm.round();
    }
    assert!((4..=8).contains(&swarm.choker.slots()), "{}", swarm.choker.slots());
    assert!(swarm.rounds_served.iter().all(|n| *n > 0), "{:?}", swarm.rounds_served);
    // Two megabytes each, one after the other.
    assert!(swarm.longest_wait.iter().all(|n| *n <= 1000), "{:?}", swarm.longest_wait);
}

#[test]
fn peers_that_take_nothing_make_room_for_others() {
    let mut swarm = ChokerSwarm::new(300, true);
    swarm.takes[..256].fill(0);
    for _ in 0..24 {
        swarm.round();
    }
    assert!((256..300).all(|n| swarm.rounds_served[n] >= 3), "{:?}", &swarm.rounds_served[256..]);
}

#[test]
fn a_free_slot_is_granted_between_rounds_and_kept_for_a_round() {
    let mut swarm = ChokerSwarm::new(18, false);
    for p in &mut swarm.peers[..17] {
        p.is_interested = false;
    }
    swarm.peers[17].is_interested = false;
    swarm.round();
    let earlier = SECOND * 109;
    assert_eq!(earlier + SECOND, swarm.now);
    for n in 0..17 {
        swarm.peers[n].is_interested = true;
        assert!(swarm.choker.can_unchoke_now(earlier, false, &swarm.peers, PeerKey(n as u32)), "{n}");
        (swarm.peers[n].is_unchoked, swarm.changed[n]) = (true, earlier);
    }
    swarm.peers[17].is_interested = true;
    assert!(!swarm.choker.can_unchoke_now(earlier, false, &swarm.peers, PeerKey(17)));
    swarm.peers[17].down_rate = 1 << 20;
    assert!(swarm.round().is_superset(&(0..17).collect()));
}

#[test]
fn the_same_seed_leads_to_the_same_choices() {
    let run = || {
        let mut swarm = ChokerSwarm::new(200, false);
        swarm.link = 200 * KIB;
        (0..200).map(|_| swarm.round()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
