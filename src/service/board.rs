//! What the manager publishes for everybody who reads: the figures of all torrents, the settings, the sums.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::client::{Client, DhtSettings, DormantGuard};
use crate::metainfo::Metainfo;
use crate::service::facts::read_metainfo;
use crate::service::fetches::Fetches;
use crate::service::inbox::ManagerInbox;
use crate::service::links::LinkKey;
use crate::service::model::{BandwidthGroup, SessionStats, SessionSums, TorrentId, TorrentSummary};
use crate::service::page_events::PageEvents;
use crate::service::record::TorrentRecord;
use crate::service::settings::SessionSettings;
use crate::service::state_folder::torrent_file;
use crate::torrent::TorrentHandle;
use crate::types::InfoHash;
use crate::util::atomics::Flag;

/// How long a removed torrent is told to those who ask for recent changes.
const REMOVED_MEMORY: Duration = Duration::from_secs(60);
/// The most removed torrents that are remembered.
const MAX_REMOVED: usize = 1000;
/// How many metainfos are kept in memory for those who look at the details of a torrent.
const MAX_METAINFOS: usize = 4;

/// The state that the manager shares with the threads that answer requests.
pub struct Shared {
    /// What the manager publishes.
    pub board: Mutex<Board>,
    /// To the manager.
    pub inbox: ManagerInbox,
    /// The fetches of torrent files by URL.
    pub fetches: Fetches,
    /// For each running torrent, whether the manager has yet to look at its events.
    pub pending: Mutex<BTreeMap<TorrentId, Arc<Flag>>>,
    /// The client, unless it is being replaced.
    pub client: Mutex<Option<Arc<Client>>>,
    /// The key of links to files.
    pub links: LinkKey,
    /// The event stream of the page.
    pub page_events: Arc<PageEvents>,
    /// How the DHT is bootstrapped.
    pub dht: DhtSettings,
    /// The block list of each client that it starts.
    pub block_list: Option<String>,
    /// What went wrong at the start, in lines for the user.
    pub notices: Vec<String>,
    /// The folder of the state.
    pub state_folder: PathBuf,
    /// The folders below which downloads may be.
    pub allowed_folders: Vec<PathBuf>,
    /// The metainfos that were looked at last.
    pub metainfos: Mutex<VecDeque<(InfoHash, Arc<Metainfo>)>>,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Board {
    /// The torrents.
    pub torrents: BTreeMap<TorrentId, BoardEntry>,
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

/// One torrent on the board.
pub struct BoardEntry {
    /// Its figures.
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

impl Board {
    /// An empty board at the start of a session, with the sums of the sessions before it.
    pub fn new(sums_before: SessionSums) -> Board {
        Board { sums_before, ..Board::default() }
    }

    /// Puts a torrent on the board, or what it looks like now.
    pub fn put(&mut self, id: TorrentId, entry: BoardEntry) {
        self.numbers.insert(entry.summary.info_hash, id);
        self.torrents.insert(id, entry);
    }

    /// The number of the torrent with this info-hash.
    pub fn find(&self, info_hash: &InfoHash) -> Option<TorrentId> {
        self.numbers.get(info_hash).copied()
    }

    /// Takes a torrent off the board.
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

impl Shared {
    /// The metainfo of a torrent, from memory or from the state folder.
    pub fn metainfo(&self, record: &TorrentRecord) -> Option<Arc<Metainfo>> {
        record.facts.as_ref()?;
        let known = self.metainfos.lock().iter().find(|(hash, _)| *hash == record.info_hash).map(|(_, it)| it.clone());
        if known.is_some() {
            return known;
        }
        let path = torrent_file(&self.state_folder, record.info_hash);
        let metainfo =
            Arc::new(read_metainfo(&path).inspect_err(|error| log::error!("{}: {error}", path.display())).ok()?);
        let mut metainfos = self.metainfos.lock();
        metainfos.push_front((record.info_hash, metainfo.clone()));
        metainfos.truncate(MAX_METAINFOS);
        Some(metainfo)
    }
}

/// The time of the last change of each torrent.
pub fn changes_of(board: &Board) -> Vec<(TorrentId, Instant)> {
    board.torrents.iter().map(|(id, entry)| (*id, entry.changed)).collect()
}
