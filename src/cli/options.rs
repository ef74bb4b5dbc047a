//! Parses the command line into a [`Command`]. [`normalize`] prepares the words for argh, `values` parses option values,
//! `help` prints help. A download also reads options from a configuration file and the environment ([`config`]). Invalid
//! input exits with [`Exit::BadOption`].

mod args;
pub mod config;
#[cfg(test)]
mod generated;
mod help;
pub(crate) mod names;
pub(crate) mod normalize;
mod parse;
pub(crate) mod spelling;
mod table;
pub(crate) mod values;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::exit::{Exit, Failure};
use crate::cli::limits;
use crate::cli::report::hook::HookConfig;
use crate::util::redact::redacted;
use btsync::{Allocation, Bind, Dscp, Encryption, FilePattern, Transports};

pub use args::{CreateArgs, DhtArgs, DoctorArgs, EditArgs, InfoArgs, MagnetArgs, ServeArgs, TrackerArgs, VerifyArgs};
pub(crate) use normalize::STDIN;
#[cfg(test)]
pub use parse::parse;
pub use parse::parse_in;

/// The default for the number of torrents that download at once (`--max-concurrent`).
pub(crate) const DEFAULT_MAX_CONCURRENT: usize = 5;

/// The command that the arguments select.
pub enum Command {
    /// The default command: download torrents.
    Download(Box<DownloadArgs>),
    /// Create a torrent file.
    Create(CreateArgs),
    /// Get or store a value in the DHT, with the network options of a download.
    Dht(DhtArgs, Box<DownloadArgs>),
    /// Report what works on this machine and in its network, with the options that a download would have.
    Doctor(DoctorArgs, Box<DownloadArgs>),
    /// Edit trackers, web seeds and comment of a torrent file.
    Edit(EditArgs),
    /// Show the contents of a torrent file.
    Info(InfoArgs),
    /// Print the magnet link of a torrent file.
    Magnet(MagnetArgs),
    /// Run a service.
    #[cfg_attr(not(feature = "service"), allow(dead_code))]
    Serve(ServeArgs),
    /// Run a tracker.
    Tracker(TrackerArgs),
    /// Report which files of a torrent are damaged or missing.
    Verify(VerifyArgs),
    /// Print this text on stdout and exit: help, version.
    Print(String),
}

/// A command and the warnings about its options.
pub struct ParsedArguments {
    /// The command.
    pub command: Command,
    /// Warnings for stderr, one line each.
    pub notes: Vec<String>,
}

