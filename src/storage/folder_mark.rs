//! Marks the folders that btsync creates, so that it removes no others with a torrent: an empty folder of the user's may be part of
//! something, such as a Git repository.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::storage::open::file_name;

/// The extended attribute of folders that btsync created. Not every file system supports extended attributes.
const MARK: &str = "user.btsync.created";

/// Creates a folder in another one, and marks it. Returns `EXIST` if something has its name.
pub(super) fn create_marked(above: impl AsFd, name: &Path) -> Result<(), Errno> {
    rustix::fs::mkdirat(&above, file_name(name), Mode::from_raw_mode(0o777))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let marked = rustix::fs::openat(above, file_name(name), flags, Mode::empty())
        .and_then(|made| rustix::fs::fsetxattr(made, MARK, b"1", XattrFlags::empty()));
    if let Err(errno) = marked {
        log::debug!("{}: this folder is not marked as btsync's: {errno}", name.display());
    }
    Ok(())
}

/// Whether btsync created this folder, which is open for reading.
#[cfg(feature = "service")]
pub(super) fn has_folder_mark(folder: impl AsFd) -> bool {
    matches!(rustix::fs::fgetxattr(folder, MARK, &mut [0_u8; 1]), Ok(_) | Err(Errno::RANGE))
}
