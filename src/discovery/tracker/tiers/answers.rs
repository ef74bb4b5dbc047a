//! Updates the schedule with trackers' responses and failures, and computes when the next announce is due.

use std::time::Duration;

use crate::discovery::tracker::announce::AnnounceEvent;
use crate::discovery::tracker::error::Retry;
use crate::discovery::tracker::tiers::{AnnounceList, AnnounceTerms, FIRST_RETRY, PendingJob, RoundPhase};

/// The longest back-off delay.
const MAX_RETRY: Duration = Duration::from_secs(30 * 60);
/// The minimum time between two announces if the tracker names none.
const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(60);
/// The lowest factor by which a back-off is multiplied.
pub(super) const SHORTEST_JITTER: f64 = 0.9;

impl AnnounceList {
    /// Removes a job from those in flight.
    fn returned(&mut self, url: &str) -> Option<PendingJob> {
        let at = self.in_flight.iter().position(|asked| asked.job.url == url)?;
        Some(self.in_flight.swap_remove(at))
    }

    /// Records a tracker's response to the job in flight; `has_new_peers` says whether it contained any. Returns the time until
    /// the next announce.
    pub fn answered(&mut self, now: Duration, url: &str, terms: AnnounceTerms, has_new_peers: bool) -> Duration {
        let Some(PendingJob { job, is_in_round }) = self.returned(url) else { return self.wait(now) };
        let Some(tracker) = self.find(url) else { return self.wait(now) };
        let min_interval = tracker.interval(terms.min_interval.unwrap_or(DEFAULT_MIN_INTERVAL.min(terms.interval)));
        let earliest = now.saturating_add(min_interval);
        let due = now.saturating_add(terms.interval.max(min_interval));
        let is_completed = job.event == Some(AnnounceEvent::Completed);
        tracker.answered(earliest, due, terms.tracker_id);
        tracker.has_accepted_completed |= is_completed;
        if is_in_round {
            self.promote(url);
            self.failures = 0;
            self.earliest = earliest;
            self.next_round = Some(self.next_round.map_or(due, |other| other.min(due)));
            if self.phase == RoundPhase::Waiting {
                // A late response after the round ended.
                self.due = self.next_round.take().unwrap_or(due);
            } else if !has_new_peers && self.should_continue() && (self.pick(now).is_some() || self.is_round_busy()) {
                self.due = now;
            } else {
                self.phase = RoundPhase::Waiting;
                self.due = self.next_round.take().unwrap_or(due);
            }
        } else if is_completed && self.phase == RoundPhase::Waiting && self.failures == 0 {
            (self.earliest, self.due) = (earliest, self.due.max(due));
        }
        self.wait(now)
    }

    /// Records that the tracker did not respond or refused; `retry` is when it may be contacted again, if it said so. Returns the
    /// time until the next announce, zero while this round has trackers left to try.
    pub fn failed(&mut self, now: Duration, url: &str, retry: Option<Retry>) -> Duration {
        let Some(PendingJob { job, is_in_round }) = self.returned(url) else { return self.wait(now) };
        let jitter = self.jitter();
        let is_only = !self.trackers().any(|t| t.url != url && t.has_accepted_started);
        if let Some(tracker) = self.find(url) {
            tracker.failed(now, jitter, retry, job.event == Some(AnnounceEvent::Completed));
        }
        if is_in_round {
            self.failed_in_round(now);
        } else if is_only && self.phase == RoundPhase::Waiting {
            // Another tracker must replace it.
            self.trackers_mut().for_each(|t| t.was_tried = t.url == url);
            if self.pick(now).is_some() {
                (self.phase, self.next_round, self.due) = (RoundPhase::Round, None, now);
            }
        }
        self.wait(now)
    }

    fn failed_in_round(&mut self, now: Duration) {
        if self.phase != RoundPhase::Round || self.is_round_busy() {
            return; // another tracker has responded, or may still do so
        }
        if self.should_continue() && self.pick(now).is_some() {
            self.due = now;
        } else if self.next_round.is_some() {
            self.end_round(now);
        } else {
            self.phase = RoundPhase::Waiting;
            self.due = now.saturating_add(backoff(self.failures, self.jitter())).max(self.next_allowed());
            self.failures = (self.failures + 1).min(16);
        }
    }

    /// A factor of 0.9 to 1.1, so that the peers of a swarm do not announce in lockstep.
    fn jitter(&mut self) -> f64 {
        SHORTEST_JITTER + 0.2 * self.rng.f64()
    }
}

/// The delay after `failures` consecutive failures.
pub(crate) fn backoff(failures: u32, jitter: f64) -> Duration {
    FIRST_RETRY.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(MAX_RETRY).mul_f64(jitter)
}
