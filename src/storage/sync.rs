//! Flushes files to disk. Only callers who ask for it wait: written data survives the death of the process, but not a power
//! failure.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::storage::error::{Operation, StorageError, StorageErrorKind};
use crate::storage::files::Storage;

impl Storage {
    /// Waits until all written data is on disk.
    ///
    /// # Errors
    /// The system's error for the first file that fails.
    #[cfg(any(test, feature = "internals"))]
    pub fn sync(&self) -> Result<(), StorageError> {
        for file in 0..=self.layout.files().len() {
            if self.cache.take_dirty(file) {
                let synced = self.handle(file, true).and_then(|handle| {
                    handle.file.sync_data().map_err(|error| self.failed(Operation::Sync, file, error))
                });
                synced.inspect_err(|_| self.cache.mark_dirty(file))?;
            }
        }
        Ok(())
    }

    /// Waits until all wanted files and their names are on disk, whoever wrote them: the files, the part file, and all folders
    /// above them, because btsync may have created any of these.
    ///
    /// # Errors
    /// The system's error for the first file or folder that fails.
    pub fn sync_all(&self) -> Result<(), StorageError> {
        let mut folders = BTreeSet::from([Path::new("")]);
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad);
        for (file, spec) in files.filter(|(file, _)| self.placement.has_own_file(*file)) {
            match self.handle(file, false) {
                Ok(handle) => handle.file.sync_all().map_err(|error| self.failed(Operation::Sync, file, error))?,
                Err(error) if error.kind() == StorageErrorKind::Missing && !self.wants(file) => continue,
                Err(error) => return Err(error),
            }
            folders.extend(spec.path.ancestors().skip(1));
        }
        if self.placement.part_file_length() > 0 {
            let part_file = self.layout.files().len();
            let handle = self.handle(part_file, false)?;
            handle.file.sync_all().map_err(|error| self.failed(Operation::Sync, part_file, error))?;
        }
        for folder in folders.iter().rev() {
            self.sync_folder(&self.root.path().join(folder))?;
        }
        // The download folder may be new as well, and so may any folder above it.
        let root = std::fs::canonicalize(self.root.path()).unwrap_or_default();
        root.ancestors().skip(1).try_for_each(|folder| self.sync_folder(folder))
    }

    fn sync_folder(&self, path: &Path) -> Result<(), StorageError> {
        match self.root.with_retry(|| File::open(path)).and_then(|folder| folder.sync_all()) {
            // Some file systems cannot sync folders, and a folder that we may not list is not ours.
            Err(error) if cannot_sync(&error) => Ok(()),
            synced => synced.map_err(StorageError::io(Operation::Sync, path)),
        }
    }
}

fn cannot_sync(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::BADF)
    )
}
