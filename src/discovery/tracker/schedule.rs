//! The announce schedule of a torrent: its own trackers in their tiers, and the user's trackers, to each of which it always
//! announces. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::discovery::tracker::error::Retry;
use crate::discovery::tracker::tiers::{AnnounceJob, AnnounceList, AnnounceTerms, TrackerFacts};

/// The most announces in flight; only `completed` may exceed it.
const MAX_IN_FLIGHT: usize = 12;
/// The same while the torrent needs peers and has no candidates to connect to.
const MAX_URGENT: usize = 36;
/// The most trackers from the user.
const MAX_USER_TRACKERS: usize = 100;

/// The schedule of all trackers of a torrent; see the module documentation. Each URL belongs to exactly one [`AnnounceList`].
#[derive(Debug)]
pub struct TrackerSchedule {
    /// The torrent's tiers, then one [`AnnounceList`] for each of the user's trackers.
    parts: Vec<AnnounceList>,
}

impl TrackerSchedule {
    /// Creates the schedule. A tracker in both lists counts as the user's.
    pub fn new(tiers: Vec<Vec<String>>, user_trackers: &[String], rng: &mut fastrand::Rng) -> TrackerSchedule {
        let mut seen = HashSet::new();
        let user_trackers: Vec<&str> = user_trackers
            .iter()
            .map(|url| url.trim())
            .filter(|url| seen.insert(*url))
            .take(MAX_USER_TRACKERS)
            .collect();
        let rest =
            tiers.into_iter().map(|tier| tier.into_iter().filter(|url| !user_trackers.contains(&url.trim())).collect());
        let mut parts = vec![AnnounceList::new(rest.collect(), rng)];
        parts.extend(
            user_trackers
                .iter()
                .map(|url| AnnounceList::new(vec![vec![(*url).to_owned()]], rng).allow_short_intervals()),
        );
        TrackerSchedule { parts }
    }

    /// A tracker has the torrent in its swarm already; see [`AnnounceList::resume`].
    pub fn resume(&mut self, url: &str, due: Duration) {
        self.parts.iter_mut().for_each(|part| part.resume(url, due));
    }

    /// The URLs with unsupported schemes.
    pub fn unsupported(&self) -> impl Iterator<Item = &String> {
        self.parts.iter().flat_map(AnnounceList::unsupported)
    }

