//! The arguments of the subcommands, one struct each, which argh fills. Its doc comments are the help texts.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::options::values::{self, WebAddress};
use btsync::create::Glob;
use btsync::{Bind, FilePattern, PeerAddress, Transports};

/// create a torrent file from a file or folder
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "create")]
#[allow(clippy::struct_excessive_bools)] // each is an independent switch
pub struct CreateArgs {
    /// the file or folder to share
    #[argh(positional, arg_name = "SOURCE")]
    pub source: PathBuf,
    /// write this torrent file; by default the source's name with .torrent, in the current folder
    #[argh(option, short = 'o', arg_name = "FILE")]
    pub output: Option<PathBuf>,
    /// add this tracker; repeat for another tier, separate the URLs of one tier with commas
    #[argh(option, short = 'a', arg_name = "URL")]
    pub announce: Vec<String>,
    /// the piece length, a power of two such as 256K or 1M; by default, it depends on the size of the source
    #[argh(option, arg_name = "SIZE", from_str_fn(values::piece_length))]
    pub piece_length: Option<u32>,
    /// let clients find peers through the trackers only
    #[argh(switch)]
    pub private: bool,
    /// add a comment
    #[argh(option, arg_name = "TEXT")]
    pub comment: Option<String>,
    /// add the URL of a web seed
    #[argh(option, arg_name = "URL")]
    pub web_seed: Vec<String>,
    /// add a tag that changes the info-hash; so that swarms of different trackers stay separate
    #[argh(option, long = "source", arg_name = "TEXT")]
    pub source_tag: Option<String>,
    /// leave out files that match; such as '*.tmp', .git or 'docs/**'
    #[argh(option, arg_name = "GLOB", from_str_fn(values::glob))]
    pub exclude: Vec<Glob>,
    /// align every file to a piece boundary with padding files; BEP 47
    #[argh(switch)]
    pub pad_files: bool,
    /// create a torrent for BitTorrent v1, which every client can use; the default
    #[argh(switch)]
    pub v1: bool,
    /// create a torrent for BitTorrent v2 only (BEP 52)
    #[argh(switch)]
    pub v2: bool,
    /// create a torrent for BitTorrent v1 and v2
    #[argh(switch)]
    pub hybrid: bool,
    /// add a DHT node
    #[argh(option, arg_name = "HOST:PORT", from_str_fn(values::node))]
    pub node: Vec<(String, u16)>,
    /// omit the creation date; by default, it is the current time, or `SOURCE_DATE_EPOCH`
    #[argh(switch)]
    pub no_date: bool,
    /// overwrite the torrent file if it exists
    #[argh(switch)]
    pub force: bool,
}

/// get a value from the DHT or store one there (BEP 44); with the network options of a download
#[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(subcommand, name = "dht")]
pub struct DhtArgs {
    /// get or put
    #[argh(positional, arg_name = "get|put")]
    pub action: String,
    /// for get: the target that put printed, 40 hexadecimal digits, or the public key of the author, 64 digits
    #[argh(positional, arg_name = "TARGET")]
    pub target: Option<String>,
    /// tell this value of the author from others
    #[argh(option, arg_name = "TEXT")]
    pub salt: Option<String>,
    /// store the contents of this file; - is standard input
    #[argh(option, arg_name = "FILE")]
    pub value: Option<PathBuf>,
    /// sign the value with the private key in this file; creates a missing file
    #[argh(option, arg_name = "FILE")]
    pub key: Option<PathBuf>,
    /// give up after SECONDS seconds
    #[argh(option, arg_name = "SECONDS", from_str_fn(values::seconds))]
    pub wait: Option<Duration>,
    /// use this port, or the first free port of a range A-B
    #[argh(option, arg_name = "P", short = 'p', from_str_fn(values::ports))]
    pub listen_port: Option<RangeInclusive<u16>>,
    /// use only this network interface or local address
    #[argh(option, arg_name = "IF", from_str_fn(values::interface))]
    pub interface: Option<Bind>,
    /// use this proxy; socks5:// or socks5h://
    #[argh(option, arg_name = "URL", from_str_fn(values::proxy))]
    pub proxy: Option<String>,
    /// also join the DHT through this node
    #[argh(option, arg_name = "HOST:PORT", from_str_fn(values::host_and_port))]
    pub dht_entry_point: Vec<String>,
    /// read options from this file; instead of `$XDG_CONFIG_HOME/btsync/config`
    #[argh(option, arg_name = "F")]
    pub config: Option<PathBuf>,
    /// read no configuration file
    #[argh(switch)]
    pub no_config: bool,
}

