//! Decides when to announce to which of a torrent's trackers: the tiers of BEP 12, intervals, back-off, and which events each
//! tracker gets. Pure: no clock, no I/O; the caller passes the time as a [`Duration`] since the torrent started.
//!
//! Announces happen in *rounds*. A round tries the trackers in order, tier by tier, until one responds. That tracker moves to the
//! front of its tier, and the next round starts at the first tier again. If a tracker has not responded after a few seconds, the
//! round also tries the next one, and still accepts a late response. Thus a list of dead trackers delays an announce by seconds,
//! not minutes: by one second each while the torrent knows no peer. The caller loops over [`AnnounceList::next_due`],
//! [`AnnounceList::next_job`] and, for each job, [`AnnounceList::answered`] or [`AnnounceList::failed`].
//!
//! Beyond BEP 12: while the torrent needs peers, a round continues after a response without new peers, and every tracker that
//! accepted `started` gets announces at its own interval. A private torrent (BEP 27) announces to one tracker at a time, and to
//! the next only when that one fails.

mod answers;
mod changes;
mod rounds;
mod tracker;

use std::collections::HashSet;
use std::time::Duration;

use crate::discovery::tracker::announce::AnnounceEvent;
use crate::discovery::tracker::client::is_supported;
pub(crate) use answers::backoff;
pub use changes::TrackerFacts;
use tracker::Tracker;
pub(crate) use tracker::{SHORTEST_INTERVAL, has_private_address};

#[cfg(test)]
mod tests;

/// The most trackers kept per torrent.
const MAX_TRACKERS: usize = 200;
/// The delay after the first round in which every tracker failed; doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(15);

/// An announce to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceJob {
    /// The tracker's URL.
    pub url: String,
    /// The last `tracker id` that the tracker sent.
    pub tracker_id: Option<Vec<u8>>,
    /// The event, if any.
    pub event: Option<AnnounceEvent>,
}

/// A tracker's terms for the next announce, from its response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceTerms {
    /// The time until the next regular announce.
    pub interval: Duration,
    /// The minimum time until the next announce.
    pub min_interval: Option<Duration>,
    /// The `tracker id`, to be sent with the next announce.
    pub tracker_id: Option<Vec<u8>>,
}

/// A job in flight.
#[derive(Debug)]
struct PendingJob {
    job: AnnounceJob,
    /// Whether the job belongs to a round, so that the round waits for it.
    is_in_round: bool,
}

/// The trackers of one torrent and their announce schedule.
#[derive(Debug)]
pub struct AnnounceList {
    /// The trackers of each tier, in the order in which they are asked.
    tiers: Vec<Vec<Tracker>>,
    unsupported: Vec<String>,
    rng: fastrand::Rng,
    /// Whether to announce to one tracker at a time, as a private torrent must.
    asks_one_at_a_time: bool,
    demand: PeerDemand,
    /// When the next round starts, or the current one continues.
    due: Duration,
    /// The earliest start of a round without an event.
    earliest: Duration,
    phase: RoundPhase,
    /// When the next round starts, once a tracker has responded in this one.
    next_round: Option<Duration>,
    in_flight: Vec<PendingJob>,
    /// When the last job of the round started.
    last_started: Duration,
    /// Consecutive rounds in which no tracker responded.
    failures: u32,
    /// Whether the download completed since the torrent started.
    is_complete: bool,
}

/// How urgently the torrent needs peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerDemand {
    None,
    /// It needs peers, so a round continues after a response without new peers.
    More,
    /// It needs peers and has no candidates to connect to.
    Urgent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoundPhase {
    /// Waiting until a round is due.
    Waiting,
    /// A round is in progress; its trackers are marked as tried.
    Round,
    /// [`AnnounceList::stop_jobs`] was called.
    Stopped,
}

