//! Seeds that sleep: the client announces them as dormant seeds, and wakes the manager when one has to run. What decides is in
//! [`dormancy`](crate::service::dormancy).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::client::{DormantSeed, Wake, WakeCause};
use crate::discovery::tracker::announce::{AnnouncedBefore, AnnouncedPayload};
use crate::discovery::tracker::dormant::DormantAnnounce;
use crate::metainfo::Metainfo;
use crate::service::dormancy::{Seed, SeedState, decide};
use crate::service::goals;
use crate::service::manager::Manager;
use crate::service::manager::managed::{ActiveRun, Asleep, Call, FallsAsleep, Managed, Run};
use crate::service::messages::ManagerMessage;
use crate::service::model::{Problem, ProblemKind, SessionSums, TorrentId};
use crate::service::record::{DesiredState, TorrentRecord};
use crate::torrent::{Stage, TrackerState, TrackerView};
use crate::types::Encryption;
use crate::util::printable_text::printable;
use crate::util::redact::public_name;

/// How often sleeping seeds are looked at: their time, their goals and their trackers.
const SLEEPING_TICK: Duration = Duration::from_secs(20);
/// How much seeding time of a sleeping seed may be unsaved, in seconds.
const UNSAVED_SECONDS: u64 = 60 * 60;
/// The most peers that a seed is to dial once it has started.
const MAX_FOUND: usize = 100;

/// The seeds that have to start, and why: one call for each at most. Threads of the client add to it.
pub(super) type Calls = Arc<Mutex<BTreeMap<TorrentId, WakeCause>>>;

/// What the client promises of a sleeping seed: how many bytes it lacks, and whether its connections are encrypted.
pub(super) type SeedTerms = (u64, Encryption);

impl Manager {
    /// Lets a complete torrent sleep. `known` is the tracker that counts on it, and the time until the next announce.
    pub(super) fn fall_asleep(
        &mut self,
        id: TorrentId,
        known: Option<(String, Duration)>,
        since: Option<(Instant, Instant)>,
    ) {
        let Some(terms) = self.torrents.get(&id).map(|torrent| self.terms(&torrent.record)) else { return };
        let Some(client) = self.client.clone() else { return };
        let wake = self.wake(id);
        let Some(torrent) = self.torrents.get(&id) else { return };
        let payload = torrent.announced;
        let guard = match &torrent.guard {
            Some((guard, of)) if *of == terms => {
                guard.has_run(known.as_ref().map(|(url, wait)| (url.as_str(), *wait)), payload);
                guard.clone()
            }
            _ => {
                let tiers = match self.own_tiers(&torrent.record) {
                    Ok(tiers) => tiers,
                    Err(why) => return self.fail(id, ProblemKind::Local, &why),
                };
                let announce = DormantAnnounce {
                    info_hash: torrent.record.info_hash,
                    identity: torrent.identity,
                    payload,
                    left: terms.0,
                    is_private: torrent.record.facts.as_ref().is_none_or(|facts| facts.is_private),
                    user_agent: None,
                };
                let network = &self.settings.network;
                let seed =
                    DormantSeed { announce, tiers, dht: network.dht, lsd: network.lsd, encryption: terms.1, known };
                Arc::new(client.register_dormant(seed, wake))
            }
        };
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let (moved, sent) = since.unwrap_or_else(|| (Instant::now(), Instant::now()));
        torrent.guard = Some((guard, terms));
        torrent.run = Run::Asleep(Box::new(Asleep { moved, sent, call: None }));
        torrent.is_known_complete = true;
        torrent.changed = Instant::now();
        self.publish(id);
    }

