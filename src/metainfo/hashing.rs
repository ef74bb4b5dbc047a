//! Hashes the pieces of files on disk, for `create`.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Advice, fadvise};

use crate::hash::{FinishedPiece, NextPiece, PieceBytes, PieceWork, hash_pieces, merkle};
use crate::metainfo::create_error::CreateError;
use crate::metainfo::source_files::CreateEntry;
use crate::metainfo::torrent::TorrentVersion;
use crate::types::{BLOCK_SIZE, Sha1Hash, Sha256Hash};
use crate::util::cold_sort;
use crate::util::memory;

/// The state that all hashing threads share.
struct HashJob<'a> {
    files: &'a [CreateEntry],
    /// The offset of each file in the concatenation of all files.
    starts: Vec<u64>,
    total: u64,
    piece_length: u64,
    version: TorrentVersion,
    /// Whether to drop from the page cache what was read.
    drops_cache: bool,
    /// The program passes it and `stop`, so both have the standard library's types.
    progress: &'a AtomicU64,
    stop: &'a AtomicBool,
}

/// The hashes of the pieces.
#[derive(Default)]
pub(super) struct HashedPieces {
    /// For v1.
    pub v1: Vec<Sha1Hash>,
    /// For v2: the roots of the pieces.
    pub v2: Vec<Sha256Hash>,
}

/// Hashes the files, concatenated, in pieces of `piece_length` bytes. For v2, each file with data starts at a piece. Adds the bytes
/// hashed to `progress`, padding not counted.
pub(super) fn hash(
    files: &[CreateEntry],
    piece_length: u32,
    (version, threads): (TorrentVersion, usize),
    progress: &AtomicU64,
    stop: &AtomicBool,
) -> Result<HashedPieces, CreateError> {
    let mut starts = Vec::with_capacity(files.len());
    let mut total = 0u64;
    for file in files {
        starts.push(total);
        total = total.checked_add(file.length).ok_or(CreateError::TooBig)?;
    }
    let pieces = u32::try_from(total.div_ceil(u64::from(piece_length))).map_err(|_| CreateError::TooBig)?;
    let drops_cache = memory::crowds_out_others(total);
    let piece_bytes = u64::from(piece_length);
    let job = HashJob { files, starts, total, piece_length: piece_bytes, version, drops_cache, progress, stop };
    let mut pieces_in_any_order = hash_pieces(&job, pieces, piece_length, threads)?;
    if job.is_stopped() {
        return Err(CreateError::Stopped);
    }
    // The hashes of a file that another program has written to meanwhile match no version of it.
    for file in files.iter().filter(|file| !file.is_pad) {
        let found = fs::metadata(&file.path).map_err(|source| CreateError::Read { path: file.path.clone(), source })?;
        if file.is_changed(&found) {
            return Err(CreateError::Changed { path: file.path.clone() });
        }
    }
    cold_sort::sort_by_key(&mut pieces_in_any_order, |&(piece, ..)| piece);
    let mut hashes = HashedPieces::default();
    for (_, v1, v2) in pieces_in_any_order {
        hashes.v1.extend(v1);
        hashes.v2.extend(v2);
    }
    Ok(hashes)
}

/// The file read last, with its index, kept open for the next read.
type LastFile = Option<(usize, File)>;

impl PieceWork for HashJob<'_> {
    type Found = (u32, Option<Sha1Hash>, Option<Sha256Hash>);
    type Error = CreateError;
    type Reader = LastFile;

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn next(&self, piece: u32) -> Result<NextPiece<Self::Found>, CreateError> {
        let start = u64::from(piece) * self.piece_length;
        let bytes = start..(start + self.piece_length).min(self.total);
        if self.version == TorrentVersion::V1 {
            return Ok(NextPiece::Hash(PieceBytes::v1(bytes)));
        }
        let wants_sha1 = self.version == TorrentVersion::Hybrid;
        let data_end = bytes.end.min(self.end_of_file_at(start).1);
        let bytes = if wants_sha1 { bytes } else { start..data_end };
        Ok(NextPiece::Hash(PieceBytes { bytes, wants_sha1, data_end }))
    }

    /// Fills the buffer with the bytes from `offset` of the concatenation.
    fn read(&self, last: &mut LastFile, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), CreateError> {
        while !buffer.is_empty() {
            let index = self.file_at(offset);
            let (Some(input), Some(&start)) = (self.files.get(index), self.starts.get(index)) else {
                return Ok(());
            };
            let length = (start + input.length - offset).min(buffer.len() as u64);
            let (part, rest) = buffer.split_at_mut(length as usize);
            self.read_file(last, index, offset - start, part)?;
            buffer = rest;
            offset += length;
        }
        Ok(())
    }

    fn finish(&self, finished: FinishedPiece<CreateError>) -> Result<Option<Self::Found>, CreateError> {
        let digest = finished.result?;
        let root = (!digest.leaves.is_empty()).then(|| {
            let (start, end) = self.end_of_file_at(u64::from(finished.piece) * self.piece_length);
            let is_only_piece = end - start <= self.piece_length;
            let width = if is_only_piece { digest.leaves.len().next_power_of_two() } else { self.blocks_per_piece() };
            merkle::root(digest.leaves, 0, width)
        });
        Ok(Some((finished.piece, digest.sha1, root)))
    }
}

impl HashJob<'_> {
    /// The index of the file with the byte at `offset`.
    fn file_at(&self, offset: u64) -> usize {
        // If several files start at this offset, all but the last are empty.
        self.starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// Where the file with the byte at `offset` starts and ends.
    fn end_of_file_at(&self, offset: u64) -> (u64, u64) {
        let index = self.file_at(offset);
        let start = self.starts.get(index).copied().unwrap_or(offset);
        (start, start + self.files.get(index).map_or(0, |file| file.length))
    }

    fn blocks_per_piece(&self) -> usize {
        self.piece_length.div_ceil(u64::from(BLOCK_SIZE)) as usize
    }

    /// Fills the buffer with the bytes of one file.
    fn read_file(&self, last: &mut LastFile, index: usize, offset: u64, buffer: &mut [u8]) -> Result<(), CreateError> {
        let input = &self.files[index];
        if input.is_pad {
            buffer.fill(0);
            return Ok(());
        }
        let read = |source| CreateError::Read { path: input.path.clone(), source };
        let changed = || CreateError::Changed { path: input.path.clone() };
        if last.as_ref().is_none_or(|(open, _)| *open != index) {
            let file = File::open(&input.path).map_err(read)?;
            let meta = file.metadata().map_err(read)?;
            if input.is_changed(&meta) {
                return Err(changed());
            }
            *last = Some((index, file));
        }
        let (_, file) = last.as_ref().expect("opened above");
        file.read_exact_at(buffer, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => read(e),
        })?;
        if self.drops_cache {
            let _ = fadvise(file, offset, NonZero::new(buffer.len() as u64), Advice::DontNeed);
        }
        self.progress.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