/// download and share torrents
#[derive(FromArgs, ArgsInfo, Debug, Default)]
#[argh(help_triggers("-h", "--help"))]
#[allow(clippy::struct_excessive_bools)] // each is an independent switch
pub struct DownloadArgs {
    /// the .torrents (- for standard input), their URLs or magnet links, then the folder for their files
    #[argh(positional)]
    names: Vec<String>,
    /// keep seeding until stopped
    #[argh(switch)]
    pub seed: bool,
    /// seed for MIN minutes after the download; fractions are allowed; with `--seed-ratio`, whichever comes first
    #[argh(option, arg_name = "MIN", from_str_fn(values::minutes))]
    pub seed_time: Option<Duration>,
    /// seed until R times the size has been uploaded; such as 1.5; with `--seed-time`, whichever comes first
    #[argh(option, arg_name = "R", from_str_fn(values::ratio))]
    pub seed_ratio: Option<f64>,
    /// show each peer only a few pieces at a time; for the first seeder of a torrent, which then uploads about one copy (BEP 16)
    #[argh(switch)]
    pub super_seed: bool,
    /// listen on this port, or on the first free port of a range A-B
    #[argh(option, arg_name = "P", short = 'p', from_str_fn(values::ports))]
    pub listen_port: Option<RangeInclusive<u16>>,
    /// allow at most N connections for all torrents together
    #[argh(option, arg_name = "N", from_str_fn(values::count))]
    pub max_peers: Option<usize>,
    /// limit the download rate to R bytes per second; all peers together; K stands for 1024 and M for 1048576, 0 means no limit
    #[argh(option, arg_name = "R", from_str_fn(limits::parse))]
    pub max_download_limit: Option<u64>,
    /// limit the upload rate to R bytes per second; as for `--max-download-limit`
    #[argh(option, arg_name = "R", short = 'u', from_str_fn(limits::parse))]
    pub max_upload_limit: Option<u64>,
    /// encrypt connections to peers; allow, require or off
    #[argh(option, arg_name = "MODE", from_str_fn(values::encryption))]
    pub encryption: Option<Encryption>,
    /// connect to peers by this; tcp, utp or both
    #[argh(option, arg_name = "PROTOCOL", from_str_fn(values::transports))]
    pub transport: Option<Transports>,
    /// mark packets to peers with this DSCP class; le (all other traffic first), none, cs1 or another class, or a number from 0 to 63
    #[argh(option, arg_name = "CLASS", from_str_fn(values::dscp))]
    pub dscp: Option<Dscp>,
    /// start the peer ID with these eight characters; such as -qB4650-, for trackers that allow only certain clients
    #[argh(option, arg_name = "PREFIX", from_str_fn(values::peer_id_prefix))]
    pub peer_id_prefix: Option<[u8; 8]>,
    /// send this client name in HTTP requests and to peers; such as qBittorrent/4.6.5
    #[argh(option, arg_name = "NAME", from_str_fn(values::user_agent))]
    pub user_agent: Option<String>,
    /// connect to this peer
    #[argh(option, arg_name = "HOST:PORT", from_str_fn(values::host_and_port))]
    pub peer: Vec<String>,
    /// announce to this tracker too
    #[argh(option, arg_name = "URL", from_str_fn(values::trackers))]
    bt_tracker: Vec<Vec<String>>,
    /// write events for programs to standard output; one JSON object on each line
    #[argh(switch)]
    pub json: bool,
    /// print plain lines instead of the screen
    #[argh(switch)]
    pub plain: bool,
    /// show the torrents of this run in a browser; btsync prints the page's address, which only this machine can reach
    #[argh(switch)]
    pub web: bool,
    /// the same as `--web`, on this loopback address and port or unix:PATH
    #[argh(option, arg_name = "ADDRESS:PORT", from_str_fn(values::web_address))]
    pub web_listen: Option<values::WebAddress>,
    /// give up if no data arrives for S seconds
    #[argh(option, arg_name = "S", from_str_fn(values::seconds))]
    pub stop_timeout: Option<Duration>,
    /// run this shell command when a download is complete; environment variables describe the download
    #[argh(option, arg_name = "CMD")]
    pub on_download_complete: Option<String>,
    /// also run the completion command if all data was complete at the start; that of `--on-download-complete`
    #[argh(switch)]
    pub on_complete_always: bool,
    /// print debug logs
    #[argh(switch, short = 'v')]
    pub verbose: bool,
    /// print errors only
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// do not announce to this tracker of the torrent; `*` stands for all of its trackers
    #[argh(option, arg_name = "URL", from_str_fn(values::excluded_trackers))]
    bt_exclude_tracker: Vec<Vec<String>>,
    /// also download from this web seed; local addresses are allowed
    #[argh(option, arg_name = "URL", from_str_fn(values::web_seed))]
    pub web_seed: Vec<String>,
    /// do not use the web seeds that the torrent or magnet link names
    #[argh(switch)]
    pub no_web_seeds: bool,
    /// do not use the DHT
    #[argh(switch)]
    pub no_dht: bool,
    /// also join the DHT through this node
    #[argh(option, arg_name = "HOST:PORT", from_str_fn(values::host_and_port))]
    pub dht_entry_point: Vec<String>,
    /// do not look for peers in the local network
    #[argh(switch)]
    pub no_lsd: bool,
    /// do not exchange peer addresses with connected peers
    #[argh(switch)]
    pub no_pex: bool,
    /// use only this network interface or local address
    #[argh(option, arg_name = "IF", from_str_fn(values::interface))]
    pub interface: Option<Bind>,
    /// request port forwarding from the router at once, even with --interface
    #[argh(switch)]
    pub port_mapping: bool,
    /// do not request port forwarding from the router
    #[argh(switch)]
    pub no_port_mapping: bool,
    /// connect through this proxy only; socks5://, socks5h://, socks4a:// or http://
    #[argh(option, arg_name = "URL", from_str_fn(values::proxy))]
    pub proxy: Option<String>,
    /// do not send btsync's name and version or this machine's addresses
    #[argh(switch)]
    pub anonymous: bool,
    /// do not connect to the addresses in this block list; a file or URL, in P2P, DAT or CIDR form
    #[argh(option, arg_name = "LIST")]
    pub block_list: Option<String>,
    /// hash all data on disk; ignore the resume data
    #[argh(switch)]
    pub verify: bool,
    /// save the torrent file of a magnet link or URL in this file or folder
    #[argh(option, arg_name = "F")]
    pub save_torrent: Option<PathBuf>,
    /// also download the torrents listed in this file; one on each line; - is standard input
    #[argh(option, arg_name = "LIST", short = 'i')]
    pub input_file: Option<PathBuf>,
    /// download at most N torrents at once
    #[argh(option, arg_name = "N", short = 'j', from_str_fn(values::count))]
    pub max_concurrent: Option<usize>,
    /// start each .torrent and .magnet file in this folder; also those that appear later, until stopped
    #[argh(option, arg_name = "DIR")]
    pub watch: Option<PathBuf>,
    /// list the files with numbers, sizes and selection; download nothing
    #[argh(switch, short = 'S')]
    pub list: bool,
    /// download only these files; numbers such as 1-5,8, a name pattern, or a folder
    #[argh(option, arg_name = "FILES", from_str_fn(values::pattern))]
    pub select: Vec<FilePattern>,
    /// do not download these files; as for `--select`
    #[argh(option, arg_name = "FILES", from_str_fn(values::pattern))]
    pub exclude: Vec<FilePattern>,
    /// keep a dot at the start of the torrent's name; the dot makes the file or folder hidden
    #[argh(switch)]
    pub allow_hidden: bool,
    /// append this suffix to file names until the download is complete; such as .part
    #[argh(option, arg_name = "SUFFIX", from_str_fn(values::suffix))]
    pub incomplete_suffix: Option<String>,
    /// download the pieces in order
    #[argh(switch)]
    pub sequential: bool,
    /// download the first and last piece of each file first
    #[argh(switch)]
    pub first_and_last: bool,
    /// rename a file: save the file with this number as PATH; relative to the download folder
    #[argh(option, arg_name = "NUMBER=PATH", from_str_fn(values::number_and_path))]
    pub out: Vec<(u32, PathBuf)>,
    /// when to allocate disk space; none (files grow), sparse, or falloc (at the start)
    #[argh(option, arg_name = "HOW", from_str_fn(values::allocation))]
    pub file_allocation: Option<Allocation>,
    /// overwrite existing files that btsync did not create
    #[argh(switch)]
    pub overwrite: bool,
    /// wait until the disk has all files before exiting with code 0
    #[argh(switch)]
    pub fsync: bool,
    /// save the files in this folder; same as FOLDER after the torrent
    #[argh(option, arg_name = "DIR", short = 'd')]
    pub dir: Option<PathBuf>,
    /// read options from this file; instead of `$XDG_CONFIG_HOME/btsync/config`
    #[argh(option, arg_name = "F")]
    pub config: Option<PathBuf>,
    /// read no configuration file
    #[argh(switch)]
    #[expect(dead_code, reason = "`config` reads the word itself, before argh does")]
    pub no_config: bool,
    /// print all options with their values and origins
    #[argh(switch)]
    pub show_config: bool,
    // The same letter as in curl, wget and transmission.
    /// print the version
    #[argh(switch, short = 'V')]
    #[expect(dead_code, reason = "the answer is printed before a download is thought of")]
    pub version: bool,
}

