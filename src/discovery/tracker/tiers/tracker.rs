//! One tracker and what it has been told.

use std::time::Duration;

use crate::discovery::tracker::announce::{AnnounceEvent, Retry};
use crate::discovery::tracker::tiers::AnnounceJob;
use crate::discovery::tracker::tiers::answers::backoff;

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an event of its own: any combination is possible")]
pub(crate) struct Tracker {
    pub url: String,
    /// What it sent as `tracker id`.
    id: Option<Vec<u8>>,
    /// `started` was accepted.
    pub started: bool,
    /// `started` was sent with nothing left, so that `completed` would be counted twice.
    pub started_complete: bool,
    /// `completed` was accepted.
    pub completed_sent: bool,
    /// No `completed` before this; zero until it has failed.
    pub completed_at: Duration,
    /// No announce without an event before this.
    not_before: Duration,
    /// When its regular announce is due, once it knows us.
    pub due: Duration,
    /// No announce at all before this, as the tracker asked for it; [`Duration::MAX`] for never again.
    pub no_contact_before: Duration,
    /// Failures in a row.
    failures: u32,
    /// Asked in this round.
    pub tried: bool,
}

impl Tracker {
    pub(crate) fn new(url: &str) -> Tracker {
        Tracker { url: url.to_owned(), ..Tracker::default() }
    }

    pub(crate) fn takes_completed(&self) -> bool {
        self.started && !self.started_complete && !self.completed_sent && self.no_contact_before != Duration::MAX
    }

    /// When a round may ask it.
    pub(crate) fn allowed_at(&self) -> Duration {
        if self.started { self.not_before.max(self.no_contact_before) } else { self.no_contact_before }
    }

    pub(crate) fn job(&self, event: Option<AnnounceEvent>) -> AnnounceJob {
        AnnounceJob { url: self.url.clone(), tracker_id: self.id.clone(), event }
    }

    /// It knows us, and wants to hear from us at `due`, not before `earliest`.
    pub(crate) fn answered(&mut self, earliest: Duration, due: Duration, id: Option<Vec<u8>>) {
        (self.started, self.tried, self.failures) = (true, true, 0);
        (self.not_before, self.due, self.no_contact_before) = (earliest, due, Duration::ZERO);
        // A tracker that sends none this time means the one it sent before (BEP 3).
        self.id = id.or(self.id.take());
    }

    /// It did not answer, or refused.
    pub(crate) fn failed(&mut self, now: Duration, jitter: f64, retry: Option<Retry>, was_completed: bool) {
        let again = now.saturating_add(backoff(self.failures, jitter));
        self.tried = true;
        self.failures = (self.failures + 1).min(16);
        self.due = self.due.max(again);
        if was_completed {
            self.completed_at = again;
        }
        self.no_contact_before = match retry {
            Some(Retry::Never) => Duration::MAX,
            Some(Retry::After(wait)) => now.saturating_add(wait),
            None => self.no_contact_before,
        };
    }
}
