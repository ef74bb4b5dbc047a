//! Files that another program changes while btsync serves their pieces. Closing the files stands for the second that passes until
//! btsync looks at an open file again.

use std::fs::{self, File};
use std::io::IoSlice;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use sha1::{Digest, Sha1};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::resume::COARSE_SETTLING_TIME;
use crate::storage::{FileAction, FileSpec, Layout, Storage, StorageErrorKind};
use crate::types::{Bitfield, InfoHash};

const PIECE: usize = 16 * 1024;
const SIZE: usize = 2 * PIECE;

fn content() -> Vec<u8> {
    (0..2 * SIZE).map(|at| (at % 251) as u8 + 1).collect()
}

/// The files x and y of two pieces each.
fn layout() -> Layout {
    let spec = |path: &str| FileSpec { path: path.into(), length: SIZE as u64, is_pad: false };
    Layout::new(PIECE as u32, vec![spec("x"), spec("y")]).unwrap()
}

fn manager(storage: Storage) -> PieceManager {
    let hashes: Vec<_> = content().chunks(PIECE).map(|piece| Sha1::digest(piece).into()).collect();
    PieceManager::new(Arc::new(storage), hashes, Bitfield::full(4))
}

/// Serves two complete files that were there before.
fn seeding(dir: &TempDir) -> PieceManager {
    fs::write(dir.path().join("x"), &content()[..SIZE]).unwrap();
    fs::write(dir.path().join("y"), &content()[SIZE..]).unwrap();
    let mut storage = Storage::new(dir.path().into(), layout(), 4);
    let survey = storage.survey(&AtomicBool::new(false)).unwrap();
    storage.remember_verified(&survey);
    manager(storage)
}

/// Serves a piece, after the time in which btsync does not look at open files.
fn serve(pieces: &PieceManager, piece: usize) -> Result<Vec<u8>, StorageError> {
    pieces.storage().close();
    let mut buf = vec![0; PIECE];
    pieces.read_verified((piece * PIECE) as u64, &mut buf).map(|()| buf)
}

fn doubtful(pieces: &PieceManager) -> usize {
    pieces.storage().doubtful_pieces(0, 2 * SIZE as u64).unwrap().len()
}

fn replace(path: &Path, bytes: &[u8]) {
    let new = PathBuf::from(format!("{}.new", path.display()));
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn edited_and_replaced_files_are_not_served() {
    let edits: [fn(&Path); 3] = [
        |path| fs::write(path, vec![7; SIZE]).unwrap(),
        |path| replace(path, &vec![7; SIZE]),
        // With the time that it had.
        |path| {
            let time = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(path, vec![7; SIZE]).unwrap();
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        },
    ];
    for edit in edits {
        let dir = tempdir().unwrap();
        let pieces = seeding(&dir);
        assert_eq!(serve(&pieces, 1).unwrap(), content()[PIECE..SIZE]);
        edit(&dir.path().join("x"));
        assert_eq!(serve(&pieces, 3).unwrap(), content()[3 * PIECE..], "another file");
        let error = serve(&pieces, 1).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Missing);
        let path = dir.path().join("x").display().to_string();
        assert_eq!(
            error.to_string(),
            format!("cannot serve {path}: another program changed it since btsync verified it")
        );
    }
}

#[test]
fn pieces_that_an_edit_left_alone_are_served() {
    let dir = tempdir().unwrap();
    let pieces = seeding(&dir);
    fs::write(dir.path().join("x"), [&content()[..PIECE], &[7; PIECE][..]].concat()).unwrap();
    assert_eq!(serve(&pieces, 0).unwrap(), content()[..PIECE]);
    assert!(serve(&pieces, 1).is_err());
}

#[test]
fn changes_of_metadata_alone_end_no_seed_and_cost_one_hash() {
    let dir = tempdir().unwrap();
    let pieces = seeding(&dir);
    let file = dir.path().join("x");
    let changes: [fn(&Path); 4] = [
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap(),
        |path| {
            // Long enough ago that a later change would show.
            let time = SystemTime::UNIX_EPOCH;
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        },
        |path| replace(path, &content()[..SIZE]),
        |path| fs::hard_link(path, path.with_extension("link")).unwrap(),
    ];
    assert_eq!(doubtful(&pieces), 0);
    for change in changes {
        change(&file);
        assert_eq!(serve(&pieces, 0).unwrap(), content()[..PIECE]);
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    pieces.storage().close();
    let all = pieces.storage().doubtful_pieces(0, SIZE as u64).unwrap();
    let changed_at = fs::metadata(&file).unwrap().ctime() * 1_000_000_000;
    pieces.storage().confirm_served(all[0], changed_at);
    assert_eq!(doubtful(&pieces), 2, "the times are too new to rely on");
    pieces.storage().confirm_served(all[0], clock() + COARSE_SETTLING_TIME);
    assert_eq!(doubtful(&pieces), 1);
    fs::write(&file, vec![7; SIZE]).unwrap();
    pieces.storage().close();
    assert_eq!(doubtful(&pieces), 2);
    pieces.storage().confirm_served(all[1], clock() + COARSE_SETTLING_TIME);
    assert_eq!(doubtful(&pieces), 2, "the file has changed since");
}

#[test]
fn our_own_writes_and_names_are_no_edits() {
    let dir = tempdir().unwrap();
    let layout = layout().with_incomplete_suffix(".part", |_, _, _| true);
    let mut storage = Storage::new(dir.path().into(), layout, 4);
    let (hash, no, actions) = (InfoHash([1; 20]), AtomicBool::new(false), [FileAction::Create; 2]);
    let mut survey = storage.survey(&no).unwrap();
    storage.lock(&hash).unwrap();
    storage.create_files(&actions, &mut survey, &no).unwrap();
    storage.record_ownership(&hash, &actions, &survey, false).unwrap();
    storage.resize_files(&actions, &survey, &no).unwrap();
    let pieces = manager(storage);
    let look = || {
        pieces.storage().close();
        doubtful(&pieces)
    };
    assert_eq!(look(), 0);
    pieces.storage().write_vectored_at(0, &[IoSlice::new(&content())]).unwrap();
    assert_eq!(look(), 0);
    pieces.storage().apply_final_names().unwrap();
    assert!(dir.path().join("x").exists());
    assert_eq!(look(), 0);
    fs::write(dir.path().join("x"), vec![7; SIZE]).unwrap();
    assert_eq!(look(), 2);
    assert_eq!(serve(&pieces, 0).unwrap_err().kind(), StorageErrorKind::Exists, "the download is not finished");
}
