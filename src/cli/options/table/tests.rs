use std::collections::BTreeSet;

use super::*;

#[test]
fn the_table_has_exactly_the_options_of_each_parser() {
    for command in &COMMANDS {
        let Some(parser) = command.parser else { continue };
        let (info, options) = (parser(), command.options());
        let parsed: BTreeSet<_> = info.flags.iter().map(|flag| flag.long.trim_start_matches('-')).collect();
        let listed: BTreeSet<_> = command.options.iter().map(|entry| entry.long).collect();
        assert_eq!(listed.len(), command.options.len(), "{}: an entry twice", command.name);
        assert_eq!(options.len(), command.options.len(), "{}: no such option: {listed:?}", command.name);
        if command.name == "list" {
            assert!(listed.is_subset(&parsed), "list accepts the options of a download");
            continue;
        }
        assert_eq!(listed, parsed, "{}: table and parser", command.name);
        if command.name != DOWNLOAD {
            assert_eq!(info.description, command.summary, "{}: doc comment of its struct", command.name);
        }
    }
}

#[test]
fn entries_stand_together_by_group() {
    let mut groups: Vec<_> = download::OPTIONS.iter().map(|entry| entry.group).collect();
    groups.dedup();
    assert_eq!(groups, OptionGroup::ALL);
}

#[test]
fn names_and_variables_are_told_apart() {
    for command in &COMMANDS {
        let names: Vec<_> = command.options().iter().flat_map(OptionDoc::names).collect();
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{}: {names:?}", command.name);
    }
    assert_eq!(env_variable("seed-time"), "BTSYNC_SEED_TIME");
}

#[test]
fn aliases_belong_to_a_command() {
    let name = |args: fn() -> CommandInfoWithArgs| args().name;
    assert_eq!(aliases(name(DownloadArgs::get_args_info), "interface"), ["bind"]);
    assert_eq!(aliases(name(ServeArgs::get_args_info), "web-listen"), ["listen"]);
    assert!(aliases(name(DownloadArgs::get_args_info), "web-listen").is_empty());
}

#[test]
fn every_option_has_a_line_and_a_paragraph() {
    for command in &COMMANDS {
        for option in command.options() {
            let (help, name) = (option.help, option.entry.long);
            assert!(!help.ends_with('.') && !help.starts_with(char::is_uppercase), "{name}: {help}");
            assert!(option.summary().chars().count() <= 72, "{name}: too long for a completion: {}", option.summary());
            let is_text = option.entry.manual.ends_with('.') && !option.entry.manual.contains("  ");
            assert!(is_text, "{} {name}: {}", command.name, option.entry.manual);
            assert!(option.value.is_some() || option.entry.completion == ValueCompletion::Nothing, "{name}: a switch");
        }
    }
}
