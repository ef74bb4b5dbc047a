//! Starts and stops torrents so that what runs is what the records, the queue and the settings ask for.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metainfo::{Magnet, Metainfo, MetainfoError, Selection};
use crate::service::manager::Manager;
use crate::service::manager::active_run::{ActiveRun, RunSpec};
use crate::service::manager::managed_torrent::{ManagedState, ManagedTorrent};
use crate::service::manager_channel::ManagerSender;
use crate::service::messages::ManagerMessage;
use crate::service::metainfo_summary::read_metainfo;
use crate::service::model::{Problem, ProblemKind, TorrentId, UnixTime};
use crate::service::permitted_folders;
use crate::service::queue::{QueueCandidate, QueueClass, choose_running};
use crate::service::record::{DesiredState, INCOMPLETE_SUFFIX, TorrentRecord};
use crate::service::state_folder::downloaded_torrents;
use crate::storage::StorageError;
use crate::torrent::{AddOptions, Outcome, SeedGoal, Source, TorrentError, TorrentHandle};
use crate::util::atomics::Flag;
use crate::util::descriptors;
use crate::util::os_error::reason;
use crate::util::printable_text::printable;

impl Manager {
    /// See the module's documentation.
    pub(super) fn reconcile(&mut self) {
        self.replace_client_if_idle();
        let chosen = self.choose();
        let ids: Vec<TorrentId> = self.torrents.keys().copied().collect();
        for id in ids {
            self.reconcile_torrent(id, chosen.contains(&id));
        }
    }

    /// The torrents that should run.
    fn choose(&self) -> BTreeSet<TorrentId> {
        if self.is_ending || self.client.is_outdated || self.client.current.is_none() {
            return BTreeSet::new();
        }
        let candidate = |torrent: &ManagedTorrent| QueueCandidate {
            id: torrent.record.id,
            position: self.queue_positions.get(&torrent.record.id).copied().unwrap_or(usize::MAX),
            class: match &torrent.record {
                record if record.needs_check => QueueClass::Check,
                record if record.progress.is_complete => QueueClass::Seed,
                _ => QueueClass::Download,
            },
            is_forced: torrent.record.desired_state == DesiredState::Forced,
            is_stalled: self.is_stalled(torrent),
        };
        let candidates: Vec<QueueCandidate> =
            self.torrents.values().filter(|torrent| torrent.wants_to_run()).map(candidate).collect();
        choose_running(&candidates, &self.settings.queue)
    }

    /// Whether a torrent runs, and nothing has moved for longer than the queue accepts.
    pub(super) fn is_stalled(&self, torrent: &ManagedTorrent) -> bool {
        let limit = Duration::from_secs(u64::from(self.settings.queue.stalled_minutes) * 60);
        self.settings.queue.ignores_stalled && torrent.last_payload_at().is_some_and(|moved| moved.elapsed() >= limit)
    }

    fn reconcile_torrent(&mut self, id: TorrentId, is_chosen: bool) {
        let Some(torrent) = self.torrents.get(&id) else { return };
        match &torrent.state {
            ManagedState::Active(run) => {
                let spec = torrent.spec(run.spec.has_incomplete_suffix);
                // A run that ends after its check keeps nothing that could go on, such as peers.
                let must_restart = !run.spec.has_metainfo || run.spec.ends_after_check || spec.ends_after_check;
                if !is_chosen || (run.spec != spec && must_restart) {
                    self.stop_run(id);
                } else if run.spec != spec {
                    self.reopen_run(id, spec);
                }
            }
            ManagedState::Stopping(_) | ManagedState::FileJob(_) => {}
            ManagedState::Dormant(_) => {
                self.reconcile_dormant(id, is_chosen);
                if !is_chosen {
                    self.reconcile_idle(id, is_chosen);
                }
            }
            ManagedState::Idle => self.reconcile_idle(id, is_chosen),
        }
    }

    /// A torrent that does nothing: moves its files, runs, or becomes dormant.
    fn reconcile_idle(&mut self, id: TorrentId, is_chosen: bool) {
        let Some(torrent) = self.torrents.get(&id).filter(|_| !self.is_ending) else { return };
        if let Some(operation) = torrent.file_operation() {
            self.start_file_job(id, operation);
        } else if is_chosen && torrent.is_known_complete && torrent.can_be_dormant() {
            self.make_dormant(id, None, None);
        } else if is_chosen && self.has_descriptors() {
            let spec = torrent.spec(self.settings.renames_partial_files);
            self.start_run(id, spec);
        } else if !is_chosen && self.torrents.get_mut(&id).is_some_and(ManagedTorrent::clear_start_problem) {
            self.publish(id);
        }
    }

