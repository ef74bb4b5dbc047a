//! From words to a command. argh does the parsing; a pass before it splits `--name=value`, which argh refuses, and finds
//! misspelt options, for which it knows no suggestion. What is wrong here ends the program with [`Exit::BadOption`].

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use argh::FromArgs;

use super::create::CreateArgs;
use super::edit::EditArgs;
use super::exit::{Exit, Failure};
use super::info::InfoArgs;
use super::limits;
use super::magnet::MagnetArgs;
use super::spelling::{nearest, ours};
use super::tracker::TrackerArgs;
use super::verify::VerifyArgs;
use crate::bind::Bind;
use crate::metainfo::Magnet;
use crate::types::Encryption;

/// What the words ask for.
pub enum Command {
    /// The default: download a torrent.
    Download(Box<DownloadArgs>),
    /// Make a .torrent.
    Create(CreateArgs),
    /// Change what a .torrent says beside its files.
    Edit(EditArgs),
    /// Show what a .torrent holds.
    Info(InfoArgs),
    /// Print a .torrent's magnet link.
    Magnet(MagnetArgs),
    /// Serve as a tracker.
    Tracker(TrackerArgs),
    /// Say what of a torrent's files is bad or missing.
    Verify(VerifyArgs),
    /// Print this on stdout and be done: help, version.
    Print(String),
}

/// Downloads what a .torrent names into a folder.
#[derive(FromArgs, Debug, Default)]
#[argh(help_triggers("-h", "--help"))]
#[allow(clippy::struct_excessive_bools)] // each is a switch of its own
pub struct DownloadArgs {
    /// the .torrent (- for standard input) or the magnet link, then the folder for its files
    #[argh(positional)]
    names: Vec<String>,
    /// go on giving to others until stopped
    #[argh(switch)]
    pub seed: bool,
    /// give to others for so many minutes after the download
    #[argh(option, from_str_fn(minutes))]
    pub seed_time: Option<Duration>,
    /// give to others until so much of the size has been sent
    #[argh(option, from_str_fn(ratio))]
    pub seed_ratio: Option<f64>,
    /// as the first seeder: show each peer a few pieces at a time, so that about one copy is sent
    #[argh(switch)]
    pub super_seed: bool,
    /// the TCP port to listen on, or a range of which the first free one is taken
    #[argh(option, from_str_fn(ports))]
    pub listen_port: Option<RangeInclusive<u16>>,
    /// connections at most
    #[argh(option, from_str_fn(peers))]
    pub max_peers: Option<usize>,
    /// bytes per second to receive at most, from all peers together; K and M are 1024s, 0 is no limit
    #[argh(option, from_str_fn(limits::parse))]
    pub max_download_limit: Option<u64>,
    /// bytes per second to send at most, to all peers together
    #[argh(option, from_str_fn(limits::parse))]
    pub max_upload_limit: Option<u64>,
    /// whether to disguise connections: prefer, require or off
    #[argh(option, from_str_fn(encryption))]
    pub encryption: Option<Encryption>,
    /// a peer to call without asking a tracker; may be repeated
    #[argh(option, from_str_fn(host_and_port))]
    pub peer: Vec<String>,
    /// trackers to ask beside the torrent's own; may be repeated
    #[argh(option, from_str_fn(trackers))]
    bt_tracker: Vec<Vec<String>>,
    /// one event a line on standard output, for programs
    #[argh(switch)]
    pub json: bool,
    /// give up when nothing came for so many seconds
    #[argh(option, from_str_fn(seconds))]
    pub stop_timeout: Option<Duration>,
    /// a command for the shell when the download is complete; its environment tells it of what
    #[argh(option)]
    pub on_download_complete: Option<String>,
    /// show debug logs
    #[argh(switch, short = 'v')]
    pub verbose: bool,
    /// show errors only
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// trackers of the torrent that are not to be asked, `*` for all; may be repeated
    #[argh(option, from_str_fn(excluded))]
    bt_exclude_tracker: Vec<Vec<String>>,
    /// do without the DHT
    #[argh(switch)]
    pub no_dht: bool,
    /// a node through which to enter the DHT; may be repeated
    #[argh(option, from_str_fn(host_and_port))]
    pub dht_entry_point: Vec<String>,
    /// do not look for peers in the local network
    #[argh(switch)]
    pub no_lsd: bool,
    /// neither take peers from peers nor tell them of others
    #[argh(switch)]
    pub no_pex: bool,
    /// use this network interface, or this address of ours, for everything
    #[argh(option, from_str_fn(interface))]
    pub interface: Option<Bind>,
    /// hash all that is there, whatever is remembered of it
    #[argh(switch)]
    pub verify: bool,
    /// keep the .torrent of a magnet link in this file or folder
    #[argh(option)]
    pub save_torrent: Option<PathBuf>,
}

