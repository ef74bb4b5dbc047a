//! Errors that a file system reports after a write has succeeded. A network file system may keep written data on this machine, send
//! it when the file is closed or synced, and only then learn that the server is full or the quota used up. The standard library
//! ignores the errors of closing a file. So btsync syncs the files that it wrote to on such file systems before it closes them and
//! before a download is complete. Closing such a file sends the data anyway, so this costs no time there.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::cache::OpenFile;
use crate::storage::edits::is_on_remote;
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::util::atomic_file::if_can_sync;
use crate::util::atomics::Flag;

/// What the syncs of a torrent's files have found.
#[derive(Debug, Default)]
pub(super) struct LateErrors {
    /// The first error that was not returned yet, with the file's number.
    first: Mutex<Option<(usize, io::Error)>>,
    /// All files that had an error, by number.
    failed: Mutex<HashSet<usize>>,
    has_error: Flag,
    /// Files that are no longer cached and not synced yet.
    closing: Mutex<Vec<Arc<CachedFile>>>,
    /// The error that every sync reports, of every file system.
    #[cfg(test)]
    simulated: Mutex<Option<rustix::io::Errno>>,
}

/// An open file in the cache. Written data of a remote file system is synced at the latest when it is dropped.
#[derive(Debug)]
pub(super) struct CachedFile {
    open: OpenFile,
    number: usize,
    /// Where errors go; `None` if a successful write cannot fail later.
    late_errors: Option<Arc<LateErrors>>,
    is_unsynced: Flag,
    /// Held during a sync: a second thread that syncs waits for the result of the first.
    turn: Mutex<()>,
}

impl CachedFile {
    pub fn new(open: OpenFile, number: usize, late_errors: &Arc<LateErrors>) -> CachedFile {
        let is_remote = open.is_writable && (is_on_remote(&open.file) || late_errors.simulated().is_some());
        let late_errors = is_remote.then(|| Arc::clone(late_errors));
        CachedFile { open, number, late_errors, is_unsynced: Flag::default(), turn: Mutex::default() }
    }

    /// Remembers that the file was written to.
    pub fn mark_written(&self) {
        if self.late_errors.is_some() && !self.is_unsynced.is_set() {
            self.is_unsynced.set(true);
        }
    }

    /// Waits until a remote file system has the written data, and records the error if it does not accept them.
    pub fn sync(&self) {
        let Some(late_errors) = &self.late_errors else { return };
        let _turn = self.turn.lock();
        if self.is_unsynced.swap(false)
            && let Err(error) = late_errors.sync(&self.open.file)
        {
            late_errors.add(self.number, error);
        }
    }
}

impl Deref for CachedFile {
    type Target = OpenFile;

    fn deref(&self) -> &OpenFile {
        &self.open
    }
}

impl Drop for CachedFile {
    fn drop(&mut self) {
        self.sync();
    }
}

impl LateErrors {
    /// The error that tests simulate.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only tests simulate one"))]
    fn simulated(&self) -> Option<rustix::io::Errno> {
        #[cfg(test)]
        return *self.simulated.lock();
        #[cfg(not(test))]
        None
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.simulated().map_or_else(|| if_can_sync(file.sync_data()), |errno| Err(errno.into()))
    }

    /// Records an error.
    fn add(&self, number: usize, error: io::Error) {
        self.failed.lock().insert(number);
        self.first.lock().get_or_insert((number, error));
        self.has_error.set(true);
    }

    /// Whether data of a file may be lost.
    pub fn has_failed(&self, number: usize) -> bool {
        self.has_error.is_set() && self.failed.lock().contains(&number)
    }

    /// Keeps a file findable that is about to be closed.
    pub fn begin_closing(&self, file: Option<&Arc<CachedFile>>) {
        if let Some(file) = file.filter(|file| file.is_unsynced.is_set()) {
            self.closing.lock().push(Arc::clone(file));
        }
    }

    /// Syncs and closes a file, unless other threads still use it: then the last of them does.
    pub fn finish_closing(&self, file: Option<Arc<CachedFile>>) {
        let Some(file) = file else { return };
        file.sync();
        let mut closing = self.closing.lock();
        if let Some(at) = closing.iter().position(|it| Arc::ptr_eq(it, &file)) {
            let kept = closing.swap_remove(at);
            drop(closing);
            drop(kept);
        }
    }

    /// The files that are about to be closed.
    pub fn closing(&self) -> Vec<Arc<CachedFile>> {
        self.closing.lock().clone()
    }
}

impl Storage {
    /// Checks whether the file system has reported an error for data that an earlier write left with it.
    ///
    /// # Errors
    /// That error, once.
    pub(super) fn check_late_errors(&self) -> Result<(), StorageError> {
        let late_errors = &self.cache.late_errors;
        if !late_errors.has_error.is_set() {
            return Ok(());
        }
        match late_errors.first.lock().take() {
            Some((number, error)) => Err(self.failed(Operation::Write, number, error)),
            None => Ok(()),
        }
    }

    /// Waits until remote file systems have accepted all written data. Elsewhere, nothing is left to do.
    ///
    /// # Errors
    /// An error that such a file system reports only now.
    pub fn sync_remote(&self) -> Result<(), StorageError> {
        self.cache.sync_remote();
        self.check_late_errors()
    }
}

/// Like [`CachedFile::sync`], for a file that is not cached.
pub(super) fn sync_if_remote(file: &File) -> io::Result<()> {
    if is_on_remote(file) { if_can_sync(file.sync_data()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
