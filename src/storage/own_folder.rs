//! Where btsync keeps its marker and its part file: in the download folder, or in the torrent's own folder if only that is writable.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::storage::files::Storage;
use crate::storage::lock::MarkerLock;
use crate::storage::marker::{self, marker_name};
use crate::types::InfoHash;

impl Storage {
    /// The path of the torrent's marker, relative to the download folder.
    pub(super) fn marker_path(&self, info_hash: &InfoHash) -> PathBuf {
        self.own_folder.join(marker_name(info_hash))
    }

    /// The folder for btsync's own files: the torrent's own folder if it exists and btsync cannot create files in the download
    /// folder, or an earlier run had to use it; otherwise the download folder. `part_name`: the usual name of the part file.
    pub(super) fn find_own_folder(&self, part_name: &Path) -> PathBuf {
        let top = PathBuf::new();
        let Some(folder) = self.torrent_folder() else { return top };
        let path = self.root.path();
        let has_marker = |folder: &Path| fs::symlink_metadata(folder.join(part_name.with_extension("btsync"))).is_ok();
        let own = path.join(&folder);
        let is_folder = |folder: &Path| fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir());
        let is_usable = path.is_dir() && is_folder(&own) && is_writable(&own) && !has_marker(path);
        if is_usable && (!is_writable(path) || has_marker(&own)) { folder } else { top }
    }

    /// Whether the marker is in the torrent's own folder although btsync could put it into the download folder. A stranger's archive
    /// of the torrent's folder may have brought such a marker.
    pub(super) fn has_needless_own_folder(&self) -> bool {
        !self.own_folder.as_os_str().is_empty() && is_writable(self.root.path())
    }

    /// The top folder that all files of the torrent share.
    pub(super) fn torrent_folder(&self) -> Option<PathBuf> {
        let mut tops = self.layout.files().iter().filter(|spec| !spec.is_pad).map(|spec| {
            let mut parts = spec.path.components();
            let first = parts.next()?;
            parts.next().map(|_| PathBuf::from(first.as_os_str()))
        });
        let first = tops.next()??;
        tops.all(|top| top.as_ref() == Some(&first)).then_some(first)
    }
}

fn is_writable(folder: &Path) -> bool {
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

impl MarkerLock {
    /// The info hash of the torrent that the marker belongs to.
    pub(super) fn info_hash(&self) -> Option<InfoHash> {
        marker::marker_info_hash(self.name.file_name()?.to_str()?)
    }
}