impl DownloadArgs {
    /// The .torrent, or the magnet link.
    pub fn file(&self) -> PathBuf {
        self.names.first().map(PathBuf::from).unwrap_or_default()
    }

    /// The folder that receives the files; the current one where none was named.
    pub fn out_dir(&self) -> PathBuf {
        PathBuf::from(self.names.get(1).map_or(".", String::as_str))
    }

    /// The trackers that the user added, in the order given.
    pub fn trackers(&self) -> impl Iterator<Item = &str> {
        self.bt_tracker.iter().flatten().map(String::as_str)
    }

    /// The trackers that the user does not want.
    pub fn excluded(&self) -> impl Iterator<Item = &str> {
        self.bt_exclude_tracker.iter().flatten().map(String::as_str)
    }

    fn checked(self) -> Result<DownloadArgs, Failure> {
        match self.names.as_slice() {
            [] => Err(wrong("which torrent? Say `btsync FILE.torrent FOLDER`, or `btsync --help` for more")),
            [_, _, third, ..] => Err(wrong(format!("'{third}' is one name too many: a torrent and a folder will do"))),
            [file, ..] if !Magnet::is_link(file) && file.contains("://") => {
                Err(wrong(format!("'{file}': only magnet links and .torrent files on disk are supported yet")))
            }
            [file, ..] if file.is_empty() => Err(wrong("the torrent's name is empty")),
            [_, folder] if folder.is_empty() => Err(wrong("the folder's name is empty")),
            _ => Ok(self),
        }
    }
}

/// What `btsync --help` prints.
const HELP: &str = "\
btsync FILE.torrent|MAGNET [FOLDER] [options]   download, verify, exit (into .)
btsync create SOURCE [options]           make a .torrent of a file or folder
btsync info|magnet|edit FILE.torrent     show it; print its link; change it
btsync verify FILE.torrent [FOLDER]      say which files are bad or missing
btsync tracker|help [COMMAND]            serve a closed network; show options
Sharing (without these, btsync exits as soon as the download is whole):
  --seed             give until stopped; --super-seed: as the first seeder
  --seed-time MIN, --seed-ratio R   give so long; until R times the size is sent
Network:
  --listen-port P    TCP and UDP port, or a range A-B: the first free 6881-6889
  --max-peers N      connections at most (300)
  --max-download-limit R, --max-upload-limit R   bytes/s, 500K, 2M (0: no limit)
  --encryption MODE  disguise connections: prefer, require or off (prefer)
  --peer HOST:PORT, --bt-tracker URL, --bt-exclude-tracker URL|*   more, or less
  --no-dht, --no-lsd, --no-pex, --dht-entry-point HOST:PORT   ways to find peers
  --interface IF     this interface or address of ours alone, or nothing
Output:
  --json, --verify   one event a line on stdout; hash all, believing no record
  --save-torrent F, --stop-timeout S   keep a link's .torrent; give up after S s
  --on-download-complete CMD   for the shell, with BTSYNC_* in its environment
  -v, --verbose; -q, --quiet; -h, --help; --version   RUST_LOG=...: finer logs
Ctrl-C stops; run it again to go on. ./create is a file's name.
Exit codes: 0 whole, 7 stopped, 6 network, 9 disk full, 25-27 input: README.md
";

