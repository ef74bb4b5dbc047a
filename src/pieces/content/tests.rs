//! A file whose times another program has set.

use std::fs::{self, File};
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha1::{Digest, Sha1};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::{FileAction, FileSpec, Layout, Storage};
use crate::types::{InfoHash, PartialPiece};

const BLOCK: usize = BLOCK_SIZE as usize;
const PIECE: usize = 2 * BLOCK;

fn content() -> Vec<u8> {
    (0..4 * PIECE).map(|at| (at % 251) as u8 + 1).collect()
}

/// A file of four pieces of two blocks: the first piece is verified, the second has its first block, and the rest is missing.
fn begun(dir: &TempDir) -> Arc<PieceManager> {
    begun_with(dir, true)
}

fn begun_with(dir: &TempDir, is_verified: bool) -> Arc<PieceManager> {
    let spec = FileSpec { path: "x".into(), length: 4 * PIECE as u64, is_pad: false };
    let mut storage = Storage::new(dir.path().into(), Layout::new(PIECE as u32, vec![spec]).unwrap(), 4);
    let (hash, no, actions) = (InfoHash([1; 20]), std::sync::atomic::AtomicBool::new(false), [FileAction::Create]);
    let mut survey = storage.survey(&no).unwrap();
    storage.lock(&hash).unwrap();
    storage.create_files(&actions, &mut survey, &no).unwrap();
    storage.record_ownership(&hash, &actions, &survey, false).unwrap();
    storage.resize_files(&actions, &survey, &no).unwrap();
    let start = if is_verified { 0 } else { PIECE };
    storage.write_vectored_at(start as u64, &[IoSlice::new(&content()[start..PIECE + BLOCK])]).unwrap();
    let hashes = content().chunks(PIECE).map(|piece| Sha1::digest(piece).into()).collect();
    let mut have = Bitfield::new(4);
    if is_verified {
        have.set(PieceIndex(0));
    }
    let pieces = Arc::new(PieceManager::new(Arc::new(storage), hashes, have));
    let mut partial = PartialPiece::new(PieceIndex(1), 2);
    partial.set(0);
    pieces.restore(&[partial]);
    let checks = Arc::downgrade(&pieces);
    pieces.storage().set_content_check(move |file| checks.upgrade().unwrap().is_content_ours(file));
    pieces
}

/// Another program writes these bytes, and sets a time that is not btsync's.
fn edit(dir: &TempDir, at: usize, bytes: &[u8]) {
    let file = File::options().write(true).open(dir.path().join("x")).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

fn write_last_block(pieces: &PieceManager) -> Result<(), StorageError> {
    pieces.storage().write_vectored_at((4 * PIECE - BLOCK) as u64, &[IoSlice::new(&content()[..BLOCK])])
}

#[test]
fn a_file_that_holds_only_btsyncs_writes_is_resumed() {
    let dir = tempdir().unwrap();
    let pieces = begun(&dir);
    edit(&dir, 0, &[]);
    write_last_block(&pieces).unwrap();
}

#[test]
fn an_edit_of_a_verified_or_missing_piece_is_not_overwritten() {
    for at in [0, PIECE - 1, PIECE + BLOCK, 2 * PIECE, 4 * PIECE - 1] {
        let dir = tempdir().unwrap();
        let pieces = begun(&dir);
        edit(&dir, at, b"m");
        let edited = fs::read(dir.path().join("x")).unwrap();
        assert!(matches!(write_last_block(&pieces), Err(StorageError::InTheWay { .. })), "{at}");
        assert!(fs::read(dir.path().join("x")).unwrap() == edited);
    }
}

/// Until its piece is complete, nothing tells an edit of a block.
#[test]
fn an_edit_of_an_unfinished_piece_is_not_downloaded_again() {
    let dir = tempdir().unwrap();
    let pieces = begun(&dir);
    pieces.check_not_edited(PieceIndex(1)).unwrap();
    edit(&dir, PIECE + 5, b"m");
    write_last_block(&pieces).unwrap();
    pieces.check_not_edited(PieceIndex(2)).unwrap();
    assert!(matches!(pieces.check_not_edited(PieceIndex(1)), Err(StorageError::InTheWay { .. })));
    assert!(write_last_block(&pieces).is_err());
}

#[test]
fn without_a_verified_piece_nothing_shows_that_the_content_is_btsyncs() {
    let dir = tempdir().unwrap();
    let pieces = begun_with(&dir, false);
    edit(&dir, 0, &[]);
    assert!(write_last_block(&pieces).is_err());
}
