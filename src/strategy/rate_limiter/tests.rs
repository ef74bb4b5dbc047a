//! The limiter with a simulated clock: peers request bytes, sleep as told and wake up a little late.

use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// An address in a network of its own.
fn address(n: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + n).to_be_bytes())
}

fn flow(n: u32) -> FlowId {
    FlowId::new(PeerKey(n), address(n))
}

/// Peers that always want bytes, each in portions of its own size.
struct LimiterSwarm {
    limiter: RateLimiter,
    wants: Vec<u64>,
    /// The address of each peer.
    ips: Vec<IpAddr>,
    /// Bytes transferred by each peer, down and up.
    moved: Vec<[u64; 2]>,
    /// Bytes transferred in each tenth of a second, down and up.
    tenths: [Vec<u64>; 2],
    wakes: BinaryHeap<Reverse<(Duration, u32, bool)>>,
    rng: fastrand::Rng,
}

impl LimiterSwarm {
    fn new(limits: Limits, wants: Vec<u64>) -> LimiterSwarm {
        let wakes = (0..wants.len() as u32).flat_map(|n| [false, true].map(|up| Reverse((Duration::ZERO, n, up))));
        LimiterSwarm {
            limiter: RateLimiter::new(limits),
            ips: (0..wants.len() as u32).map(address).collect(),
            moved: vec![[0; 2]; wants.len()],
            tenths: [Vec::new(), Vec::new()],
            wakes: wakes.collect(),
            rng: fastrand::Rng::with_seed(1),
            wants,
        }
    }

    fn ask(&mut self, now: Duration, direction: Direction, peer: u32) -> Grant {
        let flow = FlowId::new(PeerKey(peer), self.ips[peer as usize]);
        self.limiter.ask(now, direction, flow, self.wants[peer as usize])
    }

    /// Advances the time to `end`. A peer wakes up to `late` after its time.
    fn run(&mut self, end: Duration, late: Duration) {
        while let Some(&Reverse((now, peer, up))) = self.wakes.peek()
            && now < end
        {
            self.wakes.pop();
            let direction = if up { Direction::Up } else { Direction::Down };
            let pause = match self.ask(now, direction, peer) {
                Grant::Wait(pause) => pause + late.mul_f64(self.rng.f64()),
                Grant::Go(bytes) => {
                    assert!(bytes > 0 && bytes <= self.wants[peer as usize]);
                    self.moved[peer as usize][usize::from(up)] += bytes;
                    let tenth = (now.as_millis() / 100) as usize;
                    let tenths = &mut self.tenths[usize::from(up)];
                    tenths.resize(tenths.len().max(tenth + 1), 0);
                    tenths[tenth] += bytes;
                    Duration::from_micros(self.rng.u64(20..200)) // the transfer itself
                }
            };
            self.wakes.push(Reverse((now + pause, peer, up)));
        }
    }

    /// Asserts that the rate over each `seconds` from `from` to `to` is within 3 % of `rate`.
    fn assert_rate(&self, up: bool, from: usize, to: usize, seconds: usize, rate: u64) {
        for (at, window) in self.tenths[usize::from(up)][from * 10..to * 10].windows(seconds * 10).enumerate() {
            let ratio = window.iter().sum::<u64>() as f64 / (rate * seconds as u64) as f64;
            assert!((0.97..=1.03).contains(&ratio), "{ratio} of the limit at {} s", from as f64 + at as f64 / 10.0);
        }
    }

    /// Jain's fairness index: 1 if all have the same.
    fn fairness(&self, up: bool) -> f64 {
        let each: Vec<f64> = self.moved.iter().map(|m| m[usize::from(up)] as f64).collect();
        let sum: f64 = each.iter().sum();
        sum * sum / (each.len() as f64 * each.iter().map(|x| x * x).sum::<f64>())
    }
}

