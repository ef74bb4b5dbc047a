//! Compares and changes the names of files: two names may lead to one file, because the file system ignores case.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::storage::data_files::FileJobError;
use crate::storage::data_files::folders::{failed, parent};
use crate::storage::error::Operation;
use crate::storage::exact_files;
use crate::storage::open::{Root, file_name};

/// How two names that both lead to a file are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameRelation {
    /// One name of one folder: there is nothing to rename.
    Same,
    /// One entry of one folder. It has the first spelling, and the file system finds it by the second one, too.
    OtherSpelling,
    /// Two entries, of one file or of two.
    Different,
}

/// How the names of two files that exist are related. The folder's list of entries decides, and not what a comparison of the files
/// says: a kernel may remember names, and some file systems invent the numbers of files.
pub(super) fn relation(
    (source, from): (&Root, &Path),
    (target, to): (&Root, &Path),
) -> Result<NameRelation, FileJobError> {
    let folder = |root: &Root, name: &Path| {
        let opened = root.own_folder(parent(name))?;
        let found = rustix::fs::fstat(&opened)?;
        Ok((opened, (found.st_dev, found.st_ino)))
    };
    let read_failed = failed(source, from, Operation::Read);
    let (opened, from_folder) = folder(source, from).map_err(|errno: Errno| read_failed(errno.into()))?;
    let (_, to_folder) = folder(target, to).map_err(|errno: Errno| read_failed(errno.into()))?;
    if from_folder != to_folder {
        return Ok(NameRelation::Different);
    }
    if file_name(from) == file_name(to) {
        return Ok(NameRelation::Same);
    }
    let is_listed = listed(&opened, [file_name(from), file_name(to)]).map_err(|errno| read_failed(errno.into()))?;
    Ok(match is_listed {
        [true, true] => NameRelation::Different,
        [true, false] => NameRelation::OtherSpelling,
        // The new spelling, or one that the file system prefers to both.
        [false, _] => NameRelation::Same,
    })
}

/// Whether two storages have the same download folder.
pub(super) fn is_same_folder(a: &Root, b: &Root) -> bool {
    let id = |root: &Root| root.path().metadata().map(|found| (found.dev(), found.ino())).ok();
    let found = id(a);
    found.is_some() && found == id(b)
}

/// Which of these names a folder has in exactly this spelling.
fn listed(folder: &impl AsFd, names: [&OsStr; 2]) -> Result<[bool; 2], Errno> {
    let mut found = [false, false];
    // `folder` itself may be open for its path only.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(rustix::fs::openat(folder, ".", flags, Mode::empty())?)? {
        let entry = entry?;
        for (found, name) in found.iter_mut().zip(names) {
            *found |= entry.file_name().to_bytes() == name.as_bytes();
        }
    }
    Ok(found)
}

/// Gives a file another spelling of its name, for which [`relation`] says [`NameRelation::OtherSpelling`]. Some file systems only do
/// that by way of another name, `temporary`. If it fails, the file has its old name.
pub(super) fn change_spelling(root: &Root, (from, to): (&Path, &Path), temporary: &Path) -> Result<(), FileJobError> {
    let rename_failed = |errno: Errno| failed(root, to, Operation::Rename)(errno.into());
    let folder = root.own_folder(parent(from)).map_err(rename_failed)?;
    // There is one file, so nothing is replaced.
    rustix::fs::renameat(&folder, file_name(from), &folder, file_name(to)).map_err(rename_failed)?;
    let is_listed = listed(&folder, [file_name(from), file_name(to)]).map_err(rename_failed)?;
    if is_listed != [true, false] {
        return Ok(());
    }
    rename_to_new((&folder, from), (&folder, temporary)).map_err(rename_failed)?;
    rename_to_new((&folder, temporary), (&folder, to)).map_err(|errno| {
        if let Err(errno) = rename_to_new((&folder, temporary), (&folder, from)) {
            log::error!("{}: cannot be renamed back: {errno}", root.path().join(temporary).display());
        }
        rename_failed(errno)
    })
}

/// Renames a file to a name that must be free.
pub(super) fn rename_to_new(
    (old_folder, from): (&impl AsFd, &Path),
    (new_folder, to): (&impl AsFd, &Path),
) -> Result<(), Errno> {
    exact_files::rename_to_new((old_folder.as_fd(), file_name(from)), (new_folder.as_fd(), file_name(to)))
}
