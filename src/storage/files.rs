//! The torrent's files on disk: made once by [`Storage::prepare`], then read and written by offset from any thread.
//!
//! Nothing here knows which bytes are right. Writes go straight to the page cache, without a buffer of our own and without
//! waiting for the disk; padding (BEP 47) is swallowed on the way down and read as zeros.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::cache::{Cache, Handle};
use super::error::{Doing, StorageError, StorageErrorKind, shown};
use super::layout::{Layout, Span};
use super::open::{Access, Root};
use super::resume::Stamp;

/// Slices handed to one `pwritev`: 1 MiB of blocks, well below any system's `IOV_MAX`.
const BATCH: usize = 64;

/// A torrent's files below one folder. All methods may be called from many threads at once.
#[derive(Debug)]
pub struct Storage {
    root: Root,
    layout: Layout,
    cache: Cache,
}

/// What [`Storage::prepare`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Bytes of files that were there before and not empty, each counted up to its length in the torrent. Where it is 0
    /// there is nothing to check.
    pub found_bytes: u64,
    /// What was put right, a line each: "x.iso was 12 bytes too long: cut to 100".
    pub repaired: Vec<String>,
}

impl Storage {
    /// The files of `layout` below `root`, of which about `max_open` are held open (each thread in the middle of a read or
    /// write may hold one more). Touches nothing.
    pub fn new(root: PathBuf, layout: Layout, max_open: usize) -> Storage {
        let cache = Cache::new(layout.files().len(), max_open);
        Storage { root: Root::new(root), layout, cache }
    }

    /// Where each byte lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes folders and files: every file has its length afterwards, those that are new or were short are sparse, those
    /// that were too long are cut. Files that are there with their length need not be writable.
    ///
    /// # Errors
    /// What the system refuses, and whatever stands where a file or a folder must be.
    pub fn prepare(&self) -> Result<Prepared, StorageError> {
        self.prepare_unless(&AtomicBool::new(false))
    }

