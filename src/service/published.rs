//! What the manager publishes for everybody who reads: the summaries of all torrents, the settings, the sums.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::DormantGuard;
use crate::service::model::{BandwidthGroup, SessionStats, SessionSums, TorrentId, TorrentSummary};
use crate::service::record::TorrentRecord;
use crate::service::settings::SessionSettings;
use crate::torrent::TorrentHandle;
use crate::types::InfoHash;

/// How long a removed torrent is named to programs that ask for recent changes.
const REMOVED_MEMORY: Duration = Duration::from_secs(60);
/// The most removed torrents that are remembered.
const MAX_REMOVED: usize = 1000;

/// See the module's documentation.
#[derive(Default)]
pub struct PublishedState {
    /// The torrents.
    pub torrents: BTreeMap<TorrentId, PublishedTorrent>,
    /// The settings.
    pub settings: SessionSettings,
    /// The sums.
    pub stats: SessionStats,
    /// The sums when this session began.
    pub sums_before: SessionSums,
    /// The bandwidth groups.
    pub groups: Vec<BandwidthGroup>,
    /// The port on which peers reach us.
    pub peer_port: u16,
    numbers: HashMap<InfoHash, TorrentId>,
    removed: VecDeque<(TorrentId, Instant)>,
}

/// What is published of one torrent.
pub struct PublishedTorrent {
    /// Its summary.
    pub summary: TorrentSummary,
    /// Its record.
    pub record: TorrentRecord,
    /// Its handle, while it runs.
    pub handle: Option<TorrentHandle>,
    /// What announces it while it is dormant.
    pub guard: Option<Arc<DormantGuard>>,
    /// When something about it last changed.
    pub changed: Instant,
}

impl PublishedState {
    /// The state at the start of a session, with the sums of the sessions before it.
    pub fn new(sums_before: SessionSums) -> PublishedState {
        PublishedState { sums_before, ..PublishedState::default() }
    }

    /// Publishes a torrent, or what it looks like now.
    pub fn put(&mut self, id: TorrentId, entry: PublishedTorrent) {
        self.numbers.insert(entry.summary.info_hash, id);
        self.torrents.insert(id, entry);
    }

    /// The number of the torrent with this info-hash.
    pub fn find(&self, info_hash: &InfoHash) -> Option<TorrentId> {
        self.numbers.get(info_hash).copied()
    }

    /// Publishes that a torrent is gone.
    pub fn remove(&mut self, id: TorrentId) {
        if let Some(entry) = self.torrents.remove(&id) {
            self.numbers.remove(&entry.summary.info_hash);
            self.removed.push_back((id, Instant::now()));
        }
        while self.removed.len() > MAX_REMOVED
            || self.removed.front().is_some_and(|(_, at)| at.elapsed() > REMOVED_MEMORY)
        {
            self.removed.pop_front();
        }
    }

    /// The torrents that were removed lately.
    pub fn recently_removed(&self) -> Vec<TorrentId> {
        self.removed.iter().filter(|(_, at)| at.elapsed() <= REMOVED_MEMORY).map(|(id, _)| *id).collect()
    }

    /// The torrents that have changed lately.
    pub fn recently_active(&self) -> Vec<TorrentId> {
        let recent = self.torrents.iter().filter(|(_, entry)| entry.changed.elapsed() <= REMOVED_MEMORY);
        recent.map(|(id, _)| *id).collect()
    }
}

/// The time of the last change of each torrent.
pub fn change_times(published: &PublishedState) -> Vec<(TorrentId, Instant)> {
    published.torrents.iter().map(|(id, entry)| (*id, entry.changed)).collect()
}
