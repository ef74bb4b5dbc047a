//! Files that stay open while they are written to, where the file system may give their numbers again: an open file keeps its own, so that
//! what has its name by then can be told from it. And files that were there before: these must not get other names meanwhile.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::lock::is_write_action;
use crate::storage::open::Access;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::samples::Samples;
use crate::storage::snapshot::{identity, is_permanent, is_same};
use crate::storage::survey::Survey;

/// So many files stay open; of others, their times, lengths and [`Samples`] have to tell.
const MAX_PINNED: usize = 64;
/// How often a file that was there before is looked at while it is written to, in nanoseconds.
const CHECK_INTERVAL: i64 = 200_000_000;

/// See above.
#[derive(Debug, Default)]
pub(crate) struct PinnedFiles {
    open: Mutex<HashMap<usize, Arc<File>>>,
    /// The files that were there before and are written to.
    preexisting: HashMap<usize, RegisteredTorrent>,
    /// What others are known by.
    pub samples: Samples,
}

/// A file that was there before.
#[derive(Debug, Default)]
struct RegisteredTorrent {
    /// When it was last looked at, in nanoseconds since 1970.
    looked: AtomicI64,
    /// Whether it lies on a disk of this machine, so that a look takes no time.
    is_near: AtomicBool,
}

impl PinnedFiles {
    /// Keeps a file open that the file system may confuse with another one otherwise.
    pub fn keep(&self, slot: usize, file: File) {
        if file.metadata().is_ok_and(|found| !is_permanent(identity(&found))) {
            let mut open = self.open.lock();
            if open.len() < MAX_PINNED {
                open.entry(slot).or_insert_with(|| Arc::new(file));
            }
        }
    }

    /// Whether this is the file that is kept open; `None` where none is.
    pub fn is_same(&self, slot: usize, found: &Metadata) -> Option<bool> {
        // A network file system may take long to answer: nobody waits for it with the lock.
        let kept = self.open.lock().get(&slot).cloned()?;
        let id = |found: &Metadata| (found.dev(), found.ino());
        Some(kept.metadata().is_ok_and(|kept| id(&kept) == id(found)))
    }

    /// Whether a file is kept open.
    pub fn has(&self, slot: usize) -> bool {
        self.open.lock().contains_key(&slot)
    }

    /// Lets go of all files.
    pub fn release(&self) {
        self.samples.clear();
        let open = std::mem::take(&mut *self.open.lock());
        drop(open);
    }

    /// Whether a file that was there before has got other names: looked at before each write where that takes no time, and else now and
    /// then.
    fn has_links(&self, slot: usize, file: &File, now: i64) -> bool {
        let Some(guest) = self.preexisting.get(&slot) else { return false };
        let is_due = now.abs_diff(guest.looked.load(Relaxed)) >= CHECK_INTERVAL.unsigned_abs();
        if !is_due && !guest.is_near.load(Relaxed) {
            return false;
        }
        let Ok(found) = file.metadata() else { return false };
        if is_due {
            guest.looked.store(now, Relaxed);
            // Network file systems and those in user space have no device.
            guest.is_near.store(rustix::fs::major(found.dev()) != 0, Relaxed);
        }
        found.nlink() > 1
    }
}

impl Storage {
    /// Keeps files open that are written to, and remembers which of them were there `before`.
    pub(crate) fn keep_open(&mut self, steps: &[FileAction], survey: &Survey, before: impl IntoIterator<Item = usize>) {
        self.held.preexisting = before.into_iter().map(|number| (number, RegisteredTorrent::default())).collect();
        for (number, _) in steps.iter().enumerate().filter(|(_, step)| is_write_action(**step)) {
            let Some(seen) = survey.file(number).filter(|seen| !is_permanent(seen.identity)) else { continue };
            if self.held.open.lock().len() >= MAX_PINNED {
                return;
            }
            if let Ok(handle) = self.root.open(self.name(number), Access::Read)
                && handle.file.metadata().is_ok_and(|found| is_same(seen.identity, identity(&found)))
            {
                self.held.keep(number, handle.file);
            }
        }
    }

    /// Looks whether a file that was there before has got other names since, which a write would change too.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] where it has.
    pub(crate) fn check_new_links(&self, slot: usize, file: &File, now: i64) -> Result<(), StorageError> {
        if self.held.has_links(slot, file, now) { Err(self.in_the_way(slot, Refusal::Linked)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
