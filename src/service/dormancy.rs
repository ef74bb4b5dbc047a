//! Which seeds of a service run, and which are dormant: a seed without peers needs no thread. Pure.
//!
//! A seed wakes when a peer connects for it, or when peers are found that it has to dial. It is dormant again once it has had no peer
//! for a while. Strangers who know info-hashes can wake any number of seeds and stay connected, so only a few seeds run that
//! serve nobody: those that have run longest make room for those that are waiting.

use std::time::Duration;

use crate::service::model::TorrentId;

/// How long a seed runs without peers.
pub const DEFAULT_DORMANT_AFTER: Duration = Duration::from_secs(60);
/// The most seeds that run and serve nobody.
const MAX_IDLE: usize = 32;
/// How long a seed runs at least, so that a peer can say what it wants.
const MIN_RUN: Duration = Duration::from_secs(10);
/// How long a connection waits for its seed to start. A request to wake it that is older is of no use.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// A seed that can be dormant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedCandidate {
    /// Its number.
    pub id: TorrentId,
    /// What it does.
    pub state: SeedState,
}

/// What a seed does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedState {
    /// It runs.
    Running {
        /// For how long.
        runs_for: Duration,
        /// How long it has had no peer; zero if it has some.
        alone_for: Duration,
        /// Whether peers get something from it.
        is_busy: bool,
    },
    /// It was told to stop so that it becomes dormant.
    GoingDormant,
    /// It is dormant and has to wake.
    WakeRequested {
        /// For how long already.
        waits_for: Duration,
        /// Whether a connection waits for it.
        by_connection: bool,
    },
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DormancyDecision {
    /// Seeds to start.
    pub to_wake: Vec<TorrentId>,
    /// Seeds to stop.
    pub to_make_dormant: Vec<TorrentId>,
    /// Seeds whose wake request has expired: the connection has ended.
    pub expired: Vec<TorrentId>,
}

