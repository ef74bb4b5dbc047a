//! The top floor, the only one that knows a terminal or a person: words in, lines and an exit code out.
//!
//! [`args`] turns words into a command, with what [`config`] finds in a file and the environment; [`download`] runs the main one
//! and lends it a voice ([`view`] on a terminal, [`plain`] elsewhere) that speaks through the one [`screen`]; `fleet` runs several
//! at once; `create`, `edit`, `info`, `list`, `magnet`, `tracker` and `verify` are a file each; [`exit`] has all codes.

use std::io::Write;
use std::process::ExitCode;

pub mod args;
mod bar;
pub mod config;
pub mod create;
pub mod download;
pub mod edit;
pub mod exit;
pub mod figures;
mod fleet;
mod hook;
pub mod info;
mod json;
pub mod keys;
pub mod limits;
mod list;
mod logs;
pub mod magnet;
pub mod map;
mod outlet;
mod outputs;
mod place;
pub mod plain;
pub mod screen;
pub mod signals;
mod spelling;
mod stop;
pub mod tracker;
mod verdict;
pub mod verify;
pub mod view;
pub mod voice;
mod why;

use args::{Command, Parsed};
use config::Surroundings;
use exit::{Exit, Failure};

/// The whole command: arguments of this process in, its exit code out. A failure is one line on stderr.
pub fn main() -> ExitCode {
    signals::pass_over_size_limit();
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let parsed = args::parse_in(&words, &Surroundings::of_process());
    match parsed.map(told).and_then(run) {
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
fn told(parsed: Parsed) -> Command {
    for note in &parsed.notes {
        let _ = writeln!(std::io::stderr(), "btsync: {note}");
    }
    parsed.command
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Download(args) => download::run(&args),
        Command::Create(args) => create::run(&args),
        Command::Edit(args) => edit::run(&args),
        Command::Info(args) => info::run(args),
        Command::Magnet(args) => magnet::run(args),
        Command::Tracker(args) => tracker::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Print(text) => info::print(&text),
    }
}
