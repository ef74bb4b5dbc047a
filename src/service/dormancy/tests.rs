//! Which seeds wake, and which make room.

use super::*;

const LIMITS: DormancyLimits = DormancyLimits { dormant_after: s(60), max_running: MAX_RUNNING };

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn network(n: usize) -> Network {
    Network::host([203, 0, (n >> 8) as u8, n as u8].into())
}

fn seed(id: u32, state: SeedState) -> SeedCandidate {
    SeedCandidate { id: TorrentId(id), state }
}

fn running(runs: u64, recent: u64, networks: &[usize]) -> SeedState {
    let networks = networks.iter().copied().map(network).collect();
    SeedState::Running(RunningSeed { runs_for: s(runs), alone_for: s(0), recent, networks })
}

fn alone(runs: u64, alone: u64) -> SeedState {
    SeedState::Running(RunningSeed { runs_for: s(runs), alone_for: s(alone), recent: 0, networks: Vec::new() })
}

fn connected(waits: u64, networks: &[usize]) -> SeedState {
    let networks = networks.iter().copied().map(network).collect();
    SeedState::WakeRequested { waits_for: s(waits), is_for_connection: true, networks }
}

fn found(waits: u64) -> SeedState {
    SeedState::WakeRequested { waits_for: s(waits), is_for_connection: false, networks: Vec::new() }
}

fn ids(of: &[TorrentId]) -> Vec<u32> {
    of.iter().map(|id| id.0).collect()
}

#[test]
fn a_seed_without_peers_becomes_dormant_and_wakes_on_request() {
    let seeds = [
        seed(1, alone(100, 59)),
        seed(2, alone(100, 60)),
        seed(3, running(1000, BUSY, &[1])),
        seed(4, connected(0, &[1])),
        seed(5, found(1000)),
    ];
    let decision = decide_dormancy(&seeds, LIMITS);
    assert_eq!((ids(&decision.to_make_dormant), ids(&decision.to_wake)), (vec![2], vec![4, 5]));
    assert!(decision.expired.is_empty());
}

#[test]
fn a_wake_request_expires_once_no_connection_waits() {
    let decision =
        decide_dormancy(&[seed(1, connected(0, &[])), seed(2, connected(4, &[1])), seed(3, found(9))], LIMITS);
    assert_eq!((ids(&decision.expired), ids(&decision.to_wake)), (vec![1], vec![2, 3]));
}

#[test]
fn seeds_that_serve_little_make_room_and_those_that_serve_stay() {
    let most = u32::try_from(MAX_IDLE).expect("a number");
    let mut seeds: Vec<SeedCandidate> =
        (0..most).map(|id| seed(id, running(11 + u64::from(id), 7, &[id as usize]))).collect();
    seeds.extend((1000..1100).map(|id| seed(id, running(5000, BUSY, &[id as usize]))));
    assert_eq!(decide_dormancy(&seeds, LIMITS), DormancyDecision::default(), "nobody waits");
    seeds.extend([seed(2000, found(1)), seed(2001, connected(1, &[500])), seed(2002, connected(2, &[501]))]);
    let decision = decide_dormancy(&seeds, LIMITS);
    assert_eq!(ids(&decision.to_make_dormant), [most - 1, most - 2, most - 3], "the oldest");
    assert!(decision.to_wake.is_empty(), "once these have stopped");
    seeds.retain(|seed| seed.id.0 != most - 1);
    seeds.extend([seed(most - 1, SeedState::GoingDormant)]);
    let decision = decide_dormancy(&seeds, LIMITS);
    assert_eq!(ids(&decision.to_wake), [2002], "connections first");
    assert_eq!(ids(&decision.to_make_dormant), [most - 2], "one is stopping already");
    // One that has sent less goes first, and before it one of a network with several.
    seeds.push(seed(most - 1, running(10, 6, &[33])));
    assert_eq!(ids(&decide_dormancy(&seeds, LIMITS).to_make_dormant)[0], most - 1);
    seeds.retain(|seed| seed.id.0 >= 2);
    seeds.extend([seed(0, running(10, 900, &[40])), seed(1, running(10, 800, &[40]))]);
    assert_eq!(ids(&decide_dormancy(&seeds, LIMITS).to_make_dormant)[0], 1);
}

#[test]
fn a_seed_that_has_just_started_does_not_make_room() {
    let mut seeds: Vec<SeedCandidate> = (0..40).map(|id| seed(id, running(9, 0, &[0]))).collect();
    seeds.extend((100..200).map(|id| seed(id, connected(0, &[1]))));
    assert_eq!(decide_dormancy(&seeds, LIMITS), DormancyDecision::default());
}

