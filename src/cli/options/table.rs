//! The option table: one entry for each option of each command.
//!
//! The struct that argh fills (`DownloadArgs`, `CreateArgs` …) defines the long name, the letter, the placeholder of the
//! value, whether the option can be repeated, and a one-line help text, which is the field's doc comment. The entry in this
//! table adds the rest. Help, manual, `docs/options.md`, `docs/config.example`, completions, default values and names of
//! environment variables are generated from both. To add an option, add the field and the entry, then run `make docs`.
//! Tests fail if one is missing.

mod commands;
mod download;

use argh::{ArgsInfo as _, CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

use crate::cli::options::DownloadArgs;
use crate::cli::options::args::{
    CreateArgs, DhtArgs, DoctorArgs, EditArgs, InfoArgs, MagnetArgs, ServeArgs, TrackerArgs, VerifyArgs,
};

/// The name of the default command in the table; on the command line a download has no command word.
pub(crate) const DOWNLOAD: &str = "download";

/// The prefix of all environment variables that set an option.
pub(crate) const PREFIX: &str = "BTSYNC_";

/// All commands, in the order of the help and the manual.
pub(crate) static COMMANDS: [CommandSpec; 12] = [
    CommandSpec {
        name: DOWNLOAD,
        usage: "TORRENT... [FOLDER] [options]",
        summary: "download and share torrents",
        parser: Some(DownloadArgs::get_args_info),
        options: download::OPTIONS,
    },
    CommandSpec {
        name: "create",
        usage: "SOURCE [options]",
        summary: "create a torrent file from a file or folder",
        parser: Some(CreateArgs::get_args_info),
        options: commands::CREATE,
    },
    CommandSpec {
        name: "info",
        usage: "FILE.torrent [options]",
        summary: "show the contents of a torrent file",
        parser: Some(InfoArgs::get_args_info),
        options: commands::INFO,
    },
    CommandSpec {
        name: "list",
        usage: "TORRENT [options]",
        summary: "list the files of a torrent with numbers, sizes and selection",
        parser: Some(DownloadArgs::get_args_info),
        options: commands::LIST,
    },
    CommandSpec {
        name: "magnet",
        usage: "FILE.torrent [options]",
        summary: "print the magnet link of a torrent file",
        parser: Some(MagnetArgs::get_args_info),
        options: commands::MAGNET,
    },
    CommandSpec {
        name: "edit",
        usage: "FILE.torrent [options]",
        summary: "edit trackers, web seeds and comment of a torrent file; the info-hash stays the same",
        parser: Some(EditArgs::get_args_info),
        options: commands::EDIT,
    },
    CommandSpec {
        name: "verify",
        usage: "FILE.torrent [FOLDER] [options]",
        summary: "report which files of a torrent are damaged or missing; change nothing",
        parser: Some(VerifyArgs::get_args_info),
        options: commands::VERIFY,
    },
    CommandSpec {
        name: "tracker",
        usage: "[options]",
        summary: "run a small HTTP and UDP tracker until stopped; it keeps at most 200,000 peers, in about 80 MiB",
        parser: Some(TrackerArgs::get_args_info),
        options: commands::TRACKER,
    },
    CommandSpec {
        name: "serve",
        usage: "[options]",
        summary: "run many torrents as a service; with a web page and Transmission's remote control",
        parser: Some(ServeArgs::get_args_info),
        options: commands::SERVE,
    },
    CommandSpec {
        name: "dht",
        usage: "get|put [TARGET] [options]",
        summary: "get a value from the DHT or store one there (BEP 44); with the network options of a download",
        parser: Some(DhtArgs::get_args_info),
        options: commands::DHT,
    },
    CommandSpec {
        name: "doctor",
        usage: "[FOLDER] [options]",
        summary: "report what works on this machine and in its network; with the options of a download",
        parser: Some(DoctorArgs::get_args_info),
        options: commands::DOCTOR,
    },
    CommandSpec {
        name: "help",
        usage: "[COMMAND]",
        summary: "show the options of a command",
        parser: None,
        options: &[],
    },
];

/// A command and its options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandSpec {
    /// The name; [`DOWNLOAD`] for the default command.
    pub name: &'static str,
    /// The arguments, as the help shows them.
    pub usage: &'static str,
    /// A description. The help shows all of it, completions show it up to the first semicolon.
    pub summary: &'static str,
    parser: Option<fn() -> CommandInfoWithArgs>,
    options: &'static [OptionEntry],
}

