//! Files that are removed from the marker while others are still downloading.

use std::fs::{self, File};
use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::changes::mtime;
use crate::storage::ownership::FileAction;
use crate::storage::{FileSpec, Layout, marker_name};

const HASH: InfoHash = InfoHash([1; 20]);

/// Two files of ten pieces each.
fn storage(dir: &TempDir) -> Storage {
    let spec = |path: &str| FileSpec { path: path.into(), length: 100, is_pad: false };
    Storage::new(dir.path().to_owned(), Layout::new(10, vec![spec("a"), spec("b")]).unwrap(), 4)
}

/// A download that has just begun, or continues with the pieces in `have`.
fn begun(dir: &TempDir, have: &Bitfield) -> Storage {
    let (mut it, no) = (storage(dir), AtomicBool::new(false));
    let mut survey = it.survey(&no).unwrap();
    let action = |file| if survey.file(file).is_some() { FileAction::Continue } else { FileAction::Create };
    let actions = [if have.has(PieceIndex(9)) { FileAction::Leave } else { action(0) }, action(1)];
    it.marker.content = it.read_marker(&HASH).unwrap();
    it.lock(&HASH).unwrap();
    it.create_files(&actions, &mut survey, &no).unwrap();
    it.record_found_complete(have, &survey);
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
        let marker = it.read_marker(&HASH).unwrap().unwrap();
        (
            marker.is_unfinished_file(Path::new("a"), a),
            marker.is_completed_file(Path::new("a"), a),
            marker.is_unfinished_file(Path::new("b"), b),
        )
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
    assert!(it.read_marker(&HASH).unwrap().unwrap().has_stopped);
    drop(it);
    let it = begun(&dir, &first());
    assert_eq!(says(&it), (false, true, true), "it is written anew");
    it.finish(&Bitfield::full(20)).unwrap();
    assert!(it.read_marker(&HASH).unwrap().is_none());
}

#[test]
fn a_file_that_is_found_complete_is_struck_before_the_first_write() {
    let dir = tempdir().unwrap();
    drop(begun(&dir, &Bitfield::new(20)));
    let it = begun(&dir, &first());
    let (marker, a) = (it.read_marker(&HASH).unwrap().unwrap(), seen(&it, 0));
    assert!(
        marker.is_completed_file(Path::new("a"), a.identity) && !marker.is_unfinished_file(Path::new("a"), a.identity)
    );
    assert!(marker.created.len() == 1 && marker.is_completed_and_unchanged(Path::new("a"), &a));
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
        let (marker, b) = (it.read_marker(&HASH).unwrap().unwrap(), seen(&it, 1).identity);
        assert!(marker.is_refused(Path::new("b"), b) && !marker.is_unfinished_file(Path::new("b"), b));
    }
}

#[test]
fn data_in_a_file_that_must_be_empty_is_noticed() {
    let dir = tempdir().unwrap();
    let spec = |path: &str, length| FileSpec { path: path.into(), length, is_pad: false };
    let it = Storage::new(dir.path().to_owned(), Layout::new(10, vec![spec("a", 10), spec("z", 0)]).unwrap(), 4);
    it.prepare().unwrap();
    it.check_files_in_place().unwrap();
    fs::write(dir.path().join("z"), "mine").unwrap();
    let refused = it.check_files_in_place();
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{refused:?}");
}

#[test]
fn writes_after_the_last_moment_of_a_process_are_not_its_own() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, &Bitfield::new(20));
    let marker = || it.read_marker(&HASH).unwrap().unwrap();
    let after = |nanos: i64| {
        let at = mtime(&fs::metadata(dir.path().join(marker_name(&HASH))).unwrap()) + nanos;
        (at / 1_000_000_000, at % 1_000_000_000)
    };
    // As long ago as the marker's time is ahead: `now` has to be later than all of these.
    let age = |seconds: u64| {
        let at = SystemTime::now() - Duration::from_secs(seconds);
        File::open(dir.path().join(marker_name(&HASH))).unwrap().set_modified(at).unwrap();
    };
    let written = |nanos| FileSnapshot { mtime: after(nanos), ctime: (0, 0), ..seen(&it, 0) };
    let changed = |nanos| FileSnapshot { ctime: after(nanos), mtime: (0, 0), ..seen(&it, 0) };
    let is_newer = |seen: FileSnapshot| it.is_newer_than_marker(&HASH, &marker(), &seen, false);
    age(60);
    for at in [&written as &dyn Fn(i64) -> FileSnapshot, &changed] {
        let newer = [0, TOUCH_SLACK, TOUCH_SLACK + 1].map(|nanos| is_newer(at(nanos)));
        assert_eq!(newer, [false, false, true], "it may have been killed a while later");
    }
    it.unlock();
    age(60);
    assert_eq!([written(0), written(1), changed(0), changed(1)].map(is_newer), [false, true, false, true]);
    assert!(!it.is_newer_than_marker(&HASH, &marker(), &changed(1), true), "its permissions changed");
    assert!(it.is_newer_than_marker(&HASH, &marker(), &written(1), true));
}

