//! The announce state of one tracker.

use std::time::Duration;

use crate::discovery::tracker::announce::AnnounceEvent;
use crate::discovery::tracker::error::Retry;
use crate::discovery::tracker::http::url::{host, literal_ip};
use crate::discovery::tracker::tiers::answers::{SHORTEST_JITTER, backoff};
use crate::discovery::tracker::tiers::{AnnounceJob, FIRST_RETRY};
use crate::net::networks::is_private;

/// The shortest interval between announces to a tracker of the torrent at a public address. No real tracker asks for less.
pub(crate) const SHORTEST_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an event of its own: any combination is possible")]
pub(crate) struct Tracker {
    pub url: String,
    /// Its tier among those that were given, from 0.
    pub tier: u32,
    /// The last `tracker id` that it sent.
    id: Option<Vec<u8>>,
    /// Whether it accepted `started`.
    pub has_accepted_started: bool,
    /// Whether `started` was sent with `left=0`, so that it would count a `completed` twice.
    pub was_started_complete: bool,
    /// Whether it accepted `completed`.
    pub has_accepted_completed: bool,
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
    /// The end of its back-off, which no response of another tracker shortens: the URLs of a torrent may all lead to one host
    /// that answers some of them and redirects the rest to a third party.
    retry_not_before: Duration,
    /// The same if the user asks for an announce.
    manual_not_before: Duration,
    /// The shortest interval that it may ask for.
    shortest_interval: Duration,
    /// Whether this round has tried it.
    pub was_tried: bool,
}

impl Tracker {
    pub(crate) fn new(url: &str, tier: u32) -> Tracker {
        let shortest_interval = if has_private_address(url) { Duration::ZERO } else { SHORTEST_INTERVAL };
        Tracker { url: url.to_owned(), tier, shortest_interval, ..Tracker::default() }
    }

    /// The same tracker in another tier.
    pub(crate) fn in_tier(self, tier: u32) -> Tracker {
        Tracker { tier, ..self }
    }

    /// The user named the tracker: it may ask for any interval.
    pub(crate) fn allow_short_intervals(&mut self) {
        self.shortest_interval = Duration::ZERO;
    }

    /// The interval that applies if the tracker asks for `interval`.
    pub(crate) fn interval(&self, interval: Duration) -> Duration {
        interval.max(self.shortest_interval)
    }

    /// When it may be contacted at all.
    pub(crate) fn contact_at(&self) -> Duration {
        self.no_contact_before.max(self.retry_not_before)
    }

    pub(crate) fn takes_completed(&self) -> bool {
        self.has_accepted_started
            && !self.was_started_complete
            && !self.has_accepted_completed
            && self.no_contact_before != Duration::MAX
    }

    /// When a round may announce to it.
    pub(crate) fn allowed_at(&self) -> Duration {
        if self.has_accepted_started { self.not_before.max(self.contact_at()) } else { self.contact_at() }
    }

    /// When it may be announced to if the user asks for that; [`Duration::MAX`] for never.
    pub(crate) fn manual_at(&self) -> Duration {
        let contact_at = self.no_contact_before.max(self.retry_not_before.min(self.manual_not_before));
        if self.has_accepted_started { self.not_before.max(contact_at) } else { contact_at }
    }

    /// The user asks for an announce: shortens the back-off, and makes the regular announce due as soon as the tracker allows.
    pub(crate) fn reannounce(&mut self, now: Duration) {
        self.retry_not_before = self.retry_not_before.min(self.manual_not_before);
        self.due = self.due.min(self.manual_at().max(now));
    }

    pub(crate) fn job(&self, event: Option<AnnounceEvent>) -> AnnounceJob {
        AnnounceJob { url: self.url.clone(), tracker_id: self.id.clone(), event }
    }

    /// Records a response: the next regular announce is due at `due`, and none may precede `earliest`.
    pub(crate) fn answered(&mut self, earliest: Duration, due: Duration, id: Option<Vec<u8>>) {
        (self.has_accepted_started, self.was_tried, self.failures) = (true, true, 0);
        (self.not_before, self.due) = (earliest, due);
        (self.no_contact_before, self.retry_not_before) = (Duration::ZERO, Duration::ZERO);
        // A tracker that sends no id now means the one it sent before (BEP 3).
        self.id = id.or(self.id.take());
    }

    /// Records that it did not respond, or refused.
    pub(crate) fn failed(&mut self, now: Duration, jitter: f64, retry: Option<Retry>, was_completed: bool) {
        let again = now.saturating_add(backoff(self.failures, jitter));
        self.was_tried = true;
        // Not longer than the back-off of a round, whatever its jitter, so that the next round tries it.
        self.retry_not_before = now.saturating_add(backoff(self.failures, SHORTEST_JITTER));
        self.manual_not_before = now.saturating_add(FIRST_RETRY);
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

/// Whether the URL has an address in a private network, as trackers in tests and closed networks do.
pub(crate) fn has_private_address(url: &str) -> bool {
    host(url).eq_ignore_ascii_case("localhost") || literal_ip(url).is_some_and(is_private)
}
