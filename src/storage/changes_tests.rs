//! Files that other programs put where ours are, or had there first.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::storage::marker::marker_name;
use crate::storage::{FileSpec, Layout, Step};
use crate::types::InfoHash;

const HASH: InfoHash = InfoHash([1; 20]);

fn storage(dir: &Path) -> Storage {
    let layout = Layout::new(10, vec![FileSpec { path: "a".into(), length: 100, pad: false }]).unwrap();
    Storage::new(dir.to_owned(), layout, 4)
}

#[test]
fn a_file_that_took_the_place_of_ours_is_not_taken_for_complete() {
    let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let mut it = storage(dir.path());
    let mut survey = it.survey(&no).unwrap();
    it.lock(&HASH).unwrap();
    it.make(&[Step::Make], &mut survey, &no).unwrap();
    it.mark(&HASH, &[Step::Make], &survey, false).unwrap();
    it.confirm().unwrap();
    fs::write(dir.path().join("mine"), [b'x'; 100]).unwrap();
    fs::rename(dir.path().join("mine"), dir.path().join("a")).unwrap();
    let refused = it.confirm();
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

#[test]
fn what_a_killed_process_left_of_a_marker_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    for (content, expected) in
        [(&b""[..], true), (b"btsync-ma", true), (&[0; 99], true), (b"btsync-mb", false), (b"x", false)]
    {
        fs::write(dir.path().join("x"), content).unwrap();
        assert_eq!(may_be_marker(&File::open(dir.path().join("x")).unwrap()), expected, "{content:?}");
    }
    assert!(!may_be_marker(&File::open(dir.path()).unwrap()));
}
