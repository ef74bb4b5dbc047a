//! Removes, replaces and renames exactly the file that btsync has examined. Another program may save a document under the file's name
//! at any moment, also between a look and the removal. So the file first gets a random name that no other program knows, and btsync
//! looks at it there. If it is another program's, it gets its name back.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::storage::fs_limits::{OVERLAY, file_system_type};
use crate::storage::open::{Root, file_name};
use crate::storage::snapshot::FileSnapshot;
use crate::util::random;

/// A name in an open folder.
pub(super) type NameIn<'a> = (BorrowedFd<'a>, &'a OsStr);

/// A file that was taken away: it has a random name in its folder.
pub(super) struct FileTakenAway<'a> {
    folder: BorrowedFd<'a>,
    name: &'a OsStr,
    temporary: String,
}

/// What has this name, a symbolic link itself.
fn look((folder, name): NameIn<'_>) -> io::Result<Metadata> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?).metadata()
}

/// Whether `now` is the file that was `seen` before btsync renamed it, with its length and its modification time.
pub(super) fn is_taken(folder: impl AsFd, seen: &FileSnapshot, now: &Metadata) -> bool {
    // Renaming a file of a lower layer copies it.
    let may_be_copied = || file_system_type(folder) == Some(OVERLAY);
    seen.has_same_size_and_mtime(now) && (seen.is_renamed(now) || may_be_copied())
}

/// Takes the file away if `is_it` accepts it by its name and then by the random one; otherwise `None`, and it keeps its name.
pub(super) fn take(
    at: NameIn<'_>,
    is_it: impl Fn(&OsStr) -> io::Result<bool>,
) -> io::Result<Option<FileTakenAway<'_>>> {
    if !is_it(at.1)? {
        return Ok(None);
    }
    let (folder, name) = at;
    let temporary = format!(".{:08x}{:08x}.btsync-copy", random::u32(), random::u32());
    rustix::fs::renameat(folder, name, folder, &temporary)?;
    let taken = FileTakenAway { folder, name, temporary };
    match is_it(taken.temporary.as_ref()) {
        Ok(true) => Ok(Some(taken)),
        other => {
            taken.give_back();
            other.map(|_| None)
        }
    }
}

impl FileTakenAway<'_> {
    /// Removes the file.
    pub fn remove(self) -> io::Result<()> {
        let removed = rustix::fs::unlinkat(self.folder, &self.temporary, AtFlags::empty());
        Ok(removed.inspect_err(|_| self.give_back())?)
    }

    /// Gives the file its name back. If another file has that name by now, it keeps the random one.
    pub fn give_back(&self) {
        let names = ((self.folder, self.temporary.as_ref()), (self.folder, self.name));
        if let Err(errno) = rename_to_new(names.0, names.1) {
            log::warn!(
                "{}: another program's file keeps the name {}, because it cannot be renamed back: {errno}",
                self.name.display(),
                self.temporary
            );
        }
    }
}

/// Removes the file if `is_it` accepts it before and after a rename. Returns whether it did. A symbolic link is looked at itself.
pub(super) fn remove_if(at: NameIn<'_>, is_it: impl Fn(&Metadata) -> bool) -> io::Result<bool> {
    let is_it = |name: &OsStr| look((at.0, name)).map(|found| is_it(&found));
    match take(at, is_it) {
        // A full disk may have no room for the other name, and some file systems of FUSE do not rename: a look has to suffice.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOSPC | Errno::DQUOT | Errno::NOSYS)) => {
            let accepted = is_it(at.1)?;
            if accepted {
                rustix::fs::unlinkat(at.0, at.1, AtFlags::empty())?;
            }
            Ok(accepted)
        }
        Ok(Some(taken)) => taken.remove().map(|()| true),
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Root {
    /// Removes a file of the download folder if it is the one that was `seen`. Returns whether it did.
    pub fn remove_if(&self, name: &Path, seen: &FileSnapshot) -> io::Result<bool> {
        let folder = self.folder_of(name)?;
        self.with_retry(|| remove_if((folder.as_fd(), file_name(name)), |now| is_taken(&folder, seen, now)))
    }
}

/// Renames a file to a name that must be free.
pub(super) fn rename_to_new(old: NameIn<'_>, new: NameIn<'_>) -> Result<(), Errno> {
    match rustix::fs::renameat_with(old.0, old.1, new.0, new.1, RenameFlags::NOREPLACE) {
        // A file system, or a sandbox, that does not support `NOREPLACE`.
        Err(Errno::INVAL | Errno::NOSYS) => rename_by_link(old, new),
        renamed => renamed,
    }
}

/// Like [`rename_to_new`]. The system refuses a hard link to a name that is taken, even by a dangling symbolic link.
fn rename_by_link(old: NameIn<'_>, new: NameIn<'_>) -> Result<(), Errno> {
    match rustix::fs::linkat(old.0, old.1, new.0, new.1, AtFlags::empty()) {
        Ok(()) => {
            // Another program may just have saved its file under the old name.
            let removed = look(new).and_then(|found| {
                let ours = FileSnapshot::of(&found);
                remove_old_name(old, |there| ours.is_renamed(there))
            });
            removed.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        }
        // Without hard links (some file systems of FUSE say `ROFS`): checking first must suffice.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::ROFS) => {
            match rustix::fs::statat(new.0, new.1, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(old.0, old.1, new.0, new.1),
                Err(errno) => Err(errno),
            }
        }
        Err(errno) => Err(errno),
    }
}

/// Removes the old name of a file that has two, unless another file has it by now.
fn remove_old_name(old: NameIn<'_>, is_it: impl Fn(&Metadata) -> bool) -> io::Result<()> {
    match remove_if(old, is_it) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map(drop),
    }
}

#[cfg(test)]
mod tests;
