//! The command: arguments in, exit code out.

mod cli;
// Helpers that are no part of the library's public face. The command needs some of them, the library the others.
#[allow(dead_code)]
mod util;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
