//! The pass before argh: it takes the words of the command line apart, in all the forms that hands know from elsewhere
//! (`--name=value`, `-vq`, `-dFOLDER`, `--seed=no`, an option twice), and finds misspelt options, for which argh knows no
//! suggestion. Options from a file or the environment ([`config`](crate::cli::options::config)) are of the same kind from here on.

use std::fmt;
use std::path::PathBuf;

use argh::{ArgsInfo, FlagInfoKind, FromArgs, Optionality};

use crate::cli::exit::Failure;
use crate::cli::options::bad_option;
use crate::cli::options::spelling::{canonical_name, nearest};
use crate::util::redact::{public_name, redacted};

/// What a lone `-` stands for among the names: the torrent comes from a pipe, or whatever standard input is.
pub(crate) const STDIN: &str = "/dev/stdin";

/// An option, as the parser of its command knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    /// Its name, with its dashes.
    pub long: &'static str,
    /// Its letter, where it has one.
    pub short: Option<char>,
    /// Whether a value follows; what has none is a switch.
    pub takes_value: bool,
    /// Whether each time that it is given counts; of others the last.
    pub repeats: bool,
}

impl OptionSpec {
    /// Its name without its dashes, as it stands in a file.
    pub fn bare(&self) -> &'static str {
        self.long.trim_start_matches("--")
    }
}

/// The options of a command.
pub(crate) struct Options(Vec<OptionSpec>);

impl Options {
    /// As the command's parser lists them, so that there is no second table to keep.
    pub fn of<T: ArgsInfo>() -> Options {
        let options = T::get_args_info().flags.iter().map(|flag| OptionSpec {
            long: flag.long,
            short: if flag.long == "--help" { Some('h') } else { flag.short },
            takes_value: matches!(flag.kind, FlagInfoKind::Option { .. }),
            repeats: matches!(flag.optionality, Optionality::Repeating),
        });
        Options(options.collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &OptionSpec> {
        self.0.iter()
    }

    /// The option of that name, dashes included, which may be another client's.
    pub fn named(&self, name: &str) -> Option<OptionSpec> {
        let name = canonical_name(name.strip_prefix("--")?);
        self.0.iter().find(|option| option.bare() == name).copied()
    }

    fn lettered(&self, letter: char) -> Option<OptionSpec> {
        self.0.iter().find(|option| option.short == Some(letter)).copied()
    }

    /// The name that this one was most likely meant to be, dashes included.
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.0.iter().map(|option| option.long))
    }
}

/// Where an option was given; what comes later here has precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the configuration file, on this line.
    File(PathBuf, usize),
    /// In this variable of the environment.
    Environment(String),
    /// On the command line.
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

/// An option that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenOption {
    /// Which.
    pub option: OptionSpec,
    /// Its value; of a switch `yes` or `no`.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

impl GivenOption {
    /// Whether it is a switch that was turned on.
    pub fn is_on(&self) -> bool {
        !self.option.takes_value && self.value == YES
    }

    /// The value as it may be shown: what is printed may be passed on, and the URLs of trackers hold secrets.
    pub fn shown(&self) -> String {
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

    /// Fails where the parser of `T` does not take the value.
    pub fn check<T: FromArgs>(&self) -> Result<(), Failure> {
        if !self.option.takes_value {
            return Ok(());
        }
        let (name, value) = (self.option.long, self.value.as_str());
        let Err(early) = T::from_args(&["btsync"], &[name, value]) else { return Ok(()) };
        // Anything else that it says is about what is missing beside this option.
        match early.output.strip_prefix(&format!("Error parsing option '{name}' with value '{value}': ")) {
            Some(reason) => Err(bad_option(format!("{self}: {}", reason.trim()))),
            None => Ok(()),
        }
    }
}

impl fmt::Display for GivenOption {
    /// As it was written, with the value as it may be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.shown();
        match &self.origin {
            Origin::File(..) => write!(f, "{}: {} = {value}", self.origin, self.option.bare()),
            Origin::Environment(name) => write!(f, "{name}={value}"),
            Origin::CommandLine => write!(f, "{}={value}", self.option.long),
        }
    }
}

