//! Reading the stats of running torrents, and publishing the state of all torrents.

use std::time::{Duration, Instant};

use crate::service::details::peer_counts;
use crate::service::goals;
use crate::service::manager::Manager;
use crate::service::manager::active_run::ActiveRun;
use crate::service::manager::managed_torrent::{ManagedState, ManagedTorrent};
use crate::service::model::{
    Activity, PeerCounts, Problem, SessionStats, TorrentId, TorrentSummary, TorrentTimes, TransferStats, UnixTime,
};
use crate::service::published::PublishedTorrent;
use crate::service::record::{DesiredState, RecordProgress, TorrentRecord};
use crate::torrent::Stage;

impl Manager {
    /// Reads the stats of running torrents, and ends seeds whose goal is reached.
    pub(super) fn read_stats(&mut self, elapsed: Duration) {
        let mut reached = Vec::new();
        let (mut down, mut up) = (0, 0);
        for (id, torrent) in &mut self.torrents {
            let ManagedTorrent { record, state, is_dirty, changed_at, .. } = torrent;
            let ManagedState::Active(run) = state else { continue };
            let (had_down, had_up) = (record.sums.downloaded, record.sums.uploaded);
            let had = (run.snapshot.down_rate, run.snapshot.up_rate, run.snapshot.connected_peers);
            if run.read() {
                record.times.active = UnixTime::now();
            }
            record.sums = run.sums();
            down += record.sums.downloaded.saturating_sub(had_down);
            up += record.sums.uploaded.saturating_sub(had_up);
            let had_progress = record.progress.clone();
            follow_stage(record, run, elapsed);
            *is_dirty = true;
            let has = (run.snapshot.down_rate, run.snapshot.up_rate, run.snapshot.connected_peers);
            if had != has || had_progress != record.progress || run.snapshot.stage == Stage::Checking {
                *changed_at = Instant::now();
            }
            let idle = run.last_upload_at.elapsed();
            let (uploaded, size) = (record.sums.uploaded, record.progress.wanted);
            if run.snapshot.stage == Stage::Seeding
                && !run.is_reopening()
                && record.desired_state == DesiredState::Queued
                && goals::is_reached(&record.settings, &self.settings.seeding, uploaded, size, idle)
            {
                reached.push(*id);
            }
        }
        self.session.sums.downloaded = self.session.sums.downloaded.saturating_add(down);
        self.session.sums.uploaded = self.session.sums.uploaded.saturating_add(up);
        self.finish_seeds(&reached);
        let active: Vec<TorrentId> =
            self.torrents.iter().filter(|(_, torrent)| torrent.is_active()).map(|(id, _)| *id).collect();
        for id in active {
            self.publish(id);
        }
    }

    /// Seeds have reached their goals.
    pub(super) fn finish_seeds(&mut self, reached: &[TorrentId]) {
        for id in reached {
            if let Err(error) = self
                .update_record(*id, |record| (record.desired_state, record.is_finished) = (DesiredState::Stopped, true))
            {
                log::error!("{error}");
            }
        }
    }

    /// Publishes all torrents and the sums.
    pub(super) fn publish_all(&self) {
        for id in self.torrents.keys() {
            self.publish(*id);
        }
        self.publish_settings();
        self.publish_stats();
    }

    /// Publishes what a torrent looks like now. One that is to be removed is gone for everybody, although it may take a moment to
    /// stop.
    pub(super) fn publish(&self, id: TorrentId) {
        let Some(torrent) = self.torrents.get(&id) else { return };
        if torrent.record.removal.is_some() {
            self.control.published.lock().remove(id);
            return;
        }
        let entry = PublishedTorrent {
            summary: self.summary(torrent),
            record: torrent.record.clone(),
            handle: torrent.handle().cloned(),
            guard: torrent.guard.as_ref().map(|(guard, _)| guard.clone()),
            changed: torrent.changed_at,
        };
        self.control.published.lock().put(id, entry);
    }

    /// Publishes the settings and bandwidth groups.
    pub(super) fn publish_settings(&self) {
        let mut published = self.control.published.lock();
        published.settings.clone_from(&self.settings);
        published.groups.clone_from(&self.session.groups);
    }

