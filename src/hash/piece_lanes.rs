//! Hashes pieces side by side: as many as the fastest kernel takes, read in turn into one buffer.

use std::ops::Range;

use crate::hash::{Kernels, Sha1Stream, StreamUpdate, digest_blocks, update_all};
use crate::types::{Sha1Hash, Sha256Hash};

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
    /// What is still to be read and hashed.
    rest: PieceBytes,
    stream: Sha1Stream,
    leaves: Vec<Sha256Hash>,
}

/// What to hash of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceBytes {
    /// The bytes of the piece.
    pub bytes: Range<u64>,
    /// Whether to hash them with SHA-1, as v1 does.
    pub wants_sha1: bool,
    /// The bytes before this offset are hashed with SHA-256, each block of 16 KiB by itself, as v2 does.
    pub data_end: u64,
}

impl PieceBytes {
    /// A piece of a v1 torrent.
    pub fn v1(bytes: Range<u64>) -> PieceBytes {
        PieceBytes { bytes, wants_sha1: true, data_end: 0 }
    }
}

/// The hashes of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceDigest {
    /// Its SHA-1, if wanted.
    pub sha1: Option<Sha1Hash>,
    /// The SHA-256 of each of its blocks, if wanted.
    pub leaves: Vec<Sha256Hash>,
}

/// A piece that has left its lane.
#[derive(Debug)]
pub struct FinishedPiece<E> {
    /// The piece.
    pub piece: u32,
    /// Its hashes, or why its bytes could not be read.
    pub result: Result<PieceDigest, E>,
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

    /// Adds a piece.
    pub fn push(&mut self, piece: u32, bytes: PieceBytes) {
        debug_assert!(self.has_room(), "more pieces than lanes");
        self.lanes.push(PieceLane { piece, rest: bytes, stream: Sha1Stream::new(), leaves: Vec::new() });
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
            let PieceBytes { bytes, wants_sha1, data_end } = &mut lane.rest;
            let length = (bytes.end - bytes.start).min(LANE_BYTES as u64);
            let chunk = &mut chunk[..length as usize];
            if let Err(error) = read(bytes.start, chunk) {
                ended.push((number, Some(error)));
                continue;
            }
            let data = data_end.saturating_sub(bytes.start).min(length);
            digest_blocks(&chunk[..data as usize], &mut lane.leaves);
            bytes.start += length;
            if bytes.is_empty() {
                ended.push((number, None));
            }
            if *wants_sha1 {
                updates.push(StreamUpdate { stream: &mut lane.stream, data: chunk });
            }
        }
        update_all(&mut updates);
        // From the last: removing one moves those behind it.
        for (number, error) in ended.into_iter().rev() {
            let lane = self.lanes.remove(number);
            let unread = lane.rest.bytes.end - lane.rest.bytes.start;
            let sha1 = lane.rest.wants_sha1.then(|| lane.stream.finish());
            let result = error.map_or_else(|| Ok(PieceDigest { sha1, leaves: lane.leaves }), Err);
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
                lanes.push(piece as u32, PieceBytes::v1(range.start as u64..range.end as u64));
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
                    hashes[finished.piece as usize].replace(finished.result.unwrap().sha1.unwrap()),
                    None,
                    "a piece leaves once"
                );
            }
        }
        let expected = ranges.map(|range| Some(Sha1Hash::from(Sha1::digest(&bytes[range]))));
        assert_eq!(hashes, expected);
    }

    #[test]
    fn only_the_data_of_a_piece_is_hashed_in_blocks() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut lanes = PieceLanes::new(1);
        let mut buffer = vec![0; LANE_BYTES];
        for (wants_sha1, data_end) in [(true, 300_000), (false, 262_144), (true, 100_000), (true, 65_536)] {
            lanes.push(1, PieceBytes { bytes: 65_536..300_000, wants_sha1, data_end });
            let mut finished = Vec::new();
            while !lanes.is_empty() {
                finished.extend(lanes.advance(&mut buffer, |offset, chunk| {
                    chunk.copy_from_slice(&bytes[offset as usize..offset as usize + chunk.len()]);
                    Ok::<(), ()>(())
                }));
            }
            let leaf = |block: &[u8]| Sha256Hash::from(sha2::Sha256::digest(block));
            let leaves = bytes[65_536..data_end as usize].chunks(16_384).map(leaf).collect();
            let sha1 = wants_sha1.then(|| Sha1::digest(&bytes[65_536..]).into());
            assert_eq!(finished.pop().unwrap().result, Ok(PieceDigest { sha1, leaves }));
        }
    }

    #[test]
    fn a_piece_that_cannot_be_read_leaves_and_the_others_go_on() {
        let mut lanes = PieceLanes::new(usize::MAX);
        let mut buffer = vec![0; lanes.width() * LANE_BYTES];
        let far = 3 * LANE_BYTES as u64;
        lanes.push(7, PieceBytes::v1(0..far));
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
