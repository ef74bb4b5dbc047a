//! Removes, replaces and renames exactly the file that btsync has examined. Another program may save a document under the file's name
//! at any moment, also between a look and the removal. So the file first gets a random name that no other program knows, and btsync
//! looks at it there. If it is another program's, it gets its name back.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::util::random;

/// A name in an open folder.
pub type NameIn<'a> = (BorrowedFd<'a>, &'a OsStr);

/// A file that was taken away: it has a random name in its folder.
pub struct FileTakenAway<'a> {
    folder: BorrowedFd<'a>,
    name: &'a OsStr,
    temporary: String,
}

/// What has this name, a symbolic link itself.
///
/// # Errors
/// If nothing has it, or it cannot be examined.
pub fn look((folder, name): NameIn<'_>) -> io::Result<Metadata> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?).metadata()
}

/// A hidden name that no other program knows.
pub fn random_name() -> String {
    format!(".{:08x}{:08x}.btsync-copy", random::u32(), random::u32())
}

/// Takes the file away if `is_it` accepts it by its name and then by the random one; otherwise `None`, and it keeps its name.
///
/// # Errors
/// If it cannot be examined or renamed.
pub fn take(at: NameIn<'_>, is_it: impl Fn(&OsStr) -> io::Result<bool>) -> io::Result<Option<FileTakenAway<'_>>> {
    if !is_it(at.1)? {
        return Ok(None);
    }
    let (folder, name) = at;
    let temporary = random_name();
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
    /// The random name that the file has now.
    pub fn temporary_name(&self) -> &str {
        &self.temporary
    }

    /// Removes the file.
    ///
    /// # Errors
    /// If it cannot be removed; then it has its name again.
    pub fn remove(self) -> io::Result<()> {
        let removed = rustix::fs::unlinkat(self.folder, &self.temporary, AtFlags::empty());
        Ok(removed.inspect_err(|_| self.give_back())?)
    }

    /// Gives the file its name back. If another file has that name by now, it keeps the random one.
    pub fn give_back(&self) {
        let names = ((self.folder, self.temporary.as_ref()), (self.folder, self.name));
        // Nobody else knows the random name.
        if let Err(errno) = rename_to_new(names.0, names.1, |_, _| true) {
            log::warn!(
                "{}: another program's file keeps the name {}, because it cannot be renamed back: {errno}",
                self.name.display(),
                self.temporary
            );
        }
    }
}

/// Removes the file if `is_it` accepts it before and after a rename. Returns whether it did. A symbolic link is looked at itself.
///
/// # Errors
/// If it cannot be examined, renamed or removed.
pub fn remove_if(at: NameIn<'_>, is_it: impl Fn(&Metadata) -> bool) -> io::Result<bool> {
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

/// Renames a file to a name that must be free. `is_same` compares the file by its new name with what has the old one.
///
/// # Errors
/// `EXIST` if the name is taken, even by a dangling symbolic link; or another error of the system.
pub fn rename_to_new(
    old: NameIn<'_>,
    new: NameIn<'_>,
    is_same: impl Fn(&Metadata, &Metadata) -> bool,
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(old.0, old.1, new.0, new.1, RenameFlags::NOREPLACE) {
        // A file system, or a sandbox, that does not support `NOREPLACE`.
        Err(Errno::INVAL | Errno::NOSYS) => rename_by_link(old, new, is_same),
        renamed => renamed,
    }
}

/// Like [`rename_to_new`]. The system refuses a hard link to a name that is taken, even by a dangling symbolic link.
pub fn rename_by_link(
    old: NameIn<'_>,
    new: NameIn<'_>,
    is_same: impl Fn(&Metadata, &Metadata) -> bool,
) -> Result<(), Errno> {
    match rustix::fs::linkat(old.0, old.1, new.0, new.1, AtFlags::empty()) {
        Ok(()) => {
            // Another program may just have saved its file under the old name.
            let removed = look(new).and_then(|ours| remove_old_name(old, |there| is_same(&ours, there)));
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

/// Whether both are one file.
pub fn is_same_inode(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Removes the old name of a file that has two, unless another file has it by now.
///
/// # Errors
/// As [`remove_if`], but it may be gone.
pub fn remove_old_name(old: NameIn<'_>, is_it: impl Fn(&Metadata) -> bool) -> io::Result<()> {
    match remove_if(old, is_it) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map(drop),
    }
}
