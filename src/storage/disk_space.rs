//! Checks free disk space at the start, rather than failing after hours.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{SeekFrom, StatVfs};

use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::open::Access;
use crate::storage::placement::{FileRuns, Location};
use crate::storage::stop_check::StopCheck;
use crate::types::{Bitfield, PieceIndex};

/// The unit of `st_blocks`, in bytes.
const SECTOR: u64 = 512;

impl Storage {
    /// Checks that the download folder's file system has `needed` free bytes. A file system that does not report its size passes.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] if it does not.
    pub fn check_disk_space(&self, needed: u64) -> Result<(), StorageError> {
        if needed == 0 {
            return Ok(());
        }
        let Some(found) = self.file_system() else { return Ok(()) };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if found.f_blocks == 0 || needed <= free {
            return Ok(());
        }
        Err(StorageError::NoSpace { path: self.root.path().to_owned(), needed, free })
    }

    /// The download folder's file system. If the folder does not exist yet, that of the nearest existing folder above it.
    fn file_system(&self) -> Option<StatVfs> {
        let there = self.root.path().ancestors().map(|path| if path == Path::new("") { Path::new(".") } else { path });
        there.map(rustix::fs::statvfs).find_map(Result::ok)
    }

    /// Checks that the file system has room for the entries of all missing files and folders: other programs could not create any file
    /// there otherwise.
    fn check_free_inodes(&self, have: &Bitfield) -> Result<(), StorageError> {
        // Some file systems create inodes as needed and report none.
        let Some(found) = self.file_system().filter(|found| found.f_files > 0) else { return Ok(()) };
        let free = found.f_favail;
        let path = || self.root.path().to_owned();
        self.lacking_inodes(have, free)
            .map_or(Ok(()), |needed| Err(StorageError::NoInodes { path: path(), needed, free }))
    }

    /// The number of inodes for all missing files and folders and the marker, if it is more than `free`.
    fn lacking_inodes(&self, have: &Bitfield, free: u64) -> Option<u64> {
        let files = self.layout.files().iter().enumerate();
        let lacking = files.filter(|(file, spec)| {
            !spec.is_pad && self.wants(*file) && (spec.length == 0 || !self.layout.is_complete(*file, have))
        });
        let lacking: Vec<(usize, &Path)> = lacking.map(|(file, spec)| (file, spec.path.as_path())).collect();
        let folders: HashSet<&Path> = lacking.iter().flat_map(|(_, path)| path.ancestors().skip(1)).collect();
        // The exact figure needs a look at every file, so compute it only if the simple one is too large.
        if (lacking.len() + folders.len() + 1) as u64 <= free {
            return None;
        }
        let is_missing =
            |name: &Path| self.root.metadata(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let files = lacking.iter().filter(|(file, _)| is_missing(self.name(*file))).count();
        let folders = folders.iter().filter(|folder| is_missing(folder)).count();
        let needed = if files == 0 { 0 } else { (files + folders + 1) as u64 };
        Some(needed).filter(|needed| *needed > free)
    }

    /// Checks that there is disk space for all `wanted` pieces, given the pieces in `have`. Call it after the
    /// check.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] or [`StorageError::NoInodes`] if there is not; those of [`Storage::check_fs_limits`].
    pub fn check_disk_space_for(&self, have: &Bitfield, wanted: &Bitfield) -> Result<(), StorageError> {
        self.check_fs_limits(have)?;
        self.check_free_inodes(have)?;
        let missing = wanted.iter().filter(|piece| !have.has(*piece));
        let bytes = missing.map(|piece| u64::from(self.layout.piece_size(piece))).sum();
        // The exact figure needs a look at every file, so compute it only if the simple one is too large.
        self.check_disk_space(bytes).or_else(|_| self.check_disk_space(self.still_to_allocate(have, wanted)))
    }

    /// The bytes still to be allocated for all `wanted` pieces, given the pieces in `have`: the missing bytes, minus what the
    /// files occupy beyond their verified bytes.
    fn still_to_allocate(&self, have: &Bitfield, wanted: &Bitfield) -> u64 {
        // By file, the part file last.
        let mut sums = vec![(0u64, 0u64); self.layout.files().len() + 1];
        for piece in (0..self.layout.piece_count()).map(PieceIndex) {
            let there = have.has(piece);
            if !there && !wanted.has(piece) {
                continue;
            }
            let (offset, size) = (self.layout.offset(piece, 0), u64::from(self.layout.piece_size(piece)));
            for run in FileRuns::new(&self.layout, &self.placement, offset, size) {
                if let Location::At { file_index, .. } = run.location
                    && let Some((held, missing)) = sums.get_mut(file_index)
                {
                    *(if there { held } else { missing }) += run.len;
                }
            }
        }
        let still = |(file_index, (held, missing)): (usize, (u64, u64))| {
            let allocated_bytes = if missing > 0 { self.allocated_bytes(file_index) } else { 0 };
            missing.saturating_sub(allocated_bytes.saturating_sub(held))
        };
        sums.into_iter().enumerate().map(still).sum()
    }

    /// The bytes of wanted files that are not allocated yet; fewer if `stop` becomes true.
    pub(crate) fn unallocated(&self, stop: &dyn StopCheck) -> u64 {
        let files = self.layout.files().iter().enumerate();
        let files = files.filter(|(file, spec)| !spec.is_pad && spec.length > 0 && self.wants(*file));
        let lacks = |(file, length): (usize, u64)| {
            let allocated_bytes = self.allocated_bytes(file);
            let there = || self.root.open(self.name(file), Access::Read).is_ok_and(|it| is_allocated(&it.file, length));
            if allocated_bytes >= length || there() { 0 } else { length - allocated_bytes }
        };
        let files = files.map(|(file, spec)| (file, spec.length));
        files.take_while(|_| !stop.is_stopped()).map(lacks).sum()
    }

    /// The bytes that a file occupies on disk; the part file's number is the number of files.
    fn allocated_bytes(&self, file_index: usize) -> u64 {
        self.root.metadata(self.name(file_index)).map_or(0, |found| found.blocks().saturating_mul(SECTOR))
    }
}

/// Whether `length` bytes of a file are fully allocated. Neither sign suffices alone: a compressed file occupies less, and some
/// file systems report preallocated but unwritten space as a hole.
pub(crate) fn is_allocated(file: &File, length: u64) -> bool {
    let Ok(found) = file.metadata() else { return false };
    let no_hole = || rustix::fs::seek(file, SeekFrom::Hole(0)).is_ok_and(|hole| hole >= length);
    found.len() >= length && (found.blocks().saturating_mul(SECTOR) >= length || length == 0 || no_hole())
}

#[cfg(test)]
mod tests;
