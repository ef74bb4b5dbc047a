//! Hashes pieces with several threads. Each takes runs of consecutive pieces until none is left, and hashes several pieces at
//! once. It reads them in turn into one aligned slab, whatever the piece length.

use std::ops::Range;
use std::thread;

use crate::hash::piece_lanes::{FinishedPiece, LANE_BYTES, PieceBytes, PieceLanes};
use crate::util::atomics::{Counter, Flag};
use crate::util::slab::Slab;

/// Bytes per run, unless a single piece is larger: small enough that all threads finish at about the same time.
const RUN: u32 = 4 << 20;
/// The stack size of a thread: it needs little more than its slab's handle; the states of 16 pieces take 2 KiB.
const STACK: usize = 256 * 1024;

/// What to do with a piece that is next.
#[derive(Debug)]
pub enum NextPiece<T> {
    /// Hash these bytes.
    Hash(PieceBytes),
    /// Hash nothing: it has this result, if any.
    Skip(Option<T>),
}

/// Pieces to hash, and what follows from their hashes.
pub trait PieceWork: Sync {
    /// What is known of a piece in the end.
    type Found: Send;
    /// An error ends all threads.
    type Error: Send;
    /// What a thread keeps from one read to the next.
    type Reader: Default;

    /// Whether the work has to end early.
    fn is_stopped(&self) -> bool;

    /// What to do with this piece.
    ///
    /// # Errors
    /// Ends the work.
    fn next(&self, piece: u32) -> Result<NextPiece<Self::Found>, Self::Error>;

    /// Fills the buffer with the bytes at this offset.
    ///
    /// # Errors
    /// Becomes the result of the piece.
    fn read(&self, reader: &mut Self::Reader, offset: u64, buffer: &mut [u8]) -> Result<(), Self::Error>;

    /// What follows from a piece's hash, or from the error of reading it.
    ///
    /// # Errors
    /// Ends the work.
    fn finish(&self, finished: FinishedPiece<Self::Error>) -> Result<Option<Self::Found>, Self::Error>;
}

/// Hashes `pieces` pieces of `piece_length` bytes with at most `threads` threads, one of which is the calling one. Returns what
/// was found, in any order; after a stop, what was found until then.
///
/// # Errors
/// An error of `work`.
pub fn hash_pieces<W: PieceWork>(
    work: &W,
    pieces: u32,
    piece_length: u32,
    threads: usize,
) -> Result<Vec<W::Found>, W::Error> {
    let queue = PieceQueue::new(pieces, piece_length);
    let threads = threads.clamp(1, queue.runs.max(1) as usize);
    // So that there is work for all.
    let most_at_once = (pieces as usize).div_ceil(threads);
    let failed = Flag::default();
    let run = || hash_until_done(work, &queue, &failed, most_at_once).inspect_err(|_| failed.set(true));
    thread::scope(|scope| {
        let helper = |_| thread::Builder::new().name("check".into()).stack_size(STACK).spawn_scoped(scope, run);
        // If the system cannot start more threads, fewer do the work.
        let helpers: Vec<_> = (1..threads).map_while(|n| helper(n).ok()).collect();
        let own = run();
        let others =
            helpers.into_iter().map(|helper| helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own)
            .chain(others)
            .collect::<Result<Vec<_>, _>>()
            .map(|found| found.into_iter().flatten().collect())
    })
}

/// The loop of one thread.
fn hash_until_done<W: PieceWork>(
    work: &W,
    queue: &PieceQueue,
    failed: &Flag,
    most_at_once: usize,
) -> Result<Vec<W::Found>, W::Error> {
    let mut lanes = PieceLanes::new(most_at_once);
    let mut slab = Slab::new(lanes.width() * LANE_BYTES);
    let (mut found, mut reader, mut waiting) = (Vec::new(), W::Reader::default(), 0..0);
    while !work.is_stopped() && !failed.is_set() {
        while lanes.has_room()
            && let Some(piece) = queue.next(&mut waiting)
        {
            match work.next(piece)? {
                NextPiece::Hash(bytes) => lanes.push(piece, bytes),
                NextPiece::Skip(result) => found.extend(result),
            }
        }
        if lanes.is_empty() {
            break;
        }
        for finished in lanes.advance(&mut slab, |offset, part| work.read(&mut reader, offset, part)) {
            found.extend(work.finish(finished)?);
        }
    }
    Ok(found)
}

