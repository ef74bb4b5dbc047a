//! Moving, renaming and removing torrents: what the user asks for is saved first, and done as soon as the torrent does not run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::service::file_jobs::{FileJob, FileJobResult, FileOperation};
use crate::service::manager::Manager;
use crate::service::manager::managed_torrent::{ManagedState, ManagedTorrent};
use crate::service::manager::reconcile::StartError;
use crate::service::messages::ManagerMessage;
use crate::service::model::{ControlError, ProblemKind, TorrentId};
use crate::service::record::{DesiredState, Removal, TorrentRecord};
use crate::service::state_folder::downloaded_torrents;

impl Manager {
    /// Notes that torrents are to be removed. A move that has begun is completed first, so that all files are in one place.
    pub(super) fn remove(&mut self, ids: &[TorrentId], removal: Removal) -> Result<(), ControlError> {
        let is_moving =
            |id: &&TorrentId| self.torrents.get(id).is_some_and(|it| matches!(it.state, ManagedState::FileJob(_)));
        let moving: HashSet<TorrentId> = ids.iter().filter(is_moving).copied().collect();
        self.update_records(ids, |record| {
            record.removal = Some(removal);
            if !moving.contains(&record.id) {
                record.moving_to = None;
                record.renaming.clear();
                record.new_name = None;
            }
        })
    }

    /// Notes that torrents get another folder, where their files are already or to which they are moved.
    pub(super) fn set_folder(&mut self, ids: &[TorrentId], folder: &Path, moves: bool) -> Result<(), ControlError> {
        for torrent in ids.iter().filter_map(|id| self.torrents.get(id)) {
            check_no_job(torrent)?;
        }
        self.update_records(ids, |record| {
            let kind = record.problem.as_ref().map(|problem| problem.kind);
            let clears = matches!(kind, Some(ProblemKind::Local | ProblemKind::FilesInTheWay));
            if clears {
                record.problem = None;
            }
            (record.moving_to, record.may_overwrite_in) = (None, None);
            if record.final_folder.is_some() && moves {
                record.final_folder = Some(folder.to_owned());
            } else if moves && record.folder != folder {
                record.moving_to = Some(folder.to_owned());
            } else if !moves {
                record.use_folder(folder);
                if clears {
                    // The user chose another folder because of the problem: go on there.
                    record.cancel_check();
                    record.desired_state = DesiredState::Queued;
                }
            }
        })
    }

    /// Notes that files of a torrent get other paths.
    pub(super) fn rename(
        &mut self,
        id: TorrentId,
        files: Vec<(u32, PathBuf)>,
        name: Option<String>,
    ) -> Result<(), ControlError> {
        let torrent = self.torrents.get(&id).ok_or(ControlError::NoTorrent(id))?;
        check_no_job(torrent)?;
        if torrent.record.moving_to.is_some() || !torrent.record.renaming.is_empty() {
            return Err(busy_error());
        }
        self.update_record(id, |record| {
            (record.renaming, record.new_name) = (files, name);
        })
    }

    pub(super) fn start_file_job(&mut self, id: TorrentId, operation: FileOperation) {
        let Some(torrent) = self.torrents.get(&id) else { return };
        let record = &torrent.record;
        let operation = match operation {
            FileOperation::Remove { .. } if torrent.has_refused_folder() => {
                FileOperation::Remove { deletes_data: false }
            }
            operation => operation,
        };
        let job = FileJob {
            record: record.clone(),
            torrent_file: record.metainfo.as_ref().map(|_| self.state_folder.torrent_file(record.info_hash)),
            resume_folder: self.state_folder.resume_folder(record.info_hash),
            downloaded_torrents_folder: downloaded_torrents(self.state_folder.path()),
            private_folders: self.private_folders.clone(),
            operation: operation.clone(),
        };
        let to_manager = self.control.manager.clone();
        // If the service ends, nobody needs the result.
        let done = move |result| drop(to_manager.send(ManagerMessage::FileJobDone(id, result), Duration::MAX));
        if let Err(error) = self.work.file_jobs.start(job, done) {
            return self.fail_start(id, &StartError::no_thread(&error));
        }
        if let Some(torrent) = self.torrents.get_mut(&id) {
            torrent.state = ManagedState::FileJob(operation);
            torrent.clear_start_problem();
        }
        self.publish(id);
    }

    /// Takes over the result of moving or deleting a torrent's files.
    pub(super) fn finish_file_job(&mut self, id: TorrentId, result: FileJobResult) {
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let ManagedState::FileJob(operation) = std::mem::replace(&mut torrent.state, ManagedState::Idle) else {
            return;
        };
        match (operation, result) {
            (FileOperation::Remove { .. }, result) => {
                match result {
                    Ok(None) => {}
                    Ok(Some(kept)) => log::warn!("torrent {}: these files stay: {kept}", id.0),
                    Err(why) => log::warn!("torrent {}: not all of its files are deleted: {why}", id.0),
                }
                self.drop_torrent(id);
            }
            (FileOperation::Move(folder, names), Ok(_)) => self.update_even_if_unsaved(id, |record| {
                (record.folder, record.moving_to) = (folder, None);
                (record.files.renamed, record.renaming) = (names, Vec::new());
                if let Some(name) = record.new_name.take() {
                    record.name = name;
                }
            }),
            (FileOperation::Move(..), Err(why)) => {
                self.update_even_if_unsaved(id, |record| {
                    (record.moving_to, record.renaming, record.new_name) = (None, Vec::new(), None);
                });
                self.fail(id, ProblemKind::Local, &format!("its files are not moved: {why}"));
            }
        }
        self.reconcile();
    }

    /// Changes the record after a job, even if it cannot be saved now: after a kill, the job would find everything done.
    fn update_even_if_unsaved(&mut self, id: TorrentId, change: impl FnOnce(&mut TorrentRecord)) {
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let before = torrent.record.clone();
        change(&mut torrent.record);
        torrent.record.keep_permission(&before);
        torrent.is_dirty = true;
        self.save(id);
    }
}

/// While a job has a torrent's files, nothing else may be asked of them: after a kill, the job has to be the same.
pub(super) fn check_no_job(torrent: &ManagedTorrent) -> Result<(), ControlError> {
    if matches!(torrent.state, ManagedState::FileJob(_)) { Err(busy_error()) } else { Ok(()) }
}

fn busy_error() -> ControlError {
    ControlError::Invalid("its files are just being moved; try again".to_owned())
}
