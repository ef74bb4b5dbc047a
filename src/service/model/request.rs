//! What a remote control may ask for: a new torrent, changes of torrents.

use std::path::PathBuf;

use crate::service::model::TorrentId;
use crate::service::model::torrent_settings::{LimitMode, Priority};
use crate::types::InfoHash;

/// A torrent to add.
#[derive(Clone, Debug, Default)]
pub struct AddRequest {
    /// Its source.
    pub source: AddSource,
    /// The folder of its files, or the session's download folder.
    pub folder: Option<PathBuf>,
    /// Whether it starts stopped, or the session's default.
    pub starts_paused: Option<bool>,
    /// Changes of its settings, files and trackers, as for a torrent that is there.
    pub change: TorrentChange,
    /// HTTP cookies for a source that is a URL.
    pub cookies: Option<String>,
    /// Whether files that are in the way may be overwritten.
    pub may_overwrite: bool,
}

/// Where the metainfo of a new torrent comes from.
#[derive(Clone, Debug)]
pub enum AddSource {
    /// The bytes of a torrent file.
    Metainfo(Vec<u8>),
    /// A magnet link, `http(s)` URL, or path of a torrent file on this machine.
    Name(String),
}

impl Default for AddSource {
    fn default() -> AddSource {
        AddSource::Name(String::new())
    }
}

/// The answer to [`Control::add`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedTorrent {
    /// Its number.
    pub id: TorrentId,
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// Its name.
    pub name: String,
    /// Whether the service had it already.
    pub is_duplicate: bool,
}

/// Changes of torrents; what is `None` or empty stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TorrentChange {
    /// The download limit in KB/s.
    pub down_limit: Option<u32>,
    /// Whether the download limit is in force.
    pub is_down_limited: Option<bool>,
    /// The upload limit in KB/s.
    pub up_limit: Option<u32>,
    /// Whether the upload limit is in force.
    pub is_up_limited: Option<bool>,
    /// Whether the session's limits apply.
    pub honors_session_limits: Option<bool>,
    /// The share of the bandwidth.
    pub bandwidth_priority: Option<Priority>,
    /// The most connections.
    pub peer_limit: Option<u16>,
    /// Which ratio ends seeding.
    pub seed_ratio_mode: Option<LimitMode>,
    /// The ratio.
    pub seed_ratio: Option<f64>,
    /// Which idle time ends seeding.
    pub seed_idle_mode: Option<LimitMode>,
    /// The idle time in minutes.
    pub seed_idle_minutes: Option<u16>,
    /// Whether pieces are requested in order.
    pub is_sequential: Option<bool>,
    /// The labels.
    pub labels: Option<Vec<String>>,
    /// The bandwidth group.
    pub group: Option<String>,
    /// The queue position.
    pub queue_position: Option<usize>,
    /// The folder, without moving the files.
    pub folder: Option<PathBuf>,
    /// Files by index (without padding) that become wanted.
    pub wanted: FileIndexes,
    /// Files that become unwanted.
    pub unwanted: FileIndexes,
    /// Files that get each priority.
    pub priority_high: FileIndexes,
    /// See `priority_high`.
    pub priority_normal: FileIndexes,
    /// See `priority_high`.
    pub priority_low: FileIndexes,
    /// The trackers by tier, in place of those that it has.
    pub trackers: Option<Vec<Vec<String>>>,
    /// Trackers to add, each in a tier of its own.
    pub add_trackers: Vec<String>,
    /// Trackers to remove, by their id.
    pub remove_trackers: Vec<u32>,
    /// Trackers to replace, by their id.
    pub replace_trackers: Vec<(u32, String)>,
}

/// Some files of a torrent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FileIndexes {
    /// None of them.
    #[default]
    None,
    /// All of them: Transmission's empty list.
    All,
    /// These.
    Some(Vec<u32>),
}

/// Where torrents go in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueMove {
    /// To the start of the queue.
    Top,
    /// One up.
    Up,
    /// One down.
    Down,
    /// To the end.
    Bottom,
}
