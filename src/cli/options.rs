//! From words to a command. argh does the parsing; `forms` is a pass before it over the words, `values` reads what follows an
//! option, `help` is what `--help` prints. A download is also told by a file and the environment ([`config`]). What is wrong here ends the program with [`Exit::BadOption`].

pub mod config;
mod help;
pub(crate) mod normalize;
pub(crate) mod spelling;
mod values;

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::batch;
use crate::cli::commands::create::CreateArgs;
use crate::cli::commands::edit::EditArgs;
use crate::cli::commands::info::InfoArgs;
use crate::cli::commands::magnet::MagnetArgs;
use crate::cli::commands::tracker::TrackerArgs;
use crate::cli::commands::verify::VerifyArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::limits;
use crate::cli::options::config::ConfigSources;
use crate::cli::report::hook::HookConfig;
use btsync::discovery::tracker::redact::redacted;
use btsync::metainfo::Pattern;
use btsync::net::bind::Bind;
use btsync::storage::Allocation;
use btsync::types::{Dscp, Encryption};

pub(crate) use normalize::STDIN;
use normalize::{CommandLine, GivenOption, Options};
pub(crate) use values::{host_and_port, suffix};

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

/// A command, and what else there is to tell.
pub struct Parsed {
    /// The command.
    pub command: Command,
    /// What is odd, but no reason not to begin: a line each, for stderr.
    pub notes: Vec<String>,
}

