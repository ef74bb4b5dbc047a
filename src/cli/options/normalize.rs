//! The pass before argh: it takes the words of the command line apart, in all the forms that hands know from elsewhere
//! (`--name=value`, `-vq`, `-dFOLDER`, `--seed=no`, an option twice), and finds misspelt options, for which argh knows no
//! suggestion. Options from a file or the environment ([`config`](crate::cli::options::config)) are of the same kind from here on.

use std::fmt;
use std::path::PathBuf;

use argh::{ArgsInfo, FlagInfoKind, FromArgs, Optionality};

use crate::cli::exit::Failure;
use crate::cli::options::spelling::{nearest, ours};
use crate::cli::options::wrong;
use crate::discovery::tracker::redact::{public_name, redacted};

/// What a lone `-` stands for among the names: the torrent comes from a pipe, or whatever standard input is.
pub(crate) const STDIN: &str = "/dev/stdin";

/// An option, as the parser of its command knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opt {
    /// Its name, with its dashes.
    pub long: &'static str,
    /// Its letter, where it has one.
    pub short: Option<char>,
    /// Whether a value follows; what has none is a switch.
    pub takes_value: bool,
    /// Whether each time that it is given counts; of others the last.
    pub repeats: bool,
}

impl Opt {
    /// Its name without its dashes, as it stands in a file.
    pub fn bare(&self) -> &'static str {
        self.long.trim_start_matches("--")
    }
}

/// The options of a command.
pub(crate) struct Options(Vec<Opt>);

impl Options {
    /// As the command's parser lists them, so that there is no second table to keep.
    pub fn of<T: ArgsInfo>() -> Options {
        let options = T::get_args_info().flags.iter().map(|flag| Opt {
            long: flag.long,
            short: if flag.long == "--help" { Some('h') } else { flag.short },
            takes_value: matches!(flag.kind, FlagInfoKind::Option { .. }),
            repeats: matches!(flag.optionality, Optionality::Repeating),
        });
        Options(options.collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Opt> {
        self.0.iter()
    }

    /// The option of that name, dashes included, which may be another client's.
    pub fn named(&self, name: &str) -> Option<Opt> {
        self.0.iter().find(|option| option.long == ours(name)).copied()
    }

    fn lettered(&self, letter: char) -> Option<Opt> {
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
    Line,
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Origin::File(..) => 0,
            Origin::Environment(_) => 1,
            Origin::Line => 2,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment: {name}"),
            Origin::Line => f.write_str("command line"),
        }
    }
}

/// An option that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// Which.
    pub option: Opt,
    /// Its value; of a switch `yes` or `no`.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

impl Given {
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
            Some(reason) => Err(wrong(format!("{self}: {}", reason.trim()))),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Given {
    /// As it was written, with the value as it may be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.shown();
        match &self.origin {
            Origin::File(..) => write!(f, "{}: {} = {value}", self.origin, self.option.bare()),
            Origin::Environment(name) => write!(f, "{name}={value}"),
            Origin::Line => write!(f, "{}={value}", self.option.long),
        }
    }
}

/// A command line, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The options in their order.
    pub given: Vec<Given>,
    /// What is no option.
    pub names: Vec<String>,
}

impl Line {
    /// Whether this switch was turned on, the last time that it was given.
    pub fn asks(&self, long: &str) -> bool {
        self.given.iter().rev().find(|given| given.option.long == long).is_some_and(Given::is_on)
    }
}

/// Takes the words apart, up to `--`, and refuses options that do not exist.
pub(crate) fn read(options: &Options, words: &[&str]) -> Result<Line, Failure> {
    let mut line = Line::default();
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
fn named<'a>(options: &Options, word: &str, rest: &mut impl Iterator<Item = &'a str>) -> Result<Given, Failure> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let option = options.named(name).ok_or_else(|| unknown(options, name))?;
    let value = match (option.takes_value, value) {
        (true, value) => {
            value.or_else(|| rest.next()).ok_or_else(|| wrong(format!("{name} needs a value")))?.to_owned()
        }
        (false, None) => YES.to_owned(),
        (false, Some(value)) => yes_or_no(value)
            .ok_or_else(|| wrong(format!("{name} takes no value but yes or no, and not '{value}'")))?
            .to_owned(),
    };
    Ok(Given { option, value, origin: Origin::Line })
}

/// `-v`, `-vq`, `-d FOLDER`, `-dFOLDER`, `-vdFOLDER`.
fn lettered<'a>(
    options: &Options,
    word: &str,
    rest: &mut impl Iterator<Item = &'a str>,
    given: &mut Vec<Given>,
) -> Result<(), Failure> {
    // `-seed` is no bundle: nobody means -s -e -e -d by it.
    let long = format!("-{word}");
    let name = long.split('=').next().unwrap_or_default();
    if word.chars().count() > 2 && options.named(name).is_some() {
        return Err(wrong(format!("unknown option '{word}': did you mean '{name}'?")));
    }
    let mut letters = word.strip_prefix('-').unwrap_or(word).chars();
    while let Some(letter) = letters.next() {
        let option = match options.lettered(letter) {
            Some(option) => option,
            None if word.chars().count() == 2 => return Err(unknown(options, word)),
            None => return Err(wrong(format!("unknown option '-{letter}' in '{word}': see --help"))),
        };
        let mut value = YES;
        if option.takes_value {
            let joined = letters.as_str();
            let mut next = || rest.next().ok_or_else(|| wrong(format!("-{letter} needs a value")));
            value = if joined.is_empty() { next()? } else { joined.strip_prefix('=').unwrap_or(joined) };
            letters = "".chars();
        }
        given.push(Given { option, value: value.to_owned(), origin: Origin::Line });
    }
    Ok(())
}

/// The value of a switch that is on.
pub(crate) const YES: &str = "yes";

/// What a switch may be set to.
pub(crate) fn yes_or_no(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Some(YES),
        "0" | "false" | "no" => Some("no"),
        _ => None,
    }
}

fn unknown(options: &Options, name: &str) -> Failure {
    match options.nearest(name) {
        Some(near) => wrong(format!("unknown option '{name}': did you mean '{near}'?")),
        None => wrong(format!("unknown option '{name}': see --help")),
    }
}

/// What counts of options given several times: of each what was given in the place of the highest precedence, and of those
/// that cannot be repeated the last. `given` begins with the lowest.
pub(crate) fn settle(given: Vec<Given>) -> Vec<Given> {
    let counts = |(at, this): (usize, &Given)| {
        let mut later = given.iter().skip(at + 1).filter(|other| other.option == this.option);
        !later.any(|other| !this.option.repeats || other.origin.rank() > this.origin.rank())
    };
    let kept: Vec<bool> = given.iter().enumerate().map(counts).collect();
    given.into_iter().zip(kept).filter_map(|(given, kept)| kept.then_some(given)).collect()
}

/// The words for argh, of what is [settled](settle): switches that are on, and values.
pub(crate) fn words<'a>(settled: &'a [Given], names: &'a [String]) -> Vec<&'a str> {
    let option = |given: &'a Given| {
        let name = (given.option.takes_value || given.is_on()).then_some(given.option.long);
        let value = given.option.takes_value.then_some(given.value.as_str());
        name.into_iter().chain(value)
    };
    settled.iter().flat_map(option).chain(["--"]).chain(names.iter().map(String::as_str)).collect()
}
