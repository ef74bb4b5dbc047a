//! The check of a torrent with a v2 half (BEP 52): hashes the blocks of each piece, and compares the root above them.

use std::sync::OnceLock;

use crate::hash::{FinishedPiece, NextPiece, PieceBytes, PieceWork, hash_pieces, sha256};
use crate::metainfo::{FileRoot, V2Hashes};
use crate::storage::check::{CheckProgress, ZeroHashes, ignore_absent};
use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::stop_check::StopCheck;
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex, Sha1Hash, Sha256Hash};
use crate::util::memory;

/// Finds the pieces on disk that are right by the hashes of the v2 half, with one thread per core. In a hybrid, whose v1 half has
/// the hashes `v1`, they must be right by both. If `stop` becomes true, returns soon with the pieces found so far. A file whose
/// piece layer is not known is right or wrong as a whole.
///
/// # Errors
/// The system's error if an existing file cannot be opened or read.
pub fn check_v2(
    storage: &Storage,
    v2: &V2Hashes,
    v1: &[Sha1Hash],
    progress: &CheckProgress,
    stop: &dyn StopCheck,
) -> Result<Bitfield, StorageError> {
    let layout = storage.layout();
    progress.done.set(0);
    progress.total.set(layout.total());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let drops_cache = memory::crowds_out_others(layout.total());
    let (zeros, zero_piece) = (ZeroHashes::new(layout), OnceLock::new());
    let job = MerkleCheck { storage, v2, v1, progress, drops_cache, stop, zeros, zero_piece };
    let mut have = Bitfield::new(layout.piece_count());
    let mut unproved = Vec::new();
    for (piece, hash) in hash_pieces(&job, layout.piece_count(), layout.piece_length(), threads)? {
        match hash {
            None => _ = have.set(piece),
            Some(hash) => unproved.push((piece, hash)),
        }
    }
    unproved.sort_unstable_by_key(|(piece, _)| *piece);
    for of_file in unproved.chunk_by(|(one, _), (other, _)| job.is_same_file(*one, *other)) {
        let Some(file) = of_file.first().and_then(|(piece, _)| v2.file_of(*piece)) else { continue };
        let layer: Vec<Sha256Hash> = of_file.iter().map(|(_, hash)| *hash).collect();
        if layer.len() == file.pieces.len() && v2.root(file, layer) == file.root {
            for (piece, _) in of_file {
                have.set(*piece);
            }
        }
    }
    Ok(have)
}

/// The state that the threads of one check share.
struct MerkleCheck<'a> {
    storage: &'a Storage,
    v2: &'a V2Hashes,
    v1: &'a [Sha1Hash],
    progress: &'a CheckProgress,
    /// Whether to drop from the page cache what was read.
    drops_cache: bool,
    stop: &'a dyn StopCheck,
    zeros: ZeroHashes<'a>,
    /// The hash of a whole piece of zeros, computed when first needed.
    zero_piece: OnceLock<Sha256Hash>,
}

impl PieceWork for MerkleCheck<'_> {
    /// A piece that is right; or that may be, and its hash, which only a root can prove.
    type Found = (PieceIndex, Option<Sha256Hash>);
    type Error = StorageError;
    type Reader = ();

    fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    fn next(&self, piece: u32) -> Result<NextPiece<Self::Found>, StorageError> {
        let (piece, layout) = (PieceIndex(piece), self.storage.layout());
        let (offset, size) = (layout.offset(piece, 0), u64::from(layout.piece_size(piece)));
        let Some(file) = self.v2.file_of(piece) else { return Ok(NextPiece::Skip(None)) };
        let data = u64::from(self.v2.data_length(piece));
        let found = match self.storage.has_data(offset, data) {
            Ok(true) => {
                let wants_sha1 = !self.v1.is_empty();
                let end = offset + if wants_sha1 { size } else { data };
                self.progress.done.add(size - (end - offset));
                return Ok(NextPiece::Hash(PieceBytes { bytes: offset..end, wants_sha1, data_end: offset + data }));
            }
            Ok(false) if self.v1.get(piece.as_usize()).is_some_and(|hash| self.zeros.hash(piece) != *hash) => None,
            Ok(false) => self.judge(piece, file, self.zero_hash(file, data)),
            Err(error) => ignore_absent(error).map(|()| None)?,
        };
        self.progress.done.add(size);
        Ok(NextPiece::Skip(found))
    }

    fn read(&self, (): &mut (), offset: u64, part: &mut [u8]) -> Result<(), StorageError> {
        self.storage.read_exact_at(offset, part)?;
        self.progress.done.add(part.len() as u64);
        Ok(())
    }

    fn finish(&self, finished: FinishedPiece<StorageError>) -> Result<Option<Self::Found>, StorageError> {
        self.progress.done.add(finished.unread);
        let piece = PieceIndex(finished.piece);
        if self.drops_cache {
            let layout = self.storage.layout();
            self.storage.drop_from_cache(layout.offset(piece, 0), u64::from(layout.piece_size(piece)));
        }
        let Some(file) = self.v2.file_of(piece) else { return Ok(None) };
        match finished.result {
            Ok(digest) if digest.sha1.as_ref() != self.v1.get(piece.as_usize()) => Ok(None),
            Ok(digest) => Ok(self.judge(piece, file, self.v2.piece_hash(file, digest.leaves))),
            Err(error) => ignore_absent(error).map(|()| None),
        }
    }
}

