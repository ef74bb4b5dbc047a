//! The `btsync` command: from arguments to an exit code. Only this part of the package knows the terminal and the user.
//!
//! [`options`] parses the arguments, the configuration file and the environment; [`commands`] has one module per
//! subcommand. A download reports through [`report`] (live view, plain lines, JSON, hook) to the outputs in [`terminal`];
//! [`batch`] downloads several torrents at once. [`exit`] lists all exit codes.

pub(crate) mod commands;
pub(crate) mod terminal;

use std::io::Write;
use std::process::ExitCode;

mod batch;
pub mod exit;
pub mod limits;
mod logs;
pub mod options;
mod outcome;
pub mod report;
#[cfg(feature = "service")]
mod run_page;
#[cfg(not(feature = "service"))]
#[path = "cli/no_run_page.rs"]
mod run_page;
mod settings;
pub mod signals;
mod source;
mod stop;

use crate::cli::options::config::ConfigSources;
use exit::{Exit, Failure};
use options::{Command, ParsedArguments};

/// Runs the command with the arguments of this process and returns its exit code. A failure prints one line on stderr.
pub fn main() -> ExitCode {
    signals::ignore_size_limit();
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let parsed = options::parse_in(&words, &ConfigSources::from_process());
    match parsed.map(print_notes).and_then(run) {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => {
            if !failure.message.is_empty() {
                // A closed stderr must not change the exit code.
                let _ = writeln!(std::io::stderr(), "btsync: {}", failure.message.trim_end());
            }
            ExitCode::from(failure.code.code())
        }
    }
}

/// Prints the warnings about the options.
fn print_notes(parsed: ParsedArguments) -> Command {
    for note in &parsed.notes {
        let _ = writeln!(std::io::stderr(), "btsync: {note}");
    }
    parsed.command
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Download(args) => crate::cli::commands::download::run(&args),
        Command::Dht(args, download) => crate::cli::commands::dht::run(&args, *download),
        Command::Doctor(args, download) => crate::cli::commands::doctor::run(&args, *download),
        Command::Create(args) => crate::cli::commands::create::run(&args),
        Command::Edit(args) => crate::cli::commands::edit::run(&args),
        Command::Info(args) => crate::cli::commands::info::run(args),
        Command::Magnet(args) => crate::cli::commands::magnet::run(args),
        #[cfg(not(feature = "service"))]
        Command::Serve(_) => {
            Err(Failure::new(exit::Exit::BadOption, "this btsync was built without the feature service".to_owned()))
        }
        #[cfg(feature = "service")]
        Command::Serve(args) => crate::cli::commands::serve::run(&args),
        Command::Tracker(args) => crate::cli::commands::tracker::run(args),
        Command::Verify(args) => crate::cli::commands::verify::run(args),
        Command::Print(text) => terminal::stdout::print(&text),
    }
}
