//! Which folders a saved torrent may use: a record may be older than the options of the service, or not be the service's at all.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::service::control::is_permitted;
use crate::service::model::{Problem, ProblemKind};
use crate::service::record::{DesiredState, TorrentRecord};
use crate::util::printable_text::printable;

/// The folders that a service may use, with the answers so far: many torrents have the same folder.
pub(super) struct PermittedFolders<'a> {
    allowed: &'a [PathBuf],
    known: HashMap<PathBuf, bool>,
}

impl<'a> PermittedFolders<'a> {
    /// Downloads may be in the `allowed` folders and below them.
    pub fn new(allowed: &'a [PathBuf]) -> PermittedFolders<'a> {
        PermittedFolders { allowed, known: HashMap::new() }
    }

    fn permits(&mut self, folder: &Path) -> bool {
        if let Some(known) = self.known.get(folder) {
            return *known;
        }
        let is_permitted = is_permitted(folder, self.allowed);
        self.known.insert(folder.to_owned(), is_permitted);
        is_permitted
    }

    /// Takes from a saved torrent what it must not do. If its own folder is not permitted, it stops with a problem, its files are neither
    /// moved nor deleted, and the folder is returned.
    pub fn restrict(&mut self, record: &mut TorrentRecord) -> Option<PathBuf> {
        record.may_overwrite_in.take_if(|folder| !self.permits(folder));
        record.final_folder.take_if(|folder| !self.permits(folder));
        record.moving_to.take_if(|folder| !self.permits(folder));
        if self.permits(&record.folder) {
            return None;
        }
        record.cancel_check();
        record.desired_state = DesiredState::Stopped;
        (record.moving_to, record.new_name) = (None, None);
        record.renaming.clear();
        if let Some(removal) = &mut record.removal {
            removal.deletes_data = false;
        }
        record.problem = Some(Problem { kind: ProblemKind::Local, message: refusal(&record.folder) });
        Some(record.folder.clone())
    }
}

/// Why a torrent with this folder does not run.
pub(super) fn refusal(folder: &Path) -> String {
    printable(&format!(
        "the service may not use {}: permit the folder with --allow-dir, or choose another folder",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::model::{TorrentId, UnixTime};
    use crate::service::record::Removal;
    use crate::types::InfoHash;

    #[test]
    fn a_saved_torrent_uses_only_permitted_folders() {
        let temp = tempfile::tempdir().expect("a folder");
        let at = |name: &str| temp.path().join(name);
        std::fs::create_dir_all(at("downloads/in")).expect("a folder");
        std::fs::create_dir(at("documents")).expect("a folder");
        std::os::unix::fs::symlink(at("documents"), at("downloads/link")).expect("a link");
        let record = |folder: &str, others: &str| {
            let mut record = TorrentRecord::new(TorrentId(1), InfoHash([1; 20]), "x".into(), at(folder), UnixTime(1));
            record.desired_state = DesiredState::Forced;
            (record.moving_to, record.final_folder) = (Some(at(others)), Some(at(others)));
            (record.may_overwrite_in, record.removal) = (Some(at(others)), Some(Removal { deletes_data: true }));
            record
        };
        let allowed = [at("downloads")];
        let mut folders = PermittedFolders::new(&allowed);
        let mut good = record("downloads/in", "downloads");
        assert_eq!((folders.restrict(&mut good), &good), (None, &record("downloads/in", "downloads")));
        let mut good = record("downloads/in", "documents");
        assert_eq!(folders.restrict(&mut good), None);
        assert_eq!((good.moving_to, good.final_folder, good.may_overwrite_in), (None, None, None));
        assert_eq!(good.desired_state, DesiredState::Forced);
        for folder in ["documents", "downloads/link", "downloads/../documents", ""] {
            let mut bad = record(folder, "downloads");
            assert_eq!(folders.restrict(&mut bad), Some(at(folder)), "{folder}");
            assert_eq!((bad.desired_state, bad.moving_to.as_ref()), (DesiredState::Stopped, None));
            assert!(bad.problem.is_some_and(|problem| problem.message.contains("--allow-dir")));
            assert!(bad.removal.is_some_and(|removal| !removal.deletes_data), "its record goes, and no file");
        }
    }
}
