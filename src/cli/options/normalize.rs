//! Prepares the command line for argh. Accepts the usual forms (`--name=value`, `-vq`, `-dFOLDER`, `--seed=no`, an option
//! given twice) and suggests corrections for misspelt options, which argh does not do. From here on, options from the
//! configuration file and the environment ([`config`](crate::cli::options::config)) are handled in the same way.

use std::fmt;
use std::path::PathBuf;

use argh::{ArgsInfo, FlagInfoKind, FromArgs, Optionality};

use crate::cli::exit::Failure;
use crate::cli::options::bad_option;
use crate::cli::options::spelling::nearest;
use crate::cli::options::table;
use crate::util::redact::{public_name, redacted};

/// The path that replaces a lone `-` among the positional arguments.
pub(crate) const STDIN: &str = "/dev/stdin";

/// An option as its command's parser describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    /// The long name, including the dashes.
    pub long: &'static str,
    /// The letter, if any.
    pub short: Option<char>,
    /// Whether it takes a value; otherwise it is a switch.
    pub takes_value: bool,
    /// Whether all occurrences count; otherwise the last one wins.
    pub repeats: bool,
    /// Other names that mean the same for this command, without dashes.
    pub aliases: &'static [&'static str],
}

impl OptionSpec {
    /// The long name without the dashes, as in the configuration file.
    pub fn bare(&self) -> &'static str {
        self.long.trim_start_matches("--")
    }
}

/// The options of a command.
pub(crate) struct Options(Vec<OptionSpec>);

impl Options {
    /// The options that the command's parser lists.
    pub fn of<T: ArgsInfo>() -> Options {
        let parser = T::get_args_info();
        let options = parser.flags.iter().map(|flag| OptionSpec {
            long: flag.long,
            short: if flag.long == "--help" { Some('h') } else { flag.short },
            takes_value: matches!(flag.kind, FlagInfoKind::Option { .. }),
            repeats: matches!(flag.optionality, Optionality::Repeating),
            aliases: table::aliases(parser.name, flag.long.trim_start_matches("--")),
        });
        Options(options.collect())
    }

    /// Iterates over the options.
    pub fn iter(&self) -> impl Iterator<Item = &OptionSpec> {
        self.0.iter()
    }

    /// The option with this long name, including the dashes, or with this alias.
    pub fn named(&self, name: &str) -> Option<OptionSpec> {
        let name = name.strip_prefix("--")?;
        self.0.iter().find(|option| option.bare() == name || option.aliases.contains(&name)).copied()
    }

    fn lettered(&self, letter: char) -> Option<OptionSpec> {
        self.0.iter().find(|option| option.short == Some(letter)).copied()
    }

    /// The long name that a misspelt `name` most likely means, including the dashes.
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.0.iter().map(|option| option.long))
    }
}

/// Where an option was given, in order of rising precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The configuration file, with the line number.
    File(PathBuf, usize),
    /// This environment variable.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Origin::File(..) => 0,
            Origin::Environment(_) => 1,
            Origin::CommandLine => 2,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment: {name}"),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// An option with its value and origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenOption {
    /// The option.
    pub option: OptionSpec,
    /// The value; `yes` or `no` for a switch.
    pub value: String,
    /// Where it was given.
    pub origin: Origin,
}

impl GivenOption {
    /// Whether this is a switch that is turned on.
    pub fn is_on(&self) -> bool {
        !self.option.takes_value && self.value == YES
    }

    /// The value for messages: users share output, and tracker URLs contain passkeys.
    pub fn redacted_value(&self) -> String {
        if self.option.long == "--proxy" {
            return redacted_proxy(&self.value);
        }
        if !matches!(self.option.long, "--bt-tracker" | "--bt-exclude-tracker") {
            return redacted(&self.value);
        }
        let shown: Vec<_> = self
            .value
            .split(',')
            .map(|url| match url.trim() {
                any @ ("" | "*") => any.to_owned(),
                url => public_name(url),
            })
            .collect();
        shown.join(",")
    }

    /// Fails if the parser of `T` rejects the value.
    pub fn check<T: FromArgs>(&self) -> Result<(), Failure> {
        if !self.option.takes_value {
            return Ok(());
        }
        let (name, value) = (self.option.long, self.value.as_str());
        let Err(early) = T::from_args(&["btsync"], &[name, value]) else { return Ok(()) };
        // Any other error is about missing arguments, as only this option is parsed.
        match early.output.strip_prefix(&format!("Error parsing option '{name}' with value '{value}': ")) {
            Some(reason) => Err(bad_option(format!("{self}: {}", reason.trim()))),
            None => Ok(()),
        }
    }
}

/// The URL of a proxy without its user name and password, even if it is malformed.
fn redacted_proxy(value: &str) -> String {
    match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => public_name(&format!("{scheme}://{host}")),
        _ => public_name(value),
    }
}

impl fmt::Display for GivenOption {
    /// The option where the user wrote it, with its canonical long name and the redacted value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.redacted_value();
        match &self.origin {
            Origin::File(..) => write!(f, "{}: {} = {value}", self.origin, self.option.bare()),
            Origin::Environment(name) => write!(f, "{name}={value}"),
            Origin::CommandLine => write!(f, "{}={value}", self.option.long),
        }
    }
}

/// A parsed command line.
#[derive(Debug, Default)]
pub(crate) struct CommandLine {
    /// The options in the order given.
    pub given: Vec<GivenOption>,
    /// The positional arguments.
    pub names: Vec<String>,
}