impl CommandSpec {
    /// The command with this name.
    pub fn named(name: &str) -> Option<&'static CommandSpec> {
        COMMANDS.iter().find(|command| command.name == name)
    }

    /// The options in the order of the table, with what the parser and the table say about each.
    pub fn options(&self) -> Vec<OptionDoc> {
        let info = self.parser.map(|parser| parser());
        let flags = info.as_ref().map_or(&[][..], |info| info.flags);
        let flag = |entry: &OptionEntry| flags.iter().find(|flag| flag.long.trim_start_matches('-') == entry.long);
        self.options.iter().filter_map(|entry| Some(OptionDoc::new(entry, flag(entry)?))).collect()
    }
}

/// A group of options, listed under its own heading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionGroup {
    /// Which files to download, and where to.
    Files,
    /// Uploading after the download.
    Seeding,
    /// Peers, trackers and limits.
    Network,
    /// Downloading several torrents.
    Several,
    /// Output, and the hook command.
    Output,
    /// The configuration file and help.
    Configuration,
    /// The options of commands other than a download.
    Command,
}

impl OptionGroup {
    /// The groups of a download's options.
    pub const ALL: [OptionGroup; 6] = [
        OptionGroup::Files,
        OptionGroup::Seeding,
        OptionGroup::Network,
        OptionGroup::Several,
        OptionGroup::Output,
        OptionGroup::Configuration,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            OptionGroup::Files => "Files",
            OptionGroup::Seeding => "Seeding",
            OptionGroup::Network => "Network",
            OptionGroup::Several => "Several torrents",
            OptionGroup::Output => "Output",
            OptionGroup::Configuration => "Configuration and help",
            OptionGroup::Command => "Options",
        }
    }
}

/// Where an option of a download can be given besides the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionScope {
    /// In the configuration file and the environment.
    Everywhere,
    /// In the environment only, because the option says which configuration file to read.
    NotInFile,
    /// Nowhere else, because the option prints something and exits.
    CommandLine,
}

/// How a shell completes the value of an option.
#[cfg_attr(not(test), allow(dead_code))] // used by generated files only
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueCompletion {
    /// Not at all: text and numbers.
    Nothing,
    /// With files and folders.
    File,
    /// With folders.
    Folder,
    /// With these words.
    Words(&'static [&'static str]),
    /// With the network interfaces of this machine.
    Interface,
}

/// The table's entry for an option; [`OptionDoc`] adds what the parser says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionEntry {
    /// The long name without dashes.
    pub long: &'static str,
    /// The group under which it is listed.
    pub group: OptionGroup,
    /// Other names of the option, without dashes: those of other clients, and earlier ones.
    pub aliases: &'static [&'static str],
    /// The default value, as `--show-config` prints it.
    pub default: Option<&'static str>,
    /// Where it can be given.
    pub scope: OptionScope,
    help: Option<&'static str>,
    /// How a shell completes the value.
    #[cfg(test)]
    pub completion: ValueCompletion,
    /// The paragraphs for the manual and `docs/options.md`, in the markup of `generated::markup`.
    #[cfg(test)]
    pub manual: &'static str,
}

impl OptionEntry {
    const fn new(group: OptionGroup, long: &'static str) -> OptionEntry {
        OptionEntry {
            long,
            group,
            aliases: &[],
            default: None,
            scope: OptionScope::Everywhere,
            help: None,
            #[cfg(test)]
            completion: ValueCompletion::Nothing,
            #[cfg(test)]
            manual: "",
        }
    }

