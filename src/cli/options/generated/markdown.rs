//! Generates `docs/options.md`: all options of all commands, and their names in the configuration file and the environment.

use std::fmt::Write as _;

use super::markup::{MarkupPart, paragraphs, parts};
use super::named;
use crate::cli::options::table::{
    CommandSpec, DOWNLOAD, OptionDoc, OptionGroup, OptionScope, default_value, env_variable,
};

/// The whole document.
pub(super) fn document() -> String {
    let mut out = include_str!("options.md.in").to_owned();
    let download = CommandSpec::named(DOWNLOAD).map(CommandSpec::options).unwrap_or_default();
    let of_group = |group: OptionGroup| download.iter().filter(move |option| option.entry.group == group);
    let mut groups = String::new();
    for group in OptionGroup::ALL {
        let _ = writeln!(groups, "### {}\n", group.title()); // writing to a String cannot fail
        groups.push_str(&table(of_group(group)));
        groups.push('\n');
    }
    let mut commands = String::new();
    for command in named().filter(|command| command.name != "help") {
        let name = command.name;
        let _ =
            writeln!(commands, "### {name}\n\n`btsync {name} {}`\n\n{}.\n", command.usage, capital(command.summary));
        let options = command.options();
        commands.push_str(&table(options.iter().filter(|option| option.entry.long != "help")));
        commands.push('\n');
    }
    for (place, text) in [("@DOWNLOAD@", groups), ("@COMMANDS@", commands), ("@NAMES@", names(&download))] {
        out = out.replace(place, text.trim_end());
    }
    out
}

fn table<'a>(options: impl Iterator<Item = &'a OptionDoc>) -> String {
    let mut out = "| Option | Meaning | Default |\n|---|---|---|\n".to_owned();
    for option in options {
        let value = option.value.map_or(String::new(), |value| format!(" {value}"));
        let names: Vec<_> = option.names().iter().map(|name| format!("`{name}{value}`")).collect();
        let meaning: Vec<_> = paragraphs(option, false).iter().map(|paragraph| cell(paragraph)).collect();
        let default = option.entry.default.map_or(String::new(), |default| format!("`{default}`"));
        let _ = writeln!(out, "| {} | {} | {default} |", names.join(", "), meaning.join("<br><br>"));
    }
    out
}

/// The table of each option's names in the configuration file and the environment.
fn names(options: &[OptionDoc]) -> String {
    let mut out = "| Configuration file | Environment | Default |\n|---|---|---|\n".to_owned();
    for option in options.iter().filter(|option| option.entry.scope != OptionScope::CommandLine) {
        let long = option.entry.long;
        let key = if option.entry.scope == OptionScope::Everywhere { format!("`{long}`") } else { "–".to_owned() };
        let default = default_value(long, option.value.is_some());
        let _ = writeln!(out, "| {key} | `{}` | `{default}` |", env_variable(long));
    }
    out
}

fn cell(paragraph: &str) -> String {
    let part = |part| match part {
        MarkupPart::Text(text) => text.to_owned(),
        MarkupPart::Literal(text) | MarkupPart::Word(text) => format!("`{text}`"),
        MarkupPart::Value(text) => format!("_{text}_"),
        MarkupPart::Section(text) => format!("{text} in [the manual](btsync.1)"),
    };
    parts(paragraph).into_iter().map(part).collect::<String>().replace('|', r"\|")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
