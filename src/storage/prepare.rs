//! What is done to the disk before anything is read or written: folders and files are made, files get their room, and what the
//! part file holds of files that are wanted by now goes where it belongs.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::cache::Handle;
use super::error::{Doing, StorageError, shown};
use super::files::Storage;
use super::layout::FileSpec;
use super::open::Access;
use super::parts::Kept;
use super::room::has_room;

/// Bytes copied at once out of the part file.
const CHUNK: usize = 64 * 1024;

/// When the disk's room is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// As bytes come: a file grows up to the furthest that was written.
    None,
    /// As bytes come, but files have their length from the start; the rest is holes.
    #[default]
    Sparse,
    /// At the start: no file is in pieces all over the disk, and the disk cannot become full later. As `Sparse` where the file
    /// system cannot do it.
    Falloc,
}

/// What [`Storage::prepare`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Bytes of files that were there before and not empty, each counted up to its length in the torrent, and those of the part
    /// file. Where it is 0 there is nothing to check.
    pub found_bytes: u64,
    /// What was put right, a line each: "x.iso was 12 bytes too long: cut to 100".
    pub repaired: Vec<String>,
}

impl Storage {
    /// When room is taken on the disk. To be called before [`Storage::prepare`].
    #[must_use]
    pub fn allocate(mut self, allocation: Allocation) -> Storage {
        self.allocation = allocation;
        self
    }

    /// Makes folders and files: every wanted file has its length afterwards (with [`Allocation::None`] it may be shorter), and
    /// those that were too long are cut. Files that are there with their length need not be writable. Of a file that was not
    /// wanted before, what the part file holds is copied into it; a part file that nothing is left for is removed.
    ///
    /// # Errors
    /// What the system refuses, and whatever stands where a file or a folder must be. With [`Allocation::Falloc`] also
    /// [`StorageError::NoRoom`], before any file is made.
    pub fn prepare(&self) -> Result<Prepared, StorageError> {
        self.prepare_unless(&AtomicBool::new(false))
    }

    /// The same, and where `stop` becomes true it returns soon, with what was found so far.
    ///
    /// # Errors
    /// Those of [`Storage::prepare`].
    pub fn prepare_unless(&self, stop: &AtomicBool) -> Result<Prepared, StorageError> {
        self.root.create()?;
        if self.allocation == Allocation::Falloc {
            self.check_room(self.unallocated(stop))?;
        }
        let mut prepared = Prepared::default();
        let mut known = HashSet::new();
        let parts = self.parts();
        for (file, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.pad) {
            if stop.load(Ordering::Relaxed) {
                return Ok(prepared);
            }
            if self.wants(file) {
                self.make_folders(spec.path.parent(), &mut known)?;
                self.make_file((file, spec), parts.as_ref(), &mut prepared)?;
            } else if self.selection.has_own(file) {
                prepared.found_bytes += self.root.metadata(&spec.path).map_or(0, |found| found.len().min(spec.length));
            }
        }
        if let Some(parts) = parts {
            prepared.found_bytes += self.keep_parts(&parts);
        }
        Ok(prepared)
    }

    /// The part file, where it is there. That it cannot be read costs what it holds and nothing else.
    fn parts(&self) -> Option<Handle> {
        let name = Some(self.selection.name()).filter(|name| !name.as_os_str().is_empty())?;
        self.root.open(name, Access::Read).ok()
    }

    /// Removes the part file, unless a file needs it. How many bytes it has.
    fn keep_parts(&self, parts: &Handle) -> u64 {
        let mut files = 0..self.layout.files().len();
        if files.any(|file| self.selection.in_parts(&self.layout, file)) {
            let found = parts.file.metadata().map_or(0, |found| found.len());
            self.selection.set_end(found);
            return found;
        }
        if let Err(error) = self.root.remove(self.selection.name()) {
            log::debug!("{}: cannot be removed: {error}", self.selection.name().display());
        }
        0
    }

