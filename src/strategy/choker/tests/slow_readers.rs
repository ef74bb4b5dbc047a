//! Peers that read slowly, on a simulated uplink with the figures that the kernel would report.

use super::*;
use crate::net::link_figures::LinkFigures;
use crate::strategy::slow_reader::ReadingPace;

/// The round-trip time of an idle uplink, and the bytes that each peer has in flight on a busy one.
const RTT: Duration = Duration::from_millis(50);
const WINDOW: f64 = 65536.0;

/// A seed and peers in networks of their own. Each takes a certain number of bytes per second at most.
struct SeedUplink {
    choker: Choker,
    peers: Vec<ChokeCandidate>,
    takes: Vec<u64>,
    pace: Vec<ReadingPace>,
    info: Vec<LinkFigures>,
    capacity: u64,
    now: Duration,
    next_round: Duration,
}

impl SeedUplink {
    fn new(takes: &[u64], capacity: u64) -> SeedUplink {
        let mut peers: Vec<ChokeCandidate> = (0..takes.len() as u32).map(peer).collect();
        for p in &mut peers {
            p.network = Network::subnet([10, 1, p.key.0 as u8, 1].into());
            (p.since, p.is_interested, p.is_requesting) = (Duration::ZERO, true, false);
        }
        SeedUplink {
            choker: Choker::new(fastrand::Rng::with_seed(1)),
            takes: takes.to_vec(),
            pace: vec![ReadingPace::default(); peers.len()],
            info: vec![LinkFigures::default(); peers.len()],
            peers,
            capacity,
            now: SECOND * 100,
            next_round: SECOND * 100,
        }
    }

    /// A round if one is due, and the second after it.
    fn run_second(&mut self) {
        if self.now >= self.next_round {
            for (n, p) in self.peers.iter_mut().enumerate() {
                self.pace[n].observe(&self.info[n]);
                p.reads_slowly = p.is_unchoked && p.is_requesting && self.pace[n].is_slow();
            }
            let chosen = self.choker.round(self.now, true, &self.peers);
            for p in &mut self.peers {
                p.is_unchoked = chosen.contains(&p.key);
                p.is_requesting = p.is_unchoked;
            }
            let waits = self.peers.iter().any(|p| p.is_interested && !p.is_unchoked);
            self.next_round =
                self.now + self.choker.early_round_in(self.now).filter(|_| waits).unwrap_or(ROUND).max(SECOND);
        }
        let wanted: u64 =
            self.peers.iter().zip(&self.takes).filter(|(p, _)| p.is_unchoked).map(|(_, takes)| takes).sum();
        let is_full = wanted >= self.capacity;
        // Small takers get what they take; the rest is shared.
        let share = self.fair_share();
        for ((p, takes), info) in self.peers.iter_mut().zip(&self.takes).zip(&mut self.info) {
            p.up_rate = if p.is_unchoked { share.min(*takes) } else { 0 };
            p.sent += p.up_rate;
            if p.is_unchoked {
                info.acknowledged += p.up_rate;
                info.busy += SECOND;
                // Where the uplink is the limit, the queue before it fills until the window is full.
                let is_limit = is_full && share < *takes;
                info.window_full += SECOND;
                info.rtt = if is_limit { Duration::from_secs_f64(WINDOW / p.up_rate.max(1) as f64) } else { RTT };
            }
        }
        self.now += SECOND;
    }

    /// The rate that each peer gets which takes more.
    fn fair_share(&self) -> u64 {
        let mut takes: Vec<u64> =
            self.peers.iter().zip(&self.takes).filter(|(p, _)| p.is_unchoked).map(|(_, takes)| *takes).collect();
        takes.sort_unstable();
        let (mut left, mut count) = (self.capacity, takes.len() as u64);
        for takes in takes {
            if takes * count >= left {
                return left / count;
            }
            (left, count) = (left - takes, count - 1);
        }
        u64::MAX
    }

    fn unchoked(&self) -> usize {
        self.peers.iter().filter(|p| p.is_unchoked).count()
    }
}

/// How long a fast peer that arrives after `count` slow readers waits for a slot.
fn wait_of_a_fast_peer(count: usize, takes: u64, capacity: u64, seconds_before: u32) -> Duration {
    let mut all = vec![takes; count];
    all.push(1 << 20);
    let mut uplink = SeedUplink::new(&all, capacity);
    uplink.peers[count].is_interested = false;
    for _ in 0..seconds_before {
        uplink.run_second();
    }
    let arrival = uplink.now;
    uplink.peers[count].is_interested = true;
    let (seeding, key) = (true, PeerKey(count as u32));
    if uplink.choker.can_unchoke_now(uplink.now, seeding, &uplink.peers, key) {
        return Duration::ZERO;
    }
    if let Some(look) = uplink.choker.early_round_for_newcomer(uplink.now) {
        uplink.next_round = uplink.next_round.min(uplink.now + look);
    }
    while !uplink.peers[count].is_unchoked {
        uplink.run_second();
        assert!(uplink.now < arrival + SECOND * 600, "it gets no slot");
    }
    uplink.now.saturating_sub(arrival)
}

#[test]
fn slow_readers_delay_a_fast_peer_by_a_few_rounds_at_most() {
    for (count, takes) in [(60, 83), (60, 1000), (60, 20_000), (150, 83)] {
        for seconds_before in [0, 1, 10, 15, 300] {
            let wait = wait_of_a_fast_peer(count, takes, 100 << 20, seconds_before);
            let most = if count <= 60 { ROUND * 3 } else { ROUND * 6 };
            assert!(wait <= most, "{wait:?} beside {count} that take {takes} B/s, {seconds_before} s after them");
        }
    }
}

#[test]
fn a_slow_uplink_has_few_slots_beside_those_of_slow_readers() {
    for (capacity, most) in [(125_000, 6), (250_000, 10)] {
        let mut all = vec![100; 20];
        all.extend([1 << 20; 60]);
        let mut uplink = SeedUplink::new(&all, capacity);
        for second in 0..600 {
            uplink.run_second();
            let fast = uplink.peers[20..].iter().filter(|p| p.is_unchoked).count();
            assert!(fast <= most, "{fast} of {} at {capacity} B/s after {second} s", uplink.unchoked());
        }
    }
}

/// Slow readers that begin to read lose the slots that they had beside the others.
#[test]
fn slow_readers_that_speed_up_do_not_share_a_slow_uplink() {
    let mut uplink = SeedUplink::new(&[100; 60], 125_000);
    for _ in 0..60 {
        uplink.run_second();
    }
    assert_eq!(uplink.unchoked(), 60);
    uplink.takes.fill(1 << 20);
    for _ in 0..40 {
        uplink.run_second();
    }
    assert!(uplink.unchoked() <= 8, "{}", uplink.unchoked());
}
