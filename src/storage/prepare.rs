//! Prepares the files that `creation.rs` has created and those that btsync continues: sets their lengths, allocates space, and copies
//! bytes of newly wanted files out of the part file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::storage::CHUNK;
use crate::storage::cache::{OpenFile, clock};
use crate::storage::disk_space::is_allocated;
use crate::storage::error::{Operation, StorageError, shown};
use crate::storage::files::Storage;
use crate::storage::late_errors::sync_if_remote;
use crate::storage::layout::FileSpec;
use crate::storage::open::Access;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::placement::PartRange;
use crate::storage::snapshot::{FileSnapshot, identity, is_same};
use crate::storage::stop_check::StopCheck;
use crate::storage::survey::Survey;

/// When disk space is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allocation {
    /// As data arrives; a file ends at its furthest written byte.
    None,
    /// As data arrives, but files have their full length from the start; the rest is holes.
    #[default]
    Sparse,
    /// At the start: files are not fragmented, and the disk cannot fill up later. Like `Sparse` if the file system does not
    /// support it.
    Falloc,
}

/// What [`Storage::resize_files`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreparedFiles {
    /// Bytes of existing non-empty files, each counted up to its length in the torrent, and of the part file. 0 means that there
    /// is nothing to check.
    pub found_bytes: u64,
    /// What was repaired, one line each: "x.iso was 12 bytes too long: truncated to 100".
    pub repaired: Vec<String>,
    /// Files that may have got data out of the part file: their pieces must be hashed.
    pub restored_files: Vec<usize>,
    /// Notes for the user, one line each.
    pub notes: Vec<String>,
}

impl Storage {
    /// Sets when disk space is allocated. Call it before [`Storage::create_files`].
    #[must_use]
    pub fn with_allocation(mut self, allocation: Allocation) -> Storage {
        self.allocation = allocation;
        self
    }

    /// Creates all missing files and takes over every existing one: wanted files have their full length afterwards (with
    /// [`Allocation::None`] they may be shorter), and longer ones are truncated. For callers who know that the files are
    /// btsync's; others call [`Storage::decide`] first.
    ///
    /// # Errors
    /// Those of [`Storage::survey`], [`Storage::create_files`] and [`Storage::resize_files`].
    #[cfg(any(test, feature = "internals"))]
    pub fn prepare(&self) -> Result<PreparedFiles, StorageError> {
        self.prepare_until(&AtomicBool::new(false))
    }

    /// Like [`Storage::prepare`], but returns soon with the results so far if `stop` becomes true.
    ///
    /// # Errors
    /// Those of [`Storage::prepare`].
    #[cfg(any(test, feature = "internals"))]
    pub fn prepare_until(&self, stop: &dyn StopCheck) -> Result<PreparedFiles, StorageError> {
        self.root.create()?;
        let mut survey = self.survey(stop)?;
        let choose = |(file, spec): (usize, &FileSpec)| match survey.file(file) {
            _ if spec.is_pad || !self.wants(file) => FileAction::Leave,
            Some(_) => FileAction::Continue,
            None => FileAction::Create,
        };
        let actions: Vec<FileAction> = self.layout.files().iter().enumerate().map(choose).collect();
        self.create_files(&actions, &mut survey, stop)?;
        self.resize_files(&actions, &survey, stop)
    }

    /// Gives the files to be written their length and allocates their space. Copies bytes of newly wanted files out of the part
    /// file, and removes a part file that is no longer needed. `survey` is the one that [`Storage::create_files`] updated.
    ///
    /// # Errors
    /// The system's error.
    pub fn resize_files(
        &self,
        actions: &[FileAction],
        survey: &Survey,
        stop: &dyn StopCheck,
    ) -> Result<PreparedFiles, StorageError> {
        let notes = self.note_plain_files().into_iter().collect();
        let mut prepared = PreparedFiles { notes, ..PreparedFiles::default() };
        let part_file = self.open_part_file();
        let filled = part_file.as_ref().filter(|_| self.has_bytes_to_restore(survey));
        for ((file, spec), action) in self.layout.files().iter().enumerate().zip(actions) {
            if stop.is_stopped() {
                return Ok(prepared);
            }
            let Some(seen) = survey.file(file) else { continue };
            match action {
                FileAction::Ignore | FileAction::Compare => continue,
                FileAction::Create if filled.is_none() => continue,
                FileAction::Create | FileAction::Continue | FileAction::Copy | FileAction::ReplaceEmpty
                    if self.wants(file) =>
                {
                    self.fit_file(file, spec, seen, filled, &mut prepared)?;
                }
                _ => {}
            }
            prepared.found_bytes += if *action == FileAction::Create { 0 } else { seen.size.min(spec.length) };
        }
        self.take_samples(actions, survey, filled.is_some(), stop);
        if let Some(part_file) = part_file {
            prepared.found_bytes += self.remove_unneeded_part_file(&part_file);
        }
        self.safeguards.times.sized_at.set(clock());
        self.has_lengths.set(true);
        Ok(prepared)
    }

    /// The part file, if there is one. If it cannot be read, only its content is lost.
    fn open_part_file(&self) -> Option<OpenFile> {
        let name = Some(self.placement.name()).filter(|name| !name.as_os_str().is_empty())?;
        if self.placement.is_foreign() {
            return None;
        }
        let opened = self.root.open(name, Access::Write).or_else(|_| self.root.open(name, Access::Read)).ok()?;
        opened.file.metadata().is_ok_and(|found| self.placement.matches_part_file(&found)).then_some(opened)
    }

