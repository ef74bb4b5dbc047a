//! Dormant seeds: the client announces them, and wakes the manager when one has to run. What decides is in
//! [`dormancy`](crate::service::dormancy).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::client::{DormantSeed, WakeFn, WakeReason};
use crate::discovery::tracker::announce::RegisteredTracker;
use crate::discovery::tracker::dormant::{DormantAnnounce, DormantTracker};
use crate::discovery::tracker::http::host_limit::limit_hosts;
use crate::net::networks::Network;
use crate::service::dormancy::{DormancyLimits, RunningSeed, SeedCandidate, SeedState, decide_dormancy, max_running};
use crate::service::goals;
use crate::service::manager::Manager;
use crate::service::manager::active_run::ActiveRun;
use crate::service::manager::managed_torrent::{DormantState, GoingDormant, ManagedState, ManagedTorrent, WakeRequest};
use crate::service::manager::reconcile::StartError;
use crate::service::messages::ManagerMessage;
use crate::service::model::{Problem, ProblemKind, TorrentId};
use crate::service::record::{DesiredState, TorrentRecord};
use crate::torrent::{Stage, TrackerState, TrackerView};
use crate::types::{Encryption, InfoHash};
use crate::util::descriptors;
use crate::util::printable_text::printable;
use crate::util::redact::public_name;

/// How often the manager reads the seeding time, the goals and the trackers of dormant seeds.
const DORMANT_TICK: Duration = Duration::from_secs(20);
/// How much seeding time of a dormant seed may be unsaved, in seconds.
const UNSAVED_SECONDS: u64 = 60 * 60;
/// The most peers that a seed is to dial once it has started.
const MAX_FOUND: usize = 100;

/// Which dormant seeds have to start, and when dormant seeds are read.
pub(super) struct DormantSeeds {
    /// The seeds that have to start, and why: one request for each at most. Threads of the client add to it.
    wake_requests: Arc<Mutex<BTreeMap<TorrentId, WakeReason>>>,
    /// How long a seed runs without peers.
    dormant_after: Duration,
    /// When the dormant seeds were last read.
    last_tick: Instant,
    /// When they are to be read next.
    next_tick: Instant,
}

impl DormantSeeds {
    /// A service that starts now; a seed runs for `dormant_after` without peers.
    pub fn new(dormant_after: Duration, now: Instant) -> DormantSeeds {
        DormantSeeds { wake_requests: Arc::default(), dormant_after, last_tick: now, next_tick: now }
    }

    /// Has the dormant seeds read at the next turn.
    pub fn read_soon(&mut self) {
        self.next_tick = Instant::now();
    }
}

/// What the client promises of a dormant seed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct DormantTerms {
    /// How many bytes it lacks.
    left: u64,
    /// Whether its connections are encrypted.
    encryption: Encryption,
}

impl Manager {
    /// Makes a complete torrent dormant. `registered_at` is the tracker that has it in its swarm.
    pub(super) fn make_dormant(
        &mut self,
        id: TorrentId,
        registered_at: Option<RegisteredTracker>,
        since: Option<(Instant, Instant)>,
    ) {
        let Some(terms) = self.torrents.get(&id).map(|torrent| self.terms(&torrent.record)) else { return };
        let Some(client) = self.client.current.clone() else { return };
        let wake = self.wake_fn(id);
        let Some(torrent) = self.torrents.get(&id) else { return };
        let payload = torrent.announced;
        let guard = match &torrent.guard {
            Some((guard, of)) if *of == terms => {
                guard.note_run_ended(registered_at.as_ref(), payload);
                guard.clone()
            }
            _ => {
                let tiers = match self.trackers_for_dormant(&torrent.record) {
                    Ok(tiers) => tiers,
                    Err(error) => return self.fail_start(id, &error),
                };
                let announce = DormantAnnounce {
                    info_hash: torrent.record.info_hash,
                    identity: torrent.identity,
                    payload,
                    left: terms.left,
                    is_private: torrent.record.metainfo.as_ref().is_none_or(|metainfo| metainfo.is_private),
                    user_agent: None,
                };
                let network = &self.settings.network;
                let seed = DormantSeed {
                    announce,
                    tiers,
                    uses_dht: network.uses_dht,
                    uses_lsd: network.uses_lsd,
                    encryption: terms.encryption,
                    registered_at,
                };
                Arc::new(client.register_dormant(seed, wake))
            }
        };
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let (last_payload_at, last_upload_at) = since.unwrap_or_else(|| (Instant::now(), Instant::now()));
        torrent.guard = Some((guard, terms));
        torrent.state =
            ManagedState::Dormant(Box::new(DormantState { last_payload_at, last_upload_at, wake_request: None }));
        torrent.is_known_complete = true;
        torrent.start_problem = None;
        torrent.changed_at = Instant::now();
        self.publish(id);
    }

