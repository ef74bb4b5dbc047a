//! The configuration of a torrent.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::{ClientConfig, DhtSettings};
use crate::metainfo::Selection;
use crate::net::bind::Bind;
use crate::storage::Allocation;
use crate::strategy::rate_limiter::Limits;
use crate::types::{Dscp, Encryption};

/// How a torrent behaves; the defaults are those of `btsync file.torrent outdir`.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a switch of its own
pub struct Config {
    /// The folder that receives the files.
    pub out_dir: PathBuf,
    /// TCP ports to listen on; btsync takes the first free one.
    pub listen_ports: RangeInclusive<u16>,
    /// When to stop seeding after the download is complete.
    pub seed: SeedGoal,
    /// Upper limit on connections, incoming and outgoing together.
    pub max_peers: usize,
    /// Rate limits over all peers; `TorrentHandle::set_limits` changes them.
    pub limits: Limits,
    /// Peers to connect to without asking a tracker.
    pub peers: Vec<SocketAddr>,
    /// Peers from a magnet link. Only a few ports of each host are tried, as anyone may have written the link.
    pub link_peers: Vec<SocketAddr>,
    /// Trackers in addition to those of the torrent, each in a tier of its own.
    pub trackers: Vec<String>,
    /// Trackers of the torrent that must not be used; `*` stands for all.
    pub exclude_trackers: Vec<String>,
    /// The DHT; `None` turns it off.
    pub dht: Option<DhtSettings>,
    /// Further DHT nodes, `HOST:PORT`: those that a torrent names (BEP 5).
    pub nodes: Vec<String>,
    /// Whether local discovery is on (BEP 14).
    pub lsd: bool,
    /// Whether peer exchange is on (BEP 11).
    pub pex: bool,
    /// The interface or address that all sockets are bound to.
    pub bind: Bind,
    /// Whether connections use message stream encryption.
    pub encryption: Encryption,
    /// The start of peer ids, instead of btsync's own, for trackers that allow only certain clients.
    pub peer_id_prefix: Option<[u8; 8]>,
    /// The client name in HTTP requests and for peers (BEP 10), instead of btsync's own.
    pub user_agent: Option<String>,
    /// The DSCP class of packets to peers.
    pub dscp: Dscp,
    /// Whether to super-seed (BEP 16): reveal pieces to leechers one by one, if all are complete at the start.
    pub super_seed: bool,
    /// Where to save the torrent file of a magnet link: a file, or a folder in which the info-hash is its name.
    pub save_torrent: Option<PathBuf>,
    /// How long without received data until a download gives up.
    pub stop_timeout: Option<Duration>,
    /// The folder of the resume data; pieces that it covers are not hashed again at the start. `None` turns it off.
    pub resume: Option<PathBuf>,
    /// The folder of [`PendingCompletion`](crate::torrent::PendingCompletion) files, if every completed download has to be
    /// announced once.
    pub pending: Option<PathBuf>,
    /// The folder that records which torrent and magnet files downloads created, if the file system cannot mark them.
    pub brought: Option<PathBuf>,
    /// Folders of btsync's own files, to which no torrent may write.
    pub private_folders: Vec<PathBuf>,
    /// Whether to hash all existing files, whatever the resume data says.
    pub verify: bool,
    /// Upper limit on open files.
    pub max_open_files: usize,
    /// Which of the torrent's files are wanted.
    pub files: Selection,
    /// Other paths for files: the file's index from 0, counting padding, and a plain path below `out_dir`.
    pub places: Vec<(u32, PathBuf)>,
    /// Whether to request pieces in the order of the torrent, as a media player needs them.
    pub sequential: bool,
    /// Whether to request the first and the last piece of each wanted file before all others.
    pub first_and_last: bool,
    /// When to allocate disk space for the files.
    pub allocation: Allocation,
    /// Whether a torrent's name may start with a dot.
    pub allow_hidden: bool,
    /// Whether btsync may overwrite files that are in the way.
    pub overwrite: bool,
    /// Whether to sync all data to disk before a download counts as complete.
    pub fsync: bool,
    /// The suffix of file names until everything wanted is complete.
    pub incomplete_suffix: Option<String>,
    /// Whether to end as soon as the metadata of a magnet link is complete.
    pub metadata_only: bool,
}

/// When to stop seeding. With nothing set, the torrent ends as soon as the download is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SeedGoal {
    /// Seed until told to stop; the other two then do not count.
    pub forever: bool,
    /// Seed for this long.
    pub time: Option<Duration>,
    /// Seed until uploaded bytes / size reaches this ratio.
    pub ratio: Option<f64>,
}

impl SeedGoal {
    /// Seed until told to stop.
    pub fn forever() -> SeedGoal {
        SeedGoal { forever: true, ..SeedGoal::default() }
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
        self.forever || self.time.is_some() || self.ratio.is_some()
    }
}

impl Config {
    /// The defaults, with files going to `out_dir`.
    pub fn new(out_dir: impl Into<PathBuf>) -> Config {
        Config {
            out_dir: out_dir.into(),
            listen_ports: 6881..=6889,
            seed: SeedGoal::default(),
            max_peers: 300,
            limits: Limits::default(),
            peers: Vec::new(),
            link_peers: Vec::new(),
            trackers: Vec::new(),
            exclude_trackers: Vec::new(),
            dht: Some(DhtSettings::default()),
            nodes: Vec::new(),
            lsd: true,
            pex: true,
            bind: Bind::Any,
            encryption: Encryption::default(),
            peer_id_prefix: None,
            user_agent: None,
            dscp: Dscp::default(),
            super_seed: false,
            save_torrent: None,
            stop_timeout: None,
            resume: None,
            pending: None,
            brought: None,
            private_folders: Vec::new(),
            verify: false,
            max_open_files: 128,
            files: Selection::default(),
            places: Vec::new(),
            sequential: false,
            first_and_last: false,
            allocation: Allocation::default(),
            allow_hidden: false,
            overwrite: false,
            fsync: false,
            incomplete_suffix: None,
            metadata_only: false,
        }
    }

    /// The part of the configuration that applies to the process, not to this torrent.
    pub fn client(&self) -> ClientConfig {
        ClientConfig {
            listen_ports: self.listen_ports.clone(),
            bind: self.bind.clone(),
            dht: self.dht.clone(),
            lsd: self.lsd,
            max_peers: self.max_peers,
            limits: self.limits,
        }
    }
}