#[test]
fn times_of_a_clock_that_was_set_back_prove_nothing() {
    assert!(is_later([Some(5), Some(9)], 8, 9) && is_later([Some(9), None], 8, 9));
    assert!(!is_later([Some(5), Some(10)], 8, 9) && !is_later([Some(8), Some(8)], 8, 9) && !is_later([None; 2], 8, 9));
    let dir = tempdir().unwrap();
    let it = begun(&dir, &Bitfield::new(20));
    let says = || it.read_marker(&HASH).unwrap().unwrap().ran_until;
    let start = clock();
    let lock = it.marker.lock.as_ref().unwrap();
    it.show_running(lock, start + 3 * TOUCH_INTERVAL);
    assert_eq!(says(), 0);
    it.show_running(lock, start);
    assert_eq!(says(), start + 4 * TOUCH_INTERVAL);
    drop(it);
    let it = begun(&dir, &Bitfield::new(20));
    assert_eq!(it.read_marker(&HASH).unwrap().unwrap().ran_until, start + 4 * TOUCH_INTERVAL, "it is still to come");
}

/// What a failing system loses is a page of the file, wherever the pieces end.
#[test]
fn a_lost_page_in_two_pieces_and_a_lost_end_make_pieces_partial() {
    let dir = tempdir().unwrap();
    let file = |path: &str, length| FileSpec { path: path.into(), length, is_pad: false };
    let layout = Layout::new(16 << 10, vec![file("a", 1000), file("b", 40_000)]).unwrap();
    let it = Storage::new(dir.path().to_owned(), layout, 4);
    let no = AtomicBool::new(false);
    let (have, wanted) = (Bitfield::new(3), Bitfield::full(3));
    let partial = |lost: std::ops::Range<usize>| {
        let mut content = vec![7; 40_000];
        content[lost].fill(0);
        fs::write(dir.path().join("a"), [7; 1000]).unwrap();
        fs::write(dir.path().join("b"), content).unwrap();
        let survey = it.survey(&no).unwrap();
        let input = DecisionInput {
            survey: &survey,
            hashes: &[],
            have: &have,
            wanted: &wanted,
            ours: &|_, _| false,
            claim: &|_, _| crate::storage::OwnershipClaim::MadeButChanged,
            of_earlier_run: &|_, _| false,
            vouched: &|_, _| false,
            may_overwrite: false,
            stop: &no,
        };
        [0, 1, 2].map(|piece| it.is_partial(PieceIndex(piece), &input).unwrap())
    };
    // The pieces end within the file's fourth and eighth pages.
    assert_eq!(partial(0..0), [false; 3]);
    assert_eq!(partial(3 * 4096..4 * 4096), [true, true, false]);
    assert_eq!(partial(7 * 4096..8 * 4096), [false, true, true]);
    assert_eq!(partial(9 * 4096..40_000), [false, false, true]);
    assert_eq!(partial(9 * 4096 + 1..40_000), [false; 3], "not all of it");
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
    it.marker.content = it.read_marker(&HASH).unwrap();
    it.lock(&HASH).unwrap();
    it.record_ownership(&HASH, &[FileAction::Continue, FileAction::Ignore], &survey, false).unwrap();
    let b = seen(&it, 1).identity;
    let is_refused =
        || storage(&dir).read_marker(&HASH).unwrap().is_some_and(|marker| marker.is_refused(Path::new("b"), b));
    assert!(is_refused() && !it.read_marker(&HASH).unwrap().unwrap().is_unfinished_file(Path::new("b"), b));
    // Its part is complete, which tells nothing about the second file.
    it.marker.content = it.read_marker(&HASH).unwrap();
    it.finish(&first()).unwrap();
    assert!(is_refused());
    drop(it);
    let mut last = storage(&dir);
    last.marker.content = last.read_marker(&HASH).unwrap();
    last.lock(&HASH).unwrap();
    last.finish(&Bitfield::full(20)).unwrap();
    assert!(last.read_marker(&HASH).unwrap().is_none(), "all of it is verified");
}