    /// The trackers of a torrent for its dormant seed.
    pub(super) fn trackers_for_dormant(&self, record: &TorrentRecord) -> Result<Vec<Vec<DormantTracker>>, StartError> {
        let metainfo = self.read_metainfo(record)?;
        let own = limit_hosts(record.trackers.clone().unwrap_or_else(|| metainfo.tiers.clone()));
        let defaults = self.default_trackers(metainfo.is_private);
        let of_torrent = |url: &String| metainfo.tiers.iter().flatten().any(|known| known == url);
        let tracker = |url: &String| DormantTracker { url: url.as_str().into(), is_trusted: !of_torrent(url) };
        let tier = |tier: &Vec<String>| tier.iter().map(tracker).collect();
        Ok(own.iter().chain(defaults).map(tier).collect())
    }

    /// What the client would have to promise of a seed now.
    fn terms(&self, record: &TorrentRecord) -> DormantTerms {
        let left = record.progress.total.saturating_sub(record.progress.have);
        DormantTerms { left, encryption: self.settings.network.encryption }
    }

    /// The function that notes that a seed has to start.
    fn wake_fn(&self, id: TorrentId) -> WakeFn {
        let (wake_requests, to_manager) = (self.dormant.wake_requests.clone(), self.control.manager.clone());
        Arc::new(move |reason| {
            wake_requests.lock().insert(id, reason);
            // If the channel is full, the manager is awake anyway.
            let _ = to_manager.try_send(ManagerMessage::WakeRequested);
        })
    }

    /// Takes the requests to wake seeds. A seed that runs gets the peers.
    pub(super) fn take_wake_requests(&mut self) {
        let wake_requests = std::mem::take(&mut *self.dormant.wake_requests.lock());
        for (id, reason) in wake_requests {
            let Some(torrent) = self.torrents.get_mut(&id) else { continue };
            let (is_for_connection, mut peers, source) = match reason {
                WakeReason::Connection => (true, Vec::new(), None),
                WakeReason::Found(peers, source) => (false, peers, Some(source)),
            };
            peers.truncate(MAX_FOUND);
            let request = WakeRequest { since: Instant::now(), is_for_connection, peers, source };
            match &mut torrent.state {
                ManagedState::Dormant(dormant) => dormant.wake_request = Some(request),
                ManagedState::Stopping(run) => {
                    if let Some(going) = &mut run.going_dormant {
                        going.wake_request = Some(request);
                    }
                }
                ManagedState::Active(run) => run.add_found_peers(request),
                ManagedState::Idle | ManagedState::FileJob(_) => {}
            }
        }
    }

    /// Wakes and stops seeds as [`decide_dormancy`] says.
    pub(super) fn apply_dormancy(&mut self) {
        self.take_wake_requests();
        // Only now: whoever has requested to wake a seed waits already.
        let mut waiting = self.client.current.as_ref().map(|client| client.waiting_networks()).unwrap_or_default();
        let candidate = |torrent: &ManagedTorrent| Manager::seed_candidate(torrent, &waiting);
        let seeds: Vec<SeedCandidate> = self.torrents.values().filter_map(candidate).collect();
        if seeds.is_empty() {
            return;
        }
        let decision = decide_dormancy(&seeds, self.dormancy_limits(&seeds));
        for id in decision.expired {
            self.drop_wake_request(id);
        }
        for id in decision.to_make_dormant {
            self.stop_to_make_dormant(id);
        }
        let suffix = self.settings.renames_partial_files;
        for id in decision.to_wake {
            let Some(torrent) = self.torrents.get(&id) else { continue };
            let (spec, networks) = (torrent.spec(suffix), waiting.remove(&torrent.record.info_hash));
            self.start_run(id, spec);
            if let Some(run) = self.torrents.get_mut(&id).and_then(ManagedTorrent::active_mut) {
                run.networks = networks.unwrap_or_default();
                run.networks.sort_unstable();
                run.networks.dedup();
            }
        }
    }

