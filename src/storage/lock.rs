//! The right to write to a download belongs to the process that has locked the torrent's marker (`marker.rs`). Only writers lock;
//! any number of processes may read a complete download, on read-only media too.
//!
//! The marker keeps two processes from the same torrent in the same folder. Different torrents may share a folder but no file:
//! each checks the other's marker, and also locks each file that it opens for writing, which works for overlapping folders too.
//! While a process starts, it briefly locks the folder itself, so that of two processes that want the same file exactly one sees
//! the other.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::storage::cache::{OpenFile, clock};
use crate::storage::changes::{is_on_fuse, may_be_marker, mtime};
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::late_errors::CachedFile;
use crate::storage::marker::{self, Marker};
use crate::storage::open::Root;
use crate::storage::other_downloads::FolderLock;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::snapshot::{identity, is_permanent, is_same};
use crate::storage::survey::Survey;
use crate::types::InfoHash;
use crate::util::atomics::{Flag, Time};

/// How often a writing process checks that the marker is still its own, in nanoseconds.
const LOCK_CHECK_INTERVAL: i64 = 500_000_000;
/// How long to wait for another process that starts in the same folder, or for our own threads to close a file.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// The delay between two attempts.
pub(super) const LOCK_RETRY_DELAY: Duration = Duration::from_millis(5);

/// The marker that this process has locked.
#[derive(Debug)]
pub(super) struct MarkerLock {
    pub(super) name: PathBuf,
    /// Open for as long as the lock is held.
    pub(super) file: Mutex<Option<File>>,
    /// Device and inode of the marker.
    id: (u64, u64),
    /// Whether this process created the marker and has not written to it yet.
    pub(super) is_new: bool,
    last_checked: Time,
    /// When the marker's time was last updated to show that this process is running, in nanoseconds since 1970.
    pub(super) touched_at: Time,
    pub(super) is_released: Flag,
}

fn id(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Locks a file; `false` if another process has locked it. A file system without locks returns an error.
pub(super) fn try_lock(file: &impl AsFd) -> Result<bool, Errno> {
    loop {
        return match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno),
        };
    }
}

impl Storage {
    /// The torrent's marker, if there is one. Only reads.
    ///
    /// # Errors
    /// If it cannot be read, so that it is unknown whose the files are.
    pub fn read_marker(&self, info_hash: &InfoHash) -> Result<Option<Marker>, StorageError> {
        read(&self.root, &self.marker_path(info_hash), info_hash)
    }

    /// Whether this process has taken the lock; also after `unlock`.
    pub fn is_locked(&self) -> bool {
        self.marker.lock.is_some()
    }

    /// Checks whether another process downloads this torrent to this folder, without keeping the lock.
    ///
    /// # Errors
    /// [`StorageError::InUse`] if one does.
    pub fn probe_lock(&self, info_hash: &InfoHash) -> Result<(), StorageError> {
        let name = self.marker_path(info_hash);
        let Some(file) = open_marker(&self.root, &name)? else { return Ok(()) };
        let _folder = FolderLock::take(&self.root);
        match try_lock(&file) {
            Ok(false) => Err(StorageError::InUse { path: self.root.path().join(name) }),
            _ => Ok(()),
        }
    }

