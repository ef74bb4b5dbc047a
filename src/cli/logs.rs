//! Log lines: where they go, and which are kept back. `RUST_LOG` decides on ours; what the HTTP client and the TLS library below
//! it log holds requests with their URLs, so that no setting lets more of theirs out than warnings.

use std::io::{IsTerminal, Write as _};

use env_logger::{Builder, Logger, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::cli::terminal::screen::Screen;

/// Crates that see tracker URLs.
const CAPPED: [&str; 3] = ["ureq", "ureq_proto", "rustls"];
/// The most that they may log.
const CAP: Level = Level::Warn;

/// A logger that keeps secrets.
struct CappedLogger(Logger);

/// Sends log lines to the screen from now on; a second call does nothing.
pub(super) fn start(quiet: bool, verbose: bool, screen: &Screen) {
    let mut logs = Builder::new();
    logs.filter_level(if quiet { LevelFilter::Error } else { LevelFilter::Warn });
    if verbose {
        logs.filter_module("btsync", LevelFilter::Debug);
    }
    if !std::io::stderr().is_terminal() {
        logs.format_timestamp_millis();
    }
    if !verbose && std::env::var_os("RUST_LOG").is_none() {
        // For people: where in the program a line comes from is nothing to them.
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
    fn what_others_log_is_capped_whatever_the_filter_says() {
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