    /// Whether one more torrent may start: the last descriptors are for the page and the state. It starts once another one has
    /// ended or become dormant.
    fn has_descriptors(&self) -> bool {
        !self.torrents.values().any(ManagedTorrent::is_active) || !descriptors::are_scarce()
    }

    /// Lets a running torrent open its files as they are wanted now; its peers stay.
    fn reopen_run(&mut self, id: TorrentId, spec: RunSpec) {
        let Some(torrent) = self.torrents.get(&id) else { return };
        let options = self.options(&torrent.record, &spec);
        if let Some(run) = self.torrents.get_mut(&id).and_then(ManagedTorrent::active_mut) {
            run.reopen(spec, options);
        }
        self.publish(id);
    }

    /// Tells the run to stop; [`Manager::collect_ended`] notices its end.
    pub(super) fn stop_run(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        match std::mem::replace(&mut torrent.state, ManagedState::Idle) {
            ManagedState::Active(run) => {
                run.handle.stop();
                torrent.state = ManagedState::Stopping(run);
            }
            other => torrent.state = other,
        }
        self.publish(id);
    }

    pub(super) fn start_run(&mut self, id: TorrentId, spec: RunSpec) {
        let Some((torrent, client)) = self.torrents.get(&id).zip(self.client.current.clone()) else { return };
        if torrent.has_refused_folder() {
            let why = permitted_folders::refusal(&torrent.record.folder);
            return self.fail(id, ProblemKind::Local, &why);
        }
        let record = &torrent.record;
        self.inherit_resume_data(record);
        let source = match self.source(record) {
            Ok(source) => source,
            Err(error) => return self.fail_start(id, &error),
        };
        let announced = torrent.announced_before();
        let registered_before = announced.registered_at.as_ref().map(|tracker| tracker.url.clone());
        let options = self.options(record, &spec).identity(Some(torrent.identity)).announced(announced);
        let base = record.sums;
        match client.add(source, options) {
            Ok(handle) => {
                let mut run = ActiveRun::new(handle, spec, base);
                run.registered_before = registered_before;
                let is_pending = Arc::new(Flag::default());
                self.control.pending.lock().insert(id, is_pending.clone());
                run.events.set_notify(notify(self.control.manager.clone(), is_pending, id));
                if let Some(torrent) = self.torrents.get_mut(&id) {
                    match std::mem::replace(&mut torrent.state, ManagedState::Idle) {
                        ManagedState::Dormant(dormant) => run.resume_from(*dormant),
                        _ => torrent.record.times.started = UnixTime::now(),
                    }
                    torrent.state = ManagedState::Active(Box::new(run));
                    (torrent.changed_at, torrent.is_dirty, torrent.is_known_complete) = (Instant::now(), true, false);
                    torrent.problem = None;
                    torrent.clear_start_problem();
                }
                self.apply_live(id);
                self.publish(id);
            }
            Err(error) => self.fail_start(id, &StartError::no_thread(&error)),
        }
    }

    /// A torrent, or the work on its files, cannot start. If only the system lacks something, it stays as it is, and the manager's
    /// next turns try again.
    pub(super) fn fail_start(&mut self, id: TorrentId, StartError { is_shortage, why }: &StartError) {
        if !is_shortage {
            return self.fail(id, ProblemKind::Local, why);
        }
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let message = printable(&format!("cannot start yet: {why}"));
        let problem = Some(Problem { kind: ProblemKind::Local, message });
        if torrent.start_problem != problem {
            log::warn!("torrent {}: cannot start yet: {}; btsync tries again", id.0, printable(why));
            (torrent.start_problem, torrent.changed_at) = (problem, Instant::now());
            self.publish(id);
        }
    }

    /// Files that were complete in the folder that the torrent had before count as complete in the one that it has now.
    fn inherit_resume_data(&self, record: &TorrentRecord) {
        let Some(previous) = record.previous_place.as_ref().filter(|_| record.metainfo.is_some()) else { return };
        if let Ok(metainfo) = self.read_metainfo(record) {
            record
                .idle(&metainfo, &self.state_folder.resume_folder(record.info_hash))
                .inherit_resume_data(&previous.folder);
        }
    }

