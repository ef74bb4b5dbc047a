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

use super::cache::{Handle, clock};
use super::changes::{counts_anew, may_be_marker};
use super::error::{Doing, StorageError};
use super::files::Storage;
use super::marker::{self, Marker, marker_name};
use super::open::Root;
use super::others::FolderLock;
use super::ownership::{Refusal, Step};
use super::seen::{identity, is_lasting, is_same};
use super::survey::Survey;
use crate::types::InfoHash;

/// While it writes, a process looks so often whether the marker is still its own, in nanoseconds.
const LOOK: i64 = 500_000_000;
/// How long a process waits for one that starts in the same folder, or for its own threads to let go of a file.
pub(super) const WAIT: Duration = Duration::from_secs(3);
/// Between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

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
    /// Whether the marker is needed after this run, for files that it did not want.
    is_kept: bool,
    looked: AtomicI64,
    is_released: AtomicBool,
}

/// A marker as it was found.
#[derive(Clone, Debug)]
pub struct FoundMarker {
    marker: Marker,
    /// It is the file that it was written as, not a copy.
    here: bool,
}

impl FoundMarker {
    /// Whether it says that btsync made this file.
    pub fn names(&self, path: &Path, identity: u64) -> bool {
        self.marker.names(path, identity, self.here)
    }

