//! What the fast extension (BEP 6) adds to requests: each is answered, by its block or by a reject; a choke takes none back.

use crate::strategy::pipeline::{PipelinePhase, RequestPipeline};
use crate::types::BlockRequest;

/// What a reject was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectOutcome {
    /// A request that waited for its answer, and does no longer.
    OutstandingRequest,
    /// One that was cancelled before.
    Cancelled,
    /// Nothing that was asked for.
    Unasked,
}

impl RequestPipeline {
    /// The peer rejects this one.
    pub fn reject(&mut self, block: &BlockRequest) -> RejectOutcome {
        if let Some(at) = self.position(block) {
            self.queue.remove(at);
            RejectOutcome::OutstandingRequest
        } else if self.unanswered > 0 {
            self.unanswered -= 1;
            RejectOutcome::Cancelled
        } else {
            RejectOutcome::Unasked
        }
    }

    /// To be said after rejects of a peer that does not choke us: one that rejects all is asked for a single block until one
    /// comes, so that it cannot keep us busy with asking.
    pub fn refused(&mut self) {
        if self.queue.is_empty() {
            self.phase = PipelinePhase::Snubbed;
            (self.round, self.flow) = (None, None);
        }
    }

    /// The peer chokes us: what is outstanding stays so until it is sent, rejected or late. What has not been written is taken
    /// out.
    pub fn pause(&mut self) -> Vec<BlockRequest> {
        self.fresh = true;
        self.round = None;
        let first = self.first_unwritten();
        self.queue.drain(first..).map(|waiting| waiting.block).collect()
    }
}
