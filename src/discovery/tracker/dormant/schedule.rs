//! Decides when to announce which of many torrents that do not run to which of its trackers. Pure: no clock, no I/O.
//!
//! A round of a torrent tries its trackers in order, tier by tier, until one answers (BEP 12); the next round is due at that
//! tracker's interval. If none answers, the next round waits for a back-off. A host that does not answer is left alone for a while,
//! for all torrents together, so that thousands of torrents of a dead tracker do not keep the few threads busy. At most two
//! announces to a host are under way.

mod hosts;
mod results;
mod stopped;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::discovery::tracker::announce::{AnnounceEvent, AnnouncedPayload};
use crate::discovery::tracker::client::is_supported;
use crate::discovery::tracker::dormant::DormantAnnounce;
use crate::discovery::tracker::error::TrackerError;
use hosts::Hosts;
use stopped::RegisteredAt;

/// The most trackers of a torrent that are used.
const MAX_TRACKERS: usize = 32;
/// How many torrents whose host is busy are passed over in one call, to find one whose host is not. The end of an announce to such a
/// host leads to another call.
const MAX_PASSED: usize = 2000;
/// The minimum time between two announces if the tracker names none.
const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(60);
/// How long a torrent that runs is left alone before it is looked at again.
const RUNNING_PAUSE: Duration = Duration::from_secs(60);
/// The number of a torrent.
pub type DormantId = u64;

/// An announce to make.
#[derive(Clone, Debug)]
pub struct DormantJob {
    /// The torrent, unless it has been removed with `stopped` as its last word.
    pub id: Option<DormantId>,
    /// What is announced.
    pub torrent: Arc<DormantAnnounce>,
    /// The tracker.
    pub tracker: Arc<DormantTracker>,
    /// The event, if any.
    pub event: Option<AnnounceEvent>,
    /// The last `tracker id` that the tracker sent.
    pub tracker_id: Option<Box<[u8]>>,
}

/// A tracker of dormant torrents. All torrents that have it share its URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DormantTracker {
    /// The URL.
    pub url: Box<str>,
    /// Whether it is the user's own, so that it may lead to any local address.
    pub is_trusted: bool,
}

/// What is known of the last announce of a torrent.
#[derive(Clone, Debug)]
pub struct DormantResult {
    /// When it ended.
    pub at: SystemTime,
    /// The number of peers in the answer, or why there was none.
    pub peers: Result<usize, TrackerError>,
    /// The number of seeds.
    pub seeds: Option<u32>,
    /// The number of leechers.
    pub leechers: Option<u32>,
    /// The tracker's warning.
    pub warning: Option<String>,
}

/// The status of one tracker of a dormant torrent. Times are those of the schedule's clock.
#[derive(Clone, Debug)]
pub struct DormantTrackerStatus {
    /// The tracker's URL.
    pub url: String,
    /// Its tier, from 0.
    pub tier: u32,
    /// Whether an announce is under way.
    pub is_announcing: bool,
    /// The last announce, if it was to this tracker.
    pub last: Option<DormantResult>,
    /// When the next announce is due, if it goes to this tracker.
    pub next: Option<Duration>,
    /// When the torrent may be announced at the earliest, if the user asks for that.
    pub earliest: Option<Duration>,
}

/// A torrent. About half a kilobyte, with a few trackers.
struct Entry {
    torrent: Arc<DormantAnnounce>,
    /// The trackers in order, each with its tier.
    trackers: Box<[(Arc<DormantTracker>, u32)]>,
    /// Which of them the round tries next.
    next: usize,
    /// Trackers that are not to be contacted again, a bit each.
    refused: u32,
    /// The one that has accepted `started`.
    registered: Option<usize>,
    tracker_id: Option<Box<[u8]>>,
    /// When the round starts or continues.
    due: Duration,
    /// The earliest time of an announce that the user asks for.
    earliest: Duration,
    /// What a tracker that failed in this round asked for.
    retry_at: Duration,
    /// Consecutive rounds in which no tracker answered.
    failures: u32,
    in_flight: Option<usize>,
    last: Option<(usize, Box<DormantResult>)>,
}

/// See the module's documentation.
#[derive(Default)]
pub struct DormantSchedule {
    entries: HashMap<DormantId, Entry>,
    next_id: DormantId,
    /// The torrents that wait, in the order in which they are due.
    due: BTreeSet<(Duration, DormantId)>,
    stopped: VecDeque<DormantJob>,
    /// Announces of `stopped` by the torrent's former number. They wait until the announce that is under way ends, because the tracker
    /// would count the torrent again if it got `stopped` first. A `None` as the tracker: none had accepted `started`.
    waiting_to_stop: HashMap<DormantId, (Arc<DormantAnnounce>, Option<RegisteredAt>)>,
    trackers: HashSet<Arc<DormantTracker>>,
    hosts: Hosts,
    rng: fastrand::Rng,
}