    /// The torrent's metainfo, or its link while it has none.
    fn source(&self, record: &TorrentRecord) -> Result<Source, StartError> {
        if record.metainfo.is_some() {
            let mut metainfo = self.read_metainfo(record)?;
            let own = record.trackers.as_ref().unwrap_or(&metainfo.tiers);
            metainfo.tiers = [own, self.default_trackers(metainfo.is_private)].concat();
            return Ok(metainfo.into());
        }
        let failed = |why: String| StartError { is_shortage: false, why };
        let link = record.link.as_deref();
        let link = link.ok_or_else(|| failed("neither metainfo nor a link is known".to_owned()))?;
        let mut magnet = Magnet::parse(link).map_err(|error| failed(error.to_string()))?;
        if let Some(own) = &record.trackers {
            magnet.trackers = own.iter().flatten().cloned().collect();
        }
        Ok(magnet.into())
    }

    /// The torrent's metainfo, from the state folder.
    pub(super) fn read_metainfo(&self, record: &TorrentRecord) -> Result<Metainfo, StartError> {
        let path = self.state_folder.torrent_file(record.info_hash);
        read_metainfo(&path).map_err(|error| StartError::from_metainfo(&path, &error))
    }

    fn options(&self, record: &TorrentRecord, spec: &RunSpec) -> AddOptions {
        let network = &self.settings.network;
        let mut options = AddOptions::new(&spec.folder)
            .seed(SeedGoal::forever())
            .resume_folder(Some(self.state_folder.resume_folder(record.info_hash)))
            .downloaded_torrents_folder(Some(downloaded_torrents(self.state_folder.path())))
            .private_folders(self.private_folders.clone())
            .replace_colons(true)
            .renamed_files(spec.renamed.clone())
            .verify(spec.needs_check)
            .ends_after_check(spec.ends_after_check)
            .expects_files(record.progress.have > 0)
            .repair_scope(record.repair_scope())
            .overwrite(spec.may_overwrite)
            .overwrite_permitted_at(Some(record.overwrite_permitted_at))
            .sequential(record.settings.is_sequential)
            .max_peers(usize::from(record.settings.peer_limit))
            .encryption(network.encryption)
            .torrent_web_seeds(!self.ignores_web_seeds)
            .pex(network.uses_pex)
            .lsd(network.uses_lsd)
            .dht(network.uses_dht)
            .incomplete_suffix(spec.has_incomplete_suffix.then(|| INCOMPLETE_SUFFIX.to_owned()));
        if let Some(metainfo) = record.metainfo.as_ref().filter(|_| !spec.unwanted.is_empty()) {
            options = options.files(selection(spec, metainfo.entries));
        }
        if record.metainfo.is_none() {
            options = options.save_torrent(Some(self.state_folder.torrent_file(record.info_hash)));
        }
        options
    }

    /// Takes back the torrents that have ended.
    pub(super) fn collect_ended(&mut self) {
        let ids: Vec<TorrentId> = self.torrents.iter().filter(|(_, it)| it.is_active()).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(ended) = self.torrents.get(&id).and_then(ManagedTorrent::handle).and_then(TorrentHandle::try_wait)
            else {
                continue;
            };
            self.drain_events(id);
            self.control.pending.lock().remove(&id);
            let Some(torrent) = self.torrents.get_mut(&id) else { continue };
            let (run, was_told) = match std::mem::replace(&mut torrent.state, ManagedState::Idle) {
                ManagedState::Stopping(run) => (run, true),
                ManagedState::Active(run) => (run, false),
                _ => continue,
            };
            let run = torrent.take_stats(*run, &mut self.session.sums);
            let becomes_dormant =
                run.going_dormant.is_some() && matches!(ended, Ok(Outcome::Stopped | Outcome::StoppedComplete));
            if becomes_dormant {
                // Also if it is to stop: as a seed, it tells the tracker that has it in its swarm.
                self.finish_going_dormant(id, run);
                self.save(id);
                continue;
            }
            torrent.problem = None;
            torrent.drop_guard_after_run(&run, ended.is_ok());
            match ended {
                Err(error) => self.fail_with(id, &error),
                Ok(Outcome::Stopped | Outcome::StoppedComplete) if was_told || run.spec.ends_after_check => {
                    self.save(id);
                }
                Ok(outcome) => {
                    log::warn!("torrent {}: ended with {outcome:?} although it was not to stop", id.0);
                    self.fail(id, ProblemKind::Local, "it stopped unexpectedly; start it again");
                }
            }
            self.publish(id);
        }
    }

    fn fail_with(&mut self, id: TorrentId, error: &TorrentError) {
        let is_gone = matches!(error, TorrentError::Storage(StorageError::NoFiles { .. }));
        if let Some(torrent) = self.torrents.get_mut(&id).filter(|torrent| is_gone && torrent.record.needs_check) {
            // The user asked for a check: from now on, nothing of the torrent is known to be on disk.
            (torrent.record.progress.have, torrent.record.progress.is_complete) = (0, false);
        }
        let (kind, advice) = match error {
            TorrentError::Storage(error) if error.is_overwritable() => {
                (ProblemKind::FilesInTheWay, "; choose another folder, or permit btsync to overwrite it")
            }
            _ if is_gone => (ProblemKind::Local, "; to download them again, verify the torrent, then start it"),
            _ => (ProblemKind::Local, ""),
        };
        self.fail(id, kind, &format!("{error}{advice}"));
    }

    /// Stops a torrent for good because of a problem, which the user sees.
    pub(super) fn fail(&mut self, id: TorrentId, kind: ProblemKind, message: &str) {
        let problem = Problem { kind, message: printable(message) };
        log::warn!("torrent {}: {}", id.0, problem.message);
        let failed = self.update_record(id, |record| {
            record.cancel_check();
            (record.desired_state, record.may_overwrite_in) = (DesiredState::Stopped, None);
            record.problem = Some(problem);
        });
        if let Err(error) = failed {
            log::error!("{error}");
        }
    }
}

