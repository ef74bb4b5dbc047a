//! Decides when a download without progress gives up. Pure: the caller says what has arrived and what time it is.

use std::time::Duration;

/// What a torrent has received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedData {
    /// Payload bytes.
    pub payload: u64,
    /// Pieces of a magnet link's metadata.
    pub metadata: usize,
    /// Whether it still fetches the metadata.
    pub is_fetching_metadata: bool,
}

/// When a download without progress gives up.
#[derive(Debug)]
pub struct StopTimeout {
    limit: Option<Duration>,
    last: ReceivedData,
    /// When `last` changed, or the download last could not make progress.
    since: Duration,
}

impl StopTimeout {
    /// Gives up `limit` after the last progress, if there is a limit.
    pub fn new(limit: Option<Duration>, now: Duration) -> StopTimeout {
        StopTimeout { limit, last: ReceivedData::default(), since: now }
    }

    /// Whether to give up. While nothing is expected to arrive (`is_idle`), the time does not run.
    pub fn has_passed(&mut self, now: Duration, received: ReceivedData, is_idle: bool) -> bool {
        if is_idle || received != self.last {
            (self.last, self.since) = (received, now);
        }
        self.limit.is_some_and(|limit| now >= self.since + limit)
    }

    /// When data last arrived, or could not be expected to.
    pub fn last_progress(&self) -> Duration {
        self.since
    }

    /// When to ask again.
    pub fn due(&self, now: Duration) -> Duration {
        self.limit.map_or(Duration::MAX, |limit| (self.since + limit).max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn only_progress_and_idle_times_restart_the_clock() {
        let mut timeout = StopTimeout::new(Some(secs(10)), secs(5));
        let nothing = ReceivedData::default();
        assert_eq!(timeout.due(secs(5)), secs(15));
        assert!(!timeout.has_passed(secs(14), nothing, false));
        assert!(!timeout.has_passed(secs(15), nothing, true), "paused or complete");
        let metadata = ReceivedData { metadata: 1, is_fetching_metadata: true, ..nothing };
        assert!(!timeout.has_passed(secs(25), metadata, false));
        let transfer = ReceivedData { is_fetching_metadata: false, ..metadata };
        assert!(!timeout.has_passed(secs(35), transfer, false), "the download begins");
        assert!(!timeout.has_passed(secs(45), ReceivedData { payload: 1, ..transfer }, false));
        assert_eq!(timeout.due(secs(46)), secs(55));
        assert!(timeout.has_passed(secs(55), ReceivedData { payload: 1, ..transfer }, false));
        assert_eq!(timeout.due(secs(56)), secs(56));
    }

    #[test]
    fn without_a_limit_the_download_never_gives_up() {
        let mut timeout = StopTimeout::new(None, secs(0));
        assert!(!timeout.has_passed(secs(1 << 30), ReceivedData::default(), false));
        assert_eq!(timeout.due(secs(1)), Duration::MAX);
    }
}