impl MerkleCheck<'_> {
    /// What follows from the hash of a piece of this file.
    fn judge(&self, piece: PieceIndex, file: &FileRoot, hash: Sha256Hash) -> Option<(PieceIndex, Option<Sha256Hash>)> {
        match self.v2.layer(file) {
            None => Some((piece, Some(hash))),
            Some(layer) => {
                let expected = layer.get((piece.0 - file.pieces.start) as usize);
                (expected == Some(&hash)).then_some((piece, None))
            }
        }
    }

    /// The hash of a piece of this file that is all zeros, with this many bytes of data.
    fn zero_hash(&self, file: &FileRoot, data: u64) -> Sha256Hash {
        let compute = || {
            let blocks = data.div_ceil(u64::from(BLOCK_SIZE));
            let zeros = vec![0; BLOCK_SIZE as usize];
            let mut leaves = vec![sha256(&zeros); blocks as usize];
            let last = data - (blocks - 1) * u64::from(BLOCK_SIZE);
            if let Some(leaf) = leaves.last_mut() {
                *leaf = sha256(&zeros[..last as usize]);
            }
            self.v2.piece_hash(file, leaves)
        };
        let is_whole = data == u64::from(self.storage.layout().piece_length());
        if is_whole { *self.zero_piece.get_or_init(compute) } else { compute() }
    }

    fn is_same_file(&self, one: PieceIndex, other: PieceIndex) -> bool {
        self.v2.file_of(one).is_some_and(|file| file.pieces.contains(&other.0))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;
    use crate::metainfo::{CreateOptions, Metainfo, TorrentVersion, create};
    use crate::storage::{FileSpec, Layout};

    const PIECE: u32 = 64 << 10;

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..length).map(|_| rng.u8(..)).collect()
    }

    /// A torrent of a folder `t` with files of one, several and no whole pieces, and one of zeros.
    fn torrent(version: TorrentVersion) -> (tempfile::TempDir, Metainfo) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("t");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), noise(20_000, 1)).unwrap();
        fs::write(root.join("b"), noise(3 * PIECE as usize + 20_000, 2)).unwrap();
        fs::write(root.join("c"), []).unwrap();
        fs::write(root.join("d"), vec![0; 2 * PIECE as usize + 5]).unwrap();
        let options = CreateOptions { version, piece_length: Some(PIECE), ..CreateOptions::default() };
        let made = create(&root, &options, &AtomicU64::new(0), &AtomicBool::new(false)).unwrap();
        (dir, Metainfo::parse(&made.bytes).unwrap())
    }

    fn missing(folder: &std::path::Path, torrent: &Metainfo) -> Vec<u32> {
        let spec = |file: &crate::metainfo::FileEntry| FileSpec {
            path: file.path.clone(),
            length: file.length,
            is_pad: file.is_virtual,
        };
        let layout = Layout::new(PIECE, torrent.files.iter().map(spec).collect()).unwrap();
        let storage = Storage::new(folder.to_owned(), layout, 3);
        let progress = CheckProgress::default();
        let v2 = torrent.v2_hashes().unwrap();
        let have = check_v2(&storage, v2, &torrent.pieces, &progress, &AtomicBool::new(false)).unwrap();
        assert_eq!((progress.done.get(), have.len()), (torrent.total(), 8));
        (0..have.len()).filter(|&piece| !have.has(PieceIndex(piece))).collect()
    }

    fn flip(file: &std::path::Path, at: usize) {
        let mut bytes = fs::read(file).unwrap();
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    }

    #[test]
    fn damage_costs_its_pieces_and_missing_files_all_of_theirs() {
        for version in [TorrentVersion::V2, TorrentVersion::Hybrid] {
            let (dir, torrent) = torrent(version);
            let (folder, b) = (dir.path(), dir.path().join("t/b"));
            assert_eq!(missing(folder, &torrent), [0_u32; 0]);
            flip(&b, 2 * PIECE as usize - 1);
            assert_eq!(missing(folder, &torrent), [2]);
            flip(&b, 3 * PIECE as usize + 19_999);
            assert_eq!(missing(folder, &torrent), [2, 4]);
            fs::remove_file(folder.join("t/a")).unwrap();
            assert_eq!(missing(folder, &torrent), [0, 2, 4]);
            fs::File::options().write(true).open(&b).unwrap().set_len(u64::from(PIECE)).unwrap();
            assert_eq!(missing(folder, &torrent), [0, 2, 3, 4]);
        }
    }

    #[test]
    fn holes_count_as_the_zeros_that_they_are() {
        for version in [TorrentVersion::V2, TorrentVersion::Hybrid] {
            let (dir, torrent) = torrent(version);
            for (name, length) in [("b", 3 * PIECE + 20_000), ("d", 2 * PIECE + 5)] {
                let file = fs::File::create(dir.path().join("t").join(name)).unwrap();
                file.set_len(length.into()).unwrap();
            }
            assert_eq!(missing(dir.path(), &torrent), [1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_piece_of_a_hybrid_must_have_both_hashes() {
        let (dir, mut torrent) = torrent(TorrentVersion::Hybrid);
        torrent.pieces[3][0] ^= 1;
        torrent.pieces[6][0] ^= 1;
        assert_eq!(missing(dir.path(), &torrent), [3, 6]);
    }

    #[test]
    fn a_file_without_its_layer_is_right_or_wrong_as_a_whole() {
        let (dir, torrent) = torrent(TorrentVersion::V2);
        let torrent = Metainfo::from_info(&torrent.info, Vec::new(), Vec::new()).unwrap();
        assert_eq!(missing(dir.path(), &torrent), [0_u32; 0]);
        flip(&dir.path().join("t/b"), 5);
        assert_eq!(missing(dir.path(), &torrent), [1, 2, 3, 4]);
        flip(&dir.path().join("t/a"), 5);
        assert_eq!(missing(dir.path(), &torrent), [0, 1, 2, 3, 4]);
    }
}
