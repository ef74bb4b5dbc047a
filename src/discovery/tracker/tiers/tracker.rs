//! The announce state of one tracker.

use std::time::Duration;

use crate::discovery::tracker::announce::{AnnounceEvent, Retry};
use crate::discovery::tracker::tiers::AnnounceJob;
use crate::discovery::tracker::tiers::answers::backoff;

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an event of its own: any combination is possible")]
pub(crate) struct Tracker {
    pub url: String,
    /// The last `tracker id` that it sent.
    id: Option<Vec<u8>>,
    /// Whether it accepted `started`.
    pub started: bool,
    /// Whether `started` was sent with `left=0`, so that it would count a `completed` twice.
    pub started_complete: bool,
    /// Whether it accepted `completed`.
    pub completed_sent: bool,
    /// The earliest time for `completed`; zero until an attempt has failed.
    pub completed_not_before: Duration,
    /// The earliest time for an announce without an event.
    not_before: Duration,
    /// When its regular announce is due, once it has accepted `started`.
    pub due: Duration,
    /// The earliest time for any announce, as the tracker requested; [`Duration::MAX`] for never again.
    pub no_contact_before: Duration,
    /// Consecutive failures.
    failures: u32,
    /// Whether this round has tried it.
    pub tried: bool,
}

impl Tracker {
    pub(crate) fn new(url: &str) -> Tracker {
        Tracker { url: url.to_owned(), ..Tracker::default() }
    }

    pub(crate) fn takes_completed(&self) -> bool {
        self.started && !self.started_complete && !self.completed_sent && self.no_contact_before != Duration::MAX
    }

    /// When a round may announce to it.
    pub(crate) fn allowed_at(&self) -> Duration {
        if self.started { self.not_before.max(self.no_contact_before) } else { self.no_contact_before }
    }

    pub(crate) fn job(&self, event: Option<AnnounceEvent>) -> AnnounceJob {
        AnnounceJob { url: self.url.clone(), tracker_id: self.id.clone(), event }
    }

    /// Records a response: the next regular announce is due at `due`, and none may precede `earliest`.
    pub(crate) fn answered(&mut self, earliest: Duration, due: Duration, id: Option<Vec<u8>>) {
        (self.started, self.tried, self.failures) = (true, true, 0);
        (self.not_before, self.due, self.no_contact_before) = (earliest, due, Duration::ZERO);
        // A tracker that sends no id now means the one it sent before (BEP 3).
        self.id = id.or(self.id.take());
    }

    /// Records that it did not respond, or refused.
    pub(crate) fn failed(&mut self, now: Duration, jitter: f64, retry: Option<Retry>, was_completed: bool) {
        let again = now.saturating_add(backoff(self.failures, jitter));
        self.tried = true;
        self.failures = (self.failures + 1).min(16);
        self.due = self.due.max(again);
        if was_completed {
            self.completed_not_before = again;
        }
        self.no_contact_before = match retry {
            Some(Retry::Never) => Duration::MAX,
            Some(Retry::After(wait)) => now.saturating_add(wait),
            None => self.no_contact_before,
        };
    }
}
