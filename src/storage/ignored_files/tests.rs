//! A complete file, and a user's file under the name of an unwanted one that shares a piece with it.

use std::fs;
use std::io::IoSlice;
use std::sync::atomic::AtomicBool;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::ownership::{FileAction, OwnershipClaim, Refusal};
use crate::storage::{CheckProgress, FileSpec, Layout, StorageError, check, part_name};
use crate::types::{Bitfield, InfoHash};

const HASH: InfoHash = InfoHash([1; 20]);
const PIECE: usize = 1000;
/// `x` has a piece of its own, and shares one with `y`, which shares another one with `z`.
const FILES: [(&str, usize); 3] = [("x", 1500), ("y", 1000), ("z", 1500)];

fn content() -> Vec<u8> {
    (0..4 * PIECE).map(|at| (at % 251) as u8 + 1).collect()
}

fn hashes(content: &[u8]) -> Vec<Sha1Hash> {
    content.chunks(PIECE).map(|piece| Sha1::digest(piece).into()).collect()
}

/// Only `x` is wanted.
fn storage(dir: &TempDir) -> Storage {
    let spec = |(path, length): (&str, usize)| FileSpec { path: path.into(), length: length as u64, is_pad: false };
    let layout = Layout::new(PIECE as u32, FILES.map(spec).into()).unwrap();
    Storage::new(dir.path().to_owned(), layout, 4).select(&[true, false, false], &part_name(&HASH))
}

/// A run that has downloaded `x` while nothing had the name of `y`.
fn downloaded(content: &[u8]) -> TempDir {
    let dir = tempdir().unwrap();
    let it = storage(&dir);
    it.prepare().unwrap();
    it.write_vectored_at(0, &[IoSlice::new(&content[..2 * PIECE])]).unwrap();
    dir
}

/// Whether `y` is ignored as before, and what happens to `x` and `y`.
fn started(it: &mut Storage, content: &[u8]) -> (bool, Result<Vec<FileAction>, StorageError>) {
    let (stop, hashes) = (AtomicBool::new(false), hashes(content));
    let mut survey = it.survey(&stop).unwrap();
    let is_ignored = it.ignore_files_as_before(&survey, &hashes, &stop);
    if is_ignored {
        survey = it.survey(&stop).unwrap();
    }
    let have = check(it, &hashes, 1, &CheckProgress::default(), &stop).unwrap();
    let mut wanted = Bitfield::new(4);
    (0..2).for_each(|piece| _ = wanted.set(PieceIndex(piece)));
    let input = DecisionInput {
        survey: &survey,
        hashes: &hashes,
        have: &have,
        wanted: &wanted,
        ours: &|_, _| false,
        claim: &|_, _| OwnershipClaim::None,
        of_earlier_run: &|_, _| false,
        vouched: &|_, _| false,
        may_overwrite: false,
        stop: &stop,
    };
    let actions = it.decide(&input);
    let is_part_file_ours = it.decide_part_file(&input, &[FileAction::Leave; 3], false);
    assert!(!matches!(is_part_file_ours, Err(StorageError::InTheWay { .. })), "{is_part_file_ours:?}");
    (is_ignored, actions)
}

#[test]
fn a_users_file_that_was_ignored_is_ignored_again() {
    let content = content();
    for theirs in [&b"mine"[..], &[7; 1000], &[0; 900]] {
        let dir = downloaded(&content);
        fs::write(dir.path().join("y"), theirs).unwrap();
        let (is_ignored, actions) = started(&mut storage(&dir), &content);
        assert!(is_ignored);
        assert_eq!(actions.unwrap(), [FileAction::Leave; 3], "everything wanted is there");
        assert_eq!(fs::read(dir.path().join("y")).unwrap(), theirs);
    }
}