/// Downloads what a .torrent names into a folder.
#[derive(FromArgs, ArgsInfo, Debug, Default)]
#[argh(help_triggers("-h", "--help"))]
#[allow(clippy::struct_excessive_bools)] // each is a switch of its own
pub struct DownloadArgs {
    /// the .torrents (- for standard input), their URLs or magnet links, then the folder for their files
    #[argh(positional)]
    names: Vec<String>,
    /// go on giving to others until stopped
    #[argh(switch)]
    pub seed: bool,
    /// give to others for so many minutes after the download, fractions allowed; with `--seed-ratio`, whichever comes first
    #[argh(option, arg_name = "MIN", from_str_fn(values::minutes))]
    pub seed_time: Option<Duration>,
    /// give to others until R times the size has been sent, such as 1.5; with `--seed-time`, whichever comes first
    #[argh(option, arg_name = "R", from_str_fn(values::ratio))]
    pub seed_ratio: Option<f64>,
    /// as the first seeder: show each peer a few pieces at a time, so that about one copy is sent
    #[argh(switch)]
    pub super_seed: bool,
    /// the TCP port to listen on, or a range of which the first free one is taken
    #[argh(option, arg_name = "P", short = 'p', from_str_fn(values::ports))]
    pub listen_port: Option<RangeInclusive<u16>>,
    /// connections at most, of all torrents together
    #[argh(option, arg_name = "N", from_str_fn(values::peers))]
    pub max_peers: Option<usize>,
    /// bytes per second to receive at most, from all peers together; K and M are 1024s, 0 is no limit
    #[argh(option, arg_name = "R", from_str_fn(limits::parse))]
    pub max_download_limit: Option<u64>,
    /// bytes per second to send at most, to all peers together
    #[argh(option, arg_name = "R", short = 'u', from_str_fn(limits::parse))]
    pub max_upload_limit: Option<u64>,
    /// whether to disguise connections: prefer, require or off
    #[argh(option, arg_name = "MODE", from_str_fn(values::encryption))]
    pub encryption: Option<Encryption>,
    /// what routers are told of packets to peers: le (others go first), none, cs1, a number
    #[argh(option, arg_name = "CLASS", from_str_fn(values::dscp))]
    pub dscp: Option<Dscp>,
    /// how our peer id begins, for trackers that allow certain clients only: eight characters such as -qB4650-
    #[argh(option, arg_name = "PREFIX", from_str_fn(values::peer_id_prefix))]
    pub peer_id_prefix: Option<[u8; 8]>,
    /// what our client is called in HTTP requests and to peers, such as qBittorrent/4.6.5
    #[argh(option, arg_name = "NAME", from_str_fn(values::user_agent))]
    pub user_agent: Option<String>,
    /// a peer to call without asking a tracker; may be repeated
    #[argh(option, arg_name = "HOST:PORT", from_str_fn(values::host_and_port))]
    pub peer: Vec<String>,
    /// trackers to ask beside the torrent's own; may be repeated
    #[argh(option, arg_name = "URL", from_str_fn(values::trackers))]
    bt_tracker: Vec<Vec<String>>,
    /// one event a line on standard output, for programs
    #[argh(switch)]
    pub json: bool,
    /// plain lines instead of the live view, on a terminal too
    #[argh(switch)]
    pub plain: bool,
    /// give up when nothing came for so many seconds
    #[argh(option, arg_name = "S", from_str_fn(values::seconds))]
    pub stop_timeout: Option<Duration>,
    /// a command for the shell when the download is complete; its environment tells it of what
    #[argh(option, arg_name = "CMD")]
    pub on_download_complete: Option<String>,
    /// run the command of `--on-download-complete` also where everything was there from the start
    #[argh(switch)]
    pub on_complete_always: bool,
    /// show debug logs
    #[argh(switch, short = 'v')]
    pub verbose: bool,
    /// show errors only
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// trackers of the torrent that are not to be asked, `*` for all; may be repeated
    #[argh(option, arg_name = "URL", from_str_fn(values::excluded))]
    bt_exclude_tracker: Vec<Vec<String>>,
    /// do without the DHT
    #[argh(switch)]
    pub no_dht: bool,
    /// a node through which to enter the DHT; may be repeated
    #[argh(option, arg_name = "HOST:PORT", from_str_fn(values::host_and_port))]
    pub dht_entry_point: Vec<String>,
    /// do not look for peers in the local network
    #[argh(switch)]
    pub no_lsd: bool,
    /// neither take peers from peers nor tell them of others
    #[argh(switch)]
    pub no_pex: bool,
    /// use this network interface, or this address of ours, for everything
    #[argh(option, arg_name = "IF", from_str_fn(values::interface))]
    pub interface: Option<Bind>,
    /// hash all that is there, whatever is remembered of it
    #[argh(switch)]
    pub verify: bool,
    /// keep the .torrent of a magnet link or a URL in this file or folder
    #[argh(option, arg_name = "F")]
    pub save_torrent: Option<PathBuf>,
    /// a file that names torrents too, one a line; - is standard input
    #[argh(option, arg_name = "LIST", short = 'i')]
    pub input_file: Option<PathBuf>,
    /// download so many at once at most
    #[argh(option, arg_name = "N", short = 'j', from_str_fn(values::peers))]
    pub max_concurrent: Option<usize>,
    /// a folder: begin each .torrent or .magnet file that appears in it, until stopped
    #[argh(option, arg_name = "DIR")]
    pub watch: Option<PathBuf>,
    /// show the files with their numbers, and what is selected of them; download nothing
    #[argh(switch, short = 'S')]
    pub list: bool,
    /// files to download: numbers such as 1-5,8, or a pattern or folder; may be repeated
    #[argh(option, arg_name = "FILES")]
    pub select: Vec<Pattern>,
    /// files not to download, named like those to select; may be repeated
    #[argh(option, arg_name = "FILES")]
    pub exclude: Vec<Pattern>,
    /// keep the dot that a torrent's name begins with, which hides the file or folder
    #[argh(switch)]
    pub allow_hidden: bool,
    /// put this behind the names of files until all that is wanted is there, such as .part
    #[argh(option, arg_name = "SUFFIX", from_str_fn(values::suffix))]
    pub incomplete_suffix: Option<String>,
    /// fetch the pieces in order
    #[argh(switch)]
    pub sequential: bool,
    /// fetch the first and the last piece of each file before all others
    #[argh(switch)]
    pub first_and_last: bool,
    /// another place below the folder for the file of that number; may be repeated
    #[argh(option, arg_name = "NUMBER=PATH", from_str_fn(values::place))]
    pub out: Vec<(u32, PathBuf)>,
    /// when files take their room on the disk: none (as they grow), sparse or falloc (at once)
    #[argh(option, arg_name = "HOW", from_str_fn(values::allocation))]
    pub file_allocation: Option<Allocation>,
    /// write over files that are in the way and that btsync did not make
    #[argh(switch)]
    pub overwrite: bool,
    /// exit with 0 only when everything is on the disk, not just handed to the system
    #[argh(switch)]
    pub fsync: bool,
    /// the folder for the files, where none is named after the torrent
    #[argh(option, arg_name = "DIR", short = 'd')]
    pub dir: Option<PathBuf>,
    /// read options from this file in place of `$XDG_CONFIG_HOME/btsync/config`
    #[argh(option, arg_name = "F")]
    #[expect(dead_code, reason = "`config` reads the word itself, before argh does")]
    pub config: Option<PathBuf>,
    /// read options from no file
    #[argh(switch)]
    #[expect(dead_code, reason = "likewise")]
    pub no_config: bool,
    /// print all options with their values and where those come from
    #[argh(switch)]
    pub show_config: bool,
    // The letter is that of curl, wget and transmission.
    /// print the version
    #[argh(switch, short = 'V')]
    #[expect(dead_code, reason = "the answer is printed before a download is thought of")]
    pub version: bool,
}

