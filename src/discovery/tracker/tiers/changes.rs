//! What a program changes while the torrent runs: the list of trackers, and announces before their time; and what it sees of both.

use std::collections::HashMap;
use std::time::Duration;

use crate::discovery::tracker::announce::AnnounceEvent;
use crate::discovery::tracker::tiers::tracker::Tracker;
use crate::discovery::tracker::tiers::{AnnounceList, AnnounceTerms, PendingJob, RoundPhase};

/// What the schedule knows of one tracker. Times are those of the torrent's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerFacts<'a> {
    /// The tracker's URL.
    pub url: &'a str,
    /// Its tier among those that were given, from 0.
    pub tier: u32,
    /// When the next announce is due; `None` while one is under way, and for a tracker that is announced to only if those before
    /// it fail or more peers are needed.
    pub next: Option<Duration>,
    /// When it may be announced to at the earliest, if the user asks for that; `None` for never.
    pub earliest: Option<Duration>,
    /// Whether an announce is under way.
    pub is_announcing: bool,
}

impl AnnounceList {
    /// The tracker has the torrent in its swarm already, as a seed: the next announce to it is due at `due`, and is not the first.
    pub fn resume(&mut self, url: &str, due: Duration) {
        let Some(tracker) = self.find(url) else { return };
        tracker.was_started_complete = true;
        let job = tracker.job(Some(AnnounceEvent::Started));
        self.in_flight.push(PendingJob { job, is_in_round: true });
        self.answered(Duration::ZERO, url, AnnounceTerms { interval: due, ..AnnounceTerms::default() }, true);
    }

    /// What is known of each tracker, in the order in which they are asked.
    pub fn facts(&self) -> impl Iterator<Item = TrackerFacts<'_>> {
        let round = self.next_of_round();
        self.trackers().map(move |tracker| {
            let is_announcing = self.is_asked(tracker);
            let of_round = round.filter(|(url, _)| *url == tracker.url).map(|(_, due)| due);
            let is_registered = tracker.has_accepted_started && !self.asks_one_at_a_time;
            let own = is_registered.then(|| tracker.due.max(tracker.no_contact_before));
            let next = of_round.into_iter().chain(own).min().filter(|due| !is_announcing && *due < Duration::MAX);
            let earliest = Some(tracker.manual_at()).filter(|due| *due < Duration::MAX);
            let next = next.filter(|_| self.phase != RoundPhase::Stopped);
            TrackerFacts { url: &tracker.url, tier: tracker.tier, next, earliest, is_announcing }
        })
    }

    /// The tracker that the round tries next, or the next round tries first, and when; `None` while the round waits for an answer.
    fn next_of_round(&self) -> Option<(&str, Duration)> {
        if self.is_round_busy() || self.phase == RoundPhase::Stopped {
            return None;
        }
        let is_round = self.phase == RoundPhase::Round;
        let at = if is_round { self.due } else { self.due.max(self.next_allowed()) };
        let next = self.trackers().find(|tracker| !(is_round && tracker.was_tried) && tracker.allowed_at() <= at)?;
        Some((next.url.as_str(), at))
    }

    /// Announces as soon as the trackers allow: those that accepted `started` after their minimum interval, if there are any,
    /// otherwise the first one that may be asked. A tracker that failed is tried again 15 seconds after its failure.
    pub fn reannounce(&mut self, now: Duration) {
        self.trackers_mut().for_each(|tracker| tracker.reannounce(now));
        if self.phase != RoundPhase::Waiting {
            return;
        }
        let has_started = self.trackers().any(|tracker| tracker.has_accepted_started);
        let candidates = self.trackers().filter(|tracker| tracker.has_accepted_started || !has_started);
        if let Some(at) = candidates.map(Tracker::manual_at).min() {
            self.due = self.due.min(at.max(now));
        }
    }

    /// Replaces the trackers. Those that stay keep their state; the others get no further announce. The first new one that may be
    /// asked is announced to at once, unless the torrent is private and a tracker that stays has accepted `started`.
    pub(crate) fn replace(&mut self, mut before: HashMap<String, Tracker>, tiers: Vec<Vec<String>>, now: Duration) {
        let AnnounceList { tiers, unsupported, .. } = AnnounceList::new(tiers, &mut self.rng);
        (self.tiers, self.unsupported) = (tiers, unsupported);
        for tracker in self.tiers.iter_mut().flatten() {
            if let Some(known) = before.remove(&tracker.url) {
                *tracker = known.in_tier(tracker.tier);
            }
        }
        self.in_flight.retain(|pending| self.tiers.iter().flatten().any(|tracker| tracker.url == pending.job.url));
        if self.phase == RoundPhase::Stopped {
            return;
        }
        let has_started = self.trackers().any(|tracker| tracker.has_accepted_started);
        self.trackers_mut().for_each(|tracker| tracker.was_tried = tracker.has_accepted_started);
        if self.asks_one_at_a_time && has_started {
            (self.phase, self.next_round) = (RoundPhase::Waiting, None);
        } else if self.trackers().any(|tracker| !tracker.was_tried) {
            // Once a new tracker has answered, the next round is due no later than it was before.
            (self.phase, self.next_round) = (RoundPhase::Round, None);
            self.due = now;
        } else {
            (self.phase, self.next_round) = (RoundPhase::Waiting, None);
            self.due = self.due.max(now);
        }
    }

    /// Takes all trackers with their state.
    pub(crate) fn take_trackers(&mut self) -> impl Iterator<Item = (String, Tracker)> {
        std::mem::take(&mut self.tiers).into_iter().flatten().map(|tracker| (tracker.url.clone(), tracker))
    }

    /// Takes over which job is in flight from a list that is dropped.
    pub fn adopt(&mut self, other: AnnounceList) {
        self.in_flight.extend(other.in_flight);
    }
}
