//! Peers that waste their slots, and networks with many peers.

use super::*;

/// 225 interested peers of one network that request nothing, and a new peer of another network.
fn beside_idlers(choker: &mut Choker) -> Vec<ChokeCandidate> {
    choker.set_upload_limit(128 * KIB);
    let mut peers: Vec<ChokeCandidate> = (0..226).map(peer).collect();
    peers[..225].iter_mut().for_each(|p| p.is_requesting = false);
    peers[225].network = Network::subnet([10, 0, 1, 1].into());
    peers
}

#[test]
fn peers_that_ask_for_nothing_make_a_newcomer_wait_for_seconds_only() {
    for arrives in 0..40u32 {
        let mut choker = Choker::new(fastrand::Rng::with_seed(u64::from(arrives)));
        let (mut peers, start) = (beside_idlers(&mut choker), SECOND * 100);
        let (mut now, arrival) = (start, start + SECOND / 2 * arrives);
        loop {
            peers[225].is_interested = now >= arrival;
            let chosen = choker.round(now, true, &peers);
            assert!(chosen.len() <= 8, "{chosen:?}");
            if chosen.contains(&PeerKey(225)) {
                break;
            }
            for peer in &mut peers {
                peer.is_unchoked = chosen.contains(&peer.key);
            }
            let look = choker.early_round_in(now).unwrap_or(ROUND).min(ROUND);
            // The caller also reports the new peer's interest, which may bring the next round forward.
            let sooner = choker.early_round_for_newcomer(arrival).unwrap_or(ROUND);
            let next = now + look;
            now = if now < arrival && next > arrival { next.min(arrival + sooner) } else { next };
        }
        assert!(now <= arrival + SECOND * 6, "{:?} after its arrival", now.saturating_sub(arrival));
    }
}

#[test]
fn a_peer_that_requested_nothing_comes_last_until_it_requests() {
    let mut choker = Choker::new(fastrand::Rng::with_seed(1));
    let (mut peers, mut now) = (beside_idlers(&mut choker), SECOND * 100);
    peers.truncate(12);
    // Four slots: eight requesting peers wait beside four peers that do not request.
    peers[4..].iter_mut().for_each(|p| p.is_requesting = true);
    let mut rounds = [0; 12];
    for _ in 0..60 {
        let chosen = choker.round(now, true, &peers);
        for p in &mut peers {
            p.is_unchoked = chosen.contains(&p.key);
            rounds[p.key.0 as usize] += u32::from(p.is_unchoked);
            p.sent += if p.is_unchoked && p.is_requesting { 4 << 20 } else { 0 };
        }
        now += ROUND;
    }
    assert!(rounds[..4].iter().all(|n| (1..10).contains(n)) && rounds[4..].iter().all(|n| *n >= 20), "{rounds:?}");
}

/// Peers that snub us wait for a regular slot forever, and none of them may take the slot of an idle peer.
#[test]
fn an_idle_peer_is_no_reason_for_an_early_round_if_no_peer_waits() {
    let mut choker = Choker::new(fastrand::Rng::with_seed(1));
    let (mut peers, mut now) = ((0..13).map(peer).collect::<Vec<_>>(), SECOND * 100);
    for p in &mut peers {
        (p.is_requesting, p.owes_blocks) = (p.key.0 > 0, p.key.0 > 0);
    }
    for round in 0..20 {
        let chosen = choker.round(now, false, &peers);
        for p in &mut peers {
            p.is_unchoked = chosen.contains(&p.key);
        }
        let waits = peers.iter().any(|p| !p.is_unchoked);
        assert!(round < 12 || (waits && peers[0].is_unchoked && choker.early_round_in(now).is_none()), "{round}");
        assert!(round < 2 || choker.early_round_for_newcomer(now).is_some());
        now += ROUND;
    }
}

/// Every network has the same chance of an optimistic slot.
#[test]
fn many_peers_of_one_network_do_not_take_all_optimistic_slots() {
    let mut swarm = ChokerSwarm::new(60, false);
    swarm.choker.set_upload_limit(64 * KIB);
    swarm.link = 64 * KIB;
    swarm.peers.iter_mut().for_each(|p| p.since = Duration::ZERO);
    swarm.peers[..8].iter_mut().for_each(|p| p.down_rate = 100 * KIB);
    swarm.peers[58].network = Network::subnet([10, 0, 1, 1].into());
    swarm.peers[59].network = Network::subnet([10, 0, 2, 1].into());
    (0..900).for_each(|_| _ = swarm.round());
    // A third of three hundred turns each, at three rounds per turn.
    assert!(swarm.rounds_served[58..].iter().all(|n| (200..400).contains(n)), "{:?}", swarm.rounds_served);
}

