//! Tests of the command line: arguments, configuration, exit codes, JSON output, several torrents.

#[path = "../common/mod.rs"]
mod common;

mod basics;
mod batch;
mod config;
mod exit_codes;
mod json;
mod names;
mod private_files;
mod run_page;
mod secrets;
mod service;
mod systemd;
mod tools;
mod v2;
mod watch;
