//! Generates `completions/_btsync` for zsh.

use std::fmt::Write as _;

use super::{ArgumentKind, arguments, named, names, quoted, summary};
use crate::cli::options::table::{COMMANDS, CommandSpec, DOWNLOAD, OptionDoc, ValueCompletion};

/// The whole script.
pub(super) fn script() -> String {
    let mut out = include_str!("_btsync.in").to_owned();
    let mut commands = String::new();
    for command in named() {
        let _ = writeln!(commands, "    {}", quoted(&format!("{}:{}", command.name, summary(&command))));
    }
    let (download, others): (Vec<_>, Vec<_>) = COMMANDS.into_iter().partition(|command| command.name == DOWNLOAD);
    let options: String = others.iter().chain(&download).map(of_command).collect();
    for (place, text) in [("@COMMANDS@", commands), ("@NAMES@", names(true).replace(' ', "|")), ("@OPTIONS@", options)]
    {
        out = out.replace(place, text.trim_end_matches('\n'));
    }
    out
}

/// The `_arguments` specifications of a command.
fn of_command(command: &CommandSpec) -> String {
    let pattern = if command.name == DOWNLOAD { "*" } else { command.name };
    let mut out = format!("    {pattern}) options=(\n");
    for option in command.options() {
        let _ = writeln!(out, "      {}", specification(&option));
    }
    let first = if command.name == DOWNLOAD { 1 } else { 2 };
    let mut places = if command.name == DOWNLOAD { Vec::new() } else { vec!["'1:command: '".to_owned()] };
    for (at, argument) in arguments(command).into_iter().enumerate() {
        let place = first + at;
        let torrents = r#"_files -g "*.torrent(-.)""#;
        places.push(match argument {
            ArgumentKind::Torrent => format!("'{place}:torrent file:{torrents}'"),
            ArgumentKind::Torrents => {
                format!("'{place}:torrent or command:_btsync_first' '*:torrent or folder:{torrents}'")
            }
            ArgumentKind::Source => format!("'{place}:source:_files'"),
            ArgumentKind::Folder => format!("'{place}:folder:_files -/'"),
            ArgumentKind::Command => format!("'{place}:command:({})'", names(false)),
        });
    }
    let _ = writeln!(out, "      {}\n    ) ;;", places.join(" "));
    out
}

/// The specification of an option, such as `'(-p --listen-port)'{-p+,--listen-port=}'[listen on this port]:P: '`.
fn specification(option: &OptionDoc) -> String {
    let names = option.names();
    let spelt = |name: &String| match (option.value, name.starts_with("--")) {
        (None, _) => name.clone(),
        (Some(_), true) => format!("{name}="),
        (Some(_), false) => format!("{name}+"),
    };
    let spelt: Vec<_> = names.iter().map(spelt).collect();
    let ends = matches!(option.entry.long, "help" | "version");
    let others = match names.as_slice() {
        _ if ends => "(- *)".to_owned(),
        _ if option.repeats => "*".to_owned(),
        [_] => String::new(),
        names => format!("({})", names.join(" ")),
    };
    let action = option.value.map_or(String::new(), |value| {
        let action = match option.entry.completion {
            ValueCompletion::Nothing => " ".to_owned(),
            ValueCompletion::File => "_files".to_owned(),
            ValueCompletion::Folder => "_files -/".to_owned(),
            ValueCompletion::Words(words) => format!("({})", words.join(" ")),
            ValueCompletion::Interface => "_btsync_interfaces".to_owned(),
        };
        format!(":{}:{action}", value.replace(':', r"\:"))
    });
    let text = format!("[{}]{action}", option.summary().replace('`', "").replace(']', r"\]"));
    match spelt.as_slice() {
        [one] => quoted(&format!("{others}{one}{text}")),
        names => format!("{}{{{}}}{}", quoted(&others), names.join(","), quoted(&text)),
    }
}
