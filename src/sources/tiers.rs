//! Which tracker to ask and when: the tiers of BEP 12, intervals, back-off, and each event where and as often as it belongs.
//! Pure: no clock, no I/O; time comes in as the [`Duration`] since the session began.
//!
//! An announce is a *round*: the trackers are tried in order, tier by tier, until one answers; that one goes to the front of
//! its tier, and the next round begins at the first tier again. One that has not answered after a few seconds is overtaken by the
//! next, and still heard: a list of dead trackers costs seconds, not minutes. The caller loops over [`Tiers::next_due`],
//! [`Tiers::begin`] and, for each job, [`Tiers::answered`] or [`Tiers::failed`].

use std::collections::HashSet;
use std::time::Duration;

use super::announce::AnnounceEvent;
use super::client::is_supported;

#[cfg(test)]
mod tests;

/// Trackers kept of one torrent at most.
const MAX_TRACKERS: usize = 200;
/// The first wait after a round in which every tracker failed; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(15);
/// The longest such wait.
const LONGEST_RETRY: Duration = Duration::from_secs(30 * 60);
/// A tracker that has not answered for so long is overtaken by the next that does not know us yet.
const OVERTAKE: Duration = Duration::from_secs(3);
/// Announces under way at most.
const MAX_UNDER_WAY: usize = 6;
/// The least time between two announces where the tracker names none.
const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(60);

/// One announce to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The tracker.
    pub url: String,
    /// What it sent as `tracker id`.
    pub tracker_id: Option<Vec<u8>>,
    /// What to tell it.
    pub event: Option<AnnounceEvent>,
}

/// The trackers of one torrent and their schedule.
#[derive(Debug)]
pub struct Tiers {
    order: Vec<Vec<Tracker>>,
    unsupported: Vec<String>,
    rng: fastrand::Rng,
    /// When the next round begins, or the current one goes on.
    due: Duration,
    /// The earliest start of a round that brings no event.
    earliest: Duration,
    phase: Phase,
    /// Announces that wait for an answer, and when the last of them began.
    under_way: Vec<Job>,
    last_begun: Duration,
    /// Rounds in a row in which nobody answered.
    failures: u32,
    completion: Completion,
    /// There is an event that waits for no interval.
    urgent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until a round is due.
    Waiting,
    /// A round is under way, its failed trackers marked as tried.
    Round,
    /// [`Tiers::stop_jobs`] was called.
    Stopped,
}

/// How far `completed` has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completion {
    /// The download did not become whole in this session.
    Ahead,
    /// It did, and no tracker has accepted `completed`.
    Untold,
    /// One has.
    Told,
}

#[derive(Debug, Default)]
struct Tracker {
    url: String,
    /// What it sent as `tracker id`.
    id: Option<Vec<u8>>,
    /// `started` was accepted.
    started: bool,
    /// `started` was sent with nothing left, so that `completed` would be counted twice.
    started_whole: bool,
    /// No announce without an event before this.
    not_before: Duration,
    /// Failed in this round.
    tried: bool,
}

impl Tiers {
    /// The trackers of `announce-list` (or `announce` as a single tier), shuffled within each tier (BEP 12). Each URL counts
    /// once, where it stands first.
    pub fn new(tiers: Vec<Vec<String>>, rng: &mut fastrand::Rng) -> Tiers {
        let (mut seen, mut unsupported, mut kept) = (HashSet::new(), Vec::new(), Vec::new());
        for tier in tiers {
            let mut trackers = Vec::new();
            for url in tier.iter().map(|url| url.trim()).filter(|url| !url.is_empty()) {
                if seen.len() >= MAX_TRACKERS || !seen.insert(url.to_owned()) {
                    continue;
                }
                if is_supported(url) {
                    trackers.push(Tracker { url: url.to_owned(), ..Tracker::default() });
                } else {
                    unsupported.push(url.to_owned());
                }
            }
            rng.shuffle(&mut trackers);
            if !trackers.is_empty() {
                kept.push(trackers);
            }
        }
        Tiers {
            order: kept,
            unsupported,
            rng: rng.fork(),
            due: Duration::ZERO,
            earliest: Duration::ZERO,
            phase: Phase::Waiting,
            under_way: Vec::new(),
            last_begun: Duration::ZERO,
            failures: 0,
            completion: Completion::Ahead,
            urgent: false,
        }
    }

