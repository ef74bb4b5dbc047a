//! The peer's requests: checks them, and passes those of one read to the writer together.

use crate::peer::connection::DisconnectReason;
use crate::peer::outbox::WriterCommand;
use crate::peer::reader::Reader;
use crate::types::BlockInfo;
use crate::wire::message::MAX_REQUEST;

/// The requests that one pass over the received bytes finds.
#[derive(Default)]
pub(super) struct PassRequests {
    /// Those of the peer.
    pub(super) requested: Vec<BlockInfo>,
    /// Those among them that will not be answered.
    pub(super) refused: Vec<BlockInfo>,
    /// Those of ours that the peer rejected.
    pub(super) rejected: Vec<BlockInfo>,
}

impl Reader<'_> {
    /// Checks a request and keeps it for the writer.
    pub(super) fn handle_request(&mut self, block: BlockInfo) -> Result<(), DisconnectReason> {
        self.check_range(block)?;
        if block.length == 0 || block.length > MAX_REQUEST {
            return Err(DisconnectReason::ProtocolViolation("a request for less or more than a block"));
        }
        // Requests made while we choke are refused, except for the allowed fast pieces (BEP 6).
        if !self.peer.choking.am_choking.is_set() || self.use_allowed_fast(&block) {
            self.pass.requested.push(block);
        } else if self.peer.extensions.supports_fast {
            self.pass.refused.push(block);
        }
        Ok(())
    }

    /// Takes a request back: from those of this pass, or from the writer's queue.
    pub(super) fn handle_cancel(&mut self, block: BlockInfo) -> Result<(), DisconnectReason> {
        self.check_range(block)?;
        if let Some(at) = self.pass.requested.iter().position(|requested| *requested == block) {
            self.pass.requested.remove(at);
            self.pass.refused.push(block);
        } else if self.peer.serving.queued_requests.get() > 0 {
            self.peer.send(WriterCommand::Withdraw(block));
        }
        Ok(())
    }

    /// Passes the requests of this pass to the writer, as far as its queue has room.
    pub(super) fn answer_requests(&mut self) -> Result<(), DisconnectReason> {
        if self.pass.requested.is_empty() && self.pass.refused.is_empty() {
            return Ok(());
        }
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
