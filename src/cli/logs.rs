//! Logging to the screen. `RUST_LOG` sets the level of btsync's own logs. Logs of the HTTP and TLS libraries contain
//! request URLs with passkeys, so they are capped at warnings whatever the setting.

use std::io::{IsTerminal, Write as _};

use env_logger::{Builder, Logger, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::cli::terminal::screen::Screen;

/// Crates whose logs can contain tracker URLs.
const CAPPED: [&str; 3] = ["ureq", "ureq_proto", "rustls"];
/// The most verbose level that they may log.
const CAP: Level = Level::Warn;

/// A logger that caps the level of the crates in [`CAPPED`].
struct CappedLogger(Logger);

/// Sends all logs to `screen` from now on. A second call does nothing.
pub(super) fn start(is_quiet: bool, is_verbose: bool, screen: &Screen) {
    let mut logs = Builder::new();
    logs.filter_level(if is_quiet { LevelFilter::Error } else { LevelFilter::Warn });
    if is_verbose {
        logs.filter_module("btsync", LevelFilter::Debug);
    }
    if !std::io::stderr().is_terminal() {
        logs.format_timestamp_millis();
    }
    if !is_verbose && std::env::var_os("RUST_LOG").is_none() {
        // Users do not need to know which module logs.
        logs.format(|out, record| writeln!(out, "btsync: {}", record.args()));
    }
    logs.parse_default_env().target(Target::Pipe(Box::new(screen.clone())));
    let logger = logs.build();
    let level = logger.filter();
    if log::set_boxed_logger(Box::new(CappedLogger(logger))).is_ok() {
        log::set_max_level(level);
    }
}

fn is_suppressed(metadata: &Metadata) -> bool {
    let name = metadata.target().split("::").next().unwrap_or_default();
    metadata.level() > CAP && CAPPED.contains(&name)
}

impl Log for CappedLogger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        !is_suppressed(metadata) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !is_suppressed(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_levels_of_dependencies_are_capped_despite_the_filter() {
        let logger = CappedLogger(Builder::new().parse_filters("trace,ureq=trace,ureq::run=trace").build());
        let lets = |target: &str, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        for target in ["ureq", "ureq::run", "ureq_proto", "ureq_proto::client", "rustls::conn"] {
            assert!(
                !lets(target, Level::Info) && !lets(target, Level::Debug) && !lets(target, Level::Trace),
                "{target}"
            );
            assert!(lets(target, Level::Warn), "{target}");
        }
        assert!(lets("btsync::discovery", Level::Trace) && lets("ureqish", Level::Trace));
    }
}