    /// How many of these seeds may run: fewer than now if descriptors run out.
    fn dormancy_limits(&self, seeds: &[SeedCandidate]) -> DormancyLimits {
        let is_running = |seed: &&SeedCandidate| matches!(seed.state, SeedState::Running(_) | SeedState::GoingDormant);
        let running = seeds.iter().filter(is_running).count();
        let others = self.torrents.values().filter(|torrent| torrent.is_active()).count().saturating_sub(running);
        let most = max_running(descriptors::raise_limit(), others);
        let max_running = if descriptors::are_scarce() { most.min(running.saturating_sub(1)) } else { most };
        DormancyLimits { dormant_after: self.dormant.dormant_after, max_running }
    }

    /// A torrent as a candidate: it runs and can be dormant, or has to wake, or is going dormant. `waiting`: the networks whose
    /// connections wait for each.
    fn seed_candidate(torrent: &ManagedTorrent, waiting: &HashMap<InfoHash, Vec<Network>>) -> Option<SeedCandidate> {
        let state = match &torrent.state {
            ManagedState::Dormant(dormant) => {
                let request = dormant.wake_request.as_ref()?;
                SeedState::WakeRequested {
                    waits_for: request.since.elapsed(),
                    is_for_connection: request.is_for_connection,
                    networks: waiting.get(&torrent.record.info_hash).cloned().unwrap_or_default(),
                }
            }
            ManagedState::Stopping(run) if run.going_dormant.is_some() => SeedState::GoingDormant,
            // One that has just been woken counts, but is not told to stop before it seeds.
            ManagedState::Active(run) if torrent.can_be_dormant() && !run.spec.ends_after_check => {
                let since = |time: Instant| {
                    if run.snapshot.stage == Stage::Seeding { time.elapsed() } else { Duration::ZERO }
                };
                SeedState::Running(RunningSeed {
                    runs_for: since(run.started_at),
                    alone_for: since(run.alone_since),
                    recent: run.recently_sent(),
                    networks: run.networks.clone(),
                })
            }
            _ => return None,
        };
        Some(SeedCandidate { id: torrent.record.id, state })
    }

    /// The connection that waited has ended: the next one requests the start again.
    fn drop_wake_request(&mut self, id: TorrentId) {
        let wake = self.wake_fn(id);
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        if let ManagedState::Dormant(dormant) = &mut torrent.state {
            dormant.wake_request = None;
            torrent.clear_start_problem();
        }
        if let Some((guard, _)) = &torrent.guard {
            guard.rearm(wake);
        }
    }

    /// Tells a run to stop so that its seed becomes dormant; its trackers notice nothing.
    fn stop_to_make_dormant(&mut self, id: TorrentId) {
        let wake = self.wake_fn(id);
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let ManagedState::Active(mut run) = std::mem::replace(&mut torrent.state, ManagedState::Idle) else { return };
        run.going_dormant = Some(GoingDormant { registered_at: registered_tracker(&run), wake_request: None });
        run.handle.stop_quietly();
        torrent.state = ManagedState::Stopping(run);
        // From now on, so that no connection is lost that arrives while it stops.
        if let Some((guard, _)) = &torrent.guard {
            guard.rearm(wake);
        }
        log::debug!("torrent {}: becomes dormant, because it has no peers", id.0);
        self.publish(id);
    }

    /// A run has ended so that its seed becomes dormant.
    pub(super) fn finish_going_dormant(&mut self, id: TorrentId, run: ActiveRun) {
        let ActiveRun { going_dormant, last_payload_at, last_upload_at, .. } = run;
        let Some(GoingDormant { registered_at, wake_request }) = going_dormant else { return };
        self.make_dormant(id, registered_at, Some((last_payload_at, last_upload_at)));
        if let Some(torrent) = self.torrents.get_mut(&id)
            && let ManagedState::Dormant(dormant) = &mut torrent.state
        {
            dormant.wake_request = wake_request;
        }
    }

