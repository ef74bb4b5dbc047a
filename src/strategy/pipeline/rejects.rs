//! Requests under the fast extension (BEP 6): each is answered by its block or by a reject, and a choke does not discard them.

use crate::strategy::pipeline::{INITIAL_DEPTH, PipelinePhase, RequestPipeline};
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
    pub fn stall_if_none_left(&mut self) {
        if self.queue.is_empty() {
            self.phase = PipelinePhase::Stalled;
            (self.rounds.current, self.rounds.rate) = (None, None);
        }
    }

    /// Processes a choke. Removes and returns all requests or, with `keeps_written`, those that were not written: the others remain
    /// until they are answered, rejected or late.
    ///
    /// If no block came since the unchoke, the pipeline starts anew with few requests: a peer that chokes and unchokes us all the
    /// time must not make us pick and send many requests each time.
    pub fn on_choked(&mut self, keeps_written: bool) -> Vec<BlockInfo> {
        if self.arrivals.awaits_first_block && !self.queue.is_empty() {
            self.depth = (self.depth / 2).clamp(1, INITIAL_DEPTH);
            if self.phase == PipelinePhase::Steady {
                self.phase = PipelinePhase::SlowStart;
            }
        }
        if !keeps_written {
            return self.remove_all();
        }
        self.arrivals.awaits_first_block = true;
        self.rounds.current = None;
        let first = self.first_unwritten();
        self.queue.drain(first..).map(|waiting| waiting.block).collect()
    }
}
