//! Detects what other programs do to files that btsync uses: whether a file is still the one that btsync decided on, and whether
//! a file with one of btsync's own names really is btsync's.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::storage::check::check_pieces;
use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::fs_limits::{FUSE, file_system_type};
use crate::storage::lock::{LOCK_RETRY_DELAY, LOCK_TIMEOUT};
use crate::storage::marker::{MAGIC, MAX_MARKER_SIZE};
use crate::storage::open::Access;
use crate::storage::ownership::Refusal;
use crate::storage::prepare::Allocation;
use crate::storage::resume::CLOCK_TICK;
use crate::storage::snapshot::{identity, is_permanent, is_same, nanos};
use crate::storage::stop_check::StopCheck;
use crate::storage::survey::has_data;
use crate::types::{PieceIndex, Sha1Hash};

/// Look for changes by others only if btsync has not written to the file for this long, in nanoseconds.
const QUIET_TIME: i64 = 1_000_000_000;
/// Check at least this many files for changes, even after a stop.
const MIN_CHECKED: usize = 20_000;

impl Storage {
    /// Whether a file with one of our reusable inode numbers looks as we left it: it has the right length, and nobody changed it
    /// after our last write. On a network file system the clocks differ, so the times are ignored.
    pub(super) fn matches_our_last_write(&self, file_index: usize, found: &fs::Metadata) -> bool {
        let Some(spec) = self.layout.files().get(file_index) else { return false };
        let is_long_enough = self.allocation == Allocation::None || found.len() == spec.length;
        let left = self.last_written_at(file_index);
        // Anyone can set the modification time; the change time also changes with a rename or new content.
        let is_old = mtime(found) <= left && ctime(found) <= left;
        is_long_enough && found.len() <= spec.length && (is_old || rustix::fs::major(found.dev()) == 0)
    }

    /// Whether this is the part file. Waits if another thread has created it and is about to record that.
    pub(super) fn is_part_file(&self, found: &fs::Metadata) -> bool {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        while !self.placement.has_part_file() && Instant::now() < deadline {
            std::thread::sleep(LOCK_RETRY_DELAY);
        }
        self.placement.matches_part_file(found) && !self.placement.is_foreign()
    }

    /// Checks that the file at this path is still the one that btsync may write to.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if another program has replaced it.
    pub(super) fn check_not_replaced(&self, file_index: usize, found: &fs::Metadata) -> Result<(), StorageError> {
        let Some(writable) = &self.safeguards.writable_identities else { return Ok(()) };
        let is_it = match writable.get(file_index) {
            Some(Some(ours)) => self.safeguards.pinned.is_same(file_index, found).unwrap_or_else(|| {
                is_same(*ours, identity(found)) || (!is_permanent(*ours) && self.has_temporary_identity(file_index))
            }),
            Some(None) => true,
            None => self.placement.matches_part_file(found),
        };
        if is_it { Ok(()) } else { Err(self.in_the_way(file_index, Refusal::Replaced)) }
    }

    fn has_temporary_identity(&self, file_index: usize) -> bool {
        self.root.open(self.name(file_index), Access::Read).is_ok_and(|handle| is_on_fuse(&handle.file))
    }

    /// Remembers whether another program has changed a file since our last write to it, or since btsync decided to write to it;
    /// our next write, which `began` now, would hide that. Does nothing while we write continuously.
    pub(super) fn detect_changes(&self, file_index: usize, file: &File, began: i64) {
        let before = self.cache.last_write_times(file_index);
        let is_due =
            before.is_none_or(|(_, end)| began.saturating_sub(end) >= QUIET_TIME) && !self.cache.is_changed(file_index);
        if is_due
            && let Ok(found) = file.metadata()
            // A change as recent as this write may be another thread's.
            && ctime(&found) < began.saturating_sub(CLOCK_TICK)
            && self.is_changed_since(file_index, &found)
            && self.cache.last_write_times(file_index) == before
        {
            self.cache.set_changed(file_index, true);
        }
    }

    /// Whether btsync gave this file its full length.
    pub(super) fn has_full_length(&self, file_index: usize) -> bool {
        self.has_lengths.is_set() && self.allocation != Allocation::None && self.wants(file_index)
    }

    /// Whether a file was changed after our last write. On a network file system the clocks differ, so the answer is no.
    pub(super) fn is_changed_since(&self, file_index: usize, found: &fs::Metadata) -> bool {
        self.safeguards.writable_identities.is_some()
            && has_local_timestamps(found)
            && ctime(found) > self.last_written_at(file_index)
    }