impl AnnounceList {
    /// Creates the schedule for the trackers of `announce-list` (or `announce` as a single tier), shuffled within each tier
    /// (BEP 12). Keeps only the first occurrence of a URL.
    pub fn new(tiers: Vec<Vec<String>>, rng: &mut fastrand::Rng) -> AnnounceList {
        let (mut seen, mut unsupported, mut kept) = (HashSet::new(), Vec::new(), Vec::new());
        for (tier, number) in tiers.into_iter().zip(0..) {
            let mut trackers = Vec::new();
            for url in tier.iter().map(|url| url.trim()).filter(|url| !url.is_empty()) {
                if seen.len() >= MAX_TRACKERS || !seen.insert(url.to_owned()) {
                    continue;
                }
                if is_supported(url) {
                    trackers.push(Tracker::new(url, number));
                } else {
                    unsupported.push(url.to_owned());
                }
            }
            rng.shuffle(&mut trackers);
            if !trackers.is_empty() {
                kept.push(trackers);
            }
        }
        AnnounceList {
            tiers: kept,
            unsupported,
            rng: rng.fork(),
            asks_one_at_a_time: false,
            demand: PeerDemand::None,
            due: Duration::ZERO,
            earliest: Duration::ZERO,
            phase: RoundPhase::Waiting,
            next_round: None,
            in_flight: Vec::new(),
            last_started: Duration::ZERO,
            failures: 0,
            is_complete: false,
        }
    }

    /// The URLs with unsupported schemes.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// Whether there are no trackers.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// The number of jobs in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// For a private torrent: from now on, announces to another tracker only when the current one fails.
    pub fn ask_one_at_a_time(&mut self) {
        self.asks_one_at_a_time = true;
    }

    /// The user named these trackers: they may ask for any interval.
    #[must_use]
    pub fn allow_short_intervals(mut self) -> AnnounceList {
        self.trackers_mut().for_each(Tracker::allow_short_intervals);
        self
    }

    /// When [`AnnounceList::next_job`] will return a job; may be in the past. [`Duration::MAX`] if never, and while every
    /// possible job is in flight.
    pub fn next_due(&self) -> Duration {
        if self.phase == RoundPhase::Stopped || self.is_empty() {
            return Duration::MAX;
        }
        self.round_due().min(self.next_completed()).min(self.next_known_due())
    }

    /// When the next `completed` is due.
    pub fn next_completed(&self) -> Duration {
        let owed = self.trackers().filter(|t| self.awaits_completed(t));
        owed.map(|t| t.completed_not_before.max(t.no_contact_before)).min().unwrap_or(Duration::MAX)
    }

    /// When the next regular announce is due to a tracker that accepted `started`.
    fn next_known_due(&self) -> Duration {
        self.registered().map(|t| t.due.max(t.no_contact_before)).min().unwrap_or(Duration::MAX)
    }

    /// Trackers that get regular announces independent of rounds.
    fn registered(&self) -> impl Iterator<Item = &Tracker> {
        let all =
            (!self.asks_one_at_a_time).then(|| self.trackers().filter(|t| t.has_accepted_started && !self.is_asked(t)));
        all.into_iter().flatten()
    }

    fn is_asked(&self, tracker: &Tracker) -> bool {
        self.in_flight.iter().any(|asked| asked.job.url == tracker.url)
    }

    /// Whether the torrent needs peers and has no candidates to connect to, so that rounds may proceed faster. Never true for a
    /// private torrent.
    pub fn is_urgent(&self) -> bool {
        self.demand == PeerDemand::Urgent && !self.asks_one_at_a_time
    }

    /// The next announce to make, if one is due. The caller must report its result with [`AnnounceList::answered`] or
    /// [`AnnounceList::failed`].
    pub fn next_job(&mut self, now: Duration) -> Option<AnnounceJob> {
        if self.phase == RoundPhase::Stopped || self.is_empty() {
            return None;
        }
        if let Some(job) = self.completed_job(now) {
            return Some(self.send(job, false));
        }
        if let Some(job) = self.round(now) {
            self.last_started = now;
            return Some(self.send(job, true));
        }
        let kept = self.registered().find(|t| t.due.max(t.no_contact_before) <= now)?.job(None);
        Some(self.send(kept, false))
    }

    fn completed_job(&self, now: Duration) -> Option<AnnounceJob> {
        let owed = self
            .trackers()
            .find(|t| self.awaits_completed(t) && t.completed_not_before.max(t.no_contact_before) <= now)?;
        Some(owed.job(Some(AnnounceEvent::Completed)))
    }