    /// Whether there are no trackers.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(AnnounceList::is_empty)
    }

    /// For a private torrent: announces to only one of the torrent's own trackers at a time (BEP 27).
    pub fn ask_one_at_a_time(&mut self) {
        self.parts.iter_mut().for_each(AnnounceList::ask_one_at_a_time);
    }

    /// When [`TrackerSchedule::next_job`] will return a job, as [`AnnounceList::next_due`].
    pub fn next_due(&self) -> Duration {
        let due = if self.is_full() { AnnounceList::next_completed } else { AnnounceList::next_due };
        self.parts.iter().map(due).min().unwrap_or(Duration::MAX)
    }

    fn is_full(&self) -> bool {
        let most = if self.parts.iter().any(AnnounceList::is_urgent) { MAX_URGENT } else { MAX_IN_FLIGHT };
        self.parts.iter().map(AnnounceList::in_flight).sum::<usize>() >= most
    }

    /// The next announce to make, if one is due.
    pub fn next_job(&mut self, now: Duration) -> Option<AnnounceJob> {
        let is_full = self.is_full();
        let due = |part: &AnnounceList| if is_full { part.next_completed() } else { part.next_due() };
        self.parts.iter_mut().filter(|part| due(part) <= now).find_map(|part| part.next_job(now))
    }

    /// Records a tracker's response; `has_new_peers` says whether it contained any.
    pub fn answered(&mut self, now: Duration, url: &str, terms: &AnnounceTerms, has_new_peers: bool) {
        for part in &mut self.parts {
            part.answered(now, url, terms.clone(), has_new_peers);
        }
    }

    /// Records that a tracker did not respond, or refused.
    pub fn failed(&mut self, now: Duration, url: &str, retry: Option<Retry>) {
        for part in &mut self.parts {
            part.failed(now, url, retry);
        }
    }

    /// Sets whether the torrent needs peers, and whether it has no candidates to connect to.
    pub fn want_peers(&mut self, now: Duration, needs_peers: bool, lacks_candidates: bool) {
        self.parts.iter_mut().for_each(|part| part.want_peers(now, needs_peers, lacks_candidates));
    }

    /// Asks the trackers that the last round did not try; see [`AnnounceList::ask_further_trackers`].
    pub fn ask_further_trackers(&mut self, now: Duration) {
        self.parts.iter_mut().for_each(|part| part.ask_further_trackers(now));
    }

    /// What is known of each tracker. The user's trackers come after those of the torrent, each in a tier of its own.
    pub fn facts(&self) -> Vec<TrackerFacts<'_>> {
        let mut all: Vec<TrackerFacts<'_>> = Vec::new();
        for part in &self.parts {
            let first = all.iter().map(|facts| facts.tier + 1).max().unwrap_or_default();
            all.extend(part.facts().map(|facts| TrackerFacts { tier: first + facts.tier, ..facts }));
        }
        all
    }

    /// Whether the tracker is one of these.
    pub fn has(&self, url: &str) -> bool {
        self.facts().iter().any(|facts| facts.url == url)
    }

    /// Announces as soon as the trackers allow; see [`AnnounceList::reannounce`].
    pub fn reannounce(&mut self, now: Duration) {
        self.parts.iter_mut().for_each(|part| part.reannounce(now));
    }

    /// Replaces all trackers, those of the user too; see [`AnnounceList::replace`].
    pub fn replace(&mut self, tiers: Vec<Vec<String>>, now: Duration) {
        let mut known = HashMap::new();
        let mut rest = self.parts.split_off(1.min(self.parts.len()));
        for part in self.parts.iter_mut().chain(&mut rest) {
            known.extend(part.take_trackers());
        }
        if let Some(list) = self.parts.first_mut() {
            for part in rest {
                list.adopt(part);
            }
            list.replace(known, tiers, now);
        }
    }

    /// The download has completed.
    pub fn completed(&mut self) {
        self.parts.iter_mut().for_each(AnnounceList::completed);
    }

    /// Whether a tracker has not yet received `completed`.
    pub fn has_unsent_completed(&self) -> bool {
        self.parts.iter().any(AnnounceList::has_unsent_completed)
    }

    /// The final jobs, as [`AnnounceList::stop_jobs`].
    pub fn stop_jobs(&mut self) -> Vec<AnnounceJob> {
        self.parts.iter_mut().flat_map(AnnounceList::stop_jobs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::tracker::announce::AnnounceEvent;

    const NOW: Duration = Duration::from_secs(1);

    fn schedule(tiers: &[&str], user_trackers: &[&str]) -> TrackerSchedule {
        let user_trackers: Vec<String> = user_trackers.iter().map(|url| (*url).to_owned()).collect();
        let tiers = tiers.iter().map(|url| vec![(*url).to_owned()]).collect();
        TrackerSchedule::new(tiers, &user_trackers, &mut fastrand::Rng::with_seed(1))
    }

    fn asked(schedule: &mut TrackerSchedule) -> Vec<String> {
        std::iter::from_fn(|| schedule.next_job(NOW)).map(|job| job.url).collect()
    }

    #[test]
    fn the_users_trackers_are_always_asked() {
        for private in [false, true] {
            let mut all = schedule(&["http://a/", "http://b/"], &["udp://c", "http://b/", "udp://c", "http://d/"]);
            if private {
                all.ask_one_at_a_time();
            }
            assert_eq!(asked(&mut all), ["http://a/", "udp://c", "http://b/", "http://d/"]);
            all.answered(NOW, "http://a/", &AnnounceTerms { interval: NOW * 1000, ..AnnounceTerms::default() }, true);
            all.failed(NOW, "udp://c", None);
            assert!(all.next_due() < NOW * 1000, "the user's own is tried again");
        }
    }

    #[test]
    fn so_many_at_once_and_completed_goes_before() {
        let user_trackers: Vec<String> = (0..50).map(|n| format!("http://{n}/")).collect();
        let mut all = schedule(&["http://a/"], &user_trackers.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(asked(&mut all).len(), MAX_IN_FLIGHT);
        assert_eq!(all.next_due(), Duration::MAX);
        let terms = AnnounceTerms { interval: NOW * 1000, ..AnnounceTerms::default() };
        all.answered(NOW, "http://a/", &terms, true);
        assert_eq!(asked(&mut all).len(), 1);
        all.want_peers(NOW, true, true);
        assert_eq!(asked(&mut all).len(), MAX_URGENT - MAX_IN_FLIGHT, "no peer is known");
        all.want_peers(NOW, true, false);
        all.completed();
        let job = all.next_job(NOW).expect("completed");
        assert_eq!((job.url.as_str(), job.event), ("http://a/", Some(AnnounceEvent::Completed)));
        assert!(all.next_job(NOW).is_none());
        assert_eq!(all.stop_jobs().len(), 1, "only one knows us, and has been told");
    }
}
