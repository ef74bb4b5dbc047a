//! The check against files written by several threads, holes, damage and missing files.

use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use sha1::{Digest, Sha1};
use tempfile::tempdir;

use super::*;
use crate::storage::FileSpec;

/// Larger than a slab, so that every piece takes several reads, and not a multiple of its size.
const PIECE: u32 = 600_000;

fn file(path: &str, length: u64, pad: bool) -> FileSpec {
    FileSpec { path: path.into(), length, is_pad: pad }
}

fn prepared(root: &Path, piece_length: u32, files: Vec<FileSpec>) -> Storage {
    let it = Storage::new(root.to_owned(), Layout::new(piece_length, files).unwrap(), 3);
    it.prepare().unwrap();
    it
}

/// The torrent's bytes: random, but zeros in its padding.
fn payload(layout: &Layout) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut bytes = Vec::new();
    for file in layout.files() {
        bytes.extend((0..file.length).map(|_| if file.is_pad { 0 } else { random.u8(1..) }));
    }
    bytes
}

fn hashes(bytes: &[u8], piece_length: u32) -> Vec<Sha1Hash> {
    bytes.chunks(piece_length as usize).map(|piece| Sha1::digest(piece).into()).collect()
}

fn run(storage: &Storage, hashes: &[Sha1Hash], threads: usize) -> Result<Bitfield, StorageError> {
    let progress = CheckProgress::default();
    let have = check(storage, hashes, threads, &progress, &AtomicBool::new(false))?;
    assert_eq!(progress.done.get(), storage.layout().total());
    assert_eq!(progress.total.get(), storage.layout().total());
    Ok(have)
}

fn missing(have: &Bitfield) -> Vec<u32> {
    (0..have.len()).filter(|&p| !have.has(PieceIndex(p))).collect()
}

fn some_files() -> Vec<FileSpec> {
    vec![file("a", 1_000_000, false), file("pad", 200_000, true), file("e", 0, false), file("d/b", 5_000_001, false)]
}

#[test]
fn pieces_written_by_eight_threads_are_all_found() {
    let dir = tempdir().unwrap();
    let piece_length = 1 << 16;
    let files = (0..40).map(|i| file(&format!("f{i}"), 50_000 + i * 1000, i % 7 == 3)).collect();
    let it = prepared(dir.path(), piece_length, files);
    let bytes = payload(it.layout());
    let next = Counter::default();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let piece = PieceIndex(next.next() as u32);
                    let size = it.layout().piece_size(piece) as usize;
                    if size == 0 {
                        break;
                    }
                    let offset = it.layout().offset(piece, 0);
                    let bytes = &bytes[offset as usize..offset as usize + size];
                    let blocks: Vec<IoSlice<'_>> = bytes.chunks(1 << 14).map(IoSlice::new).collect();
                    it.write_vectored_at(offset, &blocks).unwrap();
                }
            });
        }
    });
    let hashes = hashes(&bytes, piece_length);
    for threads in [0, 1, 2, 8] {
        assert!(run(&it, &hashes, threads).unwrap().is_full(), "{threads} threads");
    }
    assert!(it.cache.ring.lock().len() <= 3);
}

#[test]
fn damaged_missing_and_short_files_cost_their_pieces_only() {
    let dir = tempdir().unwrap();
    let it = prepared(dir.path(), PIECE, some_files());
    let bytes = payload(it.layout());
    let hashes = hashes(&bytes, PIECE);
    it.write_vectored_at(0, &[IoSlice::new(&bytes)]).unwrap();
    assert!(run(&it, &hashes, 2).unwrap().is_full());

    let at = 3 * PIECE as usize + 599_999;
    it.write_vectored_at(at as u64, &[IoSlice::new(&[!bytes[at]])]).unwrap();
    assert_eq!(missing(&run(&it, &hashes, 2).unwrap()), [3]);

    fs::OpenOptions::new().write(true).open(dir.path().join("d/b")).unwrap().set_len(5_000_000).unwrap();
    assert_eq!(missing(&run(&it, &hashes, 2).unwrap()), [3, 10]);

    it.close();
    fs::remove_file(dir.path().join("a")).unwrap();
    assert_eq!(missing(&run(&it, &hashes, 2).unwrap()), [0, 1, 3, 10]);

    fs::remove_dir_all(dir.path()).unwrap();
    it.close();
    assert_eq!(run(&it, &hashes, 2).unwrap().count(), 0);
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_that_names_it() {
    let dir = tempdir().unwrap();
    let it = prepared(dir.path(), PIECE, some_files());
    let hashes = hashes(&payload(it.layout()), PIECE);
    fs::remove_file(dir.path().join("d/b")).unwrap();
    fs::create_dir(dir.path().join("d/b")).unwrap();
    let error = run(&it, &hashes, 2).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Exists);
    assert!(error.to_string().contains("d/b"), "{error}");
}

