//! The reader's part of the fast extension (BEP 6).

use std::sync::atomic::Ordering;

use crate::peer::connection::Gone;
use crate::peer::outbox::Out;
use crate::peer::reader::{MISFIT, Reader};
use crate::peer::roster::feed_the_hungry;
use crate::strategy::allowed_fast::{SET, allowed_fast};
use crate::strategy::pipeline::Rejected;
use crate::types::{BLOCK, Bitfield, BlockRequest, PieceIndex};
use crate::wire::message::Message;

/// What a choked peer may be given of its allowed fast set, in bytes; of large pieces the set has fewer, but one.
const GIFT: u32 = 8 << 20;

impl Reader<'_> {
    /// `have all`, `have none`, `suggest` and `allowed fast`; both sides speak the extension.
    pub(super) fn act_fast(&mut self, message: &Message<'_>) -> Result<(), Gone> {
        let count = self.shared.pieces.count();
        match message {
            // They stand for the bitfield that opens a connection, and for no later one.
            Message::HaveAll | Message::HaveNone if self.told => Err(Gone::Broke("a late have-all or have-none")),
            Message::HaveAll => self.peer_has_bits(Bitfield::full(count)),
            Message::HaveNone => self.peer_has_bits(Bitfield::new(count)),
            Message::Suggest(piece) | Message::AllowedFast(piece) if piece.0 >= count => {
                Err(Gone::Broke("a piece beyond the last one allowed or suggested"))
            }
            Message::AllowedFast(piece) => self.allowed(*piece),
            // A suggestion is a hint; the rarest piece is the better choice.
            _ => Ok(()),
        }
    }

    /// The peer has these, and perhaps more than before.
    pub(super) fn peer_has_bits(&mut self, bits: Bitfield) -> Result<(), Gone> {
        let count = bits.count();
        if bits.len() != self.shared.pieces.count() {
            return Err(MISFIT);
        }
        let shown = self.shared.revealing().map(|reveal| (reveal, bits.clone()));
        if !self.shared.pieces.bitfield(self.peer.key, bits) {
            return Err(Gone::Broke("a bitfield that takes pieces back"));
        }
        if let Some((reveal, bits)) = shown {
            reveal.has(self.shared, self.peer.key, bits.iter());
        }
        if !std::mem::replace(&mut self.told, true) && count < SET {
            self.grant();
        }
        self.newly_wanted();
        self.leave_if_useless()
    }

    /// A fast peer has next to nothing: it may have a few of our pieces although it is choked, but of a super-seed only what it
    /// is shown.
    fn grant(&mut self) {
        if !self.peer.fast || self.shared.revealing().is_some() {
            return;
        }
        let shared = self.shared;
        let size = shared.pieces.storage().layout().piece_length().max(1);
        let most = SET.min((GIFT / size).max(1));
        let mut set = allowed_fast(self.peer.addr.ip(), shared.info_hash, shared.pieces.count(), most);
        shared.pieces.keep_owned(&mut set);
        if !set.is_empty() {
            // Each block once, and as much again for what is lost on the way.
            self.gift = 2 * size.div_ceil(BLOCK).saturating_mul(set.len() as u32);
            self.peer.allowed.grant(set.clone());
            self.peer.send(Out::AllowedFast(set));
        }
    }

    /// Whether the peer, which is choked, may have this block all the same.
    pub(super) fn takes_gift(&mut self, block: &BlockRequest) -> bool {
        let granted = self.gift > 0
            && !self.shared.is_paused()
            && block.length <= BLOCK
            && self.peer.allowed.is_granted(block.piece);
        self.gift -= u32::from(granted);
        granted
    }

    /// The peer lets us have a piece although it chokes us.
    fn allowed(&mut self, piece: PieceIndex) -> Result<(), Gone> {
        if self.peer.allowed.add(piece) && self.peer.peer_choking.load(Ordering::Acquire) {
            self.start_watch()?;
            self.peer.refill(self.shared);
        }
        Ok(())
    }

    /// The requests of ours that the peer rejected in this turn: exactly those blocks are free again.
    pub(super) fn take_rejected(&mut self) -> Result<(), Gone> {
        if self.rejected.is_empty() {
            return Ok(());
        }
        let (shared, peer) = (self.shared, self.peer);
        let mut blocks = std::mem::take(&mut self.rejected);
        self.talk(blocks.len() as u32)?;
        let choked = peer.peer_choking.load(Ordering::Acquire);
        let mut unasked = false;
        let snubbed;
        {
            let mut requests = peer.requests.lock();
            blocks.retain(|block| {
                let was = requests.reject(block);
                unasked |= was == Rejected::Unasked;
                was == Rejected::Waiting
            });
            if !choked && !blocks.is_empty() {
                requests.refused();
            }
            snubbed = requests.is_snubbed();
        }
        if unasked {
            return Err(Gone::Broke("a reject of what was not asked for"));
        }
        if choked {
            peer.allowed.take_back(&blocks);
            shared.pieces.release(peer.key, &blocks);
        } else {
            // It may reject them again: others first.
            shared.pieces.expire(peer.key, &blocks, snubbed);
        }
        feed_the_hungry(shared);
        Ok(())
    }

    /// Tells the peer what of its requests is not answered.
    pub(super) fn refuse(&mut self) -> Result<(), Gone> {
        let refused = std::mem::take(&mut self.refused);
        if self.peer.fast && !refused.is_empty() {
            self.talk(refused.len() as u32)?;
        }
        if self.peer.refuse(refused) { Ok(()) } else { Err(Gone::Flood) }
    }
}
