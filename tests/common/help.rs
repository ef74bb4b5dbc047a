//! Reads btsync's commands and options from its help. The tests compare the manual and the shell completions with them.

use std::collections::BTreeSet;

use super::btsync;

/// The pseudo-command under which the options of a plain download are listed.
pub const DOWNLOAD: &str = "download";

/// What btsync prints on standard output when run with `words`.
pub fn stdout_of(words: &[&str]) -> String {
    let output = btsync().args(words).output().expect("the program starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("help is UTF-8")
}

/// The commands in the help, without `help` itself.
pub fn commands() -> BTreeSet<String> {
    let help = stdout_of(&["--help"]);
    let after_name = help.lines().filter_map(|line| line.trim_start().strip_prefix("btsync "));
    // A line names one command, or several: `btsync help create|info|tracker`. Two spaces separate the command from its
    // description.
    let words = after_name.filter_map(|rest| rest.split("  ").next());
    let words = words.flat_map(|words| words.split_whitespace().take_while(|word| is_command(word)));
    let all: BTreeSet<String> = words.flat_map(|word| word.split('|')).map(str::to_owned).collect();
    assert!(all.contains("create") && all.contains("tracker"), "no commands in the help:\n{help}");
    all.into_iter().filter(|name| name != "help").collect()
}

fn is_command(word: &str) -> bool {
    word.split('|').all(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase()))
}

/// All commands, and [`DOWNLOAD`].
pub fn all() -> Vec<String> {
    commands().into_iter().chain([DOWNLOAD.to_owned()]).collect()
}

/// The arguments that precede a command's options.
pub fn command_args(command: &str) -> Vec<&str> {
    if command == DOWNLOAD { Vec::new() } else { vec![command] }
}

/// All options in a command's help, long and short.
pub fn options(command: &str) -> BTreeSet<String> {
    let help = if command == DOWNLOAD { stdout_of(&["help", "all"]) } else { stdout_of(&["help", command]) };
    // A line about another command lists that command's options.
    let lines = help.lines().filter(|line| command != DOWNLOAD || !line.starts_with("btsync "));
    let found: BTreeSet<String> = lines.flat_map(options_in).collect();
    assert!(found.contains("--help"), "no options in the help of {command}:\n{help}");
    found
}

/// The options that a text names.
pub fn options_in(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| is_option(word)).map(str::to_owned)
}

fn is_option(word: &str) -> bool {
    let lower = |name: &str| name.starts_with(|c: char| c.is_ascii_lowercase());
    match (word.strip_prefix("--"), word.strip_prefix('-')) {
        (Some(name), _) => lower(name),
        (None, Some(letter)) => letter.len() == 1 && letter.bytes().all(|b| b.is_ascii_alphabetic()),
        (None, None) => false,
    }
}

/// Whether a command accepts an option. Two unknown options follow it: btsync may take the first for the option's value, and the
/// second ends the program before it does anything.
pub fn accepts(command: &str, option: &str) -> bool {
    let output =
        btsync().args(command_args(command)).args([option, "--zzzzzz", "--zzzzzz"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(28), "{command} {option}: {said}");
    assert!(said.contains("unknown option"), "{command} {option}: {said}");
    said.contains("'--zzzzzz'")
}

/// Panics unless `there`, the options that `place` lists for a command, are those in its help. Aliases of the command are
/// allowed.
pub fn assert_same_options(place: &str, command: &str, there: &BTreeSet<String>) {
    let ours = options(command);
    let missing: Vec<_> = ours.difference(there).collect();
    assert!(missing.is_empty(), "{place} lacks options of {command}: {missing:?}");
    let strange: Vec<_> = there.difference(&ours).filter(|option| !accepts(command, option)).collect();
    assert!(strange.is_empty(), "{place} has options that {command} does not know: {strange:?}");
}
