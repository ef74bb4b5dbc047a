//! Generates files from the option table: completions, `docs/options.md`, `docs/config.example` and the lists of options in
//! the manual. `make docs` writes them; `cargo test` fails if one is out of date.

mod bash;
mod example;
mod fish;
mod manual;
mod markdown;
mod markup;
mod zsh;

use std::path::Path;
use std::{env, fs};

use crate::cli::options::table::{COMMANDS, CommandSpec, DOWNLOAD};

/// If this environment variable is set, the test writes the files instead of comparing them.
const UPDATE: &str = "UPDATE_DOCS";

/// Generates a file, given its present text.
type Generator = fn(&str) -> String;

/// The paths of the generated files, with their generators.
const FILES: [(&str, Generator); 6] = [
    ("completions/_btsync", |_| zsh::script()),
    ("completions/btsync.bash", |_| bash::script()),
    ("completions/btsync.fish", |_| fish::script()),
    ("docs/btsync.1", manual::with_options),
    ("docs/config.example", |_| example::text()),
    ("docs/options.md", |_| markdown::document()),
];

#[test]
fn generated_files_are_up_to_date() {
    let update = env::var_os(UPDATE).is_some();
    for (name, generate) in FILES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let present = fs::read_to_string(&path).unwrap_or_default();
        let wanted = generate(&present);
        if update && wanted != present {
            fs::write(&path, &wanted).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else if wanted != present {
            let lines = wanted.lines().zip(present.lines()).position(|(wanted, present)| wanted != present);
            let at = lines.unwrap_or_else(|| wanted.lines().count().min(present.lines().count()));
            let line = |text: &str| text.lines().nth(at).unwrap_or("(end of file)").to_owned();
            panic!(
                "{name} is not what the option table says: run `make docs`\nline {}: {}\nshould be: {}",
                at + 1,
                line(&present),
                line(&wanted)
            );
        }
    }
}

/// The kind of a positional argument, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArgumentKind {
    /// A torrent file.
    Torrent,
    /// Torrent files and the download folder.
    Torrents,
    /// A file or folder.
    Source,
    /// A folder.
    Folder,
    /// The name of a command, for `help`.
    Command,
}

/// The positional arguments of a command, from its usage line.
fn arguments(command: &CommandSpec) -> Vec<ArgumentKind> {
    let known = |word: &str| match word.trim_matches(['[', ']']) {
        "TORRENT..." => Some(ArgumentKind::Torrents),
        "TORRENT" | "FILE.torrent" => Some(ArgumentKind::Torrent),
        "SOURCE" => Some(ArgumentKind::Source),
        "FOLDER" if command.name != DOWNLOAD => Some(ArgumentKind::Folder),
        "COMMAND" => Some(ArgumentKind::Command),
        "options" | "FOLDER" | "get|put" | "TARGET" => None,
        other => panic!("{}: an argument that no shell completes: {other}", command.name),
    };
    command.usage.split(' ').filter_map(known).collect()
}

/// The commands with a name, including `help`.
fn named() -> impl Iterator<Item = CommandSpec> {
    COMMANDS.into_iter().filter(|command| command.name != DOWNLOAD)
}

/// The names of the commands; `help` only if `with_help` is set.
fn names(with_help: bool) -> String {
    let names = named().map(|command| command.name).filter(|name| with_help || *name != "help");
    names.collect::<Vec<_>>().join(" ")
}

/// A command's summary up to the first semicolon.
fn summary(command: &CommandSpec) -> &'static str {
    command.summary.split("; ").next().unwrap_or(command.summary)
}

/// Quotes a text for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