    const fn aliases(self, aliases: &'static [&'static str]) -> OptionEntry {
        OptionEntry { aliases, ..self }
    }

    const fn default(self, value: &'static str) -> OptionEntry {
        OptionEntry { default: Some(value), ..self }
    }

    const fn scope(self, scope: OptionScope) -> OptionEntry {
        OptionEntry { scope, ..self }
    }

    /// Replaces the parser's help text, if the option has another meaning for this command.
    const fn help(self, text: &'static str) -> OptionEntry {
        OptionEntry { help: Some(text), ..self }
    }

    // Only generated files need this, so the program itself leaves it out.
    #[cfg(not(test))]
    const fn complete(self, _: ValueCompletion) -> OptionEntry {
        self
    }

    #[cfg(test)]
    const fn complete(self, completion: ValueCompletion) -> OptionEntry {
        OptionEntry { completion, ..self }
    }

    #[cfg(not(test))]
    const fn manual(self, _: &'static str) -> OptionEntry {
        self
    }

    #[cfg(test)]
    const fn manual(self, manual: &'static str) -> OptionEntry {
        OptionEntry { manual, ..self }
    }
}

/// An option with everything that the parser and the table say about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionDoc {
    /// The table's entry.
    pub entry: &'static OptionEntry,
    /// The letter, if any.
    pub short: Option<char>,
    /// The placeholder of the value; `None` for a switch.
    pub value: Option<&'static str>,
    /// Whether all occurrences count; otherwise the last one wins.
    pub repeats: bool,
    /// A line of help. Completions show it up to the first semicolon.
    pub help: &'static str,
}

impl OptionDoc {
    fn new(entry: &'static OptionEntry, flag: &FlagInfo<'static>) -> OptionDoc {
        OptionDoc {
            entry,
            short: if entry.long == "help" { Some('h') } else { flag.short },
            value: match flag.kind {
                FlagInfoKind::Switch => None,
                FlagInfoKind::Option { arg_name } => Some(arg_name),
            },
            repeats: matches!(flag.optionality, Optionality::Repeating),
            help: entry.help.unwrap_or(flag.description),
        }
    }

    /// All names with dashes: the letter, the long name and the aliases.
    #[cfg(test)]
    pub fn names(&self) -> Vec<String> {
        let letter = self.short.map(|letter| format!("-{letter}"));
        let long = [self.entry.long].into_iter().chain(self.entry.aliases.iter().copied());
        letter.into_iter().chain(long.map(|name| format!("--{name}"))).collect()
    }

    /// The help text up to the first semicolon.
    #[cfg(test)]
    pub fn summary(&self) -> &'static str {
        self.help.split("; ").next().unwrap_or(self.help)
    }
}

/// The entry of a download's option; `long` has no dashes.
fn download_entry(long: &str) -> Option<&'static OptionEntry> {
    download::OPTIONS.iter().find(|entry| entry.long == long)
}

/// Where a download's option can be given besides the command line.
pub(crate) fn scope(long: &str) -> OptionScope {
    download_entry(long).map_or(OptionScope::CommandLine, |entry| entry.scope)
}

/// The default value of a download's option, as `--show-config` prints it.
pub(crate) fn default_value(long: &str, takes_value: bool) -> &'static str {
    let default = download_entry(long).and_then(|entry| entry.default);
    default.unwrap_or(if takes_value { "none" } else { "no" })
}

/// The environment variable of an option: `BTSYNC_SEED_TIME` for `seed-time` or `--seed-time`.
pub(crate) fn env_variable(long: &str) -> String {
    format!("{PREFIX}{}", long.trim_start_matches('-').replace('-', "_").to_ascii_uppercase())
}

/// The aliases of an option; `parser` is the name of its command's parser, and `long` has no dashes.
pub(crate) fn aliases(parser: &str, long: &str) -> &'static [&'static str] {
    let is_it = |command: &&CommandSpec| command.parser.is_some_and(|info| info().name == parser);
    let entries = COMMANDS.iter().find(is_it).map_or(&[][..], |command| command.options);
    entries.iter().find(|entry| entry.long == long).map_or(&[], |entry| entry.aliases)
}

#[cfg(test)]
mod tests;
