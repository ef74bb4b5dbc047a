//! The torrent's files on disk: created once by [`Storage::create_files`] and [`Storage::resize_files`] (`prepare.rs`), then read
//! and written by offset from any thread. `placement.rs` says which file holds a byte: unwanted files share the part file.
//!
//! Nothing here knows which bytes are verified. Writes go straight to the page cache, without a buffer of our own and without
//! waiting for the disk. Padding (BEP 47) is skipped on write and read as zeros.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::storage::cache::{FileCache, OpenFile, WriteGuard};
use crate::storage::error::{Operation, StorageError, StorageErrorKind};
use crate::storage::late_errors::CachedFile;
use crate::storage::layout::Layout;
use crate::storage::open::{Access, Root};
use crate::storage::ownership::Refusal;
use crate::storage::placement::{FilePlacement, FileRun, FileRuns, Location};
use crate::storage::prepare::Allocation;
use crate::storage::resume::Stamp;
use crate::storage::safeguards::{MarkerState, Safeguards};
use crate::storage::served_files::ServedFiles;
use crate::storage::slices::{MAX_SLICES, SliceCursor};
use crate::storage::snapshot::identity;
use crate::storage::stop_check::StopFunction;
use crate::util::atomics::{Amount, Flag};

/// A torrent's files below one folder. All methods may be called from many threads at once.
#[derive(Debug)]
pub struct Storage {
    pub(super) root: Root,
    pub(super) layout: Layout,
    pub(super) placement: FilePlacement,
    /// Where the marker and the part file are, relative to `root`.
    pub(super) own_folder: PathBuf,
    pub(super) allocation: Allocation,
    /// The torrent's files by number, then the part file.
    pub(super) cache: Arc<FileCache>,
    /// The torrent's marker, in the download folder.
    pub(crate) marker: MarkerState,
    /// What keeps btsync from writing to the user's files.
    pub(super) safeguards: Safeguards,
    /// Whether the files have been sized.
    pub(super) has_lengths: Flag,
    /// Files with lower numbers have their final names.
    pub(super) renamed_up_to: Amount,
    /// What is known of the files that btsync serves.
    pub(super) served: ServedFiles,
    /// Interrupts long reads and writes at shutdown.
    pub(super) stop_function: StopFunction,
}

impl Storage {
    /// The files of `layout` below `root`, all of them wanted. About `max_open` stay open (each thread in the middle of a read or
    /// write may hold one more). Does not touch the disk.
    pub fn new(root: PathBuf, layout: Layout, max_open: usize) -> Storage {
        let cache = Arc::new(FileCache::new(layout.files().len() + 1, max_open));
        Storage {
            root: Root::new(root),
            layout,
            placement: FilePlacement::default(),
            own_folder: PathBuf::new(),
            allocation: Allocation::default(),
            cache,
            marker: MarkerState::default(),
            safeguards: Safeguards::default(),
            has_lengths: Flag::default(),
            renamed_up_to: Amount::default(),
            served: ServedFiles::default(),
            stop_function: StopFunction::default(),
        }
    }

    /// If no descriptor is free for a file, close the cached files, and call `descriptor_wait` to decide whether to wait for one
    /// and try again. Without this call, that is an error.
    pub fn wait_for_descriptors(&self, descriptor_wait: impl Fn() -> bool + Send + Sync + 'static) {
        let cache = self.cache.clone();
        self.root.set_descriptor_wait(move || {
            cache.clear();
            descriptor_wait()
        });
    }

    /// Runs `attempt`, which needs a descriptor. If none is free, waits for one as for these files.
    ///
    /// # Errors
    /// The error of `attempt`, also a lack of descriptors if waiting does not help.
    pub fn with_retry<T>(&self, attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.root.with_retry(attempt)
    }

    /// Maps the torrent's bytes to files.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A file's metadata by its number: the part file's, if that holds the file's bytes. `None` if there is no such file, if it
    /// is padding, or if its bytes are still to be compared with verified ones.
    pub fn stamp(&self, file: usize) -> Option<Stamp> {
        self.layout.files().get(file).filter(|spec| !spec.is_pad && !self.placement.is_undecided(file))?;
        let path = if self.placement.has_own_file(file) {
            self.name(file)
        } else {
            Some(self.placement.name()).filter(|_| self.placement.uses_part_file(&self.layout, file))?
        };
        Stamp::of(&self.root.metadata(path).ok()?)
    }

    /// When the last write to a file, or to the part file that holds its bytes, began and ended, in nanoseconds since 1970;
    /// `None` if there was none.
    pub fn last_write_times(&self, file: usize) -> Option<(i64, i64)> {
        self.cache.last_write_times(if self.placement.has_own_file(file) { file } else { self.layout.files().len() })
    }

