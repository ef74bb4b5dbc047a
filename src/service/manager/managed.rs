//! A torrent of the manager: its record, and its run if it has one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use crate::service::file_jobs::FileTask;
use crate::service::model::Problem;
use crate::service::record::{RecordSums, TorrentRecord, Wish};
use crate::torrent::{Events, Snapshot, Stage, TorrentHandle};
use crate::types::PieceState;

/// A torrent.
pub struct Managed {
    /// What is kept of it.
    pub record: TorrentRecord,
    /// Its run.
    pub run: Run,
    /// A tracker's warning or error, which a later answer clears.
    pub tracker_problem: Option<Problem>,
    /// Whether figures have changed since the record was saved.
    pub is_dirty: bool,
    /// When something about it last changed that a list shows.
    pub changed: Instant,
}

/// Whether a torrent runs.
pub enum Run {
    /// It costs its record only.
    Idle,
    /// It runs.
    Active(Box<ActiveRun>),
    /// It was told to stop.
    Stopping(Box<ActiveRun>),
    /// Its files are being moved or deleted.
    FileJob(FileTask),
}

/// What cannot change while a torrent runs: if it does, the torrent starts again.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct RunSpec {
    /// The folder of its files.
    pub folder: PathBuf,
    /// Indexes of files that are not wanted.
    pub unwanted: BTreeSet<u32>,
    /// Files with another path.
    pub renamed: Vec<(u32, PathBuf)>,
    /// Whether it may overwrite files.
    pub may_overwrite: bool,
    /// Whether its files are hashed first.
    pub needs_check: bool,
    /// Whether it ends after the check.
    pub ends_after_check: bool,
    /// Whether it has its metainfo.
    pub has_metainfo: bool,
    /// The suffix of incomplete files.
    pub incomplete_suffix: bool,
}

/// A torrent that runs.
pub struct ActiveRun {
    /// Its handle.
    pub handle: TorrentHandle,
    /// Its events.
    pub events: Events,
    /// What it was started with.
    pub spec: RunSpec,
    /// The sums before it started.
    pub base: RecordSums,
    /// Its figures.
    pub snapshot: Snapshot,
    /// Missing bytes that connected peers have.
    pub available: u64,
    /// When payload was last received or sent.
    pub moved: Instant,
    /// When payload was last sent, or seeding began.
    pub sent: Instant,
}

impl Managed {
    /// A torrent that does not run.
    pub fn new(record: TorrentRecord) -> Managed {
        Managed { record, run: Run::Idle, tracker_problem: None, is_dirty: false, changed: Instant::now() }
    }

    /// The run, if there is one.
    pub fn active(&self) -> Option<&ActiveRun> {
        match &self.run {
            Run::Active(run) | Run::Stopping(run) => Some(run),
            Run::Idle | Run::FileJob(_) => None,
        }
    }

    /// The run, if there is one.
    pub fn active_mut(&mut self) -> Option<&mut ActiveRun> {
        match &mut self.run {
            Run::Active(run) | Run::Stopping(run) => Some(run),
            Run::Idle | Run::FileJob(_) => None,
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

    /// Whether it was told to stop and has not yet.
    pub fn is_stopping(&self) -> bool {
        matches!(self.run, Run::Stopping(_))
    }

    /// Whether every wanted piece is verified.
    pub fn is_complete(&self) -> bool {
        self.record.progress.is_complete && !self.record.needs_check
    }

    /// Whether the user wants it to run, and nothing prevents it for good.
    pub fn wants_to_run(&self) -> bool {
        self.record.removal.is_none()
            && self.record.moving_to.is_none()
            && self.record.renaming.is_empty()
            && (self.record.wish != Wish::Stop || self.record.needs_check)
    }

    /// What has to be done with its files before it can run.
    pub fn file_task(&self) -> Option<FileTask> {
        let TorrentRecord { folder, files, moving_to, renaming, removal, .. } = &self.record;
        if moving_to.is_some() || !renaming.is_empty() {
            let names = if renaming.is_empty() { &files.renamed } else { renaming };
            return Some(FileTask::Move(moving_to.as_ref().unwrap_or(folder).clone(), names.clone()));
        }
        removal.map(|removal| FileTask::Remove(removal.deletes_data))
    }

    /// What a run would have to be started with.
    pub fn spec(&self, incomplete_suffix: bool) -> RunSpec {
        let record = &self.record;
        RunSpec {
            folder: record.folder.clone(),
            unwanted: record.files.unwanted.iter().copied().collect(),
            renamed: record.files.renamed.clone(),
            may_overwrite: record.may_overwrite,
            needs_check: record.needs_check,
            ends_after_check: record.needs_check && record.wish == Wish::Stop,
            has_metainfo: record.facts.is_some(),
            incomplete_suffix,
        }
    }
}

impl ActiveRun {
    /// A torrent that has just been started.
    pub fn new(handle: TorrentHandle, spec: RunSpec, base: RecordSums) -> ActiveRun {
        let (events, now) = (handle.events(), Instant::now());
        let snapshot = handle.snapshot();
        ActiveRun { handle, events, spec, base, snapshot, available: 0, moved: now, sent: now }
    }

    /// Reads the figures. Returns whether payload has moved since the last time.
    pub fn read(&mut self) -> bool {
        let new = self.handle.snapshot();
        let has_sent = new.uploaded > self.snapshot.uploaded;
        let has_moved = has_sent || new.downloaded > self.snapshot.downloaded;
        let now = Instant::now();
        if has_moved {
            self.moved = now;
        }
        if has_sent || (new.stage == Stage::Seeding && self.snapshot.stage != Stage::Seeding) {
            self.sent = now;
        }
        self.available = available(&self.handle, new.total.saturating_sub(new.have));
        self.snapshot = new;
        has_moved
    }

    /// The sums of all runs, this one included.
    pub fn sums(&self) -> RecordSums {
        RecordSums {
            downloaded: self.base.downloaded.saturating_add(self.snapshot.downloaded),
            uploaded: self.base.uploaded.saturating_add(self.snapshot.uploaded),
            wasted: self.base.wasted.saturating_add(self.snapshot.wasted),
        }
    }
}

/// How many of the missing bytes connected peers have, as their part of the missing pieces says.
fn available(handle: &TorrentHandle, missing: u64) -> u64 {
    if missing == 0 {
        return 0;
    }
    let (mut counts, mut states) = (Vec::new(), Vec::new());
    handle.availability(&mut counts);
    handle.pieces(&mut states);
    let lacks = |state: &PieceState| !matches!(state, PieceState::Verified | PieceState::Unwanted);
    let missing_pieces = states.iter().filter(|state| lacks(state)).count() as u64;
    let there = counts.iter().zip(&states).filter(|(count, state)| lacks(state) && **count > 0).count() as u64;
    if missing_pieces == 0 { 0 } else { (u128::from(missing) * u128::from(there) / u128::from(missing_pieces)) as u64 }
}
