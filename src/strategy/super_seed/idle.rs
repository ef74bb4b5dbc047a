//! Whether a super-seed's upload is idle.
//!
//! A peer that takes a block now and then does not keep it busy: what is sent between two ticks is compared with the most that was
//! sent lately.

use std::time::Duration;

/// In how many parts of the most that was sent lately one has to be sent, so that the upload is busy.
const BUSY: u64 = 4;
/// The part of the most that is forgotten with each tick.
const FORGET: u64 = 8;

#[derive(Debug, Default)]
pub(crate) struct UploadMeter {
    /// Bytes since the last tick.
    bytes: u64,
    /// The most between two ticks, lately.
    most: u64,
    /// The last tick at which it was busy.
    busy: Duration,
}

impl UploadMeter {
    /// So many bytes were sent.
    pub fn sent(&mut self, bytes: u32) {
        self.bytes += u64::from(bytes);
    }

    /// A tick: for how long it has been idle.
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

    /// Seconds of idleness after each second in which so many bytes were sent.
    fn idle_for(sent: &[u32]) -> Vec<u64> {
        let mut upload = UploadMeter::default();
        let tick = |(now, &bytes): (usize, &u32)| {
            upload.sent(bytes);
            upload.idle(Duration::from_secs(now as u64 + 1)).as_secs()
        };
        sent.iter().enumerate().map(tick).collect()
    }

    #[test]
    fn a_trickle_does_not_keep_it_busy() {
        assert_eq!(idle_for(&[100, 100, 30, 0, 100, 0, 0]), [0, 0, 0, 1, 0, 1, 2]);
        assert_eq!(idle_for(&[1000, 10, 10, 10, 1000]), [0, 1, 2, 3, 0]);
    }

    #[test]
    fn a_line_that_has_become_slow_is_busy_after_a_while() {
        let idle = idle_for(&[&[1000][..], &[100; 20]].concat());
        assert_eq!(idle[5], 5);
        assert_eq!(idle.last(), Some(&0));
    }
}