/// Only the end of `y`, which it shares with `z`, was edited.
#[test]
fn of_a_file_that_the_user_edited_the_other_pieces_are_used() {
    let content = content();
    let dir = tempdir().unwrap();
    let spec = |(path, length): (&str, usize)| FileSpec { path: path.into(), length: length as u64, is_pad: false };
    let layout = Layout::new(PIECE as u32, FILES.map(spec).into()).unwrap();
    let it = || Storage::new(dir.path().to_owned(), layout.clone(), 4).select(&[true, false, true], &part_name(&HASH));
    it().prepare().unwrap();
    it().write_vectored_at(0, &[IoSlice::new(&content)]).unwrap();
    let mut edited = content[1500..2500].to_vec();
    for (at, ignores_all) in [(900, false), (100, true)] {
        edited[at] = 0;
        fs::write(dir.path().join("y"), &edited).unwrap();
        let (mut it, stop) = (it(), AtomicBool::new(false));
        let survey = it.survey(&stop).unwrap();
        assert!(it.ignore_files_as_before(&survey, &hashes(&content), &stop));
        assert_eq!(it.survey(&stop).unwrap().file(1).is_none(), ignores_all);
        let part_file = fs::OpenOptions::new().write(true).open(dir.path().join(part_name(&HASH))).unwrap();
        if !ignores_all {
            // The part file need not have the other piece.
            part_file.write_all_at(&[0; 1000], 0).unwrap();
            let have = check(&it, &hashes(&content), 1, &CheckProgress::default(), &stop).unwrap();
            assert!((0..4).all(|piece| have.has(PieceIndex(piece))));
            part_file.write_all_at(&content[1000..2000], 0).unwrap();
        }
    }
}

#[test]
fn a_file_is_not_ignored_without_a_reason() {
    let content = content();
    // It has the same bytes as the part file, as where that could not be emptied.
    let dir = downloaded(&content);
    fs::write(dir.path().join("y"), &content[1500..2500]).unwrap();
    assert!(!started(&mut storage(&dir), &content).0);
    // The marker says something of it.
    for word in ["created", "refused"] {
        let dir = downloaded(&content);
        fs::write(dir.path().join("y"), [7; 1000]).unwrap();
        let mut it = storage(&dir);
        let mut marker = Marker::default();
        let list = if word == "created" { &mut marker.created } else { &mut marker.refused };
        list.insert(marker::path_hash("y".as_ref()), 5);
        it.marker.content = Some(marker);
        assert!(!started(&mut it, &content).0, "{word}");
    }
    // The part file's bytes are not the torrent's.
    let dir = downloaded(&content);
    fs::write(dir.path().join(part_name(&HASH)), [9; 1000]).unwrap();
    fs::write(dir.path().join("y"), [7; 1000]).unwrap();
    let mut it = storage(&dir);
    let (stop, hashes) = (AtomicBool::new(false), hashes(&content));
    let survey = it.survey(&stop).unwrap();
    assert!(!it.ignore_files_as_before(&survey, &hashes, &stop));
    assert!(it.survey(&stop).unwrap().file(1).is_some());
}

/// The piece that the complete file shares with the user's cannot be hashed, which is not that file's fault.
#[test]
fn a_file_is_compared_if_only_a_users_file_keeps_it_from_being_complete() {
    let content = content();
    let dir = downloaded(&content);
    fs::remove_file(dir.path().join(part_name(&HASH))).unwrap();
    fs::write(dir.path().join("y"), [7; 900]).unwrap();
    let (is_ignored, actions) = started(&mut storage(&dir), &content);
    assert!(!is_ignored);
    assert_eq!(actions.unwrap(), [FileAction::Compare, FileAction::Ignore, FileAction::Leave]);
    // If another piece of it verifies, it is the torrent's, and the wrong piece counts against both.
    fs::write(dir.path().join("y"), [vec![7; 500], content[2000..2500].to_vec()].concat()).unwrap();
    fs::write(dir.path().join("z"), &content[2500..]).unwrap();
    let refused = started(&mut storage(&dir), &content).1;
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Foreign, .. })), "{refused:?}");
}

/// Zeros in the part file may be the torrent's bytes, too.
#[test]
fn a_part_file_is_ours_whatever_has_the_name_of_a_file_of_zeros() {
    let mut content = content();
    content[1500..2500].fill(0);
    let dir = downloaded(&content);
    // `x` is incomplete now, and the part file is needed.
    let x = File::options().write(true).open(dir.path().join("x")).unwrap();
    x.set_len(1000).unwrap();
    let part_file = File::options().write(true).open(dir.path().join(part_name(&HASH))).unwrap();
    part_file.write_all_at(&content[1000..2000], 0).unwrap();
    fs::write(dir.path().join("y"), [7; 900]).unwrap();
    let it = storage(&dir);
    let stop = AtomicBool::new(false);
    assert!(
        it.is_right_with(
            &File::open(dir.path().join(part_name(&HASH))).unwrap(),
            (0, PieceIndex(1)),
            &hashes(&content),
            &stop
        )
        .unwrap()
    );
}
