//! Cancels requests when a stream seeks, so that it need not wait for the answers to requests for other pieces.

use std::time::Duration;

use crate::strategy::pipeline::RequestPipeline;
use crate::types::{BLOCK_SIZE, BlockInfo, PieceIndex};

/// Requests to a peer are cancelled for seeks at most once in this time.
const CANCEL_INTERVAL: Duration = Duration::from_secs(1);

/// Which seeks of streams the pipeline has followed, and the cancels that wait for the writer.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancels {
    /// The number of seeks so far, when requests were last cancelled for one.
    followed_seeks: u64,
    last: Option<Duration>,
    /// Cancelled requests whose CANCEL has not been written.
    unwritten: Vec<BlockInfo>,
}

impl RequestPipeline {
    /// Whether streams have seeked since requests were last cancelled for them, and that was not a moment ago. `seeks` is the number
    /// of seeks so far.
    pub fn is_cancel_due(&self, now: Duration, seeks: u64) -> bool {
        self.cancels.followed_seeks < seeks
            && self.cancels.last.is_none_or(|last| now >= last + CANCEL_INTERVAL)
            && self.cancels.unwritten.is_empty()
    }

    /// Follows the streams that seeked: removes the outstanding requests that `is_useful` does not name, and returns them. Their
    /// blocks may still arrive. Keeps the requests whose answers are on their way, as these blocks would arrive twice.
    pub fn cancel_for_seek(
        &mut self,
        now: Duration,
        seeks: u64,
        is_useful: impl Fn(&BlockInfo) -> bool,
    ) -> Vec<BlockInfo> {
        if !self.is_cancel_due(now, seeks) {
            return Vec::new();
        }
        let (written, arriving) = (self.first_unwritten(), self.arriving());
        let mut removed = Vec::new();
        let mut at = 0;
        self.queue.retain(|waiting| {
            let keeps = at < arriving.min(written) || is_useful(&waiting.block);
            if !keeps {
                removed.push(waiting.block);
                if at < written {
                    self.cancels.unwritten.push(waiting.block);
                }
            }
            at += 1;
            keeps
        });
        self.cancels.followed_seeks = seeks;
        if !removed.is_empty() {
            self.cancels.last = Some(now);
        }
        let written = self.cancels.unwritten.len() as u32;
        self.rejectable_cancels = self.rejectable_cancels.saturating_add(written);
        removed
    }

    /// Removes the outstanding requests for a piece that the peer has lost, and returns them. A fast peer still rejects them
    /// (BEP 6), so no CANCEL is needed.
    pub fn remove_piece(&mut self, piece: PieceIndex) -> Vec<BlockInfo> {
        let written = self.first_unwritten();
        let (mut removed, mut at) = (Vec::new(), 0);
        self.queue.retain(|waiting| {
            let keeps = waiting.block.piece != piece;
            if !keeps {
                removed.push(waiting.block);
                self.rejectable_cancels = self.rejectable_cancels.saturating_add(u32::from(at < written));
            }
            at += 1;
            keeps
        });
        removed
    }

    /// Takes the requests to send CANCEL for, before the next requests are written: one of them may be for the same block.
    pub fn take_cancels(&mut self) -> Vec<BlockInfo> {
        std::mem::take(&mut self.cancels.unwritten)
    }

