//! Which of a torrent's trackers to ask and when: the tiers of BEP 12, intervals, back-off, and each event where and as often as it
//! belongs. Pure: no clock, no I/O; time comes in as the [`Duration`] since the session began.
//!
//! An announce is a *round*: the trackers are tried in order, tier by tier, until one answers; that one goes to the front of
//! its tier, and the next round begins at the first tier again. One that has not answered after a few seconds is overtaken by the
//! next, and still heard: a list of dead trackers costs seconds, not minutes, and where no peer is known, a second each. The caller loops over [`Tiers::next_due`],
//! [`Tiers::begin`] and, for each job, [`Tiers::answered`] or [`Tiers::failed`].
//!
//! Beyond BEP 12: as long as peers are needed, a round goes on after an answer that named nobody new, and whoever has accepted
//! `started` is announced to at its own interval. A private torrent (BEP 27) has one tracker at a time, and the next only when that
//! fails.

mod answers;
mod tracker;

use std::collections::HashSet;
use std::time::Duration;

use crate::discovery::tracker::announce::AnnounceEvent;
use crate::discovery::tracker::client::is_supported;
use tracker::Tracker;

#[cfg(test)]
mod tests;

/// Trackers kept of one torrent at most.
const MAX_TRACKERS: usize = 200;
/// The first wait after a round in which every tracker failed; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(15);
/// A tracker that has not answered for so long is overtaken by the next that does not know us yet.
const OVERTAKE_AFTER: Duration = Duration::from_secs(3);
/// The same where peers are needed and nobody is left to connect to.
const OVERTAKE_IN_NEED: Duration = Duration::from_secs(1);
/// Announces of a round under way at most.
const MAX_IN_FLIGHT: usize = 6;
/// The same where peers are needed and nobody is left to connect to: a long list of silent trackers is gone through before the first of
/// them is given up.
const MAX_IN_NEED: usize = 30;

/// One announce to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceJob {
    /// The tracker.
    pub url: String,
    /// What it sent as `tracker id`.
    pub tracker_id: Option<Vec<u8>>,
    /// What to tell it.
    pub event: Option<AnnounceEvent>,
}

/// What a tracker that answered says about the next announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceTerms {
    /// Until the next regular one.
    pub interval: Duration,
    /// Until the next one at the earliest.
    pub min_interval: Option<Duration>,
    /// To be sent back.
    pub tracker_id: Option<Vec<u8>>,
}

/// A job that waits for its answer.
#[derive(Debug)]
struct PendingJob {
    job: AnnounceJob,
    /// It is part of a round, so that the round waits for it.
    in_round: bool,
}

/// The trackers of one torrent and their schedule.
#[derive(Debug)]
pub struct Tiers {
    order: Vec<Vec<Tracker>>,
    unsupported: Vec<String>,
    rng: fastrand::Rng,
    /// One tracker at a time, as private torrents have it.
    one_at_a_time: bool,
    need: Need,
    /// When the next round begins, or the current one goes on.
    due: Duration,
    /// The earliest start of a round that brings no event.
    earliest: Duration,
    phase: RoundPhase,
    /// When the next round begins, as soon as a tracker has answered in this one.
    next_round: Option<Duration>,
    in_flight: Vec<PendingJob>,
    /// When the last job of the round began.
    last_started: Duration,
    /// Rounds in a row in which nobody answered.
    failures: u32,
    /// The download has become complete in this session.
    is_complete: bool,
}

