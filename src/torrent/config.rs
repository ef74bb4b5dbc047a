//! The configuration of a torrent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::client::ClientConfig;
use crate::discovery::tracker::announce::{AnnouncedBefore, TorrentIdentity};
use crate::metainfo::{Metainfo, Selection};
use crate::peer::LimitGroup;
use crate::storage::Allocation;
use crate::strategy::rate_limiter::Limits;
use crate::torrent::piece_order::FilePriority;
use crate::types::{Dscp, Encryption};

/// How a torrent behaves; the defaults are those of `btsync file.torrent outdir`.
#[derive(Clone, Debug)]
pub struct TorrentConfig {
    /// The folder that receives the files.
    pub out_dir: PathBuf,
    /// When to stop seeding after the download is complete.
    pub seed: SeedGoal,
    /// How long without received data until a download gives up.
    pub stop_timeout: Option<Duration>,
    /// Whether to super-seed (BEP 16): reveal pieces to leechers one by one, if all are complete at the start.
    pub super_seeds: bool,
    /// Whether to end as soon as the metadata of a magnet link is complete.
    pub wants_metadata_only: bool,
    /// Where to save the torrent file of a magnet link: a file, or a folder in which the info-hash is its name.
    pub save_torrent: Option<PathBuf>,
    /// With [`Torrent::new`](crate::torrent::Torrent::new), the configuration of its client. With
    /// [`Client::prepare`](crate::client::Client::prepare), only these fields count: `route` (copied from the client), `dht` and
    /// `lsd` (whether this torrent uses them), and `max_peers` (limits this torrent alone).
    pub client: ClientConfig,
    /// Where peers come from.
    pub search: SearchConfig,
    /// How to connect to peers and trackers.
    pub connections: ConnectionConfig,
    /// The rate limits of this torrent alone.
    pub rates: RateConfig,
    /// Which files to download, in which order, and how to store them.
    pub files: FileConfig,
    /// The folders of btsync's own files.
    pub records: RecordConfig,
}

/// A peer of a magnet link whose host name has not been looked up.
#[derive(Clone, Debug)]
pub struct LinkHost {
    /// The host name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether a public host provided the link.
    pub is_public: bool,
}

/// Where the peers of a torrent come from, beside the client's DHT and local discovery.
#[derive(Clone, Debug)]
pub struct SearchConfig {
    /// Peers to connect to without asking a tracker.
    pub peers: Vec<SocketAddr>,
    /// Peers from a magnet link. Only a few ports of each host are tried, as anyone may have written the link.
    pub link_peers: Vec<SocketAddr>,
    /// The same before their host names are looked up.
    pub link_hosts: Vec<LinkHost>,
    /// Trackers by tier, in place of those of the torrent and those in `trackers`.
    pub tiers: Option<Vec<Vec<String>>>,
    /// Trackers in addition to those of the torrent, each in a tier of its own.
    pub trackers: Vec<String>,
    /// Trackers of the torrent that must not be used; `*` stands for all.
    pub exclude_trackers: Vec<String>,
    /// Further DHT nodes, `HOST:PORT`: those that a torrent names (BEP 5).
    pub nodes: Vec<String>,
    /// The user's web seeds (BEP 19), in addition to those of the torrent. They may have local addresses.
    pub web_seeds: Vec<String>,
    /// Whether the web seeds that the torrent or its magnet link names are used.
    pub uses_torrent_web_seeds: bool,
    /// Whether peer exchange is on (BEP 11).
    pub uses_pex: bool,
}

/// How a torrent connects to peers and trackers.
#[derive(Clone, Debug, Default)]
pub struct ConnectionConfig {
    /// Whether connections use message stream encryption.
    pub encryption: Encryption,
    /// The DSCP class of packets to peers.
    pub dscp: Dscp,
    /// The start of peer ids, instead of btsync's own, for trackers that allow only certain clients.
    pub peer_id_prefix: Option<[u8; 8]>,
    /// How the torrent identifies itself, if not by random values.
    pub identity: Option<TorrentIdentity>,
    /// What trackers know of that identity already.
    pub announced: AnnouncedBefore,
    /// The client name in HTTP requests and for peers (BEP 10), instead of btsync's own.
    pub user_agent: Option<String>,
}

/// Rate limits in addition to those of the client.
#[derive(Clone, Debug, Default)]
pub struct RateConfig {
    /// Those of this torrent alone.
    pub limits: Limits,
    /// Limits that some torrents share.
    pub group: Option<Arc<LimitGroup>>,
    /// Whether the client's limits do not apply.
    pub ignores_client_limits: bool,
}