/// A command line, taken apart.
#[derive(Debug, Default)]
pub(crate) struct CommandLine {
    /// The options in their order.
    pub given: Vec<GivenOption>,
    /// What is no option.
    pub names: Vec<String>,
}

impl CommandLine {
    /// Whether this switch was turned on, the last time that it was given.
    pub fn has_switch(&self, long: &str) -> bool {
        self.given.iter().rev().find(|given| given.option.long == long).is_some_and(GivenOption::is_on)
    }
}

/// Takes the words apart, up to `--`, and refuses options that do not exist.
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

/// Where among the words the first name is; a value is none. Unknown options are taken for switches.
pub(crate) fn first_name(options: &Options, words: &[&str]) -> Option<usize> {
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        if !word.starts_with('-') || matches!(word, "-" | "--") {
            return Some(at);
        }
        let long = options.named(word).is_some_and(|option| option.takes_value);
        // A bundle's first letter that takes a value takes what follows in the word; where nothing does, the next word.
        let letters = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')).unwrap_or_default();
        let taker = letters.find(|c| options.lettered(c).is_some_and(|option| option.takes_value));
        let short = taker.is_some_and(|taker| taker + 1 == letters.len());
        at += if long || short { 2 } else { 1 };
    }
    None
}

/// `--name`, `--name value` or `--name=value`. The next word is the value whatever it looks like.
fn named<'a>(options: &Options, word: &str, rest: &mut impl Iterator<Item = &'a str>) -> Result<GivenOption, Failure> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let option = options.named(name).ok_or_else(|| unknown(options, name))?;
    let value = match (option.takes_value, value) {
        (true, value) => {
            value.or_else(|| rest.next()).ok_or_else(|| bad_option(format!("{name} needs a value")))?.to_owned()
        }
        (false, None) => YES.to_owned(),
        (false, Some(value)) => parse_switch(value)
            .ok_or_else(|| bad_option(format!("{name} takes no value but yes or no, and not '{value}'")))?
            .to_owned(),
    };
    Ok(GivenOption { option, value, origin: Origin::CommandLine })
}

/// `-v`, `-vq`, `-d FOLDER`, `-dFOLDER`, `-vdFOLDER`.
fn lettered<'a>(
    options: &Options,
    word: &str,
    rest: &mut impl Iterator<Item = &'a str>,
    given: &mut Vec<GivenOption>,
) -> Result<(), Failure> {
    // `-seed` is no bundle: nobody means -s -e -e -d by it.
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

/// The value of a switch that is on.
pub(crate) const YES: &str = "yes";

/// What a switch may be set to.
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

/// What counts of options given several times: of each what was given in the place of the highest precedence, and of those
/// that cannot be repeated the last. `given` begins with the lowest.
pub(crate) fn apply_precedence(given: Vec<GivenOption>) -> Vec<GivenOption> {
    let counts = |(at, this): (usize, &GivenOption)| {
        let mut later = given.iter().skip(at + 1).filter(|other| other.option == this.option);
        !later.any(|other| !this.option.repeats || other.origin.rank() > this.origin.rank())
    };
    let kept: Vec<bool> = given.iter().enumerate().map(counts).collect();
    given.into_iter().zip(kept).filter_map(|(given, kept)| kept.then_some(given)).collect()
}

/// The words for argh, of what is [settled](settle): switches that are on, and values.
pub(crate) fn words<'a>(effective: &'a [GivenOption], names: &'a [String]) -> Vec<&'a str> {
    let option = |given: &'a GivenOption| {
        let name = (given.option.takes_value || given.is_on()).then_some(given.option.long);
        let value = given.option.takes_value.then_some(given.value.as_str());
        name.into_iter().chain(value)
    };
    effective.iter().flat_map(option).chain(["--"]).chain(names.iter().map(String::as_str)).collect()
}
