//! Who may write to a download: the process that has locked the torrent's marker (`marker.rs`). Only writers lock; a download
//! that is complete is read by any number of processes, on read-only media too.
//!
//! The marker keeps two processes from the same torrent in the same folder. Different torrents may share a folder; that they do
//! not share a file is seen from each other's markers, and by a lock on each file that is open for writing, which also holds for
//! folders that overlap. While a process starts, it locks the folder itself for a moment: of two that want the same file
//! exactly one sees the other.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::storage::cache::{OpenFile, clock};
use crate::storage::changes::{is_on_fuse, may_be_marker};
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::marker::{self, Marker, marker_name};
use crate::storage::open::Root;
use crate::storage::other_downloads::FolderLock;
use crate::storage::ownership::{Claim, FileAction, Refusal};
use crate::storage::snapshot::{identity, is_permanent, is_same};
use crate::storage::survey::Survey;
use crate::types::InfoHash;

/// While it writes, a process looks so often whether the marker is still its own, in nanoseconds.
const CHECK_INTERVAL: i64 = 500_000_000;
/// How long a process waits for one that starts in the same folder, or for its own threads to let go of a file.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two tries.
pub(super) const LOCK_RETRY_DELAY: Duration = Duration::from_millis(5);

/// The marker that this process has locked.
#[derive(Debug)]
pub(super) struct Lock {
    name: PathBuf,
    /// Open for as long as the lock is held.
    file: Mutex<Option<File>>,
    /// Device and inode of the marker.
    id: (u64, u64),
    /// Whether this process made the marker, and it says nothing yet.
    is_new: bool,
    last_checked: AtomicI64,
    is_released: AtomicBool,
}

