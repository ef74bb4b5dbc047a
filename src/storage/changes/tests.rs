//! Files that other programs put in place of ours, or that existed before ours.

use std::fs;
use std::io::IoSlice;
use std::os::unix::fs::symlink;

use super::*;
use crate::storage::cache::clock;
use crate::storage::marker::marker_name;
use crate::storage::{FileAction, FileSpec, Layout};
use crate::types::Bitfield;
use crate::types::{InfoHash, Sha1Hash};

const HASH: InfoHash = InfoHash([1; 20]);

fn storage(dir: &Path) -> Storage {
    let layout = Layout::new(10, vec![FileSpec { path: "a".into(), length: 100, is_pad: false }]).unwrap();
    Storage::new(dir.to_owned(), layout, 4)
}

#[test]
fn a_file_that_took_the_place_of_ours_is_not_taken_for_complete() {
    let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let mut it = storage(dir.path());
    let mut survey = it.survey(&no).unwrap();
    it.lock(&HASH).unwrap();
    it.create_files(&[FileAction::Create], &mut survey, &no).unwrap();
    it.record_ownership(&HASH, &[FileAction::Create], &survey, false).unwrap();
    it.check_files_in_place().unwrap();
    fs::write(dir.path().join("mine"), [b'x'; 100]).unwrap();
    fs::rename(dir.path().join("mine"), dir.path().join("a")).unwrap();
    let refused = it.check_files_in_place();
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Replaced, .. })), "{refused:?}");
}

#[test]
fn a_file_that_has_a_markers_name_and_is_none_stays_as_it_is() {
    let marker = marker_name(&HASH);
    let new = format!("{}.new", marker.display());
    for name in [marker.to_str().unwrap(), new.as_str()] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), "mine").unwrap();
        let refused = storage(dir.path()).lock(&HASH);
        let Err(StorageError::InTheWay { path, why: Refusal::NotOurs, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(path, dir.path().join(name));
        assert_eq!(fs::read(path).unwrap(), b"mine");
        assert!(name != new || !dir.path().join(&marker).exists(), "nothing is left behind");
    }
    let dir = tempfile::tempdir().unwrap();
    symlink("nowhere", dir.path().join(&new)).unwrap();
    assert!(storage(dir.path()).lock(&HASH).is_err());
    assert!(dir.path().join(&new).is_symlink());
}

/// Puts an obstacle at a marker's name; `mine` is a file of the user's in the same folder.
type MakeObstacle = fn(&Path, &Path) -> std::io::Result<()>;

#[test]
fn a_foreign_entry_with_the_markers_name_ends_the_run_and_stays() {
    let makes: [(&str, MakeObstacle); 7] = [
        ("a folder", |name, _| fs::create_dir(name)),
        ("a link to a file", |name, _| symlink("mine", name)),
        ("a link to nothing", |name, _| symlink("nowhere", name)),
        ("a pipe", |name, _| Ok(rustix::fs::mkfifoat(rustix::fs::CWD, name, rustix::fs::Mode::RWXU)?)),
        ("a socket", |name, _| std::os::unix::net::UnixListener::bind(name).map(drop)),
        ("another name of a file", |name, mine| fs::hard_link(mine, name)),
        ("data behind zeros", |name, _| fs::write(name, [&[0; 9000], &b"mine"[..]].concat())),
    ];
    let new = format!("{}.new", marker_name(&HASH).display());
    for name in [marker_name(&HASH), new.into()] {
        for (what, make) in makes {
            let dir = tempfile::tempdir().unwrap();
            let (place, mine) = (dir.path().join(&name), dir.path().join("mine"));
            fs::write(&mine, "the user's").unwrap();
            make(&place, &mine).unwrap();
            let before = fs::symlink_metadata(&place).unwrap();
            let mut it = storage(dir.path());
            assert!(it.read_marker(&HASH).unwrap().is_none(), "{what}");
            let refused = it.lock(&HASH);
            assert!(
                matches!(refused, Err(StorageError::InTheWay { why: Refusal::NotOurs, .. })),
                "{what}: {refused:?}"
            );
            it.clear_marker(&HASH, &Bitfield::full(10));
            drop(it);
            let after = fs::symlink_metadata(&place).unwrap();
            let is_same =
                (after.ino(), after.len(), after.mtime_nsec()) == (before.ino(), before.len(), before.mtime_nsec());
            assert!(is_same && fs::read(&mine).unwrap() == b"the user's", "{what}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{what}: something was left behind");
        }
    }
}

