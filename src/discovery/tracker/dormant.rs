//! Announces many torrents that do not run, with a few threads: a service seeds thousands of torrents, but most of them have no
//! peers most of the time. [`schedule`] and [`dht_rotation`] decide what to announce when; this file has the threads.

mod dht_rotation;
mod schedule;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::discovery::tracker::announce::{
    Announce, AnnounceResponse, AnnouncedPayload, RegisteredTracker, TorrentIdentity, announced_port,
};
use crate::discovery::tracker::client::TrackerClient;
use crate::discovery::tracker::error::TrackerError;
use crate::net::route::Route;
use crate::types::InfoHash;
use dht_rotation::DhtRotation;
pub use schedule::{DormantId, DormantResult, DormantTracker, DormantTrackerStatus};
use schedule::{DormantJob, DormantSchedule};

/// The most threads.
const MAX_THREADS: usize = 4;
/// The time limit for an announce.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(15);
/// Upper bound on sleep, in case a deadline is missed.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// How long the end waits for the last announces.
const LAST_ANNOUNCES: Duration = Duration::from_millis(1800);
/// How many peers to ask for if they cannot connect to us.
const NUMWANT: u32 = 30;
/// The stack of a thread, which does HTTPS.
const STACK: usize = 512 * 1024;

/// What is announced of a torrent.
#[derive(Clone, Debug)]
pub struct DormantAnnounce {
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// Its identity, which should be that of its runs.
    pub identity: TorrentIdentity,
    /// Payload bytes since trackers were told that it started.
    pub payload: AnnouncedPayload,
    /// Bytes that are missing from the whole torrent; 0 for a seed.
    pub left: u64,
    /// Whether it is private (BEP 27).
    pub is_private: bool,
    /// The client name in HTTP requests, instead of btsync's own.
    pub user_agent: Option<Arc<str>>,
}

/// What the announces need of the client.
pub trait DormantClient: Send + Sync {
    /// Whether the torrent runs at present, and so announces itself. Called with the pool's lock held, so it must not drop the pool.
    fn is_running(&self, info_hash: InfoHash) -> bool;
    /// The port on which we accept connections.
    fn port(&self) -> Option<u16>;
    /// Announces a torrent in the DHT.
    fn announce_in_dht(&self, info_hash: InfoHash);
    /// Whether a peer on the internet has ever connected to us. If not, a seed has to dial peers.
    fn has_had_public_peer(&self) -> bool;
    /// A tracker has named peers that lack something of a torrent and cannot connect to us. Called without a lock.
    fn found_leechers(&self, info_hash: InfoHash, peers: &[SocketAddr]);
}

/// The torrents and the threads that announce them.
pub struct DormantPool {
    shared: Arc<PoolShared>,
}

struct PoolShared {
    state: Mutex<PoolState>,
    /// Signalled when there may be something to do.
    changed: Condvar,
    started: Instant,
    client: Box<dyn DormantClient>,
    route: Route,
    tracker_client: TrackerClient,
}

#[derive(Default)]
struct PoolState {
    schedule: DormantSchedule,
    dht: DhtRotation,
    threads: Vec<JoinHandle<()>>,
    /// How many threads run, and how many of them have nothing to do.
    running: usize,
    idle: usize,
    is_stopping: bool,
}

/// Something to do.
enum DormantTask {
    Announce(DormantJob),
    AnnounceInDht(InfoHash),
}

impl DormantPool {
    /// A pool without torrents and threads. Its announces take this route.
    pub fn new(route: Route, client: Box<dyn DormantClient>) -> DormantPool {
        let tracker_client = TrackerClient::on_route(&route, None, []);
        let (state, changed) = (Mutex::default(), Condvar::new());
        let started = Instant::now();
        DormantPool { shared: Arc::new(PoolShared { state, changed, started, client, route, tracker_client }) }
    }

    /// Announces a torrent to its trackers, by tier, from now on. With `uses_dht`, also
    /// in the DHT. `registered_at` is the tracker that has it in its swarm already.
    pub fn add(
        &self,
        torrent: DormantAnnounce,
        tiers: &[Vec<DormantTracker>],
        uses_dht: bool,
        registered_at: Option<&RegisteredTracker>,
    ) -> DormantId {
        self.change(|state, now| {
            let (info_hash, payload) = (torrent.info_hash, torrent.payload);
            let in_dht = uses_dht && !torrent.is_private;
            let id = state.schedule.add(torrent, tiers, now);
            if let Some(tracker) = registered_at {
                state.schedule.note_run_ended(id, Some(next_announce(tracker, now)), payload, now);
            }
            if in_dht {
                state.dht.add(id, info_hash, now);
            }
            id
        })
    }

