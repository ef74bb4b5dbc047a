//! Generates the lists of options in the manual, in mdoc. The rest of the manual is hand-written. Each list stands between
//! the comments `.\" BEGIN options: create` and `.\" END options`; a download has one list per group.

use std::fmt::Write as _;

use super::markup::{MarkupPart, paragraphs, parts};
use crate::cli::options::table::{COMMANDS, CommandSpec, DOWNLOAD, OptionDoc, OptionGroup};

const BEGIN: &str = r#".\" BEGIN options: "#;
const END: &str = r#".\" END options"#;
/// The maximum width of text lines.
const WIDTH: usize = 120;

/// Replaces the lists of options in `manual` by those from the table.
pub(super) fn with_options(manual: &str) -> String {
    let mut lists = lists();
    let (mut out, mut skipping) = (String::new(), false);
    for line in manual.lines() {
        skipping &= line != END;
        if !skipping {
            let _ = writeln!(out, "{line}"); // writing to a String cannot fail
        }
        if let Some(name) = line.strip_prefix(BEGIN) {
            let at = lists.iter().position(|(other, _)| other == name);
            let at = at.unwrap_or_else(|| panic!("the manual wants a list of options that does not exist: {name}"));
            out.push_str(&lists.remove(at).1);
            skipping = true;
        }
    }
    assert!(!skipping, "a list of options in the manual has no end");
    let left: Vec<_> = lists.into_iter().map(|(name, _)| name).collect();
    assert!(left.is_empty(), "the manual has no place for these lists of options: {left:?}");
    out
}

/// Each list with its name: `create`, or `download, Files`.
fn lists() -> Vec<(String, String)> {
    let of_command = |command: &CommandSpec| {
        let options = command.options();
        let options: Vec<_> = options.into_iter().filter(|option| option.entry.long != "help").collect();
        (command.name.to_owned(), list(&options))
    };
    let commands = COMMANDS.iter().filter(|command| command.name != DOWNLOAD && command.name != "help");
    let download = CommandSpec::named(DOWNLOAD).map(CommandSpec::options).unwrap_or_default();
    let of_group = |group: &OptionGroup| {
        let options: Vec<_> = download.iter().filter(|option| option.entry.group == *group).copied().collect();
        (format!("{DOWNLOAD}, {}", group.title()), list(&options))
    };
    OptionGroup::ALL.iter().map(of_group).chain(commands.map(of_command)).collect()
}

fn list(options: &[OptionDoc]) -> String {
    let mut out = ".Bl -tag -width Ds\n".to_owned();
    for option in options {
        let value = option.value.map_or(String::new(), |value| format!(" Ar {value}"));
        let flag = |name: &String| match name.strip_prefix("--") {
            Some(long) => format!("Fl Fl {long}{value}"),
            None => format!("Fl {}{value}", name.trim_start_matches('-')),
        };
        let names: Vec<_> = option.names().iter().map(flag).collect();
        let _ = writeln!(out, ".It {}", names.join(" , "));
        for (at, paragraph) in paragraphs(option, true).iter().enumerate() {
            out.push_str(if at > 0 { ".Pp\n" } else { "" });
            out.push_str(&mdoc(paragraph));
        }
    }
    out.push_str(".El\n");
    out
}

/// Formats a paragraph in mdoc, with each marked part and each sentence on its own line.
fn mdoc(paragraph: &str) -> String {
    let (mut out, mut opening) = (String::new(), "");
    let mut after_macro = false;
    for part in parts(paragraph) {
        let (name, text) = match part {
            MarkupPart::Text(text) => {
                let mut text = text;
                if after_macro {
                    text = punctuation(&mut out, text);
                }
                let (words, open) = text.strip_suffix('(').map_or((text, ""), |words| (words, "( "));
                assert!(words.is_empty() || words.ends_with(['.', ' ', ',', ';']), "no space after '{words}'");
                write_text(&mut out, words);
                (opening, after_macro) = (open, false);
                continue;
            }
            MarkupPart::Literal(text) => literal(text),
            MarkupPart::Value(text) => ("Ar", escaped(text)),
            MarkupPart::Word(text) => ("Cm", escaped(text)),
            MarkupPart::Section(text) => ("Sx", escaped(text)),
        };
        let _ = writeln!(out, ".{name} {opening}{text}");
        (opening, after_macro) = ("", true);
    }
    out
}

/// Appends punctuation that follows a macro to the macro's line, at the end of `out`. Returns the remaining text.
fn punctuation<'a>(out: &mut String, text: &'a str) -> &'a str {
    let rest = text.trim_start_matches(['.', ',', ';', ':', ')', '?', '!']);
    assert!(rest.is_empty() || rest.starts_with(' '), "no space before '{rest}'");
    out.pop();
    for mark in text.chars().take(text.len() - rest.len()) {
        let _ = write!(out, " {mark}");
    }
    out.push('\n');
    rest
}

/// Writes lines of plain text; each sentence starts a new line.
fn write_text(out: &mut String, text: &str) {
    let mut line = String::new();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if line.len() + word.len() >= WIDTH {
            let _ = writeln!(out, "{line}");
            line.clear();
        }
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(if line.is_empty() && word.starts_with(['.', '\'']) { r"\&" } else { "" });
        line.push_str(&word.replace('\\', r"\e"));
        if word.ends_with('.') || words.peek().is_none() {
            let _ = writeln!(out, "{line}");
            line.clear();
        }
    }
}

/// The macro for literal text, and its arguments.
fn literal(text: &str) -> (&'static str, String) {
    let is_variable = |text: &str| text.contains('_') && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    if let Some(long) = text.strip_prefix("--").filter(|long| long.starts_with(|c: char| c.is_ascii_lowercase())) {
        let (name, value) = long.split_once(' ').map_or((long, String::new()), |(n, v)| (n, format!(" Ar {v}")));
        return ("Fl", format!("Fl {name}{value}"));
    }
    if is_variable(text) && text.len() > 1 { ("Ev", text.to_owned()) } else { ("Ql", escaped(text)) }
}

/// Escapes macro arguments.
fn escaped(text: &str) -> String {
    let word = |word: &str| {
        let is_macro = word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
        let is_mark = matches!(word, "." | "," | ":" | ";" | "(" | ")" | "[" | "]" | "?" | "!" | "|");
        let guard = if is_macro || is_mark { r"\&" } else { "" };
        format!("{guard}{}", word.replace('\\', r"\e").replace('-', r"\-").replace('"', r"\(dq"))
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn paragraphs_become_mdoc() {
    let text = "Use `--out` ({FILES}), or `-`. At most _N_. Not `BTSYNC_X`";
    let lines =
        ["Use", ".Fl Fl out", ".Sx ( FILES ) ,", "or", r".Ql \- .", "At most", ".Ar N .", "Not", ".Ev BTSYNC_X"];
    assert_eq!(mdoc(text).lines().collect::<Vec<_>>(), lines);
}
