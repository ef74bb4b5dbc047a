//! Generates `completions/btsync.fish`.

use std::fmt::Write as _;

use super::{ArgumentKind, arguments, named, names, summary};
use crate::cli::options::table::{COMMANDS, CommandSpec, OptionDoc, ValueCompletion};

/// The whole script.
pub(super) fn script() -> String {
    let mut commands = String::new();
    for command in named() {
        let text = quoted(summary(&command));
        let _ = writeln!(commands, "complete -c btsync -n __btsync_first -a {} -d {text}", command.name);
    }
    let mut out = include_str!("btsync.fish.in").to_owned();
    let options: Vec<_> = COMMANDS.iter().map(of_command).collect();
    for (place, text) in [("@NAMES@", names(true)), ("@COMMANDS@", commands), ("@OPTIONS@", options.join("\n"))] {
        out = out.replace(place, text.trim_end_matches('\n'));
    }
    out
}

/// The lines of a command: its positional arguments, then its options.
fn of_command(command: &CommandSpec) -> String {
    let begin = format!("complete -c btsync -n '__btsync_in {}'", command.name);
    let mut out = String::new();
    for argument in arguments(command) {
        let line = match argument {
            ArgumentKind::Torrent | ArgumentKind::Torrents => "-a '(__btsync_torrents)'".to_owned(),
            ArgumentKind::Source => "-F".to_owned(),
            ArgumentKind::Command => format!("-a '{}'", names(false)),
            ArgumentKind::Folder => continue, // __btsync_torrents offers folders too
        };
        let _ = writeln!(out, "{begin} {line}");
    }
    for option in command.options() {
        of_option(&mut out, &begin, &option);
    }
    out
}

/// One line for the option and one for each alias: fish would offer names on one line as one candidate.
fn of_option(out: &mut String, begin: &str, option: &OptionDoc) {
    let value = match option.entry.completion {
        _ if option.value.is_none() => String::new(),
        ValueCompletion::Nothing => " -x".to_owned(),
        ValueCompletion::File => " -r -F".to_owned(),
        ValueCompletion::Folder => " -x -a '(__fish_complete_directories)'".to_owned(),
        ValueCompletion::Words(words) => format!(" -x -a '{}'", words.join(" ")),
        ValueCompletion::Interface => " -x -a '(command ls /sys/class/net 2>/dev/null)'".to_owned(),
    };
    let (long, text) = (option.entry.long, quoted(&option.summary().replace('`', "")));
    let letter = option.short.map_or(String::new(), |letter| format!(" -s {letter}"));
    let _ = writeln!(out, "{begin}{letter} -l {long}{value} -d {text}");
    for alias in option.entry.aliases {
        let _ = writeln!(out, "{begin} -l {alias}{value} -d 'same as --{long}'");
    }
}

/// Quotes a text for fish.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}
