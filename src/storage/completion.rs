//! When files are complete: confirms that they are all in place, and removes them from the marker (`marker.rs`), because later
//! changes to them are the user's.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::storage::error::shown;
use crate::storage::error::{Operation, StorageError, StorageErrorKind};
use crate::storage::files::Storage;
use crate::storage::lock::MarkerLock;
use crate::storage::marker::{self, Marker};
use crate::storage::ownership::Refusal;
use crate::storage::snapshot::identity;
use crate::storage::survey::Survey;
use crate::types::{Bitfield, InfoHash};

impl Storage {
    /// Gives up the right to write once every wanted piece is on disk, and removes the marker. If the marker names files that
    /// `have` does not complete, because this run did not want them, it stays and names only these. The same goes for files that
    /// have no final names yet.
    ///
    /// # Errors
    /// If no descriptor is free: then this process still has the right to write, and a later call tries again.
    pub fn finish(&self, have: &Bitfield) -> Result<(), StorageError> {
        // It has notes of this run.
        let info_hash = self.marker.lock.as_ref().and_then(MarkerLock::info_hash);
        match info_hash.map_or(Ok(None), |info_hash| self.read_marker(&info_hash)) {
            Ok(noted) => self.finish_with(noted, have),
            Err(error) if error.kind() == StorageErrorKind::TooManyFiles => Err(error),
            Err(error) => {
                log::warn!("{error}; the marker stays until a later run");
                self.remember_completed();
                self.release();
                Ok(())
            }
        }
    }

    /// Like [`Storage::finish`], with the marker as it is now.
    fn finish_with(&self, noted: Option<Marker>, have: &Bitfield) -> Result<(), StorageError> {
        self.remember_completed();
        let mut marker = noted.or_else(|| self.marker.content.clone()).unwrap_or_default();
        if self.safeguards.writable_identities.is_some() {
            marker.modified_at = 0; // This process has written until now.
        }
        self.remove_complete_files(&mut marker, have);
        self.release_with(marker)
    }

    /// Whether a wanted file is missing or too short, so that the download cannot be complete.
    pub fn has_missing_files(&self, survey: &Survey) -> bool {
        let mut files = self.layout.files().iter().enumerate().filter(|(file, spec)| !spec.is_pad && self.wants(*file));
        files.any(|(file, spec)| survey.file(file).is_none_or(|seen| seen.size < spec.length))
    }

    /// Confirms that every wanted file is still in place and has its full length: a file that was deleted or replaced while open
    /// accepts writes as before. Called when every wanted piece is on disk; unwanted files may be missing.
    ///
    /// # Errors
    /// For the first file that fails: the system's error, kind `StorageErrorKind::Missing`, or [`StorageError::InTheWay`] if
    /// another program has replaced or changed it. [`StorageError::Moved`] if the download folder was moved or replaced.
    #[cfg(any(test, feature = "internals"))]
    pub fn check_files_in_place(&self) -> Result<(), StorageError> {
        self.check_files_until(&|| false).map(|_| ())
    }

