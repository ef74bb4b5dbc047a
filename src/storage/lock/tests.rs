//! The right to write, taken by several storages in place of several processes.

use std::io::IoSlice;
use std::sync::atomic::AtomicBool;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::marker_name;
use crate::storage::{FileSpec, Layout, StorageErrorKind};
use crate::types::{Bitfield, PieceIndex};

const ONE: InfoHash = InfoHash([1; 20]);
const TWO: InfoHash = InfoHash([2; 20]);

fn storage(dir: &TempDir, path: &str) -> Storage {
    let layout = Layout::new(10, vec![FileSpec { path: path.into(), length: 100, is_pad: false }]).unwrap();
    Storage::new(dir.path().to_owned(), layout, 4)
}

/// Every piece of such a download.
fn whole() -> Bitfield {
    Bitfield::full(10)
}

/// Takes the lock, creates the missing file, and records it in the marker.
fn begin(it: &mut Storage, hash: &InfoHash) -> Result<(), StorageError> {
    let stop = AtomicBool::new(false);
    let mut survey = it.survey(&stop)?;
    let actions = [if survey.file(0).is_some() { FileAction::Continue } else { FileAction::Create }];
    it.marker.content = it.read_marker(hash).unwrap();
    it.lock(hash)?;
    it.check_other_downloads(hash, &actions, &survey, false)?;
    it.create_files(&actions, &mut survey, &stop)?;
    it.record_ownership(hash, &actions, &survey, false)?;
    it.resize_files(&actions, &survey, &stop).map(drop)
}

fn names(dir: &TempDir) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn kind<T: std::fmt::Debug>(result: Result<T, StorageError>) -> StorageErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn one_writes_and_the_next_one_may_when_it_is_done() {
    let dir = tempdir().unwrap();
    let mut first = storage(&dir, "a");
    begin(&mut first, &ONE).unwrap();
    let marker = marker_name(&ONE);
    assert_eq!(names(&dir), [marker.to_str().unwrap(), "a"]);
    let mut second = storage(&dir, "a");
    assert_eq!(kind(second.probe_lock(&ONE)), StorageErrorKind::InUse);
    assert_eq!(kind(begin(&mut second, &ONE)), StorageErrorKind::InUse);
    drop(second);
    assert_eq!(names(&dir), [marker.to_str().unwrap(), "a"], "a process without the lock removes nothing");
    drop(first);
    let mut second = storage(&dir, "a");
    second.probe_lock(&ONE).unwrap();
    begin(&mut second, &ONE).unwrap();
    let seen = second.survey(&AtomicBool::new(false)).unwrap();
    assert!(
        second.read_marker(&ONE).unwrap().unwrap().is_unfinished_file(Path::new("a"), seen.file(0).unwrap().identity)
    );
    second.finish(&whole()).unwrap();
    assert_eq!(names(&dir), ["a"]);
    second.finish(&whole()).unwrap();
}

#[test]
fn a_lock_that_comes_to_nothing_leaves_nothing() {
    let dir = tempdir().unwrap();
    let mut it = storage(&dir, "a");
    it.lock(&ONE).unwrap();
    assert_eq!(names(&dir).len(), 1);
    drop(it);
    assert_eq!(names(&dir).len(), 0);
}

#[test]
fn two_torrents_share_a_folder_but_no_file() {
    let dir = tempdir().unwrap();
    let mut first = storage(&dir, "a");
    begin(&mut first, &ONE).unwrap();
    begin(&mut storage(&dir, "b"), &TWO).unwrap();
    let mut rival = storage(&dir, "a");
    let error = begin(&mut rival, &TWO).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::InUse);
    assert!(error.to_string().contains(marker_name(&ONE).to_str().unwrap()), "{error}");
    drop((rival, first));
    let error = begin(&mut storage(&dir, "a"), &TWO).unwrap_err();
    assert!(matches!(error, StorageError::InTheWay { why: Refusal::Unfinished(ONE), .. }), "{error}");
}

