//! Gives up the right to write to a download, and replaces or removes the marker.

use std::fs::File;

use crate::storage::error::{StorageError, StorageErrorKind};
use crate::storage::files::Storage;
use crate::storage::lock::MarkerLock;
use crate::storage::marker::Marker;

impl Storage {
    /// Gives up the right to write. A marker with content stays, so that a later run can resume the download.
    pub fn unlock(&self) {
        if self.safeguards.writable_identities.is_some() {
            self.record_stop();
        }
        self.release();
    }

    /// Gives up the right to write, and replaces the marker by `new_marker`, or removes one that is no longer needed.
    ///
    /// # Errors
    /// If no descriptor is free for the new marker: then nothing has changed.
    pub(super) fn release_with(&self, new_marker: Marker) -> Result<(), StorageError> {
        let needed = Some(new_marker).filter(Marker::is_needed);
        let Some(lock) = self.marker.lock.as_ref().filter(|lock| self.holds_lock() && lock.is_in_place(&self.root))
        else {
            self.release();
            return Ok(());
        };
        if let Some((marker, info_hash)) = needed.as_ref().zip(lock.info_hash()) {
            // From now on, another file has the marker's name.
            lock.is_released.set(true);
            match self.replace_marker(&info_hash, marker) {
                Err(error) if error.kind() == StorageErrorKind::TooManyFiles => {
                    lock.is_released.set(false);
                    return Err(error);
                }
                Err(error) => log::debug!("{error}"),
                Ok(_) => {
                    self.give_up_lock();
                    return Ok(());
                }
            }
        }
        if let Some(file) = self.give_up_lock() {
            self.remove_marker(lock, &file);
        }
        Ok(())
    }

    /// Gives up the right to write, and keeps the marker as it is, unless it has no content.
    pub(super) fn release(&self) {
        let Some((lock, file)) = self.marker.lock.as_ref().zip(self.give_up_lock()) else { return };
        if lock.is_new && lock.is_in_place(&self.root) {
            self.remove_marker(lock, &file);
        }
    }

    /// Gives up the right to write. Returns the marker, which is locked as long as it is open.
    fn give_up_lock(&self) -> Option<File> {
        self.safeguards.pinned.release();
        let lock = self.marker.lock.as_ref()?;
        lock.is_released.set(true);
        lock.file.lock().take()
    }

    fn remove_marker(&self, lock: &MarkerLock, file: &File) {
        if let Err(error) = self.root.remove(&lock.name) {
            log::debug!("{}: cannot be removed: {error}", lock.name.display());
            // Then at least it must not say that the files are unfinished.
            let _ = file.set_len(0);
        }
    }
}
