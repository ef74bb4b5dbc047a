//! Whether the disk has room for what is to come: better said at the start than after hours.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::SeekFrom;

use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::open::Access;
use crate::storage::parts::{FileRuns, Location};
use crate::types::{Bitfield, PieceIndex};

/// What the system counts a file's room in, in bytes.
const SECTOR: u64 = 512;

impl Storage {
    /// Looks whether the file system of the download folder has `needed` bytes for us. One that does not say how large it is
    /// has.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] where it has not.
    pub fn check_disk_space(&self, needed: u64) -> Result<(), StorageError> {
        if needed == 0 {
            return Ok(());
        }
        // Where the folder is still to be made, it will lie in the first that is there.
        let there = self.root.path().ancestors().map(|path| if path == Path::new("") { Path::new(".") } else { path });
        let Some(found) = there.map(rustix::fs::statvfs).find_map(Result::ok) else { return Ok(()) };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if found.f_blocks == 0 || needed <= free {
            return Ok(());
        }
        Err(StorageError::NoSpace { path: self.root.path().to_owned(), needed, free })
    }

    /// Looks whether there is room until all `wanted` pieces are there, where those in `have` are. To be called after
    /// [`Storage::prepare`] and the check.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] where there is not; those of [`Storage::check_fs_limits`].
    pub fn check_disk_space_for(&self, have: &Bitfield, wanted: &Bitfield) -> Result<(), StorageError> {
        self.check_fs_limits(have)?;
        let missing = wanted.iter().filter(|piece| !have.has(*piece));
        let bytes = missing.map(|piece| u64::from(self.layout.piece_size(piece))).sum();
        // What it takes already must be asked of every file: only where that matters.
        self.check_disk_space(bytes).or_else(|_| self.check_disk_space(self.still_to_allocate(have, wanted)))
    }

    /// The bytes that the disk must still find room for until all `wanted` pieces are there, where those in `have` are: what
    /// is missing, less what the files take beyond what is right in them.
    fn still_to_allocate(&self, have: &Bitfield, wanted: &Bitfield) -> u64 {
        // By file, the part file last.
        let mut sums = vec![(0u64, 0u64); self.layout.files().len() + 1];
        for piece in (0..self.layout.piece_count()).map(PieceIndex) {
            let there = have.has(piece);
            if !there && !wanted.has(piece) {
                continue;
            }
            let (offset, size) = (self.layout.offset(piece, 0), u64::from(self.layout.piece_size(piece)));
            for run in FileRuns::new(&self.layout, &self.selection, offset, size) {
                if let Location::At { slot, .. } = run.place
                    && let Some((held, missing)) = sums.get_mut(slot)
                {
                    *(if there { held } else { missing }) += run.len;
                }
            }
        }
        let still = |(slot, (held, missing)): (usize, (u64, u64))| {
            let allocated_bytes = if missing > 0 { self.allocated_bytes(slot) } else { 0 };
            missing.saturating_sub(allocated_bytes.saturating_sub(held))
        };
        sums.into_iter().enumerate().map(still).sum()
    }

    /// The bytes of wanted files that have no room yet; less than that once `stop` becomes true.
    pub(crate) fn unallocated(&self, stop: &AtomicBool) -> u64 {
        let files = self.layout.files().iter().enumerate();
        let files = files.filter(|(file, spec)| !spec.pad && spec.length > 0 && self.wants(*file));
        let lacks = |(file, length): (usize, u64)| {
            let allocated_bytes = self.allocated_bytes(file);
            let there = || self.root.open(self.name(file), Access::Read).is_ok_and(|it| is_allocated(&it.file, length));
            if allocated_bytes >= length || there() { 0 } else { length - allocated_bytes }
        };
        let files = files.map(|(file, spec)| (file, spec.length));
        files.take_while(|_| !stop.load(Ordering::Relaxed)).map(lacks).sum()
    }

    /// The bytes that a file takes on the disk; the part file's number is the one behind the last.
    fn allocated_bytes(&self, slot: usize) -> u64 {
        self.root.metadata(self.name(slot)).map_or(0, |found| found.blocks().saturating_mul(SECTOR))
    }
}

/// Whether a file has all the room that it needs to have `length` bytes. Neither sign says it alone: a file takes less where the
/// file system compresses it, and where room was set aside and not written yet some say that it is a hole.
pub(crate) fn is_allocated(file: &File, length: u64) -> bool {
    let Ok(found) = file.metadata() else { return false };
    let no_hole = || rustix::fs::seek(file, SeekFrom::Hole(0)).is_ok_and(|hole| hole >= length);
    found.len() >= length && (found.blocks().saturating_mul(SECTOR) >= length || length == 0 || no_hole())
}

#[cfg(test)]
mod tests;
