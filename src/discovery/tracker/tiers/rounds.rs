//! Rounds: which tracker is tried next, and when a round continues or ends.

use std::time::Duration;

use crate::discovery::tracker::announce::AnnounceEvent;
use crate::discovery::tracker::tiers::tracker::Tracker;
use crate::discovery::tracker::tiers::{AnnounceJob, AnnounceList, FIRST_RETRY, PeerDemand, RoundPhase};

/// If a tracker has not responded for this long, the round also tries the next tracker that has not accepted `started`.
pub(super) const OVERTAKE_AFTER: Duration = Duration::from_secs(3);
/// The same while the torrent needs peers and has no candidates to connect to.
const OVERTAKE_URGENT: Duration = Duration::from_secs(1);
/// The most announces of a round in flight.
const MAX_IN_FLIGHT: usize = 6;
/// The same while the torrent needs peers and has no candidates to connect to: enough to try a long list of silent trackers
/// before the first of them times out.
const MAX_URGENT: usize = 30;

impl AnnounceList {
    /// When the round continues, or the next one starts.
    pub(super) fn round_due(&self) -> Duration {
        if !self.is_round_busy() {
            return self.due;
        }
        let should_continue = self.phase == RoundPhase::Round
            && self.should_continue()
            && self.next_parallel(self.last_started).is_some();
        let pause = if self.is_urgent() { OVERTAKE_URGENT } else { OVERTAKE_AFTER };
        if should_continue { self.last_started.saturating_add(pause) } else { Duration::MAX }
    }

    pub(super) fn is_round_busy(&self) -> bool {
        self.in_flight.iter().any(|asked| asked.is_in_round)
    }

    /// Whether a round should try another tracker: none has responded yet, or none named new peers while the torrent needs peers.
    pub(super) fn should_continue(&self) -> bool {
        self.next_round.is_none() || (self.demand != PeerDemand::None && !self.asks_one_at_a_time)
    }

    /// The next job of a round, if one is due.
    pub(super) fn round(&mut self, now: Duration) -> Option<AnnounceJob> {
        if now < self.round_due() {
            return None;
        }
        if self.is_round_busy() {
            return Some(self.next_parallel(now)?.job(Some(AnnounceEvent::Started)));
        }
        if self.phase == RoundPhase::Waiting {
            self.trackers_mut().for_each(|t| t.was_tried = false);
            (self.phase, self.next_round) = (RoundPhase::Round, None);
        }
        let next = if self.should_continue() { self.pick(now) } else { None };
        if next.is_none() {
            self.end_round(now);
        }
        next
    }

    /// Ends the round: there is no further tracker to try.
    pub(super) fn end_round(&mut self, now: Duration) {
        self.phase = RoundPhase::Waiting;
        // If no tracker has responded, each must wait for its minimum interval.
        self.due = self.next_round.take().unwrap_or_else(|| self.due.max(self.next_allowed())).max(now);
        if self.due == now {
            self.due = now.saturating_add(FIRST_RETRY); // otherwise the caller would busy-loop
        }
    }

    /// When a round may announce to any tracker again.
    pub(super) fn next_allowed(&self) -> Duration {
        self.trackers().map(Tracker::allowed_at).min().unwrap_or(Duration::MAX)
    }

    /// The next tracker to try while an earlier one has not responded.
    fn next_parallel(&self, now: Duration) -> Option<&Tracker> {
        let most = if self.is_urgent() { MAX_URGENT } else { MAX_IN_FLIGHT };
        let room = self.in_flight.iter().filter(|asked| asked.is_in_round).count() < most;
        self.trackers()
            .find(|t| room && !t.was_tried && !t.has_accepted_started && !self.is_asked(t) && t.contact_at() <= now)
    }

    /// The first tracker that this round has not tried and may announce to now.
    pub(super) fn pick(&self, now: Duration) -> Option<AnnounceJob> {
        let next = self.trackers().find(|t| !t.was_tried && t.allowed_at() <= now && !self.is_asked(t))?;
        Some(next.job((!next.has_accepted_started).then_some(AnnounceEvent::Started)))
    }
}