#[test]
fn three_hundred_peers_share_both_limits_evenly_whatever_their_portions() {
    let wants: Vec<u64> = (0..300).map(|n| [KIB, 3 * KIB, 16 * KIB + 13, 64 * KIB, 256 * KIB][n % 5]).collect();
    let mut swarm = LimiterSwarm::new(Limits { down: 5 * MIB, up: 2 * MIB }, wants);
    swarm.run(SECOND * 61, MS);
    swarm.assert_rate(false, 1, 60, 3, 5 * MIB);
    swarm.assert_rate(true, 1, 60, 3, 2 * MIB);
    for up in [false, true] {
        assert!(swarm.fairness(up) > 0.98, "{}", swarm.fairness(up));
    }
}

#[test]
fn great_and_small_limits_hold_for_few_and_many() {
    for (rate, peers, late) in [(20 * KIB, 3, MS), (300 * KIB, 50, MS), (200 * MIB, 1, MS * 3), (1000 * MIB, 8, MS)] {
        let mut swarm = LimiterSwarm::new(Limits { down: 0, up: rate }, vec![256 * KIB; peers]);
        swarm.wakes.retain(|Reverse((_, _, up))| *up);
        swarm.run(SECOND * 21, late);
        swarm.assert_rate(true, 1, 20, 5, rate);
        assert!(swarm.fairness(true) > 0.95, "{rate} B/s: {}", swarm.fairness(true));
    }
}

#[test]
fn a_new_limit_holds_at_once() {
    let mut swarm = LimiterSwarm::new(Limits { down: MIB, up: 8 * MIB }, vec![128 * KIB; 100]);
    swarm.run(SECOND * 10, MS);
    swarm.limiter.set(SECOND * 10, Limits { down: 10 * MIB, up: 256 * KIB });
    assert_eq!(swarm.limiter.limits(), Limits { down: 10 * MIB, up: 256 * KIB });
    swarm.run(SECOND * 20, MS);
    swarm.assert_rate(false, 1, 10, 3, MIB);
    swarm.assert_rate(true, 1, 10, 3, 8 * MIB);
    // Bytes granted before the change and fetched after it, and bytes granted to peers that still sleep, are few.
    let first: u64 = swarm.tenths[0][100..105].iter().sum();
    assert!((4 * MIB..=6 * MIB).contains(&first), "{first} in the first half second");
    swarm.assert_rate(false, 11, 20, 3, 10 * MIB);
    swarm.assert_rate(true, 13, 20, 5, 256 * KIB);
}

#[test]
fn peers_that_trickle_do_not_wait_behind_those_that_pour() {
    let mut swarm = LimiterSwarm::new(Limits { down: 0, up: MIB }, [vec![256 * KIB; 20], vec![500]].concat());
    swarm.wakes.retain(|Reverse((_, _, up))| *up);
    swarm.run(SECOND * 60, MS);
    let (pours, trickles) = (swarm.moved[0][1], swarm.moved[20][1]);
    assert!(trickles * 10 >= pours * 8, "{trickles} against {pours}");
}