#[test]
fn networks_take_turns_whoever_connects_most() {
    let mut seeds: Vec<SeedCandidate> = (0..60).map(|id| seed(id, connected(4, &[1]))).collect();
    seeds.extend([seed(100, connected(0, &[2])), seed(101, connected(0, &[2, 3])), seed(102, found(3))]);
    let decision = decide_dormancy(&seeds, LIMITS);
    assert_eq!(ids(&decision.to_wake)[..5], [0, 100, 101, 102, 1], "in turns");
    assert_eq!(decision.to_wake.len(), 3 + MAX_IDLE_OF_NETWORK, "a network has its share");
    // Its own seeds make room for it, if anybody's do.
    let mut seeds: Vec<SeedCandidate> = (0..8).map(|id| seed(id, running(10, u64::from(id), &[1]))).collect();
    seeds.extend([seed(8, running(500, 0, &[2])), seed(20, connected(1, &[1])), seed(21, connected(1, &[1]))]);
    let decision = decide_dormancy(&seeds, LIMITS);
    assert_eq!((ids(&decision.to_make_dormant), decision.to_wake), (vec![0, 1], vec![]));
    // With an accomplice in another network that has its share, too, and with a peer that has not.
    seeds.push(seed(22, connected(1, &[1, 2])));
    assert_eq!(ids(&decide_dormancy(&seeds, LIMITS).to_wake), [22]);
}

#[test]
fn all_seeds_that_run_are_bounded_and_those_that_serve_least_make_room() {
    let limits = DormancyLimits { max_running: 40, ..LIMITS };
    let mut seeds: Vec<SeedCandidate> =
        (0..40).map(|id| seed(id, running(60, BUSY + 100 - u64::from(id), &[id as usize]))).collect();
    assert_eq!(decide_dormancy(&seeds, limits), DormancyDecision::default());
    seeds.push(seed(100, connected(0, &[100])));
    let decision = decide_dormancy(&seeds, limits);
    assert_eq!((ids(&decision.to_make_dormant), decision.to_wake), (vec![39], vec![]));
    // There are fewer descriptors than before.
    let fewer = DormancyLimits { max_running: 37, ..LIMITS };
    assert_eq!(ids(&decide_dormancy(&seeds[..40], fewer).to_make_dormant), [39, 38, 37]);
    // A network that transfers a lot has a quarter.
    let mut seeds: Vec<SeedCandidate> = (0..64).map(|id| seed(id, running(500, BUSY, &[1]))).collect();
    seeds.extend([seed(100, connected(0, &[1])), seed(101, connected(0, &[2]))]);
    let decision = decide_dormancy(&seeds, LIMITS);
    assert_eq!((ids(&decision.to_make_dormant), ids(&decision.to_wake)), (vec![0], vec![101]));
    assert_eq!([64, 256, 1024, 4096, u64::MAX].map(|have| max_running(have, 0)), [4, 16, 64, 256, 256]);
    assert_eq!((max_running(1024, 50), max_running(1024, 1000)), (14, 4));
}

/// Seeds that a user adds run at first, and end before others are kept waiting.
#[test]
fn many_seeds_without_peers_do_not_run_on() {
    let seeds: Vec<SeedCandidate> = (0..100).map(|id| seed(id, alone(20, 20))).collect();
    assert_eq!(decide_dormancy(&seeds, LIMITS).to_make_dormant.len(), 100 - MAX_IDLE);
}

/// A stranger connects for 200 seeds, stays connected, takes a block now and then, and connects again when they are dormant.
/// A leecher of another network is served meanwhile.
#[test]
fn strangers_keep_a_bounded_number_of_seeds_running() {
    for (networks, most) in [(1, MAX_IDLE_OF_NETWORK), (3, 3 * MAX_IDLE_OF_NETWORK), (200, MAX_IDLE)] {
        let of = |at: usize| [at % networks];
        let mut states: Vec<SeedState> = (0..200).map(|at| connected(0, &of(at))).collect();
        let mut waited = 0;
        for second in 0..120 {
            if second % 30 == 0 {
                (states[199], waited) = (connected(0, &[500]), 0);
            }
            let seeds: Vec<SeedCandidate> = (0..).zip(&states).map(|(id, state)| seed(id, state.clone())).collect();
            let decision = decide_dormancy(&seeds, LIMITS);
            let has = |of: &[TorrentId], at: usize| of.contains(&TorrentId(at as u32));
            for (at, state) in states.iter_mut().enumerate() {
                *state = match state {
                    _ if has(&decision.to_make_dormant, at) => SeedState::GoingDormant,
                    _ if has(&decision.to_wake, at) => {
                        running(0, BUSY - 1, &[if at == 199 { 500 } else { at % networks }])
                    }
                    SeedState::GoingDormant => connected(0, &of(at)),
                    SeedState::Running(seed) => {
                        SeedState::Running(RunningSeed { runs_for: seed.runs_for + s(1), ..seed.clone() })
                    }
                    SeedState::WakeRequested { .. } => state.clone(),
                };
            }
            let running = states.iter().filter(|state| !matches!(state, SeedState::WakeRequested { .. })).count();
            assert!(running <= 2 * most + 1, "{running} for {networks}");
            if !matches!(states[199], SeedState::Running(_)) && networks < 200 {
                waited += 1;
                assert!(waited <= 2, "the leecher waits in second {second}");
            }
        }
    }
}
