//! Complete pieces of one fast peer, which wait for each other to be hashed together.
//!
//! A peer that delivers many pieces in a moment is not hashed block by block: its pieces are read back from the page cache and hashed
//! several at once, which takes less time than one running hash. Pure: the caller says the time and reads the pieces.

use std::time::Duration;

use crate::hash::Kernels;
use crate::types::PieceIndex;

/// The longest that a complete piece waits for others.
pub const MAX_WAIT: Duration = Duration::from_millis(50);
/// A batch is hashed if the peer sends nothing for this long.
pub const IDLE_WAIT: Duration = Duration::from_millis(3);
/// Fewer pieces are not worth reading back.
const LEAST_PIECES: usize = 4;

/// Complete pieces that are not yet hashed.
#[derive(Debug, Default)]
pub struct PieceBatch {
    pieces: Vec<PieceIndex>,
    /// When the first of them became complete.
    since: Duration,
}

impl PieceBatch {
    /// How many pieces to hash at once from a peer that sends `rate` bytes a second, in pieces of `piece_length` bytes; `None` if
    /// they arrive too slowly to wait for each other.
    pub fn size_for(rate: u64, piece_length: u32) -> Option<usize> {
        let within_wait = rate as f64 * MAX_WAIT.as_secs_f64() / f64::from(piece_length.max(1));
        let fits = (within_wait as usize).min(Kernels::chosen().fastest().width());
        Some(fits).filter(|fits| *fits >= LEAST_PIECES)
    }

    /// Adds a piece whose blocks are all on disk.
    pub fn push(&mut self, now: Duration, piece: PieceIndex) {
        if self.pieces.is_empty() {
            self.since = now;
        }
        self.pieces.push(piece);
    }

    /// Whether there is no piece.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether the pieces should wait no longer for others; `size` is what [`PieceBatch::size_for`] says now.
    pub fn is_due(&self, now: Duration, size: Option<usize>) -> bool {
        !self.pieces.is_empty()
            && (size.is_none_or(|size| self.pieces.len() >= size) || now.saturating_sub(self.since) >= MAX_WAIT)
    }

    /// Removes all pieces.
    pub fn take(&mut self) -> Vec<PieceIndex> {
        std::mem::take(&mut self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_a_peer_that_delivers_several_pieces_in_a_moment_is_batched() {
        let width = Kernels::chosen().fastest().width();
        let expected = Some(width).filter(|width| *width >= LEAST_PIECES);
        assert_eq!(PieceBatch::size_for(1 << 30, 256 << 10), expected);
        assert_eq!(PieceBatch::size_for(10 << 20, 256 << 10), None, "two pieces in 50 ms");
        assert_eq!(PieceBatch::size_for(1 << 30, 16 << 20), None, "three pieces in 50 ms");
        assert_eq!(PieceBatch::size_for(0, 0), None);
    }

    #[test]
    fn pieces_wait_until_there_are_enough_or_the_first_has_waited_long() {
        let mut batch = PieceBatch::default();
        assert!(batch.is_empty() && !batch.is_due(1000 * MS, None));
        batch.push(1000 * MS, PieceIndex(3));
        batch.push(1040 * MS, PieceIndex(1));
        assert!(!batch.is_due(1049 * MS, Some(3)) && batch.is_due(1050 * MS, Some(3)));
        assert!(batch.is_due(1041 * MS, Some(2)), "enough");
        assert!(batch.is_due(1041 * MS, None), "the peer has become slow");
        assert_eq!(batch.take(), [PieceIndex(3), PieceIndex(1)]);
        batch.push(2000 * MS, PieceIndex(9));
        assert!(!batch.is_due(2049 * MS, Some(2)), "the wait begins anew");
    }
}