    /// Writes `bufs`, one after the other, at byte `offset` of the torrent: one system call if the range lies in one file.
    ///
    /// # Errors
    /// The system's error; a file that vanished since [`Storage::create_files`]; an unwanted file, outside of the pieces that it
    /// shares with other files; a range outside of the torrent.
    pub fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<(), StorageError> {
        let len = bufs.iter().map(|buf| buf.len() as u64).sum();
        let mut gather = SliceCursor { bufs, first: 0, skip: 0 };
        for (done, FileRun { file, location, len }) in self.runs(offset, len)?.enumerate() {
            self.check_stop(Operation::Write, file, done)?;
            match location {
                Location::Pad => gather.advance(len),
                Location::At { file_index, offset } => self.write_run(file_index, offset, len, &mut gather)?,
                Location::Nowhere => return Err(self.failed(Operation::Write, file, Errno::NOENT.into())),
            }
        }
        Ok(())
    }

    /// Whether another thread is writing to the file that holds this byte. A file system lets only one writer at a time into a
    /// file, and a waiting thread spins, so a thread with other work should do that first.
    pub fn is_being_written(&self, offset: u64) -> bool {
        let run = FileRuns::new(&self.layout, &self.placement, offset, 1).next();
        run.is_some_and(
            |run| matches!(run.location, Location::At { file_index, .. } if self.cache.is_being_written(file_index)),
        )
    }

    fn write_run(
        &self,
        file_index: usize,
        offset: u64,
        len: u64,
        gather: &mut SliceCursor<'_>,
    ) -> Result<(), StorageError> {
        let handle = self.handle(file_index, true)?;
        // Before the write: a concurrent sync may then sync once too often, never once too little.
        self.cache.mark_dirty(file_index);
        let writing = self.cache.writing(file_index);
        self.check_before_write(file_index, &handle.file, &writing).inspect_err(|_| writing.cancel())?;
        let is_sampled = self.safeguards.pinned.samples.begin(file_index, offset, len);
        let mut done = 0;
        while done < len {
            let mut batch = [IoSlice::new(&[]); MAX_SLICES];
            let batch = gather.next(&mut batch, len - done);
            match rustix::io::pwritev(&handle.file, batch, offset + done) {
                Ok(0) => return Err(self.failed(Operation::Write, file_index, io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    if is_sampled {
                        self.safeguards.pinned.samples.wrote(file_index, offset + done, batch, written);
                    }
                    gather.advance(written as u64);
                    done += written as u64;
                    self.cache.extend_to(file_index, offset + done);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(Operation::Write, file_index, errno.into())),
            }
        }
        if file_index == self.layout.files().len() {
            self.placement.extend_part_file_to(offset + len);
        }
        self.cache.mark_dirty(file_index);
        handle.mark_written();
        Ok(())
    }

    /// Checks before each write that the lock is still held, and that the file is as btsync left it.
    fn check_before_write(&self, file_index: usize, file: &File, writing: &WriteGuard<'_>) -> Result<(), StorageError> {
        self.check_lock(Some(writing.began()))?;
        self.check_late_errors()?;
        let furthest = self.cache.furthest(file_index);
        if let Ok(found) = rustix::fs::fstat(file) {
            self.check_new_links(file_index, &found, writing.began())?;
            self.check_length(file_index, &found, furthest)?;
            self.check_not_edited(file_index, file, &found, writing)?;
        }
        if writing.was_only_writer() {
            self.detect_changes(file_index, file, writing.began());
        }
        Ok(())
    }

    /// Fills `buf` with the torrent's bytes from `offset` on.
    ///
    /// # Errors
    /// The system's error; kind [`StorageErrorKind::Missing`] if a file is missing or too short; a range outside of the torrent.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        let mut rest = buf;
        for (done, FileRun { file, location, len }) in self.runs(offset, rest.len() as u64)?.enumerate() {
            self.check_stop(Operation::Read, file, done)?;
            // A run is never longer than the requested range.
            let (part, later) = rest.split_at_mut(len as usize);
            rest = later;
            match location {
                Location::Pad => part.fill(0),
                Location::At { file_index, offset } => {
                    self.handle(file_index, false)?.file.read_exact_at(part, offset).map_err(|error| {
                        match error.kind() {
                            io::ErrorKind::UnexpectedEof => self.too_short(file_index),
                            _ => self.failed(Operation::Read, file_index, error),
                        }
                    })?;
                }
                Location::Nowhere => return Err(self.failed(Operation::Read, file, Errno::NOENT.into())),
            }
        }
        Ok(())
    }

    /// Whether the files are long enough that this range can be read.
    pub fn covers(&self, offset: u64, len: u64) -> bool {
        let mut spans = self.layout.spans(offset, len);
        spans.all(|span| {
            let last = self.layout.start_of(span.file) + span.offset + span.len - 1;
            self.read_exact_at(last, &mut [0]).is_ok()
        })
    }