/// btsync replaces it by name, because it holds no data.
#[test]
fn another_name_of_an_empty_file_with_a_markers_name_is_not_written_to() {
    let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let mine = dir.path().join("mine");
    fs::write(&mine, "").unwrap();
    fs::hard_link(&mine, dir.path().join(marker_name(&HASH))).unwrap();
    let mut it = storage(dir.path());
    let mut survey = it.survey(&no).unwrap();
    it.lock(&HASH).unwrap();
    it.create_files(&[FileAction::Create], &mut survey, &no).unwrap();
    it.record_ownership(&HASH, &[FileAction::Create], &survey, false).unwrap();
    assert!(it.read_marker(&HASH).unwrap().is_some());
    it.finish(&Bitfield::full(10)).unwrap();
    assert_eq!(fs::read(&mine).unwrap(), b"");
}

#[test]
fn a_partly_written_marker_of_a_killed_process_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let data = [&[0; 9000], &b"mine"[..]].concat();
    for (content, expected) in [
        (&b""[..], true),
        (b"btsync-ma", true),
        (&[0; 99], true),
        (b"btsync-mb", false),
        (b"x", false),
        (data.as_slice(), false),
    ] {
        fs::write(dir.path().join("x"), content).unwrap();
        assert_eq!(may_be_marker(&File::open(dir.path().join("x")).unwrap()), expected, "{content:?}");
    }
    assert!(!may_be_marker(&File::open(dir.path()).unwrap()));
}

/// A storage that may write to its file, with hashes that none of its pieces match.
fn begun(dir: &Path) -> (Storage, [Sha1Hash; 10]) {
    let no = AtomicBool::new(false);
    let mut it = storage(dir);
    let mut survey = it.survey(&no).unwrap();
    it.create_files(&[FileAction::Create], &mut survey, &no).unwrap();
    it.record_ownership(&HASH, &[FileAction::Create], &survey, false).unwrap();
    it.resize_files(&[FileAction::Create], &survey, &no).unwrap();
    it.write_vectored_at(0, &[IoSlice::new(&[1; 100])]).unwrap();
    (it, [Sha1Hash::from([1; 20]); 10])
}

/// Another program changes the file; the change time is later than our clock's current time.
fn edit(dir: &Path) -> File {
    let file = File::options().write(true).open(dir.join("a")).unwrap();
    let now = clock();
    while ctime(&file.metadata().unwrap()) <= now {
        file.write_all_at(b"mine", 0).unwrap();
    }
    file
}

#[test]
fn only_files_that_others_changed_after_our_last_write_are_hashed_again() {
    let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let (it, hashes) = begun(dir.path());
    it.recheck_changed(&hashes, &no).unwrap();
    edit(dir.path());
    let refused = it.recheck_changed(&hashes, &no);
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{refused:?}");
    assert!(it.is_changed(0), "it does not come into the resume data");
}

#[test]
fn files_that_others_changed_between_our_writes_are_hashed_again() {
    let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let (it, hashes) = begun(dir.path());
    let file = edit(dir.path());
    it.detect_changes(0, &file, clock());
    assert!(!it.is_changed(0), "it may be our own other thread");
    it.detect_changes(0, &file, clock() + 2 * QUIET_TIME);
    assert!(it.is_changed(0) && it.recheck_changed(&hashes, &no).is_err());
    assert!(it.write_vectored_at(0, &[IoSlice::new(&[1; 10])]).is_err(), "it would hide the change");
    let (it, _) = begun(tempfile::tempdir().unwrap().path());
    let file = it.handle(0, true).unwrap();
    it.detect_changes(0, &file.file, clock() + 2 * QUIET_TIME);
    assert!(!it.is_changed(0), "all of it is ours");
}