/// Why a torrent, or the work on its files, cannot start.
#[derive(Debug)]
pub(super) struct StartError {
    /// Whether the system lacks a thread or a descriptor, so that a later attempt may succeed.
    is_shortage: bool,
    /// The reason, in one line.
    pub why: String,
}

impl StartError {
    /// The system has no thread for it.
    pub(super) fn no_thread(error: &io::Error) -> StartError {
        StartError { is_shortage: true, why: format!("no thread is free: {}", reason(error)) }
    }

    /// The .torrent at `path` cannot be read.
    fn from_metainfo(path: &Path, error: &MetainfoError) -> StartError {
        let is_shortage = matches!(error, MetainfoError::Io { source, .. } if descriptors::is_shortage(source));
        StartError { is_shortage, why: format!("{}: {error}", path.display()) }
    }
}

/// Tells the manager that a torrent has events, once until it has read them. A torrent whose message has no room sends the next.
fn notify(to_manager: ManagerSender, is_pending: Arc<Flag>, id: TorrentId) -> impl Fn() + Send + Sync + 'static {
    move || {
        if !is_pending.swap(true) && !to_manager.try_send(ManagerMessage::TorrentEvents(id)) {
            is_pending.set(false);
        }
    }
}

/// The wanted files as a selection by index; `entries` counts the metainfo's entries, padding included.
fn selection(spec: &RunSpec, entries: u32) -> Selection {
    let mut ranges: Vec<std::ops::RangeInclusive<u32>> = Vec::new();
    for index in (0..entries).filter(|index| !spec.unwanted.contains(index)) {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(index) => *last = *last.start()..=index,
            _ => ranges.push(index..=index),
        }
    }
    Selection { magnet_indexes: Some(ranges), ..Selection::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::manager_channel::manager_channel;

    #[test]
    fn only_a_torrent_that_lacks_a_descriptor_starts_later() {
        let is_shortage = |error: &MetainfoError| StartError::from_metainfo(Path::new("t"), error).is_shortage;
        let io = |errno: rustix::io::Errno| MetainfoError::Io { path: "t".into(), source: errno.into() };
        assert!(is_shortage(&io(rustix::io::Errno::MFILE)) && is_shortage(&io(rustix::io::Errno::NFILE)));
        assert!(!is_shortage(&io(rustix::io::Errno::NOENT)) && !is_shortage(&MetainfoError::Empty));
    }

    #[test]
    fn a_torrent_whose_message_had_no_room_sends_the_next_one() {
        let (to_manager, manager) = manager_channel(1);
        assert!(to_manager.try_send(ManagerMessage::ShutDown));
        let is_pending = Arc::new(Flag::default());
        let notify = notify(to_manager, is_pending.clone(), TorrentId(7));
        notify();
        assert!(!is_pending.is_set(), "the channel is full");
        assert!(matches!(manager.messages.try_recv(), Ok(ManagerMessage::ShutDown)));
        (0..3).for_each(|_| notify());
        assert!(
            is_pending.is_set()
                && matches!(manager.messages.try_recv(), Ok(ManagerMessage::TorrentEvents(TorrentId(7))))
        );
        assert!(manager.messages.try_recv().is_err(), "one message is enough");
    }
}
