//! The command line: arguments, configuration, exit codes, output for programs, several torrents.

#[path = "../common/mod.rs"]
mod common;

mod basics;
mod batch;
mod config;
mod exit_codes;
mod json;
mod names;
mod secrets;
mod tools;
mod watch;