/// Turns the words after the program's name into a command.
///
/// # Errors
/// [`Exit::BadOption`] and one line where the words make no sense.
pub fn parse(words: &[OsString]) -> Result<Command, Failure> {
    let mut texts = Vec::with_capacity(words.len());
    for word in words {
        texts.push(word.to_str().ok_or_else(|| wrong(format!("not UTF-8: {}", word.display())))?);
    }
    // Only the first word that is no option can name a command: `./create` reaches a file of that name.
    let first = texts.iter().position(|w| !w.starts_with('-') || matches!(*w, "-" | "--"));
    let name = first.and_then(|at| texts.get(at)).copied().unwrap_or_default();
    let mut rest = texts.clone();
    if let Some(at) = first {
        rest.remove(at);
    }
    if name == "help" {
        return help(&rest);
    }
    if let Some(command) = subcommand(name, &rest) {
        return command;
    }
    match command("", &texts, |args: DownloadArgs| Command::Download(Box::new(args)))? {
        Command::Download(args) => Ok(Command::Download(Box::new(args.checked()?))),
        other => Ok(other),
    }
}

/// The command of that name with these words; `None` where there is no such command.
fn subcommand(name: &str, words: &[&str]) -> Option<Result<Command, Failure>> {
    Some(match name {
        "create" => command(name, words, Command::Create),
        "edit" => command(name, words, Command::Edit),
        "info" => command(name, words, Command::Info),
        "magnet" => command(name, words, Command::Magnet),
        "tracker" => command(name, words, Command::Tracker),
        "verify" => command(name, words, Command::Verify),
        _ => return None,
    })
}

fn help(words: &[&str]) -> Result<Command, Failure> {
    let Some(&name) = words.first() else { return Ok(Command::Print(HELP.to_owned())) };
    let nothing = || wrong(format!("no help on '{name}': there are create, edit, info, magnet, tracker and verify"));
    subcommand(name, &["--help"]).unwrap_or_else(|| Err(nothing()))
}

/// Parses `words` as the options of one command; `name` is empty for the download.
fn command<T: FromArgs>(name: &str, words: &[&str], wrap: impl FnOnce(T) -> Command) -> Result<Command, Failure> {
    let words = split::<T>(words)?;
    let asked = |long: &str| words.iter().take_while(|w| *w != "--").any(|w| w == long);
    if name.is_empty() && asked("--version") {
        return Ok(Command::Print(concat!("btsync ", env!("CARGO_PKG_VERSION"), "\n").to_owned()));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let names = if name.is_empty() { vec!["btsync"] } else { vec!["btsync", name] };
    match T::from_args(&names, &words) {
        Ok(args) => Ok(wrap(args)),
        Err(early) if early.status.is_ok() && name.is_empty() => Ok(Command::Print(HELP.to_owned())),
        Err(early) if early.status.is_ok() => Ok(Command::Print(early.output)),
        // argh speaks in several lines; one is the rule here.
        Err(early) => Err(wrong(early.output.split_whitespace().collect::<Vec<_>>().join(" "))),
    }
}

/// What the parser of a command thinks of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Switch,
    Value,
    Unknown,
}

/// Asks the parser itself, so that there is no second table of options to keep.
fn kind<T: FromArgs>(word: &str) -> Kind {
    match T::from_args(&["btsync"], &[word]) {
        _ if word == "--version" || word == "-h" => Kind::Switch,
        Err(early) if early.output.starts_with("Unrecognized argument") => Kind::Unknown,
        Err(early) if early.output.starts_with("No value provided") => Kind::Value,
        _ => Kind::Switch,
    }
}

/// What a lone `-` stands for among the names: the torrent comes from a pipe, or whatever standard input is.
pub(super) const STDIN: &str = "/dev/stdin";

