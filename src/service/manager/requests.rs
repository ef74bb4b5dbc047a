//! How the manager carries out requests: each changes records, and is answered once they are saved.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::discovery::tracker::announce::TorrentIdentity;
use crate::service::manager::Manager;
use crate::service::manager::managed_torrent::{ManagedState, ManagedTorrent};
use crate::service::messages::{Answer, ControlRequest, PreparedTorrent};
use crate::service::metainfo_summary::summarize;
use crate::service::model::{AddedTorrent, ControlError, FileIndexes, TorrentId, UnixTime};
use crate::service::record::{DesiredState, Removal, TorrentRecord};

/// The most torrents of one service.
const MAX_TORRENTS: usize = 20_000;

impl Manager {
    /// Carries out a request.
    pub(super) fn carry_out(&mut self, request: ControlRequest) -> Result<Answer, ControlError> {
        match request {
            ControlRequest::Add(torrent) => return self.add(*torrent).map(Answer::Added),
            ControlRequest::Start { ids, is_forced } => {
                self.run_before_dormant(&ids);
                self.update_records(&ids, |record| start(record, is_forced))?;
            }
            ControlRequest::Stop(ids) => self.update_records(&ids, stop)?,
            ControlRequest::Verify(ids) => self.update_records(&ids, |record| {
                record.verify();
                record.problem = None;
            })?,
            ControlRequest::Reannounce(ids) => self.reannounce(&ids),
            ControlRequest::Remove { ids, deletes_data } => {
                self.remove(&ids, Removal { deletes_data })?;
                self.update_queue_positions();
            }
            ControlRequest::Change(ids, change) => self.change_torrents(&ids, &change)?,
            ControlRequest::SetFolder { ids, folder, moves_files } => self.set_folder(&ids, &folder, moves_files)?,
            ControlRequest::Rename(id, files, name) => self.rename(id, files, name)?,
            ControlRequest::Overwrite(id) => self.update_records(&[id], |record| {
                record.permit_overwriting();
                start(record, false);
            })?,
            ControlRequest::MoveInQueue(ids, to) => self.move_in_queue(&ids, &to)?,
            ControlRequest::ChangeSettings(change) => self.change_settings(&change)?,
            ControlRequest::SetGroup(group) => self.set_group(group)?,
        }
        Ok(Answer::Done)
    }

    /// Changes a torrent's record and saves it. If it cannot be saved, nothing changes.
    pub(super) fn update_record(
        &mut self,
        id: TorrentId,
        change: impl FnOnce(&mut TorrentRecord),
    ) -> Result<(), ControlError> {
        let torrent = self.torrents.get_mut(&id).ok_or(ControlError::NoTorrent(id))?;
        let before = torrent.record.clone();
        change(&mut torrent.record);
        torrent.record.keep_permission(&before);
        if let Err(error) = self.state_folder.save_record(&torrent.record) {
            torrent.record = before;
            return Err(ControlError::System(error.to_string()));
        }
        (torrent.is_dirty, torrent.changed_at) = (false, Instant::now());
        self.publish(id);
        Ok(())
    }

    /// Changes several torrents; those that do not exist are skipped. Those that cannot be saved do not change.
    pub(super) fn update_records(
        &mut self,
        ids: &[TorrentId],
        mut change: impl FnMut(&mut TorrentRecord),
    ) -> Result<(), ControlError> {
        let changed = |id: &TorrentId| {
            let mut record = self.torrents.get(id)?.record.clone();
            change(&mut record);
            Some(record)
        };
        let ids: BTreeSet<TorrentId> = ids.iter().copied().collect();
        let records = ids.iter().filter_map(changed).collect();
        self.save_changed_records(records)
    }

    /// Saves changed records, and takes over those that are saved.
    ///
    /// # Errors
    /// The first one.
    pub(super) fn save_changed_records(&mut self, records: Vec<TorrentRecord>) -> Result<(), ControlError> {
        let mut records = records;
        for record in &mut records {
            if let Some(torrent) = self.torrents.get(&record.id) {
                record.keep_permission(&torrent.record);
            }
        }
        let mut first = Ok(());
        for (result, record) in self.state_folder.save_records(&records).into_iter().zip(records) {
            let id = record.id;
            match (result, self.torrents.get_mut(&id)) {
                (Ok(()), Some(torrent)) => {
                    (torrent.record, torrent.is_dirty, torrent.changed_at) = (record, false, Instant::now());
                    self.publish(id);
                }
                (Ok(()), None) => {}
                (Err(error), _) => first = first.and(Err(ControlError::System(error.to_string()))),
            }
        }
        first
    }

    /// Waits until what was saved survives a power failure, as the user is told that it is done.
    pub(super) fn sync_state(&self) -> Result<(), ControlError> {
        self.state_folder.sync().map_err(|error| ControlError::System(error.to_string()))
    }

    /// Saves a torrent's record as it is.
    pub(super) fn save(&mut self, id: TorrentId) {
        if let Err(error) = self.update_record(id, |_| {}) {
            log::error!("{error}");
        }
    }

    /// Saves all stats that have changed, those of `most` dormant torrents, and the sums.
    pub(super) fn save_stats(&mut self, most: usize) {
        self.clock.last_save = Instant::now();
        let dirty = self.torrents.values().filter(|torrent| torrent.is_dirty);
        let (dormant, others): (Vec<_>, Vec<_>) = dirty.partition(|torrent| torrent.is_dormant());
        let saved = others.into_iter().chain(dormant.into_iter().take(most)).map(|torrent| torrent.record.clone());
        if let Err(error) = self.save_changed_records(saved.collect()) {
            log::error!("{error}");
        }
        if let Err(error) = self.save_session() {
            log::error!("{error}");
        }
    }

