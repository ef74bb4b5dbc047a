//! Files that are removed from the marker while others are still downloading.

use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::ownership::FileAction;
use crate::storage::{FileSpec, Layout};

const HASH: InfoHash = InfoHash([1; 20]);

/// Two files of ten pieces each.
fn storage(dir: &TempDir) -> Storage {
    let spec = |path: &str| FileSpec { path: path.into(), length: 100, pad: false };
    Storage::new(dir.path().to_owned(), Layout::new(10, vec![spec("a"), spec("b")]).unwrap(), 4)
}

/// A download that has just begun, or continues with the pieces in `have`.
fn begun(dir: &TempDir, have: &Bitfield) -> Storage {
    let (mut it, no) = (storage(dir), AtomicBool::new(false));
    let mut survey = it.survey(&no).unwrap();
    let action = |file| if survey.file(file).is_some() { FileAction::Continue } else { FileAction::Make };
    let actions = [if have.has(PieceIndex(9)) { FileAction::Leave } else { action(0) }, action(1)];
    it.marker = it.read_marker(&HASH);
    it.lock(&HASH).unwrap();
    it.create_files(&actions, &mut survey, &no).unwrap();
    it.record_found_complete(have);
    it.record_ownership(&HASH, &actions, &survey, false).unwrap();
    it.resize_files(&actions, &survey, &no).unwrap();
    it
}

/// The pieces of the first file, and the first piece of the second.
fn first() -> Bitfield {
    let mut have = Bitfield::new(20);
    (0..11).for_each(|piece| _ = have.set(PieceIndex(piece)));
    have
}

fn seen(it: &Storage, file: usize) -> FileSnapshot {
    *it.survey(&AtomicBool::new(false)).unwrap().file(file).unwrap()
}

#[test]
fn a_file_is_the_users_from_the_moment_at_which_it_is_complete() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, &Bitfield::new(20));
    let (a, b) = (seen(&it, 0).identity, seen(&it, 1).identity);
    let says = |it: &Storage| {
        let marker = it.read_marker(&HASH).unwrap();
        (marker.made(Path::new("a"), a), marker.done(Path::new("a"), a), marker.made(Path::new("b"), b))
    };
    assert_eq!(says(&it), (true, false, true));
    it.record_complete_files(&first());
    assert_eq!(says(&it), (false, true, true), "also for a process that is killed now");
    let length = || fs::metadata(dir.path().join(marker_name(&HASH))).unwrap().len();
    let before = length();
    it.record_complete_files(&first());
    assert_eq!(length(), before, "once");
    assert!(it.confirm_lock().is_ok());
    it.unlock();
    assert!(it.read_marker(&HASH).unwrap().stopped);
    drop(it);
    let it = begun(&dir, &first());
    assert_eq!(says(&it), (false, true, true), "it is written anew");
    it.finish(&Bitfield::full(20));
    assert!(it.read_marker(&HASH).is_none());
}

#[test]
fn a_file_that_is_found_complete_is_struck_before_the_first_write() {
    let dir = tempdir().unwrap();
    drop(begun(&dir, &Bitfield::new(20)));
    let it = begun(&dir, &first());
    let (marker, a) = (it.read_marker(&HASH).unwrap(), seen(&it, 0).identity);
    assert!(marker.done(Path::new("a"), a) && !marker.made(Path::new("a"), a) && marker.made.len() == 1);
}

#[test]
fn a_file_that_has_another_length_is_not_written_to_and_never_again() {
    for length in [50, 150] {
        let dir = tempdir().unwrap();
        let it = begun(&dir, &Bitfield::new(20));
        it.write_vectored_at(100, &[IoSlice::new(&[1; 10])]).unwrap();
        fs::write(dir.path().join("b"), vec![b'x'; length]).unwrap();
        let refused = it.write_vectored_at(120, &[IoSlice::new(&[1; 10])]);
        assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{refused:?}");
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), vec![b'x'; length]);
        it.write_vectored_at(0, &[IoSlice::new(&[1; 10])]).unwrap();
        let (marker, b) = (it.read_marker(&HASH).unwrap(), seen(&it, 1).identity);
        assert!(marker.is_refused(Path::new("b"), b) && !marker.made(Path::new("b"), b));
    }
}

#[test]
fn what_is_put_into_a_file_that_must_be_empty_is_noticed() {
    let dir = tempdir().unwrap();
    let spec = |path: &str, length| FileSpec { path: path.into(), length, pad: false };
    let it = Storage::new(dir.path().to_owned(), Layout::new(10, vec![spec("a", 10), spec("z", 0)]).unwrap(), 4);
    it.prepare().unwrap();
    it.check_files_in_place().unwrap();
    fs::write(dir.path().join("z"), "mine").unwrap();
    let refused = it.check_files_in_place();
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{refused:?}");
}

#[test]
fn what_was_written_after_the_last_moment_of_a_process_is_not_its_own() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, &Bitfield::new(20));
    let marker = || it.read_marker(&HASH).unwrap();
    let after = |nanos: i64| {
        let found = fs::metadata(dir.path().join(marker_name(&HASH))).unwrap();
        let at = found.mtime() * 1_000_000_000 + found.mtime_nsec() + nanos;
        FileSnapshot { modified: (at / 1_000_000_000, at % 1_000_000_000), ..seen(&it, 0) }
    };
    let is_newer = |nanos| it.is_newer_than_marker(&HASH, &marker(), &after(nanos));
    assert_eq!(
        [0, TOUCH_SLACK, TOUCH_SLACK + 1].map(is_newer),
        [false, false, true],
        "it may have been killed a while later"
    );
    it.unlock();
    assert_eq!([0, 1].map(is_newer), [false, true]);
}

/// What one run has refused stays refused, whatever later runs select.
#[test]
fn a_refusal_outlasts_runs_that_do_not_want_the_file() {
    let dir = tempdir().unwrap();
    drop(begun(&dir, &Bitfield::new(20)));
    let no = AtomicBool::new(false);
    // A run that found another program's data in the second file, and does not want that.
    let mut it = storage(&dir);
    let survey = it.survey(&no).unwrap();
    it.marker = it.read_marker(&HASH);
    it.lock(&HASH).unwrap();
    it.record_ownership(&HASH, &[FileAction::Continue, FileAction::Ignore], &survey, false).unwrap();
    let b = seen(&it, 1).identity;
    let is_refused = || storage(&dir).read_marker(&HASH).is_some_and(|marker| marker.is_refused(Path::new("b"), b));
    assert!(is_refused() && !it.read_marker(&HASH).unwrap().made(Path::new("b"), b));
    // Its part is complete, which tells nothing about the second file.
    it.marker = it.read_marker(&HASH);
    it.finish(&first());
    assert!(is_refused());
    drop(it);
    let mut last = storage(&dir);
    last.marker = last.read_marker(&HASH);
    last.lock(&HASH).unwrap();
    last.finish(&Bitfield::full(20));
    assert!(last.read_marker(&HASH).is_none(), "all of it is verified");
}