    /// Publishes the sums.
    pub(super) fn publish_stats(&self) {
        let rate =
            |of: fn(&ActiveRun) -> u64| self.torrents.values().filter_map(ManagedTorrent::active).map(of).sum::<u64>();
        let ran = self.clock.started_at.elapsed().as_secs();
        let shown = || self.torrents.values().filter(|torrent| torrent.record.removal.is_none());
        let mut stats = SessionStats {
            active_torrents: shown().filter(|torrent| torrent.is_active() || torrent.is_dormant()).count(),
            torrents: shown().count(),
            down_rate: rate(|run| run.snapshot.down_rate),
            up_rate: rate(|run| run.snapshot.up_rate),
            cumulative: self.session.sums,
            ..SessionStats::default()
        };
        stats.paused_torrents = shown().filter(|torrent| torrent.record.desired_state == DesiredState::Stopped).count();
        stats.cumulative.seconds = stats.cumulative.seconds.saturating_add(ran);
        let mut published = self.control.published.lock();
        let before = published.sums_before;
        stats.current.downloaded = stats.cumulative.downloaded.saturating_sub(before.downloaded);
        stats.current.uploaded = stats.cumulative.uploaded.saturating_sub(before.uploaded);
        stats.current.files_added = stats.cumulative.files_added.saturating_sub(before.files_added);
        (stats.current.sessions, stats.current.seconds) = (1, ran);
        published.stats = stats;
        published.peer_port = self.client.current.as_ref().and_then(|client| client.port()).unwrap_or(0);
    }

    fn summary(&self, torrent: &ManagedTorrent) -> TorrentSummary {
        let record = &torrent.record;
        let run = torrent.active();
        let snapshot = run.map(|run| &run.snapshot);
        let fraction = |(done, all): (u64, u64)| if all == 0 { 0.0 } else { done as f64 / all as f64 };
        let has_metainfo = record.metainfo.is_some();
        TorrentSummary {
            id: record.id,
            info_hash: record.info_hash,
            name: record.name.clone(),
            activity: activity(torrent),
            problem: problem_of(torrent).cloned(),
            settings: record.settings.clone(),
            folder: record.folder.clone(),
            queue_position: self.queue_positions.get(&record.id).copied().unwrap_or(0),
            times: times(record),
            transfer: transfer(record, run),
            metainfo: record.metainfo.clone(),
            metadata_progress: if has_metainfo {
                1.0
            } else {
                snapshot.map_or(0.0, |now| fraction((now.metadata.0 as u64, now.metadata.1 as u64)))
            },
            check_progress: snapshot
                .map_or(0.0, |now| if now.stage == Stage::Checking { fraction(now.checked) } else { 0.0 }),
            is_finished: record.is_finished,
            is_stalled: self.is_stalled(torrent),
            is_moving: torrent.is_moving(),
            peers: run.map_or_else(PeerCounts::default, |run| peer_counts(&run.handle)),
            magnet: record.link.clone().unwrap_or_default(),
            torrent_file: if has_metainfo {
                self.state_folder.torrent_file(record.info_hash)
            } else {
                std::path::PathBuf::new()
            },
        }
    }
}

/// The problem to show: what stopped the torrent, otherwise what keeps it from starting, otherwise what a tracker says.
fn problem_of(torrent: &ManagedTorrent) -> Option<&Problem> {
    torrent.record.problem.as_ref().or(torrent.start_problem.as_ref()).or(torrent.problem.as_ref())
}

/// What the torrent does, in Transmission's terms.
fn activity(torrent: &ManagedTorrent) -> Activity {
    let record = &torrent.record;
    match &torrent.state {
        ManagedState::Active(run) => match run.snapshot.stage {
            Stage::Checking => Activity::Checking,
            Stage::Starting if record.needs_check => Activity::CheckWaiting,
            Stage::Seeding => Activity::Seeding,
            Stage::Starting if record.progress.is_complete => Activity::Seeding,
            _ => Activity::Downloading,
        },
        // Transmission has no number for it, and programs must not take the torrent for one that they can use.
        _ if torrent.is_moving() => Activity::Stopped,
        ManagedState::Dormant(_) => Activity::Seeding,
        _ if record.needs_check => Activity::CheckWaiting,
        _ if record.desired_state == DesiredState::Stopped => Activity::Stopped,
        _ if record.progress.is_complete => Activity::SeedWaiting,
        _ => Activity::DownloadWaiting,
    }
}