    /// Saves the sums, with the time of this session, and the bandwidth groups.
    pub(super) fn save_session(&mut self) -> Result<(), ControlError> {
        let mut session = self.session.clone();
        session.sums.seconds = session.sums.seconds.saturating_add(self.clock.started_at.elapsed().as_secs());
        self.state_folder.save_session(&session).map_err(|error| ControlError::System(error.to_string()))?;
        self.saved_next_id = session.next_id;
        Ok(())
    }

    fn add(&mut self, torrent: PreparedTorrent) -> Result<AddedTorrent, ControlError> {
        let PreparedTorrent { info_hash, name, metainfo, link, folder, starts_paused, change, may_overwrite } = torrent;
        let known = self.torrents.values().find(|torrent| torrent.record.info_hash == info_hash);
        if let Some(ManagedTorrent { record, .. }) = known {
            if record.removal.is_some() {
                return Err(ControlError::Invalid("this torrent is just being removed; try again".to_owned()));
            }
            return Ok(AddedTorrent { id: record.id, info_hash, name: record.name.clone(), is_duplicate: true });
        }
        if self.torrents.len() >= MAX_TORRENTS {
            return Err(ControlError::Invalid(format!("there are {MAX_TORRENTS} torrents already")));
        }
        let id = TorrentId(self.session.next_id);
        let mut record = TorrentRecord::new(id, info_hash, name.clone(), folder, UnixTime::now());
        record.settings.peer_limit = self.settings.network.peer_limit_per_torrent;
        record.queue_number = self.end_of_queue();
        record.link = link;
        if self.settings.uses_incomplete_folder && self.settings.incomplete_folder.is_absolute() {
            let incomplete = self.settings.incomplete_folder.clone();
            record.final_folder = Some(std::mem::replace(&mut record.folder, incomplete));
        }
        if may_overwrite {
            record.permit_overwriting();
        }
        if let Some((metainfo, _)) = &metainfo {
            record.metainfo = Some(summarize(metainfo));
            (record.progress.total, record.progress.wanted) = (metainfo.total(), metainfo.total());
        }
        let mut change = change;
        let position = change.queue_position.take();
        Manager::apply(&mut record, &change, metainfo.as_ref().map(|(metainfo, _)| metainfo))?;
        if !starts_paused.unwrap_or(!self.settings.starts_added) {
            record.desired_state = DesiredState::Queued;
        }
        // Its record says that the number is taken: see `drop_torrent`.
        self.session.next_id = id.0.saturating_add(1);
        self.session.sums.files_added += 1;
        self.save_new(&record, metainfo.as_ref().map(|(_, bytes)| bytes.as_slice()))?;
        let identity = TorrentIdentity::for_route(self.control.base.route(), None);
        self.torrents.insert(id, ManagedTorrent::new(record, identity));
        // Its number is the highest, so that no other position changes.
        self.queue_positions.insert(id, self.queue_positions.len());
        if let Some(position) = position {
            self.set_queue_position(&[id], position)?;
        }
        self.publish(id);
        Ok(AddedTorrent { id, info_hash, name, is_duplicate: false })
    }

    /// Saves a torrent that is added. If that fails, nothing of it stays.
    fn save_new(&self, record: &TorrentRecord, torrent_file: Option<&[u8]>) -> Result<(), ControlError> {
        let saved = torrent_file.map_or(Ok(()), |bytes| self.state_folder.save_torrent(record.info_hash, bytes));
        saved.and_then(|()| self.state_folder.save_record(record)).map_err(|error| {
            if let Err(error) = self.state_folder.remove(record.id, record.info_hash) {
                log::warn!("{error}");
            }
            ControlError::System(error.to_string())
        })
    }

    /// Removes what is left of a torrent.
    pub(super) fn drop_torrent(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.remove(&id) else { return };
        // No number is used twice, and its record says no longer that this one is taken.
        if id.0 >= self.saved_next_id
            && let Err(error) = self.save_session().and_then(|()| self.sync_state())
        {
            log::error!("{error}");
        }
        if let Err(error) = self.state_folder.remove(id, torrent.record.info_hash) {
            log::error!("{error}");
        }
        // The queue does not count it since its removal began.
        self.control.published.lock().remove(id);
    }

    fn reannounce(&mut self, ids: &[TorrentId]) {
        for torrent in ids.iter().filter_map(|id| self.torrents.get(id)) {
            match (torrent.handle(), &torrent.guard) {
                (Some(handle), _) => _ = handle.reannounce(),
                (None, Some((guard, _))) => _ = guard.reannounce(),
                (None, None) => {}
            }
        }
    }

    /// Has torrents that do nothing run before they become dormant: the user starts them, and their files may have changed.
    fn run_before_dormant(&mut self, ids: &[TorrentId]) {
        for id in ids {
            if let Some(torrent) =
                self.torrents.get_mut(id).filter(|torrent| matches!(torrent.state, ManagedState::Idle))
            {
                torrent.is_known_complete = false;
            }
        }
    }
}

fn stop(record: &mut TorrentRecord) {
    record.cancel_check();
    (record.desired_state, record.may_overwrite_in) = (DesiredState::Stopped, None);
}

/// Starts a torrent: with a new problem it stops again.
fn start(record: &mut TorrentRecord, is_forced: bool) {
    record.desired_state = if is_forced { DesiredState::Forced } else { DesiredState::Queued };
    (record.problem, record.is_finished) = (None, false);
}

impl FileIndexes {
    /// Whether these are no files.
    pub fn is_none(&self) -> bool {
        matches!(self, FileIndexes::None)
    }
}
