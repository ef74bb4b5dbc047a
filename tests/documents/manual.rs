//! The manual docs/btsync.1 is well-formed and consistent with the help, the exit codes, the README and docs/options.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::common::help;
use crate::common::netns::installed;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manual() -> String {
    read("docs/btsync.1")
}

/// The lines of a section.
fn section<'a>(manual: &'a str, name: &str) -> Vec<&'a str> {
    let heading = format!(".Sh {name}");
    let lines = manual.lines().skip_while(|line| *line != heading).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with(".Sh ")).collect();
    assert!(!lines.is_empty(), "no section {name}");
    lines
}

/// The options in an item such as `.It Fl q , Fl Fl quiet`.
fn item(line: &str) -> impl Iterator<Item = String> + '_ {
    let words = line.strip_prefix(".It Fl ").unwrap_or_default();
    words.split(" , ").filter_map(|one| {
        let one = one.strip_prefix("Fl ").map_or(one, |rest| rest);
        let (dashes, name) = one.strip_prefix("Fl ").map_or(("-", one), |name| ("--", name));
        let name = name.split(' ').next().filter(|name| !name.is_empty())?;
        Some(format!("{}{name}", if name.len() > 1 { "--" } else { dashes }))
    })
}

/// The options that the manual describes for each command.
fn explained(manual: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::from([(help::DOWNLOAD.to_owned(), BTreeSet::new())]);
    all.insert(help::DOWNLOAD.to_owned(), section(manual, "OPTIONS").into_iter().flat_map(item).collect());
    let mut command = None;
    for line in section(manual, "COMMANDS") {
        if let Some(name) = line.strip_prefix(".Ss ") {
            // The manual describes these once for all commands, before the first one.
            all.insert(name.to_owned(), BTreeSet::from(["-h".to_owned(), "--help".to_owned()]));
            command = Some(name.to_owned());
        } else if let Some(options) = command.as_ref().and_then(|name| all.get_mut(name)) {
            options.extend(item(line));
        }
    }
    all
}

#[test]
fn the_manual_is_well_formed() {
    if !installed("the_manual_is_well_formed", &["mandoc"]) {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/btsync.1");
    let output = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(path).output().expect("mandoc");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_manual_explains_all_commands_and_options_and_no_others() {
    let explained = explained(&manual());
    let commands: BTreeSet<_> = explained.keys().filter(|name| *name != help::DOWNLOAD).cloned().collect();
    assert_eq!(commands, help::commands(), "the manual's commands and those of the help");
    let synopsis = section(&manual(), "SYNOPSIS").join("\n");
    for (command, options) in &explained {
        help::assert_same_options("docs/btsync.1", command, options);
        let shown = command == help::DOWNLOAD || synopsis.contains(&format!(".Cm {command}\n"));
        assert!(shown, "{command} is not in the manual's synopsis");
    }
}

#[test]
fn the_options_page_has_every_option_of_a_download() {
    let page = read("docs/options.md");
    let rows: BTreeSet<_> = page.lines().filter(|line| line.starts_with("| `-")).flat_map(help::options_in).collect();
    let missing: Vec<_> = help::options(help::DOWNLOAD).into_iter().filter(|option| !rows.contains(option)).collect();
    assert!(missing.is_empty(), "docs/options.md lacks {missing:?}");
}

#[test]
fn exit_codes_are_the_same_everywhere() {
    let number = |text: &str| text.trim().parse::<u8>().ok();
    let source = read("src/cli/exit.rs");
    let code = |line: &str| line.trim().strip_suffix(',').and_then(|line| line.split_once(" = ")?.1.parse().ok());
    let codes: BTreeSet<u8> = source.lines().filter_map(code).collect();
    assert!(codes.contains(&0) && codes.contains(&28), "no codes in src/cli/exit.rs: {codes:?}");

    let manual = manual();
    let items = section(&manual, "EXIT STATUS").into_iter().filter_map(|line| number(line.strip_prefix(".It ")?));
    assert_eq!(items.collect::<BTreeSet<_>>(), codes, "the manual's exit codes and those of src/cli/exit.rs");

    let readme = read("README.md");
    let lines = readme.lines().skip_while(|line| *line != "## Exit codes").skip(1);
    // The first cell of each row of the table, and the reserved numbers in the text around it.
    let numbers = lines.take_while(|line| !line.starts_with("## ")).flat_map(|line| match line.strip_prefix("| ") {
        Some(row) => row.split(" |").next().and_then(number).into_iter().collect::<Vec<_>>(),
        None => line.split_whitespace().filter_map(|word| number(word.trim_matches(','))).collect(),
    });
    assert_eq!(numbers.collect::<BTreeSet<_>>(), codes, "the README's exit codes and those of src/cli/exit.rs");
}

#[test]
fn items_are_read_as_they_are_meant() {
    let read = |line| item(line).collect::<Vec<_>>();
    assert_eq!(read(".It Fl v , Fl Fl verbose"), ["-v", "--verbose"]);
    assert_eq!(read(".It Fl o Ar FILE , Fl Fl output Ar FILE"), ["-o", "--output"]);
    assert_eq!(read(".It Fl Fl peer Ar HOST : Ns Ar PORT"), ["--peer"]);
    assert_eq!(read(".It Fl Fl interface Ar IF , Fl Fl bind Ar IF"), ["--interface", "--bind"]);
    assert!(read(".It Ev NO_COLOR").is_empty() && read("Fl Fl seed").is_empty());
}
