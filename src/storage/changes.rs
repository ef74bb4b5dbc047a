//! What other programs do to files that btsync uses: whether a file is still the one that was decided on, and whether what has the
//! name of a file of btsync's own is one.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::storage::check::{CheckProgress, check_rest};
use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::lock::{LOCK_RETRY_DELAY, LOCK_TIMEOUT};
use crate::storage::marker::{MAGIC, MAX_MARKER_SIZE};
use crate::storage::open::Access;
use crate::storage::ownership::Refusal;
use crate::storage::prepare::Allocation;
use crate::storage::resume::TICK;
use crate::storage::snapshot::{identity, is_permanent, is_same};
use crate::storage::survey::has_data;
use crate::types::{Bitfield, PieceHash, PieceIndex};

/// How long nothing of ours was written to a file when changes of others are looked for, in nanoseconds.
const QUIET_TIME: i64 = 1_000_000_000;
/// So many files are looked at for a change even after a stop.
const SURELY: usize = 20_000;

impl Storage {
    /// Whether a file that has one of our numbers, which may have been given again, looks as we left it: with its length, and not changed
    /// after our last write. On a network the clocks differ, and that says nothing.
    pub(super) fn matches_our_last_write(&self, slot: usize, found: &fs::Metadata) -> bool {
        let Some(spec) = self.layout.files().get(slot) else { return false };
        let is_long_enough = self.allocation == Allocation::None || found.len() == spec.length;
        let left = self.last_written_at(slot);
        let modified = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
        // The first may be set by anyone; another name or another content changes the second.
        let is_old = modified <= left && changed(found) <= left;
        is_long_enough && found.len() <= spec.length && (is_old || rustix::fs::major(found.dev()) == 0)
    }

    /// Whether this is the part file. Another thread may have made it and be about to say so.
    pub(super) fn is_part_file(&self, found: &fs::Metadata) -> bool {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        while !self.selection.has_part_file() && Instant::now() < deadline {
            std::thread::sleep(LOCK_RETRY_DELAY);
        }
        self.selection.matches_part_file(found) && !self.selection.is_foreign()
    }

    /// Whether the file that has this file's name is the one that btsync may write to.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] where another program has put another one there.
    pub(super) fn check_not_replaced(&self, slot: usize, found: &fs::Metadata) -> Result<(), StorageError> {
        let Some(writable) = &self.writable else { return Ok(()) };
        let is_it = match writable.get(slot) {
            Some(Some(ours)) => self.held.is_same(slot, found).unwrap_or_else(|| {
                is_same(*ours, identity(found)) || (!is_permanent(*ours) && self.has_temporary_identity(slot))
            }),
            Some(None) => true,
            None => self.selection.matches_part_file(found),
        };
        if is_it { Ok(()) } else { Err(self.in_the_way(slot, Refusal::Replaced)) }
    }

    fn has_temporary_identity(&self, slot: usize) -> bool {
        self.root.open(self.name(slot), Access::Read).is_ok_and(|handle| is_on_fuse(&handle.file))
    }

    /// Notes whether another program has changed a file since our last write to it, or since it was decided that btsync may write to
    /// it; our next write, which `began` now, would hide that. While we write all the time nothing is looked at.
    pub(super) fn detect_changes(&self, slot: usize, file: &File, began: i64) {
        let before = self.cache.written(slot);
        let is_due =
            before.is_none_or(|(_, end)| began.saturating_sub(end) >= QUIET_TIME) && !self.cache.is_changed(slot);
        if is_due
            && let Ok(found) = file.metadata()
            // What is as young as this write may be another thread's.
            && changed(&found) < began.saturating_sub(TICK)
            && self.is_changed_since(slot, &found)
            && self.cache.written(slot) == before
        {
            self.cache.set_changed(slot, true);
        }
    }

    /// Whether a file was changed after our last write. On a network the clocks differ, and that says nothing.
    fn is_changed_since(&self, slot: usize, found: &fs::Metadata) -> bool {
        self.writable.is_some() && has_local_timestamps(found) && changed(found) > self.last_written_at(slot)
    }

