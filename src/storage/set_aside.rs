//! Files that are removed in two steps, because a program that has one of them open would lose what it writes later. First the file
//! gets a name that no other program knows, so that nobody else opens it. Then btsync looks who has it open for writing. One such look
//! at all processes serves many files.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use crate::storage::error::StorageError;
use crate::storage::exact_files;
use crate::storage::files::Storage;
use crate::storage::open::file_name;
use crate::storage::open_elsewhere::SearchedFiles;
use crate::storage::ownership::Refusal;
use crate::storage::snapshot::FileSnapshot;

/// At most this many files wait for a look at all processes: if btsync is killed, they keep their temporary names.
pub(super) const MAX_SET_ASIDE: usize = 128;

/// A file with a temporary name.
#[derive(Debug)]
pub(super) struct FileSetAside {
    pub number: usize,
    /// The temporary name, relative to the download folder.
    pub name: PathBuf,
    /// The file as it was before it got this name.
    pub seen: FileSnapshot,
}

/// A file without data that btsync has replaced by one of its own.
#[derive(Debug)]
pub(super) struct ReplacedOriginal {
    pub old: FileSetAside,
    /// The file that has its name now.
    pub ours: FileSnapshot,
}

impl Storage {
    /// Gives a file a temporary name if it is the one that was `seen`.
    ///
    /// # Errors
    /// If it cannot be examined or renamed.
    pub(super) fn set_aside(
        &self,
        number: usize,
        name: &Path,
        seen: &FileSnapshot,
    ) -> io::Result<Option<FileSetAside>> {
        let folder = self.root.folder_of(name)?;
        let taken = self.root.with_retry(|| exact_files::take_seen((folder.as_fd(), file_name(name)), seen))?;
        Ok(taken.map(|taken| FileSetAside { number, name: name.with_file_name(taken.temporary_name()), seen: *seen }))
    }

    /// Removes the files that nobody has open for writing and nobody has written to meanwhile. Returns the others.
    pub(super) fn remove_set_aside(&self, files: Vec<FileSetAside>) -> Vec<FileSetAside> {
        let mut searched = SearchedFiles::default();
        for (index, file) in files.iter().enumerate() {
            if let Ok(found) = self.root.metadata_inside(&file.name) {
                searched.add(index, &file.name, &found);
            }
        }
        let open = searched.open_elsewhere(&self.root);
        let is_used = |index: usize, file: &FileSetAside| {
            let found = self.root.metadata_inside(&file.name);
            open.contains(&index) || found.is_ok_and(|found| !file.seen.has_same_size_and_mtime(&found))
        };
        let mut used = Vec::new();
        for (index, file) in files.into_iter().enumerate() {
            if is_used(index, &file) {
                used.push(file);
            } else if let Err(error) = self.root.remove(&file.name) {
                log::warn!("{}: cannot be removed: {error}", self.root.path().join(&file.name).display());
            }
        }
        used
    }

    /// Gives a file its name back, unless another file has it by now.
    pub(super) fn give_back(&self, file: &FileSetAside) {
        let name = self.name(file.number);
        let renamed = self.root.folder_of(name).and_then(|folder| {
            exact_files::rename_to_new((folder.as_fd(), file_name(&file.name)), (folder.as_fd(), file_name(name)))
        });
        if let Err(errno) = renamed {
            let (name, temporary) = (name.display(), self.root.path().join(&file.name));
            log::warn!(
                "{name}: another program uses this file, which now has the name {}: {errno}",
                temporary.display()
            );
        }
    }

    /// Removes the files that btsync has replaced. Those that somebody else may still write to get their names back.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] with the first of the latter.
    pub(super) fn remove_replaced(&self, replaced: Vec<ReplacedOriginal>) -> Result<(), StorageError> {
        if replaced.is_empty() {
            return Ok(());
        }
        let (ours, old): (Vec<_>, Vec<_>) =
            replaced.into_iter().map(|ReplacedOriginal { old, ours }| ((old.number, ours), old)).unzip();
        let used = self.remove_set_aside(old);
        let is_used = |number: usize| used.iter().any(|file| file.number == number);
        self.remove_unused(ours.into_iter().filter(|(number, _)| is_used(*number)));
        for file in &used {
            self.give_back(file);
        }
        used.first().map_or(Ok(()), |file| Err(self.in_the_way(file.number, Refusal::OpenElsewhere)))
    }
}

#[cfg(test)]
mod tests;
