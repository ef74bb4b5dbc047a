//! Requests that were picked and wait for the writer. Their time starts when they are written, so that the peer does not count as
//! late because of our own uplink.

use std::time::Duration;

use crate::strategy::pipeline::{OutstandingRequest, RequestPipeline};
use crate::types::BlockInfo;

impl RequestPipeline {
    /// Adds requests that are written at once.
    #[cfg(any(test, feature = "internals"))]
    pub fn add(&mut self, now: Duration, blocks: &[BlockInfo]) {
        self.enqueue(now, blocks);
        self.numbers.written = self.numbers.sent;
    }

    /// Adds requests that are to be written. They cannot be late before [`RequestPipeline::take_unwritten`] returns them.
    pub fn enqueue(&mut self, now: Duration, blocks: &[BlockInfo]) {
        if self.queue.is_empty() && !blocks.is_empty() {
            // Waiting begins now; without an outstanding request the peer could not be late.
            (self.arrivals.progress, self.arrivals.since) =
                (self.arrivals.progress.max(now), self.arrivals.since.max(now));
            self.rounds.current = None;
            self.is_draining = false;
        }
        for &block in blocks {
            self.numbers.sent += 1;
            self.queue.push_back(OutstandingRequest {
                block,
                at: now,
                number: self.numbers.sent,
                is_unqueued: self.queue.is_empty(),
            });
        }
    }

    /// Appends the requests to write now to `out`, the oldest first. Returns true if none was outstanding before, so that the
    /// caller must read the next deadline again.
    pub fn take_unwritten(&mut self, now: Duration, out: &mut Vec<BlockInfo>) -> bool {
        let first = self.first_unwritten();
        let alone = first == 0 && !self.queue.is_empty();
        if alone {
            (self.arrivals.progress, self.arrivals.since) =
                (self.arrivals.progress.max(now), self.arrivals.since.max(now));
        }
        for waiting in self.queue.iter_mut().skip(first) {
            waiting.at = now;
            out.push(waiting.block);
        }
        self.numbers.written = self.numbers.sent;
        alone
    }

    /// The index of the first unwritten request in the queue.
    pub(crate) fn first_unwritten(&self) -> usize {
        self.queue.partition_point(|waiting| waiting.number <= self.numbers.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::pipeline::{DEFAULT_REQQ, RejectOutcome};
    use crate::types::PieceIndex;

    const LONG: Duration = Duration::from_secs(3600);

    fn block(begin: u32) -> BlockInfo {
        BlockInfo { piece: PieceIndex(0), begin, length: 1 }
    }

    #[test]
    fn nothing_is_late_before_it_is_written() {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        requests.enqueue(Duration::ZERO, &[block(0), block(1)]);
        assert_eq!((requests.len(), requests.next_deadline()), (2, None));
        assert!(requests.expire(LONG).is_empty());
        let mut out = Vec::new();
        assert!(requests.take_unwritten(LONG, &mut out), "the first deadline");
        assert_eq!(out, [block(0), block(1)]);
        assert!(requests.next_deadline().is_some_and(|due| due > LONG), "the clock starts now");
        requests.enqueue(LONG, &[block(2)]);
        out.clear();
        assert!(!requests.take_unwritten(LONG, &mut out), "others are outstanding");
        assert_eq!(out, [block(2)]);
        assert!(!requests.take_unwritten(LONG, &mut out) && out.len() == 1, "each once");
    }

    #[test]
    fn a_choke_removes_unwritten_requests() {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        requests.add(Duration::ZERO, &[block(0)]);
        requests.enqueue(Duration::ZERO, &[block(1), block(2)]);
        assert_eq!(requests.on_choked(true), [block(1), block(2)]);
        assert_eq!(
            requests.reject(&block(0)),
            RejectOutcome::OutstandingRequest,
            "a fast peer answers what it was asked for"
        );
        requests.enqueue(Duration::ZERO, &[block(3)]);
        assert_eq!(requests.remove_all(), [block(3)]);
        let mut out = Vec::new();
        requests.take_unwritten(Duration::ZERO, &mut out);
        assert!(out.is_empty());
    }
}