    /// Takes the right to write to the torrent's files, and creates the download folder if needed. If the folder is not writable,
    /// only the torrent's files themselves get locked.
    ///
    /// # Errors
    /// [`StorageError::InUse`] if another process has the right; the system's error if the marker cannot be created.
    pub fn lock(&mut self, info_hash: &InfoHash) -> Result<(), StorageError> {
        self.root.create()?;
        let name = self.marker_path(info_hash);
        let path = self.root.path().join(&name);
        let failed = |error: std::io::Error| StorageError::io(Operation::Open, &path)(error);
        let _folder = FolderLock::take(&self.root);
        self.check_leftover(&temporary_name(&name))?;
        // Another process may replace or remove the marker meanwhile, but not for ever.
        for _ in 0..100 {
            let (file, is_new) = match self.root.open_own(&name, OFlags::RDWR) {
                Ok(file) => (file, false),
                Err(Errno::NOENT) => match self.root.open_own(&name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
                    Ok(file) => (file, true),
                    Err(Errno::EXIST) => continue,
                    Err(Errno::ACCESS | Errno::PERM) => {
                        // The torrent's own folder below this one may still be writable, and the files get locked anyway.
                        log::warn!(
                            "{}: cannot be created; do not start another download of the same files",
                            path.display()
                        );
                        return Ok(());
                    }
                    Err(errno) => return Err(failed(errno.into())),
                },
                // A symbolic link, a folder or a socket.
                Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                    return Err(StorageError::InTheWay { path, why: Refusal::NotOurs, more: 0 });
                }
                Err(errno) => return Err(failed(errno.into())),
            };
            let found = file.metadata().map_err(failed)?;
            if !may_be_marker(&file) {
                return Err(StorageError::InTheWay { path, why: Refusal::NotOurs, more: 0 });
            }
            match try_lock(&file) {
                Ok(true) => {}
                Ok(false) => return Err(StorageError::InUse { path }),
                Err(errno) => log::warn!(
                    "{}: this file system does not support locks ({errno}); do not start another download of the same files",
                    self.root.path().display()
                ),
            }
            let lock = MarkerLock {
                name: name.clone(),
                file: Mutex::new(Some(file)),
                id: id(&found),
                is_new,
                last_checked: Time::default(),
                touched_at: Time::default(),
                is_released: Flag::default(),
            };
            if lock.is_in_place(&self.root) {
                self.marker.lock = Some(lock);
                return Ok(());
            }
        }
        Err(StorageError::InUse { path })
    }

    /// Records in the marker which files belong to this download: those that btsync made, with `may_overwrite` also those that it
    /// continues, as `survey` has them now. Also records which other files it writes to. Call it after creating the files and
    /// before writing the first byte to any of them.
    ///
    /// # Errors
    /// If the marker cannot be written or is no longer the one that this process locked; if another torrent's download has made
    /// one of the files.
    pub fn record_ownership(
        &mut self,
        info_hash: &InfoHash,
        actions: &[FileAction],
        survey: &Survey,
        may_overwrite: bool,
    ) -> Result<(), StorageError> {
        let _folder = FolderLock::take(&self.root);
        self.compare_with_others(info_hash, actions, survey, may_overwrite)?;
        self.confirm_lock()?;
        let (ran_until, earliest_write) = (self.ran_until(actions, survey), self.earliest_write(actions, survey));
        let mut marker = Marker { ran_until, earliest_write, ..Marker::default() };
        let mut preexisting = Vec::new();
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad);
        for (number, seen) in files.filter_map(|(number, _)| Some((number, survey.file(number)?))) {
            if self.record_file(&mut marker, info_hash, (number, seen, actions.get(number)), may_overwrite) {
                preexisting.push(number);
            }
        }
        if let Some((name, identity)) = self.owned_part_file(survey) {
            marker.created.insert(marker::path_hash(name), identity);
        }
        if self.marker.lock.is_some() {
            self.write_marker(info_hash, marker)?;
        }
        let identity = |(number, action): (usize, &FileAction)| {
            survey.file(number).filter(|_| is_write_action(*action)).map(|seen| seen.identity)
        };
        self.safeguards.writable_identities = Some(actions.iter().enumerate().map(identity).collect());
        self.safeguards.times.sized_at.set(clock());
        self.remember_times(survey, actions);
        self.remember_verified(survey);
        self.keep_open(actions, survey, preexisting);
        Ok(())
    }

    fn write_marker(&mut self, info_hash: &InfoHash, marker: Marker) -> Result<(), StorageError> {
        let name = self.marker_path(info_hash);
        let file = self.replace_marker(info_hash, &marker)?;
        let failed = |error| StorageError::io(Operation::Write, &self.root.path().join(&name))(error);
        let id = id(&file.metadata().map_err(failed)?);
        let (last_checked, touched_at, is_released) = (Time::default(), Time::new(clock()), Flag::default());
        let file = Mutex::new(Some(file));
        self.marker.notes.complete.lock().clear();
        self.marker.notes.edited.lock().clear();
        self.marker.notes.unwritten.lock().clear();
        self.marker.lock = Some(MarkerLock { name, file, id, is_new: false, last_checked, touched_at, is_released });
        self.marker.content = Some(marker);
        Ok(())
    }

    /// Replaces the marker that this process has locked by another one, locked too.
    pub(super) fn replace_marker(&self, info_hash: &InfoHash, marker: &Marker) -> Result<File, StorageError> {
        let name = self.marker_path(info_hash);
        let temporary_name = temporary_name(&name);
        let path = self.root.path().join(&name);
        let failed = |error: std::io::Error| StorageError::io(Operation::Write, &path)(error);
        self.check_leftover(&temporary_name)?;
        // Left behind by a killed process; only the owner of the lock touches it.
        let _ = self.root.remove(&temporary_name);
        let made = self.root.open_own(&temporary_name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL);
        let mut file = made.map_err(|errno| failed(errno.into()))?;
        let written = file.write_all(&marker.encode(info_hash)).and_then(|()| {
            marker.restore_time(&file);
            // `Storage::lock` has already warned about a file system without locks.
            let _ = try_lock(&file);
            self.root.rename(&temporary_name, &name)
        });
        written.inspect_err(|_| drop(self.root.remove(&temporary_name))).map_err(failed)?;
        Ok(file)
    }

    /// Checks that this process still has the right to write.
    ///
    /// # Errors
    /// [`StorageError::LockLost`] if it does not.
    pub fn confirm_lock(&self) -> Result<(), StorageError> {
        self.check_lock(None)
    }

    /// Checks that this process still has the right to write: at most every half second, unless `now` is `None`.
    ///
    /// # Errors
    /// [`StorageError::LockLost`] if it does not.
    pub(super) fn check_lock(&self, now: Option<i64>) -> Result<(), StorageError> {
        let Some(lock) = &self.marker.lock else { return Ok(()) };
        if let Some(now) = now {
            let before = lock.last_checked.get();
            if now.abs_diff(before) < LOCK_CHECK_INTERVAL.unsigned_abs() {
                return Ok(());
            }
            lock.last_checked.set(now);
            self.show_running(lock, now);
        }
        if lock.is_released.is_set() || lock.is_in_place(&self.root) {
            return Ok(());
        }
        Err(StorageError::LockLost { path: self.root.path().join(&lock.name) })
    }

    /// Refuses a file opened for writing that is not one of those btsync may write to: another program has replaced ours.
    pub(super) fn check_is_ours(&self, file_index: usize, handle: &OpenFile) -> Result<(), StorageError> {
        let Some(writable) = &self.safeguards.writable_identities else { return Ok(()) };
        let found = handle.file.metadata().map_err(|error| self.failed(Operation::Open, file_index, error))?;
        let is_ours = match writable.get(file_index) {
            Some(Some(ours)) if !is_permanent(*ours) => {
                self.safeguards.pinned.is_same(file_index, &found).unwrap_or_else(|| {
                    let is_it = is_same(*ours, identity(&found)) || is_on_fuse(&handle.file);
                    let fits = || self.safeguards.pinned.samples.fits(file_index, &handle.file);
                    is_it && self.matches_our_last_write(file_index, &found) && fits().unwrap_or(false)
                })
            }
            Some(ours) => ours.is_some_and(|ours| is_same(ours, identity(&found))),
            None => self.is_part_file(&found),
        };
        if is_ours { Ok(()) } else { Err(self.in_the_way(file_index, Refusal::Appeared)) }
    }

    /// Locks a file opened for writing, so that no other process writes to it. If another thread of this process was faster,
    /// returns its handle. The lock ends with the handle.
    pub(super) fn lock_open_file(
        &self,
        file_index: usize,
        handle: &OpenFile,
    ) -> Result<Option<Arc<CachedFile>>, StorageError> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        // `Storage::lock` has already warned about a file system without locks.
        while let Ok(false) = try_lock(&handle.file) {
            // One of our threads may still write with a handle that is about to close.
            if let Some(opened) = self.cached(file_index) {
                return Ok(Some(opened));
            }
            if Instant::now() >= deadline {
                return Err(StorageError::InUse { path: self.root.path().join(self.name(file_index)) });
            }
            std::thread::sleep(LOCK_RETRY_DELAY);
        }
        Ok(None)
    }
}

