//! Which pieces of a torrent are wanted and which come first: the [`Plan`], and how the picker follows it.
//!
//! Only wanted missing pieces are in [`order`](crate::strategy::picker::order) or are ever begun, so no other code needs to check
//! the plan: random-first, runs, end-game and [`Picker::pick_within`] see no other pieces. Without a plan every piece is wanted.

use crate::strategy::picker::{Picker, common};
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex, PieceState};

/// Which pieces to download, and which of them first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The pieces to download.
    pub wanted: Bitfield,
    /// Wanted pieces that come before all others, in this order. Unwanted ones are ignored.
    pub early: Vec<PieceIndex>,
    /// Whether the rest is downloaded in ascending order instead of rarest first.
    pub is_sequential: bool,
}

impl Plan {
    /// Wants all of `pieces` pieces, none before others.
    pub fn all(pieces: u32) -> Plan {
        Plan { wanted: Bitfield::full(pieces), early: Vec::new(), is_sequential: false }
    }

    /// Whether every wanted piece is in `have`.
    pub fn is_met_by(&self, have: &Bitfield) -> bool {
        self.wanted.is_within(have)
    }
}

impl Picker {
    /// Sets the plan, preferably before any peer is added; a later caller must update `interested` for all peers. Begun pieces
    /// are completed whatever the plan says. A plan for a different number of pieces wants all of them.
    pub fn set_plan(&mut self, plan: Plan) {
        let pieces = self.geometry.pieces;
        let Plan { wanted, early, is_sequential } = plan;
        (self.sequence.early, self.sequence.is_sequential) = (early, is_sequential);
        let mut wanted = if wanted.len() == pieces { wanted } else { Bitfield::full(pieces) };
        if wanted.is_full() && self.bytes.wanted == self.geometry.total {
            self.retain_missing_early();
            return; // unchanged
        }
        for &piece in self.begun.keys() {
            wanted.set(piece);
        }
        (self.bytes.missing_wanted, self.bytes.wanted, self.unverified_wanted) = (0, 0, Bitfield::new(pieces));
        for piece in (0..pieces).map(PieceIndex) {
            let size = u64::from(self.geometry.size(piece));
            self.bytes.wanted += if wanted.has(piece) { size } else { 0 };
            if wanted.has(piece) && !self.have.has(piece) {
                self.unverified_wanted.set(piece);
                self.bytes.missing_wanted += size;
            }
            if self.unverified_wanted.has(piece) && !self.begun.contains_key(&piece) {
                self.order.insert(piece);
            } else {
                self.order.remove(piece);
            }
        }
        self.wanted.clear();
        for peer in &mut self.peers {
            let wanted = common(&peer.bits, &self.unverified_wanted);
            (peer.wanted_until, peer.has_no_unbegun) = (self.wanted.bound(peer.key, wanted), false);
        }
        self.retain_missing_early();
    }

    fn retain_missing_early(&mut self) {
        self.sequence.early.retain(|&piece| self.unverified_wanted.has(piece));
        self.sequence.urgent.retain(|&piece| self.unverified_wanted.has(piece));
    }

    /// Whether the piece is wanted and not verified.
    pub fn is_missing_wanted(&self, piece: PieceIndex) -> bool {
        self.unverified_wanted.has(piece)
    }

    /// Whether every piece that is wanted is verified.
    pub fn is_complete(&self) -> bool {
        self.unverified_wanted.count() == 0
    }

    /// Whether every piece of the torrent is verified.
    pub fn is_seed(&self) -> bool {
        self.have.is_full()
    }

    /// Bytes in wanted, unverified pieces.
    pub fn missing_wanted_bytes(&self) -> u64 {
        self.bytes.missing_wanted
    }

    /// Bytes in unverified pieces, wanted or not.
    pub fn missing_bytes(&self) -> u64 {
        self.bytes.missing
    }

    /// Bytes in wanted pieces, verified or not.
    pub fn wanted_bytes(&self) -> u64 {
        self.bytes.wanted
    }

    /// Approximately how many wanted blocks are not on disk.
    pub fn missing_wanted_blocks(&self) -> u64 {
        self.bytes.missing_wanted.div_ceil(u64::from(BLOCK_SIZE)).saturating_sub(self.received)
    }

    /// Replaces the contents of `out` with the number of connected peers that have each piece.
    pub fn availability(&self, out: &mut Vec<u16>) {
        out.clear();
        let holders = |piece| u16::try_from(self.order.holders(PieceIndex(piece))).unwrap_or(u16::MAX);
        out.extend((0..self.geometry.pieces).map(holders));
    }

    /// Replaces the contents of `out` with the state of every piece.
    pub fn piece_states(&self, out: &mut Vec<PieceState>) {
        out.clear();
        // While no peer has announced any piece, missing availability says nothing.
        let told = self.peers.iter().any(|peer| peer.bits.count() > 0);
        out.extend((0..self.geometry.pieces).map(PieceIndex).map(|piece| {
            if self.have.has(piece) {
                PieceState::Verified
            } else if told && self.unverified_wanted.has(piece) && self.order.holders(piece) == 0 {
                PieceState::Unavailable
            } else if !self.unverified_wanted.has(piece) {
                PieceState::Unwanted
            } else if self.order.unbegun().has(piece) {
                PieceState::Missing
            } else {
                PieceState::InProgress
            }
        }));
    }

    /// The early piece that the plan prefers among the unbegun pieces of the peer at this index, or among those in `allowed`.
    pub(super) fn early(&self, peer: usize, allowed: Option<&Bitfield>) -> Option<PieceIndex> {
        let (bits, unbegun) = (allowed.unwrap_or(&self.peers.get(peer)?.bits), self.order.unbegun());
        self.sequence.early.iter().copied().find(|&piece| unbegun.has(piece) && bits.has(piece))
    }
}
