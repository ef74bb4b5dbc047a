//! Pieces that come before others because the user prefers their files.

use crate::strategy::picker::Picker;
use crate::types::Bitfield;

/// Pieces that come before or after all others. A piece in both comes before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PiecePriorities {
    /// The pieces that come first.
    pub high: Bitfield,
    /// The pieces that come last.
    pub low: Bitfield,
}

impl Picker {
    /// Sets whether pieces of the same priority are picked in ascending order. Begun pieces are completed whatever the order.
    pub fn set_sequential(&mut self, is_sequential: bool) {
        self.sequence.is_sequential = is_sequential;
    }

    /// Sets the priorities of pieces; they do not change which pieces are wanted. Ignored if made for another number of pieces.
    pub fn set_priorities(&mut self, priorities: Option<PiecePriorities>) {
        let pieces = self.geometry.pieces;
        self.sequence.priorities =
            priorities.filter(|priorities| priorities.high.len() == pieces && priorities.low.len() == pieces);
    }

    /// The unbegun pieces of the peer at this index, or of those in `allowed`, that have the highest priority; `None` if
    /// priorities make no difference.
    pub(super) fn preferred(&self, peer: usize, allowed: Option<&Bitfield>) -> Option<Bitfield> {
        let PiecePriorities { high, low } = self.sequence.priorities.as_ref()?;
        let unbegun = self.order.unbegun().intersection(allowed.unwrap_or(&self.peers.get(peer)?.bits));
        let preferred = unbegun.intersection(high);
        if preferred.count() > 0 {
            return Some(preferred);
        }
        let normal = unbegun.difference(low);
        (normal.count() > 0).then_some(normal)
    }
}
