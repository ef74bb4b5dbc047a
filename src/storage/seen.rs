//! A file as the system describes it at one moment, and whether another moment's is the same one.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

/// A file as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its length in bytes.
    pub size: u64,
    /// How many names it has.
    pub links: u64,
    /// Its number in the file system.
    pub inode: u64,
    /// What tells it from every other file that ever had its name: see `identity`.
    pub identity: u64,
    /// When it was last changed, in nanoseconds since 1970 or as good as.
    pub(super) changed: (i64, i64),
    pub(super) modified: (i64, i64),
}

impl Seen {
    /// As the system describes it.
    pub(super) fn of(found: &Metadata) -> Seen {
        Seen {
            size: found.size(),
            links: found.nlink(),
            inode: found.ino(),
            identity: identity(found),
            changed: (found.ctime(), found.ctime_nsec()),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }

    /// Whether it is still that file, with the length that it had.
    pub(super) fn is_unchanged(&self, now: &Metadata) -> bool {
        is_same(self.identity, identity(now)) && self.size == now.size()
    }
}

/// When a file was made, which nobody can set: inode numbers are given again as soon as a file is deleted, and some file
/// systems count them anew at each mount. The inode number where the file system does not keep that time.
pub(super) fn identity(found: &Metadata) -> u64 {
    let born = found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let born = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).filter(|nanos| *nanos > 0);
    born.unwrap_or_else(|| found.ino() | NO_BIRTH)
}

/// Set in an [`identity`] that is an inode number.
const NO_BIRTH: u64 = 1 << 63;

/// Whether a file that this process has seen is the one that it opens now. Inode numbers say nothing: some file systems give a
/// file another one when it was closed for a while.
pub(super) fn is_same(before: u64, now: u64) -> bool {
    before == now || (before & NO_BIRTH != 0 && now & NO_BIRTH != 0)
}
