//! Hashes the pieces of files on disk, for `create`. All cores take part: each thread takes the next run of pieces until none is
//! left, and hashes several pieces at once.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::Builder;

use rustix::fs::{Advice, fadvise};

use crate::hash::{LANE_BYTES, PieceLanes};
use crate::metainfo::create::CreateError;
use crate::metainfo::source_files::CreateEntry;
use crate::types::Sha1Hash;
use crate::util::atomics::Flag;
use crate::util::memory;

/// Bytes per run, unless a single piece is larger: small enough that all threads finish at about the same time.
const RUN: u64 = 4 << 20;

const PAGE: usize = 4096;

/// The state that all hashing threads share.
struct HashJob<'a> {
    files: &'a [CreateEntry],
    /// The offset of each file in the concatenation of all files.
    starts: Vec<u64>,
    total: u64,
    piece_length: u64,
    pieces: u32,
    /// Pieces per run.
    run: u32,
    /// The most pieces for a thread to hash at once, so that there is work for all.
    pieces_per_thread: usize,
    /// The first piece of the next run; taken with `fetch_update`, as it never exceeds the number of pieces.
    next: AtomicU32,
    /// Whether to drop from the page cache what was read.
    drops_cache: bool,
    failed: Flag,
    /// The program passes it and `stop`, so both have the standard library's types.
    progress: &'a AtomicU64,
    stop: &'a AtomicBool,
}

/// Hashes the files, concatenated, in pieces of `piece_length` bytes. Adds the bytes hashed to `progress`, padding not counted.
pub(super) fn hash(
    files: &[CreateEntry],
    piece_length: u32,
    threads: usize,
    progress: &AtomicU64,
    stop: &AtomicBool,
) -> Result<Vec<Sha1Hash>, CreateError> {
    let piece_length = u64::from(piece_length);
    let mut starts = Vec::with_capacity(files.len());
    let mut total = 0u64;
    for file in files {
        starts.push(total);
        total = total.checked_add(file.length).ok_or(CreateError::TooBig)?;
    }
    let run = (RUN / piece_length).max(1) as u32;
    let pieces = u32::try_from(total.div_ceil(piece_length)).map_err(|_| CreateError::TooBig)?;
    let threads = threads.clamp(1, pieces.div_ceil(run).max(1) as usize);
    let pieces_per_thread = (pieces as usize).div_ceil(threads);
    let (next, failed) = (AtomicU32::new(0), Flag::default());
    let job = HashJob {
        files,
        starts,
        total,
        piece_length,
        pieces,
        run,
        pieces_per_thread,
        next,
        drops_cache: memory::crowds_out_others(total),
        failed,
        progress,
        stop,
    };
    let hashed: Vec<Vec<(u32, Sha1Hash)>> = std::thread::scope(|scope| {
        let helper = |_| Builder::new().name("check".into()).spawn_scoped(scope, || job.work());
        // If the system refuses a thread, the threads that did start do the work.
        let helpers: Vec<_> = (1..threads).map_while(|n| helper(n).ok()).collect();
        let own = job.work();
        let others = helpers.into_iter().map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(own).chain(others).collect::<Result<Vec<_>, _>>()
    })?;
    if stop.load(Ordering::Relaxed) {
        return Err(CreateError::Stopped);
    }
    let mut hashed = hashed.concat();
    hashed.sort_unstable_by_key(|&(piece, _)| piece);
    Ok(hashed.into_iter().map(|(_, hash)| hash).collect())
}

impl HashJob<'_> {
    /// The loop of one thread: hashes pieces until none is left, `stop` is set, or any thread fails.
    fn work(&self) -> Result<Vec<(u32, Sha1Hash)>, CreateError> {
        let mut lanes = PieceLanes::new(self.pieces_per_thread);
        let mut buffer = vec![0; lanes.width() * LANE_BYTES + PAGE];
        // Large allocations start a few bytes into a page, but the kernel copies much faster into whole pages.
        let skip = buffer.as_ptr().addr().wrapping_neg() % PAGE;
        let mut reader = ConcatReader { job: self, open: None };
        let mut hashes = Vec::new();
        let mut waiting = 0..0;
        while !self.is_stopped() {
            while lanes.has_room()
                && let Some(piece) = self.next_piece(&mut waiting)
            {
                let start = u64::from(piece) * self.piece_length;
                lanes.push(piece, start..(start + self.piece_length).min(self.total));
            }
            if lanes.is_empty() {
                break;
            }
            for finished in lanes.advance(&mut buffer[skip..], |offset, chunk| reader.fill(offset, chunk)) {
                let hash = finished.result.inspect_err(|_| self.failed.set(true))?;
                hashes.push((finished.piece, hash));
            }
        }
        Ok(hashes)
    }

    /// The next piece of the run `waiting`, or of the next run.
    fn next_piece(&self, waiting: &mut Range<u32>) -> Option<u32> {
        if waiting.start == waiting.end {
            let after = |first: u32| (first < self.pieces).then(|| first.saturating_add(self.run).min(self.pieces));
            let first = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).ok()?;
            *waiting = first..after(first)?;
        }
        waiting.next()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.is_set()
    }
}

/// Reads the concatenation of all files.
struct ConcatReader<'a> {
    job: &'a HashJob<'a>,
    /// The file read last, with its index, kept open for the next read.
    open: Option<(usize, File)>,
}

impl ConcatReader<'_> {
    /// Fills the buffer with the bytes from `offset` of the concatenation.
    fn fill(&mut self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), CreateError> {
        while !buffer.is_empty() {
            // If several files start at this offset, all but the last are empty.
            let index = self.job.starts.partition_point(|&start| start <= offset).saturating_sub(1);
            let (Some(input), Some(&start)) = (self.job.files.get(index), self.job.starts.get(index)) else {
                return Ok(());
            };
            let length = (start + input.length - offset).min(buffer.len() as u64);
            let (part, rest) = buffer.split_at_mut(length as usize);
            self.read(index, offset - start, part)?;
            buffer = rest;
            offset += length;
        }
        Ok(())
    }

    /// Fills the buffer with the bytes of one file.
    fn read(&mut self, index: usize, offset: u64, buffer: &mut [u8]) -> Result<(), CreateError> {
        let input = &self.job.files[index];
        if input.is_pad {
            buffer.fill(0);
            return Ok(());
        }
        let read = |source| CreateError::Read { path: input.path.clone(), source };
        let changed = || CreateError::Changed { path: input.path.clone() };
        if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
            let file = File::open(&input.path).map_err(read)?;
            let meta = file.metadata().map_err(read)?;
            if !meta.is_file() || meta.len() != input.length {
                return Err(changed());
            }
            self.open = Some((index, file));
        }
        let (_, file) = self.open.as_ref().expect("opened above");
        file.read_exact_at(buffer, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => read(e),
        })?;
        if self.job.drops_cache {
            let _ = fadvise(file, offset, NonZero::new(buffer.len() as u64), Advice::DontNeed);
        }
        self.job.progress.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
