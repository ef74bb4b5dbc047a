//! A file as the system describes it at one moment, and whether another moment's is the same one.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha1::{Digest, Sha1};

/// A file as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSnapshot {
    /// Its length in bytes.
    pub size: u64,
    /// How many names it has.
    pub links: u64,
    /// Its number in the file system.
    pub inode: u64,
    /// What tells it from every other file that ever had its name: see `identity`.
    pub identity: u64,
    /// When it was last changed, in nanoseconds since 1970 or as good as.
    pub(crate) changed: (i64, i64),
    pub(crate) modified: (i64, i64),
}

/// What tells a file from others for as long as this process runs, by whichever name it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trait {
    /// See `identity`; file systems that count times coarsely give it to several files.
    pub identity: u64,
    /// Its number in the file system.
    pub inode: u64,
}

impl Trait {
    /// That of the file at a path, links followed; `None` where nothing is.
    pub fn at(path: &Path) -> Option<Trait> {
        let found = path.metadata().ok()?;
        Some(Trait { identity: identity(&found), inode: found.ino() })
    }

    /// Whether nothing but this file will ever have it.
    pub fn is_permanent(self) -> bool {
        is_permanent(self.identity)
    }
}

impl FileSnapshot {
    /// Tells it from others.
    pub fn as_trait(&self) -> Trait {
        Trait { identity: self.identity, inode: self.inode }
    }

    /// As the system describes it.
    pub(crate) fn of(found: &Metadata) -> FileSnapshot {
        FileSnapshot {
            size: found.size(),
            links: found.nlink(),
            inode: found.ino(),
            identity: identity(found),
            changed: (found.ctime(), found.ctime_nsec()),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }

    /// Whether nobody has written to it or given it another name either.
    pub(crate) fn is_untouched(&self, now: &Metadata) -> bool {
        let later = FileSnapshot::of(now);
        self.is_unchanged(now) && self.changed == later.changed && self.modified == later.modified
    }

    /// Whether it is that file under another name.
    pub(crate) fn is_renamed(&self, now: &Metadata) -> bool {
        let later = FileSnapshot::of(now);
        let has_same_size_and_mtime =
            !is_permanent(self.identity) && (self.size, self.modified) == (later.size, later.modified);
        is_same(self.identity, later.identity) || has_same_size_and_mtime
    }

    /// Whether it has the length and the time of the last write that this file had: a copy that the file system made of it has both.
    pub(crate) fn has_same_size_and_mtime(&self, now: &Metadata) -> bool {
        let later = FileSnapshot::of(now);
        (self.size, self.modified) == (later.size, later.modified)
    }

    /// Whether it is still that file, with the length that it had.
    pub(crate) fn is_unchanged(&self, now: &Metadata) -> bool {
        is_same(self.identity, identity(now)) && self.size == now.size()
    }
}

/// Tells a file from every other one: made of its number in the file system, which is given again as soon as the file is deleted,
/// and of the time when it was made, which nobody can set and which files of one tick of the clock share. Where only both
/// together are the same it is the same file, today and after a restart.
///
/// Where the file system does not keep that time, or counts it so coarsely as FAT does, which numbers files anew, too, that proves
/// nothing for another run: see [`is_permanent`].
pub(crate) fn identity(found: &Metadata) -> u64 {
    let born = found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    identity_of(found.dev(), found.ino(), born.map(|since| since.as_nanos()).filter(|nanos| *nanos > 0))
}

/// Devices get other numbers at the next start: what lasts is without theirs.
fn identity_of(device: u64, inode: u64, born: Option<u128>) -> u64 {
    match born {
        Some(nanos) if !nanos.is_multiple_of(COARSE) => hash(&[inode.into(), nanos]) & !TEMPORARY,
        Some(nanos) => hash(&[device.into(), nanos]) | TEMPORARY,
        None => hash(&[device.into(), inode.into()]) | TEMPORARY,
    }
}

fn hash(parts: &[u128]) -> u64 {
    let digest = Sha1::digest(parts.iter().flat_map(|part| part.to_be_bytes()).collect::<Vec<u8>>());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// FAT and exFAT say in hundredths of a second when a file was made.
const COARSE: u128 = 10_000_000;
/// Set in an [`identity`] that says nothing about another run.
const TEMPORARY: u64 = 1 << 63;

/// Whether nothing but this file will ever have its [`identity`], so that a later run may believe what an earlier one noted of it.
pub(crate) fn is_permanent(identity: u64) -> bool {
    identity & TEMPORARY == 0
}

/// Whether a file that this process has seen is the one that it opens now.
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
