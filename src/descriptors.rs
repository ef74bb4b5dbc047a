//! File descriptors: the process's limit, and what to do where there are none left.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than this is never asked for: tables of that size cost the system memory.
const MOST: u64 = 65_536;
/// Between two tries where there is no descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// The soft limit before the process raised it.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit as far as the hard one allows, to 65,536 at most; the limit that holds now.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let have = limit.current.unwrap_or(u64::MAX);
    let asked = limit.maximum.unwrap_or(u64::MAX).min(MOST);
    if have >= asked || setrlimit(Resource::Nofile, Rlimit { current: Some(asked), ..limit }).is_err() {
        return have;
    }
    let _ = BEFORE.set(have);
    asked
}

/// The soft limit that the process was started with, where it was raised: programs that it starts may count on that, as those
/// that use select(2) do.
pub fn before() -> Option<u64> {
    BEFORE.get().copied()
}

/// Whether an error says that the process or the system has no descriptor left.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Tries again after a pause for as long as `failed` says that what came of it is a shortage, and `go_on` that there is a point.
pub fn patiently<T>(mut attempt: impl FnMut() -> T, failed: impl Fn(&T) -> bool, mut go_on: impl FnMut() -> bool) -> T {
    loop {
        let result = attempt();
        if !failed(&result) || !go_on() {
            return result;
        }
        std::thread::sleep(PAUSE);
    }
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
        assert!(patiently(|| attempt(3, 24), failed, || true).is_ok(), "EMFILE goes by");
        assert_eq!(tries.replace(0), 3);
        assert!(patiently(|| attempt(3, 23), failed, || false).is_err(), "nobody wants it any more");
        assert_eq!(tries.replace(0), 1);
        assert!(patiently(|| attempt(3, 2), failed, || true).is_err(), "there is no such file");
        assert_eq!(tries.get(), 1);
    }
}
