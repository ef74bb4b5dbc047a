//! Detects whether a super-seed's upload is idle.
//!
//! A leecher that takes a block now and then does not make the upload busy: the bytes sent between two ticks are compared with
//! the recent maximum.

use std::time::Duration;

/// The upload is busy if at least one part in this many of the recent maximum is sent.
const BUSY: u64 = 4;
/// One part in this many of the maximum is forgotten with each tick.
const FORGET: u64 = 8;

#[derive(Debug, Default)]
pub(crate) struct UploadMeter {
    /// Bytes since the last tick.
    bytes: u64,
    /// The recent maximum of bytes between two ticks.
    most: u64,
    /// The last tick with a busy upload.
    busy: Duration,
}

impl UploadMeter {
    /// Records bytes sent.
    pub fn sent(&mut self, bytes: u32) {
        self.bytes += u64::from(bytes);
    }

    /// Ends a tick, and returns how long the upload has been idle.
    pub fn idle(&mut self, now: Duration) -> Duration {
        let bytes = std::mem::take(&mut self.bytes);
        self.most = bytes.max(self.most - self.most / FORGET);
        if bytes > 0 && bytes >= self.most / BUSY {
            self.busy = now;
        }
        now.saturating_sub(self.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds of idleness after each second in which this many bytes were sent.
    fn idle_for(sent: &[u32]) -> Vec<u64> {
        let mut upload = UploadMeter::default();
        let tick = |(now, &bytes): (usize, &u32)| {
            upload.sent(bytes);
            upload.idle(Duration::from_secs(now as u64 + 1)).as_secs()
        };
        sent.iter().enumerate().map(tick).collect()
    }

    #[test]
    fn a_trickle_does_not_keep_the_upload_busy() {
        assert_eq!(idle_for(&[100, 100, 30, 0, 100, 0, 0]), [0, 0, 0, 1, 0, 1, 2]);
        assert_eq!(idle_for(&[1000, 10, 10, 10, 1000]), [0, 1, 2, 3, 0]);
    }

    #[test]
    fn a_connection_that_has_become_slow_is_busy_after_a_while() {
        let idle = idle_for(&[&[1000][..], &[100; 20]].concat());
        assert_eq!(idle[5], 5);
        assert_eq!(idle.last(), Some(&0));
    }
}
