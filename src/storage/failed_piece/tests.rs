//! Pieces that failed, and those of them that have come again in part.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tempfile::tempdir;

use super::*;
use crate::storage::decision::DecisionInput;
use crate::storage::ownership::OwnershipClaim;
use crate::storage::{FileSpec, Layout, part_name};
use crate::types::{Bitfield, InfoHash, Sha1Hash};

const BLOCK: u64 = BLOCK_SIZE as u64;
/// More than is written at once, and a short last block.
const PIECE: u64 = 70 * BLOCK + 5000;

/// Three pieces of small and large files, of which one is padding and one is not wanted.
fn storage(root: &Path) -> Storage {
    let file = |path: &str, length, is_pad| FileSpec { path: path.into(), length, is_pad };
    let lengths = [("a", PIECE + 100), ("b", 3000), ("c", 2 * BLOCK + 1), ("d", 0), ("e", PIECE - 40_000)];
    let mut files: Vec<FileSpec> = lengths.map(|(path, length)| file(path, length, false)).into();
    files.push(file("pad", 1000, true));
    let rest = 3 * PIECE - files.iter().map(|file| file.length).sum::<u64>();
    files.push(file("z", rest, false));
    let it = Storage::new(root.to_owned(), Layout::new(PIECE as u32, files).unwrap(), 4);
    let it = it.select(&[true, true, false, true, true, true, true], &part_name(&InfoHash([1; 20])));
    it.prepare().unwrap();
    it
}

fn write(it: &Storage, offset: u64, length: u64) {
    it.write_vectored_at(offset, &[IoSlice::new(&vec![7; length as usize])]).unwrap();
}

fn read(it: &Storage) -> Vec<u8> {
    let mut bytes = vec![1; 3 * PIECE as usize];
    it.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_failed_piece_is_erased_in_all_its_files_and_no_other_byte() {
    let dir = tempdir().unwrap();
    let it = storage(dir.path());
    write(&it, 0, 3 * PIECE);
    let before = read(&it);
    for piece in 0..3 {
        write(&it, 0, 3 * PIECE);
        it.erase_piece(PieceIndex(piece)).unwrap();
        let range = (u64::from(piece) * PIECE) as usize..(u64::from(piece + 1) * PIECE) as usize;
        let now = read(&it);
        assert!(now[range.clone()].iter().all(|byte| *byte == 0));
        assert!(now[..range.start] == before[..range.start] && now[range.end..] == before[range.end..]);
    }
    assert!(!fs::exists(dir.path().join("c")).unwrap(), "its bytes are in the part file");
}

/// Whichever blocks have come again, the piece counts as one that is partly downloaded.
#[test]
fn a_failed_piece_is_partial_until_its_last_block_has_come_again() {
    let dir = tempdir().unwrap();
    let it = storage(dir.path());
    let stop = AtomicBool::new(false);
    let hashes = [Sha1Hash::default(); 3];
    let is_partial = |piece| {
        let survey = it.survey(&stop).unwrap();
        let input = DecisionInput {
            survey: &survey,
            hashes: &hashes,
            have: &Bitfield::new(3),
            wanted: &Bitfield::full(3),
            ours: &|_, _| false,
            claim: &|_, _| OwnershipClaim::MadeButChanged,
            of_earlier_run: &|_, _| false,
            vouched: &|_, _| false,
            may_overwrite: false,
            stop: &stop,
        };
        it.is_partial(PieceIndex(piece), &input).unwrap()
    };
    // The middle piece has bytes of an unwanted file, of which nothing is known.
    for piece in [0, 2] {
        let (begin, blocks) = (u64::from(piece) * PIECE, PIECE.div_ceil(BLOCK));
        for missing in 0..blocks {
            write(&it, 0, 3 * PIECE);
            assert!(!is_partial(piece));
            it.erase_piece(PieceIndex(piece)).unwrap();
            for block in (0..blocks).filter(|block| *block != missing) {
                write(&it, begin + block * BLOCK, BLOCK.min(PIECE - block * BLOCK));
            }
            assert!(is_partial(piece), "{piece} without block {missing}");
        }
    }
}
