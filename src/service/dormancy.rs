//! Which seeds of a service run, and which sleep as dormant seeds: a seed without peers needs no thread. Pure.
//!
//! A seed wakes when a peer connects for it, or when peers are found that it has to dial. It sleeps again once it has had no peer
//! for a while. Strangers who know info-hashes can wake any number of seeds and stay connected, so only a few seeds run that
//! serve nobody: those that have run longest make room for those that are waiting.

use std::time::Duration;

use crate::service::model::TorrentId;

/// How long a seed runs without peers.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);
/// The most seeds that run and serve nobody.
const MAX_IDLE: usize = 32;
/// How long a seed runs at least, so that a peer can say what it wants.
const MIN_RUN: Duration = Duration::from_secs(10);
/// How long a connection waits for its seed to start. A call for a seed that is older is of no use.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(5);

/// A seed that may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Its number.
    pub id: TorrentId,
    /// What it does.
    pub state: SeedState,
}

/// What a seed does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedState {
    /// It runs.
    Awake {
        /// For how long.
        runs_for: Duration,
        /// How long it has had no peer; zero if it has some.
        alone_for: Duration,
        /// Whether peers get something from it.
        is_busy: bool,
    },
    /// It was told to stop so that it sleeps.
    FallingAsleep,
    /// It sleeps and is to wake.
    Called {
        /// For how long already.
        waits_for: Duration,
        /// Whether a connection waits for it.
        by_connection: bool,
    },
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Seeds to start.
    pub wakes: Vec<TorrentId>,
    /// Seeds to stop.
    pub sleeps: Vec<TorrentId>,
    /// Seeds whose call came to nothing: the connection has ended.
    pub forgets: Vec<TorrentId>,
}

/// Decides which seeds wake and which sleep. A seed runs for `patience` without peers.
pub fn decide(seeds: &[Seed], patience: Duration) -> Decision {
    let mut decision = Decision::default();
    let (mut idle, mut called, mut falling) = (Vec::new(), Vec::new(), 0);
    for Seed { id, state } in seeds {
        match *state {
            SeedState::Awake { alone_for, .. } if alone_for >= patience => decision.sleeps.push(*id),
            SeedState::Awake { runs_for, is_busy: false, .. } => idle.push((runs_for, *id)),
            SeedState::Awake { .. } => {}
            SeedState::FallingAsleep => falling += 1,
            SeedState::Called { waits_for, by_connection: true } if waits_for >= CONNECTION_PATIENCE => {
                decision.forgets.push(*id);
            }
            SeedState::Called { waits_for, by_connection } => called.push((!by_connection, waits_for, *id)),
        }
    }
    // Connections first, and of these the one that has waited longest.
    called.sort_by_key(|(is_patient, waits_for, id)| (*is_patient, std::cmp::Reverse(*waits_for), *id));
    let room = MAX_IDLE.saturating_sub(idle.len());
    decision.wakes.extend(called.iter().take(room).map(|(.., id)| *id));
    let lacks_room = called.len().saturating_sub(room) + idle.len().saturating_sub(MAX_IDLE);
    let ending = decision.sleeps.len() + falling;
    idle.retain(|(runs_for, _)| *runs_for >= MIN_RUN);
    idle.sort_by_key(|(runs_for, id)| (std::cmp::Reverse(*runs_for), *id));
    decision.sleeps.extend(idle.iter().take(lacks_room.saturating_sub(ending)).map(|(_, id)| *id));
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seed(id: u32, state: SeedState) -> Seed {
        Seed { id: TorrentId(id), state }
    }

    fn awake(runs: u64, alone: u64, is_busy: bool) -> SeedState {
        SeedState::Awake { runs_for: s(runs), alone_for: s(alone), is_busy }
    }

    fn called(waits: u64, by_connection: bool) -> SeedState {
        SeedState::Called { waits_for: s(waits), by_connection }
    }

    fn ids(of: &[TorrentId]) -> Vec<u32> {
        of.iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_seed_without_peers_sleeps_and_wakes_when_called() {
        let seeds = [
            seed(1, awake(100, 59, false)),
            seed(2, awake(100, 60, false)),
            seed(3, awake(1000, 0, true)),
            seed(4, called(0, true)),
            seed(5, called(1000, false)),
        ];
        let decision = decide(&seeds, s(60));
        assert_eq!((ids(&decision.sleeps), ids(&decision.wakes)), (vec![2], vec![4, 5]));
        assert!(decision.forgets.is_empty());
    }

    #[test]
    fn a_call_is_forgotten_once_its_connection_has_ended() {
        let decision = decide(&[seed(1, called(5, true)), seed(2, called(4, true))], s(60));
        assert_eq!((ids(&decision.forgets), ids(&decision.wakes)), (vec![1], vec![2]));
    }

    #[test]
    fn seeds_that_serve_nobody_make_room_and_those_that_serve_stay() {
        let most = u32::try_from(MAX_IDLE).expect("a number");
        let mut seeds: Vec<Seed> = (0..most).map(|id| seed(id, awake(11 + u64::from(id), 0, false))).collect();
        seeds.extend((1000..1100).map(|id| seed(id, awake(5000, 0, true))));
        assert_eq!(decide(&seeds, s(60)), Decision::default(), "there is room for all");
        seeds.extend([seed(2000, called(1, false)), seed(2001, called(1, true)), seed(2002, called(2, true))]);
        let decision = decide(&seeds, s(60));
        assert_eq!(ids(&decision.sleeps), [most - 1, most - 2, most - 3], "the oldest");
        assert!(decision.wakes.is_empty(), "once these have stopped");
        seeds.retain(|seed| seed.id.0 != most - 1);
        seeds.extend([seed(most - 1, SeedState::FallingAsleep)]);
        let decision = decide(&seeds, s(60));
        assert_eq!(ids(&decision.wakes), [2002], "connections first");
        assert_eq!(ids(&decision.sleeps), [most - 2], "one is stopping already");
    }

    #[test]
    fn a_seed_that_has_just_started_does_not_make_room() {
        let mut seeds: Vec<Seed> = (0..40).map(|id| seed(id, awake(9, 0, false))).collect();
        seeds.extend((100..200).map(|id| seed(id, called(0, true))));
        assert_eq!(decide(&seeds, s(60)), Decision::default());
    }

    /// A stranger calls a thousand seeds, stays connected, and calls them again when they sleep.
    #[test]
    fn strangers_keep_a_bounded_number_of_seeds_awake() {
        let mut states: Vec<SeedState> = vec![called(0, true); 1000];
        for _ in 0..600 {
            let seeds: Vec<Seed> = (0..).zip(&states).map(|(id, state)| seed(id, *state)).collect();
            let decision = decide(&seeds, s(60));
            let has = |of: &[TorrentId], at: usize| of.contains(&TorrentId(at as u32));
            for (at, state) in states.iter_mut().enumerate() {
                *state = match *state {
                    _ if has(&decision.sleeps, at) => SeedState::FallingAsleep,
                    _ if has(&decision.wakes, at) => awake(0, 0, false),
                    SeedState::FallingAsleep => called(0, true),
                    SeedState::Awake { runs_for, .. } => awake(runs_for.as_secs() + 1, 0, false),
                    _ if has(&decision.forgets, at) => called(0, true),
                    SeedState::Called { waits_for, .. } => called(waits_for.as_secs() + 1, true),
                };
            }
            let running = states.iter().filter(|state| !matches!(state, SeedState::Called { .. })).count();
            assert!(running <= 2 * MAX_IDLE, "{running}");
        }
    }
}
