//! From the words of the command line to a [`Command`].

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};

#[cfg(doc)]
use crate::cli::exit::Exit;
use crate::cli::exit::Failure;
use crate::cli::options::config::{self, ConfigSources};
use crate::cli::options::normalize::{self, CommandLine, GivenOption, Options};
use crate::cli::options::{
    Command, DhtArgs, DoctorArgs, DownloadArgs, ParsedArguments, bad_option, help, names, table,
};
use btsync::Verifier;

/// Parses the arguments without a configuration file and without the environment.
#[cfg(test)]
pub fn parse(words: &[OsString]) -> Result<Command, Failure> {
    parse_in(words, &ConfigSources::default()).map(|parsed| parsed.command)
}

/// Parses the arguments. A download also takes options from the configuration file and the environment in `config_sources`.
///
/// # Errors
/// [`Exit::BadOption`] with one line for invalid input; [`Exit::OpenExisting`] if the configuration file cannot be read.
pub fn parse_in(words: &[OsString], config_sources: &ConfigSources) -> Result<ParsedArguments, Failure> {
    let mut texts = Vec::with_capacity(words.len());
    for word in words {
        texts.push(word.to_str().ok_or_else(|| bad_option(format!("not UTF-8: {}", word.display())))?);
    }
    // Only the first positional word can name a command; a file with a command's name can be given as `./create`.
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
    if name == "doctor" {
        return with_download::<DoctorArgs>(name, &rest, config_sources, Command::Doctor);
    }
    if name == "dht" {
        return with_download::<DhtArgs>(name, &rest, config_sources, Command::Dht);
    }
    let command = if name == "help" { Some(help_on(&rest)) } else { subcommand(name, &rest) };
    match command {
        Some(command) => Ok(ParsedArguments { command: command?, notes: Vec::new() }),
        None => download(&texts, config_sources),
    }
}

/// Parses `words` as the subcommand `name`; `None` if there is no such subcommand.
fn subcommand(name: &str, words: &[&str]) -> Option<Result<Command, Failure>> {
    Some(match name {
        "create" => command(name, words, Command::Create),
        "edit" => command(name, words, Command::Edit),
        "info" => command(name, words, Command::Info),
        "magnet" => command(name, words, Command::Magnet),
        "serve" => command(name, words, Command::Serve),
        "tracker" => command(name, words, Command::Tracker),
        "verify" => command(name, words, Command::Verify),
        _ => return None,
    })
}

fn help_on(words: &[&str]) -> Result<Command, Failure> {
    let name = words.first().copied().unwrap_or("help");
    help::on(name).map(Command::Print).ok_or_else(|| {
        let names = table::COMMANDS.iter().map(|command| command.name).filter(|name| *name != table::DOWNLOAD);
        bad_option(format!("no help on '{name}'; the topics are {}", names.collect::<Vec<_>>().join(", ")))
    })
}

/// Parses `words` as the options of the subcommand `name`.
fn command<T: FromArgs + ArgsInfo>(
    name: &str,
    words: &[&str],
    wrap: impl FnOnce(T) -> Command,
) -> Result<Command, Failure> {
    let line = read::<T>(words)?;
    if line.has_switch("--help") {
        return help_on(&[name]);
    }
    parse_with_argh(&["btsync", name], &normalize::apply_precedence(line.given), &line.names).map(wrap)
}

/// The version; if `verbose`, also how this processor hashes.
fn version(verbose: bool) -> String {
    let hashing = if verbose { format!("SHA-1: {}\n", Verifier::hash_kernel()) } else { String::new() };
    format!("btsync {}\n{hashing}", env!("CARGO_PKG_VERSION"))
}

/// Parses `words` as a download, merged with the options from the configuration file and the environment.
fn download(words: &[&str], config_sources: &ConfigSources) -> Result<ParsedArguments, Failure> {
    let line = read::<DownloadArgs>(words)?;
    let print = |text: String| Ok(ParsedArguments { command: Command::Print(text), notes: Vec::new() });
    if line.has_switch("--help") {
        let name = if line.has_switch("--list") { "list" } else { "help" };
        return help_on(&[name]).map(|command| ParsedArguments { command, notes: Vec::new() });
    }
    if line.has_switch("--version") {
        return print(version(line.has_switch("--verbose")));
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
        && !names::is_torrent_by_name(named)
    {
        return Err(bad_option(format!("two folders are given: '{named}' and {given}")));
    }
    let notes = if args.quiet { Vec::new() } else { merged.notes };
    Ok(ParsedArguments { command: Command::Download(Box::new(args.checked()?)), notes })
}

/// Parses `words` as the options of `doctor` or `dht`. Those that a download has, too, come also from the configuration file and the environment.
fn with_download<T: FromArgs + ArgsInfo>(
    name: &str,
    words: &[&str],
    config_sources: &ConfigSources,
    wrap: fn(T, Box<DownloadArgs>) -> Command,
) -> Result<ParsedArguments, Failure> {
    let line = read::<T>(words)?;
    if line.has_switch("--help") {
        return Ok(ParsedArguments { command: help_on(&[name])?, notes: Vec::new() });
    }
    let options = Options::of::<DownloadArgs>();
    let of_download =
        |given: &GivenOption| Some(GivenOption { option: options.named(given.option.long)?, ..given.clone() });
    let merged = config::merge_sources(&options, line.given.iter().filter_map(of_download).collect(), config_sources)?;
    merged.given.iter().try_for_each(GivenOption::check::<DownloadArgs>)?;
    let download = parse_with_argh(&["btsync"], &normalize::apply_precedence(merged.given), &[])?;
    let args = parse_with_argh(&["btsync", name], &normalize::apply_precedence(line.given), &line.names)?;
    Ok(ParsedArguments { command: wrap(args, Box::new(download)), notes: merged.notes })
}

/// Splits `words` into options and names, and checks each value.
fn read<T: FromArgs + ArgsInfo>(words: &[&str]) -> Result<CommandLine, Failure> {
    let line = normalize::read(&Options::of::<T>(), words)?;
    line.given.iter().try_for_each(GivenOption::check::<T>)?;
    Ok(line)
}

/// Parses the effective options with argh.
fn parse_with_argh<T: FromArgs>(command: &[&str], effective: &[GivenOption], names: &[String]) -> Result<T, Failure> {
    // argh's messages have several lines; btsync prints one.
    let one_line = |text: String| bad_option(text.split_whitespace().collect::<Vec<_>>().join(" "));
    T::from_args(command, &normalize::words(effective, names)).map_err(|early| one_line(early.output))
}
