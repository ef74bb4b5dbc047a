//! Whose turn it is among several torrents, what has become of each, and what that makes of the whole; and that none
//! is fetched twice. Pure: no threads, no files.
//!
//! At most so many download at once, and the others wait in the order in which they were named. One that only seeds is not
//! counted: else `--seed` would keep those that wait from ever beginning.

use std::collections::HashMap;

use crate::cli::exit::Exit;
use crate::types::InfoHash;

/// Names a torrent among those of this process, in the order in which they were named, from 0.
pub(crate) type Job = usize;

/// What has become of a torrent that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All of it is there.
    Whole,
    /// Another job has the same torrent, and what becomes of it counts there.
    Same,
    /// It failed, or was stopped before it was whole.
    Failed(Exit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Downloading,
    Seeding,
    Ended(End),
}

/// How many torrents are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub waiting: usize,
    pub downloading: usize,
    pub seeding: usize,
    /// Whole and ended.
    pub whole: usize,
    pub failed: usize,
}

/// All torrents of this process.
pub(crate) struct Queue {
    limit: usize,
    jobs: Vec<State>,
    /// Of `jobs`.
    counts: Counts,
    /// Before this one none waits.
    first: Job,
    closed: bool,
}

impl Queue {
    /// An empty queue of which `limit` download at once.
    pub fn new(limit: usize) -> Queue {
        Queue { limit: limit.max(1), jobs: Vec::new(), counts: Counts::default(), first: 0, closed: false }
    }

    /// One more, behind all others.
    pub fn add(&mut self) -> Job {
        self.jobs.push(State::Waiting);
        self.counts.waiting += 1;
        self.jobs.len() - 1
    }

    /// The one whose turn it is; it downloads from now on.
    pub fn begin(&mut self) -> Option<Job> {
        let counts = self.counts;
        if self.closed || counts.waiting == 0 || counts.downloading >= self.limit {
            return None;
        }
        let ahead = self.jobs.iter().skip(self.first).position(|state| *state == State::Waiting)?;
        let job = self.first + ahead;
        self.first = job + 1;
        self.set(job, State::Downloading);
        Some(job)
    }

    /// All of it is there; if it goes on, it only seeds.
    pub fn is_whole(&mut self, job: Job) {
        if self.jobs.get(job) == Some(&State::Downloading) {
            self.set(job, State::Seeding);
        }
    }

    /// It is over.
    pub fn ended(&mut self, job: Job, end: End) {
        self.set(job, State::Ended(end));
    }

    /// Nothing begins from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether nothing runs, and nothing will without another one being added.
    pub fn is_idle(&self) -> bool {
        let counts = self.counts;
        counts.downloading + counts.seeding == 0 && (self.closed || counts.waiting == 0)
    }

    /// How many are in which state.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The exit code: that of the first one, as they were named, that is not whole.
    pub fn verdict(&self) -> Exit {
        let code = |state: &State| match state {
            State::Ended(End::Failed(code)) => Some(*code),
            State::Waiting | State::Downloading => Some(Exit::Unfinished),
            State::Seeding | State::Ended(End::Whole | End::Same) => None,
        };
        self.jobs.iter().find_map(code).unwrap_or(Exit::Done)
    }