    /// Ends the dormancy of a seed that should run or do nothing, or changes its terms.
    pub(super) fn reconcile_dormant(&mut self, id: TorrentId, is_chosen: bool) {
        let Some(torrent) = self.torrents.get(&id) else { return };
        let ManagedState::Dormant(dormant) = &torrent.state else { return };
        let since = (dormant.last_payload_at, dormant.last_upload_at);
        let has_other_terms = torrent.guard.as_ref().is_none_or(|(_, terms)| *terms != self.terms(&torrent.record));
        if !is_chosen {
            self.end_dormancy(id);
        } else if !torrent.can_be_dormant() {
            let spec = torrent.spec(self.settings.renames_partial_files);
            self.start_run(id, spec);
        } else if has_other_terms {
            let before = torrent.announced_before();
            if let Some(torrent) = self.torrents.get_mut(&id) {
                torrent.guard = None;
            }
            self.make_dormant(id, before.registered_at, Some(since));
        }
    }

    /// A dormant seed stops. Trackers hear of it, unless it goes on as soon as the manager has done something.
    pub(super) fn end_dormancy(&mut self, id: TorrentId) {
        let goes_on = self.client.is_outdated;
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        if !matches!(torrent.state, ManagedState::Dormant(_)) {
            return;
        }
        (torrent.state, torrent.changed_at) = (ManagedState::Idle, Instant::now());
        torrent.is_known_complete &= goes_on;
        if goes_on {
            torrent.guard = None;
        } else {
            torrent.announce_stopped();
        }
        self.publish(id);
    }

    /// Counts the time of dormant seeds, and reads their goals and their trackers.
    pub(super) fn tick_dormant(&mut self) {
        let now = Instant::now();
        if now < self.dormant.next_tick {
            return;
        }
        self.dormant.next_tick = now + DORMANT_TICK;
        let elapsed = Duration::from_secs(self.dormant.last_tick.elapsed().as_secs());
        self.dormant.last_tick += elapsed;
        let (mut reached, mut ids) = (Vec::new(), Vec::new());
        for (id, torrent) in &mut self.torrents {
            let ManagedTorrent {
                record,
                state: ManagedState::Dormant(dormant),
                guard,
                problem,
                is_dirty,
                changed_at,
                ..
            } = torrent
            else {
                continue;
            };
            ids.push(*id);
            let unsaved = record.times.seeding / UNSAVED_SECONDS;
            record.times.seeding += elapsed.as_secs();
            *is_dirty |= record.times.seeding / UNSAVED_SECONDS != unsaved;
            let of_tracker = guard.as_ref().and_then(|(guard, _)| {
                let views: Vec<TrackerView> = guard.trackers().into_iter().map(TrackerView::from).collect();
                views.iter().find_map(tracker_problem)
            });
            if *problem != of_tracker {
                (*problem, *changed_at) = (of_tracker, Instant::now());
            }
            let (uploaded, size, idle) =
                (record.sums.uploaded, record.progress.wanted, dormant.last_upload_at.elapsed());
            if record.desired_state == DesiredState::Queued
                && goals::is_reached(&record.settings, &self.settings.seeding, uploaded, size, idle)
            {
                reached.push(*id);
            }
        }
        self.finish_seeds(&reached);
        for id in ids {
            self.publish(id);
        }
    }
}

/// The tracker that has a running torrent in its swarm.
fn registered_tracker(run: &ActiveRun) -> Option<RegisteredTracker> {
    let now = SystemTime::now();
    let registered = |view: TrackerView| {
        let has_us = match &view.last_result {
            Some(TrackerState::Answered { .. }) => true,
            Some(TrackerState::Failed { .. }) => false,
            None => run.registered_before.as_ref() == Some(&view.url),
        };
        let next = view.next_announce.filter(|_| has_us)?;
        Some(RegisteredTracker { url: view.url, next_announce_in: next.duration_since(now).unwrap_or_default() })
    };
    run.handle.trackers().into_iter().find_map(registered)
}

/// The last error or warning of a tracker.
fn tracker_problem(view: &TrackerView) -> Option<Problem> {
    let (kind, message) = match (view.last_result.as_ref()?, &view.warning) {
        (TrackerState::Failed { error }, _) => {
            (ProblemKind::TrackerError, format!("{}: {error}", public_name(&view.url)))
        }
        (TrackerState::Answered { .. }, Some(warning)) => (ProblemKind::TrackerWarning, warning.clone()),
        (TrackerState::Answered { .. }, None) => return None,
    };
    Some(Problem { kind, message: printable(&message) })
}
