//! The summaries of torrents that a list shows.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::service::model::torrent_settings::TorrentSettings;
use crate::service::model::{TorrentId, UnixTime};
use crate::types::InfoHash;

/// What a torrent is doing, in the order of Transmission's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// The user stopped it, its goal is reached, or an error ended it.
    Stopped = 0,
    /// It waits for its turn to hash its files.
    CheckWaiting = 1,
    /// It hashes its files.
    Checking = 2,
    /// It waits for a free place among the active downloads.
    DownloadWaiting = 3,
    /// It downloads, or fetches the metadata of a magnet link.
    Downloading = 4,
    /// It waits for a free place among the active seeds.
    SeedWaiting = 5,
    /// It seeds.
    Seeding = 6,
}

/// Why a torrent is in trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where the problem is.
    pub kind: ProblemKind,
    /// One line for the user: the reason and what to do; printable.
    pub message: String,
}

/// Where a problem is, and so what a user can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A tracker answered with a warning.
    TrackerWarning,
    /// A tracker refused or did not answer; the torrent goes on.
    TrackerError,
    /// Something on this machine; the torrent has stopped.
    Local,
    /// Files that are not btsync's are in the way; the torrent has stopped. The user may choose another folder or overwrite them.
    FilesInTheWay,
}

/// What a list shows of one torrent.
#[derive(Clone, Debug)]
pub struct TorrentSummary {
    /// Its number.
    pub id: TorrentId,
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// Its name, printable; the name of the link or the info-hash before the metadata is known.
    pub name: String,
    /// What it does.
    pub activity: Activity,
    /// Its problem, if any.
    pub problem: Option<Problem>,
    /// Its settings.
    pub settings: TorrentSettings,
    /// The folder of its files.
    pub folder: PathBuf,
    /// The position in the queue, from 0.
    pub queue_position: usize,
    /// Times that the user may want to see.
    pub times: TorrentTimes,
    /// Bytes and rates.
    pub transfer: TransferStats,
    /// What its metainfo says; `None` while the metadata of a magnet link is unknown.
    pub metainfo: Option<MetainfoSummary>,
    /// The part of the metadata that is known, 0 to 1.
    pub metadata_progress: f64,
    /// The part of the check that is done, 0 to 1; 0 while nothing is checked.
    pub check_progress: f64,
    /// Whether its seeding goal is reached, so that it stopped by itself.
    pub is_finished: bool,
    /// Whether a queued torrent does not count because nothing has moved for long.
    pub is_stalled: bool,
    /// Whether its files are being moved or renamed, or wait for that.
    pub is_moving: bool,
    /// The connected peers.
    pub peers: PeerCounts,
    /// The magnet link.
    pub magnet: String,
    /// The .torrent in the state folder; empty while the metadata is unknown.
    pub torrent_file: PathBuf,
}

/// When things happened to a torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TorrentTimes {
    /// When it was added.
    pub added: UnixTime,
    /// When its last wanted piece was verified; 0 before.
    pub done: UnixTime,
    /// When payload last moved; 0 if never.
    pub active: UnixTime,
    /// When it was last started; 0 if never.
    pub started: UnixTime,
    /// When its settings were last changed.
    pub edited: UnixTime,
    /// Seconds spent downloading.
    pub downloading: Duration,
    /// Seconds spent seeding.
    pub seeding: Duration,
}

/// Bytes and rates of a torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TransferStats {
    /// Bytes of all files.
    pub total: u64,
    /// Bytes of the wanted files.
    pub wanted: u64,
    /// Wanted bytes that are not verified yet.
    pub missing: u64,
    /// Verified bytes on disk.
    pub verified: u64,
    /// Bytes on disk that are not verified yet.
    pub unverified: u64,
    /// Payload bytes received, of all runs.
    pub downloaded: u64,
    /// Payload bytes sent, of all runs.
    pub uploaded: u64,
    /// Wasted payload bytes, of all runs.
    pub wasted: u64,
    /// Bytes per second received now.
    pub down_rate: u64,
    /// Bytes per second sent now.
    pub up_rate: u64,
    /// Wanted bytes that connected peers have and we lack.
    pub available: u64,
}

/// What lists may show of a torrent's metainfo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetainfoSummary {
    /// Bytes per piece.
    pub piece_length: u32,
    /// The number of pieces.
    pub pieces: u32,
    /// The number of files, without padding.
    pub files: usize,
    /// The number of entries in the metainfo, padding included.
    pub entries: u32,
    /// Whether peers may come only from its trackers (BEP 27).
    pub is_private: bool,
    /// The creator's comment.
    pub comment: String,
    /// The creating program.
    pub created_by: String,
    /// When it was created; 0 if unknown.
    pub created: UnixTime,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// The largest file's type by its name, as Transmission's `primary-mime-type`.
    pub mime_type: String,
}

/// How many peers are connected, and from where they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// All connected peers.
    pub connected: usize,
    /// Peers that send to us.
    pub sending: usize,
    /// Peers that we send to.
    pub receiving: usize,
    /// Web seeds that send to us.
    pub web_seeds: usize,
    /// Peers that connected to us.
    pub incoming: usize,
    /// Peers known by the DHT, local discovery, peer exchange, trackers, and resume data or the user.
    pub from: PeerSources,
}

/// Connected peers by source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerSources {
    /// The DHT.
    pub dht: usize,
    /// Local discovery.
    pub lsd: usize,
    /// Peer exchange.
    pub pex: usize,
    /// Trackers.
    pub tracker: usize,
    /// The user or a magnet link.
    pub user: usize,
}
