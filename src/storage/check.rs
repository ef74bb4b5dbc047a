//! Hashes the files on disk: all pieces with all cores when a download is resumed, or the rest of one piece.
//!
//! Each worker takes runs of consecutive pieces from a counter, so that it reads sequentially, and reads into one aligned slab,
//! whatever the piece length. It does not read holes.

use std::num::NonZero;
use std::ops::{ControlFlow, Range};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;

use sha1::{Digest, Sha1};

use crate::storage::buffers::Slab;
use crate::storage::error::{StorageError, StorageErrorKind};
use crate::storage::files::Storage;
use crate::storage::layout::Layout;
use crate::types::{BLOCK_SIZE, Bitfield, PieceHash, PieceIndex};

/// Bytes to read at once: they stay in a core's L2 cache until they are hashed.
const SLAB: usize = 256 * 1024;
/// Bytes of consecutive pieces that a worker takes at once.
const RUN: u32 = 4 << 20;
/// The stack size of a worker: it needs little more than its slab's handle; the hash state is a hundred bytes.
const STACK: usize = 256 * 1024;

/// The progress of a check, for other threads to read.
#[derive(Debug, Default)]
pub struct CheckProgress {
    /// Bytes in pieces that were hashed, or found to be holes or missing.
    pub done: AtomicU64,
    /// Total bytes to check.
    pub total: AtomicU64,
}

/// Finds the pieces on disk whose SHA-1 matches `hashes`, with `threads` threads including the calling one (0 means one per
/// core). If `stop` becomes true, returns soon with the pieces found so far. Pieces of missing or short files count as missing.
///
/// # Errors
/// The system's error if an existing file cannot be opened or read.
pub fn check(
    storage: &Storage,
    hashes: &[PieceHash],
    threads: usize,
    progress: &CheckProgress,
    stop: &AtomicBool,
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
    hashes: &[PieceHash],
    known: &Bitfield,
    threads: usize,
    progress: &CheckProgress,
    stop: &AtomicBool,
) -> Result<Bitfield, StorageError> {
    let layout = storage.layout();
    progress.done.store(0, Relaxed);
    progress.total.store(layout.total(), Relaxed);
    let run = (RUN / layout.piece_length()).max(1);
    let runs = layout.piece_count().div_ceil(run);
    let zeros = ZeroHashes { layout, full: OnceLock::new() };
    let job = CheckJob {
        storage,
        hashes,
        known,
        progress,
        stop,
        run,
        runs,
        next: AtomicU32::new(0),
        failed: AtomicBool::new(false),
        zeros,
    };
    let threads = if threads == 0 { thread::available_parallelism().map_or(1, NonZero::get) } else { threads };
    let threads = threads.min(runs as usize);

    let found = thread::scope(|scope| {
        let helper =
            |_| thread::Builder::new().name("check".into()).stack_size(STACK).spawn_scoped(scope, || job.work());
        // If the system cannot start more threads, fewer do the work.
        let helpers: Vec<_> = (1..threads).map_while(|n| helper(n).ok()).collect();
        let mut found = vec![job.work()];
        found.extend(helpers.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))));
        found
    });
    let mut have = Bitfield::new(layout.piece_count());
    for pieces in found {
        for piece in pieces? {
            have.set(piece);
        }
    }
    Ok(have)
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
    mut sha: Sha1,
    slab: &mut [u8],
) -> Result<PieceHash, StorageError> {
    let layout = storage.layout();
    let len = layout.piece_size(piece).saturating_sub(from);
    // The callback never breaks, so this always reads to the end.
    let _ = feed(storage, layout.offset(piece, from), len, &mut sha, slab, |_| ControlFlow::Continue(()))?;
    Ok(sha.finalize().into())
}

/// The SHA-1 of each block of a piece, read back through `slab`.
///
/// # Errors
/// As for [`Storage::read_exact_at`].
///
/// # Panics
/// If `slab` is smaller than a block.
pub fn hash_blocks(storage: &Storage, piece: PieceIndex, slab: &mut [u8]) -> Result<Vec<PieceHash>, StorageError> {
    let layout = storage.layout();
    let size = layout.piece_size(piece);
    let step = slab.len() as u32 / BLOCK_SIZE * BLOCK_SIZE;
    assert!(step > 0, "a slab to read into holds blocks");
    let mut sums = Vec::with_capacity(size.div_ceil(BLOCK_SIZE) as usize);
    for begin in (0..size).step_by(step as usize) {
        let part = &mut slab[..(size - begin).min(step) as usize];
        storage.read_exact_at(layout.offset(piece, begin), part)?;
        sums.extend(part.chunks(BLOCK_SIZE as usize).map(|block| PieceHash::from(Sha1::digest(block))));
    }
    Ok(sums)
}

