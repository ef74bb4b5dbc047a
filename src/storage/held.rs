//! Files that stay open while they are written to, where the file system may give their numbers again: an open file keeps its own, so that
//! what has its name by then can be told from it. And files that were there before: these must not get other names meanwhile.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::error::StorageError;
use super::files::Storage;
use super::lock::is_written;
use super::open::Access;
use super::ownership::{Refusal, Step};
use super::seen::{identity, is_lasting, is_same};
use super::survey::Survey;

/// So many files stay open; of others, their times and lengths have to tell.
const MOST: usize = 64;
/// How often a file that was there before is looked at while it is written to, in nanoseconds.
const LOOK: i64 = 200_000_000;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Held {
    open: Mutex<HashMap<usize, Arc<File>>>,
    /// The files that were there before and are written to: when each was last looked at, in nanoseconds since 1970.
    guests: HashMap<usize, AtomicI64>,
}

impl Held {
    /// Keeps a file open that the file system may confuse with another one otherwise.
    pub fn keep(&self, slot: usize, file: File) {
        if file.metadata().is_ok_and(|found| !is_lasting(identity(&found))) {
            let mut open = self.open.lock();
            if open.len() < MOST {
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

    /// Lets go of all files.
    pub fn release(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        drop(open);
    }

    /// Whether it is time to look at a file that was there before.
    fn is_due(&self, slot: usize, now: i64) -> bool {
        let looked = self.guests.get(&slot);
        looked.is_some_and(|looked| {
            now.abs_diff(looked.load(Relaxed)) >= LOOK.unsigned_abs() && {
                looked.store(now, Relaxed);
                true
            }
        })
    }
}

impl Storage {
    /// Keeps files open that are written to, and remembers which of them were there `before`.
    pub(super) fn keep_open(&mut self, steps: &[Step], survey: &Survey, before: impl IntoIterator<Item = usize>) {
        self.held.guests = before.into_iter().map(|number| (number, AtomicI64::new(0))).collect();
        for (number, _) in steps.iter().enumerate().filter(|(_, step)| is_written(**step)) {
            let Some(seen) = survey.file(number).filter(|seen| !is_lasting(seen.identity)) else { continue };
            if self.held.open.lock().len() >= MOST {
                return;
            }
            if let Ok(handle) = self.root.open(self.name(number), Access::Read)
                && handle.file.metadata().is_ok_and(|found| is_same(seen.identity, identity(&found)))
            {
                self.held.keep(number, handle.file);
            }
        }
    }

    /// Looks whether a file that was there before has got other names since, which a write would change too: now and then.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] where it has.
    pub(super) fn heed_links(&self, slot: usize, file: &File, now: i64) -> Result<(), StorageError> {
        let has_links = || file.metadata().is_ok_and(|found| found.nlink() > 1);
        if self.held.is_due(slot, now) && has_links() { Err(self.in_the_way(slot, Refusal::Linked)) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