    /// The trackers of a torrent for its dormant seed, each with whether the user named it.
    pub(super) fn own_tiers(&self, record: &TorrentRecord) -> Result<Vec<Vec<(String, bool)>>, String> {
        let path = self.state.torrent_file(record.info_hash);
        let metainfo = Metainfo::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let own = record.trackers.as_ref().unwrap_or(&metainfo.tiers);
        let defaults = if metainfo.private { &[][..] } else { &self.settings.default_trackers[..] };
        let of_torrent = |url: &String| metainfo.tiers.iter().flatten().any(|known| known == url);
        let tier = |tier: &Vec<String>| tier.iter().map(|url| (url.clone(), !of_torrent(url))).collect();
        Ok(own.iter().chain(defaults).map(tier).collect())
    }

    /// What the client would have to promise of a seed now.
    fn terms(&self, record: &TorrentRecord) -> SeedTerms {
        (record.progress.total.saturating_sub(record.progress.have), self.settings.network.encryption)
    }

    /// The function that notes that a seed has to start.
    fn wake(&self, id: TorrentId) -> Wake {
        let (calls, inbox) = (self.calls.clone(), self.shared.inbox.clone());
        Arc::new(move |cause| {
            calls.lock().insert(id, cause);
            // If the inbox is full, the manager is awake anyway.
            let _ = inbox.try_send(ManagerMessage::Called);
        })
    }

    /// Takes over why seeds have to start. A seed that runs gets the peers.
    pub(super) fn take_calls(&mut self) {
        let calls = std::mem::take(&mut *self.calls.lock());
        for (id, cause) in calls {
            let Some(torrent) = self.torrents.get_mut(&id) else { continue };
            let (by_connection, mut peers, source) = match cause {
                WakeCause::Connection => (true, Vec::new(), None),
                WakeCause::Found(peers, source) => (false, peers, Some(source)),
            };
            peers.truncate(MAX_FOUND);
            let call = Call { since: Instant::now(), by_connection, peers, source };
            match &mut torrent.run {
                Run::Asleep(asleep) => asleep.call = Some(call),
                Run::Stopping(run) => {
                    if let Some(falls) = &mut run.falls_asleep {
                        falls.call = Some(call);
                    }
                }
                Run::Active(run) => run.add_found_peers(call),
                Run::Idle | Run::FileJob(_) => {}
            }
        }
    }

    /// Wakes and stops seeds as [`decide`] says.
    pub(super) fn follow_calls(&mut self) {
        self.take_calls();
        let seeds: Vec<Seed> = self.torrents.values().filter_map(Manager::seed).collect();
        if seeds.is_empty() {
            return;
        }
        let decision = decide(&seeds, self.patience);
        for id in decision.forgets {
            self.forget_call(id);
        }
        for id in decision.sleeps {
            self.stop_to_sleep(id);
        }
        let suffix = self.settings.renames_partial_files;
        for id in decision.wakes {
            let Some(spec) = self.torrents.get(&id).map(|torrent| torrent.spec(suffix)) else { continue };
            self.start_run(id, spec);
        }
    }

    /// A torrent as a seed, if it may sleep and is not just sleeping.
    fn seed(torrent: &Managed) -> Option<Seed> {
        let state = match &torrent.run {
            Run::Asleep(asleep) => {
                let call = asleep.call.as_ref()?;
                SeedState::Called { waits_for: call.since.elapsed(), by_connection: call.by_connection }
            }
            Run::Stopping(run) if run.falls_asleep.is_some() => SeedState::FallingAsleep,
            // One that has just been woken counts, but is not told to stop before it seeds.
            Run::Active(run) if torrent.may_sleep() && !run.spec.ends_after_check => {
                let since = |time: Instant| {
                    if run.snapshot.stage == Stage::Seeding { time.elapsed() } else { Duration::ZERO }
                };
                SeedState::Awake {
                    runs_for: since(run.since),
                    alone_for: since(run.alone_since),
                    is_busy: run.is_busy(),
                }
            }
            _ => return None,
        };
        Some(Seed { id: torrent.record.id, state })
    }

