//! Distinguishes torrent and magnet files that a download created from those that the user put somewhere: a watched folder
//! (`--watch`) must only start the latter, or the author of a torrent could start others.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::storage::files::Storage;
use crate::storage::lock::is_write_action;
use crate::storage::open::Access;
use crate::storage::ownership::FileAction;
use crate::storage::snapshot::{identity, is_permanent};
use crate::util::paths::{is_watched_name, resolved};

/// The extended attribute of files that a download created. It stays with a file that is renamed, moved or linked.
const MARK: &str = "user.btsync.downloaded";

/// Marks a new file of a download if its name requires that. Not every file system supports extended attributes: see
/// [`Storage::without_download_mark`].
pub(super) fn set_download_mark(file: &File, name: &Path) {
    if is_watched_name(name)
        && let Err(error) = rustix::fs::fsetxattr(file, MARK, b"1", XattrFlags::empty())
    {
        log::debug!("{}: not marked as part of a download: {error}", name.display());
    }
}

/// Whether the file carries the mark of a download.
pub fn has_download_mark(file: &File) -> bool {
    matches!(rustix::fs::fgetxattr(file, MARK, &mut [0_u8; 1]), Ok(_) | Err(Errno::RANGE))
}

/// The identity that distinguishes a file from every other one, for later runs too; `None` if the file system provides none.
pub fn permanent_identity(file: &File) -> Option<u64> {
    file.metadata().ok().map(|found| identity(&found)).filter(|identity| is_permanent(*identity))
}

/// Receives the path without symbolic links and the [`permanent_identity`] of a file of a download that needs a mark and has none.
#[cfg(feature = "service")]
pub type ReportUnmarked<'a> = &'a dyn Fn(PathBuf, Option<u64>);

impl Storage {
    /// The files that this download writes to, that need a mark, and that could not be marked: the final path of each, without
    /// symbolic links, and its [`permanent_identity`].
    pub fn without_download_mark(&self, actions: &[FileAction]) -> Vec<(PathBuf, Option<u64>)> {
        let named = |number| self.layout.final_name(number).filter(|name| is_watched_name(name));
        let written = actions.iter().enumerate().filter(|(_, action)| is_write_action(**action));
        let watched = written.filter_map(|(number, _)| Some((number, named(number)?)));
        let without_download_mark = watched.filter_map(|(number, name)| {
            let file = self.root.open(self.name(number), Access::Read).ok()?.file;
            (!has_download_mark(&file)).then(|| (resolved(&self.root.path().join(name)), permanent_identity(&file)))
        });
        without_download_mark.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{FileSpec, Layout};

    #[test]
    fn files_without_a_mark_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let specs = ["a.torrent", "b.magnet", "c.bin", "d.torrent"].map(|name| FileSpec {
            path: name.into(),
            length: 7,
            is_pad: false,
        });
        let it = Storage::new(dir.path().to_owned(), Layout::new(16, specs.to_vec()).unwrap(), 4);
        for spec in &specs {
            std::fs::write(dir.path().join(&spec.path), "").unwrap();
        }
        let at = |name: &str| File::open(dir.path().join(name)).unwrap();
        let marked = rustix::fs::fsetxattr(at("b.magnet"), MARK, b"1", XattrFlags::empty()).is_ok();
        let actions = [FileAction::Create, FileAction::Create, FileAction::Create, FileAction::Leave];
        let told = it.without_download_mark(&actions);
        let real = |name: &str| dir.path().canonicalize().unwrap().join(name);
        assert_eq!(told[0], (real("a.torrent"), permanent_identity(&at("a.torrent"))));
        assert_eq!(
            (told.len(), told.iter().any(|(path, _)| *path == real("b.magnet"))),
            (2 - usize::from(marked), !marked)
        );
    }

    #[test]
    fn a_mark_is_for_torrents_and_links_alone() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let file = File::create(dir.path().join(name)).unwrap();
            let able = rustix::fs::fsetxattr(&file, "user.btsync.test", b"1", XattrFlags::empty()).is_ok();
            set_download_mark(&file, Path::new(name));
            (has_download_mark(&file), able)
        };
        let (marked, able) = made("x.Torrent");
        assert_eq!(marked, able);
        assert!(!made("x.bin").0 && !made("torrent").0);
    }
}
