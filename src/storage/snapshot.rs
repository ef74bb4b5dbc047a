//! A file's metadata at one moment, and whether the metadata of another moment belongs to the same file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha1::{Digest, Sha1};

/// A file's metadata when it was examined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSnapshot {
    /// The length in bytes.
    pub size: u64,
    /// The number of hard links.
    pub links: u64,
    /// The inode number.
    pub inode: u64,
    /// Distinguishes the file from every other file that ever had its name: see `identity`.
    pub identity: u64,
    /// The change time (ctime) as seconds since 1970 and nanoseconds.
    pub(crate) ctime: (i64, i64),
    pub(crate) mtime: (i64, i64),
}

/// Distinguishes a file from all others while this process runs, whichever name it is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// See `identity`; file systems with coarse timestamps give the same one to several files.
    pub identity: u64,
    /// The inode number.
    pub inode: u64,
}

impl FileIdentity {
    /// The identity of the file at `path`, following symbolic links; `None` if there is no file.
    pub fn at(path: &Path) -> Option<FileIdentity> {
        let found = path.metadata().ok()?;
        Some(FileIdentity { identity: identity(&found), inode: found.ino() })
    }

    /// Whether no other file will ever have this identity.
    pub fn is_permanent(self) -> bool {
        is_permanent(self.identity)
    }
}

impl FileSnapshot {
    /// The part of the snapshot that distinguishes the file from others.
    pub fn file_identity(&self) -> FileIdentity {
        FileIdentity { identity: self.identity, inode: self.inode }
    }

    /// Takes the snapshot from `found`.
    pub(crate) fn of(found: &Metadata) -> FileSnapshot {
        FileSnapshot {
            size: found.size(),
            links: found.nlink(),
            inode: found.ino(),
            identity: identity(found),
            ctime: (found.ctime(), found.ctime_nsec()),
            mtime: (found.mtime(), found.mtime_nsec()),
        }
    }

    /// The change time (ctime), in nanoseconds since 1970; nobody can set it.
    pub(crate) fn changed_at(&self) -> i64 {
        nanos(self.ctime)
    }

    /// The modification time (mtime), in nanoseconds since 1970; anyone may set it.
    pub(crate) fn modified_at(&self) -> i64 {
        nanos(self.mtime)
    }

    /// Whether it is still this file, and nobody has written to it, renamed it or linked it.
    pub(crate) fn is_untouched(&self, now: &Metadata) -> bool {
        let later = FileSnapshot::of(now);
        self.has_same_identity_and_size(now) && self.ctime == later.ctime && self.mtime == later.mtime
    }

    /// Whether `now` is this file under another name.
    pub(crate) fn is_renamed(&self, now: &Metadata) -> bool {
        let later = FileSnapshot::of(now);
        let has_same_size_and_mtime =
            !is_permanent(self.identity) && (self.size, self.mtime) == (later.size, later.mtime);
        is_same(self.identity, later.identity) || has_same_size_and_mtime
    }

    /// Whether the length and modification time are the same. A copy that an overlay file system made of the file keeps both.
    pub(crate) fn has_same_size_and_mtime(&self, now: &Metadata) -> bool {
        let later = FileSnapshot::of(now);
        (self.size, self.mtime) == (later.size, later.mtime)
    }

    /// Whether it is still this file with the same length.
    pub(crate) fn has_same_identity_and_size(&self, now: &Metadata) -> bool {
        is_same(self.identity, identity(now)) && self.size == now.size()
    }
}

/// A time as seconds since 1970 and nanoseconds, in nanoseconds.
pub(super) fn nanos((seconds, nanos): (i64, i64)) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Distinguishes a file from every other one. It combines the inode number, which the file system reuses as soon as the file is
/// deleted, with the creation time, which nobody can set and which files created in the same clock tick share. If both are the
/// same it is the same file, today and after a restart.
///
/// If the file system keeps no creation time, or only a coarse one like FAT, which also renumbers files, the identity proves
/// nothing to a later run: see [`is_permanent`].
pub(crate) fn identity(found: &Metadata) -> u64 {
    let born = found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    identity_of(found.dev(), found.ino(), born.map(|since| since.as_nanos()).filter(|nanos| *nanos > 0))
}

/// Device numbers change at the next boot, so a permanent identity does not include them.
fn identity_of(device: u64, inode: u64, born: Option<u128>) -> u64 {
    match born {
        Some(nanos) if !nanos.is_multiple_of(COARSE_BIRTH) => hash(&[inode.into(), nanos]) & !TEMPORARY,
        Some(nanos) => hash(&[device.into(), nanos]) | TEMPORARY,
        None => hash(&[device.into(), inode.into()]) | TEMPORARY,
    }
}

fn hash(parts: &[u128]) -> u64 {
    let digest = Sha1::digest(parts.iter().flat_map(|part| part.to_be_bytes()).collect::<Vec<u8>>());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// FAT and exFAT store creation times in hundredths of a second.
const COARSE_BIRTH: u128 = 10_000_000;
/// The bit that marks an [`identity`] as meaningless to another run.
const TEMPORARY: u64 = 1 << 63;

/// Whether no other file will ever have this [`identity`], so that a later run may rely on it.
pub(crate) fn is_permanent(identity: u64) -> bool {
    identity & TEMPORARY == 0
}

/// Whether two identities seen by this process belong to the same file.
pub(crate) fn is_same(before: u64, now: u64) -> bool {
    before == now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_tick_or_one_number_are_not_the_same() {
        let born = Some(1_700_000_000_123_456_789);
        let file = identity_of(1, 7, born);
        assert!(is_permanent(file) && is_same(file, identity_of(1, 7, born)));
        assert!(is_same(file, identity_of(2, 7, born)), "the disk was plugged in again");
        assert!(!is_same(file, identity_of(1, 8, born)), "made in the same tick");
        assert!(!is_same(file, identity_of(1, 7, born.map(|nanos| nanos + 1))), "the number was given again");
    }

    #[test]
    fn without_a_time_of_birth_files_have_numbers_that_prove_nothing_for_another_run() {
        let file = identity_of(1, 7, None);
        assert!(!is_permanent(file) && is_same(file, identity_of(1, 7, None)));
        assert!(!is_same(file, identity_of(1, 8, None)) && !is_same(file, identity_of(2, 7, None)));
        let on_fat = identity_of(1, 7, Some(1_700_000_000_120_000_000));
        assert!(!is_permanent(on_fat) && is_same(on_fat, identity_of(1, 9, Some(1_700_000_000_120_000_000))));
    }
}
