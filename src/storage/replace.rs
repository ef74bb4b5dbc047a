//! Replaces files by name: with a copy, or with a new file if they hold no data. Also handles files that an overlay file system
//! replaces by its own copy.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::storage::cache::OpenFile;
use crate::storage::download_mark;
use crate::storage::error::{Operation, StorageError};
use crate::storage::exact_files;
use crate::storage::file_rights::take_over_rights;
use crate::storage::files::Storage;
use crate::storage::fs_limits::{OVERLAY, file_system_type};
use crate::storage::late_errors::sync_if_remote;
use crate::storage::layout::FileSpec;
use crate::storage::lock::try_lock;
use crate::storage::open::{Access, Root, file_name};
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::snapshot::{FileSnapshot, identity, is_same};
use crate::storage::survey::Survey;

impl Storage {
    /// Replaces the file by a copy, or by a new file of zeros if it holds no data. The new file has the original's permissions
    /// and is no longer than the torrent says. The original must still be as it was `seen`. If it held no data, it may have a temporary
    /// name afterwards, which is the second result: [`Storage::remove_replaced`] removes it.
    pub(super) fn replace_file(
        &self,
        file: usize,
        spec: &FileSpec,
        (action, seen): (FileAction, Option<&FileSnapshot>),
    ) -> Result<(OpenFile, Option<PathBuf>), StorageError> {
        let failed = |error| self.failed(Operation::Copy, file, error);
        let original = self.root.open(&spec.path, Access::Read)?.file;
        if matches!(try_lock(&original), Ok(false)) {
            return Err(StorageError::InUse { path: self.root.path().join(&spec.path) });
        }
        // The user made a symbolic link, and so its empty target is the user's too.
        if action == FileAction::ReplaceEmpty && self.root.may_be_link(&spec.path) {
            return Err(self.in_the_way(file, Refusal::Changed));
        }
        // A random name: a file that a killed process left behind looks like one of the user's, so it stays.
        let temporary_name = spec.path.with_file_name(exact_files::random_name());
        let copy = self.root.open(&temporary_name, Access::New)?;
        let copied = original.metadata().and_then(|found| {
            self.make_like((file, spec), action, &copy.file, (&original, &found))?;
            if action != FileAction::ReplaceEmpty {
                io::copy(&mut (&original).take(spec.length), &mut &copy.file)?;
                sync_if_remote(&copy.file)?;
            }
            Ok((copy.file.metadata()?, found))
        });
        let replaced = copied.map_err(failed).and_then(|(ours, found)| {
            let now = self.root.metadata_inside(&spec.path).map_err(failed)?;
            let Some(seen) = seen.filter(|seen| seen.is_untouched(&now)) else {
                return Ok((Placement::Refused, None, ours));
            };
            let names = (temporary_name.as_path(), spec.path.as_path());
            let keeps_old = action == FileAction::ReplaceEmpty && !self.safeguards.may_replace_open.is_set();
            let (placed, old) = put_in_place(&self.root, names, seen, (&ours, action, keeps_old))?;
            if let Placement::New(new) = &placed {
                self.make_like((file, spec), action, &new.file, (&original, &found)).map_err(failed)?;
            }
            Ok((placed, old, ours))
        });
        let ours = match &replaced {
            Ok((Placement::Copy, ..)) => None,
            Ok((.., ours)) => Some(ours.clone()),
            Err(_) => copy.file.metadata().ok(),
        };
        if let Some(ours) = ours {
            remove_if(&self.root, &temporary_name, |there| is_same(identity(&ours), identity(there)));
        }
        match replaced? {
            (Placement::Copy, old, _) => Ok((copy, old)),
            (Placement::New(new), old, _) => Ok((new, old)),
            (Placement::Refused, ..) => Err(self.in_the_way(file, Refusal::Changed)),
        }
    }

    /// Prepares the new file that replaces the one that was `found`.
    fn make_like(
        &self,
        (file, spec): (usize, &FileSpec),
        action: FileAction,
        new: &File,
        (original, found): (&File, &Metadata),
    ) -> io::Result<()> {
        download_mark::set_download_mark(new, self.layout.final_name(file).unwrap_or(&spec.path));
        // Before the content, so that nobody can read it meanwhile who could not read the original.
        take_over_rights(new, original, found)?;
        let length = if action == FileAction::ReplaceEmpty { found.len().min(spec.length) } else { 0 };
        // Some file systems of FUSE do not change the open file but that of the same name, which may be another program's by now.
        if length > 0 { new.set_len(length) } else { Ok(()) }
    }

    /// Whether the download folder is on an overlay file system, as in containers. Opening a file of a lower layer for writing
    /// copies it to the upper layer, and the copy is a different file.
    pub(super) fn is_layered(&self) -> bool {
        self.root.folder().is_ok_and(|folder| file_system_type(folder) == Some(OVERLAY))
    }