#[test]
fn a_network_with_many_peers_does_not_have_all_slots_of_a_seed() {
    let mut swarm = ChokerSwarm::new(120, true);
    swarm.choker.set_upload_limit(256 * KIB);
    swarm.link = 256 * KIB;
    for (n, p) in swarm.peers[100..].iter_mut().enumerate() {
        p.network = Network::subnet([10, 0, 1 + n as u8, 1].into());
    }
    (0..360).for_each(|_| _ = swarm.round());
    let (many, few) = swarm.rounds_served.split_at(100);
    let (many, few) = (many.iter().sum::<u32>() / 100, few.iter().sum::<u32>() / 20);
    assert!(few >= 3 * many && many > 0, "{few} rounds each alone in their networks, {many} each in one");
}

/// The peers of one host or network have all slots and use them. A peer of another one, or of another host in the network, gets a
/// slot at the next round, and not only when a turn of theirs is over.
#[test]
fn what_a_network_has_beyond_its_share_goes_to_others_at_the_next_round() {
    for same_network in [false, true] {
        let mut swarm = ChokerSwarm::new(120, true);
        swarm.choker.set_upload_limit(2048 * KIB);
        swarm.link = 2048 * KIB;
        swarm.peers[..100].iter_mut().for_each(|p| p.host = Network::host([10, 0, 0, 1].into()));
        swarm.peers[100..].iter_mut().for_each(|p| p.is_interested = false);
        if !same_network {
            swarm.peers[100..].iter_mut().for_each(|p| p.network = Network::subnet([10, 0, 1, 1].into()));
        }
        (0..30).for_each(|_| _ = swarm.round());
        assert!((64..100).contains(&swarm.round().len()), "too few for all");
        swarm.peers[100..].iter_mut().for_each(|p| p.is_interested = true);
        swarm.round(); // some may have got their slot only now
        let served = swarm.round();
        assert!((100..116).all(|n| served.contains(&n)), "{served:?}");
        // Peers within their share keep their slots, but for the round after a turn.
        let rounds: usize = (0..20).map(|_| swarm.round().range(100..).count()).sum();
        assert!(rounds >= 340, "{rounds} of 400");
    }
}

/// A lost packet delays the blocks of one of the first four peers for a second or two. The link is not faster for that.
#[test]
fn a_peer_whose_blocks_are_late_counts_as_one_that_is_served() {
    let mut choker = Choker::new(fastrand::Rng::with_seed(1));
    let (mut peers, mut now) = ((0..60).map(peer).collect::<Vec<_>>(), SECOND * 100);
    for _ in 0..15 {
        let chosen = choker.round(now, true, &peers);
        assert_eq!(chosen.len(), 4);
        for p in &mut peers {
            p.is_unchoked = chosen.contains(&p.key);
            p.is_requesting = p.is_unchoked;
            p.up_rate = if p.is_unchoked && p.key != chosen[0] { 40_000 } else { 0 };
            p.sent += p.up_rate;
        }
        now += SECOND;
    }
}

/// How long a peer that requests as much as possible waits for a slot of a seed, beside `count` earlier peers whose requests
/// never wait. Each of those takes `bytes` every `seconds` and is in a network of its own.
fn wait_beside_slow_peers(count: u32, bytes: u64, seconds: u64) -> Duration {
    let mut choker = Choker::new(fastrand::Rng::with_seed(1));
    let mut peers: Vec<ChokeCandidate> = (0..=count).map(peer).collect();
    for p in &mut peers {
        p.network = Network::subnet([10, 1, p.key.0 as u8, 1].into());
        (p.is_requesting, p.since) = (p.key.0 == count, Duration::ZERO);
    }
    let (start, mut now) = (SECOND * 100, SECOND * 100);
    let (arrival, mut next) = (start + SECOND * 30, start);
    loop {
        let honest = count as usize;
        peers[honest].is_interested = now >= arrival;
        if now == arrival {
            next = now + choker.early_round_for_newcomer(now).unwrap_or(ROUND).min(next.saturating_sub(now));
        }
        if now >= next {
            let chosen = choker.round(now, true, &peers);
            for peer in &mut peers {
                peer.is_unchoked = chosen.contains(&peer.key);
            }
            if peers[honest].is_unchoked {
                return now.saturating_sub(arrival);
            }
            let waits = peers.iter().any(|p| p.is_interested && !p.is_unchoked);
            next = now + choker.early_round_in(now).filter(|_| waits).unwrap_or(ROUND).max(SECOND);
        }
        for p in peers.iter_mut().filter(|p| p.is_unchoked && p.key.0 < count) {
            p.up_rate = bytes / seconds;
            p.sent += if now.as_secs().is_multiple_of(seconds) { bytes } else { 0 };
        }
        now += SECOND;
        assert!(now < start + SECOND * 600, "it gets no slot");
    }
}

#[test]
fn peers_that_ask_for_little_hold_no_slots() {
    for count in [4, 12, 40, 225] {
        for (bytes, seconds) in [(1, 1), (16 * KIB, 5), (1, 20)] {
            let wait = wait_beside_slow_peers(count, bytes, seconds);
            assert!(wait <= SECOND * 12, "{wait:?} beside {count} that take {bytes} bytes every {seconds} s");
        }
    }
}
