//! Hashes the files on disk: all pieces with all cores when a download is resumed, or the rest of one piece. A check does not read
//! holes.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread;

use crate::hash::{FinishedPiece, NextPiece, PieceBytes, PieceWork, Sha1Stream, digest_all, hash_pieces};
use crate::storage::error::{StorageError, StorageErrorKind};
use crate::storage::files::Storage;
use crate::storage::layout::Layout;
use crate::storage::stop_check::StopCheck;
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex, Sha1Hash};
use crate::util::atomics::Counter;
use crate::util::memory;

/// The progress of a check, for other threads to read.
#[derive(Debug, Default)]
pub struct CheckProgress {
    /// Bytes in pieces that were hashed, or found to be holes or missing.
    pub done: Counter,
    /// Total bytes to check.
    pub total: Counter,
}

/// Finds the pieces on disk whose SHA-1 matches `hashes`, with `threads` threads including the calling one (0 means one per
/// core). If `stop` becomes true, returns soon with the pieces found so far. Pieces of missing or short files count as missing.
///
/// # Errors
/// The system's error if an existing file cannot be opened or read.
pub fn check(
    storage: &Storage,
    hashes: &[Sha1Hash],
    threads: usize,
    progress: &CheckProgress,
    stop: &dyn StopCheck,
) -> Result<Bitfield, StorageError> {
    let known = Bitfield::new(storage.layout().piece_count());
    check_rest(storage, hashes, &known, threads, progress, stop)
}

/// Like [`check`], but does not read the pieces in `known` and counts them as found.
///
/// # Errors
/// Those of [`check`].
pub fn check_rest(
    storage: &Storage,
    hashes: &[Sha1Hash],
    known: &Bitfield,
    threads: usize,
    progress: &CheckProgress,
    stop: &dyn StopCheck,
) -> Result<Bitfield, StorageError> {
    let layout = storage.layout();
    progress.done.set(0);
    progress.total.set(layout.total());
    let zeros = ZeroHashes::new(layout);
    let threads = if threads == 0 { thread::available_parallelism().map_or(1, NonZero::get) } else { threads };
    let drops_cache = memory::crowds_out_others(layout.total());
    let job = CheckJob { storage, hashes, known, progress, drops_cache, stop, zeros };
    let mut have = Bitfield::new(layout.piece_count());
    for piece in hash_pieces(&job, layout.piece_count(), layout.piece_length(), threads)? {
        have.set(piece);
    }
    Ok(have)
}

/// Hashes only these pieces, with one thread per core. Counts all others as found.
///
/// # Errors
/// Those of [`check`].
pub fn check_pieces(
    storage: &Storage,
    hashes: &[Sha1Hash],
    pieces: impl IntoIterator<Item = PieceIndex>,
    stop: &dyn StopCheck,
) -> Result<Bitfield, StorageError> {
    let mut known = Bitfield::full(storage.layout().piece_count());
    pieces.into_iter().for_each(|piece| _ = known.clear(piece));
    check_rest(storage, hashes, &known, 0, &CheckProgress::default(), stop)
}

/// The SHA-1 of a piece whose bytes before `from` are already in `sha`: reads the rest back through `slab`.
///
/// # Errors
/// As for [`Storage::read_exact_at`].
///
/// # Panics
/// If `slab` is empty.
pub fn hash_range(
    storage: &Storage,
    piece: PieceIndex,
    from: u32,
    mut sha: Sha1Stream,
    slab: &mut [u8],
) -> Result<Sha1Hash, StorageError> {
    let layout = storage.layout();
    let len = layout.piece_size(piece).saturating_sub(from);
    assert!(!slab.is_empty(), "a slab to read into has bytes");
    let mut at = layout.offset(piece, from);
    let end = at + u64::from(len);
    while at < end {
        let length = (end - at).min(slab.len() as u64);
        let part = &mut slab[..length as usize];
        storage.read_exact_at(at, part)?;
        sha.update(part);
        at += part.len() as u64;
    }
    Ok(sha.finish())
}

