//! What a torrent contains besides files (BEP 47): symbolic links to its own files, and empty folders. btsync creates them if
//! nothing has their name, and never changes them afterwards.

#[cfg(feature = "service")]
use std::ffi::OsStr;
#[cfg(feature = "service")]
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use crate::storage::error::shown;
#[cfg(feature = "service")]
use crate::storage::exact_files;
use crate::storage::files::Storage;
use crate::storage::layout::FileSpec;
use crate::storage::open::file_name;
use crate::storage::stop_check::StopCheck;
use crate::util::paths::is_watched_name;

/// What to create besides the files, as paths relative to the download folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialEntries {
    /// Symbolic links, each with the torrent's file or folder that it points to.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Empty folders.
    pub folders: Vec<PathBuf>,
}

impl Storage {
    /// Creates links and folders whose names are free. A failure does not stop the download: a file system may not support links.
    /// Returns early if `stop` becomes true.
    pub(crate) fn create_special_entries(&self, stop: &dyn StopCheck) {
        let special_entries = self.layout.special_entries();
        let goes_on = || !stop.is_stopped();
        for folder in special_entries.folders.iter().take_while(|_| goes_on()) {
            self.create_each_folder(folder);
        }
        for (link, target) in self.wanted_links().take_while(|_| goes_on()) {
            if is_watched_name(link) {
                let shown = shown(link);
                log::warn!("btsync does not create the symbolic link {shown}: --watch would start its target");
                continue;
            }
            self.create_each_folder(link.parent().unwrap_or(Path::new("")));
            if let Err(error) = self.root.create_symlink(link, &relative(link, target)) {
                log::debug!("cannot create the symbolic link {}: {error}", link.display());
            }
        }
    }

    /// Those of the torrent's links that exist and point to what the torrent says.
    #[cfg(feature = "service")]
    pub(super) fn own_links(&self) -> impl Iterator<Item = PathBuf> {
        let links = self.layout.special_entries().links.iter();
        let is_there = move |(link, target): &&(PathBuf, PathBuf)| {
            let folder = self.root.own_folder(link.parent().unwrap_or(Path::new("")));
            folder.is_ok_and(|folder| points_to(&folder, file_name(link), &relative(link, target)))
        };
        links.filter(is_there).map(|(link, _)| link.clone())
    }

    /// Removes one of the torrent's links, if it points to what the torrent says.
    #[cfg(feature = "service")]
    pub(super) fn remove_link(&self, link: &Path) {
        let links = &self.layout.special_entries().links;
        let Some((_, target)) = links.iter().find(|(it, _)| it == link) else { return };
        let Ok(folder) = self.root.own_folder(link.parent().unwrap_or(Path::new(""))) else { return };
        let relative = relative(link, target);
        let taken =
            exact_files::take((folder.as_fd(), file_name(link)), |name| Ok(points_to(&folder, name, &relative)));
        let removed = taken.and_then(|taken| taken.map_or(Ok(()), exact_files::FileTakenAway::remove));
        if let Err(error) = removed {
            log::debug!("{}: this link stays: {error}", link.display());
        }
    }

    /// The links to create, with their targets: an unwanted target does not exist on disk.
    pub(super) fn wanted_links(&self) -> impl Iterator<Item = &(PathBuf, PathBuf)> {
        let links = &self.layout.special_entries().links;
        links.iter().filter(move |(_, target)| {
            let is_wanted = |(file, spec): (usize, &FileSpec)| self.wants(file) && spec.path.starts_with(target);
            self.layout.files().iter().enumerate().any(is_wanted) || links.iter().any(|(other, _)| other == target)
        })
    }

    fn create_each_folder(&self, folder: &Path) {
        let mut path = PathBuf::new();
        for part in folder.components() {
            path.push(part);
            if let Err(error) = self.root.create_folder(&path) {
                log::debug!("cannot create the folder {}: {error}", path.display());
                return;
            }
        }
    }
}

/// Whether a name is a symbolic link to this target.
#[cfg(feature = "service")]
fn points_to(folder: &OwnedFd, name: &OsStr, target: &Path) -> bool {
    let found = rustix::fs::readlinkat(folder, name, Vec::new());
    found.is_ok_and(|found| found.as_bytes() == target.as_os_str().as_encoded_bytes())
}

/// The relative target of a symbolic link at `link` that points to `target`.
fn relative(link: &Path, target: &Path) -> PathBuf {
    let from: Vec<Component<'_>> = link.parent().unwrap_or(Path::new("")).components().collect();
    let to: Vec<Component<'_>> = target.components().collect();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from.iter().skip(shared).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to.iter().skip(shared).copied()).collect();
    // A link to its own folder.
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::storage::{FileSpec, Layout};

    #[test]
    fn links_are_relative() {
        let table = [
            ("t/link", "t/a", "a"),
            ("t/d/link", "t/a", "../a"),
            ("t/d/e/link", "t/d/f/g", "../f/g"),
            ("t/d/link", "t/d", "."),
            ("t/d/e/link", "t/d", ".."),
        ];
        for (link, target, expected) in table {
            assert_eq!(relative(Path::new(link), Path::new(target)), Path::new(expected), "{link}");
        }
    }

    /// The target of a link in the torrent's folder.
    fn at_in(dir: &tempfile::TempDir, path: &str) -> Option<PathBuf> {
        fs::read_link(dir.path().join("t").join(path)).ok()
    }

    #[test]
    fn links_and_folders_are_made_and_replace_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str| FileSpec { path: path.into(), length: 1, is_pad: false };
        let link = |link: &str, target: &str| (PathBuf::from(link), PathBuf::from(target));
        let links = vec![
            link("t/d/l", "t/a"),
            link("t/m", "t/d/l"),
            link("t/taken", "t/a"),
            link("t/unwanted", "t/b"),
            link("t/out/l", "t/a"),
            link("t/l.torrent", "t/a"),
            link("t/d/L.Magnet", "t/a"),
        ];
        let special_entries = SpecialEntries { links, folders: vec!["t/empty/deep".into()] };
        let layout = Layout::new(16, vec![file("t/a"), file("t/b")]).unwrap().with_special_entries(special_entries);
        fs::create_dir(dir.path().join("t")).unwrap();
        fs::write(dir.path().join("t/taken"), "mine").unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("t/out")).unwrap();
        let storage = Storage::new(dir.path().to_owned(), layout, 4).select(&[true, false], Path::new(".x.parts"));
        storage.create_special_entries(&AtomicBool::new(true));
        assert!(!dir.path().join("t/empty").exists() && at_in(&dir, "m").is_none(), "nobody waits for it any more");
        storage.prepare().unwrap();
        storage.create_special_entries(&AtomicBool::new(false));
        let at = |path: &str| at_in(&dir, path);
        assert_eq!(at("d/l").as_deref(), Some(Path::new("../a")));
        assert_eq!(at("m").as_deref(), Some(Path::new("d/l")));
        assert_eq!((at("taken"), at("unwanted")), (None, None));
        assert_eq!(fs::read(dir.path().join("t/taken")).unwrap(), b"mine");
        assert_eq!(
            (at("l.torrent"), at("d/L.Magnet")),
            (None, None),
            "a watched folder would begin the torrent's file"
        );
        assert!(dir.path().join("t/empty/deep").is_dir());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nothing is made through a link that leads out");
    }
}
