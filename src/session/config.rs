//! What a session is told when it starts.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::swarm::limiter::Limits;
use crate::types::Encryption;

/// How a session behaves; the defaults are those of `btsync file.torrent outdir`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that receives the files.
    pub out_dir: PathBuf,
    /// TCP ports to listen on; the first free one is taken.
    pub listen_ports: RangeInclusive<u16>,
    /// What ends seeding once the download is whole.
    pub seed: SeedGoal,
    /// Connections at most, both ways together.
    pub max_peers: usize,
    /// The limits on what is received and sent, over all peers; [`Handle::set_limits`](super::Handle::set_limits) changes them.
    pub limits: Limits,
    /// Peers to call without asking a tracker.
    pub peers: Vec<SocketAddr>,
    /// Trackers beside those of the torrent, each a tier of its own.
    pub trackers: Vec<String>,
    /// Whether connections are disguised by message stream encryption.
    pub encryption: Encryption,
    /// Whether to show leechers our pieces one by one (BEP 16), where all are there from the start.
    pub super_seed: bool,
    /// Files held open at most.
    pub max_open_files: usize,
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
            trackers: Vec::new(),
            encryption: Encryption::default(),
            super_seed: false,
            max_open_files: 128,
        }
    }
}
