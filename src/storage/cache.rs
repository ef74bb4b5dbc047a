//! Cache of open files: a bounded number, each found under a short lock of its own.
//!
//! Each file of the torrent has an entry. A hit holds the entry's read lock while it clones an `Arc`; only a miss, which has just
//! paid for an `open`, takes the ring's lock. Eviction follows the CLOCK algorithm: it evicts the oldest file that was not used
//! since the hand last passed it. Threads that still use an evicted file finish; then it closes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};

use crate::storage::late_errors::{CachedFile, LateErrors};
use crate::util::atomics::{Counter, Flag, Gauge, Time};

/// An open file, and whether it is open for writing.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub file: File,
    pub is_writable: bool,
    /// When the file was last compared with its state when it was verified (`served_files.rs`), in nanoseconds since 1970.
    pub checked_at: Time,
}

impl OpenFile {
    pub fn new(file: File, is_writable: bool) -> OpenFile {
        OpenFile { file, is_writable, checked_at: Time::default() }
    }
}

#[derive(Debug, Default)]
struct CacheEntry {
    handle: RwLock<Option<Arc<CachedFile>>>,
    used: Flag,
    dirty: Flag,
    /// The number of threads in the middle of a write.
    writers: Gauge,
    /// When the current period of uninterrupted writing to the file began; in nanoseconds since 1970.
    busy_since: Time,
    /// Begin and end of the last write that has ended, in nanoseconds since 1970; 0 if there was none.
    last_write_times: (Time, Time),
    /// The end of the furthest byte that the file is known to have had.
    furthest: Counter,
    /// Whether another program is known to have changed the file.
    changed: Flag,
    /// Whether btsync refuses to write to the file.
    refused: Flag,
}

/// Ends of writes further apart than this, in nanoseconds, are not those of threads that overlap.
const SECOND: i64 = 1_000_000_000;

/// Marks a write in progress by one thread, until dropped.
pub(super) struct WriteGuard<'a> {
    entry: Option<&'a CacheEntry>,
    began: i64,
    was_only_writer: bool,
    busy_since: i64,
    is_cancelled: Cell<bool>,
}

impl WriteGuard<'_> {
    /// When the write began, in nanoseconds since 1970.
    pub fn began(&self) -> i64 {
        self.began
    }

    /// Whether no other thread was writing to the file at that time.
    pub fn was_only_writer(&self) -> bool {
        self.was_only_writer
    }

    /// Whether no other thread is writing to the file now.
    pub fn is_only_writer(&self) -> bool {
        self.entry.is_none_or(|entry| entry.writers.get() == 1)
    }

    /// When the period of uninterrupted writing to the file began.
    pub fn busy_since(&self) -> i64 {
        self.busy_since
    }

    /// The thread does not write after all.
    pub fn cancel(&self) {
        self.is_cancelled.set(true);
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        let Some(entry) = self.entry else { return };
        if !self.is_cancelled.get() {
            let now = clock();
            // The clock was set back meanwhile.
            let end = if now < self.began { self.began.saturating_add(SECOND) } else { now };
            // The kernel's last timestamp lies between these times, or just before the first. Of threads that end at the same time,
            // the later end counts.
            entry.last_write_times.0.set(self.began);
            if entry.last_write_times.1.get().abs_diff(end) < SECOND.unsigned_abs() {
                entry.last_write_times.1.raise(end);
            } else {
                entry.last_write_times.1.set(end);
            }
        }
        entry.writers.sub(1);
    }
}

/// Lock order: ring, then an entry.
#[derive(Debug)]
pub(super) struct FileCache {
    entries: Vec<CacheEntry>,
    /// The open files, oldest first.
    pub(super) ring: Mutex<VecDeque<usize>>,
    max_open: usize,
    /// The errors that a file system reports after a write.
    pub(super) late_errors: Arc<LateErrors>,
}

