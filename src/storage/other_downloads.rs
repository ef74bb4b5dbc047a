//! Other torrents' downloads in the same folder: they may share the folder, but no file in it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Instant;

use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::lock::{LOCK_RETRY_DELAY, LOCK_TIMEOUT, is_write_action, open_marker, read, try_lock};
use crate::storage::marker;
use crate::storage::open::Root;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::survey::Survey;
use crate::types::InfoHash;
use crate::util::descriptors::is_shortage;

/// A lock on the download folder, held while a starting process compares its files with other downloads' markers.
pub(crate) struct FolderLock {
    _folder: Option<File>,
}

impl FolderLock {
    /// Takes the lock. If the folder cannot be locked, or another process holds it too long, the markers have to suffice.
    pub fn take(root: &Root) -> FolderLock {
        let Ok(folder) = root.with_retry(|| File::open(root.path())) else { return FolderLock { _folder: None } };
        let deadline = Instant::now() + LOCK_TIMEOUT;
        while matches!(try_lock(&folder), Ok(false)) && Instant::now() < deadline {
            std::thread::sleep(LOCK_RETRY_DELAY);
        }
        FolderLock { _folder: Some(folder) }
    }
}

impl Storage {
    /// Checks whether another torrent's unfinished download has made a file that this one would write to. With `may_overwrite`,
    /// returns the numbers of these files instead of an error: the other download would resume them later unless they get
    /// replaced.
    ///
    /// # Errors
    /// [`StorageError::InUse`] if the other download runs; [`StorageError::InTheWay`] if it does not and the user did not allow
    /// overwriting.
    pub fn check_other_downloads(
        &self,
        info_hash: &InfoHash,
        actions: &[FileAction],
        survey: &Survey,
        may_overwrite: bool,
    ) -> Result<Vec<usize>, StorageError> {
        let _folder = FolderLock::take(&self.root);
        self.compare_with_others(info_hash, actions, survey, may_overwrite)
    }

    pub(crate) fn compare_with_others(
        &self,
        info_hash: &InfoHash,
        actions: &[FileAction],
        survey: &Survey,
        may_overwrite: bool,
    ) -> Result<Vec<usize>, StorageError> {
        let mut taken = Vec::new();
        for (marker_path, other) in self.markers()?.into_iter().filter(|(_, other)| other != info_hash) {
            let Some(found) = read(&self.root, &marker_path, &other)? else { continue };
            let has =
                |number: &usize| survey.file(*number).is_some_and(|seen| found.uses(self.name(*number), seen.identity));
            let Some(number) = write_targets(actions).find(has) else { continue };
            let file = open_marker(&self.root, &marker_path)?;
            if file.is_some_and(|file| matches!(try_lock(&file), Ok(false))) {
                return Err(StorageError::InUse { path: self.root.path().join(marker_path) });
            }
            if !may_overwrite {
                let path = self.root.path().join(self.name(number));
                return Err(StorageError::InTheWay { path, why: Refusal::Unfinished(other), more: 0 });
            }
            taken.extend(write_targets(actions).filter(has));
        }
        Ok(taken)
    }

    /// All markers where other torrents with files in the same folders have them.
    fn markers(&self) -> Result<Vec<(PathBuf, InfoHash)>, StorageError> {
        let mut markers = Vec::new();
        for folder in [Some(PathBuf::new()), self.torrent_folder()].into_iter().flatten() {
            let path = self.root.path().join(&folder);
            let entries = match self.root.with_retry(|| fs::read_dir(&path)) {
                Err(error) if is_shortage(&error) => return Err(StorageError::io(Operation::Open, &path)(error)),
                // No such folder, or one that cannot be listed.
                entries => entries.into_iter().flatten().flatten(),
            };
            let marker = |name: OsString| Some((folder.join(&name), marker::marker_info_hash(name.to_str()?)?));
            markers.extend(entries.filter_map(|entry| marker(entry.file_name())));
        }
        Ok(markers)
    }
}

/// The numbers of the files that btsync writes to.
fn write_targets(actions: &[FileAction]) -> impl Iterator<Item = usize> {
    actions.iter().enumerate().filter(|(_, action)| is_write_action(**action)).map(|(number, _)| number)
}
