//! A torrent of the manager: its record, and its run if it has one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::client::DormantGuard;
use crate::discovery::tracker::announce::{AnnouncedBefore, AnnouncedPayload, RegisteredTracker, TorrentIdentity};
use crate::service::file_jobs::FileOperation;
use crate::service::manager::active_run::{ActiveRun, RunSpec};
use crate::service::manager::dormant::DormantTerms;
use crate::service::model::{Problem, SessionSums};
use crate::service::record::{DesiredState, TorrentRecord};
use crate::strategy::peer_list::PeerSource;
use crate::torrent::TorrentHandle;

/// A torrent.
pub struct ManagedTorrent {
    /// What is kept of it.
    pub record: TorrentRecord,
    /// What it does.
    pub state: ManagedState,
    /// A problem that does not stop it: a tracker's warning or error, which a later answer clears.
    pub problem: Option<Problem>,
    /// Why the system does not let it start yet, although it should.
    pub start_problem: Option<Problem>,
    /// Whether stats have changed since the record was saved.
    pub is_dirty: bool,
    /// When something about it last changed that a list shows.
    pub changed_at: Instant,
    /// How it identifies itself to trackers and peers in this session, running or dormant.
    pub identity: TorrentIdentity,
    /// Payload of its earlier runs, since trackers were told that it started.
    pub announced: AnnouncedPayload,
    /// Announces it while it is dormant, and what was promised of it. It is kept while the seed runs.
    pub guard: Option<(Arc<DormantGuard>, DormantTerms)>,
    /// Whether its last run found it complete, so that it can be dormant without running first. The last session's word counts too.
    pub is_known_complete: bool,
    /// The folder in which it must not run: the record had it at the start of the service, and it is not permitted.
    pub refused_folder: Option<PathBuf>,
}

/// What a torrent does.
pub enum ManagedState {
    /// It costs its record only.
    Idle,
    /// It seeds, and is announced, but does not run, because it has no peers.
    Dormant(Box<DormantState>),
    /// It runs.
    Active(Box<ActiveRun>),
    /// It was told to stop.
    Stopping(Box<ActiveRun>),
    /// Its files are being moved or deleted.
    FileJob(FileOperation),
}

/// A seed that does not run.
pub struct DormantState {
    /// When payload was last received or sent.
    pub last_payload_at: Instant,
    /// When payload was last sent, or seeding began.
    pub last_upload_at: Instant,
    /// Why it has to run, if it has.
    pub wake_request: Option<WakeRequest>,
}

/// What a seed that becomes dormant keeps of its run.
pub struct GoingDormant {
    /// The tracker that has it in its swarm.
    pub registered_at: Option<RegisteredTracker>,
    /// Why it has to run again.
    pub wake_request: Option<WakeRequest>,
}

/// Why a seed has to run.
#[derive(Debug)]
pub struct WakeRequest {
    /// Since when.
    pub since: Instant,
    /// Whether a connection waits for it.
    pub is_for_connection: bool,
    /// Peers that it has to dial, and who named them.
    pub peers: Vec<SocketAddr>,
    pub source: Option<PeerSource>,
}

impl ManagedTorrent {
    /// A torrent that does not run.
    pub fn new(record: TorrentRecord, identity: TorrentIdentity) -> ManagedTorrent {
        ManagedTorrent {
            record,
            state: ManagedState::Idle,
            problem: None,
            start_problem: None,
            is_dirty: false,
            changed_at: Instant::now(),
            identity,
            announced: AnnouncedPayload::default(),
            guard: None,
            is_known_complete: false,
            refused_folder: None,
        }
    }

    /// It has started, or is to start no longer. Returns whether something kept it from that.
    pub fn clear_start_problem(&mut self) -> bool {
        let had_problem = self.start_problem.take().is_some();
        if had_problem {
            self.changed_at = Instant::now();
        }
        had_problem
    }

    /// Whether it must not use its folder.
    pub fn has_refused_folder(&self) -> bool {
        self.refused_folder.as_ref() == Some(&self.record.folder)
    }

    /// The run, if there is one.
    pub fn active(&self) -> Option<&ActiveRun> {
        match &self.state {
            ManagedState::Active(run) | ManagedState::Stopping(run) => Some(run),
            ManagedState::Idle | ManagedState::Dormant(_) | ManagedState::FileJob(_) => None,
        }
    }

    /// The run, if there is one.
    pub fn active_mut(&mut self) -> Option<&mut ActiveRun> {
        match &mut self.state {
            ManagedState::Active(run) | ManagedState::Stopping(run) => Some(run),
            ManagedState::Idle | ManagedState::Dormant(_) | ManagedState::FileJob(_) => None,
        }
    }

