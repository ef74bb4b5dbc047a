//! Options from a configuration file and from the environment (`BTSYNC_SEED_TIME=30`). The environment overrides the file,
//! and the command line overrides both. All three use the same option names. Only downloads read these options.
//!
//! A line of the file is `name = value`, or `name` alone for a switch; `#` at the start of a line begins a comment. The
//! value is the rest of the line, without quoting. Options that can be repeated on the command line can be repeated here
//! too.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::bad_option;
use crate::cli::options::normalize::{GivenOption, OptionSpec, Options, Origin, YES, apply_precedence, parse_switch};
use crate::cli::options::table::{OptionScope, PREFIX, default_value, env_variable, scope};
use crate::cli::report::hook;
use crate::util::atomic_file;
use crate::util::cold_sort;
use crate::util::descriptors::{MIN_DESCRIPTORS, raise_limit, with_retry};
use crate::util::printable_text::printable;
use crate::util::state_mark::BTSYNC;

/// The maximum size of a configuration file in bytes, so that `--config /dev/zero` ends.
const MAX_FILE_LEN: u64 = 1 << 20;

/// Reads a file.
pub type ReadFile = dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// The environment and the file system as far as options come from them; tests supply their own.
pub struct ConfigSources {
    /// The environment variables.
    pub variables: Vec<(String, OsString)>,
    /// Reads a file, up to a maximum size.
    pub read: Box<ReadFile>,
}

impl Default for ConfigSources {
    /// No variables and no files.
    fn default() -> ConfigSources {
        ConfigSources { variables: Vec::new(), read: Box::new(|_| Err(io::ErrorKind::NotFound.into())) }
    }
}

impl ConfigSources {
    /// The environment and files of this process.
    pub fn from_process() -> ConfigSources {
        // No variable of btsync has a name that is not UTF-8.
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        ConfigSources { variables: variables.collect(), read: Box::new(read) }
    }

    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str())
    }

    fn folder(&self, variable: &str) -> Option<PathBuf> {
        self.variable(variable).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The default configuration file according to XDG; `None` without a home folder.
    fn default_file(&self) -> Option<PathBuf> {
        let folder = self.folder("XDG_CONFIG_HOME").or_else(|| Some(self.folder("HOME")?.join(".config")));
        folder.map(|folder| folder.join(BTSYNC).join("config"))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A shell passes `<(command)` as such a path: read it as a stream.
    let is_passed = path.starts_with("/dev") || path.starts_with("/proc");
    let open = || if is_passed { File::open(path) } else { atomic_file::open(path) };
    with_retry(open, || raise_limit() >= MIN_DESCRIPTORS)?.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All options with their origins, and warnings.
pub(crate) struct MergedOptions {
    /// The given options in order of rising precedence: file, environment, command line.
    pub given: Vec<GivenOption>,
    /// Warnings about unknown `BTSYNC_` variables, one line each.
    pub notes: Vec<String>,
}

/// Merges the options of the configuration file and the environment with those of the command line.
///
/// # Errors
/// [`Exit::BadOption`] with its origin for an invalid option; [`Exit::OpenExisting`] if the file of `--config` does not
/// exist or a configuration file cannot be read.
pub(crate) fn merge_sources(
    options: &Options,
    line: Vec<GivenOption>,
    config_sources: &ConfigSources,
) -> Result<MergedOptions, Failure> {
    let mut notes = Vec::new();
    let mut above = environment(options, config_sources, &mut notes)?;
    above.extend(line);
    let mut given = match file(&above, config_sources) {
        Some(config_file) => from_file(options, &config_file, config_sources)?,
        None => Vec::new(),
    };
    given.extend(above);
    Ok(MergedOptions { given, notes })
}

/// A configuration file to read.
struct ConfigFile {
    path: PathBuf,
    is_required: bool,
}

/// The configuration file to read. The last `--config` or `--no-config` wins.
fn file(given: &[GivenOption], config_sources: &ConfigSources) -> Option<ConfigFile> {
    for this in apply_precedence(given.to_vec()).iter().rev() {
        match this.option.long {
            "--config" => return Some(ConfigFile { path: PathBuf::from(&this.value), is_required: true }),
            "--no-config" if this.is_on() => return None,
            _ => {}
        }
    }
    config_sources.default_file().map(|path| ConfigFile { path, is_required: false })
}

fn from_file(
    options: &Options,
    ConfigFile { path, is_required }: &ConfigFile,
    config_sources: &ConfigSources,
) -> Result<Vec<GivenOption>, Failure> {
    let bytes = match (config_sources.read)(path) {
        Ok(bytes) => bytes,
        Err(error)
            if !*is_required && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => {
            // Ignoring an unreadable file could cause what it should prevent (`interface = wg0`).
            let hint = if *is_required { "" } else { "; --no-config ignores this file" };
            let message = format!("the configuration file {} cannot be read: {error}{hint}", path.display());
            return Err(Failure::new(Exit::OpenExisting, printable(&message)));
        }
    };
    if bytes.len() as u64 > MAX_FILE_LEN {
        return Err(bad_option(format!("{}: larger than 1 MiB, the limit for a configuration file", path.display())));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad_option(format!("{}: not UTF-8", path.display())))?;
    let home = config_sources.folder("HOME");
    let lines = text.trim_start_matches('\u{feff}').lines().zip(1..);
    lines.filter_map(|(line, number)| from_line(options, line, path, number, home.as_deref()).transpose()).collect()
}

/// The option on a line of the file, if any.
fn from_line(
    options: &Options,
    line: &str,
    path: &Path,
    number: usize,
    home: Option<&Path>,
) -> Result<Option<GivenOption>, Failure> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let origin = Origin::File(path.to_owned(), number);
    let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name.trim(), Some(value.trim())));
    let name = name.strip_prefix("--").unwrap_or(name);
    let option = options.named(&format!("--{name}")).ok_or_else(|| {
        let near = options.nearest(&format!("--{name}")).map(|near| near.trim_start_matches("--"));
        let hint = near.map_or("see --help".to_owned(), |near| format!("did you mean '{near}'?"));
        bad_option(format!("{origin}: unknown option '{name}': {hint}"))
    })?;
    if is_about_config(&option) || is_command_line_only(&option) {
        return Err(bad_option(format!("{origin}: '{name}' is allowed on the command line only")));
    }
    let value = match (option.takes_value, value) {
        (true, None | Some("")) => return Err(bad_option(format!("{origin}: {name} needs a value"))),
        (true, Some(value)) => expand_home(value, home),
        (false, None) => YES.to_owned(),
        (false, Some(value)) => {
            let no_switch = || bad_option(format!("{origin}: {name} = {value}: expected yes or no"));
            parse_switch(value).ok_or_else(no_switch)?.to_owned()
        }
    };
    Ok(Some(GivenOption { option, value, origin }))
}

