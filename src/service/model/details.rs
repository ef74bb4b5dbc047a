//! The files, peers, trackers and pieces of one torrent.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::http_server::Waker;
use crate::service::model::torrent_settings::Priority;
use crate::service::model::{TorrentId, UnixTime};

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq)]
pub struct FileDetails {
    /// Its index in the metainfo, from 0, without padding.
    pub index: u32,
    /// Its path below the folder, with `/`.
    pub path: String,
    /// Its length in bytes.
    pub length: u64,
    /// Verified bytes.
    pub have: u64,
    /// Whether it is wanted.
    pub is_wanted: bool,
    /// Its priority.
    pub priority: Priority,
    /// Its pieces.
    pub pieces: std::ops::Range<u32>,
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct PeerDetails {
    /// Its address.
    pub addr: SocketAddr,
    /// The name of its client, printable.
    pub client: String,
    /// The part of the torrent that it has, 0 to 1.
    pub progress: f64,
    /// Bytes per second from it.
    pub down_rate: u64,
    /// Bytes per second to it.
    pub up_rate: u64,
    /// Payload bytes received from it.
    pub downloaded: u64,
    /// Payload bytes sent to it.
    pub uploaded: u64,
    /// Whether it connected to us.
    pub is_incoming: bool,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// Whether uTP carries the connection.
    pub is_utp: bool,
    /// Whether the connection goes through a hole that both sides punched (BEP 55).
    pub is_hole_punched: bool,
    /// Whether it chokes us.
    pub peer_choking: bool,
    /// Whether it is interested in our pieces.
    pub peer_interested: bool,
    /// Whether we choke it.
    pub am_choking: bool,
    /// Whether we are interested in its pieces.
    pub am_interested: bool,
    /// Whether it owes us blocks and has sent none for a while.
    pub is_snubbing: bool,
    /// The letter for the source in Transmission's flags: `T` tracker (shown as nothing there), `H` DHT, `X` peer exchange,
    /// `L` local discovery, `U` user.
    pub source: char,
}

/// One tracker of a torrent.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackerDetails {
    /// Its number within the torrent, stable while the list does not change.
    pub id: u32,
    /// Its tier, from 0.
    pub tier: u32,
    /// The announce URL in full.
    pub announce: String,
    /// The scrape URL, or an empty string.
    pub scrape: String,
    /// The last announce, if there was one.
    pub last: Option<TrackerAnswer>,
    /// When the next announce is due; `None` while the torrent does not run.
    pub next: Option<UnixTime>,
    /// Whether an announce is under way.
    pub is_announcing: bool,
    /// Whether it is only used if those before it fail.
    pub is_backup: bool,
}

/// The result of the last announce to a tracker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrackerAnswer {
    /// When it ended.
    pub at: UnixTime,
    /// Whether the tracker answered and did not refuse.
    pub is_success: bool,
    /// Whether time ran out.
    pub is_timeout: bool,
    /// `Success`, the warning or the reason; printable.
    pub message: String,
    /// The number of peers in the answer.
    pub peers: usize,
    /// Seeds, leechers and finished downloads, where the tracker tells them.
    pub seeders: Option<u64>,
    /// Leechers.
    pub leechers: Option<u64>,
    /// Finished downloads.
    pub downloads: Option<u64>,
}

/// The pieces of a torrent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PieceDetails {
    /// A bit for each verified piece, as in a BITFIELD message.
    pub have: Vec<u8>,
    /// Pieces of which blocks are under way or on disk, ascending.
    pub begun: Vec<u32>,
    /// For each piece, the number of connected peers that have it; -1 if we have it. Empty where nothing is connected.
    pub availability: Vec<i32>,
}

/// A file of a torrent, for a link: its number among the files without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataFileId {
    /// The torrent.
    pub torrent: TorrentId,
    /// The file.
    pub index: u32,
}

/// Reads verified bytes of a file from an offset on, at most as many as asked for. If it returns none, the waker is called when
/// that may have changed. It is an error if none can arrive any more.
pub type ReadVerified = Box<dyn Fn(u64, u64, &Waker) -> io::Result<Vec<u8>> + Send + Sync>;

/// An open file of a torrent, which may still download.
pub struct OpenDataFile {
    /// Its name, without folders.
    pub name: String,
    /// Its length when it is complete.
    pub length: u64,
    /// Reads it as far as it is verified.
    pub read: ReadVerified,
}

impl fmt::Debug for OpenDataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenDataFile").field("name", &self.name).field("length", &self.length).finish_non_exhaustive()
    }
}