/// Reads a range through `slab` into `sha`. Calls `each` with the number of bytes of every step; it may stop the read.
fn feed(
    storage: &Storage,
    offset: u64,
    len: u32,
    sha: &mut Sha1,
    slab: &mut [u8],
    mut each: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StorageError> {
    assert!(!slab.is_empty(), "a slab to read into has bytes");
    let end = offset + u64::from(len);
    let mut at = offset;
    while at < end {
        let step = (end - at).min(slab.len() as u64);
        let part = &mut slab[..step as usize];
        storage.read_exact_at(at, part)?;
        sha.update(&*part);
        at += step;
        if each(step as u32).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The state that the workers of one check share.
struct CheckJob<'a> {
    storage: &'a Storage,
    hashes: &'a [PieceHash],
    known: &'a Bitfield,
    progress: &'a CheckProgress,
    stop: &'a AtomicBool,
    /// Pieces per run.
    run: u32,
    runs: u32,
    /// The next run to take.
    next: AtomicU32,
    /// A worker met an error, so the others stop.
    failed: AtomicBool,
    zeros: ZeroHashes<'a>,
}

impl CheckJob<'_> {
    fn work(&self) -> Result<Vec<PieceIndex>, StorageError> {
        let mut slab = Slab::new(SLAB);
        let mut found = Vec::new();
        while let Some(run) = self.take_run() {
            for piece in run.map(PieceIndex) {
                if self.is_stopped() {
                    return Ok(found);
                }
                if self.is_right(piece, &mut slab).inspect_err(|_| self.failed.store(true, Relaxed))? {
                    found.push(piece);
                }
            }
        }
        Ok(found)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed) || self.failed.load(Relaxed)
    }

    fn take_run(&self) -> Option<Range<u32>> {
        let taken = self.next.fetch_update(Relaxed, Relaxed, |next| (next < self.runs).then_some(next + 1));
        let first = taken.ok()? * self.run;
        Some(first..first.saturating_add(self.run).min(self.storage.layout().piece_count()))
    }

    fn is_right(&self, piece: PieceIndex, slab: &mut [u8]) -> Result<bool, StorageError> {
        if self.known.has(piece) {
            self.progress.done.fetch_add(u64::from(self.storage.layout().piece_size(piece)), Relaxed);
            return Ok(true);
        }
        let mut counted = 0;
        let expected = self.hashes.get(piece.at());
        let hash = if expected.is_some() { self.hash(piece, slab, &mut counted) } else { Ok(None) };
        // Bytes that were not read (a hole, a missing file) count as done too.
        if !self.is_stopped() {
            let rest = self.storage.layout().piece_size(piece).saturating_sub(counted);
            self.progress.done.fetch_add(u64::from(rest), Relaxed);
        }
        match hash {
            Ok(hash) => Ok(hash.is_some() && hash.as_ref() == expected),
            Err(error) if error.kind() == StorageErrorKind::Missing => Ok(false),
            Err(error) if error.is_interrupted() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The hash of the piece as it is on disk; `None` if the check was stopped.
    fn hash(&self, piece: PieceIndex, slab: &mut [u8], counted: &mut u32) -> Result<Option<PieceHash>, StorageError> {
        let layout = self.storage.layout();
        let (offset, size) = (layout.offset(piece, 0), layout.piece_size(piece));
        if !self.storage.has_data(offset, u64::from(size))? {
            return Ok(Some(self.zeros.hash(piece)));
        }
        let mut sha = Sha1::new();
        let fed = feed(self.storage, offset, size, &mut sha, slab, |step| {
            *counted += step;
            self.progress.done.fetch_add(u64::from(step), Relaxed);
            // Checked after the last step too: the piece then counts as not found, which does no harm.
            if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(fed.is_continue().then(|| sha.finalize().into()))
    }
}

/// The hashes of pieces of zeros: a torrent may contain such pieces, and on disk they may be holes.
struct ZeroHashes<'a> {
    layout: &'a Layout,
    /// The hash of a full-length piece, computed when first needed.
    full: OnceLock<PieceHash>,
}

impl ZeroHashes<'_> {
    fn hash(&self, piece: PieceIndex) -> PieceHash {
        let size = self.layout.piece_size(piece);
        if size == self.layout.piece_length() { *self.full.get_or_init(|| hash_zeros(size)) } else { hash_zeros(size) }
    }
}

pub(super) fn hash_zeros(size: u32) -> PieceHash {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut sha = Sha1::new();
    let mut rest = size as usize;
    while rest > 0 {
        let step = rest.min(ZEROS.len());
        sha.update(&ZEROS[..step]);
        rest -= step;
    }
    sha.finalize().into()
}

#[cfg(test)]
mod tests;
