//! What wakes the manager of a service: requests, and events of torrents and file jobs.

use std::path::PathBuf;

use crossbeam_channel::Sender;

use crate::metainfo::Metainfo;
use crate::service::file_jobs::FileJobResult;
use crate::service::model::{AddedTorrent, BandwidthGroup, ControlError, QueueMove, TorrentChange, TorrentId};
use crate::service::settings::SettingsChange;
use crate::types::InfoHash;

/// What wakes the manager.
pub enum ManagerMessage {
    /// A request of a page or a remote control, and where the answer goes.
    Request(ControlRequest, Sender<Result<Answer, ControlError>>),
    /// A torrent has events, or has ended.
    TorrentEvents(TorrentId),
    /// Dormant seeds have to start.
    WakeRequested,
    /// Files of a torrent were moved or deleted.
    FileJobDone(TorrentId, FileJobResult),
    /// The service ends.
    ShutDown,
}

/// What a page or a remote control asks for.
pub enum ControlRequest {
    /// Adds a torrent.
    Add(Box<PreparedTorrent>),
    /// Starts torrents; forced, whatever the queue says.
    Start { ids: Vec<TorrentId>, is_forced: bool },
    /// Stops torrents.
    Stop(Vec<TorrentId>),
    /// Hashes files again.
    Verify(Vec<TorrentId>),
    /// Announces now.
    Reannounce(Vec<TorrentId>),
    /// Removes torrents.
    Remove { ids: Vec<TorrentId>, deletes_data: bool },
    /// Changes torrents.
    Change(Vec<TorrentId>, Box<TorrentChange>),
    /// Uses another folder.
    SetFolder { ids: Vec<TorrentId>, folder: PathBuf, moves_files: bool },
    /// Gives files other paths: indexes in the metainfo, and paths below the folder; and the name if it changes.
    Rename(TorrentId, Vec<(u32, PathBuf)>, Option<String>),
    /// Lets a torrent overwrite the files in its way.
    Overwrite(TorrentId),
    /// Moves torrents in the queue.
    MoveInQueue(Vec<TorrentId>, QueueMove),
    /// Changes the settings.
    ChangeSettings(Box<SettingsChange>),
    /// Creates or changes a bandwidth group.
    SetGroup(BandwidthGroup),
}

/// The answer to a request that was carried out.
#[derive(Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// The torrent was added, or was there.
    Added(AddedTorrent),
}

/// A torrent to add, with everything read and checked that takes time.
pub struct PreparedTorrent {
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// Its name.
    pub name: String,
    /// Its metainfo, and the bytes of its .torrent.
    pub metainfo: Option<(Metainfo, Vec<u8>)>,
    /// Its magnet link, if it has no metainfo.
    pub link: Option<String>,
    /// The folder of its files.
    pub folder: PathBuf,
    /// Whether it starts stopped; `None` for the session's default.
    pub starts_paused: Option<bool>,
    /// Its settings.
    pub change: TorrentChange,
    /// Whether it may overwrite files.
    pub may_overwrite: bool,
}