    /// How many of the oldest requests a CANCEL would not reach in time: those that the peer answers within a round trip, and the
    /// one that it is answering.
    fn arriving(&self) -> usize {
        let rtt = self.timing.min_age.unwrap_or_default().max(self.timing.tcp_rtt);
        let bytes = self.rounds.rate.unwrap_or_default() * rtt.as_secs_f64();
        (bytes / f64::from(BLOCK_SIZE)).ceil() as usize + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::pipeline::{DEFAULT_REQQ, RejectOutcome};

    const MS: Duration = Duration::from_millis(1);

    fn block(piece: u32) -> BlockInfo {
        BlockInfo { piece: PieceIndex(piece), begin: 0, length: BLOCK_SIZE }
    }

    fn blocks(pieces: std::ops::Range<u32>) -> Vec<BlockInfo> {
        pieces.map(block).collect()
    }

    fn is_even(block: &BlockInfo) -> bool {
        block.piece.0.is_multiple_of(2)
    }

    #[test]
    fn useless_requests_are_cancelled_but_for_those_whose_answers_are_on_their_way() {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        requests.add(Duration::ZERO, &blocks(1..8));
        requests.enqueue(Duration::ZERO, &blocks(8..10)); // not written, so no CANCEL
        assert_eq!(requests.cancel_for_seek(MS, 1, is_even), [3, 5, 7, 9].map(block));
        assert_eq!(requests.take_cancels(), [3, 5, 7].map(block));
        assert!(requests.take_cancels().is_empty());
        assert_eq!(requests.reject(&block(3)), RejectOutcome::Cancelled);
        let mut written = Vec::new();
        requests.take_unwritten(MS, &mut written);
        assert_eq!((written, requests.len()), (vec![block(8)], 5));
        assert_eq!([1, 2, 4, 6, 8].map(|piece| requests.take(MS, &block(piece)).is_some()), [true; 5]);
    }

    #[test]
    fn requests_for_a_lost_piece_go_and_may_still_be_rejected() {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        let second = BlockInfo { begin: BLOCK_SIZE, ..block(2) };
        requests.add(Duration::ZERO, &[block(1), block(2), second, block(3)]);
        requests.enqueue(Duration::ZERO, &[BlockInfo { begin: 2 * BLOCK_SIZE, ..block(2) }]); // not written
        assert_eq!(requests.remove_piece(PieceIndex(2)).len(), 3);
        assert!(requests.take_cancels().is_empty() && requests.remove_piece(PieceIndex(2)).is_empty());
        let outcomes = [block(2), second, block(2), block(3)].map(|block| requests.reject(&block));
        let (gone, unknown, open) =
            (RejectOutcome::Cancelled, RejectOutcome::Unrequested, RejectOutcome::OutstandingRequest);
        assert_eq!(outcomes, [gone, gone, unknown, open]);
    }

    #[test]
    fn a_long_path_keeps_more_requests() {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        requests.set_tcp_rtt(MS * 100);
        requests.settle_at(f64::from(BLOCK_SIZE) * 20.0);
        requests.add(Duration::ZERO, &blocks(0..60));
        assert_eq!(requests.cancel_for_seek(MS, 1, |_| false), blocks(3..60));
    }

    #[test]
    fn each_seek_is_followed_once_and_at_most_once_a_second() {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        let mut cancelled = |ms: u32, seeks| {
            requests.add(MS * ms, &blocks(0..9));
            let count = requests.cancel_for_seek(MS * ms, seeks, |_| false).len();
            requests.take_cancels();
            requests.remove_all();
            count
        };
        assert_eq!(
            [(0, 0), (10, 1), (20, 1), (500, 2), (900, 3)].map(|(ms, seeks)| cancelled(ms, seeks)),
            [0, 8, 0, 0, 0]
        );
        assert_eq!([(1010, 3), (2500, 3), (2600, 4)].map(|(ms, seeks)| cancelled(ms, seeks)), [8, 0, 8]);
    }

    #[test]
    fn nothing_more_is_cancelled_before_the_last_cancels_are_written() {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        requests.add(Duration::ZERO, &blocks(0..3));
        assert_eq!(requests.cancel_for_seek(MS, 1, |_| false).len(), 2);
        requests.add(MS, &blocks(3..6));
        assert!(!requests.is_cancel_due(MS * 5000, 2) && requests.cancel_for_seek(MS * 5000, 2, |_| false).is_empty());
        assert_eq!(requests.take_cancels(), blocks(1..3));
        assert_eq!(requests.cancel_for_seek(MS * 5000, 2, |_| false), blocks(3..6));
    }

    #[test]
    fn a_seek_that_cancels_nothing_delays_the_next_one_by_nothing() {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        requests.add(Duration::ZERO, &blocks(0..3));
        assert!(requests.cancel_for_seek(MS, 1, |_| true).is_empty());
        assert_eq!(requests.cancel_for_seek(MS * 2, 2, |_| false), blocks(1..3));
    }
}