    /// When we last changed a file: our last write to it, or the file's own change time when btsync decided what to do with it,
    /// whichever is later. Of other files, when all files had got their length.
    fn last_written_at(&self, file_index: usize) -> i64 {
        let found = self.safeguards.times.initial.get(file_index).copied().flatten();
        let found = found.map_or_else(|| self.safeguards.times.sized_at.get(), |found| found.ctime);
        self.cache.last_write_times(file_index).map_or(0, |(_, end)| end).max(found)
    }

    /// Hashes again what another program may have changed since it was verified: the wanted files changed after our last write or
    /// between two of them, and those written to on file systems whose times do not show it. Called when every wanted piece is on
    /// disk.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] with a file that no longer verifies, also if `stop` becomes true; those of [`check_rest`].
    /// After a stop only the first `MIN_CHECKED` files are examined for changes.
    pub fn recheck_changed(&self, hashes: &[Sha1Hash], stop: &dyn StopCheck) -> Result<(), StorageError> {
        let files = self.layout.files().iter().enumerate().filter(|(file, spec)| !spec.is_pad && self.wants(*file));
        let goes_on = |file: &usize| *file < MIN_CHECKED || !stop.is_stopped();
        let changed: Vec<usize> =
            files.map(|(file, _)| file).take_while(goes_on).filter(|file| self.may_be_changed(*file)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let pieces = |file: usize| self.layout.pieces_of(file).map(PieceIndex);
        let right = check_pieces(self, hashes, changed.iter().flat_map(|file| pieces(*file)), stop)?;
        for file in changed {
            let is_wrong = pieces(file).any(|piece| !right.has(piece));
            self.cache.set_changed(file, is_wrong);
            if is_wrong {
                return Err(self.record_refusal(file, Refusal::Changed));
            }
        }
        Ok(())
    }

    fn may_be_changed(&self, file: usize) -> bool {
        let has_unreliable_times = |found: &fs::Metadata| {
            self.safeguards.writable_identities.is_some()
                && !has_local_timestamps(found)
                && self.cache.last_write_times(file).is_some()
        };
        let may_be = |found: &fs::Metadata| self.is_changed_since(file, found) || has_unreliable_times(found);
        self.cache.is_changed(file) || self.root.metadata(self.name(file)).is_ok_and(|found| may_be(&found))
    }

    /// Whether another program is known to have changed a file that was not rehashed completely since, or the file system has lost
    /// data of it.
    pub fn is_changed(&self, file: usize) -> bool {
        self.cache.is_changed(file) || self.cache.late_errors.has_failed(file)
    }

    /// Checks the file at the temporary name of a new marker.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if a btsync process cannot have left it there.
    pub(super) fn check_leftover(&self, name: &Path) -> Result<(), StorageError> {
        let is_free = match self.root.open_own(name, OFlags::RDONLY) {
            Ok(file) => may_be_marker(&file),
            Err(errno) => errno == Errno::NOENT,
        };
        let path = self.root.path().join(name);
        if is_free { Ok(()) } else { Err(StorageError::InTheWay { path, why: Refusal::NotOurs, more: 0 }) }
    }
}

/// Whether a file's timestamps come from this machine's clock, so that they can be compared with the times of our writes.
fn has_local_timestamps(found: &fs::Metadata) -> bool {
    is_permanent(identity(found)) || rustix::fs::major(found.dev()) != 0
}

/// The change time (ctime) of a file, in nanoseconds since 1970.
pub(super) fn ctime(found: &fs::Metadata) -> i64 {
    nanos((found.ctime(), found.ctime_nsec()))
}

/// The modification time (mtime) of a file, in nanoseconds since 1970.
pub(super) fn mtime(found: &fs::Metadata) -> i64 {
    nanos((found.mtime(), found.mtime_nsec()))
}

/// Whether a file can be a marker that btsync wrote: it begins like one, or it holds no data, as after a power failure before its
/// content reached the disk.
pub(super) fn may_be_marker(file: &File) -> bool {
    let Ok(found) = file.metadata() else { return false };
    if !found.is_file() || found.len() > MAX_MARKER_SIZE {
        return false;
    }
    let mut head = [0; MAGIC.len()];
    let Ok(count) = file.read_at(&mut head, 0) else { return false };
    let head = head.get(..count).unwrap_or_default();
    let is_empty = || has_data(file, 0, found.len(), &AtomicBool::new(false)).is_ok_and(|has_data| !has_data);
    MAGIC.as_bytes().starts_with(head) || is_empty()
}

/// Whether the file is on a FUSE file system.
pub(super) fn is_on_fuse(file: &File) -> bool {
    file_system_type(file) == Some(FUSE)
}

#[cfg(test)]
mod tests;