    /// Whether that is enough to take the file for ours: a number that the file system may have given again is not.
    pub fn proves(&self, path: &Path, identity: u64) -> bool {
        self.names(path, identity) && (!self.here || is_lasting(identity))
    }
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
    pub fn read_marker(&self, info_hash: &InfoHash) -> Option<FoundMarker> {
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
        let failed = |error: std::io::Error| StorageError::io(Doing::Open, &path)(error);
        let _folder = FolderLock::take(&self.root);
        self.heed_leftover(&beside(&name))?;
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
                Err(errno) => return Err(failed(errno.into())),
            };
            let found = file.metadata().map_err(failed)?;
            if !found.is_file() {
                return Err(StorageError::NotAFile { path });
            }
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
                is_kept: false,
                looked: AtomicI64::new(0),
                is_released: AtomicBool::new(false),
            };
            if lock.is_in_place(&self.root) {
                self.lock = Some(lock);
                return Ok(());
            }
        }
        Err(StorageError::InUse { path })
    }

    /// Writes into the marker which files are this download's: those to which `steps` has btsync write, as they are in `survey`
    /// now. To be called before the first byte of any of them is written, and after they were made.
    ///
    /// # Errors
    /// Where the marker cannot be written, or is not the one that this process has locked any more; where another torrent's download
    /// has made one of the files.
    pub fn mark(
        &mut self,
        info_hash: &InfoHash,
        steps: &[Step],
        survey: &Survey,
        given: bool,
    ) -> Result<(), StorageError> {
        let _folder = FolderLock::take(&self.root);
        self.compare_with_others(info_hash, steps, survey, given)?;
        self.confirm_lock()?;
        let mut marker = Marker::default();
        for (number, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.pad) {
            if let Some(seen) = survey.file(number) {
                let before = self.marker.as_ref().is_some_and(|found| found.names(&spec.path, seen.identity));
                if before || steps.get(number).is_some_and(|step| is_written(*step)) {
                    marker.made.insert(marker::place(&spec.path), seen.identity);
                } else {
                    marker.existed.push(spec.path.clone());
                }
            }
        }
        let made = self.layout.files().iter().enumerate();
        let wanted = made.filter(|(number, spec)| !spec.pad && self.wants(*number));
        let wanted = wanted.filter(|(_, spec)| marker.made.contains_key(&marker::place(&spec.path))).count();
        let is_kept = wanted < marker.made.len();
        if self.lock.is_some() {
            self.write_marker(info_hash, marker, is_kept)?;
        }
        let identity = |(number, step): (usize, &Step)| {
            survey.file(number).filter(|_| is_written(*step)).map(|seen| seen.identity)
        };
        self.writable = Some(steps.iter().enumerate().map(identity).collect());
        self.settled.store(clock(), Ordering::Relaxed);
        Ok(())
    }

    fn write_marker(&mut self, info_hash: &InfoHash, mut marker: Marker, is_kept: bool) -> Result<(), StorageError> {
        let name = marker_name(info_hash);
        let beside = beside(&name);
        let path = self.root.path().join(&name);
        let failed = |error: std::io::Error| StorageError::io(Doing::Write, &path)(error);
        self.heed_leftover(&beside)?;
        // Left behind by a process that was killed; whoever has the lock is alone with it.
        let _ = self.root.remove(&beside);
        let made = self.root.open_own(&beside, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL);
        let mut file = made.map_err(|errno| failed(errno.into()))?;
        let written = file.metadata().and_then(|found| {
            marker.identity = identity(&found);
            file.write_all(&marker.encode(info_hash))?;
            // On a file system without locks this has been told of already.
            let _ = try_lock(&file);
            self.root.rename(&beside, &name)?;
            Ok(id(&found))
        });
        let id = written.inspect_err(|_| drop(self.root.remove(&beside))).map_err(failed)?;
        let (looked, is_released) = (AtomicI64::new(0), AtomicBool::new(false));
        let file = Mutex::new(Some(file));
        self.lock = Some(Lock { name, file, id, is_new: false, is_kept, looked, is_released });
        self.marker = Some(FoundMarker { marker, here: true });
        Ok(())
    }

    /// The files that may be written to: their numbers and identities.
    pub fn owned(&self) -> Vec<(u32, u64)> {
        let writable = self.writable.iter().flatten().enumerate();
        writable.filter_map(|(number, identity)| Some((number as u32, (*identity)?))).collect()
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
            let before = lock.looked.load(Ordering::Relaxed);
            if now.abs_diff(before) < LOOK.unsigned_abs() {
                return Ok(());
            }
            lock.looked.store(now, Ordering::Relaxed);
        }
        if lock.is_released.load(Ordering::Relaxed) || lock.is_in_place(&self.root) {
            return Ok(());
        }
        Err(StorageError::LockLost { path: self.root.path().join(&lock.name) })
    }

    /// Gives up the right to write. The marker stays where the download is to be resumed; where it is `complete`, it goes.
    pub fn unlock(&self, complete: bool) {
        let Some(lock) = &self.lock else { return };
        lock.is_released.store(true, Ordering::Relaxed);
        let Some(file) = lock.file.lock().take() else { return };
        let needless = lock.is_new || (complete && !lock.is_kept);
        if needless
            && lock.is_in_place(&self.root)
            && let Err(error) = self.root.remove(&lock.name)
        {
            log::debug!("{}: cannot be removed: {error}", lock.name.display());
            // Then it must at least not say that the files are unfinished.
            let _ = file.set_len(0);
        }
    }

    /// Removes the marker of a download that was complete before it could do so itself: where all files that it names are
    /// among those that `steps` leaves as they are. What is in its way is no trouble, as a complete download needs no write.
    pub fn clear_marker(&mut self, info_hash: &InfoHash, steps: &[Step], survey: &Survey) {
        if self.is_needless(info_hash, steps, survey) && self.lock(info_hash).is_ok() {
            self.remove_needless(info_hash, steps, survey);
        }
    }

    /// Removes the marker that was just locked, and gives up the right to write. Until then another process may have put another
    /// marker there.
    fn remove_needless(&mut self, info_hash: &InfoHash, steps: &[Step], survey: &Survey) {
        if self.is_needless(info_hash, steps, survey) {
            self.unlock(true);
        }
        self.lock = None;
    }

    /// Whether there is a marker that names no file but those that are complete.
    fn is_needless(&self, info_hash: &InfoHash, steps: &[Step], survey: &Survey) -> bool {
        let Some(found) = self.read_marker(info_hash) else {
            // An empty one could not be removed when the download was complete.
            let name = marker_name(info_hash);
            return self.root.metadata(&name).is_ok_and(|found| found.is_file() && found.len() == 0);
        };
        let complete = |(number, spec): (usize, &super::FileSpec)| {
            let left = steps.get(number) == Some(&Step::Leave) && survey.file(number).is_some();
            (left && !spec.pad && self.wants(number)).then(|| marker::place(&spec.path))
        };
        let files = self.layout.files().iter().enumerate();
        let complete: std::collections::HashSet<u64> = files.filter_map(complete).collect();
        found.marker.made.keys().all(|place| complete.contains(place))
    }

    /// Refuses a file that was opened for writing and is none of those that btsync may write to: another program has put it in the
    /// place of ours.
    pub(super) fn is_ours(&self, slot: usize, handle: &Handle) -> Result<(), StorageError> {
        let Some(writable) = &self.writable else { return Ok(()) };
        let found = handle.file.metadata().map_err(|error| self.failed(Doing::Open, slot, error))?;
        let is_ours = match writable.get(slot) {
            Some(Some(ours)) if !is_lasting(*ours) => {
                let is_it = is_same(*ours, identity(&found)) || counts_anew(&handle.file);
                is_it && self.is_explained(slot, &found)
            }
            Some(ours) => ours.is_some_and(|ours| is_same(ours, identity(&found))),
            None => self.is_part_file(&found),
        };
        if is_ours { Ok(()) } else { Err(self.in_the_way(slot, Refusal::Appeared)) }
    }

    /// Locks a file that was opened for writing, so that no other process does the same; where another thread of this one was
    /// faster, its handle. The lock ends with the handle.
    pub(super) fn hold(&self, slot: usize, handle: &Handle) -> Result<Option<Arc<Handle>>, StorageError> {
        let deadline = Instant::now() + WAIT;
        // A file system without locks has been told of already.
        while let Ok(false) = try_lock(&handle.file) {
            // It may be held by a thread that still writes with a handle that is about to close.
            if let Some(opened) = self.cached(slot) {
                return Ok(Some(opened));
            }
            if Instant::now() >= deadline {
                return Err(StorageError::InUse { path: self.root.path().join(self.name(slot)) });
            }
            std::thread::sleep(PAUSE);
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

pub(super) fn is_written(step: Step) -> bool {
    matches!(step, Step::Make | Step::Continue | Step::Copy)
}

/// Reads a marker; one that makes no sense is none.
pub(super) fn read(root: &Root, info_hash: &InfoHash) -> Option<FoundMarker> {
    let file = root.open_own(&marker_name(info_hash), OFlags::RDONLY).ok()?;
    let found = file.metadata().ok().filter(|found| found.is_file() && found.len() <= marker::LONGEST)?;
    let mut bytes = Vec::new();
    file.take(marker::LONGEST).read_to_end(&mut bytes).ok()?;
    let marker = Marker::decode(&bytes, info_hash)?;
    Some(FoundMarker { here: marker.identity == identity(&found), marker })
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