/// A hundred connections of one address get together what one connection of another address gets, and share that evenly.
#[test]
fn many_connections_get_no_more_than_one() {
    for (of_many, of_one) in
        [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:100::1"), ("::ffff:192.0.2.1", "2001:db8::1")]
    {
        let mut swarm = LimiterSwarm::new(Limits { down: 0, up: 4 * MIB }, vec![64 * KIB; 101]);
        swarm.ips[..100].fill(of_many.parse().expect("an address"));
        swarm.ips[100] = of_one.parse().expect("an address");
        swarm.wakes.retain(|Reverse((_, _, up))| *up);
        swarm.run(SECOND * 60, MS);
        let (one, many) = (swarm.moved.pop().expect("the last")[1], swarm.moved.iter().map(|m| m[1]).sum::<u64>());
        let ratio = one as f64 / many as f64;
        assert!((0.95..=1.05).contains(&ratio), "{one} against {many}");
        assert!(swarm.fairness(true) > 0.95, "{}", swarm.fairness(true));
    }
}

/// A peer is told to ask again when its bytes are there: neither too soon, which costs time, nor too late.
#[test]
fn a_wait_ends_when_the_bytes_are_there() {
    let mut limiter = RateLimiter::new(Limits { down: 0, up: MIB });
    let ask = |limiter: &mut RateLimiter, now, key: u32| {
        // Keys below 20 have one address, those from 20 on one each.
        limiter.ask(now, Direction::Up, FlowId::new(PeerKey(key), address(key.max(19))), 4 * KIB)
    };
    for key in (0..40).chain(0..40) {
        let _ = ask(&mut limiter, Duration::ZERO, key);
    }
    // The address of the 20 has had nothing yet, as all others, so its second connection comes behind all the others.
    let mut ends = Vec::new();
    for key in [0, 20, 39, 1] {
        let Grant::Wait(pause) = ask(&mut limiter, Duration::ZERO, key) else { panic!("granted") };
        ends.push((pause, key));
    }
    assert!(ends.is_sorted() && ends[3].0 < MAX_WAIT, "{ends:?}");
    for (pause, key) in ends {
        let mut early = limiter.clone();
        assert!(matches!(ask(&mut early, pause.saturating_sub(Duration::from_nanos(1)), key), Grant::Wait(_)), "{key}");
        assert_eq!(ask(&mut limiter, pause, key), Grant::Go(4 * KIB), "{key}");
    }
}

#[test]
fn without_a_limit_everything_goes_and_an_idle_limit_saves_little() {
    let mut limiter = RateLimiter::new(Limits { down: 0, up: MIB });
    assert_eq!(limiter.ask(SECOND, Direction::Down, flow(1), 1 << 40), Grant::Go(1 << 40));
    let mut burst = 0;
    while let Grant::Go(bytes) = limiter.ask(SECOND * 3600, Direction::Up, flow(1), 1 << 20) {
        burst += bytes;
    }
    assert!(burst > 0 && burst <= MIB / 10, "{burst} at once after an hour");
    limiter.set(SECOND * 3600, Limits::default());
    assert_eq!(limiter.ask(SECOND * 3600, Direction::Up, flow(1), 7 * MIB), Grant::Go(7 * MIB));
}

#[test]
fn returned_and_abandoned_grants_go_to_waiting_connections() {
    let mut limiter = RateLimiter::new(Limits { down: MIB, up: 0 });
    let ask = |limiter: &mut RateLimiter, key| limiter.ask(SECOND, Direction::Down, flow(key), 16 * KIB);
    let mut key = 0;
    while let Grant::Go(_) = ask(&mut limiter, key) {
        key += 1;
    }
    assert!(matches!(ask(&mut limiter, key), Grant::Wait(_)), "it keeps its place, and still waits");
    assert!(matches!(ask(&mut limiter, key + 1), Grant::Wait(_)));
    limiter.give_back(SECOND, Direction::Down, PeerKey(0), 16 * KIB);
    assert_eq!(ask(&mut limiter, key), Grant::Go(16 * KIB));
    assert!(matches!(ask(&mut limiter, key + 2), Grant::Wait(_)));
    let Grant::Wait(before) = ask(&mut limiter, key + 2) else { panic!("granted") };
    limiter.leave(SECOND, PeerKey(key + 1));
    let Grant::Wait(after) = ask(&mut limiter, key + 2) else { panic!("granted") };
    assert!(after < before);
}

proptest! {
    #[test]
    fn never_more_than_the_limit_whatever_is_asked_when(
        rate in 1u64..50_000_000,
        steps in prop::collection::vec((0u32..20, 0u64..300_000, 0u64..60_000, 0u8..12), 1..400),
        networks in 1u32..20,
    ) {
        let mut limiter = RateLimiter::new(Limits { down: 0, up: rate });
        let (mut now, mut moved) = (Duration::ZERO, 0u64);
        for (key, want, micros, what) in steps {
            now += Duration::from_micros(micros);
            match what {
                0 => limiter.leave(now, PeerKey(key)),
                _ => if let Grant::Go(bytes) = limiter.ask(now, Direction::Up, FlowId::new(PeerKey(key), address(key % networks)), want) {
                    prop_assert!(bytes <= want);
                    let unused = if what == 1 { bytes / 2 } else { 0 };
                    limiter.give_back(now, Direction::Up, PeerKey(key), unused);
                    moved += bytes - unused;
                }
            }
            prop_assert!(limiter.known_peers() <= 20);
            prop_assert!(moved as f64 <= rate as f64 * now.as_secs_f64() + 1.0, "{moved} after {now:?} at {rate} B/s");
        }
    }
}