/// With space allocated as data arrives, a failing system leaves a file that ends with a page.
#[test]
fn a_file_that_ends_with_a_page_may_be_one_that_grew() {
    for (allocation, expected) in [(Allocation::None, [true, true, false]), (Allocation::Sparse, [true, false, false])]
    {
        let dir = tempdir().unwrap();
        let spec = FileSpec { path: "a".into(), length: 1 << 20, is_pad: false };
        let layout = Layout::new(1 << 20, vec![spec]).unwrap();
        let it = Storage::new(dir.path().to_owned(), layout, 4).with_allocation(allocation);
        assert_eq!([16 << 10, 20 << 10, (20 << 10) + 1].map(|size| it.ends_with_a_block(0, size)), expected);
    }
}

/// The greatest length that a file can have, which it has then.
fn extend_fully(file: &File) -> u64 {
    let (mut fits, mut fails) = (file.metadata().unwrap().len(), 1 << 63);
    while fits + 1 < fails {
        let length = fits + (fails - fits) / 2;
        if file.set_len(length).is_ok() { fits = length } else { fails = length }
    }
    file.set_len(fits).unwrap();
    fits
}

/// A marker that cannot get longer stands for a full disk: 20 bytes of a line fit, the others do not.
#[test]
fn notes_that_do_not_fit_are_appended_later_and_hide_no_edit_meanwhile() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, &Bitfield::new(20));
    let (path, lock) = (dir.path().join(marker_name(&HASH)), it.marker.lock.as_ref().unwrap());
    let (a, b) = (seen(&it, 0).identity, seen(&it, 1).identity);
    let file = File::options().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    let room = extend_fully(&file) - 20;
    file.set_len(room).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    let state = || (mtime(&file.metadata().unwrap()), file.metadata().unwrap().len());
    let (before, _) = state();
    let mut later = clock();
    let mut runs_on = || {
        later += 2 * TOUCH_INTERVAL;
        it.show_running(lock, later);
    };
    assert!(!it.append(&[MarkerNote::Completed(marker::path_hash(Path::new("a")), a, 5)]));
    runs_on();
    assert_eq!(state(), (before, room), "it is as it was");
    for _ in 0..2 {
        let _ = it.record_refusal(1, Refusal::Changed);
    }
    runs_on();
    assert_eq!(state(), (0, room), "every change is later");
    file.set_len(length).unwrap();
    runs_on();
    assert!(state().0 > before);
    it.unlock();
    let marker = it.read_marker(&HASH).unwrap().unwrap();
    assert!(marker.is_completed_file(Path::new("a"), a) && marker.is_refused(Path::new("b"), b) && marker.has_stopped);
    assert_eq!(String::from_utf8_lossy(&fs::read(&path).unwrap()).matches("\nrefused ").count(), 1);
}

/// The marker of the next run has a new time, which would hide the change.
#[test]
fn a_doubt_about_a_file_that_a_run_does_not_write_to_outlasts_the_run() {
    for action in [FileAction::Compare, FileAction::Leave] {
        let dir = tempdir().unwrap();
        drop(begun(&dir, &Bitfield::new(20)));
        let mut it = storage(&dir);
        let survey = it.survey(&AtomicBool::new(false)).unwrap();
        it.marker.content = it.read_marker(&HASH).unwrap();
        it.lock(&HASH).unwrap();
        let b = seen(&it, 1);
        it.record_doubt(1, &b);
        it.record_ownership(&HASH, &[FileAction::Continue, action], &survey, false).unwrap();
        let marker = it.read_marker(&HASH).unwrap().unwrap();
        assert!(marker.is_edited(Path::new("b"), b.identity) && marker.is_unfinished_file(Path::new("b"), b.identity));
        assert!(!marker.is_edited(Path::new("a"), seen(&it, 0).identity));
    }
}
