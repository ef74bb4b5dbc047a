//! Replaces files by name: with a copy, or with a new file if they hold no data. Also handles files that an overlay file system
//! replaces by its own copy.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::storage::cache::OpenFile;
use crate::storage::download_mark;
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::fs_limits::{OVERLAY, file_system_type};
use crate::storage::layout::FileSpec;
use crate::storage::lock::try_lock;
use crate::storage::open::{Access, Root};
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::snapshot::{FileSnapshot, identity, is_same};
use crate::storage::survey::Survey;
use crate::util::random;

impl Storage {
    /// Replaces the file by a copy, or by a new file of zeros if it holds no data. The new file has the original's permissions
    /// and is no longer than the torrent says. The original must still be as it was `seen`.
    pub(super) fn replace_file(
        &self,
        file: usize,
        spec: &FileSpec,
        (action, seen): (FileAction, Option<&FileSnapshot>),
    ) -> Result<OpenFile, StorageError> {
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
        let temporary_name =
            spec.path.with_file_name(format!(".{:08x}{:08x}.btsync-copy", random::u32(), random::u32()));
        let copy = self.root.open(&temporary_name, Access::New)?;
        let copied = original.metadata().and_then(|found| {
            download_mark::set_download_mark(&copy.file, self.layout.final_name(file).unwrap_or(&spec.path));
            // Before the content, so that nobody can read it meanwhile who could not read the original.
            take_over_rights(&copy.file, &found)?;
            if action == FileAction::ReplaceEmpty {
                copy.file.set_len(found.len().min(spec.length))?;
            } else {
                io::copy(&mut (&original).take(spec.length), &mut &copy.file)?;
            }
            copy.file.metadata()
        });
        let replaced = copied.map_err(failed).and_then(|ours| {
            let now = self.root.metadata_inside(&spec.path).map_err(failed)?;
            let Some(seen) = seen.filter(|seen| seen.is_untouched(&now)) else { return Ok((false, ours)) };
            Ok((put_in_place(&self.root, (&temporary_name, &spec.path), seen, &ours).map_err(failed)?, ours))
        });
        match replaced {
            Ok((true, _)) => Ok(copy),
            Ok((false, ours)) => {
                remove_if(&self.root, &temporary_name, |there| is_same(identity(&ours), identity(there)));
                Err(self.in_the_way(file, Refusal::Changed))
            }
            Err(error) => {
                let ours = copy.file.metadata();
                remove_if(&self.root, &temporary_name, |there| {
                    ours.as_ref().is_ok_and(|ours| is_same(identity(ours), identity(there)))
                });
                Err(error)
            }
        }
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

/// Gives a new file the owner, group and mode of the file it replaces, as far as permitted; but not the setuid and setgid bits,
/// because the content comes from strangers.
pub(super) fn take_over_rights(file: &File, found: &Metadata) -> io::Result<()> {
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (found.uid(), found.gid())
        && fchown(file, Some(found.uid()), Some(found.gid())).is_err()
        && let Err(error) = fchown(file, None, Some(found.gid()))
    {
        log::debug!("a copy does not get the owner and group of the file that it replaces: {error}");
    }
    file.set_permissions(Permissions::from_mode(found.mode() & 0o777))
}

/// Exchanges our file `temporary_name` with the file at `name`, and removes the latter if it is the file that was `seen`.
/// Otherwise both get their names back, and the result is `false`. Files that another program puts in place of either meanwhile
/// stay.
fn put_in_place(
    root: &Root,
    (temporary_name, name): (&Path, &Path),
    seen: &FileSnapshot,
    ours: &Metadata,
) -> io::Result<bool> {
    // Another hard link changes the file, too.
    let is_it = |there: &Metadata| seen.has_same_identity_and_size(there) && seen.has_same_size_and_mtime(there);
    match root.rename_with(temporary_name, name, RenameFlags::EXCHANGE) {
        Err(error) if cannot_exchange(&error) => return put_if(root, (temporary_name, name), is_it),
        exchanged => exchanged?,
    }
    if root.metadata_inside(temporary_name).is_ok_and(|there| is_it(&there)) {
        if let Err(error) = root.remove(temporary_name) {
            log::warn!("{}: cannot be removed: {error}", root.path().join(temporary_name).display());
        }
        return Ok(true);
    }
    // `name` is now our file, unless another program has replaced it: then that newer file stays.
    if root.metadata_inside(name).is_ok_and(|there| is_same(identity(ours), identity(&there))) {
        root.rename_with(temporary_name, name, RenameFlags::EXCHANGE)?;
    }
    Ok(false)
}

/// Like [`put_in_place`] without an exchange. The exchange may have taken long to fail, so check again right before the rename.
fn put_if(root: &Root, (temporary_name, name): (&Path, &Path), is_it: impl Fn(&Metadata) -> bool) -> io::Result<bool> {
    let is_there = root.metadata_inside(name).is_ok_and(|there| is_it(&there));
    if is_there { root.rename(temporary_name, name).map(|()| true) } else { Ok(false) }
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