impl Entry {
    fn may_use(&self, tracker: usize) -> bool {
        tracker < self.trackers.len() && self.refused & (1 << tracker) == 0
    }

    /// The first tracker that may be used, from this one on.
    fn usable_from(&self, from: usize) -> Option<usize> {
        (from..self.trackers.len()).find(|tracker| self.may_use(*tracker))
    }
}

impl DormantSchedule {
    /// Adds a torrent, which is announced at once.
    pub fn add(&mut self, torrent: DormantAnnounce, tiers: &[Vec<DormantTracker>], now: Duration) -> DormantId {
        let entry = Entry {
            torrent: Arc::new(torrent),
            registered: None,
            trackers: self.interned(tiers),
            next: 0,
            refused: 0,
            tracker_id: None,
            due: now,
            earliest: now,
            retry_at: Duration::ZERO,
            failures: 0,
            in_flight: None,
            last: None,
        };
        let id = self.next_id;
        self.next_id += 1;
        if !entry.trackers.is_empty() {
            self.due.insert((entry.due, id));
        }
        self.entries.insert(id, entry);
        id
    }

    /// Records that the torrent has run and has ended. `registered` is the tracker that still has it in its swarm, and when the next
    /// announce to it is due; `None` if no tracker has. `payload` is that of the whole time.
    pub fn note_run_ended(
        &mut self,
        id: DormantId,
        registered: Option<(&str, Duration)>,
        payload: AnnouncedPayload,
        now: Duration,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        Arc::make_mut(&mut entry.torrent).payload = payload;
        self.due.remove(&(entry.due, id));
        let place = |url: &str| entry.trackers.iter().position(|(tracker, _)| *tracker.url == *url);
        let registered = registered.and_then(|(url, due)| Some((place(url)?, due)));
        entry.registered = registered.map(|(at, _)| at);
        entry.due = registered.map_or(now, |(_, due)| due.max(now));
        entry.earliest = entry.due.min(now.saturating_add(DEFAULT_MIN_INTERVAL));
        (entry.next, entry.failures, entry.retry_at, entry.tracker_id) = (0, 0, Duration::ZERO, None);
        if entry.in_flight.is_none() && entry.usable_from(0).is_some() {
            self.due.insert((entry.due, id));
        }
    }

    /// Replaces a torrent's trackers. One that stays and knows the torrent keeps doing so.
    pub fn set_trackers(&mut self, id: DormantId, tiers: &[Vec<DormantTracker>], now: Duration) {
        let trackers = self.interned(tiers);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let known = entry.registered.and_then(|at| entry.trackers.get(at)).map(|(tracker, _)| tracker.url.clone());
        let place = |url: &str| trackers.iter().position(|(tracker, _)| *tracker.url == *url);
        let registered = known.and_then(|url| place(&url));
        self.due.remove(&(entry.due, id));
        if registered.is_none() {
            (entry.due, entry.earliest, entry.tracker_id) = (now, Duration::ZERO, None);
        }
        (entry.registered, entry.trackers, entry.last) = (registered, trackers, None);
        (entry.next, entry.refused, entry.failures, entry.retry_at) = (0, 0, 0, Duration::ZERO);
        let is_asked = entry.in_flight.is_some();
        entry.in_flight = None; // its result counts no more
        if is_asked {
            entry.due = now.saturating_add(DEFAULT_MIN_INTERVAL);
        }
        if !entry.trackers.is_empty() {
            self.due.insert((entry.due, id));
        }
        self.forget_unused_trackers();
    }

    /// Announces the torrent as soon as its tracker allows. Returns when that is.
    pub fn reannounce(&mut self, id: DormantId, now: Duration) -> Option<Duration> {
        let entry = self.entries.get_mut(&id).filter(|entry| entry.usable_from(0).is_some())?;
        let at = entry.earliest.max(now);
        if entry.in_flight.is_none() && at < entry.due {
            self.due.remove(&(entry.due, id));
            entry.due = at;
            self.due.insert((at, id));
        }
        Some(at)
    }

    /// The status of a torrent's trackers.
    pub fn tracker_status(&self, id: DormantId) -> Vec<DormantTrackerStatus> {
        let Some(entry) = self.entries.get(&id) else { return Vec::new() };
        let next = entry.usable_from(entry.next).or_else(|| entry.usable_from(0));
        let fact = |(at, (tracker, tier)): (usize, &(Arc<DormantTracker>, u32))| DormantTrackerStatus {
            url: tracker.url.to_string(),
            tier: *tier,
            is_announcing: entry.in_flight == Some(at),
            last: entry.last.as_ref().filter(|(of, _)| *of == at).map(|(_, last)| (**last).clone()),
            next: (next == Some(at) && entry.in_flight.is_none()).then_some(entry.due),
            earliest: entry.may_use(at).then_some(entry.earliest),
        };
        entry.trackers.iter().enumerate().map(fact).collect()
    }

