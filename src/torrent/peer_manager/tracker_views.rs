//! What programs see of the trackers, and what they change: the list of trackers, and announces before their time.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::discovery::tracker::announce::AnnounceResponse;
use crate::discovery::tracker::error::TrackerError;
use crate::discovery::tracker::schedule::TrackerSchedule;
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::peer_search::TrackerState;
use crate::torrent::views::TrackerView;
use crate::util::cold_sort;

/// The last results of a torrent's trackers, by URL.
#[derive(Default)]
pub(super) struct TrackerResults {
    results: HashMap<String, TrackerResult>,
}

struct TrackerResult {
    at: SystemTime,
    state: TrackerState,
    seeds: Option<u32>,
    leechers: Option<u32>,
    warning: Option<String>,
}

impl TrackerResults {
    /// Records the result of an announce. A tracker that does not answer keeps the counts that it gave before.
    pub fn record(&mut self, url: &str, result: &Result<AnnounceResponse, TrackerError>) {
        let before = self.results.remove(url);
        let at = SystemTime::now();
        let result = match result {
            Ok(answer) => TrackerResult {
                at,
                state: TrackerState::Answered { peers: answer.peers.len() },
                seeds: answer.complete,
                leechers: answer.incomplete,
                warning: answer.warning.clone(),
            },
            Err(error) => TrackerResult {
                at,
                state: TrackerState::Failed { error: error.clone() },
                seeds: before.as_ref().and_then(|before| before.seeds),
                leechers: before.as_ref().and_then(|before| before.leechers),
                warning: None,
            },
        };
        self.results.insert(url.to_owned(), result);
    }

    /// The trackers of the schedule, as programs see them; `now` is the time of the torrent's clock.
    pub fn views(&self, schedule: &TrackerSchedule, now: Duration) -> Vec<TrackerView> {
        let clock = SystemTime::now();
        let time = |due: Duration| clock.checked_add(due.saturating_sub(now));
        let view = |facts: crate::discovery::tracker::tiers::TrackerFacts<'_>| {
            let last = self.results.get(facts.url);
            TrackerView {
                url: facts.url.to_owned(),
                tier: facts.tier,
                is_announcing: facts.is_announcing,
                last_announce: last.map(|last| last.at),
                last_result: last.map(|last| last.state.clone()),
                seeds: last.and_then(|last| last.seeds),
                leechers: last.and_then(|last| last.leechers),
                warning: last.and_then(|last| last.warning.clone()),
                next_announce: facts.next.and_then(time),
                earliest_announce: facts.earliest.and_then(time),
            }
        };
        let mut views: Vec<TrackerView> = schedule.facts().into_iter().map(view).collect();
        cold_sort::sort_by_key(&mut views, |view| view.tier);
        views
    }

    /// Forgets the trackers that the schedule does not have.
    pub fn retain(&mut self, schedule: &TrackerSchedule) {
        let known: Vec<_> = schedule.facts().into_iter().map(|facts| facts.url).collect();
        self.results.retain(|url, _| known.contains(&url.as_str()));
    }
}

impl PeerManager<'_> {
    /// Does what programs have asked for since the last call, as far as trackers are concerned.
    pub(super) fn apply_tracker_requests(&mut self, now: Duration) {
        let requests = &self.inner.peers.tracker_requests;
        if requests.replaced.swap(false)
            && let Some(tiers) = requests.tiers.lock().clone()
        {
            self.announcer.replace(tiers, &self.config, now);
        }
        if requests.reannounce.swap(false) {
            self.announcer.reannounce(now);
        }
    }

    /// Publishes what programs see of the trackers, if that may have changed.
    pub(super) fn publish_trackers(&mut self, now: Duration) {
        if let Some(views) = self.announcer.changed_views(now) {
            *self.inner.peers.tracker_views.lock() = views;
        }
    }

    /// The torrent stops: no further announce is due.
    pub(super) fn publish_no_announces(&self) {
        for view in self.inner.peers.tracker_views.lock().iter_mut() {
            (view.is_announcing, view.next_announce, view.earliest_announce) = (false, None, None);
        }
    }
}
