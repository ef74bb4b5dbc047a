//! Hashing what is on disk: all of it with all cores when a download is resumed, or the rest of one piece.
//!
//! Each worker takes runs of neighbouring pieces from a counter (so that the disk reads on in one place) and reads into one
//! aligned slab, whatever the piece length; what lies in holes is not read at all.

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

/// Bytes read at once: they stay in a core's second-level cache until they are hashed.
const SLAB: usize = 256 * 1024;
/// Bytes of neighbouring pieces that a worker takes at once.
const RUN: u32 = 4 << 20;
/// A worker needs little more than its slab's handle; the hash state is a hundred bytes.
const STACK: usize = 256 * 1024;

/// How far a check has come, to be looked at from another thread.
#[derive(Debug, Default)]
pub struct CheckProgress {
    /// Bytes in pieces that were hashed, or found to be holes or missing.
    pub done: AtomicU64,
    /// Bytes to check in all.
    pub total: AtomicU64,
}

/// Finds the pieces on disk whose SHA-1 is the one in `hashes`, with `threads` threads (the calling one among them; 0 means
/// one a core). When `stop` becomes true it returns soon, with the pieces found so far. Files that are missing or short make
/// their pieces missing.
///
/// # Errors
/// What the system says when a file that is there cannot be opened or read.
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

/// The same where the pieces in `known` need not be looked at: they are found in any case.
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
        // Where the system gives no more threads, the rest is done by fewer.
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

/// The SHA-1 of a piece whose bytes before `from` are in `sha` already: reads the rest back through `slab`.
///
/// # Errors
/// As for [`Storage::read_exact_at`].
///
/// # Panics
/// Where `slab` is empty.
pub fn hash_range(
    storage: &Storage,
    piece: PieceIndex,
    from: u32,
    mut sha: Sha1,
    slab: &mut [u8],
) -> Result<PieceHash, StorageError> {
    let layout = storage.layout();
    let len = layout.piece_size(piece).saturating_sub(from);
    // Never broken off, so it always comes to the end.
    let _ = feed(storage, layout.offset(piece, from), len, &mut sha, slab, |_| ControlFlow::Continue(()))?;
    Ok(sha.finalize().into())
}

/// The SHA-1 of each block of a piece, read back through `slab`.
///
/// # Errors
/// As for [`Storage::read_exact_at`].
///
/// # Panics
/// Where `slab` holds less than a block.
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

/// Reads a range through `slab` into `sha`; `each` hears the bytes of every step and may break off.
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

/// What the workers of one check share.
struct CheckJob<'a> {
    storage: &'a Storage,
    hashes: &'a [PieceHash],
    known: &'a Bitfield,
    progress: &'a CheckProgress,
    stop: &'a AtomicBool,
    /// Pieces in a run.
    run: u32,
    runs: u32,
    /// The next run that nobody has taken.
    next: AtomicU32,
    /// A worker met an error: the others need not go on.
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
        // What was not read (a hole, a file that is missing) is done as well.
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

    /// The hash of the piece as it lies on disk; `None` where the check was stopped.
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
            // Asked after the last step too: then the piece counts as not found, which is no lie.
            if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(fed.is_continue().then(|| sha.finalize().into()))
    }
}

/// What a piece of nothing but zeros hashes to: a torrent may well have such pieces, and on disk they may be holes.
struct ZeroHashes<'a> {
    layout: &'a Layout,
    /// For pieces of full length, found when first needed.
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
