//! Hashes pieces side by side: as many as the fastest kernel takes, read in turn into one buffer.

use std::ops::Range;

use crate::hash::{Kernels, Sha1Stream, StreamUpdate, update_all};
use crate::types::Sha1Hash;

/// Bytes of each piece to read at once: large enough to make the system call cheap, small enough for 16 pieces to stay in a core's
/// L2 cache until they are hashed.
pub const LANE_BYTES: usize = 64 * 1024;

/// Pieces that are read and hashed together.
#[derive(Debug)]
pub struct PieceLanes {
    width: usize,
    lanes: Vec<PieceLane>,
}

#[derive(Debug)]
struct PieceLane {
    piece: u32,
    /// The bytes that are still to be read.
    bytes: Range<u64>,
    stream: Sha1Stream,
}

/// A piece that has left its lane.
#[derive(Debug)]
pub struct FinishedPiece<E> {
    /// The piece.
    pub piece: u32,
    /// Its hash, or why its bytes could not be read.
    pub result: Result<Sha1Hash, E>,
    /// How many of its bytes were not read.
    pub unread: u64,
}

impl PieceLanes {
    /// Lanes for as many pieces as this processor hashes best together, and at most `most`.
    pub fn new(most: usize) -> Self {
        let width = Kernels::chosen().fastest().width().min(most).max(1);
        PieceLanes { width, lanes: Vec::with_capacity(width) }
    }

    /// The number of pieces that fit.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether another piece fits.
    pub fn has_room(&self) -> bool {
        self.lanes.len() < self.width
    }

    /// Whether there is no piece.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Adds a piece that lies in `bytes`.
    pub fn push(&mut self, piece: u32, bytes: Range<u64>) {
        debug_assert!(self.has_room(), "more pieces than lanes");
        self.lanes.push(PieceLane { piece, bytes, stream: Sha1Stream::new() });
    }

    /// Reads the next bytes of each piece with `read`, which gets an offset and must fill the buffer, and hashes them. Returns the
    /// pieces whose end was reached or that could not be read.
    ///
    /// # Panics
    /// If `buffer` has fewer than [`LANE_BYTES`] bytes for each piece that is in a lane.
    pub fn advance<E>(
        &mut self,
        buffer: &mut [u8],
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Vec<FinishedPiece<E>> {
        assert!(buffer.len() >= self.lanes.len() * LANE_BYTES, "a buffer for every piece");
        let mut finished = Vec::new();
        let mut updates = Vec::with_capacity(self.lanes.len());
        let mut ended = Vec::new();
        for (number, (lane, chunk)) in self.lanes.iter_mut().zip(buffer.chunks_exact_mut(LANE_BYTES)).enumerate() {
            let length = (lane.bytes.end - lane.bytes.start).min(LANE_BYTES as u64);
            let chunk = &mut chunk[..length as usize];
            if let Err(error) = read(lane.bytes.start, chunk) {
                ended.push((number, Some(error)));
                continue;
            }
            lane.bytes.start += length;
            if lane.bytes.is_empty() {
                ended.push((number, None));
            }
            updates.push(StreamUpdate { stream: &mut lane.stream, data: chunk });
        }
        update_all(&mut updates);
        // From the last: removing one moves those behind it.
        for (number, error) in ended.into_iter().rev() {
            let lane = self.lanes.remove(number);
            let unread = lane.bytes.end - lane.bytes.start;
            let result = error.map_or_else(|| Ok(lane.stream.finish()), Err);
            finished.push(FinishedPiece { piece: lane.piece, result, unread });
        }
        finished.reverse();
        finished
    }
}

#[cfg(test)]
mod tests {
    use sha1::{Digest as _, Sha1};

    use super::*;

    #[test]
    fn pieces_of_all_lengths_leave_with_their_hashes() {
        let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let ranges = [0..0, 0..1, 1..65_537, 65_537..131_073, 100..700_000, 5..5, 300_000..700_000];
        let mut lanes = PieceLanes::new(3);
        let mut buffer = vec![0; 3 * LANE_BYTES];
        let mut waiting = ranges.iter().enumerate();
        let mut hashes = vec![None; ranges.len()];
        loop {
            while lanes.has_room()
                && let Some((piece, range)) = waiting.next()
            {
                lanes.push(piece as u32, range.start as u64..range.end as u64);
            }
            if lanes.is_empty() {
                break;
            }
            let finished = lanes.advance(&mut buffer, |offset, chunk| {
                chunk.copy_from_slice(&bytes[offset as usize..offset as usize + chunk.len()]);
                Ok::<(), ()>(())
            });
            for finished in finished {
                assert_eq!(finished.unread, 0);
                assert_eq!(
                    hashes[finished.piece as usize].replace(finished.result.unwrap()),
                    None,
                    "a piece leaves once"
                );
            }
        }
        let expected = ranges.map(|range| Some(Sha1Hash::from(Sha1::digest(&bytes[range]))));
        assert_eq!(hashes, expected);
    }

    #[test]
    fn a_piece_that_cannot_be_read_leaves_and_the_others_go_on() {
        let mut lanes = PieceLanes::new(usize::MAX);
        let mut buffer = vec![0; lanes.width() * LANE_BYTES];
        let far = 3 * LANE_BYTES as u64;
        lanes.push(7, 0..far);
        let mut turn = |lanes: &mut PieceLanes| {
            lanes.advance(&mut buffer, |offset, _| if offset < far / 2 { Ok(()) } else { Err("unreadable") })
        };
        assert!(turn(&mut lanes).is_empty() && turn(&mut lanes).is_empty());
        let finished = turn(&mut lanes);
        let [FinishedPiece { piece: 7, result: Err("unreadable"), unread }] = finished[..] else {
            panic!("{finished:?}")
        };
        assert_eq!((unread, lanes.is_empty()), (LANE_BYTES as u64, true));
    }
}
