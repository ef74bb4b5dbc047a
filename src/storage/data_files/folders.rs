//! Looking at names, and creating and removing folders, without following any symbolic link.

use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::storage::data_files::FileJobError;
use crate::storage::error::{Operation, StorageError};
use crate::storage::exact_files;
use crate::storage::folder_mark::create_marked;
use crate::storage::open::{Root, file_name};
use crate::storage::snapshot::FileSnapshot;

/// The folder of a name; empty for the root itself.
pub(super) fn parent(name: &Path) -> &Path {
    name.parent().unwrap_or(Path::new(""))
}

/// For `map_err`: the error of doing `operation` to a name below `root`.
pub(super) fn failed(root: &Root, name: &Path, operation: Operation) -> impl Fn(io::Error) -> FileJobError {
    let path = root.path().join(name);
    move |error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => FileJobError::Link(path.clone()),
        Some(Errno::EXIST) => FileJobError::Exists(path.clone()),
        Some(Errno::NOTDIR) => StorageError::NotAFolder { path: path.clone() }.into(),
        _ => StorageError::io(operation, &path)(error).into(),
    }
}

/// What has this name, a symbolic link itself; `None` if nothing has.
pub(super) fn lookup(root: &Root, name: &Path) -> Result<Option<Metadata>, FileJobError> {
    let look = || {
        let folder = root.own_folder(parent(name))?;
        exact_files::look((folder.as_fd(), file_name(name)))
    };
    match root.with_retry(look) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).map_err(failed(root, name, Operation::Open)),
    }
}

/// The regular file that has this name. `None` if there is none, also because a link or a file is in the place of a folder above it.
/// Any other failure is an error: it does not say whether there is such a file.
pub(super) fn lookup_file(root: &Root, name: &Path) -> Result<Option<Metadata>, FileJobError> {
    match lookup(root, name) {
        Err(FileJobError::Link(_) | FileJobError::Storage(StorageError::NotAFolder { .. })) => Ok(None),
        found => Ok(found?.filter(Metadata::is_file)),
    }
}

/// Opens a folder, and creates it and those above it as needed.
pub(super) fn make_folders(root: &Root, folder: &Path) -> Result<OwnedFd, FileJobError> {
    let mut path = PathBuf::new();
    let made = |path: &Path, errno: Errno| failed(root, path, Operation::CreateFolder)(errno.into());
    let mut opened = root.own_folder(&path).map_err(|errno| made(&path, errno))?;
    for part in folder.components() {
        path.push(part);
        match create_marked(&opened, &path) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(made(&path, errno)),
        }
        opened = root.own_folder(&path).map_err(|errno| made(&path, errno))?;
    }
    Ok(opened)
}

/// Removes a name if it is still the file that was `seen`.
pub(super) fn remove_if_untouched(root: &Root, name: &Path, seen: &FileSnapshot) -> Result<(), FileJobError> {
    match lookup(root, name)? {
        None => Ok(()),
        Some(now) if seen.is_untouched(&now) => remove_if_ours(root, name, seen),
        Some(_) => Err(FileJobError::Changed(root.path().join(name))),
    }
}

/// Removes the original of a complete copy, unless somebody else has it open for writing.
pub(super) fn remove_original(root: &Root, name: &Path, seen: &FileSnapshot) -> Result<(), FileJobError> {
    match lookup(root, name)? {
        None => return Ok(()),
        Some(now) if seen.is_untouched(&now) => {}
        Some(_) => return Err(FileJobError::Changed(root.path().join(name))),
    }
    let remove_failed = failed(root, name, Operation::Remove);
    let is_open = |name: &Path| Ok(lookup(root, name)?.is_some_and(|found| root.is_open_elsewhere(name, &found)));
    let open_elsewhere = || FileJobError::OpenElsewhere(root.path().join(name));
    let folder = root.own_folder(parent(name)).map_err(|errno| remove_failed(errno.into()))?;
    match root.with_retry(|| exact_files::take_seen((folder.as_fd(), file_name(name)), seen)) {
        Ok(Some(taken)) => match is_open(&name.with_file_name(taken.temporary_name())) {
            Ok(false) => taken.remove().map_err(remove_failed),
            other => {
                taken.give_back();
                Err(other.err().unwrap_or_else(open_elsewhere))
            }
        },
        Ok(None) => Err(FileJobError::Changed(root.path().join(name))),
        // Perhaps it cannot get another name.
        Err(_) if is_open(name)? => Err(open_elsewhere()),
        Err(_) => remove_if_ours(root, name, seen),
    }
}

/// Removes a name if it is the file that was `seen`, perhaps under another name. A file that another program saves there at this
/// moment stays.
pub(super) fn remove_if_ours(root: &Root, name: &Path, seen: &FileSnapshot) -> Result<(), FileJobError> {
    let remove_failed = failed(root, name, Operation::Remove);
    let folder = match root.own_folder(parent(name)) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(|errno| remove_failed(errno.into()))?,
    };
    let is_it = |now: &Metadata| now.is_file() && exact_files::is_taken(&folder, seen, now);
    match root.with_retry(|| exact_files::remove_if((folder.as_fd(), file_name(name)), is_it)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(FileJobError::Changed(root.path().join(name))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(remove_failed(error)),
    }
}

/// Removes a name.
pub(super) fn remove(root: &Root, name: &Path) -> Result<(), FileJobError> {
    let removed = root.own_folder(parent(name)).and_then(|folder| {
        match rustix::fs::unlinkat(folder, file_name(name), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed,
        }
    });
    removed.map_err(|errno| failed(root, name, Operation::Remove)(errno.into()))
}

/// Waits until the disk has the names in a folder, as far as the file system can do that.
pub(super) fn sync_folder(folder: &impl AsFd) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let synced = rustix::fs::openat(folder, ".", flags, Mode::empty()).and_then(rustix::fs::fsync);
    if let Err(errno) = synced {
        log::debug!("a folder cannot be synced: {errno}");
    }
}
