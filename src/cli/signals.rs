//! Ctrl-C and SIGTERM: the first asks the session to stop, a second one ends the process at once. SIGXFSZ is passed over by all commands.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::{flag, low_level};

use super::exit::Exit;

/// Watches for as long as it lives.
pub struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Calls `stop` at the first SIGINT or SIGTERM.
///
/// # Errors
/// What the system says where a handler or the thread cannot be set up.
pub fn watch(stop: impl FnOnce() + Send + 'static) -> io::Result<Watch> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, i32::from(Exit::Unfinished.code()), asked.clone())?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let wait = move || {
        let mut heard = signals.forever();
        if heard.next().is_some() {
            stop();
            // Only now: `stop` puts the terminal right, which nobody could do after a sudden end.
            asked.store(true, Ordering::Release);
        }
        if heard.next().is_some() {
            low_level::exit(i32::from(Exit::Unfinished.code())); // it came while the first was being answered
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(Watch { handle, thread: Some(thread) })
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