/// Whether peers are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nobody,
    /// So that a round goes on after an answer that named nobody new.
    More,
    /// They are, and nobody is left to connect to.
    Anybody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoundPhase {
    /// Until a round is due.
    Waiting,
    /// A round is under way; the trackers that were asked in it are marked as tried.
    Round,
    /// [`Tiers::stop_jobs`] was called.
    Stopped,
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
                    trackers.push(Tracker::new(url));
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
            one_at_a_time: false,
            need: Need::Nobody,
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

    /// The URLs whose scheme nobody here speaks.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// Whether there is no tracker to ask.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many jobs wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The torrent is private: from now on a further tracker is asked only when the current one fails.
    pub fn ask_one_at_a_time(&mut self) {
        self.one_at_a_time = true;
    }

    /// When [`Tiers::begin`] will have a job: a time that may have passed, or [`Duration::MAX`] for never, which is also the
    /// answer while all that can be asked are under way.
    pub fn next_due(&self) -> Duration {
        if self.phase == RoundPhase::Stopped || self.is_empty() {
            return Duration::MAX;
        }
        self.round_due().min(self.next_completed()).min(self.next_known_due())
    }

    /// When a `completed` is due.
    pub fn next_completed(&self) -> Duration {
        let owed = self.trackers().filter(|t| self.is_owed(t));
        owed.map(|t| t.completed_at.max(t.no_contact_before)).min().unwrap_or(Duration::MAX)
    }

    /// When the round goes on, or the next one begins.
    fn round_due(&self) -> Duration {
        if !self.is_round_busy() {
            return self.due;
        }
        let should_continue =
            self.phase == RoundPhase::Round && self.should_continue() && self.overtaking(self.last_started).is_some();
        let pause = if self.is_in_need() { OVERTAKE_IN_NEED } else { OVERTAKE_AFTER };
        if should_continue { self.last_started.saturating_add(pause) } else { Duration::MAX }
    }

    /// When a tracker beside the current one, which knows us, is due for its regular announce.
    fn next_known_due(&self) -> Duration {
        self.kept().map(|t| t.due.max(t.no_contact_before)).min().unwrap_or(Duration::MAX)
    }

    /// Trackers that are announced to beside the rounds.
    fn kept(&self) -> impl Iterator<Item = &Tracker> {
        let all = (!self.one_at_a_time).then(|| self.trackers().filter(|t| t.started && !self.is_asked(t)));
        all.into_iter().flatten()
    }

    fn is_round_busy(&self) -> bool {
        self.in_flight.iter().any(|asked| asked.in_round)
    }

    fn is_asked(&self, tracker: &Tracker) -> bool {
        self.in_flight.iter().any(|asked| asked.job.url == tracker.url)
    }

    /// Whether a round has reason to ask another tracker: nobody has answered yet, or nobody new was named.
    fn should_continue(&self) -> bool {
        self.next_round.is_none() || (self.need != Need::Nobody && !self.one_at_a_time)
    }

    /// Whether peers are needed and nobody is left to connect to, so that trackers may be asked faster than otherwise. Those of a private
    /// torrent are not.
    pub fn is_in_need(&self) -> bool {
        self.need == Need::Anybody && !self.one_at_a_time
    }

    /// The next announce to make, where one is due. It must be followed by [`Tiers::answered`] or [`Tiers::failed`].
    pub fn begin(&mut self, now: Duration) -> Option<AnnounceJob> {
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
        let kept = self.kept().find(|t| t.due.max(t.no_contact_before) <= now)?.job(None);
        Some(self.send(kept, false))
    }

    fn completed_job(&self, now: Duration) -> Option<AnnounceJob> {
        let owed = self.trackers().find(|t| self.is_owed(t) && t.completed_at.max(t.no_contact_before) <= now)?;
        Some(owed.job(Some(AnnounceEvent::Completed)))
    }

    /// The next job of a round.
    fn round(&mut self, now: Duration) -> Option<AnnounceJob> {
        if now < self.round_due() {
            return None;
        }
        if self.is_round_busy() {
            return Some(self.overtaking(now)?.job(Some(AnnounceEvent::Started)));
        }
        if self.phase == RoundPhase::Waiting {
            self.trackers_mut().for_each(|t| t.tried = false);
            (self.phase, self.next_round) = (RoundPhase::Round, None);
        }
        let next = if self.should_continue() { self.pick(now) } else { None };
        if next.is_none() {
            self.end_round(now);
        }
        next
    }

    /// Nobody else is to be asked in this round.
    fn end_round(&mut self, now: Duration) {
        self.phase = RoundPhase::Waiting;
        // Where nobody has answered, all wait for their min interval.
        self.due = self.next_round.take().unwrap_or_else(|| self.due.max(self.next_allowed())).max(now);
        if self.due == now {
            self.due = now.saturating_add(FIRST_RETRY); // a schedule that stands still would spin
        }
    }

    /// When the first tracker may be asked again.
    fn next_allowed(&self) -> Duration {
        self.trackers().map(Tracker::allowed_at).min().unwrap_or(Duration::MAX)
    }

    /// Notes that a job is under way.
    fn send(&mut self, job: AnnounceJob, in_round: bool) -> AnnounceJob {
        let is_complete = self.is_complete;
        if let Some(tracker) = self.find(&job.url)
            && job.event == Some(AnnounceEvent::Started)
        {
            tracker.started_complete = is_complete;
        }
        self.in_flight.push(PendingJob { job: job.clone(), in_round });
        job
    }

    /// The next tracker to ask although another has yet to answer.
    fn overtaking(&self, now: Duration) -> Option<&Tracker> {
        let most = if self.is_in_need() { MAX_IN_NEED } else { MAX_IN_FLIGHT };
        let room = self.in_flight.iter().filter(|asked| asked.in_round).count() < most;
        self.trackers().find(|t| room && !t.tried && !t.started && !self.is_asked(t) && t.no_contact_before <= now)
    }

    /// Whether peers are needed, and whether there is `no_candidates` to connect to. Then the next announce comes as soon as the
    /// tracker's min interval allows (without one, after 60 s or its interval if that is shorter). While trackers fail, the
    /// back-off stands.
    pub fn want_peers(&mut self, now: Duration, needs_peers: bool, no_candidates: bool) {
        self.need = match (needs_peers, no_candidates) {
            (false, _) => Need::Nobody,
            (true, false) => Need::More,
            (true, true) => Need::Anybody,
        };
        if needs_peers && no_candidates && self.failures == 0 && self.phase == RoundPhase::Waiting {
            self.due = self.due.min(self.earliest.max(now));
        }
    }

    /// The download has become complete: `completed` goes out at once, and until it is accepted, to every tracker that knows us.
    /// Only the first call counts; not to be called where everything was there from the start (BEP 3).
    pub fn completed(&mut self) {
        self.is_complete = true;
    }

    /// Whether a tracker that knows us has yet to hear `completed`, and has not failed to take it: worth doing before leaving.
    pub fn has_unsent_completed(&self) -> bool {
        self.trackers().any(|t| self.is_owed(t) && t.completed_at.is_zero() && t.no_contact_before.is_zero())
    }

    /// The end: a `stopped` for each tracker that accepted `started`, after the `completed` that it is owed. Nothing is due after
    /// this, a second call gives nothing.
    pub fn stop_jobs(&mut self) -> Vec<AnnounceJob> {
        let owed: Vec<AnnounceJob> =
            self.trackers().filter(|t| self.is_owed(t)).map(|t| t.job(Some(AnnounceEvent::Completed))).collect();
        self.phase = RoundPhase::Stopped;
        self.in_flight.clear();
        let mut jobs = owed;
        for tracker in self.trackers_mut().filter(|t| t.started) {
            tracker.started = false;
            jobs.push(tracker.job(Some(AnnounceEvent::Stopped)));
        }
        jobs
    }

    /// The first tracker of this round that may be asked now.
    fn pick(&self, now: Duration) -> Option<AnnounceJob> {
        let next = self.trackers().find(|t| !t.tried && t.allowed_at() <= now && !self.is_asked(t))?;
        Some(next.job((!next.started).then_some(AnnounceEvent::Started)))
    }

    /// Whether the tracker counts us as a leecher, and has to hear that we are none any more.
    fn is_owed(&self, tracker: &Tracker) -> bool {
        self.is_complete && tracker.takes_completed() && !self.is_asked(tracker)
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