impl FileCache {
    pub fn new(files: usize, max_open: usize) -> FileCache {
        let entries = std::iter::repeat_with(CacheEntry::default).take(files).collect();
        let late_errors = Arc::default();
        FileCache { entries, ring: Mutex::new(VecDeque::new()), max_open: max_open.max(1), late_errors }
    }

    /// The file, if it is open and, for `is_for_writing`, open for writing.
    pub fn get(&self, file: usize, is_for_writing: bool) -> Option<Arc<CachedFile>> {
        let entry = self.entries.get(file)?;
        let handle = entry.handle.read().as_ref().filter(|handle| handle.is_writable || !is_for_writing).cloned()?;
        // Load first: a store by every thread for every block would bounce the cache line between cores.
        if !entry.used.is_set() {
            entry.used.set(true);
        }
        Some(handle)
    }

    /// Caches a file that was just opened. If another thread was faster, returns its handle and closes ours.
    pub fn put(&self, file: usize, handle: OpenFile) -> Arc<CachedFile> {
        let handle = Arc::new(CachedFile::new(handle, file, &self.late_errors));
        let Some(entry) = self.entries.get(file) else { return handle };
        let mut ring = self.ring.lock();
        let mut held = entry.handle.write();
        match held.as_ref() {
            Some(first) if first.is_writable || !handle.is_writable => return Arc::clone(first),
            Some(_) => {
                let read_only = held.replace(Arc::clone(&handle));
                drop((held, ring));
                drop(read_only);
            }
            None => {
                drop(held);
                let evicted = if ring.len() < self.max_open { None } else { self.evict(&mut ring) };
                *entry.handle.write() = Some(Arc::clone(&handle));
                ring.push_back(file);
                // Before the lock is released, so that whoever syncs all files finds this one.
                self.late_errors.begin_closing(evicted.as_ref());
                drop(ring);
                // Syncing and closing may take long on a network file system, so do it without the lock.
                self.late_errors.finish_closing(evicted);
            }
        }
        handle
    }

    fn evict(&self, ring: &mut VecDeque<usize>) -> Option<Arc<CachedFile>> {
        for _ in 0..ring.len() {
            let spared = ring.front().and_then(|&file| self.entries.get(file)).is_some_and(|s| s.used.swap(false));
            if !spared {
                break;
            }
            ring.rotate_left(1);
        }
        let file = ring.pop_front()?;
        self.entries.get(file)?.handle.write().take()
    }

