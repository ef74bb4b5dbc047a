//! The pass before argh: it splits `--name=value`, which argh refuses, and finds misspelt options, for which argh knows no
//! suggestion.

use argh::FromArgs;

use super::wrong;
use crate::cli::exit::Failure;
use crate::cli::spelling::{nearest, ours};

/// What the parser of a command thinks of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Switch,
    Value,
    Unknown,
}

/// Asks the parser itself, so that there is no second table of options to keep.
fn kind<T: FromArgs>(word: &str) -> Kind {
    match T::from_args(&["btsync"], &[word]) {
        _ if word == "--version" || word == "-h" => Kind::Switch,
        Err(early) if early.output.starts_with("Unrecognized argument") => Kind::Unknown,
        Err(early) if early.output.starts_with("No value provided") => Kind::Value,
        _ => Kind::Switch,
    }
}

/// What a lone `-` stands for among the names: the torrent comes from a pipe, or whatever standard input is.
pub(in crate::cli) const STDIN: &str = "/dev/stdin";

/// Splits `--name=value` into two words, up to `--`, and refuses options that do not exist.
pub(super) fn split<T: FromArgs>(words: &[&str]) -> Result<Vec<String>, Failure> {
    let mut out = Vec::with_capacity(words.len() + 4);
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        if word == "--" {
            out.push(word.to_owned());
            out.extend(words.map(|w| (*w).to_owned()));
            break;
        }
        if !word.starts_with('-') || word == "-" {
            out.push(if word == "-" { STDIN } else { word }.to_owned());
            continue;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (word, None),
        };
        let name = ours(name);
        let kind = kind::<T>(name);
        match (kind, value) {
            (Kind::Unknown, _) => return Err(unknown::<T>(name)),
            (Kind::Switch, Some(_)) => return Err(wrong(format!("{name} takes no value"))),
            _ => out.push(if name == "-h" { "--help" } else { name }.to_owned()),
        }
        if kind == Kind::Value {
            // The next word is the value whatever it looks like; it must not be split.
            let value = value.or_else(|| words.next().copied());
            out.push(value.ok_or_else(|| wrong(format!("{name} needs a value")))?.to_owned());
        }
    }
    Ok(out)
}

fn unknown<T: FromArgs>(name: &str) -> Failure {
    match nearest(name, &options::<T>()) {
        Some(near) => wrong(format!("unknown option '{name}': did you mean '{near}'?")),
        None => wrong(format!("unknown option '{name}': see --help")),
    }
}

/// The long options of a command, as its parser lists them.
pub(super) fn options<T: FromArgs>() -> Vec<String> {
    let text = T::from_args(&["btsync"], &["--help"]).err().map(|early| early.output).unwrap_or_default();
    let lines = text.lines().filter(|line| line.trim_start().starts_with('-'));
    let long = lines.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")));
    long.map(str::to_owned).chain(["--help".to_owned()]).collect()
}