    /// Whoever called has gone: the next connection calls again.
    fn forget_call(&mut self, id: TorrentId) {
        let wake = self.wake(id);
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        if let Run::Asleep(asleep) = &mut torrent.run {
            asleep.call = None;
        }
        if let Some((guard, _)) = &torrent.guard {
            guard.rearm(wake);
        }
    }

    /// Tells a run to stop so that its seed sleeps; its trackers notice nothing.
    fn stop_to_sleep(&mut self, id: TorrentId) {
        let wake = self.wake(id);
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let Run::Active(mut run) = std::mem::replace(&mut torrent.run, Run::Idle) else { return };
        run.falls_asleep = Some(FallsAsleep { known: known_tracker(&run), call: None });
        run.handle.stop_quietly();
        torrent.run = Run::Stopping(run);
        // From now on, so that no connection is lost that arrives while it stops.
        if let Some((guard, _)) = &torrent.guard {
            guard.rearm(wake);
        }
        log::debug!("torrent {}: sleeps, because it has no peers", id.0);
        self.publish(id);
    }

    /// A run has ended so that its seed sleeps.
    pub(super) fn end_run_asleep(&mut self, id: TorrentId, run: ActiveRun) {
        let ActiveRun { falls_asleep, moved, sent, .. } = run;
        let Some(FallsAsleep { known, call }) = falls_asleep else { return };
        self.fall_asleep(id, known, Some((moved, sent)));
        if let Some(torrent) = self.torrents.get_mut(&id)
            && let Run::Asleep(asleep) = &mut torrent.run
        {
            asleep.call = call;
        }
    }

    /// What a sleeping seed does that should sleep no more, or on other terms.
    pub(super) fn reconcile_asleep(&mut self, id: TorrentId, is_chosen: bool) {
        let Some(torrent) = self.torrents.get(&id) else { return };
        let Run::Asleep(asleep) = &torrent.run else { return };
        let since = (asleep.moved, asleep.sent);
        let has_other_terms = torrent.guard.as_ref().is_none_or(|(_, terms)| *terms != self.terms(&torrent.record));
        if !is_chosen {
            self.end_sleep(id);
        } else if !torrent.may_sleep() {
            let spec = torrent.spec(self.settings.renames_partial_files);
            self.start_run(id, spec);
        } else if has_other_terms {
            let known = torrent.guard.as_ref().and_then(|(guard, _)| guard.announced(torrent.announced).known);
            if let Some(torrent) = self.torrents.get_mut(&id) {
                torrent.guard = None;
            }
            self.fall_asleep(id, known, Some(since));
        }
    }

    /// A sleeping seed stops. Trackers hear of it, unless it goes on as soon as the manager has done something.
    pub(super) fn end_sleep(&mut self, id: TorrentId) {
        let goes_on = self.replaces_client;
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        if !matches!(torrent.run, Run::Asleep(_)) {
            return;
        }
        (torrent.run, torrent.changed) = (Run::Idle, Instant::now());
        torrent.is_known_complete &= goes_on;
        if goes_on {
            torrent.guard = None;
        } else {
            torrent.end_guard();
        }
        self.publish(id);
    }

    /// Counts the time of sleeping seeds, and looks at their goals and their trackers.
    pub(super) fn read_sleeping(&mut self) {
        let now = Instant::now();
        if now < self.sleeping_due {
            return;
        }
        self.sleeping_due = now + SLEEPING_TICK;
        let elapsed = Duration::from_secs(self.looked_at_sleeping.elapsed().as_secs());
        self.looked_at_sleeping += elapsed;
        let (mut reached, mut sleeping) = (Vec::new(), Vec::new());
        for (id, torrent) in &mut self.torrents {
            let Managed { record, run: Run::Asleep(asleep), guard, tracker_problem, is_dirty, changed, .. } = torrent
            else {
                continue;
            };
            sleeping.push(*id);
            let unsaved = record.times.seeding / UNSAVED_SECONDS;
            record.times.seeding += elapsed.as_secs();
            *is_dirty |= record.times.seeding / UNSAVED_SECONDS != unsaved;
            let problem = guard.as_ref().and_then(|(guard, _)| {
                let views: Vec<TrackerView> = guard.trackers().into_iter().map(TrackerView::from).collect();
                views.iter().find_map(problem_of)
            });
            if *tracker_problem != problem {
                (*tracker_problem, *changed) = (problem, Instant::now());
            }
            let (uploaded, size, idle) = (record.sums.uploaded, record.progress.wanted, asleep.sent.elapsed());
            if record.desired_state == DesiredState::Queued
                && goals::is_reached(&record.settings, &self.settings.seeding, uploaded, size, idle)
            {
                reached.push(*id);
            }
        }
        self.finish_seeds(&reached);
        for id in sleeping {
            self.publish(id);
        }
    }
}