    /// The same, and where `stop` becomes true it returns soon, with what was found so far.
    ///
    /// # Errors
    /// Those of [`Storage::prepare`].
    pub fn prepare_unless(&self, stop: &AtomicBool) -> Result<Prepared, StorageError> {
        self.root.create()?;
        let mut prepared = Prepared::default();
        let mut known = HashSet::new();
        for file in self.layout.files().iter().filter(|file| !file.pad) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.make_folders(file.path.parent(), &mut known)?;
            self.make_file(&file.path, file.length, &mut prepared)?;
        }
        Ok(prepared)
    }

    fn make_folders<'a>(&self, folder: Option<&'a Path>, known: &mut HashSet<&'a Path>) -> Result<(), StorageError> {
        let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
        if known.insert(folder) {
            self.make_folders(folder.parent(), known)?;
            self.root.create_folder(folder)?;
        }
        Ok(())
    }

    fn make_file(&self, name: &Path, length: u64, prepared: &mut Prepared) -> Result<(), StorageError> {
        let path = self.root.path().join(name);
        let Handle { file, writable } = self.root.open(name, Access::Create)?;
        let found = file.metadata().map_err(StorageError::io(Doing::Open, &path))?.len();
        if found != length {
            // A file that is too short and may not be written: say so now, in the system's words.
            let file = if writable { file } else { self.root.open(name, Access::Write)?.file };
            file.set_len(length).map_err(StorageError::io(Doing::Resize, &path))?;
        }
        if found > length {
            let surplus = found - length;
            let bytes = if surplus == 1 { "byte" } else { "bytes" };
            prepared.repaired.push(format!("{} was {surplus} {bytes} too long: cut to {length}", shown(name)));
        }
        prepared.found_bytes += found.min(length);
        Ok(())
    }

    /// How a file looks from outside, by its number; `None` where it is not there, or is padding.
    pub fn stamp(&self, file: usize) -> Option<Stamp> {
        let spec = self.layout.files().get(file).filter(|file| !file.pad)?;
        let there = self.root.metadata(&spec.path).ok()?;
        let time = |seconds: i64, nanos: i64| seconds.checked_mul(1_000_000_000)?.checked_add(nanos);
        Some(Stamp {
            size: there.size(),
            modified: time(there.mtime(), there.mtime_nsec())?,
            changed: time(there.ctime(), there.ctime_nsec())?,
            inode: there.ino(),
        })
    }

    /// Looks whether every file is still where it was and as long as it must be: one that was deleted while it was open takes
    /// writes as before.
    ///
    /// # Errors
    /// What the system says, or of kind [`StorageErrorKind::Missing`], about the first that is not.
    pub fn confirm(&self) -> Result<(), StorageError> {
        for (file, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.pad) {
            let there = self.root.metadata(&spec.path).map_err(|error| self.failed(Doing::Open, file, error))?;
            if there.len() < spec.length {
                return Err(self.too_short(file));
            }
        }
        Ok(())
    }

    /// When the last write to a file began and ended, in nanoseconds since 1970; `None` where there was none.
    pub fn written(&self, file: usize) -> Option<(i64, i64)> {
        self.cache.written(file)
    }

    /// Writes `bufs`, one after the other, at byte `offset` of the torrent; one system call where they lie in one file.
    ///
    /// # Errors
    /// What the system refuses; a file that vanished since [`Storage::prepare`]; a range outside of the torrent.
    pub fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<(), StorageError> {
        let len = bufs.iter().map(|buf| buf.len() as u64).sum();
        let mut gather = Gather { bufs, first: 0, skip: 0 };
        for span in self.spans(offset, len)? {
            if self.is_pad(span) {
                gather.advance(span.len);
            } else {
                self.write_span(span, &mut gather)?;
            }
        }
        Ok(())
    }

    /// Whether another thread is writing to the file that holds this byte. A file system lets one writer at a time into a file,
    /// and a thread that waits for its turn burns the processor meanwhile: whoever has something else to do does that first.
    pub fn is_being_written(&self, offset: u64) -> bool {
        self.layout.spans(offset, 1).next().is_some_and(|span| self.cache.is_being_written(span.file))
    }

    fn write_span(&self, span: Span, gather: &mut Gather<'_>) -> Result<(), StorageError> {
        let handle = self.handle(span.file, true)?;
        // Before the write: who syncs meanwhile may sync once too often, never once too little.
        self.cache.mark_dirty(span.file);
        let _writing = self.cache.writing(span.file);
        let mut done = 0;
        while done < span.len {
            let mut batch = [IoSlice::new(&[]); BATCH];
            let batch = gather.next(&mut batch, span.len - done);
            match rustix::io::pwritev(&handle.file, batch, span.offset + done) {
                Ok(0) => return Err(self.failed(Doing::Write, span.file, io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    gather.advance(written as u64);
                    done += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(Doing::Write, span.file, errno.into())),
            }
        }
        self.cache.mark_dirty(span.file);
        Ok(())
    }

    /// Fills `buf` with what lies at byte `offset` of the torrent.
    ///
    /// # Errors
    /// What the system refuses; of kind [`StorageErrorKind::Missing`] where a file is not there or too short; a range
    /// outside of the torrent.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        let mut rest = buf;
        for span in self.spans(offset, rest.len() as u64)? {
            // A span is never longer than what was asked for.
            let (part, later) = rest.split_at_mut(span.len as usize);
            rest = later;
            if self.is_pad(span) {
                part.fill(0);
            } else {
                let handle = self.handle(span.file, false)?;
                handle.file.read_exact_at(part, span.offset).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => self.too_short(span.file),
                    _ => self.failed(Doing::Read, span.file, error),
                })?;
            }
        }
        Ok(())
    }

    /// Whether the disk holds anything in this range; if not, it lies wholly in holes and padding and reads as zeros. Where
    /// the file system knows no holes the answer is yes.
    ///
    /// # Errors
    /// As for [`Storage::read_exact_at`].
    pub fn has_data(&self, offset: u64, len: u64) -> Result<bool, StorageError> {
        for span in self.spans(offset, len)?.filter(|&span| !self.is_pad(span)) {
            let handle = self.handle(span.file, false)?;
            let end = span.offset + span.len;
            match rustix::fs::seek(&handle.file, rustix::fs::SeekFrom::Data(span.offset)) {
                Ok(data) if data >= end => {}
                Err(Errno::NXIO) => {
                    // No data up to the file's end, which may lie before the span's.
                    let there = handle.file.metadata().map_err(|e| self.failed(Doing::Read, span.file, e))?.len();
                    if there < end {
                        return Err(self.too_short(span.file));
                    }
                }
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Waits until all that was written is on the disk. Nothing else here does.
    ///
    /// # Errors
    /// What the system says about the first file that fails.
    pub fn sync(&self) -> Result<(), StorageError> {
        for file in 0..self.layout.files().len() {
            if self.cache.take_dirty(file) {
                let synced = self
                    .handle(file, true)
                    .and_then(|handle| handle.file.sync_data().map_err(|error| self.failed(Doing::Sync, file, error)));
                synced.inspect_err(|_| self.cache.mark_dirty(file))?;
            }
        }
        Ok(())
    }

    /// Lets go of all open files; they are opened again when needed.
    pub fn close(&self) {
        self.cache.clear();
    }

    /// How many files are held open.
    pub fn open_files(&self) -> usize {
        self.cache.len()
    }

    fn spans(&self, offset: u64, len: u64) -> Result<impl Iterator<Item = Span>, StorageError> {
        let total = self.layout.total();
        match offset.checked_add(len) {
            Some(end) if end <= total => Ok(self.layout.spans(offset, len)),
            _ => Err(StorageError::OutOfRange { offset, len, total }),
        }
    }

    fn is_pad(&self, span: Span) -> bool {
        self.layout.files().get(span.file).is_some_and(|file| file.pad)
    }

    /// The file's path from the download folder on.
    fn name(&self, file: usize) -> &Path {
        self.layout.files().get(file).map_or(Path::new(""), |file| file.path.as_path())
    }

    fn failed(&self, doing: Doing, file: usize, error: io::Error) -> StorageError {
        StorageError::io(doing, &self.root.path().join(self.name(file)))(error)
    }

    fn too_short(&self, file: usize) -> StorageError {
        let why = io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than the torrent says");
        self.failed(Doing::Read, file, why)
    }

    fn handle(&self, file: usize, write: bool) -> Result<Arc<Handle>, StorageError> {
        if let Some(handle) = self.cache.get(file, write) {
            return Ok(handle);
        }
        let name = self.name(file);
        let access = if write { Access::Write } else { Access::Read };
        let handle = match self.root.open(name, access) {
            Err(error) if error.kind() == StorageErrorKind::TooManyFiles => {
                self.cache.clear();
                self.root.open(name, access)?
            }
            opened => opened?,
        };
        Ok(self.cache.put(file, handle))
    }
}

/// Walks through the bytes of several slices.
struct Gather<'a> {
    bufs: &'a [IoSlice<'a>],
    /// The slice to go on with.
    first: usize,
    /// How many of its bytes are done.
    skip: usize,
}

impl<'a> Gather<'a> {
    /// The next bytes, `limit` at most, as slices put into `batch`.
    fn next<'b>(&self, batch: &'b mut [IoSlice<'a>; BATCH], limit: u64) -> &'b [IoSlice<'a>] {
        let mut skip = self.skip;
        let mut room = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut count = 0;
        for (slot, buf) in batch.iter_mut().zip(self.bufs.get(self.first..).unwrap_or_default()) {
            if room == 0 {
                break;
            }
            let rest = buf.get(skip..).unwrap_or_default();
            let part = rest.get(..room).unwrap_or(rest);
            *slot = IoSlice::new(part);
            room -= part.len();
            skip = 0;
            count += 1;
        }
        batch.get(..count).unwrap_or_default()
    }

    /// Steps over `count` bytes, and over the empty slices that follow.
    fn advance(&mut self, count: u64) {
        let mut count = usize::try_from(count).unwrap_or(usize::MAX);
        while let Some(buf) = self.bufs.get(self.first) {
            let rest = buf.len() - self.skip;
            if count < rest {
                self.skip += count;
                return;
            }
            count -= rest;
            self.skip = 0;
            self.first += 1;
        }
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
