//! Removes the folders and links of a torrent that are left when its files have been moved or deleted: those that btsync created, and
//! all others only if nothing but the torrent's folders and links is left of the torrent's top folder.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::storage::data_files::folders::parent;
use crate::storage::files::Storage;
use crate::storage::folder_mark::has_folder_mark;
use crate::storage::open::{Root, file_name};

/// What may be removed.
struct LeftEntries<'a> {
    root: &'a Root,
    /// In this order, a folder comes before what is in it.
    folders: BTreeSet<PathBuf>,
    links: BTreeSet<PathBuf>,
    /// Whether nothing else is in a top folder.
    emptied: HashMap<PathBuf, bool>,
}

impl Storage {
    /// Removes the folders of the torrent's files that are gone, the empty folders that the torrent names, and its links, as far as
    /// they are btsync's.
    pub(super) fn remove_left_entries(&self, folders: impl Iterator<Item = PathBuf>) {
        let links: BTreeSet<PathBuf> = self.own_links().collect();
        let named = self.layout.special_entries().folders.iter();
        // Also those that nobody created: they have no mark.
        let created = named.flat_map(|folder| folder.ancestors()).filter(|folder| is_created(&self.root, folder));
        let created: Vec<PathBuf> = created.map(Path::to_owned).collect();
        let of_links = links.iter().map(|link| parent(link).to_owned());
        let folders = above(folders.chain(of_links)).chain(created).collect();
        let mut left = LeftEntries { root: &self.root, folders, links, emptied: HashMap::new() };
        for link in left.links.clone() {
            if left.is_removable(&link, parent(&link)) {
                self.remove_link(&link);
            }
        }
        left.remove_folders();
    }
}

/// Removes those of these folders, and of those above them, that are empty; never the root itself. One that btsync did not create
/// stays if anything else is in the top folder.
pub(super) fn remove_empty(root: &Root, folders: impl Iterator<Item = PathBuf>) {
    let folders = above(folders).collect();
    LeftEntries { root, folders, links: BTreeSet::new(), emptied: HashMap::new() }.remove_folders();
}

impl LeftEntries<'_> {
    fn remove_folders(&mut self) {
        // Decided before the first one is removed.
        let removable: Vec<PathBuf> =
            self.folders.clone().into_iter().filter(|folder| self.is_removable(folder, folder)).collect();
        for folder in removable.iter().rev() {
            let removed = self
                .root
                .own_folder(parent(folder))
                .and_then(|above| rustix::fs::unlinkat(above, file_name(folder), AtFlags::REMOVEDIR));
            if let Err(errno) = removed {
                log::debug!("{}: this folder stays: {errno}", folder.display());
            }
        }
    }

    /// Whether something may be removed that btsync created if it created this `folder`.
    fn is_removable(&mut self, name: &Path, folder: &Path) -> bool {
        if is_created(self.root, folder) {
            return true;
        }
        let Some(top) = name.iter().next().map(PathBuf::from) else { return false };
        if let Some(is_emptied) = self.emptied.get(&top) {
            return *is_emptied;
        }
        let is_emptied = self.folders.iter().filter(|it| it.starts_with(&top)).all(|it| self.has_nothing_else(it));
        self.emptied.insert(top, is_emptied);
        is_emptied
    }

    /// Whether a folder contains only what may be removed. One that does not exist contains nothing.
    fn has_nothing_else(&self, folder: &Path) -> bool {
        match listed(self.root, folder) {
            Ok(names) => names
                .iter()
                .map(|name| folder.join(name))
                .all(|it| self.folders.contains(&it) || self.links.contains(&it)),
            Err(errno) => errno == Errno::NOENT,
        }
    }
}

/// These folders and those above them, but not the root.
fn above(folders: impl Iterator<Item = PathBuf>) -> impl Iterator<Item = PathBuf> {
    let all = folders.flat_map(|folder| folder.ancestors().map(Path::to_owned).collect::<Vec<_>>());
    all.filter(|folder| !folder.as_os_str().is_empty())
}

fn is_created(root: &Root, folder: &Path) -> bool {
    !folder.as_os_str().is_empty() && open(root, folder).is_ok_and(has_folder_mark)
}

/// The names in a folder.
fn listed(root: &Root, folder: &Path) -> Result<Vec<PathBuf>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::new(open(root, folder)?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(PathBuf::from(OsStr::from_bytes(name)));
        }
    }
    Ok(names)
}

/// Opens a folder so that it can be listed.
fn open(root: &Root, folder: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(root.own_folder(folder)?.as_fd(), ".", flags, Mode::empty())
}
