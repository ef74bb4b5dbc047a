//! Generates `completions/btsync.bash`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{ArgumentKind, arguments, names, quoted};
use crate::cli::options::table::{COMMANDS, CommandSpec, DOWNLOAD, ValueCompletion};

/// The maximum width of lines.
const WIDTH: usize = 118;

/// The whole script.
pub(super) fn script() -> String {
    let mut out = include_str!("btsync.bash.in").to_owned();
    for (place, text) in [
        ("@COMMANDS@", names(true)),
        ("@OPTIONS@", options()),
        ("@ARGUMENTS@", positional_arguments()),
        ("@VALUES@", values()),
    ] {
        out = out.replace(place, text.trim_end_matches('\n'));
    }
    out
}

/// The `case` pattern of a command; that of a download, `*`, must come last.
fn pattern(command: &CommandSpec) -> &'static str {
    if command.name == DOWNLOAD { "*" } else { command.name }
}

fn last_download() -> impl Iterator<Item = CommandSpec> {
    let (download, others): (Vec<_>, Vec<_>) = COMMANDS.into_iter().partition(|command| command.name == DOWNLOAD);
    others.into_iter().chain(download)
}

/// The options of each command, followed by `=` if they take a value.
fn options() -> String {
    let mut out = String::new();
    for command in last_download() {
        let mut line = format!("        {}) echo '", pattern(&command));
        let mut is_first = true;
        for option in command.options() {
            for name in option.names() {
                let word = if option.value.is_some() { format!("{name}=") } else { name };
                if line.len() + word.len() > WIDTH {
                    let _ = writeln!(out, "{line}"); // writing to a String cannot fail
                    (line, is_first) = (" ".repeat(12), true);
                }
                let _ = write!(line, "{}{word}", if is_first { "" } else { " " });
                is_first = false;
            }
        }
        let _ = writeln!(out, "{line}' ;;");
    }
    out
}

/// The kinds of each command's positional arguments; `torrents` as the last one stands for all that follow.
fn positional_arguments() -> String {
    let word = |argument| match argument {
        ArgumentKind::Torrent => "torrent",
        ArgumentKind::Torrents => "torrents",
        ArgumentKind::Source => "source",
        ArgumentKind::Folder => "folder",
        ArgumentKind::Command => "command",
    };
    let mut out = String::new();
    for command in last_download() {
        let words: Vec<_> = arguments(&command).into_iter().map(word).collect();
        let _ = writeln!(out, "        {}) echo '{}' ;;", pattern(&command), words.join(" "));
    }
    out
}

/// How to complete the value of each option, for all commands together.
fn values() -> String {
    let mut by_name = BTreeMap::new();
    let mut by_action: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for option in COMMANDS.iter().flat_map(CommandSpec::options) {
        for name in option.names() {
            let (completion, long) = (option.entry.completion, option.entry.long);
            let other = by_name.insert(name, completion);
            assert!(other.is_none_or(|other| other == completion), "{long} is completed in two ways");
        }
    }
    let words = |words: &str| format!("COMPREPLY=($(compgen -W {words} -- \"$2\"))");
    for (name, completion) in by_name {
        let action = match completion {
            ValueCompletion::Nothing => continue,
            ValueCompletion::File => "_btsync_files \"$2\"".to_owned(),
            ValueCompletion::Folder => "_btsync_folders \"$2\"".to_owned(),
            ValueCompletion::Words(list) => words(&quoted(&list.join(" "))),
            ValueCompletion::Interface => words("\"$(command ls /sys/class/net 2>/dev/null)\""),
        };
        by_action.entry(action).or_default().push(name);
    }
    let mut out = String::new();
    for (action, names) in by_action {
        let _ = writeln!(out, "        {}) {action} ;;", names.join(" | "));
    }
    out
}