    /// Removes the part file, unless a file needs it. Returns its length in bytes.
    fn remove_unneeded_part_file(&self, part_file: &OpenFile) -> u64 {
        if self.uses_part_file() {
            let found = part_file.file.metadata().map_or(0, |found| found.len());
            self.placement.set_part_file_length(found);
            return found;
        }
        self.remove_part_file();
        0
    }

    /// Gives an existing file its length and space, and its data from the part file.
    fn fit_file(
        &self,
        file: usize,
        spec: &FileSpec,
        seen: &FileSnapshot,
        part_file: Option<&OpenFile>,
        prepared: &mut PreparedFiles,
    ) -> Result<(), StorageError> {
        let (name, length, found) = (spec.path.as_path(), spec.length, seen.size);
        let allocates = self.allocation == Allocation::Falloc
            && !self.root.open(name, Access::Read).is_ok_and(|handle| is_allocated(&handle.file, length));
        let gets_more = found < length && (self.allocation != Allocation::None || part_file.is_some());
        if found <= length && !gets_more && !allocates {
            return Ok(());
        }
        let handle = self.root.open(name, Access::Write)?;
        let opened = handle.file.metadata().map_err(|error| self.failed(Operation::Open, file, error))?;
        if !is_same(seen.identity, identity(&opened)) {
            return Err(self.in_the_way(file, Refusal::Appeared));
        }
        if opened.len() != found {
            return Err(self.in_the_way(file, Refusal::Changed));
        }
        self.lock_open_file(file, &handle)?;
        // The new length and the copied bytes are ours.
        let _writing = self.cache.writing(file);
        if let Some(part_file) = part_file.filter(|_| found < length)
            && self.copy_from_part_file(file, &handle.file, found, part_file)?
        {
            prepared.restored_files.push(file);
            sync_if_remote(&handle.file).map_err(|error| self.failed(Operation::Write, file, error))?;
        }
        self.resize(file, &handle.file, found, length)?;
        if found > length {
            let surplus = found - length;
            let bytes = if surplus == 1 { "byte" } else { "bytes" };
            prepared.repaired.push(format!("{} was {surplus} {bytes} too long: truncated to {length}", shown(name)));
        }
        Ok(())
    }

    /// Gives a file of `found` bytes its length and space.
    pub(super) fn resize(&self, number: usize, file: &File, found: u64, length: u64) -> Result<(), StorageError> {
        if found > length || (found < length && self.allocation == Allocation::Sparse) {
            self.set_length(number, file, found, length)?;
        }
        if self.allocation == Allocation::Falloc && !is_allocated(file, length) {
            self.preallocate(number, file, length)?;
        }
        Ok(())
    }

    /// Sets the length of a file that had `found` bytes, unless it is longer by now than we can have made it: data that another
    /// program has appended meanwhile must never be cut off. A file that is to grow may contain data from the part file by now.
    fn set_length(&self, number: usize, file: &File, found: u64, length: u64) -> Result<(), StorageError> {
        let now = file.metadata().map_err(|error| self.failed(Operation::Resize, number, error))?.len();
        if now > found.max(length) {
            return Err(self.in_the_way(number, Refusal::Changed));
        }
        file.set_len(length).map_err(|error| self.failed(Operation::Resize, number, error))
    }

    /// Preallocates a file's space; if the file system cannot, only sets the length.
    fn preallocate(&self, number: usize, file: &File, length: u64) -> Result<(), StorageError> {
        loop {
            return match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
                Ok(()) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.set_length(number, file, length, length),
                Err(errno) => Err(self.failed(Operation::Allocate, number, errno.into())),
            };
        }
    }

    /// Copies a file's bytes out of the part file, but nothing before `found`, where the file already had bytes of its own.
    /// Copies in order, so that a crash in between does no harm, and then clears the bytes in the part file, so that outdated
    /// data never comes back. Returns whether the part file has room for bytes of this file.
    fn copy_from_part_file(
        &self,
        number: usize,
        file: &File,
        found: u64,
        part_file: &OpenFile,
    ) -> Result<bool, StorageError> {
        let mut any = false;
        for kept in self.placement.part_ranges(&self.layout, number) {
            any |= kept.len > 0;
            let done = found.saturating_sub(kept.within).min(kept.len);
            let rest = PartRange { within: kept.within + done, at: kept.at + done, len: kept.len - done };
            self.copy(number, file, rest, &part_file.file)?;
            if part_file.is_writable && kept.len > 0 {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // Not every file system can punch holes; then the data stays, and is only a hint.
                let _ = rustix::fs::fallocate(&part_file.file, hole, kept.at, kept.len);
            }
        }
        Ok(any)
    }

    /// Copies the data in a range of the part file, but not its holes.
    fn copy(&self, number: usize, file: &File, kept: PartRange, part_file: &File) -> Result<(), StorageError> {
        let PartRange { within, at: start, len } = kept;
        let (mut at, end) = (start, start + len);
        let mut buf = vec![0; CHUNK];
        while at < end {
            at = match rustix::fs::seek(part_file, SeekFrom::Data(at)) {
                Ok(data) => data.max(at),
                Err(Errno::NXIO) => break,
                // A file system without support for holes: treat everything as data.
                Err(_) => at,
            };
            let hole = rustix::fs::seek(part_file, SeekFrom::Hole(at)).unwrap_or(end).min(end);
            while at < hole {
                let room = buf.len().min(usize::try_from(hole - at).unwrap_or(usize::MAX));
                let part = buf.get_mut(..room).unwrap_or_default();
                // Unreadable data will be downloaded again.
                let Ok(count @ 1..) = part_file.read_at(part, at) else { return Ok(()) };
                let part = part.get(..count).unwrap_or_default();
                let wrote = file.write_all_at(part, within + (at - start));
                wrote.map_err(|error| self.failed(Operation::Write, number, error))?;
                at += count as u64;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
