//! The peer's requests: checks them, and passes those of one read to the writer together.

use std::collections::HashMap;

use crate::peer::connection::DisconnectReason;
use crate::peer::outbox::WriterCommand;
use crate::peer::reader::Reader;
use crate::types::BlockInfo;
use crate::wire::message::MAX_REQUEST;

/// The requests that one pass over the received bytes finds.
#[derive(Default)]
pub(super) struct PassRequests {
    /// Those of the peer.
    requested: Vec<BlockInfo>,
    /// Those among them that will not be answered.
    pub(super) refused: Vec<BlockInfo>,
    /// Those of ours that the peer rejected.
    pub(super) rejected: Vec<BlockInfo>,
    /// Requests of earlier passes that the peer cancels.
    withdrawn: Vec<BlockInfo>,
    /// How often each block is in `requested`, without and with its cancels; set at the first cancel, as a search for each of
    /// thousands of cancels would take seconds.
    counts: Option<HashMap<BlockInfo, PeerRequestCount>>,
}

/// How often a pass has requested a block.
#[derive(Clone, Copy, Default)]
struct PeerRequestCount {
    requested: u32,
    cancelled: u32,
}

impl PassRequests {
    /// The peer requests a block.
    fn request(&mut self, block: BlockInfo) {
        self.requested.push(block);
        if let Some(counts) = &mut self.counts {
            counts.entry(block).or_default().requested += 1;
        }
    }

    /// The peer cancels a request; returns whether it is one of this pass.
    fn cancel(&mut self, block: BlockInfo) -> bool {
        if self.requested.is_empty() {
            return false;
        }
        let counts = self.counts.get_or_insert_with(|| {
            let mut counts: HashMap<_, PeerRequestCount> = HashMap::new();
            for block in &self.requested {
                counts.entry(*block).or_default().requested += 1;
            }
            counts
        });
        let Some(count) = counts.get_mut(&block).filter(|count| count.cancelled < count.requested) else {
            return false;
        };
        count.cancelled += 1;
        true
    }

    /// Moves the cancelled requests to those that will not be answered.
    fn apply_cancels(&mut self) {
        let Some(mut counts) = self.counts.take() else { return };
        let refused = &mut self.refused;
        self.requested.retain(|block| {
            let Some(count) = counts.get_mut(block).filter(|count| count.cancelled > 0) else { return true };
            count.cancelled -= 1;
            refused.push(*block);
            false
        });
    }
}

impl Reader<'_> {
    /// Checks a request and keeps it for the writer.
    pub(super) fn handle_request(&mut self, block: BlockInfo) -> Result<(), DisconnectReason> {
        self.check_range(block)?;
        if block.length == 0 || block.length > MAX_REQUEST {
            return Err(DisconnectReason::ProtocolViolation("a request for less or more than a block"));
        }
        // Requests made while we choke are refused, except for the allowed fast pieces (BEP 6).
        if !self.peer.choking.am_choking.is_set() || self.is_allowed_fast(&block) {
            self.pass.request(block);
        } else if self.peer.extensions.supports_fast {
            self.pass.refused.push(block);
        }
        Ok(())
    }

    /// Takes a request back: from those of this pass, or from the writer's queue.
    pub(super) fn handle_cancel(&mut self, block: BlockInfo) -> Result<(), DisconnectReason> {
        self.check_range(block)?;
        if !self.pass.cancel(block) && self.peer.serving.queued_requests.get() > 0 {
            self.pass.withdrawn.push(block);
        }
        Ok(())
    }

    /// Passes the requests and cancels of this pass to the writer, as far as its queue has room.
    pub(super) fn answer_requests(&mut self) -> Result<(), DisconnectReason> {
        if !self.pass.withdrawn.is_empty() {
            self.peer.send(WriterCommand::Withdraw(std::mem::take(&mut self.pass.withdrawn)));
        }
        if self.pass.requested.is_empty() && self.pass.refused.is_empty() {
            return Ok(());
        }
        self.pass.apply_cancels();
        self.context.pieces.retain_servable(&mut self.pass.requested, &mut self.pass.refused);
        if let Some(super_seeding) = self.context.active_super_seed() {
            super_seeding.retain_shown(self.peer.key, &mut self.pass.requested, &mut self.pass.refused);
        }
        let mut batch = std::mem::take(&mut self.pass.requested);
        while !batch.is_empty() && !self.peer.admit_requests(batch.len() as u32) {
            self.pass.refused.extend(batch.pop());
        }
        if !batch.is_empty() {
            self.useless.reset();
            self.peer.send(WriterCommand::Serve(batch));
        }
        self.send_rejects()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PieceIndex;

    fn block(n: u32) -> BlockInfo {
        BlockInfo { piece: PieceIndex(n / 64), begin: n % 64, length: 1 }
    }

    #[test]
    fn a_cancel_takes_back_one_request_before_it() {
        let mut pass = PassRequests::default();
        assert!(!pass.cancel(block(1)), "nothing was requested");
        for n in [1, 2, 1, 3] {
            pass.request(block(n));
        }
        assert!(pass.cancel(block(1)) && !pass.cancel(block(9)));
        pass.request(block(4));
        assert!(pass.cancel(block(4)) && !pass.cancel(block(4)) && pass.cancel(block(2)));
        pass.request(block(4));
        pass.apply_cancels();
        assert_eq!(pass.requested, [1, 3, 4].map(block));
        assert_eq!(pass.refused, [1, 2, 4].map(block));
        assert!(!pass.cancel(block(9)) && pass.cancel(block(3)));
        pass.apply_cancels();
        assert_eq!(pass.requested, [1, 4].map(block));
    }

    /// As many as one pass can have, in the order in which a search for each of them would be slowest.
    #[test]
    fn a_pass_full_of_requests_and_their_cancels_leaves_nothing() {
        let mut pass = PassRequests::default();
        (0..8000).for_each(|n| pass.request(block(n)));
        assert!((0..8000).rev().all(|n| pass.cancel(block(n))));
        pass.apply_cancels();
        assert!(pass.requested.is_empty() && pass.refused.len() == 8000);
    }
}
