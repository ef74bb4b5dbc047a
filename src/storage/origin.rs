//! Tells the torrents and links among a download's files from those that a user put somewhere: a watched folder (`--watch`) begins the
//! latter only, or whoever made a torrent could start others.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The extended attribute of files that a download made. It stays with a file that is renamed, moved or linked.
const MARK: &str = "user.btsync.downloaded";

/// Whether a watched folder would take a file of this name for a torrent, or for one with links.
pub fn is_watched_name(name: &Path) -> bool {
    let suffix = name.extension().unwrap_or_default();
    ["torrent", "magnet"].iter().any(|known| suffix.eq_ignore_ascii_case(known))
}

/// Marks a new file of a download, where its name calls for that. Best effort: not every file system keeps attributes, and the paths
/// of a download's files tell as well while it runs.
pub(super) fn mark(file: &File, name: &Path) {
    if is_watched_name(name)
        && let Err(error) = rustix::fs::fsetxattr(file, MARK, b"1", XattrFlags::empty())
    {
        log::debug!("{}: not marked as part of a download: {error}", name.display());
    }
}

/// Whether a download made the file, as far as it says so itself.
pub fn is_marked(file: &File) -> bool {
    matches!(rustix::fs::fgetxattr(file, MARK, &mut [0_u8; 1]), Ok(_) | Err(Errno::RANGE))
}

/// The path without links and from the root on, as far as it exists; for comparisons.
pub fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = path.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    let Some((ancestor, real)) = existing else { return path };
    let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
    // Joining nothing would leave a slash behind.
    if rest.as_os_str().is_empty() { real } else { real.join(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        std::os::unix::fs::symlink("a", real.join("b")).unwrap();
        assert_eq!(resolved(&dir.path().join("b/new/x")), real.join("a/new/x"));
        assert_eq!(resolved(&dir.path().join("b")), real.join("a"));
        assert_eq!(resolved(Path::new("nothing/x")), std::env::current_dir().unwrap().join("nothing/x"));
    }

    #[test]
    fn a_mark_is_for_torrents_and_links_alone() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let file = File::create(dir.path().join(name)).unwrap();
            let able = rustix::fs::fsetxattr(&file, "user.btsync.test", b"1", XattrFlags::empty()).is_ok();
            mark(&file, Path::new(name));
            (is_marked(&file), able)
        };
        let (marked, able) = made("x.Torrent");
        assert_eq!(marked, able);
        assert!(!made("x.bin").0 && !made("torrent").0);
    }
}
