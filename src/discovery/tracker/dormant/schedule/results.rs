//! Updates the schedule with the results of announces.

use std::time::{Duration, SystemTime};

use crate::discovery::tracker::announce::AnnounceResponse;
use crate::discovery::tracker::dormant::schedule::{
    DEFAULT_MIN_INTERVAL, DormantId, DormantJob, DormantResult, DormantSchedule,
};
use crate::discovery::tracker::error::{Retry, TrackerError};
use crate::discovery::tracker::tiers::{SHORTEST_INTERVAL, backoff, has_private_address};

impl DormantSchedule {
    /// Records the result of a job.
    pub fn finished(&mut self, job: &DormantJob, result: Result<AnnounceResponse, TrackerError>, now: Duration) {
        self.hosts.finished(&job.tracker.url, result.as_ref().err(), now, &mut self.rng);
        let jitter = 1.0 + 0.05 * self.rng.f64();
        if let Some((torrent, registered)) = job.id.and_then(|id| self.waiting_to_stop.remove(&id)) {
            return self.stop_after(job, &torrent, registered, result.ok());
        }
        let Some((id, entry)) = job.id.and_then(|id| Some((id, self.entries.get_mut(&id)?))) else { return };
        let Some(at) = entry.in_flight else { return }; // its trackers have been replaced
        if entry.trackers.get(at).is_none_or(|(tracker, _)| tracker.url != job.tracker.url) {
            return;
        }
        entry.in_flight = None;
        let last = DormantResult {
            at: SystemTime::now(),
            peers: result.as_ref().map(|answer| answer.peers.len()).map_err(TrackerError::clone),
            seeds: result.as_ref().ok().and_then(|answer| answer.complete),
            leechers: result.as_ref().ok().and_then(|answer| answer.incomplete),
            warning: result.as_ref().ok().and_then(|answer| answer.warning.clone()),
        };
        entry.last = Some((at, Box::new(last)));
        match result {
            Ok(answer) => {
                let shortest = if has_private_address(&job.tracker.url) { Duration::ZERO } else { SHORTEST_INTERVAL };
                let min_interval =
                    answer.min_interval.unwrap_or(DEFAULT_MIN_INTERVAL.min(answer.interval)).max(shortest);
                entry.due = now.saturating_add(answer.interval.max(min_interval).mul_f64(jitter));
                entry.earliest = now.saturating_add(min_interval);
                let before = entry.registered.replace(at);
                let kept = entry.tracker_id.take().filter(|_| before == Some(at));
                entry.tracker_id = answer.tracker_id.map(Vec::into_boxed_slice).or(kept);
                (entry.failures, entry.next, entry.retry_at) = (0, 0, Duration::ZERO);
            }
            Err(error) => {
                match error.retry() {
                    Some(Retry::Never) => entry.refused |= 1 << at,
                    Some(Retry::After(wait)) => entry.retry_at = entry.retry_at.max(now.saturating_add(wait)),
                    None => {}
                }
                entry.next = at + 1;
                entry.due = now;
                if entry.usable_from(entry.next).is_none() {
                    self.end_round(id, now);
                    return;
                }
            }
        }
        self.due.insert((entry.due, id));
    }

    /// No tracker of the round answered: the next round waits.
    pub(super) fn end_round(&mut self, id: DormantId, now: Duration) {
        let jitter = 0.9 + 0.2 * self.rng.f64();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.due.remove(&(entry.due, id));
        entry.next = 0;
        entry.due = now.saturating_add(backoff(entry.failures, jitter)).max(entry.retry_at);
        entry.earliest = now.saturating_add(backoff(0, 1.0)).max(entry.retry_at);
        entry.retry_at = Duration::ZERO;
        entry.failures = (entry.failures + 1).min(16);
        if entry.usable_from(0).is_some() {
            self.due.insert((entry.due, id));
        }
    }
}
