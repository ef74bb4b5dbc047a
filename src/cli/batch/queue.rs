//! The queue of a batch: decides which torrent starts next, records the outcome of each, and derives the exit code. Also
//! ensures that no torrent is downloaded twice. Pure: no threads, no files.
//!
//! A limited number of torrents downloads at once; the others wait in the order in which they were added. A seeding torrent
//! does not count against the limit: otherwise `--seed` would keep waiting torrents from ever starting.

use std::collections::HashMap;

use crate::cli::exit::Exit;
use btsync::InfoHash;

/// Identifies a torrent of this batch: its position in the order of the command line, from 0.
pub(crate) type JobId = usize;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobOutcome {
    /// The torrent is complete.
    Complete,
    /// Another job has the same torrent; that job's outcome counts.
    Duplicate,
    /// It failed, or was stopped before it was complete.
    Failed(Exit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobState {
    Waiting,
    Downloading,
    Seeding,
    Ended(JobOutcome),
}

/// The number of torrents in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobCounts {
    pub waiting: usize,
    pub downloading: usize,
    pub seeding: usize,
    /// Complete and ended.
    pub complete: usize,
    pub failed: usize,
}

/// All torrents of a batch.
pub(crate) struct JobQueue {
    limit: usize,
    jobs: Vec<JobState>,
    /// The number of `jobs` in each state.
    counts: JobCounts,
    /// No job before this one is waiting.
    first: JobId,
    is_closed: bool,
}

impl JobQueue {
    /// An empty queue with at most `limit` downloads at once.
    pub fn new(limit: usize) -> JobQueue {
        JobQueue { limit: limit.max(1), jobs: Vec::new(), counts: JobCounts::default(), first: 0, is_closed: false }
    }

    /// Adds a job at the end.
    pub fn add(&mut self) -> JobId {
        self.jobs.push(JobState::Waiting);
        self.counts.waiting += 1;
        self.jobs.len() - 1
    }

    /// Returns the next job to start and marks it as downloading; `None` if none may start.
    pub fn start_next(&mut self) -> Option<JobId> {
        let counts = self.counts;
        if self.is_closed || counts.waiting == 0 || counts.downloading >= self.limit {
            return None;
        }
        let ahead = self.jobs.iter().skip(self.first).position(|state| *state == JobState::Waiting)?;
        let job = self.first + ahead;
        self.first = job + 1;
        self.set(job, JobState::Downloading);
        Some(job)
    }

    /// Marks a downloading job as seeding: its download is complete.
    pub fn mark_complete(&mut self, job: JobId) {
        if self.jobs.get(job) == Some(&JobState::Downloading) {
            self.set(job, JobState::Seeding);
        }
    }

    /// Records that a job has ended.
    pub fn note_ended(&mut self, job: JobId, end: JobOutcome) {
        self.set(job, JobState::Ended(end));
    }

    /// From now on, no job starts.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether no job runs and none will start unless one is added.
    pub fn is_idle(&self) -> bool {
        let counts = self.counts;
        counts.downloading + counts.seeding == 0 && (self.is_closed || counts.waiting == 0)
    }

    /// The number of jobs in each state.
    pub fn counts(&self) -> JobCounts {
        self.counts
    }

    /// The exit code of the first job, in order, that is not complete.
    pub fn exit_code(&self) -> Exit {
        let code = |state: &JobState| match state {
            JobState::Ended(JobOutcome::Failed(code)) => Some(*code),
            JobState::Waiting | JobState::Downloading => Some(Exit::Unfinished),
            JobState::Seeding | JobState::Ended(JobOutcome::Complete | JobOutcome::Duplicate) => None,
        };
        self.jobs.iter().find_map(code).unwrap_or(Exit::Done)
    }

    fn set(&mut self, job: JobId, state: JobState) {
        let Some(place) = self.jobs.get_mut(job) else { return };
        let before = std::mem::replace(place, state);
        if let Some(count) = self.counts.of(before) {
            *count -= 1;
        }
        if let Some(count) = self.counts.of(state) {
            *count += 1;
        }
    }
}

impl JobCounts {
    /// The counter for a state; duplicates are not counted.
    fn of(&mut self, state: JobState) -> Option<&mut usize> {
        match state {
            JobState::Waiting => Some(&mut self.waiting),
            JobState::Downloading => Some(&mut self.downloading),
            JobState::Seeding => Some(&mut self.seeding),
            JobState::Ended(JobOutcome::Complete) => Some(&mut self.complete),
            JobState::Ended(JobOutcome::Failed(_)) => Some(&mut self.failed),
            JobState::Ended(JobOutcome::Duplicate) => None,
        }
    }
}

/// The torrents that jobs have claimed, so that none is downloaded twice.
#[derive(Default)]
pub(crate) struct TakenTorrents(HashMap<InfoHash, TorrentClaim>);

/// The job that has claimed a torrent.
struct TorrentClaim {
    job: JobId,
    has_failed: bool,
}

impl TakenTorrents {
    /// Claims a torrent for a job; false if another job has it. If the owner failed, a file that appears in the watched
    /// folder can claim the torrent again, but a second name on the command line (`is_named`) cannot: it means the same
    /// torrent.
    pub fn claim(&mut self, job: JobId, info_hash: InfoHash, is_named: bool) -> bool {
        let claim = self.0.entry(info_hash).or_insert(TorrentClaim { job, has_failed: false });
        if claim.has_failed && !is_named {
            *claim = TorrentClaim { job, has_failed: false };
        }
        claim.job == job
    }

    /// Records that the job failed.
    pub fn mark_failed(&mut self, job: JobId) {
        self.0.values_mut().filter(|claim| claim.job == job).for_each(|claim| claim.has_failed = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(limit: usize, jobs: usize) -> JobQueue {
        let mut queue = JobQueue::new(limit);
        assert!((0..jobs).all(|job| queue.add() == job));
        queue
    }

    fn begun(queue: &mut JobQueue) -> Vec<JobId> {
        std::iter::from_fn(|| queue.start_next()).collect()
    }

    #[test]
    fn so_many_at_once_and_in_order() {
        let mut queue = queue(2, 4);
        assert_eq!(begun(&mut queue), [0, 1]);
        queue.note_ended(1, JobOutcome::Complete);
        assert_eq!(begun(&mut queue), [2]);
        queue.note_ended(0, JobOutcome::Failed(Exit::DiskFull));
        queue.note_ended(2, JobOutcome::Complete);
        assert_eq!(begun(&mut queue), [3]);
        assert!(!queue.is_idle());
        queue.note_ended(3, JobOutcome::Duplicate);
        assert!(queue.is_idle());
        assert_eq!(queue.counts(), JobCounts { complete: 2, failed: 1, ..JobCounts::default() });
        assert_eq!(queue.add(), 4);
        assert_eq!((queue.is_idle(), begun(&mut queue)), (false, vec![4]));
    }

    #[test]
    fn seeding_torrents_do_not_delay_others() {
        let mut queue = queue(1, 3);
        assert_eq!(begun(&mut queue), [0]);
        queue.mark_complete(0);
        assert_eq!(begun(&mut queue), [1]);
        queue.mark_complete(1);
        queue.note_ended(0, JobOutcome::Complete);
        assert_eq!(begun(&mut queue), [2]);
        queue.note_ended(2, JobOutcome::Complete);
        // A late message changes nothing.
        queue.mark_complete(2);
        assert_eq!(queue.counts(), JobCounts { seeding: 1, complete: 2, ..JobCounts::default() });
        assert!(!queue.is_idle());
    }

    #[test]
    fn nothing_begins_once_it_is_closed() {
        let mut queue = queue(1, 2);
        assert_eq!(begun(&mut queue), [0]);
        queue.close();
        queue.note_ended(0, JobOutcome::Complete);
        assert_eq!((begun(&mut queue), queue.is_idle()), (vec![], true));
        assert_eq!(queue.exit_code(), Exit::Unfinished, "one was never begun");
    }

    #[test]
    fn the_first_failure_as_they_were_named_is_the_exit_code() {
        let mut queue = queue(5, 4);
        assert_eq!(begun(&mut queue).len(), 4);
        queue.note_ended(3, JobOutcome::Failed(Exit::Network));
        queue.note_ended(1, JobOutcome::Failed(Exit::BadTorrent));
        queue.note_ended(0, JobOutcome::Complete);
        queue.note_ended(2, JobOutcome::Duplicate);
        assert_eq!(queue.exit_code(), Exit::BadTorrent);
        let mut well = JobQueue::new(1);
        assert_eq!(well.exit_code(), Exit::Done);
        well.add();
        assert_eq!(begun(&mut well), [0]);
        well.note_ended(0, JobOutcome::Complete);
        assert_eq!(well.exit_code(), Exit::Done);
    }

    #[test]
    fn no_torrent_is_begun_twice() {
        let mut taken_torrents = TakenTorrents::default();
        let [one, other] = [InfoHash([1; 20]), InfoHash([2; 20])];
        let named = true;
        assert!(
            taken_torrents.claim(0, one, named)
                && taken_torrents.claim(1, other, named)
                && !taken_torrents.claim(2, one, !named)
        );
        taken_torrents.mark_failed(0);
        assert!(!taken_torrents.claim(2, one, named), "it was named twice");
        assert!(taken_torrents.claim(3, one, !named), "it appeared again in the watched folder");
        assert!(!taken_torrents.claim(4, one, !named) && !taken_torrents.claim(5, other, !named));
    }
}