impl MarkerLock {
    /// Whether the marker is still the file that this process locked. If the system cannot tell, it counts as in place.
    pub(super) fn is_in_place(&self, root: &Root) -> bool {
        let found = root.folder().and_then(|folder| rustix::fs::statat(folder, &self.name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(found) => (found.st_dev, found.st_ino) == self.id,
            Err(errno) => errno != Errno::NOENT,
        }
    }
}

/// The temporary name of a new marker before it replaces the old one.
pub(super) fn temporary_name(name: &Path) -> PathBuf {
    let file_name = name.file_name().unwrap_or_default();
    name.with_file_name(format!("{}.new", file_name.display()))
}

pub(super) fn is_write_action(action: FileAction) -> bool {
    matches!(action, FileAction::Create | FileAction::Continue | FileAction::Copy | FileAction::ReplaceEmpty)
}

/// Opens a marker for reading; `None` if there is none, or if this user may not read it. Any other failure is an error.
pub(super) fn open_marker(root: &Root, name: &Path) -> Result<Option<File>, StorageError> {
    match root.open_own(name, OFlags::RDONLY) {
        Ok(file) => Ok(Some(file)),
        // A link, a folder, a socket or a device has its name, or a file that of its folder.
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::NODEV | Errno::ACCESS | Errno::PERM) => {
            Ok(None)
        }
        Err(errno) => Err(StorageError::io(Operation::Open, &root.path().join(name))(errno.into())),
    }
}

/// Reads a marker; `None` if it is missing or invalid.
pub(super) fn read(root: &Root, name: &Path, info_hash: &InfoHash) -> Result<Option<Marker>, StorageError> {
    let Some(file) = open_marker(root, name)? else { return Ok(None) };
    let failed = |error: std::io::Error| StorageError::io(Operation::Read, &root.path().join(name))(error);
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() || found.len() > marker::MAX_MARKER_SIZE {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(marker::MAX_MARKER_SIZE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Marker::decode(&bytes, info_hash).map(|marker| Marker { modified_at: mtime(&found), ..marker }))
}

#[cfg(test)]
mod tests;