#[test]
fn a_hole_is_right_where_zeros_are_expected_and_only_there() {
    let dir = tempdir().unwrap();
    let it = prepared(dir.path(), PIECE, vec![file("a", 5 * u64::from(PIECE) + 1000, false)]);
    let mut bytes = payload(it.layout());
    let zero_pieces = [1, 4, 5];
    for p in zero_pieces {
        bytes.chunks_mut(PIECE as usize).nth(p).unwrap().fill(0);
    }
    let have = run(&it, &hashes(&bytes, PIECE), 2).unwrap();
    assert_eq!(missing(&have), [0, 2, 3]);

    // A hole past the end of a truncated file does not count as a piece of zeros.
    fs::OpenOptions::new().write(true).open(dir.path().join("a")).unwrap().set_len(5 * u64::from(PIECE) + 999).unwrap();
    assert_eq!(missing(&run(&it, &hashes(&bytes, PIECE), 2).unwrap()), [0, 2, 3, 5]);
}

#[test]
fn holes_are_not_read() {
    let dir = tempdir().unwrap();
    // Reading this much would take an hour; the check must notice the hole.
    let size = 512 << 30;
    let it = prepared(dir.path(), 1 << 23, vec![file("a", size, false)]);
    it.write_vectored_at(size - 5, &[IoSlice::new(b"hello")]).unwrap();
    let mut last = vec![0; 1 << 23];
    last[(1 << 23) - 5..].copy_from_slice(b"hello");
    let mut hashes = vec![[1; 20]; 65_535];
    hashes.push(Sha1::digest(&last).into());
    let have = run(&it, &hashes, 2).unwrap();
    assert_eq!(have.iter().collect::<Vec<_>>(), [PieceIndex(65_535)]);
}

#[test]
fn too_few_hashes_and_no_pieces_at_all() {
    let dir = tempdir().unwrap();
    let it = prepared(dir.path(), PIECE, some_files());
    let bytes = payload(it.layout());
    it.write_vectored_at(0, &[IoSlice::new(&bytes)]).unwrap();
    let hashes = hashes(&bytes, PIECE);
    assert_eq!(run(&it, &hashes[..2], 2).unwrap().count(), 2);
    let nothing = prepared(dir.path(), PIECE, vec![file("e", 0, false)]);
    assert!(run(&nothing, &[], 2).unwrap().is_full());
}

#[test]
fn stopped_it_returns_without_hashing() {
    let dir = tempdir().unwrap();
    let it = prepared(dir.path(), PIECE, some_files());
    let bytes = payload(it.layout());
    it.write_vectored_at(0, &[IoSlice::new(&bytes)]).unwrap();
    let progress = CheckProgress::default();
    let have = check(&it, &hashes(&bytes, PIECE), 2, &progress, &AtomicBool::new(true)).unwrap();
    assert_eq!((have.count(), progress.done.get()), (0, 0));
}

#[test]
fn the_rest_of_a_piece_is_read_back_through_any_slab() {
    let dir = tempdir().unwrap();
    let it = prepared(dir.path(), PIECE, some_files());
    let bytes = payload(it.layout());
    it.write_vectored_at(0, &[IoSlice::new(&bytes)]).unwrap();
    let hashes = hashes(&bytes, PIECE);
    for piece in [1, 10].map(PieceIndex) {
        let start = it.layout().offset(piece, 0) as usize;
        let size = it.layout().piece_size(piece);
        for from in [0, 1, 16_384, size - 1, size] {
            for slab in [1000, 1 << 20] {
                let mut sha = Sha1Stream::new();
                sha.update(&bytes[start..start + from as usize]);
                let hash = hash_range(&it, piece, from, sha, &mut vec![0; slab]).unwrap();
                assert_eq!(hash, hashes[piece.as_usize()], "piece {piece:?} from {from}, slab {slab}");
            }
        }
    }
}
