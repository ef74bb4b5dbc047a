//! The `btsync` command.

mod cli;
// Internal helpers of the library, compiled into the command too because the public face does not export them. Each target
// uses only some of them.
#[allow(dead_code)]
mod util;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
