//! The reader's part of the fast extension (BEP 6).

use crate::peer::connection::DisconnectReason;
use crate::peer::outbox::WriterCommand;
use crate::peer::reader::{Reader, WRONG_BITFIELD_LENGTH};
use crate::peer::roster::refill_idle_peers;
use crate::strategy::allowed_fast::{SET_SIZE, allowed_fast};
use crate::strategy::fast_grants;
use crate::strategy::pipeline::RejectOutcome;
use crate::types::{BLOCK_SIZE, Bitfield, BlockInfo, PieceIndex};
use crate::wire::message::Message;

impl Reader<'_> {
    /// Handles `have all`, `have none`, `suggest` and `allowed fast`; both sides support the extension.
    pub(super) fn handle_fast(&mut self, message: &Message<'_>) -> Result<(), DisconnectReason> {
        let count = self.context.pieces.piece_count();
        match message {
            // They replace the bitfield at the start of a connection, but no later one.
            Message::HaveAll | Message::HaveNone if self.once.has_announced_pieces => {
                Err(DisconnectReason::ProtocolViolation("a late have-all or have-none"))
            }
            Message::HaveAll => self.peer_has_bits(Bitfield::full(count)),
            Message::HaveNone => self.peer_has_bits(Bitfield::new(count)),
            Message::Suggest(piece) | Message::AllowedFast(piece) if piece.0 >= count => {
                Err(DisconnectReason::ProtocolViolation("allowed or suggested a piece beyond the last one"))
            }
            Message::AllowedFast(piece) => self.handle_allowed_fast(*piece),
            // Suggestions are ignored: the rarest piece is the better choice.
            _ => Ok(()),
        }
    }

    /// The peer has these pieces, perhaps more than before.
    pub(super) fn peer_has_bits(&mut self, bits: Bitfield) -> Result<(), DisconnectReason> {
        let count = bits.count();
        if bits.len() != self.context.pieces.piece_count() {
            return Err(WRONG_BITFIELD_LENGTH);
        }
        let shown = self.context.active_super_seed().map(|super_seeding| (super_seeding, bits.clone()));
        if !self.context.pieces.set_bitfield(self.peer.key, bits) {
            return Err(DisconnectReason::ProtocolViolation("a bitfield that takes pieces back"));
        }
        if let Some((super_seeding, bits)) = shown {
            super_seeding.has(self.context, self.peer.key, bits.iter());
        }
        if !std::mem::replace(&mut self.once.has_announced_pieces, true) && count < SET_SIZE {
            self.send_allowed_fast();
        }
        self.request_if_idle();
        self.disconnect_if_redundant()
    }

    /// A fast peer that has almost nothing may request a few of our pieces although it is choked. A super-seed grants none, as
    /// it shows each peer only certain pieces.
    fn send_allowed_fast(&mut self) {
        if !self.peer.extensions.supports_fast || self.context.active_super_seed().is_some() {
            return;
        }
        let context = self.context;
        if !self.has_fast_grant() {
            return;
        }
        let most = fast_grants::set_size(context.pieces.storage().layout().piece_length());
        let mut set = allowed_fast(self.peer.addr.ip(), context.settings.info_hash, context.pieces.piece_count(), most);
        context.pieces.retain_verified(&mut set);
        if !set.is_empty() {
            self.peer.choking.allowed_fast.grant(set.clone());
            self.peer.send(WriterCommand::AllowedFast(set));
        }
    }

    /// Whether the peer's host may have more blocks while it is choked. The writer counts those that it sends.
    fn has_fast_grant(&self) -> bool {
        let most = fast_grants::grant(self.context.pieces.storage().layout().piece_length());
        self.context.fast_quota.lock().left(self.context.now(), self.peer.addr.ip(), most) > 0
    }

    /// Whether a choked peer may have this block all the same.
    pub(super) fn is_allowed_fast(&self, block: &BlockInfo) -> bool {
        !self.context.is_paused()
            && block.length <= BLOCK_SIZE
            && self.peer.choking.allowed_fast.is_granted(block.piece)
            && self.has_fast_grant()
    }

    /// The peer allows us to request a piece although it chokes us.
    fn handle_allowed_fast(&mut self, piece: PieceIndex) -> Result<(), DisconnectReason> {
        if self.peer.choking.allowed_fast.add(piece) && self.peer.choking.peer_choking.is_set() {
            self.ensure_deadline_thread()?;
            self.peer.refill(self.context);
        }
        Ok(())
    }

    /// Handles our requests that the peer rejected in this pass: exactly those blocks become free.
    pub(super) fn take_rejected(&mut self) -> Result<(), DisconnectReason> {
        if self.pass.rejected.is_empty() {
            return Ok(());
        }
        let (context, peer) = (self.context, self.peer);
        let mut blocks = std::mem::take(&mut self.pass.rejected);
        self.count_useless(blocks.len() as u32)?;
        let choked = peer.choking.peer_choking.is_set();
        if choked {
            self.count_discarded(blocks.len() as u32)?;
        }
        let mut unasked = false;
        let stalled;
        {
            let mut requests = peer.requesting.pipeline.lock();
            blocks.retain(|block| {
                let was = requests.reject(block);
                unasked |= was == RejectOutcome::Unrequested;
                was == RejectOutcome::OutstandingRequest
            });
            if !choked && !blocks.is_empty() {
                requests.stall_if_none_left();
            }
            stalled = requests.is_stalled();
        }
        if unasked {
            return Err(DisconnectReason::ProtocolViolation("a reject for a block that was not requested"));
        }
        if choked {
            peer.choking.allowed_fast.remove_rejected(&blocks);
            context.pieces.release(peer.key, &blocks);
        } else {
            // The peer may reject them again, so other peers come first.
            context.pieces.expire(peer.key, &blocks, stalled);
        }
        refill_idle_peers(context);
        Ok(())
    }

    /// Tells the peer which of its requests will not be answered.
    pub(super) fn send_rejects(&mut self) -> Result<(), DisconnectReason> {
        let refused = std::mem::take(&mut self.pass.refused);
        if self.peer.extensions.supports_fast && !refused.is_empty() {
            self.count_useless(refused.len() as u32)?;
        }
        if self.peer.send_rejects(refused) { Ok(()) } else { Err(DisconnectReason::Flood) }
    }
}
