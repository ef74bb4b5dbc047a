//! What the manager does about the events of its torrents.

use std::path::PathBuf;
use std::time::Instant;

use crate::service::manager::Manager;
use crate::service::manager::managed_torrent::{ManagedState, ManagedTorrent};
use crate::service::metainfo_summary::{read_metainfo, summarize};
use crate::service::model::{Problem, ProblemKind, TorrentId, UnixTime};
use crate::service::record::{DesiredState, TorrentRecord};
use crate::torrent::Event;
use crate::util::printable_text::printable;

impl Manager {
    /// Handles the events of all torrents: also of those for whose message the channel had no room.
    pub(super) fn drain_all_events(&mut self) {
        let ids: Vec<TorrentId> = self.torrents.iter().filter(|(_, it)| it.is_active()).map(|(id, _)| *id).collect();
        for id in ids {
            self.drain_events(id);
        }
    }

    /// Handles all events that are there. From now on, the torrent sends a message about further ones.
    pub(super) fn drain_events(&mut self, id: TorrentId) {
        if let Some(is_pending) = self.control.pending.lock().get(&id) {
            is_pending.set(false);
        }
        let Some(run) = self.torrents.get(&id).and_then(|torrent| torrent.active()) else { return };
        let events: Vec<Event> = run.events.try_iter().collect();
        for event in events {
            if let Some(torrent) = self.torrents.get(&id) {
                let TorrentRecord { info_hash, name, .. } = &torrent.record;
                self.control.page_events.publish_log_line(&event, *info_hash, name, self.clock.started_at.elapsed());
            }
            self.handle_event(id, event);
        }
    }

    fn handle_event(&mut self, id: TorrentId, event: Event) {
        let run = self.torrents.get_mut(&id).and_then(ManagedTorrent::active_mut);
        match event {
            Event::Reopening { requests } => run.into_iter().for_each(|run| run.note_reopened(requests)),
            // The record is about the new files already.
            Event::Checked { .. } | Event::Completed if run.as_ref().is_some_and(|run| run.is_reopening()) => return,
            Event::TorrentSaved { .. } => self.adopt_metainfo(id),
            Event::TorrentNotSaved { reason, .. } => self.set_problem(id, ProblemKind::Local, &reason),
            Event::Checked { have, total } => self.finish_check(id, have, total),
            Event::Completed => self.complete(id),
            Event::Announced { warning, .. } => match warning {
                Some(warning) => self.set_problem(id, ProblemKind::TrackerWarning, &warning),
                None => {
                    if let Some(torrent) = self.torrents.get_mut(&id) {
                        torrent.problem = None;
                    }
                }
            },
            Event::AnnounceFailed { tracker, error, .. } => {
                self.set_problem(id, ProblemKind::TrackerError, &format!("{tracker}: {error}"));
            }
            Event::Note { what } | Event::Repaired { what } => return log::warn!("torrent {}: {what}", id.0),
            _ => return,
        }
        self.publish(id);
    }

    pub(super) fn set_problem(&mut self, id: TorrentId, kind: ProblemKind, message: &str) {
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        torrent.problem = Some(Problem { kind, message: printable(message) });
        torrent.changed_at = Instant::now();
    }

    /// The metadata of a link has been saved as a .torrent in the state folder.
    fn adopt_metainfo(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        if torrent.record.metainfo.is_some() {
            return;
        }
        let path = self.state_folder.torrent_file(torrent.record.info_hash);
        let metainfo = match read_metainfo(&path) {
            Ok(metainfo) => metainfo,
            Err(error) => return self.set_problem(id, ProblemKind::Local, &error.to_string()),
        };
        if let ManagedState::Active(run) | ManagedState::Stopping(run) = &mut torrent.state {
            run.spec.has_metainfo = true;
        }
        let saved = self.update_record(id, |record| {
            record.name.clone_from(&metainfo.name);
            record.progress.total = metainfo.total();
            record.progress.wanted = metainfo.total();
            record.metainfo = Some(summarize(&metainfo));
            record.link = None;
        });
        if let Err(error) = saved {
            log::error!("{error}");
        }
    }

    /// The files have been hashed, or resume data stood in for it.
    fn finish_check(&mut self, id: TorrentId, have: u64, total: u64) {
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let mut ends_after_check = false;
        if let ManagedState::Active(run) | ManagedState::Stopping(run) = &mut torrent.state {
            (run.spec.needs_check, run.spec.may_overwrite) = (false, false);
            ends_after_check = run.spec.ends_after_check;
        }
        let is_complete = have >= total;
        let saved = self.update_record(id, |record| {
            record.end_check(is_complete, ends_after_check);
            record.may_overwrite_in = None;
            (record.progress.have, record.progress.wanted) = (have, total);
            record.progress.is_complete = is_complete;
            if is_complete && record.times.done.0 == 0 {
                record.times.done = UnixTime::now();
            }
            // The service was killed before it learnt that the torrent is complete.
            if let Some(folder) = record.final_folder.take_if(|_| is_complete) {
                leave_incomplete_folder(record, folder);
            }
        });
        if let Err(error) = saved {
            log::error!("{error}");
        }
    }

    /// Every wanted piece is verified.
    fn complete(&mut self, id: TorrentId) {
        let saved = self.update_record(id, |record| {
            if !record.progress.is_complete || record.times.done.0 == 0 {
                record.times.done = UnixTime::now();
            }
            (record.progress.is_complete, record.may_overwrite_in) = (true, None);
            record.progress.have = record.progress.wanted;
            if record.desired_state != DesiredState::Stopped {
                record.is_finished = false;
            }
            if let Some(folder) = record.final_folder.take() {
                leave_incomplete_folder(record, folder);
            }
        });
        if let Err(error) = saved {
            log::error!("{error}");
        }
    }
}

/// The torrent is complete: its files move to their final folder.
fn leave_incomplete_folder(record: &mut TorrentRecord, folder: PathBuf) {
    if folder != record.folder {
        record.moving_to = Some(folder);
    }
}
