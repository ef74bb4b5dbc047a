//! Requests that have been picked and wait for the writer. Their clocks start when they are written: a peer cannot be late with
//! what our own uplink holds up.

use std::time::Duration;

use crate::strategy::pipeline::{OutstandingRequest, RequestPipeline};
use crate::types::BlockRequest;

impl RequestPipeline {
    /// These are sent and written at once.
    pub fn add(&mut self, now: Duration, blocks: &[BlockRequest]) {
        self.enqueue(now, blocks);
        self.written = self.sent;
    }

    /// These are to be written: until [`RequestPipeline::take_unwritten`] gives them out, the peer cannot be late with them.
    pub fn enqueue(&mut self, now: Duration, blocks: &[BlockRequest]) {
        if self.queue.is_empty() && !blocks.is_empty() {
            // Waiting begins now; while nothing was outstanding the peer could not be late.
            (self.progress, self.since) = (self.progress.max(now), self.since.max(now));
            self.round = None;
            self.drain = false;
        }
        for &block in blocks {
            self.sent += 1;
            self.queue.push_back(OutstandingRequest {
                block,
                at: now,
                number: self.sent,
                clean: self.queue.is_empty(),
            });
        }
    }

    /// Appends to `out` the requests to write now, oldest first. True where nothing was late or could be before: the next deadline
    /// is to be asked for again.
    pub fn take_unwritten(&mut self, now: Duration, out: &mut Vec<BlockRequest>) -> bool {
        let first = self.first_unwritten();
        let alone = first == 0 && !self.queue.is_empty();
        if alone {
            (self.progress, self.since) = (self.progress.max(now), self.since.max(now));
        }
        for waiting in self.queue.iter_mut().skip(first) {
            waiting.at = now;
            out.push(waiting.block);
        }
        self.written = self.sent;
        alone
    }

    /// Where in the queue the requests begin that have not been written.
    pub(crate) fn first_unwritten(&self) -> usize {
        self.queue.partition_point(|waiting| waiting.number <= self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::pipeline::{LIMIT_UNSTATED, RejectOutcome};
    use crate::types::PieceIndex;

    const LONG: Duration = Duration::from_secs(3600);

    fn block(begin: u32) -> BlockRequest {
        BlockRequest { piece: PieceIndex(0), begin, length: 1 }
    }

    #[test]
    fn nothing_is_late_before_it_is_written() {
        let mut requests = RequestPipeline::new(LIMIT_UNSTATED);
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
    fn a_choke_takes_out_what_was_not_written() {
        let mut requests = RequestPipeline::new(LIMIT_UNSTATED);
        requests.add(Duration::ZERO, &[block(0)]);
        requests.enqueue(Duration::ZERO, &[block(1), block(2)]);
        assert_eq!(requests.pause(), [block(1), block(2)]);
        assert_eq!(
            requests.reject(&block(0)),
            RejectOutcome::OutstandingRequest,
            "a fast peer answers what it was asked for"
        );
        requests.enqueue(Duration::ZERO, &[block(3)]);
        assert_eq!(requests.drain(), [block(3)]);
        let mut out = Vec::new();
        requests.take_unwritten(Duration::ZERO, &mut out);
        assert!(out.is_empty());
    }
}