fn times(record: &TorrentRecord) -> TorrentTimes {
    TorrentTimes {
        added: record.times.added,
        done: record.times.done,
        active: record.times.active,
        started: record.times.started,
        edited: record.times.edited,
        downloading: Duration::from_secs(record.times.downloading),
        seeding: Duration::from_secs(record.times.seeding),
    }
}

fn transfer(record: &TorrentRecord, run: Option<&ActiveRun>) -> TransferStats {
    let RecordProgress { total, wanted, have, .. } = record.progress;
    let (down_rate, up_rate) = run.map_or((0, 0), |run| (run.snapshot.down_rate, run.snapshot.up_rate));
    TransferStats {
        total,
        wanted,
        missing: wanted.saturating_sub(have),
        verified: have,
        unverified: run.map_or(0, |run| run.snapshot.unverified),
        downloaded: record.sums.downloaded,
        uploaded: record.sums.uploaded,
        wasted: record.sums.wasted,
        down_rate,
        up_rate,
        available: run.map_or(0, |run| run.available_bytes),
    }
}

/// Takes over what the run says about how far the torrent is, and counts its time.
fn follow_stage(record: &mut TorrentRecord, run: &ActiveRun, elapsed: Duration) {
    let seconds = elapsed.as_secs().max(1);
    match run.snapshot.stage {
        // The stage is one of the files before.
        _ if run.is_reopening() => return,
        Stage::Downloading => record.times.downloading += seconds,
        Stage::Seeding => record.times.seeding += seconds,
        _ => return,
    }
    record.progress.wanted = run.snapshot.total;
    record.progress.have = run.snapshot.have;
    record.progress.is_complete = run.snapshot.stage == Stage::Seeding;
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::discovery::tracker::announce::TorrentIdentity;
    use crate::service::file_jobs::FileOperation;
    use crate::service::model::ProblemKind;
    use crate::types::InfoHash;

    #[test]
    fn what_stops_a_torrent_is_shown_before_what_a_tracker_says() {
        let record = TorrentRecord::new(TorrentId(1), InfoHash([1; 20]), "n".into(), "/d".into(), UnixTime(0));
        let mut torrent = ManagedTorrent::new(record, TorrentIdentity::generate(None));
        let problem = |message: &str| Problem { kind: ProblemKind::Local, message: message.to_owned() };
        let shown = |torrent: &ManagedTorrent| problem_of(torrent).map(|problem| problem.message.clone());
        assert_eq!(shown(&torrent), None);
        torrent.problem = Some(problem("tracker"));
        torrent.start_problem = Some(problem("start"));
        assert_eq!(shown(&torrent).as_deref(), Some("start"));
        torrent.record.problem = Some(problem("stopped"));
        assert_eq!(shown(&torrent).as_deref(), Some("stopped"));
        torrent.record.problem = None;
        assert!(torrent.clear_start_problem() && !torrent.clear_start_problem());
        assert_eq!(shown(&torrent).as_deref(), Some("tracker"), "it was kept meanwhile");
    }

    #[test]
    fn a_torrent_whose_files_are_moved_counts_as_stopped() {
        let mut record = TorrentRecord::new(TorrentId(1), InfoHash([1; 20]), "n".into(), "/d".into(), UnixTime(0));
        (record.desired_state, record.progress.is_complete) = (DesiredState::Queued, true);
        let mut torrent = ManagedTorrent::new(record, TorrentIdentity::generate(None));
        assert_eq!((activity(&torrent), torrent.is_moving()), (Activity::SeedWaiting, false));
        torrent.record.moving_to = Some(PathBuf::from("/e"));
        assert_eq!((activity(&torrent), torrent.is_moving()), (Activity::Stopped, true));
        torrent.record.moving_to = None;
        torrent.state = ManagedState::FileJob(FileOperation::Move("/e".into(), Vec::new()));
        assert_eq!((activity(&torrent), torrent.is_moving()), (Activity::Stopped, true));
        torrent.state = ManagedState::Idle;
        torrent.record.renaming = vec![(0, "x".into())];
        assert!(torrent.is_moving());
    }
}
