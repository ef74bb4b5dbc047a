//! Requests under the fast extension (BEP 6): each is answered by its block or by a reject, and a choke does not discard them.

use crate::strategy::pipeline::{PipelinePhase, RequestPipeline};
use crate::types::BlockInfo;

/// What a reject referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectOutcome {
    /// An outstanding request, which is now removed.
    OutstandingRequest,
    /// A request that was cancelled before.
    Cancelled,
    /// No request of ours.
    Unrequested,
}

impl RequestPipeline {
    /// Processes a reject from the peer.
    pub fn reject(&mut self, block: &BlockInfo) -> RejectOutcome {
        if let Some(at) = self.position(block) {
            self.queue.remove(at);
            RejectOutcome::OutstandingRequest
        } else if self.rejectable_cancels > 0 {
            self.rejectable_cancels -= 1;
            RejectOutcome::Cancelled
        } else {
            RejectOutcome::Unrequested
        }
    }

    /// To be called after rejects from a peer that does not choke us. A peer that rejects all requests is asked for a single
    /// block until one arrives, so that it cannot keep us busy.
    pub fn note_all_rejected(&mut self) {
        if self.queue.is_empty() {
            self.phase = PipelinePhase::Stalled;
            (self.rounds.current, self.rounds.rate) = (None, None);
        }
    }

    /// Processes a choke: outstanding requests remain until they are answered, rejected or late. Removes and returns the requests
    /// that were not written.
    pub fn take_unwritten_on_choke(&mut self) -> Vec<BlockInfo> {
        self.arrivals.awaits_first_block = true;
        self.rounds.current = None;
        let first = self.first_unwritten();
        self.queue.drain(first..).map(|waiting| waiting.block).collect()
    }
}
