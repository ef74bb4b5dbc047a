//! Generates `docs/config.example`, a configuration file with all options commented out.

use std::fmt::Write as _;

use crate::cli::options::table::{CommandSpec, DOWNLOAD, OptionGroup, OptionScope};

const INTRODUCTION: &str = "\
# Options for every download. Copy this file to ~/.config/btsync/config, and remove the # before an option to set it.
# Words in capital letters stand for values. docs/options.md and `man btsync` describe the options.
# Generated from src/cli/options by `make docs`: do not edit.
";

/// The whole file.
pub(super) fn text() -> String {
    let mut out = INTRODUCTION.to_owned();
    let options = CommandSpec::named(DOWNLOAD).map(CommandSpec::options).unwrap_or_default();
    for group in OptionGroup::ALL {
        let inside = |entry: OptionScope| entry == OptionScope::Everywhere;
        let of_group = options.iter().filter(|option| option.entry.group == group && inside(option.entry.scope));
        for (at, option) in of_group.enumerate() {
            if at == 0 {
                let _ = write!(out, "\n## {}\n", group.title()); // writing to a String cannot fail
            }
            let repeats = if option.repeats { "; can be repeated" } else { "" };
            let _ = writeln!(out, "\n# {}{repeats}", option.help.replace('`', ""));
            let _ = match option.value {
                Some(value) => writeln!(out, "#{} = {}", option.entry.long, option.entry.default.unwrap_or(value)),
                None => writeln!(out, "#{}", option.entry.long),
            };
        }
    }
    out
}
