//! Announces of `stopped` for torrents that have been removed.

use std::sync::Arc;
use std::time::Duration;

use crate::discovery::tracker::announce::{AnnounceEvent, AnnounceResponse};
use crate::discovery::tracker::dormant::DormantAnnounce;
use crate::discovery::tracker::dormant::schedule::{DormantId, DormantJob, DormantSchedule, DormantTracker};

/// The most announces of `stopped` that wait.
const MAX_STOPPED: usize = 10_000;

/// The tracker that has a torrent in its swarm, and the last `tracker id` that it sent.
pub(super) type RegisteredAt = (Arc<DormantTracker>, Option<Box<[u8]>>);

impl DormantSchedule {
    /// Removes a torrent. If it `says_stopped`, the tracker that knows it is told.
    pub fn remove(&mut self, id: DormantId, says_stopped: bool) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.due.remove(&(entry.due, id));
        if says_stopped && self.stopped.len() + self.waiting_to_stop.len() < MAX_STOPPED {
            let tracker = entry.registered.and_then(|at| entry.trackers.get(at)).map(|(tracker, _)| tracker.clone());
            let registered = tracker.map(|tracker| (tracker, entry.tracker_id));
            if entry.in_flight.is_some() {
                self.waiting_to_stop.insert(id, (entry.torrent, registered));
            } else {
                self.announce_stopped(&entry.torrent, registered);
            }
        }
        self.forget_unused_trackers();
    }

    fn announce_stopped(&mut self, torrent: &Arc<DormantAnnounce>, registered: Option<RegisteredAt>) {
        self.stopped.extend(registered.map(|(tracker, tracker_id)| DormantJob {
            id: None,
            torrent: torrent.clone(),
            tracker,
            event: Some(AnnounceEvent::Stopped),
            tracker_id,
        }));
    }

    /// Whether torrents that have been removed are still to be announced as stopped.
    pub fn has_stopped(&self) -> bool {
        !self.stopped.is_empty() || !self.waiting_to_stop.is_empty()
    }

    /// The next `stopped` to announce. One to a host that does not answer is left out.
    pub fn next_stopped(&mut self, now: Duration) -> Option<DormantJob> {
        for _ in 0..self.stopped.len() {
            let job = self.stopped.pop_front()?;
            if self.hosts.may_ask(&job.tracker.url, now) {
                self.hosts.asked(&job.tracker.url);
                return Some(job);
            }
            if self.hosts.down_until(&job.tracker.url, now).is_none() {
                self.stopped.push_back(job);
            }
        }
        None
    }

    /// The last announce of a torrent that has been removed has ended: each tracker that has the torrent gets `stopped`.
    pub(super) fn stop_after(
        &mut self,
        job: &DormantJob,
        torrent: &Arc<DormantAnnounce>,
        registered: Option<RegisteredAt>,
        answer: Option<AnnounceResponse>,
    ) {
        let is_same = registered.as_ref().is_some_and(|(tracker, _)| tracker.url == job.tracker.url);
        if let Some(answer) = answer.filter(|_| !is_same) {
            self.announce_stopped(torrent, Some((job.tracker.clone(), answer.tracker_id.map(Vec::into_boxed_slice))));
        }
        self.announce_stopped(torrent, registered);
    }
}