    /// The URLs whose scheme nobody here speaks.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// Whether there is no tracker to ask.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// When [`Tiers::begin`] will have a job: a time that may have passed, or [`Duration::MAX`] for never, which is also the
    /// answer while a job is under way, unless it can be overtaken.
    pub fn next_due(&self) -> Duration {
        if self.phase == Phase::Stopped || self.is_empty() {
            Duration::MAX
        } else if !self.under_way.is_empty() {
            let overtaken = self.phase == Phase::Round && self.overtaking().is_some();
            if overtaken { self.last_begun.saturating_add(OVERTAKE) } else { Duration::MAX }
        } else if self.urgent {
            Duration::ZERO
        } else {
            self.due
        }
    }

    /// The next announce to make, where one is due. It must be followed by [`Tiers::answered`] or [`Tiers::failed`].
    pub fn begin(&mut self, now: Duration) -> Option<Job> {
        if now < self.next_due() || self.phase == Phase::Stopped {
            return None;
        }
        if !self.under_way.is_empty() {
            let job = self.overtaking()?.job(Some(AnnounceEvent::Started));
            return Some(self.send(now, job));
        }
        if self.phase == Phase::Waiting {
            self.trackers_mut().for_each(|t| t.tried = false);
            self.phase = Phase::Round;
        }
        self.urgent = false;
        let Some(job) = self.pick(now) else {
            // All wait for their min interval.
            self.phase = Phase::Waiting;
            let next = self.trackers().map(|t| t.not_before).min().unwrap_or(Duration::MAX);
            self.due = self.due.max(next);
            return None;
        };
        Some(self.send(now, job))
    }

    /// Notes that a job is under way.
    fn send(&mut self, now: Duration, job: Job) -> Job {
        let whole = self.completion != Completion::Ahead;
        if let Some(tracker) = self.find(&job.url)
            && job.event == Some(AnnounceEvent::Started)
        {
            tracker.started_whole = whole;
        }
        self.under_way.push(job.clone());
        self.last_begun = now;
        job
    }

    /// The next tracker to ask although another has yet to answer.
    fn overtaking(&self) -> Option<&Tracker> {
        let asked = |t: &Tracker| self.under_way.iter().any(|job| job.url == t.url);
        let room = self.under_way.len() < MAX_UNDER_WAY;
        self.trackers().find(|t| room && !t.tried && !t.started && !asked(t))
    }

    /// Takes a job out of those under way.
    fn returned(&mut self, url: &str) -> Option<Job> {
        let at = self.under_way.iter().position(|job| job.url == url)?;
        Some(self.under_way.swap_remove(at))
    }

    /// The tracker of the job under way answered. Returns how long until the next announce.
    pub fn answered(
        &mut self,
        now: Duration,
        url: &str,
        interval: Duration,
        min_interval: Option<Duration>,
        tracker_id: Option<Vec<u8>>,
    ) -> Duration {
        let Some(job) = self.returned(url) else { return self.wait(now) };
        let min_interval = min_interval.unwrap_or(DEFAULT_MIN_INTERVAL.min(interval));
        if job.event == Some(AnnounceEvent::Completed) {
            self.completion = Completion::Told;
        }
        self.phase = Phase::Waiting;
        self.failures = 0;
        self.earliest = now.saturating_add(min_interval);
        self.due = now.saturating_add(interval.max(min_interval));
        let (earliest, wants_completed) = (self.earliest, self.wants_completed());
        let mut follow_up = false;
        if let Some(tracker) = self.find(url) {
            tracker.started = true;
            tracker.not_before = earliest;
            // A tracker that sends none this time means the one it sent before (BEP 3).
            tracker.id = tracker_id.or(tracker.id.take());
            follow_up = wants_completed && tracker.takes_completed();
        }
        self.promote(url);
        // The download became whole while this tracker was asked.
        self.urgent |= follow_up;
        self.wait(now)
    }

