//! `btsync doctor`: says what works on this machine and in its network, one line for each check. `machine` and `disk` look at this
//! machine while `network` waits for the router, the DHT and others; `results` says what was found there,
//! and `check` is the result of one check.

mod check;
mod disk;
mod machine;
mod network;
mod results;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::{DoctorArgs, DownloadArgs, values};
use crate::cli::settings::Settings;
use crate::cli::signals;
use crate::cli::terminal::stdout;
use crate::util::units::count;
use btsync::DhtSettings;
use check::{Check, CheckStatus};
use network::{NetworkCheck, NetworkOptions};

/// The defaults of the options of a download.
const DEFAULT_PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;
const DEFAULT_MAX_PEERS: usize = 300;
/// The default of `--wait`.
const DEFAULT_WAIT: Duration = Duration::from_secs(20);

/// Checks the machine and the network with the options of a download.
///
/// # Errors
/// [`Exit::DoctorProblem`] if a check found a problem; [`Exit::Unfinished`] if a signal ended the wait; other codes if the options
/// cannot be used.
pub fn run(args: &DoctorArgs, download: DownloadArgs) -> Result<(), Failure> {
    let folder = args.folder.clone().unwrap_or_else(|| download.out_dir());
    let max_peers = download.max_peers.unwrap_or(DEFAULT_MAX_PEERS) as u64;
    let options = network_options(args, download)?;
    // The first signal drops the sender, after which all receivers return an error at once.
    let (sender, stop) = bounded(0);
    let watch = signals::watch(move || drop(sender))
        .map_err(|e| Failure::new(Exit::Other, format!("cannot watch for signals: {e}")))?;
    let mut output = CheckPrinter { is_json: args.json, problems: 0, warnings: 0 };
    output.print(&[
        machine::clock(),
        machine::certificates(),
        machine::descriptors(max_peers),
        machine::threads(max_peers),
    ])?;
    let (started, wait) = (Instant::now(), options.wait);
    let (network, checks) = NetworkCheck::start(options);
    output.print(&checks)?;
    output.print(&disk::checks(&folder))?;
    output.print(&network.proxy_checks())?;
    if !args.json && io::stderr().is_terminal() {
        // Of no consequence if nobody reads it.
        let line = format!("waiting up to {} s for the router, the DHT and incoming connections\n", wait.as_secs_f64());
        let _ = io::stderr().write_all(line.as_bytes());
    }
    network.wait(|| started.elapsed(), &stop);
    let is_stopped = stop.try_recv().is_err_and(|error| error.is_disconnected());
    output.print(&network.finish(started.elapsed()))?;
    if is_stopped {
        return Err(Failure::new(Exit::Unfinished, "interrupted"));
    }
    watch.release();
    output.result()
}

/// The network options of a download, without what would leave traces.
fn network_options(args: &DoctorArgs, mut download: DownloadArgs) -> Result<NetworkOptions, Failure> {
    // Nobody connects to these peers, so their names need not be resolved.
    download.peer.clear();
    let mut dht = DhtSettings::default();
    dht.entry_points.clone_from(&download.dht_entry_point);
    let mapping = values::port_mapping(download.no_port_mapping, download.port_mapping, Duration::ZERO);
    let builder = Settings::new(&download)?.client;
    Ok(NetworkOptions {
        builder: builder.dht((!download.no_dht).then_some(dht)).lsd(false).block_list_copy(None).port_mapping(mapping),
        bind: download.interface.unwrap_or_default(),
        ports: download.listen_port.unwrap_or(DEFAULT_PORTS),
        has_proxy: download.proxy.is_some(),
        uses_dht: !download.no_dht,
        has_entry_points: !download.dht_entry_point.is_empty(),
        wait: args.wait.unwrap_or(DEFAULT_WAIT),
    })
}

/// Prints checks and counts them.
struct CheckPrinter {
    is_json: bool,
    problems: usize,
    warnings: usize,
}

impl CheckPrinter {
    fn print(&mut self, checks: &[Check]) -> Result<(), Failure> {
        for check in checks {
            self.problems += usize::from(check.status == CheckStatus::Problem);
            self.warnings += usize::from(check.status == CheckStatus::Warning);
            stdout::print(&if self.is_json { check.json() } else { check.line() })?;
        }
        Ok(())
    }

    fn result(&self) -> Result<(), Failure> {
        if self.problems == 0 {
            return Ok(());
        }
        let found = format!("{} and {} found", count(self.problems, "problem"), count(self.warnings, "warning"));
        Err(Failure::new(Exit::DoctorProblem, found))
    }
}