#[test]
fn without_its_marker_storage_does_not_write() {
    for replaced in [false, true] {
        let dir = tempdir().unwrap();
        let mut it = storage(&dir, "a");
        begin(&mut it, &ONE).unwrap();
        it.write_vectored_at(0, &[IoSlice::new(&[1; 10])]).unwrap();
        fs::remove_file(dir.path().join(marker_name(&ONE))).unwrap();
        if replaced {
            fs::write(dir.path().join(marker_name(&ONE)), "").unwrap();
        }
        assert_eq!(kind(it.confirm_lock()), StorageErrorKind::InUse);
        // Stands for a write half a second later.
        it.marker.lock.as_ref().unwrap().last_checked.set(0);
        assert_eq!(kind(it.write_vectored_at(10, &[IoSlice::new(&[1; 10])])), StorageErrorKind::InUse);
        assert_eq!(fs::read(dir.path().join("a")).unwrap()[10..20], [0; 10]);
        it.finish(&whole()).unwrap();
        assert_eq!(dir.path().join(marker_name(&ONE)).exists(), replaced, "another's marker stays");
    }
}

#[test]
fn a_file_that_somebody_else_has_open_for_writing_is_not_written_to() {
    let dir = tempdir().unwrap();
    let mut it = storage(&dir, "a");
    begin(&mut it, &ONE).unwrap();
    let other = storage(&dir, "a");
    drop(other.handle(0, true).unwrap());
    assert_eq!(kind(it.write_vectored_at(0, &[IoSlice::new(&[2; 10])])), StorageErrorKind::InUse);
    other.close();
    it.write_vectored_at(0, &[IoSlice::new(&[2; 10])]).unwrap();
}

#[test]
fn only_files_that_were_decided_on_are_written_to() {
    let dir = tempdir().unwrap();
    let mut it = storage(&dir, "a");
    begin(&mut it, &ONE).unwrap();
    fs::remove_file(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a"), "mine").unwrap();
    let error = it.write_vectored_at(0, &[IoSlice::new(&[1; 10])]).unwrap_err();
    let born = fs::metadata(dir.path().join("a")).unwrap().created().is_ok();
    assert!(!born || matches!(error, StorageError::InTheWay { why: Refusal::Appeared, .. }), "{error}");
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"mine");
}

/// As on a file system without creation times.
#[test]
fn a_number_that_may_be_given_again_proves_nothing() {
    let passing = 1 << 63 | 5;
    let created = [(marker::path_hash(Path::new("a")), passing), (marker::path_hash(Path::new("b")), 5)].into();
    let found = Marker { created, ..Marker::default() };
    assert!(found.is_unfinished_file(Path::new("a"), passing) && !found.proves(Path::new("a"), passing));
    assert!(found.proves(Path::new("b"), 5) && !found.proves(Path::new("b"), 6));
    let dir = tempdir().unwrap();
    let mut it = storage(&dir, "a");
    begin(&mut it, &ONE).unwrap();
    let path = dir.path().join("a");
    let matches_our_last_write = |it: &Storage| it.matches_our_last_write(0, &fs::metadata(&path).unwrap());
    assert!(matches_our_last_write(&it));
    it.write_vectored_at(0, &[IoSlice::new(&[1; 10])]).unwrap();
    assert!(matches_our_last_write(&it), "written by us");
    fs::write(&path, [b'x'; 99]).unwrap();
    assert!(!matches_our_last_write(&it), "of another length");
    let theirs = File::create(&path).unwrap();
    theirs.set_len(100).unwrap();
    theirs.set_modified(std::time::SystemTime::now() + Duration::from_secs(9)).unwrap();
    assert_eq!(
        matches_our_last_write(&it),
        rustix::fs::major(theirs.metadata().unwrap().dev()) == 0,
        "later than our last write"
    );
}