fn id(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Locks a file, or says that another process has; a file system without locks grants everything.
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
    /// What the torrent's marker says, where there is one. Only reads.
    pub fn read_marker(&self, info_hash: &InfoHash) -> Option<Marker> {
        read(&self.root, info_hash)
    }

    /// Whether this process holds the lock.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Looks whether another process downloads this torrent to this folder, without taking the lock from anybody.
    ///
    /// # Errors
    /// [`StorageError::InUse`] where one does.
    pub fn probe_lock(&self, info_hash: &InfoHash) -> Result<(), StorageError> {
        let name = marker_name(info_hash);
        let Ok(file) = self.root.open_own(&name, OFlags::RDONLY) else { return Ok(()) };
        let _folder = FolderLock::take(&self.root);
        match try_lock(&file) {
            Ok(false) => Err(StorageError::InUse { path: self.root.path().join(name) }),
            _ => Ok(()),
        }
    }

    /// Takes the right to write to the torrent's files, and makes the download folder where it is not there. Where that may not be
    /// written to, only the torrent's files themselves are locked.
    ///
    /// # Errors
    /// [`StorageError::InUse`] where another process has it; what the system says of a marker that cannot be made.
    pub fn lock(&mut self, info_hash: &InfoHash) -> Result<(), StorageError> {
        self.root.create()?;
        let name = marker_name(info_hash);
        let path = self.root.path().join(&name);
        let failed = |error: std::io::Error| StorageError::io(Operation::Open, &path)(error);
        let _folder = FolderLock::take(&self.root);
        self.check_leftover(&beside(&name))?;
        // Others may replace or remove it meanwhile, but not for ever.
        for _ in 0..100 {
            let (file, is_new) = match self.root.open_own(&name, OFlags::RDWR) {
                Ok(file) => (file, false),
                Err(Errno::NOENT) => match self.root.open_own(&name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
                    Ok(file) => (file, true),
                    Err(Errno::EXIST) => continue,
                    Err(Errno::ACCESS | Errno::PERM) => {
                        // The torrent's own folder below this one may well be writable; and the files are locked all the same.
                        log::warn!(
                            "{}: cannot be made; do not start another download of the same files",
                            path.display()
                        );
                        return Ok(());
                    }
                    Err(errno) => return Err(failed(errno.into())),
                },
                // A link, a folder, or a socket.
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
                    "{}: this file system has no locks ({errno}); do not start another download of the same files",
                    self.root.path().display()
                ),
            }
            let lock = Lock {
                name: name.clone(),
                file: Mutex::new(Some(file)),
                id: id(&found),
                is_new,
                last_checked: AtomicI64::new(0),
                is_released: AtomicBool::new(false),
            };
            if lock.is_in_place(&self.root) {
                self.lock = Some(lock);
                return Ok(());
            }
        }
        Err(StorageError::InUse { path })
    }

    /// Writes into the marker which files are this download's: those that btsync has made or was `given`, as they are in `survey`
    /// now, and which others it writes to. To be called before the first byte of any of them is written, and after they were made.
    ///
    /// # Errors
    /// Where the marker cannot be written, or is not the one that this process has locked any more; where another torrent's download
    /// has made one of the files.
    pub fn mark(
        &mut self,
        info_hash: &InfoHash,
        steps: &[FileAction],
        survey: &Survey,
        given: bool,
    ) -> Result<(), StorageError> {
        let _folder = FolderLock::take(&self.root);
        self.compare_with_others(info_hash, steps, survey, given)?;
        self.confirm_lock()?;
        let (mut marker, mut preexisting) = (Marker::default(), Vec::new());
        for (number, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.pad) {
            if let Some(seen) = survey.file(number) {
                let place = marker::place(&spec.path);
                let step = steps.get(number);
                let claim = self.marker.as_ref().map(|found| found.claims(&spec.path, seen.identity));
                // Pieces have shown that it is still the one which has another number by now.
                let is_begun = claim == Some(Claim::Begun) && step == Some(&FileAction::Continue);
                match step {
                    _ if claim == Some(Claim::Made) || is_begun => _ = marker.made.insert(place, seen.identity),
                    Some(FileAction::Make | FileAction::Copy | FileAction::Renew) => {
                        _ = marker.made.insert(place, seen.identity);
                    }
                    Some(FileAction::Continue) if given => _ = marker.made.insert(place, seen.identity),
                    step => {
                        marker.existed.push(spec.path.clone());
                        if step == Some(&FileAction::Continue) {
                            marker.continued.insert(place, seen.identity);
                            preexisting.push(number);
                        }
                    }
                }
            }
        }
        if let Some((name, identity)) = self.owned_part_file(survey) {
            marker.made.insert(marker::place(name), identity);
        }
        if self.lock.is_some() {
            self.write_marker(info_hash, marker)?;
        }
        let identity = |(number, step): (usize, &FileAction)| {
            survey.file(number).filter(|_| is_write_action(*step)).map(|seen| seen.identity)
        };
        self.writable = Some(steps.iter().enumerate().map(identity).collect());
        self.sized_at.store(clock(), Ordering::Relaxed);
        self.keep_open(steps, survey, preexisting);
        Ok(())
    }

    fn write_marker(&mut self, info_hash: &InfoHash, marker: Marker) -> Result<(), StorageError> {
        let name = marker_name(info_hash);
        let file = self.replace_marker(info_hash, &marker)?;
        let path = || self.root.path().join(&name);
        let id = id(&file.metadata().map_err(|error| StorageError::io(Operation::Write, &path())(error))?);
        let (last_checked, is_released) = (AtomicI64::new(0), AtomicBool::new(false));
        let file = Mutex::new(Some(file));
        self.lock = Some(Lock { name, file, id, is_new: false, last_checked, is_released });
        self.marker = Some(marker);
        Ok(())
    }

    /// Puts another marker, locked, in the place of the one that this process has locked.
    fn replace_marker(&self, info_hash: &InfoHash, marker: &Marker) -> Result<File, StorageError> {
        let name = marker_name(info_hash);
        let beside = beside(&name);
        let path = self.root.path().join(&name);
        let failed = |error: std::io::Error| StorageError::io(Operation::Write, &path)(error);
        self.check_leftover(&beside)?;
        // Left behind by a process that was killed; whoever has the lock is alone with it.
        let _ = self.root.remove(&beside);
        let made = self.root.open_own(&beside, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL);
        let mut file = made.map_err(|errno| failed(errno.into()))?;
        let written = file.write_all(&marker.encode(info_hash)).and_then(|()| {
            // On a file system without locks this has been told of already.
            let _ = try_lock(&file);
            self.root.rename(&beside, &name)
        });
        written.inspect_err(|_| drop(self.root.remove(&beside))).map_err(failed)?;
        Ok(file)
    }

    /// The files that may be written to: their numbers and identities. Behind the last one's number is the part file's.
    pub fn owned(&self) -> Vec<(u32, u64)> {
        let writable = self.writable.iter().flatten().enumerate();
        let parts = self.selection.identity().map(|identity| (self.layout.files().len() as u32, identity));
        writable.filter_map(|(number, identity)| Some((number as u32, (*identity)?))).chain(parts).collect()
    }

    /// Looks whether the right to write is still this process's.
    ///
    /// # Errors
    /// [`StorageError::LockLost`] where it is not.
    pub fn confirm_lock(&self) -> Result<(), StorageError> {
        self.check_lock(None)
    }

    /// Looks whether the right to write is still this process's: at most every half second, unless `now` is `None`.
    ///
    /// # Errors
    /// [`StorageError::LockLost`] where it is not.
    pub(super) fn check_lock(&self, now: Option<i64>) -> Result<(), StorageError> {
        let Some(lock) = &self.lock else { return Ok(()) };
        if let Some(now) = now {
            let before = lock.last_checked.load(Ordering::Relaxed);
            if now.abs_diff(before) < CHECK_INTERVAL.unsigned_abs() {
                return Ok(());
            }
            lock.last_checked.store(now, Ordering::Relaxed);
        }
        if lock.is_released.load(Ordering::Relaxed) || lock.is_in_place(&self.root) {
            return Ok(());
        }
        Err(StorageError::LockLost { path: self.root.path().join(&lock.name) })
    }

    /// Gives up the right to write. The marker stays, as the download is to be resumed.
    pub fn unlock(&self) {
        self.release(None);
    }

    /// `left`: what the marker is to say from now on; `None` where it stays as it is.
    pub(super) fn release(&self, left: Option<Marker>) {
        self.held.release();
        let Some(lock) = &self.lock else { return };
        lock.is_released.store(true, Ordering::Relaxed);
        let Some(file) = lock.file.lock().take() else { return };
        if !(lock.is_new || left.is_some()) || !lock.is_in_place(&self.root) {
            return;
        }
        let left =
            left.filter(|left| !left.made.is_empty()).zip(marker::marker_info_hash(&lock.name.to_string_lossy()));
        if left.is_some_and(|(left, info_hash)| self.replace_marker(&info_hash, &left).is_ok()) {
            return;
        }
        if let Err(error) = self.root.remove(&lock.name) {
            log::debug!("{}: cannot be removed: {error}", lock.name.display());
            // Then it must at least not say that the files are unfinished.
            let _ = file.set_len(0);
        }
    }

    /// Refuses a file that was opened for writing and is none of those that btsync may write to: another program has put it in the
    /// place of ours.
    pub(super) fn is_ours(&self, slot: usize, handle: &OpenFile) -> Result<(), StorageError> {
        let Some(writable) = &self.writable else { return Ok(()) };
        let found = handle.file.metadata().map_err(|error| self.failed(Operation::Open, slot, error))?;
        let is_ours = match writable.get(slot) {
            Some(Some(ours)) if !is_permanent(*ours) => self.held.is_same(slot, &found).unwrap_or_else(|| {
                let is_it = is_same(*ours, identity(&found)) || is_on_fuse(&handle.file);
                let has_same_size_and_mtime = || self.held.samples.fits(slot, &handle.file);
                is_it && self.matches_our_last_write(slot, &found) && has_same_size_and_mtime().unwrap_or(false)
            }),
            Some(ours) => ours.is_some_and(|ours| is_same(ours, identity(&found))),
            None => self.is_part_file(&found),
        };
        if is_ours { Ok(()) } else { Err(self.in_the_way(slot, Refusal::Appeared)) }
    }

    /// Locks a file that was opened for writing, so that no other process does the same; where another thread of this one was
    /// faster, its handle. The lock ends with the handle.
    pub(super) fn lock_open_file(&self, slot: usize, handle: &OpenFile) -> Result<Option<Arc<OpenFile>>, StorageError> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        // A file system without locks has been told of already.
        while let Ok(false) = try_lock(&handle.file) {
            // It may be held by a thread that still writes with a handle that is about to close.
            if let Some(opened) = self.cached(slot) {
                return Ok(Some(opened));
            }
            if Instant::now() >= deadline {
                return Err(StorageError::InUse { path: self.root.path().join(self.name(slot)) });
            }
            std::thread::sleep(LOCK_RETRY_DELAY);
        }
        Ok(None)
    }
}

