//! When a connection's writer must write although nobody queued a message: a keep-alive, or HAVEs that have waited long enough.
//!
//! HAVEs are sent with the next write. If nothing else is written, they are sent at most [`HAVE_DELAY`] after the first of them,
//! so that a peer is not woken for every piece. A seed, which only displays them, gets them after [`SEED_DELAY`]. In a torrent
//! with many pieces a peer gets at most one batch per second.

use std::time::{Duration, Instant};

/// How long the connection may be silent before a keep-alive is sent. BEP 3 says two minutes, but libtorrent disconnects a peer
/// that was silent for exactly that long.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a HAVE may wait for others.
pub const HAVE_DELAY: Duration = Duration::from_millis(100);
/// The same if the peer has every piece. With 200 idle seeds, ten batches per second cost more than the download itself.
pub const SEED_DELAY: Duration = Duration::from_secs(1);
/// A torrent with more pieces than this has many pieces.
pub const MANY_PIECES: u32 = 20_000;
/// The shortest time between two batches of HAVEs in a torrent with many pieces.
pub const BATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The deadlines of one writer.
#[derive(Debug)]
pub struct SendSchedule {
    last_write: Instant,
    /// When the waiting HAVEs must be sent even if nothing else is.
    batch_due: Option<Instant>,
    /// The earliest time of the next batch.
    next_batch: Instant,
    batch_interval: Duration,
}

impl SendSchedule {
    /// The schedule of a connection whose handshake was sent at `now`, for a torrent with this many pieces.
    pub fn new(now: Instant, pieces: u32) -> SendSchedule {
        let batch_interval = if pieces > MANY_PIECES { BATCH_INTERVAL } else { Duration::ZERO };
        SendSchedule { last_write: now, batch_due: None, next_batch: now, batch_interval }
    }

    /// Records that something was written.
    pub fn wrote(&mut self, now: Instant) {
        self.last_write = now;
    }

    /// Records that a HAVE waits, the first one since the last batch. `is_seed`: the peer has every piece.
    pub fn queue_have(&mut self, now: Instant, is_seed: bool) {
        let delay = if is_seed { SEED_DELAY } else { HAVE_DELAY };
        self.batch_due.get_or_insert((now + delay).max(self.next_batch));
    }

    /// Whether the waiting HAVEs, if any, may be sent with the current write. If so, they count as sent.
    pub fn take_batch(&mut self, now: Instant) -> bool {
        let leaves = self.batch_due.is_some() && now >= self.next_batch;
        if leaves {
            self.batch_due = None;
            self.next_batch = now + self.batch_interval;
        }
        leaves
    }

    /// Whether HAVEs have waited so long that they must be sent even if nothing else is.
    pub fn is_batch_due(&self, now: Instant) -> bool {
        self.batch_due.is_some_and(|due| now >= due)
    }

    /// Whether a keep-alive must be sent.
    pub fn is_keep_alive_due(&self, now: Instant) -> bool {
        now >= self.keep_alive_due()
    }

    /// The next of these deadlines.
    pub fn next_due(&self) -> Instant {
        let keep_alive = self.keep_alive_due();
        self.batch_due.map_or(keep_alive, |due| due.min(keep_alive))
    }

    fn keep_alive_due(&self) -> Instant {
        self.last_write + KEEP_ALIVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_keep_alive_follows_60_to_90_seconds_of_silence() {
        let start = Instant::now();
        let mut schedule = SendSchedule::new(start, 10);
        assert_eq!(schedule.next_due(), start + KEEP_ALIVE);
        assert!((60..=90).contains(&KEEP_ALIVE.as_secs()));
        for (after, due) in [(60_000, false), (74_999, false), (75_000, true), (90_000, true)] {
            assert_eq!(schedule.is_keep_alive_due(start + after * MS), due, "after {after} ms");
        }
        schedule.wrote(start + 50 * MS);
        assert_eq!(schedule.next_due(), start + 50 * MS + KEEP_ALIVE, "any message puts it off");
    }

    #[test]
    fn haves_wait_for_each_other_and_join_other_writes() {
        let start = Instant::now();
        let mut schedule = SendSchedule::new(start, MANY_PIECES);
        assert!(!schedule.take_batch(start), "there are none");
        schedule.queue_have(start, false);
        schedule.queue_have(start + 90 * MS, false);
        assert_eq!(schedule.next_due(), start + HAVE_DELAY, "the first one counts");
        assert!(!schedule.is_batch_due(start + 99 * MS) && schedule.is_batch_due(start + HAVE_DELAY));
        assert!(schedule.take_batch(start + 20 * MS), "with the next write, at any time");
        assert!(!schedule.is_batch_due(start + HAVE_DELAY) && !schedule.take_batch(start + HAVE_DELAY));
        schedule.queue_have(start + 21 * MS, true);
        assert_eq!(schedule.next_due(), start + 21 * MS + SEED_DELAY, "a seed is in no hurry");
        assert!(schedule.take_batch(start + 22 * MS), "few pieces: as often as something is written");
    }

    #[test]
    fn in_a_torrent_of_many_pieces_a_peer_gets_a_batch_a_second() {
        let start = Instant::now();
        let mut schedule = SendSchedule::new(start, MANY_PIECES + 1);
        let mut left = Vec::new();
        // One piece every ten milliseconds, and a write for each of them, for ten seconds.
        for step in 0..1000 {
            let now = start + 10 * step * MS;
            schedule.queue_have(now, false);
            if schedule.take_batch(now) {
                left.push(step);
            }
            schedule.wrote(now);
        }
        assert_eq!(left, (0..10).map(|second| second * 100).collect::<Vec<_>>());
        let last = start + 9_990 * MS;
        assert_eq!(schedule.next_due(), start + Duration::from_secs(10), "the rest leaves by itself");
        assert!(!schedule.is_batch_due(last) && schedule.is_batch_due(start + Duration::from_secs(10)));
    }
}
