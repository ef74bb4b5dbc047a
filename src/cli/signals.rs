//! Ctrl-C and SIGTERM: the first asks the session to stop, a second one ends the process at once. A terminal that goes away
//! (SIGHUP) asks, too. SIGXFSZ is passed over by all commands.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::{flag, low_level};

use super::exit::Exit;

/// Watches for as long as it lives.
pub struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Calls `stop` at the first SIGINT, SIGTERM or, unless started with nohup(1), SIGHUP.
///
/// # Errors
/// What the system says where a handler or the thread cannot be set up.
pub fn watch(stop: impl FnOnce() + Send + 'static) -> io::Result<Watch> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, i32::from(Exit::Unfinished.code()), asked.clone())?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    if !outlives_terminal() {
        signals.add_signal(SIGHUP)?;
    }
    let handle = signals.handle();
    let wait = move || {
        let mut heard = signals.forever();
        if heard.next().is_some() {
            stop();
            // Only now: `stop` puts the terminal right, which nobody could do after a sudden end.
            asked.store(true, Ordering::Release);
        }
        // Shell and system may both say that the terminal is gone: that is no second wish.
        if heard.any(|signal| signal != SIGHUP) {
            low_level::exit(i32::from(Exit::Unfinished.code())); // it came while the first was being answered
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(Watch { handle, thread: Some(thread) })
}

/// Whether whoever started us had SIGHUP ignored, as nohup(1) does.
fn outlives_terminal() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    ignored & (1 << (SIGHUP - 1)) != 0
}

/// From here on a file larger than the shell's limit is an error of the write, and not the end of the process.
pub fn pass_over_size_limit() {
    // Where the system refuses, that end is all that is left.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
