//! The service as the page and remote controls see it, whatever their protocol: summaries of torrents to read, and requests.
//! [`Control`] has one implementation for `btsync serve`, and one for the torrents of a single run of the command.

mod details;
mod request;
mod session;
mod summary;
mod torrent_settings;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::discovery::port_mapping::status::PortMappingStatus;
pub use crate::service::rate_limit::RateLimit;
use crate::service::settings::{SessionSettings, SettingsChange};
use crate::types::InfoHash;

pub use details::{
    DataFileId, FileDetails, OpenDataFile, PeerDetails, PieceDetails, ReadVerified, TrackerAnswer, TrackerDetails,
};
pub use request::{AddRequest, AddSource, AddedTorrent, FileIndexes, QueueMove, TorrentChange};
pub use session::{BandwidthGroup, BlockListView, SessionStats, SessionSums};
pub use summary::{
    Activity, MetainfoSummary, PeerCounts, PeerSources, Problem, ProblemKind, TorrentSummary, TorrentTimes,
    TransferStats,
};
pub use torrent_settings::{LimitMode, Priority, TorrentSettings};

/// The number of a torrent in one service, from 1 on. It stays the torrent's for the life of the state folder and is never given
/// to another torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TorrentId(pub u32);

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// The time now.
    pub fn now() -> UnixTime {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for UnixTime {
    fn from(time: SystemTime) -> UnixTime {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No torrent has this number.
    #[error("no torrent has the number {}", .0.0)]
    NoTorrent(TorrentId),
    /// What was asked for makes no sense; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The path is not below a folder that the service may write to.
    #[error("{}: outside of the folders that this service may write to", .0.display())]
    OutsideFolders(PathBuf),
    /// The torrent file cannot be read or is damaged.
    #[error("{0}")]
    BadTorrent(String),
    /// The torrent file cannot be fetched by its URL.
    #[error("{0}")]
    NotFetched(String),
    /// The system refused.
    #[error("{0}")]
    System(String),
    /// The torrent has too many readers.
    #[error("too many readers")]
    TooManyReaders,
    /// This kind of service cannot do it, for example the page of a single run of the command.
    #[error("not possible here: {0}")]
    Unsupported(&'static str),
}

/// What a remote control or the page may ask of a service. Methods that change something wait until it is saved. Only
/// [`Control::add`] with a URL waits for the network, for 30 seconds at most. [`Control::add`] with a path, those methods that need
/// the metainfo, [`Control::open_file`] and [`Control::free_space`] read the disk. Requests that an implementation leaves out are
/// refused.
#[allow(unused_variables, reason = "what is not implemented is refused, whatever its arguments")]
pub trait Control: Send + Sync {
    /// Why this kind of service refuses the requests that it does not implement.
    fn refusal(&self) -> ControlError {
        ControlError::Unsupported("this service cannot do it")
    }

    /// All torrents, by number.
    fn torrents(&self) -> Vec<TorrentSummary>;
    /// One torrent.
    fn torrent(&self, id: TorrentId) -> Option<TorrentSummary>;
    /// The number of the torrent with this info-hash.
    fn find(&self, info_hash: &InfoHash) -> Option<TorrentId>;
    /// Numbers of torrents that were removed within the last minute.
    fn recently_removed(&self) -> Vec<TorrentId> {
        Vec::new()
    }
    /// The torrents that changed or moved payload within the last minute.
    fn recently_active(&self) -> Vec<TorrentId>;
    /// The files of a torrent, in the metainfo's order; empty while the metadata is unknown.
    fn files(&self, id: TorrentId) -> Vec<FileDetails>;
    /// Its connected peers.
    fn peers(&self, id: TorrentId) -> Vec<PeerDetails>;
    /// Its trackers.
    fn trackers(&self, id: TorrentId) -> Vec<TrackerDetails>;
    /// Its pieces.
    fn pieces(&self, id: TorrentId) -> PieceDetails;

    /// A link to a file that is valid for some hours, relative to the page.
    ///
    /// # Errors
    /// If there is no such file.
    fn file_link(&self, file: DataFileId) -> Result<String, ControlError> {
        Err(self.refusal())
    }
    /// Whether the token is of this link and has not expired.
    fn is_file_link_valid(&self, file: DataFileId, token: &str) -> bool {
        false
    }
    /// Opens a file of a torrent for a reader at this address.
    ///
    /// # Errors
    /// If there is no such file, nothing of it can arrive because the torrent does not run, or the torrent has too many readers.
    fn open_file(&self, file: DataFileId, client: IpAddr) -> Result<OpenDataFile, ControlError> {
        Err(self.refusal())
    }

    /// Adds a torrent.
    ///
    /// # Errors
    /// If its source or its settings are not valid.
    fn add(&self, request: AddRequest) -> Result<AddedTorrent, ControlError> {
        Err(self.refusal())
    }
    /// Starts torrents: when it is their turn, or `is_forced` whatever the queue says.
    ///
    /// # Errors
    /// If the new state cannot be saved.
    fn start(&self, ids: &[TorrentId], is_forced: bool) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// Stops torrents.
    ///
    /// # Errors
    /// If the new state cannot be saved.
    fn stop(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// Hashes the files of torrents again.
    ///
    /// # Errors
    /// If the new state cannot be saved.
    fn verify(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// Announces torrents to their trackers now, as far as the trackers permit it.
    ///
    /// # Errors
    /// None yet.
    fn reannounce(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// Removes torrents, with those of their files that btsync created if `deletes_data`.
    ///
    /// # Errors
    /// If the new state cannot be saved.
    fn remove(&self, ids: &[TorrentId], deletes_data: bool) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// Changes settings, files and trackers of torrents.
    ///
    /// # Errors
    /// If a value is not valid, or the new state cannot be saved.
    fn change(&self, ids: &[TorrentId], change: &TorrentChange) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// Uses another folder for torrents, and moves their files there if `moves_files`.
    ///
    /// # Errors
    /// If the folder is not permitted.
    fn set_folder(&self, ids: &[TorrentId], folder: &Path, moves_files: bool) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// Renames a file or folder of a torrent.
    ///
    /// # Errors
    /// If the torrent has no such path, the name is no plain name, or the new path exists.
    fn rename(&self, id: TorrentId, path: &str, name: &str) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// Starts a torrent whose files were in the way, and lets it overwrite them.
    ///
    /// # Errors
    /// If the new state cannot be saved.
    fn overwrite(&self, id: TorrentId) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// Moves torrents in the queue.
    ///
    /// # Errors
    /// If the new state cannot be saved.
    fn move_in_queue(&self, ids: &[TorrentId], to: QueueMove) -> Result<(), ControlError> {
        Err(self.refusal())
    }

    /// The session's settings.
    fn settings(&self) -> SessionSettings;
    /// Changes the session's settings.
    ///
    /// # Errors
    /// If a value is not valid, or the new state cannot be saved.
    fn change_settings(&self, change: &SettingsChange) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// The sums of the service.
    fn stats(&self) -> SessionStats;
    /// Free and total bytes of the file system of a folder.
    ///
    /// # Errors
    /// If the folder cannot be examined or is not permitted.
    fn free_space(&self, folder: &Path) -> Result<(u64, u64), ControlError> {
        Err(self.refusal())
    }
    /// Whether a peer has ever connected to us, so that the port is open; `None` while that is unknown.
    fn is_port_open(&self) -> Option<bool> {
        None
    }
    /// Whether peers may be connected by uTP; `false` if that is not known.
    fn is_utp_on(&self) -> bool {
        false
    }
    /// Whether peers may be connected by TCP.
    fn is_tcp_on(&self) -> bool {
        true
    }
    /// Whether btsync asks the router to forward the port, or will.
    fn is_port_mapping_on(&self) -> bool {
        false
    }
    /// What the router said; `None` before it was asked.
    fn port_mapping(&self) -> Option<PortMappingStatus> {
        None
    }
    /// The TCP port on which peers reach us; 0 for none.
    fn peer_port(&self) -> u16 {
        0
    }
    /// The state of the block list.
    fn block_list(&self) -> BlockListView {
        BlockListView::default()
    }
    /// Loads the block list now. Returns the number of its ranges.
    ///
    /// # Errors
    /// If there is no list, or it cannot be loaded.
    fn update_block_list(&self) -> Result<usize, ControlError> {
        Err(self.refusal())
    }
    /// The bandwidth groups.
    fn groups(&self) -> Vec<BandwidthGroup> {
        Vec::new()
    }
    /// Creates or changes a bandwidth group.
    ///
    /// # Errors
    /// If the new state cannot be saved.
    fn set_group(&self, group: BandwidthGroup) -> Result<(), ControlError> {
        Err(self.refusal())
    }
    /// What went wrong at the start, in lines for the user: torrents that are left out because their records cannot be read.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
    /// The folder of the state, as Transmission's `config-dir`.
    fn state_folder(&self) -> PathBuf {
        PathBuf::new()
    }
    /// Ends the service. The page of a single run cannot end its command; signals do.
    fn shut_down(&self) {}
}