/// Decides which seeds wake and which become dormant. A seed runs for `dormant_after` without peers.
pub fn decide_dormancy(seeds: &[SeedCandidate], dormant_after: Duration) -> DormancyDecision {
    let mut decision = DormancyDecision::default();
    let (mut idle, mut requested, mut going) = (Vec::new(), Vec::new(), 0);
    for SeedCandidate { id, state } in seeds {
        match *state {
            SeedState::Running { alone_for, .. } if alone_for >= dormant_after => decision.to_make_dormant.push(*id),
            SeedState::Running { runs_for, is_busy: false, .. } => idle.push((runs_for, *id)),
            SeedState::Running { .. } => {}
            SeedState::GoingDormant => going += 1,
            SeedState::WakeRequested { waits_for, by_connection: true } if waits_for >= CONNECTION_TIMEOUT => {
                decision.expired.push(*id);
            }
            SeedState::WakeRequested { waits_for, by_connection } => requested.push((!by_connection, waits_for, *id)),
        }
    }
    // Connections first, and of these the one that has waited longest.
    requested.sort_by_key(|(is_patient, waits_for, id)| (*is_patient, std::cmp::Reverse(*waits_for), *id));
    let room = MAX_IDLE.saturating_sub(idle.len());
    decision.to_wake.extend(requested.iter().take(room).map(|(.., id)| *id));
    let lacks_room = requested.len().saturating_sub(room) + idle.len().saturating_sub(MAX_IDLE);
    let ending = decision.to_make_dormant.len() + going;
    idle.retain(|(runs_for, _)| *runs_for >= MIN_RUN);
    idle.sort_by_key(|(runs_for, id)| (std::cmp::Reverse(*runs_for), *id));
    decision.to_make_dormant.extend(idle.iter().take(lacks_room.saturating_sub(ending)).map(|(_, id)| *id));
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seed(id: u32, state: SeedState) -> SeedCandidate {
        SeedCandidate { id: TorrentId(id), state }
    }

    fn running(runs: u64, alone: u64, is_busy: bool) -> SeedState {
        SeedState::Running { runs_for: s(runs), alone_for: s(alone), is_busy }
    }

    fn wake_requested(waits: u64, by_connection: bool) -> SeedState {
        SeedState::WakeRequested { waits_for: s(waits), by_connection }
    }

    fn ids(of: &[TorrentId]) -> Vec<u32> {
        of.iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_seed_without_peers_becomes_dormant_and_wakes_on_request() {
        let seeds = [
            seed(1, running(100, 59, false)),
            seed(2, running(100, 60, false)),
            seed(3, running(1000, 0, true)),
            seed(4, wake_requested(0, true)),
            seed(5, wake_requested(1000, false)),
        ];
        let decision = decide_dormancy(&seeds, s(60));
        assert_eq!((ids(&decision.to_make_dormant), ids(&decision.to_wake)), (vec![2], vec![4, 5]));
        assert!(decision.expired.is_empty());
    }

    #[test]
    fn a_wake_request_expires_once_its_connection_has_ended() {
        let decision = decide_dormancy(&[seed(1, wake_requested(5, true)), seed(2, wake_requested(4, true))], s(60));
        assert_eq!((ids(&decision.expired), ids(&decision.to_wake)), (vec![1], vec![2]));
    }

    #[test]
    fn seeds_that_serve_nobody_make_room_and_those_that_serve_stay() {
        let most = u32::try_from(MAX_IDLE).expect("a number");
        let mut seeds: Vec<SeedCandidate> =
            (0..most).map(|id| seed(id, running(11 + u64::from(id), 0, false))).collect();
        seeds.extend((1000..1100).map(|id| seed(id, running(5000, 0, true))));
        assert_eq!(decide_dormancy(&seeds, s(60)), DormancyDecision::default(), "there is room for all");
        seeds.extend([
            seed(2000, wake_requested(1, false)),
            seed(2001, wake_requested(1, true)),
            seed(2002, wake_requested(2, true)),
        ]);
        let decision = decide_dormancy(&seeds, s(60));
        assert_eq!(ids(&decision.to_make_dormant), [most - 1, most - 2, most - 3], "the oldest");
        assert!(decision.to_wake.is_empty(), "once these have stopped");
        seeds.retain(|seed| seed.id.0 != most - 1);
        seeds.extend([seed(most - 1, SeedState::GoingDormant)]);
        let decision = decide_dormancy(&seeds, s(60));
        assert_eq!(ids(&decision.to_wake), [2002], "connections first");
        assert_eq!(ids(&decision.to_make_dormant), [most - 2], "one is stopping already");
    }

    #[test]
    fn a_seed_that_has_just_started_does_not_make_room() {
        let mut seeds: Vec<SeedCandidate> = (0..40).map(|id| seed(id, running(9, 0, false))).collect();
        seeds.extend((100..200).map(|id| seed(id, wake_requested(0, true))));
        assert_eq!(decide_dormancy(&seeds, s(60)), DormancyDecision::default());
    }

    /// A stranger connects for a thousand seeds, stays connected, and connects again when they are dormant.
    #[test]
    fn strangers_keep_a_bounded_number_of_seeds_running() {
        let mut states: Vec<SeedState> = vec![wake_requested(0, true); 1000];
        for _ in 0..600 {
            let seeds: Vec<SeedCandidate> = (0..).zip(&states).map(|(id, state)| seed(id, *state)).collect();
            let decision = decide_dormancy(&seeds, s(60));
            let has = |of: &[TorrentId], at: usize| of.contains(&TorrentId(at as u32));
            for (at, state) in states.iter_mut().enumerate() {
                *state = match *state {
                    _ if has(&decision.to_make_dormant, at) => SeedState::GoingDormant,
                    _ if has(&decision.to_wake, at) => running(0, 0, false),
                    SeedState::GoingDormant => wake_requested(0, true),
                    SeedState::Running { runs_for, .. } => running(runs_for.as_secs() + 1, 0, false),
                    _ if has(&decision.expired, at) => wake_requested(0, true),
                    SeedState::WakeRequested { waits_for, .. } => wake_requested(waits_for.as_secs() + 1, true),
                };
            }
            let running = states.iter().filter(|state| !matches!(state, SeedState::WakeRequested { .. })).count();
            assert!(running <= 2 * MAX_IDLE, "{running}");
        }
    }
}