/// Splits `--name=value` into two words, up to `--`, and refuses options that do not exist.
fn split<T: FromArgs>(words: &[&str]) -> Result<Vec<String>, Failure> {
    let mut out = Vec::with_capacity(words.len() + 4);
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        if word == "--" {
            out.push(word.to_owned());
            out.extend(words.map(|w| (*w).to_owned()));
            break;
        }
        if !word.starts_with('-') || word == "-" {
            out.push(if word == "-" { STDIN } else { word }.to_owned());
            continue;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (word, None),
        };
        let name = ours(name);
        let kind = kind::<T>(name);
        match (kind, value) {
            (Kind::Unknown, _) => return Err(unknown::<T>(name)),
            (Kind::Switch, Some(_)) => return Err(wrong(format!("{name} takes no value"))),
            _ => out.push(if name == "-h" { "--help" } else { name }.to_owned()),
        }
        if kind == Kind::Value {
            // The next word is the value whatever it looks like; it must not be split.
            let value = value.or_else(|| words.next().copied());
            out.push(value.ok_or_else(|| wrong(format!("{name} needs a value")))?.to_owned());
        }
    }
    Ok(out)
}

fn unknown<T: FromArgs>(name: &str) -> Failure {
    match nearest(name, &options::<T>()) {
        Some(near) => wrong(format!("unknown option '{name}': did you mean '{near}'?")),
        None => wrong(format!("unknown option '{name}': see --help")),
    }
}

/// The long options of a command, as its parser lists them.
fn options<T: FromArgs>() -> Vec<String> {
    let text = T::from_args(&["btsync"], &["--help"]).err().map(|early| early.output).unwrap_or_default();
    let lines = text.lines().filter(|line| line.trim_start().starts_with('-'));
    let long = lines.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")));
    long.map(str::to_owned).chain(["--help".to_owned()]).collect()
}

fn wrong(message: impl Into<String>) -> Failure {
    let message: String = message.into();
    Failure::new(Exit::BadOption, message.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>())
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "a number of minutes is needed, such as 30 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(minutes * 60.0).map_err(|_| "not a time: use 0 or more".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is needed".to_owned())?;
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
    time.ok_or_else(|| "not a time: use more than 0".to_owned())
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "a number is needed, such as 1.5".to_owned())?;
    if ratio.is_finite() && ratio >= 0.0 { Ok(ratio) } else { Err("not a ratio: use 0 or more".to_owned()) }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let port = |word: &str| word.parse::<u16>().ok().filter(|&port| port != 0);
    match (port(from), port(to)) {
        (Some(from), Some(to)) if from <= to => Ok(from..=to),
        (Some(from), Some(to)) => Err(format!("{from} is more than {to}")),
        _ => Err("a port from 1 to 65535 is needed, or a range such as 6881-6889".to_owned()),
    }
}

fn peers(text: &str) -> Result<usize, String> {
    let many = text.parse::<usize>().ok().filter(|many| (1..=5000).contains(many));
    many.ok_or_else(|| "a number from 1 to 5000 is needed".to_owned())
}

fn encryption(text: &str) -> Result<Encryption, String> {
    match text {
        "prefer" => Ok(Encryption::Prefer),
        "require" => Ok(Encryption::Require),
        "off" => Ok(Encryption::Off),
        _ => Err("prefer, require or off is needed".to_owned()),
    }
}

/// The form only: names are resolved when the download starts.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse().ok());
    match port {
        Some(1..=u16::MAX) => Ok(text.to_owned()),
        _ => Err("ADDRESS:PORT is needed, such as 192.0.2.7:6881 or [2001:db8::7]:6881".to_owned()),
    }
}

fn interface(text: &str) -> Result<Bind, String> {
    text.parse().map_err(|error: crate::bind::BindError| error.to_string())
}

fn excluded(text: &str) -> Result<Vec<String>, String> {
    let words: Vec<_> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if words.is_empty() { Err("a tracker's URL is needed, or * for all".to_owned()) } else { Ok(words) }
}

fn trackers(text: &str) -> Result<Vec<String>, String> {
    let urls: Vec<_> = text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
    let lower = |url: &String| url.to_ascii_lowercase();
    match urls.iter().find(|url| !["http://", "https://", "udp://"].iter().any(|s| lower(url).starts_with(s))) {
        Some(url) => Err(format!("'{url}' is no tracker's URL: http://, https:// or udp:// is needed")),
        None if urls.is_empty() => Err("a URL is needed".to_owned()),
        None => Ok(urls),
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
