//! File descriptors: the process's limit, and waiting if none are free.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The highest limit to ask for: larger descriptor tables cost the system memory.
const MAX_LIMIT: u64 = 65_536;
/// The delay between two attempts if no descriptor is free.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The most descriptors that [`keep_free`] keeps free, as a part of the limit.
const MAX_KEPT_FREE: u64 = 4;

/// How many descriptors connections of strangers leave free.
static KEPT_FREE: AtomicU64 = AtomicU64::new(0);
/// The soft limit before the process raised it.
static ORIGINAL_LIMIT: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit as far as the hard limit allows, to at most 65,536. Returns the limit now in force.
pub fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let have = limit.current.unwrap_or(u64::MAX);
    let asked = limit.maximum.unwrap_or(u64::MAX).min(MAX_LIMIT);
    if have >= asked || setrlimit(Resource::Nofile, Rlimit { current: Some(asked), ..limit }).is_err() {
        return have;
    }
    let _ = ORIGINAL_LIMIT.set(have);
    asked
}

/// The soft limit that the process was started with, if it was raised: child processes may depend on it, such as those that use
/// select(2).
pub fn original_limit() -> Option<u64> {
    ORIGINAL_LIMIT.get().copied()
}

/// With fewer descriptors a download would wait for ever: standard streams, signals, the port, the folder, the marker and its
/// replacement, a file and one peer.
pub const MIN_DESCRIPTORS: u64 = 16;
/// The descriptors for each further torrent.
const PER_EXTRA_TORRENT: u64 = 6;
/// The descriptors for the DHT, local discovery and port mapping: sockets of both families, pipes.
const DISCOVERY: u64 = 20;

/// What can run within the limit on descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorBudget {
    /// The number of torrents that can run at once.
    pub max_torrents: usize,
    /// Whether there are enough descriptors left for the DHT, local discovery and port mapping.
    pub allows_discovery: bool,
}

impl DescriptorBudget {
    /// The budget of `have` descriptors if `wanted` torrents may run at once; `None` if they do not even suffice for one.
    pub fn of(have: u64, wanted: usize) -> Option<DescriptorBudget> {
        let more = usize::try_from(have.checked_sub(MIN_DESCRIPTORS)? / PER_EXTRA_TORRENT).unwrap_or(usize::MAX);
        let max_torrents = wanted.min(more.saturating_add(1));
        let further = PER_EXTRA_TORRENT.saturating_mul(wanted.saturating_sub(1) as u64);
        let allows_discovery = have >= further.saturating_add(MIN_DESCRIPTORS + DISCOVERY);
        Some(DescriptorBudget { max_torrents, allows_discovery })
    }
}

/// The descriptors available to btsync: the limit, minus those that the process was started with besides the standard streams.
/// Raises the limit first.
pub fn available() -> u64 {
    let have = raise_limit();
    let number = |name: std::ffi::OsString| name.to_str().and_then(|name| name.parse::<u64>().ok());
    // Descriptors above the limit do not count. One of those found is the folder being read.
    let count = |open: std::fs::ReadDir| {
        open.flatten().filter(|entry| number(entry.file_name()).is_some_and(|number| number < have)).count() as u64
    };
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, count);
    have.saturating_sub(open.saturating_sub(4))
}

/// Keeps so many descriptors free for what strangers must not hinder, but at most a quarter of the limit: connections of peers
/// then leave them unused.
pub fn keep_free(count: u64) {
    KEPT_FREE.store(count, Ordering::Relaxed);
}

/// How many descriptors connections of peers leave free, if the process may have `have`.
pub fn kept_free(have: u64) -> u64 {
    KEPT_FREE.load(Ordering::Relaxed).min(have / MAX_KEPT_FREE)
}

/// Whether a new descriptor is one of those that are kept free. The system always gives out the lowest free one.
pub fn is_kept_free(new: impl AsFd) -> bool {
    let have = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let number = u64::try_from(new.as_fd().as_raw_fd()).unwrap_or(0);
    KEPT_FREE.load(Ordering::Relaxed) > 0 && number >= have - kept_free(have)
}

/// Whether only descriptors that are kept free are left, or none.
pub fn are_scarce() -> bool {
    std::fs::File::open("/dev/null").map_or_else(|error| is_shortage(&error), is_kept_free)
}

/// Whether an error says that the process or the system has no free descriptor.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Tries again after a pause while `failed` reports a shortage and `go_on` allows it.
pub fn retry_while<T>(
    mut attempt: impl FnMut() -> T,
    failed: impl Fn(&T) -> bool,
    mut go_on: impl FnMut() -> bool,
) -> T {
    loop {
        let result = attempt();
        if !failed(&result) || !go_on() {
            return result;
        }
        std::thread::sleep(RETRY_DELAY);
    }
}

/// Tries again after a pause while no descriptor is free and `go_on` allows it. Logs the first shortage of the process.
///
/// # Errors
/// The error of the last attempt.
pub fn with_retry<T>(attempt: impl FnMut() -> io::Result<T>, mut go_on: impl FnMut() -> bool) -> io::Result<T> {
    retry_while(
        attempt,
        |made| made.as_ref().is_err_and(is_shortage),
        || {
            warn_shortage_once();
            go_on()
        },
    )
}

/// Logs once that no descriptors are free.
pub fn warn_shortage_once() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        let what = "no file descriptors are left: waiting for one";
        if log::max_level() == log::LevelFilter::Off {
            // The log may not be set up yet, such as while the configuration is read. A closed stderr stops nothing.
            let _ = writeln!(io::stderr(), "btsync: {what}");
        }
        log::warn!("{what}");
    });
}

/// Whether no descriptor is free at this moment: some errors of the system's resolver do not say so.
pub fn is_exhausted() -> bool {
    std::fs::File::open("/dev/null").is_err_and(|error| is_shortage(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shortage_is_waited_for_and_only_as_long_as_there_is_a_point() {
        let tries = std::cell::Cell::new(0);
        let attempt = |until: usize, errno: i32| {
            tries.set(tries.get() + 1);
            if tries.get() < until { Err(io::Error::from_raw_os_error(errno)) } else { Ok(()) }
        };
        let failed = |result: &io::Result<()>| result.as_ref().is_err_and(is_shortage);
        assert!(retry_while(|| attempt(3, 24), failed, || true).is_ok(), "EMFILE goes by");
        assert_eq!(tries.replace(0), 3);
        assert!(retry_while(|| attempt(3, 23), failed, || false).is_err(), "nobody wants it any more");
        assert_eq!(tries.replace(0), 1);
        assert!(retry_while(|| attempt(3, 2), failed, || true).is_err(), "there is no such file");
        assert_eq!(tries.get(), 1);
    }

    #[test]
    fn the_descriptor_limit_bounds_torrents_and_discovery() {
        let of = |have, wanted| {
            DescriptorBudget::of(have, wanted).map(|budget| (budget.max_torrents, budget.allows_discovery))
        };
        assert_eq!(of(15, 1), None);
        assert_eq!(of(16, 1), Some((1, false)));
        assert_eq!((of(35, 1), of(36, 1)), (Some((1, false)), Some((1, true))));
        assert_eq!(of(30, 5), Some((3, false)), "files come first");
        assert_eq!(of(60, 5), Some((5, true)));
        assert!(of(u64::MAX, usize::MAX).is_some(), "no limit");
        assert_eq!(of(1024, 0), Some((0, true)));
    }
}