impl DownloadArgs {
    /// What was named: torrents, and maybe a folder behind them.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The .torrent, its URL or the magnet link, where there is only one.
    pub fn file(&self) -> PathBuf {
        self.names.first().map(PathBuf::from).unwrap_or_default()
    }

    /// The folder that receives the files; the current one where none was named. One after the torrent has precedence, as
    /// `--dir` may come from a file.
    pub fn out_dir(&self) -> PathBuf {
        let named = self.names.get(1).map(PathBuf::from);
        named.or_else(|| self.dir.clone()).unwrap_or_else(|| PathBuf::from("."))
    }

    /// The trackers that the user added, in the order given.
    pub fn trackers(&self) -> impl Iterator<Item = &str> {
        self.bt_tracker.iter().flatten().map(String::as_str)
    }

    /// The trackers that the user does not want.
    pub fn excluded(&self) -> impl Iterator<Item = &str> {
        self.bt_exclude_tracker.iter().flatten().map(String::as_str)
    }

    /// What is to be run when a download is complete, if anything; `pending` has those for which it has not run.
    pub fn hook(&self, pending: Option<&PathBuf>) -> Option<HookConfig> {
        let (command, always) = (self.on_download_complete.clone()?, self.on_complete_always);
        Some(HookConfig { command, always, pending: pending.cloned() })
    }

    fn checked(mut self) -> Result<DownloadArgs, Failure> {
        self.names = self.names.iter().map(|name| batch::normalize_name(name)).collect();
        match self.names.as_slice() {
            [] if self.input_file.is_none() && self.watch.is_none() => {
                Err(bad_option("which torrent? Say `btsync FILE.torrent FOLDER`, or `btsync --help` for more"))
            }
            [file, ..] if file.is_empty() => Err(bad_option("the torrent's name is empty")),
            [_, .., folder] if folder.is_empty() => Err(bad_option("the folder's name is empty")),
            _ if self.dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) => {
                Err(bad_option("the folder's name is empty"))
            }
            names => match names.iter().find_map(|name| batch::unknown_scheme(name)) {
                Some(complaint) => Err(bad_option(complaint)),
                None => Ok(self),
            },
        }
    }
}

/// Turns the words after the program's name into a command, without configuration file and environment.
#[cfg(test)]
pub fn parse(words: &[OsString]) -> Result<Command, Failure> {
    parse_in(words, &ConfigSources::default()).map(|parsed| parsed.command)
}

