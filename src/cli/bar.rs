//! A bar on the terminal while something hashes, for `create` and `verify`.

use std::io::{self, IsTerminal as _};
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use indicatif::{ProgressBar, ProgressStyle};

/// Does the work while a bar on stderr shows how many of `total` bytes are done; without a terminal, just does it.
pub(super) fn during<T: Send>(total: u64, done: impl Fn() -> u64, work: impl FnOnce() -> T + Send) -> T {
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
    let made = thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let _working = working;
            work()
        });
        while ended.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
            bar.set_position(done());
        }
        worker.join()
    });
    bar.finish_and_clear();
    made.unwrap_or_else(|panic| resume_unwind(panic))
}