    fn set(&mut self, job: Job, state: State) {
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

impl Counts {
    /// Where a state is counted; what is fetched under another name is not.
    fn of(&mut self, state: State) -> Option<&mut usize> {
        match state {
            State::Waiting => Some(&mut self.waiting),
            State::Downloading => Some(&mut self.downloading),
            State::Seeding => Some(&mut self.seeding),
            State::Ended(End::Whole) => Some(&mut self.whole),
            State::Ended(End::Failed(_)) => Some(&mut self.failed),
            State::Ended(End::Same) => None,
        }
    }
}

/// Which torrents are taken, so that none is fetched twice: the job that has each, and whether that job failed.
#[derive(Default)]
pub(crate) struct Claims(HashMap<InfoHash, (Job, bool)>);

impl Claims {
    /// Takes a torrent for this job; false if another job has it. A torrent that failed can be taken again by a file that appears in the
    /// watched folder, but not by a second name on the command line (`is_named`): a torrent that is named twice is one torrent.
    pub fn claim(&mut self, job: Job, info_hash: InfoHash, is_named: bool) -> bool {
        let owner = self.0.entry(info_hash).or_insert((job, false));
        if owner.1 && !is_named {
            *owner = (job, false);
        }
        owner.0 == job
    }

    /// The job has failed.
    pub fn release(&mut self, job: Job) {
        self.0.values_mut().filter(|(owner, _)| *owner == job).for_each(|(_, has_failed)| *has_failed = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(limit: usize, jobs: usize) -> Queue {
        let mut queue = Queue::new(limit);
        assert!((0..jobs).all(|job| queue.add() == job));
        queue
    }

    fn begun(queue: &mut Queue) -> Vec<Job> {
        std::iter::from_fn(|| queue.begin()).collect()
    }

    #[test]
    fn so_many_at_once_and_in_order() {
        let mut queue = queue(2, 4);
        assert_eq!(begun(&mut queue), [0, 1]);
        queue.ended(1, End::Whole);
        assert_eq!(begun(&mut queue), [2]);
        queue.ended(0, End::Failed(Exit::DiskFull));
        queue.ended(2, End::Whole);
        assert_eq!(begun(&mut queue), [3]);
        assert!(!queue.is_idle());
        queue.ended(3, End::Same);
        assert!(queue.is_idle());
        assert_eq!(queue.counts(), Counts { whole: 2, failed: 1, ..Counts::default() });
        assert_eq!(queue.add(), 4);
        assert_eq!((queue.is_idle(), begun(&mut queue)), (false, vec![4]));
    }

    #[test]
    fn who_only_seeds_keeps_nobody_waiting() {
        let mut queue = queue(1, 3);
        assert_eq!(begun(&mut queue), [0]);
        queue.is_whole(0);
        assert_eq!(begun(&mut queue), [1]);
        queue.is_whole(1);
        queue.ended(0, End::Whole);
        assert_eq!(begun(&mut queue), [2]);
        queue.ended(2, End::Whole);
        // A word that comes late changes nothing.
        queue.is_whole(2);
        assert_eq!(queue.counts(), Counts { seeding: 1, whole: 2, ..Counts::default() });
        assert!(!queue.is_idle());
    }

    #[test]
    fn nothing_begins_once_it_is_closed() {
        let mut queue = queue(1, 2);
        assert_eq!(begun(&mut queue), [0]);
        queue.close();
        queue.ended(0, End::Whole);
        assert_eq!((begun(&mut queue), queue.is_idle()), (vec![], true));
        assert_eq!(queue.verdict(), Exit::Unfinished, "one was never begun");
    }

    #[test]
    fn the_first_failure_as_they_were_named_is_the_exit_code() {
        let mut queue = queue(5, 4);
        assert_eq!(begun(&mut queue).len(), 4);
        queue.ended(3, End::Failed(Exit::Network));
        queue.ended(1, End::Failed(Exit::BadTorrent));
        queue.ended(0, End::Whole);
        queue.ended(2, End::Same);
        assert_eq!(queue.verdict(), Exit::BadTorrent);
        let mut well = Queue::new(1);
        assert_eq!(well.verdict(), Exit::Done);
        well.add();
        assert_eq!(begun(&mut well), [0]);
        well.ended(0, End::Whole);
        assert_eq!(well.verdict(), Exit::Done);
    }

    #[test]
    fn no_torrent_is_begun_twice() {
        let mut claims = Claims::default();
        let [one, other] = [InfoHash([1; 20]), InfoHash([2; 20])];
        let named = true;
        assert!(claims.claim(0, one, named) && claims.claim(1, other, named) && !claims.claim(2, one, !named));
        claims.release(0);
        assert!(!claims.claim(2, one, named), "it was named twice");
        assert!(claims.claim(3, one, !named), "it appeared again in the watched folder");
        assert!(!claims.claim(4, one, !named) && !claims.claim(5, other, !named));
    }
}