    /// Whether the disk holds data in this range; if not, it lies entirely in holes and padding and reads as zeros. Returns
    /// `true` if the file system does not support holes.
    ///
    /// # Errors
    /// As for [`Storage::read_exact_at`].
    pub fn has_data(&self, offset: u64, len: u64) -> Result<bool, StorageError> {
        for (done, FileRun { file, location, len }) in self.runs(offset, len)?.enumerate() {
            self.check_stop(Operation::Read, file, done)?;
            let (file_index, offset) = match location {
                Location::Pad => continue,
                Location::At { file_index, offset } => (file_index, offset),
                Location::Nowhere => return Err(self.failed(Operation::Read, file, Errno::NOENT.into())),
            };
            let handle = self.handle(file_index, false)?;
            let end = offset + len;
            match rustix::fs::seek(&handle.file, rustix::fs::SeekFrom::Data(offset)) {
                Ok(data) if data >= end => {}
                Err(Errno::NXIO) => {
                    // No data up to the end of the file, which may be before the end of the run.
                    let there = handle.file.metadata().map_err(|e| self.failed(Operation::Read, file_index, e))?.len();
                    if there < end {
                        return Err(self.too_short(file_index));
                    }
                }
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Closes all open files; they are opened again when needed.
    pub fn close(&self) {
        self.cache.clear();
    }

    pub(super) fn runs(&self, offset: u64, len: u64) -> Result<FileRuns<'_>, StorageError> {
        let total = self.layout.total();
        match offset.checked_add(len) {
            Some(end) if end <= total => Ok(FileRuns::new(&self.layout, &self.placement, offset, len)),
            _ => Err(StorageError::OutOfRange { offset, len, total }),
        }
    }

    /// The file's path relative to the download folder; the part file's number is the number of files.
    pub(super) fn name(&self, file_index: usize) -> &Path {
        if file_index < self.renamed_up_to.get() && self.wants(file_index) {
            return self.layout.final_name(file_index).unwrap_or(self.placement.name());
        }
        self.layout.files().get(file_index).map_or(self.placement.name(), |file| file.path.as_path())
    }

    pub(super) fn failed(&self, operation: Operation, file_index: usize, error: io::Error) -> StorageError {
        StorageError::io(operation, &self.root.path().join(self.name(file_index)))(error)
    }

    /// The error for a file that btsync no longer touches, and why.
    pub(crate) fn in_the_way(&self, file_index: usize, why: Refusal) -> StorageError {
        StorageError::InTheWay { path: self.root.path().join(self.name(file_index)), why, more: 0 }
    }

    pub(super) fn too_short(&self, file: usize) -> StorageError {
        let why = io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than the torrent says");
        self.failed(Operation::Read, file, why)
    }

    pub(super) fn handle(&self, file_index: usize, is_for_writing: bool) -> Result<Arc<CachedFile>, StorageError> {
        if let Some(handle) = self.cache.get(file_index, is_for_writing) {
            return Ok(handle);
        }
        let access = if is_for_writing { Access::Write } else { Access::Read };
        let handle = match self.open(file_index, access) {
            Err(error) if error.kind() == StorageErrorKind::TooManyFiles => {
                self.cache.clear();
                self.open(file_index, access)?
            }
            opened => opened?,
        };
        if is_for_writing {
            self.check_is_ours(file_index, &handle)?;
            if let Some(opened) = self.lock_open_file(file_index, &handle)? {
                return Ok(opened);
            }
        }
        Ok(self.cache.put(file_index, handle))
    }

    /// The file's handle, if it is already open for writing.
    pub(super) fn cached(&self, file_index: usize) -> Option<Arc<CachedFile>> {
        self.cache.get(file_index, true)
    }

    /// Opens a file. The first write creates the part file.
    fn open(&self, file_index: usize, access: Access) -> Result<OpenFile, StorageError> {
        let is_part_file = file_index == self.layout.files().len();
        let first = access == Access::Write && is_part_file && self.placement.part_file_length() == 0;
        match self.root.open(self.name(file_index), access) {
            Err(error) if first && error.kind() == StorageErrorKind::Missing => {
                match self.root.open(self.name(file_index), Access::New) {
                    Ok(made) => {
                        let found =
                            made.file.metadata().map_err(|error| self.failed(Operation::Open, file_index, error))?;
                        self.placement.set_identity(Some(identity(&found)));
                        Ok(made)
                    }
                    Err(_) => self.root.open(self.name(file_index), access),
                }
            }
            opened => opened,
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.unlock();
    }
}

#[cfg(test)]
mod tests;
