//! The help texts. `btsync --help` fits a screen of 24 lines, which a test checks. `btsync help all` and `btsync help
//! COMMAND` list all options from the option table.

use std::fmt::Write as _;

use crate::cli::options::table::{CommandSpec, DOWNLOAD, OptionDoc, OptionGroup};

/// The output of `btsync --help`.
pub(crate) const TEXT: &str = "\
btsync TORRENT... [FOLDER] [options]   download into FOLDER (default: .)
btsync create SOURCE [options]         create a torrent from a file or folder
btsync info|list|magnet|edit FILE      show contents; files; magnet link; edit
btsync verify FILE.torrent [FOLDER]    report damaged and missing files
btsync serve                           run a service with a web page
btsync doctor|tracker|dht|help         check machine; tracker; DHT; all options
TORRENT is a .torrent file or its URL, a magnet link, or - (stdin).
Files:   -S, --list           list them with numbers and sizes
         --select 1-5,8 --select '*.mkv' --exclude Extras   choose files
         --sequential         download in order, to watch meanwhile
         -d, --dir DIR        download folder, same as FOLDER
Seeding: --seed               seed until stopped (default: exit when complete)
         --seed-ratio 1.5     seed until 1.5 times the size is uploaded
         --seed-time 30       seed 30 minutes; with both, whichever comes first
Speed:   --max-download-limit 2M; -u, --max-upload-limit 500K; 0 is no limit
Network: -p, --listen-port 6881; --interface tun0; --encryption require
         --peer HOST:PORT; --bt-tracker URL; --no-dht
Several: -i, --input-file LIST; -j, --max-concurrent 5; --watch FOLDER
Output:  -q, --quiet; -v, --verbose; --plain; --json; --stop-timeout SECONDS
Config:  ~/.config/btsync/config, one option on each line: seed-time = 30
All:     btsync help all lists every option; --show-config shows their values
Ctrl-C stops; the same command resumes. ? shows the keys while it runs.
Exit: 0 complete, 7 stopped, 6 network, 9 disk full, 25-27 input, 28 options
";

/// The column at which descriptions of options start.
const COLUMN: usize = 28;
/// The maximum width of lines.
const WIDTH: usize = 79;

/// The output of `btsync help NAME`; `None` if there is no such command.
pub(crate) fn on(name: &str) -> Option<String> {
    match name {
        "all" => Some(all()),
        "help" => Some(TEXT.to_owned()),
        DOWNLOAD => None,
        name => CommandSpec::named(name).map(usage),
    }
}

/// The output of `btsync help all`.
fn all() -> String {
    let mut out = "btsync TORRENT... [FOLDER] [options]\n".to_owned();
    let options = CommandSpec::named(DOWNLOAD).map(CommandSpec::options).unwrap_or_default();
    for group in OptionGroup::ALL {
        let _ = writeln!(out, "\n{}:", group.title()); // writing to a String cannot fail
        for option in options.iter().filter(|option| option.entry.group == group) {
            describe(&mut out, option);
        }
    }
    out
}

/// The output of `btsync help COMMAND`.
fn usage(command: &CommandSpec) -> String {
    let mut out = format!("btsync {} {}\n\n{}\n\n", command.name, command.usage, command.summary);
    for option in command.options() {
        describe(&mut out, &option);
    }
    if command.name == "list" {
        out.push_str("\nThe other options of a download are accepted too: btsync help all\n");
    }
    out
}

/// Writes the lines about an option.
fn describe(out: &mut String, option: &OptionDoc) {
    let entry = option.entry;
    let letter = option.short.map_or(String::new(), |letter| format!("-{letter}, "));
    let value = option.value.map_or(String::new(), |value| format!(" {value}"));
    let mut line = format!("  {letter}--{}{value}  ", entry.long);
    if line.len() > COLUMN {
        let _ = writeln!(out, "{}", line.trim_end());
        line.clear();
    }
    line = format!("{line:COLUMN$}");
    let repeats = if option.repeats && !option.help.contains("repeat") { "; can be repeated" } else { "" };
    // The help text explains the defaults 0 (no limit) and `.` (the current folder) better.
    let default = entry.default.filter(|default| !matches!(*default, "0" | "."));
    let default = default.map_or(String::new(), |default| format!(" ({default})"));
    let aliases: Vec<_> = entry.aliases.iter().map(|alias| format!("--{alias}")).collect();
    let also = if aliases.is_empty() { String::new() } else { format!("; also {}", aliases.join(", ")) };
    for word in format!("{}{repeats}{default}{also}", option.help.replace('`', "")).split_whitespace() {
        if line.chars().count() + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(COLUMN);
        }
        line.push_str(word);
        line.push(' ');
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_described_within_eighty_columns() {
        let all = all();
        assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
        let words = all.split_whitespace().collect::<Vec<_>>().join(" ");
        for name in
            CommandSpec::named(DOWNLOAD).map(CommandSpec::options).unwrap_or_default().iter().flat_map(OptionDoc::names)
        {
            assert!(words.contains(&name), "{name}: {all}");
        }
        assert!(words.contains("R times the size") && words.contains("whichever comes first"), "{all}");
        assert!(
            all.contains("  -d, --dir DIR             ") && all.contains("(300)") && all.contains("(allow)"),
            "{all}"
        );
    }

    #[test]
    fn commands_have_help_and_a_download_has_none_by_name() {
        assert!(on("list").is_some_and(|text| text.contains("--select FILES") && !text.contains("--seed")));
        assert!(on("create").is_some_and(|text| text.contains("--piece-length SIZE")));
        assert!(on("nonsense").is_none() && on(DOWNLOAD).is_none());
    }
}
