//! Removes and renames exactly the file of a download that btsync has examined (`util/exact_names.rs`), by its snapshot.

use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

use crate::storage::fs_limits::{OVERLAY, file_system_type};
use crate::storage::open::{Root, file_name};
use crate::storage::snapshot::FileSnapshot;
use crate::util::exact_names::{self, NameIn};

pub(super) use crate::util::exact_names::{FileTakenAway, look, random_name, remove_if, take};

/// Whether `now` is the file that was `seen` before btsync renamed it, with its length and its modification time.
pub(super) fn is_taken(folder: impl AsFd, seen: &FileSnapshot, now: &Metadata) -> bool {
    // Renaming a file of a lower layer copies it.
    let may_be_copied = || file_system_type(folder) == Some(OVERLAY);
    seen.has_same_size_and_mtime(now) && (seen.is_renamed(now) || may_be_copied())
}

/// Like [`take`], for the file that was `seen`. A symbolic link is looked at itself.
pub(super) fn take_seen<'a>(at: NameIn<'a>, seen: &FileSnapshot) -> io::Result<Option<FileTakenAway<'a>>> {
    take(at, |name| look((at.0, name)).map(|found| is_taken(at.0, seen, &found)))
}

impl Root {
    /// Removes a file of the download folder if it is the one that was `seen`. Returns whether it did.
    pub fn remove_if(&self, name: &Path, seen: &FileSnapshot) -> io::Result<bool> {
        let folder = self.folder_of(name)?;
        self.with_retry(|| remove_if((folder.as_fd(), file_name(name)), |now| is_taken(&folder, seen, now)))
    }
}

/// Renames a file to a name that must be free.
pub(super) fn rename_to_new(old: NameIn<'_>, new: NameIn<'_>) -> Result<(), Errno> {
    exact_names::rename_to_new(old, new, is_renamed)
}

/// Whether `there` is our file by another name. Without a lasting identity, its length and its time say so too.
fn is_renamed(ours: &Metadata, there: &Metadata) -> bool {
    FileSnapshot::of(ours).is_renamed(there)
}

#[cfg(test)]
mod tests;
