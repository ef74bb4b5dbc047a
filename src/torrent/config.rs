//! What a session is told when it starts.

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

/// How a session behaves; the defaults are those of `btsync file.torrent outdir`.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a switch of its own
pub struct Config {
    /// The folder that receives the files.
    pub out_dir: PathBuf,
    /// TCP ports to listen on; the first free one is taken.
    pub listen_ports: RangeInclusive<u16>,
    /// What ends seeding once the download is whole.
    pub seed: SeedGoal,
    /// Connections at most, both ways together.
    pub max_peers: usize,
    /// The limits on what is received and sent, over all peers; `TorrentHandle::set_limits` changes them.
    pub limits: Limits,
    /// Peers to call without asking a tracker.
    pub peers: Vec<SocketAddr>,
    /// Peers that a magnet link names: called as well, but with a few ports of each host only, as anybody may have written the link.
    pub link_peers: Vec<SocketAddr>,
    /// Trackers beside those of the torrent, each a tier of its own.
    pub trackers: Vec<String>,
    /// Trackers of the torrent that are not to be asked; `*` stands for all.
    pub exclude_trackers: Vec<String>,
    /// The DHT, where it is wanted.
    pub dht: Option<DhtSettings>,
    /// Further nodes of the DHT to get to know, `HOST:PORT`: those that a torrent names (BEP 5).
    pub nodes: Vec<String>,
    /// Whether neighbours are looked for (BEP 14).
    pub lsd: bool,
    /// Whether peers may tell us of others, and we them (BEP 11).
    pub pex: bool,
    /// What all sockets are tied to.
    pub bind: Bind,
    /// Whether connections are disguised by message stream encryption.
    pub encryption: Encryption,
    /// How peer ids begin in place of btsync's own way, for trackers that allow certain clients only.
    pub peer_id_prefix: Option<[u8; 8]>,
    /// What the client is called in HTTP requests and to peers (BEP 10), likewise.
    pub user_agent: Option<String>,
    /// The DSCP class of packets to peers.
    pub dscp: Dscp,
    /// Whether to show leechers our pieces one by one (BEP 16), where all are there from the start.
    pub super_seed: bool,
    /// Where to keep the .torrent of a magnet link: a file, or a folder in which it is named by its info-hash.
    pub save_torrent: Option<PathBuf>,
    /// After so long without a byte a download gives up.
    pub stop_timeout: Option<Duration>,
    /// The folder of the fast-resume records, where they are wanted: what they vouch for is not hashed again at the start.
    pub resume: Option<PathBuf>,
    /// The folder of [`PendingCompletion`](crate::torrent::PendingCompletion) files, where somebody is to be told once of each download that becomes complete.
    pub pending: Option<PathBuf>,
    /// The folder that remembers the torrents and links among downloaded files, where the file system keeps no marks for these.
    pub brought: Option<PathBuf>,
    /// Whether to hash all that is there, whatever a fast-resume record says.
    pub verify: bool,
    /// Files held open at most.
    pub max_open_files: usize,
    /// Which of the torrent's files are wanted.
    pub files: Selection,
    /// Other places for files: their numbers from 0, padding counted, and plain paths below `out_dir`.
    pub places: Vec<(u32, PathBuf)>,
    /// Whether pieces are asked for in the order of the torrent, as a player wants them.
    pub sequential: bool,
    /// Whether the first and the last piece of each wanted file come before all others.
    pub first_and_last: bool,
    /// When files take their room on the disk.
    pub allocation: Allocation,
    /// Whether a torrent's name keeps the dot that it begins with.
    pub allow_hidden: bool,
    /// Whether the user gave btsync the files that are in the way.
    pub overwrite: bool,
    /// Whether to wait until everything is on the disk before a download counts as complete.
    pub fsync: bool,
    /// Behind the names of files until all that is wanted is there.
    pub incomplete_suffix: Option<String>,
    /// Whether to end as soon as a link's metadata is there.
    pub metadata_only: bool,
}

/// When to stop seeding. With nothing set, the session ends as soon as the download is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SeedGoal {
    /// Seed until told to stop; the others then do not count.
    pub forever: bool,
    /// Seed for so long.
    pub time: Option<Duration>,
    /// Seed until uploaded / size reaches this.
    pub ratio: Option<f64>,
}

impl SeedGoal {
    /// Whether there is anything to do once the download is whole.
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

    /// The part that belongs to the process, not to this torrent.
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
