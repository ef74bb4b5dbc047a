//! What the manager keeps of a torrent while it runs: its handle, what the manager has read from it so far (stats, when it moved
//! data, the networks of its peers), and how it opens the files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use crate::net::networks::Network;
use crate::service::manager::managed_torrent::{DormantState, GoingDormant, WakeRequest};
use crate::service::record::RecordSums;
use crate::strategy::traffic::Traffic;
use crate::torrent::{AddOptions, Events, Snapshot, Stage, TorrentHandle};
use crate::types::PieceState;

/// The most networks of a seed's peers that are counted.
const MAX_NETWORKS: usize = 16;

/// How a run opens the torrent's files. If it changes, the run opens them again, or the torrent starts again.
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
    pub has_incomplete_suffix: bool,
}

/// A torrent that runs.
pub struct ActiveRun {
    /// Its handle.
    pub handle: TorrentHandle,
    /// Its events.
    pub events: Events,
    /// How it opens the files, once it has fulfilled the requests in `reopenings`.
    pub spec: RunSpec,
    /// How many requests to open the files again it has not fulfilled yet. Until then, its events and its stats are about the files
    /// as they were before.
    reopenings: usize,
    /// The sums before it started.
    pub totals_before: RecordSums,
    /// Its stats.
    pub snapshot: Snapshot,
    /// Missing bytes that connected peers have.
    pub available_bytes: u64,
    /// When payload was last received or sent.
    pub last_payload_at: Instant,
    /// When payload was last sent, or seeding began.
    pub last_upload_at: Instant,
    /// When it started.
    pub started_at: Instant,
    /// When it last had a peer, or did something else than seed.
    pub alone_since: Instant,
    /// The payload that was sent.
    sent: Traffic,
    /// The networks of its peers, each once. While it has none, those that it was started for.
    pub networks: Vec<Network>,
    /// Whether it was dormant before: then it goes on seeding, and its upload time does not begin anew.
    pub was_dormant: bool,
    /// The URL of the tracker that had it in its swarm before it started.
    pub registered_before: Option<String>,
    /// Set if it ends so that its seed becomes dormant.
    pub going_dormant: Option<GoingDormant>,
}

impl ActiveRun {
    /// A torrent that has just been started.
    pub fn new(handle: TorrentHandle, spec: RunSpec, totals_before: RecordSums) -> ActiveRun {
        let (events, now) = (handle.events(), Instant::now());
        let snapshot = handle.snapshot();
        ActiveRun {
            handle,
            events,
            spec,
            reopenings: 0,
            totals_before,
            snapshot,
            available_bytes: 0,
            last_payload_at: now,
            last_upload_at: now,
            started_at: now,
            alone_since: now,
            sent: Traffic::default(),
            networks: Vec::new(),
            was_dormant: false,
            registered_before: None,
            going_dormant: None,
        }
    }

    /// Has the files opened again, as `spec` says.
    pub fn reopen(&mut self, spec: RunSpec, options: AddOptions) {
        self.handle.reopen(move |_| options);
        self.reopenings += 1;
        self.spec = spec;
    }

    /// The run has fulfilled so many requests to open the files again.
    pub fn note_reopened(&mut self, requests: usize) {
        self.reopenings = self.reopenings.saturating_sub(requests);
    }

    /// Whether events and stats are about the files as they were before a change.
    pub fn is_reopening(&self) -> bool {
        self.reopenings > 0
    }

    /// Reads the stats. Returns whether payload has moved since the last time.
    pub fn read(&mut self) -> bool {
        let new = self.handle.snapshot();
        let has_sent = new.uploaded > self.snapshot.uploaded;
        let has_moved = has_sent || new.downloaded > self.snapshot.downloaded;
        let now = Instant::now();
        if has_moved {
            self.last_payload_at = now;
        }
        let begins = new.stage == Stage::Seeding && self.snapshot.stage != Stage::Seeding && !self.was_dormant;
        if has_sent || begins {
            self.last_upload_at = now;
        }
        self.available_bytes = available(&self.handle, new.total.saturating_sub(new.have));
        if new.stage != Stage::Seeding || new.connected_peers > 0 {
            self.alone_since = now;
        }
        if new.connected_peers > 0 {
            let networks = self.handle.peers().into_iter().map(|peer| Network::public_subnet(peer.addr.ip()));
            let networks: BTreeSet<Network> = networks.collect();
            self.networks = networks.into_iter().take(MAX_NETWORKS).collect();
        }
        self.sent.moved(self.started_at.elapsed(), new.uploaded.saturating_sub(self.snapshot.uploaded));
        self.snapshot = new;
        has_moved
    }

    /// Takes over the times of a dormant seed, and dials the peers for which it was woken.
    pub fn resume_from(&mut self, dormant: DormantState) {
        (self.last_payload_at, self.last_upload_at, self.was_dormant) =
            (dormant.last_payload_at, dormant.last_upload_at, true);
        dormant.wake_request.into_iter().for_each(|request| self.add_found_peers(request));
    }

    /// Dials the peers that a request names.
    pub fn add_found_peers(&self, request: WakeRequest) {
        if let WakeRequest { peers, source: Some(source), .. } = request {
            self.handle.add_found_peers(&peers, source);
        }
    }

    /// Bytes per minute that it has recently sent.
    pub fn recently_sent(&self) -> u64 {
        self.sent.recent(self.started_at.elapsed())
    }

    /// The sums of all runs, this one included.
    pub fn sums(&self) -> RecordSums {
        RecordSums {
            downloaded: self.totals_before.downloaded.saturating_add(self.snapshot.downloaded),
            uploaded: self.totals_before.uploaded.saturating_add(self.snapshot.uploaded),
            wasted: self.totals_before.wasted.saturating_add(self.snapshot.wasted),
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