/// The same with options from the environment and a file, which a download knows.
///
/// # Errors
/// [`Exit::BadOption`] and one line where something makes no sense; [`Exit::OpenExisting`] where the file cannot be read.
pub fn parse_in(words: &[OsString], config_sources: &ConfigSources) -> Result<Parsed, Failure> {
    let mut texts = Vec::with_capacity(words.len());
    for word in words {
        texts.push(word.to_str().ok_or_else(|| bad_option(format!("not UTF-8: {}", word.display())))?);
    }
    // Only the first word that is no option can name a command: `./create` reaches a file of that name.
    let first = normalize::first_name(&Options::of::<DownloadArgs>(), &texts);
    let name = first.and_then(|at| texts.get(at)).copied().unwrap_or_default();
    let mut rest = texts.clone();
    if let Some(at) = first {
        rest.remove(at);
    }
    if name == "list" {
        rest.insert(0, "--list");
        return download(&rest, config_sources);
    }
    let command = if name == "help" { Some(help_on(&rest)) } else { subcommand(name, &rest) };
    match command {
        Some(command) => Ok(Parsed { command: command?, notes: Vec::new() }),
        None => download(&texts, config_sources),
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

fn help_on(words: &[&str]) -> Result<Command, Failure> {
    let name = words.first().copied().unwrap_or("help");
    if let Some(text) = help::on(name) {
        return Ok(Command::Print(text));
    }
    let nothing =
        || bad_option(format!("no help on '{name}': there are create, edit, info, list, magnet, tracker and verify"));
    subcommand(name, &["--help"]).unwrap_or_else(|| Err(nothing()))
}

/// Parses `words` as the options of a command that has a name.
fn command<T: FromArgs + ArgsInfo>(
    name: &str,
    words: &[&str],
    wrap: impl FnOnce(T) -> Command,
) -> Result<Command, Failure> {
    let line = read::<T>(words)?;
    if line.has_switch("--help") {
        return Ok(Command::Print(
            T::from_args(&["btsync", name], &["--help"]).err().map(|e| e.output).unwrap_or_default(),
        ));
    }
    parse_with_argh(&["btsync", name], &normalize::apply_precedence(line.given), &line.names).map(wrap)
}

/// Parses `words` as a download, for which there are options elsewhere, too.
fn download(words: &[&str], config_sources: &ConfigSources) -> Result<Parsed, Failure> {
    let line = read::<DownloadArgs>(words)?;
    let print = |text: String| Ok(Parsed { command: Command::Print(text), notes: Vec::new() });
    if line.has_switch("--help") {
        return print(if line.has_switch("--list") { help::LIST } else { help::TEXT }.to_owned());
    }
    if line.has_switch("--version") {
        return print(concat!("btsync ", env!("CARGO_PKG_VERSION"), "\n").to_owned());
    }
    let folder = line.given.iter().rev().find(|given| given.option.long == "--dir").cloned();
    let options = Options::of::<DownloadArgs>();
    let merged = config::merge_sources(&options, line.given, config_sources)?;
    merged.given.iter().try_for_each(GivenOption::check::<DownloadArgs>)?;
    let effective = normalize::apply_precedence(merged.given);
    let args: DownloadArgs = parse_with_argh(&["btsync"], &effective, &line.names)?;
    if args.show_config {
        return print(config::show(&options, &effective));
    }
    if let (Some(given), [_, named]) = (folder, line.names.as_slice())
        && !batch::is_torrent_by_name(named)
    {
        return Err(bad_option(format!("the folder is named twice: '{named}' and {given}")));
    }
    let notes = if args.quiet { Vec::new() } else { merged.notes };
    Ok(Parsed { command: Command::Download(Box::new(args.checked()?)), notes })
}

/// Takes the words apart and checks each value.
fn read<T: FromArgs + ArgsInfo>(words: &[&str]) -> Result<CommandLine, Failure> {
    let line = normalize::read(&Options::of::<T>(), words)?;
    line.given.iter().try_for_each(GivenOption::check::<T>)?;
    Ok(line)
}

/// Has argh make of it what a command runs with.
fn parse_with_argh<T: FromArgs>(command: &[&str], effective: &[GivenOption], names: &[String]) -> Result<T, Failure> {
    // argh speaks in several lines; one is the rule here.
    let one_line = |text: String| bad_option(text.split_whitespace().collect::<Vec<_>>().join(" "));
    T::from_args(command, &normalize::words(effective, names)).map_err(|early| one_line(early.output))
}

/// The command line, or what stands for it, is wrong: one line that says why.
pub(crate) fn bad_option(message: impl Into<String>) -> Failure {
    let message = redacted(&message.into());
    Failure::new(Exit::BadOption, message.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>())
}

#[cfg(test)]
mod tests;
