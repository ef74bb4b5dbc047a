//! What a program reads of a torrent at any moment: its stage and figures, its pieces, files and peers.

use std::net::SocketAddr;
use std::time::SystemTime;

use crate::client::DormantTrackerView;
use crate::strategy::peer_list::PeerSource;
use crate::torrent::peer_search::TrackerState;
use crate::types::Transport;

/// What a torrent is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// It has not started yet.
    #[default]
    Starting,
    /// It fetches the metadata of a magnet link.
    Metadata,
    /// It hashes the files on disk.
    Checking,
    /// It downloads what is missing.
    Downloading,
    /// Everything wanted is complete, and it seeds.
    Seeding,
    /// It tells trackers that it stops, and closes connections.
    Stopping,
}

impl Stage {
    /// The stage with this number, as an atomic stores it.
    pub(crate) fn from_u8(number: u8) -> Stage {
        const ALL: [Stage; 6] =
            [Stage::Starting, Stage::Metadata, Stage::Checking, Stage::Downloading, Stage::Seeding, Stage::Stopping];
        ALL[usize::from(number).min(ALL.len() - 1)]
    }
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct FileView {
    /// Its index in the torrent from 0, counting padding.
    pub index: u32,
    /// Its path below the download folder.
    pub path: String,
    /// Its path until everything wanted is complete, if that is another one.
    pub stored_as: Option<String>,
    /// Its length in bytes.
    pub length: u64,
    /// The pieces that contain bytes of it; none if it is empty.
    pub pieces: std::ops::Range<u32>,
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct PeerView {
    /// The peer's address.
    pub addr: SocketAddr,
    /// The name of its client, as the peer gives it; printable.
    pub client: String,
    /// Whether the peer connected to us.
    pub is_incoming: bool,
    /// Where we have its address from, once main knows of the connection.
    #[doc(hidden)]
    pub source: Option<PeerSource>,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// What carries the connection.
    pub transport: Transport,
    /// Whether the connection goes through routers that let nobody in: both sides dialled at the same time, with the help of a
    /// third peer (BEP 55).
    pub is_hole_punched: bool,
    /// Whether the peer supports the fast extension (BEP 6).
    pub supports_fast: bool,
    /// Payload bytes received from the peer, without unrequested blocks.
    pub downloaded: u64,
    /// Payload bytes sent to the peer.
    pub uploaded: u64,
    /// Payload bytes per second received from the peer, over the last five seconds.
    pub down_rate: u64,
    /// Payload bytes per second sent to the peer, over the last five seconds.
    pub up_rate: u64,
    /// The part of the torrent that the peer has, 0 to 1.
    pub progress: f64,
    /// Whether the peer chokes us.
    pub peer_choking: bool,
    /// Whether the peer is interested in our pieces.
    pub peer_interested: bool,
    /// Whether we choke the peer.
    pub am_choking: bool,
    /// Whether we are interested in the peer's pieces.
    pub am_interested: bool,
    /// Whether the peer owes us blocks and has sent none for a while.
    pub is_snubbing: bool,
}

/// One tracker of a running torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct TrackerView {
    /// Its URL in full, which may contain a passkey.
    pub url: String,
    /// Its tier, from 0.
    pub tier: u32,
    /// Whether an announce is under way.
    pub is_announcing: bool,
    /// When the last announce ended.
    pub last_announce: Option<SystemTime>,
    /// How it ended.
    pub last_result: Option<TrackerState>,
    /// The number of seeds that the tracker last named.
    pub seeds: Option<u32>,
    /// The number of leechers that the tracker last named.
    pub leechers: Option<u32>,
    /// The warning in its last answer.
    pub warning: Option<String>,
    /// When the next announce is due; `None` while one is under way, while the torrent does not run, and for a tracker that is
    /// announced to only if those before it fail or the torrent needs more peers.
    pub next_announce: Option<SystemTime>,
    /// When [`TorrentHandle::reannounce`](crate::torrent::TorrentHandle::reannounce) may announce to it at the earliest.
    pub earliest_announce: Option<SystemTime>,
}

impl From<DormantTrackerView> for TrackerView {
    fn from(view: DormantTrackerView) -> TrackerView {
        let state = |result| match result {
            Ok(peers) => TrackerState::Answered { peers },
            Err(error) => TrackerState::Failed { error },
        };
        TrackerView {
            url: view.url,
            tier: view.tier,
            is_announcing: view.is_announcing,
            last_announce: view.last_announce,
            last_result: view.last_result.map(state),
            seeds: view.seeds,
            leechers: view.leechers,
            warning: view.warning,
            next_announce: view.next_announce,
            earliest_announce: view.earliest_announce,
        }
    }
}

/// A torrent's figures at one moment. Counters only grow. The rates are those of the connected peers, over the last five seconds.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct Snapshot {
    /// What the torrent is doing.
    pub stage: Stage,
    /// Bytes of the torrent; once it is checked, only those of the wanted pieces. 0 while the metadata is unknown.
    pub total: u64,
    /// Pieces of metadata that have arrived, and their total number; both 0 until a peer has told the size.
    pub metadata: (usize, usize),
    /// Bytes of the wanted pieces that are verified.
    pub have: u64,
    /// Bytes that the check has hashed, and bytes that it will hash in all.
    pub checked: (u64, u64),
    /// Bytes on disk in wanted pieces that are not verified yet.
    pub unverified: u64,
    /// Payload bytes received per second.
    pub down_rate: u64,
    /// Payload bytes sent per second.
    pub up_rate: u64,
    /// Payload bytes received in this run, including wasted ones.
    pub downloaded: u64,
    /// Payload bytes sent in this run.
    pub uploaded: u64,
    /// Payload bytes sent in this run and in earlier ones, as far as the resume data knows them.
    pub total_uploaded: u64,
    /// Wasted payload bytes: duplicate blocks, unrequested blocks, pieces that failed their hash check.
    pub wasted: u64,
    /// The number of connected peers.
    pub connected_peers: usize,
    /// The number of peers to or from which payload flowed within the last ten seconds.
    pub active_peers: usize,
    /// The number of web seeds from which btsync downloads.
    pub web_seeds: usize,
    /// The number of known addresses.
    pub known_peers: usize,
}
