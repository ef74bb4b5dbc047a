//! What is wanted of a torrent, and what of it first: the [`Plan`], and how the picker follows it.
//!
//! Only pieces that are wanted and missing stand in [`order`](crate::strategy::picker::order) or are ever begun, so that nothing else need ask
//! the plan: random-first, runs, end-game and [`Picker::pick_within`] know no other pieces. Without a plan everything is wanted.

use crate::strategy::picker::{Picker, Progress, common};
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex};

/// Which pieces are to be fetched, and which of them first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The pieces that are to be fetched.
    pub wanted: Bitfield,
    /// These come before all others, the first of them first; those that are not wanted do not count.
    pub early: Vec<PieceIndex>,
    /// Whether the rest comes in ascending order, not rarest first.
    pub sequential: bool,
}

impl Plan {
    /// All of so many pieces, none of them before others.
    pub fn all(pieces: u32) -> Plan {
        Plan { wanted: Bitfield::full(pieces), early: Vec::new(), sequential: false }
    }

    /// Whether nothing that is wanted is missing where these pieces are there.
    pub fn is_met_by(&self, have: &Bitfield) -> bool {
        self.wanted.is_within(have)
    }
}

impl Picker {
    /// Follows this plan from now on, best before there are peers: whoever calls later sees to it that `interested` is said
    /// anew. Pieces that are begun are fetched to their end whatever it says. A plan for another number of pieces wants all.
    pub fn set_plan(&mut self, plan: Plan) {
        let pieces = self.geometry.pieces;
        let Plan { wanted, early, sequential } = plan;
        (self.early, self.sequential) = (early, sequential);
        let mut wanted = if wanted.len() == pieces { wanted } else { Bitfield::full(pieces) };
        if wanted.is_full() && self.wanted == self.geometry.total {
            self.early.retain(|&piece| self.lacks.has(piece));
            return; // as it was
        }
        for &piece in self.begun.keys() {
            wanted.set(piece);
        }
        (self.left, self.wanted, self.lacks) = (0, 0, Bitfield::new(pieces));
        for piece in (0..pieces).map(PieceIndex) {
            let size = u64::from(self.geometry.size(piece));
            self.wanted += if wanted.has(piece) { size } else { 0 };
            if wanted.has(piece) && !self.have.has(piece) {
                self.lacks.set(piece);
                self.left += size;
            }
            if self.lacks.has(piece) && !self.begun.contains_key(&piece) {
                self.order.insert(piece);
            } else {
                self.order.remove(piece);
            }
        }
        for peer in &mut self.peers {
            (peer.wanted, peer.dry) = (common(&peer.bits, &self.lacks), false);
        }
        self.early.retain(|&piece| self.lacks.has(piece));
    }

    /// Whether every piece that is wanted is verified.
    pub fn is_complete(&self) -> bool {
        self.lacks.count() == 0
    }

    /// Whether every piece of the torrent is verified.
    pub fn is_seed(&self) -> bool {
        self.have.is_full()
    }

    /// Bytes in pieces that are wanted and not verified.
    pub fn left_bytes(&self) -> u64 {
        self.left
    }

    /// Bytes in pieces that are not verified, wanted or not.
    pub fn missing_bytes(&self) -> u64 {
        self.missing
    }

    /// Bytes in pieces that are wanted, verified or not.
    pub fn wanted_bytes(&self) -> u64 {
        self.wanted
    }

    /// About how many blocks that are wanted are not on disk.
    pub fn lacking_blocks(&self) -> u64 {
        self.left.div_ceil(u64::from(BLOCK_SIZE)).saturating_sub(self.received)
    }

    /// Puts one cell for every piece into `out`, in place of what is there.
    pub fn piece_states(&self, out: &mut Vec<Progress>) {
        out.clear();
        // While nobody has anything, or nobody has said so yet, that a piece is not seen says nothing.
        let told = self.peers.iter().any(|peer| peer.bits.count() > 0);
        out.extend((0..self.geometry.pieces).map(PieceIndex).map(|piece| {
            if self.have.has(piece) {
                Progress::Have
            } else if told && self.lacks.has(piece) && self.order.holders(piece) == 0 {
                Progress::Unavailable
            } else if !self.lacks.has(piece) {
                Progress::Unwanted
            } else if self.order.unbegun().has(piece) {
                Progress::Missing
            } else {
                Progress::Begun
            }
        }));
    }

    /// What the plan says of the unbegun pieces of the peer at this place: an early one, or with `sequential` the lowest.
    pub(crate) fn planned(&mut self, peer: usize) -> Option<PieceIndex> {
        let bits = &self.peers.get(peer)?.bits;
        let unbegun = self.order.unbegun();
        let early = self.early.iter().copied().find(|&piece| unbegun.has(piece) && bits.has(piece));
        if early.is_none() && self.sequential { self.order.first(bits) } else { early }
    }
}
