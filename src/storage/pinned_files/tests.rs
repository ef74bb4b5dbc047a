//! Files replaced by others while btsync writes to them, and files that get more hard links.

use std::fs;
use std::io::IoSlice;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::storage::{FileSpec, Layout};
use crate::types::InfoHash;

const HASH: InfoHash = InfoHash([1; 20]);

/// A storage that may write to its one file of 100 bytes, after this action.
fn begun(dir: &Path, action: FileAction, overwrite: bool) -> Storage {
    let no = AtomicBool::new(false);
    let layout = Layout::new(10, vec![FileSpec { path: "a".into(), length: 100, is_pad: false }]).unwrap();
    let mut it = Storage::new(dir.to_owned(), layout, 4);
    let mut survey = it.survey(&no).unwrap();
    it.create_files(&[action], &mut survey, &no).unwrap();
    it.record_ownership(&HASH, &[action], &survey, overwrite).unwrap();
    it.resize_files(&[action], &survey, &no).unwrap();
    it
}

#[test]
fn a_file_that_was_there_before_and_gets_another_name_is_not_written_to() {
    for (overwrite, is_refused) in [(false, true), (true, false)] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), [b'x'; 100]).unwrap();
        let it = begun(dir.path(), FileAction::Continue, overwrite);
        it.write_vectored_at(0, &[IoSlice::new(b"y")]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("snapshot")).unwrap();
        let file = File::open(dir.path().join("a")).unwrap();
        let now = rustix::fs::fstat(&file).unwrap();
        let later = it.check_new_links(0, &now, crate::storage::clock() + 2 * LINK_CHECK_INTERVAL);
        assert_eq!(matches!(later, Err(StorageError::InTheWay { why: Refusal::Linked, .. })), is_refused, "{later:?}");
        // As on a local disk, shortly after the last check.
        it.safeguards.pinned.preexisting.values().for_each(|preexisting| preexisting.is_local.set(true));
        let soon = it.check_new_links(0, &now, crate::storage::clock() + 2 * LINK_CHECK_INTERVAL + 1);
        assert_eq!(soon.is_err(), is_refused, "{soon:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let it = begun(dir.path(), FileAction::Create, false);
    fs::hard_link(dir.path().join("a"), dir.path().join("snapshot")).unwrap();
    it.write_vectored_at(0, &[IoSlice::new(b"y")]).unwrap();
}

/// Files in procfs have no creation time, whatever the disk.
#[test]
fn an_open_file_distinguishes_another_one_of_its_name() {
    let pinned = PinnedFiles::default();
    let dir = tempfile::tempdir().unwrap();
    symlink("/proc/self/status", dir.path().join("a")).unwrap();
    let file = File::open(dir.path().join("a")).unwrap();
    let found = file.metadata().unwrap();
    assert!(!is_permanent(identity(&found)), "there is no time of birth in procfs");
    assert_eq!(pinned.is_same(0, &found), None);
    pinned.keep(0, file);
    assert_eq!(pinned.is_same(0, &found), Some(true));
    assert_eq!(pinned.is_same(0, &fs::metadata("/proc/self/stat").unwrap()), Some(false));
    pinned.release();
    assert_eq!(pinned.is_same(0, &found), None);
    let disk = File::create(dir.path().join("b")).unwrap();
    let born = disk.metadata().unwrap();
    pinned.keep(0, disk);
    assert_eq!(pinned.is_same(0, &born).is_some(), !is_permanent(identity(&born)));
}
