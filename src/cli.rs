//! The top floor, the only one that knows a terminal or a person: words in, lines and an exit code out.
//!
//! `args` turns words into a command, with what `config` finds in a file and the environment; `download` runs the main one
//! and lends it a voice (`view` on a terminal, `plain` elsewhere) that speaks through the one `screen`; `fleet` runs several
//! at once; `create`, `edit`, `info`, `list`, `magnet`, `tracker` and `verify` are a file each; [`exit`] has all codes.

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
pub mod signals;
mod stop;

use crate::cli::options::config::ConfigSources;
use exit::{Exit, Failure};
use options::{Command, Parsed};

/// The whole command: arguments of this process in, its exit code out. A failure is one line on stderr.
pub fn main() -> ExitCode {
    signals::ignore_size_limit();
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let parsed = options::parse_in(&words, &ConfigSources::from_process());
    match parsed.map(print_notes).and_then(run) {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => {
            if !failure.message.is_empty() {
                // A closed stderr must not turn one failure into another.
                let _ = writeln!(std::io::stderr(), "btsync: {}", failure.message.trim_end());
            }
            ExitCode::from(failure.code.code())
        }
    }
}

/// Says what is odd about the options.
fn print_notes(parsed: Parsed) -> Command {
    for note in &parsed.notes {
        let _ = writeln!(std::io::stderr(), "btsync: {note}");
    }
    parsed.command
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Download(args) => crate::cli::commands::download::run(&args),
        Command::Create(args) => crate::cli::commands::create::run(&args),
        Command::Edit(args) => crate::cli::commands::edit::run(&args),
        Command::Info(args) => crate::cli::commands::info::run(args),
        Command::Magnet(args) => crate::cli::commands::magnet::run(args),
        Command::Tracker(args) => crate::cli::commands::tracker::run(args),
        Command::Verify(args) => crate::cli::commands::verify::run(args),
        Command::Print(text) => crate::cli::commands::info::print(&text),
    }
}
