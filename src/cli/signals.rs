//! Ctrl-C and SIGTERM: the first asks the session to stop, a second one ends the process at once. A terminal that goes away
//! (SIGHUP) asks, too. SIGXFSZ is passed over by all commands.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::{flag, low_level};

use crate::cli::exit::Exit;
use crate::util::descriptors::with_retry;

/// Whether SIGINT and SIGTERM end the process at once: the first one was heard, or there is nothing to stop any more. A handler cannot
/// be taken back so that the signal has its usual effect again; there is one for all watches.
static ENDS_AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Watches for as long as it lives, one at a time.
pub struct SignalWatch {
    exits_at_once: Arc<AtomicBool>,
    handle: Handle,
    /// Whether it heard one, once it has ended.
    thread: Option<JoinHandle<bool>>,
}

/// Calls `stop` at the first SIGINT, SIGTERM or, unless started with nohup(1), SIGHUP.
///
/// # Errors
/// What the system says where a handler or the thread cannot be set up.
pub fn watch(stop: impl FnOnce() + Send + 'static) -> io::Result<SignalWatch> {
    let is_first = ENDS_AT_ONCE.get().is_none();
    let outlives_terminal = is_ignored(SIGHUP);
    // While this waits for descriptors, a signal ends the process as if there were no watch: none is heard yet.
    let none: [i32; 0] = [];
    let mut signals = with_retry(|| Signals::new(none), || true)?;
    let exits_at_once = ENDS_AT_ONCE.get_or_init(Arc::default).clone();
    exits_at_once.store(false, Ordering::Release);
    for signal in [SIGINT, SIGTERM].into_iter().filter(|_| is_first) {
        flag::register_conditional_shutdown(signal, i32::from(Exit::Unfinished.code()), exits_at_once.clone())?;
    }
    // Handlers run in this order. Were the thread below woken before the shutdown's handler has run, the first signal would end the
    // process as if it were the second.
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| *signal != SIGHUP || !outlives_terminal) {
        signals.add_signal(signal)?;
    }
    let handle = signals.handle();
    let ends_at_once = exits_at_once.clone();
    let wait = move || {
        let mut received = signals.forever();
        let is_signalled = received.next().is_some();
        if is_signalled {
            stop();
            // Only now: `stop` puts the terminal right, which nobody could do after a sudden end.
            ends_at_once.store(true, Ordering::Release);
        }
        // Shell and system may both say that the terminal is gone: that is no second wish.
        if received.any(|signal| signal != SIGHUP) {
            low_level::exit(i32::from(Exit::Unfinished.code())); // it came while the first was being answered
        }
        is_signalled
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(SignalWatch { exits_at_once, handle, thread: Some(thread) })
}

/// Whether whoever started us had a signal ignored, as nohup(1) does with SIGHUP.
pub(super) fn is_ignored(signal: i32) -> bool {
    let status = with_retry(|| std::fs::read_to_string("/proc/self/status"), || true).unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    ignored & (1 << (signal - 1)) != 0
}

/// From here on a file larger than the shell's limit is an error of the write, and not the end of the process.
pub fn ignore_size_limit() {
    // Where the system refuses, that end is all that is left.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

impl SignalWatch {
    /// Ends it where nothing is left that would have to be stopped: from here on SIGINT and SIGTERM end the process at once, also one
    /// that waits for whoever should read its output. One that was heard too late to stop anything does so now.
    pub fn release(mut self) {
        self.exits_at_once.store(true, Ordering::Release);
        if self.end() {
            low_level::exit(i32::from(Exit::Unfinished.code()));
        }
    }

    /// Whether one was heard.
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
