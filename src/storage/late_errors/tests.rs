//! A file system that accepts every write and refuses the data later.

use std::io::IoSlice;
use std::path::Path;

use rustix::io::Errno;

use super::*;
use crate::storage::{FileSpec, Layout, StorageErrorKind};

fn storage(dir: &Path, errno: Option<Errno>) -> Storage {
    let spec = |path: &str| FileSpec { path: path.into(), length: 100, is_pad: false };
    let it = Storage::new(dir.to_owned(), Layout::new(10, vec![spec("a"), spec("b"), spec("c")]).unwrap(), 1);
    *it.cache.late_errors.simulated.lock() = errno;
    it.prepare().unwrap();
    it
}

fn write(it: &Storage, file: u64) -> Result<(), StorageError> {
    it.write_vectored_at(file * 100, &[IoSlice::new(&[7; 10])])
}

#[test]
fn an_error_of_closing_a_file_ends_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let it = storage(dir.path(), Some(Errno::DQUOT));
    write(&it, 0).unwrap();
    assert!(!it.is_changed(0));
    // Only one file stays open. The first is closed to make room for the second.
    let error = write(&it, 1).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::DiskFull);
    assert!(error.to_string().contains("/a: "), "{error}");
    assert!(it.is_changed(0) && !it.is_changed(1), "no resume data may call it verified");
    it.sync_remote().unwrap();
    // A local file system.
    let dir = tempfile::tempdir().unwrap();
    let it = storage(dir.path(), None);
    (0..3).for_each(|file| write(&it, file).unwrap());
    it.sync_remote().unwrap();
}

#[test]
fn a_sync_reports_what_closing_would_hide() {
    let dir = tempfile::tempdir().unwrap();
    let it = storage(dir.path(), Some(Errno::NOSPC));
    write(&it, 2).unwrap();
    assert_eq!(it.sync_remote().unwrap_err().kind(), StorageErrorKind::DiskFull);
    assert!(it.is_changed(2));
    it.sync_remote().unwrap();
    write(&it, 2).unwrap();
    it.close();
    assert_eq!(it.sync_remote().unwrap_err().kind(), StorageErrorKind::DiskFull, "also after it is closed");
    it.read_exact_at(0, &mut [0; 10]).unwrap();
    it.sync_remote().unwrap();
    assert!(!it.is_changed(0), "it was only read");
}

#[test]
fn a_file_that_another_thread_is_closing_is_synced_too() {
    let dir = tempfile::tempdir().unwrap();
    let it = storage(dir.path(), Some(Errno::IO));
    write(&it, 0).unwrap();
    let evicted = it.cached(0);
    it.cache.late_errors.begin_closing(evicted.as_ref());
    it.cache.ring.lock().clear();
    assert_eq!(it.sync_remote().unwrap_err().kind(), StorageErrorKind::Io);
    it.cache.late_errors.finish_closing(evicted);
    assert!(it.cache.late_errors.closing().is_empty());
}