    /// The tracker that has a torrent in its swarm, and when the next announce is due.
    pub fn registered(&self, id: DormantId, now: Duration) -> Option<(String, Duration)> {
        let entry = self.entries.get(&id)?;
        let (tracker, _) = entry.trackers.get(entry.registered?)?;
        let due = if entry.in_flight.is_some() { now.saturating_add(DEFAULT_MIN_INTERVAL) } else { entry.due.max(now) };
        Some((tracker.url.to_string(), due))
    }

    /// The number of torrents.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing to do, now or later.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.has_stopped()
    }

    /// When the next torrent becomes due after `now`. Those that are due wait for an announce to the same host to end.
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        self.due.range((now, DormantId::MAX)..).next().map(|(due, _)| *due)
    }

    /// The next announce to make, if one is due. The caller must report its result with [`DormantSchedule::finished`]. `runs` says
    /// whether a torrent runs at present, and so announces itself.
    pub fn next_job(&mut self, now: Duration, runs: impl Fn(&DormantAnnounce) -> bool) -> Option<DormantJob> {
        if let Some(job) = self.next_stopped(now) {
            return Some(job);
        }
        let mut passed = 0;
        let mut from = (Duration::ZERO, 0);
        while let Some(&(due, id)) = self.due.range(from..).next()
            && due <= now
            && passed < MAX_PASSED
        {
            from = (due, id + 1);
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            if runs(&entry.torrent) {
                self.delay(id, now.saturating_add(RUNNING_PAUSE));
                continue;
            }
            let Some(at) = entry.usable_from(entry.next) else {
                self.end_round(id, now);
                continue;
            };
            let Some((tracker, _)) = entry.trackers.get(at).cloned() else { continue };
            if let Some(until) = self.hosts.down_until(&tracker.url, now) {
                entry.retry_at = if entry.retry_at.is_zero() { until } else { entry.retry_at.min(until) };
                entry.next = at + 1;
                from = (due, id); // its next tracker
                continue;
            }
            if !self.hosts.may_ask(&tracker.url, now) {
                passed += 1; // busy: another announce to it ends soon
                continue;
            }
            self.hosts.asked(&tracker.url);
            self.due.remove(&(due, id));
            (entry.in_flight, entry.next) = (Some(at), at);
            let is_registered = entry.registered == Some(at);
            let is_partial = entry.torrent.left > 0;
            return Some(DormantJob {
                id: Some(id),
                torrent: entry.torrent.clone(),
                tracker,
                event: if is_registered {
                    is_partial.then_some(AnnounceEvent::Paused) // BEP 21
                } else {
                    Some(AnnounceEvent::Started)
                },
                tracker_id: entry.tracker_id.clone().filter(|_| is_registered),
            });
        }
        None
    }

    fn delay(&mut self, id: DormantId, due: Duration) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.due.remove(&(entry.due, id));
        entry.due = due;
        self.due.insert((due, id));
    }

    /// The trackers in order, without repetitions and those that btsync does not support. URLs are kept once for all torrents.
    fn interned(&mut self, tiers: &[Vec<DormantTracker>]) -> Box<[(Arc<DormantTracker>, u32)]> {
        let mut all: Vec<(Arc<DormantTracker>, u32)> = Vec::new();
        for (tier, number) in tiers.iter().zip(0..) {
            let mut order: Vec<&DormantTracker> = tier.iter().collect();
            self.rng.shuffle(&mut order);
            for DormantTracker { url, is_trusted } in order {
                let url = url.trim();
                if is_supported(url) && all.len() < MAX_TRACKERS && all.iter().all(|(known, _)| *known.url != *url) {
                    let tracker = DormantTracker { url: url.into(), is_trusted: *is_trusted };
                    let tracker = self.trackers.get(&tracker).cloned().unwrap_or_else(|| Arc::new(tracker));
                    self.trackers.insert(tracker.clone());
                    all.push((tracker, number));
                }
            }
        }
        all.into_boxed_slice()
    }

    /// Forgets URLs that no torrent has any more, once there are many.
    fn forget_unused_trackers(&mut self) {
        if self.trackers.len() > 64 && self.trackers.len() > 4 * self.entries.len() {
            self.trackers.retain(|tracker| Arc::strong_count(tracker) > 1);
        }
    }
}

#[cfg(test)]
mod tests;