    /// The tracker of the job under way did not answer, or refused. Returns how long until the next announce: none while
    /// there are trackers left to try in this round.
    pub fn failed(&mut self, now: Duration, url: &str) -> Duration {
        if self.returned(url).is_none() {
            return self.wait(now);
        }
        if let Some(tracker) = self.find(url) {
            tracker.tried = true;
        }
        if self.phase != Phase::Round || !self.under_way.is_empty() {
            return self.wait(now); // another has answered, or may
        }
        if self.pick(now).is_some() {
            self.due = now;
            return self.wait(now);
        }
        self.phase = Phase::Waiting;
        let doubled =
            FIRST_RETRY.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST_RETRY);
        self.failures = (self.failures + 1).min(16);
        // Up to a tenth more or less, so that a swarm does not come back in step.
        let jittered = doubled.mul_f64(0.9 + 0.2 * self.rng.f64());
        self.due = now.saturating_add(jittered);
        self.wait(now)
    }

    /// Peers run out: the next announce comes as soon as the tracker's min interval allows (without one, after 60 s or its
    /// interval if that is shorter). While trackers fail, the back-off stands.
    pub fn want_peers(&mut self, now: Duration) {
        if self.failures == 0 && self.phase == Phase::Waiting {
            self.due = self.due.min(self.earliest.max(now));
        }
    }

    /// The download has become whole: `completed` goes out at once, and until it is accepted, to a tracker that knows us.
    /// Only the first call counts; not to be called where everything was there from the start (BEP 3).
    pub fn completed(&mut self) {
        if self.completion == Completion::Ahead {
            self.completion = Completion::Untold;
            let knows_us = self.trackers().any(Tracker::takes_completed);
            self.urgent = knows_us;
        }
    }

    /// Whether [`Tiers::begin`] would now give a `completed`: worth doing before leaving. False once the trackers that know us
    /// have failed to take it, and while a job is under way.
    pub fn owes_completed(&self) -> bool {
        let going_on = || self.phase == Phase::Round && self.trackers().any(|t| t.takes_completed() && !t.tried);
        self.wants_completed() && self.under_way.is_empty() && (self.urgent || going_on())
    }

    /// The end: a `stopped` for each tracker that accepted `started`. Nothing is due after this, a second call gives nothing.
    pub fn stop_jobs(&mut self) -> Vec<Job> {
        self.phase = Phase::Stopped;
        self.under_way.clear();
        let mut jobs = Vec::new();
        for tracker in self.trackers_mut().filter(|t| t.started) {
            tracker.started = false;
            jobs.push(tracker.job(Some(AnnounceEvent::Stopped)));
        }
        jobs
    }

    /// The first tracker of this round that may be asked now; one that waits for `completed` goes before the others.
    fn pick(&self, now: Duration) -> Option<Job> {
        if self.wants_completed()
            && let Some(tracker) = self.trackers().find(|t| t.takes_completed() && !t.tried)
        {
            return Some(tracker.job(Some(AnnounceEvent::Completed)));
        }
        let next = self.trackers().find(|t| !t.tried && (!t.started || t.not_before <= now))?;
        Some(next.job((!next.started).then_some(AnnounceEvent::Started)))
    }

    fn wants_completed(&self) -> bool {
        self.completion == Completion::Untold
    }

    fn wait(&self, now: Duration) -> Duration {
        self.next_due().saturating_sub(now)
    }

    /// To the front of its tier (BEP 12).
    fn promote(&mut self, url: &str) {
        for tier in &mut self.order {
            if let Some(at) = tier.iter().position(|t| t.url == url)
                && let Some(front) = tier.get_mut(..=at)
            {
                front.rotate_right(1);
            }
        }
    }

    fn trackers(&self) -> impl Iterator<Item = &Tracker> {
        self.order.iter().flatten()
    }

    fn trackers_mut(&mut self) -> impl Iterator<Item = &mut Tracker> {
        self.order.iter_mut().flatten()
    }

    fn find(&mut self, url: &str) -> Option<&mut Tracker> {
        self.trackers_mut().find(|t| t.url == url)
    }
}

impl Tracker {
    fn takes_completed(&self) -> bool {
        self.started && !self.started_whole
    }

    fn job(&self, event: Option<AnnounceEvent>) -> Job {
        Job { url: self.url.clone(), tracker_id: self.id.clone(), event }
    }
}