impl Managed {
    /// Whether it may sleep while it is to run: everything wanted is complete, and no check was asked for.
    pub fn may_sleep(&self) -> bool {
        self.is_complete() && self.record.facts.is_some() && !self.record.may_overwrite && self.wants_to_run()
    }

    /// What trackers know of it.
    pub fn announced_before(&self) -> AnnouncedBefore {
        let payload = self.announced;
        let nothing = || AnnouncedBefore { payload, known: None };
        self.guard.as_ref().map_or_else(nothing, |(guard, _)| guard.announced(payload))
    }

    /// A run has ended: takes over its figures, also into those of the session.
    pub fn take_figures(&mut self, mut run: ActiveRun, session: &mut SessionSums) -> ActiveRun {
        run.read();
        let (before, sums) = (self.record.sums, run.sums());
        session.downloaded = session.downloaded.saturating_add(sums.downloaded.saturating_sub(before.downloaded));
        session.uploaded = session.uploaded.saturating_add(sums.uploaded.saturating_sub(before.uploaded));
        self.announced.uploaded = self.announced.uploaded.saturating_add(run.snapshot.uploaded);
        self.announced.downloaded = self.announced.downloaded.saturating_add(run.snapshot.downloaded);
        (self.record.sums, self.changed) = (sums, Instant::now());
        run
    }

    /// A run has ended, and has told trackers that it stops if it got that far.
    pub fn forget_guard(&mut self, run: &ActiveRun, is_regular: bool) {
        if is_regular && !run.handle.trackers().is_empty() {
            (self.guard, self.announced) = (None, AnnouncedPayload::default());
        } else {
            self.end_guard();
        }
    }

    /// It is a seed no more: the tracker that counts on it hears that it stops.
    pub fn end_guard(&mut self) {
        if let Some((guard, _)) = self.guard.take() {
            guard.stop();
        }
        self.announced = AnnouncedPayload::default();
    }
}

/// The tracker that counts on a running torrent, and the time until the next announce to it.
fn known_tracker(run: &ActiveRun) -> Option<(String, Duration)> {
    let now = SystemTime::now();
    let known = |view: TrackerView| {
        let counts = match &view.last_result {
            Some(TrackerState::Answered { .. }) => true,
            Some(TrackerState::Failed { .. }) => false,
            None => run.known_tracker.as_ref() == Some(&view.url),
        };
        let next = view.next_announce.filter(|_| counts)?;
        Some((view.url, next.duration_since(now).unwrap_or_default()))
    };
    run.handle.trackers().into_iter().find_map(known)
}

/// The last error or warning of a tracker.
fn problem_of(view: &TrackerView) -> Option<Problem> {
    let (kind, message) = match (view.last_result.as_ref()?, &view.warning) {
        (TrackerState::Failed { error }, _) => {
            (ProblemKind::TrackerError, format!("{}: {error}", public_name(&view.url)))
        }
        (TrackerState::Answered { .. }, Some(warning)) => (ProblemKind::TrackerWarning, warning.clone()),
        (TrackerState::Answered { .. }, None) => return None,
    };
    Some(Problem { kind, message: printable(&message) })
}