    /// Records that a job is in flight.
    fn send(&mut self, job: AnnounceJob, is_in_round: bool) -> AnnounceJob {
        let is_complete = self.is_complete;
        if let Some(tracker) = self.find(&job.url)
            && job.event == Some(AnnounceEvent::Started)
        {
            tracker.was_started_complete = is_complete;
        }
        self.in_flight.push(PendingJob { job: job.clone(), is_in_round });
        job
    }

    /// Sets whether the torrent needs peers, and whether it has `no_candidates` to connect to. If both, the next announce is due
    /// as soon as the tracker's minimum interval allows (without one, after 60 s or its interval if that is shorter, but see `SHORTEST_INTERVAL`). The
    /// back-off of failed trackers still applies.
    pub fn want_peers(&mut self, now: Duration, needs_peers: bool, no_candidates: bool) {
        self.demand = match (needs_peers, no_candidates) {
            (false, _) => PeerDemand::None,
            (true, false) => PeerDemand::More,
            (true, true) => PeerDemand::Urgent,
        };
        if needs_peers && no_candidates && self.failures == 0 && self.phase == RoundPhase::Waiting {
            self.due = self.due.min(self.earliest.max(now));
        }
    }

    /// Continues the last round with the trackers that it has not tried: those that responded named peers, but none of them can be
    /// reached. Has no effect on private torrents.
    pub fn ask_further_trackers(&mut self, now: Duration) {
        let may = self.phase == RoundPhase::Waiting && self.demand != PeerDemand::None && !self.asks_one_at_a_time;
        if may && self.pick(now).is_some() {
            (self.phase, self.next_round) = (RoundPhase::Round, Some(self.due));
            self.due = now;
        }
    }

    /// The download has completed: sends `completed` at once to every tracker that accepted `started`, and repeats it until the
    /// tracker accepts it. Only the first call has an effect. Must not be called if the torrent was complete from the start (BEP
    /// 3).
    pub fn completed(&mut self) {
        self.is_complete = true;
    }

    /// Whether a tracker has not yet received `completed` and no attempt has failed, so that sending it is worthwhile before
    /// stopping.
    pub fn has_unsent_completed(&self) -> bool {
        self.trackers()
            .any(|t| self.awaits_completed(t) && t.completed_not_before.is_zero() && t.no_contact_before.is_zero())
    }

    /// Stops the schedule. Returns a `stopped` for each tracker that accepted `started`, after any `completed` that it has not
    /// received. Nothing is due afterwards, and a second call returns nothing.
    pub fn stop_jobs(&mut self) -> Vec<AnnounceJob> {
        let owed: Vec<AnnounceJob> = self
            .trackers()
            .filter(|t| self.awaits_completed(t))
            .map(|t| t.job(Some(AnnounceEvent::Completed)))
            .collect();
        self.phase = RoundPhase::Stopped;
        self.in_flight.clear();
        let mut jobs = owed;
        for tracker in self.trackers_mut().filter(|t| t.has_accepted_started) {
            tracker.has_accepted_started = false;
            jobs.push(tracker.job(Some(AnnounceEvent::Stopped)));
        }
        jobs
    }

    /// Whether the tracker counts us as a leecher and must receive `completed`.
    fn awaits_completed(&self, tracker: &Tracker) -> bool {
        self.is_complete && tracker.takes_completed() && !self.is_asked(tracker)
    }

    fn wait(&self, now: Duration) -> Duration {
        self.next_due().saturating_sub(now)
    }

    /// Moves the tracker to the front of its tier (BEP 12).
    fn promote(&mut self, url: &str) {
        for tier in &mut self.tiers {
            if let Some(at) = tier.iter().position(|t| t.url == url)
                && let Some(front) = tier.get_mut(..=at)
            {
                front.rotate_right(1);
            }
        }
    }

    fn trackers(&self) -> impl Iterator<Item = &Tracker> {
        self.tiers.iter().flatten()
    }

    fn trackers_mut(&mut self) -> impl Iterator<Item = &mut Tracker> {
        self.tiers.iter_mut().flatten()
    }

    fn find(&mut self, url: &str) -> Option<&mut Tracker> {
        self.trackers_mut().find(|t| t.url == url)
    }
}