impl Lock {
    /// Whether the marker is the file that this process has locked. Where the system cannot tell, it is believed to be.
    fn is_in_place(&self, root: &Root) -> bool {
        let found = root.folder().and_then(|folder| rustix::fs::statat(folder, &self.name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(found) => (found.st_dev, found.st_ino) == self.id,
            Err(errno) => errno != Errno::NOENT,
        }
    }
}

/// Where a marker is written before it takes its name.
fn beside(name: &Path) -> PathBuf {
    name.with_file_name(format!("{}.new", name.display()))
}

pub(super) fn is_write_action(step: FileAction) -> bool {
    matches!(step, FileAction::Make | FileAction::Continue | FileAction::Copy | FileAction::Renew)
}

/// Reads a marker; one that makes no sense is none.
pub(super) fn read(root: &Root, info_hash: &InfoHash) -> Option<Marker> {
    let file = root.open_own(&marker_name(info_hash), OFlags::RDONLY).ok()?;
    file.metadata().ok().filter(|found| found.is_file() && found.len() <= marker::MAX_MARKER_SIZE)?;
    let mut bytes = Vec::new();
    file.take(marker::MAX_MARKER_SIZE).read_to_end(&mut bytes).ok()?;
    Marker::decode(&bytes, info_hash)
}

#[cfg(test)]
mod tests;
