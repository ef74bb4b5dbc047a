//! Hashes the pieces of files on disk, for `create`. All cores take part: each thread takes the next run of pieces until none is
//! left.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Builder;

use sha1::{Digest, Sha1};

use crate::metainfo::create::CreateError;
use crate::metainfo::source_files::CreateEntry;
use crate::types::PieceHash;

/// Bytes per read: large enough to make the system call cheap, small enough to stay in the cache.
const CHUNK: usize = 1 << 20;

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
    run: u64,
    next: AtomicUsize,
    failed: AtomicBool,
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
) -> Result<Vec<PieceHash>, CreateError> {
    let piece_length = u64::from(piece_length);
    let mut starts = Vec::with_capacity(files.len());
    let mut total = 0u64;
    for file in files {
        starts.push(total);
        total = total.checked_add(file.length).ok_or(CreateError::TooBig)?;
    }
    let run = (RUN / piece_length).max(1) * piece_length;
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let job = HashJob { files, starts, total, piece_length, run, next, failed, progress, stop };
    let runs = usize::try_from(total.div_ceil(run)).map_err(|_| CreateError::TooBig)?;
    let threads = threads.clamp(1, runs.max(1));
    let done: Vec<Vec<(usize, Vec<PieceHash>)>> = std::thread::scope(|scope| {
        let helper = |_| Builder::new().name("check".into()).spawn_scoped(scope, || job.work(runs));
        // If the system refuses a thread, the threads that did start do the work.
        let helpers: Vec<_> = (1..threads).map_while(|n| helper(n).ok()).collect();
        let own = job.work(runs);
        let others = helpers.into_iter().map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(own).chain(others).collect::<Result<Vec<_>, _>>()
    })?;
    if stop.load(Ordering::Relaxed) {
        return Err(CreateError::Stopped);
    }
    let mut done: Vec<_> = done.into_iter().flatten().collect();
    done.sort_unstable_by_key(|&(run, _)| run);
    Ok(done.into_iter().flat_map(|(_, hashes)| hashes).collect())
}

impl HashJob<'_> {
    /// The loop of one thread: hashes runs of pieces until none is left, `stop` is set, or any thread fails.
    fn work(&self, runs: usize) -> Result<Vec<(usize, Vec<PieceHash>)>, CreateError> {
        let mut reader = PieceReader { job: self, open: None, buffer: vec![0; CHUNK + PAGE] };
        let mut done = Vec::new();
        loop {
            let run = self.next.fetch_add(1, Ordering::Relaxed);
            if run >= runs || self.is_stopped() {
                return Ok(done);
            }
            match reader.run(run as u64 * self.run) {
                Ok(Some(hashes)) => done.push((run, hashes)),
                Ok(None) => return Ok(done),
                Err(error) => {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }
}

struct PieceReader<'a> {
    job: &'a HashJob<'a>,
    /// The file read last, with its index, kept open for the next piece.
    open: Option<(usize, File)>,
    buffer: Vec<u8>,
}

impl PieceReader<'_> {
    /// The hashes of the pieces from `start` to the end of the run; `None` if the job was stopped.
    fn run(&mut self, start: u64) -> Result<Option<Vec<PieceHash>>, CreateError> {
        let job = self.job;
        let end = (start + job.run).min(job.total);
        let mut hashes = Vec::new();
        let mut sha = Sha1::new();
        let mut at = start;
        let mut piece_left = job.piece_length;
        while at < end {
            if job.is_stopped() {
                return Ok(None);
            }
            let mut chunk = self.read(at, end)?;
            at += chunk.len() as u64;
            while !chunk.is_empty() {
                let (now, later) = chunk.split_at(chunk.len().min(piece_left as usize));
                sha.update(now);
                piece_left -= now.len() as u64;
                if piece_left == 0 {
                    hashes.push(sha.finalize_reset().into());
                    piece_left = job.piece_length;
                }
                chunk = later;
            }
        }
        if piece_left < job.piece_length {
            hashes.push(sha.finalize().into());
        }
        Ok(Some(hashes))
    }

    /// Reads from offset `at` of the concatenation: at least one byte, not beyond `end`, and from one file only.
    fn read(&mut self, at: u64, end: u64) -> Result<&[u8], CreateError> {
        // If several files start at this offset, all but the last are empty.
        let index = self.job.starts.partition_point(|&start| start <= at).saturating_sub(1);
        let (Some(input), Some(&start)) = (self.job.files.get(index), self.job.starts.get(index)) else {
            return Ok(&[]);
        };
        let offset = at - start;
        let length = (input.length - offset).min(end - at).min(CHUNK as u64) as usize;
        // Large allocations start a few bytes into a page, but the kernel copies much faster into whole pages.
        let align = Some(self.buffer.as_ptr().align_offset(PAGE)).filter(|&skip| skip < PAGE).unwrap_or(0);
        let buffer = &mut self.buffer[align..align + length];
        if input.pad {
            buffer.fill(0);
            return Ok(buffer);
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
        self.job.progress.fetch_add(length as u64, Ordering::Relaxed);
        Ok(buffer)
    }
}