impl CommandLine {
    /// Whether the last occurrence of this switch turns it on.
    pub fn has_switch(&self, long: &str) -> bool {
        self.given.iter().rev().find(|given| given.option.long == long).is_some_and(GivenOption::is_on)
    }
}

/// Parses the words into options and positional arguments; after `--` all words are positional. Fails on unknown options.
pub(crate) fn read(options: &Options, words: &[&str]) -> Result<CommandLine, Failure> {
    let mut line = CommandLine::default();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--" => line.names.extend(words.by_ref().map(str::to_owned)),
            "-" => line.names.push(STDIN.to_owned()),
            long if long.starts_with("--") => line.given.push(named(options, long, &mut words)?),
            short if short.starts_with('-') => lettered(options, short, &mut words, &mut line.given)?,
            name => line.names.push(name.to_owned()),
        }
    }
    Ok(line)
}

/// The index of the first positional argument. Unknown options count as switches.
pub(crate) fn first_name(options: &Options, words: &[&str]) -> Option<usize> {
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        if !word.starts_with('-') || matches!(word, "-" | "--") {
            return Some(at);
        }
        let long = options.named(word).is_some_and(|option| option.takes_value);
        // In a bundle such as `-vd`, the first letter that takes a value takes the rest of the word, or the next word if
        // nothing is left.
        let letters = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')).unwrap_or_default();
        let taker = letters.find(|c| options.lettered(c).is_some_and(|option| option.takes_value));
        let short = taker.is_some_and(|taker| taker + 1 == letters.len());
        at += if long || short { 2 } else { 1 };
    }
    None
}

/// Parses `--name`, `--name value` or `--name=value`. The next word is the value even if it looks like an option.
fn named<'a>(options: &Options, word: &str, rest: &mut impl Iterator<Item = &'a str>) -> Result<GivenOption, Failure> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let option = options.named(name).ok_or_else(|| unknown(options, name))?;
    let value = match (option.takes_value, value) {
        (true, value) => {
            value.or_else(|| rest.next()).ok_or_else(|| bad_option(format!("{name} needs a value")))?.to_owned()
        }
        (false, None) => YES.to_owned(),
        (false, Some(value)) => parse_switch(value)
            .ok_or_else(|| bad_option(format!("{name} accepts only yes or no, not '{value}'")))?
            .to_owned(),
    };
    Ok(GivenOption { option, value, origin: Origin::CommandLine })
}

/// Parses `-v`, `-vq`, `-d FOLDER`, `-dFOLDER` or `-vdFOLDER`.
fn lettered<'a>(
    options: &Options,
    word: &str,
    rest: &mut impl Iterator<Item = &'a str>,
    given: &mut Vec<GivenOption>,
) -> Result<(), Failure> {
    // `-seed` means `--seed` and not the bundle -s -e -e -d.
    let long = format!("-{word}");
    let name = long.split('=').next().unwrap_or_default();
    if word.chars().count() > 2 && options.named(name).is_some() {
        return Err(bad_option(format!("unknown option '{word}': did you mean '{name}'?")));
    }
    let mut letters = word.strip_prefix('-').unwrap_or(word).chars();
    while let Some(letter) = letters.next() {
        let option = match options.lettered(letter) {
            Some(option) => option,
            None if word.chars().count() == 2 => return Err(unknown(options, word)),
            None => return Err(bad_option(format!("unknown option '-{letter}' in '{word}': see --help"))),
        };
        let mut value = YES;
        if option.takes_value {
            let joined = letters.as_str();
            let mut next = || rest.next().ok_or_else(|| bad_option(format!("-{letter} needs a value")));
            value = if joined.is_empty() { next()? } else { joined.strip_prefix('=').unwrap_or(joined) };
            letters = "".chars();
        }
        given.push(GivenOption { option, value: value.to_owned(), origin: Origin::CommandLine });
    }
    Ok(())
}

/// The value of a switch that is turned on.
pub(crate) const YES: &str = "yes";

/// Parses the value of a switch into `yes` or `no`.
pub(crate) fn parse_switch(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Some(YES),
        "0" | "false" | "no" => Some("no"),
        _ => None,
    }
}

fn unknown(options: &Options, name: &str) -> Failure {
    match options.nearest(name) {
        Some(near) => bad_option(format!("unknown option '{name}': did you mean '{near}'?")),
        None => bad_option(format!("unknown option '{name}': see --help")),
    }
}

/// Resolves options that were given several times. Of a repeatable option, keeps all occurrences of the origin with the
/// highest precedence; of any other, the last one. `given` is in order of rising precedence.
pub(crate) fn apply_precedence(given: Vec<GivenOption>) -> Vec<GivenOption> {
    let counts = |(at, this): (usize, &GivenOption)| {
        let mut later = given.iter().skip(at + 1).filter(|other| other.option == this.option);
        !later.any(|other| !this.option.repeats || other.origin.rank() > this.origin.rank())
    };
    let kept: Vec<bool> = given.iter().enumerate().map(counts).collect();
    given.into_iter().zip(kept).filter_map(|(given, kept)| kept.then_some(given)).collect()
}

/// The words for argh, from the result of [`apply_precedence`]: switches that are on, options with values, and positional
/// arguments.
pub(crate) fn words<'a>(effective: &'a [GivenOption], names: &'a [String]) -> Vec<&'a str> {
    let option = |given: &'a GivenOption| {
        let name = (given.option.takes_value || given.is_on()).then_some(given.option.long);
        let value = given.option.takes_value.then_some(given.value.as_str());
        name.into_iter().chain(value)
    };
    effective.iter().flat_map(option).chain(["--"]).chain(names.iter().map(String::as_str)).collect()
}