/// The SHA-1 of each block of a piece, read back through `slab`.
///
/// # Errors
/// As for [`Storage::read_exact_at`].
///
/// # Panics
/// If `slab` is smaller than a block.
pub fn hash_blocks(storage: &Storage, piece: PieceIndex, slab: &mut [u8]) -> Result<Vec<Sha1Hash>, StorageError> {
    let layout = storage.layout();
    let size = layout.piece_size(piece);
    let step = slab.len() as u32 / BLOCK_SIZE * BLOCK_SIZE;
    assert!(step > 0, "a slab to read into holds blocks");
    let mut sums = Vec::with_capacity(size.div_ceil(BLOCK_SIZE) as usize);
    for begin in (0..size).step_by(step as usize) {
        let part = &mut slab[..(size - begin).min(step) as usize];
        storage.read_exact_at(layout.offset(piece, begin), part)?;
        let blocks: Vec<_> = part.chunks(BLOCK_SIZE as usize).collect();
        sums.extend(digest_all(&blocks));
    }
    Ok(sums)
}

/// The state that the threads of one check share.
struct CheckJob<'a> {
    storage: &'a Storage,
    hashes: &'a [Sha1Hash],
    known: &'a Bitfield,
    progress: &'a CheckProgress,
    /// Whether to drop from the page cache what was read.
    drops_cache: bool,
    stop: &'a dyn StopCheck,
    zeros: ZeroHashes<'a>,
}

impl PieceWork for CheckJob<'_> {
    type Found = PieceIndex;
    type Error = StorageError;
    type Reader = ();

    fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    /// A piece that can be judged without reading a byte of it is not hashed.
    fn next(&self, piece: u32) -> Result<NextPiece<PieceIndex>, StorageError> {
        let (piece, layout) = (PieceIndex(piece), self.storage.layout());
        let (offset, size) = (layout.offset(piece, 0), u64::from(layout.piece_size(piece)));
        let is_right = match self.hashes.get(piece.as_usize()) {
            _ if self.known.has(piece) => true,
            None => false,
            Some(expected) => match self.storage.has_data(offset, size) {
                Ok(true) => return Ok(NextPiece::Hash(PieceBytes::v1(offset..offset + size))),
                Ok(false) => self.zeros.hash(piece) == *expected,
                Err(error) => ignore_absent(error).map(|()| false)?,
            },
        };
        // Bytes that were not read (a hole, a missing file) count as done too.
        self.progress.done.add(size);
        Ok(NextPiece::Skip(is_right.then_some(piece)))
    }

    fn read(&self, (): &mut (), offset: u64, part: &mut [u8]) -> Result<(), StorageError> {
        self.storage.read_exact_at(offset, part)?;
        self.progress.done.add(part.len() as u64);
        Ok(())
    }

    fn finish(&self, finished: FinishedPiece<StorageError>) -> Result<Option<PieceIndex>, StorageError> {
        self.progress.done.add(finished.unread);
        let piece = PieceIndex(finished.piece);
        if self.drops_cache {
            let layout = self.storage.layout();
            self.storage.drop_from_cache(layout.offset(piece, 0), u64::from(layout.piece_size(piece)));
        }
        match finished.result {
            Ok(digest) => Ok((self.hashes.get(piece.as_usize()) == digest.sha1.as_ref()).then_some(piece)),
            Err(error) => ignore_absent(error).map(|()| None),
        }
    }
}

/// Ignores an error which means that the piece is not on disk, or that the check was stopped.
pub(super) fn ignore_absent(error: StorageError) -> Result<(), StorageError> {
    if error.kind() == StorageErrorKind::Missing || error.is_interrupted() { Ok(()) } else { Err(error) }
}

/// The hashes of pieces of zeros: a torrent may contain such pieces, and on disk they may be holes.
pub(super) struct ZeroHashes<'a> {
    layout: &'a Layout,
    /// The hash of a full-length piece, computed when first needed.
    full: OnceLock<Sha1Hash>,
}

impl<'a> ZeroHashes<'a> {
    pub fn new(layout: &'a Layout) -> ZeroHashes<'a> {
        ZeroHashes { layout, full: OnceLock::new() }
    }

    pub fn hash(&self, piece: PieceIndex) -> Sha1Hash {
        let size = self.layout.piece_size(piece);
        if size == self.layout.piece_length() { *self.full.get_or_init(|| hash_zeros(size)) } else { hash_zeros(size) }
    }
}

pub(super) fn hash_zeros(size: u32) -> Sha1Hash {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut sha = Sha1Stream::new();
    let mut rest = size as usize;
    while rest > 0 {
        let step = rest.min(ZEROS.len());
        sha.update(&ZEROS[..step]);
        rest -= step;
    }
    sha.finish()
}

#[cfg(test)]
mod tests;
