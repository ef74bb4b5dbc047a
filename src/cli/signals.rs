//! Signals that end the process. The first SIGINT or SIGTERM asks the download to stop; the second one exits at once.
//! SIGHUP (the terminal is gone) asks to stop too. All commands ignore SIGXFSZ.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::{flag, low_level};

use crate::cli::exit::Exit;
use crate::util::descriptors::with_retry;

/// Whether SIGINT and SIGTERM exit at once: after the first of them, or when there is nothing left to stop. Static, as a
/// handler cannot be replaced by the default action again: all watches share one. `signal_hook` takes this type.
static EXITS_AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Watches for signals until dropped. Only one may exist at a time.
pub struct SignalWatch {
    exits_at_once: Arc<AtomicBool>,
    handle: Handle,
    /// Returns whether a signal was received.
    thread: Option<JoinHandle<bool>>,
}

/// Calls `stop` at the first SIGINT, SIGTERM or, unless started with nohup(1), SIGHUP.
///
/// # Errors
/// The system error if a handler or the thread cannot be set up.
pub fn watch(stop: impl FnOnce() + Send + 'static) -> io::Result<SignalWatch> {
    let is_first = EXITS_AT_ONCE.get().is_none();
    let outlives_terminal = is_ignored(SIGHUP);
    // No handler is set up while this waits for descriptors, so a signal then ends the process.
    let none: [i32; 0] = [];
    let mut signals = with_retry(|| Signals::new(none), || true)?;
    let exits_at_once = EXITS_AT_ONCE.get_or_init(Arc::default).clone();
    exits_at_once.store(false, Ordering::Release);
    for signal in [SIGINT, SIGTERM].into_iter().filter(|_| is_first) {
        flag::register_conditional_shutdown(signal, i32::from(Exit::Unfinished.code()), exits_at_once.clone())?;
    }
    // Handlers run in the order of registration. If the thread below woke before the conditional shutdown ran, that
    // shutdown would take the first signal for the second and exit.
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| *signal != SIGHUP || !outlives_terminal) {
        signals.add_signal(signal)?;
    }
    let handle = signals.handle();
    let exit_flag = exits_at_once.clone();
    let wait = move || {
        let mut received = signals.forever();
        let is_signalled = received.next().is_some();
        if is_signalled {
            stop();
            // Only after `stop` has restored the terminal, which an immediate exit would not do.
            exit_flag.store(true, Ordering::Release);
        }
        // The shell and the kernel may both send SIGHUP: only SIGINT and SIGTERM count as a second signal.
        if received.any(|signal| signal != SIGHUP) {
            low_level::exit(i32::from(Exit::Unfinished.code())); // it came while `stop` ran
        }
        is_signalled
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(SignalWatch { exits_at_once, handle, thread: Some(thread) })
}

/// Whether the parent process set the signal to be ignored, as nohup(1) does with SIGHUP.
pub(super) fn is_ignored(signal: i32) -> bool {
    let status = with_retry(|| std::fs::read_to_string("/proc/self/status"), || true).unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    ignored & (1 << (signal - 1)) != 0
}

/// Ignores SIGXFSZ: a write beyond the file size limit of the shell then fails instead of ending the process.
pub fn ignore_size_limit() {
    // If this fails, such a write ends the process.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

impl SignalWatch {
    /// Stops watching when nothing is left to stop: SIGINT and SIGTERM then exit at once, even while the process waits for
    /// a reader of its output. If a signal was received too late to stop anything, exits now.
    pub fn release(mut self) {
        self.exits_at_once.store(true, Ordering::Release);
        if self.end() {
            low_level::exit(i32::from(Exit::Unfinished.code()));
        }
    }

    /// Ends the thread; true if it had received a signal.
    fn end(&mut self) -> bool {
        self.handle.close();
        self.thread.take().is_some_and(|thread| thread.join().unwrap_or_default())
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.end();
    }
}
