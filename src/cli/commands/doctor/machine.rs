//! Checks of the machine: clock, certificates, limits of the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

use crate::cli::commands::doctor::check::Check;
use crate::cli::commands::info::date;
use crate::util::descriptors::{MIN_DESCRIPTORS, raise_limit};
use btsync::tracker::UrlFetcher;

/// No clock that is right shows an earlier time: 2025-01-01.
const EARLIEST: u64 = 1_735_689_600;
/// How far the clock may be behind the time at which the program was installed, because of time zones.
const TOLERANCE: u64 = 24 * 60 * 60;
/// The descriptors that btsync needs besides those for connections.
const OTHER_DESCRIPTORS: u64 = 40;
/// The threads of a connection, and those that btsync needs besides.
const THREADS_PER_PEER: u64 = 3;
const OTHER_THREADS: u64 = 30;
/// The folders that time services other than systemd's create while they run.
const TIME_SERVICES: [(&str, &str); 3] =
    [("chrony", "/run/chrony"), ("ntpd", "/run/ntpd.pid"), ("openntpd", "/run/openntpd")];

/// Whether the clock can be right. Nobody is asked for the time.
pub(super) fn clock() -> Check {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let program = std::env::current_exe().and_then(fs::metadata).and_then(|found| found.modified()).ok();
    let program = program.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|time| time.as_secs());
    let has_synchronised = Path::new("/run/systemd/timesync/synchronized").exists();
    let service = TIME_SERVICES.iter().find(|(_, path)| Path::new(path).exists()).map(|(name, _)| *name);
    clock_of(now, program, has_synchronised, service)
}

fn clock_of(now: u64, program: Option<u64>, has_synchronised: bool, service: Option<&str>) -> Check {
    let shown = date(i64::try_from(now).unwrap_or(i64::MAX));
    let earliest = program.unwrap_or_default().max(EARLIEST);
    let check = if now.saturating_add(TOLERANCE) < earliest {
        let than = date(i64::try_from(earliest).unwrap_or(i64::MAX));
        let message = format!("the clock shows {shown}, but it must be later than {than}");
        Check::problem("clock", message, "set the clock, or certificates of HTTPS servers count as invalid")
    } else {
        let source = match (has_synchronised, service) {
            (true, _) => "systemd-timesyncd has set it".to_owned(),
            (false, Some(name)) => format!("{name} runs, which sets it"),
            (false, None) => "btsync found no service that sets it, and does not know if it is right".to_owned(),
        };
        Check::ok("clock", format!("the clock shows {shown}; {source}"))
    };
    check.with("time", now).with("synchronized", has_synchronised || service.is_some())
}

/// Which certificates HTTPS trusts.
pub(super) fn certificates() -> Check {
    match UrlFetcher::trusted_certificates() {
        None => Check::warning(
            "certificates",
            "this btsync was built without TLS, so HTTPS trackers and URLs do not work",
            "use a btsync that was built with the feature tls",
        ),
        Some((bundled, more)) => {
            let message = format!("HTTPS trusts {bundled} bundled root certificates and {more} more of the system");
            Check::ok("certificates", message).with("bundled", bundled).with("system", more)
        }
    }
}

/// Whether the process may open enough files for this many peers.
pub(super) fn descriptors(max_peers: u64) -> Check {
    descriptors_of(raise_limit(), max_peers).with("needed", max_peers.saturating_add(OTHER_DESCRIPTORS))
}

fn descriptors_of(limit: u64, max_peers: u64) -> Check {
    let needed = max_peers.saturating_add(OTHER_DESCRIPTORS);
    let message = format!("btsync may open {limit} files and connections at a time");
    let advice = format!("raise the limit (`ulimit -n`) to {needed} or more");
    let check = if limit < MIN_DESCRIPTORS {
        Check::problem("files", format!("{message}, too few for a download"), advice)
    } else if limit < needed {
        Check::warning("files", format!("{message}, too few for {max_peers} peers"), advice)
    } else {
        Check::ok("files", format!("{message}, enough for {max_peers} peers"))
    };
    check.with("limit", limit)
}

/// Whether the process may have enough threads for this many peers.
pub(super) fn threads(max_peers: u64) -> Check {
    let of_user = getrlimit(Resource::Nproc).current;
    let of_system = number_in(Path::new("/proc/sys/kernel/threads-max"));
    threads_of([of_user, of_system, threads_left_in_cgroup()].into_iter().flatten().min(), max_peers)
}

fn threads_of(limit: Option<u64>, max_peers: u64) -> Check {
    let needed = max_peers.saturating_mul(THREADS_PER_PEER).saturating_add(OTHER_THREADS);
    let Some(limit) = limit else { return Check::ok("threads", "there is no limit on threads").with("needed", needed) };
    let message = format!("the system allows {limit} threads");
    let advice =
        format!("raise the limit (`ulimit -u`, or TasksMax of the service) to {needed} or more, or lower --max-peers");
    let check = if limit < OTHER_THREADS {
        Check::problem("threads", format!("{message}, too few for a download"), advice)
    } else if limit < needed {
        Check::warning("threads", format!("{message}; {max_peers} peers need up to {needed}"), advice)
    } else {
        Check::ok("threads", format!("{message}, enough for {max_peers} peers"))
    };
    check.with("limit", limit).with("needed", needed)
}

/// How many more threads the control group (cgroup v2) of this process and those above it allow.
fn threads_left_in_cgroup() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let folder: PathBuf = root.join(own);
    let left = |folder: &Path| {
        let most = number_in(&folder.join("pids.max"))?;
        Some(most.saturating_sub(number_in(&folder.join("pids.current")).unwrap_or_default()))
    };
    folder.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(left).min()
}

/// `None` also for `max`.
fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::doctor::check::CheckStatus::{Ok, Problem, Warning};

    #[test]
    fn a_clock_before_the_program_is_wrong() {
        let installed = EARLIEST + 100 * TOLERANCE;
        assert_eq!(clock_of(0, None, false, None).status, Problem);
        assert_eq!(clock_of(installed - 2 * TOLERANCE, Some(installed), true, None).status, Problem);
        let check = clock_of(installed, Some(installed), false, None);
        assert!(check.status == Ok && check.message.contains("does not know"), "{check:?}");
        assert!(clock_of(installed, Some(0), false, Some("chrony")).message.contains("chrony runs"));
    }

    #[test]
    fn limits_are_compared_with_what_peers_need() {
        assert_eq!([10, 339, 340].map(|limit| descriptors_of(limit, 300).status), [Problem, Warning, Ok]);
        assert_eq!([10, 929, 930].map(|limit| threads_of(Some(limit), 300).status), [Problem, Warning, Ok]);
        assert_eq!(threads_of(None, 300).status, Ok);
    }
}
