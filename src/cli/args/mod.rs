//! From words to a command. argh does the parsing; [`forms`] is a pass before it over the words, [`values`] reads what follows an
//! option, [`help`] is what `--help` prints. What is wrong here ends the program with [`Exit::BadOption`].

mod forms;
mod help;
mod values;

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
use super::tracker::TrackerArgs;
use super::verify::VerifyArgs;
use crate::bind::Bind;
use crate::metainfo::{Magnet, Pattern};
use crate::storage::Allocation;
use crate::types::Encryption;

pub(super) use forms::STDIN;
use forms::split;
pub(super) use values::host_and_port;

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
    #[argh(option, from_str_fn(values::minutes))]
    pub seed_time: Option<Duration>,
    /// give to others until so much of the size has been sent
    #[argh(option, from_str_fn(values::ratio))]
    pub seed_ratio: Option<f64>,
    /// as the first seeder: show each peer a few pieces at a time, so that about one copy is sent
    #[argh(switch)]
    pub super_seed: bool,
    /// the TCP port to listen on, or a range of which the first free one is taken
    #[argh(option, from_str_fn(values::ports))]
    pub listen_port: Option<RangeInclusive<u16>>,
    /// connections at most
    #[argh(option, from_str_fn(values::peers))]
    pub max_peers: Option<usize>,
    /// bytes per second to receive at most, from all peers together; K and M are 1024s, 0 is no limit
    #[argh(option, from_str_fn(limits::parse))]
    pub max_download_limit: Option<u64>,
    /// bytes per second to send at most, to all peers together
    #[argh(option, from_str_fn(limits::parse))]
    pub max_upload_limit: Option<u64>,
    /// whether to disguise connections: prefer, require or off
    #[argh(option, from_str_fn(values::encryption))]
    pub encryption: Option<Encryption>,
    /// a peer to call without asking a tracker; may be repeated
    #[argh(option, from_str_fn(values::host_and_port))]
    pub peer: Vec<String>,
    /// trackers to ask beside the torrent's own; may be repeated
    #[argh(option, from_str_fn(values::trackers))]
    bt_tracker: Vec<Vec<String>>,
    /// one event a line on standard output, for programs
    #[argh(switch)]
    pub json: bool,
    /// plain lines instead of the live view, on a terminal too
    #[argh(switch)]
    pub plain: bool,
    /// give up when nothing came for so many seconds
    #[argh(option, from_str_fn(values::seconds))]
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
    #[argh(option, from_str_fn(values::excluded))]
    bt_exclude_tracker: Vec<Vec<String>>,
    /// do without the DHT
    #[argh(switch)]
    pub no_dht: bool,
    /// a node through which to enter the DHT; may be repeated
    #[argh(option, from_str_fn(values::host_and_port))]
    pub dht_entry_point: Vec<String>,
    /// do not look for peers in the local network
    #[argh(switch)]
    pub no_lsd: bool,
    /// neither take peers from peers nor tell them of others
    #[argh(switch)]
    pub no_pex: bool,
    /// use this network interface, or this address of ours, for everything
    #[argh(option, from_str_fn(values::interface))]
    pub interface: Option<Bind>,
    /// hash all that is there, whatever is remembered of it
    #[argh(switch)]
    pub verify: bool,
    /// keep the .torrent of a magnet link in this file or folder
    #[argh(option)]
    pub save_torrent: Option<PathBuf>,
    /// show the files with their numbers, and what is selected of them; download nothing
    #[argh(switch)]
    pub list: bool,
    /// files to download: numbers such as 1-5,8, or a pattern or folder; may be repeated
    #[argh(option)]
    pub select: Vec<Pattern>,
    /// files not to download, named like those to select; may be repeated
    #[argh(option)]
    pub exclude: Vec<Pattern>,
    /// fetch the pieces in order
    #[argh(switch)]
    pub sequential: bool,
    /// fetch the first and the last piece of each file before all others
    #[argh(switch)]
    pub first_and_last: bool,
    /// NUMBER=PATH: another place below the folder for that file; may be repeated
    #[argh(option, from_str_fn(values::place))]
    pub out: Vec<(u32, PathBuf)>,
    /// when files take their room on the disk: none (as they grow), sparse or falloc (at once)
    #[argh(option, from_str_fn(values::allocation))]
    pub file_allocation: Option<Allocation>,
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
        return help_on(&rest);
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

fn help_on(words: &[&str]) -> Result<Command, Failure> {
    let Some(&name) = words.first() else { return Ok(Command::Print(help::TEXT.to_owned())) };
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
        Err(early) if early.status.is_ok() && name.is_empty() => Ok(Command::Print(help::TEXT.to_owned())),
        Err(early) if early.status.is_ok() => Ok(Command::Print(early.output)),
        // argh speaks in several lines; one is the rule here.
        Err(early) => Err(wrong(early.output.split_whitespace().collect::<Vec<_>>().join(" "))),
    }
}

fn wrong(message: impl Into<String>) -> Failure {
    let message: String = message.into();
    Failure::new(Exit::BadOption, message.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>())
}

#[cfg(test)]
mod tests;
