//! A bar on the terminal while something hashes, for `create` and `verify`.

use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use indicatif::{ProgressBar, ProgressStyle};

/// Does the work while a bar on stderr shows how many of `total` bytes are done; without a terminal, or without a thread to spare for
/// the bar, just does it.
pub(super) fn during<T>(total: u64, done: impl Fn() -> u64 + Send, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    let bar = ProgressBar::new(total);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {percent:>3}% of {total_bytes}  {bytes_per_sec}  ETA {eta}")
    {
        bar.set_style(style);
    }
    // Nothing is ever sent: that the sender is gone says that the work is done.
    let (working, ended) = bounded::<()>(0);
    let shown = bar.clone();
    let draw = move || {
        while ended.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
            shown.set_position(done());
        }
    };
    let made = thread::scope(|scope| {
        let _working = working;
        let drawing = thread::Builder::new().name("bar".to_owned()).spawn_scoped(scope, draw);
        if let Err(error) = drawing {
            log::debug!("no thread for the bar: {error}");
        }
        work()
    });
    bar.finish_and_clear();
    made
}