    /// Like [`Storage::check_files_in_place`], but returns `false` early if `is_over` becomes true: there may be very many files.
    ///
    /// # Errors
    /// As [`Storage::check_files_in_place`].
    pub fn check_files_until(&self, is_over: &dyn Fn() -> bool) -> Result<bool, StorageError> {
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad);
        let wanted = files.filter(|(file, _)| self.wants(*file)).map(|(file, spec)| (file, spec.length));
        let part_file =
            Some((self.layout.files().len(), self.placement.part_file_length())).filter(|(_, end)| *end > 0);
        for (file_index, length) in wanted.chain(part_file) {
            if is_over() {
                return Ok(false);
            }
            let there = self
                .root
                .metadata(self.name(file_index))
                .map_err(|error| self.failed(Operation::Open, file_index, error))?;
            if there.len() < length {
                return Err(self.too_short(file_index));
            }
            if length == 0 && there.len() > 0 {
                return Err(self.record_refusal(file_index, Refusal::Changed));
            }
            self.check_not_replaced(file_index, &there)?;
        }
        if self.is_root_in_place() { Ok(true) } else { Err(StorageError::Moved { path: self.root.path().to_owned() }) }
    }

    /// Removes the complete files from the marker of an earlier run that ended before it could do so itself. An obstacle does no
    /// harm: a complete download writes nothing.
    pub fn clear_marker(&mut self, info_hash: &InfoHash, have: &Bitfield) {
        if self.is_locked() || (self.names_complete(info_hash, have) && self.lock(info_hash).is_ok()) {
            self.clear_locked(info_hash, have);
        }
    }

    /// Like [`Storage::clear_marker`], with the marker already locked, and gives up the right to write. Reads the marker again:
    /// another process may have replaced it before the lock.
    pub(crate) fn clear_locked(&mut self, info_hash: &InfoHash, have: &Bitfield) {
        // An unreadable marker stays as it is.
        if let Ok(content) = self.read_marker(info_hash) {
            let names_complete = self.has_complete_file(content.clone(), info_hash, have);
            self.marker.content.clone_from(&content);
            if names_complete && let Err(error) = self.finish_with(content, have) {
                log::debug!("{error}; the marker stays until a later run");
            }
        }
        self.marker.lock = None;
    }

    /// A message for each wanted file that is longer than the torrent says; `size` returns a file's length by its number.
    pub fn describe_longer_files(&self, size: impl Fn(usize) -> Option<u64>) -> Vec<String> {
        let files = self.layout.files().iter().enumerate().filter(|(file, spec)| !spec.is_pad && self.wants(*file));
        let longer = files.filter_map(|(file, spec)| {
            let surplus = size(file)?.checked_sub(spec.length).filter(|surplus| *surplus > 0)?;
            let bytes = if surplus == 1 { "byte" } else { "bytes" };
            Some(format!(
                "{} is {surplus} {bytes} longer than the torrent says; btsync does not truncate it",
                shown(self.name(file))
            ))
        });
        longer.collect()
    }

    /// Like [`Storage::describe_longer_files`], with the files' current lengths.
    pub fn describe_longer_files_now(&self) -> Vec<String> {
        self.describe_longer_files(|file| self.root.metadata(self.name(file)).ok().map(|found| found.len()))
    }

    /// Whether there is a marker that names a complete file, or names no file.
    fn names_complete(&self, info_hash: &InfoHash, have: &Bitfield) -> bool {
        self.read_marker(info_hash).is_ok_and(|marker| self.has_complete_file(marker, info_hash, have))
    }

    /// The same for a marker that was read.
    fn has_complete_file(&self, marker: Option<Marker>, info_hash: &InfoHash, have: &Bitfield) -> bool {
        match marker {
            Some(mut marker) => self.remove_complete_files(&mut marker, have) || !marker.is_needed(),
            // An empty marker: btsync could not remove it when the download completed.
            None => {
                self.root.metadata(&self.marker_path(info_hash)).is_ok_and(|found| found.is_file() && found.len() == 0)
            }
        }
    }

    /// Removes the complete files from `marker`. Returns whether it named any of them.
    fn remove_complete_files(&self, marker: &mut Marker, have: &Bitfield) -> bool {
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad);
        let complete = files.filter(|(number, _)| self.layout.is_complete(*number, have));
        // Files of btsync's that this run did not want get their final names in a later run.
        let is_finished = |number: usize| self.wants(number) || self.layout.final_name(number).is_none();
        let finished = complete.filter(|(number, _)| is_finished(*number));
        let any = finished.fold(false, |any, (_, spec)| {
            let is_named = marker.remove_complete(&spec.path);
            // A process that was killed after it had renamed the file recorded it by the name before.
            let is_renamed = !is_named && marker.is_needed() && self.remove_renamed(marker, &spec.path);
            any || is_named || is_renamed
        });
        // A part file needs no marker of its own: its pieces identify it.
        let part_file = marker::path_hash(self.placement.name());
        if marker.created.keys().all(|path_hash| *path_hash == part_file) {
            marker.created.clear();
        }
        any
    }

    /// Removes the file from the marker if that names it by its former name. Returns whether it did.
    fn remove_renamed(&self, marker: &mut Marker, path: &Path) -> bool {
        let found = self.root.metadata_inside(path).ok().filter(|found| found.nlink() == 1);
        found.is_some_and(|found| marker.remove_identity(identity(&found)))
    }
}
