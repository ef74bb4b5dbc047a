//! What `btsync --help` and `btsync help all` print: the first on one screen of 24 lines, which a test holds it to, the other with
//! every option of a download, in groups, as its parser describes them.

use std::fmt::Write as _;

use argh::{ArgsInfo, FlagInfo, FlagInfoKind};

use crate::cli::options::DownloadArgs;
use crate::cli::options::config;
use crate::cli::options::normalize::Options;
use crate::cli::options::spelling::aliases;

/// What `btsync --help` prints.
pub(crate) const TEXT: &str = "\
btsync TORRENT... [FOLDER] [options]   download, verify, exit (into .)
btsync create SOURCE [options]         make a .torrent of a file or folder
btsync info|list|magnet|edit FILE      show it; its files; its link; change it
btsync verify FILE.torrent [FOLDER]    say which files are bad or missing
btsync tracker|help [COMMAND]          serve a closed network; show options
A TORRENT is a .torrent file, a magnet link, a URL of one, or - (stdin).
Files:   -S, --list           show their numbers and sizes, as btsync list
         --select 1-5,8 --select '*.mkv' --exclude Extras   these, but not those
         --sequential         in order, to watch while it comes
         -d, --dir DIR        where they go, as FOLDER
Sharing: --seed               give until stopped (else: exit when whole)
         --seed-ratio 1.5     give until 1.5 times the size has been sent
         --seed-time 30       for 30 minutes; of both, whichever comes first
Speed:   --max-download-limit 2M; -u, --max-upload-limit 500K; 0 is no limit
Network: -p, --listen-port 6881; --interface tun0; --encryption require
         --peer HOST:PORT; --bt-tracker URL; --no-dht
Several: -i, --input-file LIST; -j, --max-concurrent 5; --watch FOLDER
Output:  -q, --quiet; -v, --verbose; --plain; --json; --stop-timeout SECONDS
Always:  ~/.config/btsync/config, an option a line, such as: seed-time = 30
All:     btsync help all: every option and alias; --show-config: what is set
Ctrl-C stops; run it again to go on. While it runs, the ? key shows its keys.
Exit codes: 0 whole, 7 stopped, 6 network, 9 disk full, 25-27 input, 28 options
";

/// What `btsync help list` prints.
pub(crate) const LIST: &str = "\
Usage: btsync list TORRENT [options]

show the files of a torrent with their numbers and sizes, and which of them are selected

Options:
  --select FILES    files that are selected: numbers such as 1-5,8, a pattern or a folder; may be repeated
  --exclude FILES   files that are not selected; may be repeated
  --json            one event instead of text
  --peer HOST:PORT  a peer to get the metadata of a magnet link from; may be repeated
  --stop-timeout S  give up when nothing came for so many seconds
  --help            display usage information

The other options of a download are accepted too: btsync help all
";

/// The options of a download, by what they are about.
const GROUPS: [(&str, &[&str]); 6] = [
    (
        "Files",
        &[
            "list",
            "select",
            "exclude",
            "out",
            "sequential",
            "first-and-last",
            "dir",
            "file-allocation",
            "allow-hidden",
            "incomplete-suffix",
            "overwrite",
            "fsync",
            "verify",
            "save-torrent",
        ],
    ),
    ("Sharing (without these, it exits as soon as all is there)", &["seed", "seed-time", "seed-ratio", "super-seed"]),
    (
        "Network",
        &[
            "listen-port",
            "max-peers",
            "max-download-limit",
            "max-upload-limit",
            "encryption",
            "dscp",
            "interface",
            "peer-id-prefix",
            "user-agent",
            "peer",
            "bt-tracker",
            "bt-exclude-tracker",
            "no-dht",
            "dht-entry-point",
            "no-lsd",
            "no-pex",
        ],
    ),
    ("Several at once", &["input-file", "max-concurrent", "watch"]),
    ("Output", &["json", "plain", "quiet", "verbose", "stop-timeout", "on-download-complete", "on-complete-always"]),
    ("Options from elsewhere", &["config", "no-config", "show-config", "version"]),
];

/// Where an option's description begins, in columns.
const COLUMN: usize = 28;
/// Where its lines end.
const WIDTH: usize = 79;

/// What `btsync help NAME` prints, if NAME is no command with a parser of its own.
pub(crate) fn on(name: &str) -> Option<String> {
    match name {
        "all" => Some(all()),
        "help" => Some(TEXT.to_owned()),
        "list" => Some(LIST.to_owned()),
        _ => None,
    }
}

/// What `btsync help all` prints.
fn all() -> String {
    let info = DownloadArgs::get_args_info();
    let mut out = "btsync TORRENT... [FOLDER] [options]\n".to_owned();
    for (title, names) in GROUPS {
        let _ = writeln!(out, "\n{title}:"); // writing to a String does not fail
        for flag in names.iter().filter_map(|name| info.flags.iter().find(|flag| bare(flag) == *name)) {
            describe(&mut out, flag);
        }
    }
    out.push_str("  -h, --help                the options used most\n");
    out
}

/// An option's lines.
fn describe(out: &mut String, flag: &FlagInfo<'_>) {
    let letter = flag.short.map_or(String::new(), |letter| format!("-{letter}, "));
    let value = match &flag.kind {
        FlagInfoKind::Switch => String::new(),
        FlagInfoKind::Option { arg_name } => format!(" {arg_name}"),
    };
    let mut line = format!("  {letter}{}{value}  ", flag.long);
    if line.len() > COLUMN {
        let _ = writeln!(out, "{}", line.trim_end());
        line.clear();
    }
    line = format!("{line:COLUMN$}");
    let default_value = default_value(flag).map_or(String::new(), |default_value| format!(" ({default_value})"));
    let aliases: Vec<_> = aliases(flag.long).collect();
    let also = if aliases.is_empty() { String::new() } else { format!("; also {}", aliases.join(", ")) };
    for word in format!("{}{default_value}{also}", flag.description).split_whitespace() {
        if line.chars().count() + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(COLUMN);
        }
        line.push_str(word);
        line.push(' ');
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

/// What counts where the option is not given, where that says something.
fn default_value(flag: &FlagInfo<'_>) -> Option<String> {
    let option = Options::of::<DownloadArgs>().iter().find(|option| option.long == flag.long).copied()?;
    let default_value = config::default_value(&option);
    (option.takes_value && !matches!(default_value.as_str(), "none" | "0" | ".")).then_some(default_value)
}

/// An option's name without its dashes.
fn bare<'a>(flag: &FlagInfo<'a>) -> &'a str {
    flag.long.trim_start_matches('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_stands_in_one_group_and_is_described() {
        let mut there: Vec<&str> =
            DownloadArgs::get_args_info().flags.iter().map(bare).filter(|n| *n != "help").collect();
        let mut named: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        there.sort_unstable();
        named.sort_unstable();
        assert_eq!(named, there);
        let all = all();
        assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
        let described = |name: &str| all.lines().any(|line| line.trim_start().contains(&format!("--{name}")));
        assert!(there.iter().all(|name| described(name)), "{all}");
        let words = all.split_whitespace().collect::<Vec<_>>().join(" ");
        for alias in there.iter().flat_map(|name| aliases(&format!("--{name}")).collect::<Vec<_>>()) {
            assert!(words.contains(alias), "{alias}: {all}");
        }
        assert!(words.contains("R times the size") && words.contains("whichever comes first"), "{all}");
        assert!(
            all.contains("  -d, --dir DIR             ") && all.contains("(300)") && all.contains("(prefer)"),
            "{all}"
        );
    }
}