    /// The handle of the run, if there is one.
    pub fn handle(&self) -> Option<&TorrentHandle> {
        self.active().map(|run| &run.handle)
    }

    /// Whether it runs or stops.
    pub fn is_active(&self) -> bool {
        self.active().is_some()
    }

    /// Whether it seeds without running.
    pub fn is_dormant(&self) -> bool {
        matches!(self.state, ManagedState::Dormant(_))
    }

    /// When payload was last received or sent, if it runs or is dormant.
    pub fn last_payload_at(&self) -> Option<Instant> {
        match &self.state {
            ManagedState::Dormant(dormant) => Some(dormant.last_payload_at),
            _ => self.active().map(|run| run.last_payload_at),
        }
    }

    /// Whether it was told to stop and has not yet.
    pub fn is_stopping(&self) -> bool {
        matches!(self.state, ManagedState::Stopping(_))
    }

    /// Whether every wanted piece is verified.
    pub fn is_complete(&self) -> bool {
        self.record.progress.is_complete && !self.record.needs_check
    }

    /// Whether its files are being moved or renamed, or wait for that.
    pub fn is_moving(&self) -> bool {
        matches!(self.state, ManagedState::FileJob(FileOperation::Move(..)))
            || self.record.moving_to.is_some()
            || !self.record.renaming.is_empty()
    }

    /// Whether the user wants it to run, and nothing prevents it for good.
    pub fn wants_to_run(&self) -> bool {
        self.record.removal.is_none()
            && self.record.moving_to.is_none()
            && self.record.renaming.is_empty()
            && (self.record.desired_state != DesiredState::Stopped || self.record.needs_check)
    }

    /// What has to be done with its files before it can run.
    pub fn file_operation(&self) -> Option<FileOperation> {
        let TorrentRecord { folder, files, moving_to, renaming, removal, .. } = &self.record;
        if moving_to.is_some() || !renaming.is_empty() {
            let names = if renaming.is_empty() { &files.renamed } else { renaming };
            return Some(FileOperation::Move(moving_to.as_ref().unwrap_or(folder).clone(), names.clone()));
        }
        removal.map(|removal| FileOperation::Remove { deletes_data: removal.deletes_data })
    }

    /// What a run would have to be started with.
    pub fn spec(&self, has_incomplete_suffix: bool) -> RunSpec {
        let record = &self.record;
        RunSpec {
            folder: record.folder.clone(),
            unwanted: record.files.unwanted.iter().copied().collect(),
            renamed: record.files.renamed.clone(),
            may_overwrite: record.may_overwrite(),
            needs_check: record.needs_check,
            ends_after_check: record.needs_check && record.desired_state == DesiredState::Stopped,
            has_metainfo: record.metainfo.is_some(),
            has_incomplete_suffix,
        }
    }

    /// Whether it can be dormant while it is to run: everything wanted is complete, and no check was asked for.
    pub fn can_be_dormant(&self) -> bool {
        self.is_complete() && self.record.metainfo.is_some() && !self.record.may_overwrite() && self.wants_to_run()
    }

    /// What trackers know of it.
    pub fn announced_before(&self) -> AnnouncedBefore {
        let payload = self.announced;
        let nothing = || AnnouncedBefore { payload, registered_at: None };
        self.guard.as_ref().map_or_else(nothing, |(guard, _)| guard.announced(payload))
    }

    /// A run has ended: takes over its stats, also into those of the session.
    pub fn take_stats(&mut self, mut run: ActiveRun, session: &mut SessionSums) -> ActiveRun {
        run.read();
        let (before, sums) = (self.record.sums, run.sums());
        session.downloaded = session.downloaded.saturating_add(sums.downloaded.saturating_sub(before.downloaded));
        session.uploaded = session.uploaded.saturating_add(sums.uploaded.saturating_sub(before.uploaded));
        self.announced.uploaded = self.announced.uploaded.saturating_add(run.snapshot.uploaded);
        self.announced.downloaded = self.announced.downloaded.saturating_add(run.snapshot.downloaded);
        (self.record.sums, self.changed_at) = (sums, Instant::now());
        run
    }

    /// A run has ended, and has told trackers that it stops if it got that far.
    pub fn drop_guard_after_run(&mut self, run: &ActiveRun, is_regular: bool) {
        if is_regular && !run.handle.trackers().is_empty() {
            (self.guard, self.announced) = (None, AnnouncedPayload::default());
        } else {
            self.announce_stopped();
        }
    }

    /// It is a seed no more: the tracker that has it in its swarm hears that it stops.
    pub fn announce_stopped(&mut self) {
        if let Some((guard, _)) = self.guard.take() {
            guard.stop();
        }
        self.announced = AnnouncedPayload::default();
    }
}