    /// See [`DormantSchedule::remove`].
    pub fn remove(&self, id: DormantId, says_stopped: bool) {
        self.change(|state, _| {
            state.schedule.remove(id, says_stopped);
            state.dht.remove(id);
        });
    }

    /// See [`DormantSchedule::set_trackers`].
    pub fn set_trackers(&self, id: DormantId, tiers: &[Vec<DormantTracker>]) {
        self.change(|state, now| state.schedule.set_trackers(id, tiers, now));
    }

    /// See [`DormantSchedule::note_run_ended`].
    pub fn note_run_ended(&self, id: DormantId, registered_at: Option<&RegisteredTracker>, payload: AnnouncedPayload) {
        self.change(|state, now| {
            let registered = registered_at.map(|tracker| next_announce(tracker, now));
            state.schedule.note_run_ended(id, registered, payload, now);
        });
    }

    /// Announces a torrent as soon as its tracker allows. Returns how long that takes; `None` if it has no tracker.
    pub fn reannounce(&self, id: DormantId) -> Option<Duration> {
        self.change(|state, now| state.schedule.reannounce(id, now).map(|at| at.saturating_sub(now)))
    }

    /// The status of a torrent's trackers, and the time of the clock that it refers to.
    pub fn tracker_status(&self, id: DormantId) -> (Vec<DormantTrackerStatus>, Duration) {
        (self.shared.state.lock().schedule.tracker_status(id), self.shared.started.elapsed())
    }

    /// The tracker that has a torrent in its swarm.
    pub fn registered(&self, id: DormantId) -> Option<RegisteredTracker> {
        let now = self.shared.started.elapsed();
        let (url, due) = self.shared.state.lock().schedule.registered(id, now)?;
        Some(RegisteredTracker { url, next_announce_in: due.saturating_sub(now) })
    }

    /// Changes the state, and makes sure that there is a thread to act on it.
    fn change<T>(&self, change: impl FnOnce(&mut PoolState, Duration) -> T) -> T {
        let mut state = self.shared.state.lock();
        let result = change(&mut state, self.shared.started.elapsed());
        if state.running == 0 && !state.is_over() {
            PoolShared::start_thread(&self.shared, &mut state);
        }
        drop(state);
        self.shared.changed.notify_all();
        result
    }
}

impl Drop for DormantPool {
    fn drop(&mut self) {
        let deadline = Instant::now() + LAST_ANNOUNCES;
        let mut state = self.shared.state.lock();
        state.is_stopping = true;
        self.shared.changed.notify_all();
        // One of these threads may have held the last reference to the client.
        let own = std::thread::current().id();
        let is_own = state.threads.iter().any(|thread| thread.thread().id() == own);
        while state.running > 0 && !is_own && Instant::now() < deadline {
            self.shared.changed.wait_until(&mut state, deadline);
        }
        // A thread whose tracker is silent is left behind; it holds nothing but its socket.
        for thread in std::mem::take(&mut state.threads) {
            if state.running == 0 && !is_own {
                let _ = thread.join();
            }
        }
    }
}

impl PoolState {
    /// Whether the threads have nothing to do, now or later.
    fn is_over(&self) -> bool {
        let is_idle = if self.is_stopping { !self.schedule.has_stopped() } else { self.schedule.is_empty() };
        is_idle && (self.is_stopping || self.dht.is_empty())
    }

    fn next_task(&mut self, now: Duration, client: &dyn DormantClient) -> Option<DormantTask> {
        if self.is_stopping {
            return self.schedule.next_stopped(now).map(DormantTask::Announce);
        }
        if let Some(info_hash) = self.dht.next_torrent(now, |info_hash| client.is_running(info_hash)) {
            return Some(DormantTask::AnnounceInDht(info_hash));
        }
        self.schedule.next_job(now, |torrent| client.is_running(torrent.info_hash)).map(DormantTask::Announce)
    }

    /// How long to sleep if nothing happens.
    fn next_due(&self, now: Duration) -> Duration {
        let due = [self.schedule.next_due(now), self.dht.next_due()].into_iter().flatten().min();
        due.map_or(MAX_SLEEP, |due| due.saturating_sub(now).min(MAX_SLEEP))
    }
}

