//! `btsync tracker`: runs a small HTTP and UDP tracker for a closed network until a signal stops it.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::TrackerArgs;
use crate::util::descriptors::raise_limit;
use crate::util::os_error::reason;
use btsync::tracker::{TrackerServer, TrackerServerConfig};

/// The customary port of trackers.
const PORT: u16 = 6969;
/// The longest announce interval in seconds: a day.
const MAX_INTERVAL: u64 = 24 * 60 * 60;

/// Runs the tracker until SIGINT or SIGTERM.
///
/// # Errors
/// The interval is out of range, the address cannot be listened on, or signals cannot be handled.
pub fn run(args: TrackerArgs) -> Result<(), Failure> {
    let TrackerArgs { listen, interval } = args;
    if !(1..=MAX_INTERVAL).contains(&interval) {
        return Err(Failure::new(
            Exit::BadOption,
            format!("--interval {interval}: not between 1 and {MAX_INTERVAL} seconds"),
        ));
    }
    let other = |e: io::Error| Failure::new(Exit::Other, format!("cannot watch for signals: {}", reason(&e)));
    // The tracker may have more connections than the default soft limit allows.
    raise_limit();
    let server = start(listen, config(interval))?;
    // Before the line is printed: a reader of it may send a signal at once.
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(other)?;
    // A closed stderr does not stop the tracker.
    let _ = writeln!(io::stderr(), "tracker listens on http://{}/announce", server.addr());
    if let Some(error) = server.udp_error() {
        let _ = writeln!(
            io::stderr(),
            "the tracker answers over HTTP only: UDP port {}: {}",
            server.addr().port(),
            reason(error)
        );
    }
    signals.forever().next();
    server.stop();
    Ok(())
}

#[allow(clippy::field_reassign_with_default, reason = "a non-exhaustive struct has no other way")]
fn config(interval: u64) -> TrackerServerConfig {
    let mut config = TrackerServerConfig::default();
    config.interval = Duration::from_secs(interval);
    config.min_interval = Duration::from_secs((interval / 2).max(1));
    config
}

/// Listens on the given address; by default on all IPv6 and IPv4 addresses, or on IPv4 only if IPv6 fails.
fn start(listen: Option<SocketAddr>, config: TrackerServerConfig) -> Result<TrackerServer, Failure> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let addr = listen.unwrap_or(both);
    let started = match TrackerServer::start(addr, config) {
        Err(e) if listen.is_none() && e.kind() != io::ErrorKind::AddrInUse => {
            TrackerServer::start(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)), config)
        }
        other => other,
    };
    started.map_err(|e| Failure::new(Exit::Network, format!("cannot listen on {addr}: {}", reason(&e))))
}

#[cfg(test)]
mod tests {
    use argh::FromArgs as _;

    use super::*;

    #[test]
    fn arguments_and_their_defaults() {
        let parse = |args: &[&str]| TrackerArgs::from_args(&["tracker"], args);
        assert_eq!(parse(&[]).unwrap(), TrackerArgs { listen: None, interval: 120 });
        let args = parse(&["--listen", "127.0.0.1:80", "--interval", "5"]).unwrap();
        assert_eq!(args, TrackerArgs { listen: Some(SocketAddr::from(([127, 0, 0, 1], 80))), interval: 5 });
        assert!(parse(&["--listen", "nowhere"]).is_err());
    }

    #[test]
    fn bad_options_and_taken_ports_have_their_codes() {
        let failed = run(TrackerArgs { listen: None, interval: 0 }).unwrap_err();
        assert_eq!(failed.code, Exit::BadOption);
        let taken = TrackerServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), config(2)).unwrap();
        let failed = run(TrackerArgs { listen: Some(taken.addr()), interval: 2 }).unwrap_err();
        assert_eq!(failed.code, Exit::Network);
        assert!(failed.message.contains(&taken.addr().to_string()), "{}", failed.message);
    }
}