/// report what works on this machine and in its network; with the options of a download
#[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(subcommand, name = "doctor")]
#[allow(clippy::struct_excessive_bools)] // each is an independent switch
pub struct DoctorArgs {
    /// the download folder; by default that of the configuration, or the current one
    #[argh(positional, arg_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// wait at most SECONDS for the router, the DHT and incoming connections
    #[argh(option, arg_name = "SECONDS", from_str_fn(values::seconds))]
    pub wait: Option<Duration>,
    /// print one JSON object for each check
    #[argh(switch)]
    pub json: bool,
    /// check this port, or the first free port of a range A-B
    #[argh(option, arg_name = "P", short = 'p', from_str_fn(values::ports))]
    pub listen_port: Option<RangeInclusive<u16>>,
    /// use only this network interface or local address
    #[argh(option, arg_name = "IF", from_str_fn(values::interface))]
    pub interface: Option<Bind>,
    /// check this proxy; socks5://, socks5h://, socks4a:// or http://
    #[argh(option, arg_name = "URL", from_str_fn(values::proxy))]
    pub proxy: Option<String>,
    /// request port forwarding even with --interface or a public address
    #[argh(switch)]
    pub port_mapping: bool,
    /// do not request port forwarding from the router
    #[argh(switch)]
    pub no_port_mapping: bool,
    /// do not use the DHT
    #[argh(switch)]
    pub no_dht: bool,
    /// also join the DHT through this node
    #[argh(option, arg_name = "HOST:PORT", from_str_fn(values::host_and_port))]
    pub dht_entry_point: Vec<String>,
    /// read options from this file; instead of `$XDG_CONFIG_HOME/btsync/config`
    #[argh(option, arg_name = "F")]
    pub config: Option<PathBuf>,
    /// read no configuration file
    #[argh(switch)]
    pub no_config: bool,
}

/// edit trackers, web seeds and comment of a torrent file; the info-hash stays the same
#[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(subcommand, name = "edit")]
#[allow(clippy::struct_excessive_bools)] // each is an independent switch
pub struct EditArgs {
    /// the torrent file; - is standard input
    #[argh(positional, arg_name = "FILE")]
    pub file: PathBuf,
    /// write to this file; - is standard output; by default, replace the torrent file
    #[argh(option, short = 'o', arg_name = "FILE")]
    pub output: Option<PathBuf>,
    /// replace all trackers with this one; repeat for another tier, separate the URLs of one tier with commas
    #[argh(option, short = 'a', arg_name = "URL")]
    pub announce: Vec<String>,
    /// add this tracker; as a new last tier
    #[argh(option, arg_name = "URL")]
    pub add_announce: Vec<String>,
    /// remove this tracker
    #[argh(option, arg_name = "URL")]
    pub remove_announce: Vec<String>,
    /// remove all trackers
    #[argh(switch)]
    pub no_announce: bool,
    /// set the comment
    #[argh(option, arg_name = "TEXT")]
    pub comment: Option<String>,
    /// remove the comment
    #[argh(switch)]
    pub no_comment: bool,
    /// replace all web seeds with this one
    #[argh(option, arg_name = "URL")]
    pub web_seed: Vec<String>,
    /// remove all web seeds
    #[argh(switch)]
    pub no_web_seed: bool,
    /// overwrite the file of -o if it exists
    #[argh(switch)]
    pub force: bool,
}

/// show the contents of a torrent file
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "info")]
pub struct InfoArgs {
    /// the torrent file; - is standard input
    #[argh(positional, arg_name = "FILE")]
    pub file: PathBuf,
    /// print one JSON object instead of text
    #[argh(switch)]
    pub json: bool,
}

/// print the magnet link of a torrent file
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "magnet")]
pub struct MagnetArgs {
    /// the torrent file; - is standard input
    #[argh(positional, arg_name = "FILE")]
    pub file: PathBuf,
    /// leave the trackers out of the link
    #[argh(switch)]
    pub no_trackers: bool,
    /// add this peer to the link
    #[argh(option, arg_name = "HOST:PORT", from_str_fn(values::peer_address))]
    pub peer: Vec<PeerAddress>,
}

