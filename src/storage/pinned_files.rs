//! Keeps files open while btsync writes to them if the file system may reuse their inode numbers: an open file keeps its number,
//! so a file that replaces it can be recognised. Also watches existing files that btsync writes to: these must not get more hard
//! links meanwhile.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::Stat;

use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::lock::is_write_action;
use crate::storage::open::Access;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::samples::Samples;
use crate::storage::snapshot::{identity, is_permanent, is_same};
use crate::storage::survey::Survey;
use crate::util::atomics::{Flag, Time};

/// At most this many files stay open; the others are recognised by times, length and [`Samples`].
const MAX_PINNED: usize = 64;
/// How often to check an existing file while writing to it, in nanoseconds.
const LINK_CHECK_INTERVAL: i64 = 200_000_000;

/// Files kept open, and existing files to watch; see the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct PinnedFiles {
    open: Mutex<HashMap<usize, Arc<File>>>,
    /// The existing files that btsync writes to, by number.
    preexisting: HashMap<usize, PreexistingFile>,
    /// Recognises the files that are not kept open.
    pub samples: Samples,
}

/// An existing file that btsync writes to.
#[derive(Debug, Default)]
struct PreexistingFile {
    /// When it was last checked, in nanoseconds since 1970.
    last_checked: Time,
    /// Whether it is on a local disk, so that checking it takes no time.
    is_local: Flag,
}

impl PinnedFiles {
    /// Keeps a file open if its identity is not permanent.
    pub fn keep(&self, file_index: usize, file: File) {
        if file.metadata().is_ok_and(|found| !is_permanent(identity(&found))) {
            let mut open = self.open.lock();
            if open.len() < MAX_PINNED {
                open.entry(file_index).or_insert_with(|| Arc::new(file));
            }
        }
    }

    /// Whether `found` is the file that is kept open for this file; `None` if none is.
    pub fn is_same(&self, file_index: usize, found: &Metadata) -> Option<bool> {
        // A network file system may take long to answer, so do not hold the lock meanwhile.
        let kept = self.open.lock().get(&file_index).cloned()?;
        let id = |found: &Metadata| (found.dev(), found.ino());
        Some(kept.metadata().is_ok_and(|kept| id(&kept) == id(found)))
    }

    /// Whether a file is kept open for this file.
    pub fn has(&self, file_index: usize) -> bool {
        self.open.lock().contains_key(&file_index)
    }

    /// Whether btsync writes to this file although it existed before.
    pub fn is_preexisting(&self, file_index: usize) -> bool {
        self.preexisting.contains_key(&file_index)
    }

    /// Closes all files.
    pub fn release(&self) {
        self.samples.clear();
        let open = std::mem::take(&mut *self.open.lock());
        drop(open);
    }

    /// Whether an existing file has more than one hard link by now. On a local disk this checks before each write, elsewhere
    /// every `LINK_CHECK_INTERVAL`.
    fn has_links(&self, file_index: usize, found: &Stat, now: i64) -> bool {
        let Some(preexisting) = self.preexisting.get(&file_index) else { return false };
        let is_due = now.abs_diff(preexisting.last_checked.get()) >= LINK_CHECK_INTERVAL.unsigned_abs();
        if !is_due && !preexisting.is_local.is_set() {
            return false;
        }
        if is_due {
            preexisting.last_checked.set(now);
            // Network and user-space file systems have no device major number.
            preexisting.is_local.set(rustix::fs::major(found.st_dev) != 0);
        }
        found.st_nlink > 1
    }
}

impl Storage {
    /// Keeps the files open that btsync writes to, and remembers which of them existed `before`.
    pub(crate) fn keep_open(
        &mut self,
        actions: &[FileAction],
        survey: &Survey,
        before: impl IntoIterator<Item = usize>,
    ) {
        self.safeguards.pinned.preexisting =
            before.into_iter().map(|number| (number, PreexistingFile::default())).collect();
        for (number, _) in actions.iter().enumerate().filter(|(_, action)| is_write_action(**action)) {
            let Some(seen) = survey.file(number).filter(|seen| !is_permanent(seen.identity)) else { continue };
            if self.safeguards.pinned.open.lock().len() >= MAX_PINNED {
                return;
            }
            if let Ok(handle) = self.root.open(self.name(number), Access::Read)
                && handle.file.metadata().is_ok_and(|found| is_same(seen.identity, identity(&found)))
            {
                self.safeguards.pinned.keep(number, handle.file);
            }
        }
    }

    /// Checks whether an existing file has got other hard links, whose content a write would change too.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if it has.
    pub(crate) fn check_new_links(&self, file_index: usize, found: &Stat, now: i64) -> Result<(), StorageError> {
        if self.safeguards.pinned.has_links(file_index, found, now) {
            Err(self.in_the_way(file_index, Refusal::Linked))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