impl DownloadArgs {
    /// The positional arguments: torrents, and optionally a folder after them.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The torrent file, URL or magnet link of a download with a single torrent.
    pub fn file(&self) -> PathBuf {
        self.names.first().map(PathBuf::from).unwrap_or_default()
    }

    /// The download folder; the current folder if none is given. A folder after the torrent overrides `--dir`, which may
    /// come from the configuration file.
    pub fn out_dir(&self) -> PathBuf {
        let named = self.names.get(1).map(PathBuf::from);
        named.or_else(|| self.dir.clone()).unwrap_or_else(|| PathBuf::from("."))
    }

    /// The trackers of `--bt-tracker`, in the order given.
    pub fn trackers(&self) -> impl Iterator<Item = &str> {
        self.bt_tracker.iter().flatten().map(String::as_str)
    }

    /// The trackers of `--bt-exclude-tracker`.
    pub fn excluded_trackers(&self) -> impl Iterator<Item = &str> {
        self.bt_exclude_tracker.iter().flatten().map(String::as_str)
    }

    /// The command of `--on-download-complete`, if any. The folder `pending` records the downloads for which it has not run
    /// yet.
    pub fn hook(&self, unreported_folder: Option<&PathBuf>) -> Option<HookConfig> {
        let (command, runs_if_already_complete) = (self.on_download_complete.clone()?, self.on_complete_always);
        Some(HookConfig { command, runs_if_already_complete, unreported_folder: unreported_folder.cloned() })
    }

    fn checked(mut self) -> Result<DownloadArgs, Failure> {
        self.names = self.names.iter().map(|name| names::normalize_name(name)).collect();
        match self.names.as_slice() {
            [] if self.input_file.is_none() && self.watch.is_none() => {
                Err(bad_option("no torrent given: use `btsync FILE.torrent FOLDER`, or see `btsync --help`"))
            }
            [file, ..] if file.is_empty() => Err(bad_option("the torrent's name is empty")),
            [_, .., folder] if folder.is_empty() => Err(bad_option("the folder's name is empty")),
            _ if self.dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) => {
                Err(bad_option("the folder's name is empty"))
            }
            given => match given.iter().find_map(|name| names::unknown_scheme(name)) {
                Some(complaint) => Err(bad_option(complaint)),
                None => Ok(self),
            },
        }
    }
}

/// A [`Failure`] with [`Exit::BadOption`]. Redacts URLs and replaces control characters in the message.
pub(crate) fn bad_option(message: impl Into<String>) -> Failure {
    let message = redacted(&message.into());
    Failure::new(Exit::BadOption, message.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>())
}

#[cfg(test)]
mod tests;