    /// Records that the calling thread writes to the file, for as long as the result lives.
    pub fn writing(&self, file: usize) -> WriteGuard<'_> {
        let entry = self.entries.get(file);
        let was_only_writer = entry.is_none_or(|entry| entry.writers.add(1) == 0);
        let began = clock();
        let busy_since = match entry {
            Some(entry) if !was_only_writer => entry.busy_since.get().min(began),
            _ => began,
        };
        if let Some(entry) = entry.filter(|_| was_only_writer) {
            entry.busy_since.set(began);
        }
        WriteGuard { entry, began, was_only_writer, busy_since, is_cancelled: Cell::new(false) }
    }

    /// Remembers that btsync refuses to write to the file from now on.
    pub fn refuse(&self, file: usize) {
        if let Some(entry) = self.entries.get(file) {
            entry.refused.set(true);
        }
    }

    /// Whether [`FileCache::refuse`] was called.
    pub fn is_refused(&self, file: usize) -> bool {
        self.entries.get(file).is_some_and(|entry| entry.refused.is_set())
    }

    /// Remembers whether another program has changed the file.
    pub fn set_changed(&self, file: usize, is_changed: bool) {
        if let Some(entry) = self.entries.get(file) {
            entry.changed.set(is_changed);
        }
    }

    /// Whether another program has changed the file, according to the last [`FileCache::set_changed`].
    pub fn is_changed(&self, file: usize) -> bool {
        self.entries.get(file).is_some_and(|entry| entry.changed.is_set())
    }

    /// Remembers that the file has had this length.
    pub fn extend_to(&self, file: usize, end: u64) {
        if let Some(entry) = self.entries.get(file)
            && entry.furthest.get() < end
        {
            entry.furthest.raise(end);
        }
    }

    /// The greatest length passed to [`FileCache::extend_to`].
    pub fn furthest(&self, file: usize) -> u64 {
        self.entries.get(file).map_or(0, |entry| entry.furthest.get())
    }

    /// When the last write to the file that has ended began and ended.
    pub fn last_write_times(&self, file: usize) -> Option<(i64, i64)> {
        let entry = self.entries.get(file)?;
        let (begin, end) = (entry.last_write_times.0.get(), entry.last_write_times.1.get());
        (end > 0).then_some((begin, end))
    }

    /// Whether a thread is in the middle of a write to the file.
    pub fn is_being_written(&self, file: usize) -> bool {
        self.entries.get(file).is_some_and(|entry| entry.writers.get() > 0)
    }

    /// Remembers that the file was written to.
    pub fn mark_dirty(&self, file: usize) {
        if let Some(entry) = self.entries.get(file)
            && !entry.dirty.is_set()
        {
            entry.dirty.set(true);
        }
    }

    /// Whether the file was written to since the last call.
    #[cfg(any(test, feature = "internals"))]
    pub fn take_dirty(&self, file: usize) -> bool {
        self.entries.get(file).is_some_and(|entry| entry.dirty.swap(false))
    }

    /// Syncs the files on remote file systems that were written to; see [`LateErrors`].
    pub fn sync_remote(&self) {
        let ring = self.ring.lock();
        let open = ring.iter().filter_map(|file| self.entries.get(*file)?.handle.read().clone());
        let open: Vec<Arc<CachedFile>> = open.chain(self.late_errors.closing()).collect();
        drop(ring);
        for handle in open {
            handle.sync();
        }
    }

    /// Closes all files.
    pub fn clear(&self) {
        let open = std::mem::take(&mut *self.ring.lock());
        for entry in open.into_iter().filter_map(|file| self.entries.get(file)) {
            let handle = entry.handle.write().take();
            drop(handle);
        }
    }
}

/// The wall-clock time as file systems use it, in nanoseconds since 1970.
pub(crate) fn clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(writable: bool) -> OpenFile {
        OpenFile::new(tempfile::tempfile().unwrap(), writable)
    }

    #[test]
    fn the_bound_holds_and_used_files_stay_open() {
        let cache = FileCache::new(10, 3);
        for file in 0..10 {
            cache.put(file, handle(true));
            assert!(cache.get(0, true).is_some(), "file 0 is used all the time");
            assert!(cache.ring.lock().len() <= 3);
        }
        assert!(cache.get(9, true).is_some());
        assert!(cache.get(4, true).is_none());
        cache.clear();
        assert!(cache.ring.lock().is_empty() && cache.get(9, false).is_none());
    }

    #[test]
    fn a_file_is_being_written_while_any_thread_is_at_it() {
        let cache = FileCache::new(2, 2);
        let first = cache.writing(0);
        let second = cache.writing(0);
        assert!(cache.is_being_written(0) && !cache.is_being_written(1));
        drop(first);
        assert!(cache.is_being_written(0));
        drop(second);
        assert!(!cache.is_being_written(0) && !cache.is_being_written(7));
    }

    #[test]
    fn the_first_to_open_wins_unless_the_second_may_write() {
        let cache = FileCache::new(1, 1);
        let reading = cache.put(0, handle(false));
        assert!(cache.get(0, true).is_none());
        assert!(Arc::ptr_eq(&cache.put(0, handle(false)), &reading));
        let writing = cache.put(0, handle(true));
        assert!(writing.is_writable && cache.get(0, true).is_some());
        assert!(Arc::ptr_eq(&cache.put(0, handle(true)), &writing));
        assert_eq!(cache.ring.lock().len(), 1);
    }
}
