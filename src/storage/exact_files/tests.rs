//! Another program saves a document at the worst moment: between the look and the removal.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, Mode, OFlags};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::util::exact_names::{remove_old_name, rename_by_link};

const A: &str = "a";

fn folder() -> (TempDir, OwnedFd) {
    let dir = tempdir().unwrap();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, dir.path(), flags, Mode::empty()).unwrap();
    fs::write(dir.path().join(A), "ours").unwrap();
    (dir, opened)
}

fn at<'a>(folder: &'a OwnedFd, name: &'a str) -> NameIn<'a> {
    (folder.as_fd(), OsStr::new(name))
}

fn seen(dir: &TempDir) -> FileSnapshot {
    FileSnapshot::of(&fs::symlink_metadata(dir.path().join(A)).unwrap())
}

fn save(dir: &TempDir, text: &str) {
    fs::write(dir.path().join("new"), text).unwrap();
    fs::rename(dir.path().join("new"), dir.path().join(A)).unwrap();
}

/// The files of the folder, with their content.
fn files(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap().flatten();
    let mut all: Vec<String> = entries.map(|entry| fs::read_to_string(entry.path()).unwrap()).collect();
    all.sort();
    all
}

#[test]
fn the_file_that_was_seen_is_removed_and_no_other() {
    let (dir, opened) = folder();
    let before = seen(&dir);
    let is_it = |now: &Metadata| is_taken(&opened, &before, now);
    save(&dir, "theirs");
    assert!(!remove_if(at(&opened, A), is_it).unwrap());
    symlink("nowhere", dir.path().join("link")).unwrap();
    assert!(!remove_if(at(&opened, "link"), is_it).unwrap());
    fs::remove_file(dir.path().join("link")).unwrap();
    assert_eq!(files(&dir), ["theirs"]);
    let before = seen(&dir);
    assert!(remove_if(at(&opened, A), |now| is_taken(&opened, &before, now)).unwrap());
    assert_eq!(files(&dir), [""; 0]);
    let missing = remove_if(at(&opened, A), |_| true).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_document_that_is_saved_between_the_look_and_the_removal_keeps_its_name() {
    let (dir, opened) = folder();
    let (before, looks) = (seen(&dir), Cell::new(0));
    let is_it = |now: &Metadata| {
        looks.set(looks.get() + 1);
        let is_it = is_taken(&opened, &before, now);
        if looks.get() == 1 {
            save(&dir, "theirs");
        }
        is_it
    };
    assert!(!remove_if(at(&opened, A), is_it).unwrap());
    assert_eq!((looks.get(), files(&dir)), (2, vec!["theirs".to_owned()]));
    assert_eq!(fs::read(dir.path().join(A)).unwrap(), b"theirs");
}

#[test]
fn a_document_that_is_saved_while_the_file_is_taken_away_replaces_nothing_and_is_not_replaced() {
    let (dir, opened) = folder();
    let taken = take(at(&opened, A), |_| Ok(true)).unwrap().unwrap();
    assert!(!dir.path().join(A).exists());
    save(&dir, "theirs");
    taken.give_back();
    assert_eq!(fs::read(dir.path().join(A)).unwrap(), b"theirs");
    assert_eq!(files(&dir), ["ours", "theirs"]);
    taken.remove().unwrap();
    assert_eq!(files(&dir), ["theirs"]);
}

/// The check fails if no descriptor is free.
#[test]
fn a_file_that_cannot_be_examined_gets_its_name_back() {
    let (dir, opened) = folder();
    let looks = Cell::new(0);
    let is_it = |_: &OsStr| if looks.replace(1) == 0 { Ok(true) } else { Err(Errno::MFILE.into()) };
    assert!(take(at(&opened, A), is_it).is_err());
    assert_eq!(fs::read(dir.path().join(A)).unwrap(), b"ours");
}

/// As on a file system that cannot rename without replacing.
#[test]
fn a_second_name_replaces_nothing_either() {
    let (dir, opened) = folder();
    symlink("/nowhere", dir.path().join("b")).unwrap();
    assert_eq!(rename_by_link(at(&opened, A), at(&opened, "b"), is_renamed), Err(Errno::EXIST));
    assert!(dir.path().join("b").is_symlink() && dir.path().join(A).exists());
    fs::remove_file(dir.path().join("b")).unwrap();
    rename_by_link(at(&opened, A), at(&opened, "b"), is_renamed).unwrap();
    assert!(fs::read(dir.path().join("b")).unwrap() == b"ours" && !dir.path().join(A).exists());
}

#[test]
fn another_file_under_the_first_of_two_names_keeps_it() {
    let (dir, opened) = folder();
    let before = seen(&dir);
    save(&dir, "theirs");
    remove_old_name(at(&opened, A), |there| before.is_renamed(there)).unwrap();
    assert_eq!(files(&dir), ["theirs"]);
    remove_old_name(at(&opened, "gone"), |_| true).unwrap();
}