/// The URL of a tracker, and when to announce to it, by the pool's clock.
fn next_announce(tracker: &RegisteredTracker, now: Duration) -> (&str, Duration) {
    (&tracker.url, now.saturating_add(tracker.next_announce_in))
}

impl PoolShared {
    fn start_thread(this: &Arc<PoolShared>, state: &mut PoolState) {
        state.threads.retain(|thread| !thread.is_finished());
        let shared = this.clone();
        match Builder::new().name("dormant".into()).stack_size(STACK).spawn(move || PoolShared::work(&shared)) {
            Ok(thread) => {
                state.threads.push(thread);
                state.running += 1;
            }
            Err(error) => log::warn!("cannot start a thread to announce torrents: {error}"),
        }
    }

    /// What a thread does, until there is nothing to do or another thread waits already.
    fn work(this: &Arc<PoolShared>) {
        let mut state = this.state.lock();
        while let Some(task) = this.wait_for_task(&mut state) {
            // The task may take long, and the next one may be due at once: another thread looks.
            if matches!(task, DormantTask::Announce(_)) && state.idle == 0 && state.running < MAX_THREADS {
                PoolShared::start_thread(this, &mut state);
            }
            drop(state);
            this.run(task);
            state = this.state.lock();
        }
        state.running -= 1;
        drop(state);
        this.changed.notify_all();
    }

    /// Waits until there is something to do; `None` if the thread is not needed.
    fn wait_for_task(&self, state: &mut parking_lot::MutexGuard<'_, PoolState>) -> Option<DormantTask> {
        loop {
            let now = self.started.elapsed();
            if let Some(task) = state.next_task(now, &*self.client) {
                return Some(task);
            }
            if state.is_over() || state.idle > 0 {
                return None;
            }
            let sleep = state.next_due(now).max(Duration::from_millis(1));
            state.idle += 1;
            self.changed.wait_for(state, sleep);
            state.idle -= 1;
        }
    }

    fn run(&self, task: DormantTask) {
        match task {
            DormantTask::AnnounceInDht(info_hash) => self.client.announce_in_dht(info_hash),
            DormantTask::Announce(job) => {
                let announce = AssertUnwindSafe(|| self.announce(&job));
                let result =
                    catch_unwind(announce).unwrap_or_else(|_| Err(TrackerError::Other("internal error".into())));
                if let Err(error) = &result {
                    log::debug!("{}: {error}", crate::util::redact::public_name(&job.tracker.url));
                }
                let leechers = result.as_ref().ok().and_then(leechers).map(<[SocketAddr]>::to_vec);
                self.state.lock().schedule.finished(&job, result, self.started.elapsed());
                self.changed.notify_all();
                if let Some(peers) = leechers.filter(|_| job.id.is_some() && !self.client.has_had_public_peer()) {
                    self.client.found_leechers(job.torrent.info_hash, &peers);
                }
            }
        }
    }

    fn announce(&self, job: &DormantJob) -> Result<AnnounceResponse, TrackerError> {
        let (torrent, tracker) = (&job.torrent, &job.tracker);
        let announce = Announce {
            info_hash: torrent.info_hash,
            peer_id: torrent.identity.peer_id,
            port: announced_port(self.client.port().unwrap_or_default()),
            uploaded: torrent.payload.uploaded,
            downloaded: torrent.payload.downloaded,
            left: torrent.left,
            key: torrent.identity.key,
            numwant: if job.id.is_none() || self.client.has_had_public_peer() { 0 } else { NUMWANT },
            event: job.event,
            tracker_id: job.tracker_id.as_deref(),
        };
        let own;
        let client = if tracker.is_trusted || torrent.user_agent.is_some() {
            let trusted = tracker.is_trusted.then(|| tracker.url.to_string());
            own = TrackerClient::on_route(&self.route, torrent.user_agent.as_deref(), trusted);
            &own
        } else {
            &self.tracker_client
        };
        client.announce(&tracker.url, &announce, torrent.is_private, ANNOUNCE_DEADLINE, drop)
    }
}

/// The peers in a tracker's answer, if there are any that lack something.
fn leechers(answer: &AnnounceResponse) -> Option<&[SocketAddr]> {
    let most = usize::try_from(NUMWANT).unwrap_or(usize::MAX).min(answer.peers.len());
    answer.peers.get(..most).filter(|peers| !peers.is_empty() && answer.incomplete != Some(0))
}

#[cfg(test)]
mod tests;
