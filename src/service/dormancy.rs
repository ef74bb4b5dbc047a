//! Which seeds of a service run, and which are dormant: a seed without peers needs no thread. Pure.
//!
//! A seed wakes when a peer connects for it, or when peers are found that it has to dial. It is dormant again once it has had no peer
//! for a while. Strangers who know info-hashes can wake any number of seeds and stay connected, so only a few seeds run that
//! serve little, and only a part of them for one network. If others wait, the network that keeps the most seeds running makes room,
//! with the seed that has sent the least. All seeds together are bounded, too, however much they serve.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::net::networks::Network;
use crate::service::model::TorrentId;

/// How long a seed runs without peers.
pub const DEFAULT_DORMANT_AFTER: Duration = Duration::from_secs(60);
/// The most seeds that are woken while they serve little.
const MAX_IDLE: usize = 32;
/// The most of these for one network.
const MAX_IDLE_OF_NETWORK: usize = 8;
/// The most seeds that run, however many descriptors there are: each has threads and memory of its own.
const MAX_RUNNING: usize = 256;
/// The least, however few descriptors there are.
const MIN_RUNNING: usize = 4;
/// The descriptors that a seed may need: its own, some connections and some files.
const DESCRIPTORS_OF_SEED: u64 = 12;
/// How long a seed runs at least, so that a peer can say what it wants.
const MIN_RUN: Duration = Duration::from_secs(10);
/// The same for one that serves peers.
const MIN_RUN_BUSY: Duration = Duration::from_secs(60);
/// A seed that sends so many bytes a minute serves peers. What a peer claims costs it nothing, and a block now and then little.
const BUSY: u64 = 60 * 4096;
/// The most requests without a connection that are looked at. The client bounds the connections.
const MAX_PATIENT: usize = 64;

/// A seed that can be dormant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedCandidate {
    /// Its number.
    pub id: TorrentId,
    /// What it does.
    pub state: SeedState,
}

/// What a seed does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedState {
    /// It runs.
    Running(RunningSeed),
    /// It was told to stop so that it becomes dormant.
    GoingDormant,
    /// It is dormant and has to wake.
    WakeRequested {
        /// For how long already.
        waits_for: Duration,
        /// Whether a connection requested it; if not, peers were found.
        is_for_connection: bool,
        /// The networks of the connections that wait for it now.
        networks: Vec<Network>,
    },
}

/// A seed that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningSeed {
    /// For how long.
    pub runs_for: Duration,
    /// How long it has had no peer; zero if it has some.
    pub alone_for: Duration,
    /// Bytes per minute that it has recently sent.
    pub recent: u64,
    /// The networks of its peers, each once. While it has none, those that it was started for.
    pub networks: Vec<Network>,
}

/// What the decision depends on besides the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DormancyLimits {
    /// How long a seed runs without peers.
    pub dormant_after: Duration,
    /// The most seeds that run.
    pub max_running: usize,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DormancyDecision {
    /// Seeds to start.
    pub to_wake: Vec<TorrentId>,
    /// Seeds to stop.
    pub to_make_dormant: Vec<TorrentId>,
    /// Seeds whose wake request has expired: no connection waits any more.
    pub expired: Vec<TorrentId>,
}

/// How many seeds may run besides `others` torrents, if the process may have so many descriptors. A quarter stays for others.
pub fn max_running(descriptors: u64, others: usize) -> usize {
    let most = (descriptors - descriptors / 4) / DESCRIPTORS_OF_SEED;
    usize::try_from(most).unwrap_or(MAX_RUNNING).saturating_sub(others).clamp(MIN_RUNNING, MAX_RUNNING)
}

/// Decides which seeds wake and which become dormant.
pub fn decide_dormancy(seeds: &[SeedCandidate], limits: DormancyLimits) -> DormancyDecision {
    let mut decision = DormancyDecision::default();
    let (mut running, mut requests, mut going) = (Vec::new(), Vec::new(), 0);
    for SeedCandidate { id, state } in seeds {
        match state {
            SeedState::Running(seed) if seed.alone_for >= limits.dormant_after => decision.to_make_dormant.push(*id),
            SeedState::Running(seed) => running.push((*id, seed)),
            SeedState::GoingDormant => going += 1,
            SeedState::WakeRequested { is_for_connection: true, networks, .. } if networks.is_empty() => {
                decision.expired.push(*id);
            }
            SeedState::WakeRequested { waits_for, networks, .. } => {
                requests.push(PendingWake { id: *id, waits_for: *waits_for, networks });
            }
        }
    }
    going += decision.to_make_dormant.len();
    // Connections do not wait for long.
    requests.sort_by_key(|request| (request.networks.is_empty(), Reverse(request.waits_for), request.id));
    let by_connections = requests.partition_point(|request| !request.networks.is_empty());
    requests.truncate(by_connections + MAX_PATIENT);
    let mut awake = Awake::new(running, going, limits.max_running);
    let mut blocked = Vec::new();
    while let Some(request) = take_next(&mut requests, &awake) {
        match awake.lack_of_room(&request) {
            None => {
                awake.add(&request);
                decision.to_wake.push(request.id);
            }
            Some(lack) => blocked.push(lack),
        }
    }
    // Those that are about to end make room, too.
    decision.to_make_dormant.extend(blocked.iter().skip(going).filter_map(|lack| awake.give_up(lack)));
    let going = going.saturating_sub(blocked.len());
    let excess = awake.seeds.len().saturating_sub(limits.max_running);
    let alone = awake.seeds.iter().filter(|(_, seed)| !seed.alone_for.is_zero()).count();
    for (lack, count) in [(Lack::Total, excess), (Lack::Idle, alone.saturating_sub(MAX_IDLE))] {
        // If one finds nothing, the others do not either: there may be thousands.
        decision.to_make_dormant.extend((going..count).map_while(|_| awake.give_up(&lack)));
    }
    decision
}

