//! Whether the pieces that are begun follow the prescribed order.

use super::*;

impl Model {
    /// Asserts that the pieces just begun for the peer follow the plan, the priorities and the urgent pieces, given the pieces that
    /// were unbegun before.
    pub(super) fn keeps_the_order(&self, key: PeerKey, before: &Bitfield, speed: Speed) {
        let bits = self.picker.peer_bitfield(key).expect("a known peer");
        let now = self.picker.order.unbegun();
        let has_begun = |piece: PieceIndex| before.has(piece) && !now.has(piece);
        let waits = |piece: PieceIndex| now.has(piece) && bits.has(piece) && !self.picker.must_leave(piece, key);
        let urgent = &self.picker.sequence.urgent;
        let is_free = |piece: &PieceIndex| speed == Speed::Stalled || !urgent.contains(piece);
        if speed != Speed::Stalled {
            let mut waiting = urgent.iter().copied().skip_while(|&piece| !waits(piece));
            assert!(waiting.all(|piece| waits(piece) || !has_begun(piece)), "an urgent piece before a more urgent one");
        }
        let mut waiting = self.early.iter().copied().filter(is_free).skip_while(|&piece| !waits(piece));
        assert!(waiting.all(|piece| waits(piece) || !has_begun(piece)), "an early piece before an earlier one");
        let begun: Vec<_> =
            before.iter().filter(is_free).filter(|&piece| has_begun(piece) && !self.early.contains(&piece)).collect();
        assert!(begun.is_empty() || !self.early.iter().any(|&piece| waits(piece)), "{begun:?} before an early piece");
        assert!(
            begun.is_empty() || speed == Speed::Stalled || !urgent.iter().any(|&piece| waits(piece)),
            "{begun:?} before an urgent piece"
        );
        for &piece in &begun {
            let class = self.class(piece);
            let passed = now.iter().find(|&other| {
                let is_first =
                    self.class(other) > class || (self.sequential && self.class(other) == class && other < piece);
                is_first && waits(other)
            });
            assert_eq!(passed, None, "passed over for {piece:?}");
        }
    }

    /// The piece's priority: 2 is high, 0 is low.
    fn class(&self, piece: PieceIndex) -> u8 {
        match &self.picker.sequence.priorities {
            Some(priorities) if priorities.high.has(piece) => 2,
            Some(priorities) if priorities.low.has(piece) => 0,
            _ => 1,
        }
    }
}