#[test]
fn threads_of_one_process_do_not_lock_each_other_out() {
    let dir = tempdir().unwrap();
    let files = (0..20).map(|n| FileSpec { path: format!("{n}").into(), length: 100, is_pad: false }).collect();
    // At most two files stay open, so threads open and close handles all the time.
    let it = Storage::new(dir.path().to_owned(), Layout::new(10, files).unwrap(), 2);
    it.prepare().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let it = &it;
            scope.spawn(move || {
                for round in 0..200 {
                    it.write_vectored_at((round * 7 + thread) % 20 * 100, &[IoSlice::new(&[1; 50])]).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_leftover_of_a_process_that_was_killed_is_no_obstacle() {
    let dir = tempdir().unwrap();
    let marker = marker_name(&ONE);
    fs::write(dir.path().join(format!("{}.new", marker.display())), "btsync-mark").unwrap();
    fs::write(dir.path().join(&marker), "").unwrap();
    let mut it = storage(&dir, "a");
    assert!(it.read_marker(&ONE).unwrap().is_none());
    begin(&mut it, &ONE).unwrap();
    it.finish(&whole()).unwrap();
    assert_eq!(names(&dir), ["a"]);
}

/// The user has removed our marker, and another process has created its own.
#[test]
fn a_marker_that_another_process_made_since_the_lock_is_not_replaced() {
    let (dir, stop) = (tempdir().unwrap(), AtomicBool::new(false));
    let mut it = storage(&dir, "a");
    let survey = it.survey(&stop).unwrap();
    it.lock(&ONE).unwrap();
    fs::write(dir.path().join("theirs"), "theirs").unwrap();
    fs::rename(dir.path().join("theirs"), dir.path().join(marker_name(&ONE))).unwrap();
    assert_eq!(kind(it.record_ownership(&ONE, &[FileAction::Create], &survey, false)), StorageErrorKind::InUse);
    assert_eq!(fs::read(dir.path().join(marker_name(&ONE))).unwrap(), b"theirs");
}

/// Before our lock, another process has created an unfinished file and was killed.
#[test]
fn a_marker_that_names_unfinished_files_by_now_is_not_removed() {
    let dir = tempdir().unwrap();
    begin(&mut storage(&dir, "b"), &ONE).unwrap();
    fs::write(dir.path().join("a"), "complete").unwrap();
    let mut it = storage(&dir, "a");
    it.lock(&ONE).unwrap();
    it.clear_locked(&ONE, &whole());
    assert!(it.read_marker(&ONE).unwrap().is_some() && !it.is_locked());
    begin(&mut storage(&dir, "a"), &ONE).unwrap();
    it.clear_marker(&ONE, &whole());
    assert_eq!(names(&dir), ["a", "b"], "one whose files are all complete");
}

/// A process was killed after it had given a complete file its final name, which the marker does not know.
#[test]
fn a_marker_that_knows_a_complete_file_by_its_former_name_is_removed() {
    let dir = tempdir().unwrap();
    begin(&mut storage(&dir, "a.part"), &ONE).unwrap();
    fs::rename(dir.path().join("a.part"), dir.path().join("a")).unwrap();
    storage(&dir, "a").clear_marker(&ONE, &whole());
    assert_eq!(names(&dir), ["a"]);
}

#[test]
fn the_marker_and_the_part_file_are_in_the_torrents_own_folder_if_only_that_is_writable() {
    // `access` refuses root no writable folder, so this looks at a later run, which finds the marker there.
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("t")).unwrap();
    fs::write(dir.path().join("t").join(marker_name(&ONE)), "").unwrap();
    let find = |paths: [&str; 2]| {
        let spec = |path: &str| FileSpec { path: path.into(), length: 100, is_pad: false };
        let layout = Layout::new(10, paths.map(spec).to_vec()).unwrap();
        let part_name = crate::storage::part_name(&ONE);
        Storage::new(dir.path().to_owned(), layout, 4).select(&[true; 2], &part_name).marker_path(&ONE)
    };
    assert_eq!(find(["t/a", "t/b/c"]), Path::new("t").join(marker_name(&ONE)));
    assert_eq!(find(["t/a", "u/c"]), marker_name(&ONE), "no folder of its own");
    assert_eq!(find(["t", "t2"]), marker_name(&ONE));
    fs::write(dir.path().join(marker_name(&ONE)), "").unwrap();
    assert_eq!(find(["t/a", "t/b/c"]), marker_name(&ONE), "there is one in the download folder");
}

/// A run that wanted one of two files leaves the earlier run's marker in place for the other file.
#[test]
fn a_file_that_is_complete_is_struck_from_the_marker_that_stays() {
    let (dir, stop) = (tempdir().unwrap(), AtomicBool::new(false));
    let spec = |path: &str| FileSpec { path: path.into(), length: 100, is_pad: false };
    let two = || Storage::new(dir.path().to_owned(), Layout::new(10, vec![spec("a"), spec("b")]).unwrap(), 4);
    let (mut it, actions) = (two(), [FileAction::Create; 2]);
    let mut survey = it.survey(&stop).unwrap();
    it.lock(&ONE).unwrap();
    it.create_files(&actions, &mut survey, &stop).unwrap();
    it.record_ownership(&ONE, &actions, &survey, false).unwrap();
    let made = |it: &Storage| {
        let marker = it.read_marker(&ONE).unwrap().unwrap();
        [0, 1].map(|file| marker.is_unfinished_file(it.name(file), survey.file(file).unwrap().identity))
    };
    assert_eq!(made(&it), [true; 2]);
    let mut have = Bitfield::full(20);
    have.clear(PieceIndex(19));
    it.finish(&have).unwrap();
    drop(it);
    let mut it = two();
    assert_eq!(made(&it), [false, true], "changes of a complete file are the user's");
    it.clear_marker(&ONE, &Bitfield::full(20));
    assert_eq!(names(&dir), ["a", "b"]);
}

#[test]
fn a_file_that_was_there_before_is_not_made_by_being_written_to_unless_it_was_given() {
    for overwrite in [false, true] {
        let (dir, stop) = (tempdir().unwrap(), AtomicBool::new(false));
        fs::write(dir.path().join("a"), [7; 100]).unwrap();
        let mut it = storage(&dir, "a");
        let survey = it.survey(&stop).unwrap();
        it.lock(&ONE).unwrap();
        it.record_ownership(&ONE, &[FileAction::Continue], &survey, overwrite).unwrap();
        let identity = survey.file(0).unwrap().identity;
        let marker = it.read_marker(&ONE).unwrap().unwrap();
        assert_eq!(
            (marker.is_unfinished_file(Path::new("a"), identity), marker.uses(Path::new("a"), identity)),
            (overwrite, true)
        );
        drop(it);
        let error = begin(&mut storage(&dir, "a"), &TWO).unwrap_err();
        assert!(matches!(error, StorageError::InTheWay { why: Refusal::Unfinished(ONE), .. }), "{error}");
    }
}

/// The marker of the other torrent is in the folder that both torrents have as their own.
#[test]
fn a_download_whose_marker_is_in_the_torrents_own_folder_keeps_its_files() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("t")).unwrap();
    let mut first = storage(&dir, "t/a");
    first.own_folder = "t".into();
    begin(&mut first, &ONE).unwrap();
    assert_eq!(names(&dir), ["t"], "nothing of it is in the download folder");
    assert_eq!(kind(begin(&mut storage(&dir, "t/a"), &TWO)), StorageErrorKind::InUse);
    drop(first);
    let refused = begin(&mut storage(&dir, "t/a"), &TWO);
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Unfinished(ONE), .. })), "{refused:?}");
    begin(&mut storage(&dir, "t/b"), &TWO).unwrap();
}