/// A request to wake a seed.
struct PendingWake<'a> {
    id: TorrentId,
    waits_for: Duration,
    /// Empty if no connection waits.
    networks: &'a [Network],
}

/// Why there is no room for a seed.
enum Lack<'a> {
    /// The networks that wait for it have as many as they may.
    Network(&'a [Network]),
    /// Enough seeds run that serve little.
    Idle,
    /// Enough seeds run.
    Total,
}

/// The seeds that run.
struct Awake<'a> {
    seeds: Vec<(TorrentId, &'a RunningSeed)>,
    /// How many seeds with peers of a network run, and how many of these serve little.
    of_network: HashMap<Network, (usize, usize)>,
    /// How many run that have to dial peers, and have none yet.
    without_peers: usize,
    /// How many seeds serve little.
    idle: usize,
    /// How many run, those that wake now and those that have not ended yet included.
    total: usize,
    max_running: usize,
    /// Those that make room.
    given_up: HashSet<TorrentId>,
}

impl RunningSeed {
    fn is_busy(&self) -> bool {
        self.recent >= BUSY
    }
}

impl<'a> Awake<'a> {
    fn new(seeds: Vec<(TorrentId, &'a RunningSeed)>, going: usize, max_running: usize) -> Awake<'a> {
        let mut of_network: HashMap<Network, (usize, usize)> = HashMap::new();
        for (_, seed) in &seeds {
            for network in &seed.networks {
                let (all, idle) = of_network.entry(*network).or_default();
                (*all, *idle) = (*all + 1, *idle + usize::from(!seed.is_busy()));
            }
        }
        let idle = seeds.iter().filter(|(_, seed)| !seed.is_busy()).count();
        let without_peers = seeds.iter().filter(|(_, seed)| seed.networks.is_empty()).count();
        let total = seeds.len() + going;
        Awake { seeds, of_network, without_peers, idle, total, max_running, given_up: HashSet::new() }
    }

    fn of(&self, network: &Network) -> (usize, usize) {
        self.of_network.get(network).copied().unwrap_or_default()
    }

    /// How many seeds run for the network that has the fewest of these. A network does not get more by helping others.
    fn share(&self, networks: &[Network]) -> usize {
        networks.iter().map(|network| self.of(network).0).min().unwrap_or(self.without_peers)
    }

    fn lack_of_room(&self, request: &PendingWake<'a>) -> Option<Lack<'a>> {
        let max_of_network = (self.max_running / 4).max(MAX_IDLE_OF_NETWORK);
        let may_have_more = |network: &Network| {
            let (all, idle) = self.of(network);
            all < max_of_network && idle < MAX_IDLE_OF_NETWORK
        };
        if !request.networks.is_empty() && !request.networks.iter().any(may_have_more) {
            Some(Lack::Network(request.networks))
        } else if self.total >= self.max_running {
            Some(Lack::Total)
        } else {
            (self.idle >= MAX_IDLE).then_some(Lack::Idle)
        }
    }

    fn add(&mut self, request: &PendingWake<'_>) {
        let networks: HashSet<&Network> = request.networks.iter().collect();
        self.without_peers += usize::from(networks.is_empty());
        for network in networks {
            let (all, idle) = self.of_network.entry(*network).or_default();
            (*all, *idle) = (*all + 1, *idle + 1);
        }
        (self.idle, self.total) = (self.idle + 1, self.total + 1);
    }

    /// The seed that makes room, if one can: first those that serve little, of these one of the networks that have the most
    /// seeds, and there the one that has sent the least.
    fn give_up(&mut self, lack: &Lack<'_>) -> Option<TorrentId> {
        let helps = |seed: &RunningSeed| match lack {
            Lack::Network(networks) => seed.networks.iter().any(|network| networks.contains(network)),
            Lack::Idle => !seed.is_busy(),
            Lack::Total => true,
        };
        let has_run = |seed: &RunningSeed| seed.runs_for >= if seed.is_busy() { MIN_RUN_BUSY } else { MIN_RUN };
        let may_end =
            |(id, seed): &&(TorrentId, &RunningSeed)| helps(seed) && has_run(seed) && !self.given_up.contains(id);
        let order = |(id, seed): &&(TorrentId, &RunningSeed)| {
            let share = if seed.alone_for.is_zero() { self.share(&seed.networks) } else { usize::MAX };
            (seed.is_busy(), Reverse(share), seed.recent, Reverse(seed.runs_for), *id)
        };
        let (id, seed) = *self.seeds.iter().filter(may_end).min_by_key(order)?;
        self.given_up.insert(id);
        for network in &seed.networks {
            if let Some((all, _)) = self.of_network.get_mut(network) {
                *all -= 1;
            }
        }
        Some(id)
    }
}

/// Takes the request whose network has the fewest seeds: networks take turns.
fn take_next<'a>(requests: &mut Vec<PendingWake<'a>>, awake: &Awake<'_>) -> Option<PendingWake<'a>> {
    let order = |(at, request): &(usize, &PendingWake<'_>)| (awake.share(request.networks), *at);
    let (at, _) = requests.iter().enumerate().min_by_key(order)?;
    Some(requests.remove(at))
}

#[cfg(test)]
mod tests;