    /// When we last wrote to a file, or when all files had got their length.
    fn last_written_at(&self, slot: usize) -> i64 {
        self.cache.written(slot).map_or(0, |(_, end)| end).max(self.sized_at.load(Ordering::Relaxed))
    }

    /// Hashes once more what another program may have changed since it was verified: the wanted files that were changed after our last
    /// write, or between two of them; also those that were written to where that does not show. For when all that is wanted is there.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] with a file that is not right any more, also where `stop` becomes true; those of [`check_rest`]. After a
    /// stop only so many files are looked at for a change (`SURELY`).
    pub fn recheck_changed(&self, hashes: &[PieceHash], stop: &AtomicBool) -> Result<(), StorageError> {
        let files = self.layout.files().iter().enumerate().filter(|(file, spec)| !spec.pad && self.wants(*file));
        let goes_on = |file: &usize| *file < SURELY || !stop.load(Ordering::Relaxed);
        let changed: Vec<usize> =
            files.map(|(file, _)| file).take_while(goes_on).filter(|file| self.may_be_changed(*file)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let mut known = Bitfield::full(self.layout.piece_count());
        let pieces = |file: usize| self.layout.pieces_of(file).map(PieceIndex);
        changed.iter().flat_map(|file| pieces(*file)).for_each(|piece| _ = known.clear(piece));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let right = check_rest(self, hashes, &known, cores, &CheckProgress::default(), stop)?;
        for file in changed {
            let is_wrong = pieces(file).any(|piece| !right.has(piece));
            self.cache.set_changed(file, is_wrong);
            if is_wrong {
                return Err(self.in_the_way(file, Refusal::Changed));
            }
        }
        Ok(())
    }

    fn may_be_changed(&self, file: usize) -> bool {
        let untold = |found: &fs::Metadata| {
            self.writable.is_some() && !has_local_timestamps(found) && self.cache.written(file).is_some()
        };
        let may_be = |found: &fs::Metadata| self.is_changed_since(file, found) || untold(found);
        self.cache.is_changed(file) || self.root.metadata(self.name(file)).is_ok_and(|found| may_be(&found))
    }

    /// Whether another program is known to have changed a file of which not all was hashed since.
    pub fn is_changed(&self, file: usize) -> bool {
        self.cache.is_changed(file)
    }

    /// Looks at what lies where a marker is written before it takes its name.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] where that is nothing that a process of ours can have left.
    pub(super) fn check_leftover(&self, name: &Path) -> Result<(), StorageError> {
        let is_free = match self.root.open_own(name, OFlags::RDONLY) {
            Ok(file) => may_be_marker(&file),
            Err(errno) => errno == Errno::NOENT,
        };
        let path = self.root.path().join(name);
        if is_free { Ok(()) } else { Err(StorageError::InTheWay { path, why: Refusal::NotOurs, more: 0 }) }
    }
}

/// Whether the times of a file come from the clock of this machine, so that they tell what was done after a write of ours.
fn has_local_timestamps(found: &fs::Metadata) -> bool {
    is_permanent(identity(found)) || rustix::fs::major(found.dev()) != 0
}

/// When anything of a file was last changed, in nanoseconds since 1970.
fn changed(found: &fs::Metadata) -> i64 {
    found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec())
}

/// Whether a file can be a marker that btsync wrote: it begins as one, or holds no data, as what did not reach the disk before the power
/// failed.
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

/// Whether the file lies in a file system in user space: these give a file another number when it was closed for a while.
#[allow(clippy::useless_conversion)] // the field has another type on other machines
pub(super) fn is_on_fuse(file: &File) -> bool {
    const FUSE: i64 = 0x6573_5546;
    rustix::fs::fstatfs(file).is_ok_and(|found| i64::try_from(found.f_type).is_ok_and(|kind| kind == FUSE))
}

#[cfg(test)]
mod tests;