/// Expands `~/` to the home folder, as no shell does it for the file.
fn expand_home(value: &str, home: Option<&Path>) -> String {
    let path =
        value.strip_prefix("~/").zip(home).and_then(|(rest, home)| home.join(rest).into_os_string().into_string().ok());
    path.unwrap_or_else(|| value.to_owned())
}

/// Whether the option is about the configuration file itself and so makes no sense in it.
fn is_about_config(option: &OptionSpec) -> bool {
    scope(option.bare()) == OptionScope::NotInFile
}

/// Whether the option is allowed on the command line only.
fn is_command_line_only(option: &OptionSpec) -> bool {
    scope(option.bare()) == OptionScope::CommandLine
}

/// The options in the environment. Empty variables count as unset. Unknown variables with our prefix go to `notes`: each
/// may be a spelling mistake or belong to another program.
fn environment(
    options: &Options,
    config_sources: &ConfigSources,
    notes: &mut Vec<String>,
) -> Result<Vec<GivenOption>, Failure> {
    let mut ours: Vec<_> = config_sources.variables.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    cold_sort::sort(&mut ours);
    let mut given = Vec::new();
    for (name, value) in ours {
        if hook::VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let long = format!("--{}", name[PREFIX.len()..].replace('_', "-").to_ascii_lowercase());
        let option =
            options.named(&long).filter(|option| !is_command_line_only(option) && env_variable(&long) == *name);
        let Some(option) = option else {
            let near = options.nearest(&long).map(env_variable).filter(|near| near != name);
            let near = near.map(|near| format!(": did you mean {near}?"));
            notes.push(printable(&format!("unknown environment variable {name}{}", near.unwrap_or_default())));
            continue;
        };
        let value = value.to_str().ok_or_else(|| bad_option(format!("{name}: not UTF-8")))?;
        let values = match value {
            "" => Vec::new(),
            value if option.takes_value && option.repeats => value.split_whitespace().map(str::to_owned).collect(),
            value if option.takes_value => vec![value.to_owned()],
            value => match parse_switch(value) {
                Some(value) => vec![value.to_owned()],
                None => return Err(bad_option(format!("{name}={value}: expected yes or no"))),
            },
        };
        let origin = Origin::Environment(name.clone());
        given.extend(values.into_iter().map(|value| GivenOption { option, value, origin: origin.clone() }));
    }
    Ok(given)
}

/// Formats every option with its value and origin, one per line. URLs are reduced to scheme, host and port. `effective`
/// contains the options after precedence is applied.
pub(crate) fn show(options: &Options, effective: &[GivenOption]) -> String {
    let mut out = String::new();
    for option in options.iter().filter(|option| !is_about_config(option) && !is_command_line_only(option)) {
        let mut given = effective.iter().filter(|given| given.option == *option).peekable();
        let name = option.bare();
        // Writing to a String cannot fail.
        if given.peek().is_none() {
            let _ = writeln!(out, "{name} = {} (default)", default_value(name, option.takes_value));
        }
        for given in given {
            let value = printable(&given.redacted_value());
            let _ = writeln!(out, "{name} = {value} ({})", printable(&given.origin.to_string()));
        }
    }
    out
}

#[cfg(test)]
mod tests;