    /// Makes the overlay file system copy an existing file that btsync will write to, and records the copy in `survey`. If
    /// another file is there by now, the survey stays as it is, and the first write reports it.
    pub(super) fn copy_up(&self, file: usize, survey: &mut Survey) {
        let Some(seen) = survey.files.get_mut(file).and_then(Option::as_mut) else { return };
        let name = self.name(file);
        if !self.root.metadata_inside(name).is_ok_and(|found| seen.is_untouched(&found)) {
            return;
        }
        // If it cannot be opened, the first write reports why.
        let Ok(opened) = self.root.open(name, Access::Write) else { return };
        if let Ok(found) = opened.file.metadata()
            && seen.has_same_size_and_mtime(&found)
        {
            *seen = FileSnapshot::of(&found);
        }
    }
}

/// What is now at the name of the file to be replaced.
#[derive(Debug)]
enum Placement {
    /// Our copy.
    Copy,
    /// A new, empty file, if names cannot be exchanged. The copy has its temporary name.
    New(OpenFile),
    /// Another program's file, or the same one with other content. The copy has its temporary name.
    Refused,
}

/// Exchanges our file `temporary_name` with the file at `name`, and removes the latter if it is the file that was `seen`, or, with
/// `keeps_old`, returns its temporary name. Otherwise both get their names back. Files that another program puts in place of either
/// meanwhile stay.
fn put_in_place(
    root: &Root,
    (temporary_name, name): (&Path, &Path),
    seen: &FileSnapshot,
    (ours, action, keeps_old): (&Metadata, FileAction, bool),
) -> Result<(Placement, Option<PathBuf>), StorageError> {
    let failed = |error| StorageError::io(Operation::Copy, &root.path().join(name))(error);
    // Another hard link changes the file, too.
    let is_it = |there: &Metadata| seen.has_same_identity_and_size(there) && seen.has_same_size_and_mtime(there);
    match root.rename_with(temporary_name, name, RenameFlags::EXCHANGE) {
        Err(error) if cannot_exchange(&error) => {
            return put_without_exchange(root, (temporary_name, name), seen, (action, keeps_old));
        }
        exchanged => exchanged.map_err(failed)?,
    }
    if root.metadata_inside(temporary_name).is_ok_and(|there| is_it(&there)) {
        if keeps_old {
            return Ok((Placement::Copy, Some(temporary_name.to_owned())));
        }
        if let Err(error) = root.remove(temporary_name) {
            log::warn!("{}: cannot be removed: {error}", root.path().join(temporary_name).display());
        }
        return Ok((Placement::Copy, None));
    }
    // `name` is now our file, unless another program has replaced it: then that newer file stays.
    if root.metadata_inside(name).is_ok_and(|there| is_same(identity(ours), identity(&there))) {
        root.rename_with(temporary_name, name, RenameFlags::EXCHANGE).map_err(failed)?;
    }
    Ok((Placement::Refused, None))
}

/// Like [`put_in_place`]. First takes the old file away, so that the name is free, and then takes the name only if it still is.
fn put_without_exchange(
    root: &Root,
    (temporary_name, name): (&Path, &Path),
    seen: &FileSnapshot,
    (action, keeps_old): (FileAction, bool),
) -> Result<(Placement, Option<PathBuf>), StorageError> {
    let failed = |error| StorageError::io(Operation::Copy, &root.path().join(name))(error);
    let folder = root.folder_of(name).map_err(|errno| failed(errno.into()))?;
    let at = |name| (folder.as_fd(), file_name(name));
    // Of a link, its target is compared.
    let is_it = |there: &OsStr| {
        let found = root.metadata_inside(&name.with_file_name(there))?;
        Ok(exact_files::is_taken(&folder, seen, &found))
    };
    let taken = root.with_retry(|| exact_files::take(at(name), is_it)).map_err(failed)?;
    let Some(old) = taken else { return Ok((Placement::Refused, None)) };
    let placed = if action == FileAction::ReplaceEmpty {
        // Some file systems of FUSE can only create a file without replacing another, and not rename one.
        root.open(name, Access::New).map(Placement::New)
    } else {
        match exact_files::rename_to_new(at(temporary_name), at(name)) {
            Err(Errno::EXIST) => Ok(Placement::Refused),
            renamed => renamed.map(|()| Placement::Copy).map_err(|errno| failed(errno.into())),
        }
    };
    let placed = match placed {
        // Another program has just replaced the old file itself.
        Err(StorageError::InTheWay { .. }) => Placement::Refused,
        placed => placed.inspect_err(|_| old.give_back())?,
    };
    if keeps_old && !matches!(placed, Placement::Refused) {
        return Ok((placed, Some(name.with_file_name(old.temporary_name()))));
    }
    old.remove().unwrap_or_else(|error| log::warn!("{}: cannot be removed: {error}", name.display()));
    Ok((placed, None))
}

/// Whether an error says that the system or the file system cannot exchange names.
fn cannot_exchange(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

/// Removes a file if `is_it` accepts it.
fn remove_if(root: &Root, name: &Path, is_it: impl Fn(&Metadata) -> bool) {
    if root.metadata_inside(name).is_ok_and(|there| is_it(&there)) {
        let _ = root.remove(name);
    }
}

#[cfg(test)]
mod tests;