/// Which files of a torrent to download, in which order, and how to store them.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a switch of its own
pub struct FileConfig {
    /// Which of the torrent's files are wanted.
    pub selection: Selection,
    /// Other paths for files: the file's index from 0, counting padding, and a plain path below `out_dir`.
    pub renamed_files: Vec<(u32, PathBuf)>,
    /// Whether to request pieces in the order of the torrent, as a media player needs them.
    pub is_sequential: bool,
    /// Which files come before others: the file's index from 0, counting padding.
    pub priorities: Vec<(u32, FilePriority)>,
    /// Whether to request the first and the last piece of each wanted file before all others.
    pub prefers_first_and_last: bool,
    /// Whether to hash all existing files, whatever the resume data says.
    pub verifies_all: bool,
    /// Whether to end after the check of the files, and to create none.
    pub ends_after_check: bool,
    /// Whether to fail if none of the files exists.
    pub expects_files: bool,
    /// To which existing files missing pieces may be written.
    pub repair_scope: RepairScope,
    /// When to allocate disk space for the files.
    pub allocation: Allocation,
    /// Whether a torrent's name may start with a dot.
    pub allows_hidden: bool,
    /// Whether `_` replaces each colon in names.
    pub replaces_colons: bool,
    /// Whether btsync may overwrite files that are in the way.
    pub may_overwrite: bool,
    /// When that was permitted, in nanoseconds since 1970, if later files are not to be overwritten.
    pub overwrite_permitted_at: Option<i64>,
    /// Whether to sync all data to disk before a download counts as complete.
    pub syncs_data: bool,
    /// The suffix of file names until everything wanted is complete.
    pub incomplete_suffix: Option<String>,
    /// Upper limit on open files.
    pub max_open_files: usize,
}

impl FileConfig {
    /// Gives a torrent and its files the names that the configuration asks for.
    pub(crate) fn change_names(&self, metainfo: &mut Metainfo) {
        if self.allows_hidden {
            metainfo.restore_hidden_name();
        }
        if self.replaces_colons {
            metainfo.replace_colons();
        }
    }
}

/// To which existing files of the torrent missing pieces may be written, unless they may be overwritten anyway. A file that was
/// complete before and is not now has been changed by its user, and a program that opens the torrent by itself must not undo that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepairScope {
    /// To all that count as unfinished, also if they were complete before.
    #[default]
    Any,
    /// Not to those that were complete according to the resume data.
    Unfinished,
    /// To none: the torrent was complete. Missing files are downloaded again.
    Nothing,
}

/// The folders of btsync's own files; all are optional.
#[derive(Clone, Debug, Default)]
pub struct RecordConfig {
    /// The folder of the resume data; pieces that it covers are not hashed again at the start. `None` turns it off.
    pub resume_folder: Option<PathBuf>,
    /// The folder of [`UnreportedCompletion`](crate::torrent::UnreportedCompletion) files, if every completed download has to be
    /// reported to the user at least once.
    pub unreported_folder: Option<PathBuf>,
    /// The folder that records which torrent and magnet files downloads created, if the file system cannot mark them.
    pub downloaded_torrents_folder: Option<PathBuf>,
    /// Folders of btsync's own files, to which no torrent may write.
    pub private_folders: Vec<PathBuf>,
}

/// When to stop seeding. With nothing set, the torrent ends as soon as the download is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SeedGoal {
    /// Whether to seed until told to stop; the other two then do not count.
    pub is_forever: bool,
    /// Seed for this long.
    pub time: Option<Duration>,
    /// Seed until uploaded bytes / size reaches this ratio.
    pub ratio: Option<f64>,
}

impl SeedGoal {
    /// Seed until told to stop.
    pub fn forever() -> SeedGoal {
        SeedGoal { is_forever: true, ..SeedGoal::default() }
    }

    /// Seed for this long.
    #[must_use]
    pub fn time(self, time: Duration) -> SeedGoal {
        SeedGoal { time: Some(time), ..self }
    }

    /// Seed until uploaded / size reaches this.
    #[must_use]
    pub fn ratio(self, ratio: f64) -> SeedGoal {
        SeedGoal { ratio: Some(ratio), ..self }
    }

    /// Whether to seed at all.
    pub fn any(&self) -> bool {
        self.is_forever || self.time.is_some() || self.ratio.is_some()
    }
}

impl TorrentConfig {
    /// The defaults, with files going to `out_dir`.
    pub fn new(out_dir: impl Into<PathBuf>) -> TorrentConfig {
        TorrentConfig {
            out_dir: out_dir.into(),
            seed: SeedGoal::default(),
            stop_timeout: None,
            super_seeds: false,
            wants_metadata_only: false,
            save_torrent: None,
            client: ClientConfig::default(),
            search: SearchConfig::default(),
            connections: ConnectionConfig::default(),
            rates: RateConfig::default(),
            files: FileConfig::default(),
            records: RecordConfig::default(),
        }
    }
}

impl Default for SearchConfig {
    /// No peers, trackers and web seeds but those of the torrent, and peer exchange.
    fn default() -> SearchConfig {
        SearchConfig {
            peers: Vec::new(),
            link_peers: Vec::new(),
            link_hosts: Vec::new(),
            tiers: None,
            trackers: Vec::new(),
            exclude_trackers: Vec::new(),
            nodes: Vec::new(),
            web_seeds: Vec::new(),
            uses_torrent_web_seeds: true,
            uses_pex: true,
        }
    }
}

impl Default for FileConfig {
    /// All files, with their own names and in any order.
    fn default() -> FileConfig {
        FileConfig {
            selection: Selection::default(),
            renamed_files: Vec::new(),
            is_sequential: false,
            priorities: Vec::new(),
            prefers_first_and_last: false,
            verifies_all: false,
            ends_after_check: false,
            expects_files: false,
            repair_scope: RepairScope::default(),
            allocation: Allocation::default(),
            allows_hidden: false,
            replaces_colons: false,
            may_overwrite: false,
            overwrite_permitted_at: None,
            syncs_data: false,
            incomplete_suffix: None,
            max_open_files: 128,
        }
    }
}