    fn make_folders<'a>(&self, folder: Option<&'a Path>, known: &mut HashSet<&'a Path>) -> Result<(), StorageError> {
        let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
        if known.insert(folder) {
            self.make_folders(folder.parent(), known)?;
            self.root.create_folder(folder)?;
        }
        Ok(())
    }

    fn make_file(
        &self,
        (file, spec): (usize, &FileSpec),
        parts: Option<&Handle>,
        prepared: &mut Prepared,
    ) -> Result<(), StorageError> {
        let (name, length) = (spec.path.as_path(), spec.length);
        let handle = self.root.open(name, Access::Create)?;
        let found = handle.file.metadata().map_err(|error| self.failed(Doing::Open, file, error))?.len();
        // A file that is too short and may not be written: say so now, in the system's words.
        let handle = if handle.writable || found == length { handle } else { self.root.open(name, Access::Write)? };
        if let Some(parts) = parts.filter(|_| found < length) {
            self.take_back(file, &handle.file, found, parts)?;
        }
        if found > length || (found < length && self.allocation == Allocation::Sparse) {
            handle.file.set_len(length).map_err(|error| self.failed(Doing::Resize, file, error))?;
        }
        if self.allocation == Allocation::Falloc && handle.writable && !has_room(&handle.file, length) {
            self.take_room(file, &handle.file, length)?;
        }
        if found > length {
            let surplus = found - length;
            let bytes = if surplus == 1 { "byte" } else { "bytes" };
            prepared.repaired.push(format!("{} was {surplus} {bytes} too long: cut to {length}", shown(name)));
        }
        prepared.found_bytes += found.min(length);
        Ok(())
    }

    /// Has the file system set a file's room aside; where it cannot, the file gets its length and no more.
    fn take_room(&self, number: usize, file: &File, length: u64) -> Result<(), StorageError> {
        loop {
            return match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
                Ok(()) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    file.set_len(length).map_err(|error| self.failed(Doing::Resize, number, error))
                }
                Err(errno) => Err(self.failed(Doing::Allocate, number, errno.into())),
            };
        }
    }

    /// Copies what the part file holds of a file into it, but nothing before `found`, where the file had bytes of its own
    /// already. In order, so that what was cut short by a crash is gone on with; and what was copied leaves the part file, so
    /// that it never comes back when it is out of date.
    fn take_back(&self, number: usize, file: &File, found: u64, parts: &Handle) -> Result<(), StorageError> {
        for kept in self.selection.kept(&self.layout, number) {
            let done = found.saturating_sub(kept.within).min(kept.len);
            let rest = Kept { within: kept.within + done, at: kept.at + done, len: kept.len - done };
            self.copy(number, file, rest, &parts.file)?;
            if parts.writable && kept.len > 0 {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // Not every file system can; then it stays, as the hint that it is.
                let _ = rustix::fs::fallocate(&parts.file, hole, kept.at, kept.len);
            }
        }
        Ok(())
    }

    /// Copies the data in a range of the part file, but not its holes.
    fn copy(&self, number: usize, file: &File, kept: Kept, parts: &File) -> Result<(), StorageError> {
        let Kept { within, at: start, len } = kept;
        let (mut at, end) = (start, start + len);
        let mut buf = vec![0; CHUNK];
        while at < end {
            at = match rustix::fs::seek(parts, SeekFrom::Data(at)) {
                Ok(data) => data.max(at),
                Err(Errno::NXIO) => break,
                // A file system without holes: all is data.
                Err(_) => at,
            };
            let hole = rustix::fs::seek(parts, SeekFrom::Hole(at)).unwrap_or(end).min(end);
            while at < hole {
                let room = buf.len().min(usize::try_from(hole - at).unwrap_or(usize::MAX));
                let part = buf.get_mut(..room).unwrap_or_default();
                // What cannot be read is fetched again.
                let Ok(count @ 1..) = parts.read_at(part, at) else { return Ok(()) };
                let part = part.get(..count).unwrap_or_default();
                let wrote = file.write_all_at(part, within + (at - start));
                wrote.map_err(|error| self.failed(Doing::Write, number, error))?;
                at += count as u64;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