/// run a small HTTP and UDP tracker until stopped; it keeps at most 200,000 peers, in about 80 MiB
#[derive(FromArgs, ArgsInfo, Clone, Copy, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "tracker")]
pub struct TrackerArgs {
    /// listen on this address and port; by default on port 6969 on all addresses
    #[argh(option, arg_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// ask peers to announce every SECONDS seconds
    #[argh(option, default = "120", arg_name = "SECONDS")]
    pub interval: u64,
}

/// run many torrents as a service; with a web page and Transmission's remote control
#[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(subcommand, name = "serve")]
#[allow(clippy::struct_excessive_bools)] // each is an independent switch
pub struct ServeArgs {
    /// download into this folder; by default Downloads in the home folder
    #[argh(option, short = 'd', arg_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// allow downloads below this folder too
    #[argh(option, arg_name = "DIR")]
    pub allow_dir: Vec<PathBuf>,
    /// serve the page on this address and port, or on unix:PATH
    #[argh(option, arg_name = "ADDRESS:PORT", from_str_fn(values::web_address))]
    pub web_listen: Vec<WebAddress>,
    /// keep the torrents, the settings and the resume data in this folder
    #[argh(option, arg_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// add the .torrent and .magnet files that appear in this folder
    #[argh(option, arg_name = "DIR")]
    pub watch: Option<PathBuf>,
    /// listen for peers on this port; instead of the port in the settings
    #[argh(option, arg_name = "PORT")]
    pub peer_port: Option<u16>,
    /// request port forwarding even if this machine has a public address
    #[argh(switch)]
    pub port_mapping: bool,
    /// do not request port forwarding from the router
    #[argh(switch)]
    pub no_port_mapping: bool,
    /// connect to peers by this; tcp, utp or both
    #[argh(option, arg_name = "PROTOCOL", from_str_fn(values::transports))]
    pub transport: Option<Transports>,
    /// connect through this proxy only; socks5://, socks5h://, socks4a:// or http://
    #[argh(option, arg_name = "URL", from_str_fn(values::proxy))]
    pub proxy: Option<String>,
    /// do not send btsync's name and version or this machine's addresses
    #[argh(switch)]
    pub anonymous: bool,
    /// do not use the web seeds that torrents and magnet links name
    #[argh(switch)]
    pub no_web_seeds: bool,
    /// do not connect to the addresses in this block list; a file or URL
    #[argh(option, arg_name = "LIST")]
    pub block_list: Option<String>,
    /// import the torrents from Transmission's configuration folder and exit
    #[argh(option, arg_name = "DIR")]
    pub import_transmission: Option<PathBuf>,
    /// import the torrents from qBittorrent's folder `BT_backup` and exit
    #[argh(option, arg_name = "DIR")]
    pub import_qbittorrent: Option<PathBuf>,
    /// read a password from standard input, save it for this user and exit
    #[argh(option, arg_name = "USER")]
    pub set_password: Option<String>,
    /// read user and password from this file, as USER:PASSWORD
    #[argh(option, arg_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// accept requests for this host name too
    #[argh(option, arg_name = "NAME")]
    pub web_host: Vec<String>,
    /// serve the page below this path; for a reverse proxy
    #[argh(option, arg_name = "PATH")]
    pub web_prefix: Option<String>,
    /// serve metrics for Prometheus at /metrics
    #[argh(switch)]
    pub metrics: bool,
}

/// report which files of a torrent are damaged or missing; change nothing
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "verify")]
pub struct VerifyArgs {
    /// the torrent file; - is standard input
    #[argh(positional, arg_name = "FILE")]
    pub file: PathBuf,
    /// the folder of the torrent's files; by default the current one
    #[argh(positional, arg_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// print one JSON object instead of lines
    #[argh(switch)]
    pub json: bool,
    /// check only these files; numbers such as 1-5,8, a name pattern, or a folder
    #[argh(option, arg_name = "FILES", from_str_fn(values::pattern))]
    pub select: Vec<FilePattern>,
    /// do not check these files
    #[argh(option, arg_name = "FILES", from_str_fn(values::pattern))]
    pub exclude: Vec<FilePattern>,
    /// also look for files with this suffix; as `--incomplete-suffix` of a download leaves them
    #[argh(option, arg_name = "SUFFIX", from_str_fn(values::suffix))]
    pub incomplete_suffix: Option<String>,
    /// show no progress bar; print nothing if all files are intact
    #[argh(switch, short = 'q')]
    pub quiet: bool,
}