/// Hands out pieces in runs.
struct PieceQueue {
    pieces: u32,
    /// Pieces per run.
    run: u32,
    runs: u32,
    /// The next run to take.
    next: Counter,
}

impl PieceQueue {
    fn new(pieces: u32, piece_length: u32) -> PieceQueue {
        let run = (RUN / piece_length).max(1);
        PieceQueue { pieces, run, runs: pieces.div_ceil(run), next: Counter::default() }
    }

    /// The next piece of the run `waiting`, or of the next run.
    fn next(&self, waiting: &mut Range<u32>) -> Option<u32> {
        if waiting.start == waiting.end {
            *waiting = self.take_run()?;
        }
        waiting.next()
    }

    fn take_run(&self) -> Option<Range<u32>> {
        let taken = u32::try_from(self.next.next()).ok().filter(|taken| *taken < self.runs)?;
        let first = taken * self.run;
        Some(first..first.saturating_add(self.run).min(self.pieces))
    }
}

#[cfg(test)]
mod tests {
    use sha1::{Digest as _, Sha1};

    use super::*;
    use crate::types::Sha1Hash;

    /// Hashes bytes in memory; every tenth piece is skipped.
    struct Bytes {
        data: Vec<u8>,
        length: u64,
        unreadable: Option<u32>,
        stop: Flag,
    }

    impl PieceWork for Bytes {
        type Found = (u32, Option<Sha1Hash>);
        type Error = u32;
        type Reader = ();

        fn is_stopped(&self) -> bool {
            self.stop.is_set()
        }

        fn next(&self, piece: u32) -> Result<NextPiece<Self::Found>, u32> {
            if piece % 10 == 9 {
                return Ok(NextPiece::Skip(Some((piece, None))));
            }
            let start = u64::from(piece) * self.length;
            Ok(NextPiece::Hash(PieceBytes::v1(start..(start + self.length).min(self.data.len() as u64))))
        }

        fn read(&self, (): &mut (), offset: u64, buffer: &mut [u8]) -> Result<(), u32> {
            let piece = (offset / self.length) as u32;
            if self.unreadable == Some(piece) {
                return Err(piece);
            }
            buffer.copy_from_slice(&self.data[offset as usize..][..buffer.len()]);
            Ok(())
        }

        fn finish(&self, finished: FinishedPiece<u32>) -> Result<Option<Self::Found>, u32> {
            Ok(Some((finished.piece, finished.result?.sha1)))
        }
    }

    fn bytes(length: u64) -> Bytes {
        let data = (0..10_000_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        Bytes { data, length, unreadable: None, stop: Flag::default() }
    }

    #[test]
    fn every_piece_is_handed_out_once_and_hashed() {
        for (length, threads) in [(300_000, 1), (16_384, 3), (5_000_000, 9)] {
            let work = bytes(length);
            let pieces = (work.data.len() as u64).div_ceil(length) as u32;
            let mut found = hash_pieces(&work, pieces, length as u32, threads).unwrap();
            found.sort_unstable();
            let expected = work
                .data
                .chunks(length as usize)
                .zip(0..)
                .map(|(piece, number)| (number, (number % 10 != 9).then(|| Sha1Hash::from(Sha1::digest(piece)))));
            assert!(found.into_iter().eq(expected), "pieces of {length} bytes");
        }
        assert_eq!(hash_pieces(&bytes(16_384), 0, 16_384, 4), Ok(Vec::new()));
    }

    #[test]
    fn an_error_or_a_stop_ends_the_work() {
        let unreadable = Bytes { unreadable: Some(7), ..bytes(300_000) };
        assert_eq!(hash_pieces(&unreadable, 34, 300_000, 2), Err(7));
        let stopped = bytes(300_000);
        stopped.stop.set(true);
        assert_eq!(hash_pieces(&stopped, 34, 300_000, 2), Ok(Vec::new()));
    }
}
